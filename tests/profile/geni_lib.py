"""geni-lib, on which CloudLab's profiles are written, made to run on this Python.

What PyPI has of it is Python 2 source. It is converted into a folder of the test's own.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.9.9.4"
# What it imports besides; six is installed with this project.
NEEDS = ("lxml>=5,<7",)


class NoGeniLibError(Exception):
    """Why geni-lib can't be had here."""


def install(folder: Path) -> Path:
    """Downloads and converts it; gives the folder to put on Python's path.

    Raises:
        NoGeniLibError: If it can't be downloaded or converted here.
    """
    target = folder / "geni-lib"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    source = ["--no-deps", "--no-binary", "geni-lib", "--no-build-isolation"]
    _run([*pip, "download", *source, "--dest", str(folder), f"geni-lib=={VERSION}"])
    _run([*pip, "install", "--target", str(target), "--only-binary", ":all:", *NEEDS])
    with tarfile.open(folder / f"geni-lib-{VERSION}.tar.gz") as archive:
        wanted = f"geni-lib-{VERSION}/geni/"
        members = [each for each in archive.getmembers() if each.name.startswith(wanted)]
        # Python 3.11.3 and older have no filters.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, members, **safe)
    (folder / f"geni-lib-{VERSION}" / "geni").rename(target / "geni")
    convert = [sys.executable, "-W", "ignore", "-m", "lib2to3", "--write", "--nobackups"]
    # The only one that profiles need which Python 3 does not read.
    _run([*convert, "--no-diffs", str(target / "geni" / "portal.py")])
    path = target / "geni" / "rspec" / "pg.py"
    text = path.read_text()
    changed = text.replace("f.write(buf)", "f.write(buf.decode())")
    assert changed != text
    path.write_text(changed)
    return target


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise NoGeniLibError(f"{' '.join(command[1:4])}: {done.stderr.strip()[-500:]}")
