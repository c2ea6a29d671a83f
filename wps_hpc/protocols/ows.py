"""OWS Common 1.1 and 2.0 (06-121r3, r9): key-value pairs, exception reports, negotiation of version and language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from lxml import etree

from wps_hpc.errors import (
    InvalidParameterValue,
    MissingParameterValue,
    ServiceError,
    VersionNegotiationFailed,
)
from wps_hpc.protocols.answer import Answer
from wps_hpc.protocols.xml import LANG, OWS, add, is_legal, root, to_bytes

SERVICE = "WPS"
#: The versions of WPS that this server speaks.
VERSIONS = ("1.0.0", "2.0.0")


# ------------------------------------------------------------------------------------------------- key-value pairs


@dataclass(frozen=True)
class Query:
    """The key-value pairs of a request: names in lower case, since they are case-insensitive (06-121r3 §11.5.2)."""

    raw: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """The decoded value without surrounding space; None when absent or empty.

        Raises InvalidParameterValue for bytes that are not UTF-8 and characters that no document could echo.
        """
        value = self.raw.get(name.lower())
        return (decode(value, name).strip() or None) if value else None

    def required(self, name: str) -> str:
        """The value of a mandatory parameter; raises MissingParameterValue."""
        value = self.get(name)
        if value is None:
            raise MissingParameterValue(f"The parameter {name} is missing.", name)
        return value

    def list(self, name: str) -> tuple[str, ...]:
        """The items of a comma-separated value, without empty ones."""
        return split_list(self.get(name))


def split_list(value: str | None) -> tuple[str, ...]:
    """The items of a comma-separated list, without empty ones."""
    return tuple(item for part in (value or "").split(",") if (item := part.strip()))


def parse_query(query: str) -> Query:
    """Split a query string (as WSGI has it: bytes as Latin-1); values stay encoded until they are asked for.

    A name given twice with the same value is harmless; with different ones it raises InvalidParameterValue.
    """
    pairs: dict[str, str] = {}
    for part in query.encode("latin-1", "replace").decode("utf-8", "surrogateescape").split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        key = decode(name, "request").strip().lower()
        if pairs.setdefault(key, value) != value:
            raise InvalidParameterValue(f"The parameter {key[:80]} is given twice with different values.", key[:80])
    return Query(pairs)


def decode(text: str, locator: str, *, plus: bool = True) -> str:
    """Percent-decode once; ``plus`` reads + as a space, as the query part of a URL has it."""
    if "%" not in text and "+" not in text and text.isascii() and text.isprintable():
        return text
    content = (text.replace("+", " ") if plus else text).encode("utf-8", "surrogateescape")
    try:
        decoded = unquote_to_bytes(content).decode()
    except UnicodeDecodeError as error:
        raise InvalidParameterValue(f"The value of {locator} is not UTF-8.", locator) from error
    if not is_legal(decoded):
        raise InvalidParameterValue(f"The value of {locator} has a control character.", locator)
    return decoded


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def boolean(value: str | None, name: str) -> bool:
    """An xs:boolean that is false when absent; raises InvalidParameterValue with the parameter as locator."""
    if value is None:
        return False
    try:
        return _BOOLEANS[value.strip().lower()]
    except KeyError:
        raise InvalidParameterValue(f"{name} must be true or false, not {value[:80]!r}.", name) from None


# ----------------------------------------------------------------------------------------------------- negotiation


def check_service(service: str | None) -> None:
    """The mandatory ``service``; lower case is accepted, as the official test suite sends it."""
    if service is None:
        raise MissingParameterValue("The parameter service is missing; it must be WPS.", "service")
    if service.upper() != SERVICE:
        raise InvalidParameterValue(f"This is a WPS, not {service[:80]!r}.", "service")


def check_version(version: str | None, expected: str) -> None:
    """The mandatory ``version`` of every operation but GetCapabilities (06-121r3 and r9 §9.2.1)."""
    if version is None:
        raise MissingParameterValue(f"The parameter version is missing; it must be {expected}.", "version")
    if version != expected:
        raise InvalidParameterValue(
            f"The version cannot be {version[:80]!r} here; this service has {', '.join(VERSIONS)}.", "version"
        )


def negotiate_version(accepted: Iterable[str], asked: str | None = None) -> str:
    """The first of AcceptVersions that is served, the highest served one for an empty list (06-121r3 §7.3.2).

    ``asked`` is the parameter version, which GetCapabilities does not have but many clients send. Raises
    VersionNegotiationFailed, or InvalidParameterValue for an ``asked`` that is not served.
    """
    wanted = tuple(accepted)
    for version in wanted:
        if version in VERSIONS:
            return version
    if wanted:
        raise VersionNegotiationFailed(
            f"None of the AcceptVersions {', '.join(wanted)[:200]} is served; this service has {', '.join(VERSIONS)}."
        )
    if asked is not None and asked not in VERSIONS:
        raise InvalidParameterValue(
            f"Version {asked[:80]!r} is not served here; this service has {', '.join(VERSIONS)}.", "version"
        )
    return asked or max(VERSIONS)


def match_language(wanted: str, offered: Sequence[str]) -> str | None:
    """The language on offer for an RFC 4646 tag: the same tag, else the same primary subtag, else None."""
    tag = wanted.strip().lower()
    if tag == "*":
        return offered[0]
    for same in (str.lower, _primary):
        for language in offered:
            if same(language) == same(tag):
                return language
    return None


def _primary(tag: str) -> str:
    return tag.lower().split("-")[0]


def preferred_language(wanted: Iterable[str], offered: Sequence[str]) -> str:
    """The first of the client's languages that is offered, else the default one."""
    matches = (match_language(language, offered) for language in wanted)
    return next((language for language in matches if language), offered[0])


def required_language(wanted: str | None, offered: Sequence[str], locator: str = "language") -> str:
    """The language of DescribeProcess and Execute, which «must be a language listed in the Capabilities»; raises
    InvalidParameterValue."""
    if wanted is None:
        return offered[0]
    language = match_language(wanted, offered)
    if language is None:
        raise InvalidParameterValue(
            f"The language {wanted[:80]!r} is not offered; choose from {', '.join(offered)}.", locator
        )
    return language


# ----------------------------------------------------------------------------------------------- exception reports


@dataclass(frozen=True)
class Dialect:
    """How a version of OWS Common writes its exception reports.

    ``codes`` says what the service calls errors by their class: exceptionCode and HTTP status, where these are not the
    error's own; a subclass is called what its nearest base is called.
    """

    namespace: str
    version: str
    codes: Mapping[type[ServiceError], tuple[str, int]] = field(default_factory=dict)

    def called(self, error: ServiceError) -> tuple[str, int]:
        """exceptionCode and HTTP status of an error."""
        known = next((kind for kind in type(error).__mro__ if kind in self.codes), None)
        return (error.code, error.http_status) if known is None else self.codes[known]

    def report(self, code: str, text: str, locator: str | None, language: str) -> etree._Element:
        """An ows:ExceptionReport (06-121r3 and r9 §8)."""
        element = root(f"{{{self.namespace}}}ExceptionReport", prefixes={"ows": self.namespace})
        return self._fill(element, code, text, locator, language)

    def add_report(
        self, parent: etree._Element, code: str, text: str, locator: str | None, language: str
    ) -> etree._Element:
        """An ows:ExceptionReport within ``parent``."""
        return self._fill(add(parent, f"{{{self.namespace}}}ExceptionReport"), code, text, locator, language)

    def _fill(
        self, element: etree._Element, code: str, text: str, locator: str | None, language: str
    ) -> etree._Element:
        element.set("version", self.version)
        element.set(LANG, language)
        exception = add(element, f"{{{self.namespace}}}Exception", exceptionCode=code, locator=locator)
        add(exception, f"{{{self.namespace}}}ExceptionText", text)
        return element


#: That of WPS 1.0.0, whose exceptionCodes are the errors' own.
OWS_1_1 = Dialect(OWS, "1.1.0")


def exception_answer(error: ServiceError, language: str, dialect: Dialect = OWS_1_1) -> Answer:
    """The exception as an HTTP response, with its status and, where it says when to come again, Retry-After."""
    headers = [("Cache-Control", "no-store")]
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    code, status = dialect.called(error)
    document = to_bytes(dialect.report(code, error.text, error.locator, language))
    return Answer(document, status=status, headers=tuple(headers))
