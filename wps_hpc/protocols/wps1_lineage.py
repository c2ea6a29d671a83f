"""Lineage (OGC 05-007r7 table 50): the client's DataInputs and OutputDefinitions, echoed as received.

Kept as one document: a ``wps:Lineage`` element of this server's own around the two elements. The values of HTTP headers
that a client gave for a reference are its secrets and are not echoed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from wps_hpc.errors import FileSizeExceeded
from wps_hpc.jobs.request import Given, InlineContent, OutputWish, Reference, Transmission
from wps_hpc.protocols.xml import OWS, WPS, XLINK, add, parse_embedded, root, to_bytes
from wps_hpc.protocols.xml_request import Document, Node

HIDDEN = "(not shown)"
#: Largest account that is kept and echoed, in bytes: it is parsed, at thirty times its size, for every status document.
LARGEST = 8_000_000
_EMPTY = b'<wps:Lineage xmlns:wps="' + WPS.encode() + b'">'


def lineage_as_received(document: Document, inputs: Node | None, outputs: Sequence[Node]) -> bytes:
    """The lineage of an XML request, cut from its own bytes; raises FileSizeExceeded for one above LARGEST."""
    parts = [_EMPTY]
    if inputs is not None and inputs.children:
        parts.append(document.fragment(inputs))
    if outputs:
        parts += [b"<wps:OutputDefinitions>", *map(document.fragment, outputs), b"</wps:OutputDefinitions>"]
    content = b"".join([*parts, b"</wps:Lineage>"])
    if len(content) > LARGEST:
        text = f"A lineage can have {LARGEST} bytes; send large inputs by reference, or leave lineage out."
        raise FileSizeExceeded(text, "lineage")
    return _without_secrets(content) if b"Header" in content else content


def _without_secrets(content: bytes) -> bytes:
    lineage = parse_embedded(content, huge=True)
    assert lineage is not None, "cut from a document that was well-formed"
    for header in lineage.iter(f"{{{WPS}}}Header"):
        header.set("value", HIDDEN)
    return to_bytes(lineage)


def lineage_of(inputs: Sequence[tuple[str, Given]], outputs: Sequence[OutputWish]) -> bytes:
    """The lineage of a key-value request, in the elements that an XML request would have had."""
    lineage = root(f"{{{WPS}}}Lineage")
    if inputs:
        parent = add(lineage, f"{{{WPS}}}DataInputs")
        for identifier, value in inputs:
            _add_input(parent, identifier, value)
    if outputs:
        parent = add(lineage, f"{{{WPS}}}OutputDefinitions")
        for wish in outputs:
            _add_output(parent, wish)
    return to_bytes(lineage)


def add_lineage(response: etree._Element, lineage: bytes) -> None:
    """Append the elements of a kept lineage to an ExecuteResponse."""
    kept = parse_embedded(lineage, huge=True)
    if kept is not None:
        response.extend(list(kept))


def _add_input(parent: etree._Element, identifier: str, value: Given) -> None:
    element = add(parent, f"{{{WPS}}}Input")
    add(element, f"{{{OWS}}}Identifier", identifier)
    if isinstance(value, Reference):
        form = {"mimeType": value.mime_type, "encoding": value.encoding, "schema": value.schema}
        add(element, f"{{{WPS}}}Reference", None, **{f"{{{XLINK}}}href": value.href}, **form)
    elif isinstance(value, InlineContent):
        _add_complex(add(element, f"{{{WPS}}}Data"), value)
    elif isinstance(value, BoundingBoxValue):
        add_bounding_box(add(element, f"{{{WPS}}}Data"), value)
    elif isinstance(value, LiteralValue):
        add(add(element, f"{{{WPS}}}Data"), f"{{{WPS}}}LiteralData", value.text, uom=value.uom)


def _add_complex(data: etree._Element, value: InlineContent) -> None:
    encoded = value.encoding is not None and value.encoding.lower() == "base64"
    text = base64.b64encode(value.content).decode() if encoded else value.content.decode("utf-8", "replace")
    add(data, f"{{{WPS}}}ComplexData", text, mimeType=value.mime_type, encoding=value.encoding, schema=value.schema)


def add_bounding_box(data: etree._Element, value: BoundingBoxValue) -> None:
    """Append a wps:BoundingBoxData with its corners as they are (06-121r3 §10.2)."""
    box = add(data, f"{{{WPS}}}BoundingBoxData", None, crs=value.crs, dimensions=str(len(value.lower)))
    add(box, f"{{{OWS}}}LowerCorner", corner(value.lower))
    add(box, f"{{{OWS}}}UpperCorner", corner(value.upper))


_NOT_FINITE = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}


def corner(numbers: Sequence[float]) -> str:
    """The coordinates of a corner: the shortest text that gives the same numbers back, whole ones without a point, what
    is not finite as XML Schema spells it."""
    texts = (repr(number).removesuffix(".0") for number in numbers)
    return " ".join(_NOT_FINITE.get(text, text) for text in texts)


def _add_output(parent: etree._Element, wish: OutputWish) -> None:
    wanted = wish.wanted
    element = add(
        parent,
        f"{{{WPS}}}Output",
        None,
        asReference=None if wish.transmission is None else str(wish.transmission is Transmission.REFERENCE).lower(),
        mimeType=wanted.mime_type,
        encoding=wanted.encoding,
        schema=wanted.schema,
        uom=wanted.uom,
    )
    add(element, f"{{{OWS}}}Identifier", wanted.identifier)
