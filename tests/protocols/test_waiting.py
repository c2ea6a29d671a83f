"""How long answers wait for their jobs, where that does not show in a document."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.protocols.conftest import settings_with
from tests.protocols.site import Site
from wps_hpc.config import Settings
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.protocols.waiting import Waiting


class Slow(Site):
    """A site whose waits last until the test lets them end; it says how many there are."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.waiting = threading.Semaphore(0)
        self.go_on = threading.Event()

    def wait(self, job_id: str, seconds: float) -> Job:
        """Wait, and end the job."""
        self.waiting.release()
        assert self.go_on.wait(20)
        return replace(self.jobs[job_id], state=JobState.SUCCEEDED)


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (8, 2), (40, 10)])
def test_only_some_threads_wait_out_a_grace_at_a_time(tmp_path: Path, threads: int, at_once: int) -> None:
    site = Slow(tmp_path)
    waiting = Waiting(settings_with(server={"web_threads": threads}, limits={"grace_seconds": 1}), site)
    job = site.execute(ExecuteRequest("slow", "wps1"))
    settled: list[Job] = []
    waiters = [threading.Thread(target=lambda: settled.append(waiting.settled(job))) for _ in range(at_once)]
    for waiter in waiters:
        waiter.start()
    for _ in waiters:
        assert site.waiting.acquire(timeout=20)
    # Every place is taken: the next one is answered at once.
    assert waiting.settled(job) == job
    site.go_on.set()
    for waiter in waiters:
        waiter.join(20)
    assert [found.state for found in settled] == [JobState.SUCCEEDED] * at_once
    assert waiting.settled(job).state is JobState.SUCCEEDED, "places are given back"


def test_a_job_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    site = Slow(tmp_path)
    job = replace(site.execute(ExecuteRequest("slow", "wps1")), state=JobState.FAILED)
    waiting = Waiting(settings_with(limits={"grace_seconds": 1}), site)
    assert waiting.settled(job) == job


def test_there_is_a_small_grace_by_default() -> None:
    assert Settings().limits.grace_seconds == 0.5
