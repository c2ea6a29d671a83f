"""How a command line reaches a cluster, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


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
