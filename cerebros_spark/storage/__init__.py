"""Stores of bytes by key, in local folders, S3, HDFS or any file system that fsspec supports."""

from cerebros_spark.storage import factory

__all__ = ["factory"]  # imported for its side effect: it registers the stores
