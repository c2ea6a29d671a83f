"""XML requests, read without trusting them.

A request is read by expat in one pass over its bytes. Small elements become ``Node``s; what stands inside an *opaque*
element (a complex input, the body of a reference) becomes no tree at all: its bytes are cut out of the request as the
client sent them, with the namespaces they need. So a large input costs its own size, not ten times as much, and keeps
its attribute order, comments and CDATA sections. (libxml2 would also refuse texts beyond ten million characters.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from wps_hpc.errors import BadRequest
from wps_hpc.processes.formats import character_set
from wps_hpc.protocols.xml import WPS

#: An element's namespace and local name.
Name = tuple[str, str]

#: Elements within elements; deeper documents are refused.
MAX_DEPTH = 256
#: Elements outside of complex content. No real request has a thousandth of it.
MAX_NODES = 100_000
#: Attributes and namespace declarations of these elements, each counted for every element that keeps it: a declaration
#: holds for all that stands inside, so a few thousand of them on the root would cost each child as much again.
MAX_PARTS = 1_000_000
#: Characters of the namespace declarations that hold at any place; complex inputs get a copy of them.
MAX_SCOPE = 10_000
#: Characters of all those copies. A request of many small inputs and long namespaces would grow a thousandfold.
MAX_COPIES = 16_000_000
#: Bytes of one tag, comment or processing instruction: ten million attributes would cost gigabytes.
MAX_TAG = 1_000_000

_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Content:
    """What stood inside an opaque element: one XML element (``document``, as bytes) or else ``text``.

    ``problem`` says why it is neither, as the end of a sentence.
    """

    text: str = ""
    document: bytes | None = None
    problem: str | None = None


@dataclass(eq=False)
class Node:
    """An element of a request. ``attributes`` are keyed by ``name`` or ``{namespace}name``.

    ``scope`` maps the prefixes that hold inside the element; ``own`` are those that it declares itself. ``start`` and
    ``end`` delimit the element in the request's UTF-8 bytes; ``end`` is right for elements that have content.
    """

    namespace: str
    name: str
    attributes: Mapping[str, str]
    scope: Mapping[str | None, str]
    own: frozenset[str | None]
    start: int
    end: int = 0
    children: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    content: Content | None = None

    @cached_property
    def text(self) -> str:
        """The element's own text without surrounding space."""
        return "".join(self.pieces).strip(_SPACE)

    def all(self, name: str, namespace: str = WPS) -> Iterator[Node]:
        """The children of that name."""
        return (child for child in self.children if child.name == name and child.namespace == namespace)

    def first(self, name: str, namespace: str = WPS) -> Node | None:
        """The first child of that name, or None."""
        return next(self.all(name, namespace), None)


@dataclass(frozen=True)
class Document:
    """A request that has been read: its root, and the UTF-8 bytes that the nodes point into."""

    root: Node
    body: bytes

    def fragment(self, node: Node) -> bytes:
        """The bytes of an element as received, as a document of its own."""
        return _standalone(self.body, node.start, node.end, node.scope, node.own)


def read_document(body: bytes, opaque: frozenset[Name], charset: str | None = None) -> Document:
    """Read a request; ``opaque`` names the elements whose content is kept as it is.

    ``charset`` is what the transport said, which counts more than the XML declaration (RFC 7303 §3). Raises BadRequest
    for anything malformed, a document type declaration, or more than one of this module's limits.
    """
    content = _as_utf8(body, charset)
    return Document(_Reader(content, opaque).read(), content)


_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")


def _as_utf8(body: bytes, charset: str | None) -> bytes:
    """The request in UTF-8 without a byte order mark."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return _recode(body[len(mark) :] if encoding == "utf-8" else body, encoding)
    declared = _DECLARED.match(body[:200])
    return _recode(body, charset or (declared[1].decode("ascii") if declared else "utf-8"))


def _recode(body: bytes, encoding: str) -> bytes:
    if encoding.lower() in ("utf-8", "utf8", "us-ascii", "ascii"):
        return body
    codec = character_set(encoding)
    if codec is None:
        raise BadRequest(f"{encoding[:40]!r} is no character set that is known here; send the request as UTF-8.")
    try:
        return body.decode(codec).encode()
    except UnicodeError as error:
        raise BadRequest(f"The request cannot be read as {encoding[:40]}; send it as UTF-8.") from error


class _Reader:
    """One reading of one request. Handlers are swapped inside opaque elements, where only depth counts."""

    def __init__(self, body: bytes, opaque: frozenset[Name]) -> None:
        self._body = body
        self._opaque = opaque
        self._root: Node | None = None
        self._open: list[Node] = []
        self._depth = 0
        self._count = 0
        self._parts = 0
        self._copies = 0
        self._declared: dict[str | None, str] = {}
        self._inside: _OpaqueContent | None = None
        self._parser = expat.ParserCreate("utf-8", "}")
        self._parser.buffer_text = True
        self._parser.buffer_size = 65536
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._watch_nodes()

    def read(self) -> Node:
        """Read the whole request and return its root."""
        try:
            self._feed()
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            raise BadRequest(
                f"The request is not well-formed XML: {what} (line {error.lineno}, column {error.offset + 1})."
            ) from error
        assert self._root is not None, "expat accepts no document without a root"
        return self._root

    def _feed(self) -> None:
        """Give expat the bytes in steps; text comes out at once, so what a step leaves unread is one unfinished tag."""
        view = memoryview(self._body)
        for start in range(0, len(view), MAX_TAG):
            end = min(start + MAX_TAG, len(view))
            self._parser.Parse(view[start:end], False)
            if end - self._parser.CurrentByteIndex > 2 * MAX_TAG:
                raise BadRequest(f"The request has a tag longer than {MAX_TAG} bytes.")
        self._parser.Parse(b"", True)

    def _watch_nodes(self) -> None:
        parser = self._parser
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartNamespaceDeclHandler = self._declare
        parser.StartCdataSectionHandler = parser.EndCdataSectionHandler = None

    def _refuse_doctype(self, *_: Any) -> None:
        line = self._parser.CurrentLineNumber
        raise BadRequest(f"The request has a document type declaration (line {line}); remove it.")

    def _declare(self, prefix: str | None, uri: str | None) -> None:
        self._declared[prefix] = uri or ""

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadRequest(
                f"The request nests elements deeper than {MAX_DEPTH} (line {self._parser.CurrentLineNumber})."
            )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._deeper()
        self._count += 1
        if self._count > MAX_NODES:
            raise BadRequest(f"The request has more than {MAX_NODES} elements outside of complex data.")
        node = self._node(name, attributes)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)
        if (node.namespace, node.name) in self._opaque:
            self._enter(node)

    def _node(self, name: str, attributes: dict[str, str]) -> Node:
        outer: Mapping[str | None, str] = self._open[-1].scope if self._open else {}
        declared, self._declared = self._declared, {}
        self._weigh(attributes, outer, declared)
        namespace, _, local = name.rpartition("}")
        return Node(
            namespace,
            local,
            {"{" + key if "}" in key else key: value for key, value in attributes.items()},
            {**outer, **declared} if declared else outer,
            frozenset(declared),
            self._parser.CurrentByteIndex,
        )

    def _weigh(
        self, attributes: Mapping[str, str], outer: Mapping[str | None, str], declared: Mapping[str | None, str]
    ) -> None:
        """Refuse what costs far more than its own size, before it is kept."""
        self._parts += len(attributes) + (len(outer) + len(declared) if declared else 0)
        if self._parts > MAX_PARTS:
            raise BadRequest(f"The request has more than {MAX_PARTS} attributes and namespaces.")
        if declared and _length(outer) + _length(declared) > MAX_SCOPE:
            raise BadRequest(f"The request declares namespaces of more than {MAX_SCOPE} characters at one place.")

    def _end(self, _: str) -> None:
        self._depth -= 1
        node = self._open.pop()
        node.end = self._body.find(b">", self._parser.CurrentByteIndex) + 1

    def _text(self, text: str) -> None:
        self._open[-1].pieces.append(text)

    # Inside an opaque element.

    def _enter(self, node: Node) -> None:
        self._inside = _OpaqueContent(self._depth)
        self._parser.StartElementHandler = self._start_inside
        self._parser.EndElementHandler = self._end_inside
        self._watch_text(self._inside)

    def _watch_text(self, inside: _OpaqueContent) -> None:
        parser = self._parser
        parser.CharacterDataHandler = inside.add_text
        parser.StartCdataSectionHandler = inside.open_cdata
        parser.EndCdataSectionHandler = inside.close_cdata
        parser.StartNamespaceDeclHandler = self._declare

    def _watch_depth_alone(self) -> None:
        parser = self._parser
        parser.CharacterDataHandler = None
        parser.StartCdataSectionHandler = parser.EndCdataSectionHandler = None
        parser.StartNamespaceDeclHandler = None

    def _start_inside(self, name: str, _: dict[str, str]) -> None:
        self._deeper()
        inside = self._inside
        assert inside is not None
        if self._depth == inside.depth + 1:
            declared, self._declared = self._declared, {}
            inside.start_element(self._parser.CurrentByteIndex, frozenset(declared))
            self._watch_depth_alone()

    def _end_inside(self, name: str) -> None:
        inside = self._inside
        assert inside is not None
        if self._depth == inside.depth:
            node = self._open[-1]
            self._copies += _length(node.scope)
            if self._copies > MAX_COPIES:
                raise BadRequest("The request has too many complex inputs for namespaces that long; shorten them.")
            node.content = inside.finish(self._body, self._parser.CurrentByteIndex, node.scope)
            self._watch_nodes()
            self._end(name)
            return
        self._depth -= 1
        if self._depth == inside.depth:
            self._watch_text(inside)


def _length(declared: Mapping[str | None, str]) -> int:
    """Characters of namespace declarations, about as they are written."""
    return sum(len(prefix or "") + len(uri) + 10 for prefix, uri in declared.items())


class _OpaqueContent:
    """What has been seen of one opaque element: its text, its CDATA sections, and where its one element begins."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._text: list[str] = []
        self._cdata: list[str] = []
        self._in_cdata = False
        self._had_cdata = False
        self._starts: list[int] = []
        self._own: frozenset[str | None] = frozenset()

    def add_text(self, text: str) -> None:
        """Text directly inside the element."""
        (self._cdata if self._in_cdata else self._text).append(text)

    def open_cdata(self) -> None:
        """A CDATA section begins."""
        self._in_cdata = self._had_cdata = True

    def close_cdata(self) -> None:
        """A CDATA section ends."""
        self._in_cdata = False

    def start_element(self, offset: int, own: frozenset[str | None]) -> None:
        """A child element begins at that byte; ``own`` are the prefixes it declares."""
        self._starts.append(offset)
        self._own = own

    def finish(self, body: bytes, end: int, scope: Mapping[str | None, str]) -> Content:
        """The content; ``end`` is where the end tag begins."""
        outside = "".join(self._text)
        filled = bool(outside.strip(_SPACE))
        if not self._starts:
            return self._plain_text(outside, filled)
        if len(self._starts) > 1:
            return Content(problem="holds more than one XML element")
        if self._had_cdata or filled:
            return Content(problem="mixes XML elements with text")
        return Content(document=_standalone(body, self._starts[0], end, scope, self._own))

    def _plain_text(self, outside: str, filled: bool) -> Content:
        # Space around a CDATA section is layout; without one every character counts.
        if self._had_cdata and filled:
            return Content(problem="mixes CDATA sections with other text")
        return Content("".join(self._cdata) if self._had_cdata else outside)


_NAME = re.compile(rb"<[^\s/>]+")


def _standalone(
    body: bytes, start: int, end: int, scope: Mapping[str | None, str], own: frozenset[str | None]
) -> bytes:
    """An element cut out of its document, with the declarations that it had from outside. Copies it once."""
    name = _NAME.match(body, start)
    assert name is not None, "an element begins with its name"
    while body[end - 1] in b" \t\r\n":
        end -= 1
    needed = [(prefix, uri) for prefix, uri in scope.items() if prefix not in own and (prefix or uri)]
    return b"".join([name[0], _declarations(needed), memoryview(body)[name.end() : end]])


def _declarations(needed: list[tuple[str | None, str]]) -> bytes:
    return "".join(
        f" xmlns:{prefix}={quoteattr(uri)}" if prefix else f" xmlns={quoteattr(uri)}" for prefix, uri in needed
    ).encode()
