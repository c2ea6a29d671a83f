"""The batch systems of the fault matrix: Slurm, Grid Engine by its commands, Grid Engine by DRMAA."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.clusters.batch_system import ROWS, BatchSystem, Refusal, Row
from tests.clusters.hpc import scheduler_id
from tests.clusters.site import Site, until
from tests.services.gridengine import PE, GridEngine
from tests.services.slurm import Slurm
from wps_hpc.jobs.job import Job, JobState


@contextmanager
def stopped(daemon: int) -> Iterator[None]:
    """Let a process hang within the block."""
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


class SlurmSystem(BatchSystem):
    """Slurm; jobs go to the partition ``long``."""

    scheduler = "slurm"
    submit = "sbatch"
    lost_seconds = 3.0
    refusals: ClassVar[Mapping[str, Refusal]] = {
        "partition": Refusal('partition = "nowhere"', "Invalid partition name"),
        "account": Refusal('account = "nobody"', "Invalid account"),
        "qos": Refusal('qos = "nothing"', "Invalid qos"),
    }
    operators_words = ("partition", "account")
    #: Before 24.11 squeue gives such a job the reason of one that could not start (JobLaunchFailure).
    killed = "could not start"
    waits_because = "the queue is closed"
    held_by_client = r"^held \(job \d+\): by "
    held_by_administrator = "by an administrator"
    #: sbatch gives up by itself.
    hung_seconds = 20.0

    def __init__(self, slurm: Slurm, queue: str = 'partition = "long"', always: str = "") -> None:
        super().__init__(queue, always)
        self.slurm = slurm

    def variables(self) -> dict[str, str]:
        """Its configuration; the commands are the PATH's."""
        return {"SLURM_CONF": str(self.slurm.conf), "PATH": os.environ["PATH"]}

    def accounted(self, token: str) -> list[list[str]]:
        """Requeued runs too."""
        return self.slurm.accounted(token)

    def still_has(self, token: str) -> bool:
        """By the list of all jobs."""
        return token in self.slurm.run("squeue", "-h", "-o", "%j").stdout

    @contextmanager
    def keep_waiting(self) -> Iterator[None]:
        """The partition is closed."""
        self.slurm.run("scontrol", "update", "PartitionName=long", "State=DOWN")
        try:
            yield
        finally:
            self.slurm.run("scontrol", "update", "PartitionName=long", "State=UP")

    def cancel(self, site: Site, job: Job) -> None:
        """As root."""
        self.slurm.run("scancel", scheduler_id(site, job))

    def hold(self, site: Site, job: Job) -> None:
        """As root."""
        self.slurm.run("scontrol", "hold", scheduler_id(site, job))

    def release(self, site: Site, job: Job) -> None:
        """As root."""
        self.slurm.run("scontrol", "release", scheduler_id(site, job))

    def remove(self, token: str) -> None:
        """By name."""
        self.slurm.run("scancel", f"--name={token}")

    @contextmanager
    def without_master(self) -> Iterator[None]:
        """The controller ends in good order."""
        self.slurm.stop("slurmctld")
        try:
            yield
        finally:
            self.slurm.start_slurmctld()

    @contextmanager
    def frozen_master(self) -> Iterator[None]:
        """The controller is stopped."""
        with stopped(self.slurm.daemons["slurmctld"].pid):
            yield

    @property
    def memory_is_enforced(self) -> bool:
        """Slurm keeps that limit."""
        return self.slurm.memory_is_enforced


class GridEngineSystem(BatchSystem):
    """Grid Engine by its commands; jobs go to ``long.q``."""

    scheduler = "gridengine"
    submit = "qsub"
    #: The launcher keeps the memory's limit, for all of a job's processes together.
    rows: ClassVar[Mapping[str, Row]] = {
        **ROWS,
        "has a child that eats its memory": Row("end", {"how": "child eats"}, JobState.FAILED, "out of memory"),
    }
    refusals: ClassVar[Mapping[str, Refusal]] = {
        "queue": Refusal('queue = "nowhere.q"', "nowhere.q"),
        "project": Refusal('project = "nothing"', "nothing"),
        "resource": Refusal('options = { l = "nothing=1" }', "nothing"),
    }
    #: Grid Engine keeps no record of such a job: that nobody has it is all that can be known.
    cancelled_waiting = ("lost", "not claimed by any launcher")
    #: Of a job whose qsub was ended in time Grid Engine may never have heard.
    hung_submissions = (1, 2)

    def __init__(self, grid_engine: GridEngine, always: str = "") -> None:
        super().__init__(f'queue = "long.q"\nparallel_environment = "{PE}"', always)
        self.grid_engine = grid_engine
        self.master_was_killed = False

    def variables(self) -> dict[str, str]:
        """Its cell and ports; the commands lie beside it."""
        return {**self.grid_engine.variables(), "PATH": self.grid_engine.environment()["PATH"]}

    def accounted(self, token: str) -> list[str]:
        """The exit status of each."""
        return self.grid_engine.accounted(token)

    def still_has(self, token: str) -> bool:
        """By the list of all jobs."""
        return token in self.grid_engine.run("qstat", "-xml", "-u", "*").stdout

    @contextmanager
    def keep_waiting(self) -> Iterator[None]:
        """The queue is disabled."""
        self.grid_engine.run("qmod", "-d", "long.q")
        until(self._disabled, "the queue is disabled")
        try:
            yield
        finally:
            self.grid_engine.run("qmod", "-e", "long.q")

    def _disabled(self) -> bool:
        rows = [line.split() for line in self.grid_engine.run("qstat", "-f", "-q", "long.q").stdout.splitlines()]
        return any(row[0].startswith("long.q@") and "d" in row[-1] for row in rows if len(row) == 6)

    def cancel(self, site: Site, job: Job) -> None:
        """As root."""
        self.grid_engine.run("qdel", scheduler_id(site, job))

    def hold(self, site: Site, job: Job) -> None:
        """As root."""
        self.grid_engine.run("qhold", scheduler_id(site, job))

    def release(self, site: Site, job: Job) -> None:
        """As root."""
        self.grid_engine.run("qrls", scheduler_id(site, job))

    def remove(self, token: str) -> None:
        """By name, and without waiting for the execution daemon."""
        self.grid_engine.run("qdel", "-f", token, check=False)

    @contextmanager
    def without_master(self) -> Iterator[None]:
        """The master is killed."""
        self.master_was_killed = True
        self.grid_engine.stop("qmaster", signal.SIGKILL)
        try:
            yield
        finally:
            self.grid_engine.start_qmaster()

    def leave(self, site: Site) -> None:
        """See ``BatchSystem``; what comes after a killed master has an execution daemon that reports to it."""
        super().leave(site)
        if self.master_was_killed:
            self.grid_engine.restart_execd()
        self.master_was_killed = False

    @contextmanager
    def frozen_master(self) -> Iterator[None]:
        """The master is stopped."""
        with stopped(self.grid_engine.daemons["qmaster"].pid):
            yield


class DrmaaSystem(GridEngineSystem):
    """Grid Engine by a DRMAA library."""

    #: How a refusal is read from a session's answer; what is refused is the other way's to show.
    refusals: ClassVar[Mapping[str, Refusal]] = {"queue": GridEngineSystem.refusals["queue"]}

    def __init__(self, grid_engine: GridEngine, library: Path | None = None) -> None:
        self.library = library or grid_engine.programs.parent / "gridengine-drmaa/lib/libdrmaa.so.1.0"
        super().__init__(grid_engine, f'drmaa_library = "{self.library}"')

    def waits_for_master(self, job: Job) -> bool:
        """A session may have taken the job, or not: it was tried, and that is told."""
        return job.state is not JobState.ACCEPTED or bool(job.reason)
