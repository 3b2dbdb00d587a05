"""Access to private attributes of TensorBoard, verified with version 2.21.0."""

from __future__ import annotations

from typing import Any


def event_file_path(writer: Any) -> str:
    """Return the path of the event file that an ``EventFileWriter`` writes."""
    return str(writer._file_name)
