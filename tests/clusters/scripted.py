"""A batch system that does what a test tells it, behind the real ``Cluster``: for faults that no real one can be made
to show. Its jobs run nothing; the test writes what a launcher would have left.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from joblauncher.formats import status
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import Failure, ResultRecord, dump
from joblauncher.formats.values import LiteralValue
from tests.clusters.site import Site
from wps_hpc import config
from wps_hpc.clusters import scripts
from wps_hpc.clusters.cluster import Cluster, _News
from wps_hpc.clusters.schedulers.base import (
    Control,
    ControlOutcome,
    CouldNotAsk,
    JobOrder,
    JobWord,
    Known,
    Phase,
    QueryAnswer,
    Refused,
    SubmitOutcome,
    Submitted,
    Unknown,
)
from wps_hpc.clusters.transports.base import ChangeFeed, Command, Completed, TransportError
from wps_hpc.jobs.desk import Desk
from wps_hpc.jobs.dispatch import Dispatcher
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.lastwords import LastWords
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.pack import Packer
from wps_hpc.jobs.staging import Stager
from wps_hpc.jobs.watch import Watcher

RUNNING = JobWord(Phase.RUNNING, "RUNNING")
QUEUED = JobWord(Phase.QUEUED, "PENDING")
DONE = JobWord(Phase.ENDED, "COMPLETED", exit_code=0)


@dataclass
class Batch:
    """The batch system and the way to it. ``away``: every command fails to connect; ``deaf``: those named do.

    ``lost_answers`` of the next submissions never arrive: True if the job was taken all the same. ``refusals`` are the
    answers to the next submissions: whether another try may help. ``asked`` has every command line.
    """

    words: dict[str, JobWord] = field(default_factory=dict)
    accounts: dict[str, JobWord] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    away: bool = False
    deaf: set[str] = field(default_factory=set)
    lost_answers: list[bool] = field(default_factory=list)
    refusals: list[bool] = field(default_factory=list)
    controls_refused: bool = False
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, command: Command, timeout: float) -> Completed:
        """See ``Transport.run``."""
        self.asked.append(command.argv)
        if self.away or command.argv[0] in self.deaf:
            raise TransportError("no route to host", may_have_run=False)
        return Completed(0, json.dumps(getattr(self, f"_{command.argv[0]}")(*command.argv[1:])), "")

    def _submit(self, token: str) -> Any:
        if self.refusals:
            return {"refused": self.refusals.pop(0)}
        lost = self.lost_answers.pop(0) if self.lost_answers else None
        if lost is not False:
            self.tokens[token] = number = self.tokens.get(token, str(100 + len(self.tokens)))
            self.words[number] = JobWord(**{**vars(RUNNING), "token": token})
        if lost is not None:
            raise TransportError("timed out", may_have_run=True)
        return {"id": number}

    def _lookup(self, token: str) -> Any:
        return self.tokens.get(token)

    def _query(self) -> Any:
        return {number: asdict(word) for number, word in self.words.items()}

    def _accounting(self) -> Any:
        return {number: asdict(word) for number, word in self.accounts.items()}

    def _control(self, action: str, token: str) -> Any:
        return not self.controls_refused

    def _forget(self) -> Any:
        return None

    def say(self, word: JobWord, **other: Any) -> None:
        """Have the scheduler say ``word`` of every job that it has."""
        for number, old in self.words.items():
            self.words[number] = JobWord(**{**vars(word), "token": old.token, **other})

    def controls(self) -> list[str]:
        """The actions that were asked for, in order."""
        return [argv[1] for argv in self.asked if argv[0] == "control"]

    def count(self, command: str) -> int:
        """How often a command was run."""
        return sum(argv[0] == command for argv in self.asked)

    def put(self, source: Path, target: str) -> None:
        """See ``Transport.put``; never called."""

    def get(self, source: str, target: Path) -> None:
        """See ``Transport.get``; never called."""

    def changes(self, timeout: float) -> ChangeFeed | None:
        """None: it tells nothing by itself."""
        return None

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Dialect:
    """The scheduler: JSON on standard output."""

    idempotent_submit: bool = False
    settle_seconds: float = 1.0
    enforces_limits: bool = True
    public_ids: bool = True
    name: str = "scripted"

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler``."""
        return {}

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler``."""
        return Command(("submit", order.token))

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler``."""
        answer = json.loads(completed.stdout)
        if "id" in answer:
            return Submitted(answer["id"])
        return Refused("no", "The queue takes no jobs.", transient=answer["refused"]) if answer else Unknown("?")

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler``."""
        return Command(("lookup", known.token))

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler``."""
        found: str | None = json.loads(completed.stdout)
        return found

    def query_command(self) -> Command:
        """See ``Scheduler``."""
        return Command(("query",))

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler``."""
        rows: Mapping[str, Any] = json.loads(completed.stdout)
        return {number: JobWord(**{**row, "phase": Phase(row["phase"])}) for number, row in rows.items()}

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler``."""
        return Command(("accounting",))

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler``."""
        return self.read_query(completed)

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler``."""
        return Command(("forget",))

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler``."""
        return Command(("control", action.value, known.token))

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler``."""
        return ControlOutcome(done=json.loads(completed.stdout), why="not allowed here")


@dataclass
class Rounds:
    """A worker whose rounds the test calls one by one; ``pass_time`` moves all its clocks."""

    site: Site
    batch: Batch = field(default_factory=Batch)
    dialect: Dialect = field(default_factory=Dialect)
    skew: float = 0.0

    def __post_init__(self) -> None:
        site = self.site
        settings = config.Cluster(query_seconds=0.001, command_seconds=5.0, lost_seconds=2.0)
        template = scripts.load_template("local")
        self.cluster = Cluster("local", settings, self.dialect, self.batch, template, _News(self.batch, 1.0))
        self.start()
        self.pool = ThreadPoolExecutor(1)
        describe: Callable[[str], Any] = lambda name: self._description(name)  # noqa: E731
        root = site.settings.storage.root
        self.stager = Stager(site.settings, describe)
        self.describe = describe
        self.desk = Desk(
            root,
            site.store,
            self.stager,
            self.pool,
            4,
            self.epoch,
            lambda _: None,
            lambda: None,
            {"local": settings},
            clock=self.now,
        )

    def start(self) -> None:
        """A new worker: it has the lease and remembers nothing."""
        site = self.site
        lease = Lease(site.store, f"worker {time.monotonic_ns()}", -1.0)
        epoch = lease.acquire()
        assert epoch is not None
        self.epoch = epoch
        packer = Packer(site.settings, site.catalogue, self.launcher())
        self.dispatcher = Dispatcher(
            self.cluster,
            site.settings.limits,
            site.store,
            packer,
            epoch,
            lambda _: None,
            threading.Lock(),
            clock=self.now,
            steady=self.now,
        )
        self.watcher = Watcher(
            self.cluster,
            site.settings.storage.root,
            site.store,
            epoch,
            lambda _: None,
            LastWords(site.settings.storage.root, site.settings.logging),
            lambda name: self._description(name),
            clock=self.now,
            steady=self.now,
        )

    def launcher(self) -> Path:
        """The launcher that jobs are submitted with; nobody runs it."""
        return Path("/launcher.pyz")

    def left_in(self, job: Job) -> JobFolder:
        """Where the launcher of a job leaves what it has to say."""
        return self.site.job_folder(job)

    def now(self) -> float:
        """The worker's clock."""
        return time.time() + self.skew

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass for the worker."""
        self.skew += seconds

    def watch(self, poked: Collection[str] = ()) -> None:
        """One round of the watcher in which it asks the scheduler."""
        self.pass_time(self.cluster.settings.query_seconds)
        self.watcher.round(poked)

    def running(self, name: str = "one") -> Job:
        """A job that the scheduler runs and the launcher has begun."""
        job = self.site.mark(name)
        self.dispatcher.round()
        self.wrote_progress(job, 40)
        self.watch()
        return self.site.job(job.id)

    def wrote_progress(self, job: Job, percent: int, attempt: int = 1) -> None:
        """The launcher of an attempt reported its progress."""
        self._write(job, attempt, status.started(_head(job), percent, f"step {percent}", time.time()))

    def wrote_failure(self, job: Job, failure: Failure, attempt: int = 1) -> None:
        """The launcher of an attempt committed a failure."""
        paths = self.left_in(job).attempt(attempt)
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.result.write_bytes(dump(ResultRecord("failed", time.time(), time.time(), "node1", failure=failure)))
        self._write(job, attempt, status.failed(_head(job), failure, time.time()))

    def claimed(self, job: Job, attempt: int = 1) -> None:
        """A launcher took an attempt."""
        paths = self.left_in(job).attempt(attempt)
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.claim.touch()

    def said(self, job: Job, text: str, attempt: int = 1) -> None:
        """The process of an attempt printed to its standard error."""
        paths = self.left_in(job).attempt(attempt)
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.stderr.write_text(text)

    def wrote_success(self, job: Job, attempt: int = 1) -> None:
        """The launcher of an attempt committed a success."""
        outputs = {"result": (LiteralValue("one"),)}
        record = ResultRecord("succeeded", time.time(), time.time(), "node1", outputs)
        paths = self.left_in(job).attempt(attempt)
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.result.write_bytes(dump(record))
        self._write(job, attempt, status.succeeded(_head(job), "done", outputs, time.time()))

    def _write(self, job: Job, attempt: int, content: bytes) -> None:
        paths = self.left_in(job).attempt(attempt)
        paths.path.mkdir(parents=True, exist_ok=True)
        paths.status.write_bytes(content)

    def _description(self, name: str) -> Any:
        entry = self.site.catalogue.get(name)
        return None if entry is None else entry.description

    def close(self) -> None:
        """Let go of the threads."""
        self.desk.close()
        self.stager.close()
        self.pool.shutdown()


def _head(job: Job) -> status.StatusHead:
    return status.StatusHead(job.id, job.process)
