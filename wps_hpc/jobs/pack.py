"""Completing a job folder: payload, request, source, manifest and batch script; and the order for the scheduler.

Everything that the launcher will read is listed in the manifest with size and SHA-256; the manifest's own SHA-256
stands in the launcher's command line, which travels through the scheduler and not over the shared filesystem.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import (
    Container,
    Failure,
    Limits,
    ListedFile,
    Manifest,
    RecordError,
    RequestRecord,
    SharedFile,
    dump,
    load,
)
from joblauncher.formats.values import FileValue
from wps_hpc.clusters.cluster import Cluster
from wps_hpc.clusters.containers import NotAllowed, Places
from wps_hpc.clusters.queues import NoQueueFits
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.clusters.scripts import ScriptError
from wps_hpc.config import Settings
from wps_hpc.errors import ServiceError
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.needs import NotGiven, needs
from wps_hpc.jobs.record import input_files, megabytes, request_record
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.requestjson import from_json
from wps_hpc.jobs.validate import check_fit
from wps_hpc.processes.catalogue import Catalogue, Entry
from wps_hpc.processes.description import Resources
from wps_hpc.processes.run import ProcessError

log = logging.getLogger(__name__)

_TOKEN_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_CHUNK = 1 << 20


class PackFailed(Exception):
    """The job folder cannot be completed; ``failure`` is what the client is told."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass(frozen=True)
class Packer:
    """Turns a staged job into an order for its cluster. ``launcher`` is the installed ``joblauncher.pyz``.

    ``tells``: the container's runtime says on the node which version it is.
    """

    settings: Settings
    catalogue: Catalogue
    launcher: Path
    tells: bool = False

    def folder(self, job: Job) -> JobFolder:
        """The job's folder."""
        return JobFolder(job_path(self.settings.storage.root, job.id))

    def request(self, job: Job) -> ExecuteRequest:
        """The job's stored request; raises PackFailed when it cannot be read."""
        try:
            return from_json(job.request)
        except RecordError as error:
            text = "The stored request of the job cannot be read."
            raise PackFailed(Failure("internal error", text, detail=str(error))) from error

    def pack(self, job: Job, request: ExecuteRequest, cluster: Cluster) -> JobOrder:
        """Write everything that the job's next submission needs; raises PackFailed.

        Called before the submission is recorded, so a crash in between leaves files that the next try overwrites.
        """
        entry = self._entry(job)
        _check_fit(entry, request)
        folder = self.folder(job)
        try:
            manifest, digest = self._write(job, request, entry, folder, cluster)
            order = self._order(cluster, folder, manifest, digest, new_token())
            write_atomic(folder.script, order.script, durable=not cluster.warm, mode=0o700)
        except OSError as error:
            text = "The job folder could not be written; is the disk full?"
            raise PackFailed(Failure("disk full", text, code="NotEnoughStorage", detail=str(error))) from error
        except NoQueueFits as error:
            failure = Failure("could not be submitted", str(error), "InvalidParameterValue", error.resource)
            raise PackFailed(failure) from error
        except NotAllowed as error:
            text = f"The process {job.process} cannot run on this server: its container is not allowed here."
            raise PackFailed(Failure("could not be submitted", text, detail=str(error))) from error
        except ScriptError as error:
            text = "The job could not be prepared because of a fault in the server's batch template."
            raise PackFailed(Failure("could not be submitted", text, detail=str(error))) from error
        reach(Failpoint.PACKED)
        return order

    def packed(self, job: Job, cluster: Cluster, token: str) -> JobOrder:
        """The very order of a submission that is already recorded, made again from the job folder.

        Nothing is rewritten: a launcher may be reading the folder already. Raises OSError or RecordError when the
        folder is not there or not whole.
        """
        folder = self.folder(job)
        content = folder.manifest.read_bytes()
        manifest = load(Manifest, content)
        digest = hashlib.sha256(content).hexdigest()
        order = self._order(cluster, folder, manifest, digest, token)
        return replace(order, script=folder.script.read_text())

    def _entry(self, job: Job) -> Entry:
        entry = self.catalogue.get(job.process)
        if entry is None or entry.description.version != job.process_version:
            # The web process that took the job in may have looked at the folders later than this worker.
            self.catalogue.reload()
            entry = self.catalogue.get(job.process)
        if entry is None:
            text = f"The process {job.process} is no longer offered by this server."
            raise PackFailed(Failure("could not start", text, code="InvalidParameterValue", locator="Identifier"))
        return entry

    def _write(
        self, job: Job, request: ExecuteRequest, entry: Entry, folder: JobFolder, cluster: Cluster
    ) -> tuple[Manifest, str]:
        # A job that the spooler forks dies with this host: after a power cut there is nobody left to read its files.
        durable = not cluster.warm
        record = request_record(request)
        resources = self._resources(entry, record, request.resources, folder)
        written = [
            _listed(folder, folder.payload, entry.payload, durable),
            _listed(folder, folder.request, dump(record), durable),
        ]
        if entry.source is not None:
            folder.source.mkdir(mode=0o700, exist_ok=True)
            written.append(_listed(folder, folder.source / f"{entry.module}.py", entry.source, durable))
        files = list(input_files(record))
        written += [_hashed(folder, value) for value in files if not value.shared]
        shared = tuple(SharedFile(value.path, value.size or 0) for value in files if value.shared)
        container = self._container(entry, folder, cluster, shared, resources)
        manifest = self._manifest(job, resources, entry, cluster, tuple(written), shared, container)
        content = dump(manifest)
        write_atomic(folder.manifest, content, durable=durable)
        return manifest, hashlib.sha256(content).hexdigest()

    def _manifest(
        self,
        job: Job,
        resources: Resources,
        entry: Entry,
        cluster: Cluster,
        files: tuple[ListedFile, ...],
        shared: tuple[SharedFile, ...],
        container: Container | None,
    ) -> Manifest:
        return Manifest(
            job=job.id,
            submission=next_submission(job),
            process=job.process,
            loads=entry.loads,
            module=entry.module,
            python=platform.python_version(),
            dill=_VERSIONS["dill"],
            wps_hpc=_VERSIONS["wps-hpc"],
            # The job's own time, so that packing again gives the same bytes: a worker that wakes up late, in the middle
            # of this, must not change the digest of what its successor has submitted.
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.created)),
            files=files,
            shared=shared,
            limits=Limits(
                walltime_s=resources.walltime_s,
                memory_mb=resources.memory_mb,
                log_bytes=self.settings.limits.log_bytes,
                enforce=not cluster.scheduler.enforces_limits,
                max_restarts=_restarts(entry, cluster),
            ),
            resources={name: value for name, value in vars(resources).items() if value is not None},
            outputs_url=self.settings.server.outputs_url(job.id),
            container=container,
        )

    def _container(
        self,
        entry: Entry,
        folder: JobFolder,
        cluster: Cluster,
        shared: tuple[SharedFile, ...],
        resources: Resources,
    ) -> Container | None:
        places = Places(
            folder=str(folder.path),
            attempts=str(folder.attempts),
            launcher=str(self.launcher),
            shared=tuple(dict.fromkeys(file.path for file in shared)),
        )
        return cluster.entry(entry.description.container, places, resources, tell=self.tells)

    def _order(self, cluster: Cluster, folder: JobFolder, manifest: Manifest, digest: str, token: str) -> JobOrder:
        options = (str(self.launcher), "--digest", digest, "--folder", str(folder.path))
        launcher = cluster.started(manifest.container, manifest.submission, options)
        contained = manifest.container is not None and not manifest.container.commands
        order = JobOrder(
            token=token,
            job_id=manifest.job,
            script="",
            folder=str(folder.path),
            launcher=launcher,
            submission=manifest.submission,
            resources=Resources(**manifest.resources),
            input_mb=_input_mb(manifest, folder),
            restarts=manifest.limits.max_restarts,
            warm=cluster.warm and not contained,
            contained=contained,
        )
        return replace(order, script=cluster.render_script(order))

    def _resources(
        self, entry: Entry, record: RequestRecord, wished: Mapping[str, int], folder: JobFolder
    ) -> Resources:
        try:
            return needs(entry.runnable, record, wished, folder, self.settings.limits)
        except NotGiven as error:
            failure = Failure("could not be submitted", str(error), "InvalidParameterValue", error.resource)
        except ProcessError as error:
            failure = Failure("process error", error.text, code=error.code, locator=error.locator)
        except Exception as error:
            # An author's function: whatever it raises is the process's failure, not the worker's.
            log.exception("process %s cannot say what it needs", record.identifier)
            failure = Failure("process error", f"The process cannot say what it needs: {type(error).__name__}: {error}")
        raise PackFailed(failure)


def _check_fit(entry: Entry, request: ExecuteRequest) -> None:
    """What waits runs the process as it is on offer now, unless that no longer takes what was sent."""
    try:
        check_fit(entry.description, request)
    except ServiceError as error:
        text = (
            f"The process {request.process} has changed since the job was accepted: {error.text} Please send it again."
        )
        raise PackFailed(Failure("could not start", text, code=error.code, locator=error.locator)) from error


def _input_mb(manifest: Manifest, folder: JobFolder) -> int:
    own = [file.size for file in manifest.files if file.path.startswith(f"{folder.inputs.name}/")]
    return megabytes(own + [file.size for file in manifest.shared])


def _restarts(entry: Entry, cluster: Cluster) -> int:
    return cluster.settings.max_restarts if entry.description.restartable else 0


def next_submission(job: Job) -> int:
    """The number that the job's next submission gets, and its first attempt: behind every attempt so far."""
    return max(job.submission_number, job.attempt) + 1


def new_token() -> str:
    """A name that no other submission has: ``w`` and 14 letters or digits (about 72 bits), good for every scheduler."""
    return "w" + "".join(secrets.choice(_TOKEN_LETTERS) for _ in range(14))


def _listed(folder: JobFolder, path: Path, content: bytes, durable: bool) -> ListedFile:
    write_atomic(path, content, durable=durable)
    return ListedFile(str(path.relative_to(folder.path)), len(content), hashlib.sha256(content).hexdigest())


def _hashed(folder: JobFolder, value: FileValue) -> ListedFile:
    digest = hashlib.sha256()
    size = 0
    with (folder.path / value.path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return ListedFile(value.path, size, digest.hexdigest())


_VERSIONS = {name: version(name) for name in ("dill", "wps-hpc")}
