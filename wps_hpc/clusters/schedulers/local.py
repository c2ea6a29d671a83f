"""The dialect of the embedded spooler, for a laptop or a single host; see ``wps_hpc.clusters.spooler.commands``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from wps_hpc.clusters.spooler.commands import Exit
from wps_hpc.clusters.spooler.order import StartOrder
from wps_hpc.clusters.spooler.spool import Word
from wps_hpc.clusters.transports.base import Command, Completed

_ID = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class NativeState:
    """What a native state means: phase, cause of the failure, and the sentence for the client."""

    phase: Phase
    cause: str | None = None
    reason: str | None = None


#: Every native state. A job that ended unseen has no cause: nothing speaks against it, and its own files decide.
STATES: Mapping[str, NativeState] = {
    Word.RUNNING: NativeState(Phase.RUNNING),
    Word.SUSPENDED: NativeState(Phase.SUSPENDED),
    Word.COMPLETED: NativeState(Phase.ENDED),
    Word.FAILED: NativeState(Phase.ENDED, "exit code", "The job ended with exit code {exit_code}."),
    Word.KILLED: NativeState(Phase.ENDED, "signal", "The job was killed by signal {signal}."),
    Word.CANCELLED: NativeState(Phase.ENDED, "cancelled", "The job was cancelled."),
    Word.NEVER_STARTED: NativeState(
        Phase.ENDED, "could not start", "The job was accepted, but the scheduler stopped before it started the job."
    ),
    Word.ENDED_UNSEEN: NativeState(Phase.ENDED, None, "The job ended while the scheduler was not there to see how."),
    Word.HOST_RESTARTED: NativeState(Phase.ENDED, "node failure", "The host was restarted while the job ran."),
}
#: Exit codes of ``submit`` that say for certain that nothing was started, and whether another try may help.
_REFUSALS: Mapping[int, bool] = {
    Exit.USAGE: False,
    Exit.BAD_ORDER: False,
    Exit.NOT_NOW: True,
    Exit.NOT_ALLOWED: False,
}
_REFUSED_TEXT = "The job could not be started on this host."


@dataclass(frozen=True)
class LocalScheduler:
    """Jobs on this host. ``environment`` is what they get; ``cancel_grace`` the seconds a cancelled one has."""

    environment: Mapping[str, str]
    cancel_grace: float = 30.0
    name: str = "local"
    enforces_limits: bool = False
    idempotent_submit: bool = True
    public_ids: bool = False
    settle_seconds: float = 1.0

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler.directives``. The spooler does not read the script."""
        return {}

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler.submit_command``. The spooler starts a token once, however often it is submitted."""
        start = StartOrder(
            token=order.token,
            job_id=order.job_id,
            folder=order.folder,
            submission=order.submission,
            warm=order.warm,
            launcher=order.launcher,
            script=order.script,
            environment=self.environment,
        )
        return Command(("submit",), stdin=start.dump())

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler.read_submit``."""
        scheduler_id = completed.stdout.strip()
        if completed.exit_code == Exit.OK and _ID.fullmatch(scheduler_id):
            return Submitted(scheduler_id)
        if completed.exit_code in _REFUSALS:
            return Refused(completed.stderr.strip(), _REFUSED_TEXT, transient=_REFUSALS[completed.exit_code])
        return Unknown(_said(completed))

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler.lookup_command``."""
        return Command(("show", known.token))

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler.read_lookup``."""
        answer = self.read_query(completed)
        if isinstance(answer, CouldNotAsk):
            return answer
        return next((key for key, word in answer.items() if word.token == known.token), None)

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``."""
        return Command(("list",))

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler.read_query``."""
        if completed.exit_code != Exit.OK:
            return CouldNotAsk(_said(completed))
        try:
            rows = json.loads(completed.stdout)["jobs"]
            return {_checked_id(row["id"]): _read_word(row) for row in rows}
        except (ValueError, TypeError, KeyError) as error:
            return CouldNotAsk(f"unreadable answer ({error}): {completed.stdout:.200}")

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. Ended jobs are remembered for a week, unless forgotten before."""
        return Command(("show", *(each.token for each in known)))

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler.read_accounting``."""
        return self.read_query(completed)

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler.control_command``."""
        grace = ("--grace", f"{self.cancel_grace:g}") if action is Control.CANCEL else ()
        return Command(("control", action.value, known.token, *grace))

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler.read_control``."""
        if completed.exit_code == Exit.OK:
            return ControlOutcome(done=True)
        gone = completed.exit_code in (Exit.UNKNOWN_JOB, Exit.JOB_ENDED)
        return ControlOutcome(done=False, gone=gone, why=completed.stderr.strip() or _said(completed))

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.forget_command``."""
        return Command(("forget", *(each.token for each in known)))


def _read_word(row: Mapping[str, Any]) -> JobWord:
    exit_code, signal = _optional_int(row["exit_code"]), _optional_int(row["signal"])
    # A word that this version does not know says that there is a job, and no more.
    state = STATES.get(row["word"], NativeState(Phase.RUNNING))
    reason = state.reason and state.reason.format(exit_code=exit_code, signal=signal)
    return JobWord(
        phase=state.phase,
        word=str(row["word"]),
        reason=reason,
        cause=state.cause,
        exit_code=exit_code,
        signal=signal,
        token=str(row["token"]),
    )


def _checked_id(value: object) -> str:
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise ValueError(f"not an id: {value!r}")


def _optional_int(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValueError(f"not a number: {value!r}")


def _said(completed: Completed) -> str:
    return f"exit code {completed.exit_code}: {completed.stderr.strip() or completed.stdout.strip()}"[:500]
