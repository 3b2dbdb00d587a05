"""Per-user cache folder on this machine, for files that processes share and can regenerate."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def prepare_user_folder(purpose: str) -> Path:
    """Return the user's folder for ``purpose`` in the temporary folder; create it if it is missing.

    Raises:
        OSError: If it cannot be created, or is not private to this user.
    """
    folder = Path(tempfile.gettempdir(), f"cerebros_spark-{purpose}-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise OSError(f"other users can write to {folder}")
    return folder
