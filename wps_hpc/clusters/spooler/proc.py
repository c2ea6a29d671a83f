"""Processes as Linux's /proc shows them: who a process is, and which others belong to its job.

A job's processes are told by descent: the leader of each job, and the spooler itself, are subreapers (prctl(2)), so
that a grandchild that was orphaned on purpose stays below its job. For a job whose leader died while no spooler ran,
two marks remain: programs that were executed carry the token in their environment, and those that were only forked
carry it as their name (a token has at most 15 characters, just what a name can hold).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: The environment variable that marks every process of a job.
TOKEN_VARIABLE = "WPS_HPC_TOKEN"
_PROC = Path("/proc")
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
#: States of /proc/<pid>/stat, proc(5).
_ENDED = frozenset("ZXx")
_STOPPED = frozenset("Tt")


@dataclass(frozen=True)
class Identity:
    """A process, told from any other that ever had its pid: boot id, pid, start time in clock ticks since the boot."""

    boot: str
    pid: int
    start_ticks: int


@dataclass(frozen=True)
class ProcessStat:
    """One look at /proc/<pid>/stat."""

    pid: int
    name: str
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def ended(self) -> bool:
        """Nothing of the process runs any more; at most its exit code waits for the parent."""
        return self.state in _ENDED

    @property
    def stopped(self) -> bool:
        """Stopped by a signal."""
        return self.state in _STOPPED


def boot_id() -> str:
    """What distinguishes this boot of the host from all others."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def look_at(pid: int) -> ProcessStat | None:
    """What /proc says of a process; None when there is none with that pid."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold anything, also blanks and parentheses: it ends at the last one.
    before, _, after = text.rpartition(")")
    fields = after.split()
    return ProcessStat(pid, before.partition("(")[2], fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def identify(pid: int) -> Identity | None:
    """The identity of the process that has this pid now; None when there is none."""
    stat = look_at(pid)
    return None if stat is None else Identity(boot_id(), pid, stat.start_ticks)


def open_alive(identity: Identity) -> int | None:
    """A pidfd of exactly that process, or None when it has ended. The caller closes it."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except OSError:
        return None
    # Looked at after the pidfd was opened: from here on the pid cannot pass to another process unnoticed.
    stat = look_at(identity.pid)
    if identity.boot == boot_id() and stat and stat.start_ticks == identity.start_ticks and not stat.ended:
        return descriptor
    os.close(descriptor)
    return None


def everybody() -> Iterator[ProcessStat]:
    """All processes of this host that can be seen."""
    for name in os.listdir(_PROC):  # noqa: PTH208 - only the names are wanted, thousands of them
        if name.isdecimal() and (stat := look_at(int(name))):
            yield stat


def own_children() -> list[int]:
    """The pids of this process's children, adopted orphans and zombies included."""
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [stat.pid for stat in everybody() if stat.parent == os.getpid()]


def descendants(pid: int) -> list[int]:
    """The pids of all living processes below ``pid``, parents before children."""
    below: dict[int, list[int]] = {}
    for stat in everybody():
        if not stat.ended:
            below.setdefault(stat.parent, []).append(stat.pid)
    found = list(below.get(pid, ()))
    for member in found:
        found.extend(below.get(member, ()))
    return found


def marked(token: str, session: int | None = None) -> list[int]:
    """The pids of this account's living processes that carry a job's token, or are of the given session."""
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    return [
        stat.pid
        for stat in everybody()
        if not stat.ended
        and _is_ours(stat.pid)
        and (stat.session == session or stat.name == token or mark in _environment(stat.pid))
    ]


def become_subreaper() -> None:
    """Make orphaned descendants children of this process instead of init's; survives exec, is not inherited."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def set_name(name: str) -> None:
    """Name this process (15 bytes count); inherited by fork, lost at exec."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(option: int, value: ctypes.c_ulong | ctypes.c_char_p) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _is_ours(pid: int) -> bool:
    try:
        return (_PROC / str(pid)).stat().st_uid == os.geteuid()
    except FileNotFoundError:
        return False


def _environment(pid: int) -> list[bytes]:
    try:
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or not for our eyes (a set-uid program): then the mark cannot be read
        return []
