"""Python's garbage collection, made cheap for as long as networks come and go."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_inside = 0


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Has collections look only through what comes from here on.

    TensorFlow alone is 400,000 objects that never go. To look through them takes a quarter of a
    second, each time that Keras or a worker lets go of a network; the network's own takes
    milliseconds. Several may be inside at a time: the last to leave ends it.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            gc.collect()
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                gc.unfreeze()
