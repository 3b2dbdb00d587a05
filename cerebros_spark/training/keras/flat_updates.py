"""Optimizer updates of a network's small weights, concatenated into one vector.

A Keras optimizer updates each variable with a dozen or more operations. For a small weight, an
operation takes longer to start than to run, and even longer to trace. Elementwise update rules give
the same results if they are applied to one vector of all small weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import optimizers

from cerebros_spark.compat import keras as compat
from cerebros_spark.training.keras.large_updates import LARGE
from cerebros_spark.training.keras.optimizer_support import flatten_optimizer

# Their rules use only the gradient, element by element. Derived classes may differ.
_ELEMENTWISE = (
    optimizers.Adadelta,
    optimizers.Adagrad,
    optimizers.Adam,
    optimizers.Adamax,
    optimizers.AdamW,
    optimizers.Lion,
    optimizers.RMSprop,
    optimizers.SGD,
)
# Options that Keras applies to the variables themselves, before or after the rule.
_OFF = {"use_ema": False, "gradient_accumulation_steps": None, "loss_scale_factor": None}


class FlatUpdates:
    """Replacement for an optimizer's updates of small weights in a traced loop of steps.

    Call :meth:`begin` and :meth:`end` before and after the loop while it is traced. In between,
    vectors hold the optimizer slots (such as momenta) of small weights, and the slot variables do
    not change. Custom models and optimizers might read these variables, so their updates are not
    replaced.

    Args:
        model: Compiled model with a built optimizer.
    """

    def __init__(self, model: Any) -> None:
        every = flatten_optimizer(model.optimizer)
        is_builtin = type(model).train_step is keras.Model.train_step and all(
            type(part).__module__.startswith("keras.") for part in every
        )
        self._flats = [_Flat(part) for part in every if is_builtin and type(part) in _ELEMENTWISE]

    @property
    def nbytes(self) -> int:
        """Total size of the vectors, in bytes."""
        return sum(flat.nbytes for flat in self._flats)

    def begin(self) -> None:
        """Begin flat updates: copy the optimizer's slot variables to the vectors."""
        for flat in self._flats:
            flat.begin()

    def end(self) -> None:
        """End flat updates: copy the vectors back to the optimizer's slot variables."""
        for flat in self._flats:
            flat.end()


class _Flat:
    """Optimizer, and a second one of the same class that updates all small weights as a vector."""

    def __init__(self, part: Any) -> None:
        self._part = part
        # Copying larger weights would cost more than the operations it saves.
        small = [v for v in compat.optimizer_variables(part) if math.prod(v.shape) <= LARGE]
        dtype = small[0].dtype if small else "float32"
        variables = [v for v in small if v.dtype == dtype and not v.overwrite_with_gradient]
        self._keys = dict.fromkeys(compat.variable_key(part, v) for v in variables)
        self._shapes = [tuple(variable.shape) for variable in variables]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._used = False
        if len(variables) < 2:
            self._slots: list[tuple[Any, list[Any]]] = []
            self.nbytes = 0
            return
        self._vector = keras.Variable(np.zeros(sum(self._sizes), dtype), dtype=dtype)
        self._flat = type(part).from_config({**part.get_config(), **_OFF})
        self._flat.build([self._vector])
        compat.share_steps(self._flat, part)
        # clear_session() in another thread may make Keras list the vector as an optimizer variable.
        slots = {id(each) for each in self._flat.variables[1:] if each is not self._vector}
        positions = [compat.variable_index(part, variable) for variable in variables]
        self._slots = [
            (value[0], [getattr(part, name)[position] for position in positions])
            for name, value in vars(self._flat).items()
            if isinstance(value, list) and len(value) == 1 and id(value[0]) in slots
        ]
        self.nbytes = (1 + len(self._slots)) * self._vector.value.dtype.size * sum(self._sizes)
        compat.replace_update(part, self._update)

    def begin(self) -> None:
        for vector, slots in self._slots:
            vector.assign(tf.concat([tf.reshape(slot.value, [-1]) for slot in slots], axis=0))

    def end(self) -> None:
        # The traced step may not have used the vectors.
        for vector, slots in self._slots if self._used else ():
            for slot, value in zip(slots, self._split(vector.value), strict=True):
                slot.assign(value)

    def _update(self, gradients: Sequence[Any], variables: Sequence[Any], rate: Any) -> None:
        """Update the variables; replaces the optimizer's ``_backend_update_step``."""
        by_key = {
            compat.variable_key(self._part, variable): (gradient, variable)
            for gradient, variable in zip(gradients, variables, strict=True)
        }
        small = [by_key.get(key, (None, None)) for key in self._keys]
        self._used = all(isinstance(gradient, tf.Tensor) for gradient, _ in small)
        if self._used:
            targets = [variable for _, variable in small]
            self._flat.assign_sub = self._spread(self._part.assign_sub, targets)
            self._flat.assign_add = self._spread(self._part.assign_add, targets)
            flat = [tf.reshape(tf.cast(g, self._vector.dtype), [-1]) for g, _ in small]
            self._flat.update_step(tf.concat(flat, axis=0), self._vector, rate)
        for key, (gradient, variable) in by_key.items():
            if not (self._used and key in self._keys):
                self._part.update_step(gradient, variable, rate)

    def _spread(
        self, assign: Callable[[Any, Any], None], targets: Sequence[Any]
    ) -> Callable[[Any, Any], None]:
        """Return ``assign``, changed to assign to ``targets`` if it is called for the vector."""

        def spread(variable: Any, value: Any) -> None:
            if variable is not self._vector:
                assign(variable, value)
                return
            for target, part in zip(targets, self._split(value), strict=True):
                assign(target, part)

        return spread

    def _split(self, vector: Any) -> list[Any]:
        pieces = tf.split(vector, self._sizes)
        return [
            piece if len(shape) == 1 else tf.reshape(piece, shape)
            for piece, shape in zip(pieces, self._shapes, strict=True)
        ]
