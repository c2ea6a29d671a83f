"""The worker's rounds (desk, dispatch, watch), one at a time, against a batch system that fails as it is told."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.formats.records import Failure
from tests.clusters.scripted import DONE, QUEUED, RUNNING, Rounds
from tests.clusters.site import Site
from wps_hpc.clusters.schedulers.base import JobWord, Phase
from wps_hpc.config import Cluster, Logging
from wps_hpc.jobs import watch
from wps_hpc.jobs.dispatch import MOST_TRACELESS
from wps_hpc.jobs.job import Job, JobState, Submission
from wps_hpc.jobs.lastwords import LastWords
from wps_hpc.jobs.pack import Packer
from wps_hpc.jobs.request import Reference
from wps_hpc.jobs.staging import Stager, StagingFailed
from wps_hpc.jobs.store import Store, StoreBusy
from wps_hpc.jobs.trusted import read_attempt
from wps_hpc.jobs.watch import READ_AGAIN
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.protocols.wps1_response import message

SUSPENDED = replace(RUNNING, phase=Phase.SUSPENDED, word="SUSPENDED")


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[Rounds]:
    """A site without a worker, and the rounds of one."""
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    made = Rounds(site)
    yield made
    made.close()
    site.close()


# --- submissions -----------------------------------------------------------------------------------------------------


def test_an_answer_that_never_came_is_looked_up_by_its_token(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.batch.lost_answers = [True]
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.SUBMITTING
    rounds.dispatcher.round()
    found = rounds.site.job(job.id)
    assert (found.state, found.submission_number) == (JobState.QUEUED, 1)
    assert rounds.batch.count("submit") == 1


def test_a_token_that_nobody_has_is_submitted_again_after_the_time_limit_and_two_look_ups(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.batch.lost_answers = [False]
    for _ in range(3):
        rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.SUBMITTING, "the command may still be on its way"
    rounds.pass_time(10.1)
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.SUBMITTING, "one look-up is not enough"
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.ACCEPTED
    rounds.pass_time(10)
    rounds.dispatcher.round()
    again = rounds.site.job(job.id)
    assert (again.state, again.submission_number, again.attempt) == (JobState.QUEUED, 2, 2)


@pytest.mark.parametrize("taken", [False, True])
def test_a_job_whose_submissions_leave_no_trace_fails_in_the_end(rounds: Rounds, taken: bool) -> None:
    """A wrapper of the site's may refuse it in words of its own. One that was taken at last has begun anew."""
    job = rounds.site.mark("one")
    rounds.batch.lost_answers = [False] * (MOST_TRACELESS - (1 if taken else 0))
    for _ in range(MOST_TRACELESS):
        rounds.pass_time(200)
        rounds.dispatcher.round()
        for _ in range(2):
            rounds.pass_time(10.1)
            rounds.dispatcher.round()
    ended = rounds.site.job(job.id)
    assert ended.submission_number == rounds.batch.count("submit") == MOST_TRACELESS
    if taken:
        assert ended.state is JobState.QUEUED
        return
    assert ended.state is JobState.FAILED and ended.failure is not None
    assert ended.failure.cause == "could not be submitted" and "does not say why" in ended.message
    assert "see submit.log" in ended.failure.detail
    assert rounds.site.job_folder(ended).submit_log.read_text().count("timed out") == MOST_TRACELESS


def test_a_look_up_that_is_not_answered_says_nothing(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.batch.lost_answers = [False]
    rounds.dispatcher.round()
    rounds.pass_time(60)
    rounds.batch.away = True
    for _ in range(5):
        rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.SUBMITTING


@pytest.mark.parametrize(("transient", "state"), [(True, JobState.ACCEPTED), (False, JobState.FAILED)])
def test_a_crash_while_a_refusal_is_recorded_leaves_no_job_behind(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, transient: bool, state: JobState
) -> None:
    """Whatever was written last before the crash: the job must not stay «submitting»."""
    job = rounds.site.mark("one")
    rounds.batch.refusals = [transient] * 5
    real, writes = Store.apply, 0

    def dies_second(store: Store, *arguments: object, **named: object) -> object:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise StoreBusy("killed here")
        return real(store, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "apply", dies_second)
    with contextlib.suppress(StoreBusy):
        rounds.dispatcher.round()
    monkeypatch.setattr(Store, "apply", real)
    rounds.start()
    for _ in range(3):
        rounds.pass_time(60)
        rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is state


def test_a_refusal_for_good_fails_the_job_with_a_sentence(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.batch.refusals = [False]
    rounds.dispatcher.round()
    failed = rounds.site.job(job.id)
    assert failed.failure is not None
    assert (failed.state, failed.failure.text) == (JobState.FAILED, "The queue takes no jobs.")
    assert failed.scheduler_gone


def test_a_job_that_cannot_be_prepared_keeps_no_other_from_running(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, other = rounds.site.mark("one"), rounds.site.mark("two")
    real = Packer.pack

    def pack(packer: Packer, job: object, *arguments: object) -> object:
        if getattr(job, "id", None) == poisoned.id:
            raise TypeError("an input that was not staged")
        return real(packer, job, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Packer, "pack", pack)
    rounds.dispatcher.round()
    failed = rounds.site.job(poisoned.id)
    assert failed.state is JobState.FAILED
    assert failed.failure is not None and failed.failure.cause == "internal error"
    assert "TypeError" not in failed.failure.text
    assert rounds.site.job(other.id).state is JobState.QUEUED


def test_nothing_is_prepared_while_there_is_no_place(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparing reads every input: not again and again for a job that only waits."""
    for number in range(rounds.site.parallel + 2):
        rounds.site.mark(str(number))
    rounds.dispatcher.round()
    packed = []
    monkeypatch.setattr(Packer, "pack", lambda *arguments: packed.append(arguments))
    rounds.dispatcher.round()
    assert packed == []
    assert rounds.site.store.load().running == rounds.site.parallel


def test_a_job_dismissed_between_two_tries_is_forgotten(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.batch.refusals = [True]
    rounds.dispatcher.round()
    rounds.site.intake.dismiss(job.id, "the client")
    rounds.desk.round()
    assert rounds.site.job(job.id).state is JobState.DISMISSED
    assert rounds.dispatcher.round() is None, "nothing is left to try again"


def test_a_process_that_the_worker_has_not_seen_yet_is_looked_for(rounds: Rounds) -> None:
    """A file dropped in is known to a web process up to a look earlier than to the worker."""
    site = rounds.site
    job = site.mark("one")
    late = Catalogue(site.settings.processes.modules, site.settings.processes.folders)
    rounds.dispatcher.packer = replace(rounds.dispatcher.packer, catalogue=late)
    rounds.dispatcher.round()
    assert site.job(job.id).state is JobState.QUEUED


def test_a_process_that_is_no_longer_on_offer_fails_its_waiting_jobs(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.dispatcher.packer = replace(rounds.dispatcher.packer, catalogue=Catalogue((), ()))
    rounds.dispatcher.round()
    failed = rounds.site.job(job.id)
    assert failed.failure is not None and "no longer offered" in failed.failure.text


def test_packing_again_gives_the_same_bytes(rounds: Rounds) -> None:
    """A worker that wakes up in the middle of packing must not spoil what its successor has submitted."""
    job = rounds.site.mark("one")
    packer = rounds.dispatcher.packer
    packer.pack(job, packer.request(job), rounds.cluster)
    manifest = rounds.site.job_folder(job).manifest
    first = manifest.read_bytes()
    rounds.site.store.request_hold(job.id)
    time.sleep(1.1)  # the manifest has whole seconds
    packer.pack(job, packer.request(job), rounds.cluster)
    assert manifest.read_bytes() == first


# --- what the scheduler says -----------------------------------------------------------------------------------------


def test_an_outage_marks_jobs_stale_and_its_end_clears_that(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.away = True
    rounds.watch()
    stale = rounds.site.job(job.id)
    assert (stale.state, stale.percent, stale.reason) == (
        JobState.RUNNING,
        40,
        "the scheduler does not answer (local)",
    )
    assert stale.stale_since is not None
    rounds.pass_time(3600)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING, "gone is never concluded from an outage"
    rounds.batch.away = False
    rounds.pass_time(1.0)
    rounds.watch()
    back = rounds.site.job(job.id)
    assert (back.state, back.stale_since, back.reason) == (JobState.RUNNING, None, "job 100")


def test_a_success_is_seen_during_an_outage_when_the_client_polls(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.away = True
    rounds.watch()
    rounds.wrote_success(job)
    rounds.watch({job.id})
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.scheduler_gone) == (JobState.SUCCEEDED, False)
    rounds.batch.away = False
    rounds.batch.say(DONE)
    rounds.watch()
    assert rounds.site.job(job.id).scheduler_gone


def test_a_success_is_seen_although_the_scheduler_goes_on_saying_that_the_job_runs(rounds: Rounds) -> None:
    """A master that was killed may never hear of the end; nor need any client ask."""
    job = rounds.running()
    rounds.watch()
    rounds.wrote_success(job)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING, "the answer is as before, so nothing was read"
    rounds.pass_time(READ_AGAIN)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED


def test_running_jobs_are_read_again_in_turn(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many in a round that a large site's shared filesystem does not feel it, the longest unread ones first."""
    monkeypatch.setattr(watch, "READ_AGAIN_AT_ONCE", 1)
    first, second = rounds.running(), rounds.running()
    rounds.watch()
    rounds.wrote_success(first)
    rounds.wrote_success(second)
    rounds.pass_time(READ_AGAIN)
    rounds.watch()
    states = [rounds.site.job(job.id).state for job in (first, second)]
    assert sorted(states) == [JobState.RUNNING, JobState.SUCCEEDED]
    rounds.watch()
    assert {rounds.site.job(job.id).state for job in (first, second)} == {JobState.SUCCEEDED}


def test_a_vanished_job_is_asked_of_accounting_then_waited_for_then_lost(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.words.clear()
    rounds.watch()
    assert rounds.batch.count("accounting") == 1
    assert rounds.site.job(job.id).state is JobState.RUNNING
    rounds.pass_time(2.1)
    rounds.watch()
    lost = rounds.site.job(job.id)
    assert lost.failure is not None
    assert (lost.state, lost.failure.cause, lost.scheduler_gone) == (JobState.FAILED, "lost", True)


def test_accountings_word_counts_for_a_vanished_job(rounds: Rounds) -> None:
    job = rounds.running()
    (number,) = rounds.batch.words
    rounds.batch.accounts[number] = replace(DONE, word="NODE_FAIL", cause="node failure", exit_code=1)
    rounds.batch.words.clear()
    rounds.watch()
    rounds.pass_time(1.1)
    rounds.watch()
    failed = rounds.site.job(job.id)
    assert failed.failure is not None and failed.failure.cause == "node failure"


def test_silent_accounting_never_makes_a_job_lost(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.words.clear()
    rounds.batch.deaf = {"accounting"}
    for _ in range(3):
        rounds.pass_time(60)
        rounds.watch()
    kept = rounds.site.job(job.id)
    assert kept.state is JobState.RUNNING and kept.stale_since is not None


def test_somebody_elses_job_under_a_reused_id_is_not_this_one(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.say(DONE)
    for number, word in rounds.batch.words.items():
        rounds.batch.words[number] = replace(word, token="another", phase=RUNNING.phase, word="RUNNING")
    rounds.watch()
    rounds.pass_time(2.1)
    rounds.watch()
    lost = rounds.site.job(job.id)
    assert lost.failure is not None and lost.failure.cause == "lost"


def test_a_requeued_job_counts_its_next_attempt_from_nothing(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.say(QUEUED, restarts=1)
    rounds.watch()
    queued = rounds.site.job(job.id)
    assert (queued.state, queued.attempt, queued.percent) == (JobState.QUEUED, 2, 0)
    rounds.batch.say(RUNNING, restarts=1)
    rounds.wrote_progress(job, 90, attempt=1)
    rounds.wrote_progress(job, 5, attempt=2)
    rounds.watch()
    assert (rounds.site.job(job.id).state, rounds.site.job(job.id).percent) == (JobState.RUNNING, 5)
    rounds.wrote_success(job, attempt=1)
    rounds.watch({job.id})
    assert rounds.site.job(job.id).state is JobState.RUNNING, "the old attempt may write what it likes"
    rounds.wrote_success(job, attempt=2)
    rounds.watch({job.id})
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED


def test_a_client_sees_the_schedulers_id_and_which_run_it_is(rounds: Rounds) -> None:
    job = rounds.running()
    assert message(rounds.site.job(job.id)) == "step 40 (job 100)"
    rounds.batch.say(QUEUED, restarts=1, reason="waiting for resources")
    rounds.watch()
    again = "run 2, after an interruption by the cluster"
    assert rounds.site.job(job.id).message == f"waiting in the queue (job 100) ({again}): waiting for resources"
    rounds.batch.say(RUNNING, restarts=1)
    rounds.wrote_progress(job, 5, attempt=2)
    rounds.watch()
    assert message(rounds.site.job(job.id)) == f"step 5 (job 100, {again})"


def test_a_job_that_was_preempted_as_it_ended_is_not_run_again(rounds: Rounds) -> None:
    """Its success is known; the scheduler puts it back into the queue all the same."""
    job = rounds.running()
    rounds.wrote_success(job)
    rounds.watch({job.id})
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED
    assert rounds.batch.controls() == [], "it is about to leave by itself"
    rounds.batch.say(QUEUED, restarts=1)
    rounds.watch()
    assert rounds.batch.controls() == ["cancel"]
    rounds.batch.say(DONE, restarts=1)
    rounds.watch()
    assert rounds.site.job(job.id).scheduler_gone
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED


def test_of_a_job_that_nobody_shows_any_more_the_newest_run_counts(rounds: Rounds) -> None:
    """It was restarted, ended and forgotten while nobody looked; accounting does not count restarts."""
    job = rounds.running()
    rounds.claimed(job)
    rounds.claimed(job, attempt=2)
    rounds.wrote_success(job, attempt=2)
    (number,) = rounds.batch.words
    rounds.batch.accounts[number] = replace(DONE, token=rounds.batch.words[number].token)
    rounds.batch.words.clear()
    rounds.watch()
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 2)


def test_a_run_beyond_all_reason_is_not_believed(rounds: Rounds) -> None:
    job = rounds.running()
    beyond = 1_000_000
    rounds.claimed(job, attempt=beyond)
    rounds.wrote_success(job, attempt=beyond)
    rounds.batch.words.clear()
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING


def asking_every(rounds: Rounds, seconds: float) -> None:
    """As on a large site; and a scheduler whose files settle slowly."""
    settings = rounds.cluster.settings.model_copy(update={"query_seconds": seconds, "lost_seconds": 30.0})
    rounds.cluster = replace(rounds.cluster, settings=settings, scheduler=replace(rounds.dialect, settle_seconds=5.0))
    rounds.watcher.cluster = rounds.dispatcher.cluster = rounds.cluster


def polled_for(rounds: Rounds, job: Job, seconds: int) -> Job:
    """The job after a client has polled it once a second for so long."""
    for _ in range(seconds):
        rounds.pass_time(1.0)
        rounds.watcher.round({job.id})
    return rounds.site.job(job.id)


ORDERED = Failure("cancelled", "The process was cancelled.")
PREEMPTED = JobWord(Phase.ENDED, "PREEMPTED", "The job was preempted.", "preempted")
COMPLETING = JobWord(Phase.RUNNING, "COMPLETING", "ending", ending=True)


def test_a_cause_is_told_by_an_answer_that_is_newer_than_the_failure(rounds: Rounds) -> None:
    """However often a client polls between two queries."""
    job = rounds.running()
    asking_every(rounds, 30.0)
    rounds.watch()
    asked = rounds.batch.count("query")
    rounds.wrote_failure(job, ORDERED)
    rounds.batch.say(PREEMPTED)
    told = polled_for(rounds, job, 12)
    assert told.failure is not None and told.failure.cause == "preempted"
    assert rounds.batch.count("query") > asked, "it is asked sooner while a verdict hangs on it"


def test_a_scheduler_that_is_about_to_say_how_a_job_ended_is_waited_for(rounds: Rounds) -> None:
    """An epilog may take longer than the grace."""
    job = rounds.running()
    asking_every(rounds, 2.0)
    rounds.wrote_failure(job, ORDERED)
    rounds.batch.say(COMPLETING)
    assert polled_for(rounds, job, 40).state is JobState.RUNNING
    rounds.batch.say(PREEMPTED)
    told = polled_for(rounds, job, 3)
    assert told.failure is not None and told.failure.cause == "preempted"


def test_an_order_to_end_is_not_explained_by_an_outage(rounds: Rounds) -> None:
    """The job was requeued meanwhile: it has not failed, and its second run is not cancelled."""
    job = rounds.running()
    asking_every(rounds, 2.0)
    rounds.batch.away = True
    rounds.wrote_failure(job, ORDERED)
    stale = polled_for(rounds, job, 60)
    assert stale.state is JobState.RUNNING and stale.stale_since is not None
    rounds.batch.away = False
    rounds.batch.say(QUEUED, restarts=1)
    requeued = polled_for(rounds, job, 31)
    assert (requeued.state, requeued.attempt) == (JobState.QUEUED, 2)
    assert rounds.batch.controls() == []


def test_a_job_that_vanishes_while_a_client_polls_is_lost_all_the_same(rounds: Rounds) -> None:
    job = rounds.site.mark("one")
    rounds.dispatcher.round()
    rounds.batch.say(QUEUED)
    asking_every(rounds, 2.0)
    rounds.watch()
    rounds.wrote_progress(job, 5)
    rounds.batch.words.clear()
    told = polled_for(rounds, job, 45)
    assert told.failure is not None and told.failure.cause == "lost"


def test_a_scheduler_that_is_away_is_asked_less_often(rounds: Rounds) -> None:
    job = rounds.running()
    asking_every(rounds, 2.0)
    rounds.batch.away = True
    rounds.watch()
    asked = rounds.batch.count("query")
    polled_for(rounds, job, 300)
    assert 8 <= rounds.batch.count("query") - asked <= 16
    rounds.batch.away = False
    assert polled_for(rounds, job, 31).stale_since is None


def test_a_run_that_had_succeeded_before_it_was_requeued_is_the_jobs_success(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.wrote_success(job)
    rounds.batch.say(QUEUED, restarts=1)
    rounds.watch()
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.attempt) == (JobState.SUCCEEDED, 1)
    assert rounds.batch.controls() == ["cancel"]


def test_a_job_that_waits_in_the_queue_for_too_long_is_dismissed(rounds: Rounds) -> None:
    rounds.desk.queue_seconds = 3600.0
    running = rounds.running("one")
    waiting = rounds.site.mark("two")
    rounds.dispatcher.round()
    (number,) = rounds.batch.words.keys() - {"100"}
    rounds.batch.words[number] = replace(rounds.batch.words[number], phase=Phase.QUEUED, word="PENDING")
    rounds.watch()
    rounds.desk.round()
    rounds.watch()
    assert rounds.batch.controls() == []
    rounds.pass_time(3601)
    rounds.desk.round()
    rounds.watch()
    assert rounds.batch.controls() == ["cancel"]
    assert rounds.site.job(waiting.id).cancelled_by == "the time limit of this service on waiting in the queue"
    assert rounds.site.job(running.id).cancel_requested is None


def test_while_the_run_before_ends_a_requeued_job_waits(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.say(COMPLETING, restarts=1)
    rounds.watch()
    waiting = rounds.site.job(job.id)
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, "being put back into the queue")


KILLED = Failure("signal", "The process was killed by signal 11.", signal=11)


@pytest.mark.parametrize("to_clients", [False, True])
def test_the_end_of_a_failed_jobs_standard_error_is_for_the_log_and_for_clients_where_the_site_allows(
    rounds: Rounds, caplog: pytest.LogCaptureFixture, to_clients: bool
) -> None:
    settings = Logging(stderr_lines=2, stderr_to_clients=to_clients)
    rounds.watcher.last_words = LastWords(rounds.site.settings.storage.root, settings)
    caplog.set_level("INFO")
    job = rounds.running()
    rounds.said(job, "first\n\nsecond\x00\nthird\n")
    rounds.wrote_failure(job, KILLED)
    rounds.batch.say(JobWord(Phase.ENDED, "FAILED", cause="signal", signal=11))
    rounds.watch({job.id})
    ended = rounds.site.job(job.id)
    assert ended.failure is not None and ended.message == KILLED.text
    told = f"{KILLED.text}\nThe end of its standard error:\nsecond\ufffd\nthird"
    assert ended.failure.text == (told if to_clients else KILLED.text)
    assert f"job {job.id}: stderr: third" in caplog.text and "first" not in caplog.text


def test_a_fifo_in_place_of_the_standard_error_holds_nobody_up(
    rounds: Rounds, caplog: pytest.LogCaptureFixture
) -> None:
    job = rounds.running()
    os.mkfifo(rounds.site.job_folder(job).attempt(1).stderr)
    rounds.wrote_failure(job, Failure("process error", "no"))
    rounds.watch({job.id})
    assert rounds.site.job(job.id).state is JobState.FAILED
    assert "its standard error cannot be read" in caplog.text


def test_a_source_that_does_not_count_restarts_does_not_bring_an_old_attempt_back(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.batch.say(RUNNING, restarts=1)
    rounds.watch()
    rounds.wrote_success(job, attempt=1)
    (number,) = rounds.batch.words
    rounds.batch.accounts[number] = DONE
    rounds.batch.words.clear()
    rounds.watch()
    kept = rounds.site.job(job.id)
    assert (kept.state, kept.attempt) == (JobState.RUNNING, 2)


def test_an_unreadable_status_takes_no_progress_back(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.site.job_folder(job).attempt(1).status.write_bytes(b"<torn")
    rounds.watch({job.id})
    assert rounds.site.job(job.id).percent == 40


def test_one_job_that_cannot_be_judged_keeps_no_other_from_its_end(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = rounds.running("one"), rounds.running("two")
    rounds.wrote_success(good)
    real = read_attempt

    def read(folder: object, *arguments: object) -> object:
        if bad.id in str(folder):
            raise RuntimeError("a file that nobody has thought of")
        return real(folder, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(watch, "read_attempt", read)
    rounds.batch.say(DONE)
    rounds.watch()
    assert rounds.site.job(good.id).state is JobState.SUCCEEDED
    rounds.pass_time(2.1)
    rounds.watch()
    failed = rounds.site.job(bad.id)
    assert failed.failure is not None and "nobody has thought of" in failed.failure.detail


def test_a_clock_that_is_set_ends_no_job(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Graces are measured on a clock that nobody can set."""
    rounds.watcher.steady = time.monotonic
    job = rounds.running()
    rounds.batch.words.clear()
    rounds.watch()
    rounds.pass_time(3600)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING


# --- what clients ask for --------------------------------------------------------------------------------------------


def test_the_scheduler_is_asked_no_more_often_than_configured_however_often_clients_ring(rounds: Rounds) -> None:
    settings = rounds.cluster.settings.model_copy(update={"query_seconds": 60.0})
    rounds.watcher.cluster = replace(rounds.cluster, settings=settings)
    job = rounds.running()
    asked = rounds.batch.count("query")
    rounds.wrote_progress(job, 70)
    for _ in range(20):
        rounds.watcher.round({job.id})
    assert rounds.batch.count("query") == asked
    assert rounds.site.job(job.id).percent == 70, "what the launcher wrote is read all the same"
    rounds.site.intake.dismiss(job.id, "the client")
    rounds.watcher.round({job.id})
    assert rounds.batch.controls() == ["cancel"], "and clients' wishes are passed on at once"
    rounds.pass_time(60)
    rounds.watcher.round()
    assert rounds.batch.count("query") == asked + 1


def test_between_two_queries_an_outage_stays_an_outage(rounds: Rounds) -> None:
    settings = rounds.cluster.settings.model_copy(update={"query_seconds": 60.0})
    rounds.watcher.cluster = replace(rounds.cluster, settings=settings)
    job = rounds.running()
    rounds.batch.away = True
    rounds.pass_time(60)
    rounds.watcher.round()
    assert rounds.site.job(job.id).stale_since is not None
    rounds.watcher.round({job.id})
    assert rounds.site.job(job.id).stale_since is not None
    rounds.wrote_success(job)
    rounds.watcher.round({job.id})
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED


def test_a_submission_that_comes_too_late_is_looked_up_instead(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker was stopped between its record and the command; another may have freed the job by then."""
    add = rounds.site.store.add_submission

    def slowly(*arguments: Any) -> Submission:
        added = add(*arguments)
        rounds.pass_time(3600)
        return added

    monkeypatch.setattr(rounds.site.store, "add_submission", slowly)
    job = rounds.site.mark("one")
    rounds.dispatcher.round()
    assert rounds.batch.count("submit") == 0
    assert rounds.site.job(job.id).state is JobState.SUBMITTING
    monkeypatch.undo()
    rounds.dispatcher.round()
    assert rounds.batch.count("lookup") == 1


def test_a_cancel_is_repeated_until_the_job_is_gone(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.site.intake.dismiss(job.id, "the client")
    rounds.watch()
    rounds.watch()
    assert rounds.batch.controls() == ["cancel"]
    rounds.pass_time(5.1)
    rounds.watch()
    assert rounds.batch.controls() == ["cancel", "cancel"]
    rounds.batch.say(replace(DONE, word="CANCELLED", cause="cancelled", exit_code=None))
    for _ in range(2):
        rounds.watch()
        rounds.pass_time(5.1)
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.message) == (JobState.DISMISSED, "dismissed by the client")
    rounds.pass_time(60)
    asked = len(rounds.batch.controls())
    rounds.watch()
    assert len(rounds.batch.controls()) == asked


@pytest.mark.parametrize("reused", [True, False])
def test_nothing_is_asked_for_a_job_that_the_scheduler_does_not_show(rounds: Rounds, reused: bool) -> None:
    """Where its id was given again, that would be asked for the job of somebody else."""
    job = rounds.running()
    if reused:
        rounds.batch.words = {number: replace(RUNNING, token="w" * 15) for number in rounds.batch.words}
    else:
        rounds.batch.words = {}
    rounds.watch()
    rounds.site.intake.dismiss(job.id, "the client")
    for _ in range(3):
        rounds.watch()
        rounds.watcher.round()
        rounds.pass_time(5.1)
    assert rounds.batch.controls() == []


def test_an_outage_is_not_asked_for_each_cancel(rounds: Rounds) -> None:
    """Each would wait for the command's whole time limit."""
    for job in [rounds.running(name) for name in ("one", "two", "three")]:
        rounds.site.intake.dismiss(job.id, "the client")
    rounds.batch.away = True
    rounds.watch()
    assert rounds.batch.controls() == []
    rounds.batch.away = False
    rounds.watch()
    assert rounds.batch.controls() == ["cancel"] * 3


def test_another_wish_does_not_wait_for_the_former_ones_pause(rounds: Rounds) -> None:
    job = rounds.running()
    rounds.site.store.request_suspend(job.id)
    rounds.watch()
    rounds.site.store.request_resume(job.id)
    rounds.batch.say(SUSPENDED)
    rounds.watch()
    rounds.watch()
    rounds.site.intake.dismiss(job.id, "the client")
    rounds.watch()
    assert rounds.batch.controls() == ["suspend", "resume", "cancel"]


def test_a_wish_that_came_true_is_over(rounds: Rounds) -> None:
    """What an administrator does afterwards with the scheduler's own commands is not undone."""
    job = rounds.running()
    rounds.site.store.request_suspend(job.id)
    rounds.watch()
    rounds.batch.say(SUSPENDED)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.SUSPENDED
    rounds.batch.say(RUNNING)
    for _ in range(3):
        rounds.pass_time(10)
        rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING
    assert rounds.batch.controls() == ["suspend"]


def test_a_wish_that_is_refused_is_dropped_and_said(rounds: Rounds, caplog: pytest.LogCaptureFixture) -> None:
    """To the client in neutral words; the scheduler's own, which may name hosts and accounts, are for the operator."""
    job = rounds.running()
    rounds.batch.controls_refused = True
    rounds.site.store.request_hold(job.id)
    rounds.watch()
    told = rounds.site.job(job.id)
    assert (told.wish, told.reason) == (None, "the scheduler refused to hold the job")
    assert "not allowed here" in caplog.text


def test_a_release_that_comes_while_the_desk_holds_is_not_lost(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    site = rounds.site
    job = site.mark("one")
    site.store.request_hold(job.id)
    real = Store.apply

    def release_first(store: Store, *arguments: object, **named: object) -> object:
        monkeypatch.setattr(Store, "apply", real)
        site.store.request_release(job.id)
        return real(store, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "apply", release_first)
    for _ in range(3):
        rounds.desk.round()
    assert site.job(job.id).state is JobState.ACCEPTED
    rounds.dispatcher.round()
    assert site.job(job.id).state is JobState.QUEUED


def test_a_worker_that_stops_while_it_stages_fails_no_job(rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def stage(stager: Stager, job_id: str, folder: object, request: object, cancelled: object) -> object:
        begun.set()
        while not cancelled():  # type: ignore[operator]
            threading.Event().wait(0.01)
        raise StagingFailed(Failure("cancelled", "The job was cancelled while its inputs were fetched."))

    monkeypatch.setattr(Stager, "stage", stage)
    data = rounds.site.folder / "in.txt"
    data.write_text("text")
    job = rounds.site.execute("count_characters", text=Reference(data.as_uri()))
    rounds.desk.round()
    assert begun.wait(10)
    rounds.desk.close()
    rounds.pool.shutdown(wait=True)
    rounds.desk.round()
    assert rounds.site.job(job.id).state is JobState.STAGING


# --- clusters that come and go ---------------------------------------------------------------------------------------


def test_a_job_whose_cluster_is_gone_says_so_and_goes_on_when_it_is_back(rounds: Rounds) -> None:
    running = rounds.running("one")
    waiting = rounds.site.mark("two")
    rounds.desk.clusters = {"another": Cluster()}
    rounds.desk.round()
    for job in (running, waiting):
        told = rounds.site.job(job.id)
        assert (told.state, told.reason) == (job.state, "its cluster (local) is no longer part of the configuration")
    rounds.desk.clusters = {"local": Cluster()}
    rounds.dispatcher.round()
    rounds.watch()
    for job in (running, waiting):
        back = rounds.site.job(job.id)
        assert (back.state, back.stale_since) == (JobState.RUNNING, None)
        assert "configuration" not in (back.reason or "")


def test_a_job_whose_cluster_is_gone_can_be_dismissed_and_takes_no_place_then(rounds: Rounds) -> None:
    running, waiting = rounds.running("one"), rounds.site.mark("two")
    rounds.desk.clusters = {"another": Cluster()}
    for job in (running, waiting):
        rounds.site.intake.dismiss(job.id, "the operator")
    rounds.desk.round()
    assert {rounds.site.job(job.id).state for job in (running, waiting)} == {JobState.DISMISSED}
    assert rounds.site.store.load().running == 0
