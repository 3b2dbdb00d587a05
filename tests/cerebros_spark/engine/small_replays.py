"""``small_replays.py FOLDER`` runs a small search there and replays it as the command does."""

from __future__ import annotations

import runpy
import sys
from typing import Any

TRIALS = 2


def search_small(folder: str) -> Any:
    """Search networks with all that draws random numbers or keeps state."""
    import autokeras as ak
    import keras
    import numpy as np

    from cerebros_spark import LocalStore
    from nas import CerebrosSpace, HyperHyperModel

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4)).astype("float32")
    y = x[:, 0] - 2 * x[:, 1] + rng.normal(size=90) / 10
    search = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.RegressionHead(dropout=0.2),
        project_name="small",
        seed=0,
        space=CerebrosSpace.published(
            minimum_levels=1,
            maximum_levels=1,
            maximum_units_per_level=2,
            predecessor_level_connection_affinity_factor_first=1.0,
            predecessor_level_connection_affinity_factor_main=1.0,
            regularization=("batch_normalization", "dropout"),
            learning_rate=0.01,
        ),
    )
    search.resource_bind(store=LocalStore(folder))
    search.tuner_bind("random", max_trials=TRIALS)
    callbacks = [keras.callbacks.LearningRateScheduler(_slower), _shrinking()]
    return search.fit(x, y, epochs=3, batch_size=16, callbacks=callbacks, verbose=0)


def _slower(epoch: int, rate: float) -> float:
    return rate / 2 if epoch else rate


def _shrinking() -> Any:
    """A callback that shrinks the weights after the first epoch."""
    import keras

    class Shrinking(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                self.model.set_weights([0.9 * weight for weight in self.model.get_weights()])

    return Shrinking()


if __name__ == "__main__":
    search_small(sys.argv[1])
    sys.argv[1:] = [f"{sys.argv[1]}/runs/small"]
    runpy.run_module("cerebros_spark.replay", run_name="__main__")
