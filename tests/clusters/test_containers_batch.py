"""Jobs in containers on a real Slurm and a real Grid Engine; the server and its jobs are an ordinary account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clusters.batch_system import COMMAND_SECONDS, TABLE, BatchSystem
from tests.clusters.ordinary import OrdinarySite, ordinary_site
from tests.clusters.site import until
from tests.clusters.systems import GridEngineSystem, SlurmSystem
from tests.clusters.test_containers import EXAMPLES, Seen, check_examples, looked, run_examples
from tests.services import require
from tests.services.gridengine import GridEngine
from tests.services.slurm import Slurm
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster


@dataclass(frozen=True)
class Contained:
    """A batch system, a site whose jobs run in containers there, and a job that runs into its time limit."""

    system: BatchSystem
    site: OrdinarySite
    limited: Job


@pytest.fixture(scope="module", params=["slurm", "gridengine"])
def contained(request: pytest.FixtureRequest, images: Path) -> Iterator[Contained]:
    """A site on each of them. The job with the time limit is submitted first, as it takes a minute."""
    system = made(request)
    container = f'[clusters.hpc.container]\nimage = "{images}/examples.sif"'
    variables = ", ".join(f'{name} = "{value}"' for name, value in system.variables().items())
    table = TABLE.format(
        scheduler=system.scheduler,
        queue=system.queue,
        always=system.always,
        command_seconds=COMMAND_SECONDS,
        lost_seconds=system.lost_seconds,
        variables=variables,
        more=container,
    )
    with ordinary_site(cluster="hpc", clusters=table, modules=EXAMPLES, parallel=20) as site:
        # Slurm counts in minutes; the launcher keeps the limit where Grid Engine is.
        wish = "" if isinstance(system, SlurmSystem) else "resources=walltime_s=8"
        yield Contained(system, site, site.execute("end", how="clean", started="here", minutes=1, resources=wish))
        for job in site.store.list_jobs(limit=100):
            submission = site.store.submission(job.submission_id or 0)
            if submission is not None and not job.scheduler_gone:
                system.remove(submission.token)


def made(request: pytest.FixtureRequest) -> BatchSystem:
    """The batch system of a parameter."""
    if request.param == "slurm":
        slurm: Slurm = request.getfixturevalue("slurm_cluster")
        return SlurmSystem(slurm)
    grid_engine: GridEngine = request.getfixturevalue("grid_engine")
    return GridEngineSystem(grid_engine)


@pytest.fixture(scope="module")
def seen(contained: Contained) -> Iterator[Seen]:
    """What a job sees on a node."""
    yield from looked(contained.site)


def test_a_job_is_as_alone_on_a_node_as_it_should_be(seen: Seen) -> None:
    told = seen.told
    assert told["outside"].startswith("FileNotFoundError") and told["home"].startswith("FileNotFoundError")
    for name in ("manifest", "folder", "sibling", "launcher"):
        assert "Read-only file system" in told[name] or "Permission denied" in told[name], name
    assert told["network"].startswith("ConnectionRefused") and told["interfaces"] == "['lo']"
    assert [line for line in told["processes"] if "joblauncher" not in line and "appinit" not in line] == []
    assert not [name for name in told["environment"] if name.startswith(("SLURM", "SGE", "JOB_"))]
    assert told["work"] == "written" and told["account"] != "0"


def test_the_examples_succeed(contained: Contained) -> None:
    check_examples(run_examples(contained.site))


@pytest.mark.parametrize("how", ["eat", "eat_all"])
def test_too_much_memory_is_told_whoever_dies_of_it(contained: Contained, how: str) -> None:
    """The process alone; or the container's first process, and the launcher with it."""
    enforced = not isinstance(contained.system, SlurmSystem) or contained.system.memory_is_enforced
    require("memory enforcement by Slurm", enforced, "cgroups that this host lets Slurm use")
    site = contained.site
    job = site.execute("end", how="eat") if how == "eat" else site.execute("eat_all")
    ended = site.ended(job.id, 120)
    assert ended.failure is not None and ended.failure.cause == "out of memory", (ended, site.said(ended))


def test_a_job_that_is_dismissed_cleans_up(contained: Contained) -> None:
    """Also where every process of the job is signalled, the one that mounts the image among them."""
    site = contained.site
    job = site.execute("end", how="clean", started="here")
    work = site.job_folder(job).attempt(1).work
    until((work / "here").exists, "the process runs", 120)
    site.intake.dismiss(job.id, "the test")
    assert site.ended(job.id, 120).state is JobState.DISMISSED
    assert (work / "here.cleaned").exists(), site.said(job)


def test_check_runs_its_probe_in_the_image(contained: Contained) -> None:
    _, said = contained.site.check()
    line = next(line for line in said.splitlines() if "cluster hpc: in a container" in line)
    assert "apptainer version 1" in line and "no network" in line, said


def test_a_time_limit_warns_the_process_and_lets_it_clean_up(contained: Contained) -> None:
    site = contained.site
    ended = site.ended(contained.limited.id, 240)
    work = site.job_folder(ended).attempt(1).work
    assert ended.failure is not None and ended.failure.cause == "time limit", (ended, site.said(ended))
    assert (work / "here.warned").exists() and (work / "here.cleaned").exists()
