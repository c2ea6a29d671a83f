"""The main rows of the fault matrix on a real Grid Engine by DRMAA, through the real worker."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.hpc import scheduler_id, token, told
from tests.clusters.matrix import ROWS, check_row, submit_rows
from tests.clusters.site import Site, until
from tests.clusters.test_gridengine import QUEUE, leave, make_site
from tests.services import require
from tests.services.gridengine import GridEngine
from wps_hpc.cli.check import OK, check_cluster
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster

HELPER = b"wps_hpc.clusters.transports.drmaa_helper"


@pytest.fixture(scope="module")
def drmaa(grid_engine: GridEngine) -> str:
    """The settings of a cluster by DRMAA."""
    library = grid_engine.programs.parent / "gridengine-drmaa/lib/libdrmaa.so.1.0"
    require("DRMAA", library.exists() and importlib.util.find_spec("drmaa"), "make services, and the extra drmaa")
    return f'{QUEUE}drmaa_library = "{library}"\n'


@pytest.fixture
def site(grid_engine: GridEngine, drmaa: str) -> Iterator[Site]:
    """A site with a worker whose jobs go by DRMAA."""
    opened = make_site(grid_engine, more=drmaa)
    opened.start_worker()
    yield opened
    leave(opened, grid_engine)


@pytest.fixture(scope="module")
def ends(grid_engine: GridEngine, drmaa: str) -> Iterator[tuple[Site, dict[str, Job]]]:
    """All rows, submitted together."""
    opened = make_site(grid_engine, more=drmaa)
    opened.start_worker()
    yield opened, submit_rows(opened)
    leave(opened, grid_engine)


def helpers(site: Site) -> list[int]:
    """The processes of DRMAA sessions that the site's newest worker has, whichever of its threads started them."""
    children = Path(f"/proc/{site.workers[-1].pid}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    return [pid for pid in pids if HELPER in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize("name", [name for name in ROWS if "time limit" not in name])
def test_however_a_job_ends_it_is_told_truly(
    ends: tuple[Site, dict[str, Job]], grid_engine: GridEngine, name: str
) -> None:
    site, jobs = ends
    check_row(site, jobs[name], name, grid_engine.accounted)


def test_deleted_at_the_scheduler_while_it_runs(site: Site, grid_engine: GridEngine) -> None:
    job = site.mark("one", until=str(site.folder / "never"))
    site.in_state(job.id, JobState.RUNNING)
    until(site.runs, "the process has begun")
    since = time.time()
    grid_engine.run("qdel", scheduler_id(site, job))
    assert told(site, job, since) == ("failed", "cancelled")


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
def test_dismissed(site: Site, grid_engine: GridEngine, running: bool) -> None:
    job = site.mark("one", until=str(site.folder / "never"))
    if not running:
        until(lambda: site.job(job.id).submission_id, "it is being submitted")
    else:
        site.in_state(job.id, JobState.RUNNING)
    since = time.time()
    site.intake.dismiss(job.id, "the client")
    assert told(site, job, since)[0] == "dismissed"
    until(lambda: token(site, job) not in grid_engine.run("qstat", "-xml", "-u", "*").stdout, "Grid Engine has let go")


def test_held_released_suspended_and_resumed(site: Site, grid_engine: GridEngine) -> None:
    go = site.folder / "go"
    grid_engine.run("qmod", "-d", "long.q")
    job = site.mark("one", until=str(go))
    try:
        site.in_state(job.id, JobState.QUEUED)
        site.store.request_hold(job.id)
        site.in_state(job.id, JobState.HELD)
        site.store.request_release(job.id)
        site.in_state(job.id, JobState.QUEUED)
    finally:
        grid_engine.run("qmod", "-e", "long.q")
    site.in_state(job.id, JobState.RUNNING)
    site.store.request_suspend(job.id)
    site.in_state(job.id, JobState.SUSPENDED)
    site.store.request_resume(job.id)
    site.in_state(job.id, JobState.RUNNING)
    go.touch()
    assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"one"}


@pytest.mark.parametrize("who", ["session", "worker"])
def test_who_dies_while_a_job_runs_is_replaced_and_the_job_is_followed(site: Site, who: str) -> None:
    """A new session knows of no job, and must not take that for an end."""
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    site.in_state(job.id, JobState.RUNNING)
    if who == "session":
        (helper,) = until(lambda: helpers(site), "there is a session")
        os.kill(helper, signal.SIGKILL)
        until(lambda: helpers(site) not in ([], [helper]), "there is another one")
    else:
        site.kill_worker()
        site.start_worker()
        until(lambda: helpers(site), "there is a session")
    asked = (site.folder / "worker.log").read_text().count("cannot be asked")
    site.store.request_suspend(job.id)
    site.in_state(job.id, JobState.SUSPENDED)
    site.store.request_resume(job.id)
    site.in_state(job.id, JobState.RUNNING)
    go.touch()
    assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"one"} and asked <= 1


def test_a_job_in_the_error_state(grid_engine: GridEngine, drmaa: str) -> None:
    """DRMAA says «failed» and no more; accounting says why, and the job is out of the queue."""
    site = make_site(grid_engine, more=drmaa)
    try:
        site.start_worker()
        grid_engine.run("qmod", "-d", "long.q")
        job = site.mark("one")
        try:
            site.in_state(job.id, JobState.QUEUED)
            grid_engine.run("qalter", "-o", "/no/such/folder/log", scheduler_id(site, job))
        finally:
            grid_engine.run("qmod", "-e", "long.q")
        assert told(site, job, job.created) == ("failed", "could not start")
        assert "output file could not be opened" in site.job(job.id).message
        name = token(site, job)
        until(lambda: name not in grid_engine.run("qstat", "-xml", "-u", "*").stdout, "it is out of the queue")
    finally:
        leave(site, grid_engine)


def test_what_grid_engine_refuses_for_good(grid_engine: GridEngine, drmaa: str) -> None:
    site = make_site(grid_engine, more=drmaa.replace("long.q", "nowhere.q"))
    try:
        site.start_worker()
        job = site.mark("one")
        assert told(site, job, job.created) == ("failed", "could not be submitted")
        failure = site.job(job.id).failure
        assert failure is not None and "nowhere.q" in failure.detail and "nowhere.q" not in failure.text
    finally:
        leave(site, grid_engine)


def test_check_sends_its_probe(grid_engine: GridEngine, drmaa: str) -> None:
    site = make_site(grid_engine, more=drmaa)
    try:
        cluster = build_clusters(site.settings)["hpc"]
        findings = list(check_cluster(site.settings, cluster, 60))
        cluster.close()
        assert [finding.level for finding in findings] == [OK], findings
    finally:
        leave(site, grid_engine)


def test_a_library_that_is_not_there_is_said_by_check(grid_engine: GridEngine, drmaa: str) -> None:
    lines = [line for line in drmaa.splitlines() if "drmaa_library" not in line]
    site = make_site(grid_engine, more="\n".join([*lines, 'drmaa_library = "/no/such/library.so"']))
    try:
        cluster = build_clusters(site.settings)["hpc"]
        (finding,) = check_cluster(site.settings, cluster, 60)
        cluster.close()
        assert "/no/such/library.so" in finding.text
    finally:
        leave(site, grid_engine)


def test_a_master_that_is_down_at_submission_and_while_a_job_runs(site: Site, grid_engine: GridEngine) -> None:
    go = site.folder / "go"
    running = site.mark("running", until=str(go))
    site.in_state(running.id, JobState.RUNNING)
    grid_engine.stop("qmaster", signal.SIGKILL)
    try:
        until(lambda: site.job(running.id).stale_since, "it is told that the scheduler does not answer")
        late = site.mark("late")
        until(lambda: site.job(late.id).state is not JobState.ACCEPTED or site.job(late.id).reason, "it was tried")
        assert site.job(running.id).state is JobState.RUNNING
    finally:
        grid_engine.start_qmaster()
    go.touch()
    for job in (running, late):
        assert site.ended(job.id, 120).state is JobState.SUCCEEDED
    assert site.runs() == {"running", "late"}
