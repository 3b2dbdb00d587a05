"""Access to private attributes of KerasTuner, verified with version 1.4.8."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any


def rebind_build(copied: Any) -> None:
    """Bind a copied ``HyperModel``'s ``build`` method to the copy.

    A HyperModel stores its bound ``build`` method in an attribute, so the copy would otherwise
    build the original.
    """
    del copied.build
    copied._build = copied.build
    copied.build = copied._build_wrapper


@contextlib.contextmanager
def replace_lookup(
    hp: Any, exists: Callable[..., bool], retrieve: Callable[..., Any]
) -> Iterator[Callable[..., bool]]:
    """Replace how a ``HyperParameters`` looks up and declares values inside a ``with`` block.

    Args:
        hp: A ``keras_tuner.HyperParameters``.
        exists: Replacement for its lookup, called as ``exists(original, name, conditions)``.
        retrieve: Replacement for its declaration, called as ``retrieve(original, definition)``.

    Yields:
        The original lookup method.
    """
    original = hp._exists
    hp._exists = functools.partial(exists, original)
    hp._retrieve = functools.partial(retrieve, hp._retrieve)
    try:
        yield original
    finally:
        del hp._exists, hp._retrieve


def reset_surrogate(oracle: Any) -> None:
    """Replace a Bayesian oracle's Gaussian process with an unfitted one."""
    oracle.gpr = oracle._make_gpr()


def set_project_dir(oracle: Any, folder: str) -> None:
    """Set the folder in which an oracle stores its files."""
    oracle._set_project_dir(folder, "oracle")
