"""Three ways to train the Keras networks of searches; without a fixture, as users have it.

Tracing a network takes longer than most trainings of the tests. A file names the cheapest way that
shows what it is about: simulated where the values do not count, eager where they do.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def simulated_training() -> Iterator[None]:
    """Networks of this file are not trained, but their states and metrics change."""
    from tests.nas.simulated_keras import SIMULATED, keras_trained_by

    with keras_trained_by(SIMULATED):
        yield


@pytest.fixture(scope="module")
def eager_training() -> Iterator[None]:
    """Networks of this file are trained step by step, without a traced graph."""
    from tests.nas.simulated_keras import EAGER, keras_trained_by

    with keras_trained_by(EAGER):
        yield


@pytest.fixture
def traced_training(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks of this test are trained as users have it, whatever its file says."""
    from tests.nas.simulated_keras import EAGER, SIMULATED, TRACED, keras_trained_by

    simulated = "simulated_training" in request.fixturenames
    with keras_trained_by(TRACED, afterwards=SIMULATED if simulated else EAGER):
        yield
