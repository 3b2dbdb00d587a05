"""Training of many Cerebros networks in one compiled program.

A published-size network is hundreds of Keras operations on a few numbers each: the calls take the
time, not the arithmetic. Here the networks of a group are padded to one shape. The wiring is data,
and a network is a loop over its units, so one compiled program serves every network.
docs/fused_training.md has the mathematics.

HFTA (Wang et al., "Horizontally Fused Training Array", MLSys 2021) fuses trials of one network
architecture; here the architectures differ.

All modules of this folder use these terms (``FOLDED`` and ``SUMS`` are two of three ways in which a
unit merges its sources, defined in ``graph/network.py``):

- *group*: networks that differ only in wiring, weights and learning rate.
- *unit*: a Dense layer with the layers that merge, normalize or drop its inputs. It is a *hidden
  unit* or an *output unit*. The scheduler's unit is called a unit of work here.
- *feature*: one value per data row that units can read: an element of an input, or a neuron of a
  hidden unit, before or after its gate.
- *copy*: one of the times that a unit reads a feature. Each copy has its own weights.
- *row*: a feature as one unit reads it, in one or more copies; with ``SUMS``, a sum of features.
  The rows of the data are called *data rows*.
- *plane*: the first copies of all rows, or the second copies, and so on. Rows are sorted by their
  number of copies, most first, so each plane covers a prefix of the rows. With ``FOLDED`` the units
  of a grid share their planes; otherwise each unit has its own (with ``SUMS``, a single one).
- *slot*: the position of a copy in the planes. Slots of an optimizer are called optimizer slots.
- *grid*: the hidden units, or the output units, of a padded shape.
- *padded shape*: the sizes to which all networks of a group are padded. *Padding* consists of
  units, neurons, slots and data rows that do not change any result.
- *folding*: adding up the weights of all copies of a row.
- *weighted sum*: the argument of a neuron's activation. Those of the outputs are the *raw outputs*.
- *moments*: the means and variances of features, or of rows, over a batch.

In shapes of tensors, ``batch`` is the number of data rows per step, ``n`` the number of neurons per
unit, ``width`` the largest width of the outputs, and ``metric values`` the number of values in a
network's metric variables. All sizes include padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cerebros_spark.training.fused.trainer import FusedTrainer


def create_trainer() -> FusedTrainer:
    """Create a trainer that trains many Cerebros networks in one program.

    Raises:
        ArgumentError: If the Keras backend is not TensorFlow.
    """
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()
    from cerebros_spark.training.fused.trainer import FusedTrainer

    return FusedTrainer()
