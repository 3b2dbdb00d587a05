"""Training of many Cerebros networks in one compiled program.

A published-size network is hundreds of Keras operations on a few numbers each: the calls take the
time, not the arithmetic. Here the networks of a group are padded to one shape. A wiring is data
in it, and a network is a loop over its units, so one compiled program serves every network.
docs/fused_training.md has the mathematics.

HFTA (Wang et al., "Horizontally Fused Training Array", MLSys 2021) fuses trials of one network
architecture; here the architectures differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cerebros_spark.training.fused.trainer import FusedTrainer


def create_trainer() -> FusedTrainer:
    """Return a trainer of fused Cerebros networks.

    Raises:
        ArgumentError: If Keras runs on another backend than TensorFlow.
    """
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    from cerebros_spark.training.fused.trainer import FusedTrainer

    return FusedTrainer()
