"""What a scheduler is to the server: something that builds command lines and reads what they print. It runs nothing.

The worker calls, in the life of a job: ``submit_command`` → ``read_submit``; when the outcome is unknown
``lookup_command`` → ``read_lookup``; then for all jobs of the cluster together ``query_command`` → ``read_query``, for
those that the query no longer shows ``accounting_command`` → ``read_accounting``; and when asked to
``control_command`` → ``read_control``.

Every reader is total: output that it does not understand becomes ``CouldNotAsk``, never an exception and never «gone».
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.processes.description import Resources


class Phase(StrEnum):
    """A native state in the server's words."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    SUSPENDED = "suspended"
    ENDED = "ended"


@dataclass(frozen=True)
class JobWord:
    """What the scheduler says of one job.

    ``word`` is the native state, ``reason`` a sentence for the client (why it waits, why it ended). For an ended job
    ``cause`` is one of ``joblauncher.formats.records.CAUSES`` or None when the scheduler calls it completed; None with
    ``exit_code`` 0 is a success in the scheduler's eyes only. ``restarts`` is its restart count. ``estimated_start`` is
    Unix seconds. ``ending`` says of a running job that the scheduler is about to say how it ended. ``known_as`` is the
    id by which people at the site can ask for the job (the watcher fills it in).
    """

    phase: Phase
    word: str
    reason: str | None = None
    cause: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    estimated_start: float | None = None
    token: str | None = None
    ending: bool = False
    known_as: str | None = None


@dataclass(frozen=True)
class CouldNotAsk:
    """The scheduler did not answer, or not in a way that can be read. Says nothing about any job."""

    why: str


@dataclass(frozen=True)
class Submitted:
    """The scheduler took the job under this id (and cluster, where federated)."""

    scheduler_id: str


@dataclass(frozen=True)
class Refused:
    """The scheduler certainly did not take the job.

    ``why`` is its own words (for the operator), ``client_text`` a neutral sentence; ``transient`` asks for another try
    later.
    """

    why: str
    client_text: str
    transient: bool = False


@dataclass(frozen=True)
class Unknown:
    """The job may have been taken; its token has to be looked up."""

    why: str


SubmitOutcome = Submitted | Refused | Unknown
#: Scheduler id to word, for all jobs that the scheduler shows; a job that is missing is «not found».
QueryAnswer = Mapping[str, JobWord] | CouldNotAsk


class Control(StrEnum):
    """What can be asked of a scheduler for one job."""

    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    SUSPEND = "suspend"
    RESUME = "resume"


@dataclass(frozen=True)
class ControlOutcome:
    """Whether the scheduler took the request; ``gone`` when it says that it does not have the job (any more)."""

    done: bool
    gone: bool = False
    why: str = ""


@dataclass(frozen=True)
class JobOrder:
    """Everything that a submission needs: numbers and names that the server made, no string from a client.

    ``script`` is the text of the batch script; ``folder`` the job folder as the node sees it; ``launcher`` the argv of
    the launcher (the last part of the script), for a scheduler that starts it without a shell. ``input_mb`` is the size
    of all input files in MiB; ``restarts`` how often the scheduler may start the job again when a node fails or a more
    important job comes (0: never). ``warm`` allows a scheduler that has a launcher loaded to call it with the options
    of that argv, which begin at its first ``--``. ``contained``: the launcher runs in a container, so that it takes a
    moment until it listens to signals.
    """

    token: str
    job_id: str
    script: str
    folder: str
    launcher: tuple[str, ...]
    submission: int
    resources: Resources = field(default_factory=Resources)
    input_mb: int = 0
    restarts: int = 0
    warm: bool = False
    contained: bool = False


@dataclass(frozen=True)
class Known:
    """A submission to ask about: how the server knows it."""

    token: str
    scheduler_id: str | None
    submitted_at: float


class Scheduler(Protocol):
    """One dialect. Stateless but for its settings; 200 to 300 lines."""

    @property
    def name(self) -> str:
        """The name in a cluster's configuration, and of its template ``batch_templates/<name>.sh.j2``."""

    @property
    def enforces_limits(self) -> bool:
        """The scheduler itself enforces walltime and memory; otherwise the launcher does."""

    @property
    def idempotent_submit(self) -> bool:
        """A token submitted again answers with the id of the first time and starts nothing.

        Then a submission of unknown outcome is simply repeated instead of looked up.
        """

    @property
    def public_ids(self) -> bool:
        """People at the site know jobs by the scheduler's ids, so clients are told them."""

    @property
    def settle_seconds(self) -> float:
        """How long the launcher's last files may take to be seen here once the scheduler calls the job ended."""

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """Options at the head of the batch script of ``order``: long name to value (empty: the option has none).

        Empty where the scheduler reads no options from a script. Raises NoQueueFits.
        """

    def submit_command(self, order: JobOrder) -> Command:
        """The command that submits ``order``; called once per submission, after the job folder is complete."""

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """What became of a submission."""

    def lookup_command(self, known: Known) -> Command:
        """The command that looks a submission up by its token, among waiting, running and finished jobs."""

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """The scheduler id of that token, None when the scheduler certainly does not know it."""

    def query_command(self) -> Command:
        """One query for all of this server's jobs on the cluster."""

    def read_query(self, completed: Completed) -> QueryAnswer:
        """All jobs that the query shows, by scheduler id."""

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """The command that asks accounting for jobs that the query does not show; None where there is no accounting."""

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """The words of accounting, by scheduler id."""

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """The command that drops what the scheduler remembers of purged jobs; None where it forgets by itself.

        Never for a submission that could still be repeated: a forgotten token would run again.
        """

    def control_command(self, action: Control, known: Known) -> Command:
        """The command that asks ``action`` for one job."""

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """Whether it was taken."""


@runtime_checkable
class Explains(Protocol):
    """What a scheduler has besides whose query says that something is wrong with a job, but not what."""

    def explain_command(self, answer: Mapping[str, JobWord]) -> Command | None:
        """The command that asks for the missing reasons in an answer of the query; None where none is missing."""

    def read_explained(self, completed: Completed, answer: Mapping[str, JobWord]) -> Mapping[str, JobWord]:
        """The answer with these reasons; the answer itself when they cannot be read."""
