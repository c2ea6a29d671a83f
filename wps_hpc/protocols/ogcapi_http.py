"""What HTTP says around a request to OGC API - Processes: parameters, wanted form and language, preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode

from werkzeug.datastructures import LanguageAccept, MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from wps_hpc.errors import BadRequest, InvalidParameterValue, UnsupportedBody
from wps_hpc.protocols.answer import Answer
from wps_hpc.protocols.ows import preferred_language

OPENAPI_TYPE = "application/vnd.oai.openapi+json;version=3.0"
PROBLEM_TYPE = "application/problem+json"
#: More query parameters than this are an attack.
_MOST_PARAMETERS = 100


class Form(StrEnum):
    """The two encodings of every document (18-062r2 §8.2, §8.3); the words are those of the parameter ``f``."""

    JSON = "json"
    HTML = "html"


MEDIA_TYPES: Mapping[Form, str] = {Form.JSON: "application/json", Form.HTML: "text/html; charset=utf-8"}
#: What a client may call each form in Accept.
_ACCEPTED: Mapping[Form, Sequence[str]] = {
    Form.JSON: ("application/json", OPENAPI_TYPE, "application/vnd.oai.openapi+json", PROBLEM_TYPE),
    Form.HTML: ("text/html",),
}
#: Documents that another form or language exists of.
VARY = ("Vary", "Accept, Accept-Language")
#: Documents about jobs change; none may be kept by a cache on the way.
NO_STORE = ("Cache-Control", "no-store")


class NotAcceptable(BadRequest):
    """The client takes none of the forms that there are."""

    http_status = 406


@dataclass(frozen=True)
class Request:
    """A request without its transport. ``parameters`` are those of the query; ``read`` reads the body, once.

    ``read`` raises what ``read_body`` raises. ``owner`` is who asks, if that is known.
    """

    path: str
    parameters: Mapping[str, str]
    read: Callable[[], bytes]
    accept: str = ""
    accept_language: str = ""
    prefer: str = ""
    content_type: str = ""
    owner: str | None = None

    def query(self, **changes: object) -> str:
        """The query with some parameters changed (None: left out), with its question mark unless it is empty."""
        merged = {**self.parameters, **changes}
        text = urlencode({name: value for name, value in merged.items() if value is not None})
        return f"?{text}" if text else ""


def parse_parameters(query: str) -> Mapping[str, str]:
    """The parameters of a query; those given several times are joined by commas, as if listed (OpenAPI ``explode``).

    Raises BadRequest for too many of them.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="replace")
    except ValueError as error:
        raise BadRequest(f"The query has more than {_MOST_PARAMETERS} parameters.") from error
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def wanted_form(request: Request) -> Form:
    """The form that the client wants: by ``f``, else by Accept, else JSON.

    Raises InvalidParameterValue for another ``f`` and NotAcceptable when Accept allows neither.
    """
    named = request.parameters.get("f")
    if named is not None:
        if named not in set(Form):
            raise InvalidParameterValue(f"The form {named[:40]!r} is not one of {', '.join(Form)}.", "f")
        return Form(named)
    if not request.accept.strip():
        return Form.JSON
    best = max(Form, key=lambda form: _quality(request.accept, form))
    if _quality(request.accept, best) <= 0:
        raise NotAcceptable("This is to be had as application/json and as text/html.")
    return best


def _quality(accept: str, form: Form) -> float:
    accepted = parse_accept_header(accept, MIMEAccept)
    return max(accepted.quality(name) for name in _ACCEPTED[form])


def form_of_problems(request: Request) -> Form:
    """The form in which a client is told what went wrong: never a second problem."""
    try:
        return wanted_form(request)
    except (BadRequest, InvalidParameterValue):
        return Form.JSON


def wanted_language(request: Request, offered: Sequence[str]) -> str:
    """The language on offer that the client likes best."""
    accepted = parse_accept_header(request.accept_language, LanguageAccept)
    return preferred_language([language for language, quality in accepted if quality > 0], offered)


def prefers_async(request: Request) -> bool:
    """Whether the client prefers an asynchronous answer (RFC 7240 §4.1)."""
    words = (word.partition(";")[0].strip().lower() for word in request.prefer.split(","))
    return "respond-async" in words


def check_json(request: Request) -> None:
    """Raise UnsupportedBody unless the body is said to be JSON.

    Web pages of other origins can send other types without being asked whether they may.
    """
    kind = parse_options_header(request.content_type)[0].lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedBody("The body must be JSON, with Content-Type: application/json.")


def with_headers(answer: Answer, *headers: tuple[str, str]) -> Answer:
    """The answer with more headers."""
    return replace(answer, headers=(*answer.headers, *headers))
