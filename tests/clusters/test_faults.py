"""Every crash at every named place: the job ends truthfully, runs at most once, and never stays «running».

Each failpoint kills, once, the process that reaches it: the test's own intake (in a child), the worker, the spooler or
the launcher. A worker that died is replaced, as the supervisor does.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from joblauncher.failpoints import VARIABLE, Failpoint
from joblauncher.formats.records import Manifest, load
from joblauncher.formats.values import LiteralValue
from tests.clusters.matrix import WORKER_POINTS
from tests.clusters.site import Site, until
from tests.services import require
from wps_hpc.errors import InvalidParameterValue, ServerBusy
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.job import JobState
from wps_hpc.jobs.progress import Progress
from wps_hpc.jobs.request import ExecuteRequest, Mode, Reference
from wps_hpc.jobs.store import Store

SPOOLER_POINTS = [Failpoint.SPOOL_BEFORE_RECORD, Failpoint.SPOOL_AFTER_RECORD, Failpoint.SPOOL_AFTER_START]
#: The launcher dies: only what was committed counts.
LAUNCHER_POINTS = {
    Failpoint.LAUNCH_BEFORE_CLAIM: JobState.FAILED,
    Failpoint.LAUNCH_AFTER_CLAIM: JobState.FAILED,
    Failpoint.LAUNCH_LOADED: JobState.FAILED,
    Failpoint.LAUNCH_PROCESS_DONE: JobState.FAILED,
    Failpoint.LAUNCH_RESULT_WRITTEN: JobState.FAILED,
    Failpoint.LAUNCH_STATUS_WRITTEN: JobState.SUCCEEDED,
}


@pytest.fixture
def site(tmp_path: Path, store_url: str) -> Iterator[Site]:
    """A site on SQLite, and on PostgreSQL."""
    opened = Site(tmp_path, store_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_site(tmp_path: Path) -> Iterator[Site]:
    """A site on SQLite alone, where the database does not matter."""
    opened = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield opened
    opened.close()


def test_a_job_runs_once_and_succeeds(site: Site) -> None:
    site.start_worker()
    job = site.ended(site.mark("one").id)
    assert (job.state, job.percent) == (JobState.SUCCEEDED, 100)
    assert job.started is not None and job.finished is not None
    assert job.created <= job.started <= job.finished
    assert site.runs() == {"one"}


@pytest.mark.parametrize("point", WORKER_POINTS, ids=lambda point: point.value)
def test_a_worker_that_dies_anywhere_neither_loses_nor_doubles_a_job(site: Site, point: Failpoint) -> None:
    first = site.start_worker(point)
    job = site.mark("one")
    assert first.wait(60) == -signal.SIGKILL
    assert site.marker(point).exists()
    site.start_worker()
    ended = site.ended(job.id)
    assert (ended.state, ended.message) == (JobState.SUCCEEDED, ended.message), ended.failure
    assert site.runs() == {"one"}


@pytest.mark.parametrize("point", SPOOLER_POINTS, ids=lambda point: point.value)
def test_a_scheduler_that_dies_while_it_takes_a_job_neither_loses_nor_doubles_it(
    sqlite_site: Site, point: Failpoint
) -> None:
    """The outcome of the submission is unknown then, so the same token is submitted again."""
    site = sqlite_site
    site.start_worker(point)
    ended = site.ended(site.mark("one").id)
    assert site.marker(point).exists()
    assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1), ended
    assert site.runs() == {"one"}


@pytest.mark.parametrize(("point", "state"), LAUNCHER_POINTS.items(), ids=lambda value: value.value)
def test_a_launcher_that_dies_anywhere_leaves_a_truthful_end(
    sqlite_site: Site, point: Failpoint, state: JobState
) -> None:
    site = sqlite_site
    site.start_worker(point)
    ended = site.ended(site.mark("one").id)
    assert site.marker(point).exists()
    assert ended.state is state, ended
    assert len(site.runs()) <= 1
    if state is JobState.FAILED:
        assert ended.failure is not None
        assert (ended.failure.cause, ended.failure.signal) == ("signal", 9)


@pytest.mark.parametrize("point", [Failpoint.STAGE_FETCHED, Failpoint.STAGE_RECORDED], ids=lambda point: point.value)
def test_a_worker_that_dies_while_it_stages_starts_again(sqlite_site: Site, point: Failpoint, tmp_path: Path) -> None:
    site = sqlite_site
    data = tmp_path / "shared"
    data.mkdir()
    (data / "in.txt").write_text("staged")
    first = site.start_worker(point)
    job = site.execute("count_characters", text=Reference((data / "in.txt").as_uri()))
    assert first.wait(60) == -signal.SIGKILL
    site.start_worker()
    assert site.ended(job.id).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    "point", [Failpoint.ACCEPT_BEFORE_ROW, Failpoint.ACCEPT_AFTER_ROW], ids=lambda point: point.value
)
def test_a_web_process_that_dies_while_it_accepts_leaves_a_whole_job_or_none(site: Site, point: Failpoint) -> None:
    pid = os.fork()
    if pid == 0:
        os.environ[VARIABLE] = f"{point.value}:{site.marker(point)}"
        child = Site.__new__(Site)
        child.__dict__.update(site.__dict__)
        child.store.database.engine.dispose(close=False)
        child.mark("one")
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    site.start_worker()
    jobs = site.store.list_jobs()
    if point is Failpoint.ACCEPT_BEFORE_ROW:
        assert jobs == [] and site.runs() == set()
    else:
        assert site.ended(jobs[0].id).state is JobState.SUCCEEDED
        assert site.runs() == {"one"}


def test_a_process_killed_from_outside_fails_with_its_signal(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    job = site.mark("one", until=str(site.folder / "never"))
    until(lambda: site.runs(), "the process runs")
    running = site.in_state(job.id, JobState.RUNNING)
    child = site.launcher_pids(running)[1]
    os.kill(child, signal.SIGKILL)
    failure = site.ended(job.id).failure
    assert failure is not None and (failure.cause, failure.signal) == ("signal", 9)
    assert "peak" in failure.text


def test_the_whole_worker_dies_while_the_job_runs_and_the_next_one_finds_it_running(site: Site) -> None:
    site.start_worker()
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    site.in_state(job.id, JobState.RUNNING)
    site.kill_worker()
    go.touch()
    site.start_worker()
    assert site.ended(job.id).state is JobState.SUCCEEDED
    assert site.runs() == {"one"}


def test_a_second_worker_takes_over_when_the_first_dies(site: Site) -> None:
    first = site.start_worker()
    assert site.ended(site.mark("one").id).state is JobState.SUCCEEDED
    site.start_worker()
    first.kill()
    first.wait()
    assert site.ended(site.mark("two").id).state is JobState.SUCCEEDED


def test_a_worker_that_wakes_up_late_changes_nothing(site: Site) -> None:
    first = site.start_worker()
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    site.in_state(job.id, JobState.RUNNING)
    first.send_signal(signal.SIGSTOP)
    site.start_worker()
    go.touch()
    ended = site.ended(job.id)
    revision = ended.revision
    first.send_signal(signal.SIGCONT)
    log = site.folder / "worker.log"
    learned = re.compile(r"epoch 1 is over|does not hold the lease")
    until(lambda: learned.search(log.read_text()), "it learns that it was replaced")
    assert site.ended(site.mark("two").id).state is JobState.SUCCEEDED
    assert site.job(job.id).state is JobState.SUCCEEDED
    assert site.job(job.id).revision <= revision + 1
    assert site.runs() == {"one", "two"}


def test_a_cancelled_job_is_dismissed_and_nothing_of_it_runs_on(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    job = site.mark("one", until=str(site.folder / "never"))
    running = site.in_state(job.id, JobState.RUNNING)
    pids = site.launcher_pids(running)
    site.intake.dismiss(job.id, "the client")
    ended = site.ended(job.id)
    assert (ended.state, ended.message) == (JobState.DISMISSED, "dismissed by the client")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")


def test_a_cancel_while_the_submission_is_unknown_starts_nothing(sqlite_site: Site) -> None:
    site = sqlite_site
    first = site.start_worker(Failpoint.SUBMIT_BEFORE_COMMAND)
    job = site.mark("one")
    assert first.wait(60) == -signal.SIGKILL
    site.intake.dismiss(job.id, "the client")
    site.start_worker()
    assert site.ended(job.id).state is JobState.DISMISSED
    assert site.runs() == set()


def test_resources_are_a_function_of_the_inputs(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    ended = site.ended(site.execute("sized", megabytes=7).id)
    assert ended.state is JobState.SUCCEEDED, ended.failure
    manifest = load(Manifest, site.job_folder(ended).manifest.read_bytes())
    assert manifest.limits.memory_mb == 256 + 7 and manifest.resources["cores"] == 2
    with pytest.raises(InvalidParameterValue, match="negative") as refused:
        site.execute("sized", megabytes=-1)
    assert refused.value.locator == "megabytes"
    broken = site.ended(site.execute("sized", megabytes=0).id)
    assert broken.failure is not None and "ZeroDivisionError" in broken.failure.text


def test_a_job_that_waits_is_dismissed_at_once(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    running = [site.mark(str(n), until=str(site.folder / "go")) for n in range(site.parallel)]
    for job in running:
        site.in_state(job.id, JobState.RUNNING)
    waiting = site.mark("waiting")
    site.intake.dismiss(waiting.id, "the client")
    assert site.ended(waiting.id, 10).state is JobState.DISMISSED
    (site.folder / "go").touch()
    for job in running:
        assert site.ended(job.id).state is JobState.SUCCEEDED
    assert "waiting" not in site.runs()


def test_hold_and_release_before_submission(sqlite_site: Site) -> None:
    site = sqlite_site
    job = site.mark("one")
    site.store.request_hold(job.id)
    site.start_worker()
    site.in_state(job.id, JobState.HELD)
    assert site.runs() == set()
    site.store.request_release(job.id)
    site.bell.ring_worker({job.id})
    assert site.ended(job.id).state is JobState.SUCCEEDED


def test_suspend_and_resume_while_it_runs(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    site.in_state(job.id, JobState.RUNNING)
    site.store.request_suspend(job.id)
    site.bell.ring_worker({job.id})
    site.in_state(job.id, JobState.SUSPENDED)
    go.touch()
    site.store.request_resume(job.id)
    site.bell.ring_worker({job.id})
    assert site.ended(job.id).state is JobState.SUCCEEDED


def test_a_torn_or_missing_status_of_a_job_that_ended_is_a_failure(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker(Failpoint.WATCH_BEFORE_FINAL)
    job = site.mark("one")
    site.workers[0].wait(60)
    status = site.job_folder(job).attempt(1).status
    status.write_bytes(status.read_bytes()[:100])
    site.start_worker()
    ended = site.ended(job.id)
    assert ended.state is JobState.FAILED
    assert ended.failure is not None and ended.failure.cause == "lost"
    assert "cannot be read" in ended.failure.detail


def test_a_poll_sees_the_launchers_progress_and_the_row_follows(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    polled = Progress(site.store, site.settings.storage.root, site.bell)
    go = site.folder / "go"
    job = site.mark("one", until=str(go))
    seen = until(lambda: (now := polled.get(job.id)) and now.percent == 50 and now, "the progress is seen")
    assert (seen.state, seen.message) == (JobState.RUNNING, "marked")
    until(
        lambda: polled.get(job.id) and site.job(job.id).percent == 50, "the row follows a client that goes on polling"
    )
    go.touch()
    assert until(lambda: (now := polled.get(job.id)) and now.final and now, "it ends").percent == 100


def test_a_locked_database_delays_everything_and_loses_nothing(sqlite_site: Site) -> None:
    site = sqlite_site
    site.start_worker()
    go = site.folder / "go"
    before = site.mark("before", until=str(go))
    site.in_state(before.id, JobState.RUNNING)
    database = sqlite3.connect(site.folder / "jobs.sqlite", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    go.touch()
    unlock = threading.Timer(4.0, lambda: None)
    unlock.start()
    until(lambda: site.job_folder(before).attempt(1).exit.exists(), "the job ends meanwhile")
    unlock.join()
    database.execute("ROLLBACK")
    database.close()
    assert site.ended(before.id).state is JobState.SUCCEEDED
    assert site.ended(site.mark("after").id).state is JobState.SUCCEEDED


def test_a_database_that_stays_locked_refuses_new_jobs_in_a_sentence(sqlite_site: Site) -> None:
    site = sqlite_site
    impatient = Store(site.url, busy_seconds=0.5)
    intake = Intake(site.settings, impatient, site.catalogue, site.bell)
    with sqlite3.connect(site.folder / "jobs.sqlite", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        request = ExecuteRequest("mark", "test", {"folder": (LiteralValue("/"),), "name": (LiteralValue("x"),)})
        with pytest.raises(ServerBusy, match="try later"):
            intake.execute(request)
        database.execute("ROLLBACK")
    impatient.close()
    assert site.store.list_jobs() == []
    assert not list((site.settings.storage.root / "jobs").glob("*/*"))


def test_killed_web_processes_take_no_job_along(sqlite_site: Site) -> None:
    """The whole server, supervised: web processes die while a job runs, and somebody answers again."""
    site = sqlite_site
    address = site.start_web("--no-worker")
    site.start_worker()
    go = site.folder / "go"
    with httpx.Client(base_url=address) as client:
        location = site.execute_over_http(client, "mark", folder=site.marks, name="one", until=go)
    (job,) = site.store.list_jobs()
    site.in_state(job.id, JobState.RUNNING)
    for pid in site.descendants(site.servers[0].pid):
        os.kill(pid, signal.SIGKILL)
    go.touch()
    assert site.ended(job.id).state is JobState.SUCCEEDED
    until(lambda: "ProcessSucceeded" in _text(location), "the status is served again")


def _text(address: str) -> str:
    try:
        return httpx.get(address, timeout=5).text
    except httpx.TransportError:
        return ""


def test_a_full_disk_in_the_job_folder_is_told_as_such(tmp_path: Path) -> None:
    """The whole storage on a small file system of its own: the process fills it."""
    require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
    small = tmp_path / "data"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(small)], check=True)
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    try:
        site.start_worker()
        ended = site.ended(site.execute("fill", megabytes=50).id)
        assert ended.state is JobState.FAILED
        assert ended.failure is not None and ended.failure.cause == "disk full", ended.failure
    finally:
        site.close()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_sync_calls_wait_for_their_job_and_take_little_longer_than_it(site: Site) -> None:
    site.start_worker()
    job = site.mark("one", mode=Mode.SYNC)
    assert site.intake.wait(job.id, 30).state is JobState.SUCCEEDED


def test_a_sync_call_past_its_time_limit_is_answered_with_504_and_leaves_nothing_running(tmp_path: Path) -> None:
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}", sync_seconds=2)
    try:
        address = site.start_web()
        site.start_worker()
        inputs = f"folder={site.marks};name=one;until={tmp_path / 'never'}"
        asked = {"service": "WPS", "version": "1.0.0", "request": "Execute", "identifier": "mark", "DataInputs": inputs}
        answer = httpx.get(f"{address}/wps", params=asked, timeout=60)
        assert answer.status_code == 504, answer.text
        assert "Run it asynchronously" in answer.text
        (job,) = site.store.list_jobs()
        pids = site.launcher_pids(site.job(job.id)) if site.runs() else []
        ended = site.ended(job.id)
        assert ended.state is JobState.DISMISSED
        assert ended.message == "dismissed by the time limit of synchronous calls"
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes are gone")
    finally:
        site.close()


def _has_files(folder: Path, count: int) -> bool:
    return len(list(folder.iterdir())) >= count


def test_the_parallel_limit_holds_while_workers_die(tmp_path: Path) -> None:
    """Counted by the jobs themselves, while they run."""
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}", parallel=2)
    seen = tmp_path / "seen"
    for folder in (seen, tmp_path / "now"):
        folder.mkdir()
    try:
        site.start_worker()
        jobs = [site.execute("together", folder=str(tmp_path), name=f"job-{n}", seconds=0.5) for n in range(8)]
        for enough in (1, 3):
            until(partial(_has_files, seen, enough), "some jobs have run")
            site.kill_worker()
            site.start_worker()
        for job in jobs:
            assert site.ended(job.id).state is JobState.SUCCEEDED
    finally:
        site.close()
    counts = {int(path.name.partition("-")[0]) for path in seen.iterdir()}
    assert len(list(seen.iterdir())) == 8
    assert max(counts) == 2
