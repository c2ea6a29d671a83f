"""Composition root of the web side: the application with everything behind it, made once in each web process."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from wps_hpc.app import create_app
from wps_hpc.clusters.containers import judge
from wps_hpc.config import Settings
from wps_hpc.health import Health, health_app
from wps_hpc.jobs.accept import Intake
from wps_hpc.jobs.progress import Progress
from wps_hpc.jobs.results import Results
from wps_hpc.jobs.store import Store, open_store
from wps_hpc.jobs.wake import Bell
from wps_hpc.metrics import ServiceMetrics, metrics_app
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.protocols.ports import Backend

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

#: Threads hand the interpreter on after so many seconds: each request is short, and each waits for the database.
SWITCH = 0.0005
#: A start gives up on a silent database after so many seconds, says so, and tries again.
START_SECONDS = 3.0


def web_app(settings: Settings, catalogue: Catalogue | None = None) -> WSGIApplication:
    """The application, with a database, a catalogue that is kept up to date (by default the configuration's), and a
    bell of its own.

    Called after the fork, for it makes connections and a thread. Raises StoreBusy when the database does not answer,
    and may be called again then; StoreError when it cannot be used.
    """
    sys.setswitchinterval(SWITCH)
    settings.storage.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = ready_store(settings)
    catalogue = catalogue or Catalogue.of(settings.processes, judge(settings))
    catalogue.reload()
    keep_up_to_date(catalogue, settings.processes.watch_seconds)
    bell = Bell(settings.storage.run, store.database)
    intake = Intake(settings, store, catalogue, bell)
    jobs = Progress(store, settings.storage.root, bell)
    backend = Backend(catalogue, intake, jobs, Results(settings))
    mounts = {
        "/health": health_app(Health(settings, store, catalogue)),
        "/metrics": metrics_app(ServiceMetrics(settings, store, catalogue)),
    }
    return create_app(settings, backend, mounts)


def ready_store(settings: Settings) -> Store:
    """The job database with its tables up to date; after StoreBusy or another StoreError no connection is left."""
    store = open_store(settings)
    patience, store.database.busy_seconds = store.database.busy_seconds, START_SECONDS
    try:
        store.upgrade()
    except BaseException:
        store.close()
        raise
    store.database.busy_seconds = patience
    return store


def keep_up_to_date(catalogue: Catalogue, seconds: float) -> None:
    """Look at the watched folders every so many seconds, in a thread of its own, as long as the process lives."""
    never = threading.Event()

    def look() -> None:
        while not never.wait(seconds):
            try:
                catalogue.reload()
            except Exception:
                # Whatever an author's file does when it is loaded, the next look must happen.
                log.exception("the processes could not be looked at")

    threading.Thread(target=look, name="catalogue", daemon=True).start()
