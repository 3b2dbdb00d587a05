"""The command that starts, shows and stops a standalone cluster."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from _standalone import ClusterConfig, ClusterError

pytestmark = pytest.mark.timeout(900)  # several JVMs, one after the other

SCRIPTS = Path(__file__).parents[2] / "scripts"
SCRIPT = SCRIPTS / "cluster.py"
# Nothing of this project but what is sent; and the second compiler would cost more than it gains.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
ENVIRONMENT["SPARK_DAEMON_JAVA_OPTS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def cluster(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(SCRIPT), *map(str, arguments), "--folder", str(folder)]
    return subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Start a master and a worker; return folder and ports."""
    folder = tmp_path_factory.mktemp("cluster")
    port, page = free_port(), free_port()
    size = ("--workers", 1, "--cores", 1, "--memory", "512m")
    done = cluster(folder, "start", *size, "--port", port, "--webui-port", page)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"spark://127.0.0.1:{port}\n"
    yield folder, port, page
    cluster(folder, "stop")


def test_a_submitted_script_finds_environment_and_packages_on_the_executors(
    started, small_environment, tmp_path
):
    """The environment is small: PySpark comes from Spark."""
    python, environment = small_environment
    script = tmp_path / "script.py"
    script.write_text(
        "import json, sys; from pyspark import SparkContext\n"
        "def look(_):\n"
        "    import cerebros_spark, nas\n"
        "    return sys.prefix, cerebros_spark.__file__, nas.__file__\n"
        "context = SparkContext.getOrCreate()\n"
        "seen = context.parallelize([0], 1).map(look).first()\n"
        "open(sys.argv[1], 'w').write(json.dumps([seen, context.getConf().getAll()]))\n"
    )
    options = ["--folder", started[0], "--cache", tmp_path / "cache"]
    options += ["--conf", "spark.executor.memory=512m"]
    words = [python, SCRIPTS / "submit.py", *options, script, tmp_path / "settings.json"]
    done = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (prefix, *packages), settings = json.loads((tmp_path / "settings.json").read_text())
    assert Path(prefix).name == "environment"
    assert prefix != str(python.parent.parent)
    assert all("packages-" in path and ".zip" in path for path in packages)
    assert dict(settings)["spark.driver.host"] == "127.0.0.1"
    assert dict(settings)["spark.speculation"] == "false"


def test_a_cluster_is_started_shown_joined_and_stopped(started, tmp_path):
    folder, port, page = started
    status = cluster(folder, "status")
    assert status.returncode == 0
    assert re.findall(r"^(\S+) +pid \d+ +(.*)$", status.stdout, re.M) == [
        ("master", "alive"),
        ("worker-0", "alive"),
    ]

    again = cluster(folder, "start")
    assert again.returncode == 1
    assert f"master, worker-0 of spark://127.0.0.1:{port} already run; stop" in again.stderr
    taken = cluster(tmp_path, "start", "--port", port)
    assert f"port {port} of 127.0.0.1 is taken" in taken.stderr

    url = f"spark://127.0.0.1:{port}"
    size = ("--workers", 1, "--memory", "512m")
    joined = cluster(tmp_path, "start", "--master", url, "--webui-port", page, *size)
    assert joined.stdout == f"{url}\n", joined.stderr
    pid = int(re.search(r"worker-0 +pid (\d+)", cluster(tmp_path, "status").stdout)[1])
    (java,) = [p for p in psutil.Process(pid).children() if "worker.Worker" in str(p.cmdline())]
    java.kill()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.05)
    status = cluster(tmp_path, "status")
    assert status.returncode == 1
    assert "ended, exit code 137" in status.stdout
    assert cluster(tmp_path, "stop").stdout == "nothing was running\n"

    assert cluster(folder, "stop").stdout == "stopped: worker-0, master\n"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert "no cluster was started" in cluster(folder, "status").stderr


def test_a_master_that_is_not_there_is_named(tmp_path):
    url = f"spark://127.0.0.1:{free_port()}"
    refused = cluster(tmp_path, "start", "--master", url, "--webui-port", free_port())
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert not os.listdir(tmp_path)


def test_a_process_that_ends_at_once_is_shown_with_its_log(tmp_path):
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho no memory today\nexit 1\n")
    java.chmod(0o755)
    done = start_with_java(tmp_path, tmp_path / "java")
    assert done.returncode == 1
    assert "master exited with status" in done.stderr
    assert "no memory today" in done.stderr


def test_a_java_that_does_not_exist_is_an_error(tmp_path):
    done = start_with_java(tmp_path, tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith(f"cluster: JAVA_HOME is '{tmp_path}/nowhere', but")


def start_with_java(folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    ports = ("--port", str(free_port()), "--webui-port", str(free_port()))
    return subprocess.run(
        [sys.executable, str(SCRIPT), "start", "--folder", str(folder), *ports],
        env={**ENVIRONMENT, "JAVA_HOME": str(home)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": -1}, "--workers -1"),
        ({"workers": 0, "master": "spark://a:7077"}, "--workers 0"),
        ({"cores": 0}, "--cores 0"),
        ({"memory": "1 GB"}, "--memory 1 GB"),
        ({"port": 70000}, "--port 70000"),
        ({"port": 8080}, "both 8080"),
        ({"master": "local[2]"}, r"--master local\[2\]"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ClusterError, match=message):
        ClusterConfig(**wrong)
