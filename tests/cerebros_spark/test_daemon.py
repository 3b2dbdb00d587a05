from __future__ import annotations


def test_workers_are_forked_with_tensorflow_loaded(spark):
    def is_tensorflow_loaded(_):
        import os
        from pathlib import Path

        return "tensorflow" in Path(f"/proc/{os.getppid()}/maps").read_text()

    assert spark.sparkContext.parallelize([0], 1).map(is_tensorflow_loaded).collect() == [True]
