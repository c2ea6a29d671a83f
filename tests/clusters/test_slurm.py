"""The fault matrix on a real Slurm, and what can happen to a job on Slurm only.

Each test puts right what it broke. How long it took to know is printed.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.status import read_status
from joblauncher.formats.values import LiteralValue
from tests.clusters.hpc import kill_without_notice, scheduler_id, token, told
from tests.clusters.matrix import FaultMatrix
from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import ORDINARY, Slurm
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, Known, Phase
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.schedulers.slurm_words import STATES
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.progress import Progress
from wps_hpc.jobs.results import Results
from wps_hpc.protocols.wps1_response import message

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def system(slurm_cluster: Slurm) -> SlurmSystem:
    """Slurm, to the fault matrix."""
    return SlurmSystem(slurm_cluster)


class TestFaultMatrix(FaultMatrix):
    """The rows that all batch systems have."""

    of = SlurmSystem


def test_an_ordinary_account_may_do_all_that_the_server_asks_for(slurm_cluster: Slurm) -> None:
    """Where «scontrol suspend» is refused, signals do."""
    scheduler = SlurmScheduler(Cluster(scheduler="slurm"))
    name = "wordinary000000"

    def run(*argv: str, stdin: str = "", check: bool = True) -> Completed:
        done = slurm_cluster.run(*argv, stdin=stdin, account=ORDINARY, check=check)
        return Completed(done.returncode, done.stdout, done.stderr)

    def becomes(wanted: Phase, reason: str | None = None) -> None:
        def phase() -> bool:
            answer = scheduler.read_query(run(*scheduler.query_command().argv))
            assert not isinstance(answer, CouldNotAsk)
            return [(word.phase, word.reason) for word in answer.values() if word.token == name] == [(wanted, reason)]

        until(phase, f"it is {wanted}")

    script = "#!/bin/sh\nsleep 100\n"
    submitted = run("sbatch", "--parsable", "--hold", "-J", name, "-o", "/dev/null", "-D", "/", stdin=script)
    known = Known(name, submitted.stdout.strip(), time.time())
    becomes(Phase.HELD, "by the service's account")
    run(*scheduler.control_command(Control.RELEASE, known).argv)
    becomes(Phase.RUNNING)
    assert run("scontrol", "suspend", known.scheduler_id or "", check=False).exit_code != 0
    run(*scheduler.control_command(Control.SUSPEND, known).argv)
    becomes(Phase.SUSPENDED)
    run(*scheduler.control_command(Control.RESUME, known).argv)
    becomes(Phase.RUNNING)
    run(*scheduler.control_command(Control.CANCEL, known).argv)
    becomes(Phase.ENDED, STATES["CANCELLED"].reason)


def test_resources_and_queues_reach_slurm(system: SlurmSystem, slurm_cluster: Slurm) -> None:
    queues = (
        '[[clusters.hpc.queues]]\nname = "short"\nmax_walltime_seconds = 300\n[[clusters.hpc.queues]]\nname = "long"'
    )
    site = system.make_site(queue="", more=queues)
    try:
        site.start_worker()
        jobs = {minutes: site.execute("end", how="sleep", minutes=minutes) for minutes in (5, 7)}
        for job in jobs.values():
            site.in_state(job.id, JobState.RUNNING)
        shown = {
            minutes: slurm_cluster.run("squeue", "-h", "-n", token(site, job), "-o", "%P %l %m %C %D").stdout.split()
            for minutes, job in jobs.items()
        }
        assert shown == {5: ["short", "5:00", "120M", "1", "1"], 7: ["long", "7:00", "120M", "1", "1"]}
        for job in jobs.values():
            site.intake.dismiss(job.id, "the client")
            assert site.ended(job.id).state is JobState.DISMISSED
    finally:
        system.leave(site)


def test_a_node_that_dies(site: Site, slurm_cluster: Slurm) -> None:
    """The process must not run on either: its node had a power cut."""
    job = site.mark("one", until=str(site.folder / "never"))
    site.in_state(job.id, JobState.RUNNING)
    (node,) = slurm_cluster.run("squeue", "-h", "-j", scheduler_id(site, job), "-o", "%N").stdout.split()
    since = time.time()
    slurm_cluster.kill_node(node)
    try:
        assert told(site, job, since) == ("failed", "node failure")
    finally:
        slurm_cluster.start_node(node)
        slurm_cluster.wait_idle()


def test_a_controller_that_was_killed_before_it_had_saved_its_jobs(site: Site, slurm_cluster: Slurm) -> None:
    """It hands out an id for the second time; nobody is told of the one job what became of the other."""
    slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=DOWN")
    state = slurm_cluster.save_state()
    forgotten = site.mark("forgotten")
    site.in_state(forgotten.id, JobState.QUEUED)
    try:
        slurm_cluster.crash_back_to(state)
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=UP")
        namesake = slurm_cluster.run(
            "sbatch", "--parsable", "-p", "long", "-o", "/dev/null", stdin="#!/bin/sh\nsleep 1\n"
        ).stdout.strip()
        assert namesake == scheduler_id(site, forgotten), "the id was handed out again"
        later = site.mark("later")
        since = time.time()
        assert told(site, forgotten, since) == ("failed", "lost")
        assert site.ended(later.id).state is JobState.SUCCEEDED
        assert site.runs() == {"later"}
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=UP")
        slurm_cluster.resume_nodes()


def test_accounting_that_is_down(site: Site, slurm_cluster: Slurm) -> None:
    slurm_cluster.stop("slurmdbd")
    try:
        assert site.ended(site.mark("one").id).state is JobState.SUCCEEDED
        job = site.execute("end", how="segfault")
        since = time.time()
        assert told(site, job, since) == ("failed", "signal")
    finally:
        slurm_cluster.start_slurmdbd()


def test_jobs_that_slurm_forgets_at_once(system: SlurmSystem, slurm_cluster: Slurm) -> None:
    """MinJobAge over before anybody looks: accounting and the folder tell."""
    slurm_cluster.reconfigure(min_job_age=2)
    site = system.make_site()
    try:
        site.start_worker()
        good, bad = site.mark("one"), site.execute("end", how="sleep", started=str(site.folder / "runs"))
        until((site.folder / "runs").exists, "it runs")
        site.in_state(good.id, JobState.SUCCEEDED)
        bad = site.in_state(bad.id, JobState.RUNNING)
        site.kill_worker()
        known = scheduler_id(site, bad)
        kill_without_notice(site, bad)
        until(lambda: not slurm_cluster.run("squeue", "-h", "-t", "all", "-j", known, check=False).stdout, "forgotten")
        site.start_worker()
        assert told(site, bad, time.time()) == ("failed", "signal")
    finally:
        slurm_cluster.reconfigure(min_job_age=300)
        system.leave(site)


@pytest.mark.parametrize("accounting", [True, False], ids=["accounting", "no accounting"])
def test_a_job_that_ran_and_was_forgotten_while_nobody_looked_is_not_run_again(
    system: SlurmSystem, slurm_cluster: Slurm, tmp_path: Path, accounting: bool
) -> None:
    """The worker dies before it has recorded the submission; when the next one comes, squeue does not know the name."""
    slurm_cluster.reconfigure(min_job_age=2)
    if not accounting:
        (tmp_path / "sacct").write_text('#!/bin/sh\necho "Slurm accounting storage is disabled" >&2\nexit 1\n')
        (tmp_path / "sacct").chmod(0o755)
    site = system.make_site(programs="" if accounting else str(tmp_path), command_seconds=3.0)
    try:
        first = site.start_worker(Failpoint.SUBMIT_AFTER_COMMAND)
        job = site.mark("one")
        assert first.wait(60) == -signal.SIGKILL
        name = token(site, job)
        until(lambda: site.runs() == {"one"}, "it has run")
        until(lambda: not slurm_cluster.run("squeue", "-h", "-t", "all", "-n", name).stdout, "Slurm has forgotten it")
        site.start_worker()
        ended = site.ended(job.id)
        assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
    finally:
        slurm_cluster.reconfigure(min_job_age=300)
        system.leave(site)


def seen(site: Site, job: Job) -> str:
    """What a client that polls reads of a job."""
    found = Progress(site.store, site.settings.storage.root, site.bell).get(job.id)
    assert found is not None
    return message(found)


class TestRestarting:
    """A run that the cluster interrupts: started again where the process allows it, else told."""

    def restartable(self, site: Site) -> Job:
        """A job that has begun its first run."""
        job = site.execute("mark_run", folder=str(site.marks), name="run", until=str(site.folder / "go"))
        until(lambda: "run-1" in site.runs(), "its first run")
        return site.in_state(job.id, JobState.RUNNING)

    def runs_again(self, site: Site, job: Job) -> None:
        """Let the second run come and finish, and see what is told meanwhile."""
        until(lambda: "run-2" in site.runs(), "its second run")
        running = site.in_state(job.id, JobState.RUNNING)
        assert running.attempt == 2
        until(lambda: "marked (job" in seen(site, job), "a client that polls sees its progress")
        assert "run 2, after an interruption by the cluster" in seen(site, job)
        (site.folder / "go-2").touch()
        ended = site.ended(job.id)
        assert (ended.state, ended.attempt, ended.submission_number) == (JobState.SUCCEEDED, 2, 1)
        assert site.runs() == {"run-1", "run-2"}
        assert Results(site.settings).outputs(ended)["result"] == (LiteralValue("2"),)

    def test_a_node_that_is_cut_off_goes_on_writing(self, site: Site, slurm_cluster: Slurm) -> None:
        """What the first run still writes counts for nothing once the second has its place."""
        job = self.restartable(site)
        (node,) = slurm_cluster.run("squeue", "-h", "-j", scheduler_id(site, job), "-o", "%N").stdout.split()
        slurm_cluster.cut_off_node(node)
        try:
            until(lambda: "run-2" in site.runs(), "its second run")
            (site.folder / "go-1").touch()
            old = site.job_folder(job).attempt(1)
            until(lambda: read_status(old.status).state == "succeeded", "the first run has finished")
            self.runs_again(site, job)
        finally:
            slurm_cluster.start_node(node)
            slurm_cluster.resume_nodes()

    def test_a_more_important_job(self, site: Site, slurm_cluster: Slurm) -> None:
        job = self.restartable(site)
        only_once = site.mark("once", until=str(site.folder / "never"))
        until(lambda: "once" in site.runs(), "it runs")
        site.in_state(only_once.id, JobState.RUNNING)
        since = time.time()
        options = ("-p", "urgent", "--nodes=3", "--exclusive", "-o", "/dev/null")
        slurm_cluster.run("sbatch", "--parsable", *options, stdin="#!/bin/sh\nsleep 1\n")
        assert told(site, only_once, since) == ("failed", "preempted")
        (site.marks / "once").unlink()
        self.runs_again(site, job)

    def test_more_often_than_the_site_allows(self, system: SlurmSystem, slurm_cluster: Slurm) -> None:
        site = system.make_site(more="max_restarts = 1")
        try:
            site.start_worker()
            job = self.restartable(site)
            slurm_cluster.run("scontrol", "requeue", scheduler_id(site, job))
            until(lambda: "run-2" in site.runs(), "its second run")
            site.in_state(job.id, JobState.RUNNING)
            since = time.time()
            slurm_cluster.run("scontrol", "requeue", scheduler_id(site, job))
            assert told(site, job, since) == ("failed", "interrupted")
            assert "interrupted the job 2 times" in site.job(job.id).message
            assert site.runs() == {"run-1", "run-2"}
        finally:
            system.leave(site)

    def test_a_process_that_does_not_allow_it(self, site: Site, slurm_cluster: Slurm) -> None:
        """Slurm refuses to put the job back into the queue; when an administrator insists, it does not run again."""
        job = site.mark("one", until=str(site.folder / "never"))
        site.in_state(job.id, JobState.RUNNING)
        until(site.runs, "it runs")
        number = scheduler_id(site, job)
        assert slurm_cluster.run("scontrol", "requeue", number, check=False).returncode != 0
        slurm_cluster.run("scontrol", "update", f"JobId={number}", "Requeue=1")
        since = time.time()
        slurm_cluster.run("scontrol", "requeue", number)
        assert told(site, job, since) == ("failed", "interrupted")
        assert site.runs() == {"one"}
