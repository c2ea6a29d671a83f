"""WPS 2.0 (OGC 14-065r2): its operations and extensions, from requests to documents.

Documents that depend on the catalogue alone are rendered once for each of its revisions and sent as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeAlias

from wps_hpc.config import Settings
from wps_hpc.errors import NoSuchJob, NoSuchProcess, NotFound, ResultNotReady, ServiceError
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import Mode
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.answer import NO_STORE, Answer, FileAnswer, RevisionCache
from wps_hpc.protocols.caller import ANYBODY, Caller
from wps_hpc.protocols.control import JobControl
from wps_hpc.protocols.execution import Execution
from wps_hpc.protocols.links import Addresses
from wps_hpc.protocols.ows import Query, exception_answer, preferred_language, required_language
from wps_hpc.protocols.ows_service import Site, is_current, wanted_sections
from wps_hpc.protocols.ports import Backend
from wps_hpc.protocols.waiting import Waiting
from wps_hpc.protocols.wps2_capabilities import ALWAYS, SECTIONS, capabilities, unchanged_capabilities
from wps_hpc.protocols.wps2_describe import offering, offerings
from wps_hpc.protocols.wps2_errors import OWS_2_0, failure_of
from wps_hpc.protocols.wps2_kvp import read_kvp
from wps_hpc.protocols.wps2_post import read_post
from wps_hpc.protocols.wps2_request import PROTOCOL, Execute, Operation, to_execute_request
from wps_hpc.protocols.wps2_response import plain_output, raw, result, status_info
from wps_hpc.protocols.wps_request import DescribeProcess, GetCapabilities, JobRequest
from wps_hpc.protocols.xml_request import Document

Reply: TypeAlias = Answer | FileAnswer

#: What to do when a synchronous call takes too long.
_ADVICE = 'Run it asynchronously: mode="async".'


class Wps2:
    """The WPS 2.0 endpoint. Thread-safe; its methods raise ServiceError for what a client must be told."""

    def __init__(self, settings: Settings, backend: Backend, waiting: Waiting) -> None:
        base = settings.server.base_url
        self._backend = backend
        self._limits = settings.limits
        self._languages = settings.server.languages
        self._site = Site(f"{base}/wps", settings.metadata, settings.server.languages)
        self._addresses = Addresses(base, self._site.service_instance)
        self._waiting = waiting
        self._control = JobControl(settings.server, backend.intake)
        self._documents = RevisionCache()
        self._job_requests: Mapping[str, Callable[[Job, Caller], Reply]] = {
            "GetStatus": self._get_status,
            "GetResult": self._get_result,
            "Dismiss": self._dismiss,
            "Pause": self._pause,
            "Resume": self._resume,
        }

    def get(self, query: Query, caller: Caller = ANYBODY) -> Reply:
        """Answer key-value pairs."""
        return self._run(read_kvp(query), caller)

    def post(self, document: Document, caller: Caller = ANYBODY) -> Reply:
        """Answer an XML request."""
        return self._run(read_post(document, self._describe), caller)

    def output(self, job_id: str, name: str) -> Answer:
        """A literal or bounding box by reference; raises NotFound."""
        job = self._backend.store.get(job_id)
        succeeded = job is not None and job.state is JobState.SUCCEEDED
        found = self._plain_output(job, name) if job is not None and succeeded else None
        if found is None:
            raise NotFound("There is no such output: the job or the output is unknown, or has expired.")
        return found

    def _plain_output(self, job: Job, name: str) -> Answer | None:
        entry = self._backend.catalogue.get(job.process)
        return plain_output(self._backend.results.outputs(job), entry.description if entry else None, name)

    def report(self, error: ServiceError) -> Answer:
        """The exception report for an error, in the words of this version."""
        return exception_answer(error, self._languages[0], OWS_2_0)

    def _run(self, operation: Operation, caller: Caller) -> Reply:
        match operation:
            case GetCapabilities():
                return Answer(self._capabilities(operation))
            case DescribeProcess():
                return Answer(self._offerings(operation))
            case Execute():
                return self._execute(operation, caller)
            case JobRequest():
                return self._job_requests[operation.operation](self._job(operation.job_id), caller)

    # ------------------------------------------------------------------------------------------------ the catalogue

    def _describe(self, identifier: str) -> ProcessDescription:
        (process,) = self._described([identifier])
        return process

    def _described(self, identifiers: list[str]) -> list[ProcessDescription]:
        """The processes of these identifiers; raises NoSuchProcess with all those that there are not as locator."""
        found = [self._backend.catalogue.get(identifier) for identifier in identifiers]
        unknown = ",".join(name[:80] for name, entry in zip(identifiers, found, strict=True) if entry is None)[:400]
        if unknown:
            raise NoSuchProcess(f"There is no process {unknown}; GetCapabilities lists those on offer.", unknown)
        return [entry.description for entry in found if entry is not None]

    def _capabilities(self, operation: GetCapabilities) -> bytes:
        sections = wanted_sections(operation.sections, SECTIONS, ALWAYS)
        language = preferred_language(operation.languages, self._languages)
        revision = self._backend.catalogue.revision
        if is_current(operation.update_sequence, revision):
            return unchanged_capabilities(str(revision))
        render = partial(self._render_capabilities, sections, language, revision)
        return self._documents.get(revision, ("capabilities", sections, language), render)

    def _render_capabilities(self, sections: frozenset[str], language: str, revision: int) -> bytes:
        offered = [entry.description for entry in self._backend.catalogue.entries()]
        return capabilities(self._site, offered, sections, language, str(revision), self._control.offered)

    def _offerings(self, operation: DescribeProcess) -> bytes:
        language = required_language(operation.language, self._languages, "lang")
        identifiers = list(dict.fromkeys(operation.identifiers))
        if any(name.lower() == "all" and self._backend.catalogue.get(name) is None for name in identifiers):
            return self._cached(("all", language), lambda: self._render_all(language))
        return offerings([self._fragment(process, language) for process in self._described(identifiers)])

    def _render_all(self, language: str) -> bytes:
        return offerings([self._fragment(entry.description, language) for entry in self._backend.catalogue.entries()])

    def _fragment(self, process: ProcessDescription, language: str) -> bytes:
        render = partial(offering, process, language, self._limits.input_bytes, self._control.offered)
        return self._cached(("process", process.identifier, language), render)

    def _cached(self, key: Hashable, render: Callable[[], bytes]) -> bytes:
        return self._documents.get(self._backend.catalogue.revision, key, render)

    # -------------------------------------------------------------------------------------------------------- jobs

    def _execute(self, operation: Execute, caller: Caller) -> Reply:
        request = to_execute_request(operation, self._languages[0], caller)
        job = self._awaited(self._backend.intake.execute(request))
        if job.mode == Mode.ASYNC or not job.final:
            return _status(job)
        return self._outcome(job)

    def _awaited(self, job: Job) -> Job:
        """The job when the answer goes out, by the mode in which it was accepted (14-065r2 table 40)."""
        match Mode(job.mode):
            case Mode.SYNC:
                return self._waiting.finished(job, _ADVICE)
            case Mode.ASYNC:
                return self._waiting.settled(job)
            case Mode.AUTO:
                return self._waiting.patient(job)

    def _job(self, job_id: str) -> Job:
        """The job; raises NoSuchJob for one that is unknown or expired, or was dismissed by this version's Dismiss."""
        job = self._backend.store.get(job_id.lower())
        if job is None or job.released:
            raise NoSuchJob("There is no such job here, or no longer.", job_id[:100])
        return job

    def _get_status(self, job: Job, _: Caller) -> Answer:
        return _status(job)

    def _get_result(self, job: Job, _: Caller) -> Reply:
        if not job.final:
            raise ResultNotReady(f"The job has not ended yet: it is {job.state}. Ask GetStatus until it has.", job.id)
        return self._outcome(job)

    def _outcome(self, job: Job) -> Reply:
        """What a job that has ended came to: its result, or the error that it failed with."""
        if job.state is JobState.FAILED:
            raise failure_of(job)
        if job.state is JobState.DISMISSED:
            raise NoSuchJob(f"The job was dismissed by {job.cancelled_by or 'the service'}; it has no result.", job.id)
        results = self._backend.results
        entry = self._backend.catalogue.get(job.process)
        execution = Execution(
            job=job,
            request=results.request(job),
            process=entry.description if entry else None,
            outputs=results.outputs(job),
            lineage=None,
            addresses=self._addresses,
            open=partial(results.open, job),
            embed_bytes=self._limits.embed_bytes,
        )
        if execution.request.raw and job.protocol == PROTOCOL:
            return raw(execution)
        return Answer(result(execution), headers=NO_STORE)

    def _dismiss(self, job: Job, caller: Caller) -> Answer:
        """«The value of the Status element in the returned StatusInfo document shall be dismissed», also while the job
        is still on its way to that; «the associated JobID shall be released» (14-065r2 §12.1.2), whoever else has
        dismissed the job before."""
        job = self._control.dismiss(job, caller.owner, "Dismiss")
        self._backend.intake.release_id(job.id)
        return _status(job, "Dismissed")

    def _pause(self, job: Job, caller: Caller) -> Answer:
        return _status(self._control.pause(job, caller.owner, "Pause"))

    def _resume(self, job: Job, caller: Caller) -> Answer:
        return _status(self._control.resume(job, caller.owner, "Resume"))


def _status(job: Job, status: str | None = None) -> Answer:
    return Answer(status_info(job, time.time(), status), headers=NO_STORE)
