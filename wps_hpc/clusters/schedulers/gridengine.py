"""The dialect of Grid Engine (6.2 and its descendants), by its command line: qsub, qstat, qacct, qdel, qhold and qmod.

A job's identity is its name, which is the submission's token; its number is never believed without it. The launcher
keeps walltime and memory itself: h_rt is SIGKILL without a warning, and h_vmem counts address space, which Python and
container runtimes take far more of than they use. What Grid Engine is asked for is more, and a backstop.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lxml import etree

from wps_hpc.clusters.queues import NoQueueFits, choose_queue
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
from wps_hpc.clusters.schedulers.gridengine_words import (
    DELETING,
    ERRORS,
    FAILED,
    LETTERS,
    OVER_MEMORY,
    PERHAPS_TAKEN,
    REFUSALS,
    UNCERTAIN,
    UNKNOWN_FAILURE,
    UNKNOWN_STATE,
    UNREACHED,
    NativeState,
)
from wps_hpc.clusters.schedulers.shared import LAST_SIGNAL, SHELL_SIGNAL, TOKEN, said, share, spare_walltime
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster, Queue
from wps_hpc.processes.description import Resources

_ID = re.compile(r"[0-9]+")
#: All tokens, as qacct writes patterns.
_ANY_TOKEN = "w??????????????"
#: Memory that is asked for beyond what the process needs: the address space of launcher and container.
_SPARE_MB = 2048
_UTC = (("TZ", "UTC"),)
_FAILED = re.compile(r"(\d+)(?:\s*:.*)?")
_EXIT_STATUS = re.compile(r"(\d+)(?:\s.*)?")
_HARD_LIMIT = re.compile(r"\bh_rt=(\d+)")
_NO_RECORD = re.compile(r"job (?:id|name) \S+ not found|No such file or directory|Permission denied")
_GONE = re.compile(r"does not exist|invalid queue or job")
_COMMANDS: Mapping[Control, tuple[str, ...]] = {
    Control.CANCEL: ("qdel",),
    Control.HOLD: ("qhold",),
    Control.RELEASE: ("qrls",),
    Control.SUSPEND: ("qmod", "-sj"),
    Control.RESUME: ("qmod", "-usj"),
}
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True, recover=False)


@dataclass(frozen=True)
class GridEngineScheduler:
    """Jobs of one cell, under the account that runs the commands."""

    settings: Cluster
    name: str = "gridengine"
    enforces_limits: bool = False
    idempotent_submit: bool = False
    public_ids: bool = True
    settle_seconds: float = 5.0

    def directives(self, order: JobOrder) -> Mapping[str, str]:
        """See ``Scheduler.directives``. No path is among them: Grid Engine does not take quotes off in a script."""
        own = self.settings
        queue = choose_queue(own.queues, order.resources, order.input_mb)
        limits = (*self._resources(order.resources, queue), own.options.get("l", ""))
        placed = {
            "q": queue.name if queue else own.queue,
            "pe": self._parallel(order.resources),
            "A": own.account,
            "P": own.project,
        }
        chosen = {name: value for name, value in placed.items() if value}
        site = {**own.options, "l": ",".join(limit for limit in limits if limit)}
        fixed = {"N": order.token, "S": "/bin/sh", "o": "/dev/null", "j": "y", "r": "n", "notify": ""}
        return {name: value for name, value in {**fixed, **chosen, **site}.items() if name != "l" or value}

    def submit_command(self, order: JobOrder) -> Command:
        """See ``Scheduler.submit_command``. The script goes by standard input: no node has to find a file."""
        return self._command("qsub", "-terse", "-wd", order.folder, stdin=order.script.encode())

    def read_submit(self, completed: Completed) -> SubmitOutcome:
        """See ``Scheduler.read_submit``. Wrappers print what they like before the id, which stands on the last line."""
        last = completed.stdout.strip().rpartition("\n")[2].strip()
        if completed.exit_code == 0 and _ID.fullmatch(last):
            return Submitted(last)
        text = f"{completed.stderr}\n{completed.stdout}"
        if completed.exit_code <= 0 or _ID.fullmatch(last) or _perhaps_taken(text):
            return Unknown(said(completed))
        for refusal in REFUSALS:
            if refusal.words.search(text):
                return Refused(said(completed), refusal.client_text, refusal.transient)
        return Unknown(said(completed))

    def lookup_command(self, known: Known) -> Command:
        """See ``Scheduler.lookup_command``. What qstat has forgotten is looked for in accounting by the caller."""
        return self.query_command()

    def read_lookup(self, completed: Completed, known: Known) -> str | CouldNotAsk | None:
        """See ``Scheduler.read_lookup``."""
        answer = self.read_query(completed)
        if isinstance(answer, CouldNotAsk):
            return answer
        return next((key for key, word in answer.items() if word.token == known.token), None)

    def query_command(self) -> Command:
        """See ``Scheduler.query_command``. qstat itself puts the account's name in the place of ``$user``."""
        return self._command("qstat", "-xml", "-u", "$user")

    def read_query(self, completed: Completed) -> QueryAnswer:
        """See ``Scheduler.read_query``."""
        if completed.exit_code != 0:
            return CouldNotAsk(said(completed))
        try:
            return dict(_queried(completed.stdout))
        except ValueError as error:
            return CouldNotAsk(f"unreadable answer: {error}")

    def explain_command(self, answer: Mapping[str, JobWord]) -> Command | None:
        """See ``Explains.explain_command``: why jobs are in the error state, which they would stay in for ever."""
        names = sorted(word.token for word in answer.values() if word.phase is Phase.ENDED and word.token)
        return self._command("qstat", "-xml", "-j", ",".join(names)) if names else None

    def read_explained(self, completed: Completed, answer: Mapping[str, JobWord]) -> Mapping[str, JobWord]:
        """See ``Explains.read_explained``. The operator is told Grid Engine's words, the client what they mean."""
        try:
            reasons = dict(_error_reasons(completed.stdout))
        except ValueError:
            return answer
        return {number: _explained(word, reasons.get(word.token or "")) for number, word in answer.items()}

    def accounting_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.accounting_command``. qacct takes one name or pattern, and reads the whole file.

        Not from a day on (-b): that leaves out jobs which could not be started.
        """
        token = known[0].token if len(known) == 1 else _ANY_TOKEN
        return self._command("qacct", *_owned(), "-j", token, env=_UTC)

    def read_accounting(self, completed: Completed, known: Sequence[Known]) -> QueryAnswer:
        """See ``Scheduler.read_accounting``. Records come seconds late; of a job deleted while it waited, never."""
        if completed.exit_code != 0:
            return {} if _NO_RECORD.search(completed.stderr) else CouldNotAsk(said(completed))
        ids = {each.token: each.scheduler_id for each in known}
        try:
            found = list(_accounted(completed.stdout))
        except ValueError as error:
            return CouldNotAsk(f"unreadable answer of accounting: {error}")
        named = ((key, ids[word.token], word) for key, word in found if word.token in ids)
        # Of the same name, but another number, is somebody else's.
        return {own or key: word for key, own, word in named if own == key or not _ID.fullmatch(own or "")}

    def forget_command(self, known: Sequence[Known]) -> Command | None:
        """See ``Scheduler.forget_command``. A job in the error state stays in the queue until it is deleted."""
        return self._command("qdel", *(each.token for each in known))

    def control_command(self, action: Control, known: Known) -> Command:
        """See ``Scheduler.control_command``. What cannot be undone goes by the token, in case the id was given again.

        For the rest somebody else's job of the same name, which may not be touched, would make a failure of it.
        """
        number = known.scheduler_id or ""
        by_id = action is not Control.CANCEL and _ID.fullmatch(number)
        return self._command(*_COMMANDS[action], number if by_id else known.token)

    def read_control(self, action: Control, completed: Completed) -> ControlOutcome:
        """See ``Scheduler.read_control``."""
        if completed.exit_code == 0:
            return ControlOutcome(done=True)
        gone = bool(_GONE.search(f"{completed.stdout}\n{completed.stderr}"))
        return ControlOutcome(done=False, gone=gone, why=said(completed))

    def _parallel(self, needed: Resources) -> str:
        if (needed.nodes or 1) > 1:
            raise NoQueueFits(f"No queue of this service gives a job {needed.nodes} nodes.", "nodes")
        if (needed.slots or 1) == 1:
            return ""
        if self.settings.parallel_environment is None:
            raise NoQueueFits(f"No queue of this service gives a job {needed.slots} cores.", "cores")
        return f"{self.settings.parallel_environment} {needed.slots}"

    def _resources(self, needed: Resources, queue: Queue | None) -> Iterator[str]:
        """Walltime, memory (which counts for each slot) and GPUs, as resources."""
        if needed.walltime_s is not None:
            most = queue.max_walltime_seconds if queue else None
            yield f"h_rt={spare_walltime(needed.walltime_s, most)}"
        if needed.memory_mb is not None and self.settings.memory_resource != "-":
            own = self.settings.memory_spare_mb
            memory = needed.memory_mb + (_SPARE_MB if own is None else own)
            yield f"{self.settings.memory_resource}={share(memory, needed.slots or 1)}M"
        if needed.gpus:
            yield f"{self.settings.gpu_resource}={needed.gpus}"

    def _command(self, *argv: str, stdin: bytes = b"", env: tuple[tuple[str, str], ...] = ()) -> Command:
        return Command(argv, stdin, (*self.settings.command_environment.items(), *env))


def _owned() -> tuple[str, ...]:
    """The option of qacct for the account that runs the commands."""
    try:
        return ("-o", pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        return ()


def _perhaps_taken(text: str) -> bool:
    """Whether the master may have the job in spite of an error. A connection that broke has been there before."""
    lost = UNCERTAIN.search(text) and not UNREACHED.search(text)
    return bool(lost or PERHAPS_TAKEN.search(text))


def _queried(text: str) -> Iterator[tuple[str, JobWord]]:
    """This server's jobs in an answer of ``qstat -xml``, by scheduler id; raises ValueError."""
    for job in _parsed(text, "job_info").iter("job_list"):
        number, token, state = (job.findtext(name) or "" for name in ("JB_job_number", "JB_name", "state"))
        if not _ID.fullmatch(number) or not state.isalpha():
            raise ValueError(f"no job: {number!r:.80} in state {state!r:.80}")
        if TOKEN.fullmatch(token):
            yield number, replace(_word(state), token=token)


def _word(state: str) -> JobWord:
    native = next((native for letter, native in LETTERS.items() if letter in state), UNKNOWN_STATE)
    deleting = "d" in state and native.phase is not Phase.ENDED
    return JobWord(native.phase, state, DELETING if deleting else native.reason, native.cause)


def _error_reasons(text: str) -> Iterator[tuple[str, str]]:
    """The error reasons in an answer of ``qstat -xml -j``, by the job's name; raises ValueError."""
    for job in _parsed(text, "detailed_job_info").iterfind("djob_info/element"):
        messages = (message.text or "" for message in job.iter("QIM_message"))
        yield job.findtext("JB_job_name") or "", " ".join(" ".join(messages).split())


def _explained(word: JobWord, message: str | None) -> JobWord:
    if not message or word.phase is not Phase.ENDED:
        return word
    native = next((native for words, native in ERRORS.items() if words in message), LETTERS["E"])
    return replace(word, word=f"{word.word} ({message:.300})", reason=native.reason, cause=native.cause)


def _parsed(text: str, root: str) -> etree._Element:
    try:
        parsed = etree.fromstring(text.encode(), _PARSER)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"no XML: {error}") from error
    if parsed.tag != root:
        raise ValueError(f"not a {root}, but {parsed.tag!r:.80}")
    return parsed


def _accounted(text: str) -> Iterator[tuple[str, JobWord]]:
    """This server's jobs in an answer of qacct, by scheduler id, of several records the last; raises ValueError."""
    blocks = [block for block in re.split(r"^=+$", text, flags=re.MULTILINE) if block.strip()]
    for block in blocks:
        record = {name: value.strip() for name, _, value in (line.partition(" ") for line in block.splitlines())}
        if not _ID.fullmatch(record.get("jobnumber", "")):
            raise ValueError(f"not a record: {block!r:.80}")
        if TOKEN.fullmatch(record.get("jobname", "")):
            yield record["jobnumber"], replace(_ended_word(record), token=record["jobname"])


def _ended_word(record: Mapping[str, str]) -> JobWord:
    """The word of one record. Only with «failed» 0 the exit status is the job's own; only 0 of both is a success."""
    failed, status = _FAILED.fullmatch(record.get("failed", "")), _EXIT_STATUS.fullmatch(record.get("exit_status", ""))
    if failed is None or status is None:
        raise ValueError(f"no end: {record.get('failed')!r:.80}, {record.get('exit_status')!r:.80}")
    native, code = _failure(int(failed[1]), record), int(status[1])
    number = code - SHELL_SIGNAL if SHELL_SIGNAL < code <= SHELL_SIGNAL + LAST_SIGNAL else None
    word = f"failed {failed[0]}, exit_status {status[1]}"
    if native.cause in (None, "signal") and number is not None:
        return JobWord(Phase.ENDED, word, f"The job was killed by signal {number}.", "signal", signal=number)
    if native.cause is None and code:
        return JobWord(Phase.ENDED, word, f"The job ended with exit code {code}.", "exit code", exit_code=code)
    return JobWord(native.phase, word, native.reason, native.cause, exit_code=0 if native.cause is None else None)


def _failure(number: int, record: Mapping[str, str]) -> NativeState:
    native = FAILED.get(number, UNKNOWN_FAILURE)
    if native is not FAILED[37] or "h_vmem=" not in record.get("category", ""):
        return native
    limit = _HARD_LIMIT.search(record["category"])
    ran = re.match(r"[0-9]+", record.get("ru_wallclock", ""))
    return OVER_MEMORY if limit and ran and int(ran[0]) < int(limit[1]) else native
