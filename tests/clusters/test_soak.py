"""Three hundred Executes at once, eight places, and a worker that is killed ten times: all succeed, each ran once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from lxml import etree

from tests.clusters.site import Site, until
from wps_hpc.jobs.job import JobState

JOBS, PLACES, KILLS = 300, 8, 10
NAMESPACES = {"wps": "http://www.opengis.net/wps/1.0.0"}


@pytest.fixture
def site(tmp_path: Path, store_url: str) -> Iterator[Site]:
    """A site with eight places."""
    opened = Site(tmp_path, store_url, parallel=PLACES)
    yield opened
    opened.close()


def status(client: httpx.Client, location: str) -> str:
    """The local name of the status at a status location."""
    document = etree.fromstring(client.get(location).content)
    (found,) = document.xpath("wps:Status/*", namespaces=NAMESPACES)
    return str(etree.QName(found).localname)


def some_progress(site: Site, jobs: int, seconds: float) -> None:
    """Wait until so many more jobs have run, but not longer than so many seconds."""
    goal = min(len(site.runs()) + jobs, JOBS - 1)
    late = time.monotonic() + seconds
    until(lambda: len(site.runs()) >= goal or time.monotonic() > late, "some progress")


def test_every_job_of_a_burst_succeeds_once_while_the_worker_is_killed_again_and_again(site: Site) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    chance = random.Random(seed)
    address = site.start_web()
    site.start_worker()

    def send(number: int) -> str:
        return site.execute_over_http(client, "mark", folder=site.marks, name=f"job-{number}", seconds=0.05)

    with httpx.Client(base_url=address, timeout=60) as client, ThreadPoolExecutor(16) as senders:
        locations = list(senders.map(send, range(JOBS)))
        for _ in range(KILLS):
            some_progress(site, chance.randint(1, 20), chance.uniform(0.2, 3.0))
            site.kill_worker()
            site.start_worker()
        jobs = site.store.list_jobs(limit=JOBS + 1)
        assert len(jobs) == JOBS
        for job in jobs:
            ended = site.ended(job.id, 240)
            assert ended.state is JobState.SUCCEEDED, (seed, ended)
        words = list(senders.map(lambda location: status(client, location), locations))
    assert set(words) == {"ProcessSucceeded"}
    assert site.runs() == {f"job-{n}" for n in range(JOBS)}
    started = site.scheduler_started()
    assert len(started) == len(set(started)) == JOBS, "the scheduler's own count of the jobs that it started"
