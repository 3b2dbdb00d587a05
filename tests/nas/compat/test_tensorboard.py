"""The private attributes of TensorBoard that are used exist in the installed version."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.compat.tensorboard import event_file_path

tensorboard = pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")


def test_event_file_path(tmp_path: Path):
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    writer.close()
    version = f"TensorBoard {tensorboard.__version__}"
    assert Path(event_file_path(writer)) == next(tmp_path.iterdir()), version
