"""Folder of this user on this machine, for what processes share and can make again."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def prepare_user_folder(purpose: str) -> Path:
    """Return the folder for a purpose below the folder of temporary files, and make it if needed.

    Raises:
        OSError: If it cannot be made, or other users could write to it.
    """
    folder = Path(tempfile.gettempdir(), f"cerebros_spark-{purpose}-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"other users can write to {folder}")
    return folder
