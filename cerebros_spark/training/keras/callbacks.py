"""Keras callbacks of one trial, called where its epochs end: on the driver.

They see what ``model.fit`` would show them: the metrics of the whole epoch, and a model with the
weights and the optimizer that the trial has at that moment. What they change there (a learning
rate, weights) is what the trial's next epoch starts from, on whichever worker.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.callbacks import Callback

from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.training.keras.metrics import without_one_hot_labels
from cerebros_spark.training.keras.serialization import StateVariables, rebuild

logger = logging.getLogger("cerebros_spark")

_PER_BATCH = tuple(
    f"on_{kind}batch_{end}"
    for kind in ("", "train_", "test_", "predict_")
    for end in ("begin", "end")
)
_ADVICE = {
    keras.callbacks.BackupAndRestore: "a search is gone on with by overwrite=False",
    keras.callbacks.SwapEMAWeights: "let the optimizer do it: ema_overwrite_frequency",
    keras.callbacks.ProgbarLogger: "the search has a progress bar, see verbose",
}
# They never look at weights or optimizer.
_MODEL_FREE = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.CSVLogger,
    keras.callbacks.History,
    keras.callbacks.RemoteMonitor,
)
_RATE_SETTERS = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
_PLAIN = (bool, int, float, str, type(None))
# The model, and what CSVLogger finds out when it opens its file.
_NOT_KEPT = ("params", "_model", "validation_data", "append", "append_header")
_ARRAYS = "biuf"  # kinds of NumPy's types that JSON has numbers for


@dataclass(frozen=True)
class Change:
    """What callbacks have done to a trial.

    Attributes:
        state: The state they left; None if it is as it was.
        learning_rate: The learning rate, if nothing but that has changed.
    """

    state: bytes | None = None
    learning_rate: float | None = None


class TrialCallbacks:
    """The callbacks of one trial: copies of the user's own.

    Early stopping does not restore weights: a trial's best epoch is kept anyway. Files that
    ``ModelCheckpoint`` and ``CSVLogger`` write lie in a folder named after the trial.

    Args:
        callbacks: The user's, checked by :func:`check_callbacks`.
        name: The trial's name.
        program: The trial's program.
        metrics: Its metrics, built; they tell which direction is better.
        epochs: Epochs of the trial at most.
        first_epoch: The number of its first; not 0 where it goes on from another trial.

    Raises:
        ArgumentError: If one sets the learning rate, which is a schedule's.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        name: str,
        program: str,
        metrics: Sequence[Any],
        epochs: int,
        first_epoch: int = 0,
    ) -> None:
        self._callbacks = [_copied(each, name) for each in callbacks]
        self._program = program
        self._first_epoch = first_epoch
        self._model: Any = _Stub(metrics)
        self._variables: StateVariables | None = None
        self._before = b""
        for each in self._callbacks:
            each.set_params({"epochs": first_epoch + epochs, "steps": None, "verbose": 0})
            each.set_model(self._model)
            if getattr(each, "monitor_op", self) is None:
                each._set_monitor_op()  # knows the metrics' directions
        if look_at_models(self._callbacks):
            self._load_model()

    def begin(self, state: bytes) -> Change:
        """The trial begins to train; gives what the callbacks have changed."""
        self.show(state)
        self._train_begin()
        return self.go_on(0)

    def resume(self, saved: Sequence[Any]) -> None:
        """The trial goes on, and the callbacks with what :meth:`saved` gave another process."""
        for each in self._callbacks:
            if isinstance(each, keras.callbacks.CSVLogger):
                each.append = True
        self._train_begin()
        for each, attributes in zip(self._callbacks, saved, strict=True):
            _restore(each, attributes)

    def _train_begin(self) -> None:
        for each in self._callbacks:
            if isinstance(each, keras.callbacks.CSVLogger):
                os.makedirs(os.path.dirname(each.filename), exist_ok=True)
            each.on_train_begin()

    def show(self, state: bytes) -> None:
        """Has the callbacks' model be the trial's, as it stands now."""
        if self._variables is not None:
            self._variables.write(state)
            self._before = state

    @property
    def look_at_models(self) -> bool:
        """Whether :meth:`show` is worth a state's way here."""
        return self._variables is not None

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> tuple[bool, dict[str, float]]:
        """An epoch has ended.

        Returns:
            Whether the callbacks want the trial to stop, and what they add to the metrics.
        """
        self._model.stop_training = False
        validation = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        for each in self._callbacks:
            each.on_test_begin()
            each.on_test_end(dict(validation))
        told = dict(logs)  # one for all of them: they may add to it, as in Keras
        for each in self._callbacks:
            each.on_epoch_end(self._first_epoch + epoch, told)
        added = {name: float(value) for name, value in told.items() if name not in logs}
        return bool(self._model.stop_training), added

    def go_on(self, epoch: int) -> Change:
        """The next epoch begins; gives what they have changed since the last :meth:`show`."""
        for each in self._callbacks:
            each.on_epoch_begin(self._first_epoch + epoch)
        return self._change()

    def finish(self, logs: Mapping[str, float]) -> None:
        """The trial has ended well."""
        for each in self._callbacks:
            each.on_train_end(dict(logs))

    def saved(self) -> list[dict[str, Any]]:
        """What the callbacks know, in JSON's types, one entry each."""
        return [_saved(each) for each in self._callbacks]

    def _load_model(self) -> None:
        # A callback may save it.
        self._model = rebuild(without_one_hot_labels(self._program))
        self._variables = StateVariables(self._model)
        for each in self._callbacks:
            each.set_model(self._model)
            if isinstance(each, _RATE_SETTERS) and _rate(self._model) is None:
                raise ArgumentError(
                    f"{type(each).__name__} sets the learning rate, but that of the "
                    f"optimizer {self._model.optimizer.name!r} is a schedule; give the optimizer "
                    "a number, or leave the callback out"
                )

    def _change(self) -> Change:
        if self._variables is None:
            return Change()
        after = self._variables.read()
        if after == self._before:
            return Change()
        rate = _rate(self._model)
        if rate is not None:
            self._variables.write(self._before)
            set_learning_rate(self._model, rate)
            only = self._variables.read() == after
            self._variables.write(after)
            if only:
                return Change(after, rate)
        return Change(after)


class LearningRates:
    """Sets the learning rate in states of one program, as :class:`TrialCallbacks` does."""

    def __init__(self, program: str) -> None:
        self._model = rebuild(program)
        self._variables = StateVariables(self._model)

    def applied(self, state: bytes, rate: float) -> bytes:
        """The state with another learning rate."""
        self._variables.write(state)
        set_learning_rate(self._model, rate)
        return self._variables.read()


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks as a tuple.

    Raises:
        ArgumentError: If one is no Keras callback, needs batches, or can't be copied.
    """
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    found = []
    for each in listed:
        name = type(each).__name__
        if not isinstance(each, Callback):
            raise ArgumentError(f"callbacks must be keras.callbacks.Callback, but got {each!r}")
        if isinstance(each, keras.callbacks.TerminateOnNaN):
            continue  # a loss that is not finite ends a trial in any case
        for kind, advice in _ADVICE.items():
            if isinstance(each, kind):
                raise ArgumentError(f"callbacks: {name} can't be used in a search; {advice}")
        hooks = _batch_hooks(each)
        if hooks:
            raise ArgumentError(
                f"callbacks: {name} needs to be called for batches ({', '.join(hooks)}), but "
                "batches are trained on the workers in one compiled call; callbacks are called at "
                "the ends of epochs"
            )
        try:
            copy.deepcopy(each)
        except Exception as error:
            raise ArgumentError(
                f"callbacks: each trial gets a copy of {name}, but it can't be copied: {error}"
            ) from error
        found.append(each)
    return tuple(found)


def look_at_models(callbacks: Sequence[Callback]) -> bool:
    """Whether any of them may look at weights or optimizer, or change them."""
    return not all(type(each) in _MODEL_FREE for each in callbacks)


def describe_callbacks(callbacks: Sequence[Callback]) -> list[Any]:
    """What can be written down of callbacks: their classes and plain attributes."""
    return [[type(each).__name__, _attributes(each)] for each in callbacks]


def check_monitors(callbacks: Sequence[Callback], names: set[str]) -> None:
    """Makes sure that what callbacks monitor is there.

    Raises:
        ArgumentError: If it is not; the message names it.
    """
    for number, each in enumerate(callbacks):
        if any(_may_add(before) for before in callbacks[:number]):
            return
        monitor = getattr(each, "monitor", None)
        if isinstance(monitor, str) and monitor not in names:
            raise ArgumentError(
                f"callbacks: {type(each).__name__} monitors {monitor!r}, which is not among the "
                f"metrics that the networks report: {', '.join(sorted(names))}"
            )


def set_learning_rate(model: Any, rate: float) -> None:
    """Sets an optimizer's learning rate, which must not be a schedule."""
    model.optimizer.learning_rate = rate


def _may_add(callback: Callback) -> bool:
    """Whether later callbacks may see more metrics than it did."""
    own = type(callback).on_epoch_end is not Callback.on_epoch_end
    return own and not type(callback).__module__.startswith("keras.")


class _Stub:
    """What callbacks get for a model that they do not look at."""

    def __init__(self, metrics: Sequence[Any]) -> None:
        self.metrics = list(metrics)
        self.stop_training = False


def _copied(callback: Callback, name: str) -> Callback:
    copied = copy.deepcopy(callback)
    if isinstance(copied, keras.callbacks.EarlyStopping):
        copied.restore_best_weights = False
    for attribute in ("filepath", "filename"):
        path = getattr(copied, attribute, None)
        if isinstance(path, str) and type(callback).__module__.startswith("keras."):
            folder, file = os.path.split(path)
            setattr(copied, attribute, os.path.join(folder, name, file))
    return copied


def _batch_hooks(callback: Callback) -> list[str]:
    if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq == "epoch":
        return []
    return [
        hook
        for hook in _PER_BATCH
        if hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
    ]


def _rate(model: Any) -> float | None:
    """The optimizer's learning rate; None if a schedule sets it."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if isinstance(optimizer._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _saved(callback: Callback) -> dict[str, Any]:
    own: Callable[[], dict[str, Any]] | None = getattr(callback, "get_state", None)
    if own is not None:
        return own()
    kept = _attributes(callback)
    if not type(callback).__module__.startswith("keras."):
        for name in vars(callback).keys() - kept.keys() - set(_NOT_KEPT):
            value = getattr(callback, name)
            if not callable(value):
                _warn_of_loss(type(callback).__name__, name, type(value).__name__)
    return kept


def _attributes(callback: Callback) -> dict[str, Any]:
    """The plain ones."""
    kept = {}
    for name, value in vars(callback).items():
        if name not in _NOT_KEPT:
            plain = _plain(value)
            if plain is not _plain:
                kept[name] = plain
    return kept


@functools.cache
def _warn_of_loss(callback: str, attribute: str, kind: str) -> None:
    """Warns once for an attribute."""
    logger.warning(
        "callbacks: %s.%s is a %s and starts anew when a run is gone on with; what must be kept "
        "can be given by get_state() and taken by set_state()",
        callback,
        attribute,
        kind,
    )


def _restore(callback: Callback, attributes: Mapping[str, Any]) -> None:
    own: Callable[[Mapping[str, Any]], None] | None = getattr(callback, "set_state", None)
    if own is not None:
        own(attributes)
        return
    for name, value in attributes.items():
        setattr(callback, name, _unplain(value))


def _plain(value: Any) -> Any:
    """A value in JSON's types; this function itself if it has none."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in _ARRAYS:
            return _plain
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {kind: value.tolist(), "dtype": str(value.dtype)}
    if type(value) in (list, tuple):
        items = [_plain(each) for each in value]
        if _plain in items:
            return _plain
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is dict:
        entries = [[_plain(key), _plain(each)] for key, each in value.items()]
        return _plain if any(_plain in entry for entry in entries) else {"dict": entries}
    return _plain


def _unplain(value: Any) -> Any:
    if isinstance(value, list):
        return [_unplain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return np.asarray(value["array"], value["dtype"])
    if "number" in value:
        return np.dtype(value["dtype"]).type(value["number"])
    if "tuple" in value:
        return tuple(_unplain(each) for each in value["tuple"])
    return {_unplain(key): _unplain(each) for key, each in value["dict"]}
