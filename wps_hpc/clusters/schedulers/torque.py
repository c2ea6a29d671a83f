"""The dialect of TORQUE, by its command line: what qsub, qstat, qdel, qhold, qrls and qsig say; see also ``openpbs``.

A job's identity is its name, which is the submission's token: an id is needed to control a job, and never believed
without the name. The launcher keeps walltime and memory itself, for two reasons: TORQUE's TERM has KILL right behind
it, and an ended job is forgotten within seconds (``keep_completed``). What TORQUE is asked for is a little more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wps_hpc.clusters.queues import choose_queue
from wps_hpc.clusters.schedulers import pbs_words
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
from wps_hpc.clusters.schedulers.pbs_answers import Row, is_id, read_rows
from wps_hpc.clusters.schedulers.pbs_words import NativeState, Refusal, Words
from wps_hpc.clusters.schedulers.shared import LAST_SIGNAL, SHELL_SIGNAL, TOKEN, said, share, spare_walltime
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster, Queue
from wps_hpc.processes.description import Resources

#: Memory that is asked for beyond what the process needs, for the launcher.
_SPARE_MB = 256
#: qstat's exit code where an id that was asked for is unknown; what it knows is printed all the same.
_UNKNOWN_JOB = 153
#: Added by PBS to the number of a signal.
_PBS_SIGNAL = 256
_SIGTERM = 15
_GONE = re.compile(r"nonexistent job id|Unknown Job Id|COMPLETE|Job has finished")
_COMMANDS: Mapping[Control, tuple[str, ...]] = {
    Control.CANCEL: ("qdel",),
    Control.HOLD: ("qhold",),
    Control.RELEASE: ("qrls",),
    Control.SUSPEND: ("qsig", "-s", "suspend"),
    Control.RESUME: ("qsig", "-s", "resume"),
}


@dataclass(frozen=True)
class TorqueScheduler:
    """Jobs of one TORQUE server, under the account that runs the commands."""

    settings: Cluster
    name: str = "torque"
    enforces_limits: bool = False
    idempotent_submit: bool = False
    public_ids: bool = True
    settle_seconds: float = 5.0
    words: Words = pbs_words.TORQUE

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler.directives``. No path is among them: a directive cannot say every path."""
        own = self.settings
        queue = choose_queue(own.queues, order.resources, order.input_mb)
        parts = (*self._resources(order.resources, queue), own.options.get("l", ""))
        placed = {"q": queue.name if queue else own.queue, "A": own.account, "P": own.project}
        chosen = {name: value for name, value in placed.items() if value}
        site = {**own.options, "l": ",".join(part for part in parts if part)}
        fixed = {"N": order.token, "S": "/bin/sh", "o": "/dev/null", "j": "oe", "r": "n", "m": "n"}
        return {**fixed, **chosen, **site}

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler.submit_command``. The script goes by standard input: no node has to find a file."""
        return self._command("qsub", stdin=order.script.encode())

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler.read_submit``. Wrappers print what they like before the id, which stands on the last line."""
        last = completed.stdout.strip().rpartition("\n")[2].strip()
        if completed.exit_code == 0 and is_id(last):
            return Submitted(last)
        refusal = self._refusal(completed)
        if refusal is None or is_id(last):
            return Unknown(said(completed))
        return Refused(said(completed), refusal.client_text, refusal.transient)

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler.lookup_command``. Nothing is asked by name, so it is the query."""
        return self.query_command()

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler.read_lookup``."""
        answer = self.read_query(completed)
        if isinstance(answer, CouldNotAsk):
            return answer
        return next((key for key, word in answer.items() if word.token == known.token), None)

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``. XML of all jobs: there is no full answer for one account's only."""
        return self._command("qstat", "-x")

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler.read_query``. TORQUE's completed jobs are in it while they are kept."""
        silent = completed.exit_code == 0 and not completed.stdout.strip()
        if silent or completed.exit_code not in (0, _UNKNOWN_JOB):
            return CouldNotAsk(said(completed))
        try:
            return dict(self._ours(completed.stdout))
        except ValueError as error:
            return CouldNotAsk(f"unreadable answer: {error}")

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. An ordinary account has none: what the job left in its folder tells."""
        return None

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler.read_accounting``."""
        return self.read_query(completed)

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.forget_command``. It forgets by itself."""
        return None

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler.control_command``. One id a call: of several, an unknown one has crashed an OpenPBS server.

        To suspend is a right of operators; where it is not given, that is answered.
        """
        return self._command(*_COMMANDS[action], known.scheduler_id or known.token)

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler.read_control``."""
        if completed.exit_code == 0:
            return ControlOutcome(done=True)
        gone = completed.exit_code == _UNKNOWN_JOB or bool(_GONE.search(completed.stderr))
        return ControlOutcome(done=False, gone=gone, why=said(completed))

    def _resources(self, needed: Resources, queue: Queue | None) -> Sequence[str]:
        nodes = needed.nodes or 1
        chunk = [f"nodes={nodes}", f"ppn={share(needed.slots, nodes) or 1}"]
        if needed.gpus:
            chunk.append(f"gpus={share(needed.gpus, nodes)}")
        memory = self._memory_mb(needed)
        return (":".join(chunk), walltime(needed, queue), f"mem={memory}mb" if memory else "")

    def _memory_mb(self, needed: Resources) -> int | None:
        """Memory for the whole job, with room for the launcher itself."""
        own = self.settings.memory_spare_mb
        return None if needed.memory_mb is None else needed.memory_mb + (_SPARE_MB if own is None else own)

    def _refusal(self, completed: Completed) -> Refusal | None:
        if pbs_words.UNREACHED.search(completed.stderr):
            return Refusal(pbs_words.NOT_REACHED, transient=True)
        if "qsub" not in completed.stderr:
            return None
        if pbs_words.FULL.search(completed.stderr):
            return Refusal(pbs_words.NOT_NOW, transient=True)
        return self.words.refusals.get(completed.exit_code)

    def _ours(self, text: str) -> Iterator[tuple[str, JobWord]]:
        """This server's jobs in an answer, by id; raises ValueError."""
        for number, row in read_rows(text):
            if TOKEN.fullmatch(row.get("Job_Name", "")):
                yield number, self._word(row)

    def _word(self, row: Row) -> JobWord:
        letter, token = row.get("job_state", ""), row["Job_Name"]
        if not letter:
            raise ValueError("a job without a state")
        native = self.words.states.get(letter, pbs_words.UNKNOWN_STATE)
        if native.phase is Phase.ENDED:
            return self._ended(letter, row)
        reason = native.reason or _REASONS.get(native.phase, _no_reason)(row)
        return JobWord(native.phase, letter, reason, token=token)

    def _ended(self, letter: str, row: Row) -> JobWord:
        """A job that has ended. Without an exit status it is no success."""
        status, token = row.get("exit_status", row.get("Exit_status")), row["Job_Name"]
        if status is None or int(status) == _PBS_SIGNAL + _SIGTERM:
            native = pbs_words.DEPENDENCY if pbs_words.never_satisfied(row) else pbs_words.DELETED
            return _by(native, letter, token)
        code = int(status)
        number = _signal(code)
        if code < 0:
            return _by(self.words.ends.get(code, pbs_words.UNKNOWN_END), f"{letter} {code}", token)
        if number is not None:
            text = f"The job was killed by signal {number}."
            return JobWord(Phase.ENDED, letter, text, "signal", signal=number, token=token)
        if code:
            text = f"The job ended with exit code {code}."
            return JobWord(Phase.ENDED, letter, text, "exit code", exit_code=code, token=token)
        return JobWord(Phase.ENDED, letter, exit_code=0, token=token)

    def _command(self, *argv: str, stdin: bytes = b"") -> Command:
        return Command(argv, stdin, tuple(self.settings.command_environment.items()))


_REASONS = {
    Phase.QUEUED: lambda row: pbs_words.waiting(row.get("comment", "")),
    Phase.HELD: lambda row: pbs_words.held(row.get("Hold_Types", "")),
}


def _no_reason(_: Row) -> None:
    return None


def _by(native: NativeState, word: str, token: str) -> JobWord:
    return JobWord(native.phase, word, native.reason, native.cause, token=token)


def _signal(code: int) -> int | None:
    """The signal that ended the job, as PBS or its shell saw it."""
    number = code - (_PBS_SIGNAL if code > _PBS_SIGNAL else SHELL_SIGNAL)
    return number if 0 < number <= LAST_SIGNAL else None


def walltime(needed: Resources, queue: Queue | None) -> str:
    """The resource of that name; empty where the job needs none."""
    if needed.walltime_s is None:
        return ""
    return f"walltime={spare_walltime(needed.walltime_s, queue.max_walltime_seconds if queue else None)}"
