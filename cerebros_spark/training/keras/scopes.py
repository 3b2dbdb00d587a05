"""Context managers for building and tracing Keras models in a process of several threads."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from cerebros_spark.compat.keras import flatten_layers

# Building a network clears Keras' session, and draws from Python's global generator.
_lock = threading.RLock()


@contextlib.contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Let Keras find custom layers, losses and metrics by their names.

    Args:
        custom_objects: Classes and functions by name; None or empty for none.
    """
    if not custom_objects:
        yield
        return
    # Clearing the session in one thread removes the scopes of all threads.
    with _lock, keras.saving.custom_object_scope(dict(custom_objects)):
        yield


@contextlib.contextmanager
def dtype_policy_scope(policy: Any) -> Iterator[None]:
    """Let Keras make layers under a dtype policy in this thread; None changes nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if policy is None else policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def seeded_initializers(seed: int) -> Iterator[None]:
    """Let Keras' initializers draw from a seed, and restore Python's global generator afterwards.

    An initializer without a seed takes one from that generator. The lock keeps threads that build
    models (``LocalBackend`` workers beside the driver) from drawing from each other's streams.
    """
    with _lock:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)


@contextlib.contextmanager
def tracing_scope(model: keras.Model) -> Iterator[None]:
    """Protect the tracing of a model whose layers compute in another dtype than they store.

    Keras keeps the current compute dtype per process, and ``clear_session()`` in a thread that
    builds a model would reset it.
    """
    is_mixed = any(layer.compute_dtype != layer.variable_dtype for layer in flatten_layers(model))
    with _lock if is_mixed else contextlib.nullcontext():
        yield
