from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from _packing import package_archive, package_path
from _spark import address_towards

ROOT = Path(__file__).parents[2]
SUBMIT = ROOT / "scripts" / "submit.py"
QUICKSTART = str(ROOT / "scripts" / "quickstart.py")
MASTER = ["--master", "spark://127.0.0.1:7077"]


def submit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SUBMIT), *words], capture_output=True, text=True)


def shown(tmp_path: Path, *words: str) -> list[str]:
    """Return the command of a dry run, as its words."""
    done = submit("--cache", str(tmp_path), "--dry-run", *words)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    return shlex.split(done.stdout)


def after(words: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(words) if name == option]


def test_a_dry_run_shows_the_whole_command(tmp_path):
    words = shown(tmp_path, *MASTER, "--conf", "spark.task.cpus=2", QUICKSTART, "--epochs", "3")
    assert words[-3:] == [QUICKSTART, "--epochs", "3"]
    assert after(words, "--master") == ["spark://127.0.0.1:7077"]
    settings = set(after(words, "--conf"))
    assert {
        "spark.speculation=false",
        "spark.task.cpus=2",
        "spark.driver.host=127.0.0.1",
    } < settings
    (environment,), (packages,) = after(words, "--archives"), after(words, "--py-files")
    assert environment.startswith(f"file://{tmp_path}/environment-")
    assert environment.endswith(".tar.gz#environment")
    assert packages.startswith(f"{tmp_path}/packages-")
    assert "PYSPARK_PYTHON=./environment/bin/python" in words
    assert f"PYSPARK_DRIVER_PYTHON={sys.executable}" in words
    assert "SPARK_LOCAL_IP=127.0.0.1" in words
    assert [word for word in words if word.startswith("JAVA_HOME=")]
    assert [word for word in words if word.startswith("SPARK_HOME=")]


def test_without_a_java_nothing_is_packed(tmp_path):
    words = [*MASTER, "--cache", str(tmp_path), QUICKSTART]
    environment = {**os.environ, "JAVA_HOME": "/no/java"}
    done = subprocess.run(
        [sys.executable, str(SUBMIT), *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert "/no/java" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_space_is_told_as_a_url(tmp_path):
    folder = tmp_path / "a b"
    folder.mkdir()
    (environment,) = after(shown(folder, *MASTER, QUICKSTART), "--archives")
    assert environment.startswith(f"file://{tmp_path}/a%20b/environment-")


def test_an_address_that_is_another_machines_name_is_told_and_not_listened_on(tmp_path):
    words = shown(tmp_path, *MASTER, "--host", "gateway", QUICKSTART)
    assert "spark.driver.host=gateway" in after(words, "--conf")
    assert not [word for word in words if word.startswith("SPARK_LOCAL_IP")]


def test_a_python_that_is_there_already_needs_no_archive(tmp_path):
    words = shown(tmp_path, *MASTER, "--python", "/opt/python", QUICKSTART)
    assert "PYSPARK_PYTHON=/opt/python" in words
    assert not after(words, "--archives")


@pytest.mark.parametrize(
    ("kind", "master"), [("yarn", "yarn"), ("kubernetes", "k8s://https://HOST:PORT")]
)
def test_for_other_clusters_the_command_is_only_shown(tmp_path, kind, master):
    done = submit("--cache", str(tmp_path), "--for", kind, QUICKSTART)
    words = shlex.split(done.stdout)
    assert after(words, "--master") == [master]
    assert ("spark.kubernetes.container.image=IMAGE" in words) == (kind == "kubernetes")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*MASTER, "nowhere.py"], "there is no file 'nowhere.py'"),
        ([*MASTER, "--conf", "spark.speculation", QUICKSTART], "--conf spark.speculation: write"),
        (["--master", "spark://no.such.host.invalid:1", QUICKSTART], "no.such.host.invalid"),
        (["--folder", "nothing-here", QUICKSTART], "no cluster was started in"),
    ],
)
def test_what_cannot_work_is_named(tmp_path, words, message):
    done = submit("--cache", str(tmp_path), *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_driver_is_found_at_its_address_towards_the_master():
    assert address_towards("spark://127.0.0.1:7077,127.0.0.1:7078") == "127.0.0.1"
    assert address_towards("local[2]") == "127.0.0.1"
    assert address_towards("yarn") is None


def test_packages_are_archived_once_for_each_change(tmp_path):
    source, cache = tmp_path / "source", tmp_path / "cache"
    for name in ("cerebros_spark", "nas/spaces"):
        (source / name).mkdir(parents=True)
        (source / name / "one.py").write_text("one = 1\n")
    first = package_archive(source, cache)
    assert sorted(zipfile.ZipFile(first).namelist()) == [
        "cerebros_spark/one.py",
        "nas/spaces/one.py",
    ]
    made = first.stat().st_mtime_ns
    assert package_archive(source, cache) == first == package_path(source, cache)
    assert first.stat().st_mtime_ns == made
    (source / "nas" / "spaces" / "one.py").write_text("one = 2\n")
    second = package_archive(source, cache)
    assert list(cache.iterdir()) == [second]
    assert second != first


def test_an_environment_is_packed_once_and_runs_elsewhere(small_environment, tmp_path):
    python, environment = small_environment
    code = (
        f"import sys; sys.path.insert(0, {str(SUBMIT.parent)!r})\n"
        "import pathlib, _packing\n"
        "print(_packing.environment_archive(pathlib.Path(sys.argv[1])))\n"
    )
    words = [str(python), "-c", code, str(tmp_path / "cache")]
    outputs = [subprocess.check_output(words, env=environment, text=True) for _ in range(2)]
    assert outputs[0] == outputs[1]
    (archive,) = (tmp_path / "cache").iterdir()
    assert str(archive) == outputs[0].strip()
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "there", filter="fully_trusted")
    moved = str(tmp_path / "there" / "bin" / "python")
    prefix = subprocess.check_output([moved, "-c", "import sys; print(sys.prefix)"], text=True)
    assert prefix.strip() == str(tmp_path / "there")


def test_a_python_outside_of_an_environment_cannot_be_packed(small_environment, tmp_path):
    _, environment = small_environment
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    done = subprocess.run(
        [str(base), str(SUBMIT), "--cache", str(tmp_path), *MASTER, QUICKSTART],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "is not in a virtual environment" in done.stderr
