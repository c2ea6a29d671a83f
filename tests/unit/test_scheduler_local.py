"""The dialect of the embedded spooler, without a spooler: commands built, answers read, garbage survived."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.records import CAUSES
from wps_hpc.clusters.schedulers.base import (
    Control,
    ControlOutcome,
    CouldNotAsk,
    JobOrder,
    JobWord,
    Known,
    Phase,
    Refused,
    Submitted,
    Unknown,
)
from wps_hpc.clusters.schedulers.local import STATES, LocalScheduler
from wps_hpc.clusters.spooler.commands import Exit
from wps_hpc.clusters.spooler.order import OrderError, StartOrder, read_order
from wps_hpc.clusters.spooler.spool import Word
from wps_hpc.clusters.transports.base import Completed

SCHEDULER = LocalScheduler({"PATH": "/bin"}, cancel_grace=12.5)
KNOWN = Known("w1", "17", 0.0)


def table(*rows: dict[str, Any]) -> Completed:
    """What the spooler prints for these jobs."""
    return Completed(0, json.dumps({"jobs": list(rows)}), "")


def row(**changes: Any) -> dict[str, Any]:
    """One job as the spooler prints it."""
    return {"id": "17", "token": "w1", "word": "running", "exit_code": None, "signal": None, **changes}


def test_every_native_state_has_a_meaning() -> None:
    """The table is complete, its causes are those that the watcher knows."""
    assert set(STATES) == set(Word)
    assert {state.cause for state in STATES.values()} <= {None, *CAUSES}
    assert all(state.reason for state in STATES.values() if state.cause)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", JobWord(Phase.RUNNING, "running", token="w1")),
        ("suspended", JobWord(Phase.SUSPENDED, "suspended", token="w1")),
        ("an unheard-of state", JobWord(Phase.RUNNING, "an unheard-of state", token="w1")),
    ],
)
def test_words_of_living_jobs(word: str, expected: JobWord) -> None:
    """A word from a newer spooler never means that a job is gone."""
    assert SCHEDULER.read_query(table(row(word=word))) == {"17": expected}


@pytest.mark.parametrize(
    ("changes", "cause", "reason"),
    [
        ({"word": "completed", "exit_code": 0}, None, None),
        ({"word": "failed", "exit_code": 3}, "exit code", "The job ended with exit code 3."),
        ({"word": "killed", "signal": 9}, "signal", "The job was killed by signal 9."),
        ({"word": "cancelled", "signal": 15}, "cancelled", "The job was cancelled."),
        ({"word": "host restarted"}, "node failure", "The host was restarted while the job ran."),
    ],
)
def test_words_of_ended_jobs(changes: dict[str, Any], cause: str | None, reason: str | None) -> None:
    """Cause and sentence, exit code and signal."""
    answer = SCHEDULER.read_query(table(row(**changes)))
    assert not isinstance(answer, CouldNotAsk)
    word = answer["17"]
    assert (word.phase, word.cause, word.reason) == (Phase.ENDED, cause, reason)
    assert (word.exit_code, word.signal) == (changes.get("exit_code"), changes.get("signal"))


@pytest.mark.parametrize(
    "completed",
    [
        Completed(0, "", ""),
        Completed(0, "null", ""),
        Completed(0, "{}", ""),
        Completed(0, '{"jobs": 3}', ""),
        Completed(0, '{"jobs": [3]}', ""),
        Completed(0, '{"jobs": [{}]}', ""),
        Completed(0, "Welcome to this host\n" + table(row()).stdout, ""),
        Completed(1, table(row()).stdout, "went wrong"),
        Completed(-9, "", ""),
        table(row(id="seventeen")),
        table(row(id=17)),
        table(row(exit_code="3")),
        table(row(exit_code=True)),
        table(row(signal=9.0)),
        table(row(word=["running"])),
    ],
)
def test_an_answer_that_cannot_be_read_says_nothing_of_any_job(completed: Completed) -> None:
    """Neither «gone» nor an exception; the same for query, accounting and look-up."""
    assert isinstance(SCHEDULER.read_query(completed), CouldNotAsk)
    assert isinstance(SCHEDULER.read_accounting(completed, [KNOWN]), CouldNotAsk)
    assert isinstance(SCHEDULER.read_lookup(completed, KNOWN), CouldNotAsk)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["jobs", "id", "token", "word", "exit_code", "signal"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.builds(Completed, st.integers(-64, 255), st.text() | json_values.map(json.dumps), st.text()))
def test_readers_are_total(completed: Completed) -> None:
    """Whatever is printed, each reader answers with one of its own kinds."""
    assert isinstance(SCHEDULER.read_submit(completed), Submitted | Refused | Unknown)
    assert isinstance(SCHEDULER.read_query(completed), CouldNotAsk | dict)
    assert isinstance(SCHEDULER.read_lookup(completed, KNOWN), CouldNotAsk | str | None)
    assert isinstance(SCHEDULER.read_control(Control.CANCEL, completed), ControlOutcome)


def test_a_submission_carries_the_whole_order() -> None:
    """As the spooler will read it, with the environment of the cluster."""
    order = JobOrder("w1", "job", "script", "/", ("python", "launcher", "--digest", "d"), 2, warm=True)
    command = SCHEDULER.submit_command(order)
    assert command.argv == ("submit",)
    read = read_order(command.stdin)
    assert read == StartOrder("w1", "job", "/", 2, True, order.launcher, "script", {"PATH": "/bin"})
    assert read.launcher_options == ("--digest", "d")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"launcher": null}',
        StartOrder("../w", "j", "/", 1, True, (), "", {}).dump(),
        StartOrder("w1", "j", "relative", 1, True, (), "", {}).dump(),
        StartOrder("w1", "j", "/no/such/folder", 1, True, (), "", {}).dump(),
        StartOrder("w1", "j", "/", 0, True, (), "", {}).dump(),
        StartOrder("w1", "j", 7, 1, True, (), "", {}).dump(),  # type: ignore[arg-type]
        StartOrder("w1", "j", "/", 1, True, (3,), "", {}).dump(),  # type: ignore[arg-type]
        StartOrder("w1", "j", "/", 1, True, (), None, {}).dump(),  # type: ignore[arg-type]
        StartOrder("w1", "j", "/", 1, True, (), "", {"A": 1}).dump(),  # type: ignore[dict-item]
        StartOrder("w1", "j", "/", 1, "yes", (), "", {}).dump(),  # type: ignore[arg-type]
    ],
)
def test_orders_that_are_none(content: bytes) -> None:
    """Refused before anything is recorded."""
    with pytest.raises(OrderError):
        read_order(content)


@pytest.mark.parametrize(
    ("completed", "expected"),
    [
        (Completed(0, "1700000000001\n", ""), Submitted("1700000000001")),
        (Completed(0, "", ""), Unknown("exit code 0: ")),
        (Completed(0, "id 7", ""), Unknown("exit code 0: id 7")),
        (Completed(Exit.DEFECT, "", "KeyError"), Unknown("exit code 70: KeyError")),
        (Completed(-9, "", ""), Unknown("exit code -9: ")),
    ],
)
def test_outcomes_of_a_submission(completed: Completed, expected: object) -> None:
    """Only a plain id is a success; what is not certain is unknown."""
    assert SCHEDULER.read_submit(completed) == expected


@pytest.mark.parametrize(("code", "transient"), [(Exit.BAD_ORDER, False), (Exit.NOT_NOW, True), (Exit.USAGE, False)])
def test_certain_refusals(code: Exit, transient: bool) -> None:
    """The client reads a neutral sentence, the operator the spooler's own words."""
    outcome = SCHEDULER.read_submit(Completed(code, "", "/secret/path: no space\n"))
    assert isinstance(outcome, Refused)
    assert (outcome.transient, outcome.why) == (transient, "/secret/path: no space")
    assert "secret" not in outcome.client_text


def test_a_look_up_finds_the_token_and_no_other() -> None:
    """By the token, whatever else is shown."""
    assert SCHEDULER.lookup_command(KNOWN).argv == ("show", "w1")
    assert SCHEDULER.read_lookup(table(row(token="w2", id="16"), row()), KNOWN) == "17"
    assert SCHEDULER.read_lookup(table(row(token="w2")), KNOWN) is None
    assert SCHEDULER.read_lookup(table(), KNOWN) is None


def test_commands() -> None:
    """The rest of the dialect."""
    two = [KNOWN, Known("w2", None, 0.0)]
    accounting, forget = SCHEDULER.accounting_command(two), SCHEDULER.forget_command(two)
    assert SCHEDULER.query_command().argv == ("list",)
    assert accounting is not None and accounting.argv == ("show", "w1", "w2")
    assert forget is not None and forget.argv == ("forget", "w1", "w2")
    assert SCHEDULER.control_command(Control.CANCEL, KNOWN).argv == ("control", "cancel", "w1", "--grace", "12.5")
    assert SCHEDULER.control_command(Control.SUSPEND, KNOWN).argv == ("control", "suspend", "w1")


@pytest.mark.parametrize(
    ("code", "done", "gone"),
    [
        (Exit.OK, True, False),
        (Exit.UNKNOWN_JOB, False, True),
        (Exit.JOB_ENDED, False, True),
        (Exit.NOT_SUPPORTED, False, False),
        (Exit.DEFECT, False, False),
    ],
)
def test_outcomes_of_a_control(code: Exit, done: bool, gone: bool) -> None:
    """Taken, or gone, or why not."""
    outcome = SCHEDULER.read_control(Control.HOLD, Completed(code, "", "" if done else "because\n"))
    assert (outcome.done, outcome.gone, outcome.why) == (done, gone, "" if done else "because")
