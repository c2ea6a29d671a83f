"""Whether a record from a node has the shape that it claims, and its outputs those that the process describes.

``joblauncher.formats.records`` reads JSON into dataclasses without looking at every field's type, which is right for
what the server wrote itself. What a node wrote is looked at here before anything else uses it.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from joblauncher.formats.values import (
    BoundingBoxValue,
    FileValue,
    LinkValue,
    LiteralValue,
    NestedValue,
    Value,
    Values,
)
from wps_hpc.jobs.validate import crs_key
from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    BoundingBoxData,
    ComplexData,
    LiteralData,
    NestedOutputs,
    Output,
)
from wps_hpc.processes.formats import same_mime

#: Nested outputs deeper than this are not a process's but an attack.
DEEPEST = 20
#: Addresses of outputs that lie elsewhere; any other scheme may be something that a browser runs.
_ADDRESS = re.compile("(?:https?|ftp)://", re.IGNORECASE)
#: What XML 1.0 §2.2 does not allow, and lone surrogates, which no encoding has.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str, limit: int) -> str:
    """``text`` as any document can carry it, at most ``limit`` characters."""
    legal = _ILLEGAL.sub("\ufffd", text[: limit + 1])
    return legal if len(text) <= limit else legal[: limit - 1] + "…"


def conforms(value: object, hint: Any, depth: int = DEEPEST) -> bool:
    """Whether ``value`` is what a dataclass field's annotation says, all the way down; numbers must be finite."""
    if depth < 0:
        return False
    if hint in _PLAIN:
        return _PLAIN[hint](value)
    if is_dataclass(hint):
        return type(value) is hint and _fields_conform(value, depth - 1)
    return _GENERIC[get_origin(hint)](value, get_args(hint), depth)


def _fields_conform(value: Any, depth: int) -> bool:
    kind: Any = type(value)
    return all(conforms(getattr(value, name), hint, depth) for name, hint in _hints(kind).items())


@lru_cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


#: What the annotations of the records consist of.
_PLAIN: Mapping[Any, Callable[[object], bool]] = {
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    float: _is_number,
    type(None): lambda value: value is None,
}


def _is_union(value: object, options: Sequence[Any], depth: int) -> bool:
    return any(conforms(value, option, depth) for option in options)


def _is_tuple(value: object, items: Sequence[Any], depth: int) -> bool:
    return isinstance(value, tuple) and all(conforms(item, items[0], depth) for item in value)


def _is_mapping(value: object, items: Sequence[Any], depth: int) -> bool:
    return isinstance(value, Mapping) and all(
        conforms(name, items[0], depth) and conforms(item, items[1], depth) for name, item in value.items()
    )


_GENERIC: Mapping[Any, Callable[[object, Sequence[Any], int], bool]] = {
    Union: _is_union,
    types.UnionType: _is_union,
    tuple: _is_tuple,
    Mapping: _is_mapping,
}


class Misfit(Exception):
    """An output is not what it must be; the text says which and why, for the client."""


def files(outputs: Values) -> Iterator[tuple[str, FileValue]]:
    """Every file among the outputs, nested ones too, with its output's identifier."""
    for name, value in leaves(outputs):
        if isinstance(value, FileValue):
            yield name, value
            yield from ((name, part) for part in value.parts)


def leaves(outputs: Values) -> Iterator[tuple[str, Value]]:
    """Every value that is not nested, with the identifiers that lead to it, joined by dots."""
    for name, occurrences in outputs.items():
        for value in occurrences:
            if isinstance(value, NestedValue):
                yield from ((f"{name}.{inner}", leaf) for inner, leaf in leaves(value.values))
            else:
                yield name, value


def check_texts(outputs: Values) -> None:
    """Raise Misfit for text that no document can carry."""
    for name, value in leaves(outputs):
        texts = (name, *(part for part in vars(value).values() if isinstance(part, str)))
        if any(_ILLEGAL.search(text) for text in texts):
            raise Misfit(f"The output {clean(name, 100)} has characters that XML does not allow.")


def check_outputs(outputs: Values, described: Sequence[Output], wanted: Collection[str]) -> None:
    """Raise Misfit unless ``outputs`` are what is described; ``wanted`` identifiers (empty: all) must be there."""
    known = {output.identifier: output for output in described}
    for name in outputs:
        if name not in known:
            raise Misfit(f"The output {clean(name, 100)} is not one of the process.")
    for output in described:
        occurrences = outputs.get(output.identifier, ())
        if not occurrences and not output.optional and (not wanted or output.identifier in wanted):
            raise Misfit(f"The output {output.identifier} is missing.")
        for value in occurrences:
            _check_value(output, value)


def _check_value(output: Output, value: Value) -> None:
    kind, check = _CHECKS[type(output.data)]
    if not isinstance(value, kind):
        raise Misfit(f"The output {output.identifier} is of another kind than described.")
    check(output.identifier, output.data, value)


def _check_literal(name: str, data: LiteralData, value: LiteralValue) -> None:
    if value.data_type != data.data_type:
        raise Misfit(f"The output {name} is not of type {data.data_type}.")
    try:
        literals.parse(data.data_type, value.text)
    except literals.LiteralError as error:
        raise Misfit(f"The output {name} is not a literal of its type: {clean(str(error), 300)}") from error
    if value.uom is not None and value.uom not in data.uoms:
        raise Misfit(f"The output {name} has the unit {clean(value.uom, 100)}, which is not described.")


def _check_complex(name: str, data: ComplexData, value: FileValue | LinkValue) -> None:
    if isinstance(value, LinkValue) and not _is_address(value.href):
        raise Misfit(f"The output {name} is a link that does not lead to http, https or ftp.")
    if not any(same_mime(value.mime_type, item.mime_type) for item in data.formats):
        raise Misfit(f"The output {name} has the format {clean(value.mime_type, 100)}, which is not described.")


def _is_address(href: str) -> bool:
    """Whether clients can be sent there: no redirection can name a host or port that cannot be."""
    try:
        parts = urlsplit(href)
        return _ADDRESS.match(href) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _check_box(name: str, data: BoundingBoxData, value: BoundingBoxValue) -> None:
    if not value.lower or len(value.lower) != len(value.upper):
        raise Misfit(f"The output {name} is not a bounding box: its corners differ in dimensions.")
    # A client may have named it in another spelling, and a process that gives its box back keeps that.
    if value.crs is not None and crs_key(value.crs) not in map(crs_key, data.crss):
        raise Misfit(f"The output {name} has the reference system {clean(value.crs, 100)}, which is not described.")


def _check_nested(_name: str, data: NestedOutputs, value: NestedValue) -> None:
    check_outputs(value.values, data.outputs, ())


_CHECKS: Mapping[type, tuple[Any, Callable[[str, Any, Any], None]]] = {
    LiteralData: (LiteralValue, _check_literal),
    ComplexData: ((FileValue, LinkValue), _check_complex),
    BoundingBoxData: (BoundingBoxValue, _check_box),
    NestedOutputs: (NestedValue, _check_nested),
}
