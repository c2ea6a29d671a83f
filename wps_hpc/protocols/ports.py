"""What a protocol needs from the rooms behind it, and no more: the catalogue, and a job from Execute to its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from joblauncher.formats.values import FileValue, Value
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.store import JobFilter
from wps_hpc.processes.description import ProcessDescription


class Entry(Protocol):
    """A process on offer."""

    @property
    def description(self) -> ProcessDescription:
        """What clients see of it."""


class Catalogue(Protocol):
    """The processes on offer."""

    @property
    def revision(self) -> int:
        """A number that grows whenever the offer changes (``updateSequence``)."""

    def get(self, identifier: str) -> Entry | None:
        """The process of that identifier, or None."""

    def entries(self) -> Iterable[Entry]:
        """All processes on offer."""


class Intake(Protocol):
    """Takes Executes in, and waits for or dismisses the jobs they became. Refusals are ``ServiceError``s."""

    def execute(self, request: ExecuteRequest) -> Job:
        """Validate every input and output, admit, and record; the job exists when this returns."""

    def wait(self, job_id: str, seconds: float) -> Job:
        """The job when it is final, or as it is after ``seconds``."""

    def dismiss(self, job_id: str, by: str) -> Job:
        """Have the job ended; the answer may still be on its way to that. A final job stays as it is."""

    def pause(self, job_id: str) -> Job:
        """Have the job wait: held before it runs, suspended while it runs; the answer is the job as it is now."""

    def resume(self, job_id: str) -> Job:
        """Have a paused job go on; the answer is the job as it is now."""

    def forget(self, job_id: str) -> None:
        """Let an ended job go before its time."""


class Store(Protocol):
    """The record of jobs."""

    def get(self, job_id: str) -> Job | None:
        """The job, or None when there is none, or none any more."""

    def find(self, wanted: JobFilter, limit: int, before: tuple[float, str] | None = None) -> list[Job]:
        """The newest jobs that fit first; ``before`` is (created, id) of the last one of the page before."""


class Results(Protocol):
    """What jobs were asked for and what they made."""

    def request(self, job: Job) -> ExecuteRequest:
        """The request as it was accepted."""

    def outputs(self, job: Job) -> Mapping[str, tuple[Value, ...]]:
        """The outputs of a job that succeeded."""

    def open(self, job: Job, value: FileValue) -> BinaryIO:
        """A regular file beneath the job's outputs, open for reading; raises NotFound or NoApplicableCode."""

    def lineage(self, job: Job) -> bytes | None:
        """The client's own account of inputs and outputs, when it asked to have it echoed."""


@dataclass(frozen=True)
class Backend:
    """Everything behind the protocols."""

    catalogue: Catalogue
    intake: Intake
    store: Store
    results: Results
