"""Files by commands, on a host that answers otherwise than its commands would."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import ListedFile
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import PIECE_BYTES, Command, Stopped, TransportError
from wps_hpc.clusters.transports.files import CommandFiles
from wps_hpc.clusters.transports.remote import Output


class Answering(CommandFiles):
    """Says the same to every command."""

    def __init__(self, stdout: bytes) -> None:
        self.stdout = stdout

    def output(self, command: Command, timeout: float) -> Output:
        """It was no command at all."""
        return Output(0, self.stdout, b"")

    def close(self) -> None:
        """Nothing is open."""


TOO_MUCH = base64.b64encode(bytes(11))


def test_more_than_was_wanted_is_refused() -> None:
    """Whoever fetches a file counts on it."""
    with pytest.raises(TransportError, match="11 bytes came, 10 were wanted"):
        Answering(bytes(11)).get_part("/a", 0, 10, 1)
    with pytest.raises(TransportError, match="more than 10 bytes"):
        Answering(b"+" + TOO_MUCH + b"\n").read_many(["/a"], 10, 1)


@pytest.mark.parametrize("said", [b"", b"\n\n", b"+\xff\n", b"+%%%\n", b"+AA\n-\n"])
def test_an_unreadable_answer_on_contents_is_an_error(said: bytes) -> None:
    with pytest.raises(TransportError):
        Answering(said).read_many(["/a"], 10, 1)


@pytest.mark.parametrize("said", [b"\n", b"\xff\xff\n", b" \n"])
def test_an_unreadable_answer_on_checksums_is_no_checksum(said: bytes) -> None:
    assert len(Answering(said).checksums(["/a"], 1)["/a"]) < 64


@pytest.mark.parametrize(
    "said", [b"/a\0", b"/a\0x\0f\0huge\0001\0", b"/a\0x\0f\0001\0never\0", b"/a\0x\0f\0" + b"9" * 5000 + b"\0001\0"]
)
def test_an_unreadable_listing_is_an_error(said: bytes) -> None:
    with pytest.raises(TransportError, match="unreadable listing"):
        Answering(said).list_folders(["/a"], 1)


class Counting(CommandFiles):
    """Takes everything; ``pieces`` is how many whole ones came."""

    def __init__(self) -> None:
        self.pieces = 0

    def output(self, command: Command, timeout: float) -> Output:
        """It is done, and says nothing."""
        self.pieces += len(command.stdin) == PIECE_BYTES
        return Output(0, b"", b"")

    def close(self) -> None:
        """Nothing is open."""


def test_a_job_that_is_dismissed_while_a_large_input_is_sent_sends_no_more_of_it(tmp_path: Path) -> None:
    line = Counting()
    folder = JobFolder(job_path(tmp_path, "12345678-1234-1234-1234-123456789012"))
    folder.path.mkdir(parents=True)
    folder.manifest.touch()
    with (folder.path / "large").open("wb") as file:
        file.truncate(6 * PIECE_BYTES)
    depot = Depot(line, tmp_path, "/far", 5.0)
    with pytest.raises(Stopped):
        depot.send(folder, [ListedFile("large", 6 * PIECE_BYTES, "0" * 64)], lambda: line.pieces == 2)
    assert line.pieces == 2
