"""Fetching the inputs by reference of whole jobs: several at a time, in turn between jobs, again after a crash.

A fetched document lies in ``inputs/`` under its final name only when it is whole, and a small record in ``staging/``
says with which type it came; a stage that begins again takes both as they are and fetches only what is missing.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import Failure
from joblauncher.formats.values import FileValue, value_from_json, value_to_json
from wps_hpc.config import Settings
from wps_hpc.errors import NotEnoughStorage, ServiceError
from wps_hpc.jobs import addresses
from wps_hpc.jobs.fetch import FetchCancelled, Terms, fetch, shared_file
from wps_hpc.jobs.request import ExecuteRequest, Given, NestedGiven, Reference
from wps_hpc.jobs.requestjson import blank_secrets, forget_secrets
from wps_hpc.processes.description import ComplexData, Format, Input, NestedInputs, ProcessDescription
from wps_hpc.processes.formats import extension_for, matching

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000
#: Suffix of the records in ``staging/``; everything else there is unfinished.
_RECORD = ".json"
_UNKNOWN_TYPE = "application/octet-stream"


class StagingFailed(Exception):
    """A job's inputs could not be fetched, or it was cancelled meanwhile; ``failure`` is what the client is told."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class FairPool:
    """A few threads that take one task of each job in turn, so that many inputs of one job do not block the others."""

    def __init__(self, threads: int) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[_Task]] = OrderedDict()
        self._closed = False
        for number in range(threads):
            threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True).start()

    def submit(self, job_id: str, call: Callable[[], FileValue]) -> Future[FileValue]:
        """Have ``call`` done when it is this job's turn."""
        task = _Task(call)
        with self._changed:
            if self._closed:
                task.drop()
            else:
                self._waiting.setdefault(job_id, deque()).append(task)
                self._changed.notify()
        return task.future

    def close(self) -> None:
        """Cancel what waits; what runs goes on until it looks at its own cancellation."""
        with self._changed:
            self._closed = True
            for task in chain.from_iterable(self._waiting.values()):
                task.drop()
            self._waiting.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            task.run()

    def _next(self) -> _Task | None:
        """The first task of the job whose turn it is, which then goes to the end of the line; None: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            job_id, tasks = self._waiting.popitem(last=False)
            task = tasks.popleft()
            if tasks:
                self._waiting[job_id] = tasks
            return task


@dataclass(frozen=True)
class _Task:
    call: Callable[[], FileValue]
    future: Future[FileValue] = field(default_factory=Future)

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.call())
            except BaseException as error:
                # Whatever it is, it is raised again in the thread that stages the job.
                self.future.set_exception(error)

    def drop(self) -> None:
        """Let whoever waits for it know that it will not be done."""
        self.future.cancel()
        self.future.set_running_or_notify_cancel()


@dataclass(frozen=True)
class _Slot:
    """One reference of a request: its place (as in ``JobFolder.input``), and what the process says of that input."""

    place: tuple[tuple[str, int], ...]
    reference: Reference
    data: ComplexData | None

    @property
    def identifier(self) -> str:
        """The outermost input's identifier, which errors name."""
        return self.place[0][0]


@dataclass
class Stager:
    """Fetches the inputs of jobs over one pool of ``settings.inputs.parallel`` threads.

    ``describe`` gives a process's description, None when it is not on offer; with it the process's own size limits
    hold, and a document without a type gets one that the process takes. It does not touch the database.
    """

    settings: Settings
    describe: Callable[[str], ProcessDescription | None] = lambda _: None
    _pool: FairPool = field(init=False)

    def __post_init__(self) -> None:
        self._pool = FairPool(self.settings.inputs.parallel)

    def close(self) -> None:
        """Start no more fetches; those that wait count as cancelled."""
        self._pool.close()

    def stage(
        self, job_id: str, folder: JobFolder, request: ExecuteRequest, cancelled: Callable[[], bool] = lambda: False
    ) -> ExecuteRequest:
        """Fetch every reference of the request and return it with files in their place.

        Blocks; called by one thread per job, and after a crash again with the same request. ``cancelled`` is asked a
        few times a second, from other threads. Raises StagingFailed. The client's secrets are blanked once they were
        used, but kept when cancelled: the next worker may begin again.
        """
        slots = tuple(self._slots(request))
        if not slots:
            return request
        try:
            files = self._fetch_all(job_id, folder, slots, cancelled)
        except (FetchCancelled, CancelledError) as error:
            text = "The job was cancelled while its inputs were fetched."
            raise StagingFailed(Failure("cancelled", text)) from error
        except ServiceError as error:
            _use_up_secrets(job_id, folder)
            raise StagingFailed(_failure(error)) from error
        _use_up_secrets(job_id, folder)
        reach(Failpoint.STAGE_FETCHED)
        return replace(request, inputs=_filled(request.inputs, iter(files)))

    def _slots(self, request: ExecuteRequest) -> Iterator[_Slot]:
        description = self.describe(request.process)
        return _slots_of(request.inputs, () if description is None else description.inputs, ())

    def _fetch_all(
        self, job_id: str, folder: JobFolder, slots: tuple[_Slot, ...], cancelled: Callable[[], bool]
    ) -> list[FileValue]:
        """The files in the order of the slots. The first failure ends what else is under way for the job."""
        _prepare(folder)
        over = threading.Event()

        def ended() -> bool:
            return over.is_set() or cancelled()

        futures = [self._pool.submit(job_id, partial(self._fetch, job_id, folder, slot, ended)) for slot in slots]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        over.set()
        wait(futures)
        for future in sorted(done, key=futures.index):
            future.result()
        return [future.result() for future in futures]

    def _fetch(self, job_id: str, folder: JobFolder, slot: _Slot, ended: Callable[[], bool]) -> FileValue:
        if ended():
            raise FetchCancelled
        terms = Terms(self.settings.inputs, self._limit(slot), slot.identifier, ended)
        if addresses.is_file(slot.reference.href):
            shared = shared_file(slot.reference, terms)
            return _file_value(slot, shared.path, shared.size, None, shared=True)
        return _recorded(folder, slot) or _download(job_id, folder, slot, terms)

    def _limit(self, slot: _Slot) -> int:
        """The largest size in bytes. What stays on the shared filesystem is limited only by its process."""
        limits = [] if addresses.is_file(slot.reference.href) else [self.settings.limits.input_bytes]
        if slot.data is not None and slot.data.maximum_megabytes is not None:
            limits.append(int(slot.data.maximum_megabytes * _MEGABYTE))
        return min(limits, default=sys.maxsize)


def _download(job_id: str, folder: JobFolder, slot: _Slot, terms: Terms) -> FileValue:
    log.info("job %s: fetching input %s", job_id, slot.identifier)
    stem = folder.staging / _stem(folder, slot)
    whole = stem.with_name(f"{stem.name}.whole")
    fetched = fetch(slot.reference, whole, stem.with_name(f"{stem.name}.part"), terms)
    value = _file_value(slot, "", fetched.size, fetched.mime_type)
    target = folder.input(slot.place, _extension(slot, value.mime_type))
    value = replace(value, path=target.relative_to(folder.path).as_posix())
    try:
        whole.replace(target)
        # Without the address, which may hold a secret: the slot has it.
        write_atomic(_record_path(folder, slot), json.dumps(value_to_json(replace(value, href=None))))
    except OSError as error:
        raise NotEnoughStorage("The server cannot store the input.", slot.identifier) from error
    return value


def _use_up_secrets(job_id: str, folder: JobFolder) -> None:
    """Blank the secrets, or at least remove them: on a full disk, say. A crash from here on then fails the job."""
    try:
        blank_secrets(folder)
    except (OSError, ValueError):
        log.exception("job %s: its secrets could not be blanked", job_id)
        forget_secrets(folder)


def _failure(error: ServiceError) -> Failure:
    cause = "disk full" if isinstance(error, NotEnoughStorage) else "input not available"
    return Failure(cause, error.text, error.code, error.locator, detail=str(error.__cause__ or ""))


def _slots_of(
    inputs: Mapping[str, tuple[Given, ...]], described: Sequence[Input], outer: tuple[tuple[str, int], ...]
) -> Iterator[_Slot]:
    """The references among the inputs, in the order in which ``_filled`` meets them."""
    known = {item.identifier: item.data for item in described}
    for identifier, occurrences in inputs.items():
        data = known.get(identifier)
        for number, given in enumerate(occurrences, start=1):
            place = (*outer, (identifier, number))
            if isinstance(given, Reference):
                yield _Slot(place, given, data if isinstance(data, ComplexData) else None)
            elif isinstance(given, NestedGiven):
                inner = data.inputs if isinstance(data, NestedInputs) else ()
                yield from _slots_of(given.values, inner, place)


def _filled(inputs: Mapping[str, tuple[Given, ...]], files: Iterator[FileValue]) -> dict[str, tuple[Given, ...]]:
    """The inputs with each reference replaced by the next file."""
    return {name: tuple(_filled_one(given, files) for given in occurrences) for name, occurrences in inputs.items()}


def _filled_one(given: Given, files: Iterator[FileValue]) -> Given:
    if isinstance(given, Reference):
        return next(files)
    if isinstance(given, NestedGiven):
        return NestedGiven(_filled(given.values, files))
    return given


def _prepare(folder: JobFolder) -> None:
    """Make the folders, and remove what an earlier stage did not finish."""
    try:
        for path in (folder.inputs, folder.staging):
            path.mkdir(mode=0o700, exist_ok=True)
        for path in folder.staging.iterdir():
            if path.suffix != _RECORD:
                path.unlink()
    except OSError as error:
        raise NotEnoughStorage("The server cannot store the inputs.") from error


def _stem(folder: JobFolder, slot: _Slot) -> str:
    return folder.input(slot.place, "").name


def _record_path(folder: JobFolder, slot: _Slot) -> Path:
    return folder.staging / f"{_stem(folder, slot)}{_RECORD}"


def _recorded(folder: JobFolder, slot: _Slot) -> FileValue | None:
    """What an earlier stage fetched for this slot, if the document still is as it was recorded."""
    try:
        value = value_from_json(json.loads(_record_path(folder, slot).read_bytes()))
    except (OSError, ValueError, TypeError):
        # Never fetched, or a crash came before the record.
        return None
    if not isinstance(value, FileValue) or not _is_whole(folder.path / value.path, value):
        return None
    return replace(value, href=slot.reference.href)


def _is_whole(path: Path, value: FileValue) -> bool:
    return path.is_file() and path.stat().st_size == value.size


def _file_value(slot: _Slot, path: str, size: int, replied: str | None, *, shared: bool = False) -> FileValue:
    """The input as a file, in the format that the client gave, or else in one that reply and process agree on."""
    given = slot.reference
    value = FileValue(path, given.mime_type or "", given.encoding, given.schema, size, shared, given.href)
    if given.mime_type is not None:
        return value
    found = _agreed_format(slot, replied)
    return replace(value, mime_type=found.mime_type, schema=given.schema or found.schema)


def _agreed_format(slot: _Slot, replied: str | None) -> Format:
    """The reply's type, if the process takes it, else the default: servers call GeoJSON text/plain."""
    if slot.data is None:
        return Format(replied or _UNKNOWN_TYPE)
    return matching(slot.data.formats, replied, None, slot.reference.schema) or slot.data.formats[0]


def _extension(slot: _Slot, mime_type: str) -> str:
    described = matching(slot.data.formats, mime_type) if slot.data is not None else None
    return (described and described.extension) or extension_for(mime_type)
