"""Two servers whose clusters have the same ``root``: the second is refused before it removes what the first has."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.far_side import FarRounds, FarSide
from tests.clusters.site import Site
from wps_hpc.clusters.depot import MARK, Depot
from wps_hpc.clusters.transports.base import Listed, TransportError
from wps_hpc.jobs.job import JobState
from wps_hpc.probe import ProbeFailed, send_probe

LONG = 10 * 86_400.0


def server(folder: Path, root: Path) -> FarRounds:
    """A server with a database of its own."""
    folder.mkdir(exist_ok=True)
    return FarRounds(Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}"), far=FarSide(root))


def end(rounds: FarRounds) -> None:
    rounds.end_transfers()
    rounds.close()
    rounds.site.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[FarRounds, FarRounds]]:
    """Two servers, neither of which has looked at the cluster yet."""
    made = [server(tmp_path / name, tmp_path / "far") for name in ("one", "two")]
    yield made[0], made[1]
    for rounds in made:
        end(rounds)


def depot(rounds: FarRounds) -> Depot:
    """Where its job folders lie."""
    assert rounds.cluster.depot is not None
    return rounds.cluster.depot


def test_a_server_removes_nothing_of_anothers(
    both: tuple[FarRounds, FarRounds], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = both
    (job,) = first.submit()
    (other := first.far.root / "launcher" / "0-old").mkdir()
    second.pass_time(LONG)
    assert second.sweeper.round() == 0
    assert first.left_in(job).path.is_dir() and other.is_dir()
    assert f"{first.far.root} on the cluster belongs to another server" in caplog.text
    (first.far.root / MARK).unlink()
    second.start()
    assert second.sweeper.round() == 1, "handed over: nobody here knows the job"


def test_its_jobs_wait_until_the_folder_is_handed_over(both: tuple[FarRounds, FarRounds]) -> None:
    first, second = both
    first.submit()
    job = second.site.mark("one")
    second.dispatch_until(lambda: second.site.job(job.id).reason is not None)
    waiting = second.site.job(job.id)
    assert (waiting.state, waiting.message) == (
        JobState.ACCEPTED,
        "Its files cannot be sent to the cluster at the moment.",
    )
    assert not second.left_in(job).path.exists()
    (first.far.root / MARK).unlink()
    second.pass_time(600)
    second.dispatch_until(lambda: second.batch.count("submit") == 1)


def test_check_says_whose_it_is(both: tuple[FarRounds, FarRounds]) -> None:
    first, second = both
    first.submit()
    with pytest.raises(ProbeFailed, match="belongs to another server"):
        send_probe(second.site.settings, second.cluster, 5.0)


def test_who_had_the_folder_learns_that_it_was_handed_over(both: tuple[FarRounds, FarRounds]) -> None:
    """It may still run, against all advice."""
    first, second = both
    first.submit()
    (first.far.root / MARK).unlink()
    second.submit()
    first.pass_time(LONG)
    assert first.sweeper.round() == 0
    with pytest.raises(TransportError, match="belongs to another server"):
        depot(first).prepare()


def test_of_two_that_come_at_the_same_time_one_has_it(both: tuple[FarRounds, FarRounds]) -> None:
    first, second = both
    put = first.far.put_many

    def put_after_the_other(files: object, timeout: float) -> None:
        first.far.put_many = put  # type: ignore[method-assign]
        depot(second).prepare()
        put(files, timeout)  # type: ignore[arg-type]

    first.far.put_many = put_after_the_other  # type: ignore[method-assign]
    depot(first).prepare()
    with pytest.raises(TransportError, match="belongs to another server"):
        depot(second).prepare()
    depot(first).prepare()


def test_who_was_overwritten_at_once_does_not_take_it_for_its_own(both: tuple[FarRounds, FarRounds]) -> None:
    first, second = both
    put = first.far.put_many

    def put_before_the_other(files: Mapping[str, Path], timeout: float) -> None:
        put(files, timeout)
        (first.far.root / MARK).write_text(f"{second.site.store.identity()}\n")

    first.far.put_many = put_before_the_other  # type: ignore[method-assign]
    with pytest.raises(TransportError, match="belongs to another server"):
        depot(first).prepare()
    depot(second).prepare()


def test_threads_that_use_it_first_at_the_same_time_refuse_nobody(both: tuple[FarRounds, FarRounds]) -> None:
    """All of them have looked for a mark before one of them has written it."""
    first, _ = both
    read, together = first.far.read_many, threading.Barrier(3)

    def read_together(files: Sequence[str], most: int, timeout: float) -> Mapping[str, bytes]:
        found = read(files, most, timeout)
        with suppress(threading.BrokenBarrierError):
            together.wait(5.0)
        together.abort()
        return found

    first.far.read_many = read_together  # type: ignore[method-assign]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: depot(first).prepare(), range(3)))
    assert first.far.counted["put_many"] == 1


def test_a_mark_that_another_process_has_just_written_is_read(both: tuple[FarRounds, FarRounds]) -> None:
    first, _ = both
    listing = first.far.list_folders

    def list_after_the_other(folders: Sequence[str], *more: Any) -> Mapping[str, tuple[Listed, ...]]:
        if list(folders) == [str(first.far.root)]:
            (first.far.root / MARK).write_text(f"{first.site.store.identity()}\n")
        return listing(folders, *more)

    first.far.list_folders = list_after_the_other  # type: ignore[method-assign]
    depot(first).prepare()
    assert first.far.counted["put_many"] == 0


def test_a_server_that_moves_with_its_database_is_the_same(tmp_path: Path) -> None:
    first = server(tmp_path / "one", tmp_path / "far")
    first.submit()
    identity = first.site.store.identity()
    (tmp_path / "moved").mkdir()
    with closing(sqlite3.connect(tmp_path / "one" / "jobs.sqlite")) as database:
        database.execute("VACUUM INTO ?", [str(tmp_path / "moved" / "jobs.sqlite")])
    end(first)
    moved = server(tmp_path / "moved", tmp_path / "far")
    depot(moved).prepare()
    assert (moved.far.root / MARK).read_text().startswith(f"{identity}\n")
    end(moved)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\x1b[2J\n", bytes(10_000)])
def test_a_mark_that_names_nobody_is_not_ones_own(both: tuple[FarRounds, FarRounds], content: bytes) -> None:
    first, _ = both
    first.far.root.mkdir()
    (first.far.root / MARK).write_bytes(content)
    with pytest.raises(TransportError, match="belongs to another server") as refused:
        depot(first).prepare()
    assert str(refused.value).isprintable()


def test_a_mark_that_cannot_be_read_is_not_written_over(both: tuple[FarRounds, FarRounds]) -> None:
    first, _ = both
    (first.far.root / MARK).mkdir(parents=True)
    with pytest.raises(TransportError, match="cannot be read"):
        depot(first).prepare()


def test_whose_it_is_need_not_be_known_to_look(both: tuple[FarRounds, FarRounds]) -> None:
    """Without a database there is no identity: nothing is marked."""
    nobody = replace(depot(both[0]), identity="")
    nobody.prepare()
    assert not (both[0].far.root / MARK).exists()
