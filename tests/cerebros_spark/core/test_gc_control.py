from __future__ import annotations

import gc
import weakref

from cerebros_spark.core.gc_control import settled


class Circle:
    def __init__(self):
        self.itself = self


def test_what_comes_inside_is_collected_and_what_was_there_is_not_looked_through():
    with settled():
        with settled():
            circle = Circle()
        seen = weakref.ref(circle)
        del circle
        gc.collect()
        assert seen() is None
        assert gc.get_freeze_count() > 10_000
