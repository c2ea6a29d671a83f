"""Callbacks: told at least once, in the transaction that makes them true; bounded; and never to a forbidden place.

With the real worker, spooler and launcher, against a web site whose every byte is scripted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.values import LiteralValue
from tests.clusters.site import Site, until
from tests.schemas import validate_json
from tests.services.website import Website, page, redirect, website
from wps_hpc.config import Callbacks, Limits, load_settings
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.jobs import outbox
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.callbacks import Deliverer, check_subscriber
from wps_hpc.jobs.fetch import Posting
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import LeaseLost
from wps_hpc.jobs.outbox import Callback, Outbox
from wps_hpc.jobs.request import ExecuteRequest, Mode, Subscriber
from wps_hpc.jobs.requestjson import to_json
from wps_hpc.jobs.store import Change, Store

LOOPBACK = ("127.0.0.0/8",)
OPEN = Callbacks(hosts=("127.0.0.1",), schemes=("http",), private_networks=LOOPBACK, retry_seconds=0.05, attempts=3)  # type: ignore[arg-type]
EVERYTHING = Subscriber("http://s.example/", "http://p.example/", "http://f.example/")


@pytest.fixture
def receiver() -> Iterator[Website]:
    """Who wants to be told; says thanks to everything."""
    with website() as running:
        running.pages = {f"/{name}": page(b"thanks") for name in ("success", "progress", "failed")}
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that may call back to loopback."""
    made = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    with made.config.open("a") as config:
        config.write('[callbacks]\nhosts = ["127.0.0.1"]\nschemes = ["http"]\nprivate_networks = ["127.0.0.0/8"]\n')
        config.write("retry_seconds = 0.1\nattempts = 4\ntimeout_seconds = 20\n")
    made = reopened(made)
    yield made
    made.close()


def reopened(site: Site) -> Site:
    """The site with the settings that its file has now."""
    site.settings = load_settings(site.config)
    site.intake = Intake(site.settings, site.store, site.catalogue, site.bell)
    return site


def subscriber(receiver: Website) -> Subscriber:
    """All occasions, to the receiver."""
    return Subscriber(receiver.url("/success"), receiver.url("/progress"), receiver.url("/failed"))


def mark(site: Site, told: Subscriber, **inputs: str) -> Job:
    """A job that leaves a mark, and whose subscriber is told."""
    given = {"folder": str(site.marks), "name": "a", **inputs}
    values = {name: (LiteralValue(value),) for name, value in given.items()}
    return site.intake.execute(ExecuteRequest("mark", "ogcapi", values, mode=Mode.ASYNC, subscriber=told))


def told(receiver: Website) -> list[str]:
    """The addresses that were posted to, in order."""
    return [asked.target for asked in receiver.asked]


def empty(site: Site) -> bool:
    """Nothing is left to be told."""
    return outbox.waiting(site.store.database) == 0


def test_a_subscriber_is_told_of_the_results(site: Site, receiver: Website) -> None:
    site.start_worker()
    job = mark(site, subscriber(receiver))
    until(lambda: "/success" in told(receiver), "the subscriber is told")
    asked = receiver.asked[-1]
    assert asked.method == "POST" and asked.headers["content-type"] == "application/json"
    assert f"/jobs/{job.id}>" in asked.headers["link"]
    assert validate_json(json.loads(asked.body), "results.yaml")
    until(lambda: empty(site), "the outbox is empty")
    assert "/failed" not in told(receiver)


def test_a_subscriber_is_told_that_a_job_was_dismissed(site: Site, receiver: Website) -> None:
    job = mark(site, subscriber(receiver))
    site.intake.dismiss(job.id, "a test")
    site.start_worker()
    until(lambda: told(receiver) == ["/failed"], "the subscriber is told")
    status = validate_json(json.loads(receiver.asked[-1].body), "statusInfo.yaml")
    assert (status["jobID"], status["status"]) == (job.id, "dismissed")


def test_what_fails_is_tried_again_and_then_given_up(site: Site, receiver: Website) -> None:
    receiver.pages["/failed"] = page(b"no", status="503 Busy")
    job = mark(site, replace(subscriber(receiver), success=None))
    site.intake.dismiss(job.id, "a test")
    site.start_worker()
    until(lambda: told(receiver) and empty(site), "the callback is given up")
    assert told(receiver) == ["/failed"] * 4


def test_a_redirect_is_not_followed(site: Site, receiver: Website) -> None:
    receiver.pages["/failed"] = redirect(receiver.url("/success"), 307)
    site.intake.dismiss(mark(site, subscriber(receiver)).id, "a test")
    site.start_worker()
    until(lambda: told(receiver) and empty(site), "the callback is given up")
    assert set(told(receiver)) == {"/failed"}


def test_a_worker_that_dies_after_sending_sends_again(site: Site, receiver: Website) -> None:
    worker = site.start_worker(Failpoint.CALLBACK_SENT)
    site.intake.dismiss(mark(site, replace(subscriber(receiver), in_progress=None)).id, "a test")
    until(lambda: worker.poll() is not None, "the worker dies")
    assert told(receiver) == ["/failed"] and not empty(site)
    site.start_worker()
    until(lambda: empty(site), "the callback is recorded as sent")
    assert told(receiver) == ["/failed", "/failed"]


def test_a_worker_that_dies_after_the_end_of_a_job_loses_nothing(site: Site, receiver: Website) -> None:
    worker = site.start_worker(Failpoint.WATCH_AFTER_FINAL)
    mark(site, subscriber(receiver))
    until(lambda: worker.poll() is not None, "the worker dies")
    site.start_worker()
    until(lambda: "/success" in told(receiver), "the subscriber is told")


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.2/",
        "http://example.org/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/#x",
        "http://0x7f000001/",
        "http://[::1]/",
        "nonsense",
        "",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1/" + "x" * 9000,
    ],
)
def test_places_that_are_not_called_back(uri: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        check_subscriber(Subscriber(success="http://127.0.0.1/", failed=uri), OPEN)
    assert refused.value.locator == "subscriber" and "secret" not in refused.value.text


def test_callbacks_are_off_unless_hosts_are_listed() -> None:
    check_subscriber(None, Callbacks())
    with pytest.raises(InvalidParameterValue, match="does not call back"):
        check_subscriber(Subscriber("https://www.example.org/"), Callbacks())


# -------------------------------------------------------------------------------------------------------- the outbox


def add(store: Store, wanted: Subscriber | None = EVERYTHING) -> Job:
    """An accepted job."""
    request = to_json(ExecuteRequest("echo", "ogcapi", subscriber=wanted))
    job = Job("job", "echo", "1", "ogcapi", "async", JobState.ACCEPTED, "", 0, 1.0, request)
    store.add_job(job, limits=Limits())
    return job


def rows(store: Store) -> list[tuple[str, str]]:
    """What is in the outbox."""
    return [(row.kind, row.uri) for row in Outbox(store.database, 0).due(1e12, 100)]


def to(store: Store, epoch: int, *states: JobState) -> None:
    """Change the job."""
    for state in states:
        applied = store.apply(epoch, [Change("job", {"state": state})])
        assert applied.jobs, applied.refused


@pytest.mark.parametrize(
    ("last", "kind", "uri"),
    [
        (JobState.RUNNING, "in_progress", EVERYTHING.in_progress),
        (JobState.SUCCEEDED, "success", EVERYTHING.success),
        (JobState.FAILED, "failed", EVERYTHING.failed),
        (JobState.DISMISSED, "failed", EVERYTHING.failed),
    ],
)
def test_what_is_recorded(store: Store, epoch: int, last: JobState, kind: str, uri: str) -> None:
    add(store)
    to(store, epoch, JobState.SUBMITTING, JobState.RUNNING, *((last,) if last.final else ()))
    assert rows(store) == [(kind, uri)]


def test_a_job_that_runs_anew_was_told_of(store: Store, epoch: int) -> None:
    add(store)
    to(store, epoch, JobState.SUBMITTING, JobState.RUNNING, JobState.SUSPENDED, JobState.RUNNING)
    assert len(rows(store)) == 1


def test_nobody_is_told_who_did_not_ask(store: Store, epoch: int) -> None:
    add(store, None)
    to(store, epoch, JobState.SUBMITTING, JobState.RUNNING, JobState.FAILED)
    assert rows(store) == []


def test_a_change_that_is_refused_is_not_told(store: Store, epoch: int) -> None:
    add(store)
    store.apply(epoch, [Change("job", {"state": JobState.SUCCEEDED})])
    with pytest.raises(LeaseLost):
        store.apply(epoch - 1, [Change("job", {"state": JobState.FAILED})])
    assert rows(store) == []


def test_a_worker_that_was_replaced_changes_nothing(store: Store, epoch: int) -> None:
    add(store)
    to(store, epoch, JobState.FAILED)
    late = Outbox(store.database, epoch - 1)
    (callback,) = late.due(1e12, 10)
    for change in (lambda: late.done(callback), lambda: late.later(callback, 0.0)):
        with pytest.raises(LeaseLost):
            change()
    assert len(rows(store)) == 1


def test_what_is_purged_is_not_told(store: Store, epoch: int) -> None:
    add(store)
    to(store, epoch, JobState.FAILED)
    store.expire_now("job", 0.0)
    store.mark_expired(1.0)
    store.remove("job")
    assert rows(store) == []


# ------------------------------------------------------------------------------------------------------- the deliverer


@dataclass
class Turns:
    """A deliverer whose clock stands still unless it is moved."""

    store: Store
    epoch: int
    render: Any
    settings: Callbacks = OPEN
    now: float = 4e9

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.store.database, self.epoch)
        self.pool = ThreadPoolExecutor(4)
        self.deliverer = Deliverer(
            self.settings, self.outbox, self.render, self.pool, lambda: None, clock=lambda: self.now
        )

    def turn(self) -> None:
        """One try, from its beginning to its end."""
        self.deliverer.round()
        until(lambda: all(future.done() for _, future in self.deliverer._under_way.values()), "the try ends")
        self.deliverer.round()


def failed_job(store: Store, epoch: int) -> None:
    add(store)
    to(store, epoch, JobState.FAILED)


def test_pauses_grow_and_end(store: Store, epoch: int) -> None:
    failed_job(store, epoch)
    unreachable = OPEN.model_copy(update={"retry_seconds": 10.0})
    turns = Turns(store, epoch, lambda callback: Posting("http://127.0.0.1:1/", b"", "text/plain"), unreachable)
    for attempts, pause in ((1, 10.0), (2, 20.0)):
        turns.turn()
        (callback,) = turns.outbox.due(1e12, 10)
        assert (callback.attempts, callback.due) == (attempts, turns.now + pause)
        turns.now = callback.due
    turns.turn()
    assert rows(store) == []


def test_a_callback_of_a_job_that_is_gone_is_dropped(store: Store, epoch: int) -> None:
    failed_job(store, epoch)
    Turns(store, epoch, lambda callback: None).turn()
    assert rows(store) == []


def test_a_defect_is_tried_again_too(store: Store, epoch: int, caplog: pytest.LogCaptureFixture) -> None:
    def broken(callback: Callback) -> Posting:
        raise RuntimeError("a defect")

    failed_job(store, epoch)
    turns = Turns(store, epoch, broken)
    for _ in range(3):
        turns.turn()
        turns.now += 3600
    assert rows(store) == [] and "a defect" in caplog.text


def test_what_ends_by_the_workers_closing_is_not_counted(store: Store, epoch: int, receiver: Website) -> None:
    receiver.pages["/slow"] = lambda reply: reply.wait_for_hang_up()
    failed_job(store, epoch)
    turns = Turns(store, epoch, lambda callback: Posting(receiver.url("/slow"), b"{}", "application/json"))
    turns.deliverer.round()
    until(lambda: receiver.asked, "the try is under way")
    turns.deliverer.close()
    turns.turn()
    (callback,) = turns.outbox.due(1e12, 10)
    assert callback.attempts == 0
