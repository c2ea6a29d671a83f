"""One active worker: who takes over when, and what a worker that was replaced can still do (nothing)."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from tests.clusters.conftest import make_job
from wps_hpc.jobs.job import Job, JobState, SubmitState
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.store import Change, LeaseLost, Store, SubmissionChange
from wps_hpc.jobs.tables import lease as lease_table


def run_out(store: Store) -> None:
    """Make the lease that is held now run out, as if its worker had been silent."""
    store.database.write(lambda connection: connection.execute(update(lease_table).values(expires=1.0)))


def test_the_first_worker_gets_it_and_keeps_it(store: Store) -> None:
    first, second = Lease(store, "first", 600), Lease(store, "second", 600)
    assert first.acquire() == 1
    assert second.acquire() is None
    assert first.acquire() == 1
    first.renew()


def test_a_silent_worker_is_replaced_and_learns_so(store: Store) -> None:
    first, second = Lease(store, "first", 600), Lease(store, "second", 600)
    first.acquire()
    run_out(store)
    assert second.acquire() == 2
    with pytest.raises(LeaseLost):
        first.renew()
    assert first.acquire() is None
    second.renew()


def test_time_is_the_databases(store: Store) -> None:
    first, second = Lease(store, "first", 0.05), Lease(store, "second", 0.05)
    first.acquire()
    deadline = time.monotonic() + 10
    while second.acquire() is None:
        assert time.monotonic() < deadline
    assert second.epoch == 2
    clock = store.database.read(store.database.clock)
    assert abs(clock - time.time()) < 1


def test_late_but_not_replaced_goes_on(store: Store) -> None:
    worker = Lease(store, "first", 600)
    epoch = worker.acquire()
    run_out(store)
    worker.renew()
    assert worker.acquire() == epoch


def test_a_released_lease_is_free_at_once(store: Store) -> None:
    first, second = Lease(store, "first", 600), Lease(store, "second", 600)
    first.acquire()
    first.release()
    assert second.acquire() == 2
    first.release()
    second.renew()


def test_a_renewal_without_the_lease_is_refused(store: Store) -> None:
    with pytest.raises(LeaseLost):
        Lease(store, "nobody", 600).renew()


def test_of_many_workers_at_once_one_wins(store: Store) -> None:
    workers = [Lease(store, f"worker {number}", 600) for number in range(8)]
    start = threading.Barrier(len(workers))

    def try_it(worker: Lease) -> int | None:
        start.wait(30)
        return worker.acquire()

    with ThreadPoolExecutor(len(workers)) as threads:
        epochs = list(threads.map(try_it, workers))
    assert sorted(epoch for epoch in epochs if epoch is not None) == [1]


@pytest.fixture
def late(store: Store, add: Callable[..., Job]) -> tuple[int, Job, int]:
    """The epoch of a worker that was replaced, a job that it had submitted, and that submission's id."""
    epoch = Lease(store, "late", 600).acquire()
    assert epoch is not None
    job = add()
    submission = store.add_submission([job.id], "token", "local", epoch)
    run_out(store)
    assert Lease(store, "successor", 600).acquire() == epoch + 1
    return epoch, job, submission.id


def test_a_worker_that_wakes_up_late_changes_nothing(store: Store, late: tuple[int, Job, int]) -> None:
    epoch, job, submission_id = late
    waiting = make_job()
    before = store.get(job.id), store.submission(submission_id)
    attempts: list[Callable[[], object]] = [
        lambda: store.change(job.id, epoch, state=JobState.FAILED),
        lambda: store.apply(epoch, [Change(job.id, {"percent": 50})]),
        lambda: store.apply(epoch, [], [SubmissionChange(submission_id, {"lookups": 9})]),
        lambda: store.change_submission(submission_id, epoch, state=SubmitState.REFUSED),
        lambda: store.submitted(job.id, submission_id, "123", epoch),
        lambda: store.add_submission([waiting.id], "other", "local", epoch),
        lambda: store.restart_staging(epoch),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    assert (store.get(job.id), store.submission(submission_id)) == before


def test_a_takeover_waits_for_a_change_under_way(store: Store, add: Callable[..., Job]) -> None:
    """What the old worker wrote while it held the lease is there before the new one reads anything."""
    epoch = Lease(store, "old", 600).acquire()
    assert epoch is not None
    job = add()
    run_out(store)
    changing = threading.Barrier(2)
    taken: list[int | None] = []

    def take_over() -> None:
        changing.wait(30)
        taken.append(Lease(store, "new", 600).acquire())

    thread = threading.Thread(target=take_over)
    thread.start()

    def slow_change(connection: object) -> None:
        from wps_hpc.jobs.lease import fence

        fence(connection, epoch)  # type: ignore[arg-type]
        changing.wait(30)
        thread.join(0.3)
        assert not taken

    store.database.write(slow_change)
    thread.join(30)
    assert taken == [epoch + 1]
    assert store.get(job.id) == job


def test_a_clock_that_was_set_back_makes_nobody_wait_for_a_dead_worker(store: Store) -> None:
    first, second = Lease(store, "first", 10), Lease(store, "second", 10)
    first.acquire()
    store.database.write(lambda connection: connection.execute(update(lease_table).values(expires=time.time() + 3600)))
    assert second.acquire() == 2
    with pytest.raises(LeaseLost):
        first.renew()
