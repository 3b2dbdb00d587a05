"""Search results saved as folders, which can be loaded without the run's store.

A folder contains ``result.json`` (trials, histories and schema), a checkpoint for each trial that
has weights, and ``model.keras``, the model that ``ModelSelectionResult.export_model`` returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_tuner
import msgspec

from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.core.types import StateRef, Status
from cerebros_spark.data.manifest import Layout
from cerebros_spark.data.table.schema import TableSchema
from cerebros_spark.engine.report import EngineReport
from cerebros_spark.runs.artifacts import read_state
from cerebros_spark.storage.local import LocalStore
from cerebros_spark.storage.store import Store
from nas.data.heads import Target
from nas.ensemble.ensemble import Ensemble
from nas.metrics.labels import Labels
from nas.trial.record import TrialRecord

if TYPE_CHECKING:
    from nas.results.result import ModelSelectionResult

FILE, MODEL = "result.json", "model.keras"
_FORMAT = 1
_CONTENT = {FILE, MODEL, "checkpoints"}

# Attributes of a target that a search needs, and its result does not.
_DROPPED = ("head", "loss", "metrics")


@dataclasses.dataclass(frozen=True)
class ResultParts:
    """Saved arguments of the ``ModelSelectionResult`` constructor, and output column names."""

    trials: tuple[TrialRecord, ...]
    objective: keras_tuner.Objective
    store: Store
    layout: Layout
    input_dtypes: tuple[str, ...]
    targets: tuple[Target, ...]
    engine_report: EngineReport
    run_id: str
    table: TableSchema | None
    output_columns: tuple[str, ...]
    ensemble: Ensemble | None = None


def save_result(
    parts: ResultParts, path: str | os.PathLike[str], result: ModelSelectionResult
) -> None:
    """Save a result as a folder, which appears under its final name only when complete.

    Args:
        parts: The result's constructor arguments and output column names.
        path: The folder. A result that was saved there before is replaced.
        result: The result itself, used to export the model.

    Raises:
        ArgumentError: If the path is a file, or a folder with other content.
        StoreError: If weights cannot be read, or files cannot be written.
    """
    folder = Path(path)
    if folder.exists() and not _is_empty(folder) and not _is_result(folder):
        raise ArgumentError(
            f"{os.fspath(path)!r} exists and is no saved result, or holds other files, too: give "
            "another path"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise StoreError(f"cannot write {os.fspath(path)!r}: {error}") from error
    try:
        trials = [_save_trial(parts.store, record, written) for record in parts.trials]
        result.export_model().save(written / MODEL)
        (written / FILE).write_text(json.dumps(_describe(parts, trials)), encoding="utf-8")
        written.chmod(0o755)
        _replace(folder, written)
    except OSError as error:
        raise StoreError(f"cannot write {os.fspath(path)!r}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(written)


def load_parts(path: str | os.PathLike[str]) -> ResultParts:
    """Load the constructor arguments of a result that :func:`save_result` saved in ``path``.

    Raises:
        StoreError: If there is no saved result, or it is damaged or was saved by a
            different version.
    """
    file = Path(path) / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise StoreError(f"{os.fspath(file)!r} was saved by another version")
        table = content["table"]
        return ResultParts(
            trials=tuple(_load_trial(each) for each in content["trials"]),
            objective=keras_tuner.Objective(*content["objective"]),
            store=LocalStore(os.fspath(Path(path).absolute())),
            layout=msgspec.convert(content["layout"], Layout),
            input_dtypes=tuple(content["input_dtypes"]),
            targets=tuple(_load_target(each) for each in content["targets"]),
            engine_report=msgspec.convert(content["engine_report"], EngineReport),
            run_id=content["run_id"],
            table=None if table is None else msgspec.convert(table, TableSchema),
            output_columns=tuple(content["output_columns"]),
            ensemble=msgspec.convert(content.get("ensemble"), Ensemble | None),
        )
    except OSError as error:
        raise StoreError(f"there is no saved result at {os.fspath(path)!r}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{os.fspath(file)!r} is damaged ({type(error).__name__}: {error}): save it again"
        ) from error


def _replace(folder: Path, written: Path) -> None:
    """Rename the folder ``written`` to ``folder``, and delete the folder that it replaces."""
    if not folder.exists():
        written.rename(folder)
        return
    before = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    folder.rename(before / folder.name)
    written.rename(folder)
    shutil.rmtree(before)


def _is_result(folder: Path) -> bool:
    """Return whether a folder contains a saved result and nothing else."""
    if not folder.is_dir() or not {each.name for each in folder.iterdir()} <= _CONTENT:
        return False
    try:
        return bool(json.loads((folder / FILE).read_text(encoding="utf-8"))["format"] == _FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _describe(parts: ResultParts, trials: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "trials": trials,
        "objective": [parts.objective.name, parts.objective.direction],
        "layout": dataclasses.asdict(parts.layout),
        "input_dtypes": list(parts.input_dtypes),
        "targets": [_describe_target(target) for target in parts.targets],
        "engine_report": dataclasses.asdict(parts.engine_report),
        "run_id": parts.run_id,
        "output_columns": list(parts.output_columns),
        "ensemble": msgspec.to_builtins(parts.ensemble),
        "table": None if parts.table is None else msgspec.to_builtins(parts.table),
    }


def _save_trial(store: Store, record: TrialRecord, folder: Path) -> dict[str, Any]:
    """Save a trial's weights in ``folder``; return the trial's other fields as JSON types."""
    fields = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in ("hyperparameters", "state", "status")
    }
    hyperparameters = record.hyperparameters
    state = None
    if record.state is not None:
        checkpoint = read_state(store, record.state)
        key = f"checkpoints/{record.trial_id}.safetensors"
        (folder / key).parent.mkdir(exist_ok=True)
        (folder / key).write_bytes(checkpoint)
        state = msgspec.to_builtins(msgspec.structs.replace(record.state, key=key))
    return {
        **fields,
        "status": record.status.value,
        "state": state,
        "hyperparameters": None if hyperparameters is None else hyperparameters.get_config(),
    }


def _load_trial(fields: dict[str, Any]) -> TrialRecord:
    state, hyperparameters = fields.pop("state"), fields.pop("hyperparameters")
    if hyperparameters is not None:
        hyperparameters = keras_tuner.HyperParameters.from_config(hyperparameters)
    return TrialRecord(
        **{**fields, "status": Status(fields["status"])},
        state=None if state is None else msgspec.convert(state, StateRef),
        hyperparameters=hyperparameters,
    )


def _describe_target(target: Target) -> dict[str, Any]:
    fields = {f.name: getattr(target, f.name) for f in dataclasses.fields(target)}
    labels = fields.pop("labels")
    kept: dict[str, Any] = {name: v for name, v in fields.items() if name not in _DROPPED}
    return {**kept, "labels": None if labels is None else dataclasses.asdict(labels)}


def _load_target(fields: Mapping[str, Any]) -> Target:
    labels = fields["labels"]
    tuples = ("label_shape", "mean", "variance")
    kept: dict[str, Any] = {n: tuple(v) if n in tuples else v for n, v in fields.items()}
    kept["labels"] = None if labels is None else msgspec.convert(labels, Labels)
    return Target(head=None, loss=None, metrics=(), **kept)
