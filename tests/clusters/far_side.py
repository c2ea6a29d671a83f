"""The other side of a transport that carries job folders, as a folder of this host: for faults at a chosen byte.

And a worker whose rounds the test calls, with that as its cluster. The test writes there what a launcher would.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from joblauncher.formats import status
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import ResultRecord, dump
from joblauncher.formats.values import FileValue
from tests.clusters.scripted import Batch, Rounds
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import (
    ChangeFeed,
    Command,
    Completed,
    Kind,
    Listed,
    NoSuchFile,
    Stopped,
    TransportError,
    Unreadable,
)
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.mirror import Mirror
from wps_hpc.jobs.places import inhabited
from wps_hpc.jobs.sending import Sender
from wps_hpc.jobs.sweep import Sweeper


@dataclass
class FarSide:
    """A file transport. ``away``: nothing gets through; ``full``: nothing can be written there; ``closed`` folders
    cannot be looked into.

    ``cut_after`` so many more bytes of contents, in either direction, the connection breaks, once. ``counted`` has the
    operations, ``carried`` the bytes of contents in both directions, ``sent`` every file that arrived.
    """

    root: Path
    batch: Batch = field(default_factory=Batch)
    away: bool = False
    full: bool = False
    closed: set[Path] = field(default_factory=set)
    cut_after: int | None = None
    counted: Counter[str] = field(default_factory=Counter)
    carried: int = 0
    sent: list[str] = field(default_factory=list)

    def run(self, command: Command, timeout: float) -> Completed:
        """See ``Transport.run``: the batch system may answer where no file comes through."""
        return self.batch.run(command, timeout)

    def put(self, source: Path, target: str) -> None:
        """See ``Transport.put``."""
        self.put_many({target: source}, 1.0)

    def get(self, source: str, target: Path) -> None:
        """See ``Transport.get``; never called."""

    def changes(self, timeout: float) -> ChangeFeed | None:
        """See ``Transport.changes``."""
        return None

    def close(self) -> None:
        """See ``Transport.close``."""

    def make_folders(self, folders: Sequence[str], timeout: float) -> None:
        """See ``FileTransport``."""
        self._begin("make_folders")
        for folder in folders:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def put_many(self, files: Mapping[str, Path], timeout: float, stop: Callable[[], bool] = lambda: False) -> None:
        """See ``FileTransport``."""
        self._begin("put_many")
        for target, source in files.items():
            if stop():
                raise Stopped
            if self.full:
                raise TransportError(f"{target}: No space left on device", may_have_run=False)
            content = source.read_bytes()
            self._carry(len(content))
            draft = Path(f"{target}.draft")
            draft.write_bytes(content)
            draft.replace(target)
            self.sent.append(target)

    def list_folders(
        self, folders: Sequence[str], timeout: float, depth: int = 1, only: str | None = None
    ) -> Mapping[str, tuple[Listed, ...]]:
        """See ``FileTransport``."""
        self._begin("list_folders")
        if any(Path(name) in self.closed for name in folders):
            raise Unreadable("list folders: Permission denied")
        return {
            name: tuple(
                entry
                for entry in _listed(Path(name), "", depth)
                if only is None or re.fullmatch(f".*/{only}", f"{name}/{entry.path}", re.DOTALL)
            )
            for name in folders
            if Path(name).is_dir()
        }

    def open_folders(self, folders: Sequence[str], timeout: float, depth: int = 1) -> None:
        """See ``FileTransport``: what is closed here, somebody else has closed."""
        self._begin("open_folders")

    def read_many(self, files: Sequence[str], most: int, timeout: float) -> Mapping[str, bytes]:
        """See ``FileTransport``."""
        if not files:
            return {}
        self._begin("read_many")
        contents = {name: _regular(name).read_bytes()[:most] for name in files if _is_regular(name)}
        self._carry(sum(map(len, contents.values())))
        return contents

    def get_part(self, source: str, offset: int, most: int, timeout: float) -> bytes:
        """See ``FileTransport``."""
        self._begin("get_part")
        with _regular(source).open("rb") as stream:
            stream.seek(offset)
            content = stream.read(most)
        self._carry(len(content))
        return content

    def checksums(self, files: Sequence[str], timeout: float) -> Mapping[str, str]:
        """See ``FileTransport``."""
        self._begin("checksums")
        return {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in files if _is_regular(name)}

    def remove_trees(self, paths: Sequence[str], timeout: float) -> None:
        """See ``FileTransport``."""
        self._begin("remove_trees")
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)

    def _begin(self, operation: str) -> None:
        self.counted[operation] += 1
        if self.away:
            raise TransportError("the connection is down", may_have_run=False)

    def _carry(self, size: int) -> None:
        if self.cut_after is not None and size > self.cut_after:
            self.cut_after = None
            raise TransportError("the connection was cut", may_have_run=True)
        if self.cut_after is not None:
            self.cut_after -= size
        self.carried += size


def _is_regular(name: str) -> bool:
    return Path(name).exists(follow_symlinks=False) and stat.S_ISREG(Path(name).lstat().st_mode)


def _regular(name: str) -> Path:
    if not _is_regular(name):
        raise NoSuchFile(f"{name} is no regular file")
    return Path(name)


def _listed(folder: Path, prefix: str, depth: int) -> list[Listed]:
    found = []
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        facts = entry.stat(follow_symlinks=False)
        kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER}
        kind = kinds.get(stat.S_IFMT(facts.st_mode), Kind.OTHER)
        found.append(Listed(prefix + entry.name, kind, facts.st_size, facts.st_mtime))
        if kind is Kind.FOLDER and depth > 1:
            found += _listed(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)
    return found


@dataclass
class FarRounds(Rounds):
    """A worker whose cluster is ``far``; pieces of results have ``piece`` bytes."""

    far: FarSide = field(default_factory=lambda: FarSide(Path()))

    def __post_init__(self) -> None:
        self.far.batch = self.batch
        super().__post_init__()
        here, there = self.site.settings.storage.root, str(self.far.root)
        settings = self.cluster.settings.model_copy(update={"root": there, "staging": "sftp"})
        self.desk.clusters = {"local": settings}
        lived = partial(inhabited, self.site.store, "local", there)
        depot = Depot(self.far, here, there, 5.0, self.site.store.identity(), lived)
        self.cluster = replace(self.cluster, settings=settings, transport=self.far, storage=here, depot=depot)
        self.start()

    def start(self) -> None:
        """A new worker: it has the lease and remembers nothing."""
        super().start()
        if self.cluster.depot is not None:
            self.end_transfers()
            depot = replace(self.cluster.depot, _launchers=set())
            self.cluster = replace(self.cluster, depot=depot)
            self.dispatcher.cluster = self.watcher.cluster = self.cluster
            self.watcher.mirror = Mirror(depot, self.site.settings, self.dialect.settle_seconds, steady=self.now)
            self.dispatcher.sender = Sender(depot, self.launcher())
            self.desk.epoch = self.epoch
            self.sweeper = Sweeper(self.cluster, self.site.store, self.launcher(), self.now)

    def _description(self, name: str) -> None:
        """The outputs of these tests are described nowhere."""
        return

    def end_transfers(self) -> None:
        """What the worker does in the background ends."""
        for part in (self.watcher.mirror, self.dispatcher.sender):
            if part is not None:
                part.close()

    def launcher(self) -> Path:
        """A file beneath the storage, as the real one is."""
        path = self.site.settings.storage.root / "launcher" / "1-abc" / "joblauncher.pyz"
        if not path.exists():
            path.parent.mkdir(parents=True)
            path.write_bytes(b"the launcher" * 100)
        return path

    def left_in(self, job: Job) -> JobFolder:
        """The job's folder on the other side."""
        return JobFolder(job_path(self.far.root, job.id))

    def submit(self, count: int = 1) -> list[Job]:
        """Jobs whose folders were sent, and which the batch system runs."""
        before = self.batch.count("submit")
        jobs = [self.site.mark(f"job-{before + number}") for number in range(count)]
        self.dispatch_until(lambda: self.batch.count("submit") >= before + count)
        return [self.site.job(job.id) for job in jobs]

    def dispatch_until(self, condition: object, patience: float = 30.0) -> None:
        """Rounds of the dispatcher, until then."""
        assert callable(condition)
        deadline = time.monotonic() + patience
        self.dispatcher.round()
        while not condition():
            assert time.monotonic() < deadline, "not in time"
            time.sleep(0.01)
            self.dispatcher.round()

    def wrote_files(self, job: Job, *, attempt: int = 1, **contents: bytes) -> None:
        """The launcher committed a success with an output ``result`` and files beside it, by name and content."""
        paths = self.left_in(job).attempt(attempt)
        values = {}
        for name, content in contents.items():
            file = paths.outputs / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            path = file.relative_to(paths.path).as_posix()
            sha256 = hashlib.sha256(content).hexdigest()
            values[name] = FileValue(path, "text/plain", size=len(content), sha256=sha256)
        self.wrote_outputs(job, values, attempt)

    def wrote_outputs(self, job: Job, values: Mapping[str, FileValue], attempt: int = 1) -> None:
        """The launcher committed a success with these outputs, whatever lies there."""
        paths = self.left_in(job).attempt(attempt)
        outputs = {name: (value,) for name, value in values.items()}
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.claim.touch()
        paths.result.write_bytes(dump(ResultRecord("succeeded", time.time(), time.time(), "node1", outputs)))
        document = status.succeeded(status.StatusHead(job.id, job.process), "done", outputs, time.time())
        paths.status.write_bytes(document)
