"""Context managers for building and tracing Keras models in a multithreaded process."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from cerebros_spark.compat.keras import flatten_layers

# Held while networks are built, which clears Keras' session and draws from Python's global
# generator.
_lock = threading.RLock()


@contextlib.contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Return a context manager that registers custom layers, losses and metrics with Keras.

    Args:
        custom_objects: Classes and functions by name; None if there are none.
    """
    if not custom_objects:
        yield
        return
    # Clearing the session in one thread removes the scopes of all threads.
    with _lock, keras.saving.custom_object_scope(dict(custom_objects)):
        yield


@contextlib.contextmanager
def dtype_policy_scope(policy: Any) -> Iterator[None]:
    """Return a context manager that sets this thread's default dtype policy.

    If ``policy`` is None, the current policy is kept.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if policy is None else policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def seeded_initializers(seed: int) -> Iterator[None]:
    """Return a context manager that seeds Keras' initializers.

    An initializer without a seed draws one from Python's global generator, whose state is restored
    afterwards. A lock prevents threads that build models at the same time (``LocalBackend`` workers
    and the driver) from sharing its random stream.
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
    """Return a context manager that keeps other threads from building models during tracing.

    Keras stores the current compute dtype per process, and ``clear_session()`` in another thread
    would reset it. This matters only with mixed precision, so there is no lock for other models.
    """
    is_mixed = any(layer.compute_dtype != layer.variable_dtype for layer in flatten_layers(model))
    with _lock if is_mixed else contextlib.nullcontext():
        yield
