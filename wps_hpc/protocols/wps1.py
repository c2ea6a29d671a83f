"""WPS 1.0.0 (OGC 05-007r7): the three operations and the status document, from bytes to bytes.

Documents that depend on the catalogue alone are rendered once for each of its revisions and sent as they are;
status documents once for each revision of their job.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, Value
from wps_hpc.config import Settings
from wps_hpc.errors import (
    BY_CODE,
    NoApplicableCode,
    NoSuchJob,
    NoSuchProcess,
    NotFound,
)
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, Mode
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.answer import NO_STORE, XML_TYPE, Answer, FileAnswer, RecentDocuments, RevisionCache
from wps_hpc.protocols.caller import ANYBODY, Caller
from wps_hpc.protocols.control import JobControl
from wps_hpc.protocols.embedding import is_base64
from wps_hpc.protocols.execution import Execution, raw_link
from wps_hpc.protocols.links import Addresses
from wps_hpc.protocols.ows import Query, preferred_language, required_language
from wps_hpc.protocols.ows_service import Site, is_current, wanted_sections
from wps_hpc.protocols.ports import Backend
from wps_hpc.protocols.waiting import Waiting
from wps_hpc.protocols.wps1_capabilities import ALWAYS, SECTIONS, capabilities, unchanged_capabilities
from wps_hpc.protocols.wps1_describe import description, descriptions, offered
from wps_hpc.protocols.wps1_kvp import read_kvp
from wps_hpc.protocols.wps1_lineage import add_bounding_box
from wps_hpc.protocols.wps1_post import read_post
from wps_hpc.protocols.wps1_request import PROTOCOL, Execute, Operation, to_execute_request
from wps_hpc.protocols.wps1_response import execute_response
from wps_hpc.protocols.wps_request import DescribeProcess, GetCapabilities, JobRequest
from wps_hpc.protocols.xml import WPS, root, to_bytes
from wps_hpc.protocols.xml_request import Document

Reply: TypeAlias = Answer | FileAnswer

#: What to do when a synchronous call takes too long.
_ADVICE = 'Run it asynchronously: storeExecuteResponse="true" and status="true".'


@dataclass(frozen=True)
class _Offer:
    """The processes that WPS 1.0.0 can offer, of one catalogue revision."""

    revision: int | None
    processes: dict[str, ProcessDescription]


class Wps1:
    """The WPS 1.0.0 endpoint. Thread-safe; its methods raise ServiceError for what a client must be told."""

    def __init__(self, settings: Settings, backend: Backend, waiting: Waiting) -> None:
        base = settings.server.base_url
        self._backend = backend
        self._limits = settings.limits
        self._waiting = waiting
        self._control = JobControl(settings.server, backend.intake)
        self._languages = settings.server.languages
        self._site = Site(f"{base}/wps", settings.metadata, settings.server.languages)
        self._addresses = Addresses(base, self._site.service_instance)
        self._offer = _Offer(None, {})
        self._documents = RevisionCache()
        self._polled = RecentDocuments()

    def get(self, query: Query, caller: Caller = ANYBODY) -> Reply:
        """Answer key-value pairs."""
        return self._run(read_kvp(query, self._describe), caller)

    def post(self, document: Document, caller: Caller = ANYBODY) -> Reply:
        """Answer an XML request."""
        return self._run(read_post(document, self._describe), caller)

    def status(self, job_id: str) -> Answer:
        """The document at a job's statusLocation, whole at any time, whichever protocol the job came by.

        Raises NotFound for unknown and expired jobs, and those of WPS 1.0.0 that were not stored.
        """
        job = self._backend.store.get(job_id)
        if job is None:
            raise _no_such_document()
        key = (self._backend.catalogue.revision, job.id, *_shown(job))
        document = self._polled.get(key)
        if document is None:
            document = self._status_document(job)
            self._polled.put(key, document)
        return Answer(document, headers=NO_STORE)

    def _status_document(self, job: Job) -> bytes:
        request = self._backend.results.request(job)
        if job.protocol != PROTOCOL:
            # The other protocols have no such options: their jobs are stored, and tell how far they are.
            request = replace(request, store=True, status=True, lineage=None)
        elif not request.store:
            raise _no_such_document()
        return execute_response(self._execution(job, request, self._backend.results.lineage(job)))

    def _run(self, operation: Operation, caller: Caller) -> Reply:
        match operation:
            case GetCapabilities():
                return Answer(self._capabilities(operation))
            case DescribeProcess():
                return Answer(self._descriptions(operation))
            case Execute():
                return self._execute(operation, caller)
            case JobRequest():
                return self._steer(operation, caller)

    def _steer(self, request: JobRequest, caller: Caller) -> Answer:
        """A vendor operation on a job; all of them answer with its document as it is then."""
        job = self._backend.store.get(request.job_id)
        if job is None:
            raise NoSuchJob(f"There is no job {request.job_id[:100]!r} here, or no longer.", "executionId")
        match request.operation:
            case "Dismiss":
                job = self._waiting.settled(self._control.dismiss(job, caller.owner, "Dismiss"))
            case "Pause":
                job = self._control.pause(job, caller.owner, "Pause")
            case "Resume":
                job = self._control.resume(job, caller.owner, "Resume")
        return Answer(self._status_document(job), headers=NO_STORE)

    # ------------------------------------------------------------------------------------------------ the catalogue

    def _processes(self) -> dict[str, ProcessDescription]:
        revision = self._backend.catalogue.revision
        if self._offer.revision != revision:
            described = (offered(entry.description) for entry in self._backend.catalogue.entries())
            processes = {process.identifier: process for process in described if process is not None}
            self._offer = _Offer(revision, processes)
        return self._offer.processes

    def _describe(self, identifier: str) -> ProcessDescription:
        process = self._processes().get(identifier)
        if process is None:
            raise NoSuchProcess(
                f"There is no process {identifier[:200]!r}; GetCapabilities lists those on offer.", "Identifier"
            )
        return process

    def _capabilities(self, operation: GetCapabilities) -> bytes:
        sections = wanted_sections(operation.sections, SECTIONS, ALWAYS)
        language = preferred_language(operation.languages, self._languages)
        revision = self._backend.catalogue.revision
        if is_current(operation.update_sequence, revision):
            return unchanged_capabilities(language, str(revision))
        render = partial(self._render_capabilities, sections, language, revision)
        return self._documents.get(revision, ("capabilities", sections, language), render)

    def _render_capabilities(self, sections: frozenset[str], language: str, revision: int) -> bytes:
        return capabilities(self._site, self._processes().values(), sections, language, str(revision))

    def _descriptions(self, operation: DescribeProcess) -> bytes:
        language = required_language(operation.language, self._languages)
        identifiers = operation.identifiers
        if any(identifier.lower() == "all" for identifier in identifiers) and "all" not in self._processes():
            return self._cached(("all", language), lambda: self._render_all(language))
        # Asked for twice, a process is described once.
        fragments = [self._fragment(self._describe(name), language) for name in dict.fromkeys(identifiers)]
        return descriptions(fragments, language)

    def _render_all(self, language: str) -> bytes:
        fragments = [self._fragment(process, language) for process in self._processes().values()]
        return descriptions(fragments, language)

    def _fragment(self, process: ProcessDescription, language: str) -> bytes:
        render = partial(description, process, language, self._limits.input_bytes)
        return self._cached(("process", process.identifier, language), render)

    def _cached(self, key: Hashable, render: Callable[[], bytes]) -> bytes:
        return self._documents.get(self._backend.catalogue.revision, key, render)

    # -------------------------------------------------------------------------------------------------------- jobs

    def _execute(self, operation: Execute, caller: Caller) -> Reply:
        language = required_language(operation.language, self._languages)
        request = to_execute_request(operation, language, caller)
        job = self._awaited(self._backend.intake.execute(request), request)
        execution = self._execution(job, request, request.lineage)
        if request.raw and job.state is JobState.SUCCEEDED:
            return raw_output(execution)
        return Answer(execute_response(execution), status=_http_status(job, request), headers=NO_STORE)

    def _awaited(self, job: Job, request: ExecuteRequest) -> Job:
        """The job when the answer goes out: a client that wants no status would rather have the result, but what is
        stored is never dismissed for being slow (05-007r7 table 50)."""
        if request.mode is Mode.SYNC:
            return self._waiting.finished(job, _ADVICE)
        return self._waiting.settled(job) if request.status else self._waiting.patient(job)

    def _execution(self, job: Job, request: ExecuteRequest, lineage: bytes | None) -> Execution:
        results = self._backend.results
        return Execution(
            job=job,
            request=request,
            process=self._processes().get(job.process),
            outputs=results.outputs(job) if job.state is JobState.SUCCEEDED else None,
            lineage=lineage,
            addresses=self._addresses,
            open=partial(results.open, job),
            embed_bytes=self._limits.embed_bytes,
        )


def _shown(job: Job) -> tuple[Hashable, ...]:
    """What a status document shows of a job. Progress may run ahead of the record, so the revision is not enough."""
    return job.revision, job.state, job.percent, job.message, job.reason, job.stale_since


def _no_such_document() -> NotFound:
    return NotFound("There is no such status document: the job is unknown, was not stored, or has expired.")


def _http_status(job: Job, request: ExecuteRequest) -> int:
    """200 for a document about a job, whatever became of it; but who asked for raw data must not take it for that."""
    if not request.raw:
        return 200
    code = job.failure.code if job.failure else "NoApplicableCode"
    return BY_CODE.get(code, NoApplicableCode).http_status


def raw_output(execution: Execution) -> Reply:
    """The bare value of the one output (05-007r7 §10.3.1); raises NoApplicableCode when the process made none."""
    wish = execution.request.outputs[0]
    identifier = wish.wanted.identifier
    values = (execution.outputs or {}).get(identifier, ())
    if not values:
        raise NoApplicableCode(f"{execution.job.process} finished without the output {identifier}.")
    value: Value = values[0]
    match value:
        case LiteralValue():
            return Answer(value.text.encode(), "text/plain; charset=utf-8", headers=NO_STORE)
        case LinkValue():
            return raw_link(value)
        case FileValue():
            return execution.raw_file(value, as_base64=is_base64(wish.wanted.encoding))
        case BoundingBoxValue():
            return Answer(_raw_box(value), XML_TYPE, headers=NO_STORE)
    raise NoApplicableCode(f"WPS 1.0.0 cannot express the output {identifier}.")


def _raw_box(value: BoundingBoxValue) -> bytes:
    """A document whose root is the wps:BoundingBoxData."""
    holder: etree._Element = root(f"{{{WPS}}}Data")
    add_bounding_box(holder, value)
    return to_bytes(holder[0])
