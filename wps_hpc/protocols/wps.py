"""The one address of WPS: which version a request is in, and who answers it.

A GET says so by ``version``, GetCapabilities by ``AcceptVersions``; a POST by its XML namespace. Errors are reported in
the shape of the version as far as it can be told: what cannot be read counts as 2.0 if it mentions that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from wps_hpc.config import Settings
from wps_hpc.errors import ServiceError
from wps_hpc.protocols import wps1_post, wps2_post
from wps_hpc.protocols.answer import Answer, FileAnswer
from wps_hpc.protocols.caller import Caller
from wps_hpc.protocols.ows import Query, negotiate_version, parse_query
from wps_hpc.protocols.ports import Backend
from wps_hpc.protocols.waiting import Waiting
from wps_hpc.protocols.wps1 import Wps1
from wps_hpc.protocols.wps2 import Wps2
from wps_hpc.protocols.wps2_request import VERSION as SECOND
from wps_hpc.protocols.wps_request import capabilities_of_node
from wps_hpc.protocols.xml import WPS2
from wps_hpc.protocols.xml_request import Document, read_document

Reply: TypeAlias = Answer | FileAnswer
#: What a client is told of an exception that is none of the service's own.
Told: TypeAlias = Callable[[Exception], ServiceError]

#: No name of an opaque element means anything else in the other version.
_OPAQUE = wps1_post.OPAQUE | wps2_post.OPAQUE
#: A query that is in version 2.0, or accepts it, whatever else is wrong with it.
_MENTIONED = re.compile(r"(?i)(?:^|&)(?:version|AcceptVersions)=[^&]*\b2\.")
#: A request in XML names its namespace near its beginning.
_BEGINNING = 16_000
#: Operations that 1.0.0 does not have: without a version, they are asked of 2.0.
_ONLY_SECOND = frozenset({"getstatus", "getresult"})


class Wps:
    """WPS 1.0.0 and 2.0 at one address. Thread-safe. ``told`` says what a client is told of any exception."""

    def __init__(self, settings: Settings, backend: Backend, waiting: Waiting) -> None:
        self._first = Wps1(settings, backend, waiting)
        self._second = Wps2(settings, backend, waiting)

    def get(self, text: str, caller: Caller, told: Told) -> Reply:
        """Answer key-value pairs; ``text`` is the query string as WSGI has it."""
        second = _MENTIONED.search(text) is not None
        try:
            query = parse_query(text)
            second = _query_is_second(query)
            return (self._second if second else self._first).get(query, caller)
        except Exception as error:
            if not second:
                raise
            return self._second.report(told(error))

    def post(self, body: bytes, charset: str | None, caller: Caller, told: Told) -> Reply:
        """Answer an XML request; ``charset`` is that of its Content-Type."""
        second = WPS2.encode() in body[:_BEGINNING]
        try:
            document = read_document(body, _OPAQUE, charset)
            second = _document_is_second(document)
            return (self._second if second else self._first).post(document, caller)
        except Exception as error:
            if not second:
                raise
            return self._second.report(told(error))

    def output(self, job_id: str, name: str) -> Answer:
        """A literal or bounding box that WPS 2.0 gave by reference; raises NotFound."""
        return self._second.output(job_id, name)

    def status(self, job_id: str) -> Answer:
        """The status document of WPS 1.0.0 at a job's statusLocation; raises NotFound."""
        return self._first.status(job_id)


def _query_is_second(query: Query) -> bool:
    name, version = (query.get("request") or "").lower(), query.get("version")
    if name == "getcapabilities":
        return negotiate_version(query.list("AcceptVersions"), version) == SECOND
    return name in _ONLY_SECOND if version is None else version.startswith("2.")


def _document_is_second(document: Document) -> bool:
    root = document.root
    if root.name == "GetCapabilities" and (accepted := capabilities_of_node(root).versions):
        return negotiate_version(accepted) == SECOND
    return root.namespace == WPS2
