"""Sweeping at accounts that have no jobs now, to which no connection is open: what is over there has to go as well.

Each account is visited once after the worker's start, and once after it was let go of. Where folders stay until their
job is purged, it is visited again when one of its jobs was.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wps_hpc import config
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.jobs.purge import ORPHAN_AGE
from wps_hpc.jobs.store import Store
from wps_hpc.jobs.sweep import Swept

log = logging.getLogger(__name__)

#: After a visit that failed, the next one to that account comes so many seconds later.
VISIT_AGAIN = 3600.0

Account = tuple[str, str]


@dataclass(frozen=True)
class _Visit:
    """One that was made: the account's jobs in the database then, and when another one is due whatever happens."""

    rows: int
    again: float


@dataclass
class Visits:
    """Visits the accounts of all clusters that have any; for one loop, whose thread calls ``round``.

    ``sweep`` opens an account (of the cluster of that name), sweeps and closes it again; raises TransportError,
    OSError and ConfigError.
    ``manned`` says whether somebody looks after an account anyhow, ``over`` that no more visits are wanted.
    """

    clusters: Mapping[str, config.Cluster]
    store: Store
    sweep: Callable[[Account], Swept]
    manned: Callable[[Account], bool]
    over: Callable[[], bool] = lambda: False
    steady: Callable[[], float] = time.monotonic
    _visited: dict[Account, _Visit] = field(default_factory=dict)

    def round(self) -> None:
        """Visit those accounts where something may be over, one after the other."""
        rows = self.store.jobs_of_accounts()
        for account in sorted(self._known(rows)):
            if self.over():
                return
            if self.manned(account):
                self._visited.pop(account, None)
            elif self._is_due(account, rows.get(account, 0)):
                self._visited[account] = _Visit(rows.get(account, 0), self.steady() + self._visit(account))

    def _known(self, rows: Mapping[Account, int]) -> set[Account]:
        """Those in the tables, and those that were in them when there were jobs of theirs."""
        listed = {(name, account) for name, own in self.clusters.items() for account in own.accounts.values()}
        former = {*rows, *self._visited}
        return listed | {(name, account) for name, account in former if name in self.clusters and self._has(name)}

    def _has(self, name: str) -> bool:
        return bool(self.clusters[name].accounts)

    def _is_due(self, account: Account, rows: int) -> bool:
        last = self._visited.get(account)
        if last is None or self.steady() >= last.again:
            return True
        return rows < last.rows and self.clusters[account[0]].cleanup == "purged"

    def _visit(self, account: Account) -> float:
        """Sweep there; the seconds after which that has to be done again."""
        try:
            swept = self.sweep(account)
        except (TransportError, OSError, config.ConfigError) as error:
            log.warning("cluster %s, account %s: what is over there cannot be removed: %s", *account, error)
            return VISIT_AGAIN
        return ORPHAN_AGE if swept.left else math.inf
