"""One active worker: a lease on the database's clock, whose epoch stands guard over every change of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from wps_hpc.jobs.tables import lease

if TYPE_CHECKING:
    from wps_hpc.jobs.store import Store

#: No lease is longer than this or twice the own one, in seconds.
_LONGEST = 600.0

_EPOCH = select(lease.c.epoch).where(lease.c.id == 1).with_for_update(read=True)
_TAKE = (
    update(lease)
    .where(
        lease.c.id == 1,
        or_(
            lease.c.expires <= bindparam("now"),
            lease.c.holder == "",
            # Nobody takes it for so long: the clock was set back, and a dead holder would be waited for until then.
            lease.c.expires > bindparam("beyond"),
        ),
    )
    .values(holder=bindparam("by"), epoch=lease.c.epoch + 1, expires=bindparam("until"))
    .returning(lease.c.epoch)
)
_MINE = and_(lease.c.id == 1, lease.c.holder == bindparam("by"), lease.c.epoch == bindparam("mine"))
_EXTEND = update(lease).where(_MINE).values(expires=bindparam("until"))
_GIVE_UP = update(lease).where(_MINE).values(holder="", expires=0.0)


class LeaseLost(Exception):
    """Another worker has taken over; what this one wanted to change was not changed, and it must stop working."""


def fence(connection: Connection, epoch: int) -> None:
    """Go on only if ``epoch`` is the current one, and keep it so until the transaction ends. Raises LeaseLost."""
    current = connection.execute(_EPOCH).scalar_one()
    if current != epoch:
        raise LeaseLost(f"epoch {epoch} is over; the current one is {current}")


class Lease:
    """A worker's claim to be the active one. ``holder`` must be this worker's alone (host, pid and something random).

    The worker renews well within ``seconds``. One that sleeps past them may be replaced; it learns so by LeaseLost, at
    the latest with its next change of a job.
    """

    def __init__(self, store: Store, holder: str, seconds: float) -> None:
        self._database = store.database
        self.holder = holder
        self.seconds = seconds
        self.epoch: int | None = None

    def acquire(self) -> int | None:
        """The new epoch if the lease was free or had run out, this worker's own epoch if it still has it, else None."""
        if self.epoch is None or not self._extended():
            self.epoch = self._database.write(self._take)
        return self.epoch

    def renew(self) -> None:
        """Keep the lease for another ``seconds``; raises LeaseLost when another worker has taken it."""
        if self.epoch is None or not self._extended():
            self.epoch = None
            raise LeaseLost(f"{self.holder} does not hold the lease")

    def release(self) -> None:
        """Let another worker take over at once; nothing happens if one already has."""
        if self.epoch is not None:
            names = {"by": self.holder, "mine": self.epoch}
            self._database.write(lambda connection: connection.execute(_GIVE_UP, names))
        self.epoch = None

    def _take(self, connection: Connection) -> int | None:
        now = self._database.clock(connection)
        times = {"now": now, "until": now + self.seconds, "beyond": now + max(_LONGEST, 2 * self.seconds)}
        taken = connection.execute(_TAKE, {"by": self.holder, **times})
        return taken.scalar_one_or_none()

    def _extended(self) -> bool:
        return self._database.write(self._extend)

    def _extend(self, connection: Connection) -> bool:
        until = self._database.clock(connection) + self.seconds
        return connection.execute(_EXTEND, {"by": self.holder, "mine": self.epoch, "until": until}).rowcount == 1
