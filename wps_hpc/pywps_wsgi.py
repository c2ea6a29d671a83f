"""What ``wps_hpc.pywps_service`` returns: a WSGI application in the place of a ``pywps.Service``.

It is a whole site within the process that serves it: the web side, a worker in a thread, and the configuration's
clusters. Nothing is started before the first request, so that a server may import it and fork; when several processes
serve it, the worker of one of them is active, as everywhere.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wps_hpc.clusters.containers import judge
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.config import Settings, absolute, load_settings, nested, parse_settings
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.pywps_settings import carry
from wps_hpc.site import web_app
from wps_hpc.worker import Worker

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

#: PyWPS lets a synchronous call take as long as it likes; seconds.
SYNC_SECONDS = 3600.0
#: How long the worker gets to end its rounds, and the spooler to end, in seconds.
PATIENCE = 10.0

Files = Iterable[str | os.PathLike[str]] | str | os.PathLike[str] | None


class PywpsService:
    """A WSGI application that offers processes of PyWPS (and any other kind); ``processes`` has them by identifier."""

    def __init__(self, processes: Sequence[Any], settings: Settings, temporary: Path | None = None) -> None:
        """``temporary`` is a folder to be removed with the service."""
        self.settings = settings
        self._temporary = temporary
        own = settings.processes
        self._catalogue = Catalogue(own.modules, own.folders, own.pywps_config, processes, judge(settings))
        self._catalogue.reload()
        self.processes: Mapping[str, Any] = {
            entry.description.identifier: getattr(entry.runnable, "process", entry.runnable)
            for entry in self._catalogue.entries()
        }
        self._lock = threading.Lock()
        self._running: _Running | None = None
        atexit.register(self.close)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request. PyWPS answers at whatever address it is mounted: here that is the root, and ``/wps``."""
        if environ.get("PATH_INFO", "") in ("", "/"):
            environ = {**environ, "PATH_INFO": "/wps"}
        return self._started().application(environ, start_response)

    def _started(self) -> _Running:
        with self._lock:
            if self._running is None or self._running.pid != os.getpid():
                self._running = _Running(self.settings, self._catalogue)
            return self._running

    def close(self) -> None:
        """End the worker. Jobs that still run are left to themselves, as ever; what is temporary is removed."""
        with self._lock:
            running, self._running = self._running, None
        if running is None or running.pid != os.getpid():
            return
        running.stop()
        if self._temporary is not None:
            _end_spooler(self.settings)
            shutil.rmtree(self._temporary, ignore_errors=True)


class _Running:
    """A web side and a worker, in this process."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self.pid = os.getpid()
        self.application: WSGIApplication = web_app(settings, catalogue)
        self._stop = threading.Event()
        worker = Worker(settings, catalogue)
        self._thread = threading.Thread(target=worker.run, args=(self._stop,), name="worker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the worker after its current round."""
        self._stop.set()
        self._thread.join(PATIENCE)


def _end_spooler(settings: Settings) -> None:
    try:
        EmbeddedTransport(settings.storage.run).stop(PATIENCE, detach=True)
    except TransportError as error:
        log.debug("the spooler does not run: %s", error)


def service(processes: Sequence[Any], files: Files) -> PywpsService:
    """See ``wps_hpc.pywps_service``."""
    named = [files] if isinstance(files, str | os.PathLike) else list(files or ())
    ours = [Path(file) for file in named if Path(file).suffix == ".toml"]
    if ours:
        return PywpsService(processes, load_settings(ours[0]))
    paths = _pywps_files([Path(file) for file in named])
    carried = carry(paths) if paths else None
    values = dict(carried.values) if carried else {}
    for note in carried.notes if carried else ():
        log.info("%s", note)
    temporary = None
    if "storage.root" not in values:
        temporary = Path(tempfile.mkdtemp(prefix="wps-hpc-"))
        values["storage.root"] = str(temporary)
    settings = absolute(parse_settings(nested({**_defaults(), **values})), Path.cwd())
    return PywpsService(processes, settings, temporary)


def _pywps_files(named: list[Path]) -> list[Path]:
    """The files that PyWPS reads: those named or its own, then that of the environment; if they are there."""
    files = named or [Path("/etc/pywps.cfg"), Path.home() / ".pywps.cfg"]
    if os.environ.get("PYWPS_CFG"):
        files = [*files, Path(os.environ["PYWPS_CFG"])]
    for missing in (file for file in named if not file.is_file()):
        log.warning("the PyWPS configuration %s is not there", missing)
    # Once each: a wsgi.py that names the environment's itself has it twice.
    return list(dict.fromkeys(file for file in files if file.is_file()))


def _defaults() -> dict[str, Any]:
    """What PyWPS does unless told otherwise, where we do something else."""
    # Jobs of PyWPS are forked from the server, and can import all that it can.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {
        "server.public_url": "http://localhost",
        "limits.sync_seconds": SYNC_SECONDS,
        "clusters.local.environment": {"PYTHONPATH": path},
    }
