"""The job database, on SQLite and on PostgreSQL."""

import multiprocessing
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, inspect, text

from joblauncher.formats.records import Failure
from tests.clusters.conftest import ROOMY, make_job
from wps_hpc.config import Limits, Settings
from wps_hpc.errors import PARALLEL_LIMIT_TEXT, ServerBusy
from wps_hpc.jobs.admission import Load
from wps_hpc.jobs.job import ACTIVE, AT_SCHEDULER, Job, JobState, SubmitState, TransitionError, Whereabouts
from wps_hpc.jobs.store import (
    Change,
    JobFilter,
    NoSuchJob,
    NotWaiting,
    RevisionConflict,
    Store,
    StoreBusy,
    StoreFull,
    SubmissionChange,
    open_store,
)
from wps_hpc.jobs.tables import metadata

Add = Callable[..., Job]

FAILURE = Failure("signal", "Killed.", "NoApplicableCode", None, 9, None, "dmesg")


def ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def to(store: Store, job: Job, epoch: int, *path: JobState) -> Job:
    """Lead a job through some states."""
    for state in path:
        job = store.change(job.id, epoch, state=state)
    return job


def running(store: Store, add: Add, epoch: int, **fields: object) -> Job:
    job = add(**fields)
    store.add_submission([job.id], f"t{job.id[:8]}", job.cluster, epoch)
    return to(store, job, epoch, JobState.RUNNING)


class TestTables:
    def test_migrations_make_exactly_these_tables(self, store: Store) -> None:
        def differences(connection: Connection) -> list[object]:
            return list(compare_metadata(MigrationContext.configure(connection), metadata))

        assert store.database.read(differences) == []

    def test_an_upgrade_of_the_newest_changes_nothing(self, store: Store, add: Add) -> None:
        job = add()
        store.upgrade()
        assert store.get(job.id) == job

    def test_several_processes_may_upgrade_at_once(self, store_url: str) -> None:
        with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as processes:
            list(processes.map(upgrade_at, [store_url] * 4))
        store = Store(store_url)
        tables = store.database.read(lambda connection: set(inspect(connection).get_table_names()))
        assert tables == {*metadata.tables, "alembic_version"}
        rows = store.database.read(lambda c: c.execute(text("SELECT count(*) FROM lease")).scalar_one())
        assert rows == 1
        store.close()


def upgrade_at(url: str) -> None:
    store = Store(url)
    store.upgrade()
    store.close()


class TestJobs:
    def test_a_job_comes_back_as_it_was(self, store: Store) -> None:
        job = make_job(
            owner="ann",
            reason="Priority",
            deadline=5.5,
            failure=FAILURE,
            wish="suspend",
            message="«ÄÖ» 漢",
            request='{"inputs": {}}',
            state_since=3.0,
        )
        store.add_job(job, limits=ROOMY)
        assert store.get(job.id) == replace(job, state_since=job.created)

    def test_an_unknown_job_is_none(self, store: Store) -> None:
        assert store.get("nothing") is None
        assert store.get_many(["nothing"]) == {}

    def test_no_statement_names_more_ids_than_a_database_takes(self, store: Store, add: Add, epoch: int) -> None:
        """A cluster has as many folders as there were jobs; PostgreSQL takes 65,535 parameters, SQLite fewer."""
        most = 0

        def note(*arguments: object) -> None:
            nonlocal most
            parameters = arguments[3]
            assert isinstance(parameters, (tuple, dict, list))
            most = max(most, len(parameters))

        first, last = add(), add()
        asked = [first.id, *(str(uuid.uuid4()) for _ in range(1500)), last.id]
        event.listen(store.database.engine, "before_cursor_execute", note)
        assert store.existing(asked) == set(store.get_many(asked)) == {first.id, last.id}
        assert store.submissions(range(-1500, 0)) == {}
        applied = store.apply(epoch, [Change(job_id, {"reason": "x"}) for job_id in asked])
        assert (set(applied.jobs), len(applied.refused)) == ({first.id, last.id}, 1500)
        assert most < 1000

    def test_many_at_once(self, store: Store, add: Add) -> None:
        one, two, _ = add(), add(), add()
        assert store.get_many([one.id, two.id]) == {one.id: one, two.id: two}

    def test_the_newest_come_first_page_by_page(self, store: Store, add: Add) -> None:
        jobs = [add(created=float(number // 2)) for number in range(7)]
        expected = sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)
        seen: list[Job] = []
        while page := store.list_jobs(limit=2, before=(seen[-1].created, seen[-1].id) if seen else None):
            seen += page
        assert seen == expected

    def test_lists_are_filtered(self, store: Store, add: Add, epoch: int) -> None:
        ann, bob = add(owner="ann"), add(owner="bob", process="echo")
        to(store, bob, epoch, JobState.DISMISSED)
        assert ids(store.list_jobs(owner="ann")) == [ann.id]
        assert ids(store.list_jobs(process="echo")) == [bob.id]
        assert ids(store.list_jobs(states=[JobState.DISMISSED, JobState.FAILED])) == [bob.id]
        assert store.list_jobs(states=[]) == []

    def test_jobs_are_found_by_time_and_duration(self, store: Store, add: Add, epoch: int) -> None:
        old, new = add(created=100.0), add(created=200.0, process="echo")
        assert ids(store.find_jobs(JobFilter(created_from=200.0), 10)) == [new.id]
        assert ids(store.find_jobs(JobFilter(created_before=200.0), 10)) == [old.id]
        assert ids(store.find_jobs(JobFilter(processes=frozenset({"echo", "other"})), 10)) == [new.id]
        assert store.find_jobs(JobFilter(least_seconds=0.0), 10) == []
        to(store, old, epoch, JobState.SUBMITTING)
        store.change(old.id, epoch, state=JobState.RUNNING, started=150.0)
        assert ids(store.find_jobs(JobFilter(least_seconds=1000.0), 10)) == [old.id]
        store.change(old.id, epoch, state=JobState.FAILED, finished=160.0)
        assert ids(store.find_jobs(JobFilter(least_seconds=10.0, most_seconds=10.0), 10)) == [old.id]
        assert store.find_jobs(JobFilter(most_seconds=9.0), 10) == []

    def test_counts(self, store: Store, add: Add, epoch: int) -> None:
        add(), add(process="echo")
        to(store, add(), epoch, JobState.FAILED)
        assert store.count_by_process() == {
            ("buffer", JobState.ACCEPTED): 1,
            ("echo", JobState.ACCEPTED): 1,
            ("buffer", JobState.FAILED): 1,
        }
        counts = store.count_by_state()
        assert set(counts) == set(JobState)
        assert (counts[JobState.ACCEPTED], counts[JobState.FAILED], counts[JobState.HELD]) == (2, 1, 0)


class TestChange:
    def test_a_change_is_stored_and_returned(self, store: Store, add: Add, epoch: int) -> None:
        job = add()
        after = store.change(job.id, epoch, percent=5, message="half", failure=FAILURE, request='{"a": 1}')
        assert after == store.get(job.id)
        assert (after.percent, after.failure, after.request, after.revision) == (5, FAILURE, '{"a": 1}', 2)

    def test_a_stale_revision_changes_nothing(self, store: Store, add: Add, epoch: int) -> None:
        job = add()
        store.change(job.id, epoch, expected_revision=1, percent=1)
        with pytest.raises(RevisionConflict):
            store.change(job.id, epoch, expected_revision=1, percent=2)
        current = store.get(job.id)
        assert current is not None and current.percent == 1

    def test_the_state_machine_is_kept(self, store: Store, add: Add, epoch: int) -> None:
        job = to(store, add(), epoch, JobState.FAILED)
        for state in JobState:
            with pytest.raises(TransitionError):
                store.change(job.id, epoch, state=state)
        assert store.get(job.id) == job

    def test_the_end_sets_the_expiry(self, store_url: str) -> None:
        store = Store(store_url, keep_seconds=50)
        store.upgrade()
        from wps_hpc.jobs.lease import Lease

        epoch = Lease(store, "me", 60).acquire()
        assert epoch is not None
        job = make_job(created=100.0)
        store.add_job(job, limits=ROOMY)
        ended = store.change(job.id, epoch, state=JobState.FAILED, finished=120.0)
        assert (ended.finished, ended.expires) == (120.0, 170.0)
        store.close()

    def test_an_unknown_job_cannot_be_changed(self, store: Store, epoch: int) -> None:
        with pytest.raises(NoSuchJob):
            store.change("nothing", epoch, percent=1)

    def test_many_changes_are_independent(self, store: Store, add: Add, epoch: int) -> None:
        good, ended, stale = add(), to(store, add(), epoch, JobState.FAILED), add()
        applied = store.apply(
            epoch,
            [
                Change(good.id, {"percent": 7}),
                Change(ended.id, {"percent": 7}),
                Change(stale.id, {"percent": 7}, expected_revision=9),
                Change("nothing", {"percent": 7}),
            ],
        )
        assert {job_id: job.percent for job_id, job in applied.jobs.items()} == {good.id: 7}
        assert {job_id: type(why) for job_id, why in applied.refused.items()} == {
            ended.id: TransitionError,
            stale.id: RevisionConflict,
            "nothing": NoSuchJob,
        }
        assert store.get(good.id) == applied.jobs[good.id]

    def test_two_changes_of_one_job_add_up(self, store: Store, add: Add, epoch: int) -> None:
        job = add()
        two = [Change(job.id, {"percent": 7}), Change(job.id, {"message": "on"})]
        after = store.apply(epoch, two).jobs[job.id]
        assert (after.percent, after.message, after.revision) == (7, "on", 3)
        assert store.get(job.id) == after

    def test_no_change_is_lost_among_threads(self, store: Store, add: Add, epoch: int) -> None:
        job = add()

        def change(number: int) -> None:
            if number % 2:
                store.change(job.id, epoch, percent=number)
            else:
                store.request_hold(job.id) if number % 4 else store.request_release(job.id)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(change, range(40)))
        after = store.get(job.id)
        assert after is not None and after.revision > 20 and after.wish in ("hold", "release")


class TestSubmissions:
    def test_a_submission_takes_its_jobs_along(self, store: Store, add: Add, epoch: int) -> None:
        one, two = add(), add()
        made = store.add_submission([two.id, one.id], "wps_a", "local", epoch)
        assert (made.token, made.cluster, made.state) == ("wps_a", "local", SubmitState.UNKNOWN)
        assert store.submission(made.id) == made
        jobs = store.get_many([one.id, two.id])
        for task, job in enumerate([jobs[two.id], jobs[one.id]]):
            assert (job.state, job.submission_id, job.task) == (JobState.SUBMITTING, made.id, task)
            assert (job.submission_number, job.attempt) == (1, 1)

    def test_the_next_number_is_one_that_no_attempt_has_had(self, store: Store, add: Add, epoch: int) -> None:
        job = add()
        store.add_submission([job.id], "a", "local", epoch)
        store.change(job.id, epoch, state=JobState.QUEUED, attempt=3)
        store.change(job.id, epoch, state=JobState.ACCEPTED)
        store.add_submission([job.id], "b", "local", epoch)
        again = store.get(job.id)
        assert again is not None and (again.submission_number, again.attempt) == (4, 4)

    def test_what_does_not_wait_is_not_submitted(self, store: Store, add: Add, epoch: int) -> None:
        held, cancelled, unstaged, ended, good = add(), add(), add(staged=False), add(), add()
        store.request_hold(held.id)
        store.request_cancel(cancelled.id, "ann")
        to(store, ended, epoch, JobState.FAILED)
        for job in (held, cancelled, unstaged, ended):
            with pytest.raises(NotWaiting):
                store.add_submission([good.id, job.id], "t", "local", epoch)
        with pytest.raises(NoSuchJob):
            store.add_submission([good.id, "nothing"], "t", "local", epoch)
        assert store.get(good.id) == good
        assert store.submissions(range(10)) == {}

    def test_a_token_is_used_once(self, store: Store, add: Add, epoch: int) -> None:
        from sqlalchemy.exc import IntegrityError

        one, two = add(), add()
        store.add_submission([one.id], "same", "local", epoch)
        with pytest.raises(IntegrityError):
            store.add_submission([two.id], "same", "local", epoch)
        assert store.get(two.id) == two

    def test_its_outcome_is_recorded_with_the_job(self, store: Store, add: Add, epoch: int) -> None:
        job = add()
        made = store.add_submission([job.id], "t", "local", epoch)
        assert store.submitted(job.id, made.id, "77", epoch).state is JobState.QUEUED
        known = store.submission(made.id)
        assert known is not None and (known.state, known.scheduler_id) == (SubmitState.SUBMITTED, "77")
        assert known.submitted_at == pytest.approx(time.time(), abs=30)

    def test_a_late_outcome_does_not_put_a_running_job_back(self, store: Store, add: Add, epoch: int) -> None:
        job = running(store, add, epoch)
        assert job.submission_id is not None
        assert store.submitted(job.id, job.submission_id, "77", epoch) == job

    def test_changes_of_submissions(self, store: Store, add: Add, epoch: int) -> None:
        made = store.add_submission([add().id], "t", "local", epoch)
        after = store.change_submission(made.id, epoch, state=SubmitState.REFUSED, lookups=2)
        assert after == replace(made, state=SubmitState.REFUSED, lookups=2)
        store.apply(epoch, [], [SubmissionChange(made.id, {"ended_seen_at": 4.0})])
        assert store.submissions([made.id]) == {made.id: replace(after, ended_seen_at=4.0)}


class TestLines:
    """Who gets which job next."""

    def test_where_jobs_are_is_known_from_their_submission_on(self, store: Store, add: Add, epoch: int) -> None:
        sent, again, shared = add(account="ada"), add(account="ada", created=1.0), add()
        for job in (sent, again):
            store.add_submission([job.id], f"t{job.id[:8]}", "local", epoch, "/home/ada/wps")
        store.add_submission([shared.id], "t", "local", epoch, "")
        waiting, ended = add(account="ada"), add(account="ada")
        to(store, ended, epoch, JobState.DISMISSED)
        there, here = Whereabouts("local", "ada", "/home/ada/wps"), Whereabouts("local", None, "")
        nowhere = Whereabouts("local", "ada", None)
        assert store.whereabouts() == {there: 2, here: 1, nowhere: 1}
        assert ids(store.to_strand(there, "x")) == [again.id, sent.id]
        assert (ids(store.to_strand(here, "x")), ids(store.to_strand(nowhere, "x"))) == ([shared.id], [waiting.id])
        assert store.to_strand(Whereabouts("local", None, None), "x") == []
        assert to(store, sent, epoch, JobState.ACCEPTED).sent_to is None, "it was refused there"
        assert store.jobs_of_accounts() == {("local", "ada"): 4}

    def test_jobs_that_are_told_why_nobody_looks_after_them_are_not_told_again(
        self, store: Store, add: Add, epoch: int
    ) -> None:
        where = Whereabouts("local", None, None)
        told, other, unsaid, given_up = [add() for _ in range(4)]
        for job, reason in (told, "x"), (other, "y"), (given_up, "x"):
            store.change(job.id, epoch, stale_since=5.0, reason=reason)
        store.change(unsaid.id, epoch, reason="x")
        store.request_cancel(given_up.id, "ann")
        assert ids(store.to_strand(where, "x")) == [other.id, unsaid.id, given_up.id]

    def test_who_the_server_is_stays(self, store: Store) -> None:
        identity = store.identity()
        store.upgrade()
        assert store.identity() == identity and len(identity) == 32

    def test_dispatch_takes_the_oldest_staged_jobs_of_its_cluster(self, store: Store, add: Add) -> None:
        second, first = add(created=20.0), add(created=10.0)
        add(created=5.0, staged=False), add(created=5.0, cluster="other")
        store.request_hold(add(created=1.0).id)
        store.request_cancel(add(created=1.0).id, "ann")
        released = add(created=30.0)
        store.request_hold(released.id), store.request_release(released.id)
        assert ids(store.next_accepted("local", 10)) == [first.id, second.id, released.id]
        assert ids(store.next_accepted("local", 1)) == [first.id]

    def test_staging_takes_the_oldest_unstaged_jobs(self, store: Store, add: Add, epoch: int) -> None:
        second, first = add(created=20.0, staged=False), add(created=10.0, staged=False)
        add(created=5.0)
        store.request_cancel(add(created=1.0, staged=False).id, "ann")
        assert ids(store.to_stage(10)) == [first.id, second.id]
        to(store, first, epoch, JobState.STAGING)
        assert ids(store.to_stage(10)) == [second.id]
        assert ids(store.restart_staging(epoch)) == [first.id]
        assert ids(store.to_stage(1)) == [first.id]
        store.change(first.id, epoch, state=JobState.STAGING)
        store.change(first.id, epoch, state=JobState.ACCEPTED, staged=True)
        assert first.id in ids(store.next_accepted("local", 10))

    def test_the_watcher_sees_what_the_scheduler_has(self, store: Store, add: Add, epoch: int) -> None:
        add()
        second, first = running(store, add, epoch, created=20.0), running(store, add, epoch, created=10.0)
        running(store, add, epoch, cluster="other")
        store.request_cancel(first.id, "ann")
        ended = to(store, running(store, add, epoch, created=30.0), epoch, JobState.SUCCEEDED)
        confirmed = to(store, running(store, add, epoch), epoch, JobState.SUCCEEDED)
        store.change(confirmed.id, epoch, scheduler_gone=True)
        assert ids(store.active("local")) == [first.id, second.id, ended.id]
        assert ids(store.in_state("local", JobState.RUNNING)) == [first.id, second.id]

    def test_waiting_jobs_that_are_asked_for_something(self, store: Store, add: Add, epoch: int) -> None:
        add()
        cancelled, to_hold, held = add(created=1.0), add(created=2.0), add(created=3.0)
        store.request_cancel(cancelled.id, "ann")
        store.request_hold(to_hold.id), store.request_hold(held.id)
        to(store, held, epoch, JobState.HELD)
        assert ids(store.asked_while_waiting()) == [cancelled.id, to_hold.id]
        store.request_release(held.id)
        assert ids(store.asked_while_waiting()) == [cancelled.id, to_hold.id, held.id]
        store.request_cancel(running(store, add, epoch).id, "ann")
        assert len(store.asked_while_waiting()) == 3

    def test_overdue_jobs(self, store: Store, add: Add, epoch: int) -> None:
        late, asked = add(deadline=10.0), add(deadline=10.0)
        add(), add(deadline=30.0)
        to(store, add(deadline=10.0), epoch, JobState.FAILED)
        store.request_cancel(asked.id, "ann")
        assert ids(store.overdue(20.0)) == [late.id]


class TestWishes:
    def test_the_first_cancel_counts(self, store: Store, add: Add) -> None:
        job = add()
        first = store.request_cancel(job.id, "ann")
        assert first is not None and first.cancelled_by == "ann" and first.revision == 2
        assert first.cancel_requested == pytest.approx(time.time(), abs=30)
        assert store.request_cancel(job.id, "bob") == first

    @pytest.mark.parametrize("wish", ["hold", "release", "suspend", "resume"])
    def test_a_wish_is_kept_and_said_once(self, store: Store, add: Add, wish: str) -> None:
        job = add()
        asked = getattr(store, f"request_{wish}")
        first = asked(job.id)
        assert (first.wish, first.revision, first.state) == (wish, 2, JobState.ACCEPTED)
        assert asked(job.id) == first

    def test_a_job_that_has_ended_is_asked_in_vain(self, store: Store, add: Add, epoch: int) -> None:
        job = to(store, add(), epoch, JobState.FAILED)
        assert store.request_cancel(job.id, "ann") == job
        assert store.request_hold(job.id) == job

    def test_nobody_can_be_asked_for_an_unknown_job(self, store: Store) -> None:
        assert store.request_cancel("nothing", "ann") is None
        assert store.request_suspend("nothing") is None


class TestAdmission:
    def test_load_tells_running_from_waiting_from_parked(self, store: Store, add: Add, epoch: int) -> None:
        add(), add(staged=False), to(store, add(staged=False), epoch, JobState.STAGING)
        running(store, add, epoch)
        to(store, running(store, add, epoch), epoch, JobState.HELD)
        to(store, add(), epoch, JobState.HELD)
        store.request_hold(add().id), store.request_cancel(add().id, "ann")
        to(store, add(), epoch, JobState.FAILED)
        assert store.load() == Load(running=2, waiting=3, parked=3)

    def test_a_synchronous_call_needs_a_place_now(self, store: Store) -> None:
        limits = Limits(parallel=1, queued=5)
        store.add_job(make_job(mode="sync"), limits=limits)
        with pytest.raises(ServerBusy) as busy:
            store.add_job(make_job(mode="sync"), limits=limits)
        assert busy.value.text == PARALLEL_LIMIT_TEXT
        store.add_job(make_job(mode="async"), limits=limits)

    def test_a_full_line_is_refused(self, store: Store, add: Add, epoch: int) -> None:
        limits = Limits(parallel=1, queued=2)
        running(store, add, epoch)
        for _ in range(2):
            store.add_job(make_job(), limits=limits)
        refused = make_job()
        with pytest.raises(ServerBusy) as busy:
            store.add_job(refused, limits=limits)
        assert busy.value.text == PARALLEL_LIMIT_TEXT
        assert store.get(refused.id) is None

    def test_threads_cannot_exceed_the_limits_together(self, store: Store) -> None:
        start = threading.Barrier(12)

        def try_one(_: int) -> bool:
            start.wait(30)
            return accept_one(store, Limits(parallel=2, queued=3), "async")

        with ThreadPoolExecutor(12) as threads:
            assert sum(threads.map(try_one, range(12))) == 5
        assert store.load().waiting == 5

    def test_processes_cannot_exceed_the_limits_together(self, store: Store, store_url: str) -> None:
        with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as processes:
            assert sum(processes.map(accept_many, [store_url] * 4)) == 7
        assert store.load().waiting == 7


def accept_one(store: Store, limits: Limits, mode: str) -> bool:
    try:
        store.add_job(make_job(mode=mode), limits=limits)
    except ServerBusy:
        return False
    return True


def accept_many(url: str) -> int:
    store = Store(url)
    accepted = sum(accept_one(store, Limits(parallel=7, queued=0), "sync") for _ in range(10))
    store.close()
    return accepted


class TestExpiry:
    def test_only_ended_jobs_that_are_gone_expire(self, store: Store, add: Add, epoch: int) -> None:
        over = to(store, add(), epoch, JobState.FAILED)
        at_scheduler = to(store, running(store, add, epoch), epoch, JobState.FAILED)
        add(), running(store, add, epoch)
        assert over.expires is not None
        assert store.mark_expired(over.expires - 1) == 0
        assert store.mark_expired(over.expires + DAY) == 1
        assert store.marked_expired() == [over.id]
        store.change(at_scheduler.id, epoch, scheduler_gone=True)
        assert store.mark_expired(over.expires + DAY) == 1

    def test_an_expired_job_is_nobodys(self, store: Store, add: Add, epoch: int) -> None:
        job = to(store, add(), epoch, JobState.FAILED)
        assert store.expire_now(job.id, 10.0)
        assert store.mark_expired(10.0) == 1
        assert store.get(job.id) is None
        assert store.list_jobs() == []
        assert store.request_cancel(job.id, "ann") is None
        with pytest.raises(NoSuchJob):
            store.change(job.id, epoch, expires=1.0)
        assert store.existing([job.id, "nothing"]) == {job.id}

    def test_a_job_that_goes_on_does_not_expire(self, store: Store, add: Add) -> None:
        assert not store.expire_now(add().id, 10.0)

    def test_the_last_job_takes_its_submission_along(self, store: Store, add: Add, epoch: int) -> None:
        one, two = add(), add()
        made = store.add_submission([one.id, two.id], "t", "local", epoch)
        for job in (one, two):
            store.change(job.id, epoch, state=JobState.FAILED, scheduler_gone=True)
            store.expire_now(job.id, 10.0)
        store.remove(one.id)
        assert store.existing([one.id]) == {one.id}
        store.mark_expired(10.0)
        store.remove(one.id)
        assert store.submission(made.id) is not None
        store.remove(two.id)
        assert store.existing([one.id, two.id]) == set()
        assert store.submission(made.id) is None


DAY = 86_400.0


class TestTrouble:
    def test_a_lock_is_waited_for(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.sqlite"
        store = Store(f"sqlite:///{path}", busy_seconds=20)
        store.upgrade()
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.5, other.execute, ["COMMIT"])
        timer.start()
        job = make_job()
        store.add_job(job, limits=ROOMY)
        timer.join()
        assert store.get(job.id) is not None
        store.close()
        other.close()

    def test_a_lock_that_stays_is_busy_and_loses_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.sqlite"
        store = Store(f"sqlite:///{path}", busy_seconds=0.2)
        store.upgrade()
        kept, refused = make_job(), make_job()
        store.add_job(kept, limits=ROOMY)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy) as busy:
            store.add_job(refused, limits=ROOMY)
        assert not busy.value.may_have_happened
        assert store.get(kept.id) is not None, "reading goes on beside a writer"
        other.execute("COMMIT")
        assert store.get(refused.id) is None
        store.add_job(refused, limits=ROOMY)
        store.close()
        other.close()

    def test_a_full_database_says_so(self, tmp_path: Path) -> None:
        store = Store(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        store.upgrade()
        store.database.engine.pool.dispose()

        def fill(connection: Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            connection.execute(text("INSERT INTO submissions VALUES (1,'t',:big,'',0,'',0,0,0)"), {"big": BIG})

        with pytest.raises(StoreFull):
            store.database.write(fill)
        store.close()

    def test_requests_are_nobody_elses_business(self, tmp_path: Path) -> None:
        store = Store(f"sqlite:///{tmp_path / 'new' / 'jobs.sqlite'}")
        store.upgrade()
        store.add_job(make_job(), limits=ROOMY)
        for path in (tmp_path / "new").iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
        store.close()

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db"])
    def test_other_databases_are_refused(self, url: str) -> None:
        with pytest.raises(ValueError):
            Store(url)

    def test_a_server_that_is_away_is_busy(self) -> None:
        from tests.services.postgres import free_port

        store = Store(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none", busy_seconds=0.1)
        with pytest.raises(StoreBusy):
            store.get("x")
        store.close()

    @pytest.mark.cluster
    def test_a_connection_that_broke_is_made_anew(self, postgres_database: str) -> None:
        store = Store(postgres_database, busy_seconds=10)
        store.upgrade()
        job = make_job()
        store.add_job(job, limits=ROOMY)
        cut_all_others(Store(postgres_database))
        assert store.get(job.id) is not None
        cut_all_others(Store(postgres_database))
        assert store.request_hold(job.id) is not None
        store.close()

    def test_a_killed_process_leaves_whole_transactions(self, store: Store, store_url: str) -> None:
        killed = subprocess.run([sys.executable, "-c", ADD_AND_DIE, store_url], timeout=60, check=False)
        assert killed.returncode == -9
        assert len(store.list_jobs()) == 3


BIG = "x" * 1_000_000

ADD_AND_DIE = """
import os, signal, sys
from tests.clusters.conftest import ROOMY, make_job
from wps_hpc.jobs.store import Store
store = Store(sys.argv[1])
for _ in range(3):
    store.add_job(make_job(), limits=ROOMY)
def half(connection):
    from sqlalchemy import text
    connection.execute(text("DELETE FROM jobs"))
    os.kill(os.getpid(), signal.SIGKILL)
store.database.write(half)
"""


def cut_all_others(store: Store) -> None:
    """Close every other connection to this database, as a restart of the server would."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
    store.database.write(lambda connection: connection.execute(text(cut)).all())
    store.close()


def test_the_settings_name_the_store(tmp_path: Path) -> None:
    settings = Settings.model_validate({"storage": {"root": tmp_path, "keep_days": 2}})
    store = open_store(settings)
    assert store.keep_seconds == 2 * DAY
    assert store.database.url.database == str(tmp_path / "jobs.sqlite")
    store.close()


def test_states_at_a_scheduler_are_active() -> None:
    assert AT_SCHEDULER < ACTIVE
