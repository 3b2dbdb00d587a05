"""Training of many Cerebros networks in one compiled program.

A Cerebros network of published size runs hundreds of Keras operations on a few numbers each, so the
calls take longer than the arithmetic. Here the networks of a group are padded to equal sizes. Their
wiring is passed as data, and each network runs as a loop over its units, so one compiled program
serves every network. docs/fused_training.md explains the mathematics.

HFTA (Wang et al., "Horizontally Fused Training Array", MLSys 2021) fuses trials that share one
network architecture; here the architectures differ.

All modules of this package use these terms (``FOLDED`` and ``SUMS`` are two of the three ways in
which a unit merges its sources; ``graph/network.py`` defines all three):

- *group*: networks that differ only in wiring, weights and learning rate.
- *unit*: a Dense layer and the layers that merge, normalize or drop its inputs; either a *hidden
  unit* or an *output unit*. What the scheduler calls a unit is called a *unit of work* here.
- *feature*: one value per data row that units can read: an element of an input, or a neuron of a
  hidden unit, before or after its gate.
- *copy*: one reading of a feature by a unit, which may read a feature several times. Each copy has
  its own weights.
- *row*: a feature as one unit reads it, in one or more copies; with ``SUMS``, a sum of features.
  The rows of the data are called *data rows*.
- *plane*: the first copies of all rows, or the second copies, and so on. Rows are sorted by
  decreasing number of copies, so each plane covers a prefix of the rows. With ``FOLDED``, the units
  of a grid share their planes; otherwise each unit has its own planes (with ``SUMS``, only one).
- *slot*: the position of a copy in the planes. An optimizer's slots are called *optimizer slots*.
- *grid*: all hidden units, or all output units, of a padded shape.
- *padded shape*: the sizes to which all networks of a group are padded. *Padding* consists of
  additional units, neurons, slots and data rows that do not change any result.
- *folding*: adding up the weights of all copies of a row.
- *weighted sum*: the argument of a neuron's activation. The output units' weighted sums are the
  *raw outputs*.
- *moments*: the means and variances of features, or of rows, over a batch.

In tensor shapes, ``batch`` is the number of data rows per step, ``n`` the number of neurons per
unit, ``width`` the width of the widest output, and ``metric values`` the number of values in a
network's metric variables. All sizes include padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cerebros_spark.training.fused.trainer import FusedTrainer


def create_trainer() -> FusedTrainer:
    """Create a trainer that trains many Cerebros networks in one compiled program.

    Raises:
        ArgumentError: If the Keras backend is not TensorFlow.
    """
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    from cerebros_spark.training.fused.trainer import FusedTrainer

    return FusedTrainer()
