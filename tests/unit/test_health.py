"""`/health` and `/metrics` over a real database, with the worker's report as a worker leaves it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from tests.schemas import ROOT
from wps_hpc.config import Settings, parse_settings
from wps_hpc.health import (
    ROUND_MARGIN,
    ClusterRounds,
    Health,
    Part,
    WorkerReport,
    health_app,
    overall,
    read_report,
    report_path,
)
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.store import Store, StoreBusy, open_store
from wps_hpc.metrics import ServiceMetrics, metrics_app
from wps_hpc.processes.catalogue import Catalogue

NOW = 2_000_000_000.0
GOOD = ClusterRounds(last_ok=NOW - 1, queries=7, failures=1, failed_at=NOW - 50, last_error="timed out")


@dataclass
class Service:
    """Settings, database and catalogue of a service, with what it says of itself at the time NOW."""

    settings: Settings
    store: Store
    catalogue: Catalogue

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status code and body of /health."""
        answer = Client(health_app(Health(self.settings, self.store, self.catalogue, lambda: NOW))).get("/health")
        assert answer.content_type == "application/json"
        return answer.status_code, json.loads(answer.data)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every sample of /metrics: (name, label values in the order of their names) to value."""
        text = (
            Client(metrics_app(ServiceMetrics(self.settings, self.store, self.catalogue, lambda: NOW)))
            .get("/metrics")
            .text
        )
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(s.name, *(s.labels[key] for key in sorted(s.labels))): s.value for s in samples}

    def report(self, **changes: Any) -> None:
        """Leave a worker's report."""
        report = WorkerReport(42, "host:42", 3, NOW - 100, NOW - 2, {"local": GOOD})
        replace(report, **changes).save(self.settings)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that nothing is wrong with, but that no worker has reported yet."""
    settings = parse_settings({"storage": {"root": str(tmp_path / "data")}})
    settings.storage.root.mkdir()
    store = open_store(settings)
    store.upgrade()
    yield Service(settings, store, Catalogue((), ()))
    store.close()


def add_job(service: Service, **fields: Any) -> Job:
    """A job in the database."""
    basis: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000001",
        "process": "p",
        "process_version": "1",
        "protocol": "wps1",
        "mode": "async",
        "state": JobState.ACCEPTED,
        "message": "",
        "percent": 0,
        "created": NOW - 100,
        "request": "{}",
        "staged": True,
    }
    job = Job(**{**basis, **fields})
    service.store.add_job(job, limits=service.settings.limits)
    return job


def test_all_is_well(service: Service) -> None:
    service.report()
    code, body = service.health()
    assert (code, body["status"]) == (200, "ok")
    assert body["worker"] == {"status": "ok", "round_age_seconds": 2.0, "epoch": 3}
    assert body["schedulers"]["clusters"] == {"local": {"answers": True, "answer_age_seconds": 1.0}}
    assert body["processes"] == {"status": "ok", "offered": 0, "problems": 0}


def test_nothing_secret_is_told(service: Service) -> None:
    service.report(clusters={"local": replace(GOOD, failed_at=NOW, last_error="ssh key /home/wps/.ssh/id refused")})
    said = json.dumps(service.health()[1])
    for secret in ("ssh", "host:42", str(service.settings.storage.root), "sqlite"):
        assert secret not in said


def spoil_report(service: Service) -> None:
    report_path(service.settings).write_text('{"pid": 1}')


def silence_worker(service: Service) -> None:
    cluster = service.settings.clusters["local"]
    service.report(round_at=NOW - ROUND_MARGIN - cluster.query_seconds - cluster.command_seconds - 1)


def silence_scheduler(service: Service) -> None:
    service.report(clusters={"local": GOOD.unanswered(NOW, "connection refused")})


def break_process(service: Service) -> None:
    folder = service.settings.storage.root.parent / "processes"
    folder.mkdir()
    (folder / "bad.py").write_text("not Python")
    service.catalogue = Catalogue((), (folder,))
    service.catalogue.reload()


@pytest.mark.parametrize(
    ("harm", "part"),
    [
        (lambda service: report_path(service.settings).unlink(), "worker"),
        (spoil_report, "worker"),
        (silence_worker, "worker"),
        (silence_scheduler, "schedulers"),
        (break_process, "processes"),
    ],
)
def test_what_hurts_without_stopping_the_service_is_degraded(
    service: Service, harm: Callable[[Service], None], part: str
) -> None:
    service.report()
    harm(service)
    code, body = service.health()
    assert (code, body["status"], body[part]["status"]) == (200, "degraded", "degraded")


def test_low_space_is_degraded_and_none_is_failing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.report()
    usage = shutil.disk_usage(service.settings.storage.root)
    for free, expected in ((500_000_000, "degraded"), (10_000, "failing")):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: usage._replace(free=free))
        assert service.health()[1]["storage"] == {"status": expected, "free_bytes": free}


def test_too_little_space_for_new_jobs_is_degraded(service: Service) -> None:
    service.report()
    storage = service.settings.storage.model_copy(update={"min_free_bytes": 10**18})
    service.settings = service.settings.model_copy(update={"storage": storage})
    assert service.health()[1]["storage"]["status"] == "degraded"


def test_a_storage_that_is_gone_is_failing(service: Service) -> None:
    shutil.rmtree(service.settings.storage.root)
    code, body = service.health()
    assert (code, body["status"]) == (503, "failing")
    assert body["storage"]["error"] == "not writable: No such file or directory"


def test_a_database_that_does_not_answer_is_failing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.report()

    def busy(self: Store) -> None:
        raise StoreBusy("the job database does not answer: password=secret")

    monkeypatch.setattr(Store, "count_by_process", busy)
    code, body = service.health()
    assert (code, body["database"]["status"]) == (503, "failing")
    assert "secret" not in json.dumps(body)
    assert service.metrics()[("wps_hpc_database_up",)] == 0.0


def test_the_worst_part_counts() -> None:
    assert overall([]) == "ok"
    assert overall([Part("ok"), Part("degraded")]) == "degraded"
    assert overall([Part("failing"), Part("degraded")]) == "failing"


def test_a_report_is_read_as_it_was_written(service: Service) -> None:
    assert read_report(service.settings) is None
    service.report()
    report = read_report(service.settings)
    assert report == WorkerReport(42, "host:42", 3, NOW - 100, NOW - 2, {"local": GOOD})


def test_rounds_are_counted() -> None:
    rounds = ClusterRounds().answered(1.0).unanswered(2.0, "down").answered(3.0)
    assert rounds == ClusterRounds(3.0, 2.0, "down", 3, 1)


def test_metrics_show_jobs_load_and_limits(service: Service) -> None:
    add_job(service)
    values = service.metrics()
    assert values[("wps_hpc_database_up",)] == 1.0
    assert values[("wps_hpc_jobs", "p", "accepted")] == 1.0
    assert (values[("wps_hpc_running",)], values[("wps_hpc_waiting",)]) == (0.0, 1.0)
    assert values[("wps_hpc_parallel_limit",)] == service.settings.limits.parallel
    assert values[("wps_hpc_storage_free_bytes",)] > 0


def test_metrics_sum_the_time_in_each_state_and_keep_it_when_the_job_is_purged(service: Service) -> None:
    job = add_job(service)
    epoch = Lease(service.store, "test", 60).acquire()
    assert epoch is not None
    submission = service.store.add_submission([job.id], "w1", "local", epoch)
    assert submission.id
    service.store.change(job.id, epoch, state=JobState.RUNNING)
    service.store.change(job.id, epoch, state=JobState.SUCCEEDED, scheduler_gone=True)
    before = service.metrics()
    assert before[("wps_hpc_jobs_finished_total", "succeeded", "p")] == 1.0
    for state in ("accepted", "submitting", "running"):
        assert before[("wps_hpc_state_seconds_count", "p", state)] == 1.0
        assert before[("wps_hpc_state_seconds_sum", "p", state)] >= 0.0
    service.store.expire_now(job.id, 0.0)
    service.store.mark_expired(NOW * 2)
    service.store.remove(job.id)
    after = service.metrics()
    assert ("wps_hpc_jobs", "p", "succeeded") not in after
    assert after[("wps_hpc_jobs_finished_total", "succeeded", "p")] == 1.0


def test_metrics_show_the_worker_and_its_queries(service: Service) -> None:
    assert ("wps_hpc_worker_round_age_seconds",) not in service.metrics()
    service.report()
    values = service.metrics()
    assert values[("wps_hpc_worker_round_age_seconds",)] == 2.0
    assert values[("wps_hpc_scheduler_queries_total", "local")] == 7.0
    assert values[("wps_hpc_scheduler_failures_total", "local")] == 1.0
    assert values[("wps_hpc_scheduler_answer_age_seconds", "local")] == 1.0


def test_the_guide_names_every_metric_and_no_other(service: Service) -> None:
    service.report()
    job = add_job(service)
    epoch = Lease(service.store, "test", 60).acquire()
    assert epoch is not None
    service.store.change(job.id, epoch, state=JobState.DISMISSED)
    guide = (ROOT / "docs" / "operators-guide.md").read_text().partition("## Monitoring")[2]
    table = " ".join(line.split(" | ")[0] for line in guide.splitlines() if line.startswith("| `wps_hpc"))
    named = set(re.findall(r"wps_hpc_\w+", table.replace("{sum,count}", "sum wps_hpc_state_seconds_count")))
    shown = {name[0] for name in service.metrics()}
    assert named == {name for name in shown if not name.endswith("_created")}
