"""The dialect of DRMAA without any."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wps_hpc.clusters.schedulers.base import (
    Control,
    CouldNotAsk,
    JobOrder,
    JobWord,
    Known,
    Phase,
    Refused,
    Submitted,
    Unknown,
)
from wps_hpc.clusters.schedulers.drmaa_session import PHASES, DrmaaScheduler
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.clusters.transports.drmaa import ACCOUNT, DRMAA, NO_SESSION
from wps_hpc.config import Cluster
from wps_hpc.processes.description import Resources

SCHEDULER = DrmaaScheduler(GridEngineScheduler(Cluster(scheduler="gridengine", queue="long.q")))
TOKEN = "wrun00000000000"
KNOWN = Known(TOKEN, "17", 1_795_000_000.0)
ORDER = JobOrder(TOKEN, "job", "#!/bin/sh\n", "/jobs/ab/c d", ("python",), 3, Resources(walltime_s=60))

#: GFD.22, DRMAA_PS_.
DOCUMENTED_STATES = (
    "undetermined queued_active system_on_hold user_on_hold user_system_on_hold running system_suspended "
    "user_suspended user_system_suspended done failed"
)


def test_every_documented_state_is_in_the_table_and_none_is_a_success() -> None:
    assert sorted(PHASES) == sorted(DOCUMENTED_STATES.split())
    assert Phase.ENDED not in PHASES.values()


def test_jobs_that_drmaa_calls_finished_are_left_to_accounting() -> None:
    states = [{"id": str(number), "token": TOKEN, "state": state} for number, state in enumerate(PHASES)]
    answer = SCHEDULER.read_query(Completed(0, json.dumps(states), ""))
    assert not isinstance(answer, CouldNotAsk)
    assert [word.word for word in answer.values()] == [state for state, phase in PHASES.items() if phase is not None]
    assert answer["1"] == JobWord(Phase.QUEUED, "queued_active", token=TOKEN)


def test_a_submission_is_the_kept_script_with_the_same_options() -> None:
    """With -b n: what runs is what was submitted, whatever is written into the job folder later."""
    command = SCHEDULER.submit_command(ORDER)
    wanted = json.loads(command.stdin)
    assert (wanted["token"], wanted["script"], wanted["folder"]) == (TOKEN, "/jobs/ab/c d/job.sh", "/jobs/ab/c d")
    assert wanted["native"] == "-b n -S /bin/sh -o /dev/null -j y -r n -notify -q long.q -l h_rt=360"


@pytest.mark.parametrize(
    ("completed", "kind", "transient"),
    [
        (Completed(0, "17", ""), Submitted, False),
        (Completed(0, "", ""), Unknown, False),
        (Completed(17, "", "code 17: Job was rejected because job requests unknown queue"), Refused, False),
        (Completed(17, "", "code 17: job rejected: only 2 jobs are allowed per user (current: 2)"), Refused, True),
        (Completed(17, "", "code 17: unable to send message to qmaster: got send timeout"), Unknown, False),
        (Completed(16, "", "code 16: try later"), Refused, True),
        (Completed(NO_SESSION, "", "DrmCommunicationException: code 2"), Refused, True),
        (Completed(2, "", "code 2: unable to send message to qmaster"), Unknown, False),
        (Completed(1, "", "code 1: internal error"), Unknown, False),
    ],
)
def test_only_what_is_certain_counts_as_refused(completed: Completed, kind: type, transient: bool) -> None:
    outcome = SCHEDULER.read_submit(completed)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "transient", False) is transient


@pytest.mark.parametrize("action", Control)
def test_controls_are_those_of_the_commands(action: Control) -> None:
    """DRMAA knows only ids, which a cell gives again."""
    commands = SCHEDULER.commands
    assert SCHEDULER.control_command(action, KNOWN) == commands.control_command(action, KNOWN)
    for completed in (Completed(0, "", ""), Completed(1, "", 'denied: job "17" does not exist')):
        assert SCHEDULER.read_control(action, completed) == commands.read_control(action, completed)


@pytest.mark.parametrize("token", [TOKEN, "w" * 15])
def test_which_jobs_live_is_said_with_their_tokens(token: str) -> None:
    """What the session is told of is not somebody else's job with the same id."""
    job = f"<job_list><JB_job_number>17</JB_job_number><JB_name>{token}</JB_name><state>r</state></job_list>"
    living = SCHEDULER.living()
    assert living.command == SCHEDULER.commands.query_command()
    assert living.read(Completed(0, f"<job_info>{job}</job_info>", "")) == {"17": token}
    assert living.read(Completed(1, "", "Connection refused")) is None


def test_accounting_is_the_commands_after_the_session_was_told_of_the_jobs() -> None:
    command = SCHEDULER.accounting_command([KNOWN])
    assert command is not None
    commands = SCHEDULER.commands.accounting_command([KNOWN])
    assert commands is not None and command.argv == (DRMAA, ACCOUNT, *commands.argv)
    assert json.loads(command.stdin) == [{"id": "17", "token": TOKEN}]


def test_accounting_without_a_session_says_nothing_of_any_job() -> None:
    failed = Completed(NO_SESSION, "", "DrmCommunicationException: code 2")
    assert isinstance(SCHEDULER.read_accounting(failed, [KNOWN]), CouldNotAsk)


@given(st.builds(Completed, st.integers(-64, 255), st.text(max_size=30), st.text(max_size=30)))
def test_readers_are_total(completed: Completed) -> None:
    SCHEDULER.read_submit(completed)
    SCHEDULER.read_query(completed)
    for action in Control:
        SCHEDULER.read_control(action, completed)
