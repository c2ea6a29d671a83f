"""Job folders that travel: sent before a submission, fetched while jobs run, whole or not at all, and then removed."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.formats import status
from joblauncher.formats.records import ExitRecord, Failure, dump
from joblauncher.formats.values import FileValue
from tests.clusters.far_side import FarRounds, FarSide
from tests.clusters.scripted import DONE, QUEUED
from tests.clusters.site import Site
from tests.folders import wait_for
from wps_hpc.cli import check
from wps_hpc.clusters.cluster import Cluster, Inhabited
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.transports.base import NoSuchFile, Stopped, TransportError
from wps_hpc.config import Settings
from wps_hpc.jobs import mirror
from wps_hpc.jobs.beneath import Untrusted
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import Reference
from wps_hpc.jobs.sweep import Swept
from wps_hpc.jobs.trusted import open_output, read_attempt, read_result
from wps_hpc.probe import ProbeFailed, send_probe

TEXT = bytes(range(256)) * 40


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[FarRounds]:
    """A site without a worker, and the rounds of one whose cluster sees another file system."""
    site = Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}", parallel=50)
    made = FarRounds(site, far=FarSide(tmp_path / "far"))
    yield made
    made.end_transfers()
    made.close()
    site.close()


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come in pieces of 1000 bytes."""
    monkeypatch.setattr(mirror, "PIECE_BYTES", 1000)


def until(condition: Callable[[], Any], step: Callable[[], Any]) -> None:
    """Repeat a step until then."""
    deadline = time.monotonic() + 30
    step()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
        step()


def watched(rounds: FarRounds, job: Job, state: JobState) -> Job:
    """The job once the watcher has concluded that."""
    until(lambda: rounds.site.job(job.id).state is state, rounds.watch)
    return rounds.site.job(job.id)


def long_time(rounds: FarRounds) -> None:
    """Longer than any grace, with rounds of the watcher in it."""
    for _ in range(3):
        rounds.pass_time(600)
        rounds.watch()


def output(rounds: FarRounds, job: Job, name: str) -> bytes:
    """The content of an output as a client gets it."""
    job, folder = rounds.site.job(job.id), rounds.site.job_folder(job)
    record, _ = read_result(folder, job.attempt)
    (value,) = record.outputs[name]
    assert isinstance(value, FileValue)
    with os.fdopen(open_output(folder, job.attempt, value), "rb") as stream:
        return stream.read()


def names(folder: Path) -> set[str]:
    """What lies in a folder, by paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


# --- the end of the worker --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_last_round_begins_nothing_and_fails_at_nothing(
    rounds: FarRounds, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """A worker is stopped while its loops are in the middle of their rounds."""
    one, two = rounds.submit(2)
    rounds.watch()
    rounds.wrote_files(one, answer=b"42")
    rounds.claimed(two)
    rounds.site.store.request_cancel(two.id, "the operator")
    waiting = rounds.site.mark("three")
    assert rounds.watcher.mirror is not None and rounds.dispatcher.sender is not None
    getattr(rounds.watcher.mirror, how)()
    getattr(rounds.dispatcher.sender, how)()
    rounds.batch.say(DONE)
    caplog.clear()
    with caplog.at_level("WARNING"):
        for _ in range(2):
            rounds.dispatcher.round()
            long_time(rounds)
    assert [record.message for record in caplog.records if record.exc_info or "files" in record.message] == []
    assert rounds.site.job(waiting.id).state is JobState.ACCEPTED
    assert (rounds.site.job(one.id).state, rounds.site.job(one.id).stale_since) == (JobState.RUNNING, None)
    rounds.start()
    watched(rounds, one, JobState.SUCCEEDED)
    rounds.dispatch_until(lambda: rounds.batch.count("submit") == 3)


def test_a_folder_that_was_being_sent_at_the_end_is_no_trouble(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()

    def sending(_: Depot, folder: object, files: object, stop: Callable[[], bool]) -> None:
        began.set()
        wait_for(stop)
        raise Stopped

    monkeypatch.setattr(Depot, "send", sending)
    job = rounds.site.mark("one")
    rounds.dispatcher.round()
    assert began.wait(30) and rounds.dispatcher.sender is not None
    future = rounds.dispatcher.sender._under_way[job.id].future
    rounds.dispatcher.sender.stop()
    assert isinstance(future.exception(30), Stopped)
    rounds.dispatcher.round()
    assert (rounds.site.job(job.id).reason, rounds.batch.count("submit")) == (None, 0)


# --- before the submission -------------------------------------------------------------------------------------------


def test_the_folder_and_the_launcher_are_there_before_the_job_is_submitted(rounds: FarRounds) -> None:
    there: list[set[str]] = []
    submit = rounds.batch._submit

    def submitting(token: str) -> Any:
        there.append(names(rounds.left_in(job).path))
        return submit(token)

    rounds.batch._submit = submitting  # type: ignore[method-assign]
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: there)
    assert {"manifest.json", "payload.dill", "request.json"} <= there[0]
    here = rounds.site.job_folder(job)
    assert (rounds.left_in(job).manifest).read_bytes() == here.manifest.read_bytes()
    launcher = rounds.far.root / "launcher" / "1-abc" / "joblauncher.pyz"
    assert launcher.read_bytes() == rounds.launcher().read_bytes()
    script = here.script.read_text()
    assert str(rounds.left_in(job).path) in script and str(launcher) in script
    assert str(here.path) not in script


def test_a_launcher_that_is_there_is_not_sent_again_not_even_by_the_next_worker(rounds: FarRounds) -> None:
    rounds.submit()
    rounds.start()
    rounds.submit()
    assert sum(name.endswith("joblauncher.pyz") for name in rounds.far.sent) == 1


def test_a_launcher_that_is_damaged_there_is_sent_again(rounds: FarRounds) -> None:
    rounds.submit()
    (rounds.far.root / "launcher" / "1-abc" / "joblauncher.pyz").write_bytes(b"torn")
    rounds.start()
    rounds.submit()
    assert (rounds.far.root / "launcher" / "1-abc" / "joblauncher.pyz").read_bytes() == rounds.launcher().read_bytes()


def test_after_a_cut_only_what_is_missing_is_sent(rounds: FarRounds) -> None:
    rounds.submit()  # the launcher is there
    job = rounds.site.mark("two")
    rounds.far.sent.clear()
    folder = rounds.site.job_folder(job)
    rounds.dispatcher.packer.pack(job, rounds.dispatcher.packer.request(job), rounds.cluster)
    rounds.far.cut_after = folder.payload.stat().st_size
    said = lambda: rounds.site.job(job.id).message  # noqa: E731
    rounds.dispatch_until(lambda: said().startswith("Its files cannot be sent"))
    assert rounds.batch.count("submit") == 1
    rounds.pass_time(10)
    rounds.dispatch_until(lambda: rounds.batch.count("submit") == 2)
    assert len(rounds.far.sent) == len(set(rounds.far.sent)), "each file once"
    assert rounds.site.job(job.id).state is JobState.QUEUED


def test_a_new_worker_takes_up_what_a_former_one_was_sending(rounds: FarRounds) -> None:
    rounds.far.cut_after = 0
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.far.cut_after is None)
    rounds.start()
    rounds.dispatch_until(lambda: rounds.batch.count("submit"))
    assert rounds.site.job(job.id).submission_number == 1


def test_a_full_disk_on_the_cluster_keeps_the_job_waiting(rounds: FarRounds) -> None:
    rounds.far.full = True
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.site.job(job.id).message.startswith("Its files cannot be sent"))
    waiting = rounds.site.job(job.id)
    assert (waiting.state, waiting.submission_id) == (JobState.ACCEPTED, None)
    rounds.far.full = False
    rounds.pass_time(10)
    rounds.dispatch_until(lambda: rounds.batch.count("submit"))
    assert rounds.site.job(job.id).state is JobState.QUEUED


def test_a_job_that_is_dismissed_while_it_is_sent_is_never_submitted_and_leaves_nothing(rounds: FarRounds) -> None:
    rounds.submit()  # the launcher is there
    rounds.far.full = True
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.site.job(job.id).message.startswith("Its files cannot be sent"))
    assert rounds.left_in(job).path.is_dir()
    rounds.site.store.request_cancel(job.id, "a test")
    rounds.desk.round()
    rounds.far.full = False
    rounds.pass_time(10)
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.DISMISSED
    assert rounds.batch.count("submit") == 1
    assert rounds.sweeper.round() == 1
    assert not rounds.left_in(job).path.exists()


def shared_input(rounds: FarRounds) -> tuple[Path, Job]:
    """A job with a ``file:`` input, staged."""
    data = rounds.site.folder / "numbers.csv"
    data.write_text("1,2,3")
    job = rounds.site.execute("count_characters", text=Reference(data.as_uri(), "text/plain"))
    until(lambda: rounds.site.job(job.id).staged, rounds.desk.round)
    return data, rounds.site.job(job.id)


def test_an_input_that_only_the_server_sees_travels_with_the_job(rounds: FarRounds) -> None:
    _, job = shared_input(rounds)
    rounds.dispatch_until(lambda: rounds.batch.count("submit"))
    sent = rounds.left_in(job)
    assert (sent.inputs / "shared-1.csv").read_text() == "1,2,3"
    assert '"path":"inputs/shared-1.csv"' in sent.request.read_text()
    assert '"shared":true' not in sent.request.read_text()


def test_an_input_that_has_changed_since_it_was_accepted_fails_the_job(rounds: FarRounds) -> None:
    data, job = shared_input(rounds)
    data.write_text("somebody else's numbers")
    rounds.dispatcher.round()
    failed = rounds.site.job(job.id)
    assert failed.failure is not None
    assert (failed.state, failed.failure.cause) == (JobState.FAILED, "input not available")


def test_a_link_that_stands_in_for_an_accepted_input_is_not_followed(rounds: FarRounds) -> None:
    data, job = shared_input(rounds)
    secret = rounds.site.folder / "secret"
    secret.write_text("9,9,9")
    data.unlink()
    data.symlink_to(secret)
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.FAILED


def test_the_servers_own_folder_is_never_taken_for_the_clusters(rounds: FarRounds, tmp_path: Path) -> None:
    """It would remove what it has fetched."""
    depot = replace(rounds.cluster.depot, root=str(rounds.site.settings.storage.root))  # type: ignore[type-var]
    with pytest.raises(TransportError, match=r"server's own storage\.root"):
        depot.prepare()  # type: ignore[union-attr]


def test_a_lost_answer_is_settled_by_the_claim_on_the_cluster(rounds: FarRounds) -> None:
    rounds.batch.lost_answers = [False]
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.site.job(job.id).state is JobState.SUBMITTING)
    rounds.claimed(job)
    rounds.pass_time(60)
    rounds.far.away = True
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.SUBMITTING
    rounds.far.away = False
    rounds.dispatcher.round()
    assert rounds.site.job(job.id).state is JobState.QUEUED
    assert rounds.batch.count("submit") == 1


def test_a_lost_answer_of_a_job_whose_folder_was_removed_ends_as_lost(rounds: FarRounds) -> None:
    """It may have run, and have removed the folder itself: nothing runs twice, and nobody waits for ever."""
    rounds.batch.lost_answers = [False]
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.site.job(job.id).state is JobState.SUBMITTING)
    shutil.rmtree(rounds.left_in(job).path)
    rounds.pass_time(60)
    rounds.dispatcher.round()
    long_time(rounds)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "lost"
    assert rounds.batch.count("submit") == 1


# --- while jobs run --------------------------------------------------------------------------------------------------


def test_one_listing_serves_all_jobs_and_only_what_changed_is_read(rounds: FarRounds) -> None:
    jobs = rounds.submit(5)
    for job in jobs:
        rounds.claimed(job)
        rounds.wrote_progress(job, 10)
    rounds.watch()
    assert {rounds.site.job(job.id).percent for job in jobs} == {10}
    rounds.wrote_progress(jobs[2], 60)
    rounds.far.counted.clear()
    before = rounds.far.carried
    rounds.watch()
    assert rounds.site.job(jobs[2].id).percent == 60
    assert (rounds.far.counted["list_folders"], rounds.far.counted["read_many"]) == (1, 1)
    assert rounds.far.carried - before == rounds.left_in(jobs[2]).attempt(1).status.stat().st_size


def test_what_nobody_looks_at_is_not_listed(rounds: FarRounds) -> None:
    """A job that leaves a million files beside its own must not slow the others down."""
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    for number in range(100):
        (rounds.left_in(job).attempt(1).path / f"junk-{number}").touch()
    assert rounds.cluster.depot is not None
    listed = rounds.cluster.depot.list_jobs([job.id])[job.id]
    assert listed is not None
    assert {Path(entry.path).name for entry in listed} == {"claim", "result.json", "status.xml", "outputs"}


def test_nothing_is_listed_for_jobs_that_wait(rounds: FarRounds) -> None:
    rounds.submit(2)
    rounds.batch.say(QUEUED)
    rounds.far.counted.clear()
    rounds.watch()
    assert rounds.far.counted["list_folders"] == 0


@pytest.mark.parametrize("size", [500, 100_000])
def test_a_log_is_followed_by_what_was_added_to_it(rounds: FarRounds, size: int) -> None:
    (job,) = rounds.submit()
    rounds.said(job, "a" * size)
    rounds.watch()
    rounds.said(job, "a" * size + "b" * 77)
    before = rounds.far.carried
    rounds.watch()
    assert rounds.site.job_folder(job).attempt(1).stderr.read_text() == "a" * size + "b" * 77
    assert rounds.far.carried - before == (77 if size > 50_000 else size + 77)


def test_a_torn_status_is_read_again_when_it_is_whole(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    paths = rounds.left_in(job).attempt(1)
    rounds.wrote_progress(job, 30)
    whole = paths.status.read_bytes()
    paths.status.write_bytes(whole[: len(whole) // 2])
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.RUNNING
    paths.status.write_bytes(whole)
    rounds.watch()
    assert rounds.site.job(job.id).percent == 30


def test_a_status_beyond_the_limit_is_not_taken_for_one(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    paths = rounds.left_in(job).attempt(1)
    paths.path.mkdir(parents=True)
    paths.status.write_bytes(b" " * (3 * status.SIZE_LIMIT))
    rounds.watch()
    assert rounds.site.job_folder(job).attempt(1).status.stat().st_size == status.SIZE_LIMIT + 1
    rounds.batch.say(DONE)
    rounds.pass_time(60)
    assert watched(rounds, job, JobState.FAILED).failure is not None


def test_links_in_the_place_of_an_attempts_files_are_not_followed(rounds: FarRounds, tmp_path: Path) -> None:
    (job,) = rounds.submit()
    (secret := tmp_path / "secret").write_text("a secret")
    paths = rounds.left_in(job).attempt(1)
    paths.path.mkdir(parents=True)
    for path in (paths.status, paths.stdout, paths.exit, rounds.left_in(job).batch_log):
        path.symlink_to(secret)
    (rounds.left_in(job).attempts / "2").symlink_to(paths.path)
    rounds.watch()
    assert not [path for path in names(rounds.site.job_folder(job).path) if "attempts/" in path or "batch" in path]


def test_what_a_job_writes_after_its_end_changes_nothing(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.watch()
    before = rounds.site.job_folder(job).attempt(1).status.read_bytes()
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED
    rounds.start()
    rounds.wrote_failure(job, Failure("process error", "no, it failed"))
    rounds.watch()
    rounds.batch.say(DONE)
    rounds.watch()
    assert rounds.site.job_folder(job).attempt(1).status.read_bytes() == before


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_are_here_when_the_job_is_told_succeeded(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=TEXT, tiles__one=b"", tiles__two=b"2")
    rounds.batch.say(DONE)
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED
    found = [output(rounds, job, name) for name in ("answer", "tiles__one", "tiles__two")]
    assert found == [TEXT, b"", b"2"]
    assert not list(rounds.site.job_folder(job).staging.iterdir())


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("restart", [False, True])
def test_a_download_that_was_cut_goes_on_where_it_was(rounds: FarRounds, restart: bool) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=TEXT)
    rounds.batch.say(DONE)
    rounds.watch()  # so that the rest is only the output
    (other,) = rounds.submit()
    rounds.wrote_files(other, answer=TEXT)
    rounds.batch.say(DONE)
    small = sum(path.stat().st_size for path in rounds.left_in(other).attempt(1).path.iterdir() if path.is_file())
    rounds.far.cut_after = small + len(TEXT) // 2
    before = rounds.far.carried
    until(lambda: rounds.far.cut_after is None, rounds.watch)
    waiting = rounds.site.job(other.id)
    assert not waiting.final and waiting.stale_since is not None and "results cannot be fetched" in str(waiting.reason)
    if restart:
        rounds.start()
    assert watched(rounds, other, JobState.SUCCEEDED).stale_since is None
    assert output(rounds, other, "answer") == TEXT
    assert rounds.far.carried - before < 2 * small + len(TEXT) + 5000


def test_an_output_that_is_not_what_was_recorded_is_refused_after_some_patience(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"right")
    (rounds.left_in(job).attempt(1).outputs / "answer").write_bytes(b"wrong")
    rounds.batch.say(DONE)
    rounds.watch()
    assert not rounds.site.job(job.id).final
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "bad output"
    assert "SHA-256" in failed.failure.detail
    assert not (rounds.site.job_folder(job).attempt(1).outputs / "answer").exists()


def test_an_output_that_arrives_late_on_the_login_node_is_waited_for(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"right")
    late = rounds.left_in(job).attempt(1).outputs / "answer"
    late.rename(rounds.far.root / "not yet")
    rounds.batch.say(DONE)
    rounds.watch()
    assert "not whole" in str(rounds.site.job(job.id).reason)
    (rounds.far.root / "not yet").rename(late)
    watched(rounds, job, JobState.SUCCEEDED)
    assert output(rounds, job, "answer") == b"right"


def test_a_record_that_arrives_late_is_waited_for(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"right")
    late = rounds.left_in(job).attempt(1).result
    late.rename(rounds.far.root / "not yet")
    rounds.batch.say(DONE)
    rounds.watch()
    assert not rounds.site.job(job.id).final
    (rounds.far.root / "not yet").rename(late)
    watched(rounds, job, JobState.SUCCEEDED)


def test_results_beyond_the_limit_are_not_fetched_and_the_client_is_told(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = rounds.site.settings
    small = settings.model_copy(update={"limits": settings.limits.model_copy(update={"result_bytes": 1000})})
    assert rounds.watcher.mirror is not None
    monkeypatch.setattr(rounds.watcher.mirror, "settings", small)
    (job,) = rounds.submit()
    rounds.wrote_files(job, one=b"1" * 600, two=b"2" * 600)
    rounds.batch.say(DONE)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.code == "FileSizeExceeded"
    assert "1200 bytes" in failed.failure.text and "1000" in failed.failure.text
    assert not rounds.site.job_folder(job).attempt(1).outputs.exists()


def linked(rounds: FarRounds, job: Job, tmp_path: Path, place: str) -> None:
    """An output whose content lies outside of the job's folder, though its record is right in all else."""
    (outside := tmp_path / "outside").mkdir()
    (outside / "file").write_bytes(b"a secret")
    rounds.wrote_files(job, **{place: b"a secret"})
    outputs = rounds.left_in(job).attempt(1).outputs
    if "__" in place:
        shutil.rmtree(outputs / "folder")
        (outputs / "folder").symlink_to(outside)
    else:
        (outputs / place).unlink()
        (outputs / place).symlink_to(outside / "file")


@pytest.mark.parametrize("place", ["file", "folder__file"])
def test_an_output_behind_a_link_is_never_fetched(rounds: FarRounds, tmp_path: Path, place: str) -> None:
    (job,) = rounds.submit()
    linked(rounds, job, tmp_path, place)
    rounds.batch.say(DONE)
    rounds.watch()
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "bad output"
    with pytest.raises((Untrusted, OSError)):
        output(rounds, job, place)


@pytest.mark.parametrize(
    "paths",
    [
        ["../../../../manifest.json"],
        ["outputs/../../claim"],
        ["/etc/passwd"],
        ["outputs//x"],
        ["outputs/x", "outputs/x/y"],
        ["outputs/" + "n" * 300],
    ],
)
def test_an_output_with_a_name_that_leads_elsewhere_is_refused(rounds: FarRounds, paths: list[str]) -> None:
    (job,) = rounds.submit()
    values = {str(n): FileValue(path, "text/plain", size=1, sha256="0" * 64) for n, path in enumerate(paths)}
    rounds.wrote_outputs(job, values)
    rounds.batch.say(DONE)
    rounds.watch()
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "bad output"


def test_a_name_that_this_disk_cannot_have_fails_the_job_and_not_the_worker(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, x=b"1", y=b"2")
    # What is a folder here is a file there.
    (rounds.site.job_folder(job).attempt(1).outputs / "x").mkdir(parents=True)
    rounds.batch.say(DONE)
    rounds.watch()
    rounds.pass_time(60)
    assert watched(rounds, job, JobState.FAILED).failure is not None


def test_a_job_that_ended_while_the_connection_was_down_is_told_when_it_is_back(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.far.away = True
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    long_time(rounds)
    waiting = rounds.site.job(job.id)
    assert not waiting.final and waiting.stale_since is not None
    rounds.far.away = False
    assert watched(rounds, job, JobState.SUCCEEDED).stale_since is None


def test_a_job_that_the_scheduler_has_forgotten_is_not_lost_while_the_connection_is_down(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.far.away = True
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.words.clear()
    long_time(rounds)
    assert not rounds.site.job(job.id).final
    rounds.far.away = False
    watched(rounds, job, JobState.SUCCEEDED)


def test_a_file_system_that_is_not_mounted_says_nothing_of_any_job(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    (rounds.far.root / "jobs").rename(rounds.far.root / "away")
    long_time(rounds)
    assert not rounds.site.job(job.id).final
    (rounds.far.root / "away").rename(rounds.far.root / "jobs")
    watched(rounds, job, JobState.SUCCEEDED)


def new_depot(rounds: FarRounds) -> None:
    """The next worker, or ``wps-hpc check``, knows nothing of the tree."""
    assert rounds.cluster.depot is not None
    rounds.cluster = replace(rounds.cluster, depot=replace(rounds.cluster.depot, _ready=threading.Event()))
    rounds.start()


def lies_still(rounds: FarRounds, job: Job) -> None:
    """The tree has been away: its jobs are as they were, and end as they did once it is back."""
    assert not (rounds.far.root / "jobs").exists(), "it is not made again"
    long_time(rounds)
    assert not rounds.site.job(job.id).final
    shutil.rmtree(rounds.far.root, ignore_errors=True)
    rounds.far.root.with_name("away").rename(rounds.far.root)
    watched(rounds, job, JobState.SUCCEEDED)


def done_and_away(rounds: FarRounds) -> Job:
    """A job that has ended, in a tree that is not there now."""
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    rounds.far.root.rename(rounds.far.root.with_name("away"))
    return job


def test_no_probe_makes_a_tree_again_in_which_jobs_lie(rounds: FarRounds) -> None:
    job = done_and_away(rounds)
    new_depot(rounds)
    with pytest.raises(ProbeFailed, match="is its file system mounted"):
        send_probe(rounds.site.settings, rounds.cluster, 5.0)
    lies_still(rounds, job)


@pytest.mark.parametrize("mounted", [False, True], ids=["away", "an empty folder in its place"])
@pytest.mark.parametrize("restart", [False, True], ids=["the same worker", "the next worker"])
def test_no_new_job_makes_a_tree_again_in_which_jobs_lie(
    rounds: FarRounds, restart: bool, mounted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    job = done_and_away(rounds)
    if mounted:
        rounds.far.root.mkdir()
    if restart:
        new_depot(rounds)
    new = rounds.site.mark("new")
    rounds.dispatch_until(lambda: rounds.site.job(new.id).reason is not None)
    assert "is its file system mounted" in caplog.text
    lies_still(rounds, job)


def test_check_asks_the_database_whether_jobs_lie_there(rounds: FarRounds, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = rounds.submit()
    lie: list[bool] = []

    def build(settings: Settings, identity: str, inhabited: Inhabited) -> Mapping[str, Cluster]:
        lie.extend(inhabited("local", root) for root in (str(rounds.far.root), "/another"))
        return {}

    monkeypatch.setattr(check, "build_clusters", build)
    assert list(check.check_clusters(rounds.site.settings, 5.0)) == []
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    watched(rounds, job, JobState.SUCCEEDED)
    assert list(check.check_clusters(rounds.site.settings, 5.0)) == []
    assert lie == [True, False, False, False]


def test_a_tree_in_which_no_job_lies_is_made_again(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    watched(rounds, job, JobState.SUCCEEDED)
    shutil.rmtree(rounds.far.root)
    new_depot(rounds)
    rounds.submit()


def test_a_job_that_closes_its_folder_hides_no_other(rounds: FarRounds) -> None:
    jobs = rounds.submit(5)
    for job in jobs:
        rounds.wrote_files(job, answer=b"42")
    rounds.far.closed = {rounds.left_in(jobs[3]).path}
    rounds.batch.say(DONE)
    long_time(rounds)
    states = [rounds.site.job(job.id).state for job in jobs]
    assert [state is JobState.SUCCEEDED for state in states] == [True, True, True, False, True]
    assert not states[3].final and "cannot be read" in str(rounds.site.job(jobs[3].id).reason)
    rounds.far.closed = set()
    watched(rounds, jobs[3], JobState.SUCCEEDED)


def test_outputs_that_a_job_has_closed_are_refused_after_some_patience(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.far.closed = {rounds.left_in(job).attempt(1).outputs}
    rounds.batch.say(DONE)
    long_time(rounds)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "bad output"


def test_a_worker_that_was_frozen_in_a_download_adds_nothing_to_a_result(
    rounds: FarRounds, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had asked for before it lost its lease comes when the next worker has fetched all."""
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=TEXT)
    rounds.batch.say(DONE)
    frozen, thawed, get_part = threading.Event(), threading.Event(), rounds.far.get_part

    def freezing(source: str, offset: int, most: int, timeout: float) -> bytes:
        content = get_part(source, offset, most, timeout)
        if source.endswith("answer") and offset == 3000 and not frozen.is_set():
            frozen.set()
            assert thawed.wait(30)
        return content

    former = rounds.watcher.mirror
    assert former is not None
    monkeypatch.setattr(rounds.far, "get_part", freezing)
    until(frozen.is_set, rounds.watch)
    rounds.start()
    watched(rounds, job, JobState.SUCCEEDED)
    thawed.set()
    former._pool.shutdown(wait=True)
    assert output(rounds, job, "answer") == TEXT


def test_a_folder_that_somebody_has_removed_makes_a_lost_job(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.batch.say(DONE)
    shutil.rmtree(rounds.left_in(job).path)
    rounds.watch()
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.cause == "lost"


def test_a_failure_comes_with_its_record_and_its_last_words(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.said(job, "Traceback: no such thing\n")
    rounds.wrote_failure(job, Failure("process error", "There is no such thing.", detail="for the operator"))
    rounds.batch.say(DONE)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None
    assert (failed.failure.text, failed.failure.detail) == ("There is no such thing.", "for the operator")
    assert "no such thing" in rounds.site.job_folder(job).attempt(1).stderr.read_text()


def test_what_a_containers_runtime_said_is_here_with_the_exit(rounds: FarRounds) -> None:
    """The image was not there: nothing else tells why."""
    (job,) = rounds.submit()
    paths = rounds.left_in(job).attempt(1)
    for folder in (paths.path, paths.container_log.parent):
        folder.mkdir(parents=True, exist_ok=True)
    paths.container_log.write_text("FATAL: could not open image /i.sif: no such file or directory\n")
    paths.exit.write_bytes(dump(ExitRecord(exit_code=255, signal=None, host="node1")))
    rounds.watch()
    left = read_attempt(rounds.site.job_folder(job), 1, None)
    assert left.container is not None and "could not open image" in left.container


def test_a_failure_whose_record_never_comes_is_told_from_its_status(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_failure(job, Failure("process error", "There is no such thing."))
    rounds.left_in(job).attempt(1).result.unlink()
    rounds.batch.say(DONE)
    rounds.watch()
    assert not rounds.site.job(job.id).final
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.text == "There is no such thing."


def test_a_failure_whose_record_cannot_be_read_is_told_from_its_status(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed by the job, or on a disk that has gone bad: the failure is known all the same."""
    (job,) = rounds.submit()
    rounds.wrote_failure(job, Failure("out of memory", "There was no room."))
    part = rounds.far.get_part

    def closed(source: str, offset: int, most: int, timeout: float) -> bytes:
        if source.endswith("/result.json"):
            raise NoSuchFile(f"{source} cannot be read")
        return part(source, offset, most, timeout)

    monkeypatch.setattr(rounds.far, "get_part", closed)
    rounds.batch.say(DONE)
    rounds.watch()
    assert not rounds.site.job(job.id).final, "it may not have arrived yet"
    rounds.pass_time(60)
    failed = watched(rounds, job, JobState.FAILED)
    assert failed.failure is not None and failed.failure.text == "There was no room."


def test_a_full_disk_of_the_server_keeps_the_job_until_there_is_room(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=TEXT)
    rounds.batch.say(DONE)
    usage = shutil.disk_usage(rounds.site.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    long_time(rounds)
    waiting = rounds.site.job(job.id)
    assert not waiting.final and "the server's disk is full" in str(waiting.reason)
    monkeypatch.undo()
    watched(rounds, job, JobState.SUCCEEDED)
    assert output(rounds, job, "answer") == TEXT


def test_a_disk_that_fills_while_a_status_is_stored_keeps_the_job(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = rounds.submit()
    rounds.wrote_progress(job, 70)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mirror, "write_atomic", full)
    rounds.batch.say(DONE)
    long_time(rounds)
    waiting = rounds.site.job(job.id)
    assert not waiting.final and "the server's disk is full" in str(waiting.reason)
    monkeypatch.undo()
    rounds.wrote_files(job, answer=b"42")
    watched(rounds, job, JobState.SUCCEEDED)


def test_a_job_that_is_given_up_is_dismissed_without_its_results(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=TEXT)
    rounds.far.away = True
    rounds.site.store.request_cancel(job.id, "a test")
    rounds.watch()
    rounds.batch.say(DONE)
    dismissed = watched(rounds, job, JobState.DISMISSED)
    assert dismissed.scheduler_gone


# --- when they are over ----------------------------------------------------------------------------------------------


def test_the_folder_on_the_cluster_goes_when_its_results_are_here(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.watch()
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED
    assert rounds.sweeper.round() == 0
    assert rounds.left_in(job).path.is_dir(), "the scheduler still has the job"
    rounds.batch.say(DONE)
    rounds.watch()
    until(lambda: not rounds.left_in(job).path.exists(), lambda: None)
    assert output(rounds, job, "answer") == b"42"


def test_where_the_site_says_so_it_stays_until_the_job_is_purged(rounds: FarRounds) -> None:
    settings = rounds.cluster.settings.model_copy(update={"cleanup": "purged"})
    rounds.cluster = replace(rounds.cluster, settings=settings)
    rounds.start()
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    rounds.batch.say(DONE)
    watched(rounds, job, JobState.SUCCEEDED)
    assert rounds.sweeper.round() == 0
    rounds.site.store.expire_now(job.id, time.time() - 1)
    rounds.site.store.mark_expired(time.time())
    assert rounds.sweeper.round() == 1
    assert not rounds.left_in(job).path.exists()


def test_a_folder_that_no_row_knows_is_left_for_a_day(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    stranger = rounds.far.root / "jobs" / "12" / "12345678-1234-1234-1234-123456789012"
    stranger.mkdir(parents=True)
    (no_job := rounds.far.root / "jobs" / "no" / "notes").mkdir(parents=True)
    assert rounds.sweeper.round() == 0
    rounds.pass_time(2 * 86_400)
    assert rounds.sweeper.round() == 1
    assert (stranger.exists(), no_job.exists(), rounds.left_in(job).path.exists()) == (False, True, True)


def test_a_sweep_says_what_it_left_and_makes_nothing(rounds: FarRounds) -> None:
    assert rounds.sweeper.sweep() == Swept()
    assert not rounds.far.root.exists()
    (rounds.far.root / "jobs" / "12" / "12345678-1234-1234-1234-123456789012").mkdir(parents=True)
    assert rounds.sweeper.sweep() == Swept(left=1)
    rounds.pass_time(2 * 86_400)
    assert rounds.sweeper.sweep() == Swept(removed=1)


def test_other_launchers_go_when_no_job_uses_them(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    (old := rounds.far.root / "launcher" / "0-old").mkdir()
    sweeper = replace(rounds.sweeper, started=time.time() + 10)  # the job is older than this worker
    sweeper.round()
    assert old.exists()
    rounds.wrote_files(job, answer=b"42")
    watched(rounds, job, JobState.SUCCEEDED)
    sweeper.round()
    assert [path.name for path in old.parent.iterdir()] == ["1-abc"]


def test_a_fault_of_the_servers_own_disk_leaves_a_sweep_to_the_next(rounds: FarRounds, tmp_path: Path) -> None:
    """One that failed would be done again at once, over a new connection each time."""
    rounds.submit()
    assert rounds.cluster.depot is not None
    depot = replace(rounds.cluster.depot, here=tmp_path / "gone", _ready=threading.Event())
    assert replace(rounds.sweeper, cluster=replace(rounds.cluster, depot=depot)).round() == 0


def test_a_sweep_without_a_connection_is_left_to_the_next(rounds: FarRounds) -> None:
    rounds.submit()
    rounds.far.away = True
    assert rounds.sweeper.round() == 0
