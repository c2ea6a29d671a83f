"""The fault matrix: whatever happens to a job, its end is told truly, with the reason, and it ran once.

A module has its batch system in the fixture ``system``, and the matrix in a subclass of ``FaultMatrix``. The rows that
disturb nobody are submitted together, in the fixture ``ends``. The others each put right what they broke. How long it
took to know is printed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from joblauncher.failpoints import Failpoint
from tests.clusters.batch_system import BatchSystem, Refusal
from tests.clusters.hpc import kill_without_notice, process_state, token, told
from tests.clusters.site import Site, until
from tests.services import require
from wps_hpc.cli.check import check_cluster
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.jobs.job import Job, JobState

#: What another way to a batch system that is tested already has to show.
MAIN_ROWS = frozenset(
    {
        "test_however_a_job_ends_it_is_told_truly",
        "test_cancelled_by_an_administrator_while_it_runs",
        "test_dismissed",
        "test_held_and_released",
        "test_suspended_and_resumed",
        "test_what_is_refused_for_good",
        "test_check_sends_its_probe",
        "test_a_job_over_its_time_limit",
        "test_a_master_that_is_down_at_submission_while_jobs_wait_and_run_and_at_their_end",
    }
)
#: One that takes a minute or two, and one that would disturb it if it came before. Slurm's controller alone sends the
#: warnings: where it was away, there may be none.
LIMIT_ROW = frozenset({"test_a_job_over_its_time_limit"})
OUTAGE_ROW = frozenset({"test_a_master_that_is_down_at_submission_while_jobs_wait_and_run_and_at_their_end"})
WORKER_POINTS = (
    Failpoint.PACKED,
    Failpoint.SUBMIT_BEFORE_COMMAND,
    Failpoint.SUBMIT_AFTER_COMMAND,
    Failpoint.SUBMIT_RECORDED,
    Failpoint.WATCH_BEFORE_FINAL,
    Failpoint.WATCH_AFTER_FINAL,
)


@dataclass(frozen=True)
class Ends:
    """A site to which all rows of its system were submitted together, and their jobs."""

    system: BatchSystem
    site: Site
    jobs: dict[str, Job]

    def check(self, name: str) -> None:
        """Wait for the job of a row, and see what was told of it."""
        row, job = self.system.rows[name], self.jobs[name]
        told_as = told(self.site, job, job.created, 200)
        ended = self.site.job(job.id)
        assert told_as == (row.state.value, row.cause), ended
        assert row.text in ended.message
        assert len(self.system.accounted(token(self.site, ended))) <= 1
        if name == "succeeds":
            assert self.site.runs() == {"one"}
        if "cleans up" in name:
            assert (self.site.folder / "end.warned").exists() and (self.site.folder / "end.cleaned").exists()


def submit_rows(system: BatchSystem, site: Site) -> Ends:
    """All rows of a system, submitted together."""
    places = {"mark": {"folder": str(site.marks)}, "end": {"started": str(site.folder / "end")}}
    inputs = {name: {**row.inputs, **places[row.process]} for name, row in system.rows.items()}
    return Ends(system, site, {name: site.execute(row.process, **inputs[name]) for name, row in system.rows.items()})


def endless(site: Site) -> Job:
    """A job that runs until it is ended."""
    return site.mark("one", until=str(site.folder / "never"))


def running(site: Site, job: Job) -> Job:
    """The job once its process has begun, and the batch system says so."""
    until(site.runs, "the process has begun")
    return site.in_state(job.id, JobState.RUNNING)


def dismiss(system: BatchSystem, site: Site, job: Job) -> None:
    """Dismiss a job, and see that the batch system lets go of it."""
    since, name = time.time(), token(site, job)
    site.intake.dismiss(job.id, "the client")
    assert told(site, job, since)[0] == "dismissed"
    let_go(system, site, job, name)


def let_go(system: BatchSystem, site: Site, job: Job, name: str) -> None:
    """See that the batch system lets go of a job, submitted as ``name``."""
    until(lambda: site.job(job.id).scheduler_gone, "the batch system has let go of it")
    assert not system.still_has(name)


def outcome_unknown(site: Site) -> None:
    """Wait until a submission's outcome is unknown."""
    log = site.folder / "worker.log"
    until(lambda: "has no known outcome" in log.read_text(), "the submission's outcome is unknown")


class FaultMatrix:
    """The rows; ``of`` says what is expected of the system in them. A subclass may do without some: ``only``, or
    all but ``without``."""

    of: ClassVar[type[BatchSystem]]

    def __init_subclass__(cls, only: Collection[str] = (), without: Collection[str] = ()) -> None:
        rows = {name for name in dir(FaultMatrix) if name.startswith("test_")}
        assert rows >= {*only, *without}, "there are such rows"
        for name in rows - set(only or rows) | set(without):
            setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """The system's own rows and refusals."""
        limited = {name for name in self.of.rows if "time limit" in name}
        late = metafunc.function.__name__ == "test_a_job_over_its_time_limit"
        if "row" in metafunc.fixturenames:
            metafunc.parametrize("row", [name for name in self.of.rows if (name in limited) == late])
        if "refusal" in metafunc.fixturenames:
            metafunc.parametrize("refusal", self.of.refusals.values(), ids=self.of.refusals)

    def test_however_a_job_ends_it_is_told_truly(self, ends: Ends, row: str) -> None:
        how = "run the tests as root where the memory controller of cgroup v1 is mounted"
        require("memory enforcement", "memory" not in row or ends.system.memory_is_enforced, how)
        ends.check(row)

    def test_cancelled_by_an_administrator_while_it_runs(self, system: BatchSystem, site: Site) -> None:
        """At the scheduler and behind the server's back: failed, not dismissed."""
        job = running(site, endless(site))
        since = time.time()
        system.cancel(site, job)
        assert told(site, job, since) == ("failed", "cancelled")

    def test_cancelled_by_an_administrator_while_it_waits(self, system: BatchSystem, site: Site) -> None:
        cause, detail = system.cancelled_waiting
        with system.keep_waiting():
            job = endless(site)
            site.in_state(job.id, JobState.QUEUED)
            since = time.time()
            system.cancel(site, job)
            assert told(site, job, since) == ("failed", cause)
            failure = site.job(job.id).failure
            assert failure is not None and detail in failure.detail
        assert site.runs() == set()

    @pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
    def test_dismissed(self, system: BatchSystem, site: Site, begun: bool) -> None:
        job = endless(site)
        if not begun:
            until(lambda: site.job(job.id).submission_id, "it is being submitted")
        else:
            site.in_state(job.id, JobState.RUNNING)
        dismiss(system, site, job)

    def test_dismissed_while_it_is_held(self, system: BatchSystem, site: Site) -> None:
        with system.keep_waiting():
            job = endless(site)
            site.in_state(job.id, JobState.QUEUED)
            site.store.request_hold(job.id)
            site.in_state(job.id, JobState.HELD)
            dismiss(system, site, job)

    def test_dismissed_while_it_is_suspended(self, system: BatchSystem, site: Site) -> None:
        job = endless(site)
        site.in_state(job.id, JobState.RUNNING)
        site.store.request_suspend(job.id)
        site.in_state(job.id, JobState.SUSPENDED)
        dismiss(system, site, job)

    def test_held_and_released(self, system: BatchSystem, site: Site) -> None:
        """By the client, and by an administrator."""
        with system.keep_waiting():
            job = site.mark("one")
            site.in_state(job.id, JobState.QUEUED)
            until(lambda: re.search(system.waits_because, site.job(job.id).message), "the reason is told")
            site.store.request_hold(job.id)
            assert re.search(system.held_by_client, site.in_state(job.id, JobState.HELD).message)
            site.store.request_release(job.id)
            site.in_state(job.id, JobState.QUEUED)
            system.hold(site, job)
            assert re.search(system.held_by_administrator, site.in_state(job.id, JobState.HELD).message)
            system.release(site, job)
        assert site.ended(job.id).state is JobState.SUCCEEDED
        assert site.runs() == {"one"}

    def test_suspended_and_resumed(self, site: Site) -> None:
        """Batch systems say so before the node has done so; and what they stop is the script's process group."""
        go = site.folder / "go"
        job = running(site, site.mark("one", until=str(go)))
        site.store.request_suspend(job.id)
        site.in_state(job.id, JobState.SUSPENDED)
        launcher = site.launcher_pids(site.job(job.id))[0]
        _guard, *processes = site.descendants(launcher)
        stopped = (launcher, *processes)
        until(lambda: {process_state(pid) for pid in stopped} == {"T"}, "launcher and process are stopped")
        site.store.request_resume(job.id)
        site.in_state(job.id, JobState.RUNNING)
        go.touch()
        assert site.ended(job.id).state is JobState.SUCCEEDED
        assert site.runs() == {"one"}

    def test_killed_without_notice(self, system: BatchSystem, site: Site) -> None:
        job = running(site, endless(site))
        since = time.time()
        kill_without_notice(site, job)
        assert told(site, job, since) == ("failed", system.killed)

    def test_what_is_refused_for_good(self, system: BatchSystem, refusal: Refusal) -> None:
        """Neutral words for the client, the batch system's own for the operator; no second try."""
        site = system.make_site(queue=refusal.queue)
        try:
            site.start_worker()
            job = site.mark("one")
            assert told(site, job, job.created) == ("failed", "could not be submitted")
            failure = site.job(job.id).failure
            assert failure is not None and refusal.words in failure.detail
            assert not [word for word in (refusal.words, *system.operators_words) if word in failure.text]
        finally:
            system.leave(site)

    def test_a_submit_command_that_submits_and_then_fails(self, system: BatchSystem, tmp_path: Path) -> None:
        """A wrapper of the site's: the id is not believed, the name is looked up."""
        body = '{submit} "$@"\necho "cannot write the log" >&2\nexit 1'
        site = system.make_site(programs=system.wrap_submit(tmp_path, body))
        try:
            site.start_worker()
            ended = site.ended(site.mark("one").id)
            assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
            assert site.runs() == {"one"}
        finally:
            system.leave(site)

    @pytest.mark.parametrize("point", WORKER_POINTS, ids=lambda point: point.value)
    def test_a_worker_that_dies_neither_loses_nor_doubles_the_job(self, system: BatchSystem, point: Failpoint) -> None:
        """Not submitted: the name is unknown to queue and accounting. Submitted: it is found there, also when the job
        has run meanwhile."""
        site = system.make_site(command_seconds=3.0)
        try:
            first = site.start_worker(point)
            job = site.mark("one")
            assert first.wait(60) == -signal.SIGKILL
            if point in (Failpoint.SUBMIT_AFTER_COMMAND, Failpoint.SUBMIT_RECORDED):
                until(lambda: system.accounted(token(site, job)), "accounting knows of it")
            site.start_worker()
            ended = site.ended(job.id)
            assert ended.state is JobState.SUCCEEDED, ended
            assert site.runs() == {"one"}
            assert ended.submission_number == (2 if point is Failpoint.SUBMIT_BEFORE_COMMAND else 1)
        finally:
            system.leave(site)

    def test_two_workers_started_at_once_run_every_job_once(self, system: BatchSystem) -> None:
        site = system.make_site()
        try:
            jobs = [site.mark(f"job-{number}") for number in range(8)]
            site.start_worker()
            site.start_worker()
            for job in jobs:
                ended = site.ended(job.id)
                assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1), ended
                assert len(system.accounted(token(site, job))) <= 1
            assert site.runs() == {f"job-{number}" for number in range(8)}
        finally:
            system.leave(site)

    def test_a_shared_folder_that_is_full(self, system: BatchSystem) -> None:
        """Shared, or sent to: where the job runs."""
        require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
        site = system.make_site()
        root = site.root_there()
        root.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(root)], check=True)
        try:
            site.start_worker()
            full = site.execute("fill", megabytes=20)
            assert told(site, full, full.created) == ("failed", "disk full")
            # Where it was sent, it goes by itself.
            shutil.rmtree(site.folder_there(full).path, ignore_errors=True)
            assert site.ended(site.mark("one").id).state is JobState.SUCCEEDED, "there is room again"
        finally:
            system.leave(site)

    def test_check_sends_its_probe(self, system: BatchSystem) -> None:
        site = system.make_site()
        try:
            cluster = build_clusters(site.settings)["hpc"]
            findings = list(check_cluster(site.settings, cluster, 60))
            cluster.close()
            assert [finding.level for finding in findings] in system.probed, findings
        finally:
            system.leave(site)

    def test_a_job_over_its_time_limit(self, ends: Ends, row: str) -> None:
        """Here, because it takes its time: meanwhile the rows above have run, and the ones below would disturb it."""
        ends.check(row)

    def test_a_master_that_is_down_at_submission_while_jobs_wait_and_run_and_at_their_end(
        self, system: BatchSystem, site: Site
    ) -> None:
        """Nothing is concluded from the outage but that it is one, and nothing is lost."""
        go = site.folder / "go"
        with system.keep_waiting():
            waiting = site.mark("waiting")
            site.in_state(waiting.id, JobState.QUEUED)
            site.store.request_hold(waiting.id)
            site.in_state(waiting.id, JobState.HELD)
        running = site.mark("running", until=str(go))
        ends_unseen = site.mark("unseen", until=str(site.folder / "go too"))
        for job in (running, ends_unseen):
            site.in_state(job.id, JobState.RUNNING)
        with system.without_master():
            until(lambda: site.job(running.id).stale_since, "it is told that the scheduler does not answer")
            (site.folder / "go too").touch()
            late = site.mark("late")
            until(lambda: system.waits_for_master(site.job(late.id)), "it waits")
            assert site.job(running.id).state is JobState.RUNNING
            assert site.job(waiting.id).state is JobState.HELD
        go.touch()
        site.store.request_release(waiting.id)
        for job in (running, ends_unseen, late, waiting):
            assert site.ended(job.id, 120).state is JobState.SUCCEEDED
        assert site.runs() == {"running", "unseen", "late", "waiting"}
        assert len(system.accounted(token(site, late))) <= 1

    def test_a_master_that_hangs_at_submission(self, system: BatchSystem) -> None:
        """It may have created the job all the same, which is looked up by its name, and is never doubled."""
        site = system.make_site(command_seconds=system.hung_seconds)
        try:
            site.start_worker()
            with system.frozen_master():
                job = site.mark("one")
                outcome_unknown(site)
                assert site.job(job.id).state is JobState.SUBMITTING
            ended = site.ended(job.id)
            assert ended.state is JobState.SUCCEEDED
            assert ended.submission_number in system.hung_submissions
            assert site.runs() == {"one"}
        finally:
            system.leave(site)

    def test_dismissed_while_the_submission_hangs(self, system: BatchSystem) -> None:
        """Nobody knows whether there is such a job; once there is one, it is cancelled."""
        site = system.make_site(command_seconds=system.hung_seconds)
        try:
            site.start_worker()
            with system.frozen_master():
                job = endless(site)
                name = token(site, site.in_state(job.id, JobState.SUBMITTING))
                site.intake.dismiss(job.id, "the client")
                outcome_unknown(site)
            ended = site.ended(job.id)
            assert (ended.state, ended.submission_number) == (JobState.DISMISSED, 1)
            let_go(system, site, job, name)
        finally:
            system.leave(site)
