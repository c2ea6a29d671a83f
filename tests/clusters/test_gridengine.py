"""The fault matrix on a real Grid Engine: whatever happens to a job, its end is told truly, and it ran once.

The rows that disturb nobody are submitted together, in the fixture ``ends``. The others each put right what they broke.
How long it took to know is printed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joblauncher.failpoints import Failpoint
from tests.clusters.hpc import scheduler_id, token, told
from tests.clusters.matrix import ROWS, check_row, close_site, open_site, submit_rows
from tests.clusters.site import Site, until
from tests.services.gridengine import ORDINARY, PE, GridEngine
from wps_hpc.cli.check import OK, check_cluster
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, Known, Phase
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.config import Cluster
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster

QUEUE = f'queue = "long.q"\nparallel_environment = "{PE}"\n'


def make_site(grid_engine: GridEngine, *, more: str = QUEUE, programs: str = "", **options: Any) -> Site:
    """A site whose jobs go to the tests' Grid Engine; commands in ``programs`` come before its own."""
    path = f"{programs}:{grid_engine.environment()['PATH']}" if programs else grid_engine.environment()["PATH"]
    return open_site("gridengine", {**grid_engine.variables(), "PATH": path}, more=more, **options)


def leave(site: Site, grid_engine: GridEngine) -> None:
    """End a site and all that is its."""
    close_site(site, lambda name: grid_engine.run("qdel", "-f", name, check=False))


@pytest.fixture
def site(grid_engine: GridEngine) -> Iterator[Site]:
    """A site with a worker; its jobs that still run are deleted at the end."""
    opened = make_site(grid_engine)
    opened.start_worker()
    yield opened
    leave(opened, grid_engine)


@pytest.fixture(scope="module")
def ends(grid_engine: GridEngine) -> Iterator[tuple[Site, dict[str, Job]]]:
    """All rows, submitted together."""
    opened = make_site(grid_engine)
    opened.start_worker()
    yield opened, submit_rows(opened)
    leave(opened, grid_engine)


@pytest.mark.parametrize("name", [name for name in ROWS if "time limit" not in name])
def test_however_a_job_ends_it_is_told_truly(
    ends: tuple[Site, dict[str, Job]], grid_engine: GridEngine, name: str
) -> None:
    site, jobs = ends
    check_row(site, jobs[name], name, grid_engine.accounted)


def test_deleted_at_the_scheduler_while_it_runs(site: Site, grid_engine: GridEngine) -> None:
    """Behind the server's back: failed, not dismissed. The launcher was told in time, and says so."""
    job = site.mark("one", until=str(site.folder / "never"))
    site.in_state(job.id, JobState.RUNNING)
    until(site.runs, "the process has begun")
    since = time.time()
    grid_engine.run("qdel", scheduler_id(site, job))
    assert told(site, job, since) == ("failed", "cancelled")


def test_deleted_at_the_scheduler_while_it_waits(site: Site, grid_engine: GridEngine) -> None:
    """Of such a job Grid Engine keeps no record: that nobody has it is all that can be known."""
    grid_engine.run("qmod", "-d", "long.q")
    try:
        job = site.mark("one")
        site.in_state(job.id, JobState.QUEUED)
        since = time.time()
        grid_engine.run("qdel", scheduler_id(site, job))
        assert told(site, job, since) == ("failed", "lost")
        failure = site.job(job.id).failure
        assert failure is not None and "not claimed by any launcher" in failure.detail
    finally:
        grid_engine.run("qmod", "-e", "long.q")
    assert site.runs() == set()


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
    until(lambda: site.job(job.id).scheduler_gone, "Grid Engine has let go of it")
    assert token(site, job) not in grid_engine.run("qstat", "-xml", "-u", "*").stdout


def test_a_job_that_is_killed_without_notice(site: Site, grid_engine: GridEngine) -> None:
    """Script and launcher die together, so that nothing tells of it but Grid Engine's accounting."""
    job = site.mark("one", until=str(site.folder / "never"))
    job = site.in_state(job.id, JobState.RUNNING)
    until(site.runs, "the process has begun")
    launcher = site.launcher_pids(job)[0]
    since = time.time()
    for pid in (parent(launcher), launcher):
        os.kill(pid, signal.SIGKILL)
    assert told(site, job, since) == ("failed", "signal")


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def process_state(pid: int) -> str:
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_held_and_released_at_the_scheduler(site: Site, grid_engine: GridEngine) -> None:
    grid_engine.run("qmod", "-d", "long.q")
    job = site.mark("one")
    try:
        site.in_state(job.id, JobState.QUEUED)
        site.store.request_hold(job.id)
        site.in_state(job.id, JobState.HELD)
        site.store.request_release(job.id)
        site.in_state(job.id, JobState.QUEUED)
        grid_engine.run("qhold", scheduler_id(site, job))
        site.in_state(job.id, JobState.HELD)
        grid_engine.run("qrls", scheduler_id(site, job))
    finally:
        grid_engine.run("qmod", "-e", "long.q")
    assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"one"}


def test_suspended_and_resumed(site: Site) -> None:
    """Grid Engine says so at once, and stops the job when its notice is over."""
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    until(site.runs, "it runs")
    site.in_state(job.id, JobState.RUNNING)
    site.store.request_suspend(job.id)
    site.in_state(job.id, JobState.SUSPENDED)
    launcher = site.launcher_pids(site.job(job.id))[0]
    _guard, *processes = site.descendants(launcher)
    until(lambda: {process_state(pid) for pid in (launcher, *processes)} == {"T"}, "launcher and process are stopped")
    go.touch()
    site.store.request_resume(job.id)
    assert site.ended(job.id).state is JobState.SUCCEEDED


ERRORS = {
    "output": ("o", "/no/such/folder/log", "output file could not be opened"),
    "shell": ("S", "/no/such/shell", "shell of the job's script is not there"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_a_job_in_the_error_state_is_explained_and_cleaned_up(
    grid_engine: GridEngine, tmp_path: Path, what: str
) -> None:
    """A wrapper of the site's gives a wrong option. In «Eqw» a job would stay for ever."""
    option, value, words = ERRORS[what]
    wrapper = tmp_path / "qsub"
    # Options of the command line come before those in the script.
    wrapper.write_text(f'#!/bin/sh\nexec {grid_engine.programs}/qsub "$@" -{option} {value}\n')
    wrapper.chmod(0o755)
    site = make_site(grid_engine, programs=str(tmp_path))
    try:
        site.start_worker()
        job = site.mark("one")
        assert told(site, job, job.created) == ("failed", "could not start")
        ended = site.job(job.id)
        assert ended.failure is not None and words in ended.message
        assert "Eqw" in ended.failure.detail and value in ended.failure.detail
        assert value not in ended.message
        name = token(site, job)
        until(lambda: name not in grid_engine.run("qstat", "-xml", "-u", "*").stdout, "it is out of the queue")
    finally:
        leave(site, grid_engine)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('queue = "nowhere.q"', "nowhere.q"),
        ('project = "nothing"', "nothing"),
        ('options = { l = "nothing=1" }', "nothing"),
    ],
    ids=["queue", "project", "resource"],
)
def test_what_grid_engine_refuses_for_good(grid_engine: GridEngine, more: str, words: str) -> None:
    """Neutral words for the client, Grid Engine's own for the operator; no second try."""
    site = make_site(grid_engine, more=more)
    try:
        site.start_worker()
        job = site.mark("one")
        assert told(site, job, job.created) == ("failed", "could not be submitted")
        failure = site.job(job.id).failure
        assert failure is not None and words in failure.detail
        assert words not in failure.text
    finally:
        leave(site, grid_engine)


@pytest.mark.parametrize(
    ("more", "cause"),
    [('queue = "long.q"\nparallel_environment = "nowhere"', "could not be submitted"), ('queue = "long.q"', "")],
    ids=["unknown", "none"],
)
def test_more_cores_than_there_is_a_parallel_environment_for(grid_engine: GridEngine, more: str, cause: str) -> None:
    site = make_site(grid_engine, more=more)
    try:
        site.start_worker()
        job = site.execute("sized", megabytes=1)
        assert told(site, job, job.created) == ("failed", "could not be submitted")
        failure = site.job(job.id).failure
        assert failure is not None
        assert "2 cores" in failure.text if not cause else "nowhere" in failure.detail
    finally:
        leave(site, grid_engine)


def test_an_qsub_that_submits_and_then_fails(grid_engine: GridEngine, tmp_path: Path) -> None:
    """A wrapper of the site's: the id is not believed, the name is looked up."""
    wrapper = tmp_path / "qsub"
    wrapper.write_text(f'#!/bin/sh\n{grid_engine.programs}/qsub "$@"\necho "cannot write the log" >&2\nexit 1\n')
    wrapper.chmod(0o755)
    site = make_site(grid_engine, programs=str(tmp_path))
    try:
        site.start_worker()
        ended = site.ended(site.mark("one").id)
        assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
        assert site.runs() == {"one"}
    finally:
        leave(site, grid_engine)


WORKER_POINTS = [Failpoint.SUBMIT_BEFORE_COMMAND, Failpoint.SUBMIT_AFTER_COMMAND, Failpoint.SUBMIT_RECORDED]


@pytest.mark.parametrize("point", WORKER_POINTS, ids=lambda point: point.value)
def test_a_worker_that_dies_around_a_submission_neither_loses_nor_doubles_the_job(
    grid_engine: GridEngine, point: Failpoint
) -> None:
    """Not submitted at all: the name is unknown to queue and accounting. Submitted: it is found there, also when it has
    run meanwhile."""
    site = make_site(grid_engine, command_seconds=3.0)
    try:
        first = site.start_worker(point)
        job = site.mark("one")
        assert first.wait(60) == -signal.SIGKILL
        if point is not Failpoint.SUBMIT_BEFORE_COMMAND:
            until(lambda: grid_engine.accounted(token(site, job)), "it has run")
        site.start_worker()
        ended = site.ended(job.id)
        assert ended.state is JobState.SUCCEEDED, ended
        assert site.runs() == {"one"}
        assert ended.submission_number == (2 if point is Failpoint.SUBMIT_BEFORE_COMMAND else 1)
    finally:
        leave(site, grid_engine)


def test_resources_and_queues_reach_grid_engine(grid_engine: GridEngine) -> None:
    described = ('name = "short.q"\nmax_walltime_seconds = 400', 'name = "long.q"')
    queues = "\n".join(f"[[clusters.hpc.queues]]\n{queue}" for queue in described)
    site = make_site(grid_engine, more=queues)
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
        leave(site, grid_engine)


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


def test_check_sends_its_probe_through_grid_engine(grid_engine: GridEngine) -> None:
    site = make_site(grid_engine)
    try:
        cluster = build_clusters(site.settings)["hpc"]
        findings = list(check_cluster(site.settings, cluster, 60))
        assert [finding.level for finding in findings] == [OK], findings
    finally:
        leave(site, grid_engine)


@pytest.mark.parametrize("name", [name for name in ROWS if "time limit" in name])
def test_a_job_over_its_time_limit(ends: tuple[Site, dict[str, Job]], grid_engine: GridEngine, name: str) -> None:
    """Here, because it takes its time: meanwhile the rows above have run, and the ones below would disturb it."""
    site, jobs = ends
    check_row(site, jobs[name], name, grid_engine.accounted)


def test_a_time_limit_of_the_queues_own(grid_engine: GridEngine) -> None:
    """It comes together with the launcher's, as an order to end: what that was, Grid Engine's accounting knows."""
    queue = '[[clusters.hpc.queues]]\nname = "long.q"\nmax_walltime_seconds = 60'
    site = make_site(grid_engine, more=queue)
    try:
        site.start_worker()
        job = site.execute("end", how="sleep", minutes=1)
        assert told(site, job, job.created, 150) == ("failed", "time limit")
    finally:
        leave(site, grid_engine)


def test_a_master_that_is_down_at_submission_and_while_a_job_runs(site: Site, grid_engine: GridEngine) -> None:
    """Nothing is concluded from the outage but that it is one, and nothing is lost."""
    go = site.folder / "go"
    running = site.mark("running", until=str(go))
    ends_unseen = site.mark("unseen", until=str(site.folder / "go too"))
    for job in (running, ends_unseen):
        site.in_state(job.id, JobState.RUNNING)
    grid_engine.stop("qmaster", signal.SIGKILL)
    try:
        until(lambda: site.job(running.id).stale_since, "it is told that the scheduler does not answer")
        (site.folder / "go too").touch()
        late = site.mark("late")
        until(lambda: site.job(late.id).message.startswith("The scheduler cannot be reached"), "it waits")
        assert site.job(late.id).state is JobState.ACCEPTED
        assert site.job(running.id).state is JobState.RUNNING
    finally:
        grid_engine.start_qmaster()
    go.touch()
    for job in (running, ends_unseen, late):
        assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"running", "unseen", "late"}
    assert len(grid_engine.accounted(token(site, late))) <= 1


def test_a_master_that_hangs_at_submission(grid_engine: GridEngine) -> None:
    """The command's own time limit ends it; what became of the job is looked up, and it is never doubled."""
    site = make_site(grid_engine, command_seconds=3.0)
    site.start_worker()
    grid_engine.daemons["qmaster"].send_signal(signal.SIGSTOP)
    try:
        job = site.mark("one")
        log = site.folder / "worker.log"
        until(lambda: "has no known outcome" in log.read_text(), "the submission's outcome is unknown")
        assert site.job(job.id).state is JobState.SUBMITTING
    finally:
        grid_engine.daemons["qmaster"].send_signal(signal.SIGCONT)
    try:
        assert site.ended(job.id).state is JobState.SUCCEEDED
        assert site.runs() == {"one"}
    finally:
        leave(site, grid_engine)
