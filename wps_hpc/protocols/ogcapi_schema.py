"""Inputs and outputs as the schema objects of a process description (18-062r2 §7.11.2, schema.yaml: OpenAPI 3.0).

A schema says what a value looks like in JSON. What JSON Schema has no word for (ranges of dates, units) stands in its
description, and is checked all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wps_hpc.jobs.validate import crs_key, range_words
from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Format,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
)
from wps_hpc.processes.formats import is_text, split_mime

Schema = dict[str, Any]
Data = LiteralData | ComplexData | BoundingBoxData | NestedInputs | NestedOutputs

#: The reference system of a bounding box that names none (bbox.yaml).
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
#: What bounding boxes may say of their reference system within the standard's own schema of them.
PLAIN_CRS = frozenset({CRS84, "http://www.opengis.net/def/crs/OGC/0/CRS84h"})

_TYPES: Mapping[str, Schema] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "nonNegativeInteger": {"type": "integer", "minimum": 0},
    "positiveInteger": {"type": "integer", "minimum": 1},
    "float": {"type": "number", "format": "float"},
    "double": {"type": "number", "format": "double"},
    "scale": {"type": "number"},
    "angle": {"type": "number"},
    "string": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "dateTime": {"type": "string", "format": "date-time"},
    "duration": {"type": "string", "format": "duration"},
    "anyURI": {"type": "string", "format": "uri"},
}
#: Literal types whose values are numbers in JSON, and those of them that may be no finite number.
NUMERIC = frozenset(name for name, schema in _TYPES.items() if schema["type"] in ("integer", "number"))
FLOATING = frozenset(name for name, schema in _TYPES.items() if schema["type"] == "number")

#: Python refuses to read more digits than this, less than 4,300, at once.
_MOST_DIGITS = 4000


def literal_json(text: str, data_type: str) -> Any:
    """A canonical literal as JSON has it; what JSON, or whoever reads it, has no number for (NaN, INF, an integer of
    thousands of digits) stays text."""
    if data_type == "boolean":
        return text == "true"
    if data_type in FLOATING:
        number = float(text)
        return number if math.isfinite(number) else text
    return int(text) if data_type in NUMERIC and len(text) <= _MOST_DIGITS else text


def schema(data: Data) -> Schema:
    """The schema of one value."""
    return _SCHEMAS[type(data)](data)


def input_schema(described: Input) -> Schema:
    """The schema of an input (18-062r2 §7.11.2): of one value, however often it may be given (``maxOccurs``)."""
    return schema(described.data)


# ------------------------------------------------------------------------------------------------------------- literals


def _literal(data: LiteralData) -> Schema:
    # What is advice, no schema may refuse; words tell it.
    made: Schema = {**_TYPES[data.data_type], **({} if data.advisory else _allowed(data))}
    words = list(_words(data))
    if words:
        made["description"] = "; ".join(words)
    if data.default is not None:
        made["default"] = literal_json(literals.canonical(data.data_type, data.default), data.data_type)
    return made


def _allowed(data: LiteralData) -> Schema:
    listed = [item for item in data.allowed if isinstance(item, str)]
    ranges = [item for item in data.allowed if isinstance(item, AllowedRange)]
    choices: list[Schema] = [_bounds(data.data_type, item) for item in ranges]
    if not all(choices):
        return {}  # a range that only words can tell: no schema may refuse what lies in it
    if listed:
        choices.append({"enum": [literal_json(literals.canonical(data.data_type, t), data.data_type) for t in listed]})
    if len(choices) > 1:
        return {"anyOf": choices}
    return choices[0] if choices else {}


def _bounds(data_type: str, allowed: AllowedRange) -> Schema:
    """A numeric range; empty for any other."""
    if data_type not in NUMERIC:
        return {}
    made: Schema = {}
    ends = (
        ("minimum", "exclusiveMinimum", allowed.minimum, ("open", "open-closed")),
        ("maximum", "exclusiveMaximum", allowed.maximum, ("open", "closed-open")),
    )
    for name, exclusive, bound, closures in ends:
        value = None if bound is None else literal_json(literals.canonical(data_type, bound), data_type)
        if isinstance(value, int | float):
            made[name] = value
            if allowed.closure in closures:
                made[exclusive] = True
    return made


def _words(data: LiteralData) -> Iterator[str]:
    """What the schema cannot say otherwise."""
    told = [item for item in data.allowed if isinstance(item, AllowedRange) and _needs_words(data.data_type, item)]
    if told or (data.allowed and data.advisory):
        listed = ", ".join(item if isinstance(item, str) else range_words(item) for item in data.allowed)
        yield f"{'suggested' if data.advisory else 'allowed'}: {listed}"
    if data.values_reference:
        yield f"values: {data.values_reference}"
    if data.uoms:
        first, *others = (_unit_words(data, uom) for uom in data.uoms)
        yield f"in {first}" + (f", or as told by uom in {', '.join(others)}" if others else "")
    if data.data_type in FLOATING:
        yield 'the strings "NaN", "INF" and "-INF" stand for what is no number in JSON'


def _unit_words(data: LiteralData, uom: str) -> str:
    reference = dict(data.uom_references).get(uom)
    return uom if reference is None else f"{uom} ({reference})"


def _needs_words(data_type: str, allowed: AllowedRange) -> bool:
    return data_type not in NUMERIC or allowed.spacing is not None


# -------------------------------------------------------------------------------------------- documents, boxes, nests


def is_json(mime_type: str) -> bool:
    """Whether documents of that type stand in a JSON document as what they are."""
    essence = split_mime(mime_type)[0]
    return essence == "application/json" or essence.endswith("+json")


def is_binary(form: Format) -> bool:
    """Whether values of that format travel as Base64."""
    return (form.encoding or "").lower() == "base64" or not is_text(form.mime_type)


def _complex(data: ComplexData) -> Schema:
    choices = [_format(form) for form in data.formats]
    return choices[0] if len(choices) == 1 else {"oneOf": choices}


def _format(form: Format) -> Schema:
    made: Schema = {"contentMediaType": form.mime_type}
    if is_json(form.mime_type):
        if split_mime(form.mime_type)[0] != "application/json":  # which may be anything, not only an object
            made["type"] = "object"
    elif is_binary(form):
        made.update(type="string", format="byte", contentEncoding="base64")
    else:
        made["type"] = "string"
    if form.schema:
        made["contentSchema"] = form.schema
    return made


def default_crs(data: BoundingBoxData) -> str:
    """The reference system of a box that names none: the standard's own where the process has it, else its first."""
    has_crs84 = crs_key(CRS84) in {crs_key(known) for known in data.crss}
    return CRS84 if has_crs84 else data.crss[0]


def _box(data: BoundingBoxData) -> Schema:
    default = default_crs(data)
    numbers = {"type": "array", "items": {"type": "number"}, "oneOf": _sizes(4, 6)}
    known = [default, *(crs for crs in data.crss if crs != default)]
    return {
        "type": "object",
        "format": "ogc-bbox",
        "required": ["bbox"],
        "properties": {"bbox": numbers, "crs": {"type": "string", "format": "uri", "enum": known, "default": default}},
    }


def _sizes(*counts: int) -> list[Schema]:
    return [{"minItems": count, "maxItems": count} for count in counts]


def _nested_inputs(data: NestedInputs) -> Schema:
    required = [entry.identifier for entry in data.inputs if entry.min_occurs > 0]
    made = _nest({entry.identifier: _occurring(entry) for entry in data.inputs})
    return {**made, "required": required} if required else made


def _occurring(described: Input) -> Schema:
    """Within an input there is no maxOccurs: what may be given several times is one value or an array of them."""
    one = schema(described.data)
    if described.max_occurs == 1:
        return one
    several: Schema = {"type": "array", "items": one, "minItems": described.min_occurs}
    if described.max_occurs is not None:
        several["maxItems"] = described.max_occurs
    return {"anyOf": [one, several]}


def _nested_outputs(data: NestedOutputs) -> Schema:
    return _nest({entry.identifier: schema(entry.data) for entry in data.outputs})


def _nest(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties)}


_SCHEMAS: Mapping[type, Callable[[Any], Schema]] = {
    LiteralData: _literal,
    ComplexData: _complex,
    BoundingBoxData: _box,
    NestedInputs: _nested_inputs,
    NestedOutputs: _nested_outputs,
}


def formats_of(described: Input | Output) -> Sequence[Format]:
    """The formats of a complex input or output; none for other kinds."""
    return described.data.formats if isinstance(described.data, ComplexData) else ()
