from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from cerebros_spark.training.fused.kernels.dropout import DropoutMasks

SLOTS, BATCH = 200, 93


def mask(rate: float = 0.4, seed: int = 7, step: int = 0, unit: int = 0) -> np.ndarray:
    dropping = DropoutMasks(rate, tf.constant(seed, tf.uint32), step, tf.float64)
    return dropping.mask(unit, SLOTS, BATCH).numpy()


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_dropout_drops_a_share_and_scales_the_rest(rate):
    drawn = mask(rate)
    assert set(np.unique(drawn)) == {0.0, 1 / (1 - rate)}
    deviation = np.sqrt(rate / (1 - rate) / drawn.size)
    assert abs(drawn.mean() - 1) < 4 * deviation


def test_masks_are_reproducible_and_differ_by_position():
    np.testing.assert_array_equal(mask(), mask())
    masks = [mask(), mask(seed=8), mask(step=1), mask(unit=1), mask(seed=0), mask(unit=2)]
    together = np.corrcoef([each.ravel() for each in masks]) - np.eye(len(masks))
    assert np.abs(together).max() < 4 / np.sqrt(SLOTS * BATCH)


def test_no_mask_is_a_shifted_part_of_another():
    found = []
    for step in range(100):
        dropping = DropoutMasks(0.5, tf.constant(7, tf.uint32), step, tf.float32)
        for unit in range(10):
            kept = dropping.mask(unit, 2 * SLOTS, BATCH).numpy().ravel() > 0
            # The 64 places behind each dozen of places that are left out.
            dozens = np.convolve(kept[:-64], np.ones(12, int), "valid") == 0
            found += [kept[i + 12 : i + 76].tobytes() for i in np.flatnonzero(dozens)]
    assert len(found) > 5000
    assert len(set(found)) == len(found)


def test_slots_and_rows_are_dropped_independently():
    drawn = mask(0.5)
    for values in (drawn, drawn.T):
        together = np.corrcoef(values) - np.eye(len(values))
        # As many pairs as there are, the largest of them by chance.
        assert np.abs(together).max() < 6 / np.sqrt(values.shape[1])
        assert abs(together.mean()) < 0.01


def test_a_tiny_rate_drops_nothing():
    assert (mask(1e-9) == 1 / (1 - 1e-9)).all()
