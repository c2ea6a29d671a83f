"""The fault matrix on a real Slurm: whatever happens to a job, its end is told truly, with the reason, and it ran once.

The rows that disturb nobody are submitted together, in the fixture ``ends``. The others each put right what they broke.
How long it took to know is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.status import read_status
from joblauncher.formats.values import LiteralValue
from tests.clusters.hpc import leave, make_site, scheduler_id, token, told
from tests.clusters.site import Site, until
from tests.services import require
from tests.services.slurm import ORDINARY, Slurm
from wps_hpc.cli.check import OK, check_cluster
from wps_hpc.clusters.cluster import build_clusters
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


@pytest.fixture
def site(slurm_cluster: Slurm) -> Iterator[Site]:
    """A site with a worker; its jobs that still run are cancelled at the end."""
    opened = make_site(slurm_cluster)
    opened.start_worker()
    yield opened
    leave(opened, slurm_cluster)


@dataclass(frozen=True)
class Row:
    """A job that ends by itself or is killed from outside, and what is told of it."""

    process: str
    inputs: dict[str, object]
    state: JobState
    cause: str = ""
    text: str = ""


ROWS = {
    "over its time limit": Row("end", {"how": "sleep", "minutes": 1}, JobState.FAILED, "time limit", "time limit"),
    "over its time limit and deaf": Row("end", {"how": "deaf", "minutes": 1}, JobState.FAILED, "time limit"),
    "over its time limit, cleans up": Row(
        "end", {"how": "clean", "minutes": 1}, JobState.FAILED, "time limit", "time limit"
    ),
    "leaves a torn status": Row("end", {"how": "tear"}, JobState.FAILED, "signal", "signal 9"),
    "forges a success": Row("end", {"how": "forge"}, JobState.FAILED, "bad output"),
    "makes its status unwritable": Row("end", {"how": "block"}, JobState.FAILED, "disk full"),
    "succeeds": Row("mark", {"name": "one"}, JobState.SUCCEEDED),
    "raises": Row("end", {"how": "raise"}, JobState.FAILED, "process error", "this cannot be done"),
    "os._exit": Row("end", {"how": "exit"}, JobState.FAILED, "exit code", "exit code 3"),
    "segfaults": Row("end", {"how": "segfault"}, JobState.FAILED, "signal", "SIGSEGV"),
    "eats its memory": Row("end", {"how": "eat"}, JobState.FAILED, "out of memory"),
    "has a child that eats its memory": Row("end", {"how": "child eats"}, JobState.SUCCEEDED),
}


@pytest.fixture(scope="module")
def ends(slurm_cluster: Slurm) -> Iterator[tuple[Site, dict[str, Job]]]:
    """All rows, submitted together."""
    opened = make_site(slurm_cluster)
    opened.start_worker()
    places = {"mark": {"folder": str(opened.marks)}, "end": {"started": str(opened.folder / "end")}}
    jobs = {name: opened.execute(row.process, **row.inputs, **places[row.process]) for name, row in ROWS.items()}
    yield opened, jobs
    leave(opened, slurm_cluster)


@pytest.mark.parametrize("name", [name for name in ROWS if "time limit" not in name])
def test_however_a_job_ends_it_is_told_truly(
    ends: tuple[Site, dict[str, Job]], slurm_cluster: Slurm, name: str
) -> None:
    if "memory" in name:
        how = "run the tests as root where the memory controller of cgroup v1 is mounted"
        require("memory enforcement by Slurm", slurm_cluster.memory_is_enforced, how)
    check_row(ends, slurm_cluster, name)


def check_row(ends: tuple[Site, dict[str, Job]], slurm_cluster: Slurm, name: str) -> None:
    """Wait for the job of a row, and see what was told of it."""
    (site, jobs), row = ends, ROWS[name]
    told_as = told(site, jobs[name], jobs[name].created, 200)
    ended = site.job(jobs[name].id)
    assert told_as == (row.state.value, row.cause), ended
    assert row.text in ended.message
    assert len(slurm_cluster.accounted(token(site, ended))) <= 1
    if name == "succeeds":
        assert site.runs() == {"one"}
    if "cleans up" in name:
        assert (site.folder / "end.warned").exists() and (site.folder / "end.cleaned").exists()


@pytest.mark.parametrize("held", [True, False], ids=["queued", "running"])
def test_cancelled_by_root(site: Site, slurm_cluster: Slurm, held: bool) -> None:
    """At the scheduler and behind the server's back: failed, not dismissed."""
    job = site.mark("one", until=str(site.folder / "never"))
    if held:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=DOWN")
    try:
        site.in_state(job.id, JobState.QUEUED if held else JobState.RUNNING)
        since = time.time()
        slurm_cluster.run("scancel", scheduler_id(site, job))
        assert told(site, job, since) == ("failed", "cancelled")
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=UP")


@pytest.mark.parametrize("running", [False, True], ids=["queued", "running"])
def test_dismissed(site: Site, slurm_cluster: Slurm, running: bool) -> None:
    job = site.mark("one", until=str(site.folder / "never"))
    if not running:
        until(lambda: site.job(job.id).submission_id, "it is being submitted")
    else:
        site.in_state(job.id, JobState.RUNNING)
    since = time.time()
    site.intake.dismiss(job.id, "the client")
    assert told(site, job, since)[0] == "dismissed"
    until(lambda: site.job(job.id).scheduler_gone, "Slurm has let go of it")
    assert token(site, job) not in slurm_cluster.run("squeue", "-h", "-o", "%j").stdout


@pytest.mark.parametrize("state", [JobState.HELD, JobState.SUSPENDED])
def test_dismissed_while_it_is_kept_from_running(site: Site, slurm_cluster: Slurm, state: JobState) -> None:
    if state is JobState.HELD:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=DOWN")
    try:
        job = site.mark("one", until=str(site.folder / "never"))
        site.in_state(job.id, JobState.QUEUED if state is JobState.HELD else JobState.RUNNING)
        ask = site.store.request_hold if state is JobState.HELD else site.store.request_suspend
        ask(job.id)
        site.in_state(job.id, state)
        since = time.time()
        site.intake.dismiss(job.id, "the client")
        assert told(site, job, since)[0] == "dismissed"
        until(lambda: site.job(job.id).scheduler_gone, "Slurm has let go of it")
        assert token(site, job) not in slurm_cluster.run("squeue", "-h", "-o", "%j").stdout
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=UP")


def test_held_and_released_at_the_scheduler(site: Site, slurm_cluster: Slurm) -> None:
    slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=DOWN")
    job = site.mark("one")
    try:
        site.in_state(job.id, JobState.QUEUED)
        until(lambda: "the queue is closed" in site.job(job.id).message, "the reason is told")
        site.store.request_hold(job.id)
        assert re.match(r"held \(job \d+\): by ", site.in_state(job.id, JobState.HELD).message)
        site.store.request_release(job.id)
        site.in_state(job.id, JobState.QUEUED)
        slurm_cluster.run("scontrol", "hold", scheduler_id(site, job))
        assert "by an administrator" in site.in_state(job.id, JobState.HELD).message
        slurm_cluster.run("scontrol", "release", scheduler_id(site, job))
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=long", "State=UP")
    assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"one"}


def test_suspended_and_resumed(site: Site) -> None:
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    until(site.runs, "it runs")
    site.in_state(job.id, JobState.RUNNING)
    site.store.request_suspend(job.id)
    site.in_state(job.id, JobState.SUSPENDED)
    launcher = site.launcher_pids(site.job(job.id))[0]
    _guard, *processes = site.descendants(launcher)
    # Slurm says so before the node has done so; and what it stops is the script's process group.
    until(lambda: {process_state(pid) for pid in (launcher, *processes)} == {"T"}, "launcher and process are stopped")
    go.touch()
    site.store.request_resume(job.id)
    assert site.ended(job.id).state is JobState.SUCCEEDED


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


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ('partition = "nowhere"', "Invalid partition name"),
        ('account = "nobody"', "Invalid account"),
        ('qos = "nothing"', "Invalid qos"),
    ],
    ids=["partition", "account", "qos"],
)
def test_what_slurm_refuses_for_good(slurm_cluster: Slurm, partition: str, words: str) -> None:
    """Neutral words for the client, Slurm's own for the operator; no second try."""
    site = make_site(slurm_cluster, partition=partition)
    try:
        site.start_worker()
        job = site.mark("one")
        assert told(site, job, job.created) == ("failed", "could not be submitted")
        failure = site.job(job.id).failure
        assert failure is not None and words in failure.detail
        assert "partition" not in failure.text and "account" not in failure.text
    finally:
        leave(site, slurm_cluster)


def test_an_sbatch_that_submits_and_then_fails(slurm_cluster: Slurm, tmp_path: Path) -> None:
    """A wrapper of the site's: the id is not believed, the name is looked up."""
    programs = tmp_path / "bin"
    programs.mkdir()
    wrapper = programs / "sbatch"
    wrapper.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@"\necho "cannot write the log" >&2\nexit 1\n')
    wrapper.chmod(0o755)
    site = make_site(slurm_cluster, programs=str(programs))
    try:
        site.start_worker()
        ended = site.ended(site.mark("one").id)
        assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
        assert site.runs() == {"one"}
    finally:
        leave(site, slurm_cluster)


WORKER_POINTS = [
    Failpoint.PACKED,
    Failpoint.SUBMIT_BEFORE_COMMAND,
    Failpoint.SUBMIT_AFTER_COMMAND,
    Failpoint.SUBMIT_RECORDED,
    Failpoint.WATCH_BEFORE_FINAL,
    Failpoint.WATCH_AFTER_FINAL,
]


@pytest.mark.parametrize("point", WORKER_POINTS, ids=lambda point: point.value)
def test_a_worker_that_dies_neither_loses_nor_doubles_the_job(slurm_cluster: Slurm, point: Failpoint) -> None:
    site = make_site(slurm_cluster, command_seconds=3.0)
    try:
        first = site.start_worker(point)
        job = site.mark("one")
        assert first.wait(60) == -signal.SIGKILL
        site.start_worker()
        ended = site.ended(job.id)
        assert ended.state is JobState.SUCCEEDED, ended
        assert site.runs() == {"one"}
        submissions = 2 if point is Failpoint.SUBMIT_BEFORE_COMMAND else 1
        assert ended.submission_number == submissions
    finally:
        leave(site, slurm_cluster)


def test_two_workers_started_at_once_run_every_job_once(slurm_cluster: Slurm) -> None:
    site = make_site(slurm_cluster)
    try:
        jobs = [site.mark(f"job-{number}") for number in range(8)]
        site.start_worker()
        site.start_worker()
        for job in jobs:
            ended = site.ended(job.id)
            assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1), ended
            assert len(slurm_cluster.accounted(token(site, job))) <= 1
        assert site.runs() == {f"job-{number}" for number in range(8)}
    finally:
        leave(site, slurm_cluster)


def test_a_shared_folder_that_is_full(slurm_cluster: Slurm) -> None:
    require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
    site = make_site(slurm_cluster)
    root = site.settings.storage.root
    root.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(root)], check=True)
    try:
        site.start_worker()
        full = site.execute("fill", megabytes=20)
        assert told(site, full, full.created) == ("failed", "disk full")
        shutil.rmtree(site.job_folder(site.job(full.id)).path)
        assert site.ended(site.mark("one").id).state is JobState.SUCCEEDED, "there is room again"
    finally:
        leave(site, slurm_cluster)


def test_resources_and_queues_reach_slurm(slurm_cluster: Slurm) -> None:
    queues = (
        '[[clusters.hpc.queues]]\nname = "short"\nmax_walltime_seconds = 300\n[[clusters.hpc.queues]]\nname = "long"'
    )
    site = make_site(slurm_cluster, partition="", more=queues)
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
        leave(site, slurm_cluster)


def test_check_sends_its_probe_through_slurm(slurm_cluster: Slurm) -> None:
    site = make_site(slurm_cluster)
    try:
        cluster = build_clusters(site.settings)["hpc"]
        findings = list(check_cluster(site.settings, cluster, 60))
        assert [finding.level for finding in findings] == [OK], findings
    finally:
        leave(site, slurm_cluster)


@pytest.mark.parametrize("name", [name for name in ROWS if "time limit" in name])
def test_a_job_over_its_time_limit(ends: tuple[Site, dict[str, Job]], slurm_cluster: Slurm, name: str) -> None:
    """Here, because Slurm takes its time: meanwhile the rows above have run, and the ones below would disturb it."""
    check_row(ends, slurm_cluster, name)


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


def test_a_controller_that_is_down_at_submission_and_while_a_job_runs(site: Site, slurm_cluster: Slurm) -> None:
    """Nothing is concluded from the outage but that it is one, and nothing is lost."""
    go = site.folder / "go"
    running = site.mark("running", until=str(go))
    ends_unseen = site.mark("unseen", until=str(site.folder / "go too"))
    for job in (running, ends_unseen):
        site.in_state(job.id, JobState.RUNNING)
    slurm_cluster.stop("slurmctld")
    try:
        until(lambda: site.job(running.id).stale_since, "it is told that the scheduler does not answer")
        (site.folder / "go too").touch()
        late = site.mark("late")
        until(lambda: site.job(late.id).message.startswith("The scheduler cannot be reached"), "it waits")
        assert site.job(late.id).state is JobState.ACCEPTED
        assert site.job(running.id).state is JobState.RUNNING
    finally:
        slurm_cluster.start_slurmctld()
    go.touch()
    for job in (running, ends_unseen, late):
        assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"running", "unseen", "late"}
    assert len(slurm_cluster.accounted(token(site, late))) <= 1


def test_a_controller_that_hangs_at_submission_has_created_the_job_all_the_same(
    site: Site, slurm_cluster: Slurm
) -> None:
    """sbatch says «Socket timed out»; the job is found by its name, and never submitted again."""
    slurm_cluster.daemons["slurmctld"].send_signal(signal.SIGSTOP)
    try:
        job = site.mark("one")
        log = site.folder / "worker.log"
        until(lambda: "has no known outcome" in log.read_text(), "the submission's outcome is unknown")
        assert site.job(job.id).state is JobState.SUBMITTING
    finally:
        slurm_cluster.daemons["slurmctld"].send_signal(signal.SIGCONT)
    ended = site.ended(job.id)
    assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
    assert site.runs() == {"one"}


def test_a_job_dismissed_while_its_submission_hangs(site: Site, slurm_cluster: Slurm) -> None:
    """Nobody knows whether there is such a job; once there is one, it is cancelled."""
    slurm_cluster.daemons["slurmctld"].send_signal(signal.SIGSTOP)
    try:
        job = site.mark("one", until=str(site.folder / "never"))
        site.in_state(job.id, JobState.SUBMITTING)
        site.intake.dismiss(job.id, "the client")
        log = site.folder / "worker.log"
        until(lambda: "has no known outcome" in log.read_text(), "the submission's outcome is unknown")
    finally:
        slurm_cluster.daemons["slurmctld"].send_signal(signal.SIGCONT)
    ended = site.ended(job.id)
    assert (ended.state, ended.submission_number) == (JobState.DISMISSED, 1)
    until(lambda: site.job(job.id).scheduler_gone, "Slurm has let go of it")
    assert token(site, job) not in slurm_cluster.run("squeue", "-h", "-o", "%j").stdout


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


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_jobs_that_slurm_forgets_at_once(slurm_cluster: Slurm) -> None:
    """MinJobAge over before anybody looks: accounting and the folder tell."""
    slurm_cluster.reconfigure(min_job_age=2)
    site = make_site(slurm_cluster)
    try:
        site.start_worker()
        good, bad = site.mark("one"), site.execute("end", how="sleep", started=str(site.folder / "runs"))
        until((site.folder / "runs").exists, "it runs")
        site.in_state(good.id, JobState.SUCCEEDED)
        bad = site.in_state(bad.id, JobState.RUNNING)
        site.kill_worker()
        known = scheduler_id(site, bad)
        # Script and launcher die together, so that nothing tells of it but Slurm's accounting.
        launcher = site.launcher_pids(bad)[0]
        for pid in (parent(launcher), launcher):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not slurm_cluster.run("squeue", "-h", "-t", "all", "-j", known, check=False).stdout, "forgotten")
        site.start_worker()
        assert told(site, bad, time.time()) == ("failed", "signal")
    finally:
        slurm_cluster.reconfigure(min_job_age=300)
        leave(site, slurm_cluster)


@pytest.mark.parametrize("accounting", [True, False], ids=["accounting", "no accounting"])
def test_a_job_that_ran_and_was_forgotten_while_nobody_looked_is_not_run_again(
    slurm_cluster: Slurm, tmp_path: Path, accounting: bool
) -> None:
    """The worker dies before it has recorded the submission; when the next one comes, squeue does not know the name."""
    slurm_cluster.reconfigure(min_job_age=2)
    if not accounting:
        (tmp_path / "sacct").write_text('#!/bin/sh\necho "Slurm accounting storage is disabled" >&2\nexit 1\n')
        (tmp_path / "sacct").chmod(0o755)
    site = make_site(slurm_cluster, programs="" if accounting else str(tmp_path), command_seconds=3.0)
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
        leave(site, slurm_cluster)


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

    def test_more_often_than_the_site_allows(self, slurm_cluster: Slurm) -> None:
        site = make_site(slurm_cluster, more="max_restarts = 1")
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
            leave(site, slurm_cluster)

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
