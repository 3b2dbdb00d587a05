"""Exceptions raised by ``cerebros_spark`` and ``nas``."""

from cerebros_spark.core.errors import ArgumentError as ArgumentError
from cerebros_spark.core.errors import BackendError as BackendError
from cerebros_spark.core.errors import CerebrosError as CerebrosError
from cerebros_spark.core.errors import DataError as DataError
from cerebros_spark.core.errors import NotFittedError as NotFittedError
from cerebros_spark.core.errors import ProtocolError as ProtocolError
from cerebros_spark.core.errors import SearchError as SearchError
from cerebros_spark.core.errors import StoreError as StoreError
from cerebros_spark.core.errors import TrialError as TrialError
