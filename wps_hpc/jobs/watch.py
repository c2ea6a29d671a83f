"""What became of a job: the scheduler's word times what the launcher left.

``decide`` is the one place where a job's state is concluded; it is a pure function. ``Watcher`` asks the scheduler once
for all jobs of a cluster, reads the attempts whose answer changed, and stores what ``decide`` says.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import (
    EXIT_CLAIMED,
    EXIT_NOT_WRITTEN,
    EXIT_REFUSED,
    Failure,
)
from wps_hpc.clusters import containers
from wps_hpc.clusters.cluster import Cluster
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, JobWord, Known, Phase, QueryAnswer
from wps_hpc.jobs.job import Job, JobState, Submission
from wps_hpc.jobs.lastwords import LastWords
from wps_hpc.jobs.mirror import Gap, Mirror
from wps_hpc.jobs.store import Change, JobFields, Store
from wps_hpc.jobs.trusted import Left, attempts, is_claimed, read_attempt
from wps_hpc.processes.description import ProcessDescription

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NotFound:
    """The scheduler answered, and does not show the job. ``accounting`` says what accounting had to say, if asked."""

    accounting_asked: bool = False


@dataclass(frozen=True)
class Unseen:
    """What a job left that its scheduler no longer runs has not all come here; ``word`` is what the scheduler says."""

    word: JobWord | NotFound
    gap: Gap


Answer: TypeAlias = JobWord | NotFound | CouldNotAsk | Unseen


@dataclass(frozen=True)
class Graces:
    """How long to wait before a silence counts, in seconds.

    ``settle``: for the launcher's last files to arrive over the shared filesystem after the scheduler called the job
    ended. ``signal``: for the scheduler to explain a signal that the launcher reports; ``ending``: the same, when it
    says that it is about to (an epilog takes its time). ``lost``: for a job that nobody knows anything of.
    """

    settle: float = 5.0
    signal: float = 15.0
    lost: float = 30.0
    ending: float = 1800.0


@dataclass(frozen=True)
class Verdict:
    """What the table concludes. ``wait_since`` is when the current silence began (None: no silence).

    ``ask_accounting`` asks for the accounting's word before anything else is concluded. ``gone``: the scheduler has
    nothing left of the job.
    """

    state: JobState
    message: str
    percent: int
    reason: str | None = None
    failure: Failure | None = None
    stale: bool = False
    ask_accounting: bool = False
    wait_since: float | None = None
    gone: bool = False


def decide(
    job: Job, left: Left, answer: Answer, now: float, since: float | None, graces: Graces, *, fresh: bool = True
) -> Verdict:
    """Conclude a job's state. ``since`` is the ``wait_since`` of the former verdict; ``fresh`` is false when ``answer``
    is older than what the launcher left.

    In the order in which it is decided:

    1. The launcher wrote *succeeded*: succeeded, whatever the scheduler says.
    2. The launcher wrote *failed*: failed. When by a signal, or cancelled by nobody whom this server knows, the
       scheduler's cause is better (time limit, out of memory, node failure, preempted, cancelled), or it is about to
       run the job again. So its word is awaited: as long as it cannot be asked for; up to the grace, counted by fresh
       answers, while the job is active; longer while it is about to give it. Accounting is asked of one not found.
    3. The scheduler *could not be asked*: keep the state, marked stale. «Gone» is never concluded from an outage. The
       same for what the job left, where that has yet to come from the cluster (*unseen*): a job that is gone is not
       judged by what is missing. One that a client has given up is dismissed without it.
    4. The job is *active*: its phase is the state; a running one takes percent and message from the launcher.
    5. The job is *ended*, with a word: failed with the word's cause once the shared filesystem has settled. If the
       scheduler calls it completed but the launcher left no outcome: the longer grace, then lost.
    6. The job is *not found*: accounting is asked at once; when that is silent as well: the grace, then lost.
    """
    if isinstance(answer, Unseen):
        if left.state not in ("succeeded", "failed"):
            return _unseen(job, left, answer)
        answer = answer.word
    gone = isinstance(answer, NotFound) or (isinstance(answer, JobWord) and answer.phase is Phase.ENDED)
    if left.state == "succeeded":
        return Verdict(JobState.SUCCEEDED, left.message or "finished", 100, gone=gone)
    if left.state == "failed" and left.failure is not None:
        return _launcher_failed(job, left.failure, answer, now, since, graces, gone=gone, fresh=fresh)
    if isinstance(answer, CouldNotAsk):
        return replace(_stale(job, left), wait_since=since)
    if isinstance(answer, NotFound):
        return _not_found(job, left, answer, now, since, graces)
    if answer.phase is Phase.ENDED:
        return _ended(job, left, answer, now, since, graces)
    return _active(job, left, answer)


_PHASE_STATES: Mapping[Phase, JobState] = {
    Phase.QUEUED: JobState.QUEUED,
    Phase.HELD: JobState.HELD,
    Phase.RUNNING: JobState.RUNNING,
    Phase.SUSPENDED: JobState.SUSPENDED,
}

_PHASE_WORDS: Mapping[Phase, str] = {
    Phase.QUEUED: "waiting in the queue",
    Phase.HELD: "held",
    Phase.RUNNING: "running",
    Phase.SUSPENDED: "suspended",
}

_AGAIN = "being put back into the queue"
#: What the launcher's own exit codes mean when it could not write a status.
_LAUNCHER_EXITS: Mapping[int, tuple[str, str]] = {
    EXIT_NOT_WRITTEN: ("disk full", "The job's outcome could not be written to the job folder; is the disk full?"),
    EXIT_REFUSED: ("payload refused", "The job folder was not what the server had written; the job was not run."),
    EXIT_CLAIMED: ("lost", "The attempt had been claimed by another launcher, of which nothing more is known."),
}

#: Sentences for the client, by cause, where the scheduler gives none.
CAUSE_TEXTS: Mapping[str, str] = {
    "time limit": "The job reached its time limit and was stopped.",
    "out of memory": "The job needed more memory than it was given and was stopped.",
    "node failure": "The compute node failed while the job ran.",
    "preempted": "The job was preempted by a more important one.",
    "cancelled": "The job was cancelled.",
    "could not start": "The job could not be started on its node.",
    "lost": "The job has vanished: neither the scheduler nor the job folder says what became of it.",
}


def _keep(job: Job, left: Left) -> Verdict:
    if left.state == "running":
        return Verdict(job.state, left.message or job.message, max(job.percent, left.percent))
    return Verdict(job.state, job.message, job.percent)


def _stale(job: Job, left: Left) -> Verdict:
    return replace(_keep(job, left), stale=True, reason=f"the scheduler does not answer ({job.cluster})")


def _unseen(job: Job, left: Left, answer: Unseen) -> Verdict:
    if job.cancel_requested is not None:
        return _final(job, Failure("cancelled", CAUSE_TEXTS["cancelled"]), gone=True)
    kept = replace(_keep(job, left), stale=answer.gap.stale, reason=answer.gap.why)
    return kept if answer.gap.stale else replace(kept, message=answer.gap.why)


def _facts(job: Job, word: JobWord) -> list[str]:
    """What is told of an active job beside its state: the id to ask an operator about, and which run it is."""
    again = f"run {job.restarts + 1}, after an interruption by the cluster" if job.restarts else None
    return [fact for fact in (f"job {word.known_as}" if word.known_as else None, again) if fact]


def _waiting(job: Job, word: JobWord) -> str:
    facts = "".join(f" ({fact})" for fact in _facts(job, word))
    message = _PHASE_WORDS[word.phase] + facts + (f": {word.reason}" if word.reason else "")
    if word.estimated_start is None:
        return message
    start = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(word.estimated_start))
    return f"{message} (the scheduler's estimate of its start: {start})"


def _active(job: Job, left: Left, word: JobWord) -> Verdict:
    if word.ending and job.restarts and not left.claimed:
        # What is ending is the run before.
        again = replace(word, phase=Phase.QUEUED, reason=_AGAIN)
        return Verdict(JobState.QUEUED, _waiting(job, again), 0, reason=_AGAIN)
    if word.phase is Phase.RUNNING and left.state == "running":
        facts = ", ".join(_facts(job, word)) or None
        return Verdict(JobState.RUNNING, left.message or "running", max(job.percent, left.percent), reason=facts)
    message = _waiting(job, word)
    # A job that runs keeps its progress, also while its status cannot be read; one that waits again has none.
    percent = job.percent if word.phase in (Phase.RUNNING, Phase.SUSPENDED) else 0
    return Verdict(_PHASE_STATES[word.phase], message, percent, reason=word.reason)


def _launcher_failed(
    job: Job,
    failure: Failure,
    answer: Answer,
    now: float,
    since: float | None,
    graces: Graces,
    *,
    gone: bool,
    fresh: bool,
) -> Verdict:
    ended = answer if isinstance(answer, JobWord) and answer.phase is Phase.ENDED else None
    # At a time limit and at a preemption, all that the launcher sees is an order to end.
    explicable = failure.signal is not None or (failure.cause == "cancelled" and job.cancel_requested is None)
    if explicable and isinstance(answer, NotFound) and not answer.accounting_asked:
        return replace(_keep(job, Left()), ask_accounting=True, wait_since=since)
    if explicable and isinstance(answer, CouldNotAsk):
        return _stale(job, Left())
    if explicable and ended is None:
        began = now if since is None else since
        about_to_say = isinstance(answer, JobWord) and answer.ending
        if not fresh or now - began < (graces.ending if about_to_say else graces.signal):
            return replace(_keep(job, Left()), wait_since=began)
    if explicable and ended is not None and ended.cause not in (None, "exit code", "signal"):
        failure = _explained(failure, ended)
    return _final(job, failure, gone)


def _explained(failure: Failure, word: JobWord) -> Failure:
    cause = word.cause or failure.cause
    text = word.reason or CAUSE_TEXTS.get(cause, failure.text)
    return replace(failure, cause=cause, text=text, detail=f"{failure.text}; scheduler: {word.word}")


def _final(job: Job, failure: Failure, gone: bool) -> Verdict:
    if job.cancel_requested is not None:
        who = job.cancelled_by or "a client"
        return Verdict(JobState.DISMISSED, f"dismissed by {who}", job.percent, failure=failure, gone=gone)
    return Verdict(JobState.FAILED, failure.text, job.percent, failure=failure, gone=gone)


def _ended(job: Job, left: Left, word: JobWord, now: float, since: float | None, graces: Graces) -> Verdict:
    completed = word.cause is None and word.exit_code in (None, 0) and word.signal is None
    began = now if since is None else since
    grace = graces.lost if completed and left.exit is None else graces.settle
    if now - began < grace:
        return replace(_keep(job, left), wait_since=began, gone=True)
    return _final(job, _ending(left, word, completed), gone=True)


def _ending(left: Left, word: JobWord, completed: bool) -> Failure:
    seen = f"scheduler: {word.word}; job folder: {left.described()}"
    exit_code = word.exit_code if left.exit is None else left.exit.exit_code
    signal = word.signal if left.exit is None else left.exit.signal
    if exit_code is not None and exit_code in _LAUNCHER_EXITS:
        cause, text = _LAUNCHER_EXITS[exit_code]
        return Failure(cause, text, exit_code=exit_code, detail=seen)
    if word.cause not in (None, "exit code", "signal"):
        return Failure(
            str(word.cause),
            word.reason or CAUSE_TEXTS.get(str(word.cause), str(word.cause)),
            signal=signal,
            detail=seen,
        )
    if (failure := _not_started(left, seen)) is not None:
        return failure
    if signal:
        return Failure("signal", f"The job was killed by signal {signal}.", signal=signal, detail=seen)
    if completed:
        return Failure("lost", CAUSE_TEXTS["lost"], detail=seen)
    if exit_code is None:
        return Failure("exit code", word.reason or "The job ended with an unknown exit code.", detail=seen)
    return Failure("exit code", f"The job ended with exit code {exit_code}.", exit_code=exit_code, detail=seen)


def _not_started(left: Left, seen: str) -> Failure | None:
    """The failure of a job whose container ended, and no launcher of it took the attempt."""
    if left.exit is None or left.container is None or left.claimed or left.exit.exit_code in (0, *_LAUNCHER_EXITS):
        return None
    return containers.not_started(left.container, left.exit.exit_code, left.exit.signal, seen)


def _not_found(job: Job, left: Left, answer: NotFound, now: float, since: float | None, graces: Graces) -> Verdict:
    if not answer.accounting_asked:
        return replace(_keep(job, left), ask_accounting=True, wait_since=since)
    began = now if since is None else since
    if now - began < (graces.lost if left.exit is None else graces.settle):
        return replace(_keep(job, left), wait_since=began)
    return _final(job, _vanished(left), gone=True)


def _vanished(left: Left) -> Failure:
    seen = f"the scheduler does not know the job; job folder: {left.described()}"
    if (failure := _not_started(left, seen)) is not None:
        return failure
    if left.exit is not None and left.exit.signal:
        text = f"The job was killed by signal {left.exit.signal} on {left.exit.host}."
        return Failure("signal", text, signal=left.exit.signal, detail=seen)
    if left.exit is not None and left.exit.exit_code:
        cause, text = _LAUNCHER_EXITS.get(
            left.exit.exit_code, ("exit code", f"The job ended with exit code {left.exit.exit_code}.")
        )
        return Failure(cause, text, exit_code=left.exit.exit_code, detail=seen)
    return Failure("lost", CAUSE_TEXTS["lost"], detail=seen)


#: No job has more attempts than that.
_MOST_ATTEMPTS = 1000
#: While a verdict hangs on its word, the scheduler is asked at least this often, in seconds; while it is away, at most.
PENDING_QUERY, AWAY_QUERY = 5.0, 30.0
#: A running job that nobody polls is read again after so many seconds, so many of them a round: a scheduler may never
#: hear of an end (Grid Engine's does not always, once its master was killed).
READ_AGAIN, READ_AGAIN_AT_ONCE = 30.0, 50
#: A wish that had no effect yet is passed on again after so many seconds.
ASK_AGAIN = 5.0
#: A cluster without jobs is asked this often, so that an outage is known before the next job, in seconds.
IDLE_QUERY = 30.0


@dataclass
class Watcher:
    """Follows the jobs of one cluster: one query for all, then the attempts whose answer changed; running ones in turn.

    ``ended`` is told the id of every job that has come to its end; ``last_words`` tells what a failed one said. What it
    remembers between rounds only saves work: a new worker starts with nothing and reads every active attempt once.
    ``describe`` gives a process's description, by
    which its outputs are checked, if that is of the job's version; None for one that is no longer on offer. ``clock``
    gives times for the database and for people; ``steady`` measures graces and pauses, as it cannot be set. ``mirror``
    copies what jobs leave, where they leave it on another file system.
    """

    cluster: Cluster
    root: Path
    store: Store
    epoch: int
    ended: Callable[[str], None]
    last_words: LastWords
    describe: Callable[[str], ProcessDescription | None] = lambda _: None
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    queries: Queries = field(default_factory=lambda: Queries())
    mirror: Mirror | None = None
    _seen: dict[str, JobWord] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)
    _read: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, tuple[Control, float]] = field(default_factory=dict)
    _absent: frozenset[str] = frozenset()
    _looked: float | None = None

    def round(self, poked: Collection[str] = ()) -> float | None:
        """Ask once for all jobs, conclude, and pass on what clients asked for. ``poked`` jobs are read in any case.

        Returns the seconds after which the next round is due whatever happens.
        """
        jobs = self.store.active(self.cluster.name, self.cluster.account)
        jobs = [job for job in jobs if job.state is not JobState.SUBMITTING]
        # What is missing here of a job whose folder is elsewhere says nothing.
        jobs = [job for job in jobs if self.cluster.looks_at(job.sent_to)]
        self._forget_all_but(job.id for job in jobs)
        interval = self.cluster.settings.query_seconds if jobs else IDLE_QUERY
        left = self._until_query(interval)
        if left > 0:
            self._glance(self._followed(jobs), poked)
            return left
        self._looked = self.steady()
        self._look(self._followed(jobs), poked)
        return min(1.0, interval) if self._since else interval

    def _until_query(self, interval: float) -> float:
        """Seconds until the scheduler may be asked again; at once where it is it that tells of changes."""
        if self._looked is None or (self.cluster.tells_changes and interval != IDLE_QUERY):
            return 0.0
        if self._since:
            interval = min(interval, PENDING_QUERY)
        if self.queries.away:
            interval = max(interval, min(interval * 2**self.queries.missed, AWAY_QUERY))
        return max(0.0, self._looked + interval - self.steady())

    def _followed(self, jobs: Sequence[Job]) -> list[_Followed]:
        submissions = self.store.submissions({job.submission_id for job in jobs if job.submission_id is not None})
        return [_Followed(job, submissions[job.submission_id]) for job in jobs if job.submission_id in submissions]

    def _glance(self, followed: Sequence[_Followed], poked: Collection[str]) -> None:
        """Between two queries: what the polled jobs' launchers have written since, and new wishes of clients."""
        words: Mapping[str, Answer] = self._seen
        if self.queries.away:
            words = dict.fromkeys(poked, CouldNotAsk(self.queries.error or ""))
        polled = [one for one in followed if one.job.id in poked and one.job.id in words]
        stored = self._store_all([self._conclude(one, self._seen_of(one, words), fresh=False) for one in polled])
        if self.queries.away:
            return
        for one in followed:
            self._control(replace(one, job=stored.get(one.job.id, one.job)))

    def _look(self, followed: Sequence[_Followed], poked: Collection[str]) -> None:
        answer = self._query()
        words: dict[str, Answer] = {one.job.id: self._word_for(one.submission, answer) for one in followed}
        missing = frozenset(job_id for job_id, word in words.items() if isinstance(word, NotFound))
        changed = {*poked, *self._mirrored(followed, words)}
        words = {one.job.id: self._seen_of(one, words) for one in followed}
        absent = [one for one in followed if isinstance(words[one.job.id], NotFound)]
        due = {*changed, *self._long_unread(words)}
        news = [one for one in followed if one.job.id in due or self._news(one.job, words[one.job.id])]
        verdicts = [self._conclude(one, words[one.job.id]) for one in news if one not in absent]
        stored = self._store_all(verdicts + self._account(absent))
        if not isinstance(answer, CouldNotAsk):
            self._absent = missing
            # Each request to a scheduler that is away would wait for the command's whole time limit.
            for one in followed:
                self._control(replace(one, job=stored.get(one.job.id, one.job)))

    def _mirrored(self, followed: Sequence[_Followed], words: Mapping[str, Answer]) -> set[str]:
        """Copy what jobs have left, after the scheduler was asked: what it calls ended has written its last. The jobs
        of which something new has come."""
        if self.mirror is None:
            return set()
        return self.mirror.refresh([one.job for one in followed if not one.job.final and _may_write(words[one.job.id])])

    def _seen_of(self, one: _Followed, words: Mapping[str, Answer]) -> Answer:
        """The answer on a job, together with the reservation that what it left is not all here."""
        word = words[one.job.id]
        gone = isinstance(word, NotFound) or (isinstance(word, JobWord) and word.phase is Phase.ENDED)
        if not gone or one.job.final or self.mirror is None:
            return word
        gap = self.mirror.gap(one.job.id)
        return word if gap is None else Unseen(word, gap)  # type: ignore[arg-type]

    def _query(self) -> QueryAnswer:
        answer = self.cluster.query()
        self.queries.note(answer, self.clock())
        if isinstance(answer, CouldNotAsk):
            log.warning("cluster %s cannot be asked: %s", self.cluster.name, answer.why)
        return answer

    def _word_for(self, submission: Submission, answer: QueryAnswer) -> Answer:
        word = _word_for(submission, answer)
        if isinstance(word, JobWord) and self.cluster.scheduler.public_ids:
            return replace(word, known_as=submission.scheduler_id)
        return word

    def _forget_all_but(self, ids: Iterable[str]) -> None:
        kept = set(ids)
        if self.mirror is not None:
            self.mirror.forget_all_but(kept)
        self._seen = {job_id: word for job_id, word in self._seen.items() if job_id in kept}
        self._since = {job_id: moment for job_id, moment in self._since.items() if job_id in kept}
        self._asked = {job_id: moment for job_id, moment in self._asked.items() if job_id in kept}
        self._read = {job_id: moment for job_id, moment in self._read.items() if job_id in kept}

    def _long_unread(self, words: Mapping[str, Answer]) -> list[str]:
        """The running jobs whose attempts have not been read for the longest time."""
        running = [
            job_id for job_id, word in words.items() if isinstance(word, JobWord) and word.phase is Phase.RUNNING
        ]
        before = self.steady() - READ_AGAIN
        unread = [job_id for job_id in running if self._read.get(job_id, before) <= before]
        return heapq.nsmallest(READ_AGAIN_AT_ONCE, unread, key=lambda job_id: self._read.get(job_id, before))

    def _news(self, job: Job, word: Answer) -> bool:
        """Whether the job's attempt has to be read: the answer changed, or a verdict hangs on time."""
        if isinstance(word, CouldNotAsk):
            return job.stale_since is None
        if isinstance(word, Unseen):
            return True
        pending = job.id in self._since or job.stale_since is not None
        return pending or self._seen.get(job.id) != word or isinstance(word, NotFound) or word.phase is Phase.ENDED

    def _account(self, absent: Sequence[_Followed]) -> list[_Concluded]:
        """Jobs that the query does not show: what they left, then one question to accounting for all that is open."""
        first = [self._conclude(one, NotFound(), self._last_run(one.job)) for one in absent]
        open_ones = [one for one in first if one.verdict.ask_accounting]
        if not open_ones:
            return first
        answer = self.cluster.accounting([_known(one.followed.submission) for one in open_ones])
        second = [
            self._conclude(one.followed, _accounted(one.followed.submission, answer), one.attempt) for one in open_ones
        ]
        return [one for one in first if one not in open_ones] + second

    def _last_run(self, job: Job) -> int:
        """The attempt that counts of a job which the scheduler no longer shows, nor says how often it was restarted:
        the newest that a launcher took."""
        folder = JobFolder(job_path(self.root, job.id))
        claimed = [number for number in attempts(folder, _MOST_ATTEMPTS) if is_claimed(folder, number)]
        return max([job.attempt, *claimed])

    def _conclude(self, one: _Followed, answer: Answer, attempt: int = 0, *, fresh: bool = True) -> _Concluded:
        job = one.job
        word = answer.word if isinstance(answer, Unseen) else answer
        restarts = word.restarts if isinstance(word, JobWord) else 0
        # Never back to a former attempt.
        attempt = max(job.submission_number + restarts, job.attempt, attempt)
        attempt, left = self._current(job, attempt)
        current = job if attempt == job.attempt else replace(job, percent=0, attempt=attempt)
        since = self._since.pop(job.id, None)
        self._read[job.id] = self.steady()
        verdict = decide(current, left, answer, self.steady(), since, self._graces(), fresh=fresh)
        if isinstance(word, JobWord):
            self._seen[job.id] = word
        elif isinstance(word, NotFound):
            self._seen.pop(job.id, None)
        if verdict.failure is not None and not job.final:
            verdict = replace(verdict, failure=self.last_words.told(job, attempt, verdict.failure))
        if verdict.wait_since is not None:
            self._since[job.id] = verdict.wait_since
        return _Concluded(one, attempt, verdict)

    def _current(self, job: Job, attempt: int) -> tuple[int, Left]:
        """The attempt that counts, and what it left. A run that had succeeded before the scheduler was seen to start
        the job again is the job's success."""
        if 0 < job.attempt < attempt:
            former = self._left(job, job.attempt)
            if former.state == "succeeded":
                return job.attempt, former
        return attempt, self._left(job, attempt)

    def _described(self, job: Job) -> ProcessDescription | None:
        """What the job's outputs must be; unknown once another version is on offer than the job was accepted for."""
        found = self.describe(job.process)
        return found if found is not None and found.version == job.process_version else None

    def _left(self, job: Job, attempt: int) -> Left:
        """What the attempt left; a job of which that cannot even be said must keep no other from its turn."""
        refused = self.mirror.refused(job.id, attempt) if self.mirror is not None else None
        if refused is not None:
            return Left(state="failed", failure=refused)
        try:
            return read_attempt(JobFolder(job_path(self.root, job.id)), attempt, self._described(job))
        except Exception as error:
            log.exception("job %s: what attempt %d left cannot be judged", job.id, attempt)
            return Left(state="unreadable", why=repr(error))

    def _graces(self) -> Graces:
        settle = self.cluster.scheduler.settle_seconds
        return Graces(settle, 3 * settle, max(settle, self.cluster.settings.lost_seconds))

    def _store_all(self, concluded: Sequence[_Concluded]) -> Mapping[str, Job]:
        """All verdicts of a round in one transaction; a job that ended meanwhile stays as it is. What was changed."""
        now = self.clock()
        wanted = {one.followed.job.id: one.fields(now) for one in concluded}
        changes = [Change(job_id, fields) for job_id, fields in wanted.items() if fields]
        if not changes:
            return {}
        ends = any("finished" in change.fields for change in changes)
        if ends:
            reach(Failpoint.WATCH_BEFORE_FINAL)
        applied = self.store.apply(self.epoch, changes)
        if ends:
            reach(Failpoint.WATCH_AFTER_FINAL)
        for job_id, refusal in applied.refused.items():
            log.warning("job %s: not changed: %s", job_id, refusal)
        for job in applied.jobs.values():
            if job.final and "finished" in wanted[job.id]:
                log.info("job %s: %s: %s", job.id, job.state, job.message)
                self.ended(job.id)
        self._let_go([one for one in concluded if one.followed.job.id in applied.jobs])
        return applied.jobs

    def _let_go(self, stored: Sequence[_Concluded]) -> None:
        """Jobs that have ended and whose end is recorded: the scheduler need not remember them."""
        done = [one for one in stored if one.verdict.gone and one.verdict.state.final]
        if done:
            self.cluster.forget([_known(one.followed.submission) for one in done])
        if done and self.mirror is not None and self.cluster.settings.cleanup == "fetched":
            self.mirror.discard([one.followed.job.id for one in done])

    def _control(self, one: _Followed) -> None:
        if one.job.id in self._absent:
            return  # what has its id now may be the job of somebody else
        action = _wish(one.job, self._seen.get(one.job.id))
        if action is None:
            self._fulfilled(one.job)
            return
        asked, last = self._asked.get(one.job.id, (None, 0.0))
        now = self.steady()
        if asked is action and now - last < ASK_AGAIN:
            return
        self._asked[one.job.id] = (action, now)
        outcome = self.cluster.control(action, _known(one.submission))
        log.info("job %s: %s asked of %s: %s", one.job.id, action, self.cluster.name, outcome)
        if not outcome.done and not outcome.gone and action is not Control.CANCEL:
            # Its own words, which clients must not see, are in the log.
            log.warning("job %s: %s was refused: %s", one.job.id, action, outcome.why)
            self._drop_wish(one.job, {"wish": None, "reason": f"the scheduler refused to {action} the job"})

    def _fulfilled(self, job: Job) -> None:
        """A wish that came true is over: what somebody does later with the scheduler's own commands is not undone."""
        asked, _ = self._asked.get(job.id, (None, 0.0))
        if job.wish is not None and asked == job.wish and not job.final:
            self._drop_wish(job, {"wish": None})

    def _drop_wish(self, job: Job, fields: JobFields) -> None:
        """Unless the client has wished for something else meanwhile: then the job's revision is another."""
        self.store.apply(self.epoch, [Change(job.id, fields, job.revision)])


@dataclass
class Queries:
    """How a cluster's scheduler answers: counts since the worker started, times in Unix seconds.

    ``missed`` counts queries without an answer since the last one that had, up to ten.
    """

    asked: int = 0
    failed: int = 0
    missed: int = 0
    asked_at: float = 0.0
    answered_at: float | None = None
    failed_at: float | None = None
    error: str | None = None

    @property
    def away(self) -> bool:
        """The last query was not answered."""
        return self.failed_at is not None and self.failed_at >= (self.answered_at or 0.0)

    def note(self, answer: QueryAnswer, now: float) -> None:
        """One more answer, or none."""
        self.asked += 1
        self.asked_at = now
        self.missed = min(self.missed + 1, 10) if isinstance(answer, CouldNotAsk) else 0
        if isinstance(answer, CouldNotAsk):
            self.failed += 1
            self.failed_at, self.error = now, answer.why
        else:
            self.answered_at = now


@dataclass(frozen=True)
class _Followed:
    job: Job
    submission: Submission


@dataclass(frozen=True)
class _Concluded:
    followed: _Followed
    attempt: int
    verdict: Verdict

    def fields(self, now: float) -> JobFields:
        """What changes in the job's row."""
        job, verdict = self.followed.job, self.verdict
        if job.final:
            return {"scheduler_gone": True} if verdict.gone and not job.scheduler_gone else {}
        wanted: JobFields = {
            "state": verdict.state,
            "message": verdict.message,
            "percent": verdict.percent,
            "reason": verdict.reason,
            "attempt": self.attempt,
            "stale_since": (job.stale_since or now) if verdict.stale else None,
            "failure": verdict.failure,
            "scheduler_gone": verdict.gone and verdict.state.final,
        }
        fields: JobFields = {name: value for name, value in wanted.items() if getattr(job, name) != value}  # type: ignore[assignment]
        if verdict.state.final:
            fields["finished"] = now
            if job.started is None and verdict.state is JobState.SUCCEEDED:
                fields["started"] = now  # too fast to be seen running
        return fields


def _wish(job: Job, word: JobWord | None) -> Control | None:
    """What is still wanted of the scheduler: a cancel stays until the job is gone, another wish until it is true.

    A job that has ended must not run again: it may have been put back into the queue as its last act.
    """
    if job.cancel_requested is not None or _runs_on(job, word):
        return None if job.scheduler_gone else Control.CANCEL
    if job.wish is None or job.final:
        return None
    return None if job.state in _FULFILLED[Control(job.wish)] else Control(job.wish)


def _runs_on(job: Job, word: JobWord | None) -> bool:
    return (
        job.final
        and word is not None
        and word.phase is not Phase.ENDED
        and job.submission_number + word.restarts > job.attempt
    )


_FULFILLED: Mapping[Control, frozenset[JobState]] = {
    Control.HOLD: frozenset({JobState.HELD}),
    Control.RELEASE: frozenset({JobState.QUEUED, JobState.RUNNING}),
    Control.SUSPEND: frozenset({JobState.SUSPENDED}),
    Control.RESUME: frozenset({JobState.RUNNING, JobState.QUEUED}),
}


def _may_write(word: Answer) -> bool:
    """Whether a job may have left something since: one that waits has not begun, as far as anybody knows."""
    return not (isinstance(word, JobWord) and word.phase in (Phase.QUEUED, Phase.HELD))


def _known(submission: Submission) -> Known:
    return Known(submission.token, submission.scheduler_id, submission.submitted_at or submission.prepared_at)


def _word_for(submission: Submission, answer: QueryAnswer) -> Answer:
    if isinstance(answer, CouldNotAsk):
        return answer
    word = answer.get(submission.scheduler_id or "")
    # A reused id with another token is somebody else's job.
    if word is None or (word.token is not None and word.token != submission.token):
        return NotFound()
    return word


def _accounted(submission: Submission, answer: QueryAnswer) -> Answer:
    word = _word_for(submission, answer)
    # What accounting calls active and the scheduler does not show: its record lags, or will never be closed.
    open_record = isinstance(word, JobWord) and word.phase is not Phase.ENDED
    return NotFound(accounting_asked=True) if open_record or isinstance(word, NotFound) else word
