"""Purging: what goes, in which order, and what is never touched."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joblauncher.failpoints import VARIABLE, Failpoint
from joblauncher.formats.folder import job_path
from wps_hpc.config import Settings
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.purge import ORPHAN_AGE, Purged, Purger
from wps_hpc.jobs.store import Store

HOUR = 3600.0
DAY = 24 * HOUR
NAME = "0a0b0c0d-0000-4000-8000-{:012x}"


def settings_for(root: Path) -> Settings:
    return Settings.model_validate({"storage": {"root": root, "trash_hours": 24}})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "storage"
    made.mkdir()
    return made


@pytest.fixture
def purge(root: Path, store: Store) -> Callable[..., Purged]:
    """Purge as if it were so many seconds later."""

    def run(later: float = 0.0, **fields: Any) -> Purged:
        return Purger(settings_for(root), store, clock=lambda: time.time() + later, **fields).round()

    return run


@pytest.fixture
def ended(store: Store, add: Callable[..., Job], epoch: int, root: Path) -> Callable[..., Job]:
    """A job with a folder that has ended, whose time is over, and that its scheduler has let go of."""

    def make(**fields: Any) -> Job:
        job = add()
        make_folder(job_path(root, job.id))
        changes: dict[str, Any] = {"state": JobState.FAILED, "finished": 1.0, "expires": 2.0, **fields}
        return store.change(job.id, epoch, **changes)

    return make


def make_folder(path: Path, age: float = 0.0) -> Path:
    (path / "attempts/1/outputs").mkdir(parents=True)
    (path / "attempts/1/outputs/result.txt").write_text("result")
    os.utime(path, (time.time() - age,) * 2)
    return path


def trash(root: Path) -> list[Path]:
    return sorted((root / "trash").iterdir()) if (root / "trash").exists() else []


class TestJobs:
    def test_an_expired_job_goes_to_the_trash_and_later_altogether(
        self, purge: Callable[..., Purged], ended: Callable[..., Job], store: Store, root: Path
    ) -> None:
        job = ended()
        assert purge() == Purged(jobs=1)
        assert store.get(job.id) is None and store.existing([job.id]) == set()
        assert not job_path(root, job.id).exists()
        [thrown] = trash(root)
        assert thrown.name.startswith(f"{job.id}.")
        assert (thrown / "attempts/1/outputs/result.txt").read_text() == "result"
        assert purge(23 * HOUR) == Purged()
        assert purge(25 * HOUR) == Purged(trash=1)
        assert trash(root) == []

    def test_a_download_under_way_is_finished(
        self, purge: Callable[..., Purged], ended: Callable[..., Job], root: Path
    ) -> None:
        job = ended()
        with (job_path(root, job.id) / "attempts/1/outputs/result.txt").open() as download:
            purge()
            assert download.read() == "result"

    def test_what_is_not_over_is_not_touched(
        self,
        purge: Callable[..., Purged],
        ended: Callable[..., Job],
        add: Callable[..., Job],
        store: Store,
        epoch: int,
        root: Path,
    ) -> None:
        young = ended(expires=time.time() + HOUR)
        waiting = add()
        at_scheduler = add()
        store.add_submission([at_scheduler.id], "t", "local", epoch)
        store.change(at_scheduler.id, epoch, state=JobState.SUCCEEDED, finished=1.0, expires=2.0)
        for job in (waiting, at_scheduler):
            make_folder(job_path(root, job.id))
        assert purge() == Purged()
        for job in (young, waiting, at_scheduler):
            assert store.get(job.id) is not None
            assert job_path(root, job.id).exists()
        store.change(at_scheduler.id, epoch, scheduler_gone=True)
        assert purge() == Purged(jobs=1)

    def test_a_job_without_a_folder_goes_all_the_same(
        self, purge: Callable[..., Purged], add: Callable[..., Job], store: Store, epoch: int
    ) -> None:
        job = add()
        store.change(job.id, epoch, state=JobState.DISMISSED, expires=2.0)
        assert purge() == Purged(jobs=1)
        assert store.existing([job.id]) == set()

    def test_a_crash_after_renaming_is_finished_by_the_next_purge(
        self,
        purge: Callable[..., Purged],
        ended: Callable[..., Job],
        store: Store,
        store_url: str,
        root: Path,
        tmp_path: Path,
    ) -> None:
        job = ended()
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from tests.clusters.test_purge import settings_for\n"
            "from wps_hpc.jobs.purge import Purger\n"
            "from wps_hpc.jobs.store import Store\n"
            "Purger(settings_for(Path(sys.argv[1])), Store(sys.argv[2])).round()\n"
        )
        environment = {**os.environ, VARIABLE: f"{Failpoint.PURGE_RENAMED.value}:{tmp_path / 'marker'}"}
        command = [sys.executable, "-c", code, str(root), store_url]
        assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == -9
        assert store.get(job.id) is None, "clients are told so before the folder goes"
        assert store.existing([job.id]) == {job.id}
        assert len(trash(root)) == 1
        assert purge() == Purged(jobs=1)
        assert store.existing([job.id]) == set()
        assert len(trash(root)) == 1

    def test_what_cannot_be_moved_is_kept_for_the_next_time(
        self, purge: Callable[..., Purged], ended: Callable[..., Job], store: Store, root: Path
    ) -> None:
        job = ended()
        (root / "trash").write_text("in the way")
        assert purge() == Purged()
        assert job_path(root, job.id).exists() and store.existing([job.id]) == {job.id}
        (root / "trash").unlink()
        assert purge() == Purged(jobs=1)


class TestOrphans:
    def test_old_folders_without_a_job_go(
        self, purge: Callable[..., Purged], add: Callable[..., Job], root: Path
    ) -> None:
        orphan = make_folder(job_path(root, NAME.format(1)), ORPHAN_AGE + HOUR)
        fresh = make_folder(job_path(root, NAME.format(2)), ORPHAN_AGE - HOUR)
        owned = make_folder(job_path(root, add().id), ORPHAN_AGE + HOUR)
        assert purge() == Purged(orphans=1)
        assert not orphan.exists() and fresh.exists() and owned.exists()
        assert [path.name.split(".")[0] for path in trash(root)] == [NAME.format(1)]

    def test_what_is_not_ours_is_left_alone(self, purge: Callable[..., Purged], root: Path) -> None:
        strangers = [root / "jobs/0a/notes", root / "jobs/readme", root / f"jobs/other/{NAME.format(3)}"]
        for path in strangers:
            make_folder(path, 10 * ORPHAN_AGE)
        assert purge() == Purged()
        assert all(path.exists() for path in strangers)

    def test_more_of_them_than_one_query_takes(
        self, purge: Callable[..., Purged], root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wps_hpc.jobs.purge._TOGETHER", 2)
        for number in range(5):
            make_folder(job_path(root, NAME.format(number)), ORPHAN_AGE + HOUR)
        assert purge() == Purged(orphans=5)

    def test_an_empty_storage_is_no_trouble(self, purge: Callable[..., Purged]) -> None:
        assert purge() == Purged()


class TestLinks:
    """A job can put links anywhere in its folder; purging must not go where they point."""

    @pytest.fixture
    def precious(self, tmp_path: Path) -> Path:
        precious = make_folder(tmp_path / "precious", 10 * DAY)
        (precious / "attempts").chmod(0o750)
        return precious

    def whole(self, precious: Path) -> bool:
        kept = (precious / "attempts").stat().st_mode & 0o777 == 0o750
        return kept and (precious / "attempts/1/outputs/result.txt").read_text() == "result"

    def test_links_within_a_job(
        self, purge: Callable[..., Purged], ended: Callable[..., Job], root: Path, precious: Path
    ) -> None:
        folder = job_path(root, ended().id)
        (folder / "link").symlink_to(precious)
        (folder / "attempts/deep").symlink_to(precious / "attempts")
        (folder / "dangling").symlink_to("/nonexistent")
        assert purge() == Purged(jobs=1)
        assert purge(25 * HOUR) == Purged(trash=1)
        assert trash(root) == [] and self.whole(precious)

    def test_a_job_folder_that_is_a_link(
        self,
        purge: Callable[..., Purged],
        add: Callable[..., Job],
        store: Store,
        epoch: int,
        root: Path,
        precious: Path,
    ) -> None:
        job = add()
        folder = job_path(root, job.id)
        folder.parent.mkdir(parents=True)
        folder.symlink_to(precious)
        store.change(job.id, epoch, state=JobState.FAILED, expires=2.0)
        assert purge() == Purged(jobs=1)
        assert purge(25 * HOUR) == Purged(trash=1)
        assert trash(root) == [] and self.whole(precious)

    def test_folders_above_that_are_links(self, purge: Callable[..., Purged], root: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        orphan = make_folder(elsewhere / NAME.format(1), 10 * DAY)
        old = make_folder(elsewhere / "old.1.x", 10 * DAY)
        (root / "jobs").mkdir()
        (root / "jobs/0a").symlink_to(elsewhere)
        (root / "trash").symlink_to(elsewhere)
        assert purge() == Purged()
        assert orphan.exists() and old.exists()

    def test_folders_without_permissions_are_removed_all_the_same(
        self, purge: Callable[..., Purged], root: Path
    ) -> None:
        folder = make_folder(job_path(root, NAME.format(1)), ORPHAN_AGE + HOUR)
        for path in (folder / "attempts/1/outputs", folder / "attempts/1", folder / "attempts"):
            path.chmod(0o000)
        assert purge() == Purged(orphans=1)
        assert purge(25 * HOUR) == Purged(trash=1)
        assert trash(root) == []


class TestLaunchers:
    @pytest.fixture
    def launcher(self, root: Path) -> Path:
        for version in ("0.1", "0.2"):
            (root / "launcher" / version).mkdir(parents=True)
            (root / "launcher" / version / "joblauncher.pyz").write_text(version)
            (root / "launcher" / version).chmod(0o500)
        return root / "launcher/0.2/joblauncher.pyz"

    def test_other_versions_go_when_no_job_can_use_them(self, purge: Callable[..., Purged], launcher: Path) -> None:
        assert purge() == Purged()
        assert purge(launcher=launcher) == Purged(launchers=1)
        assert launcher.exists() and not (launcher.parent.parent / "0.1").exists()

    def test_a_job_from_before_keeps_them(
        self,
        purge: Callable[..., Purged],
        launcher: Path,
        add: Callable[..., Job],
        store: Store,
        epoch: int,
    ) -> None:
        old = add(created=time.time() - HOUR)
        add(created=time.time() + HOUR)
        assert purge(launcher=launcher, started=time.time()) == Purged()
        store.change(old.id, epoch, state=JobState.FAILED)
        assert purge(launcher=launcher, started=time.time()) == Purged(launchers=1)
