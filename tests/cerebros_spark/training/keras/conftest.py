from __future__ import annotations

import pytest

from tests.cerebros_spark.training.keras.small_trials import Data


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Data:
    """Three numbers in, one out."""
    return Data(tmp_path_factory.mktemp("plain"), ["a"], ["price"])
