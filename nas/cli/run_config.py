"""What was asked of a run by the command line, kept with it in the store."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import logging
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cerebros_spark.backends.base import Backend
from cerebros_spark.core.errors import ArgumentError, StoreError
from cerebros_spark.runs.journal import Record, journal_key, locate_run, read
from cerebros_spark.storage.store import Store, read_checked, write_checked
from nas.cli.table_encoding import Encoding

if TYPE_CHECKING:
    from nas.hyperhypermodel import HyperHyperModel
    from nas.spaces.cerebros import CerebrosSpace

logger = logging.getLogger("nas")

_FORMAT = 1

#: Where a run is made does not decide what it is.
_PLACES = frozenset({"data", "kind", "master", "settings", "vector_size"})


@dataclass(frozen=True)
class Asked:
    """The options of ``search``, and what its data made of them.

    Attributes:
        data: Path or URL of the table.
        kind: Its format.
        encoding: Its columns.
        vector_size: Number of features of libsvm.
        head: ``"regression"`` or ``"classification"``.
        tuner: Name of the tuner.
        tuner_options: Its options.
        max_trials: Number of trials.
        objective: What is optimized.
        metrics: Metrics besides.
        epochs: Epochs of a trial; None for as many as help.
        batch_size: Rows in a step.
        workers: Number of workers.
        space: Bounds of the networks that are not the published ones.
        validation: Fraction, or name of the column that marks validation rows.
        seed: Seed of everything drawn; None for a new one.
        reproducible: Whether the run repeats bit for bit.
        master: Spark's master; None for this machine.
        settings: Settings of Spark.
    """

    data: str
    kind: str
    encoding: Encoding
    head: str
    workers: int
    vector_size: int | None = None
    space: dict[str, Any] = field(default_factory=dict)
    tuner: str = "random"
    tuner_options: dict[str, Any] = field(default_factory=dict)
    max_trials: int = 20
    objective: str = "val_loss"
    metrics: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int = 32
    validation: float | str = 0.2
    seed: int | None = None
    reproducible: bool = False
    master: str | None = None
    settings: dict[str, str] = field(default_factory=dict)

    def search(
        self, name: str, store: Store, backend: Backend, *, overwrite: bool = False
    ) -> HyperHyperModel:
        """The search, bound.

        Raises:
            ArgumentError: If an option can't be used.
        """
        import autokeras as ak

        from nas.hyperhypermodel import HyperHyperModel

        heads = {"classification": ak.ClassificationHead, "regression": ak.RegressionHead}
        search = HyperHyperModel(
            inputs=ak.Input(),
            outputs=heads[self.head](),
            project_name=name,
            overwrite=overwrite,
            seed=self.seed,
            space=_space(self.space),
        )
        search.resource_bind(
            backend=backend,
            store=store,
            feature_columns=list(self.encoding.features),
            label_columns=list(self.encoding.labels),
            validation=self.validation,
            evaluation_metric=list(self.metrics) or None,
        )
        search.tuner_bind(
            self.tuner,
            objective=self.objective,
            max_trials=self.max_trials,
            **self.tuner_options,
        )
        return search

    def fitting(self) -> dict[str, Any]:
        """What ``fit`` and ``fit_on_prepared_data`` are told besides the data."""
        return {
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "reproducible": self.reproducible,
        }

    def check_same(self, before: Asked, name: str) -> None:
        """Raises ArgumentError if an earlier run of that name was asked for something else."""
        now, then = dataclasses.asdict(self), dataclasses.asdict(before)
        # Without a seed the run's own is gone on with.
        same = _PLACES | ({"seed"} if self.seed is None else set())
        for option in now:
            if option not in same and now[option] != then[option]:
                raise ArgumentError(
                    f"there is a run {name!r} already, begun with {_shown(option)} = "
                    f"{then[option]}, and now it is {now[option]}: ask for the same to go on with "
                    "it, or give another --name, or --overwrite"
                )


@dataclass(frozen=True)
class Run:
    """A run in a store that the command line began.

    Attributes:
        store: The store.
        name: The run's name.
        asked: What was asked.
        records: Its journal.
    """

    store: Store
    name: str
    asked: Asked
    records: tuple[Record, ...]

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.records[-1]["kind"] == "done")

    def finished(self) -> Any:
        """The ``ModelSelectionResult`` of a run that is over, from the store alone.

        Raises:
            ArgumentError: If it is not over.
            DataError: If its prepared data is no longer there.
        """
        if not self.over:
            raise ArgumentError(
                f"the run {self.name!r} is not over: cerebros-spark resume "
                f"{shown_place(self.store, self.name)} goes on with it"
            )
        from cerebros_spark.backends.local import LocalBackend

        first = self.records[0]
        backend = LocalBackend(first["partitions"], threads_per_worker=first["threads"])
        with _quiet_about_the_end():
            return self.gone_on_with(backend, verbose=0)

    def gone_on_with(self, backend: Backend, verbose: int) -> Any:
        """Goes on with the run on its prepared data; gives the result of one that is over."""
        search = self.asked.search(self.name, self.store, backend)
        return search.fit_on_prepared_data(
            self.records[0]["data"], verbose=verbose, **self.asked.fitting()
        )


def asked_key(name: str) -> str:
    """Where in the store it is."""
    return f"runs/{name}/command.json"


def find_run(place: str) -> Run:
    """The run at ``STORE/runs/NAME``.

    Raises:
        ArgumentError: If there is none, or it was not begun by the command line.
        StoreError: If the journal, or what was asked, is damaged.
    """
    store, name = located_run(place)
    asked = earlier(store, name)
    if asked is None:
        raise ArgumentError(
            f"the run {name!r} was begun by a script, not by cerebros-spark search: run that "
            "script again to go on with it or to have its result; report, audit and export work "
            "on any run"
        )
    return Run(store, name, asked, read(store, name))


def located_run(place: str) -> tuple[Store, str]:
    """Store and name of a run that is there; raises ArgumentError if there is none."""
    folder = place.rstrip("/").removesuffix("/journal.jsonl")
    if "://" not in folder and not _is_folder(folder):
        raise ArgumentError(f"there is no run at {place!r}; a run is a folder STORE/runs/NAME")
    store, name = locate_run(place)
    if not has_run(store, name):
        raise ArgumentError(f"there is no run at {place!r}: it has no journal")
    return store, name


def shown_place(store: Store, name: str) -> str:
    """A run as the commands take it, quoted where a shell needs it."""
    return shlex.quote(f"{store.url.removeprefix('file://').rstrip('/')}/runs/{name}")


def has_run(store: Store, name: str) -> bool:
    """Whether a store has a run of that name."""
    return journal_key(name) in store.list(f"runs/{name}")


def keep(store: Store, name: str, asked: Asked) -> None:
    """Writes what was asked beside the journal, unless it is there."""
    if asked_key(name) not in store.list(f"runs/{name}"):
        content = {"format": _FORMAT, **dataclasses.asdict(asked)}
        write_checked(store, asked_key(name), json.dumps(content, indent=1).encode())


def earlier(store: Store, name: str) -> Asked | None:
    """What was asked of a run of that name; None if the command line did not begin it."""
    key = asked_key(name)
    if key not in store.list(f"runs/{name}"):
        return None
    content = json.loads(read_checked(store, key))
    if content.pop("format", None) != _FORMAT:
        raise StoreError(f"{key!r} in {store.url} was written by another version of this package")
    encoding = content.pop("encoding")
    for part in ("features", "labels", "classes"):
        encoding[part] = tuple(encoding[part])
    encoding["texts"] = tuple((column, tuple(values)) for column, values in encoding["texts"])
    content["metrics"] = tuple(content["metrics"])
    return Asked(encoding=Encoding(**encoding), **content)


def _space(bounds: dict[str, Any]) -> CerebrosSpace:
    """The published space with other bounds; raises ArgumentError."""
    from nas.spaces.cerebros import CerebrosSpace

    known = [each.name for each in dataclasses.fields(CerebrosSpace)]
    for name in bounds:
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known)) or ", ".join(known)
            raise ArgumentError(f"--space has no bound {name!r}; there is {near}")
    # JSON has lists where the space takes several values.
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in bounds.items()
    }
    return CerebrosSpace(**given)


@contextlib.contextmanager
def _quiet_about_the_end() -> Iterator[None]:
    """Log no warning that the run is finished, where a command wants just that."""
    from nas.config.resume import FINISHED

    def keep_others(record: logging.LogRecord) -> bool:
        return not getattr(record, FINISHED, False)

    logger.addFilter(keep_others)
    try:
        yield
    finally:
        logger.removeFilter(keep_others)


def _is_folder(path: str) -> bool:
    return os.path.isdir(os.path.expanduser(path))


def _shown(option: str) -> str:
    return "its columns" if option == "encoding" else "--" + option.replace("_", "-")
