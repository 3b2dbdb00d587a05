from __future__ import annotations

import gc
import weakref

from cerebros_spark.core.gc_control import freeze_heap


class Cycle:
    def __init__(self):
        self.itself = self


def test_only_objects_created_inside_are_collected():
    with freeze_heap():
        with freeze_heap():
            cycle = Cycle()
        reference = weakref.ref(cycle)
        del cycle
        gc.collect()
        assert reference() is None
        assert gc.get_freeze_count() > 10_000


def test_what_was_frozen_before_is_frozen_afterwards():
    gc.freeze()
    try:
        with freeze_heap():
            pass
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
