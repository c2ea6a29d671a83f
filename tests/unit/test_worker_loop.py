"""The worker's loops: what fails in one, in its round or in its wait, neither ends it nor is hidden."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.far_settings import MAPPED
from tests.folders import wait_for
from wps_hpc.clusters.cluster import Inhabited
from wps_hpc.config import ConfigError, Settings, Storage, parse_settings
from wps_hpc.health import read_report
from wps_hpc.jobs.job import Whereabouts
from wps_hpc.jobs.lease import LeaseLost
from wps_hpc.jobs.watch import Queries
from wps_hpc.worker import Loop, Shift


class Work:
    """Rounds that are counted; the first ``failures`` of them raise."""

    def __init__(self, *failures: Exception) -> None:
        self.rounds = 0
        self.failures = list(failures)
        self.lost = threading.Event()
        self.loop = Loop("watch x", self, lambda _: self.lost.set(), 0.02)

    def __call__(self, poked: set[str]) -> float | None:
        self.rounds += 1
        if self.failures:
            raise self.failures.pop(0)
        return None


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Loop]]:
    """Loops to be stopped after the test; a failed round is followed by another at once."""
    monkeypatch.setattr("wps_hpc.worker.PAUSE_AFTER_FAILURE", 0.02)
    started: list[Loop] = []
    yield started
    for loop in started:
        loop.stop()
        loop.join(10)


def started(loops: list[Loop], work: Work) -> Work:
    loops.append(work.loop)
    work.loop.start()
    return work


def test_a_round_that_fails_is_followed_by_another(loops: list[Loop]) -> None:
    work = started(loops, Work(RuntimeError("no"), OSError("no")))
    wait_for(lambda: work.rounds > 3)


def test_a_descriptor_that_cannot_be_had_does_not_end_the_loop(loops: list[Loop]) -> None:
    """A spooler that cannot be started on a full disk, say: without the loop no job would ever end again."""
    work = Work()

    def changes() -> int | None:
        if work.rounds < 4:
            raise OSError("no space left on device")
        return None

    work.loop.changes = changes
    started(loops, work)
    wait_for(lambda: work.rounds > 6)
    assert work.loop.is_alive()


def test_a_lost_lease_ends_the_loop(loops: list[Loop]) -> None:
    work = started(loops, Work(LeaseLost("epoch 1 is over")))
    assert work.lost.wait(10)
    work.loop.join(10)
    assert (work.loop.is_alive(), work.rounds) == (False, 1)


def test_the_report_has_the_age_of_the_slowest_watch_round(tmp_path: Path) -> None:
    settings = Settings(storage=Storage(root=tmp_path))
    shift = Shift(settings, *cast("tuple[Any, Any, Any, Any]", (None,) * 2 + ({}, None)), "me", 1)
    hangs, works = Work().loop, Work().loop
    hangs.round_at = time.time() - 500
    for place, loop in ("a", works), ("b", hangs):
        shift.crews[place, None] = cast(
            "Any", SimpleNamespace(watching=loop, watcher=SimpleNamespace(queries=Queries()))
        )
    shift.report()
    report = read_report(settings)
    assert report is not None and time.time() - report.round_at > 499


def test_a_round_that_fails_does_not_count_as_one(loops: list[Loop]) -> None:
    work = Work(*(RuntimeError("no") for _ in range(100_000)))
    work.loop.round_at = 5.0
    started(loops, work)
    wait_for(lambda: work.rounds > 3)
    assert work.loop.round_at == 5.0


def ending_shift(tmp_path: Path, store: Any = None) -> Shift:
    """A shift that has begun nothing yet, but can be ended; its one cluster has accounts."""
    settings = parse_settings({"storage": {"root": str(tmp_path)}, "clusters": {"hpc": MAPPED}})
    clusters = {name: SimpleNamespace(settings=each) for name, each in settings.clusters.items()}
    shift = Shift(settings, *cast("tuple[Any, Any, Any, Any]", (store, None, clusters, None)), "me", 1)
    shift._desk = shift._deliverer = shift._stager = cast("Any", SimpleNamespace(close=lambda: None))
    return shift


class Places:
    """A store that knows where there are jobs."""

    def __init__(self, *places: tuple[str, str | None]) -> None:
        self._places = set(places)

    def places(self) -> set[tuple[str, str | None]]:
        """See ``Store``."""
        return self._places

    def identity(self) -> str:
        """See ``Store``."""
        return "me"

    def whereabouts(self) -> dict[Whereabouts, int]:
        """See ``Store``."""
        return {Whereabouts("hpc", "ada", "/home/ada/wps"): 1}


def test_a_place_is_not_manned_once_the_shift_is_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loops: list[Loop]
) -> None:
    """Its loops would go on after the shift, with the lease in other hands."""
    shift = ending_shift(tmp_path, Places(("hpc", "ada")))
    work, closed = Work(), threading.Event()

    def build(*_: object) -> Any:
        shift.end()
        return SimpleNamespace(account="ada", close=closed.set)

    monkeypatch.setattr("wps_hpc.worker.build_cluster", build)
    monkeypatch.setattr(Shift, "_crew", lambda *_: SimpleNamespace(loops=[work.loop], let_go=lambda: None))
    shift._man_places()
    began = work.loop.ident is not None
    loops += [work.loop] if began else []
    assert not began
    assert shift.crews == {} and closed.is_set()


def test_the_loops_have_had_their_last_round_when_what_they_work_with_ends(tmp_path: Path, loops: list[Loop]) -> None:
    """Otherwise a round that is in the middle of its work would fail."""
    shift = ending_shift(tmp_path)
    began, goes_on, alive = threading.Event(), threading.Event(), list[bool]()

    def work(_: set[str]) -> None:
        began.set()
        assert goes_on.wait(10)

    loop = shift._add("watch x", work)
    crew = SimpleNamespace(
        loops=[loop],
        stop=goes_on.set,
        let_go=lambda: alive.append(loop.is_alive()),
        cluster=SimpleNamespace(account=None),
    )
    shift.crews["hpc", None] = cast("Any", crew)
    loops.append(loop)
    loop.start()
    assert began.wait(10)
    shift.end()
    assert alive == [False]


def test_a_place_that_could_not_be_used_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of keys that is away for a moment must not cost a restart."""
    shift = ending_shift(tmp_path, Places(("hpc", "ada")))
    crew = SimpleNamespace(loops=[], idle_since=None)
    answers: list[Any] = [ConfigError("no keys"), ConfigError("no keys"), SimpleNamespace()]

    def build(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("wps_hpc.worker.build_cluster", build)
    monkeypatch.setattr(Shift, "_crew", lambda *_: crew)
    for _ in range(2):
        shift._man_places()
    assert (len(answers), list(shift._unmanned)) == (2, [("hpc", "ada")]), "not in each round"
    monkeypatch.setattr("wps_hpc.worker.MAN_AGAIN", 0.0)
    shift._man_places()
    assert [record.message for record in caplog.records] == ["no keys; the jobs there stay as they are"], "told once"
    shift._man_places()
    assert (list(shift.crews), shift._unmanned) == ([("hpc", "ada")], {})


def test_a_place_without_jobs_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places(("hpc", "ada"))
    shift = ending_shift(tmp_path, places)

    def build(*_: object) -> Any:
        raise ConfigError("no keys")

    monkeypatch.setattr("wps_hpc.worker.build_cluster", build)
    shift._man_places()
    assert list(shift._unmanned) == [("hpc", "ada")]
    places._places.clear()
    shift._man_places()
    assert shift._unmanned == {}


def test_only_places_that_the_configuration_still_has_are_manned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster has got a table of accounts, or another has lost it, since those jobs went there."""
    shift = ending_shift(tmp_path, Places(("hpc", "ada"), ("hpc", None), ("local", "ada"), ("gone", None)))
    manned: list[object] = []
    monkeypatch.setattr(Shift, "_man", lambda _, place: manned.append(place))
    shift._man_places()
    assert manned == [("hpc", "ada")]


def test_every_cluster_is_told_whether_jobs_lie_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a tree that is away would be made again, and its jobs be taken for vanished."""
    shift = ending_shift(tmp_path, Places(("hpc", "ada")))
    lie: list[tuple[bool, ...]] = []

    def build(settings: object, name: str, account: str, identity: str, inhabited: Inhabited) -> Any:
        roots = (("hpc", "/home/ada/wps"), ("hpc", "/home/bert/wps"), ("another", "/home/ada/wps"))
        lie.append(tuple(inhabited(*each) for each in roots))
        raise ConfigError("not now")

    monkeypatch.setattr("wps_hpc.worker.build_cluster", build)
    shift._man_places()
    with pytest.raises(ConfigError):
        shift._sweep_account(("hpc", "ada"))
    assert lie == [(True, False, False)] * 2
