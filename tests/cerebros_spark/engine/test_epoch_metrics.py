from __future__ import annotations

from cerebros_spark.core.types import EpochResult, StateRef
from cerebros_spark.engine.epoch_metrics import merge_epochs


class SumMerger:
    """Adds up the numbers of all units, and counts its calls."""

    calls = 0

    def merge(self, reported):
        self.calls += 1
        return [{"loss": sum(value for ((value,),) in units)} for units in reported]


def done(name: str, train: list[float], validation: list[float]) -> EpochResult:
    def variables(values: list[float]) -> tuple:
        return tuple(((value,),) for value in values)

    state = StateRef("k", 1, "0")
    units = {"train": variables(train), "validation": variables(validation)}
    return EpochResult(name, 0, {}, state, 1.0, 1, **units)


def test_each_merger_is_called_once_for_all_of_its_trials():
    shared, other = SumMerger(), SumMerger()
    mergers = {"a": shared, "b": other, "c": shared}
    epochs = [done("a", [1, 2], [3]), done("b", [4], [5]), done("c", [6], [])]
    assert merge_epochs(epochs, mergers.__getitem__) == [
        {"loss": 3, "val_loss": 3},
        {"loss": 4, "val_loss": 5},
        {"loss": 6, "val_loss": 0},
    ]
    assert (shared.calls, other.calls) == (1, 1)
