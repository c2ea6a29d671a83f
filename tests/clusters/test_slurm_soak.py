"""Hundreds of jobs through a real Slurm, while worker and controller are killed, restarted and hung: each ran once."""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import Slurm
from wps_hpc.jobs.job import JobState

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

JOBS, DISTURBANCES = 500, 12


@pytest.fixture
def site(slurm_cluster: Slurm) -> Iterator[Site]:
    """A site with more places than the cluster has."""
    system = SlurmSystem(slurm_cluster)
    opened = system.make_site(parallel=16)
    yield opened
    system.leave(opened)


def kill_worker(site: Site, slurm: Slurm, chance: random.Random) -> None:
    """Another one takes over."""
    site.kill_worker()
    site.start_worker()


def restart_controller(site: Site, slurm: Slurm, chance: random.Random) -> None:
    """Away for as long as it takes."""
    slurm.stop("slurmctld")
    slurm.start_slurmctld()


def hang_controller(site: Site, slurm: Slurm, chance: random.Random) -> None:
    """Until a submission has no known outcome; it may have been taken all the same."""
    log = site.folder / "worker.log"
    before = log.read_text().count("has no known outcome")
    late = time.monotonic() + chance.uniform(6, 15)
    slurm.daemons["slurmctld"].send_signal(signal.SIGSTOP)
    until(
        lambda: log.read_text().count("has no known outcome") > before or time.monotonic() > late, "an outcome is lost"
    )
    slurm.daemons["slurmctld"].send_signal(signal.SIGCONT)


WAYS: tuple[Callable[[Site, Slurm, random.Random], None], ...] = (kill_worker, restart_controller, hang_controller)


def test_no_job_is_lost_or_doubled(site: Site, slurm_cluster: Slurm) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    chance = random.Random(seed)
    site.start_worker()
    jobs = [site.mark(f"job-{number}") for number in range(JOBS)]
    for _ in range(DISTURBANCES):
        goal = min(len(site.runs()) + chance.randint(5, 30), JOBS - 1)
        until(lambda goal=goal: len(site.runs()) >= goal, "some progress")  # type: ignore[misc]
        chance.choice(WAYS)(site, slurm_cluster, chance)
    for job in jobs:
        ended = site.ended(job.id, 900)
        assert ended.state is JobState.SUCCEEDED, (seed, ended)
    assert site.runs() == {f"job-{number}" for number in range(JOBS)}
    # Slurm's own count, by every name that was ever given to one of these jobs.
    with closing(sqlite3.connect(site.folder / "jobs.sqlite")) as database:
        names = ",".join(name for (name,) in database.execute("SELECT token FROM submissions"))

    def accounted() -> Counter[str]:
        return Counter(state for _, state, _ in slurm_cluster.accounted(names))

    def complete() -> bool:
        """It hears of jobs late, also of their beginnings."""
        count = accounted()
        return count.total() >= JOBS and not {"PENDING", "RUNNING"} & count.keys()

    until(complete, "accounting has seen them all end", 180)
    print(f"Slurm's own count: {dict(accounted())}")
    assert accounted()["COMPLETED"] == JOBS, (seed, accounted())
