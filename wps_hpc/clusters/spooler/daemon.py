"""The spooler's process: one for each spool folder, one thread, one loop.

Upgrade: a client that runs other code (see ``fingerprint``) asks for it by ``upgrade``. The spooler first lets the
code on disk start and say who it is, then executes it in its own place, keeping its pid, its socket and its lock: the
running jobs stay its children, and clients that connect meanwhile only wait. Code that does not start changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from wps_hpc.clusters.spooler import wire
from wps_hpc.clusters.spooler.clients import Clients, Reply, completed_reply
from wps_hpc.clusters.spooler.commands import Commands, Exit
from wps_hpc.clusters.spooler.fingerprint import fingerprint
from wps_hpc.clusters.spooler.jobs import Jobs
from wps_hpc.clusters.spooler.proc import become_subreaper
from wps_hpc.clusters.spooler.spool import Spool
from wps_hpc.clusters.transports.base import Completed

log = logging.getLogger(__name__)

MODULE = "wps_hpc.clusters.spooler"
#: How often the spooler looks whether it can still be reached, and forgets what is old. Seconds.
_HOUSEKEEPING_SECONDS = 2.0
#: Without jobs and clients for so long, a spooler ends; the next command starts another. Seconds.
IDLE_SECONDS = 600.0
#: How long the code on disk may take to say who it is; the last clients' time to take their answers. Seconds.
_PROBE_SECONDS = 20.0
_PARTING_SECONDS = 1.0


def python_argv(*arguments: str) -> tuple[str, ...]:
    """The command line of a spooler of this Python. ``-P``: nothing is imported from the current directory."""
    return (sys.executable, "-P", "-m", MODULE, *arguments)


class Daemon:
    """Serves one spool folder through a listening socket until it is told to stop.

    ``lock`` is the descriptor whose lock makes this process the folder's only spooler.
    """

    def __init__(self, spool: Spool, listener: socket.socket, lock: int) -> None:
        self._spool = spool
        self._listener = listener
        self._lock = lock
        self._address = _inode(spool.socket)
        self._selector = selectors.DefaultSelector()
        self._clients = Clients(self._selector, self._answer)
        self._jobs = Jobs(spool, self._selector, self._clients.announce)
        identity = {"version": metadata.version("wps-hpc"), "pid": os.getpid(), "fingerprint": fingerprint()}
        self._commands = Commands(self._jobs, identity, self._stop)
        self._stopping: float | None = None
        self._upgrading = False
        self._next_housekeeping = 0.0
        self._busy_at = time.monotonic()

    def serve(self) -> None:
        """Run until a shutdown, SIGTERM, long idleness, or the socket's disappearance; or turn into newer code."""
        become_subreaper()
        self._take_signals()
        self._jobs.adopt_all()
        self._clients.listen_on(self._listener)
        while not self._over():
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._jobs.look_after()
            self._keep_house()
        if self._upgrading:
            self._become_newer()
        if self._reachable():
            self._spool.socket.unlink()
        self._clients.close()
        log.info("spooler ends; %d jobs go on", self._jobs.running)

    def _take_signals(self) -> None:
        wake, woken = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        self._selector.register(woken, selectors.EVENT_READ, lambda: self._woken(woken, wake))
        signal.signal(signal.SIGTERM, lambda number, frame: self._stop())
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _woken(self, woken: socket.socket, wake: socket.socket) -> None:
        # The handler itself has run by now; ``wake`` is held here so that it stays open.
        woken.recv(1024)

    def _stop(self) -> None:
        self._stopping = self._stopping or time.monotonic()

    def _over(self) -> bool:
        if self._stopping is None and not self._upgrading:
            return False
        parting = self._stopping is None or time.monotonic() < self._stopping + _PARTING_SECONDS
        return not (self._clients.waiting and parting)

    def _patience(self) -> float:
        looks = (self._next_housekeeping, self._jobs.next_look())
        return max(0.0, min(look for look in looks if look is not None) - time.monotonic())

    def _keep_house(self) -> None:
        if time.monotonic() < self._next_housekeeping:
            return
        self._next_housekeeping = time.monotonic() + _HOUSEKEEPING_SECONDS
        self._jobs.drop_old()
        self._clients.drop_silent()
        if self._jobs.running:
            self._busy_at = time.monotonic()
        elif not self._reachable():
            log.warning("%s is gone: nobody can reach this spooler", self._spool.socket)
            self._stop()
        elif self._clients.connected:
            self._busy_at = time.monotonic()
        elif time.monotonic() > self._busy_at + IDLE_SECONDS:
            self._stop()

    def _reachable(self) -> bool:
        return _inode(self._spool.socket) == self._address

    def _answer(self, message: Mapping[str, Any]) -> Reply:
        try:
            request = wire.read_request(message)
        except wire.WireError as error:
            return completed_reply(Completed(Exit.USAGE, "", f"{error}\n"))
        if request.fingerprint not in (None, fingerprint()):
            return Reply({"other": fingerprint()})
        if request.argv == ("changes",):
            return completed_reply(Completed(Exit.OK, "", ""), feed=True)
        if request.argv == ("upgrade",):
            return completed_reply(self._upgrade())
        return completed_reply(self._carried_out(request))

    def _carried_out(self, request: wire.Request) -> Completed:
        try:
            return self._commands.answer(request.argv, request.stdin)
        except Exception as error:  # one client's trouble must not end everybody's spooler
            log.exception("defect in %s", request.argv)
            return Completed(Exit.DEFECT, "", f"{type(error).__name__}: {error}\n")

    def _upgrade(self) -> Completed:
        found = _on_disk()
        if found is None:
            return Completed(Exit.NOT_NOW, "", "the code on disk does not start\n")
        self._upgrading = found != fingerprint()
        return Completed(Exit.OK, f"{found}\n", "")

    def _become_newer(self) -> None:
        kept = (self._lock, self._listener.fileno())
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        log.info("becoming the code on disk; %d jobs stay", self._jobs.running)
        os.execve(sys.executable, python_argv("--run", str(self._spool.run), "--inherit", *map(str, kept)), os.environ)


def listen(path: Path) -> socket.socket:
    """A non-blocking listening socket at ``path``. For the holder of the lock: what is there already is dead."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with wire.short_address(path) as address:
        listener.bind(address)
    listener.listen(512)
    listener.setblocking(False)
    return listener


def take_lock(path: Path) -> int | None:
    """The descriptor of the held lock; None when another process holds it.

    A POSIX lock: children do not inherit it, so it ends with the spooler, not with its last job.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def start(spool: Spool) -> int:
    """Put a spooler into the background; returns an exit code once it listens, or cannot."""
    ready, tell = os.pipe()
    middle = os.fork()
    if middle == 0:
        _run_in_background(spool, tell)
    os.close(tell)
    os.waitpid(middle, 0)
    return Exit.OK if os.read(ready, 1) else Exit.NOT_NOW


def resume(spool: Spool, lock: int, listener: int) -> None:
    """Go on as a spooler that executed this code in its place."""
    for descriptor in (lock, listener):
        os.set_inheritable(descriptor, False)
    Daemon(spool, socket.socket(fileno=listener), lock).serve()


def _run_in_background(spool: Spool, tell: int) -> NoReturn:
    code: int = Exit.DEFECT
    try:
        os.setsid()
        code = _run(spool, tell) if os.fork() == 0 else Exit.OK
    except BaseException:
        log.exception("the spooler ends by a defect")
    finally:
        os._exit(code)


def _run(spool: Spool, tell: int) -> int:
    lock = take_lock(spool.lock)
    if lock is None:
        log.warning("another spooler serves %s", spool.run)
        return Exit.NOT_NOW
    listener = listen(spool.socket)
    os.write(tell, b"\n")
    os.close(tell)
    log.info("spooler starts, pid %d", os.getpid())
    Daemon(spool, listener, lock).serve()
    return Exit.OK


def _inode(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _on_disk() -> str | None:
    """The fingerprint that the code on disk gives when it is started; None when it does not start."""
    try:
        probe = subprocess.run(
            python_argv("--fingerprint"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_PROBE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.error("no upgrade: %s", error)
        return None
    return probe.stdout.decode().strip()
