"""The launcher while the process runs: one loop over its pipes, the signals that come, and the limits that fall due."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Callable, NoReturn, Optional

from joblauncher import kernel, reaper
from joblauncher.attempt import Progress
from joblauncher.formats.folder import AttemptFolder
from joblauncher.formats.records import Limits
from joblauncher.inside import Pipes
from joblauncher.logs import CappedLog
from joblauncher.verdict import CANCELLED, CANCELS, MEMORY, TIME_WARNINGS, WALLTIME, Ending

_CHUNK = 1 << 16
#: Seconds between two looks at the tree's memory; tighter where a limit is enforced.
_SAMPLE = 1.0
_SAMPLE_ENFORCED = 0.1
#: The warning comes so long before the walltime, or a tenth of it, whichever is less.
_WARNING = 60.0
#: The largest outcome, in bytes, and the longest line of progress.
_OUTCOME_LIMIT = 64 << 20
_LINE_LIMIT = 1 << 16
_NEVER = float("inf")


class Interrupted(BaseException):
    """A signal to end came while the job folder was still being checked."""


class Signals:
    """The signals that the launcher gets, in order; each wakes the loop through a pipe.

    ``notified``: the scheduler announces SIGKILL by SIGUSR2 and SIGSTOP by SIGUSR1. Then the former is an order to end,
    and the latter, which may be a soft time limit as well, is passed on but proves no time limit.
    """

    def __init__(self, notified: bool = False) -> None:
        self.notified = notified
        self.names: list[str] = []
        self.unseen: list[str] = []
        self._interrupting = False
        self.wakeup, self._write = os.pipe()
        for end in (self.wakeup, self._write):
            os.set_blocking(end, False)
        for name in (*CANCELS, *TIME_WARNINGS, "SIGCONT"):
            signal.signal(signal.Signals[name], self._take)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # Ignored by the parent, it would let no child be waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, tuple(signal.Signals[name] for name in (*CANCELS, *TIME_WARNINGS)))
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Within this, a signal to end raises Interrupted: checking large inputs takes its time."""
        self._interrupting = True
        try:
            if any(name in CANCELS for name in self.names):
                raise Interrupted
            yield
        finally:
            self._interrupting = False

    def take_unseen(self) -> list[str]:
        """The signals since the last call."""
        with suppress(BlockingIOError):
            while os.read(self.wakeup, 4096):
                continue
        unseen, self.unseen = self.unseen, []
        return unseen

    def _take(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        if self.notified and name == "SIGUSR2":
            name = "SIGTERM"
        self.unseen.append(name)
        if name != "SIGCONT" and not (self.notified and name == "SIGUSR1"):
            self.names.append(name)
        if self._interrupting and name in CANCELS:
            raise Interrupted


class Supervision:
    """One run: started, fed with commands, drained, ended."""

    def __init__(self, attempt: AttemptFolder, limits: Limits, signals: Signals, progress: Progress) -> None:
        self._limits = limits
        self._signals = signals
        self._progress = progress
        self._began = time.monotonic()
        self._logs = (CappedLog(attempt.stdout, limits.log_bytes), CappedLog(attempt.stderr, limits.log_bytes))
        self._lines = bytearray()
        self._outcome = bytearray()
        self._report = bytearray()
        self._stopped: Optional[str] = None
        self._ended = False
        self._peak_mb = 0.0
        self._oom_before = kernel.oom_kills()
        self._last_turn = self._began
        self._timers: dict[Callable[[], None], float] = {}
        self._takers: dict[int, Callable[[bytes], None]] = {}

    def run(self, start: Callable[[Pipes], NoReturn]) -> Ending:
        """Run ``start`` in a guarded child until nothing of it is left, and say how it ended."""
        self._spawn(start)
        self._set_timers()
        try:
            self._on_signals()
            while not self._ended:
                self._turn()
            return self._conclude()
        except BaseException:
            self._abandon()
            raise

    def note(self, text: str) -> None:
        """Say something to the operator, in ``stderr.log``."""
        self._logs[1].note(text)

    def close(self) -> None:
        """End the logs; nothing is taken in after that."""
        for log in self._logs:
            log.close()

    # --- starting ----------------------------------------------------------------------------------------------------

    def _spawn(self, start: Callable[[Pipes], NoReturn]) -> None:
        self._poller = select.poll()
        progress, outcome, stdout, stderr, report = (os.pipe() for _ in range(5))
        commands, self._commands = os.pipe()
        pipes = Pipes(progress[1], outcome[1], stdout[1], stderr[1])
        kernel.adopt_orphans()
        self._guard = os.fork()
        if self._guard == 0:
            reaper.guard(commands, report[1], pipes.all, lambda: start(pipes))
        for descriptor in (*pipes.all, report[1], commands):
            os.close(descriptor)
        self._takers = {
            progress[0]: self._on_progress,
            outcome[0]: self._on_outcome,
            stdout[0]: self._logs[0].feed,
            stderr[0]: self._logs[1].feed,
            report[0]: self._on_report,
        }
        for descriptor in self._takers:
            os.set_blocking(descriptor, False)
            self._poller.register(descriptor, select.POLLIN)
        self._poller.register(self._signals.wakeup, select.POLLIN)
        self._report_end = report[0]

    def _set_timers(self) -> None:
        self._timers[self._sample] = self._began + self._sampling
        self._timers[self._write_progress] = self._progress.due or _NEVER
        walltime = self._limits.walltime_s
        if self._limits.enforce and walltime is not None:
            self._timers[self._warn] = self._began + walltime - min(_WARNING, walltime / 10)
            self._timers[self._on_walltime] = self._began + walltime

    @property
    def _sampling(self) -> float:
        enforced = self._limits.enforce and self._limits.memory_mb is not None
        return _SAMPLE_ENFORCED if enforced else _SAMPLE

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        wait = min(self._timers.values()) - time.monotonic()
        events = self._poller.poll(max(wait, 0) * 1000)
        self._last_turn, before = time.monotonic(), self._last_turn
        if "SIGCONT" in self._signals.unseen:
            self._postpone(self._last_turn - before)
        for descriptor, _event in events:
            self._on_signals() if descriptor == self._signals.wakeup else self._read(descriptor)
        due = [action for action, when in self._timers.items() if when <= self._last_turn]
        for action in due:
            self._timers[action] = _NEVER
            action()

    def _postpone(self, seconds: float) -> None:
        """While a job is suspended (SIGSTOP) its limits stand still."""
        for action in self._timers:
            self._timers[action] += seconds

    def _read(self, descriptor: int) -> bool:
        """Take in what is there; False when there is nothing, for now or for good."""
        try:
            content = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if content:
            self._takers[descriptor](content)
        else:
            self._poller.unregister(descriptor)
            self._ended = self._ended or descriptor == self._report_end
        return bool(content)

    def _on_progress(self, content: bytes) -> None:
        self._lines += content
        *lines, rest = self._lines.split(b"\n")
        self._lines = rest if len(rest) <= _LINE_LIMIT else bytearray()
        for line in lines:
            self._take_line(bytes(line))
        self._timers[self._write_progress] = _NEVER if self._progress.due is None else self._progress.due

    def _take_line(self, line: bytes) -> None:
        try:
            kind, first, second = json.loads(line)
            _LINES[kind](self._progress, first, str(second))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            self.note(f"a report of the process cannot be read: {error!r}")

    def _on_outcome(self, content: bytes) -> None:
        if len(self._outcome) <= _OUTCOME_LIMIT:
            self._outcome += content

    def _on_report(self, content: bytes) -> None:
        self._report += content
        # The reaper exits right after its line.
        self._ended = self._ended or self._report.endswith(b"\n")

    def _write_progress(self) -> None:
        self._progress.write()
        # A write that failed stays due.
        self._timers[self._write_progress] = _NEVER if self._progress.due is None else self._progress.due

    # --- signals and limits ------------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for name in self._signals.take_unseen():
            if name in TIME_WARNINGS:
                self._warn()
            elif name in CANCELS:
                self._stop(CANCELLED)

    def _warn(self) -> None:
        self._command(reaper.WARN)

    def _on_walltime(self) -> None:
        self._stop(WALLTIME)

    def _stop(self, why: str) -> None:
        """Ask the process to end, and see to it after the grace."""
        if self._stopped is None:
            self._stopped = why
            self._command(reaper.TERMINATE)
            self._timers[self._kill] = time.monotonic() + self._limits.grace_s

    def _kill(self) -> None:
        self._command(reaper.KILL)
        self._timers[self._kill_guard] = time.monotonic() + 2 * reaper.PATIENCE

    def _kill_guard(self) -> None:
        """The guard itself does not answer (stopped, say): its death ends the process, and its orphans come here."""
        os.kill(self._guard, signal.SIGKILL)

    def _command(self, command: bytes) -> None:
        try:
            os.write(self._commands, command)
        except BrokenPipeError:
            # The guard has ended; its report, or the end of it, is on the way.
            return

    def _sample(self) -> None:
        self._timers[self._sample] = time.monotonic() + self._sampling
        tree = kernel.descendants(self._guard)
        resident = kernel.resident_mb(tree)
        limit = self._limits.memory_mb if self._limits.enforce else None
        if limit is not None and resident > limit:
            # Pages that forked processes share are in the sum once for each.
            resident = min(resident, kernel.proportional_mb(tree))
        self._peak_mb = max(self._peak_mb, resident)
        if limit is not None and resident > limit and self._stopped != MEMORY:
            self._stopped = MEMORY
            self._kill()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _conclude(self) -> Ending:
        _pid, guard_status = os.waitpid(self._guard, 0)
        self._drain(self._report_end)
        reaped = self._reaped(guard_status)
        for descriptor in self._takers:
            if descriptor != self._report_end:
                self._drain(descriptor)
        os.close(self._commands)
        self._signals.take_unseen()
        if reaped.survivors:
            self.note(f"{reaped.survivors} processes could not be killed")
        return Ending(
            outcome=self._told(),
            status=reaped.status,
            stopped=self._stopped,
            signals=tuple(self._signals.names),
            oom=self._oom_struck(),
            peak_mb=max(self._peak_mb, reaped.max_rss_mb),
            cpu_s=reaped.cpu_s,
            wall_s=time.monotonic() - self._began,
            survivors=reaped.survivors,
            start_error=reaped.error,
        )

    def _abandon(self) -> None:
        """Let nothing of the process run on when the launcher itself has failed."""
        with suppress(ProcessLookupError):
            os.kill(self._guard, signal.SIGKILL)
        reaper.kill_descendants(reaper.PATIENCE)

    def _reaped(self, guard_status: int) -> reaper.Reaped:
        """The guard's report. Where it was killed, its orphans have come to this process, and end here."""
        try:
            return reaper.Reaped.read(bytes(self._report))
        except (TypeError, ValueError):
            self.note(f"the guard of the process ended with wait status {guard_status}")
            _statuses, survivors = reaper.kill_descendants(reaper.PATIENCE)
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return reaper.Reaped(None, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, survivors)

    def _drain(self, descriptor: int) -> None:
        """Take in what is left in a pipe that nobody writes to any more."""
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            while content := stream.read(_CHUNK):
                self._takers[descriptor](content)

    def _told(self) -> Optional[Mapping[str, Any]]:
        """The outcome, if the process wrote a whole one."""
        if len(self._outcome) > _OUTCOME_LIMIT:
            text = "The process returned more than the record of a job can hold; large outputs belong into files."
            return {"failure": {"cause": "bad output", "text": text}}
        if not self._outcome.endswith(b"\n"):
            return None
        try:
            told = json.loads(self._outcome)
        except (ValueError, RecursionError) as error:
            self.note(f"the outcome cannot be read: {error!r}")
            return None
        return told if isinstance(told, dict) else None

    def _oom_struck(self) -> bool:
        after = kernel.oom_kills()
        return after is not None and self._oom_before is not None and after > self._oom_before


_LINES: Mapping[str, Any] = {
    "progress": lambda progress, percent, message: progress.note(int(percent), message),
    "loaded": lambda progress, version, title: progress.describe(str(version), title),
}
