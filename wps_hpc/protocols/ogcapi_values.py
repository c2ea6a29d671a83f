"""Input values of OGC API - Processes (18-062r2 §7.11.2.4, execute.yaml): JSON into neutral values.

Types are checked here, since JSON has them; ranges, formats and numbers of values are the jobs room's to check.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.jobs.request import Given, InlineContent, NestedGiven, Reference
from wps_hpc.processes.description import BoundingBoxData, ComplexData, Format, Input, LiteralData, NestedInputs
from wps_hpc.processes.formats import matching
from wps_hpc.protocols.ogcapi_body import Number
from wps_hpc.protocols.ogcapi_schema import FLOATING, NUMERIC, default_crs, is_binary, is_json
from wps_hpc.protocols.wps_values import Encoding, inline_text, reference
from wps_hpc.protocols.xml import is_legal

#: What stands for a number that JSON does not have.
_NO_NUMBERS = ("NaN", "INF", "-INF")


def read_inputs(described: Sequence[Input], given: Any, where: str = "inputs") -> dict[str, tuple[Given, ...]]:
    """The values by input. Raises InvalidParameterValue with the input as locator (``where`` for the whole)."""
    if not isinstance(given, dict):
        raise InvalidParameterValue(f"{where} must be an object: from identifiers to values.", where)
    known = {entry.identifier: entry for entry in described}
    values: dict[str, tuple[Given, ...]] = {}
    for identifier, value in given.items():
        entry = known.get(identifier)
        if entry is None:
            has = f"there are {', '.join(known)}" if known else "there are none"
            raise InvalidParameterValue(f"There is no input {identifier[:80]!r}; {has}.", identifier[:80])
        values[identifier] = _occurrences(entry, value)
    return values


def _occurrences(described: Input, value: Any) -> tuple[Given, ...]:
    """An array is several values where several may be given (18-062r2 req. 25), else a document that is an array."""
    if isinstance(value, list):
        if described.max_occurs != 1:
            return tuple(_one(described, item) for item in value)
        if not isinstance(described.data, ComplexData):
            raise InvalidParameterValue(
                f"The input {described.identifier} takes one value, not an array.", described.identifier
            )
    return (_one(described, value),)


def _one(described: Input, value: Any) -> Given:
    if value is None:
        raise InvalidParameterValue(
            f"null is no value; leave the input {described.identifier} out.", described.identifier
        )
    return _READERS[type(described.data)](described, value)


def _qualified(value: Any) -> bool:
    """Whether a value says more of itself (qualifiedInputValue.yaml)."""
    return isinstance(value, dict) and "value" in value


def _wrong(described: Input, what: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"The input {described.identifier} takes {what}.", described.identifier)


# ------------------------------------------------------------------------------------------------------------- literals


def _literal(described: Input, value: Any) -> LiteralValue:
    assert isinstance(described.data, LiteralData)
    uom = None
    if _qualified(value):
        uom, value = _text(value, "uom", described), value["value"]
    data_type = described.data.data_type
    return LiteralValue(_literal_text(described, data_type, value), data_type, uom)


def _literal_text(described: Input, data_type: str, value: Any) -> str:
    if data_type == "boolean":
        if not isinstance(value, bool):
            raise _wrong(described, "true or false")
        return "true" if value else "false"
    if data_type in NUMERIC:
        return _number_text(described, data_type, value)
    if not isinstance(value, str) or not is_legal(value):
        # Job records are XML, too: what that cannot carry is refused here rather than at the end of the job.
        raise _wrong(described, f"a string ({data_type}) of characters that XML allows")
    return value


def _number_text(described: Input, data_type: str, value: Any) -> str:
    if data_type in FLOATING and isinstance(value, str) and value in _NO_NUMBERS:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(described, f"a number ({data_type})")
    return value.text if isinstance(value, Number) else str(value)


def _text(value: Mapping[str, Any], name: str, described: Input) -> str | None:
    found = value.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidParameterValue(f"{name} of the input {described.identifier} is a string.", described.identifier)
    return found or None


# ------------------------------------------------------------------------------------------------------------ documents


@dataclass(frozen=True)
class _Claimed:
    """What a client says of the format of a value (format.yaml)."""

    mime_type: str | None = None
    encoding: str | None = None
    schema: str | None = None


def _complex(described: Input, value: Any) -> InlineContent | Reference:
    assert isinstance(described.data, ComplexData)
    if _qualified(value):
        return _inline(described, described.data, value["value"], _claimed(described, value))
    if isinstance(value, dict) and "href" in value:
        return _reference(described, value)
    return _inline(described, described.data, value, _Claimed())


def _claimed(described: Input, value: Mapping[str, Any]) -> _Claimed:
    """The format as mediaType, encoding and schema; a schema may be an object, which is nobody's name."""
    schema = None if isinstance(value.get("schema"), dict) else _text(value, "schema", described)
    return _Claimed(_text(value, "mediaType", described), _text(value, "encoding", described), schema)


def _reference(described: Input, value: Mapping[str, Any]) -> Reference:
    """A link (link.yaml); its type is the format of what is there."""
    form = Encoding(_text(value, "type", described))
    return reference(_text(value, "href", described), form, described.identifier)


def _inline(described: Input, data: ComplexData, value: Any, claimed: _Claimed) -> InlineContent:
    form = _meant(data, value, claimed)
    if isinstance(value, str):
        # What the description calls binary is Base64 whether the client says so or not.
        encoding = "base64" if form is not None and is_binary(form) else claimed.encoding
        written = Encoding(claimed.mime_type or (form.mime_type if form else None), encoding, claimed.schema)
        return inline_text(value, written, described.identifier)
    if form is None or not is_json(form.mime_type):
        raise _wrong(described, "a document as a string, or Base64; only JSON documents may stand as they are")
    return InlineContent(_document(described, value), form.mime_type, claimed.encoding, claimed.schema)


def _meant(data: ComplexData, value: Any, claimed: _Claimed) -> Format | None:
    """The format that a value is in, as far as it can be told."""
    if claimed.mime_type is None and not isinstance(value, str):
        return next((form for form in data.formats if is_json(form.mime_type)), None)
    return matching(data.formats, claimed.mime_type, claimed.encoding, claimed.schema)


def _document(described: Input, value: Any) -> bytes:
    """The JSON text of a value, in UTF-8; numbers as doubles hold them."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise _wrong(described, "no number that is too large for a double, and no nesting so deep") from error


# ------------------------------------------------------------------------------------------------------ boxes, nests


def _box(described: Input, value: Any) -> BoundingBoxValue:
    """A box (bbox.yaml), its numbers in the axis order of its reference system: nothing is ever swapped."""
    assert isinstance(described.data, BoundingBoxData)
    if _qualified(value):
        value = value["value"]
    if not isinstance(value, dict) or not isinstance(value.get("bbox"), list) or not _are_numbers(value["bbox"]):
        raise _wrong(described, 'a bounding box: {"bbox": [four or six numbers], "crs": "…"}')
    numbers = value["bbox"]
    if len(numbers) not in (4, 6):
        raise _wrong(described, f"a bounding box of four or six numbers, not {len(numbers)}")
    try:
        corners = tuple(float(number) for number in numbers)
    except OverflowError as error:
        raise _wrong(described, "coordinates that a double can hold") from error
    half = len(corners) // 2
    return BoundingBoxValue(
        corners[:half], corners[half:], _text(value, "crs", described) or default_crs(described.data)
    )


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _nested(described: Input, value: Any) -> NestedGiven:
    assert isinstance(described.data, NestedInputs)
    if _qualified(value):
        value = value["value"]
    return NestedGiven(read_inputs(described.data.inputs, value, described.identifier))


_READERS: Mapping[type, Callable[[Input, Any], Given]] = {
    LiteralData: _literal,
    ComplexData: _complex,
    BoundingBoxData: _box,
    NestedInputs: _nested,
}
