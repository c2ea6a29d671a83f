"""The connection to the job database: SQLite or PostgreSQL, short transactions, waiting for locks within a bound."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The clock that all workers share, as SQL: Unix seconds with fractions. SQLite before 3.42 has no
#: ``unixepoch('subsec')``; julianday counts whole milliseconds.
CLOCKS = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)"),
}

#: PostgreSQL's advisory locks of this program, so that they cannot meet another program's by chance.
MIGRATION_LOCK = 0x57505301
ADMISSION_LOCK = 0x57505302

#: PostgreSQL's words for «try that again»: serialization failure, deadlock, lock not available, starting or stopping.
TRY_AGAIN = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300"})
FULL = frozenset({"53100", "53200"})

#: Connections that stay open; a web process has a few threads, a worker a few more.
POOL = 16
#: A lock is waited for by the database itself for so long, then the transaction is tried afresh.
LOCK_WAIT_S = 2.0
#: A worker that was stopped in the middle of a transaction must not hold the others up for ever.
IDLE_TRANSACTION_S = 60

#: alembic keeps its environment in module globals.
_one_migration_at_a_time = threading.Lock()


class StoreError(Exception):
    """The job database could not do what was asked."""


class StoreBusy(StoreError):
    """The database was locked or away for too long; another try may help.

    Nothing was changed, unless ``may_have_happened``: then the connection broke during the commit.
    """

    def __init__(self, text: str, *, may_have_happened: bool = False) -> None:
        super().__init__(text)
        self.may_have_happened = may_have_happened


class StoreFull(StoreError):
    """The database has no room left. Nothing was changed."""


class Database:
    """A job database. Used by any number of threads, each call with a connection of its own.

    ``busy_seconds`` bounds the wait for a lock or for a server that restarts.
    """

    def __init__(self, url: str, *, busy_seconds: float = 10.0) -> None:
        """Nothing is connected yet. Raises ValueError for any other database, and for a SQLite one without a file."""
        self.url = make_url(url)
        self.dialect = self.url.get_backend_name()
        self.busy_seconds = busy_seconds
        if self.dialect not in CLOCKS:
            raise ValueError(f"{self.dialect}: jobs are kept in SQLite or PostgreSQL")
        self.engine = _ENGINES[self.dialect](self.url, min(LOCK_WAIT_S, busy_seconds))
        self._writing = self.engine.execution_options(immediate=True)
        self._reading = (
            self.engine if self.dialect == "sqlite" else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )

    def read(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` reads, each of its statements on its own. Raises StoreBusy."""
        return self._patiently(lambda: self._read_once(work))

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, commit, and return its result; after an exception nothing was changed.

        ``work`` may be run again when a lock was in the way, so it must change nothing but the database. Raises
        StoreBusy and StoreFull.
        """
        return self._patiently(lambda: self._write_once(work))

    def clock(self, connection: Connection) -> float:
        """The database's own time in Unix seconds: the one clock that all workers share."""
        return float(connection.execute(CLOCKS[self.dialect]).scalar_one())

    def lock(self, connection: Connection, number: int) -> None:
        """Let one transaction at a time go on from here. On SQLite every writing transaction is alone anyway."""
        if self.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})

    def upgrade(self) -> None:
        """Bring the tables to this version's shape, all or nothing; any number of processes may do so at once."""
        config = Config()
        config.set_main_option("script_location", "wps_hpc.jobs:migrations")
        with _one_migration_at_a_time:
            self.write(lambda connection: self._migrate(connection, config))

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self.engine.dispose()

    def _migrate(self, connection: Connection, config: Config) -> None:
        self.lock(connection, MIGRATION_LOCK)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def _read_once(self, work: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            return work(connection)

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        with self._writing.connect() as connection:
            connection.begin()
            result = work(connection)
            try:
                connection.commit()
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise StoreBusy(f"connection lost during commit: {error.orig}", may_have_happened=True) from error
                raise
            return result

    def _patiently(self, once: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.busy_seconds
        while True:
            try:
                return once()
            except (OperationalError, InterfaceError) as error:
                if not _transient(error) or time.monotonic() >= deadline:
                    raise _in_our_words(error) from error
                log.debug("trying again: %s", error.orig)
            except DatabaseError as error:
                # Those of a kind of their own are defects of this program; what is left is the file's or the server's.
                if type(error) is DatabaseError:
                    raise StoreError(f"the job database is damaged, or is none: {error.orig}") from error
                raise
            except PoolTimeout as error:
                raise StoreBusy("all connections to the job database are in use") from error
            time.sleep(random.uniform(0.005, 0.05))


def _transient(error: DBAPIError) -> bool:
    if error.connection_invalidated or getattr(error.orig, "sqlstate", "") in TRY_AGAIN:
        return True
    if getattr(error.orig, "sqlstate", "") is None:  # psycopg: no answer at all, such as «connection refused»
        return True
    return "locked" in str(error.orig) or "busy" in str(error.orig)


def _in_our_words(error: DBAPIError) -> StoreError:
    words = str(error.orig)
    if getattr(error.orig, "sqlstate", "") in FULL or "is full" in words:
        return StoreFull(f"the job database is full: {words}")
    return StoreBusy(f"the job database does not answer: {words}")


def _sqlite(url: URL, lock_wait: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ValueError("jobs in a SQLite database need a file, which the worker shares with the web processes")
    _private_file(Path(url.database))
    engine = create_engine(
        url, poolclass=QueuePool, pool_size=POOL, max_overflow=POOL, connect_args={"timeout": lock_wait}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _private_file(path: Path) -> None:
    """Requests are nobody else's business. SQLite gives its other files the mode of this one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """WAL: readers never wait for a writer. synchronous=NORMAL: a commit is not fsynced, only checkpoints are.

    A killed process loses nothing so; after a power cut the last commits may be gone, but never half a transaction.
    A submission that is forgotten that way cannot run twice: its number is given out again, and on the node the claim
    of that attempt is there already.
    """
    connection.isolation_level = None  # BEGIN is ours to say
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    """A transaction that reads before it writes must have the write lock first, or it may fail half-way."""
    if connection.get_execution_options().get("immediate"):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _postgresql(url: URL, lock_wait: float) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(
        url, pool_size=POOL, max_overflow=POOL, pool_use_lifo=True, connect_args={"connect_timeout": 5}
    )
    bounds = (
        f"SET lock_timeout = {int(lock_wait * 1000)}",
        f"SET idle_in_transaction_session_timeout = {IDLE_TRANSACTION_S * 1000}",
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        for statement in bounds:
            connection.execute(statement)
        connection.commit()

    return engine


_ENGINES: dict[str, Callable[[URL, float], Engine]] = {"sqlite": _sqlite, "postgresql": _postgresql}
