"""``attempts/<n>/status.xml``: progress, and the commit point of an attempt.

A WPS 1.0.0 ``wps:ExecuteResponse`` (OGC 05-007r7 §10.3), valid against ``wps/1.0.0/wpsExecute_response.xsd``. Clients
never get this file: the server reads it as the word of a node that may be hostile, and renders its own document.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import quote
from xml.parsers import expat

from joblauncher.formats.records import Failure, RecordError
from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, Value, Values

WPS = "http://www.opengis.net/wps/1.0.0"
OWS = "http://www.opengis.net/ows/1.1"
XLINK = "http://www.w3.org/1999/xlink"

STARTED = "started"
SUCCEEDED = "succeeded"
FAILED = "failed"

#: No status file is larger, in bytes: outputs that would make it so are left to ``result.json``.
SIZE_LIMIT = 1_000_000
#: Longest message or exception text, in characters, as written and as read.
TEXT_LIMIT = 4_000


@dataclass(frozen=True)
class StatusHead:
    """What every status document of a run says: which process, which job, in which language."""

    job: str
    process: str
    version: str = ""
    title: str = ""
    language: str = "en-US"


@dataclass(frozen=True)
class StatusRecord:
    """What a status file says. ``state`` is started, succeeded or failed; ``percent`` is 0 to 99, 100 on success.

    ``code``, ``text`` and ``locator`` are those of the exception, on failure only.
    """

    state: str
    percent: int = 0
    message: str = ""
    code: Optional[str] = None
    text: Optional[str] = None
    locator: Optional[str] = None


def started(head: StatusHead, percent: int, message: str, now: float) -> bytes:
    """A document that says how far the run is; ``percent`` 0 to 99 (05-007r7 table 56), ``now`` in Unix seconds."""
    body = _element("wps:ProcessStarted", {"percentCompleted": str(min(max(percent, 0), 99))}, _text(message))
    return _document(head, now, body)


def succeeded(head: StatusHead, message: str, outputs: Values, now: float) -> bytes:
    """A document of success, with the outputs that WPS 1.0.0 can express, as far as they fit into SIZE_LIMIT.

    Complex outputs are references relative to the attempt; nested ones are left out (05-007r7 table 58 has none).
    """
    body = _element("wps:ProcessSucceeded", {}, _text(message))
    document = _document(head, now, body, _process_outputs(outputs))
    return document if len(document) <= SIZE_LIMIT else _document(head, now, body)


def failed(head: StatusHead, failure: Failure, now: float) -> bytes:
    """A document of failure: the failure's code, locator and text in an ``ows:ExceptionReport`` (06-121r3 §8)."""
    attributes = {"exceptionCode": failure.code, "locator": failure.locator}
    exception = _element("ows:Exception", attributes, _element("ows:ExceptionText", {}, _text(failure.text)))
    report = _element("ows:ExceptionReport", {"version": "1.0.0"}, exception)
    return _document(head, now, _element("wps:ProcessFailed", {}, report))


def one_line(text: str, limit: int = TEXT_LIMIT) -> str:
    """``text`` on one line and at most ``limit`` characters long, the end replaced by «…» when cut."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _document(head: StatusHead, now: float, body: str, outputs: str = "") -> bytes:
    attributes = {
        "xmlns:wps": WPS,
        "xmlns:ows": OWS,
        "xmlns:xlink": XLINK,
        "service": "WPS",
        "version": "1.0.0",
        "xml:lang": head.language if _LANGUAGE.match(head.language) else "en-US",
        "serviceInstance": f"urn:uuid:{quote(head.job)}",
    }
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    status = _element("wps:Status", {"creationTime": created}, body)
    response = _element("wps:ExecuteResponse", attributes, _process(head) + status + outputs)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + response.encode() + b"\n"


def _process(head: StatusHead) -> str:
    words = _described(head.process, head.title or head.process)
    return _element("wps:Process", {"wps:processVersion": head.version}, words)


def _described(identifier: str, title: str) -> str:
    return _element("ows:Identifier", {}, _text(identifier)) + _element("ows:Title", {}, _text(title))


def _process_outputs(outputs: Values) -> str:
    pairs = [(name, value) for name, values in outputs.items() for value in values if type(value) in _WRITERS]
    written = [_element("wps:Output", {}, _described(name, name) + _value(value)) for name, value in pairs]
    return _element("wps:ProcessOutputs", {}, "".join(written)) if written else ""


def _value(value: Value) -> str:
    return _WRITERS[type(value)](value)  # type: ignore[no-any-return]


def _literal(value: LiteralValue) -> str:
    attributes = {"dataType": _uri(value.data_type), "uom": _uri(value.uom)}
    return _element("wps:Data", {}, _element("wps:LiteralData", attributes, _text(value.text)))


def _bounding_box(value: BoundingBoxValue) -> str:
    attributes = {"crs": _uri(value.crs), "dimensions": str(len(value.lower)) if value.lower else None}
    lower = _element("ows:LowerCorner", {}, _position(value.lower))
    upper = _element("ows:UpperCorner", {}, _position(value.upper))
    return _element("wps:Data", {}, _element("wps:BoundingBoxData", attributes, lower + upper))


def _position(corner: tuple[float, ...]) -> str:
    return " ".join(_INFINITE.get(repr(float(part)), repr(float(part))) for part in corner)


def _file(value: FileValue) -> str:
    return _reference(quote(value.path), value)


def _link(value: LinkValue) -> str:
    return _reference(_uri(value.href), value)


def _reference(href: Optional[str], value: Union[FileValue, LinkValue]) -> str:
    mime_type = value.mime_type if _MIME_TYPE.match(value.mime_type) else None
    attributes = {"mimeType": mime_type, "encoding": _uri(value.encoding), "schema": _uri(value.schema)}
    return _element("wps:Reference", {"href": href or "", **attributes}, "")


_WRITERS: Mapping[type, Any] = {
    LiteralValue: _literal,
    BoundingBoxValue: _bounding_box,
    FileValue: _file,
    LinkValue: _link,
}
#: XML Schema's spelling of what Python calls inf and nan.
_INFINITE = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*\Z")
#: ows:MimeType (owsCommon.xsd).
_MIME_TYPE = re.compile(r"(application|audio|image|text|video|message|multipart|model)/[^\r\n]+\Z")
#: References that xs:anyURI certainly takes, with or without a scheme; it takes more, but readers differ on which.
_URI = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?![^/?#])|(?!//))[A-Za-z0-9_./?&=+@,;~:-]*"
    r"|(?!//)[A-Za-z0-9_./?&=+@,;~-]+)"
    r"(?:#[A-Za-z0-9_.-]*)?\Z"
)
#: What XML 1.0 §2.2 does not allow in a document.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
)


def _text(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text).translate(_ESCAPES)


def _uri(text: Optional[str]) -> Optional[str]:
    """``text``, or None where xs:anyURI would not take it: the whole of it stands in ``result.json``."""
    return text if text is not None and _URI.match(text) and not _ILLEGAL.search(text) else None


def _element(name: str, attributes: Mapping[str, Optional[str]], content: str) -> str:
    written = "".join(f' {key}="{_text(value)}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{written}>{content}</{name}>"


def read_status(path: Path) -> StatusRecord:
    """What the status file at ``path`` says. Raises RecordError when it is missing, torn, forged or no regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RecordError(f"status.xml: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RecordError("status.xml: not a regular file")
        with open(descriptor, "rb", closefd=False) as stream:
            return parse_status(stream.read(SIZE_LIMIT + 1))
    finally:
        os.close(descriptor)


def parse_status(content: bytes) -> StatusRecord:
    """What a status document says; raises RecordError unless it is a whole one that the launcher could have written."""
    if len(content) > SIZE_LIMIT:
        raise RecordError(f"status.xml: larger than {SIZE_LIMIT} bytes")
    reading = _Reading()
    try:
        reading.parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise RecordError(f"status.xml: {error}") from error
    return reading.record()


_ROOT = f"{WPS} ExecuteResponse"
_STATUS = (_ROOT, f"{WPS} Status")
_STATES = {
    f"{WPS} ProcessStarted": STARTED,
    f"{WPS} ProcessSucceeded": SUCCEEDED,
    f"{WPS} ProcessFailed": FAILED,
}
_EXCEPTION = (*_STATUS, f"{WPS} ProcessFailed", f"{OWS} ExceptionReport", f"{OWS} Exception")
_EXCEPTION_TEXT = (*_EXCEPTION, f"{OWS} ExceptionText")
_DEEPEST = 20


class _Reading:
    """One pass of expat over a status document: it picks the state and the exception, and refuses any DOCTYPE."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._path: tuple[str, ...] = ()
        self._states: list[tuple[str, Mapping[str, str]]] = []
        self._exceptions: list[Mapping[str, str]] = []
        self._words: list[str] = []
        self._texts: list[str] = []

    def record(self) -> StatusRecord:
        """The record, once all is read; raises RecordError when the document is not a status."""
        if len(self._states) != 1:
            raise RecordError(f"status.xml: {len(self._states)} states where there must be one")
        state, attributes = self._states[0]
        return _RECORDS[state](self, attributes)  # type: ignore[no-any-return]

    def started(self, attributes: Mapping[str, str]) -> StatusRecord:
        """A run under way."""
        percent = attributes.get("percentCompleted", "0")
        if not re.fullmatch(r"[0-9]{1,2}", percent):
            raise RecordError(f"status.xml: percentCompleted is {percent[:20]!r}")
        return StatusRecord(STARTED, int(percent), one_line("".join(self._words)))

    def succeeded(self, _attributes: Mapping[str, str]) -> StatusRecord:
        """A run that has succeeded."""
        return StatusRecord(SUCCEEDED, 100, one_line("".join(self._words)))

    def failed(self, _attributes: Mapping[str, str]) -> StatusRecord:
        """A run that has failed."""
        if len(self._exceptions) != 1 or not self._exceptions[0].get("exceptionCode"):
            raise RecordError("status.xml: a failure without its one exception")
        text = "".join(self._texts)[:TEXT_LIMIT].strip()
        code, locator = self._exceptions[0]["exceptionCode"], self._exceptions[0].get("locator")
        return StatusRecord(FAILED, message=one_line(text), code=code[:200], text=text, locator=locator)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != _ROOT:
            raise RecordError("status.xml: not an ExecuteResponse")
        if len(self._path) >= _DEEPEST:
            raise RecordError("status.xml: too deep")
        if self._path == _STATUS:
            self._states.append((_state(name), attributes))
        self._path = (*self._path, name)
        if self._path == _EXCEPTION:
            self._exceptions.append(attributes)

    def _end(self, _name: str) -> None:
        self._path = self._path[:-1]

    def _characters(self, text: str) -> None:
        if self._path == _EXCEPTION_TEXT:
            self._texts.append(text)
        elif len(self._path) == len(_STATUS) + 1 and self._path[:-1] == _STATUS:
            self._words.append(text)

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise RecordError("status.xml: a DOCTYPE is not allowed")


_RECORDS: Mapping[str, Any] = {
    STARTED: _Reading.started,
    SUCCEEDED: _Reading.succeeded,
    FAILED: _Reading.failed,
}


def _state(name: str) -> str:
    if name not in _STATES:
        raise RecordError(f"status.xml: the launcher does not write {name[:100]!r}")
    return _STATES[name]
