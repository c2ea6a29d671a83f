"""Output files within a document: XML as elements, other text as text, the rest as Base64."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import BinaryIO

from lxml import etree

from joblauncher.formats.values import FileValue
from wps_hpc.processes.formats import character_set
from wps_hpc.protocols.wps_values import BASE64
from wps_hpc.protocols.xml import is_legal, parse_embedded

OpenFile = Callable[[FileValue], BinaryIO]


def is_base64(encoding: str | None) -> bool:
    """Whether an encoding is Base64, which says how data stands in a document and nothing about the file."""
    return encoding is not None and encoding.lower() == BASE64


def embeddable(value: FileValue, open_file: OpenFile, limit: int) -> bytes | None:
    """The file's content, or None when it has more than ``limit`` bytes, too many to stand within a document."""
    if value.size is not None and value.size > limit:
        return None
    with open_file(value) as stream:
        content = stream.read(limit + 1)
    return None if len(content) > limit else content


def embed(element: etree._Element, value: FileValue, content: bytes, *, as_base64: bool) -> None:
    """Put a file's content into an element: XML as elements, other text as text, the rest in Base64 (all of it, if
    ``as_base64``). Sets the attribute ``encoding`` where there is something to say."""
    if not as_base64:
        if is_xml(value.mime_type) and (embedded := parse_embedded(content)) is not None:
            element.append(embedded)
            return
        if is_text(value.mime_type) and (text := _text(content, value.encoding)) is not None:
            if value.encoding and not is_base64(value.encoding):
                element.set("encoding", value.encoding)
            element.text = etree.CDATA(text) if _better_in_cdata(text) else text
            return
    element.set("encoding", BASE64)
    element.text = base64.b64encode(content).decode()


def is_xml(mime_type: str) -> bool:
    """Whether files of that type are XML."""
    name = _bare(mime_type)
    return name in ("text/xml", "application/xml") or name.endswith("+xml")


_TEXT_TYPES = frozenset({"application/json", "application/javascript", "application/yaml", "application/x-yaml"})


def is_text(mime_type: str) -> bool:
    """Whether files of that type are text that a document may carry as it is."""
    name = _bare(mime_type)
    return name.startswith("text/") or name in _TEXT_TYPES or name.endswith(("+json", "+xml")) or is_xml(name)


def _bare(mime_type: str) -> str:
    return mime_type.partition(";")[0].strip().lower()


def _text(content: bytes, encoding: str | None) -> str | None:
    """The content as text that XML can carry without changing it, or None."""
    codec = "utf-8" if encoding is None or is_base64(encoding) else character_set(encoding)
    if codec is None:
        return None
    try:
        text = content.decode(codec)
    except UnicodeDecodeError:
        return None
    return text if is_legal(text) else None


def _better_in_cdata(text: str) -> bool:
    """Whether CDATA makes the text more readable, and changes nothing: parsers turn a bare CR into LF there."""
    return ("<" in text or "&" in text) and "]]>" not in text and "\r" not in text
