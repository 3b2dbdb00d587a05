from __future__ import annotations

import errno
import time

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from cerebros_spark.core.errors import StoreError
from cerebros_spark.storage.store import Store
from tests.cerebros_spark.faulty import FULL, files

pytestmark = pytest.mark.usefixtures("no_waiting")


class FlakyFileSystem(LocalFileSystem):
    """A fake: a local file system whose calls fail the first times, some half done."""

    protocol = "flaky"
    cachable = False
    error: OSError = FULL
    left = 0

    @classmethod
    def fail(cls, times: int, error: OSError = FULL) -> None:
        cls.left, cls.error = times, error

    def _fault(self) -> None:
        if type(self).left > 0:
            type(self).left -= 1
            raise self.error

    def cat_file(self, path, **more):
        self._fault()
        return super().cat_file(path, **more)

    def pipe_file(self, path, value, **more):
        super().pipe_file(path, value[: len(value) // 2])
        self._fault()
        super().pipe_file(path, value, **more)

    def find(self, path, **more):
        self._fault()
        return super().find(path, **more)

    def rm(self, path, **more):
        self._fault()
        super().rm(path, **more)

    def _open(self, path, mode="rb", **more):
        if mode == "ab" and type(self).left > 0:
            with super()._open(path, mode, **more) as file:
                file.write(b"half")
        self._fault()
        return super()._open(path, mode, **more)


@pytest.fixture
def flaky(tmp_path) -> Store:
    fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)
    FlakyFileSystem.fail(0)
    store = Store.create(f"flaky://{tmp_path}")
    store.write("log", b"old")
    return store


CALLS = {
    "read": lambda store: store.read("log") == b"old",
    "write": lambda store: store.write("log", b"new"),
    "append to": lambda store: store.append("log", b"half and half", at=3),
    "list": lambda store: store.list("") == ["log"],
    "delete": lambda store: store.delete("log"),
}


@pytest.mark.parametrize("doing", CALLS)
@pytest.mark.parametrize("error", [FULL, PermissionError(errno.EACCES, "Permission denied")])
def test_transient_errors_are_retried(flaky, caplog, doing, error):
    FlakyFileSystem.fail(2, error)
    assert CALLS[doing](flaky) is not False
    FlakyFileSystem.fail(0)
    assert f"cannot {doing} '" in caplog.text
    assert "try 2 of 4" in caplog.text
    after = {"write": b"new", "append to": b"oldhalf and half"}.get(doing, b"old")
    if doing == "delete":
        assert files(flaky) == []
    else:
        assert flaky.read("log") == after
        assert files(flaky) == ["log"]


@pytest.mark.parametrize("doing", CALLS)
def test_lasting_errors_are_raised_after_the_last_try(flaky, doing):
    for error, advice in [
        (FULL, "free space there"),
        (PermissionError(errno.EACCES, "Permission denied"), "check the permissions there"),
    ]:
        FlakyFileSystem.fail(99, error)
        # This fake lets nothing be put back either.
        left = "; some of the new bytes may be left after the first 3" if "app" in doing else ""
        message = (
            rf"cannot {doing} '.*' in flaky://.* \(4 tries\): .*{error.strerror}; {advice}{left}$"
        )
        with pytest.raises(StoreError, match=message) as caught:
            CALLS[doing](flaky)
        cause = caught.value.__cause__
        assert (cause.__cause__ if left else cause) is error
        FlakyFileSystem.fail(0)
        if left:
            assert flaky.read("log") == b"oldhalf"
            flaky.write("log", b"old")
    assert flaky.read("log") == b"old"
    assert files(flaky) == ["log"]


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "gone"), IsADirectoryError(21, "a folder"), ValueError("odd")]
)
def test_permanent_errors_are_raised_at_once(flaky, caplog, error):
    FlakyFileSystem.fail(1, error)
    with pytest.raises(StoreError, match=r"cannot read 'log' in flaky://.*(gone|folder|odd)"):
        flaky.read("log")
    assert "tries" not in caplog.text
    assert not caplog.records


def test_waits_grow_without_jitter(flaky, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(Store, "first_wait", 0.1)
    FlakyFileSystem.fail(99)
    with pytest.raises(StoreError):
        flaky.read("log")
    FlakyFileSystem.fail(0)
    assert waits == pytest.approx([0.1, 0.4, 1.6])
