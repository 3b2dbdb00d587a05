"""The steps of bootstrap.sh that need no CloudLab."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "profile" / "bootstrap.sh"
MASTER = ["master", "--address", "10.10.1.1"]
WORKER = ["worker", "--address", "10.10.1.2", "--master", "10.10.1.1"]


def bootstrap(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(SCRIPT), *words], capture_output=True, text=True)


def steps(*words: str) -> list[str]:
    done = bootstrap(*words, "--dry-run")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def sourced(code: str) -> str:
    """What bash prints with the script's functions at hand."""
    done = subprocess.run(["bash", "-c", f". '{SCRIPT}'\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def position(lines: list[str], part: str) -> int:
    (found,) = [number for number, line in enumerate(lines) if part in line]
    return found


def test_a_master_shares_its_folders_before_it_starts():
    lines = steps(*MASTER, "--share", "/shared", "--share", "/data")
    assert "nfs-kernel-server" in lines[position(lines, "apt-get install")]
    exported = position(lines, "exportfs")
    assert lines[exported - 2 : exported] == [
        "/shared 10.10.1.0/24(rw,sync,no_subtree_check)",
        "/data 10.10.1.0/24(rw,sync,no_subtree_check)",
    ]
    assert position(lines, "_setup.sh") < exported < position(lines, "--workers 0")
    assert "--host 10.10.1.1" in lines[position(lines, "--workers 0")]


def test_a_worker_mounts_what_the_master_shares_and_joins_it():
    lines = steps(*WORKER, "--share", "/shared")
    assert not [line for line in lines if "exports" in line]
    mounted = position(lines, "mount -t nfs")
    assert lines[mounted].endswith("10.10.1.1:/shared /shared")
    started = position(lines, "--workers 1")
    assert mounted < position(lines, "is_listening 10.10.1.1 8080") < started
    assert "--master spark://10.10.1.1:7077" in lines[started]
    assert "--host 10.10.1.2" in lines[started]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "master or worker"),
        (["slave"], "master or worker"),
        (["master"], "--address is needed"),
        (WORKER[:3], "--master is needed"),
        ([*MASTER, "--share", "shared"], "--share shared: a plain absolute path"),
        ([*MASTER, "--share", "/a b(rw)"], "a plain absolute path"),
        ([*MASTER, "--nonsense"], "unknown argument --nonsense"),
        ([*MASTER, "--folder"], "--folder needs a value"),
    ],
)
def test_wrong_arguments_are_named(words, told):
    done = bootstrap(*words)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stdout == ""


def test_a_quarter_of_the_memory_is_sparks(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16777216 kB\nMemFree:        1 kB\n")
    assert sourced(f"worker_memory {path}") == "4096m"
    assert sourced("worker_memory").endswith("m")


def test_a_worker_waits_until_its_master_listens():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert sourced(f"is_listening 127.0.0.1 {port} || echo no") == "no"
        assert "timeout" in sourced(f"timeout=0; (retry is_listening 127.0.0.1 {port}) 2>&1 || :")
        server.listen()
        assert sourced(f"is_listening 127.0.0.1 {port} && echo yes") == "yes"
