"""Control of Python's garbage collector."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_depth = 0
_was_frozen = False
# With more frozen objects than this, another part of the process has frozen the heap, such as the
# daemon of Spark's workers.
_MANY = 10_000


@contextlib.contextmanager
def freeze_heap() -> Iterator[None]:
    """Exclude all existing objects from garbage collection until the outermost context exits.

    TensorFlow alone keeps 400,000 objects. Scanning them takes a quarter of a second each time
    Keras or a worker frees a network. If the heap was frozen before, it is frozen
    again at the end.
    """
    global _depth, _was_frozen
    with _lock:
        _depth += 1
        if _depth == 1:
            _was_frozen = gc.get_freeze_count() > _MANY
            gc.collect()
            gc.freeze()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                gc.unfreeze()
                if _was_frozen:
                    gc.collect()
                    gc.freeze()
