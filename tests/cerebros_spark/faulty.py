"""Files of a store, and fakes that fail as the system would."""

from __future__ import annotations

import errno

import fsspec

from cerebros_spark.storage.store import Store

FULL = OSError(errno.ENOSPC, "No space left on device")


def files(store: Store) -> list[str]:
    """Every file of the store, temporary ones too."""
    fs, root = fsspec.core.url_to_fs(store.url)
    return sorted(
        str(path).rpartition(str(root).strip("/"))[2].strip("/") for path in fs.find(root)
    )


class Faults:
    """Fails the first calls of a function, after ``some`` of its work."""

    def __init__(self, function, error=FULL, times=1, some=None):
        self.function, self.error, self.left, self.some = function, error, times, some
        self.calls = 0

    def __call__(self, *arguments, **more):
        self.calls += 1
        if self.left > 0:
            self.left -= 1
            if self.some is not None:
                self.some(*arguments, **more)
            raise self.error
        return self.function(*arguments, **more)


def half(function):
    """Really writes the first half."""
    return lambda descriptor, data: function(descriptor, bytes(data)[: len(data) // 2])
