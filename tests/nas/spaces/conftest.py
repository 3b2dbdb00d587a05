from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def fresh_keras() -> Iterator[None]:
    """Names of layers count from the start, and nothing is left of them."""
    import keras

    keras.backend.clear_session()
    yield
    keras.backend.clear_session()
