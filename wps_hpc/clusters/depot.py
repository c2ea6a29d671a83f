"""Job folders on a cluster that shares no filesystem with the server: sent before a submission, read while jobs run.

The tree there is laid out as the one here, beneath a root of its own: the launcher by its fingerprint, each job by its
id. Everything in it belongs to the account that the connection was opened as, which is the one that the jobs run under.
What the jobs write there is hostile input; it is judged where the local copy is read.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.folder import AttemptFolder, JobFolder, job_path
from joblauncher.formats.records import ListedFile
from wps_hpc.clusters.transports.base import (
    PIECE_BYTES,
    PIECE_SECONDS,
    FileTransport,
    Kind,
    Listed,
    TransportError,
    Unreadable,
)

log = logging.getLogger(__name__)

#: So many bytes a second are hashed at least, also on a busy login node.
_HASHED_A_SECOND = 20_000_000
#: How deep below a job's folder the files of an attempt lie: ``attempts/<n>/<file>``.
_ATTEMPT_DEPTH = 3
_A = AttemptFolder(Path("1"))
_NAMES = (_A.claim, _A.exit, _A.status, _A.stdout, _A.stderr, _A.result, _A.outputs)
#: What is looked at while jobs run: a job may leave any number of other files.
_LOOKED_AT = (
    f"(attempts/[1-9][0-9]?[0-9]?(/({'|'.join(re.escape(path.name) for path in _NAMES)})"
    f"|[.]container/{_A.container_log.name})"
    f"|{re.escape(JobFolder(Path()).batch_log.name)})"
)
#: What says whose the tree is: the server's identity in the first line, then words for whoever finds it.
MARK = "wps-hpc-server"
_MARK_TEXT = """{identity}
This folder belongs to the wps-hpc server with the identity above, which first used it from host {host}.
No other one uses it as long as this file is here.
"""
_MARK_LIMIT = 4096
#: Folders that are listed, and small files that are read, together.
_LISTED_AT_ONCE, READ_AT_ONCE = 500, 50


@dataclass(frozen=True)
class Depot:
    """The job folders of one cluster and account. All methods raise TransportError; several threads may call them.

    ``here`` is the server's storage root, ``root`` the path of the tree on the cluster. ``timeout`` is that of one
    operation, in seconds; a piece of a file has PIECE_SECONDS at least.
    """

    transport: FileTransport
    here: Path
    root: str
    timeout: float
    #: Who the server is; empty: nobody who would mark the tree as its own.
    identity: str = ""
    #: Whether the database has jobs that have not ended and whose folders were sent here: then the tree is there.
    inhabited: Callable[[], bool] = lambda: False
    _ready: threading.Event = field(default_factory=threading.Event)
    #: For whoever makes the tree or marks it: another thread would meet it half made.
    _making: threading.Lock = field(default_factory=threading.Lock)
    _launchers: set[str] = field(default_factory=set)

    @property
    def patience(self) -> float:
        """The seconds that a piece of a file has, which shares the line with others."""
        return max(self.timeout, PIECE_SECONDS)

    def there(self, path: Path) -> str:
        """Where something beneath the server's storage root lies on the cluster."""
        return str(PurePosixPath(self.root) / path.relative_to(self.here))

    def folder(self, job_id: str) -> str:
        """The folder of a job on the cluster."""
        return self.there(job_path(self.here, job_id))

    # Before a submission

    def prepare(self) -> None:
        """Make the tree, once, and see each time whose it is: to be called before anything is sent or swept there.

        Refuses the server's own folder, since it would remove what it fetched, and another server's, which would remove
        the jobs that it does not know. Where jobs lie in a tree that is not there it makes none: theirs would look as
        if they had vanished from it.
        """
        if not self._ready.is_set():
            with self._making:
                self._make_once()
        if self.identity:
            self._own()

    def _make_once(self) -> None:
        if not self._ready.is_set():
            self._make()
            self._ready.set()

    def _own(self) -> None:
        owner = self._owner() or self._marked()
        if owner != self.identity:
            text = (
                f"the folder {self.root} on the cluster belongs to another server (its {MARK} names {owner!r:.42}, "
                f"this is {self.identity}): set another root, or remove that file when no other uses the folder"
            )
            raise TransportError(text, may_have_run=False)

    def _owner(self) -> str | None:
        """Whom the tree belongs to by its mark; None where there is none."""
        mark = f"{self.root}/{MARK}"
        content = self.transport.read_many([mark], _MARK_LIMIT, self.timeout).get(mark)
        return None if content is None else content.decode(errors="replace").partition("\n")[0].strip() or "nobody"

    def _marked(self) -> str:
        with self._making:
            return self._owner() or self._mark()

    def _mark(self) -> str:
        """Mark the tree as this server's; whom it belongs to then. Of two servers that do so at once the later one has
        it, and the other one learns so with its next look."""
        self._expect_jobs()
        found = self._listed([self.root], depth=1).get(self.root, ())
        if any(entry.path == MARK for entry in found):
            # Of another process, perhaps, since it was asked for.
            if (owner := self._owner()) is not None:
                return owner
            raise TransportError(f"{self.root}/{MARK} on the cluster cannot be read", may_have_run=False)
        with tempfile.NamedTemporaryFile(dir=self.here, prefix=".mark-") as draft:
            draft.write(_MARK_TEXT.format(identity=self.identity, host=socket.gethostname()).encode())
            draft.flush()
            self.transport.put_many({f"{self.root}/{MARK}": Path(draft.name)}, self.patience)
        log.info("%s on the cluster is this server's from now on", self.root)
        return self._owner() or ""

    def _expect_jobs(self) -> None:
        if self.inhabited() and not self.is_there():
            text = f"{self.root}/jobs is not there, and jobs' folders were sent to it: is its file system mounted?"
            raise TransportError(text, may_have_run=False)

    def _make(self) -> None:
        self._expect_jobs()
        self.transport.make_folders([self.root, f"{self.root}/jobs", f"{self.root}/launcher"], self.timeout)
        marker = self.here / f".here-{secrets.token_hex(8)}"
        marker.touch(mode=0o600)
        try:
            # The root itself may be a link.
            found = self._listed([top := f"{self.root}/."], depth=1)
        finally:
            marker.unlink()
        if any(entry.path == marker.name for entry in found.get(top, ())):
            text = f"{self.root} on the cluster is the server's own storage.root: set another root, or staging shared"
            raise TransportError(text, may_have_run=False)

    def send_launcher(self, launcher: Path) -> None:
        """Have the launcher there: its folder is named by its fingerprint, so what is there and whole is not sent."""
        target = self.there(launcher)
        if target in self._launchers:
            return
        self.prepare()
        if self.transport.checksums([target], self.timeout).get(target) != _sha256(launcher):
            self.transport.make_folders([str(PurePosixPath(target).parent)], self.timeout)
            self.transport.put_many({target: launcher}, self.patience)
            log.info("sent the launcher to %s", target)
        self._launchers.add(target)

    def send(self, folder: JobFolder, files: Sequence[ListedFile], stop: Callable[[], bool] = lambda: False) -> None:
        """Have a job's folder there: those ``files`` of it that are not there as listed, and its manifest.

        What arrived before a cut is not sent again. Raises Stopped when ``stop`` says so before a piece, and OSError
        when a file cannot be read.
        """
        self.prepare()
        wanted = {self.there(folder.path / file.path): file for file in files}
        sources = {path: folder.path / file.path for path, file in wanted.items()}
        self.transport.make_folders(sorted({str(PurePosixPath(path).parent) for path in sources}), self.timeout)
        missing = sources.keys() - self._arrived(folder, wanted)
        large = [path for path in sources if path in missing and wanted[path].size >= PIECE_BYTES]
        small = [path for path in sources if path in missing and wanted[path].size < PIECE_BYTES]
        # Each large one alone, so that a cut costs one of them at most.
        for path in large:
            self.transport.put_many({path: sources[path]}, self.patience, stop)
        reach(Failpoint.SEND_HALF)
        rest = {path: sources[path] for path in small}
        self.transport.put_many({**rest, self.there(folder.manifest): folder.manifest}, self.patience, stop)

    def _arrived(self, folder: JobFolder, wanted: Mapping[str, ListedFile]) -> set[str]:
        """Those of the files that lie there already, whole."""
        top = self.there(folder.path)
        found = self._listed([top], depth=2).get(top, ())
        sizes = {f"{top}/{entry.path}": entry.size for entry in found if entry.kind is Kind.FILE}
        same = [path for path, file in wanted.items() if sizes.get(path) == file.size]
        patience = self.timeout + sum(sizes[path] for path in same) / _HASHED_A_SECOND
        sums = self.transport.checksums(same, patience) if same else {}
        return {path for path in same if sums.get(path) == wanted[path].sha256}

    # While jobs run

    def list_jobs(self, job_ids: Sequence[str]) -> Mapping[str, tuple[Listed, ...] | None]:
        """What launchers and batch scripts left in the folders of these jobs, in one round trip for all.

        A job whose folder is not there is not in the answer; one whose folder cannot be read has None. Raises
        TransportError too when the whole tree is not there: then nothing can be said of any job.
        """
        jobs = f"{self.root}/jobs"
        folders = {self.folder(job_id): job_id for job_id in job_ids}
        found = self._apart(list(folders))
        if len(found) < len(folders) and jobs not in self._listed([jobs], depth=1):
            raise TransportError(f"{jobs} is not there; is its file system mounted?", may_have_run=False)
        return {job_id: found[path] for path, job_id in folders.items() if path in found}

    def _apart(self, folders: Sequence[str]) -> Mapping[str, tuple[Listed, ...] | None]:
        """A job may have closed its folder to its own account: that must not hide what the others have left."""
        try:
            return self._listed(folders, _ATTEMPT_DEPTH, _LOOKED_AT)
        except Unreadable:
            if len(folders) == 1:
                return self._reopened(folders[0])
        half = len(folders) // 2
        return {**self._apart(folders[:half]), **self._apart(folders[half:])}

    def _reopened(self, folder: str) -> Mapping[str, tuple[Listed, ...] | None]:
        """Its account may open it again: otherwise its job would never end."""
        self.transport.open_folders([folder], self.timeout, _ATTEMPT_DEPTH)
        try:
            return self._listed([folder], _ATTEMPT_DEPTH, _LOOKED_AT)
        except Unreadable as error:
            log.warning("%s", error)
            return {folder: None}

    def may_hold(self, job_id: str, path: str) -> bool:
        """Whether a job's folder has that regular file, not deeper than an attempt's own, or is not there any more:
        then nobody can tell."""
        found = self.list_jobs([job_id])
        if job_id not in found:
            return True
        listed = found[job_id]
        if listed is None:
            raise TransportError(f"{self.folder(job_id)} cannot be read", may_have_run=False)
        return any(entry.path == path and entry.kind is Kind.FILE for entry in listed)

    def read_many(self, files: Mapping[str, Sequence[str]], most: int) -> Mapping[tuple[str, str], bytes]:
        """The contents, up to ``most`` bytes each, of small files of many jobs: job id to paths below its folder."""
        wanted = {f"{self.folder(job_id)}/{path}": (job_id, path) for job_id, paths in files.items() for path in paths}
        paths = list(wanted)
        found: dict[tuple[str, str], bytes] = {}
        for start in range(0, len(paths), READ_AT_ONCE):
            batch = self.transport.read_many(paths[start : start + READ_AT_ONCE], most, self.timeout)
            found |= {wanted[path]: content for path, content in batch.items() if path in wanted}
        return found

    def piece(self, job_id: str, path: str, offset: int, most: int = PIECE_BYTES) -> bytes:
        """A piece of a job's file from ``offset`` on, shorter only at its end; raises NoSuchFile too."""
        return self.transport.get_part(f"{self.folder(job_id)}/{path}", offset, most, self.patience)

    def regular(self, job_id: str, folder: str, paths: Iterable[str]) -> Mapping[str, int]:
        """Those paths that are regular files, with no link on the way there from ``folder``; with their sizes.

        All are below the job's folder, in which ``folder`` is known to be one itself. Walked down from there, a round
        trip for each level, so that nothing is listed but what leads to them.
        """
        wanted, top = set(paths), self.folder(job_id)
        parents = {str(parent) for path in wanted for parent in PurePosixPath(path).parents}
        sizes: dict[str, int] = {}
        level = [folder] if wanted else []
        while level:
            listed = self._listed([f"{top}/{path}" for path in level], depth=1)
            found = {f"{path}/{entry.path}": entry for path in level for entry in listed.get(f"{top}/{path}", ())}
            sizes |= {path: entry.size for path, entry in found.items() if entry.kind is Kind.FILE and path in wanted}
            level = [path for path, entry in found.items() if entry.kind is Kind.FOLDER and path in parents]
        return sizes

    # When they are over

    def is_there(self) -> bool:
        """Whether the tree has been made: nobody makes it only to sweep it."""
        return (jobs := f"{self.root}/jobs") in self._listed([jobs], depth=0)

    def job_folders(self) -> Mapping[str, float]:
        """The jobs whose folders are there, with the time of their last change: Unix seconds by the cluster's clock."""
        jobs = f"{self.root}/jobs"
        found = self._listed([jobs], depth=2).get(jobs, ())
        return {
            PurePosixPath(entry.path).name: entry.modified
            for entry in found
            if entry.kind is Kind.FOLDER and self.folder(PurePosixPath(entry.path).name) == f"{jobs}/{entry.path}"
        }

    def remove_jobs(self, job_ids: Iterable[str]) -> None:
        """Remove the folders of jobs that are over."""
        paths = [self.folder(job_id) for job_id in job_ids]
        if paths:
            self.transport.remove_trees(paths, self.timeout)

    def remove_launchers_but(self, launcher: Path) -> None:
        """Remove every other launcher: no job uses them any more."""
        parent, kept = f"{self.root}/launcher", launcher.parent.name
        found = self._listed([parent], depth=1).get(parent, ())
        unused = [f"{parent}/{entry.path}" for entry in found if entry.path != kept]
        if unused:
            self.transport.remove_trees(unused, self.timeout)

    def _listed(self, folders: Sequence[str], depth: int, only: str | None = None) -> Mapping[str, tuple[Listed, ...]]:
        found: dict[str, tuple[Listed, ...]] = {}
        for start in range(0, len(folders), _LISTED_AT_ONCE):
            some = folders[start : start + _LISTED_AT_ONCE]
            found |= self.transport.list_folders(some, self.timeout, depth, only)
        return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
