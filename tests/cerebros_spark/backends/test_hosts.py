"""A run over several hosts, one of which is disconnected for a while, on real Spark."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cerebros_spark import LocalStore
from cerebros_spark.runs.audit import audit
from cerebros_spark.runs.journal import Record, read
from tests.cerebros_spark.backends.namespaces import Hosts, NoNamespacesError

ROOT = Path(__file__).parents[3]
CLUSTER = [sys.executable, str(ROOT / "scripts" / "cluster.py")]
LEASE = 25.0  # a busy machine may stall a process for seconds


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    try:
        with Hosts(["driver", "north", "south"]) as made:
            yield made
    except NoNamespacesError as error:
        pytest.skip(str(error))


@pytest.fixture
def environment() -> dict[str, str]:
    options = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    return {**os.environ, "SPARK_DAEMON_JAVA_OPTS": options}


@pytest.fixture
def master(hosts, environment, tmp_path) -> Iterator[str]:
    """A master on the driver's host and a worker on each of the others."""
    folders = []

    def start(host: str, *more: str) -> str:
        folder = str(tmp_path / f"spark-{host}")
        folders.append(folder)
        place = ["--host", hosts.address[host], "--folder", folder]
        return hosts.run(host, [*CLUSTER, "start", *place, *more], environment).strip()

    try:
        url = start("driver", "--workers", "0")
        for host in ("north", "south"):
            start(host, "--master", url, "--workers", "1", "--memory", "512m")
        yield url
    finally:
        for folder in reversed(folders):
            subprocess.run([*CLUSTER, "stop", "--folder", folder], check=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_host_that_is_disconnected_and_returns_changes_nothing(
    hosts, master, environment, tmp_path
):
    script = [sys.executable, str(Path(__file__).with_name("hosts_run.py"))]
    words = [*script, master, hosts.address["driver"], str(tmp_path), str(LEASE)]
    with (
        open(tmp_path / "driver.log", "w") as log,
        subprocess.Popen(
            hosts.command("driver", words), env=environment, stdout=log, stderr=log
        ) as driver,
    ):
        try:
            store = LocalStore(tmp_path / "cut")
            wait_for(driver, store, lambda records: kinds(records).count("unit") >= 5)
            hosts.cut("south")
            wait_for(driver, store, lambda records: "lost" in kinds(records))
            hosts.restore("south")
            driver.wait(timeout=600)
        finally:
            driver.kill()
    assert driver.returncode == 0, (tmp_path / "driver.log").read_text()[-4000:]
    calm, cut = (read(LocalStore(tmp_path / name), "small") for name in ("calm", "cut"))
    assert audit(calm) == audit(cut) == []
    assert "lost" not in kinds(calm)
    assert states(cut) == states(calm)
    logs = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("calm", "cut")]
    assert logs[0] == logs[1]
    ends = [record for record in cut if record["kind"] == "end"]
    assert [end["status"] for end in ends] == ["completed"] * 3


def wait_for(
    driver: subprocess.Popen, store: LocalStore, holds: Callable[[Sequence[Record]], bool]
) -> None:
    """Wait until a condition holds for the journal, or the driver has ended."""
    while driver.poll() is None:
        if "runs/small/journal.jsonl" in store.list("runs/small") and holds(read(store, "small")):
            return
        time.sleep(0.05)


def kinds(records: Sequence[Record]) -> list[str]:
    return [record["kind"] for record in records]


def states(records: Sequence[Record]) -> dict[tuple[str, int], str]:
    """Return the digest of each trial's state after each visit."""
    return {
        (r["unit"]["trial_id"], r["unit"]["visit"]): r["state"]["sha256"]
        for r in records
        if r["kind"] == "unit" and r["state"]
    }
