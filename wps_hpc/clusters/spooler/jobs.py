"""The spooler's jobs: started, looked after, and cleaned up behind."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import AttemptFolder, JobFolder
from joblauncher.formats.records import EXIT_CLAIMED, ExitRecord, RecordError, dump, load
from wps_hpc.clusters.spooler import proc
from wps_hpc.clusters.spooler.order import StartOrder
from wps_hpc.clusters.spooler.spool import JobRecord, Spool, SpoolError, Word
from wps_hpc.clusters.spooler.start import fork_leader

log = logging.getLogger(__name__)

#: Records of ended jobs are kept so long unless the server forgets them before. Seconds.
KEPT_SECONDS = 7 * 86_400.0
#: Between two looks whether a killed process is gone; and until an unkillable one is given up. Seconds.
_SWEEP_SECONDS = 0.01
_SWEEP_LIMIT_SECONDS = 10.0
_BURY_LIMIT_SECONDS = 2.0
#: In the shell's exit codes a signal is added to the former; there is none above the latter.
_SHELL_SIGNAL, _LAST_SIGNAL = 128, 64
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: No exit record is larger, in bytes.
_EXIT_LIMIT = 64_000


class StartError(Exception):
    """A job could certainly not be started, and nothing of it is left; the text is the system's reason."""


@dataclass(frozen=True)
class LeaderEnd:
    """How a leader ended: by an exit code or by a signal."""

    exit_code: int | None
    signal: int | None


@dataclass
class LiveJob:
    """A job whose leader has not been reaped. Times are on the monotonic clock.

    ``child``: the leader is this process's own child, so that its exit code can be known. ``ended_at``: the leader is
    gone and what it left is being cleaned up.
    """

    record: JobRecord
    leader: proc.Identity
    pidfd: int
    child: bool
    kill_at: float | None = None
    ended_at: float | None = None


class Jobs:
    """All jobs of one spool folder. ``changed`` is called whenever one has ended.

    Leaders are waited for in ``selector``, with a callable as data for the loop to call.
    """

    def __init__(self, spool: Spool, selector: selectors.BaseSelector, changed: Callable[[], None]) -> None:
        self._spool = spool
        self._selector = selector
        self._changed = changed
        self._live: dict[str, LiveJob] = {}
        self._ended: dict[str, JobRecord] = {}
        self._last_id = 0

    def adopt_all(self) -> None:
        """Take over what the records tell: called once, before anything else."""
        for record in self._spool.load_all():
            if isinstance(record, SpoolError):
                log.error("unreadable record, left alone: %s", record)
                continue
            self._last_id = max(self._last_id, int(record.id))
            if record.ended is not None:
                self._ended[record.token] = record
            else:
                self._adopt(record)

    @property
    def running(self) -> int:
        """How many jobs have not ended."""
        return len(self._live)

    def find(self, token: str) -> JobRecord | None:
        """The record of a token."""
        live = self._live.get(token)
        return live.record if live else self._ended.get(token)

    def records(self, ended_since: float) -> Iterator[JobRecord]:
        """All jobs that have not ended, and those that did since then (Unix seconds)."""
        yield from (job.record for job in self._live.values())
        yield from (record for record in self._ended.values() if (record.ended or 0.0) >= ended_since)

    def word(self, record: JobRecord) -> Word:
        """The native state of a job now."""
        if record.word is not None:
            return record.word
        stat = None if record.pid is None else proc.look_at(record.pid)
        return Word.SUSPENDED if stat and stat.stopped else Word.RUNNING

    def submit(self, order: StartOrder) -> JobRecord:
        """Start a job, unless its token is known already: then its record, and nothing is started.

        Only a job that certainly never ran, because its spooler died first, is started after all: a token runs at most
        once. Raises StartError when nothing was started and nothing will be.
        """
        known = self.find(order.token)
        if known and known.word is not Word.NEVER_STARTED:
            return known
        reach(Failpoint.SPOOL_BEFORE_RECORD)
        record = self._recorded_again(known) if known else self._recorded(order)
        reach(Failpoint.SPOOL_AFTER_RECORD)
        return self._start(order, record)

    def cancel(self, token: str, grace: float) -> None:
        """Ask a job's leader to end the job; after ``grace`` seconds all its processes are killed. May be repeated."""
        job = self._live[token]
        if job.record.cancelled is None:
            job.record = replace(job.record, cancelled=time.time(), grace=grace)
            self._note(job.record)
            self._terminate(job)

    def suspend(self, token: str) -> None:
        """Stop all processes of a job, the launcher too: with it stand the clocks of the limits that it enforces."""
        self._signal_tree(self._live[token], signal.SIGSTOP)

    def resume(self, token: str) -> None:
        """Let all processes of a job go on."""
        self._signal_tree(self._live[token], signal.SIGCONT)

    def forget(self, tokens: Iterable[str]) -> None:
        """Drop what is kept of ended jobs; tokens that are unknown or still running are passed over."""
        for token in tokens:
            if self._ended.pop(token, None):
                self._spool.remove(token)

    def next_look(self) -> float | None:
        """When ``look_after`` has something to do, on the monotonic clock; None: nothing is planned."""
        times = [job.kill_at for job in self._live.values() if job.kill_at is not None and job.ended_at is None]
        if any(job.ended_at is not None for job in self._live.values()):
            times.append(time.monotonic() + _SWEEP_SECONDS)
        return min(times, default=None)

    def look_after(self) -> None:
        """Kill what outlived its grace, and go on cleaning up after leaders that are gone."""
        now = time.monotonic()
        for job in list(self._live.values()):
            if job.ended_at is not None:
                self._clean_up(job)
            elif job.kill_at is not None and now >= job.kill_at:
                log.warning("job %s: still there after its grace, killed", job.record.job_id)
                job.kill_at = None
                self._signal_tree(job, signal.SIGKILL)

    def drop_old(self) -> None:
        """Forget jobs that ended longer ago than anybody will ask."""
        oldest = time.time() - KEPT_SECONDS
        self.forget([token for token, record in self._ended.items() if (record.ended or 0.0) < oldest])

    def _recorded(self, order: StartOrder) -> JobRecord:
        record = self._new_record(order)
        try:
            if not self._spool.create(record):
                raise StartError(f"{self._spool.record(order.token)} exists but cannot be read")
        except OSError as error:
            raise StartError(f"could not record the job: {error}") from error
        return record

    def _recorded_again(self, known: JobRecord) -> JobRecord:
        record = replace(known, ended=None, word=None)
        try:
            self._spool.save(record)
        except OSError as error:
            raise StartError(f"could not record the job: {error}") from error
        del self._ended[record.token]
        return record

    def _new_record(self, order: StartOrder) -> JobRecord:
        # Milliseconds since 1970, so that an id stays unique even when the spool folder was emptied.
        self._last_id = max(self._last_id + 1, int(time.time() * 1000))
        return JobRecord(
            token=order.token,
            id=str(self._last_id),
            job_id=order.job_id,
            folder=order.folder,
            submission=order.submission,
            warm=order.warm,
            boot=proc.boot_id(),
            accepted=time.time(),
        )

    def _start(self, order: StartOrder, record: JobRecord) -> JobRecord:
        try:
            if not order.warm:
                write_atomic(self._spool.script(order.token), order.script, durable=False)
            pid, gate = fork_leader(order, self._spool)
        except OSError as error:
            raise self._called_off(order, error) from error
        try:
            self._record_leader(record, pid)
            _let_run(gate)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise self._called_off(order, error) from error
        finally:
            os.close(gate)
        reach(Failpoint.SPOOL_AFTER_START)
        log.info("job %s: started as %s, pid %d", record.job_id, record.token, pid)
        return self._live[order.token].record

    def _called_off(self, order: StartOrder, error: OSError) -> StartError:
        self._spool.remove(order.token)
        return StartError(f"could not start the job: {error}")

    def _record_leader(self, record: JobRecord, pid: int) -> None:
        leader = proc.identify(pid)
        if leader is None:
            raise OSError(f"process {pid} cannot be seen in /proc")
        record = replace(record, pid=pid, start_ticks=leader.start_ticks)
        pidfd = os.pidfd_open(pid)
        try:
            # Not durable: what a power cut takes, it ends as well.
            self._spool.save(record, durable=False)
        except OSError:
            os.close(pidfd)
            raise
        self._watch(LiveJob(record, leader, pidfd, child=True))

    def _watch(self, job: LiveJob) -> None:
        self._live[job.record.token] = job
        self._selector.register(job.pidfd, selectors.EVENT_READ, lambda: self._leader_ended(job))

    def _adopt(self, record: JobRecord) -> None:
        leader = record.leader
        if record.boot != proc.boot_id():
            # First of all: a power cut may have taken the pid from the record of a job that ran.
            self._end(record, Word.HOST_RESTARTED)
        elif leader is None:
            self._end(record, Word.NEVER_STARTED)
        elif job := self._alive(record, leader):
            log.info("job %s: adopted, pid %d", record.job_id, leader.pid)
            self._watch(job)
            if record.cancelled is not None:
                self._terminate(job)
        else:
            self._bury(record)

    def _alive(self, record: JobRecord, leader: proc.Identity) -> LiveJob | None:
        stat = proc.look_at(leader.pid)
        # After an upgrade in place the leaders are still this process's children, ended ones included.
        if stat and stat.parent == os.getpid() and stat.start_ticks == leader.start_ticks:
            return LiveJob(record, leader, os.pidfd_open(leader.pid), child=True)
        pidfd = proc.open_alive(leader)
        return None if pidfd is None else LiveJob(record, leader, pidfd, child=False)

    def _bury(self, record: JobRecord) -> None:
        """End a job whose leader went while nobody looked: only the marks tell its processes now."""
        deadline = time.monotonic() + _BURY_LIMIT_SECONDS
        while (left := proc.marked(record.token)) and time.monotonic() < deadline:
            log.warning("job %s: processes %s outlived their leader, killed", record.job_id, left)
            for pid in left:
                _kill(pid, signal.SIGKILL)
            time.sleep(_SWEEP_SECONDS)
        self._end(record, *_judge(record, _left_exit(record)))

    def _leader_ended(self, job: LiveJob) -> None:
        self._selector.unregister(job.pidfd)
        job.ended_at = time.monotonic()
        self._clean_up(job)

    def _clean_up(self, job: LiveJob) -> None:
        overdue = time.monotonic() > (job.ended_at or 0.0) + _SWEEP_LIMIT_SECONDS
        if overdue:
            log.error("job %s: some of its processes cannot be killed", job.record.job_id)
        if self._swept(job) or overdue:
            self._finish(job)

    def _swept(self, job: LiveJob) -> bool:
        """Kill what is left of a job; whether nothing was left."""
        if job.child:
            return self._strays_gone()
        left = proc.marked(job.record.token, session=job.leader.pid)
        for pid in left:
            _kill(pid, signal.SIGKILL)
        return not left

    def _strays_gone(self) -> bool:
        # Leaders are subreapers as this process is: a child that is no leader was left behind by one that is gone.
        leaders = {job.leader.pid for job in self._live.values()}
        strays = [pid for pid in proc.own_children() if pid not in leaders]
        for pid in strays:
            _kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        return not strays

    def _finish(self, job: LiveJob) -> None:
        end = _peek(job) if job.child else _left_exit(job.record)
        if end and job.child and job.record.warm:
            _write_exit(job.record, end)
        del self._live[job.record.token]
        self._end(job.record, *_judge(job.record, end))
        if job.child:
            os.waitpid(job.leader.pid, 0)
        os.close(job.pidfd)

    def _end(self, record: JobRecord, word: Word, end: LeaderEnd | None = None) -> None:
        end = end or LeaderEnd(None, None)
        record = replace(record, ended=time.time(), word=word, exit_code=end.exit_code, signal=end.signal)
        self._ended[record.token] = record
        # Not durable: after a power cut the boot id tells that the host was restarted, and status.xml the rest.
        self._note(record)
        self._spool.drop_empty_log(record.token)
        log.info("job %s: %s (exit code %s, signal %s)", record.job_id, word, end.exit_code, end.signal)
        self._changed()

    def _note(self, record: JobRecord, *, durable: bool = False) -> None:
        try:
            self._spool.save(record, durable=durable)
        except OSError as error:
            # It is known for as long as this process lives; a later one will know less.
            log.error("job %s: could not be recorded: %s", record.job_id, error)

    def _terminate(self, job: LiveJob) -> None:
        job.kill_at = time.monotonic() + job.record.grace
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(job.pidfd, signal.SIGTERM)
        # A suspended job could not even take note.
        self._signal_tree(job, signal.SIGCONT)

    def _signal_tree(self, job: LiveJob, number: signal.Signals) -> None:
        """Signal the leader and everything below it, and again whatever came into being meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(job.pidfd, number)
        signalled: set[int] = set()
        while fresh := set(proc.descendants(job.leader.pid)) - signalled:
            for pid in fresh:
                _kill(pid, number)
            signalled |= fresh


def _let_run(gate: int) -> None:
    # A leader that ended before its gate opened has an exit code that tells; it is no failure to start one.
    with contextlib.suppress(BrokenPipeError):
        os.write(gate, b"\n")


def _judge(record: JobRecord, end: LeaderEnd | None) -> tuple[Word, LeaderEnd | None]:
    if end and end.exit_code == 0:
        return Word.COMPLETED, end
    if record.cancelled is not None:
        return Word.CANCELLED, end
    if end is None:
        return Word.ENDED_UNSEEN, None
    return (Word.FAILED if end.signal is None else Word.KILLED), end


def _peek(job: LiveJob) -> LeaderEnd | None:
    # WNOWAIT leaves the zombie: its pid stays taken until all is written.
    info = os.waitid(os.P_PID, job.leader.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if info is None:
        return None
    if info.si_code != os.CLD_EXITED:
        return LeaderEnd(None, info.si_status)
    if not job.record.warm and _SHELL_SIGNAL < info.si_status <= _SHELL_SIGNAL + _LAST_SIGNAL:
        return LeaderEnd(None, info.si_status - _SHELL_SIGNAL)
    return LeaderEnd(info.si_status, None)


def _attempt(record: JobRecord) -> AttemptFolder:
    return JobFolder(Path(record.folder)).attempt(record.submission)


def _write_exit(record: JobRecord, end: LeaderEnd) -> None:
    """The ``exit`` file of a warm job; a launcher that found the attempt taken leaves the other one's alone."""
    if end.exit_code == EXIT_CLAIMED:
        return
    attempt = _attempt(record)
    try:
        attempt.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(attempt.exit, dump(ExitRecord(end.exit_code, end.signal, socket.gethostname())), durable=False)
    except OSError as error:
        # The record has the same word, and the server asks for that too.
        log.error("job %s: its exit file could not be written: %s", record.job_id, error)


def _left_exit(record: JobRecord) -> LeaderEnd | None:
    """What the ``exit`` file of a job says whose leader ended unseen; None when there is none."""
    try:
        # Never waiting, whatever the job left under that name: the spooler has one thread.
        with os.fdopen(os.open(_attempt(record).exit, _READ), "rb") as stream:
            content = stream.read(_EXIT_LIMIT) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
        left = load(ExitRecord, content)
    except (OSError, RecordError):
        return None
    return LeaderEnd(left.exit_code, left.signal)


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
