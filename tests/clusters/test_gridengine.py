"""The fault matrix on a real Grid Engine by its commands, and what can happen to a job on Grid Engine only.

How long it took to know is printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.hpc import token, told
from tests.clusters.matrix import FaultMatrix
from tests.clusters.site import Site, until
from tests.clusters.systems import GridEngineSystem
from tests.services.gridengine import ORDINARY, GridEngine
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, Known, Phase
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def system(grid_engine: GridEngine) -> GridEngineSystem:
    """Grid Engine by its commands, to the fault matrix."""
    return GridEngineSystem(grid_engine)


@pytest.fixture(scope="module")
def limited(system: GridEngineSystem) -> Iterator[tuple[Site, Job]]:
    """A job in a queue that has its time limit; it is submitted with the first rows, as it takes its time."""
    site = system.make_site(queue="", more='[[clusters.hpc.queues]]\nname = "long.q"\nmax_walltime_seconds = 60')
    site.start_worker()
    yield site, site.execute("end", how="sleep", minutes=1)
    system.leave(site)


@pytest.mark.usefixtures("limited")
class TestFaultMatrix(FaultMatrix):
    """The rows that all batch systems have."""

    of = GridEngineSystem


ERRORS = {
    "output": ("o", "/no/such/folder/log", "output file could not be opened"),
    "shell": ("S", "/no/such/shell", "shell of the job's script is not there"),
}


def test_a_job_that_is_dismissed_cleans_up(site: Site) -> None:
    """Grid Engine announces the end to every process of a job, the process's own among them."""
    job = site.execute("end", how="clean", started=str(site.folder / "end"))
    until((site.folder / "end").exists, "the process runs")
    site.intake.dismiss(job.id, "the test")
    assert site.ended(job.id).state is JobState.DISMISSED
    assert (site.folder / "end.cleaned").exists()


@pytest.mark.parametrize("what", ERRORS)
def test_a_job_in_the_error_state_is_explained_and_cleaned_up(
    system: GridEngineSystem, tmp_path: Path, what: str
) -> None:
    """A wrapper of the site's gives a wrong option. In «Eqw» a job would stay for ever."""
    option, value, words = ERRORS[what]
    # Options of the command line come before those in the script.
    site = system.make_site(programs=system.wrap_submit(tmp_path, f'exec {{submit}} "$@" -{option} {value}'))
    try:
        site.start_worker()
        job = site.mark("one")
        assert told(site, job, job.created) == ("failed", "could not start")
        ended = site.job(job.id)
        assert ended.failure is not None and words in ended.message
        assert "Eqw" in ended.failure.detail and value in ended.failure.detail
        assert value not in ended.message
        name = token(site, job)
        until(lambda: not system.still_has(name), "it is out of the queue")
    finally:
        system.leave(site)


@pytest.mark.parametrize(
    ("queue", "cause"),
    [('queue = "long.q"\nparallel_environment = "nowhere"', "could not be submitted"), ('queue = "long.q"', "")],
    ids=["unknown", "none"],
)
def test_more_cores_than_there_is_a_parallel_environment_for(system: GridEngineSystem, queue: str, cause: str) -> None:
    site = system.make_site(queue=queue)
    try:
        site.start_worker()
        job = site.execute("sized", megabytes=1)
        assert told(site, job, job.created) == ("failed", "could not be submitted")
        failure = site.job(job.id).failure
        assert failure is not None
        assert "2 cores" in failure.text if not cause else "nowhere" in failure.detail
    finally:
        system.leave(site)


def test_resources_and_queues_reach_grid_engine(system: GridEngineSystem, grid_engine: GridEngine) -> None:
    described = ('name = "short.q"\nmax_walltime_seconds = 400', 'name = "long.q"')
    queues = "\n".join(f"[[clusters.hpc.queues]]\n{queue}" for queue in described)
    site = system.make_site(queue="", more=queues)
    try:
        site.start_worker()
        jobs = {minutes: site.execute("end", how="sleep", minutes=minutes) for minutes in (5, 7)}
        for job in jobs.values():
            site.in_state(job.id, JobState.RUNNING)
        shown = {minutes: grid_engine.run("qstat", "-j", token(site, job)).stdout for minutes, job in jobs.items()}
        assert "hard_queue_list:            short.q\n" in shown[5] and "h_rt=400,h_vmem=2168M" in shown[5]
        assert "hard_queue_list:            long.q\n" in shown[7] and "h_rt=720,h_vmem=2168M" in shown[7]
        for job in jobs.values():
            site.intake.dismiss(job.id, "the client")
            assert site.ended(job.id).state is JobState.DISMISSED
    finally:
        system.leave(site)


def test_an_ordinary_account_may_do_all_that_the_server_asks_for(grid_engine: GridEngine) -> None:
    scheduler = GridEngineScheduler(Cluster(scheduler="gridengine"))
    known = Known("wordinary000000", None, time.time())

    def run(*argv: str, stdin: str = "", check: bool = True) -> Completed:
        done = grid_engine.run(*argv, stdin=stdin, account=ORDINARY, check=check)
        return Completed(done.returncode, done.stdout, done.stderr)

    def becomes(wanted: Phase | None) -> None:
        def phase() -> bool:
            answer = scheduler.read_query(run(*scheduler.query_command().argv))
            assert not isinstance(answer, CouldNotAsk)
            return [word.phase for word in answer.values()] == ([] if wanted is None else [wanted])

        until(phase, f"it is {wanted}")

    run("qsub", "-terse", "-h", "-N", known.token, "-o", "/dev/null", "-j", "y", stdin="#!/bin/sh\nsleep 100\n")
    becomes(Phase.HELD)
    run(*scheduler.control_command(Control.RELEASE, known).argv)
    becomes(Phase.RUNNING)
    run(*scheduler.control_command(Control.SUSPEND, known).argv)
    becomes(Phase.SUSPENDED)
    run(*scheduler.control_command(Control.RESUME, known).argv)
    becomes(Phase.RUNNING)
    run(*scheduler.control_command(Control.CANCEL, known).argv)
    becomes(None)
    for action in Control:
        outcome = scheduler.read_control(action, run(*scheduler.control_command(action, known).argv, check=False))
        assert (outcome.done, outcome.gone) == (False, True), (action, outcome)


def test_a_time_limit_of_the_queues_own(limited: tuple[Site, Job]) -> None:
    """It comes together with the launcher's, as an order to end: what that was, Grid Engine's accounting knows."""
    site, job = limited
    assert told(site, job, job.created, 150) == ("failed", "time limit")
