"""The state machine of a job: what may follow what, and what a change brings with it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wps_hpc.jobs.job import (
    ACTIVE,
    FINAL,
    STATE_WORDS,
    TRANSITIONS,
    Job,
    JobState,
    TransitionError,
    advanced,
    check_transition,
)

DAY = 86_400.0
JOB = Job("id", "buffer", "1", "wps1", "async", JobState.ACCEPTED, "", 0, created=100.0, request="{}")

states = st.sampled_from(sorted(JobState))


def step(job: Job, now: float = 200.0, **fields: object) -> Job:
    return advanced(job, fields, now=now, keep_seconds=DAY)


def test_every_state_has_its_transitions_and_its_words() -> None:
    assert set(TRANSITIONS) == set(STATE_WORDS) == set(JobState) == ACTIVE | FINAL


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_whatever_is_not_final_can_fail_or_be_dismissed(state: JobState) -> None:
    assert {JobState.FAILED, JobState.DISMISSED} <= TRANSITIONS[state]


@given(states, states)
def test_what_the_table_lacks_is_refused(before: JobState, after: JobState) -> None:
    if after in TRANSITIONS[before] or (after == before and not before.final):
        check_transition(before, after)
    else:
        with pytest.raises(TransitionError):
            check_transition(before, after)


@given(st.lists(st.tuples(states, st.none() | st.floats(0, 400), st.none() | st.floats(0, 400)), max_size=12))
def test_no_history_breaks_a_job(history: list[tuple[JobState, float | None, float | None]]) -> None:
    job = JOB
    for state, started, finished in history:
        before = job
        try:
            times = {"started": started} if finished is None else {"started": started, "finished": finished}
            job = step(job, state=state, **times)
        except TransitionError:
            continue
        assert not before.final
        assert job.revision == before.revision + 1
        moments = [moment for moment in (job.created, job.started, job.finished) if moment is not None]
        assert moments == sorted(moments)
        assert not job.final or (job.finished is not None and job.expires == job.finished + DAY)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_final_job_says_nothing_new(state: JobState) -> None:
    job = replace(JOB, state=state, finished=150.0)
    for fields in ({"state": JobState.RUNNING}, {"state": state}, {"message": "other"}, {"finished": 1.0}):
        with pytest.raises(TransitionError):
            step(job, **fields)


def test_a_final_job_may_still_be_gone_from_its_scheduler_and_expire() -> None:
    job = replace(JOB, state=JobState.SUCCEEDED, finished=150.0, expires=900.0)
    assert step(job, scheduler_gone=True).scheduler_gone
    assert step(job, scheduler_gone=True).expires == 900.0
    assert step(job, expires=160.0).expires == 160.0


def test_running_has_a_start_and_the_end_an_end() -> None:
    running = step(replace(JOB, state=JobState.QUEUED, submission_id=1), state=JobState.RUNNING, now=120.0)
    assert (running.started, running.state_since) == (120.0, 120.0)
    ended = step(running, state=JobState.SUCCEEDED, now=130.0)
    assert (ended.finished, ended.expires) == (130.0, 130.0 + DAY)
    assert not ended.scheduler_gone


def test_given_times_count_but_never_run_backwards() -> None:
    queued = replace(JOB, state=JobState.QUEUED)
    early = step(queued, state=JobState.SUCCEEDED, started=50.0, finished=40.0)
    assert (early.started, early.finished, early.expires) == (100.0, 100.0, 100.0 + DAY)
    late = step(queued, state=JobState.SUCCEEDED, started=110.0, finished=115.0)
    assert (late.started, late.finished) == (110.0, 115.0)


def test_a_requeued_job_that_runs_again_keeps_its_first_start() -> None:
    running = step(replace(JOB, state=JobState.QUEUED), state=JobState.RUNNING, now=120.0)
    again = step(step(running, state=JobState.QUEUED, now=130.0), state=JobState.RUNNING, now=140.0)
    assert (again.started, again.state_since) == (120.0, 140.0)


def test_a_job_back_in_the_line_belongs_to_no_submission() -> None:
    refused = step(replace(JOB, state=JobState.SUBMITTING, submission_id=4), state=JobState.ACCEPTED)
    assert refused.submission_id is None


def test_a_job_that_no_scheduler_had_is_gone_from_it_at_once() -> None:
    assert step(JOB, state=JobState.DISMISSED).scheduler_gone


def test_a_change_that_is_no_change_of_state_leaves_its_time() -> None:
    job = replace(JOB, state=JobState.RUNNING, state_since=110.0)
    assert step(job, state=JobState.RUNNING, percent=20).state_since == 110.0
