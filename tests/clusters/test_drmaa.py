"""The main rows of the fault matrix on a real Grid Engine by DRMAA, through the real worker."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.clusters.hpc import scheduler_id, token, told
from tests.clusters.matrix import MAIN_ROWS, FaultMatrix
from tests.clusters.site import Site, until
from tests.clusters.systems import DrmaaSystem
from tests.schemas import ROOT
from tests.services import require
from tests.services.gridengine import GridEngine
from tests.services.pythons import find_python
from wps_hpc import config
from wps_hpc.cli.check import check_cluster
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.schedulers.drmaa_session import DrmaaScheduler
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.transports.base import Command
from wps_hpc.clusters.transports.drmaa import DRMAA, STATES, SUBMIT, DrmaaTransport, Template
from wps_hpc.jobs.job import JobState

pytestmark = pytest.mark.cluster

HELPER = "wps_hpc.clusters.transports.drmaa_helper"


@pytest.fixture(scope="module")
def system(grid_engine: GridEngine) -> DrmaaSystem:
    """Grid Engine by DRMAA, to the fault matrix."""
    system = DrmaaSystem(grid_engine)
    there = system.library.exists() and importlib.util.find_spec("drmaa")
    require("DRMAA", there, "make services, and the extra drmaa")
    return system


class TestMainRows(FaultMatrix, only=MAIN_ROWS):
    """The rows of the fault matrix in which another way to Grid Engine may differ."""

    of = DrmaaSystem


def helpers(site: Site) -> list[int]:
    """The processes of DRMAA sessions that the site's newest worker has, whichever of its threads started them."""
    children = psutil.Process(site.workers[-1].pid).children()
    return [child.pid for child in children if HELPER in command_line(child)]


def command_line(process: psutil.Process) -> list[str]:
    """Empty for one that has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


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


def test_a_job_in_the_error_state(system: DrmaaSystem, site: Site) -> None:
    """DRMAA says «failed» and no more; accounting says why, and the job is out of the queue."""
    with system.keep_waiting():
        job = site.mark("one")
        site.in_state(job.id, JobState.QUEUED)
        system.grid_engine.run("qalter", "-o", "/no/such/folder/log", scheduler_id(site, job))
    assert told(site, job, job.created) == ("failed", "could not start")
    assert "output file could not be opened" in site.job(job.id).message
    name = token(site, job)
    until(lambda: not system.still_has(name), "it is out of the queue")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_that_the_server_runs_on_has_sessions(system: DrmaaSystem, tmp_path: Path, version: str) -> None:
    """With nothing but the extra installed."""
    python = find_python(version)
    require(f"Python {version}", python, f"pyenv install {version}, or put python{version} on the PATH")
    found = importlib.util.find_spec("drmaa")
    assert found is not None and found.origin is not None
    (tmp_path / "drmaa").symlink_to(Path(found.origin).parent)
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    environment = {**system.variables(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    living = GridEngineScheduler(config.Cluster(scheduler="gridengine"))
    transport = DrmaaTransport(system.library, environment, DrmaaScheduler(living).living(), str(python))
    order = Template("wsession", f"{tmp_path}/job.sh", str(tmp_path), "-b n -o /dev/null -j y -q long.q -l h_rt=60")

    def states() -> str:
        answer = transport.run(Command((DRMAA, STATES)), 30)
        assert answer.exit_code == 0, answer
        return answer.stdout

    try:
        submitted = transport.run(Command((DRMAA, SUBMIT), order.dump()), 30)
        assert submitted.exit_code == 0 and submitted.stdout.isdecimal(), submitted
        until(lambda: json.loads(states()) == [], "no job lives")
        assert (tmp_path / "ran").exists()
    finally:
        transport.close()


@pytest.mark.usefixtures("system")
def test_a_library_that_is_not_there_is_said_by_check(grid_engine: GridEngine) -> None:
    without = DrmaaSystem(grid_engine, Path("/no/such/library.so"))
    site = without.make_site()
    try:
        cluster = build_clusters(site.settings)["hpc"]
        (finding,) = check_cluster(site.settings, cluster, 60)
        cluster.close()
        assert "/no/such/library.so" in finding.text
    finally:
        without.leave(site)
