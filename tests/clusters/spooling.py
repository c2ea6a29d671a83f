"""A real spooler for a test, and jobs to give it."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wps_hpc.clusters.cluster import Cluster, build_clusters
from wps_hpc.clusters.schedulers.base import CouldNotAsk, JobOrder, JobWord, Known, Phase, Submitted
from wps_hpc.clusters.schedulers.local import LocalScheduler
from wps_hpc.clusters.spooler.spool import JobRecord, Spool
from wps_hpc.clusters.transports.base import Command, TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.config import Cluster as ClusterSettings
from wps_hpc.config import Settings, Storage

DEADLINE = 30.0


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Return as soon as the condition holds; fail after so many seconds, saying what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.005)


def running(mark: str) -> list[int]:
    """The pids of living processes that have the mark in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            ended = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if mark.encode() in arguments and not ended:
            found.append(int(folder.name))
    return found


def process_state(pid: int) -> str:
    """The letter of a process's state in /proc; empty when it is gone."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@dataclass(frozen=True)
class Site:
    """A storage root with a cluster of its own; its spooler starts with the first command."""

    root: Path
    cluster: Cluster

    @property
    def spool(self) -> Spool:
        """The spool folder."""
        return Spool(self.root / "run")

    @property
    def transport(self) -> EmbeddedTransport:
        """The cluster's transport."""
        assert isinstance(self.cluster.transport, EmbeddedTransport)
        return self.cluster.transport

    def folder(self, token: str) -> Path:
        """The folder of a job."""
        return self.root / "jobs" / token

    def order(self, token: str, *launcher: str, warm: bool = False, submission: int = 1) -> JobOrder:
        """An order for a job whose launcher is the given command line."""
        self.folder(token).mkdir(parents=True, exist_ok=True)
        order = JobOrder(token, f"id-of-{token}", "", str(self.folder(token)), launcher, submission, warm=warm)
        return replace(order, script=self.cluster.render_script(order))

    def shell(self, token: str, code: str) -> JobOrder:
        """An order for a job that is started cold and runs shell code in its folder."""
        return self.order(token, "/bin/sh", "-c", code)

    def start(self, order: JobOrder) -> str:
        """Submit; the scheduler's id."""
        outcome = self.cluster.submit(order)
        assert isinstance(outcome, Submitted), outcome
        return outcome.scheduler_id

    def word(self, token: str) -> JobWord:
        """What the accounting says of a job."""
        answer = self.cluster.accounting([known(token)])
        assert not isinstance(answer, CouldNotAsk), answer
        (word,) = answer.values()
        return word

    def ended(self, token: str) -> JobWord:
        """What the accounting says of a job once it has ended."""
        wait_for(lambda: self.word(token).phase is Phase.ENDED, f"the end of {token}")
        return self.word(token)

    def written(self, token: str, name: str) -> str:
        """The content of a file in a job's folder, once it is there and not empty."""
        file = self.folder(token) / name
        wait_for(lambda: file.exists() and file.stat().st_size, f"{file}")
        return file.read_text()

    def record(self, token: str) -> JobRecord:
        """A job's record, as a new spooler would read it."""
        (record,) = [each for each in self.spool.load_all() if isinstance(each, JobRecord) and each.token == token]
        return record

    def pid(self) -> int:
        """The pid of the spooler (started now, if there is none)."""
        return int(self.ping()["pid"])  # type: ignore[call-overload]

    def ping(self) -> Mapping[str, object]:
        """What the spooler says of itself."""
        completed = self.transport.run(Command(("ping",)), DEADLINE)
        assert completed.exit_code == 0, completed
        answer: Mapping[str, object] = json.loads(completed.stdout)
        return answer

    def kill_spooler(self) -> None:
        """SIGKILL to the spooler, and wait until it is gone."""
        os.kill(self.pid(), signal.SIGKILL)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        """Return when the spooler that last held the lock is gone."""
        pid = int(self.spool.lock.read_text())
        wait_for(lambda: process_state(pid) in ("", "Z"), "the end of the spooler")

    def log(self) -> str:
        """What the spooler has logged."""
        return self.spool.log.read_text() if self.spool.log.exists() else ""


def known(token: str) -> Known:
    """A submission by its token."""
    return Known(token, None, time.time())


def new_mark() -> str:
    """A number that no other process on this host has in its command line."""
    return f"0.{time.time_ns()}"


def sleeper(mark: str) -> str:
    """A command line that sleeps for ever and is found by its mark."""
    return f"sleep infinity {mark}"


def looping(file: str) -> str:
    """Shell code that writes a line to a file again and again."""
    return f"while echo x >> {shlex.quote(file)}; do sleep 0.01; done"


@contextmanager
def running_site(root: Path, *, grace: float = 10.0, **cluster: object) -> Iterator[Site]:
    """A site for a test; afterwards neither its jobs nor its spooler are left."""
    own = ClusterSettings(**cluster)  # type: ignore[arg-type]
    settings = Settings(storage=Storage(root=root), clusters={"local": own})
    built = build_clusters(settings)["local"]
    assert isinstance(built.scheduler, LocalScheduler)
    site = Site(root, replace(built, scheduler=replace(built.scheduler, cancel_grace=grace)))
    try:
        yield site
    finally:
        _end(site)


def _end(site: Site) -> None:
    site.cluster.close()
    try:
        for record in list(site.spool.load_all()):
            if isinstance(record, JobRecord) and record.ended is None:
                site.transport.run(Command(("control", "cancel", record.token, "--grace", "0")), DEADLINE)
        wait_for(lambda: site.transport.stop(DEADLINE), "the jobs' end")
    except TransportError:
        site.transport.stop(DEADLINE, detach=True)
        raise
