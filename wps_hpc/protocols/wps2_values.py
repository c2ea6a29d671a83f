"""Literals and bounding boxes of WPS 2.0, as XML and as plain text (OGC 14-065r2 §7.4, 8.1.1, 8.2), in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from wps_hpc.errors import NoSuchFormat, WrongInputData
from wps_hpc.processes.description import LITERAL_TYPES, LiteralData
from wps_hpc.processes.formats import same_mime
from wps_hpc.protocols.wps1_lineage import corner
from wps_hpc.protocols.wps_values import Encoding, bounding_box, bounding_box_of_text
from wps_hpc.protocols.xml import OWS2, PREFIXES2, WPS2, add, clean, root, set_all
from wps_hpc.protocols.xml_request import Content, Node, read_document

#: The types in which a literal or a bounding box can be written, the default first (14-065r2 §8.1.1, 8.2).
XML_FORM = "text/xml"
TEXT_FORM = "text/plain"
PLAIN_FORMS = (XML_FORM, TEXT_FORM)

_XML_TYPES = "http://www.w3.org/2001/XMLSchema#"
_CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"
#: Types of XML Schema that clients name, and which of ours their values are.
_TYPES: Mapping[str, str] = {
    **{name: name for name in LITERAL_TYPES},
    **dict.fromkeys(("int", "long", "short", "byte", "unsignedInt", "unsignedLong", "unsignedShort"), "integer"),
    "decimal": "double",
}


def data_type_uri(data_type: str) -> str:
    """The URI of a literal type (14-065r2 table 11)."""
    known = data_type not in ("scale", "angle")
    return f"{_XML_TYPES}{data_type}" if known else f"urn:ogc:def:dataType:OGC:1.1:{data_type}"


def check_plain_form(form: Encoding, identifier: str) -> None:
    """Raise NoSuchFormat for a format that literals and bounding boxes do not have."""
    if form.mime_type is not None and not any(same_mime(form.mime_type, known) for known in PLAIN_FORMS):
        raise NoSuchFormat(
            f"{identifier} comes as {' or '.join(PLAIN_FORMS)}, not {form.mime_type[:80]!r}.", identifier
        )
    if form.is_base64:
        raise NoSuchFormat(f"{identifier} does not come in Base64.", identifier)


def _is_text(form: Encoding) -> bool:
    return form.mime_type is not None and same_mime(form.mime_type, TEXT_FORM)


# --------------------------------------------------------------------------------------------------------- literals

#: The end of a literal in plain text: ``70@datatype=http://www.w3.org/2001/XMLSchema#integer@uom=meter``.
_SUFFIX = re.compile(r"(?s)(?P<value>.*?)(?:@datatype=(?P<type>[^@\s]+))?(?:@uom=(?P<uom>[^@\s]+))?")


def literal_value(content: Content, form: Encoding, identifier: str, data: LiteralData) -> LiteralValue:
    """A wps:LiteralValue, or bare text. Raises NoSuchFormat and WrongInputData."""
    check_plain_form(form, identifier)
    if content.document is None:
        return _literal_of_text(content.text, data) if _is_text(form) else LiteralValue(content.text, data.data_type)
    element = read_document(content.document, frozenset()).root
    if (element.namespace, element.name) != (WPS2, "LiteralValue") or element.children:
        raise WrongInputData(f"The input {identifier} takes a wps:LiteralValue with text, or text.", identifier)
    claimed = _type_of(element.attributes.get("dataType")) or data.data_type
    return LiteralValue("".join(element.pieces), claimed, element.attributes.get("uom") or None)


def _literal_of_text(text: str, data: LiteralData) -> LiteralValue:
    """Plain text with what may be appended to it, if that is a type or a unit: «joe@uom=x» may as well be a value."""
    found = _SUFFIX.fullmatch(text)
    assert found is not None, "the pattern matches any text"
    claimed, uom = _type_of(found["type"]), found["uom"]
    if (found["type"] and not claimed) or (uom and uom not in (*data.uoms, *dict(data.uom_references).values())):
        return LiteralValue(text, data.data_type)
    return LiteralValue(found["value"], claimed or data.data_type, uom)


def _type_of(uri: str | None) -> str | None:
    """The literal type that a client names, or None for one that is not known here: the description decides then."""
    return None if uri is None or ":" not in uri else _TYPES.get(re.split("[#:]", uri.strip())[-1])


def literal_element(value: LiteralValue) -> etree._Element:
    """A wps:LiteralValue."""
    element = root(f"{{{WPS2}}}LiteralValue", prefixes=PREFIXES2)
    element.text = clean(value.text)
    set_all(element, {"dataType": data_type_uri(value.data_type), "uom": value.uom})
    return element


# --------------------------------------------------------------------------------------------------- bounding boxes


def box_value(content: Content, form: Encoding, identifier: str) -> BoundingBoxValue:
    """An ows:BoundingBox, or its corners in plain text. Raises NoSuchFormat and WrongInputData."""
    check_plain_form(form, identifier)
    if content.document is None:
        return bounding_box_of_text(content.text, None, None, identifier)
    element = read_document(content.document, frozenset()).root
    if element.namespace != OWS2 or element.name not in ("BoundingBox", "WGS84BoundingBox"):
        raise WrongInputData(f"The input {identifier} takes an ows:BoundingBox.", identifier)
    default = _CRS84 if element.name == "WGS84BoundingBox" else None
    return bounding_box(
        _corner(element, "LowerCorner", identifier),
        _corner(element, "UpperCorner", identifier),
        element.attributes.get("crs") or default,
        element.attributes.get("dimensions"),
        identifier,
    )


def _corner(element: Node, name: str, identifier: str) -> list[str]:
    found = element.first(name, OWS2)
    if found is None:
        raise WrongInputData(f"{identifier} needs an ows:LowerCorner and an ows:UpperCorner.", identifier)
    return found.text.split()


def box_element(value: BoundingBoxValue) -> etree._Element:
    """An ows:BoundingBox with its corners as they are (06-121r9 §10.2)."""
    element = root(f"{{{OWS2}}}BoundingBox", prefixes=PREFIXES2)
    set_all(element, {"crs": value.crs, "dimensions": str(len(value.lower))})
    add(element, f"{{{OWS2}}}LowerCorner", corner(value.lower))
    add(element, f"{{{OWS2}}}UpperCorner", corner(value.upper))
    return element


def box_text(value: BoundingBoxValue) -> str:
    """A bounding box as plain text (14-065r2 §8.2)."""
    corners = f"{corner(value.lower)} {corner(value.upper)}".replace(" ", ",")
    return f"{corners},{value.crs}" if value.crs else corners
