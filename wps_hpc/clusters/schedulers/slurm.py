"""The dialect of Slurm, 20.11 to 26.05, by its command line: what sbatch, squeue, sacct, scancel and scontrol say.

A job's identity is its name, which is the submission's token: Slurm hands out an id twice when its controller is killed
before it has saved its state, and starts over after MaxJobId. Nothing here believes an id without the name.
"""

from __future__ import annotations

import math
import re
import time
from calendar import timegm
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from joblauncher.formats.folder import JobFolder
from wps_hpc.clusters.queues import choose_queue
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
from wps_hpc.clusters.schedulers.slurm_words import (
    FAILED_REASONS,
    HELD_REASONS,
    NOT_TAKEN,
    REFUSALS,
    STATES,
    UNCERTAIN,
    UNKNOWN_STATE,
    NativeState,
    waiting,
)
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster
from wps_hpc.processes.description import Resources

_SUBMITTED = re.compile(r"(\d+)(;[\w.-]+)?")
_TOKEN = re.compile(r"[a-z][a-z0-9]{14}")
#: What squeue prints above the rows of a cluster among several, where it does.
_HEADING = re.compile(r"CLUSTER: [\w.-]+")
#: Where a row begins.
_ROW = re.compile(r" *[0-9_\[\]%,-]+ *\|")
_EXIT = re.compile(r"(\d+):(\d+)")
#: With widths that cut off nothing which is read, and separated by a character that no token and no state has. The
#: name comes last: that of a foreign job may have anything, line breaks too, but no more than 16 characters of it are
#: shown. Only the long form of a format knows how often a job was started again.
_QUERIED = "JobID:12|,State:20|,StartTime:20|,RestartCnt:6|,Reason:120|,Name:.16"
_ACCOUNTED = "JobIDRaw,State,ExitCode,JobName"
#: Times come and go in UTC, in the one form that all versions print.
_UTC = (("TZ", "UTC"), ("SLURM_TIME_FORMAT", "standard"))
_TIME = "%Y-%m-%dT%H:%M:%S"
_DAY = 86_400.0
#: The time limit is announced so long before it, in seconds; a quarter of a short one.
_WARNING = 60
_NO_ACCOUNTING = "accounting storage is disabled"
#: What stands in the place of a signal when the node could not open the output file.
_NO_OUTPUT = 53
_GONE = re.compile(r"Invalid job id|No active jobs match|already completing or completed", re.IGNORECASE)


@dataclass(frozen=True)
class SlurmScheduler:
    """Jobs of one Slurm cluster, under the account that runs the commands."""

    settings: Cluster
    name: str = "slurm"
    enforces_limits: bool = True
    idempotent_submit: bool = False
    public_ids: bool = True
    settle_seconds: float = 5.0

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler.directives``. The site's own options come last and win."""
        own = self.settings
        queue = choose_queue(own.queues, order.resources, order.input_mb)
        placed = {
            "partition": queue.name if queue else own.partition,
            "account": own.account,
            "qos": queue.qos if queue and queue.qos else own.qos,
            "reservation": own.reservation,
            "constraint": own.constraint,
            "licenses": own.licences,
            "gres": _gres(own.gres, order.resources),
        }
        chosen = {name: value for name, value in placed.items() if value}
        return {**_fixed(order), **_sizes(order.resources), **chosen, **own.options}

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler.submit_command``. The script goes by standard input: no node has to find a file."""
        return self._command("sbatch", "--parsable", *self._where, stdin=order.script.encode())

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler.read_submit``. Wrappers print what they like before the id, which stands on the last line."""
        said = completed.stdout.strip().rpartition("\n")[2].strip()
        found = _SUBMITTED.fullmatch(said)
        if completed.exit_code == 0 and found:
            return Submitted(found[1])
        if found or completed.exit_code <= 0 or UNCERTAIN.search(completed.stderr):
            return Unknown(_said(completed))
        if "sbatch: " not in completed.stderr:
            return Unknown(_said(completed))
        return _refused(completed)

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler.lookup_command``. What squeue has forgotten is looked for in accounting by the caller."""
        return self._squeue(f"--name={known.token}")

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler.read_lookup``."""
        answer = self.read_query(completed)
        if isinstance(answer, CouldNotAsk):
            return answer
        return next((key for key, word in answer.items() if word.token == known.token), None)

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``. By account, never by ids: an unknown id would look like an outage."""
        return self._squeue()

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler.read_query``."""
        if completed.exit_code != 0:
            return CouldNotAsk(_said(completed))
        try:
            return dict(_queried(completed.stdout))
        except ValueError as error:
            return CouldNotAsk(f"unreadable answer: {error}")

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. Without a start time sacct looks no further back than midnight."""
        start = min((each.submitted_at for each in known), default=time.time()) - _DAY
        names = f"--name={','.join(each.token for each in known)}"
        since = f"--starttime={time.strftime(_TIME, time.gmtime(start))}"
        options = ("--allocations", "--parsable2", "--noheader", f"--format={_ACCOUNTED}", since, names)
        return self._command("sacct", *options, *self._where, env=_UTC)

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler.read_accounting``. Only names count: an old job may have had the same id."""
        if _NO_ACCOUNTING in completed.stderr:
            return {}
        if completed.exit_code != 0:
            return CouldNotAsk(_said(completed))
        ids = {each.token: each.scheduler_id for each in known}
        try:
            found = list(_accounted(completed.stdout))
        except ValueError as error:
            return CouldNotAsk(f"unreadable answer of accounting: {error}")
        return {ids[word.token] or key: word for key, word in found if word.token in ids}

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.forget_command``. Slurm forgets by itself."""
        return None

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler.control_command``. Suspending by signal is what an ordinary account may do.

        scancel's name filter, and scontrol's jobname, keep off a job of somebody else's that got the same id.
        """
        if action in (Control.HOLD, Control.RELEASE):
            return self._command("scontrol", *self._where, action.value, f"jobname={known.token}")
        stop = {Control.SUSPEND: "STOP", Control.RESUME: "CONT"}.get(action)
        signal = ("--full", f"--signal={stop}") if stop else ()
        return self._command("scancel", *self._where, *signal, f"--name={known.token}", *_number(known))

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler.read_control``. scancel says nothing about a job that it does not have: the query tells."""
        if completed.exit_code == 0:
            return ControlOutcome(done=True)
        return ControlOutcome(done=False, gone=bool(_GONE.search(completed.stderr)), why=_said(completed))

    @property
    def _where(self) -> tuple[str, ...]:
        return (f"--clusters={self.settings.slurm_cluster}",) if self.settings.slurm_cluster else ()

    def _squeue(self, *options: str) -> Command:
        where = self._where or ("--federation",)
        shown = ("--noheader", "--me", "--states=all", f"--Format={_QUERIED}")
        return self._command("squeue", *shown, *where, *options, env=_UTC)

    def _command(self, *argv: str, stdin: bytes = b"", env: tuple[tuple[str, str], ...] = ()) -> Command:
        return Command(argv, stdin, (*self.settings.command_environment.items(), *env))


def _fixed(order: JobOrder) -> dict[str, str]:
    """What every job of this server needs, whatever the site says.

    ``--export=ALL``: sbatch's own environment is small and listed. With names, as with NONE, sbatch asks the node to
    read the account's login files as well (SLURM_GET_USER_ENV), for up to two minutes, and a site may hold the job when
    they fail (requeue_setup_env_fail). NIL is unknown before 23.02.
    """
    folder = JobFolder(Path(order.folder))
    return {
        "job-name": order.token,
        "output": str(folder.batch_log).replace("%", "%%"),
        "open-mode": "append",
        "chdir": order.folder,
        "export": "ALL",
        "requeue" if order.restarts else "no-requeue": "",
        "signal": f"B:USR1@{_warning(order.resources)}",
    }


def _warning(resources: Resources) -> int:
    walltime = resources.walltime_s or 4 * _WARNING
    return max(1, min(_WARNING, walltime // 4))


def _sizes(resources: Resources) -> dict[str, str]:
    """Nodes, tasks, cores, memory, and walltime in whole minutes, as Slurm counts."""
    sizes = {**_shape(resources), "time": (_share(resources.walltime_s, 60), "")}
    return {name: f"{value}{unit}" for name, (value, unit) in sizes.items() if value is not None}


def _shape(resources: Resources) -> dict[str, tuple[int | None, str]]:
    """One task a node, unless the process says how many tasks there are; then Slurm may choose the nodes."""
    cores, memory, tasks = resources.cores, resources.memory_mb, resources.tasks
    if tasks is None:
        nodes = resources.nodes or 1
        shape = {
            "ntasks-per-node": (1, ""),
            "cpus-per-task": (_share(cores, nodes), ""),
            "mem": (_share(memory, nodes), "M"),
        }
        return {"nodes": (nodes, ""), **shape}
    each = _share(cores, tasks)
    # Whose number of nodes is known gets the GPUs that were granted, and no others.
    on = resources.nodes or (1 if resources.gpus else None)
    shape = {"nodes": (on, ""), "ntasks": (tasks, ""), "cpus-per-task": (each, "")}
    return {**shape, "mem-per-cpu": (_share(memory, tasks * (each or 1)), "M")}


def _gres(own: str | None, resources: Resources) -> str:
    gpus = _share(resources.gpus, resources.nodes or 1)
    return ",".join(part for part in (own, f"gpu:{gpus}" if gpus else None) if part)


def _share(amount: int | None, among: int) -> int | None:
    return None if amount is None else math.ceil(amount / among)


def _number(known: Known) -> tuple[str, ...]:
    number = known.scheduler_id or ""
    return (number,) if number.isdecimal() else ()


def _refused(completed: Completed) -> Refused:
    for refusal in REFUSALS:
        if refusal.words in completed.stderr:
            return Refused(_said(completed), refusal.client_text, refusal.transient)
    return Refused(_said(completed), NOT_TAKEN)


def _queried(text: str) -> Iterator[tuple[str, JobWord]]:
    """This server's jobs among the rows of squeue, by scheduler id; raises ValueError for any line that is no row."""
    for line in _rows(text, 6):
        # From both ends: a reason may have the separator in it.
        number, state, start, restarts, rest = line.split("|", 4)
        reason, _, token = rest.rpartition("|")
        if _TOKEN.fullmatch(token.strip()):
            word = _word(state.strip(), reason.strip(), start.strip())
            yield _id(number.strip()), replace(word, token=token.strip(), restarts=_count(restarts.strip()))


def _accounted(text: str) -> Iterator[tuple[str, JobWord]]:
    """This server's jobs among the rows of sacct, by scheduler id; raises ValueError for any line that is no row."""
    for line in _rows(text, 4):
        number, state, ending, token = line.split("|", 3)
        if _TOKEN.fullmatch(token):
            yield _id(number), replace(_ended_word(state, ending), token=token)


def _rows(text: str, columns: int) -> Iterator[str]:
    """The rows of an answer, of at least so many columns; raises ValueError when it begins with anything else.

    What follows a row and is none is the rest of a foreign name with a line break in it.
    """
    begun = False
    for line in text.split("\n"):
        if _ROW.match(line) and line.count("|") >= columns - 1:
            begun = True
            yield line
        elif not begun and line.strip() and not _HEADING.fullmatch(line.strip()):
            raise ValueError(f"not a row: {line!r:.80}")


def _id(number: str) -> str:
    if not (number.isascii() and number.isdecimal()):
        raise ValueError(f"not an id: {number!r:.80}")
    return number


def _count(restarts: str) -> int:
    if not (restarts.isascii() and restarts.isdecimal()):
        raise ValueError(f"not a count of restarts: {restarts!r:.80}")
    return int(restarts)


def _word(state: str, reason: str, start: str) -> JobWord:
    """The word of squeue on one job."""
    word, native = _native(state)
    if native.phase is Phase.QUEUED:
        phase = Phase.HELD if reason.startswith(HELD_REASONS) else Phase.QUEUED
        return JobWord(phase, word, native.reason or waiting(reason), estimated_start=_minute(start))
    if word == "FAILED":
        return _failed(reason)
    code = 0 if word == "COMPLETED" else None
    return JobWord(native.phase, word, native.reason, native.cause, exit_code=code, ending=native.ending)


def _failed(reason: str) -> JobWord:
    raised = re.match(r"RaisedSignal:(\d+)", reason)
    if raised and int(raised[1]) != _NO_OUTPUT:
        return _by_signal(int(raised[1]))
    native = FAILED_REASONS["JobLaunchFailure"] if raised else FAILED_REASONS.get(reason, STATES["FAILED"])
    return JobWord(native.phase, "FAILED", native.reason, native.cause)


def _ended_word(state: str, ending: str) -> JobWord:
    """The word of sacct on one job, with «exit code:signal». Only for FAILED is that the job's own."""
    word, native = _native(state)
    found = _EXIT.fullmatch(ending)
    if found is None:
        raise ValueError(f"not an exit code: {ending!r:.80}")
    code, signal = int(found[1]), int(found[2])
    if word != "FAILED" or (code, signal) == (0, 0):
        return JobWord(native.phase, word, native.reason, native.cause, exit_code=0 if word == "COMPLETED" else None)
    if signal == _NO_OUTPUT:
        return _failed("JobLaunchFailure")
    if signal:
        return _by_signal(signal)
    return JobWord(native.phase, word, f"The job ended with exit code {code}.", native.cause, exit_code=code)


def _by_signal(number: int) -> JobWord:
    return JobWord(Phase.ENDED, "FAILED", f"The job was killed by signal {number}.", "signal", signal=number)


def _native(state: str) -> tuple[str, NativeState]:
    """The first word of a state («CANCELLED by 1001») and what it means."""
    found = re.match(r"[A-Z_]+", state)
    if found is None:
        raise ValueError(f"not a state: {state!r:.80}")
    return found[0], STATES.get(found[0], UNKNOWN_STATE)


def _minute(start: str) -> float | None:
    """An expected start, to the minute: closer it changes with every look."""
    try:
        return timegm(time.strptime(start, _TIME)) // 60 * 60.0
    except ValueError:
        return None


def _said(completed: Completed) -> str:
    return f"exit code {completed.exit_code}: {completed.stderr.strip() or completed.stdout.strip()}"[:500]
