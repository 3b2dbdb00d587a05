"""Access to private attributes of KerasTuner, verified with version 1.4.8."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


def rebind_build(copied: Any) -> None:
    """Bind the ``build`` method of a copied ``HyperModel`` to the copy.

    A HyperModel stores its build method in an attribute, so the copy would build the original.
    """
    del copied.build
    copied._build = copied.build
    copied.build = copied._build_wrapper


@contextlib.contextmanager
def replace_lookup(
    hp: Any, exists: Callable[..., bool], retrieve: Callable[..., Any]
) -> Iterator[Callable[..., bool]]:
    """Replace the lookup and declaration of values by a ``HyperParameters``, within the context.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        exists: Called as ``exists(original, name, conditions)``.
        retrieve: Called as ``retrieve(original, definition)``.

    Yields:
        The original ``exists`` method.
    """
    original = hp._exists
    hp._exists = functools.partial(exists, original)
    hp._retrieve = functools.partial(retrieve, hp._retrieve)
    try:
        yield original
    finally:
        del hp._exists, hp._retrieve


def reset_surrogate(oracle: Any) -> None:
    """Replace the Gaussian process of a Bayesian oracle with an unfitted one."""
    oracle.gpr = oracle._make_gpr()


def set_project_dir(oracle: Any, folder: str) -> None:
    """Set the folder for the files of an oracle."""
    oracle._set_project_dir(folder, "oracle")
