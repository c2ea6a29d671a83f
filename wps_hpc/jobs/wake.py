"""Waking each other: accept wakes the worker, and the worker wakes web processes that wait for a job.

Every listener is a Unix datagram socket in the folder for sockets, which only the server's account may enter. Whoever
rings sends the job ids to all sockets of that kind and never waits: a bell that is not heard costs nothing but time,
because every listener looks at the database at intervals, too. With PostgreSQL, where web processes and workers may be
on several hosts, each ring is also a NOTIFY, and each process with listeners hands on what it LISTENs to.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import socket
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from wps_hpc.jobs.database import Database

log = logging.getLogger(__name__)

#: The channel of NOTIFY.
CHANNEL = "wps_hpc"
#: Job ids in one message: a NOTIFY holds less than 8000 bytes.
_TOGETHER = 100
_SUFFIX = ".bell"
_WORKER, _JOB = "worker", "job"
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")
#: Pause before the database is asked again for a connection to LISTEN on, in seconds.
_AGAIN_S = 2.0
_LISTEN_S = 1.0


class Listener:
    """One who waits to be woken. Close it after use; it is also a context manager that does so."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind(_address(folder, name))

    def fileno(self) -> int:
        """A descriptor that becomes readable when the bell rings, for ``select``."""
        return self._socket.fileno()

    def wait(self, timeout: float) -> set[str] | None:
        """The job ids that were rung for (there may be none), or None if ``timeout`` seconds passed in silence."""
        if not select.select([self._socket], [], [], max(0.0, timeout))[0]:
            return None
        return {job_id for message in self._messages() for job_id in message.split()}

    @property
    def deaf(self) -> bool:
        """The folder was removed, so that nobody who rings finds this listener any more: make another one."""
        return os.fstat(self._folder).st_nlink == 0

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()
        _remove(self._folder, self._name)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _messages(self) -> Iterator[str]:
        while True:
            try:
                yield self._socket.recv(8192).decode("ascii", "replace")
            except BlockingIOError:
                return


class Bell:
    """Rings for the listeners of one server. ``folder`` is ``settings.storage.run``; it is made if missing.

    ``database`` is given so that other hosts hear, too, if it is PostgreSQL.
    """

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        self._path = folder
        self._folder = _opened(folder)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._database = database if database is not None and database.dialect == "postgresql" else None
        self._relay: _Relay | None = None
        self._lock = threading.Lock()

    def ring(self, job_ids: Collection[str]) -> None:
        """Wake those who wait for one of these jobs. Never waits, never fails."""
        for some in _portions(job_ids):
            self._ring(_JOB, some)

    def ring_worker(self, job_ids: Collection[str] = ()) -> None:
        """Wake the workers, because of these jobs. Never fails, and waits for the database alone (PostgreSQL)."""
        for some in _portions(job_ids) or [[]]:
            self._ring(_WORKER, some)

    def worker_listener(self) -> Listener:
        """A listener for what workers are woken for."""
        return self._listener(_WORKER)

    def job_listener(self, job_id: str) -> Listener:
        """A listener for what happens to one job."""
        return self._listener(f"{_JOB}.{job_id}")

    def close(self) -> None:
        """Neither ring nor hand on any more."""
        if self._relay is not None:
            self._relay.stop()
        self._socket.close()
        os.close(self._folder)

    def hand_on(self, payload: str) -> None:
        """Ring on this host for what was rung on another."""
        kind, *job_ids = payload.split()
        self._ring_here(kind, job_ids)

    def _ring(self, kind: str, job_ids: Collection[str]) -> None:
        self._ring_here(kind, job_ids)
        if self._database is not None:
            self._notify(" ".join((kind, *job_ids)))

    def _ring_here(self, kind: str, job_ids: Collection[str]) -> None:
        wanted = {_WORKER} if kind == _WORKER else {f"{_JOB}.{job_id}" for job_id in job_ids}
        message = " ".join(job_ids).encode()
        for name in self._listening():
            if name.removesuffix(_SUFFIX).rpartition(".")[0] in wanted:
                self._send(name, message)

    def _current(self) -> int:
        """The descriptor of the folder, which somebody (a cleaner of temporary files, say) may have removed."""
        if os.fstat(self._folder).st_nlink == 0:
            log.warning("%s was removed while the server ran; it is made again", self._path)
            # The former one stays open: other threads may be about to use it.
            self._folder = _opened(self._path)
        return self._folder

    def _listening(self) -> list[str]:
        try:
            with os.scandir(self._current()) as found:
                return [entry.name for entry in found if entry.name.endswith(_SUFFIX)]
        except OSError as error:
            log.warning("nobody on this host is woken: %s", error)
            return []

    def _send(self, name: str, message: bytes) -> None:
        try:
            self._socket.sendto(message, _address(self._folder, name))
        except ConnectionRefusedError:
            _remove(self._folder, name)  # its process was killed
        except OSError as error:
            # A full queue (it will wake up anyway), or gone between listing and sending.
            log.debug("%s does not hear: %s", name, error)

    def _notify(self, payload: str) -> None:
        assert self._database is not None
        try:
            with self._database.engine.begin() as connection:
                connection.execute(_NOTIFY, {"channel": CHANNEL, "payload": payload})
        except SQLAlchemyError as error:
            log.warning("other hosts are not woken: %s", error)

    def _listener(self, topic: str) -> Listener:
        self._relaying()
        return Listener(self._current(), f"{topic}.{os.getpid()}-{secrets.token_hex(6)}{_SUFFIX}")

    def _relaying(self) -> None:
        """Hear other hosts from now on. Started with the first listener: a thread would not survive the fork before."""
        if self._database is None:
            return
        with self._lock:
            if self._relay is None or not self._relay.is_alive():
                self._relay = _Relay(self, self._database)
                self._relay.start()
                self._relay.ready.wait(_AGAIN_S)


class _Relay(threading.Thread):
    """Hands on what is notified in the database to the listeners of this host."""

    def __init__(self, bell: Bell, database: Database) -> None:
        super().__init__(name="bell", daemon=True)
        self._bell = bell
        self._address = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._stopped = threading.Event()
        #: Set once the database has been told to send.
        self.ready = threading.Event()

    def stop(self) -> None:
        """End within a second or so."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Listen, and connect again when the connection breaks."""
        import psycopg  # only here: SQLite needs no driver

        while not self._stopped.is_set():
            try:
                with psycopg.connect(self._address, autocommit=True, connect_timeout=5) as connection:
                    self._listen(connection)
            except psycopg.Error as error:
                log.warning("what other hosts ring is not heard: %s", error)
                self._stopped.wait(_AGAIN_S)

    def _listen(self, connection: object) -> None:
        import psycopg

        assert isinstance(connection, psycopg.Connection)
        connection.execute(f"LISTEN {CHANNEL}")
        self.ready.set()
        while not self._stopped.is_set():
            for notified in connection.notifies(timeout=_LISTEN_S):
                self._bell.hand_on(notified.payload)


def _portions(job_ids: Collection[str]) -> list[list[str]]:
    ordered = list(job_ids)
    return [ordered[start : start + _TOGETHER] for start in range(0, len(ordered), _TOGETHER)]


def _opened(folder: Path) -> int:
    """A descriptor of the folder, made if missing: its path may be longer than the 108 bytes of a socket's name."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _address(folder: int, name: str) -> str:
    return f"/proc/self/fd/{folder}/{name}"


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return
