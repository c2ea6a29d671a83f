"""``/metrics`` in Prometheus's text format, read from the database and the worker's report when asked.

Nothing is counted in the web processes themselves, so it does not matter which of them answers. Counters
come from sums that outlive the jobs; gauges count the jobs that the database has now.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from wps_hpc.config import Settings
from wps_hpc.health import ClusterRounds, read_report
from wps_hpc.jobs import outbox, spent
from wps_hpc.jobs.store import Store, StoreError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from wps_hpc.processes.catalogue import Catalogue

log = logging.getLogger(__name__)


class ServiceMetrics(Collector):
    """Everything that ``/metrics`` shows. ``collect`` is called at each scrape, in any thread."""

    def __init__(
        self, settings: Settings, store: Store, catalogue: Catalogue, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.store = store
        self.catalogue = catalogue
        self.clock = clock

    def collect(self) -> Iterator[Metric]:
        """All metric families; without those of the database when it does not answer."""
        try:
            jobs = [*self._jobs(), *self._times()]
        except StoreError as error:
            log.error("metrics: %s", error)
            jobs = []
        yield _gauge("wps_hpc_database_up", "Whether the job database answers.", 1 if jobs else 0)
        yield from jobs
        yield from self._worker()
        yield from self._service()

    def _jobs(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "wps_hpc_jobs", "Jobs in the database, by process and state.", labels=("process", "state")
        )
        for (process, state), count in sorted(self.store.count_by_process().items()):
            family.add_metric((process, state.value), count)
        yield family
        yield from self._load()

    def _load(self) -> Iterator[Metric]:
        load = self.store.load()
        limits = self.settings.limits
        yield _gauge("wps_hpc_running", "Jobs at a scheduler.", load.running)
        yield _gauge("wps_hpc_waiting", "Accepted jobs that wait for a place.", load.waiting)
        yield _gauge(
            "wps_hpc_callbacks_waiting", "Callbacks that are yet to be delivered.", outbox.waiting(self.store.database)
        )
        yield _gauge("wps_hpc_parallel_limit", "The limit on jobs at a scheduler.", limits.parallel)
        yield _gauge("wps_hpc_queued_limit", "The limit on jobs that wait.", limits.queued)

    def _times(self) -> Iterator[Metric]:
        finished = CounterMetricFamily(
            "wps_hpc_jobs_finished", "Jobs that have ended, by process and outcome.", labels=("process", "outcome")
        )
        times = SummaryMetricFamily(
            "wps_hpc_state_seconds", "Time that jobs spent in a state before they left it.", labels=("process", "state")
        )
        for entry in sorted(spent.read(self.store.database), key=lambda entry: (entry.process, entry.state)):
            labels = (entry.process, entry.state.value)
            if entry.state.final:
                finished.add_metric(labels, entry.jobs)
            else:
                times.add_metric(labels, count_value=entry.jobs, sum_value=entry.seconds)
        yield from (finished, times)

    def _worker(self) -> Iterator[Metric]:
        report = read_report(self.settings)
        if report is None:
            return
        age = max(0.0, self.clock() - report.round_at)
        yield _gauge("wps_hpc_worker_round_age_seconds", "Time since the worker's last round.", age)
        yield from self._clusters(report.clusters)

    def _clusters(self, clusters: Mapping[str, ClusterRounds]) -> Iterator[Metric]:
        queries = CounterMetricFamily("wps_hpc_scheduler_queries", "Queries of a cluster.", labels=("cluster",))
        failures = CounterMetricFamily(
            "wps_hpc_scheduler_failures", "Queries that a cluster's scheduler did not answer.", labels=("cluster",)
        )
        ages = GaugeMetricFamily(
            "wps_hpc_scheduler_answer_age_seconds", "Time since a scheduler's last answer.", labels=("cluster",)
        )
        for name, rounds in sorted(clusters.items()):
            queries.add_metric((name,), rounds.queries)
            failures.add_metric((name,), rounds.failures)
            if rounds.last_ok is not None:
                ages.add_metric((name,), max(0.0, self.clock() - rounds.last_ok))
        yield from (queries, failures, ages)

    def _service(self) -> Iterator[Metric]:
        yield _gauge("wps_hpc_processes", "Processes on offer.", len(self.catalogue.entries()))
        problems = len(self.catalogue.problems)
        yield _gauge("wps_hpc_process_problems", "Processes that could not be loaded.", problems)
        try:
            free = shutil.disk_usage(self.settings.storage.root).free
        except OSError as error:
            log.error("metrics: the storage cannot be looked at: %s", error)
        else:
            yield _gauge("wps_hpc_storage_free_bytes", "Free space below the storage root.", free)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def metrics_app(metrics: ServiceMetrics) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """The WSGI application for ``/metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        content = generate_latest(registry)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4), ("Cache-Control", "no-store")])
        return [content]

    return app
