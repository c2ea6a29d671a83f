"""The OpenAPI 3.0 document of this server's API (18-062r2 §7.3, §10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from wps_hpc.config import Settings
from wps_hpc.protocols.caller import PARAMETER
from wps_hpc.protocols.ogcapi_http import OPENAPI_TYPE, PROBLEM_TYPE
from wps_hpc.protocols.ogcapi_jobs import DEFAULT_LIMIT, LEAST_LIMIT, MOST_LIMIT, STATES
from wps_hpc.protocols.ogcapi_openapi_schemas import SCHEMAS, SUBSCRIBER, array, ref
from wps_hpc.protocols.ogcapi_problems import TITLES

Part = dict[str, Any]

#: What can be answered to anything: the server's own faults, and what is refused before an operation begins.
_ANY = (400, 406, 408, 414, 431, 500, 503)
_BODY = (413, 415)
_EARLY = (414, 431)
_TEXTS: Mapping[int, str] = {
    200: "As asked for.",
    201: "The job was made, and is run asynchronously; Location leads to its status.",
    202: "What was asked for is noted, and is still to come about: the status as it is.",
    204: "There is no body: the Link headers lead to the outputs.",
    206: "A part of the file.",
    304: "The file has not changed.",
    400: "Something in the request is not as it must be; detail and locator say what.",
    403: "The asker may not do that.",
    404: "There is nothing of that name, or not yet.",
    405: "The address does not take this method; Allow lists those that it takes.",
    406: "Neither JSON nor HTML is accepted.",
    408: "The body did not arrive in time.",
    410: "The job was dismissed; it has no results.",
    413: "The body or an input is too large.",
    414: "The address is too long.",
    415: "The body is no JSON.",
    416: "The part asked for lies beyond the end of the file.",
    431: "The headers are too large.",
    500: "The process or the server failed.",
    501: "The server cannot do this.",
    503: "No place is free now; Retry-After says when to come again.",
    504: "The process took longer than the server waits; run it asynchronously.",
    507: "The server has no room for this.",
}


def openapi(settings: Settings, conformance: Iterable[str]) -> Part:
    """The document: of what this server, as it is configured, really has."""
    has_callbacks = any(name.endswith("/callback") for name in conformance)
    document = {
        "openapi": "3.0.3",
        "info": _info(settings),
        "servers": [{"url": settings.server.base_url}],
        "tags": [
            {"name": name, "description": text}
            for name, text in (("service", "About the service"), ("processes", "Processes"), ("jobs", "Jobs"))
        ],
        "paths": _paths(settings, has_callbacks=has_callbacks),
        "components": {"schemas": _schemas(has_callbacks), "responses": _responses()},
        "x-problems": dict(TITLES),
    }
    return {**document, **_security(settings)}


def _info(settings: Settings) -> Part:
    metadata = settings.metadata
    contact = {"name": metadata.contact_name or metadata.provider_name, "url": metadata.provider_url}
    contact["email"] = metadata.contact_email
    return {
        "title": metadata.title,
        "description": metadata.abstract,
        "version": version("wps-hpc"),
        "contact": {name: text for name, text in contact.items() if text},
    }


def _security(settings: Settings) -> Part:
    """Who is asking is the proxy's to find out; this server authenticates nobody (docs/security.md)."""
    return {"x-authentication": "by the proxy in front of this server"} if settings.server.trusted_proxies else {}


def _schemas(has_callbacks: bool) -> Part:
    schemas = dict(SCHEMAS)
    if has_callbacks:
        execute = schemas["execute"]
        schemas["subscriber"] = SUBSCRIBER
        schemas["execute"] = {**execute, "properties": {**execute["properties"], "subscriber": ref("subscriber")}}
    return schemas


def _responses() -> Part:
    """The problems, by HTTP status. What is refused before its path is known comes as WPS has it."""
    content = {PROBLEM_TYPE: {"schema": ref("exception")}, "text/html": {"schema": {"type": "string"}}}
    as_wps = {"text/xml": {"schema": {"type": "string"}}}
    return {
        f"Problem{status}": {"description": text, "content": as_wps if status in _EARLY else content}
        for status, text in _TEXTS.items()
        if status >= 400
    }


# ------------------------------------------------------------------------------------------------------- operations


def _paths(settings: Settings, *, has_callbacks: bool) -> Part:
    paths = {
        "/": {"get": _get("landing", "service", "The landing page", "landingPage", parameters=_ABOUT)},
        "/conformance": {"get": _get("conformance", "service", "Conformance classes", "confClasses", (_F,))},
        "/api": {"get": _api()},
        "/processes": {"get": _get("processes", "processes", "Processes on offer", "processList", _PROCESS_LIST)},
        "/processes/{processID}": {
            "get": _get("process", "processes", "A process", "process", (_PROCESS_ID, *_ABOUT), (404,))
        },
        "/processes/{processID}/execution": {"post": _execute(has_callbacks)},
        "/jobs/{jobID}": {"get": _get("job", "jobs", "The status of a job", "statusInfo", (_JOB_ID, _F), (404,))},
        "/jobs/{jobID}/results": {"get": _results()},
        "/jobs/{jobID}/results/{outputID}": {"get": _output()},
    }
    return _with_control(paths) if settings.server.job_control else paths


def _with_control(paths: Part) -> Part:
    """The same with the list of jobs, and control over them."""
    jobs = _get("jobs", "jobs", "Jobs, the newest first", "jobList", _JOB_LIST, (403,))
    dismiss = _control("dismiss", "Dismiss a job, or remove one that has ended")
    extended = {**paths, "/jobs": {"get": jobs}}
    extended["/jobs/{jobID}"] = {**paths["/jobs/{jobID}"], "delete": dismiss}
    for name, text in (("pause", "Hold a job that waits, suspend one that runs"), ("resume", "Let a paused job go on")):
        extended[f"/jobs/{{jobID}}/{name}"] = {"post": _control(name, f"{text} (an extension of this server)")}
    return extended


def _operation(
    name: str, tag: str, summary: str, parameters: Iterable[Part], answers: Part, problems: Iterable[int]
) -> Part:
    refused = {
        str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted({*_ANY, *problems})
    }
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": list(parameters),
        "responses": {**answers, **refused},
    }


def _answer(status: int, content: Part | None = None, headers: Iterable[str] = ()) -> Part:
    made: Part = {"description": _TEXTS[status]}
    if content is not None:
        made["content"] = content
    given = {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in headers}
    return {str(status): {**made, "headers": given} if given else made}


_HEADERS: Mapping[str, str] = {
    "Location": "The status of the new job.",
    "Preference-Applied": "respond-async, when the client preferred that.",
    "Link": "The job (rel=monitor); outputs that come by reference (rel=item).",
}


def _content(schema: str) -> Part:
    return {"application/json": {"schema": ref(schema)}, "text/html": {"schema": {"type": "string"}}}


def _get(
    name: str, tag: str, summary: str, schema: str, parameters: Iterable[Part] = (), problems: Iterable[int] = ()
) -> Part:
    return _operation(name, tag, summary, parameters, _answer(200, _content(schema)), problems)


def _api() -> Part:
    content = {OPENAPI_TYPE: {"schema": {"type": "object"}}, "text/html": {"schema": {"type": "string"}}}
    return _operation("definition", "service", "The definition of this API", (_F,), _answer(200, content), ())


def _control(name: str, summary: str) -> Part:
    answers = {**_answer(200, _content("statusInfo")), **_answer(202, _content("statusInfo"))}
    return _operation(name, "jobs", summary, (_JOB_ID, _F), answers, (403, 404))


#: A raw result can be of any type; several are parts.
_RAW: Part = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_RESULTS: Part = {
    **_content("results"),
    "multipart/related": {"schema": {"type": "string", "format": "binary"}},
    **_RAW,
}


def _execute(has_callbacks: bool) -> Part:
    answers = {
        **_answer(200, _RESULTS, ("Link",)),
        **_answer(201, {"application/json": {"schema": ref("statusInfo")}}, ("Location", "Preference-Applied")),
        **_answer(204, headers=("Link",)),
    }
    made = _operation(
        "execute",
        "processes",
        "Run a process",
        (_PROCESS_ID, _PREFER, _RESOURCES, _F, _LANGUAGE),
        answers,
        (*_BODY, 404, 410, 501, 504, 507),
    )
    made["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref("execute")}}}
    return {**made, "callbacks": _callbacks()} if has_callbacks else made


def _callbacks() -> Part:
    """What this server sends to a subscriber (18-062r2 §12)."""
    sent = {"successUri": "results", "inProgressUri": "statusInfo", "failedUri": "statusInfo"}
    return {
        name: {
            f"{{$request.body#/subscriber/{name}}}": {
                "post": {
                    "requestBody": {"content": {"application/json": {"schema": ref(schema)}}},
                    "responses": {"2XX": {"description": "Received; anything else is tried again."}},
                }
            }
        }
        for name, schema in sent.items()
    }


def _results() -> Part:
    answers = {**_answer(200, _RESULTS), **_answer(204, headers=("Link",))}
    problems = (404, 410, 413, 416, 501, 507)
    return _operation("results", "jobs", "The results of a job", (_JOB_ID, _F), answers, problems)


def _output() -> Part:
    answers = {**_answer(200, _RAW), **_answer(206, _RAW), **_answer(304)}
    problems = (404, 410, 413, 416, 501, 507)
    return _operation("output", "jobs", "One output, as it is", (_JOB_ID, _OUTPUT_ID, _F), answers, problems)


# ------------------------------------------------------------------------------------------------------- parameters


def _path(name: str, text: str) -> Part:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _query(name: str, text: str, schema: Part) -> Part:
    # Lists have commas between their words.
    style: Part = {"style": "form", "explode": False}
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema, **style}


def _header(name: str, text: str) -> Part:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


_PROCESS_ID = _path("processID", "The process.")
_JOB_ID = _path("jobID", "The job.")
_OUTPUT_ID = _path("outputID", "The output.")
_PREFER = _header("Prefer", "respond-async: the client would rather come back for the results (RFC 7240).")
_LANGUAGE = _header("Accept-Language", "The language of titles and descriptions.")
_F = _query("f", "The form of the answer, whatever Accept says.", {"type": "string", "enum": ["json", "html"]})
_RESOURCES = _query(
    PARAMETER, "What the job is to have, such as cores=4,walltime_s=7200 (an extension).", {"type": "string"}
)
_LIMIT_SCHEMA = {"type": "integer", "minimum": LEAST_LIMIT, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT}
_LIMIT = _query("limit", "How many at most.", _LIMIT_SCHEMA)
_STRINGS = array({"type": "string"})
_SECONDS = array({"type": "integer", "minimum": 0})
_ABOUT = (_F, _LANGUAGE)
_PROCESS_LIST = (
    _LIMIT,
    _query("offset", "How many to leave out at the start.", {"type": "integer", "minimum": 0, "default": 0}),
    *_ABOUT,
)
_JOB_LIST = (
    _query("type", "Only jobs of these types; all are of the type process.", _STRINGS),
    _query("processID", "Only jobs of these processes.", _STRINGS),
    _query("status", "Only jobs with these statuses.", array({"type": "string", "enum": [*STATES]})),
    _query("datetime", "Only jobs created then: a time, or two with a slash between them.", {"type": "string"}),
    _query("minDuration", "Only jobs that ran, or run, for at least so many seconds.", _SECONDS),
    _query("maxDuration", "Only jobs that ran, or run, for at most so many seconds.", _SECONDS),
    _LIMIT,
    _query("cursor", "Where the page begins, from a link to a next page.", {"type": "string"}),
    _F,
)
