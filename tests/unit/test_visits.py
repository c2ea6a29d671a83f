"""When accounts without jobs are visited, so that what is over there goes."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from tests.far_settings import MAPPED
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.config import ConfigError, parse_settings
from wps_hpc.jobs.purge import ORPHAN_AGE
from wps_hpc.jobs.sweep import Swept
from wps_hpc.jobs.visits import VISIT_AGAIN, Account, Visits

ADA, BERT = ("hpc", "ada"), ("hpc", "bert")


class World:
    """Two accounts, ``rows`` of them in the database, and a clock."""

    def __init__(self, cleanup: str) -> None:
        self.rows: dict[Account, int] = {}
        self.manned: set[Account] = set()
        self.away: dict[Account, Exception] = {}
        self.left = 0
        self.now = 1000.0
        self.over = False
        self._swept: list[Account] = []
        clusters = {"hpc": MAPPED | {"cleanup": cleanup}, "plain": {"scheduler": "slurm"}}
        self.visits = Visits(
            parse_settings({"clusters": clusters}).clusters,
            cast("Any", self),
            self.sweep,
            self.manned.__contains__,
            lambda: self.over,
            lambda: self.now,
        )

    def jobs_of_accounts(self) -> dict[Account, int]:
        """See ``Store``."""
        return self.rows

    def sweep(self, account: Account) -> Swept:
        """What is over there goes."""
        self._swept.append(account)
        if account in self.away:
            raise self.away[account]
        return Swept(left=self.left)

    def round(self) -> list[Account]:
        """Whom one round visits."""
        self._swept.clear()
        self.visits.round()
        return list(self._swept)


@pytest.fixture
def world() -> World:
    """A cluster where folders stay until their job is purged."""
    return World("purged")


def test_all_accounts_are_visited_once_at_the_start(world: World) -> None:
    assert world.round() == [ADA, BERT]
    world.now += 1e9
    assert world.round() == []


def test_an_account_is_visited_when_a_job_of_its_was_purged(world: World) -> None:
    world.rows = {ADA: 2, BERT: 1}
    world.round()
    world.rows = {ADA: 1, BERT: 1}
    assert world.round() == [ADA]
    assert world.round() == []
    world.rows = {BERT: 1}
    assert world.round() == [ADA]


def test_where_folders_go_with_the_end_of_their_job_a_purge_is_no_reason() -> None:
    world = World("fetched")
    world.rows = {ADA: 2}
    world.round()
    world.rows = {ADA: 1}
    assert world.round() == []


def test_an_account_that_somebody_looks_after_is_visited_once_it_is_let_go_of(world: World) -> None:
    world.manned.add(ADA)
    assert world.round() == [BERT]
    world.manned.clear()
    assert world.round() == [ADA]
    world.manned.add(BERT)
    assert world.round() == []
    world.manned.clear()
    assert world.round() == [BERT]


@pytest.mark.parametrize(
    "error",
    [
        TransportError("no route to host", may_have_run=False),
        OSError(errno.EROFS, "Read-only file system"),
        ConfigError("the template cannot be read"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_account_that_cannot_be_opened_keeps_no_other_waiting_and_is_tried_later(
    world: World, error: Exception
) -> None:
    world.away[ADA] = error
    assert world.round() == [ADA, BERT]
    world.now += VISIT_AGAIN - 1
    assert world.round() == []
    world.now += 1
    assert world.round() == [ADA]


def test_what_is_too_young_to_go_is_come_back_for(world: World) -> None:
    world.left = 1
    world.round()
    world.now += ORPHAN_AGE
    world.left = 0
    assert world.round() == [ADA, BERT]
    world.now += ORPHAN_AGE
    assert world.round() == []


def test_an_account_that_was_taken_out_of_the_table_is_visited_as_long_as_it_has_jobs(world: World) -> None:
    carl = ("hpc", "carl")
    world.rows = {carl: 1, ("plain", "ada"): 1, ("gone", "ada"): 1}
    assert world.round() == [ADA, BERT, carl]
    world.rows = {}
    assert world.round() == [carl]


def test_a_worker_that_ends_visits_nobody_any_more(world: World) -> None:
    world.over = True
    assert world.round() == []
