"""The local copy of what jobs left on a cluster that shares no filesystem with the server.

Everything else (watching, progress, results) reads that copy as if the node had written it there. Two rules make that
sound. A final ``status.xml`` is put in its place last, when the record and every output that it speaks of are here,
whole, by size and SHA-256: it stays the commit point. And where something that may be there is not here yet, the mirror
says so (``gap``), so that nothing is concluded from its absence.

A round is one listing for all jobs together; then only what changed is read. Results come in the background, piece by
piece, and go on where they were cut off.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats import status as status_file
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import AttemptFolder, JobFolder, job_path
from joblauncher.formats.records import Failure, RecordError, ResultRecord, load
from joblauncher.formats.status import parse_status
from joblauncher.formats.values import FileValue
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import PIECE_BYTES, Kind, Listed, NoSuchFile, TransportError, Unreadable
from wps_hpc.config import Settings
from wps_hpc.jobs import shape
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.trusted import EXIT_LIMIT, RESULT_LIMIT

log = logging.getLogger(__name__)

#: Results that are fetched at the same time, for each cluster and account.
FETCHED_AT_ONCE = 4
#: A round waits so long, in seconds, for results that are small, so that their job ends in that round.
SHORT_WAIT = 1.0
#: What is not as its record says is fetched so often, and for so long (times the scheduler's settling time): the file
#: system between node and login node may be late.
TRIES, SETTLES = 3, 2.0
#: A log may have so many bytes more than its limit, for the lines that say what was cut.
_LOG_MARGIN = 1_000
#: Logs up to this size are read together, larger ones by what was added to each.
_SHORT_LOG = 1 << 15
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What a name that a job chose may meet with here, if it is none that this disk can have.
_NO_SUCH_NAME = frozenset(
    {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.EILSEQ, errno.ENOTEMPTY}
)

_A = AttemptFolder(Path("1"))
#: Files of an attempt that are copied as they change, and how much of each. One that is larger is cut one byte beyond
#: its limit, so that whoever reads it sees that it is too large.
_SMALL: Mapping[str, int] = {
    _A.claim.name: EXIT_LIMIT,
    _A.exit.name: EXIT_LIMIT,
    _A.status.name: status_file.SIZE_LIMIT,
}
_LOGS = (_A.stdout.name, _A.stderr.name)
_NAMES = "|".join(map(re.escape, (*_SMALL, *_LOGS)))
#: With the attempt's number and the file's name; what a container's runtime said lies beside the attempt.
_ATTEMPT_FILE = re.compile(rf"attempts/([1-9][0-9]{{0,2}})(?:/({_NAMES})|\.container/{_A.container_log.name})")
_BATCH_LOG = JobFolder(Path()).batch_log.name
_ALL_LOGS = (*_LOGS, _A.container_log.name, _BATCH_LOG)


class _Misfit(Exception):
    """What the job left is not what its record says."""


class _TooLarge(Exception):
    """The results are more than the site fetches."""


@dataclass(frozen=True)
class Gap:
    """What a job left may not all be here; ``why`` is a sentence for clients. ``stale``: something is amiss."""

    why: str
    stale: bool


@dataclass
class _Fetch:
    """The results of one attempt on their way; ``total`` and ``arrived`` are in bytes. Its thread changes it."""

    job_id: str
    attempt: int
    status: bytes
    began: float
    tries: int = 0
    total: int = 0
    arrived: int = 0
    trouble: str | None = None
    dropped: bool = False
    future: Future[None] | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Which attempt it is."""
        return self.job_id, self.attempt

    @property
    def under_way(self) -> bool:
        """A thread is at it, or about to be."""
        return self.future is not None and not self.future.done()

    def gap(self) -> Gap:
        """What is told of it."""
        if self.trouble is not None:
            return Gap(f"its results cannot be fetched at the moment: {self.trouble}", stale=True)
        amount = f" ({self.arrived >> 20} of {self.total >> 20} MiB)" if self.total >> 20 else ""
        return Gap(f"its results are being fetched from the cluster{amount}", stale=False)


@dataclass
class Mirror:
    """Copies what the jobs of one cluster and account leave; for one watcher, whose thread calls its methods.

    ``settle`` is the scheduler's settling time in seconds; ``wake`` is told the jobs whose results have come, from
    another thread.
    """

    depot: Depot
    settings: Settings
    settle: float
    wake: Callable[[set[str]], None] = lambda _: None
    steady: Callable[[], float] = time.monotonic
    _have: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    #: By job, then by attempt: rounds look at each job, and all of them may be under way.
    _fetches: dict[str, dict[int, _Fetch]] = field(default_factory=dict)
    _committed: set[tuple[str, int]] = field(default_factory=set)
    _refused: dict[tuple[str, int], Failure] = field(default_factory=dict)
    _gaps: dict[str, Gap] = field(default_factory=dict)
    _begun: list[Future[None]] = field(default_factory=list)
    _away: str | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(FETCHED_AT_ONCE, "results"))

    def refresh(self, jobs: Sequence[Job]) -> set[str]:
        """Copy what changed since the last time; returns the jobs of which something new is here."""
        self._gaps.clear()
        arrived = self._settled()
        try:
            listed = self.depot.list_jobs([job.id for job in jobs]) if jobs else {}
            self._away = None
            news = self._copy(listed)
        except TransportError as error:
            log.warning("what jobs left at %s cannot be fetched: %s", self.depot.root, error)
            self._away = "what the job left on the cluster cannot be fetched at the moment"
            return arrived
        self._retry()
        wait(self._begun, SHORT_WAIT)
        self._begun.clear()
        return news | arrived | self._settled()

    def gap(self, job_id: str) -> Gap | None:
        """Why what is here of a job may not be all that there is; None when it is."""
        if self._away is not None:
            return Gap(self._away, stale=True)
        coming = [fetch for fetch in self._fetches.get(job_id, {}).values() if not self._has_come(fetch)]
        return self._gaps.get(job_id) or (coming[0].gap() if coming else None)

    def refused(self, job_id: str, attempt: int) -> Failure | None:
        """Why the results of an attempt that succeeded will not be fetched, if that is so."""
        return self._refused.get((job_id, attempt))

    def forget_all_but(self, job_ids: Collection[str]) -> None:
        """Jobs that nobody follows any more."""
        kept = set(job_ids)
        self._have = {job_id: have for job_id, have in self._have.items() if job_id in kept}
        for job_id in self._fetches.keys() - kept:
            for fetch in self._fetches.pop(job_id).values():
                fetch.dropped = True
        for key in [key for key in (*list(self._committed), *list(self._refused)) if key[0] not in kept]:
            self._committed.discard(key)
            self._refused.pop(key, None)

    def discard(self, job_ids: Collection[str]) -> None:
        """Let the folders of jobs on the cluster go whose end is recorded. What fails is left to the sweep."""
        if job_ids and not self._stopped.is_set():
            self._pool.submit(self._remove, tuple(job_ids))

    def stop(self) -> None:
        """Let what is under way end early, and begin nothing any more; callable from every thread. The next worker
        takes it up again."""
        self._stopped.set()

    def close(self) -> None:
        """End what is under way, when the watcher has had its last round."""
        self.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _remove(self, job_ids: Sequence[str]) -> None:
        try:
            self.depot.remove_jobs(job_ids)
        except TransportError as error:
            log.warning("%d job folders at %s are not removed yet: %s", len(job_ids), self.depot.root, error)

    # Small files and logs

    def _copy(self, listed: Mapping[str, Sequence[Listed] | None]) -> set[str]:
        closed = {job_id for job_id, entries in listed.items() if entries is None}
        self._gaps |= dict.fromkeys(closed, Gap("its folder on the cluster cannot be read", stale=True))
        changed = {job_id: self._changed(job_id, entries) for job_id, entries in listed.items() if entries is not None}
        for job_id, entries in changed.items():
            self._follow_logs(job_id, entries.values())
        news: set[str] = set()
        for name, limit in {**dict.fromkeys(_ALL_LOGS, _SHORT_LOG), **_SMALL}.items():
            some = {job_id: _named(entries, name, limit) for job_id, entries in changed.items()}
            wanted = {job_id: list(entries) for job_id, entries in some.items() if entries}
            for (job_id, path), content in self.depot.read_many(wanted, limit + 1).items():
                # One that was replaced meanwhile is read again: it will be listed with another time.
                if self._saved(job_id, path, content):
                    self._noted(job_id, some[job_id][path])
                    news |= {job_id} if name in _SMALL else set()
        return news

    def _follow_logs(self, job_id: str, entries: Iterable[Listed]) -> None:
        for entry in entries:
            if _is_long_log(entry) and self._appended(job_id, entry):
                self._noted(job_id, entry)

    def _changed(self, job_id: str, entries: Iterable[Listed]) -> dict[str, Listed]:
        """Files that are copied and differ from what is here; a link or anything else in their place is none."""
        have = self._have.setdefault(job_id, {})
        known = [entry for entry in entries if entry.path == _BATCH_LOG or _ATTEMPT_FILE.fullmatch(entry.path)]
        if job_id in self._fetches:
            # With the results come the logs, by another thread.
            known = [entry for entry in known if _name(entry.path) not in _ALL_LOGS]
        return {
            entry.path: entry
            for entry in known
            if entry.kind is Kind.FILE and have.get(entry.path) != (entry.size, entry.modified)
        }

    def _noted(self, job_id: str, entry: Listed) -> None:
        self._have.setdefault(job_id, {})[entry.path] = (entry.size, entry.modified)

    def _saved(self, job_id: str, path: str, content: bytes) -> bool:
        """Put a small file in its place, or begin to fetch what has to come before it."""
        found = _ATTEMPT_FILE.fullmatch(path)
        if found and found[2] == _A.status.name and not self._may_be_shown(job_id, int(found[1]), content):
            return True
        return self._placed(job_id, path, content)

    def _may_be_shown(self, job_id: str, attempt: int, content: bytes) -> bool:
        """Whether this status may be put in place now: after a final one nothing is, and before one its results are."""
        key = (job_id, attempt)
        if key in self._committed or attempt in self._fetches.get(job_id, {}) or key in self._refused:
            return False
        if _is_final(self._folder(job_id).attempt(attempt).status):
            self._committed.add(key)
            return False
        if not _says_final(content):
            return True
        self._begin(_Fetch(job_id, attempt, content, self.steady()))
        return False

    def _placed(self, job_id: str, path: str, content: bytes) -> bool:
        target = self._folder(job_id).path / path
        try:
            _make_parents(self._folder(job_id), target)
            write_atomic(target, content, durable=False)
        except OSError as error:
            self._cannot_write(job_id, error)
            return False
        return True

    def _appended(self, job_id: str, entry: Listed) -> bool:
        """Add to a log what has been written to it since."""
        target = self._folder(job_id).path / entry.path
        limit = min(entry.size, self.settings.limits.log_bytes + _LOG_MARGIN)
        try:
            _make_parents(self._folder(job_id), target)
            self._append(job_id, entry.path, target, limit)
        except NoSuchFile:
            return False  # it was there a moment ago; the next listing tells
        except OSError as error:
            self._cannot_write(job_id, error)
            return False
        return True

    def _append(self, job_id: str, path: str, target: Path, limit: int) -> None:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as stream:
            have = os.fstat(stream.fileno()).st_size
            have = have if have <= limit else 0
            stream.truncate(have)
            stream.seek(have)
            while have < limit and (part := self.depot.piece(job_id, path, have, min(PIECE_BYTES, limit - have))):
                stream.write(part)
                have += len(part)

    def _cannot_write(self, job_id: str, error: OSError) -> None:
        log.error("job %s: what it left cannot be stored here: %s", job_id, error)
        self._gaps[job_id] = Gap(f"what the job left cannot be stored: {_reason(error)}", stale=True)

    # Results

    def _begin(self, fetch: _Fetch) -> None:
        self._fetches.setdefault(fetch.job_id, {})[fetch.attempt] = fetch
        fetch.trouble = None
        if self._stopped.is_set():
            return
        fetch.future = self._pool.submit(self._bring, fetch)
        self._begun.append(fetch.future)
        fetch.future.add_done_callback(lambda _: self.wake({fetch.job_id}))

    def _retry(self) -> None:
        """Go on with what was interrupted."""
        for fetch in self._all_fetches():
            if fetch.trouble is not None and not fetch.under_way:
                self._begin(fetch)

    def _all_fetches(self) -> list[_Fetch]:
        return [fetch for fetches in self._fetches.values() for fetch in fetches.values()]

    def _settled(self) -> set[str]:
        """Take in fetches that have ended; the jobs that they were for."""
        done = [fetch for fetch in self._all_fetches() if self._has_come(fetch)]
        for fetch in done:
            del self._fetches[fetch.job_id][fetch.attempt]
        settled = {fetch.job_id for fetch in done}
        for job_id in settled:
            if not self._fetches[job_id]:
                del self._fetches[job_id]
        return settled

    def _has_come(self, fetch: _Fetch) -> bool:
        """Whether there is no more to wait for. In this order: at the closing, one that was never begun ends too."""
        return not fetch.under_way and fetch.trouble is None and not self._stopped.is_set()

    def _bring(self, fetch: _Fetch) -> None:
        """Everything that an attempt's final status speaks of, then the status itself. Runs in the pool."""
        trouble = None
        try:
            self._bring_all(fetch)
            self._committed.add(fetch.key)
        except _TooLarge as error:
            self._refuse(fetch, Failure("bad output", str(error), code="FileSizeExceeded"))
        except (_Misfit, NoSuchFile, Unreadable) as error:
            trouble = self._doubted(fetch, error)
        except TransportError as error:
            log.warning("job %s: its results do not come: %s", fetch.job_id, error)
            trouble = "the cluster cannot be reached"
        except OSError as error:
            log.error("job %s: its results cannot be stored: %s", fetch.job_id, error)
            trouble = self._doubted(fetch, error) if error.errno in _NO_SUCH_NAME else _reason(error)
        except Exception as error:
            log.exception("job %s: a defect while its results were fetched", fetch.job_id)
            text = "The results could not be fetched because of a fault in the server."
            self._refuse(fetch, Failure("internal error", text, detail=repr(error)))
        fetch.trouble = trouble

    def _refuse(self, fetch: _Fetch, failure: Failure) -> None:
        log.error("job %s: its results are not fetched: %s %s", fetch.job_id, failure.text, failure.detail)
        self._refused[fetch.key] = failure

    def _doubted(self, fetch: _Fetch, error: Exception) -> str | None:
        """What is not as recorded may only not have arrived on the login node yet."""
        fetch.tries += 1
        if not self._patience_is_over(fetch, fetch.tries):
            log.info("job %s: its results are not whole yet: %s", fetch.job_id, error)
            return "they are not whole on the cluster yet"
        text = "The job's results are not as it recorded them, and cannot be used."
        self._refuse(fetch, Failure("bad output", text, detail=shape.clean(str(error), 2_000)))
        return None

    def _patience_is_over(self, fetch: _Fetch, tries: int) -> bool:
        return tries >= TRIES and self.steady() - fetch.began >= SETTLES * self.settle

    def _bring_all(self, fetch: _Fetch) -> None:
        folder = self._folder(fetch.job_id)
        paths = folder.attempt(fetch.attempt)
        there = {entry.path: entry for entry in self.depot.list_jobs([fetch.job_id]).get(fetch.job_id) or ()}
        succeeded = _state(fetch.status) == status_file.SUCCEEDED
        content = None
        try:
            content = self._record(fetch, there.get(_within(folder, paths.result)))
        except (_Misfit, NoSuchFile, Unreadable):
            # Of a failure the status says enough, and what became of its record is no other failure.
            if succeeded or not self._patience_is_over(fetch, fetch.tries + 1):
                raise
        _make_parents(folder, paths.result)
        if succeeded:
            outputs = there.get(_within(folder, paths.outputs))
            self._bring_outputs(fetch, paths, _outputs(content or b""), outputs)
        for target in (paths.stdout, paths.stderr, paths.container_log, folder.batch_log):
            self._last_of_log(fetch.job_id, there.get(_within(folder, target)))
        if content is not None:
            write_atomic(paths.result, content)
        reach(Failpoint.FETCH_ARRIVED)
        write_atomic(paths.status, fetch.status)

    def _record(self, fetch: _Fetch, entry: Listed | None) -> bytes:
        """The record of an attempt, cut where it is too large; raises _Misfit when there is none, or a link in its
        place."""
        if entry is None or entry.kind is not Kind.FILE:
            raise _Misfit(f"there is no {_A.result.name}")
        content, most = bytearray(), min(entry.size, RESULT_LIMIT + 1)
        while len(content) < most and (part := self._piece(fetch, entry.path, len(content), most - len(content))):
            content += part
        return bytes(content)

    def _last_of_log(self, job_id: str, entry: Listed | None) -> None:
        """The end of a log, for whoever is told of a failure. A log is no reason to lose a result."""
        if entry is not None and entry.kind is Kind.FILE and entry.size:
            self._appended(job_id, entry)

    def _bring_outputs(
        self, fetch: _Fetch, paths: AttemptFolder, outputs: Sequence[FileValue], within: Listed | None
    ) -> None:
        """The files of a success, which lie ``within`` a folder of the attempt."""
        fetch.total = sum(value.size or 0 for value in outputs)
        fetch.arrived = 0
        limit = self.settings.limits.result_bytes
        if fetch.total > limit:
            raise _TooLarge(
                f"The job's results are too large: they have {fetch.total} bytes, and this service fetches {limit}."
            )
        folder = self._folder(fetch.job_id)
        missing = [value for value in outputs if not self._is_here(fetch, paths.path / value.path, value)]
        self._check_room(sum(value.size or 0 for value in missing))
        if missing and (within is None or within.kind is not Kind.FOLDER):
            raise _Misfit(f"there is no folder {paths.outputs.name}")
        wanted = [_within(folder, paths.path / value.path) for value in missing]
        there = self.depot.regular(fetch.job_id, _within(folder, paths.outputs), wanted)
        for value in missing:
            path = _within(folder, paths.path / value.path)
            if there.get(path) != value.size:
                raise _Misfit(f"{value.path!r:.200}: {value.size} bytes were recorded, there are {there.get(path)}")
            self._bring_file(fetch, folder, path, value)

    def _is_here(self, fetch: _Fetch, target: Path, value: FileValue) -> bool:
        """Whether an output was fetched before: it got its name only when it was whole."""
        here = target.is_file() and target.stat().st_size == value.size
        fetch.arrived += (value.size or 0) if here else 0
        return here

    def _check_room(self, wanted: int) -> None:
        """What ``storage.min_free_bytes`` keeps free is for jobs that were accepted, but not for this one alone."""
        storage = self.settings.storage
        if wanted > max(0, shutil.disk_usage(storage.root).free - storage.min_free_bytes):
            raise OSError(errno.ENOSPC, f"no room for {wanted} bytes of results")

    def _bring_file(self, fetch: _Fetch, folder: JobFolder, path: str, value: FileValue) -> None:
        """One output: piece by piece into ``staging/``, on from where it was cut off, then under its name."""
        folder.staging.mkdir(mode=0o700, exist_ok=True)
        part = folder.staging / f"result-{fetch.attempt}-{value.sha256}"
        # Not appended: a former worker that wakes up writes again what is there already, at the same place.
        with os.fdopen(os.open(part, _PART, 0o600), "r+b") as stream:
            digest = _digest_so_far(stream.fileno(), value)
            have = os.fstat(stream.fileno()).st_size
            stream.seek(have)
            fetch.arrived += have
            while have < (value.size or 0):
                piece = self._piece(fetch, path, have, (value.size or 0) - have)
                if not piece:
                    raise _Misfit(f"{value.path!r:.200}: ended after {have} bytes, {value.size} were recorded")
                stream.write(piece)
                digest.update(piece)
                have += len(piece)
                fetch.arrived += len(piece)
                stream.flush()
                reach(Failpoint.FETCH_PIECE)
            os.fsync(stream.fileno())
        if digest.hexdigest() != value.sha256:
            part.unlink()
            raise _Misfit(f"{value.path!r:.200}: its SHA-256 is not the recorded one")
        target = folder.path / path
        _make_parents(folder, target)
        part.replace(target)

    def _piece(self, fetch: _Fetch, path: str, offset: int, most: int) -> bytes:
        if self._stopped.is_set() or fetch.dropped:
            raise TransportError("nobody waits for it any more", may_have_run=False)
        return self.depot.piece(fetch.job_id, path, offset, min(most, PIECE_BYTES))

    def _folder(self, job_id: str) -> JobFolder:
        return JobFolder(job_path(self.settings.storage.root, job_id))


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _named(entries: Mapping[str, Listed], name: str, limit: int) -> dict[str, Listed]:
    """Entries of that name which are read together; a log that is longer than ``limit`` is not."""
    named = {path: entry for path, entry in entries.items() if _name(path) == name}
    return {path: entry for path, entry in named.items() if name in _SMALL or entry.size <= limit}


def _is_long_log(entry: Listed) -> bool:
    return _name(entry.path) in _ALL_LOGS and entry.size > _SHORT_LOG


def _digest_so_far(descriptor: int, value: FileValue) -> hashlib._Hash:
    """The digest of what came before a cut; more than there can be was something else."""
    if os.fstat(descriptor).st_size > (value.size or 0):
        os.ftruncate(descriptor, 0)
    digest = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while chunk := os.read(descriptor, PIECE_BYTES):
        digest.update(chunk)
    return digest


def _within(folder: JobFolder, path: Path) -> str:
    return path.relative_to(folder.path).as_posix()


def _reason(error: OSError) -> str:
    return "the server's disk is full" if error.errno in _NO_ROOM else "a fault of the server's disk"


def _make_parents(folder: JobFolder, target: Path) -> None:
    """The folders above a file of a job, whose own folder has to be there: a job that was purged stays away."""
    if not folder.path.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the job's folder is gone", str(folder.path))
    for parent in reversed(target.relative_to(folder.path).parents):
        (folder.path / parent).mkdir(mode=0o700, exist_ok=True)


def _state(content: bytes) -> str | None:
    """What a status document says, if it can be read."""
    try:
        return parse_status(content).state
    except RecordError:
        return None


def _says_final(content: bytes) -> bool:
    return _state(content) in (status_file.SUCCEEDED, status_file.FAILED)


def _is_final(path: Path) -> bool:
    """Whether a final status was put in place already, by a former worker perhaps."""
    try:
        return _says_final(path.read_bytes())
    except FileNotFoundError:
        return False


def _outputs(content: bytes) -> list[FileValue]:
    """The files that a success consists of, each with size and digest; raises _Misfit for a record that names others.

    Where the record cannot be read at all, there are none: whoever reads the copy says what is wrong with it.
    """
    try:
        record = load(ResultRecord, content)
    except (RecordError, RecursionError):
        return []
    if not shape.conforms(record, ResultRecord):
        return []
    found = {value.path: value for _, value in shape.files(record.outputs)}
    for value in found.values():
        _check_name(value)
    return list(found.values())


def _check_name(value: FileValue) -> None:
    inside = value.path.startswith(f"{_A.outputs.name}/") and not value.shared
    plain = all(name not in ("", ".", "..") and "\0" not in name for name in value.path.split("/"))
    whole = value.size is not None and value.size >= 0 and re.fullmatch(r"[0-9a-f]{64}", value.sha256 or "")
    if not (inside and plain and whole):
        raise _Misfit(f"{value.path!r:.200}: not beneath outputs/, or without size and SHA-256")
