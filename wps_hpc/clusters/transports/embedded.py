"""Commands for the embedded spooler, by its Unix socket; it is started when nobody answers there."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wps_hpc.clusters.environment import clean_environment
from wps_hpc.clusters.spooler import wire
from wps_hpc.clusters.spooler.commands import Exit
from wps_hpc.clusters.spooler.daemon import python_argv
from wps_hpc.clusters.spooler.fingerprint import fingerprint
from wps_hpc.clusters.spooler.spool import Spool
from wps_hpc.clusters.transports.base import ChangeFeed, Command, Completed, TransportError
from wps_hpc.clusters.transports.local import copy_whole

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.02


class SpoolerFeed:
    """The spooler's word that some job has ended. See ``ChangeFeed``."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._connection.fileno()

    def news(self) -> bool:
        """Take in what has come; False when the spooler is gone."""
        try:
            while part := self._connection.recv(4096):
                del part
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()


class EmbeddedTransport:
    """Talks to the spooler of one spool folder. Each command has a connection of its own, so threads do not meet."""

    def __init__(self, run: Path) -> None:
        self._spool = Spool(run.absolute())
        # Read now: what the disk holds later may be newer than this process. None: take the spooler as it is.
        self._fingerprint: str | None = fingerprint()

    def run(self, command: Command, timeout: float) -> Completed:
        """Have ``command`` carried out by the spooler. See ``Transport.run``."""
        if command.env:
            raise TransportError("the spooler's commands take no environment", may_have_run=False)
        connection, completed = self._ask(command, time.monotonic() + timeout)
        connection.close()
        return completed

    def changes(self, timeout: float) -> ChangeFeed | None:
        """A feed of ended jobs; None when the spooler cannot be reached now."""
        try:
            connection, completed = self._ask(Command(("changes",)), time.monotonic() + timeout)
        except TransportError as error:
            log.warning("no feed of changes: %s", error)
            return None
        if completed.exit_code == Exit.OK:
            return SpoolerFeed(connection)
        connection.close()
        return None

    def put(self, source: Path, target: str) -> None:
        """Copy a file, whole or not at all; raises TransportError."""
        copy_whole(source, Path(target))

    def get(self, source: str, target: Path) -> None:
        """Copy a file, whole or not at all; raises TransportError."""
        copy_whole(Path(source), target)

    def close(self) -> None:
        """Nothing is kept open; the spooler and its jobs stay."""

    def stop(self, timeout: float, *, detach: bool = False) -> bool:
        """End the spooler if it has no running job, or leave its jobs to the next one (``detach``).

        Returns whether no spooler is left. It is not started for this; raises TransportError when it does not answer.
        """
        deadline = time.monotonic() + timeout
        connection = self._reach(deadline)
        if connection is None:
            return True
        with connection:
            argv = ("shutdown", "--detach") if detach else ("shutdown",)
            stopped = _completed(_exchange(connection, Command(argv), None, deadline)).exit_code == 0
            return stopped and _saw_end(connection, deadline)

    def _ask(self, command: Command, deadline: float) -> tuple[socket.socket, Completed]:
        """The outcome of a command and the connection, still open, that it came by."""
        connection = self._connect(deadline)
        message = _exchange(connection, command, self._fingerprint, deadline)
        if "other" in message:
            connection.close()
            self._upgrade(deadline)
            connection = self._connect(deadline)
            message = _exchange(connection, command, None, deadline)
        return connection, _completed(message)

    def _upgrade(self, deadline: float) -> None:
        """Ask the spooler, once, for the code on disk: what answers afterwards is at least as new as this process."""
        self._fingerprint = None
        with self._connect(deadline) as connection:
            answer = _completed(_exchange(connection, Command(("upgrade",)), None, deadline))
        log.info("asked the spooler for the code on disk: %s", answer.stdout or answer.stderr)

    def _connect(self, deadline: float) -> socket.socket:
        return self._reach(deadline) or self._start(deadline)

    def _reach(self, deadline: float) -> socket.socket | None:
        """A connection to the spooler; None when there is none. Raises TransportError when there is something else."""
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                with wire.short_address(self._spool.socket) as address:
                    connection.connect(address)
                return _trusted(connection)
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                return None
            except BlockingIOError:  # its queue of new connections is full, unix(7)
                connection.close()
                _pause(deadline)
            except OSError as error:
                connection.close()
                raise TransportError(f"{self._spool.socket}: {error}", may_have_run=False) from error

    def _start(self, deadline: float) -> socket.socket:
        """Start a spooler, unless another process has just done so; returns a connection to it."""
        _make_private(self._spool.run)
        try:
            with FileLock(self._spool.start_lock, timeout=max(0.0, deadline - time.monotonic())):
                while (connection := self._reach(deadline)) is None:
                    self._launch(deadline)
                return connection
        except Timeout as error:
            raise TransportError("another process is starting the spooler", may_have_run=False) from error
        except OSError as error:  # the lock file cannot be made: a full disk, say
            raise TransportError(f"the spooler cannot be started: {error}", may_have_run=False) from error

    def _launch(self, deadline: float) -> None:
        try:
            with self._spool.log.open("ab") as said:
                done = subprocess.run(
                    python_argv("--run", str(self._spool.run)),
                    env=clean_environment(),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=max(0.001, deadline - time.monotonic()),
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransportError(f"the spooler did not start: {error}", may_have_run=False) from error
        if done.returncode not in (Exit.OK, Exit.NOT_NOW):
            raise TransportError(f"the spooler did not start; see {self._spool.log}", may_have_run=False)
        if done.returncode == Exit.NOT_NOW:  # one that is just ending still holds the lock
            _pause(deadline)


def _exchange(
    connection: socket.socket, command: Command, fingerprint: str | None, deadline: float
) -> Mapping[str, Any]:
    request = wire.Request(command.argv, command.stdin, fingerprint)
    try:
        wire.send(connection, request.message(), deadline)
        return wire.receive(connection, deadline)
    except (OSError, wire.WireError) as error:
        connection.close()
        raise TransportError(f"no answer from the spooler: {error}", may_have_run=True) from error


def _completed(message: Mapping[str, Any]) -> Completed:
    try:
        return Completed(int(message["exit_code"]), str(message["stdout"]), str(message["stderr"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TransportError(f"no answer of a spooler: {message!r:.200}", may_have_run=True) from error


def _trusted(connection: socket.socket) -> socket.socket:
    account = wire.peer_account(connection)
    if account != os.geteuid():
        connection.close()
        raise TransportError(f"a process of account {account} poses as the spooler", may_have_run=False)
    return connection


def _saw_end(connection: socket.socket, deadline: float) -> bool:
    """Whether the spooler has let go of its socket: it does so last."""
    try:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def _make_private(folder: Path) -> None:
    """Make the spool folder, or see that it is this account's alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise TransportError(f"the spool folder cannot be made: {error}", may_have_run=False) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        text = f"{folder} belongs to account {found.st_uid} or others may write there: a spooler needs its own folder"
        raise TransportError(text, may_have_run=False)


def _pause(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TransportError("the spooler cannot be reached in time", may_have_run=False)
    time.sleep(_PAUSE_SECONDS)
