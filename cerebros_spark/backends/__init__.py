"""Backends, which provide a run's workers, one per data partition.

:class:`LocalBackend` runs workers as threads of this process. :class:`SparkBackend` runs them as
long-lived tasks of Spark jobs, and restarts a worker that dies.
"""
