"""What the fault matrix asks of a batch system, and what it expects of one: data and deeds, one class for each."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.clusters.hpc import token
from tests.clusters.site import Site
from wps_hpc.cli.check import OK
from wps_hpc.jobs.job import Job, JobState

TABLE = """
[clusters.hpc]
scheduler = "{scheduler}"
{queue}
{always}
query_seconds = 0.3
command_seconds = {command_seconds}
lost_seconds = {lost_seconds}
environment = {{ PYTHONDONTWRITEBYTECODE = "1" }}
command_environment = {{ {variables} }}
{more}
"""
#: Longer than a batch system's own patience with itself in the tests (Slurm's MessageTimeout).
COMMAND_SECONDS = 20.0


@dataclass(frozen=True)
class Row:
    """A job that ends by itself or is killed from outside, and what is told of it."""

    process: str
    inputs: Mapping[str, Any]
    state: JobState
    cause: str = ""
    text: str = ""


#: Jobs that end by themselves; what a batch system has other words for, its own table says.
ROWS: Mapping[str, Row] = {
    "over its time limit": Row("end", {"how": "sleep", "minutes": 1}, JobState.FAILED, "time limit", "time limit"),
    "over its time limit and deaf": Row("end", {"how": "deaf", "minutes": 1}, JobState.FAILED, "time limit"),
    "over its time limit, cleans up": Row(
        "end", {"how": "clean", "minutes": 1}, JobState.FAILED, "time limit", "time limit"
    ),
    "leaves a torn status": Row("end", {"how": "tear"}, JobState.FAILED, "signal", "signal 9"),
    "forges a success": Row("end", {"how": "forge"}, JobState.FAILED, "bad output"),
    "makes its status unwritable": Row("end", {"how": "block"}, JobState.FAILED, "disk full"),
    "succeeds": Row("mark", {"name": "one"}, JobState.SUCCEEDED),
    "raises": Row("end", {"how": "raise"}, JobState.FAILED, "process error", "this cannot be done"),
    "os._exit": Row("end", {"how": "exit"}, JobState.FAILED, "exit code", "exit code 3"),
    "segfaults": Row("end", {"how": "segfault"}, JobState.FAILED, "signal", "SIGSEGV"),
    "eats its memory": Row("end", {"how": "eat"}, JobState.FAILED, "out of memory"),
    "has a child that eats its memory": Row("end", {"how": "child eats"}, JobState.SUCCEEDED),
}


@dataclass(frozen=True)
class Refusal:
    """Settings whose jobs are refused for good, and the batch system's words for it, which are the operator's."""

    queue: str
    words: str


class BatchSystem(ABC):
    """One batch system as the server reaches it. What was done to it within a context is put right at its end."""

    #: The value of ``scheduler``, and the submit command.
    scheduler: ClassVar[str]
    submit: ClassVar[str]
    lost_seconds: ClassVar[float] = 5.0
    rows: ClassVar[Mapping[str, Row]] = ROWS
    refusals: ClassVar[Mapping[str, Refusal]]
    #: What a client must not be told of.
    operators_words: ClassVar[Collection[str]] = ()
    #: Cause of a job that an administrator has cancelled while it waited, and words of its detail.
    cancelled_waiting: ClassVar[tuple[str, str]] = ("cancelled", "")
    #: Cause of a job whose script and launcher were killed.
    killed: ClassVar[str] = "signal"
    #: Patterns in what is told of a job that waits within ``keep_waiting``, that the client and that an administrator
    #: holds; empty where the system does not say.
    waits_because: ClassVar[str] = ""
    held_by_client: ClassVar[str] = ""
    held_by_administrator: ClassVar[str] = ""
    #: A command's time limit where the master hangs.
    hung_seconds: ClassVar[float] = 3.0
    #: How often a job may have been submitted that met a master that hangs.
    hung_submissions: ClassVar[Collection[int]] = (1,)
    #: What ``check`` may find.
    probed: ClassVar[Collection[Sequence[str]]] = ([OK],)

    def __init__(self, queue: str, always: str = "") -> None:
        """A system whose jobs go where the lines of ``queue`` say; ``always`` are lines that every site needs."""
        self.queue, self.always = queue, always

    # --- sites ---------------------------------------------------------------------------------------------------

    def lines(self, folder: Path) -> str:
        """What a site in that folder has in its cluster's table."""
        return self.always

    def make_site(
        self,
        *,
        queue: str | None = None,
        more: str = "",
        programs: str = "",
        command_seconds: float = COMMAND_SECONDS,
        parallel: int = 20,
    ) -> Site:
        """A site whose jobs go here; ``programs`` is a folder of commands that come before the system's own."""
        folder = Path(tempfile.mkdtemp(prefix="wps-hpc-site-"))
        variables = self.variables()
        if programs:
            variables["PATH"] = f"{programs}:{variables['PATH']}"
        table = TABLE.format(
            scheduler=self.scheduler,
            queue=self.queue if queue is None else queue,
            always=self.lines(folder),
            command_seconds=command_seconds,
            lost_seconds=self.lost_seconds,
            variables=", ".join(f'{name} = "{value}"' for name, value in variables.items()),
            more=more,
        )
        return Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}", parallel=parallel, cluster="hpc", clusters=table)

    def leave(self, site: Site) -> None:
        """End a site and all that is its."""
        for job in site.store.list_jobs(limit=1000):
            if job.submission_id is not None and not job.scheduler_gone:
                self.remove(token(site, job))
        site.close()
        for root in {site.settings.storage.root, site.root_there()}:
            if root.is_mount():
                subprocess.run(["umount", "--lazy", str(root)], check=True)
        shutil.rmtree(site.folder)

    def wrap_submit(self, folder: Path, body: str) -> str:
        """A submit command of the site's own in ``folder``, and that; ``{submit}`` in it is the system's."""
        found = shutil.which(self.submit, path=self.variables()["PATH"])
        assert found is not None
        wrapper = folder / self.submit
        wrapper.write_text(f"#!/bin/sh\n{body.format(submit=found)}\n")
        wrapper.chmod(0o755)
        return str(folder)

    @abstractmethod
    def variables(self) -> dict[str, str]:
        """What the system's commands need, PATH among it."""

    # --- what it has ---------------------------------------------------------------------------------------------

    @abstractmethod
    def accounted(self, token: str) -> Sequence[object]:
        """Its records of jobs of that name, one for each run."""

    @abstractmethod
    def still_has(self, token: str) -> bool:
        """Whether a job of that name waits or runs."""

    # --- what an administrator does, behind the server's back ----------------------------------------------------

    @abstractmethod
    def keep_waiting(self) -> AbstractContextManager[None]:
        """Let no job start within the block."""

    @abstractmethod
    def cancel(self, site: Site, job: Job) -> None:
        """Cancel a job."""

    @abstractmethod
    def hold(self, site: Site, job: Job) -> None:
        """Hold a job that waits."""

    @abstractmethod
    def release(self, site: Site, job: Job) -> None:
        """Let a job go that is held, whoever held it."""

    @abstractmethod
    def remove(self, token: str) -> None:
        """End whatever has that name, if anything has."""

    # --- what befalls it -----------------------------------------------------------------------------------------

    @abstractmethod
    def without_master(self) -> AbstractContextManager[None]:
        """Take its master away within the block; it answers again at the end."""

    @abstractmethod
    def frozen_master(self) -> AbstractContextManager[None]:
        """Let its master hang within the block."""

    # --- where its truth may differ ------------------------------------------------------------------------------

    @property
    def memory_is_enforced(self) -> bool:
        """Whether a job that takes too much memory is ended on this machine. The launcher can do so on any."""
        return True

    def waits_for_master(self, job: Job) -> bool:
        """Whether a job that was accepted while the master is away is kept for later, and says so."""
        return job.state is JobState.ACCEPTED and job.message.startswith("The scheduler cannot be reached")
