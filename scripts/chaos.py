#!/usr/bin/env python3
"""Kill processes of a search at random moments, and compare the result with an undisturbed run.

One search runs undisturbed first. Then, in each run, the same search runs in its own process
while its processes are killed:

* ``--kill workers``: Spark's Python workers and executors are killed (SIGKILL) or hang
  (SIGSTOP);
* ``--kill driver``: the driver is killed at a random moment, and the same script runs again
  until it finishes.

The state after every visit, each trial's best weights and the leaderboard must match bit for bit.
``--master standalone`` starts a Spark standalone master with two workers.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _common

RUN = "chaos"
WORKERS = 2
LEASE = 20.0


@dataclasses.dataclass
class Outcome:
    """The outcome of one run."""

    kills: list[str]
    seconds: float
    repeated: int
    lost: int
    twice: int
    mismatches: int


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kill", choices=("workers", "driver"), default="workers")
    parser.add_argument("--kills", type=int, default=2, help="maximum number of kills in a run")
    parser.add_argument(
        "--resume-with",
        metavar="PYTHON",
        default=sys.executable,
        help="with --kill driver: the Python that resumes, to change versions in between",
    )
    parser.add_argument("--master", default=None, help="a Spark master, or 'standalone'")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--search", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.resume_with != sys.executable and args.kill != "driver":
        parser.error("--resume-with goes with --kill driver")
    if args.master is None:
        args.master = "local[2]" if args.kill == "driver" else "local-cluster[2,1,1024]"
    if args.search:
        search(args)
        return
    _common.prepare_environment()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, cluster(args.master) as master:
        args.master = master
        chaos = Chaos(args, Path(folder))
        seconds_undisturbed = chaos.undisturbed()
        print(f"undisturbed: {seconds_undisturbed:.1f} s", flush=True)
        outcomes = []
        for number in range(args.runs):
            outcome = chaos.run(number)
            outcomes.append(outcome)
            print(
                f"run {number}: {', '.join(outcome.kills) or 'no kill'}; {outcome.seconds:.1f} s, "
                f"{outcome.repeated} units repeated, {outcome.lost} lost, {outcome.twice} twice, "
                f"{outcome.mismatches} mismatches",
                flush=True,
            )
    kills = sum(len(outcome.kills) for outcome in outcomes)
    rows: list[tuple[str, Any, str]] = [
        ("runs", len(outcomes), ""),
        ("kills", kills, ""),
        ("units repeated", sum(o.repeated for o in outcomes), ""),
        ("most units repeated for a kill", max(_rate(o) for o in outcomes), ""),
        ("finished units repeated or lost", sum(o.lost + o.twice for o in outcomes), ""),
        ("mismatches", sum(o.mismatches for o in outcomes), ""),
        (
            "time lost for a kill",
            sum(o.seconds - seconds_undisturbed for o in outcomes) / max(kills, 1),
            "s",
        ),
    ]
    _common.show(f"chaos: {args.kill} killed, {args.master}", rows, args.json)
    sys.exit(1 if any(o.mismatches or o.lost or o.twice for o in outcomes) else 0)


def _rate(outcome: Outcome) -> float:
    return outcome.repeated / len(outcome.kills) if outcome.kills else float(outcome.repeated)


def search(args: argparse.Namespace) -> None:
    """Run the search and write its result to ``found.json``."""
    _common.prepare_environment()
    import autokeras as ak
    from sklearn.datasets import load_breast_cancer

    from cerebros_spark import LocalStore, SparkBackend
    from nas import CerebrosSpace, HyperHyperModel

    spark = _common.session(args.master)
    x, y = load_breast_cancer(return_X_y=True)
    model = HyperHyperModel(
        inputs=ak.Input(),
        outputs=ak.ClassificationHead(),
        project_name=RUN,
        seed=args.seed,
        space=CerebrosSpace(
            maximum_levels=2,
            maximum_units_per_level=2,
            predecessor_level_connection_affinity_factor_first=1.0,
            predecessor_level_connection_affinity_factor_main=1.0,
            regularization=("batch_normalization", "dropout"),
            learning_rate=(0.01, 0.003),
        ),
    )
    model.resource_bind(
        backend=SparkBackend(spark.sparkContext, num_workers=WORKERS, lease=LEASE),
        store=LocalStore(args.search),
    )
    model.tuner_bind("random", max_trials=args.trials)
    result = model.fit(x, y, epochs=args.epochs, batch_size=16, verbose=0, reproducible=True)
    weights = {trial.trial_id: _digest(result.get_model(trial.trial_id)) for trial in result.trials}
    board = json.loads(result.leaderboard().drop(columns="seconds").to_json(orient="records"))
    description = {"weights": weights, "leaderboard": board, "history": result.get_history()}
    Path(args.search, "found.json").write_text(json.dumps(description))
    spark.stop()


def _digest(model: Any) -> str:
    import numpy as np

    parts = [np.asarray(each).tobytes() for each in [*model.weights, *model.optimizer.variables]]
    return hashlib.sha256(b"".join(parts)).hexdigest()


class Chaos:
    """Runs searches and kills their processes.

    Args:
        args: The command line.
        folder: Folder of the stores.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self._args = args
        self._folder = folder
        self._calm = self._opening = 0.0  # seconds to the end, and to the journal's first line
        self._expected: dict[str, Any] = {}
        self._records: tuple[dict[str, Any], ...] = ()

    def undisturbed(self) -> float:
        """Run the reference search; return its seconds."""
        store = self._folder / "calm"
        began = time.monotonic()
        process = self._start(store)
        while process.poll() is None and not self._length(store):
            time.sleep(0.01)
        self._opening = time.monotonic() - began
        self._finish(process)
        self._calm = time.monotonic() - began
        self._expected = json.loads((store / "found.json").read_text())
        self._records = self._journal(store)
        return self._calm

    def run(self, number: int) -> Outcome:
        """Run one disturbed search."""
        chance = random.Random(f"{self._args.seed} {number}")
        store = self._folder / f"run-{number}"
        began = time.monotonic()
        disturb = self._kill_driver if self._args.kill == "driver" else self._kill_workers
        kills, copies = disturb(store, chance)
        seconds = time.monotonic() - began
        return self._outcome(store, kills, seconds, copies)

    # Disturbances ------------------------------------------------------------------------

    def _kill_workers(self, store: Path, chance: random.Random) -> tuple[list[str], list[Any]]:
        """Kill workers when the journal has reached random lengths."""
        count = chance.randint(1, self._args.kills)
        first = next(r["number"] for r in self._records if r["kind"] == "trial")
        last = max(r["number"] for r in self._records if r["kind"] == "unit") - 2
        moments = sorted(chance.sample(range(first, last), count))
        kinds = [chance.choice(["worker", "worker", "executor", "hang"]) for _ in moments]
        process = self._start(store)
        kills = []
        for moment, kind in zip(moments, kinds, strict=True):
            self._await(process, store, moment)
            time.sleep(chance.random() * 0.3)
            description = self._strike(process, kind, chance)
            if description:
                kills.append(f"{description} at record {self._length(store)}")
        self._finish(process)
        return kills, []

    def _strike(self, process: Any, kind: str, chance: random.Random) -> str:
        """Kill one process of the search; return a description, empty if there is none."""
        import psutil

        daemon = "cerebros_spark.daemon"
        pattern = "CoarseGrainedExecutorBackend" if kind == "executor" else daemon
        candidates = []
        for each in _descendants(process.pid):
            with contextlib.suppress(psutil.Error):
                line = " ".join(each.cmdline())
                parent = " ".join(each.parent().cmdline()) if each.parent() else ""
                forked = kind == "executor" or daemon in parent
                if pattern in line and forked and each.status() != psutil.STATUS_ZOMBIE:
                    candidates.append(each)
        if not candidates or process.poll() is not None:
            return ""
        victim = chance.choice(sorted(candidates, key=lambda each: each.pid))
        os.kill(victim.pid, signal.SIGSTOP if kind == "hang" else signal.SIGKILL)
        return {"hang": "worker stopped"}.get(kind, f"{kind} killed")

    def _kill_driver(self, store: Path, chance: random.Random) -> tuple[list[str], list[Any]]:
        """Kill the driver at a random moment, then run the script again."""
        share = chance.uniform(-0.2, 1.0)
        process = self._start(store)
        if share < 0:  # before the journal's first line
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(-5 * share * self._opening)
        else:
            self._await(process, store, int(share * len(self._records)))
            time.sleep(chance.random() * 0.2)
        if process.poll() is not None:
            return [], []
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = self._journal(store)
        again = self._start(store, self._args.resume_with)
        self._finish(again)
        return [f"driver killed at record {len(left)} of {len(self._records)}"], list(left)

    def _await(self, process: subprocess.Popen[bytes], store: Path, length: int) -> None:
        """Wait until the journal has ``length`` lines, or the process has exited."""
        while self._length(store) < length and process.poll() is None:
            time.sleep(0.01)

    # Outcomes ----------------------------------------------------------------------------

    def _outcome(self, store: Path, kills: list[str], seconds: float, before: list[Any]) -> Outcome:
        from cerebros_spark.runs.audit import audit

        records = self._journal(store)
        candidates = json.loads((store / "found.json").read_text())
        mismatches = sum(candidates[name] != self._expected[name] for name in candidates)
        mismatches += _states(records) != _states(self._records)
        finished = [record for record in records if record["kind"] == "unit"]
        before = [record for record in before if record["kind"] == "unit"]
        mismatches += finished[: len(before)] != before
        units = [record["unit"] for record in finished]
        places = {(u["trial_id"], u["epoch"], u["phase"], u["partition"]) for u in units}
        expected = sum(record["kind"] == "unit" for record in self._records)
        for fault in audit(records):
            print(f"FAULT {fault}", flush=True)
            mismatches += 1
        return Outcome(
            kills=kills,
            seconds=seconds,
            repeated=sum(unit["attempt"] for unit in units),
            lost=expected - len(places),
            twice=len(units) - len(places),
            mismatches=mismatches,
        )

    # Processes ---------------------------------------------------------------------------

    def _start(self, store: Path, python: str = sys.executable) -> subprocess.Popen[bytes]:
        args = self._args
        command = [python, __file__, "--search", str(store), "--master", args.master]
        command += ["--seed", str(args.seed), "--trials", str(args.trials)]
        command += ["--epochs", str(args.epochs)]
        log = open(f"{store}.log", "ab")  # noqa: SIM115 - the process writes to it
        return subprocess.Popen(command, stdout=log, stderr=log)

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait(timeout=600) != 0:
            logs = sorted(self._folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
            sys.exit(f"the search ended with {process.returncode}:\n{logs[-1].read_text()[-5000:]}")

    def _journal(self, store: Path) -> tuple[dict[str, Any], ...]:
        from cerebros_spark import LocalStore
        from cerebros_spark.runs.journal import read

        return read(LocalStore(store), RUN) if self._length(store) else ()

    @staticmethod
    def _length(store: Path) -> int:
        path = store / "runs" / RUN / "journal.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0


def _states(records: Any) -> dict[tuple[str, int], str]:
    return {
        (r["unit"]["trial_id"], r["unit"]["visit"]): r["state"]["sha256"]
        for r in records
        if r["kind"] == "unit" and r["state"] is not None
    }


def _descendants(pid: int) -> list[Any]:
    """Return the processes of a search, and those of a standalone cluster."""
    import psutil

    with contextlib.suppress(psutil.Error):
        mine = psutil.Process(pid).children(recursive=True)
        others = psutil.Process().children(recursive=True)
        return list({each.pid: each for each in [*mine, *others]}.values())
    return []


@contextlib.contextmanager
def cluster(master: str) -> Iterator[str]:
    """Yield the master's URL; start a standalone cluster first if ``master`` asks for one."""
    if master != "standalone":
        yield master
        return
    from _standalone import Cluster, ClusterConfig

    with tempfile.TemporaryDirectory(prefix="spark-") as folder:
        cluster = Cluster(Path(folder))
        try:
            yield cluster.start(ClusterConfig(workers=WORKERS, port=17077, webui_port=18080))
        finally:
            cluster.stop()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
