"""Input and output values as both sides write them to JSON: neutral, plain, versioned with the files they stand in.

Literal values are canonical text of their type, so that nothing is lost between Python versions and machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union


class ValueFormatError(ValueError):
    """A value's JSON has not the shape that this version reads."""


@dataclass(frozen=True)
class LiteralValue:
    """A literal as canonical text, with its WPS type and unit."""

    text: str
    data_type: str = "string"
    uom: Optional[str] = None


@dataclass(frozen=True)
class BoundingBoxValue:
    """A bounding box: corners in the axis order of ``crs`` exactly as written by the client."""

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    crs: Optional[str] = None


@dataclass(frozen=True)
class FileValue:
    """A complex value in a file. ``path`` is relative to the job folder (inputs) or to the attempt (outputs).

    For a ``file:`` input on the shared filesystem ``path`` is absolute and ``shared`` is true: bound, not copied.
    ``size`` is in bytes. ``href`` is the address that an input was fetched from. The other two are of outputs:
    ``by_reference``, that the process wants it given by its address unless the client says otherwise; ``parts``, files
    that this one leads to by their addresses (a metalink's), which are outputs together with it. ``sha256``, in
    hexadecimal, is that of an output which has yet to travel from the cluster to the server.
    """

    path: str
    mime_type: str
    encoding: Optional[str] = None
    schema: Optional[str] = None
    size: Optional[int] = None
    shared: bool = False
    href: Optional[str] = None
    by_reference: Optional[bool] = None
    parts: tuple[FileValue, ...] = ()
    sha256: Optional[str] = None


@dataclass(frozen=True)
class LinkValue:
    """A complex output that lies somewhere else: its address (http, https or ftp), which clients are given as it is."""

    href: str
    mime_type: str
    encoding: Optional[str] = None
    schema: Optional[str] = None


@dataclass(frozen=True)
class NestedValue:
    """Values within a value: identifier to occurrences."""

    values: Mapping[str, tuple[Value, ...]]


Value = Union[LiteralValue, BoundingBoxValue, FileValue, LinkValue, NestedValue]
Values = Mapping[str, tuple[Value, ...]]

_LEAF_KINDS: Mapping[str, Any] = {
    "literal": LiteralValue,
    "bbox": BoundingBoxValue,
    "file": FileValue,
    "link": LinkValue,
}
#: What the fields of a value are in JSON.
_FIELD_TYPES: Mapping[str, Any] = {
    "text": str,
    "data_type": str,
    "uom": str,
    "lower": tuple,
    "upper": tuple,
    "crs": str,
    "path": str,
    "mime_type": str,
    "encoding": str,
    "schema": str,
    "size": int,
    "shared": bool,
    "href": str,
    "by_reference": bool,
    "parts": tuple,
    "sha256": str,
}
_KIND_NAMES = {cls: kind for kind, cls in _LEAF_KINDS.items()}


def value_to_json(value: Value) -> dict[str, Any]:
    """A value as a JSON object with its ``kind``; fields that are None, and no parts, are left out."""
    if isinstance(value, NestedValue):
        return {"kind": "nested", "values": values_to_json(value.values)}
    fields = {name: content for name, content in vars(value).items() if content is not None}
    if parts := fields.pop("parts", ()):
        fields["parts"] = [value_to_json(part) for part in parts]
    return {"kind": _KIND_NAMES[type(value)], **fields}


def value_from_json(record: Mapping[str, Any]) -> Value:
    """The value that ``value_to_json`` wrote; raises ValueFormatError on anything else."""
    try:
        fields = dict(record)
        kind = fields.pop("kind", None)
        if kind == "nested":
            return NestedValue(values_from_json(fields["values"]))
        if kind == "bbox":
            fields.update(lower=tuple(fields["lower"]), upper=tuple(fields["upper"]))
        if "parts" in fields:
            fields["parts"] = tuple(value_from_json(part) for part in fields["parts"])
        if all(_is_right(name, content) for name, content in fields.items()):
            return _LEAF_KINDS[kind](**fields)  # type: ignore[no-any-return]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueFormatError(f"not a value: {str(record)[:200]}") from error
    raise ValueFormatError(f"not a value: {str(record)[:200]}")


def _is_right(name: str, content: object) -> bool:
    if isinstance(content, tuple):
        parts = (FileValue,) if name == "parts" else (int, float)
        return _FIELD_TYPES[name] is tuple and all(type(part) in parts for part in content)
    return type(content) is _FIELD_TYPES[name]


def values_to_json(values: Values) -> dict[str, list[dict[str, Any]]]:
    """Identifier to list of values, as JSON."""
    return {name: [value_to_json(value) for value in occurrences] for name, occurrences in values.items()}


def values_from_json(record: Mapping[str, Any]) -> dict[str, tuple[Value, ...]]:
    """The reverse of ``values_to_json``."""
    if not isinstance(record, Mapping) or not all(isinstance(items, list) for items in record.values()):
        raise ValueFormatError("values must be an object of lists")
    return {name: tuple(value_from_json(item) for item in occurrences) for name, occurrences in record.items()}
