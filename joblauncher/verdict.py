"""What became of a run: one pure function over everything that was seen of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from joblauncher.formats.records import Failure, Limits

#: Why the launcher ended the process itself.
CANCELLED = "cancelled"
WALLTIME = "walltime"
MEMORY = "memory"

#: Signals that mean: the time limit is near (Slurm's early warning, Grid Engine's and the kernel's soft limit).
TIME_WARNINGS = ("SIGUSR1", "SIGUSR2", "SIGXCPU")
#: Signals that mean: end now, by cancel or preemption.
CANCELS = ("SIGTERM", "SIGINT", "SIGHUP")


@dataclass(frozen=True)
class Ending:
    """Everything seen of a run. ``outcome`` is what the process said last, None if it could not say anything.

    ``status`` is its wait(2) status (None: not seen); ``stopped`` is CANCELLED, WALLTIME or MEMORY when the launcher
    ended it; ``signals`` are those that the launcher got; ``oom`` says that the kernel's out-of-memory killer struck in
    the control group; ``start_error`` why it could not be started. Memory in MiB, times in seconds.
    """

    outcome: Optional[Mapping[str, Any]]
    status: Optional[int]
    stopped: Optional[str] = None
    signals: tuple[str, ...] = ()
    oom: bool = False
    peak_mb: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    survivors: int = 0
    start_error: str = ""


def judge(ending: Ending, limits: Limits) -> Optional[Failure]:
    """Why the run failed; None if it has succeeded. Decided in this order:

    1. the process told its outputs: succeeded, also when it was asked to stop and finished all the same;
    2. the launcher ended it, or was told to: time limit, out of memory, cancelled (a time warning before the order to
       stop makes it a time limit);
    3. the process told its failure: that failure; or that it was cancelled: as if the launcher had been told to, for a
       scheduler signals all processes of a job, and this one may have ended before the launcher had its turn;
    4. it could not be started;
    5. a signal: out of memory only on the kernel's evidence, time limit after a time warning, else the signal;
    6. an exit code, without a word.
    """
    if ending.outcome is not None and "outputs" in ending.outcome:
        return None
    if ending.stopped is not None:
        return _STOPPED[ending.stopped](ending, limits)  # type: ignore[no-any-return]
    if ending.outcome is not None and "failure" in ending.outcome:
        return told_failure(ending.outcome["failure"])
    if ending.outcome is not None and "cancelled" in ending.outcome:
        return _cancelled(ending, limits)
    if ending.start_error:
        return Failure("could not start", "The process could not be started on the node.", detail=ending.start_error)
    number = killed_by(ending.status)
    if number is not None:
        return _by_signal(number, ending, limits)
    return _by_exit_code(os_exit_code(ending.status))


def told_failure(told: Any) -> Failure:
    """A failure as the job process wrote it; its shape is checked, for the process may write what it likes."""
    try:
        return Failure(**{name: _FIELD_TYPES[name](part) for name, part in told.items() if part is not None})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return Failure("internal error", "The process ended in a way that cannot be read.", detail=repr(error)[:500])


_FIELD_TYPES: Mapping[str, Any] = {
    "cause": str,
    "text": str,
    "code": str,
    "locator": str,
    "signal": int,
    "exit_code": int,
    "detail": str,
}


def killed_by(status: Optional[int]) -> Optional[int]:
    """The signal that ended a process of this wait(2) status. One whose end was not seen died with its guard: 9."""
    if status is None:
        return signal.SIGKILL
    return status & 0x7F or None


def os_exit_code(status: Optional[int]) -> int:
    """The exit code in a wait(2) status."""
    return 0 if status is None else status >> 8


def peak_text(ending: Ending, limits: Limits) -> str:
    """«peak 812 MB of 1024 MB», without the limit where there is none."""
    of = f" of {limits.memory_mb} MB" if limits.memory_mb else ""
    return f"peak {ending.peak_mb:.0f} MB{of}"


def signal_name(number: int) -> str:
    """A signal's name, or its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cancelled(ending: Ending, limits: Limits) -> Failure:
    first = next((name for name in ending.signals if name in CANCELS or name in TIME_WARNINGS), "")
    if first in TIME_WARNINGS:
        return _time_limit(limits)
    return Failure("cancelled", "The process was cancelled.", signal=killed_by(ending.status or 0))


def _walltime(_ending: Ending, limits: Limits) -> Failure:
    return _time_limit(limits)


def _time_limit(limits: Limits) -> Failure:
    limit = f" of {limits.walltime_s:g} s" if limits.walltime_s else ""
    return Failure("time limit", f"The process was ended at its time limit{limit}.")


def _memory(ending: Ending, limits: Limits) -> Failure:
    return Failure("out of memory", f"The process ran out of memory: {peak_text(ending, limits)}.")


_STOPPED: Mapping[str, Any] = {CANCELLED: _cancelled, WALLTIME: _walltime, MEMORY: _memory}


def _by_signal(number: int, ending: Ending, limits: Limits) -> Failure:
    if number == signal.SIGKILL and ending.oom:
        return _memory(ending, limits)
    if number == signal.SIGXCPU or any(name in TIME_WARNINGS for name in ending.signals):
        return _time_limit(limits)
    text = f"The process was killed by signal {number} ({signal_name(number)}), {peak_text(ending, limits)}."
    return Failure("signal", text, signal=number)


def _by_exit_code(code: int) -> Failure:
    text = f"The process ended with exit code {code} before it gave its outputs."
    return Failure("exit code", text, exit_code=code)
