from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from _daemons import Daemons, State


@pytest.fixture
def daemons(tmp_path):
    made = Daemons(tmp_path / "folder")
    yield made
    made.stop(timeout=0.1)


def ended(daemons: Daemons) -> State:
    while (state := daemons.states()[0]).alive:
        time.sleep(0.01)
    return state


def test_one_that_ends_leaves_its_exit_code_and_its_words(daemons):
    daemons.start("one", ["sh", "-c", "echo well; exit 3"], os.environ)
    assert ended(daemons).exit_code == 3
    assert daemons.log("one").read_text() == "well\n"
    assert daemons.stop() == []
    assert daemons.states() == []


def test_it_outlives_its_starter_and_is_stopped_with_its_children(daemons):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import os, pathlib; from _daemons import Daemons\n"
        "Daemons(pathlib.Path(sys.argv[2])).start('one', ['sh', '-c', 'sleep 99 & echo $!; wait'],"
        " os.environ)\n"
    )
    scripts = Path(__file__).parents[2] / "scripts"
    subprocess.run([sys.executable, "-c", code, str(scripts), str(daemons.folder)], check=True)
    (state,) = daemons.states()
    assert state.alive
    while not (log := daemons.log("one").read_text()).endswith("\n"):
        time.sleep(0.01)
    child = psutil.Process(int(log))
    assert daemons.stop() == ["one"]
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_does_not_end_is_killed(daemons):
    daemons.start(
        "deaf", ["sh", "-c", "trap '' TERM; echo ready; sleep 99 & wait; wait"], os.environ
    )
    while not daemons.log("deaf").read_text():
        time.sleep(0.01)
    keeper = psutil.Process(daemons.states()[0].pid)
    assert daemons.stop(timeout=0.2) == ["deaf"]
    assert keeper.wait(timeout=10) is not None


def test_another_process_with_the_same_id_is_left_alone(daemons):
    daemons.start("one", ["true"], os.environ)
    ended(daemons)
    with subprocess.Popen(["sleep", "99"], start_new_session=True) as other:
        created = psutil.Process(other.pid).create_time() - 60.0
        record = [{"name": "one", "pid": other.pid, "created": created}]
        (daemons.folder / "daemons.json").write_text(json.dumps(record))
        assert not daemons.states()[0].alive
        assert daemons.stop() == []
        assert other.poll() is None
        other.send_signal(signal.SIGKILL)
