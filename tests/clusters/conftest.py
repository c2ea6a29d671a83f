"""The job database on both systems: every test that asks for `store` runs on SQLite and on PostgreSQL.

And sites on the batch system that a module has in its fixture ``system``.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.batch_system import BatchSystem
from tests.clusters.hpc import TRUTHS
from tests.clusters.matrix import Ends, submit_rows
from tests.clusters.site import Site
from wps_hpc.config import Limits
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.store import Store


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the times of a process that shares the work over to the one that prints."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["truths"] = TRUTHS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take them over."""
    TRUTHS.extend(getattr(node, "workeroutput", {}).get("truths", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the fault matrix's times to truth."""
    if TRUTHS:
        terminalreporter.section("time to truth")
        terminalreporter.write_line("\n".join(TRUTHS))


@pytest.fixture
def site(system: BatchSystem) -> Iterator[Site]:
    """A site with a worker on the module's batch system; its jobs that still run are ended."""
    opened = system.make_site()
    opened.start_worker()
    yield opened
    system.leave(opened)


@pytest.fixture(scope="module")
def ends(system: BatchSystem) -> Iterator[Ends]:
    """The rows of the fault matrix that disturb nobody, submitted together."""
    opened = system.make_site()
    opened.start_worker()
    yield submit_rows(system, opened)
    system.leave(opened)


ROOMY = Limits(parallel=1000, queued=1000)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'database' / 'jobs.sqlite'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with its tables."""
    opened = Store(store_url, busy_seconds=5)
    opened.upgrade()
    yield opened
    opened.close()


@pytest.fixture
def epoch(store: Store) -> int:
    """The epoch of a worker that holds the lease for the whole test."""
    taken = Lease(store, "the test's worker", 600).acquire()
    assert taken is not None
    return taken


@pytest.fixture
def add(store: Store) -> Callable[..., Job]:
    """Add a staged, accepted job, with some of its fields given, and return it as stored."""

    def added(**fields: Any) -> Job:
        job = make_job(**fields)
        store.add_job(job, limits=ROOMY)
        stored = store.get(job.id)
        assert stored is not None
        return stored

    return added


def make_job(**fields: Any) -> Job:
    """A staged, accepted job that nobody has stored yet."""
    basis: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "process": "buffer",
        "process_version": "1.0.0",
        "protocol": "wps1",
        "mode": "async",
        "state": JobState.ACCEPTED,
        "message": "accepted",
        "percent": 0,
        "created": time.time(),
        "request": "{}",
        "staged": True,
    }
    return Job(**{**basis, **fields})
