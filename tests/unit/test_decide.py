"""What became of a job, by ``watch.decide``: every cell of the table, and what must hold for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.records import EXIT_NOT_WRITTEN, EXIT_REFUSED, ExitRecord, Failure
from wps_hpc.clusters.schedulers.base import CouldNotAsk, JobWord, Phase
from wps_hpc.jobs.job import Job, JobState, Submission, SubmitState, check_transition
from wps_hpc.jobs.trusted import Left
from wps_hpc.jobs.watch import Answer, Graces, NotFound, Verdict, _accounted, decide

JOB = Job("id", "p", "1", "wps1", "async", JobState.RUNNING, "running", 10, 100.0, "{}", submission_number=1, attempt=1)
GRACES = Graces(settle=5, signal=15, lost=30)
NOW = 1000.0

OWN_ERROR = Failure("process error", "ValueError: no")
BY_SIGNAL = Failure("signal", "killed by signal 9, peak 812 MB of 1024 MB", signal=9)

NOTHING = Left()
RUNNING = Left(state="running", percent=40, message="step 4")
SUCCEEDED = Left(state="succeeded", percent=100, message="done")
FAILED = Left(state="failed", failure=OWN_ERROR)
KILLED = Left(state="failed", failure=BY_SIGNAL)

ACTIVE = JobWord(Phase.RUNNING, "RUNNING")
QUEUED = JobWord(Phase.QUEUED, "PENDING", reason="waiting for resources")
COMPLETED = JobWord(Phase.ENDED, "COMPLETED", exit_code=0)
TIMEOUT = JobWord(Phase.ENDED, "TIMEOUT", cause="time limit")
CODE_3 = JobWord(Phase.ENDED, "FAILED", cause="exit code", exit_code=3)
OUTAGE = CouldNotAsk("connection refused")
GONE = NotFound(accounting_asked=True)


def conclude(left: Left, answer: Answer, *, waited: float | None = None, job: Job = JOB) -> Verdict:
    since = None if waited is None else NOW - waited
    return decide(job, left, answer, NOW, since, GRACES)


@pytest.mark.parametrize("answer", [ACTIVE, QUEUED, COMPLETED, TIMEOUT, NotFound(), GONE, OUTAGE])
def test_a_success_that_the_launcher_wrote_is_trusted_whatever_the_scheduler_says(answer: Answer) -> None:
    assert conclude(SUCCEEDED, answer).state is JobState.SUCCEEDED


@pytest.mark.parametrize("answer", [ACTIVE, QUEUED, COMPLETED, TIMEOUT, NotFound(), GONE, OUTAGE])
def test_the_processes_own_error_is_trusted_whatever_the_scheduler_says(answer: Answer) -> None:
    verdict = conclude(FAILED, answer)
    assert (verdict.state, verdict.failure) == (JobState.FAILED, OWN_ERROR)


def test_a_failure_by_signal_waits_for_the_schedulers_reason() -> None:
    assert conclude(KILLED, ACTIVE).state is JobState.RUNNING
    assert conclude(KILLED, ACTIVE, waited=14.9).state is JobState.RUNNING
    assert conclude(KILLED, ACTIVE, waited=15.0).failure == BY_SIGNAL


def test_an_outage_explains_no_signal_however_long_it_takes() -> None:
    """The scheduler may have put the job back into the queue."""
    verdict = conclude(KILLED, OUTAGE, waited=1e6)
    assert (verdict.state, verdict.stale, verdict.wait_since) == (JobState.RUNNING, True, None)


def test_an_answer_from_before_the_failure_explains_nothing() -> None:
    assert decide(JOB, KILLED, ACTIVE, NOW, NOW - 100, GRACES, fresh=False).state is JobState.RUNNING


def test_who_is_about_to_say_how_a_job_ended_has_more_time() -> None:
    ending = replace(ACTIVE, ending=True)
    assert conclude(KILLED, ending, waited=1799.0).state is JobState.RUNNING
    assert conclude(KILLED, ending, waited=1800.0).failure == BY_SIGNAL


def test_the_schedulers_cause_explains_a_signal() -> None:
    failure = conclude(KILLED, TIMEOUT).failure
    assert failure is not None and failure.cause == "time limit" and "812 MB" in failure.detail


def test_a_cancel_that_this_server_did_not_ask_for_waits_for_the_schedulers_reason() -> None:
    """At a time limit and at a preemption, all that the launcher sees is an order to end."""
    ordered = Left(state="failed", failure=Failure("cancelled", "The process was cancelled."))
    assert conclude(ordered, ACTIVE).state is JobState.RUNNING
    failure = conclude(ordered, TIMEOUT).failure
    assert failure is not None and failure.cause == "time limit"
    silent = conclude(ordered, ACTIVE, waited=15.0).failure
    assert silent is not None and silent.cause == "cancelled"
    asked = replace(JOB, cancel_requested=900.0, cancelled_by="the client")
    assert conclude(ordered, ACTIVE, job=asked).state is JobState.DISMISSED


def test_a_signal_that_nobody_explains_is_told_as_it_was() -> None:
    assert conclude(KILLED, CODE_3).failure == BY_SIGNAL
    assert conclude(KILLED, GONE, waited=15.0).failure == BY_SIGNAL


def test_of_a_signal_accounting_is_asked_once_the_scheduler_has_forgotten_the_job() -> None:
    """Grid Engine forgets a job at its end, and its accounting, which alone knows of the time limit, comes late."""
    assert conclude(KILLED, NotFound()).ask_accounting
    assert conclude(KILLED, GONE, waited=14.9).state is JobState.RUNNING
    assert not conclude(FAILED, NotFound()).ask_accounting


def test_an_active_job_takes_state_from_the_scheduler_and_progress_from_the_launcher() -> None:
    verdict = conclude(RUNNING, ACTIVE)
    assert (verdict.state, verdict.percent, verdict.message) == (JobState.RUNNING, 40, "step 4")
    waiting = conclude(NOTHING, QUEUED)
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, "waiting for resources")
    assert "waiting for resources" in waiting.message


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.QUEUED, JobState.QUEUED),
        (Phase.HELD, JobState.HELD),
        (Phase.RUNNING, JobState.RUNNING),
        (Phase.SUSPENDED, JobState.SUSPENDED),
    ],
)
def test_every_phase_has_its_state(phase: Phase, state: JobState) -> None:
    assert conclude(NOTHING, JobWord(phase, "X")).state is state


@pytest.mark.parametrize("left", [RUNNING, NOTHING])
def test_an_ended_job_fails_with_the_words_cause_once_the_files_have_settled(left: Left) -> None:
    assert conclude(left, TIMEOUT).state is JobState.RUNNING
    failure = conclude(left, TIMEOUT, waited=5).failure
    assert failure is not None and failure.cause == "time limit"


def test_a_word_that_has_a_reason_and_no_exit_code_is_told_by_its_reason() -> None:
    """squeue knows that the exit code was not 0, and not which it was."""
    failure = conclude(NOTHING, JobWord(Phase.ENDED, "FAILED", "It ended badly.", "exit code"), waited=5).failure
    assert failure is not None and (failure.text, failure.exit_code) == ("It ended badly.", None)


def test_an_estimated_start_is_told_as_such() -> None:
    message = conclude(NOTHING, replace(QUEUED, estimated_start=0.0)).message
    assert message == (
        "waiting in the queue: waiting for resources (the scheduler's estimate of its start: 1970-01-01T00:00Z)"
    )


def test_what_accounting_calls_active_and_the_scheduler_does_not_show_is_not_there() -> None:
    """Its record lags, or will never be closed; only an end counts."""
    submission = Submission(1, "w1", "hpc", SubmitState.SUBMITTED, 0.0, scheduler_id="17")
    assert _accounted(submission, {"17": replace(ACTIVE, token="w1")}) == GONE
    assert _accounted(submission, {"17": replace(TIMEOUT, token="w1")}) == replace(TIMEOUT, token="w1")
    assert _accounted(submission, {"17": replace(TIMEOUT, token="w2")}) == GONE
    assert _accounted(submission, OUTAGE) == OUTAGE


def test_completed_without_an_outcome_is_lost_after_the_grace_and_never_a_success() -> None:
    assert conclude(NOTHING, COMPLETED, waited=29).state is JobState.RUNNING
    verdict = conclude(NOTHING, COMPLETED, waited=30)
    assert verdict.state is JobState.FAILED and verdict.failure is not None and verdict.failure.cause == "lost"


def test_a_job_that_is_not_found_is_asked_of_accounting_before_it_is_lost() -> None:
    first = conclude(RUNNING, NotFound())
    assert first.ask_accounting and first.state is JobState.RUNNING
    assert conclude(RUNNING, GONE, waited=29).state is JobState.RUNNING
    lost = conclude(RUNNING, GONE, waited=30)
    assert lost.failure is not None and lost.failure.cause == "lost" and lost.gone


@pytest.mark.parametrize("left", [RUNNING, NOTHING])
def test_an_outage_says_nothing_about_a_job(left: Left) -> None:
    verdict = conclude(left, OUTAGE, waited=1e6)
    assert verdict.stale and verdict.state is JOB.state and not verdict.gone


@pytest.mark.parametrize(
    ("code", "cause"), [(EXIT_NOT_WRITTEN, "disk full"), (EXIT_REFUSED, "payload refused"), (3, "exit code")]
)
def test_the_exit_file_tells_why_there_is_no_outcome(code: int, cause: str) -> None:
    left = replace(NOTHING, exit=ExitRecord(code, None, "n1"))
    for answer in (GONE, JobWord(Phase.ENDED, "FAILED", cause="exit code", exit_code=code)):
        failure = conclude(left, answer, waited=5).failure
        assert failure is not None and failure.cause == cause


def test_a_kill_from_outside_is_told_by_the_exit_file() -> None:
    failure = conclude(replace(RUNNING, exit=ExitRecord(None, 9, "n1")), GONE, waited=5).failure
    assert failure is not None and (failure.cause, failure.signal) == ("signal", 9)


def test_a_cancelled_job_that_ended_without_success_is_dismissed() -> None:
    asked = replace(JOB, cancel_requested=900.0, cancelled_by="the client")
    for left, answer in ((FAILED, CODE_3), (NOTHING, TIMEOUT), (KILLED, GONE)):
        verdict = conclude(left, answer, waited=30, job=asked)
        assert (verdict.state, verdict.message) == (JobState.DISMISSED, "dismissed by the client")
    assert conclude(SUCCEEDED, COMPLETED, job=asked).state is JobState.SUCCEEDED


LEFTS = st.sampled_from(
    [
        NOTHING,
        RUNNING,
        SUCCEEDED,
        FAILED,
        KILLED,
        Left(state="unreadable"),
        replace(NOTHING, exit=ExitRecord(1, None, "n")),
    ]
)
WORDS = st.builds(
    JobWord,
    phase=st.sampled_from(Phase),
    word=st.just("X"),
    cause=st.sampled_from([None, "time limit", "exit code", "signal", "node failure", "cancelled"]),
    exit_code=st.sampled_from([None, 0, 1, 75, 137]),
    signal=st.sampled_from([None, 9, 15]),
)
ANSWERS = st.one_of(WORDS, st.sampled_from([OUTAGE, NotFound(), GONE]))
STATES = st.sampled_from([JobState.QUEUED, JobState.HELD, JobState.RUNNING, JobState.SUSPENDED])


@given(LEFTS, ANSWERS, STATES, st.one_of(st.none(), st.floats(0, 100)))
def test_whatever_is_seen_the_verdict_is_a_state_that_may_follow(
    left: Left, answer: Answer, state: JobState, waited: float | None
) -> None:
    verdict = conclude(left, answer, waited=waited, job=replace(JOB, state=state))
    if not (state is JobState.HELD and verdict.state is JobState.SUSPENDED):
        check_transition(state, verdict.state)
    assert verdict.message
    assert 0 <= verdict.percent <= 100
    if verdict.state is JobState.SUCCEEDED:
        assert left.state == "succeeded"
    if verdict.state is JobState.FAILED:
        assert verdict.failure is not None and verdict.failure.text


@given(LEFTS, ANSWERS.filter(lambda answer: not isinstance(answer, CouldNotAsk)))
def test_a_job_that_the_scheduler_no_longer_has_always_comes_to_an_end(left: Left, answer: Answer) -> None:
    """Time alone settles it: accounting asked, and the longest grace over."""
    if isinstance(answer, JobWord) and answer.phase is not Phase.ENDED:
        return
    settled = GONE if isinstance(answer, NotFound) else answer
    assert conclude(left, settled, waited=1000).state.final


# --- containers ------------------------------------------------------------------------------------------------------

NO_IMAGE = "FATAL: could not open image /x.sif: no such file or directory"
NOT_STARTED = Left(exit=ExitRecord(255, None, "n1"), container=NO_IMAGE)
FAILED_255 = JobWord(Phase.ENDED, "FAILED", cause="exit code", exit_code=255)


@pytest.mark.parametrize("answer", [FAILED_255, COMPLETED, GONE])
def test_a_container_that_did_not_start_is_told_by_its_exit_and_its_words(answer: Answer) -> None:
    failure = conclude(NOT_STARTED, answer, waited=1e6).failure
    assert failure is not None and (failure.cause, failure.exit_code) == ("could not start", 255)
    assert "image is not there" in failure.text and NO_IMAGE in failure.detail and "/x.sif" not in failure.text


def test_a_runtime_that_crashed_did_not_start_either() -> None:
    crashed = replace(NOT_STARTED, exit=ExitRecord(None, 6, "n1"))
    failure = conclude(crashed, JobWord(Phase.ENDED, "FAILED", cause="signal", signal=6), waited=1e6).failure
    assert failure is not None and failure.cause == "could not start"


@pytest.mark.parametrize(
    ("left", "cause"),
    [
        # A launcher took the attempt, so its container had started.
        (replace(NOT_STARTED, claimed=True), "exit code"),
        (replace(NOT_STARTED, exit=ExitRecord(EXIT_REFUSED, None, "n1")), "payload refused"),
        # There was no container.
        (replace(NOT_STARTED, container=None), "exit code"),
    ],
)
def test_a_launcher_that_ran_is_no_container_that_did_not(left: Left, cause: str) -> None:
    failure = conclude(left, FAILED_255, waited=1e6).failure
    assert failure is not None and failure.cause == cause


def test_the_schedulers_own_cause_comes_before_a_container_that_did_not_start() -> None:
    failure = conclude(NOT_STARTED, TIMEOUT, waited=1e6).failure
    assert failure is not None and failure.cause == "time limit"
