"""Removing what is over: expired jobs, folders that belong to no job, launchers that no job uses any more.

A job goes in steps, each of which the next purge can take up: its row is hidden (clients get 404), its folder renamed
into the trash, its row removed; the trash is emptied after a time that is longer than any download. Nothing is touched
that the scheduler may still have. Symbolic links are never followed: a link is removed, not what it points at.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.folder import job_path
from wps_hpc.config import Settings
from wps_hpc.jobs.store import Store

log = logging.getLogger(__name__)

#: A folder without a row may be one that accept is just making; after so many seconds it is not.
ORPHAN_AGE = 86_400.0
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Ids looked up with one query.
_TOGETHER = 500

JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPREAD = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True)
class Purged:
    """What one purge removed: jobs, folders without a job, entries of the trash, launcher versions."""

    jobs: int = 0
    orphans: int = 0
    trash: int = 0
    launchers: int = 0


@dataclass(frozen=True)
class Purger:
    """Purges one server's storage; several may do so at once.

    ``launcher`` is the one that jobs are submitted with since ``started``; without it, launchers are left alone.
    """

    settings: Settings
    store: Store
    launcher: Path | None = None
    clock: Callable[[], float] = time.time
    started: float = field(default_factory=time.time)

    def round(self) -> Purged:
        """Purge all that is over. What cannot be removed is logged and left for the next time."""
        now = self.clock()
        marked = self.store.mark_expired(now)
        jobs = sum(self._forget(job_id) for job_id in self.store.marked_expired())
        orphans = sum(self._throw_away(path) for path in self._orphans(now))
        trash = sum(_deleted(path) for path in self._rotten(now))
        launchers = sum(_deleted(path) for path in self._unused_launchers())
        purged = Purged(jobs, orphans, trash, launchers)
        if purged != Purged():
            log.info("purged: %s (newly expired: %d)", purged, marked)
        return purged

    @property
    def _root(self) -> Path:
        return self.settings.storage.root

    @property
    def _trash(self) -> Path:
        return self._root / "trash"

    def _forget(self, job_id: str) -> bool:
        path = job_path(self._root, job_id)
        if os.path.lexists(path) and not self._throw_away(path):
            return False
        reach(Failpoint.PURGE_RENAMED)
        self.store.remove(job_id)
        log.info("job %s: purged", job_id)
        return True

    def _throw_away(self, path: Path) -> bool:
        """Rename into the trash, in one step: a download that has a file open goes on reading it."""
        name = f"{path.name}.{int(self.clock())}.{secrets.token_hex(3)}"
        try:
            self._trash.mkdir(mode=0o700, exist_ok=True)
            path.rename(self._trash / name)
        except OSError as error:
            log.error("%s cannot be moved to the trash: %s", path, error)
            return False
        return True

    def _orphans(self, now: float) -> Iterator[Path]:
        folders = [path for path in self._job_folders() if _older(path, now - ORPHAN_AGE)]
        for start in range(0, len(folders), _TOGETHER):
            some = folders[start : start + _TOGETHER]
            known = self.store.existing([path.name for path in some])
            yield from (path for path in some if path.name not in known)

    def _job_folders(self) -> Iterator[Path]:
        for spread in _entries(self._root / "jobs"):
            if _SPREAD.fullmatch(spread.name) and spread.is_dir(follow_symlinks=False):
                yield from (Path(entry.path) for entry in _entries(spread.path) if JOB_ID.fullmatch(entry.name))

    def _rotten(self, now: float) -> Iterator[Path]:
        limit = now - self.settings.storage.trash_hours * 3600
        for entry in _entries(self._trash):
            thrown = entry.name.split(".")[1:2]
            if thrown and thrown[0].isdecimal() and int(thrown[0]) <= limit:
                yield Path(entry.path)

    def _unused_launchers(self) -> Iterator[Path]:
        """Other versions, once every job that may have been submitted with one of them has ended."""
        oldest = self.store.oldest_active()
        if self.launcher is None or (oldest is not None and oldest < self.started):
            return
        for entry in _entries(self._root / "launcher"):
            if Path(entry.path) not in self.launcher.parents:
                yield Path(entry.path)


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing if it is none, or a symbolic link."""
    try:
        descriptor = os.open(folder, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        return []
    os.close(descriptor)
    with os.scandir(folder) as found:
        return list(found)


def _older(path: Path, moment: float) -> bool:
    try:
        return path.lstat().st_mtime < moment
    except FileNotFoundError:
        return False


def _deleted(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            path.chmod(0o700)
            opened = os.open(path, _FOLDER)
            try:
                _empty(opened)
            finally:
                os.close(opened)
            path.rmdir()
    except OSError as error:
        log.error("%s cannot be deleted: %s", path, error)
        return False
    return True


def _empty(folder: int) -> None:
    """Empty an open folder, however deep: what lies in a folder within it is moved up, then that is removed.

    So neither recursion nor open files have a depth to run out at (``shutil.rmtree`` has). Folders without write
    permission (the launcher's, or a process's own) get it first. Links are not followed.
    """
    while names := os.listdir(folder):
        for name in names:
            if not _is_folder(folder, name):
                os.unlink(name, dir_fd=folder)
                continue
            os.chmod(name, 0o700, dir_fd=folder)
            inner = os.open(name, _FOLDER, dir_fd=folder)
            try:
                _move_up(inner, folder)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=folder)


def _move_up(inner: int, outer: int) -> None:
    """The folders in ``inner`` into ``outer``, under new names; its files are removed at once."""
    for name in os.listdir(inner):
        if _is_folder(inner, name):
            # To move a folder is to write into it: its parent changes.
            os.chmod(name, 0o700, dir_fd=inner)
            os.rename(name, f".{secrets.token_hex(8)}", src_dir_fd=inner, dst_dir_fd=outer)
        else:
            os.unlink(name, dir_fd=inner)


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
