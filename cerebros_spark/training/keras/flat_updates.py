"""Has an optimizer update all small weights of a network at once, as one vector.

Keras' rule for a variable is a dozen operations and more. Each takes longer to start than to run
on a small weight, and longer yet to trace. On one vector of all of them the rules give the same, as
far as they treat each number by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import optimizers

from cerebros_spark.training.keras.large_updates import LARGE
from cerebros_spark.training.keras.optimizer_support import parts

# Those that read of a variable its gradient alone, number by number. Derived classes may not.
_NUMBER_BY_NUMBER = (
    optimizers.Adadelta,
    optimizers.Adagrad,
    optimizers.Adam,
    optimizers.Adamax,
    optimizers.AdamW,
    optimizers.Lion,
    optimizers.RMSprop,
    optimizers.SGD,
)
# Done to the variables themselves, before or after.
_APART = {"use_ema": False, "gradient_accumulation_steps": None, "loss_scale_factor": None}


class FlatUpdates:
    """Changes how a model's optimizer updates weights, while it is traced.

    Between :meth:`begin` and :meth:`end`, which are traced before and after the steps, what the
    optimizer keeps of small weights lies in vectors, and its own variables stand still. So nothing
    is changed for models and optimizers that are not Keras' own: they might look at them.

    Args:
        model: A compiled model, its optimizer built.
    """

    def __init__(self, model: Any) -> None:
        every = parts(model.optimizer)
        steps = type(model).train_step is keras.Model.train_step
        if not steps or any(not type(part).__module__.startswith("keras.") for part in every):
            every = []
        self._flats = [_Flat(part) for part in every if type(part) in _NUMBER_BY_NUMBER]

    @property
    def nbytes(self) -> int:
        """Bytes that the vectors take."""
        return sum(flat.nbytes for flat in self._flats)

    def begin(self) -> None:
        """Lays what the optimizer keeps into vectors."""
        for flat in self._flats:
            flat.begin()

    def end(self) -> None:
        """Puts it back."""
        for flat in self._flats:
            flat.end()


class _Flat:
    """One optimizer, and another of its kind that has one variable: all small weights."""

    def __init__(self, part: Any) -> None:
        self._part = part
        # To lay larger ones side by side would cost more than the operations that are saved.
        small = [v for v in part._trainable_variables if math.prod(v.shape) <= LARGE]
        dtype = small[0].dtype if small else "float32"
        variables = [v for v in small if v.dtype == dtype and not v.overwrite_with_gradient]
        self._keys = dict.fromkeys(map(part._var_key, variables))
        self._shapes = [tuple(variable.shape) for variable in variables]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self._used = False
        if len(variables) < 2:
            self._slots: list[tuple[Any, list[Any]]] = []
            self.nbytes = 0
            return
        self._vector = keras.Variable(np.zeros(sum(self._sizes), dtype), dtype=dtype)
        self._flat = type(part).from_config({**part.get_config(), **_APART})
        self._flat.build([self._vector])
        # Both count steps in one place; Keras' own setter would keep both.
        for name in ("_iterations", "gradient_accumulation_steps"):
            object.__setattr__(self._flat, name, getattr(part, name))
        # clear_session() in another thread may have Keras count the vector among its variables.
        mine = {id(each) for each in self._flat.variables[1:] if each is not self._vector}
        places = [part._get_variable_index(variable) for variable in variables]
        self._slots = [
            (held[0], [getattr(part, name)[place] for place in places])
            for name, held in vars(self._flat).items()
            if isinstance(held, list) and len(held) == 1 and id(held[0]) in mine
        ]
        self.nbytes = (1 + len(self._slots)) * self._vector.value.dtype.size * sum(self._sizes)
        part._backend_update_step = self._update

    def begin(self) -> None:
        for vector, held in self._slots:
            vector.assign(tf.concat([tf.reshape(each.value, [-1]) for each in held], axis=0))

    def end(self) -> None:
        # A step may have been of another kind than was hoped for, and left the vectors alone.
        for vector, held in self._slots if self._used else ():
            for variable, value in zip(held, self._split(vector.value), strict=True):
                variable.assign(value)

    def _update(self, gradients: Sequence[Any], variables: Sequence[Any], rate: Any) -> None:
        """Keras' ``_backend_update_step``."""
        by_key = {
            self._part._var_key(variable): (gradient, variable)
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
        """An optimizer's way to change a variable; of the vector it changes the weights."""

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
