"""XML that this server writes: namespaces, legal text, and elements made with lxml."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

WPS = "http://www.opengis.net/wps/1.0.0"
OWS = "http://www.opengis.net/ows/1.1"
WPS2 = "http://www.opengis.net/wps/2.0"
OWS2 = "http://www.opengis.net/ows/2.0"
XLINK = "http://www.w3.org/1999/xlink"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"

#: The prefixes of every document that this server writes, in WPS 1.0.0 and in 2.0.
PREFIXES: Mapping[str | None, str] = {"wps": WPS, "ows": OWS, "xlink": XLINK}
PREFIXES2: Mapping[str | None, str] = {"wps": WPS2, "ows": OWS2, "xlink": XLINK}

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """Text with every character that XML 1.0 cannot carry replaced by U+FFFD."""
    return _ILLEGAL.sub("\ufffd", text)


def is_legal(text: str) -> bool:
    """Whether XML 1.0 can carry the text."""
    return _ILLEGAL.search(text) is None


def root(
    tag: str, attributes: Mapping[str, str] | None = None, prefixes: Mapping[str | None, str] = PREFIXES
) -> etree._Element:
    """The root of a new document."""
    element = etree.Element(tag, nsmap=dict(prefixes))
    set_all(element, attributes or {})
    return element


def add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str | None) -> etree._Element:
    """Append a child; text and attribute values are made legal, attributes of None are left out."""
    element = etree.SubElement(parent, tag)
    if text is not None:
        element.text = clean(text)
    set_all(element, attributes)
    return element


def set_all(element: etree._Element, attributes: Mapping[str, str | None]) -> None:
    """Set attributes, made legal; those of None are left out."""
    for name, value in attributes.items():
        if value is not None:
            element.set(name, clean(value))


def to_bytes(document: etree._Element) -> bytes:
    """The document as UTF-8 with its declaration."""
    return etree.tostring(document, encoding="UTF-8", xml_declaration=True)


def parse_embedded(content: bytes, *, huge: bool = False) -> etree._Element | None:
    """The root of an XML file to embed, or None when it is not well-formed or has a document type declaration.

    ``huge`` lifts libxml2's limit on text length, for bytes that this server has checked before.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=huge, strip_cdata=False)
    try:
        element = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    return None if element.getroottree().docinfo.doctype else element
