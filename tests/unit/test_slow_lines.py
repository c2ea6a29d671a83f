"""A line to a cluster that brings little: pieces of files have time enough, and keep no other command from running."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import ListedFile
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import PIECE_BYTES, PIECE_SECONDS, Command, Listed, TransportError
from wps_hpc.clusters.transports.remote import Exchange
from wps_hpc.clusters.transports.ssh import NoSession, NotBegun, SshTransport
from wps_hpc.config import Ssh

JOB = "12345678-1234-1234-1234-123456789012"
TRUE = Command(("true",))


class SlowLine(SshTransport):
    """What carries contents does not end before ``go``; any other command does at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Ssh(host="login", **settings))
        self.go = threading.Event()
        self.under_way = threading.Semaphore(0)

    def converse(self, exchange: Exchange, deadline: float) -> None:
        """See ``SshTransport``."""
        if exchange.command != TRUE:
            self.under_way.release()
            assert self.go.wait(60)
        begin, end = re.findall(r"wps-hpc-(?:begin|end)-\w+", exchange.line)
        exchange.took_out(f"{begin} yes\n\n{end} 0\n".encode())
        exchange.took_err(f"{begin}\n\n{end} 0\n".encode())

    def close(self) -> None:
        """Nothing is open."""


class BusyLine(SlowLine):
    """A login node without a session, whose last refusal does not come in time."""

    def converse(self, exchange: Exchange, deadline: float) -> None:
        """See ``SshTransport``."""
        if deadline - time.monotonic() > 0.5:
            raise NoSession("refused")
        time.sleep(max(0.0, deadline - time.monotonic()))
        raise NotBegun("no answer")


def test_a_login_node_that_gives_no_session_is_not_told_as_silent() -> None:
    with pytest.raises(TransportError, match="no more sessions \\(MaxSessions\\)") as raised:
        BusyLine().run(TRUE, 1.0)
    assert not raised.value.may_have_run


def fetch(line: SlowLine) -> object:
    """A piece of a file."""
    return line.get_part("/a", 0, 10, 60.0)


def send(line: SlowLine) -> object:
    """A small file, which is this one."""
    return line.put_many({"/a": Path(__file__)}, 60.0)


def hashed(line: SlowLine) -> object:
    """A file of any size is read to its end there; the answer that comes is none."""
    with pytest.raises(TransportError, match="0 answers"):
        line.checksums(["/a"], 60.0)
    return None


@pytest.mark.parametrize("carry", [fetch, send, hashed])
@pytest.mark.parametrize(("channels", "for_files"), [(8, 6), (3, 1)])
def test_contents_do_not_take_all_channels(carry: Callable[[SlowLine], object], channels: int, for_files: int) -> None:
    line = SlowLine(max_channels=channels)
    with ThreadPoolExecutor(8) as pool:
        carried = [pool.submit(carry, line) for _ in range(8)]
        try:
            for _ in range(for_files):
                assert line.under_way.acquire(timeout=30)
            assert line.run(TRUE, 1.0).exit_code == 0
            assert not line.under_way.acquire(blocking=False), "no more of them at once"
        finally:
            line.go.set()
        for each in carried:
            each.result()


def test_contents_travel_over_the_only_channel_too() -> None:
    line = SlowLine(max_channels=1)
    line.go.set()
    assert fetch(line) == b""


class Watch:
    """A file transport on which nothing is there; ``seconds`` is what contents were given."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def make_folders(self, *_: object) -> None:
        """See ``FileTransport``."""

    def list_folders(self, *_: object) -> Mapping[str, tuple[Listed, ...]]:
        """See ``FileTransport``."""
        return {}

    def put_many(self, files: Mapping[str, Path], timeout: float, *_: object) -> None:
        """See ``FileTransport``."""
        self.seconds.append(timeout)

    def get_part(self, source: str, offset: int, most: int, timeout: float) -> bytes:
        """See ``FileTransport``."""
        self.seconds.append(timeout)
        return b""


@pytest.mark.parametrize(("command", "piece"), [(5.0, PIECE_SECONDS), (500.0, 500.0)])
def test_a_piece_has_more_time_than_a_command(tmp_path: Path, command: float, piece: float) -> None:
    """A site that lets a scheduler answer within seconds has no faster line for that."""
    watch = Watch()
    depot = Depot(cast("Any", watch), tmp_path, "/far", command)
    folder = JobFolder(job_path(tmp_path, JOB))
    sizes = {"large": PIECE_BYTES, "small": 1}
    depot.send(folder, [ListedFile(name, size, "") for name, size in sizes.items()])
    depot.piece(JOB, "a", 0)
    assert watch.seconds == [piece] * 3
