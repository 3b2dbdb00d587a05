from __future__ import annotations


def test_workers_are_forked_with_tensorflow_loaded(spark):
    def is_tensorflow_loaded(_):
        import os
        from pathlib import Path

        return "tensorflow" in Path(f"/proc/{os.getppid()}/maps").read_text()

    assert spark.sparkContext.parallelize([0], 1).map(is_tensorflow_loaded).collect() == [True]


def test_workers_do_not_collect_what_was_loaded_before_them(spark):
    def count_frozen(_):
        import gc

        from cerebros_spark.core.gc_control import freeze_heap

        before = gc.get_freeze_count()
        with freeze_heap():  # as workers do while they train
            pass
        return before, gc.get_freeze_count()

    (frozen,) = spark.sparkContext.parallelize([0], 1).map(count_frozen).collect()
    assert min(frozen) > 100_000
