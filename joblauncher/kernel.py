"""What the launcher asks of Linux: process trees, parent-death signals, memory, and the word of the OOM killer."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20
_PROC = Path("/proc")
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel send this process SIGKILL when its parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, setsid or not (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), f"prctl({option})")


def boot_id() -> str:
    """The id of this boot of the host; empty where /proc does not tell."""
    return _content(_PROC / "sys/kernel/random/boot_id").strip()


def close_all_but(*kept: int) -> None:
    """Close every file descriptor of this process above 2, but those."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) > 2 and int(name) not in kept:
            _close(int(name))


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        # The listing's own descriptor is closed already.
        if error.errno != errno.EBADF:
            raise


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal, proc(5)."""
    state = _content(_PROC / str(pid) / "stat").rpartition(")")[2].split()
    return state[:1] == ["T"]


def descendants(ancestor: int) -> list[int]:
    """Every process below ``ancestor``, parents before children. A process that just ended may be missing."""
    children = _children if _HAS_CHILDREN_FILES else _children_by_scan()
    found: list[int] = []
    pending = [ancestor]
    while pending:
        next_ones = children(pending.pop())
        found += next_ones
        pending += next_ones
    return found


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    except OSError:
        return []
    lists = (_content(_PROC / str(pid) / "task" / thread / "children") for thread in threads)
    return [int(child) for text in lists for child in text.split()]


def _children_by_scan() -> Callable[[int], list[int]]:
    """The same from one look at every process, for kernels without CONFIG_PROC_CHILDREN."""
    by_parent: dict[int, list[int]] = {}
    for name in os.listdir(_PROC):  # noqa: PTH208
        if name.isdigit():
            # The command's name stands in parentheses and may hold anything.
            fields = _content(_PROC / name / "stat").rpartition(")")[2].split()
            by_parent.setdefault(int(fields[1]) if fields else 0, []).append(int(name))
    return lambda pid: by_parent.get(pid, [])


_HAS_CHILDREN_FILES = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def resident_mb(pids: list[int]) -> float:
    """Resident memory of those processes added up, in MiB; what they share counts for each."""
    return sum(_resident_pages(pid) for pid in pids) * _PAGE_BYTES / _MIB


def _resident_pages(pid: int) -> int:
    fields = _content(_PROC / str(pid) / "statm").split()
    return int(fields[1]) if fields else 0


def proportional_mb(pids: list[int]) -> float:
    """Memory of those processes, in MiB, with each shared page counted once; resident memory where that is not told."""
    return sum(_proportional_mb(pid) for pid in pids)


def _proportional_mb(pid: int) -> float:
    for line in _content(_PROC / str(pid) / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return resident_mb([pid])


def oom_kills(proc: Path = _PROC, mount: Path = Path("/sys/fs/cgroup")) -> Optional[int]:
    """How many processes of this process's own control group the kernel has killed for memory; None if it is not told.

    ``memory.events`` in cgroup v2, ``memory.oom_control`` in v1 (both «oom_kill N»).
    """
    for file in _memory_files(_content(proc / "self/cgroup"), mount):
        counts = dict(line.split() for line in _content(file).splitlines() if len(line.split()) == 2)
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return None


def _memory_files(membership: str, mount: Path) -> Iterator[Path]:
    for line in membership.splitlines():
        _number, controllers, path = line.split(":", 2)
        # Inside a container the path may be the host's, while the mount shows the group as its root.
        for group in (path.lstrip("/"), ""):
            if "memory" in controllers.split(","):
                yield mount / "memory" / group / "memory.oom_control"
            elif not controllers:
                yield mount / group / "memory.events"
                yield mount / "unified" / group / "memory.events"


def _content(path: Path) -> str:
    """A file of /proc or /sys; empty when its process has just ended or the kernel does not have it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
