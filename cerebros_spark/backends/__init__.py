"""Backends, which provide the workers of a run, one per partition.

:class:`LocalBackend` runs workers as threads of this process. :class:`SparkBackend` runs them as
long-lived tasks of Spark jobs, and restarts a worker that dies.
"""
