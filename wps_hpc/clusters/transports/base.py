"""How a command line reaches a cluster, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Command:
    """A command line: one argv (never a shell string), standard input, and environment on top of the cluster's."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    env: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end: exit code (negative: killed by that signal), and both streams."""

    exit_code: int
    stdout: str
    stderr: str


class TransportError(Exception):
    """The command could not be run, or its end was not seen. It may or may not have had its effect.

    ``may_have_run`` is false only when it certainly did not start (no such program, no connection).
    """

    def __init__(self, text: str, *, may_have_run: bool) -> None:
        super().__init__(text)
        self.may_have_run = may_have_run


class NoSuchProgram(TransportError):
    """There is no such program where the command was to run."""

    def __init__(self, text: str) -> None:
        super().__init__(text, may_have_run=False)


class NoSuchFile(TransportError):
    """There is no such file, or it is not a regular one."""

    def __init__(self, text: str) -> None:
        super().__init__(text, may_have_run=False)


class Unreadable(TransportError):
    """Some folder is there, and cannot be read by the connection's account."""

    def __init__(self, text: str) -> None:
        super().__init__(text, may_have_run=False)


class Stopped(Exception):
    """Nobody wants the transfer any more."""


class ChangeFeed(Protocol):
    """Tells that some job of the cluster has ended, so that the watcher asks at once instead of at its interval.

    It says only «ask now»: what became of which job is the query's to tell. Opened before a query, it misses nothing.
    """

    def fileno(self) -> int:
        """A descriptor for select: readable when there is news, and when the feed has ended."""

    def news(self) -> bool:
        """Take the news in, so that the descriptor is quiet again; False when the feed has ended: open another one."""

    def close(self) -> None:
        """Let go of it."""


class Transport(Protocol):
    """Runs commands and carries files; knows no scheduler. One object per cluster, used by several threads at once."""

    def run(self, command: Command, timeout: float) -> Completed:
        """Run ``command`` and return its outcome within ``timeout`` seconds, or raise TransportError.

        Called by the worker for every scheduler command. A command still running at its deadline is killed where the
        transport can.
        """

    def put(self, source: Path, target: str) -> None:
        """Copy a local file to the cluster's path ``target``, whole or not at all."""

    def get(self, source: str, target: Path) -> None:
        """Copy the cluster's file ``source`` to a local path, whole or not at all."""

    def changes(self, timeout: float) -> ChangeFeed | None:
        """A new feed of changes, opened within ``timeout`` seconds; None where there is none, now or ever."""

    def close(self) -> None:
        """Let go of connections; the transport is not used again."""


class Kind(StrEnum):
    """What a name in a folder stands for."""

    FILE = "file"
    FOLDER = "folder"
    OTHER = "other"


@dataclass(frozen=True)
class Listed:
    """A name below a listed folder.

    ``path`` is relative to that folder, with ``/`` between its parts; ``size`` is in bytes; ``modified`` in Unix
    seconds by the other host's clock. A symbolic link is OTHER and never followed.
    """

    path: str
    kind: Kind
    size: int
    modified: float


#: A file travels in pieces of so many bytes, each of which gets the whole of an operation's ``timeout``. One that comes
#: too late is thrown away: with what else travels, a slow line must bring one in time.
PIECE_BYTES = 1 << 20
#: The time for each piece at least, in seconds.
PIECE_SECONDS = 120.0


@runtime_checkable
class FileTransport(Transport, Protocol):
    """A transport that carries whole job folders: what staging needs where the nodes see another file system.

    Every path on the other side is absolute. Every operation may be repeated, so none is ever in doubt: what raises
    TransportError is simply done again. ``timeout`` is the longest time, in seconds, for the operation; for one that
    moves contents, for each piece of PIECE_BYTES, once it is its turn. What is made belongs to the connection's account
    alone (folders 0700, files 0600, or 0700 where the source may be executed). Used by several threads at once.
    """

    def make_folders(self, folders: Sequence[str], timeout: float) -> None:
        """Make these folders and what is missing above them; one that is there already is left as it is."""

    def put_many(self, files: Mapping[str, Path], timeout: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Copy local files to the other side: target to source. Each arrives whole, under its name at once, or not.

        Called before a submission, with all of a job's files. What was there under a name is replaced; the targets'
        folders have to be there. Small files share one round trip. On a failure some may have arrived. Raises Stopped
        when ``stop``, which is asked before each piece, says so.
        """

    def list_folders(
        self, folders: Sequence[str], timeout: float, depth: int = 1, only: str | None = None
    ) -> Mapping[str, tuple[Listed, ...]]:
        """What is in each of these folders, ``depth`` levels deep, in one round trip for all of them together.

        Called for all jobs of a cluster at once. A folder that is not there is not in the answer; an empty one is, with
        nothing. What goes away meanwhile is left out. Raises Unreadable when some of it cannot be looked into: nothing
        is said then, not even of the others. ``only`` is an extended regular expression for the end of a path, as POSIX
        and Python have in common: what does not match is left out there, however much it is.
        """

    def open_folders(self, folders: Sequence[str], timeout: float, depth: int = 1) -> None:
        """Let the account look into its own folders, as deep as ``list_folders`` does; what it cannot open stays."""

    def read_many(self, files: Sequence[str], most: int, timeout: float) -> Mapping[str, bytes]:
        """The contents of small files, in one round trip; of a larger one its first ``most`` bytes.

        A file that is not there, is no regular one, or cannot be read, is not in the answer.
        """

    def get_part(self, source: str, offset: int, most: int, timeout: float) -> bytes:
        """At most ``most`` bytes of a file from ``offset`` on; fewer only at its end. Raises NoSuchFile.

        For what grows (a log), and to go on with a download where it was cut off.
        """

    def checksums(self, files: Sequence[str], timeout: float) -> Mapping[str, str]:
        """The SHA-256 of each file, in hexadecimal, worked out there; what is no regular file is not in the answer."""

    def remove_trees(self, paths: Sequence[str], timeout: float) -> None:
        """Remove files, and folders with all that is in them; links are removed, not followed. What is gone is gone."""
