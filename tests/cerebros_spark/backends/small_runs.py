"""Small runs of the engine on any backend, with simulated networks or with Keras; also a script.

``small_runs.py STORE OUT local cluster`` trains Keras networks in a fresh process, where
TensorFlow's threads can still be set, once on each backend, and writes the results as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cerebros_spark import set_java_home
from tests.cerebros_spark import simulated_trainer

TRIALS = 3
EPOCHS = 2
PARTITIONS = 2
COLUMNS = {"feature_columns": ["x"], "label_columns": ["y"]}


def prepare(store: Any, rows: int = 83, partitions: int = PARTITIONS) -> Any:
    """Prepare a small regression in a store."""
    from cerebros_spark.data.prepare_arrays import prepare_arrays

    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3))
    columns = {"x": x, "y": x[:, 0] - x[:, 1] + rng.normal(size=rows) / 10}
    return prepare_arrays(columns, store, validation=0.3, partitions=partitions, **COLUMNS)


def network(units: int, *, layer: Any = None, rate: float = 0.05, optimizer: str = "Adam") -> Any:
    """Return a compiled network with all that draws random numbers or keeps state."""
    import keras

    keras.utils.set_random_seed(units)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(units, activation="elu")(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = keras.layers.Dropout(0.1)(hidden)
    if layer is not None:
        hidden = layer(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, name="y")(hidden))
    model.compile(
        optimizer=getattr(keras.optimizers, optimizer)(rate),
        loss="mse",
        metrics=[keras.metrics.RootMeanSquaredError(name="rmse")],
    )
    return model


def keras_trial(model: Any, index: int, epochs: int = EPOCHS) -> tuple[Any, bytes]:
    """Return a trial of a Keras network, and its first state."""
    from cerebros_spark.core.types import TrialSpec
    from cerebros_spark.training.keras.checkpoint import get_initial_state
    from cerebros_spark.training.keras.serialization import serialize_model

    name = f"trial-{index:04d}"
    spec = TrialSpec(name, index, "keras", serialize_model(model), 7, epochs, 16)
    return spec, get_initial_state(model)


def keras_trials(epochs: int = EPOCHS) -> list[tuple[Any, bytes]]:
    """Return a few trials of Keras networks."""
    return [keras_trial(network(3 + index), index, epochs) for index in range(TRIALS)]


def trials(epochs: int = EPOCHS, **options: Any) -> list[tuple[Any, bytes]]:
    """Return a few trials of simulated networks."""
    return [simulated_trainer.trial(index, epochs=epochs, **options) for index in range(TRIALS)]


def get_merger(spec: Any) -> Any:
    """Return the merger of a trial's metrics."""
    if spec.trainer != "keras":
        return METRICS
    from cerebros_spark.training.keras.metrics import MetricsMerger

    return MetricsMerger(spec.program, [((1,), "float32")])


METRICS = simulated_trainer.SimulatedMetrics()


def run(
    backend: Any,
    store: Any,
    run_id: str,
    trials: list[tuple[Any, bytes]],
    *,
    reproducible: bool = True,
    stop_after: int | None = None,
    disturb: Callable[[int], None] = lambda epochs: None,
    rows: int = 83,
) -> dict[str, Any]:
    """Train the trials to their end; keep the state of each one's first epoch.

    Returns:
        Each trial's logs by epoch, how it ended, and the state that was kept.

    Args:
        backend: The backend.
        store: The store, where the data is prepared unless it already is.
        run_id: Name of the run.
        trials: The trials and their initial states.
        reproducible: Whether the order of visits is fixed.
        stop_after: Epochs after which trials are stopped; None for their limit.
        disturb: Called after each epoch with the number of epochs so far.
        rows: Rows of the data.
    """
    from cerebros_spark.core.types import EpochAnswer, EpochResult
    from cerebros_spark.data.layout import default_layout
    from cerebros_spark.engine.engine import Engine, start_journal
    from cerebros_spark.runs.worker_config import WorkerConfig

    manifest = prepare(store, rows, partitions=backend.num_workers)
    config = WorkerConfig(
        run_id=run_id,
        store=store,
        manifest=manifest,
        layout=default_layout(manifest),
        shard_memory=2**20,
        program_memory=2**30,
        threads=backend.threads,
        deterministic=reproducible,
    )
    engine = Engine(backend, config, get_merger, start_journal(config), reproducible=reproducible)
    logs: dict[str, list[dict[str, float]]] = {spec.trial_id: [] for spec, _ in trials}
    ends: dict[str, Any] = {}
    try:
        engine.start()
        for each, state in trials:
            engine.submit(each, state, values={"index": each.index})
        while len(ends) < len(trials):
            result = engine.next_result(5.0)
            if isinstance(result, EpochResult):
                logs[result.trial_id].append(result.logs)
                disturb(sum(len(each) for each in logs.values()))
                proceed = stop_after is None or result.epoch + 1 < stop_after
                answer = EpochAnswer(proceed, keep=result.epoch == 0)
                engine.answer(result.trial_id, answer)
            elif result is not None:
                engine.record_end(result)
                ends[result.trial_id] = msgspec.to_builtins(result)
    finally:
        report = engine.close()
    return {
        "logs": logs,
        "ends": ends,
        "kept": {name: end["kept"] for name, end in ends.items()},
        "report": dataclasses.asdict(report),
    }


def spark_context(master: str, settings: Mapping[str, str] | None = None) -> Any:
    """Start the installed Spark for a script, with this Python."""
    import pyspark

    os.environ["SPARK_HOME"] = os.path.dirname(pyspark.__file__)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    set_java_home()
    configuration = pyspark.SparkConf().setMaster(master).setAppName("tests")
    configuration.set("spark.ui.enabled", "false").set("spark.driver.host", "127.0.0.1")
    configuration.set("spark.python.daemon.module", "cerebros_spark.daemon")
    configuration.setAll(list((settings or {}).items()))
    # Short jobs: second compiler and parallel collector would cost more than they gain.
    for place in ("driver", "executor"):
        configuration.set(
            f"spark.{place}.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        )
    context = pyspark.SparkContext(conf=configuration)
    context.setLogLevel("ERROR")
    return context


def in_fresh_process(kinds: list[str], store: Path) -> dict[str, dict[str, Any]]:
    """Run this script; return the results by kind. The run ``"keras KIND"`` is in the store."""
    out = Path(store) / "outcomes.json"
    process = subprocess.run(
        [sys.executable, __file__, str(store), str(out), *kinds],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-4000:] + _read_executor_logs()
    outcomes: dict[str, dict[str, Any]] = json.loads(out.read_text())
    return outcomes


def _read_executor_logs() -> str:
    """Return the ends of the last application's logs, which tell why an executor did not start."""
    import pyspark

    applications = sorted((Path(pyspark.__file__).parent / "work").glob("app-*"))
    logs = sorted(applications[-1].glob("*/std*")) if applications else []
    return "".join(f"\n== {log}\n{log.read_text()[-1000:]}" for log in logs[-6:])


def main(folder: str, out: str, *kinds: str) -> None:
    """Run as a script."""
    from cerebros_spark import LocalBackend, LocalStore, SparkBackend
    from cerebros_spark.training.keras.tensorflow_runtime import load_tensorflow

    load_tensorflow()  # so that the backend sets its threads before the first network is built
    outcomes, store = {}, LocalStore(folder)
    for kind in kinds:
        # An executor reserves all of its memory at its start, beside the other tests' processes.
        settings = {"spark.executor.memory": "512m"}
        context = spark_context("local-cluster[2,1,512]", settings) if kind == "cluster" else None
        backend: Any = LocalBackend(PARTITIONS)
        if context is not None:
            backend = SparkBackend(context, PARTITIONS)
        backend.check(store)
        outcomes[kind] = run(backend, store, f"keras {kind}", keras_trials())
        if context is not None:
            context.stop()
    Path(out).write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
