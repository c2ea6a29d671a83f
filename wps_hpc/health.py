"""``/health``: whether the service can do its work now, for load balancers, monitors and people; no
secrets in it.

Also the worker's report of itself, ``<storage.run>/worker.json``: written by the worker after every watch
round, read here and by the metrics, so that a web process can tell how the other half is.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblauncher.formats.atomic import write_atomic
from wps_hpc.config import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from wps_hpc.jobs.store import Store
    from wps_hpc.processes.catalogue import Catalogue

log = logging.getLogger(__name__)

#: Free space of the storage below which the service is degraded, and failing, in bytes.
LOW_SPACE, NO_SPACE = 1_000_000_000, 50_000_000
#: A watch round older than this many seconds beyond the cluster's query interval and command limit is late.
ROUND_MARGIN = 30.0


@dataclass(frozen=True)
class ClusterRounds:
    """How the worker fares with one cluster: times in Unix seconds, counts since the worker started.

    ``last_ok`` is the last watch round in which the scheduler answered, ``last_error`` what it said when
    it last did not, at ``failed_at``.
    """

    last_ok: float | None = None
    failed_at: float | None = None
    last_error: str | None = None
    queries: int = 0
    failures: int = 0

    def answered(self, now: float) -> ClusterRounds:
        """After a query that was answered."""
        return ClusterRounds(now, self.failed_at, self.last_error, self.queries + 1, self.failures)

    def unanswered(self, now: float, why: str) -> ClusterRounds:
        """After a query that was not."""
        return ClusterRounds(self.last_ok, now, why, self.queries + 1, self.failures + 1)


@dataclass(frozen=True)
class WorkerReport:
    """What the active worker says of itself. ``round_at`` is the end of its last round, in Unix seconds."""

    pid: int
    holder: str
    epoch: int
    started: float
    round_at: float
    clusters: Mapping[str, ClusterRounds] = field(default_factory=dict)

    def save(self, settings: Settings) -> None:
        """Replace the report; raises OSError."""
        path = report_path(settings)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, json.dumps(asdict(self)), durable=False)


def report_path(settings: Settings) -> Path:
    """Where the worker's report lies."""
    return settings.storage.run / "worker.json"


def read_report(settings: Settings) -> WorkerReport | None:
    """The last report that a worker left; None when there is none that can be read."""
    try:
        body = json.loads(report_path(settings).read_bytes())
        clusters = {name: ClusterRounds(**rounds) for name, rounds in body.pop("clusters").items()}
        return WorkerReport(**body, clusters=clusters)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("the worker's report cannot be read: %s", error)
        return None


#: The words for a part's state, from best to worst.
OK, DEGRADED, FAILING = "ok", "degraded", "failing"
_ORDER = (OK, DEGRADED, FAILING)


@dataclass(frozen=True)
class Part:
    """The state of one part of the service, with what is known of it: JSON values, nothing secret."""

    status: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Health:
    """Looks at every part of the service. ``degraded``: requests are answered, but not as well as they
    should be; ``failing``: new jobs cannot be taken.

    Cheap enough for a probe every second; each web process has one.
    """

    settings: Settings
    store: Store
    catalogue: Catalogue
    clock: Callable[[], float] = time.time

    def parts(self) -> dict[str, Part]:
        """Every part by its name."""
        return {
            "database": self.database(),
            "storage": self.storage(),
            "worker": self.worker(),
            "schedulers": self.schedulers(),
            "processes": self.processes(),
        }

    def database(self) -> Part:
        """A round trip to the database."""
        begun = time.monotonic()
        try:
            self.store.count_by_state()
        except Exception:  # whatever a driver raises, the database does not answer
            log.exception("health: the database does not answer")
            return Part(FAILING, {"error": "the database does not answer; see the log"})
        return Part(OK, {"milliseconds": round((time.monotonic() - begun) * 1000, 1)})

    def storage(self) -> Part:
        """Whether a file can be written, and how much room is left."""
        root = self.settings.storage.root
        try:
            with tempfile.TemporaryFile(dir=root) as probe:
                probe.write(b"health")
                probe.flush()
            free = shutil.disk_usage(root).free
        except OSError as error:
            return Part(FAILING, {"error": f"not writable: {os.strerror(error.errno or 0)}"})
        low = max(LOW_SPACE, self.settings.storage.min_free_bytes)
        status = FAILING if free < NO_SPACE else DEGRADED if free < low else OK
        return Part(status, {"free_bytes": free})

    def worker(self) -> Part:
        """Whether a worker is at work, by the age of its last round."""
        report = read_report(self.settings)
        if report is None:
            return Part(DEGRADED, {"error": "no worker has reported; accepted jobs wait"})
        age = max(0.0, self.clock() - report.round_at)
        status = OK if age <= self._longest_round() else DEGRADED
        return Part(status, {"round_age_seconds": round(age, 1), "epoch": report.epoch})

    def schedulers(self) -> Part:
        """Whether each cluster's scheduler answered the last query."""
        report = read_report(self.settings)
        clusters = {} if report is None else {n: self._cluster(r) for n, r in report.clusters.items()}
        silent = any(not facts["answers"] for facts in clusters.values())
        return Part(DEGRADED if silent else OK, {"clusters": clusters})

    def processes(self) -> Part:
        """How many processes are offered, and how many could not be loaded."""
        problems = len(self.catalogue.problems)
        return Part(DEGRADED if problems else OK, {"offered": len(self.catalogue.entries()), "problems": problems})

    def _longest_round(self) -> float:
        clusters = self.settings.clusters.values()
        return ROUND_MARGIN + max(cluster.query_seconds + cluster.command_seconds for cluster in clusters)

    def _cluster(self, rounds: ClusterRounds) -> dict[str, Any]:
        answers = rounds.failed_at is None or (rounds.last_ok or 0.0) > rounds.failed_at
        age = None if rounds.last_ok is None else round(max(0.0, self.clock() - rounds.last_ok), 1)
        return {"answers": answers, "answer_age_seconds": age}


def overall(parts: Iterable[Part]) -> str:
    """The worst state of all parts."""
    return max((part.status for part in parts), key=_ORDER.index, default=OK)


def health_app(health: Health) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """The WSGI application for ``/health``:

    JSON; 200 while requests can be served, 503 when the service is failing.
    """

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parts = health.parts()
        status = overall(parts.values())
        body = {
            "status": status,
            **{name: {"status": part.status, **part.facts} for name, part in parts.items()},
        }
        line = "503 Service Unavailable" if status == FAILING else "200 OK"
        start_response(line, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [json.dumps(body).encode()]

    return app
