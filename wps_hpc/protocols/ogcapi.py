"""OGC API - Processes - Part 1: Core 1.0 (18-062r2): its resources, from requests to answers.

=====================================  ====================================================================
``/``                                  landing page
``/conformance``                       conformance classes
``/api``                               OpenAPI 3.0 document
``/processes``                         the processes on offer
``/processes/{id}``                    one process
``/processes/{id}/execution``          POST runs it
``/jobs``                              the jobs that the asker may see
``/jobs/{id}``                         the status of a job; DELETE dismisses it
``/jobs/{id}/results``                 its results
``/jobs/{id}/results/{output}``        one of them
``/jobs/{id}/pause``, ``…/resume``     POST pauses and resumes it: an extension of this server
=====================================  ====================================================================

Jobs are the same whichever protocol started them: any of them can be asked for here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from wps_hpc.config import Settings
from wps_hpc.errors import NoSuchJob, NoSuchProcess, NotFound, ResultNotReady, ServiceError
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, Mode
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.access import whose_jobs
from wps_hpc.protocols.answer import Answer, FileAnswer, RevisionCache, StreamAnswer
from wps_hpc.protocols.control import JobControl
from wps_hpc.protocols.ogcapi_describe import description, summary
from wps_hpc.protocols.ogcapi_execute import PROTOCOL, read_execute
from wps_hpc.protocols.ogcapi_html import SAFETY, page
from wps_hpc.protocols.ogcapi_http import (
    MEDIA_TYPES,
    NO_STORE,
    OPENAPI_TYPE,
    PROBLEM_TYPE,
    VARY,
    Form,
    Request,
    form_of_problems,
    prefers_async,
    wanted_form,
    wanted_language,
)
from wps_hpc.protocols.ogcapi_jobs import cursor, job_filter, limit, offset, read_cursor, status_info
from wps_hpc.protocols.ogcapi_landing import conformance_classes, landing_page
from wps_hpc.protocols.ogcapi_links import Addresses, Link, link, selves
from wps_hpc.protocols.ogcapi_openapi import openapi
from wps_hpc.protocols.ogcapi_problems import (
    failure,
    problem,
)
from wps_hpc.protocols.ogcapi_results import Made, link_header, one_output, raw, results, to_json
from wps_hpc.protocols.ports import Backend
from wps_hpc.protocols.waiting import Waiting

Reply: TypeAlias = Answer | FileAnswer | StreamAnswer
#: Answers a request for one resource.
Handler: TypeAlias = Callable[[Request], Reply]
#: Handlers by method.
Resource: TypeAlias = Mapping[str, Handler]

_JOB_ID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ADVICE = "Run it asynchronously: send the header Prefer: respond-async."


@dataclass(frozen=True)
class Route:
    """A resource: its path, and the methods of ``OgcApi`` that answer; each gets the parts in braces."""

    path: str
    methods: Mapping[str, str]

    @property
    def pattern(self) -> re.Pattern[str]:
        """What a request's path must be."""
        return re.compile(re.sub(r"\{\w+\}", "([^/]+)", self.path), re.DOTALL)


ROUTES = (
    Route("/", {"GET": "landing"}),
    Route("/conformance", {"GET": "conformance"}),
    Route("/api", {"GET": "definition"}),
    Route("/processes", {"GET": "processes"}),
    Route("/processes/{processID}", {"GET": "process"}),
    Route("/processes/{processID}/execution", {"POST": "execute"}),
    Route("/jobs", {"GET": "jobs"}),
    Route("/jobs/{jobID}", {"GET": "job", "DELETE": "dismiss"}),
    Route("/jobs/{jobID}/results", {"GET": "results"}),
    Route("/jobs/{jobID}/results/{outputID}", {"GET": "output"}),
    Route("/jobs/{jobID}/pause", {"POST": "pause"}),
    Route("/jobs/{jobID}/resume", {"POST": "resume"}),
)
_PATTERNS = tuple((route, route.pattern) for route in ROUTES)
_FIRST_PARTS = frozenset(route.path.split("/")[1] for route in ROUTES)


class OgcApi:
    """The endpoint. Thread-safe; handlers raise ServiceError for what a client must be told.

    ``others`` are paths beside this API that the landing page names.
    """

    def __init__(self, settings: Settings, backend: Backend, waiting: Waiting, others: tuple[str, ...]) -> None:
        self._settings = settings
        self._backend = backend
        self._others = others
        self._addresses = Addresses(settings.server.base_url)
        self._waiting = waiting
        self._control = JobControl(settings.server, backend.intake)
        self._documents = RevisionCache()

    def owns(self, path: str) -> bool:
        """Whether a path is, or would be, one of this API, so that what goes wrong there is told in its way."""
        return path.strip("/").split("/")[0] in _FIRST_PARTS

    def find(self, path: str) -> Resource | None:
        """The resource at a path, if there is one."""
        bare = path.rstrip("/") or "/"
        for route, pattern in _PATTERNS:
            found = pattern.fullmatch(bare)
            if found is not None:
                return {method: partial(getattr(self, name), *found.groups()) for method, name in route.methods.items()}
        return None

    def problem(self, error: ServiceError, request: Request) -> Answer:
        """What a client is told of an error, with the HTTP status and, where it may come again, Retry-After."""
        details = problem(error, self._addresses.base)
        headers = [NO_STORE]
        if error.retry_after is not None:
            headers.append(("Retry-After", str(error.retry_after)))
        if form_of_problems(request) is Form.HTML:
            body, media_type = page(details["title"], details, self._addresses.base), MEDIA_TYPES[Form.HTML]
            return Answer(body, media_type, details["status"], (*headers, *SAFETY))
        return Answer(to_json(details), PROBLEM_TYPE, details["status"], tuple(headers))

    # ------------------------------------------------------------------------------------------ about the service

    def landing(self, request: Request) -> Answer:
        """The landing page (18-062r2 §7.2)."""
        form = wanted_form(request)
        document = landing_page(self._settings, self._addresses, self._others, lists_jobs=self._control.offered)
        document["links"] = [*selves(self._addresses, request, form), *document["links"]]
        return self._document(form, document["title"], document)

    def conformance(self, request: Request) -> Answer:
        """The conformance classes (18-062r2 §7.4)."""
        form = wanted_form(request)
        return self._document(form, "Conformance", {"conformsTo": conformance_classes(self._settings)})

    def definition(self, request: Request) -> Answer:
        """The OpenAPI document, or a page made of it (18-062r2 §7.3, §10)."""
        form = wanted_form(request)
        document = openapi(self._settings, conformance_classes(self._settings))
        answer = self._document(form, f"API of {self._settings.metadata.title}", document)
        return answer if form is Form.HTML else replace(answer, content_type=OPENAPI_TYPE)

    def _document(self, form: Form, title: str, document: Mapping[str, Any], *headers: tuple[str, str]) -> Answer:
        """A document in one of its forms."""
        if form is Form.JSON:
            return Answer(to_json(document), MEDIA_TYPES[form], headers=(VARY, *headers))
        body = page(title, document, self._addresses.base)
        return Answer(body, MEDIA_TYPES[form], headers=(VARY, *SAFETY, *headers))

    # ------------------------------------------------------------------------------------------------- processes

    def processes(self, request: Request) -> Answer:
        """The processes on offer, a page of them (18-062r2 §7.9)."""
        form, language = wanted_form(request), self._language(request)
        first, count = offset(request.parameters), limit(request.parameters)
        offered = [entry.description for entry in self._backend.catalogue.entries()]
        shown = [self._summary(process, language) for process in offered[first : first + count]]
        links = selves(self._addresses, request, form)
        if first + count < len(offered):
            links.append(self._page_link(request, form, "next", offset=first + count))
        if first > 0:
            links.append(self._page_link(request, form, "prev", offset=max(0, first - count)))
        document = {"processes": shown, "links": links}
        return self._document(form, "Processes", document, ("Content-Language", language))

    def _page_link(self, request: Request, form: Form, rel: str, **changes: object) -> Link:
        title = {"next": "The next page", "prev": "The page before"}[rel]
        return link(self._addresses.here(request, **changes), rel, title, MEDIA_TYPES[form].partition(";")[0])

    def process(self, identifier: str, request: Request) -> Answer:
        """The description of a process (18-062r2 §7.10)."""
        form, language = wanted_form(request), self._language(request)
        process = self._process(identifier)

        def render() -> bytes:
            document = {**self._summary(process, language), **description(process, language)}
            return self._document(form, document["title"], document).body

        headers = (VARY, ("Content-Language", language), *(SAFETY if form is Form.HTML else ()))
        body = self._cached((identifier, language, form), render)
        return Answer(body, MEDIA_TYPES[form], headers=headers)

    def _summary(self, process: ProcessDescription, language: str) -> dict[str, Any]:
        return summary(process, language, self._addresses, dismissable=self._control.offered)

    def _process(self, identifier: str) -> ProcessDescription:
        entry = self._backend.catalogue.get(identifier)
        if entry is None:
            raise NoSuchProcess(f"There is no process {identifier[:200]!r}; /processes lists those on offer.")
        return entry.description

    def _language(self, request: Request) -> str:
        return wanted_language(request, self._settings.server.languages)

    def _cached(self, key: Hashable, render: Callable[[], bytes]) -> bytes:
        return self._documents.get(self._backend.catalogue.revision, key, render)

    # ------------------------------------------------------------------------------------------------- execution

    def execute(self, identifier: str, request: Request) -> Reply:
        """Run a process (18-062r2 §7.11)."""
        process = self._process(identifier)
        wanted = read_execute(request, process, self._language(request))
        job = self._backend.intake.execute(wanted)
        if wanted.mode is Mode.ASYNC:
            return self._accepted(job, request)
        job = self._waiting.finished(job, _ADVICE)
        monitor = {"href": self._addresses.job(job), "rel": "monitor", "type": "application/json"}
        return _with_link(self._outcome(job, wanted, request), link_header(monitor))

    def _accepted(self, job: Job, request: Request) -> Answer:
        """The answer to an asynchronous call (18-062r2 req. 34): a job that ends at once is answered as ended."""
        job = self._waiting.settled(job)
        headers = [NO_STORE, ("Location", self._addresses.job(job))]
        if prefers_async(request):
            headers.append(("Preference-Applied", "respond-async"))
        return Answer(to_json(status_info(job, self._addresses)), MEDIA_TYPES[Form.JSON], 201, tuple(headers))

    def _outcome(self, job: Job, wanted: ExecuteRequest, request: Request) -> Reply:
        """The results of a job that has ended, in the way in which they were asked for. Raises why there are none."""
        if job.state is not JobState.SUCCEEDED:
            raise failure(job)
        made = self._made(job, wanted)
        # Jobs of other protocols have no raw results in the sense of this one.
        if wanted.raw and wanted.protocol == PROTOCOL:
            return raw(made)
        return self._document(wanted_form(request), f"Results of {job.process}", results(made), NO_STORE)

    def _made(self, job: Job, wanted: ExecuteRequest) -> Made:
        entry = self._backend.catalogue.get(job.process)
        return Made(
            job=job,
            request=wanted,
            process=None if entry is None else entry.description,
            outputs=self._backend.results.outputs(job),
            addresses=self._addresses,
            open=partial(self._backend.results.open, job),
            embed_bytes=self._settings.limits.embed_bytes,
        )

    # ------------------------------------------------------------------------------------------------------ jobs

    def jobs(self, request: Request) -> Answer:
        """The jobs that the asker may see, the newest first (18-062r2 §11)."""
        form, count = wanted_form(request), limit(request.parameters)
        wanted = job_filter(request.parameters, whose_jobs(self._settings.server, request.owner))
        before = read_cursor(request.parameters)
        # One more than is shown tells whether there is a next page.
        found = [] if wanted is None else self._backend.store.find(wanted, count + 1, before)
        links = selves(self._addresses, request, form)
        if len(found) > count:
            links.append(self._page_link(request, form, "next", cursor=cursor(found[count - 1])))
        shown = [status_info(job, self._addresses) for job in found[:count]]
        return self._document(form, "Jobs", {"jobs": shown, "links": links}, NO_STORE)

    def job(self, job_id: str, request: Request) -> Answer:
        """The status of a job (18-062r2 §7.12)."""
        form = wanted_form(request)
        return self._status(form, self._job(job_id))

    def _status(self, form: Form, job: Job, status: int = 200) -> Answer:
        answer = self._document(form, f"Job {job.id}", status_info(job, self._addresses), NO_STORE)
        return answer if status == 200 else replace(answer, status=status)

    def _job(self, job_id: str) -> Job:
        known = _JOB_ID.fullmatch(job_id) is not None
        job = self._backend.store.get(job_id.lower()) if known else None
        if job is None:
            raise NoSuchJob(f"There is no job {job_id[:100]!r} here, or no longer.")
        return job

    def results(self, job_id: str, request: Request) -> Reply:
        """The results of a job (18-062r2 §7.13): as its request asked for them, or as a page."""
        form = wanted_form(request)
        job, wanted = self._ended(job_id)
        if form is Form.HTML and job.state is JobState.SUCCEEDED:
            return self._document(form, f"Results of {job.process}", results(self._made(job, wanted)), NO_STORE)
        return self._outcome(job, wanted, request)

    def output(self, job_id: str, identifier: str, request: Request) -> Reply:
        """One output of a job, as it is."""
        job, wanted = self._ended(job_id)
        if job.state is not JobState.SUCCEEDED:
            raise failure(job)
        made = self._made(job, wanted)
        if identifier not in made.wanted() or not made.outputs.get(identifier):
            raise NotFound(f"The job has no output {identifier[:80]!r}.")
        return one_output(made, identifier)

    def _ended(self, job_id: str) -> tuple[Job, ExecuteRequest]:
        job = self._job(job_id)
        if not job.final:
            raise ResultNotReady(f"The job {job.id} has not ended yet; ask for its status.")
        return job, self._backend.results.request(job)

    # --------------------------------------------------------------------------------------------------- control

    def dismiss(self, job_id: str, request: Request) -> Answer:
        """End a job (18-062r2 §13), or be done with one that has ended: its results go before their time.

        200 when the job is dismissed; 202 with its status while its end is still to come.
        """
        form, before = wanted_form(request), self._job(job_id)
        job = self._control.dismiss(before, request.owner, "Dismiss")
        if before.final:
            return self._document(form, f"Job {job.id}", self._removed(job), NO_STORE)
        job = self._waiting.patient(job)
        return self._status(form, job, 200 if job.final else 202)

    def _removed(self, job: Job) -> dict[str, Any]:
        """What is said, for the last time, of a job that had ended before it was dismissed."""
        words = f"The job had ended ({job.state}); it and its results are removed."
        return {**status_info(job, self._addresses), "status": "dismissed", "message": words, "links": []}

    def pause(self, job_id: str, request: Request) -> Answer:
        """Hold a job that waits, suspend one that runs; 202 with its status until that has come about."""
        return self._steered(wanted_form(request), self._control.pause(self._job(job_id), request.owner, "Pause"))

    def resume(self, job_id: str, request: Request) -> Answer:
        """Let a paused job go on; 202 with its status until it does."""
        return self._steered(wanted_form(request), self._control.resume(self._job(job_id), request.owner, "Resume"))

    def _steered(self, form: Form, job: Job) -> Answer:
        return self._status(form, job, 200 if job.wish is None else 202)


def _with_link(reply: Reply, header: str) -> Reply:
    return replace(reply, headers=(*reply.headers, ("Link", header)))
