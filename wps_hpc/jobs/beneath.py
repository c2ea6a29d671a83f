"""Opening files that somebody else wrote, without being led elsewhere.

A path is walked component by component from an open folder, never following a symbolic link and never going up, so
that what is opened lies beneath the folder whatever is renamed or linked meanwhile. Only regular files of this
server's own account are opened: the job runs as that account, so another owner means another hand.

A hard link counts as the file it is: linking a file needs no more than the account that could as well have copied it,
and the launcher itself links large outputs instead of copying them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: a FIFO put in place between look and open must not hang the server.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Untrusted(Exception):
    """A file cannot be believed or read; the text says which and why, for the operator."""


class Missing(Untrusted):
    """There is no such file, also after its folder was listed."""


@dataclass(frozen=True)
class Content:
    """A file's bytes and the time of its last change, in Unix seconds on the file server's clock."""

    data: bytes
    modified: float


@contextmanager
def folder_beneath(root: Path, path: str) -> Iterator[int]:
    """A descriptor of the folder ``path`` beneath ``root``, for as long as the block runs; raises Untrusted."""
    descriptor = _start(root)
    try:
        for name in _components(path):
            descriptor = _step(descriptor, name)
        yield descriptor
    finally:
        os.close(descriptor)


def open_beneath(root: Path, path: str) -> int:
    """A descriptor, for reading, of the regular file ``path`` beneath ``root``; raises Untrusted."""
    parent, _, name = path.rpartition("/")
    with folder_beneath(root, parent) as folder:
        return open_in(folder, name)


def open_in(folder: int, name: str) -> int:
    """A descriptor, for reading, of the regular file ``name`` in an open folder; raises Untrusted."""
    if not _plain(name):
        raise Untrusted(f"{name!r}: not a file name")
    # Looked at first, because opening a device may already do something.
    _judge(name, _attempted(lambda: os.stat(name, dir_fd=folder, follow_symlinks=False), folder, name))
    descriptor: int = _attempted(lambda: os.open(name, _FILE, dir_fd=folder), folder, name)
    try:
        _judge(name, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_in(folder: int, name: str, limit: int) -> Content:
    """The whole of the regular file ``name`` in an open folder; raises Untrusted when it has over ``limit`` bytes."""
    with os.fdopen(open_in(folder, name), "rb") as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as error:
            raise Untrusted(f"{name}: {error.strerror}") from error
        modified = os.fstat(stream.fileno()).st_mtime
    if len(data) > limit:
        raise Untrusted(f"{name}: larger than {limit} bytes")
    return Content(data, modified)


def _start(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Missing(f"{root}: no such folder") from error
    except OSError as error:
        raise Untrusted(f"{root}: {error.strerror}") from error


def _components(path: str) -> list[str]:
    names = path.split("/") if path else []
    if not all(_plain(name) for name in names):
        raise Untrusted(f"{path[:200]!r}: not a path beneath a job's folder")
    return names


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _step(folder: int, name: str) -> int:
    """The folder ``name`` in ``folder``, which is closed only once that is open."""
    inner: int = _attempted(lambda: os.open(name, _FOLDER, dir_fd=folder), folder, name)
    os.close(folder)
    return inner


def _attempted(attempt: Callable[[], _T], folder: int, name: str) -> _T:
    """``attempt``, once more after listing the folder: NFS clients remember what was not there."""
    try:
        return _tried(attempt, name)
    except Missing:
        if name not in _listed(folder, name):
            raise
        return _tried(attempt, name)


def _tried(attempt: Callable[[], _T], name: str) -> _T:
    try:
        return attempt()
    except FileNotFoundError as error:
        raise Missing(f"{name}: not there") from error
    except (OSError, ValueError) as error:
        raise Untrusted(f"{name[:200]!r}: {error}") from error


def _listed(folder: int, name: str) -> list[str]:
    return _tried(lambda: os.listdir(folder), name)


def _judge(name: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Untrusted(f"{name}: not a regular file")
    if found.st_uid != os.geteuid():
        raise Untrusted(f"{name}: belongs to another account (uid {found.st_uid})")
