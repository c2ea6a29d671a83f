"""The local copy of what jobs left elsewhere, with many results under way at the same time."""

from __future__ import annotations

import uuid
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wps_hpc.clusters.transports.base import Kind, Listed
from wps_hpc.config import Settings, Storage
from wps_hpc.jobs import mirror
from wps_hpc.jobs.mirror import Gap, Mirror

STATUS = "attempts/1/status.xml"


class Looks:
    """How often anything was asked of the results under way."""

    count = 0


class Watched(mirror._Fetch):
    """Results under way that count in ``Looks`` what is asked of them."""

    def __getattribute__(self, name: str) -> Any:
        Looks.count += 1
        return super().__getattribute__(name)


class NoPool:
    """What is begun neither ends nor fails, until the test says so."""

    def __init__(self) -> None:
        self.futures: list[Future[None]] = []

    def submit(self, *_: object) -> Future[None]:
        """See ``Executor``."""
        self.futures.append(Future())
        return self.futures[-1]

    def shutdown(self, **_: object) -> None:
        """See ``Executor``: what has not begun is cancelled."""
        for future in self.futures:
            future.cancel()


def under_way(tmp_path: Path, count: int) -> tuple[Mirror, NoPool, list[Any]]:
    """A mirror that fetches the results of so many jobs, whose pool is the test's."""
    ids = [str(uuid.uuid4()) for _ in range(count)]
    listed = {job_id: (Listed(STATUS, Kind.FILE, 10, 1.0),) for job_id in ids}
    depot = SimpleNamespace(list_jobs=lambda _: listed, read_many=lambda *_: {}, root="/far")
    settings, pool = Settings(storage=Storage(root=tmp_path)), NoPool()
    made = Mirror(cast("Any", depot), settings, 1.0, _pool=cast("Any", pool))
    for job_id in ids:
        made._begin(Watched(job_id, 1, b"", 0.0))
        made._have[job_id] = {STATUS: (10, 1.0)}
    made._begun.clear()
    return made, pool, [SimpleNamespace(id=job_id) for job_id in ids]


def test_a_round_with_many_results_under_way_looks_at_each_of_them_a_few_times(tmp_path: Path) -> None:
    """Looking at all of them for each would take a minute once there are thousands."""
    count = 300
    made, _, jobs = under_way(tmp_path, count)
    Looks.count = 0
    made.refresh(jobs)
    gaps = [made.gap(job.id) for job in jobs]
    assert gaps == [Gap("its results are being fetched from the cluster", stale=False)] * count
    assert Looks.count <= 50 * count


def test_what_has_come_between_two_rounds_is_no_gap_and_news_of_the_next_round(tmp_path: Path) -> None:
    made, pool, jobs = under_way(tmp_path, 2)
    made.refresh(jobs)
    pool.futures[0].set_result(None)
    assert (made.gap(jobs[0].id), made.gap(jobs[1].id) is None) == (None, False)
    assert made.refresh(jobs) == {jobs[0].id}
    assert made.refresh(jobs) == set()


def test_what_the_closing_ended_has_not_come(tmp_path: Path) -> None:
    made, _, jobs = under_way(tmp_path, 1)
    made.close()
    assert made.refresh(jobs) == set()
    assert made.gap(jobs[0].id) is not None


@pytest.mark.parametrize("kept", [0, 1])
def test_results_of_jobs_that_nobody_follows_are_no_longer_fetched(tmp_path: Path, kept: int) -> None:
    made, _, jobs = under_way(tmp_path, 2)
    made.forget_all_but([jobs[kept].id])
    assert made.gap(jobs[1 - kept].id) is None and made.gap(jobs[kept].id) is not None
