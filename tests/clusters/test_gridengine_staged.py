"""A real Grid Engine that shares no folder with the server: what travels each time, and the fault matrix.

How long it took to know is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.clusters.batch_system import BatchSystem
from tests.clusters.far import reach
from tests.clusters.hpc import token
from tests.clusters.matrix import FaultMatrix
from tests.clusters.site import Site, until
from tests.clusters.staged import StagedGridEngine
from tests.services.gridengine import GridEngine
from tests.services.sshd import Sshd
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.results import Results

pytestmark = pytest.mark.cluster

PATIENCE = 120.0


@pytest.fixture(scope="module", params=["ssh_paramiko", pytest.param("ssh_openssh", marks=pytest.mark.slow)])
def system(request: pytest.FixtureRequest, grid_engine: GridEngine, sshd: Sshd) -> BatchSystem:
    """Grid Engine, to which folders are sent over an SSH transport."""
    return reach(StagedGridEngine(grid_engine), request.param, sshd)


@pytest.fixture(scope="module")
def server(system: BatchSystem) -> Iterator[Site]:
    """A site with both sides."""
    site = system.make_site()
    site.start_worker()
    site.start_web()
    yield site
    system.leave(site)


def posted(site: Site, process: str, **body: Any) -> Job:
    """Ask for an Execute as clients do."""
    address = f"{site.settings.server.base_url}/processes/{process}/execution"
    answer = httpx.post(address, json=body, headers={"Prefer": "respond-async"}, timeout=60)
    assert answer.status_code == 201, answer.text
    return site.job(answer.headers["Location"].rpartition("/")[2])


def log(site: Site, job: Job, stream: str) -> str:
    """What is here of a job's log."""
    return Results(site.settings).log(site.job(job.id), stream, 10_000).decode()


def test_an_input_goes_there_and_result_and_log_come_back(system: BatchSystem, server: Site) -> None:
    """Input and result by reference. The batch system has the folder's path there, and knows no other."""
    given = server.folder / "letters with spaces.txt"
    given.write_text("abcdé")
    job = posted(
        server,
        "turned",
        inputs={"text": {"href": f"file://{given}".replace(" ", "%20"), "type": "text/plain"}},
        outputs={"turned": {"transmissionMode": "reference"}},
        response="document",
    )
    ended = server.ended(job.id, PATIENCE)
    assert ended.state is JobState.SUCCEEDED, ended
    results = httpx.get(f"{server.settings.server.base_url}/jobs/{job.id}/results?f=json", timeout=60).json()
    assert httpx.get(results["turned"]["href"], timeout=60).content.decode() == "édcba"
    assert log(server, job, "stdout") == "5 letters have come\n"
    script = server.job_folder(job).script.read_text()
    assert str(server.folder_there(job).path) in script and str(server.job_folder(job).path) not in script
    until(lambda: system.accounted(token(server, job)), "accounting knows of it")
    assert len(system.accounted(token(server, job))) == 1
    until(lambda: not server.folder_there(job).path.exists(), "its folder there is removed")


def test_failing_jobs_are_told_with_what_they_left(server: Site) -> None:
    """The process's own error, one that nothing but the batch script saw, and the traceback in the log."""
    raises, torn = (server.execute("end", how=how) for how in ("raise", "tear"))
    ended = server.ended(raises.id, PATIENCE)
    assert (ended.state, ended.message) == (JobState.FAILED, "ValueError: this cannot be done")
    assert 'raise ValueError("this cannot be done")' in log(server, raises, "stderr")
    failure = server.ended(torn.id, PATIENCE).failure
    assert failure is not None and (failure.cause, failure.signal) == ("signal", 9), failure


def test_a_log_and_progress_are_followed_while_the_job_runs_and_it_is_dismissed(
    system: BatchSystem, server: Site
) -> None:
    job = server.execute("who", until="/nowhere")
    until(lambda: server.job(job.id).percent == 50, "its progress is fetched", PATIENCE)
    until(lambda: "the dots begin" in log(server, job, "stdout"), "its log is fetched")
    name = token(server, job)
    server.intake.dismiss(job.id, "the client")
    assert server.ended(job.id, PATIENCE).state is JobState.DISMISSED
    until(lambda: not system.still_has(name), "the batch system has let go of it")


@pytest.mark.slow
class TestFaultMatrix(FaultMatrix):
    """All rows."""

    of = StagedGridEngine
