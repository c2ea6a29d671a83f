"""Grid Engine by DRMAA 1.0 (GFD.22) instead of its commands: to submit and to ask for states.

DRMAA gives one job's state at a time, knows only ids, and forgets exit codes with its session; so it never proves that
a job has succeeded, or even ended well. A job that it calls finished is left out of the answer: then what the launcher
left and accounting have the word, as they have for whatever else ``commands`` does better. The session is in a process
of its own, see ``transports.drmaa``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.schedulers.gridengine_words import NOT_NOW, NOT_REACHED, NOT_TAKEN
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.clusters.transports.drmaa import ACCOUNT, DRMAA, NO_SESSION, STATES, SUBMIT, Job, Living, Template

#: ``drmaa_job_ps`` states. None: finished, as far as DRMAA knows; others say how.
PHASES: Mapping[str, Phase | None] = {
    "undetermined": Phase.RUNNING,
    "queued_active": Phase.QUEUED,
    "system_on_hold": Phase.HELD,
    "user_on_hold": Phase.HELD,
    "user_system_on_hold": Phase.HELD,
    "running": Phase.RUNNING,
    "system_suspended": Phase.SUSPENDED,
    "user_suspended": Phase.SUSPENDED,
    "user_system_suspended": Phase.SUSPENDED,
    "done": None,
    "failed": None,
}
#: Error numbers of DRMAA that say for certain that there is no job, and whether another try may help.
_REFUSALS: Mapping[int, tuple[str, bool]] = {
    3: (NOT_TAKEN, False),  # authorisation failed
    4: (NOT_TAKEN, False),  # invalid argument
    13: (NOT_TAKEN, False),  # invalid format of an attribute
    14: (NOT_TAKEN, False),  # invalid value of an attribute
    15: (NOT_TAKEN, False),  # attributes that do not go together
    16: (NOT_NOW, True),  # try later
    17: (NOT_TAKEN, False),  # denied
    NO_SESSION: (NOT_REACHED, True),
}


@dataclass(frozen=True)
class DrmaaScheduler:
    """Jobs of one cell, by a DRMAA session; ``commands`` is the dialect of the same cell's commands."""

    commands: GridEngineScheduler
    name: str = "gridengine"
    enforces_limits: bool = False
    idempotent_submit: bool = False
    public_ids: bool = True
    settle_seconds: float = 5.0

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler.directives``."""
        return self.commands.directives(order)

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler.submit_command``. The script is read from the job folder and kept by Grid Engine (-b n)."""
        options = {name: value for name, value in self.directives(order).items() if name != "N"}
        native = " ".join(f"-{name} {value}".rstrip() for name, value in options.items())
        template = Template(order.token, f"{order.folder}/job.sh", order.folder, f"-b n {native}")
        return Command((DRMAA, SUBMIT), template.dump())

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler.read_submit``."""
        said = completed.stdout.strip()
        if completed.exit_code == 0 and said.isdecimal():
            return Submitted(said)
        if completed.exit_code not in _REFUSALS:
            return Unknown(_said(completed))
        text, transient = _REFUSALS[completed.exit_code]
        full = self.commands.read_submit(Completed(1, "", f"Unable to run job: {completed.stderr}"))
        if isinstance(full, Unknown) and completed.exit_code != NO_SESSION:
            return Unknown(_said(completed))  # also «denied» is a time limit that was passed
        if isinstance(full, Refused) and full.transient:
            text, transient = full.client_text, True
        return Refused(_said(completed), text, transient)

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler.lookup_command``. DRMAA finds nothing by name."""
        return self.commands.lookup_command(known)

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler.read_lookup``."""
        return self.commands.read_lookup(completed, known)

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``: of all jobs that the session's process has been told of."""
        return Command((DRMAA, STATES))

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler.read_query``."""
        if completed.exit_code != 0:
            return CouldNotAsk(_said(completed))
        try:
            return {number: word for number, word in _words(completed.stdout) if word is not None}
        except (ValueError, TypeError, KeyError) as error:
            return CouldNotAsk(f"unreadable answer ({error!r}): {completed.stdout:.200}")

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. On the way the session's process learns of those that live.

        After its death it knows of none; what it learns here is in the next answer of the query.
        """
        command = self.commands.accounting_command(known)
        if command is None:
            return None
        jobs = [Job(each.scheduler_id, each.token) for each in known if (each.scheduler_id or "").isdecimal()]
        return Command((DRMAA, ACCOUNT, *command.argv), Job.dump_all(jobs), command.env)

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler.read_accounting``."""
        return self.commands.read_accounting(completed, known)

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.forget_command``."""
        return self.commands.forget_command(known)

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler.control_command``. Not by DRMAA: that goes by ids, which a cell gives again."""
        return self.commands.control_command(action, known)

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler.read_control``."""
        return self.commands.read_control(action, completed)

    def living(self) -> Living:
        """How the transport learns whose jobs live."""
        return Living(self.commands.query_command(), self._tokens)

    def _tokens(self, completed: Completed) -> Mapping[str, str] | None:
        answer = self.commands.read_query(completed)
        if isinstance(answer, CouldNotAsk):
            return None
        return {number: word.token for number, word in answer.items() if word.token is not None}


def _words(text: str) -> list[tuple[str, JobWord | None]]:
    return [(job["id"], _word(job["state"], job["token"])) for job in json.loads(text)]


def _word(state: str, token: str) -> JobWord | None:
    phase = PHASES.get(state, Phase.RUNNING)
    return None if phase is None else JobWord(phase, state, token=token)


def _said(completed: Completed) -> str:
    return f"DRMAA error {completed.exit_code}: {completed.stderr.strip() or completed.stdout.strip()}"[:500]
