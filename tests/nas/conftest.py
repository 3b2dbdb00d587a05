from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def simulated_training() -> Iterator[None]:
    """Searches of this file do not train their Keras networks, but simulate it."""
    from tests.nas.simulated_keras import REAL, SIMULATED, keras_trained_by

    with keras_trained_by(SIMULATED, otherwise=REAL):
        yield


@pytest.fixture
def real_training(simulated_training: None) -> Iterator[None]:
    """But those of this test do."""
    from tests.nas.simulated_keras import REAL, SIMULATED, keras_trained_by

    with keras_trained_by(REAL, otherwise=SIMULATED):
        yield
