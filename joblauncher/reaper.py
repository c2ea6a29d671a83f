"""The process between launcher and job process that outlives neither: nothing of the job's tree escapes it.

It starts the job process, passes signals on while that process cannot be mistaken for another, and, when the process is
gone or the launcher is, kills whatever is left below. As child subreaper it inherits every orphan, setsid or not; when
wait(2) says that there are no children, there are none.

A batch system that suspends a job by SIGSTOP reaches the launcher and not the job process, which has a process group of
its own: this process does to the tree below it what was done to the launcher.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from dataclasses import asdict, dataclass
from typing import Callable, NoReturn, Optional

from joblauncher.kernel import adopt_orphans, close_all_but, descendants, die_with_parent, is_stopped

#: Commands of the launcher, one byte each.
WARN = b"W"
TERMINATE = b"T"
KILL = b"K"

#: Seconds that killed processes get to vanish: one in uninterruptible sleep may stay.
PATIENCE = 10.0
#: Seconds between two looks at whether the launcher is stopped: nobody is told of that.
LOOK_EVERY = 1.0
_IGNORED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
    signal.SIGPIPE,
)
#: Blocked until the job process has its handlers, so that none is lost.
HELD_BACK = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Reaped:
    """How the job process ended: its wait(2) status, what its tree used, and how many processes could not be killed.

    ``status`` is None when it could not be started (``error`` says why) or its end was not seen.
    """

    status: Optional[int]
    cpu_s: float = 0.0
    max_rss_mb: float = 0.0
    survivors: int = 0
    error: str = ""

    def line(self) -> bytes:
        """As one JSON line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Reaped:
        """The reverse of ``line``; raises ValueError or TypeError on anything else."""
        return cls(**json.loads(line))


def guard(commands: int, report: int, kept: tuple[int, ...], start: Callable[[], NoReturn]) -> NoReturn:
    """Run ``start`` in a child until it ends or the launcher does; report how, kill the rest, and exit.

    ``commands`` is read for one-byte commands and for the launcher's end; ``kept`` are descriptors of the child's.
    """
    code = 1
    try:
        os.setpgid(0, 0)
        adopt_orphans()
        close_all_but(commands, report, *kept)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        wakeup = _wake_on_child()
        reaped = _run(commands, (report, *wakeup), wakeup[0], start)
        os.write(report, reaped.line())
        code = 0
    except BrokenPipeError:
        # The launcher is gone; nobody reads the report.
        code = 1
    finally:
        os._exit(code)


def _run(commands: int, own: tuple[int, ...], wakeup: int, start: Callable[[], NoReturn]) -> Reaped:
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        return Reaped(None, error=str(error))
    if child == 0:
        _become_child(parent, (commands, *own), start)
    return _watch(child, commands, wakeup)


def _become_child(parent: int, closed: tuple[int, ...], start: Callable[[], NoReturn]) -> NoReturn:
    try:
        die_with_parent()
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for descriptor in closed:
            os.close(descriptor)
        # The parent may have ended before the kernel was told.
        if os.getppid() == parent:
            start()
    finally:
        os._exit(1)


def _wake_on_child() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading, writing


def _watch(child: int, commands: int, wakeup: int) -> Reaped:
    poller = select.poll()
    poller.register(commands, select.POLLIN)
    poller.register(wakeup, select.POLLIN)
    status = _reap(child)
    paused = False
    while status is None:
        events = dict(poller.poll(LOOK_EVERY * 1000))
        paused = _follow(paused)
        if wakeup in events:
            _drain(wakeup)
        if commands in events and not _obey(child, os.read(commands, 1)):
            break
        status = _reap(child)
    status, survivors = _end_all(child, status)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Reaped(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, survivors)


def _follow(paused: bool) -> bool:
    """Stop or continue everything below as the launcher was; whether it is stopped now."""
    stopped = is_stopped(os.getppid())
    if stopped != paused:
        for pid in descendants(os.getpid()):
            _send(pid, signal.SIGSTOP if stopped else signal.SIGCONT)
    return stopped


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


def _obey(child: int, command: bytes) -> bool:
    """Do what the launcher says; False when all must end: by its word, or because it is gone."""
    if command == WARN:
        # Not to the group: a command-line program that knows nothing of SIGUSR1 would die of it.
        os.kill(child, signal.SIGUSR1)
    elif command == TERMINATE:
        _terminate(child)
    return command in (WARN, TERMINATE)


def _terminate(child: int) -> None:
    """SIGTERM to the child's process group, and to those of its descendants that have left it: once each."""
    outside = [pid for pid in descendants(os.getpid()) if _group(pid) != child]
    os.killpg(child, signal.SIGTERM)
    for pid in outside:
        _send(pid, signal.SIGTERM)


def _group(pid: int) -> Optional[int]:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        # It ended in between.
        return


def _reap(child: int) -> Optional[int]:
    """Collect what has ended (orphans too); the child's status once it is among it."""
    status = None
    while True:
        try:
            pid, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == child:
            status = ended


def _end_all(child: int, status: Optional[int]) -> tuple[Optional[int], int]:
    """Kill everything below this process; the child's status, and how many would not go."""
    statuses, survivors = kill_descendants(PATIENCE)
    return (statuses.get(child) if status is None else status), survivors


def kill_descendants(patience: float) -> tuple[dict[int, int], int]:
    """SIGKILL every process below this one until none is left or ``patience`` seconds are over.

    Returns the wait statuses by pid, and how many processes are left.
    """
    statuses: dict[int, int] = {}
    deadline = time.monotonic() + patience
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    try:
        while _collect(statuses):
            left = descendants(os.getpid())
            if time.monotonic() > deadline:
                return statuses, len(left)
            for pid in left:
                _send(pid, signal.SIGKILL)
            # Not every death below is told at once, or to this process: look again soon in any case.
            signal.sigtimedwait((signal.SIGCHLD,), 0.05)
        return statuses, 0
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _collect(statuses: dict[int, int]) -> bool:
    """Reap what has ended; False when this process has no children left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        statuses[pid] = status
