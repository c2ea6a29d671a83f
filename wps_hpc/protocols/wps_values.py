"""Input values of WPS (OGC 05-007r7 §10.2.1, 14-065r2 §9.2), whichever way they came: text into neutral values.

Types, ranges and formats are the jobs room's to check; here a value only has to be readable.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from wps_hpc.errors import InvalidParameterValue, MissingParameterValue, WrongInputData
from wps_hpc.jobs.request import InlineContent, Reference, Transmission
from wps_hpc.processes import literals
from wps_hpc.processes.description import Input, LiteralData
from wps_hpc.processes.formats import character_set
from wps_hpc.protocols.ows import boolean

BASE64 = "base64"


@dataclass(frozen=True)
class Encoding:
    """The three attributes of complex data (05-007r7 table 46)."""

    mime_type: str | None = None
    encoding: str | None = None
    schema: str | None = None

    @property
    def is_base64(self) -> bool:
        """Whether the data stands in Base64."""
        return self.encoding is not None and self.encoding.lower() == BASE64


def literal(text: str, described: Input | None, uom: str | None) -> LiteralValue:
    """A literal of the input's own type; what the client calls the type changes nothing."""
    data = described.data if described else None
    return LiteralValue(text, data.data_type if isinstance(data, LiteralData) else "string", uom or None)


def inline_text(text: str, form: Encoding, identifier: str) -> InlineContent:
    """Complex data that came as text: decoded from Base64, or written in the character set it claims."""
    content = decode_base64(text, identifier) if form.is_base64 else _encode(text, form.encoding, identifier)
    return InlineContent(content, form.mime_type, form.encoding, form.schema)


def inline_document(document: bytes, form: Encoding, identifier: str) -> InlineContent:
    """Complex data that came as an XML element, in UTF-8."""
    if form.is_base64:
        raise WrongInputData(f"The input {identifier} is said to be base64 but holds XML elements.", identifier)
    return InlineContent(document, form.mime_type, form.encoding, form.schema)


def decode_base64(text: str, identifier: str) -> bytes:
    """Decode Base64 that may be broken into lines; raises WrongInputData for anything else."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongInputData(
            f"The input {identifier} is not valid base64 ({error}); send base64, or leave the encoding out.", identifier
        ) from error


def _encode(text: str, charset: str | None, identifier: str) -> bytes:
    # What is no character set may still be an encoding that the process takes: that is checked with its formats.
    codec = character_set(charset) if charset else None
    try:
        return text.encode(codec or "utf-8")
    except UnicodeError as error:
        raise WrongInputData(
            f"The input {identifier} has characters that {charset} cannot express.", identifier
        ) from error


def bounding_box(
    lower: Sequence[str], upper: Sequence[str], crs: str | None, dimensions: str | None, identifier: str
) -> BoundingBoxValue:
    """Two corners, in the axis order of the CRS exactly as they came (06-121r3 §10.2): nothing is ever swapped."""
    low, high = _numbers(lower, identifier), _numbers(upper, identifier)
    if not low or len(low) != len(high):
        raise WrongInputData(f"The corners of {identifier} have {len(low)} and {len(high)} coordinates.", identifier)
    if dimensions is not None and dimensions.strip() != str(len(low)):
        raise WrongInputData(
            f"{identifier} is said to have {dimensions[:20]} dimensions but has {len(low)}.", identifier
        )
    return BoundingBoxValue(low, high, crs or None)


def bounding_box_of_text(text: str, crs: str | None, dimensions: str | None, identifier: str) -> BoundingBoxValue:
    """``46,102,47,103,urn:ogc:def:crs:EPSG:6.6:4326,2``: lower corner, upper corner, CRS, number of dimensions.

    What stands in the text counts more than ``crs`` and ``dimensions``. Raises WrongInputData.
    """
    parts = [part.strip() for part in text.split(",")]
    count = next((index for index, part in enumerate(parts) if not _is_number(part)), len(parts))
    numbers, (said_crs, said_dimensions, *rest) = parts[:count], (*parts[count:], None, None)
    if len(numbers) % 2 or any(rest):
        raise WrongInputData(
            f"{identifier} must be minx,miny,maxx,maxy, then the CRS, then the number of dimensions.", identifier
        )
    half = len(numbers) // 2
    return bounding_box(numbers[:half], numbers[half:], said_crs or crs, said_dimensions or dimensions, identifier)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(texts: Sequence[str], identifier: str) -> tuple[float, ...]:
    try:
        numbers = tuple(literals.parse("double", text) for text in texts)
    except literals.LiteralError as error:
        raise WrongInputData(f"{identifier} has a coordinate that cannot be: {error}.", identifier) from error
    if not all(map(math.isfinite, numbers)):
        raise WrongInputData(f"The coordinates of {identifier} must be finite.", identifier)
    return numbers


def reference(
    href: str | None,
    form: Encoding,
    identifier: str,
    *,
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    body_href: str | None = None,
) -> Reference:
    """An input to fetch (05-007r7 table 43); what may be fetched is checked where it is fetched."""
    if not href:
        raise MissingParameterValue(f"The reference of {identifier} has no href.", identifier)
    if method not in ("GET", "POST"):
        raise InvalidParameterValue(f"The method of {identifier} must be GET or POST, not {method[:20]!r}.", identifier)
    if method == "GET" and (body is not None or body_href is not None):
        raise InvalidParameterValue(f'A body for {identifier} needs method="POST".', identifier)
    for name, value in headers:
        if not name or any(character in name + value for character in "\r\n\0"):
            raise InvalidParameterValue(f"A header of {identifier} is not a valid HTTP header.", identifier)
    return Reference(href, form.mime_type, form.encoding, form.schema, method, headers, body, body_href)


def transmission(as_reference: str | None, identifier: str) -> Transmission | None:
    """How an output is to come (table 51); None leaves it to the default. Raises InvalidParameterValue."""
    if as_reference is None:
        return None
    return Transmission.REFERENCE if boolean(as_reference, identifier) else Transmission.VALUE
