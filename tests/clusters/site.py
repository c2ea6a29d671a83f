"""A whole site for one test: configuration, database, the real worker in a process of its own, and an intake.

The web side is the test itself, or the real one; the worker, the spooler, the launcher and the process are real, so
that each of them can be killed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from lxml import etree

from joblauncher import failpoints
from joblauncher.failpoints import Failpoint
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.values import LiteralValue
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.config import Settings, load_settings
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, Given, Mode
from wps_hpc.jobs.store import Store, open_store
from wps_hpc.jobs.wake import Bell
from wps_hpc.processes.catalogue import Catalogue

PROCESSES = Path(__file__).parent / "processes"

#: Generous: machines that run tests are slow and busy.
PATIENCE = 60.0


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of ``condition``; fails the test when there is none in time."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {patience:g} s: {what}"
        time.sleep(0.01)
    return value


CONFIG = """
{head}
[server]
port = {port}
[storage]
root = "{root}"
min_free_bytes = 0
[database]
url = "{url}"
lease_seconds = 1.5
[limits]
parallel = {parallel}
queued = 1000
sync_seconds = {sync_seconds}
grace_seconds = 0
[inputs]
schemes = ["file"]
folders = ["{shared}"]
[processes]
folders = ["{processes}"]
watch_seconds = 0.2
[clusters.local]
command_seconds = 5.0
query_seconds = 0.3
lost_seconds = 2.0
{clusters}
"""


@dataclass
class Site:
    """One server's worth of files and processes beneath ``folder``."""

    folder: Path
    url: str
    parallel: int = 4
    sync_seconds: float = 20
    #: The cluster that jobs go to, if it is not the local one, and the tables that describe it.
    cluster: str = "local"
    clusters: str = ""
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = self.folder / "wps-hpc.toml"
        self.marks = self.folder / "marks"
        self.marks.mkdir()
        root = self.folder / "data"
        self.config.write_text(
            CONFIG.format(
                head=f'default_cluster = "{self.cluster}"',
                clusters=self.clusters,
                port=_free_port(),
                root=root,
                url=self.url,
                parallel=self.parallel,
                sync_seconds=self.sync_seconds,
                processes=PROCESSES,
                shared=self.folder,
            )
        )
        self.settings: Settings = load_settings(self.config)
        self.store: Store = open_store(self.settings)
        self.store.upgrade()
        self.bell = Bell(self.settings.storage.run, self.store.database)
        self.catalogue = Catalogue(self.settings.processes.modules, self.settings.processes.folders)
        self.catalogue.reload()
        assert not self.catalogue.problems, self.catalogue.problems
        self.intake = Intake(self.settings, self.store, self.catalogue, self.bell)

    def start_worker(self, failpoint: Failpoint | None = None) -> subprocess.Popen[bytes]:
        """A worker; with a failpoint, whoever reaches it first dies there. Aborted, it tells what its threads did."""
        environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
        if failpoint is not None:
            environment[failpoints.VARIABLE] = f"{failpoint.value}:{self.marker(failpoint)}"
        worker = self._started("worker", environment=environment)
        self.workers.append(worker)
        return worker

    def start_web(self, *options: str) -> str:
        """The web side alone (``--no-worker``), or what ``options`` of ``serve`` say; its address once it answers."""
        server = self._started("serve", *(options or ("--no-worker",)), environment=dict(os.environ))
        self.servers.append(server)
        address = self.settings.server.base_url
        until(lambda: server.poll() is not None or _answers(address), "the web server answers")
        assert server.poll() is None, (self.folder / "serve.log").read_text()
        return address

    def _started(self, *command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "wps_hpc.cli", "--config", str(self.config), *command],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def marker(self, failpoint: Failpoint) -> Path:
        """The file that says that a failpoint was reached."""
        return self.folder / f"reached-{failpoint.value}"

    def execute(self, process: str, mode: Mode = Mode.ASYNC, **inputs: Any) -> Job:
        """Accept one Execute with literal inputs, or other given values as they are."""
        return self.intake.execute(ExecuteRequest(process, "test", self.given(**inputs), mode=mode))

    def given(self, **inputs: Any) -> dict[str, tuple[Given, ...]]:
        """Inputs of a request: literals, or other given values as they are."""
        return {name: (_given(value),) for name, value in inputs.items()}

    def mark(self, name: str, **inputs: Any) -> Job:
        """Accept one job that leaves the mark ``name``."""
        return self.execute("mark", folder=str(self.marks), name=name, **inputs)

    def execute_over_http(self, client: httpx.Client, process: str, **inputs: Any) -> str:
        """Send one asynchronous Execute by KVP; the status location of the answer."""
        parameters = {
            "service": "WPS",
            "version": "1.0.0",
            "request": "Execute",
            "identifier": process,
            "DataInputs": ";".join(f"{name}={value}" for name, value in inputs.items()),
            "storeExecuteResponse": "true",
            "status": "true",
        }
        answer = client.get("/wps", params=parameters)
        assert answer.status_code == 200, answer.text
        return str(etree.fromstring(answer.content).get("statusLocation"))

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        job = self.store.get(job_id)
        assert job is not None
        return job

    def ended(self, job_id: str, patience: float = PATIENCE) -> Job:
        """The job once it is final."""
        until(lambda: self.job(job_id).final, f"job {job_id} ends: {self.job(job_id)}", patience)
        return self.job(job_id)

    def in_state(self, job_id: str, state: JobState) -> Job:
        """The job once it is in that state."""
        try:
            until(lambda: self.job(job_id).state is state, f"job {job_id} becomes {state}")
        except AssertionError as error:
            log = self.folder / "worker.log"
            said = log.read_text()[-3000:] if log.exists() else ""
            raise AssertionError(f"{error}\n{self.job(job_id)}\n{said}") from None
        return self.job(job_id)

    def job_folder(self, job: Job) -> JobFolder:
        """Its folder."""
        return JobFolder(job_path(self.settings.storage.root, job.id))

    def root_there(self, account: str | None = None) -> Path:
        """What ``storage.root`` is on a node, to an account of the cluster."""
        return Path(self.settings.clusters[self.cluster].under(account).root or self.settings.storage.root)

    def folder_there(self, job: Job) -> JobFolder:
        """Its folder on a node."""
        return JobFolder(job_path(self.root_there(job.account), job.id))

    def runs(self) -> set[str]:
        """The marks that were left."""
        return {path.name for path in self.marks.iterdir()}

    def kill_worker(self) -> None:
        """SIGKILL to the newest worker, and its end."""
        self.workers[-1].kill()
        self.workers[-1].wait()

    def scheduler_started(self) -> list[str]:
        """The tokens of all jobs that the spooler says it has started, one entry for each start."""
        log = (self.settings.storage.run / "spooler.log").read_text()
        return re.findall(r"started as (\w+),", log)

    def descendants(self, pid: int) -> list[int]:
        """All processes that descend from ``pid``, children first."""
        children = _children(pid)
        return children + [grandchild for child in children for grandchild in self.descendants(child)]

    def launcher_pids(self, job: Job) -> list[int]:
        """The launcher (and its child) of a job's current attempt, the launcher first."""
        claim = self.folder_there(job).attempt(job.attempt).claim
        leader = int(json.loads(claim.read_bytes())["pid"])
        return [leader, *_children(leader)]

    def close(self) -> None:
        """End everything."""
        for process in self.workers + self.servers:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
        for job in self.store.list_jobs(limit=10_000):
            _kill_marked(job)
        stop_spooler(self.settings)
        self.bell.close()
        self.store.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code > 0
    except httpx.TransportError:
        return False


def stop_spooler(settings: Settings) -> None:
    """End a site's spooler and whatever it runs."""
    transport = EmbeddedTransport(settings.storage.run)
    try:
        transport.stop(10.0, detach=True)
    except TransportError as error:
        print(f"the spooler does not stop: {error}", file=sys.stderr)
    for pid in _processes(f"--run {settings.storage.run}"):
        os.kill(pid, signal.SIGKILL)


def _given(value: Any) -> Given:
    if isinstance(value, (str, int, float)):
        return LiteralValue(str(value))
    return value  # type: ignore[no-any-return]


def _processes(words: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line and int(path.name) != os.getpid():
                found.append(int(path.name))
    return sorted(found)


def _children(pid: int) -> list[int]:
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in listed.split()]


def _kill_marked(job: Job) -> None:
    """Whatever a test's job left running, by its id in the environment."""
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and job.id.encode() in _environment(path):
            try:
                os.kill(int(path.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def _environment(path: Path) -> bytes:
    try:
        return (path / "environ").read_bytes()
    except OSError:
        return b""
