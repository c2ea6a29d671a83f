"""A cluster's accounts, root or staging change while jobs are there: nothing is concluded of them, and what is set back
goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters.far_side import FarRounds, FarSide
from tests.clusters.scripted import DONE
from tests.clusters.site import Site
from tests.folders import wait_for
from wps_hpc.cli.check import PROBLEM, check_places
from wps_hpc.clusters.cluster import Cluster
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.purge import Purger
from wps_hpc.jobs.store import Applied, Change


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[FarRounds]:
    """A site without a worker, and the rounds of one whose cluster sees another file system."""
    made = FarRounds(Site(tmp_path, f"sqlite:///{tmp_path / 'jobs.sqlite'}"), far=FarSide(tmp_path / "far"))
    yield made
    made.end_transfers()
    made.close()
    made.site.close()


def configure(rounds: FarRounds, cluster: Cluster) -> None:
    """The server is started again with this configuration."""
    rounds.end_transfers()
    rounds.cluster = cluster
    rounds.start()
    rounds.desk.epoch = rounds.epoch
    rounds.desk.clusters = {"local": cluster.settings}


def moved(rounds: FarRounds) -> Cluster:
    """The cluster as it is when ``root`` is another folder, in which there have been jobs already."""
    assert rounds.cluster.depot is not None
    root = f"{rounds.far.root}-new"
    Path(root, "jobs").mkdir(parents=True)
    settings = rounds.cluster.settings.model_copy(update={"root": root})
    return replace(rounds.cluster, settings=settings, depot=replace(rounds.cluster.depot, root=root))


def shared(rounds: FarRounds) -> Cluster:
    """The cluster as it is with staging shared."""
    settings = rounds.cluster.settings.model_copy(update={"root": None, "staging": "shared"})
    return replace(rounds.cluster, settings=settings, depot=None)


def long_time(rounds: FarRounds) -> None:
    """Longer than any grace."""
    for _ in range(3):
        rounds.pass_time(600)
        rounds.desk.round()
        rounds.dispatcher.round()
        rounds.watch()


CHANGES = pytest.mark.parametrize(
    ("change", "setting"), [(moved, "clusters.local.root is"), (shared, "clusters.local.staging is shared now")]
)


def one_line(rounds: FarRounds) -> str:
    """The one thing that check says of places."""
    settings = rounds.site.settings.model_copy(update={"clusters": rounds.desk.clusters})
    (finding,) = check_places(settings)
    assert finding.level == PROBLEM
    return finding.text


@CHANGES
def test_a_job_whose_folder_lies_elsewhere_waits_until_that_is_set_back(
    rounds: FarRounds, change: object, setting: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(change)
    before = rounds.cluster
    (job,) = rounds.submit()
    rounds.watch()
    configure(rounds, change(rounds))
    rounds.batch.say(DONE)
    with caplog.at_level(logging.ERROR, "wps_hpc.jobs.desk"):
        long_time(rounds)
    kept = rounds.site.job(job.id)
    assert (kept.state, kept.reason) == (JobState.RUNNING, "its cluster (local) is configured in another way now")
    assert kept.stale_since is not None
    assert [record.message[: len(setting)] for record in caplog.records] == [setting], "told once"
    assert setting in one_line(rounds) and ": 1 job stays as it is" in one_line(rounds)
    configure(rounds, before)
    rounds.wrote_files(job, answer=b"42")
    watched(rounds, job)
    assert rounds.site.job(job.id).state is JobState.SUCCEEDED


@CHANGES
def test_a_submission_without_an_answer_is_not_made_again_from_elsewhere(
    rounds: FarRounds, change: object, setting: str
) -> None:
    """The claim that tells that it ran lies where nobody looks."""
    assert callable(change)
    rounds.batch.lost_answers = [False]
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.site.job(job.id).state is JobState.SUBMITTING)
    rounds.claimed(job)
    configure(rounds, change(rounds))
    long_time(rounds)
    assert rounds.site.job(job.id).state is JobState.SUBMITTING
    assert rounds.batch.count("submit") == 1
    assert setting in one_line(rounds)


def test_a_job_whose_folder_is_shared_is_not_looked_for_on_the_cluster(rounds: FarRounds) -> None:
    far = rounds.cluster
    configure(rounds, shared(rounds))
    job = rounds.site.mark("one")
    rounds.dispatcher.round()
    rounds.watch()
    configure(rounds, far)
    rounds.batch.words.clear()
    (rounds.far.root / "jobs").mkdir(parents=True)
    long_time(rounds)
    assert rounds.site.job(job.id).state is JobState.RUNNING
    assert "clusters.local.staging is sftp now" in one_line(rounds)


def test_a_job_that_waits_goes_where_the_configuration_says_now(rounds: FarRounds) -> None:
    """Also one that was refused where it was sent first."""
    rounds.batch.refusals = [True]
    job = rounds.site.mark("one")
    rounds.dispatch_until(lambda: rounds.batch.count("submit") == 1)
    assert rounds.site.job(job.id).sent_to is None
    configure(rounds, new := moved(rounds))
    rounds.desk.round()
    rounds.dispatch_until(lambda: rounds.site.job(job.id).state is JobState.QUEUED)
    assert rounds.site.job(job.id).sent_to == new.sent_to


def with_accounts(rounds: FarRounds) -> Cluster:
    """The cluster as it is with accounts; the jobs that there are run under the server's own."""
    update = {"accounts": {"ada": "ada"}, "root": f"{rounds.far.root}/{{account}}"}
    return replace(rounds.cluster, settings=rounds.cluster.settings.model_copy(update=update))


def test_a_job_that_waits_is_no_longer_stale_when_the_setting_is_back(rounds: FarRounds) -> None:
    """No scheduler has it, so no watcher ever says that all is well."""
    before = rounds.cluster
    job = rounds.site.mark("one")
    configure(rounds, with_accounts(rounds))
    rounds.desk.round()
    stale = rounds.site.job(job.id)
    assert stale.stale_since is not None
    assert stale.reason == "its cluster (local) is configured in another way now"
    configure(rounds, before)
    rounds.desk.round()
    kept = rounds.site.job(job.id)
    assert (kept.state, kept.stale_since, kept.reason) == (JobState.ACCEPTED, None, None)


def test_a_job_is_told_the_present_reason_why_nobody_looks_after_it(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    configure(rounds, moved(rounds))
    rounds.desk.round()
    first = rounds.site.job(job.id)
    rounds.pass_time(60)
    rounds.desk.clusters = {}
    rounds.desk.round()
    kept = rounds.site.job(job.id)
    assert kept.reason == "its cluster (local) is no longer part of the configuration"
    assert kept.stale_since == first.stale_since, "nobody has looked after it since then"


def test_a_job_whose_folder_lies_elsewhere_can_be_dismissed(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.watch()
    configure(rounds, moved(rounds))
    rounds.site.store.request_cancel(job.id, "the operator")
    long_time(rounds)
    assert rounds.site.job(job.id).state is JobState.DISMISSED
    assert rounds.batch.controls() == [], "nobody knows any more whose it is"


def test_the_limit_on_waiting_in_a_queue_ends_no_job_that_nobody_looks_at(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.desk.queue_seconds = 60
    configure(rounds, moved(rounds))
    long_time(rounds)
    assert rounds.site.job(job.id).state is JobState.QUEUED


def test_many_jobs_that_nobody_looks_after_are_told_so_together_and_once(
    rounds: FarRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten thousand, each round would read and compare all, and the first would take a transaction for each."""
    jobs = rounds.submit(3)
    configure(rounds, moved(rounds))
    monkeypatch.setattr("wps_hpc.jobs.desk.TOGETHER", 2)
    changed: list[list[str]] = []
    apply = rounds.site.store.apply

    def noting(epoch: int, changes: Sequence[Change]) -> Applied:
        changed.append([change.job_id for change in changes])
        return apply(epoch, changes)

    monkeypatch.setattr(rounds.site.store, "apply", noting)
    told: list[str] = []
    rounds.desk.changed = told.append
    rounds.desk.round()
    ids = [job.id for job in jobs]
    assert changed == [ids[:2], ids[2:]]
    assert sorted(told) == sorted(ids)
    rounds.desk.round()
    assert len(changed) == 2
    assert all(rounds.site.job(job_id).stale_since for job_id in ids)


@pytest.mark.parametrize("submitted", [False, True])
def test_jobs_of_a_place_that_cannot_be_used_are_told_so_and_wait(
    rounds: FarRounds, submitted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    job = rounds.submit()[0] if submitted else rounds.site.mark("one")
    before = rounds.site.job(job.id).state
    rounds.desk.unmanned = lambda: [("local", None)]
    for _ in range(2):
        rounds.desk.round()
    told = rounds.site.job(job.id)
    assert (told.state, told.reason) == (before, "its cluster (local) cannot be used at the moment")
    assert told.stale_since is not None
    rounds.site.store.request_cancel(job.id, "the operator")
    rounds.desk.round()
    assert rounds.site.job(job.id).final is not submitted, "its scheduler has to be told"
    assert sum("stale" in record.message for record in caplog.records) == 1
    rounds.desk.unmanned = tuple
    rounds.desk.round()
    rounds.watch()
    assert rounds.batch.controls() == (["cancel"] if submitted else [])


def test_a_job_that_waits_is_told_when_its_place_can_be_used_again(rounds: FarRounds) -> None:
    job = rounds.site.mark("one")
    rounds.desk.unmanned = lambda: [("local", None)]
    rounds.desk.round()
    assert rounds.site.job(job.id).stale_since is not None
    rounds.desk.unmanned = tuple
    rounds.desk.round()
    kept = rounds.site.job(job.id)
    assert (kept.stale_since, kept.reason) == (None, None)


def test_a_job_that_had_ended_goes_in_its_time_though_nobody_asks_for_it_any_more(rounds: FarRounds) -> None:
    """Its scheduler still had it when the configuration changed."""
    (job,) = rounds.submit()
    rounds.wrote_files(job, answer=b"42")
    watched(rounds, job)
    assert not rounds.site.job(job.id).scheduler_gone
    rounds.desk.round()
    assert not rounds.site.job(job.id).scheduler_gone, "as long as it can be asked, it is"
    configure(rounds, moved(rounds))
    rounds.desk.round()
    ended = rounds.site.job(job.id)
    assert (ended.state, ended.scheduler_gone) == (JobState.SUCCEEDED, True)
    assert rounds.site.store.places() == set()
    assert ended.expires is not None
    Purger(rounds.site.settings, rounds.site.store, clock=lambda: ended.expires or 0.0).round()
    assert rounds.site.store.get(job.id) is None


def test_the_limit_of_synchronous_calls_ends_no_job_that_nobody_looks_at(rounds: FarRounds) -> None:
    (job,) = rounds.submit()
    rounds.site.store.apply(rounds.epoch, [Change(job.id, {"deadline": rounds.now() + 60})])
    before = rounds.cluster
    configure(rounds, moved(rounds))
    long_time(rounds)
    kept = rounds.site.job(job.id)
    assert (kept.state, kept.cancel_requested) == (JobState.QUEUED, None)
    configure(rounds, before)
    rounds.desk.round()
    assert rounds.site.job(job.id).cancelled_by == "the time limit of synchronous calls"


def test_the_limit_of_synchronous_calls_ends_a_job_that_no_scheduler_has(rounds: FarRounds) -> None:
    """Whatever became of its place."""
    job = rounds.site.mark("one")
    rounds.site.store.apply(rounds.epoch, [Change(job.id, {"deadline": rounds.now() + 60})])
    configure(rounds, with_accounts(rounds))
    rounds.pass_time(61)
    rounds.desk.round()
    assert rounds.site.job(job.id).state is JobState.DISMISSED


def watched(rounds: FarRounds, job: Job) -> None:
    """Rounds of the watcher until the results are here."""
    wait_for(lambda: rounds.watch() or rounds.site.job(job.id).final)
