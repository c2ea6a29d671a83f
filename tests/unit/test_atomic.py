"""Files that are replaced in one step, whatever lies where the draft of one is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from joblauncher.formats.atomic import write_atomic


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
def test_what_lies_where_the_draft_goes_is_neither_followed_nor_waited_for(tmp_path: Path, kind: str) -> None:
    """The spooler writes an ``exit`` where a job can write, too; and a process that died may have left a draft."""
    draft, elsewhere = tmp_path / f".exit.{os.getpid()}.tmp", tmp_path / "elsewhere"
    elsewhere.write_text("elsewhere")
    if kind == "file":
        draft.hardlink_to(elsewhere)
    if kind == "link":
        draft.symlink_to(elsewhere)
    if kind == "fifo":
        os.mkfifo(draft)
    # With a reader, so that nobody would wait for one.
    reader = os.open(draft, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(tmp_path / "exit", "ended")
    finally:
        os.close(reader)
    assert (tmp_path / "exit").is_file() and (tmp_path / "exit").read_text() == "ended"
    assert elsewhere.read_text() == "elsewhere" and not os.path.lexists(draft)


def test_a_folder_in_that_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / f".exit.{os.getpid()}.tmp").mkdir()
    with pytest.raises(OSError, match="exit"):
        write_atomic(tmp_path / "exit", "ended")
    assert not (tmp_path / "exit").exists()
