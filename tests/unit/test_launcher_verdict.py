"""What became of a run: every row of the verdict's table."""

import signal
from typing import Any

import pytest

from joblauncher import verdict
from joblauncher.formats.records import CAUSES, Failure, Limits
from joblauncher.verdict import CANCELLED, MEMORY, WALLTIME, Ending, judge

OUTPUTS = {"outputs": {}}
TOLD = {"failure": {"cause": "process error", "text": "no", "code": "NoApplicableCode"}}
CANCELLED_INSIDE = {"cancelled": True}
LIMITS = Limits(walltime_s=60.0, memory_mb=1024)
KILLED = int(signal.SIGKILL)
EXIT_3 = 3 << 8


def cause(**seen: Any) -> str:
    """The cause of a run of which that was seen; «succeeded» if it has none."""
    failure = judge(Ending(**{"outcome": None, "status": 0, **seen}), LIMITS)
    assert failure is None or failure.cause in CAUSES
    return "succeeded" if failure is None else failure.cause


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        # 1. told its outputs
        ({"outcome": OUTPUTS}, "succeeded"),
        ({"outcome": OUTPUTS, "stopped": CANCELLED, "signals": ("SIGTERM",)}, "succeeded"),
        ({"outcome": OUTPUTS, "stopped": WALLTIME}, "succeeded"),
        ({"outcome": OUTPUTS, "status": KILLED}, "succeeded"),
        ({"outcome": OUTPUTS, "status": None}, "succeeded"),
        # 2. ended
        ({"status": KILLED, "stopped": WALLTIME}, "time limit"),
        ({"status": KILLED, "stopped": MEMORY}, "out of memory"),
        ({"outcome": TOLD, "stopped": MEMORY}, "out of memory"),
        ({"outcome": TOLD, "stopped": CANCELLED, "signals": ("SIGTERM",)}, "cancelled"),
        ({"outcome": CANCELLED_INSIDE, "stopped": CANCELLED, "signals": ("SIGTERM",)}, "cancelled"),
        ({"status": KILLED, "stopped": CANCELLED, "signals": ("SIGINT",)}, "cancelled"),
        ({"status": KILLED, "stopped": CANCELLED, "signals": ("SIGUSR1", "SIGTERM")}, "time limit"),
        ({"status": KILLED, "stopped": CANCELLED, "signals": ("SIGXCPU", "SIGTERM")}, "time limit"),
        ({"status": KILLED, "stopped": CANCELLED, "signals": ("SIGTERM", "SIGUSR1")}, "cancelled"),
        # 3. told its failure
        ({"outcome": TOLD}, "process error"),
        ({"outcome": TOLD, "signals": ("SIGUSR1",)}, "process error"),
        ({"outcome": {"failure": {"cause": "disk full", "text": "full"}}}, "disk full"),
        # ... or that it was cancelled: a scheduler's signal reached it before the launcher
        ({"outcome": CANCELLED_INSIDE}, "cancelled"),
        ({"outcome": CANCELLED_INSIDE, "signals": ("SIGUSR1",)}, "time limit"),
        # 4. not started
        ({"status": None, "start_error": "Resource temporarily unavailable"}, "could not start"),
        # 5. a signal
        ({"status": KILLED}, "signal"),
        ({"status": None}, "signal"),
        ({"status": KILLED, "oom": True}, "out of memory"),
        ({"status": int(signal.SIGSEGV), "oom": True}, "signal"),
        ({"status": KILLED, "signals": ("SIGUSR1",)}, "time limit"),
        ({"status": int(signal.SIGXCPU)}, "time limit"),
        ({"status": int(signal.SIGSEGV) | 0x80}, "signal"),
        # 6. an exit code
        ({"status": EXIT_3}, "exit code"),
        ({"status": 0}, "exit code"),
        ({"status": 0, "oom": True}, "exit code"),
    ],
)
def test_every_end_has_its_cause(seen: dict[str, Any], expected: str) -> None:
    assert cause(**seen) == expected


def test_a_signal_is_told_with_its_peak() -> None:
    ending = Ending(None, KILLED, peak_mb=812.4)
    failure = judge(ending, LIMITS)
    assert failure is not None
    assert failure.text == "The process was killed by signal 9 (SIGKILL), peak 812 MB of 1024 MB."
    assert failure.signal == 9
    unlimited = judge(ending, Limits())
    assert unlimited is not None and unlimited.text.endswith("peak 812 MB.")


def test_a_dump_of_core_is_the_same_signal() -> None:
    failure = judge(Ending(None, int(signal.SIGABRT) | 0x80), LIMITS)
    assert failure is not None and failure.signal == signal.SIGABRT


def test_time_limit_and_memory_are_told_with_the_limit() -> None:
    late = judge(Ending(None, KILLED, WALLTIME), LIMITS)
    assert late is not None and late.text == "The process was ended at its time limit of 60 s."
    large = judge(Ending(None, KILLED, MEMORY, peak_mb=1100), LIMITS)
    assert large is not None and large.text == "The process ran out of memory: peak 1100 MB of 1024 MB."
    warned = judge(Ending(None, KILLED, signals=("SIGUSR1",)), Limits())
    assert warned is not None and warned.text == "The process was ended at its time limit."


def test_an_exit_code_is_told() -> None:
    failure = judge(Ending(None, EXIT_3), LIMITS)
    assert failure == Failure(
        "exit code", "The process ended with exit code 3 before it gave its outputs.", exit_code=3
    )


def test_a_told_failure_keeps_all_it_says() -> None:
    told = {"cause": "process error", "text": "t", "code": "c", "locator": "l", "signal": None, "detail": "d"}
    assert verdict.told_failure(told) == Failure("process error", "t", "c", "l", detail="d")


@pytest.mark.parametrize(
    "told", [None, 5, [], "x", {"cause": "process error", "other": 1}, {"text": "t"}, {"signal": "x"}]
)
def test_a_told_failure_that_cannot_be_read_is_one_all_the_same(told: Any) -> None:
    assert verdict.told_failure(told).cause == "internal error"


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (35, "signal 35"), (64, "SIGRTMAX")])
def test_signals_have_names(number: int, name: str) -> None:
    assert verdict.signal_name(number) == name
