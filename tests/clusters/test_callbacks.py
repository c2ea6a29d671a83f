"""Callbacks: told at least once, in the transaction that makes them true; bounded; and never to a forbidden place.

With the real worker, spooler and launcher, against a web site whose every byte is scripted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.values import LiteralValue
from tests.clusters.conftest import make_job
from tests.clusters.site import Site, until
from tests.protocols.site import Offers
from tests.schemas import validate_json
from tests.services.website import Website, page, redirect, website
from wps_hpc.config import Callbacks, Limits, Settings, load_settings
from wps_hpc.errors import InvalidParameterValue, NoApplicableCode
from wps_hpc.jobs import outbox
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.callbacks import AT_ONCE, EACH_HOST, Deliverer, check_subscriber
from wps_hpc.jobs.fetch import NotSent, Posting
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import LeaseLost
from wps_hpc.jobs.outbox import Callback, Outbox
from wps_hpc.jobs.request import ExecuteRequest, Mode, Subscriber
from wps_hpc.jobs.requestjson import from_json, to_json
from wps_hpc.jobs.store import Change, Store
from wps_hpc.protocols.ogcapi_callbacks import CallbackDocuments

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
    assert "input" not in refused.value.text and "reference" not in refused.value.text


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


def test_a_callback_of_a_job_that_is_gone_is_dropped(
    store: Store, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    failed_job(store, epoch)
    Turns(store, epoch, lambda callback: None).turn()
    assert rows(store) == []
    assert "nothing to tell" in caplog.text and "told its subscriber" not in caplog.text


def test_a_defect_is_tried_again_too(store: Store, epoch: int, caplog: pytest.LogCaptureFixture) -> None:
    def broken(callback: Callback) -> Posting:
        raise RuntimeError("a defect")

    failed_job(store, epoch)
    turns = Turns(store, epoch, broken)
    for _ in range(3):
        turns.turn()
        turns.now += 3600
    assert rows(store) == [] and "a defect" in caplog.text


def add_many(store: Store, uris: Sequence[str]) -> None:
    """A callback that is due for each address, in this order."""
    with store.database.engine.begin() as connection:
        for n, uri in enumerate(uris):
            values = {"job_id": f"job {n}", "kind": "failed", "uri": uri, "due": float(n), "attempts": 0}
            connection.execute(outbox.callbacks.insert(), {**values, "host": outbox.host_of(uri)})


def test_a_host_that_does_not_answer_keeps_nobody_else_waiting(store: Store, epoch: int, receiver: Website) -> None:
    def render(callback: Callback) -> Posting:
        return Posting(callback.uri, b"{}", "application/json")

    receiver.pages["/slow"] = lambda reply: reply.wait_for_hang_up()
    slow, quick = receiver.url("/slow"), receiver.url("/success").replace("127.0.0.1", "localhost")
    both = OPEN.model_copy(update={"hosts": ("127.0.0.1", "localhost"), "timeout_seconds": 60.0})
    add_many(store, [slow] * (3 * AT_ONCE) + [quick])
    turns = Turns(store, epoch, render, both)
    turns.pool = turns.deliverer.pool = ThreadPoolExecutor(AT_ONCE)

    def told_quickly() -> bool:
        turns.deliverer.round()
        return quick not in {callback.uri for callback in turns.outbox.due(1e12, 1000)}

    until(told_quickly, "the other host is told")
    assert told(receiver).count("/slow") <= EACH_HOST
    turns.deliverer.close()
    until(lambda: all(future.done() for _, future in turns.deliverer._under_way.values()), "the tries end")


@pytest.mark.parametrize(
    ("uri", "host"),
    [("http://A.example:81/x", "a.example"), ("https://a.example./", "a.example"), ("http://[::1", ""), ("", "")],
)
def test_the_host_of_an_address(uri: str, host: str) -> None:
    assert outbox.host_of(uri) == host


def test_a_try_is_counted_before_it_begins(store: Store, epoch: int) -> None:
    failed_job(store, epoch)
    counted: list[int] = []

    def render(callback: Callback) -> Posting:
        (stored,) = turns.outbox.due(1e12, 10)
        counted.append(stored.attempts)
        raise RuntimeError("as if the worker died here")

    turns = Turns(store, epoch, render)
    turns.turn()
    assert counted == [1]


def test_what_kills_the_worker_is_not_tried_for_ever(
    store: Store, epoch: int, caplog: pytest.LogCaptureFixture
) -> None:
    failed_job(store, epoch)
    for _ in range(OPEN.attempts):  # each worker dies within the try
        dead = Turns(store, epoch, lambda callback: None)
        dead.pool.shutdown()
        with pytest.raises(RuntimeError):
            dead.deliverer.round()
    Turns(store, epoch, lambda callback: pytest.fail("it is tried again")).turn()
    assert rows(store) == [] and "cannot be told" in caplog.text


# ------------------------------------------------------------------------------------------------------ the documents


class Broken:
    """Results that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def request(self, job: Job) -> ExecuteRequest:
        """Read from the row."""
        return from_json(job.request)

    def outputs(self, job: Job) -> Any:
        """They are not there."""
        raise self.error


def documents(job: Job | None, error: Exception) -> CallbackDocuments:
    """What writes callbacks of one job whose results cannot be read."""
    settings = Settings.model_validate({"callbacks": {"attempts": 3}})
    return CallbackDocuments(settings, Offers({}), lambda _: job, Broken(error))  # type: ignore[arg-type]


def succeeded(**fields: Any) -> Job:
    """A job that has succeeded."""
    request = to_json(ExecuteRequest("echo", "ogcapi", subscriber=EVERYTHING))
    return make_job(process="echo", request=request, state=JobState.SUCCEEDED, finished=time.time(), **fields)


def callback_of(kind: str, attempts: int) -> Callback:
    return Callback(1, "job", kind, "http://s.example/", 0.0, attempts)


@pytest.mark.parametrize(
    ("error", "raised"), [(NoApplicableCode("away"), NotSent), (RuntimeError("a defect"), RuntimeError)]
)
def test_results_that_cannot_be_read_are_tried_again_and_then_the_status_is_told(
    error: Exception, raised: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    written = documents(succeeded(), error)
    for attempts in (1, 2):
        with pytest.raises(raised):
            written.posting(callback_of("success", attempts))
    posting = written.posting(callback_of("success", 3))
    assert posting is not None
    status = validate_json(json.loads(posting.body), "statusInfo.yaml")
    assert status["status"] == "successful" and str(error) in caplog.text


def test_what_there_is_nothing_to_tell_of() -> None:
    error = NoApplicableCode("nobody asks")
    assert documents(None, error).posting(callback_of("failed", 1)) is None
    assert documents(succeeded(), error).posting(callback_of("in_progress", 1)) is None
    assert documents(succeeded(expires=1.0), error).posting(callback_of("success", 1)) is None


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
