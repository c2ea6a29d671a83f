"""Taking an Execute in: validated, admitted, its inline inputs on disk, one row in the database, the worker woken.

The job folder is complete before the row appears. A crash before the row leaves a folder that belongs to no job, which
purging removes; after the row the job is accepted, whatever happens to this process.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.values import FileValue
from wps_hpc.config import Cluster, Settings
from wps_hpc.errors import (
    BY_CODE,
    InvalidParameterValue,
    NoApplicableCode,
    NoSuchProcess,
    NotEnoughStorage,
    NotFound,
    ServerBusy,
    ServiceError,
)
from wps_hpc.jobs.accounts import account_for
from wps_hpc.jobs.addresses import check_reference
from wps_hpc.jobs.admission import check_admission
from wps_hpc.jobs.callbacks import check_subscriber
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.needs import NotGiven, check_queues, needs
from wps_hpc.jobs.record import request_record
from wps_hpc.jobs.request import ExecuteRequest, Given, InlineContent, Mode, NestedGiven, Reference
from wps_hpc.jobs.requestjson import save_secrets, to_json
from wps_hpc.jobs.store import Store, StoreBusy, StoreError, StoreFull
from wps_hpc.jobs.validate import validated
from wps_hpc.jobs.wake import Bell
from wps_hpc.processes.catalogue import Catalogue, Entry
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.processes.formats import extension_for
from wps_hpc.processes.run import ProcessError

log = logging.getLogger(__name__)

#: errno values that mean «no room»: on the disk, within a quota, within a process's limit for one file.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: A waiting thread looks at the database after so many seconds, then at growing intervals, even if no bell rings.
FIRST_LOOK, LONGEST_LOOK = 0.1, 0.5

#: Where an input stands: identifier and occurrence (from 1), at each level of nesting.
Place = tuple[tuple[str, int], ...]


class Intake:
    """Takes Executes in, and waits for or dismisses the jobs they became. Any number of threads may use it."""

    def __init__(self, settings: Settings, store: Store, catalogue: Catalogue, bell: Bell) -> None:
        self._settings = settings
        self._store = store
        self._catalogue = catalogue
        self._bell = bell

    def execute(self, request: ExecuteRequest) -> Job:
        """Accept one Execute; when this returns, the job exists.

        Raises what ``validated`` raises, Forbidden for an owner who has no account on the cluster, ServerBusy over a
        limit or when the database is locked for too long, and NotEnoughStorage when there is no room, or less than
        ``storage.min_free_bytes``. After an error there is no job.
        """
        entry = self._catalogue.get(request.process)
        if entry is None:
            raise NoSuchProcess(f"There is no process {request.process[:200]!r} here.", "Identifier")
        wanted = validated(entry.description, request, self._settings)
        cluster = self._cluster_for(entry.description, wanted)
        account_for(self._settings.clusters[cluster], wanted.owner)
        self._check_references(wanted)
        check_subscriber(wanted.subscriber, self._settings.callbacks)
        with _in_service_words():
            self._check_room()
            self._turn_away_early(wanted)
            job = self._accepted(entry, wanted)
        self._bell.ring_worker()  # for nobody in particular: there is nothing to watch yet
        log.info("job %s: accepted: %s, %s by %s", job.id, job.process, job.mode, job.protocol)
        return job

    def wait(self, job_id: str, seconds: float) -> Job:
        """The job when it is final, or as it is after ``seconds``; raises NotFound if there is none (any more)."""
        deadline = time.monotonic() + seconds
        with self._bell.job_listener(job_id) as listener:
            pause = FIRST_LOOK
            while True:
                job = self._job(job_id)
                left = deadline - time.monotonic()
                if job.final or left <= 0:
                    return job
                listener.wait(min(pause, left))
                pause = min(pause * 1.5, LONGEST_LOOK)

    def dismiss(self, job_id: str, by: str) -> Job:
        """Have the job ended, as asked for by ``by``; raises NotFound. The answer is the job as it is now."""
        with _in_service_words():
            job = self._store.request_cancel(job_id, by)
        if job is None:
            raise _no_job(job_id)
        self._bell.ring_worker({job_id})
        return job

    def release_id(self, job_id: str) -> None:
        """Have the job's identifier forgotten by WPS 2.0, whose client has dismissed it."""
        with _in_service_words():
            self._store.release_id(job_id)

    def pause(self, job_id: str) -> Job:
        """Ask that the job is held while it waits, or suspended while it runs; raises NotFound. The answer is the job
        as it is now."""
        return self._wished(job_id, {JobState.RUNNING: "suspend", JobState.SUSPENDED: "suspend"}, "hold")

    def resume(self, job_id: str) -> Job:
        """Ask that a paused job goes on; raises NotFound. The answer is the job as it is now."""
        return self._wished(job_id, {JobState.RUNNING: "resume", JobState.SUSPENDED: "resume"}, "release")

    def forget(self, job_id: str) -> None:
        """Let an ended job go before its time: nobody wants its results any more. Clients see it no longer."""
        with _in_service_words():
            self._store.expire_now(job_id, time.time())

    def _wished(self, job_id: str, wishes: Mapping[JobState, str], otherwise: str) -> Job:
        state = self._job(job_id).state
        ask = {
            "hold": self._store.request_hold,
            "release": self._store.request_release,
            "suspend": self._store.request_suspend,
            "resume": self._store.request_resume,
        }[wishes.get(state, otherwise)]
        with _in_service_words():
            job = ask(job_id)
        if job is None:
            raise _no_job(job_id)
        self._bell.ring_worker({job_id})
        return job

    def _job(self, job_id: str) -> Job:
        with _in_service_words():
            job = self._store.get(job_id)
        if job is None:
            raise _no_job(job_id)
        return job

    def _check_references(self, request: ExecuteRequest) -> None:
        """Refuse now what would be refused when it is fetched, as far as that can be told without the network."""
        for identifier, values in request.inputs.items():
            for value in _flat({identifier: values}):
                if isinstance(value, Reference):
                    check_reference(value, self._settings.inputs, identifier)

    def _check_room(self) -> None:
        """What is left is for jobs that were accepted already, and for the database."""
        least, free = self._settings.storage.min_free_bytes, shutil.disk_usage(self._settings.storage.root).free
        if free < least:
            log.error("an Execute is refused: %d bytes are free, storage.min_free_bytes are %d", free, least)
            raise NotEnoughStorage("The server has too little room left to take a new job. Please try later.")

    def _turn_away_early(self, request: ExecuteRequest) -> None:
        """Before megabytes are written for a request that has no chance."""
        if any(isinstance(value, InlineContent) for value in _flat(request.inputs)):
            check_admission(self._store.load(), request.mode, self._settings.limits)

    def _accepted(self, entry: Entry, request: ExecuteRequest) -> Job:
        job_id = str(uuid.uuid4())
        folder = JobFolder(job_path(self._settings.storage.root, job_id))
        try:
            _make(folder)
            stored = _on_disk(request, folder)
            job = self._job_for(job_id, entry.description, stored)
            if job.staged:
                self._check_needs(entry, stored, folder, self._settings.clusters[job.cluster])
            reach(Failpoint.ACCEPT_BEFORE_ROW)
            self._store.add_job(job, limits=self._settings.limits)
        except BaseException as error:
            if not (isinstance(error, StoreBusy) and error.may_have_happened):
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        reach(Failpoint.ACCEPT_AFTER_ROW)
        return job

    def _check_needs(self, entry: Entry, request: ExecuteRequest, folder: JobFolder, cluster: Cluster) -> None:
        """Refuse now what no queue of the site could run. Of a job whose inputs have yet to be fetched that cannot be
        told: packing checks again."""
        record = request_record(request)
        try:
            needed = needs(entry.runnable, record, request.resources, folder, self._settings.limits)
            check_queues(needed, record, cluster)
        except NotGiven as error:
            raise InvalidParameterValue(str(error), error.resource) from error
        except ProcessError as error:
            raise BY_CODE.get(error.code, NoApplicableCode)(error.text, error.locator) from error
        except Exception:
            # A defect in an author's function: the job fails with it when it is packed, and the log has the traceback.
            log.warning("process %s cannot say what it needs", entry.description.identifier, exc_info=True)

    def _job_for(self, job_id: str, process: ProcessDescription, request: ExecuteRequest) -> Job:
        now = time.time()
        staged = not any(isinstance(value, Reference) for value in _flat(request.inputs))
        sync = request.mode is Mode.SYNC
        cluster = self._cluster_for(process, request)
        return Job(
            id=job_id,
            process=process.identifier,
            process_version=process.version,
            protocol=request.protocol,
            mode=request.mode.value,
            state=JobState.ACCEPTED,
            message="waiting for a place" if staged else "waiting for its inputs to be fetched",
            percent=0,
            created=now,
            request=to_json(request),
            cluster=cluster,
            owner=request.owner,
            deadline=now + self._settings.limits.sync_seconds if sync else None,
            staged=staged,
            state_since=now,
            account=account_for(self._settings.clusters[cluster], request.owner),
        )

    def _cluster_for(self, process: ProcessDescription, request: ExecuteRequest) -> str:
        """Where the job runs: the default cluster, or for a call that somebody waits for beside the server.

        Not there where owners have accounts: nobody's code is to run under the server's.
        """
        default = self._settings.default_cluster
        beside_the_server = request.mode is Mode.SYNC and process.sync == "local"
        return "local" if beside_the_server and not self._settings.clusters[default].accounts else default


def _make(folder: JobFolder) -> None:
    """The folder with ``inputs/``, open to nobody else at any moment, whatever the umask is."""
    spread = folder.path.parent
    spread.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    spread.mkdir(mode=0o700, exist_ok=True)
    folder.path.mkdir(mode=0o700)
    folder.inputs.mkdir(mode=0o700)


def _on_disk(request: ExecuteRequest, folder: JobFolder) -> ExecuteRequest:
    """The request with its inline inputs in files, and its secrets and lineage in theirs."""
    if request.lineage is not None:
        write_atomic(folder.lineage, request.lineage)
    save_secrets(request, folder)
    return replace(request, inputs=_written(request.inputs, folder, ()))


def _written(inputs: Mapping[str, tuple[Given, ...]], folder: JobFolder, place: Place) -> dict[str, tuple[Given, ...]]:
    return {
        name: tuple(_file_for(value, folder, (*place, (name, n))) for n, value in enumerate(values, start=1))
        for name, values in inputs.items()
    }


def _file_for(value: Given, folder: JobFolder, place: Place) -> Given:
    if isinstance(value, NestedGiven):
        return NestedGiven(_written(value.values, folder, place))
    if not isinstance(value, InlineContent):
        return value
    mime_type = value.mime_type or "application/octet-stream"
    path = folder.input(place, extension_for(mime_type))
    write_atomic(path, value.content)
    relative = str(path.relative_to(folder.path))
    return FileValue(relative, mime_type, value.encoding, value.schema, len(value.content))


def _flat(inputs: Mapping[str, tuple[Given, ...]]) -> Iterator[Given]:
    for values in inputs.values():
        for value in values:
            if isinstance(value, NestedGiven):
                yield from _flat(value.values)
            else:
                yield value


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id[:100]!r} here, or no longer.", "jobId")


@contextmanager
def _in_service_words() -> Iterator[None]:
    """What the client is told when disk or database fail; the operator finds the rest in the log."""
    try:
        yield
    except (StoreError, OSError) as error:
        log.error("an Execute cannot be served: %s", error)
        raise _told(error) from error


def _told(error: StoreError | OSError) -> ServiceError:
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
        return NotEnoughStorage("The server has no room left to store this request. Please try later.")
    if isinstance(error, StoreBusy):
        return ServerBusy("The server's job database is busy. Please try later.")
    return NoApplicableCode("The server could not store the request.")
