"""Keras callbacks of a trial, called on the driver before and after every epoch.

As in ``model.fit``, callbacks receive the metrics of the whole epoch, and a model with the current
weights and optimizer. If they set a learning rate or weights, workers use these from the trial's
next epoch.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras.callbacks import Callback

from cerebros_spark.compat import keras as compat
from cerebros_spark.core.errors import ArgumentError
from cerebros_spark.core.types import TrialSpec
from cerebros_spark.training.keras.callback_snapshot import restore_snapshot, take_snapshot
from cerebros_spark.training.keras.checkpoint import StateVariables
from cerebros_spark.training.keras.member_losses import remove_member_losses
from cerebros_spark.training.keras.metrics import remove_one_hot_labels
from cerebros_spark.training.keras.serialization import deserialize_model

_BATCH_HOOKS = tuple(
    f"on_{kind}batch_{end}"
    for kind in ("", "train_", "test_", "predict_")
    for end in ("begin", "end")
)
_ADVICE = {
    keras.callbacks.BackupAndRestore: "resume a search with overwrite=False instead",
    keras.callbacks.SwapEMAWeights: "give the optimizer ema_overwrite_frequency instead",
    keras.callbacks.ProgbarLogger: "the search has a progress bar, see verbose",
}
# Callbacks that never use the weights or the optimizer.
_MODEL_FREE = (
    keras.callbacks.EarlyStopping,
    keras.callbacks.CSVLogger,
    keras.callbacks.History,
    keras.callbacks.RemoteMonitor,
)
#: Callbacks that set the learning rate, which is impossible if the optimizer has a schedule.
RATE_SETTERS = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


@dataclass(frozen=True)
class StateChange:
    """Change that a trial's callbacks make to its model state."""

    checkpoint: bytes | None = None  # the new state; None if it did not change
    learning_rate: float | None = None  # the new rate, if nothing else changed; else None


class TrialCallbacks:
    """Copies of the user's callbacks for one trial.

    ``EarlyStopping`` does not restore weights, because the state of a trial's best epoch is kept
    anyway. ``ModelCheckpoint`` and ``CSVLogger`` write to a folder named after the trial.

    Args:
        callbacks: The user's callbacks, as returned by :func:`check_callbacks`.
        spec: The trial.
        metrics: The trial's built metrics, which define whether lower or higher is better.
        first_epoch: Index of the first epoch; nonzero if the trial continues another trial.

    Raises:
        ArgumentError: If a callback sets the learning rate of an optimizer that has a schedule.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        spec: TrialSpec,
        metrics: Sequence[Any],
        first_epoch: int = 0,
    ) -> None:
        self._callbacks = [_copy_for_trial(each, spec.trial_id) for each in callbacks]
        self._first_epoch = first_epoch
        self._model: Any = _ModelStub(metrics)
        self._variables: StateVariables | None = None
        self._before = b""
        for each in self._callbacks:
            each.set_params({"epochs": first_epoch + spec.epochs, "steps": None, "verbose": 0})
            each.set_model(self._model)
            if getattr(each, "monitor_op", self) is None:
                compat.set_monitor_direction(each)
        if need_model(self._callbacks):
            self._build_model(spec.program)

    def begin(self, checkpoint: bytes) -> StateChange:
        """Begin training and the first epoch, and return what the callbacks changed.

        ``checkpoint`` is the trial's initial model state.
        """
        self.load(checkpoint)
        self._begin_training()
        return self.begin_epoch(0)

    def resume(self, snapshots: Sequence[Any]) -> None:
        """Resume training from snapshots that :meth:`take_snapshots` returned before."""
        for each in self._callbacks:
            if isinstance(each, keras.callbacks.CSVLogger):
                each.append = True
        self._begin_training()
        for each, snapshot in zip(self._callbacks, snapshots, strict=True):
            restore_snapshot(each, snapshot)

    def _begin_training(self) -> None:
        for each in self._callbacks:
            if isinstance(each, keras.callbacks.CSVLogger):
                os.makedirs(os.path.dirname(each.filename), exist_ok=True)
            each.on_train_begin()

    def load(self, checkpoint: bytes) -> None:
        """Load a model state into the callbacks' model, if they need a model."""
        if self._variables is not None:
            self._variables.write(checkpoint)
            self._before = checkpoint

    @property
    def needs_model(self) -> bool:
        """Whether the callbacks need a model, so that :meth:`load` must be called."""
        return self._variables is not None

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> tuple[bool, dict[str, float]]:
        """End an epoch; return whether the callbacks stop the trial, and the metrics they add.

        Args:
            epoch: Index of the epoch, counted from 0 at the trial's first epoch.
            logs: Metrics of the epoch by name; names of validation metrics start with ``val_``.
        """
        self._model.stop_training = False
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        for each in self._callbacks:
            each.on_test_begin()
            each.on_test_end(dict(validation))
        shared_logs = dict(logs)  # a callback may add metrics for later ones, as in Keras
        for each in self._callbacks:
            each.on_epoch_end(self._first_epoch + epoch, shared_logs)
        added = {name: float(value) for name, value in shared_logs.items() if name not in logs}
        return bool(self._model.stop_training), added

    def begin_epoch(self, epoch: int) -> StateChange:
        """Begin an epoch; return what the callbacks have changed since :meth:`load`.

        ``epoch`` is its index, counted from 0 at the trial's first epoch.
        """
        for each in self._callbacks:
            each.on_epoch_begin(self._first_epoch + epoch)
        return self._get_change()

    def finish(self, logs: Mapping[str, float]) -> None:
        """Finish training: call ``on_train_end`` of every callback with the metrics ``logs``."""
        for each in self._callbacks:
            each.on_train_end(dict(logs))

    def take_snapshots(self) -> list[dict[str, Any]]:
        """Return a snapshot of every callback, as JSON types."""
        return [take_snapshot(each) for each in self._callbacks]

    def _build_model(self, program: str) -> None:
        # A callback may save the model, which must then load without this package.
        self._model = deserialize_model(remove_member_losses(remove_one_hot_labels(program)))
        self._variables = StateVariables(self._model)
        for each in self._callbacks:
            each.set_model(self._model)
            if isinstance(each, RATE_SETTERS) and _get_learning_rate(self._model) is None:
                raise ArgumentError(
                    f"{type(each).__name__} sets the learning rate, but the optimizer "
                    f"{self._model.optimizer.name!r} has a schedule; give the optimizer a number, "
                    "or remove the callback"
                )

    def _get_change(self) -> StateChange:
        if self._variables is None:
            return StateChange()
        after = self._variables.read()
        if after == self._before:
            return StateChange()
        rate = _get_learning_rate(self._model)
        if rate is not None:
            self._variables.write(self._before)
            self._model.optimizer.learning_rate = rate
            is_rate_only = self._variables.read() == after
            self._variables.write(after)
            if is_rate_only:
                return StateChange(after, rate)
        return StateChange(after)


class LearningRateSetter:
    """Setter of the learning rate in one program's model states, as a Keras callback sets it."""

    def __init__(self, program: str) -> None:
        self._model = deserialize_model(program)
        self._variables = StateVariables(self._model)

    def apply(self, checkpoint: bytes, rate: float) -> bytes:
        """Return a copy of a model state with the learning rate ``rate``."""
        self._variables.write(checkpoint)
        self._model.optimizer.learning_rate = rate
        return self._variables.read()


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """Check callbacks, and return them as a tuple without any ``TerminateOnNaN``.

    ``callbacks`` is a callback, or a list or tuple of callbacks.

    Raises:
        ArgumentError: If a callback is not a Keras callback, cannot be used in a search, must be
            called for each batch, or cannot be copied.
    """
    listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    # A loss that is not finite ends a trial anyway.
    kept = [each for each in listed if not isinstance(each, keras.callbacks.TerminateOnNaN)]
    for each in kept:
        _check_callback(each)
    return tuple(kept)


def _check_callback(callback: Any) -> None:
    name = type(callback).__name__
    if not isinstance(callback, Callback):
        raise ArgumentError(f"callbacks must be keras.callbacks.Callback, but got {callback!r}")
    for kind, advice in _ADVICE.items():
        if isinstance(callback, kind):
            raise ArgumentError(f"cannot use the callback {name} in a search: {advice}")
    hooks = _get_batch_hooks(callback)
    if hooks:
        raise ArgumentError(
            f"cannot use the callback {name}: it must be called for batches ({', '.join(hooks)}), "
            "but workers train all batches in one compiled call; use epoch hooks instead"
        )
    try:
        copy.deepcopy(callback)
    except Exception as error:
        raise ArgumentError(f"cannot copy the callback {name} for each trial: {error}") from error


def need_model(callbacks: Sequence[Callback]) -> bool:
    """Return whether any callback may access the model's weights or optimizer."""
    return not all(type(each) in _MODEL_FREE for each in callbacks)


def check_monitors(callbacks: Sequence[Callback], names: set[str]) -> None:
    """Check that the metrics that callbacks monitor are among ``names``.

    Callbacks after a custom callback are not checked, because it may add metrics itself.

    Raises:
        ArgumentError: If a callback monitors a metric that is not in ``names``.
    """
    for each in callbacks:
        monitor = getattr(each, "monitor", None)
        if isinstance(monitor, str) and monitor not in names:
            raise ArgumentError(
                f"cannot use the callback {type(each).__name__}: it monitors {monitor!r}, which is "
                f"not among the metrics that the networks report: {', '.join(sorted(names))}"
            )
        if _may_add_metrics(each):
            return


def _may_add_metrics(callback: Callback) -> bool:
    overrides = type(callback).on_epoch_end is not Callback.on_epoch_end
    return overrides and not type(callback).__module__.startswith("keras.")


class _ModelStub:
    """Placeholder for the model if no callback needs one."""

    def __init__(self, metrics: Sequence[Any]) -> None:
        self.metrics = list(metrics)
        self.stop_training = False


def _copy_for_trial(callback: Callback, name: str) -> Callback:
    copied = copy.deepcopy(callback)
    if isinstance(copied, keras.callbacks.EarlyStopping):
        copied.restore_best_weights = False
    for attribute in ("filepath", "filename"):
        path = getattr(copied, attribute, None)
        if isinstance(path, str) and type(callback).__module__.startswith("keras."):
            folder, file = os.path.split(path)
            setattr(copied, attribute, os.path.join(folder, name, file))
    return copied


def _get_batch_hooks(callback: Callback) -> list[str]:
    if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq == "epoch":
        return []
    return [
        hook
        for hook in _BATCH_HOOKS
        if hook in vars(callback) or getattr(type(callback), hook) is not getattr(Callback, hook)
    ]


def _get_learning_rate(model: Any) -> float | None:
    """Return the learning rate of a model's optimizer; None if it has a schedule."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    rate = compat.learning_rate_argument(optimizer)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
