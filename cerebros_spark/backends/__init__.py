"""Backends: where a run's workers come from.

A backend starts one worker per partition and restarts it when it dies. :class:`LocalBackend`
runs workers as threads of this process, :class:`SparkBackend` as long-lived tasks of Spark jobs.
"""
