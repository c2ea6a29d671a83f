"""What has deceived the bridge to Grid Engine: outages that look like ends, records that look like none."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.clusters.hpc import scheduler_id, token, told
from tests.clusters.site import Site, until
from tests.clusters.systems import DrmaaSystem, GridEngineSystem
from tests.clusters.test_drmaa import helpers, system
from tests.services.gridengine import GridEngine
from wps_hpc.jobs.job import JobState

pytestmark = pytest.mark.cluster

__all__ = ["system"]


@contextmanager
def hung_master(grid_engine: GridEngine) -> Iterator[None]:
    """A master that answers nobody within the block."""
    grid_engine.daemons["qmaster"].send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        grid_engine.daemons["qmaster"].send_signal(signal.SIGCONT)


@contextmanager
def dead_master(grid_engine: GridEngine) -> Iterator[None]:
    """No master within the block."""
    grid_engine.stop("qmaster", signal.SIGKILL)
    try:
        yield
    finally:
        grid_engine.start_qmaster()


@pytest.fixture
def reporting(grid_engine: GridEngine) -> Iterator[None]:
    """The execution daemon reports to its master when the test has ended, whatever it did."""
    yield
    grid_engine.restart_execd()


def restart_worker(site: Site) -> None:
    """Another worker, which has another session."""
    site.kill_worker()
    site.start_worker()


def kill_session(site: Site) -> None:
    """SIGKILL to the session's process."""
    (helper,) = until(lambda: helpers(site), "there is a session")
    os.kill(helper, signal.SIGKILL)


def change_nothing(site: Site) -> None:
    """The session that is there meets the outage itself."""


@pytest.mark.usefixtures("reporting")
@pytest.mark.parametrize(
    ("outage", "change"),
    [(hung_master, change_nothing), (dead_master, kill_session), (dead_master, restart_worker)],
    ids=["hung master", "dead master and session", "dead master and worker"],
)
def test_by_drmaa_no_outage_makes_a_running_job_lost(
    grid_engine: GridEngine,
    system: DrmaaSystem,
    outage: Callable[[GridEngine], object],
    change: Callable[[Site], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever session comes after it knows of no job; and accounting, which is a file, is silent on one that runs."""
    monkeypatch.setattr(DrmaaSystem, "lost_seconds", 1.0)
    site = system.make_site(command_seconds=2.0)
    go = site.folder / "go"
    try:
        site.start_worker()
        job = site.mark("one", until=str(go))
        site.in_state(job.id, JobState.RUNNING)
        with outage(grid_engine):  # type: ignore[attr-defined]
            change(site)
            log = site.folder / "worker.log"
            asked = log.read_text().count("cannot be asked")
            # Each takes as long as a job may be missing until it is called lost.
            until(
                lambda: log.read_text().count("cannot be asked") >= asked + 4 or site.job(job.id).final, "it is asked"
            )
            assert site.job(job.id).state is JobState.RUNNING, site.job(job.id)
        go.touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED
        assert site.runs() == {"one"}
    finally:
        system.leave(site)


def test_several_jobs_that_never_started_are_all_explained(
    grid_engine: GridEngine,
    system: DrmaaSystem,
) -> None:
    """In accounting they have no start."""
    site = system.make_site()
    try:
        site.start_worker()
        grid_engine.run("qmod", "-d", "long.q")
        try:
            jobs = [site.mark(name) for name in ("one", "two", "three")]
            for job in jobs:
                site.in_state(job.id, JobState.QUEUED)
                grid_engine.run("qalter", "-o", "/no/such/folder/log", scheduler_id(site, job))
        finally:
            grid_engine.run("qmod", "-e", "long.q")
        assert {told(site, job, job.created) for job in jobs} == {("failed", "could not start")}
    finally:
        system.leave(site)


def test_a_job_with_two_cores_gets_two_slots_of_the_parallel_environment(grid_engine: GridEngine) -> None:
    commands = GridEngineSystem(grid_engine)
    site = commands.make_site()
    try:
        site.start_worker()
        job = site.execute("sized", megabytes=1)
        assert site.ended(job.id).state is JobState.SUCCEEDED, site.job(job.id)
        name = token(site, job)
        record = until(lambda: grid_engine.run("qacct", "-j", name, check=False).stdout, "it has its record")
        assert re.search(r"^slots +2 *$", record, re.MULTILINE), record
    finally:
        commands.leave(site)
