"""The web side: one WSGI application with a small routing table.

====================================  =================================================================
``/wps``                              WPS 1.0.0 and 2.0: GET with key-value pairs, POST with XML
``/wps/status/<job id>.xml``          the status document of WPS 1.0.0 of a stored job
``/wps/outputs/<job id>/<name>``      a literal or bounding box by reference (WPS 2.0)
``/outputs/<job id>/<name>``          an output file
``/``, ``/api``, ``/conformance``,    OGC API - Processes, which has the front page
``/processes…``, ``/jobs…``
mounted paths                         other WSGI applications, such as ``/health`` and ``/metrics``
====================================  =================================================================

Every answer of this application to something that went wrong is an OWS exception report, or problem details within OGC
API - Processes. What nobody expected becomes one too, with the number under which the log has the traceback.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, TypeAlias

from werkzeug.wrappers import Response

from wps_hpc.config import Settings
from wps_hpc.errors import (
    MethodNotAllowed,
    NoApplicableCode,
    NotEnoughStorage,
    NotFound,
    ServerBusy,
    ServiceError,
)
from wps_hpc.jobs.database import StoreBusy, StoreFull
from wps_hpc.protocols.answer import Answer, FileAnswer, StreamAnswer
from wps_hpc.protocols.body import body_charset, read_body
from wps_hpc.protocols.caller import Caller
from wps_hpc.protocols.downloads import file_response, open_output
from wps_hpc.protocols.ogcapi import OgcApi
from wps_hpc.protocols.ogcapi_http import Request, parse_parameters, with_headers
from wps_hpc.protocols.ows import exception_answer
from wps_hpc.protocols.ports import Backend
from wps_hpc.protocols.waiting import Waiting
from wps_hpc.protocols.wps import Wps

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

Reply: TypeAlias = Answer | FileAnswer | StreamAnswer
#: Answers a request; takes the environment and what is left of the path.
View: TypeAlias = Callable[["WSGIEnvironment", str], Reply]
#: Views by method.
Resource: TypeAlias = Mapping[str, View]

_JOB_ID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_STATUS_NAME = re.compile(f"({_JOB_ID})\\.xml")
_OUTPUT_NAME = re.compile(f"({_JOB_ID})/(.+)", re.DOTALL)

#: What a client is told of a job database that cannot be used now.
_STORE_ERRORS: Mapping[type[Exception], ServiceError] = {
    StoreBusy: ServerBusy("The job database is busy; please try again."),
    StoreFull: NotEnoughStorage("The job database has no room left; please tell the service's operator."),
}

#: The form that a query asks for, wherever it stands there.
_FORM = re.compile(r"(?:^|&)f=(json|html)(?:&|$)")

#: What a page's script may read beside the usual headers: downloads, waiting times, where jobs and results are.
_EXPOSED = (
    *("Content-Disposition", "Content-Location", "Content-Range", "Link", "Location"),
    *("Preference-Applied", "Retry-After"),
)

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


def create_app(
    settings: Settings, backend: Backend, mounts: Mapping[str, WSGIApplication] | None = None
) -> WSGIApplication:
    """The application over the rooms behind it. ``mounts`` maps whole paths to other WSGI applications."""
    return WebSide(settings, backend, mounts or {})


class WebSide:
    """Routes requests, reads bodies, and turns whatever happens into a response."""

    def __init__(self, settings: Settings, backend: Backend, mounts: Mapping[str, WSGIApplication]) -> None:
        self._settings = settings
        self._backend = backend
        self._mounts = dict(mounts)
        waiting = Waiting(settings, backend.intake)
        self._wps = Wps(settings, backend, waiting)
        self._api = OgcApi(settings, backend, waiting, tuple(self._mounts))
        wps: Resource = {"GET": self._get_wps, "POST": self._post_wps}
        self._exact: Mapping[str, Resource] = {"/wps": wps, "/wps/": wps}
        #: By the path's first parts; the view gets the rest.
        self._below: Mapping[str, Resource] = {
            "/wps/status/": {"GET": self._status},
            "/wps/outputs/": {"GET": self._plain_output},
            "/outputs/": {"GET": self._output},
        }
        self._cors = _cors_headers(settings.server.allow_origin)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        mounted = self._mounts.get(environ.get("PATH_INFO", ""))
        if mounted is not None:
            return mounted(environ, start_response)
        reply = self._reply(environ)
        if isinstance(reply, Answer | StreamAnswer):
            return self._send(reply, environ, start_response)
        reply.headers.extend(self._cors)
        return reply(environ, start_response)

    def _send(
        self, answer: Answer | StreamAnswer, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        head = [("X-Content-Type-Options", "nosniff"), *answer.headers, *self._cors]
        if answer.status != HTTPStatus.NO_CONTENT:
            head.append(("Content-Type", answer.content_type))
            if isinstance(answer, Answer):
                head.append(("Content-Length", str(len(answer.body))))
        start_response(_STATUS_LINES[answer.status], head)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [answer.body] if isinstance(answer, Answer) else answer.chunks

    def _reply(self, environ: WSGIEnvironment) -> Answer | StreamAnswer | Response:
        try:
            reply = self._route(environ)
            return file_response(reply, environ) if isinstance(reply, FileAnswer) else reply
        except Exception as error:
            return self._reported(_told(environ, error), environ)

    def _reported(self, error: ServiceError, environ: WSGIEnvironment) -> Answer:
        """What a client is told of an error, in the words of the protocol that it speaks."""
        if self._api.owns(_path(environ)):
            return self._api.problem(error, self._bare_request(environ))
        return exception_answer(error, self._settings.server.languages[0])

    def _route(self, environ: WSGIEnvironment) -> Reply:
        path: str = environ.get("PATH_INFO", "")
        resource, rest = self._exact.get(path) or self._api_resource(environ), ""
        if resource is None:
            resource, rest = self._find_below(path)
        method: str = environ["REQUEST_METHOD"]
        view = resource.get("GET" if method == "HEAD" else method)
        if view is not None:
            return view(environ, rest)
        allowed = ", ".join([*resource, "HEAD", "OPTIONS"])
        if method == "OPTIONS":
            return Answer(b"", "text/plain", 204, (("Allow", allowed), *self._preflight(resource)))
        return with_headers(
            self._reported(MethodNotAllowed(f"This address takes {allowed}."), environ), ("Allow", allowed)
        )

    def _api_resource(self, environ: WSGIEnvironment) -> Resource | None:
        """A resource of OGC API - Processes, its handlers as views."""
        found = self._api.find(_path(environ))
        if found is None:
            return None
        return {method: self._view(handler) for method, handler in found.items()}

    def _view(self, handler: Callable[[Request], Reply]) -> View:
        return lambda environ, rest: handler(self._request(environ))

    def _find_below(self, path: str) -> tuple[Resource, str]:
        for start, resource in self._below.items():
            if path.startswith(start):
                return resource, path[len(start) :]
        raise NotFound(f"There is nothing at this address; the service is at {self._settings.server.base_url}/wps.")

    def _preflight(self, resource: Resource) -> tuple[tuple[str, str], ...]:
        if not self._cors:
            return ()
        return (
            ("Access-Control-Allow-Methods", ", ".join([*resource, "HEAD"])),
            ("Access-Control-Allow-Headers", "Content-Type, Prefer"),
            ("Access-Control-Max-Age", "86400"),
        )

    # ------------------------------------------------------------------------------------------------------- views

    def _request(self, environ: WSGIEnvironment) -> Request:
        """The request without WSGI; raises BadRequest for parameters that cannot be read."""
        return replace(self._bare_request(environ), parameters=parse_parameters(environ.get("QUERY_STRING", "")))

    def _bare_request(self, environ: WSGIEnvironment) -> Request:
        """The request without its parameters, but for the form that it wants even the worst told in."""
        server, limits = self._settings.server, self._settings.limits
        form = _FORM.search(environ.get("QUERY_STRING", ""))
        return Request(
            path=_path(environ),
            parameters={"f": form[1]} if form else {},
            read=lambda: read_body(environ, limits.request_bytes, server.body_timeout),
            accept=environ.get("HTTP_ACCEPT", ""),
            accept_language=environ.get("HTTP_ACCEPT_LANGUAGE", ""),
            prefer=environ.get("HTTP_PREFER", ""),
            content_type=environ.get("CONTENT_TYPE", ""),
            owner=self._owner(environ),
        )

    def _get_wps(self, environ: WSGIEnvironment, rest: str) -> Reply:
        return self._wps.get(environ.get("QUERY_STRING", ""), self._caller(environ), partial(_told, environ))

    def _post_wps(self, environ: WSGIEnvironment, rest: str) -> Reply:
        server, limits = self._settings.server, self._settings.limits
        body = read_body(environ, limits.request_bytes, server.body_timeout)
        return self._wps.post(body, body_charset(environ), self._caller(environ), partial(_told, environ))

    def _status(self, environ: WSGIEnvironment, rest: str) -> Answer:
        named = _STATUS_NAME.fullmatch(rest)
        if named is None:
            raise NotFound("A status document is at /wps/status/<job id>.xml.")
        return self._wps.status(named[1].lower())

    def _output(self, environ: WSGIEnvironment, rest: str) -> FileAnswer:
        return open_output(self._backend, *_named_output(rest))

    def _plain_output(self, environ: WSGIEnvironment, rest: str) -> Answer:
        return self._wps.output(*_named_output(rest))

    def _caller(self, environ: WSGIEnvironment) -> Caller:
        return Caller.of(environ.get("QUERY_STRING", ""), self._owner(environ))

    def _owner(self, environ: WSGIEnvironment) -> str | None:
        """Who the proxy says is asking; believed of listed proxies alone."""
        name: str | None = environ.get("HTTP_X_REMOTE_USER")
        trusted = self._settings.server.trusted_proxies
        return name if name and trusted and _is_within(environ.get("REMOTE_ADDR", ""), trusted) else None


def _path(environ: WSGIEnvironment) -> str:
    return _decoded(environ.get("PATH_INFO", "")) or "/"


def _decoded(path: str) -> str:
    """WSGI hands a path over as Latin-1 whatever it is."""
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


def _named_output(rest: str) -> tuple[str, str]:
    """Job and name of an output; raises NotFound."""
    named = _OUTPUT_NAME.fullmatch(rest)
    if named is None:
        raise NotFound("An output is at /outputs/<job id>/<file name>.")
    return named[1].lower(), _decoded(named[2])


def _cors_headers(origin: str | None) -> tuple[tuple[str, str], ...]:
    if origin is None:
        return ()
    exposed = ("Access-Control-Expose-Headers", ", ".join(_EXPOSED))
    return (("Access-Control-Allow-Origin", origin), exposed)


def _is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def _told(environ: WSGIEnvironment, error: Exception) -> ServiceError:
    """What a client is told of whatever went wrong."""
    if isinstance(error, ServiceError):
        return error
    if type(error) in _STORE_ERRORS:
        log.warning("%s %.200r: %s", environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), error)
        return _STORE_ERRORS[type(error)]
    return _incident(error, environ)


def _incident(error: Exception, environ: WSGIEnvironment) -> ServiceError:
    """What a client is told of an unexpected error: that it is logged, and under which number."""
    number = secrets.token_hex(6)
    log.error("incident %s: %s %.200r", number, environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), exc_info=error)
    return NoApplicableCode(
        f"The server could not answer because of a defect of its own. It is logged as incident {number}; "
        "please tell the service's operator."
    )
