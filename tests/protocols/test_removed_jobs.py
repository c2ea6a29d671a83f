"""A job that was let go is gone for every client at once, also while its scheduler still has it: the real store and
intake behind all protocols."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from joblauncher.formats.values import LiteralValue, Value
from tests.clusters.conftest import make_job
from tests.protocols.conftest import CheckedClient, settings_with
from tests.protocols.ogcapi import Api
from tests.protocols.site import Site
from tests.protocols.wps2 import job_kvp
from wps_hpc.app import create_app
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.progress import Progress
from wps_hpc.jobs.request import ExecuteRequest, Mode
from wps_hpc.jobs.requestjson import from_json, to_json
from wps_hpc.jobs.store import JobFilter, Store
from wps_hpc.jobs.wake import Bell
from wps_hpc.protocols.ports import Backend

STORED = ExecuteRequest("echo", "wps1", mode=Mode.ASYNC, store=True, status=True)
LOCAL = {"public_url": "http://127.0.0.1:8095"}


class Recorded(Site):
    """Results of jobs that are in a database: each has made one text."""

    def request(self, job: Job) -> ExecuteRequest:
        """The request, as the row has it."""
        return from_json(job.request)

    def outputs(self, job: Job) -> Mapping[str, tuple[Value, ...]]:
        """Always the same."""
        return {"text": (LiteralValue("a"),)}

    def lineage(self, job: Job) -> None:
        """Nobody asked for it."""


@dataclass
class Service:
    """A service whose jobs are in a database."""

    folder: Path
    store: Store
    epoch: int

    def __post_init__(self) -> None:
        results, bell = Recorded(self.folder), Bell(self.folder / "run")
        self.close = bell.close
        settings = settings_with(server=LOCAL, storage={"root": self.folder})
        intake = Intake(settings, self.store, results.catalogue, bell)  # type: ignore[arg-type]
        self.jobs = Progress(self.store, self.folder, bell)
        backend = Backend(results.catalogue, intake, self.jobs, results)
        self.client = CheckedClient(create_app(settings, backend))
        self.api = Api(results)
        self.api.use(create_app(settings, backend))

    def running(self) -> str:
        """A job that runs; stored, so that every protocol shows it."""
        job = make_job(process="echo", protocol="wps1", request=to_json(STORED))
        self.store.add_job(job, limits=settings_with().limits)
        self.store.add_submission([job.id], "t", "local", self.epoch)
        self.store.change(job.id, self.epoch, state=JobState.RUNNING)
        return job.id

    def ended(self) -> str:
        """A job that has succeeded and that its scheduler still has."""
        job_id = self.running()
        ended = self.store.change(job_id, self.epoch, state=JobState.SUCCEEDED)
        assert not ended.scheduler_gone and self.seen(job_id) == SHOWN
        return job_id

    def seen(self, job_id: str) -> tuple[object, ...]:
        """What each protocol says of a job: status, result, list; status document; GetStatus and GetResult."""
        listed = [job["jobID"] for job in self.api.get("/jobs").json["jobs"]]
        return (
            self.api.get(f"/jobs/{job_id}").status,
            self.api.get(f"/jobs/{job_id}/results").status,
            job_id in listed,
            self.client.open(f"/wps/status/{job_id}.xml").status,
            self.client.kvp(service="WPS", version="1.0.0", request="GetExecutionStatus", executionId=job_id).status,
            self.client.open(f"/wps/outputs/{job_id}/text.txt").status,
            job_kvp(self.client, "GetStatus", job_id).status,
            job_kvp(self.client, "GetResult", job_id).status,
        )


SHOWN = (200, 200, True, 200, 200, 200, 200, 200)
GONE = (404, 404, False, 404, 400, 404, 400, 400)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service of one's own, on SQLite."""
    store = Store(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    store.upgrade()
    epoch = Lease(store, "the test's worker", 600).acquire()
    assert epoch is not None
    made = Service(tmp_path, store, epoch)
    yield made
    made.close()
    store.close()


REMOVALS: Mapping[str, Callable[[Service, str], object]] = {
    "ogcapi": lambda service, job_id: service.api.open(f"/jobs/{job_id}", "DELETE"),
    "wps1": lambda service, job_id: service.client.kvp(
        service="WPS", version="1.0.0", request="Dismiss", executionId=job_id
    ),
    "wps2": lambda service, job_id: job_kvp(service.client, "Dismiss", job_id),
}


@pytest.mark.parametrize("protocol", REMOVALS)
def test_what_one_protocol_removes_is_gone_in_all(service: Service, protocol: str) -> None:
    job_id = service.ended()
    REMOVALS[protocol](service, job_id)
    assert service.seen(job_id) == GONE
    assert service.api.open(f"/jobs/{job_id}", "DELETE").status == 404
    # It is watched until its scheduler lets go.
    assert [job.id for job in service.store.active("local")] == [job_id]


def test_a_job_whose_time_is_over_is_gone_before_the_next_purge(service: Service) -> None:
    job_id = service.ended()
    service.store.change(job_id, service.epoch, expires=time.time() - 1)
    assert service.seen(job_id) == GONE


def test_a_job_that_is_being_dismissed_is_released_all_the_same(service: Service) -> None:
    job_id = service.running()
    assert service.client.kvp(service="WPS", version="1.0.0", request="Dismiss", executionId=job_id).status == 200
    assert job_kvp(service.client, "GetStatus", job_id).text("wps:Status") == "Running"
    assert job_kvp(service.client, "Dismiss", job_id).text("wps:Status") == "Dismissed"
    for operation in ("GetStatus", "GetResult", "Dismiss"):
        assert job_kvp(service.client, operation, job_id).exception2 == (400, "NoSuchJob", job_id)
    service.store.change(job_id, service.epoch, state=JobState.DISMISSED)
    assert job_kvp(service.client, "GetStatus", job_id).exception2 == (400, "NoSuchJob", job_id)
    assert service.api.get(f"/jobs/{job_id}").json["status"] == "dismissed"


def test_a_page_of_the_list_is_full_though_some_are_gone(service: Service) -> None:
    gone = service.ended()
    (left,) = service.store.list_jobs()
    kept = [replace(left, id=f"{n:08}-0000-4000-8000-000000000000", created=left.created - n) for n in (1, 2)]
    for job in kept:
        service.store.add_job(job, limits=settings_with().limits)
    service.store.change(gone, service.epoch, expires=time.time() - 1)
    assert [job.id for job in service.jobs.find(JobFilter(), 2)] == [job.id for job in kept]
