"""From a function's signature, annotations and docstring to a neutral description, and to slots that bind the two.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Callable, Literal, Optional, Union

from wps_hpc.processes import docstrings, literals
from wps_hpc.processes.declarations import (
    BoxWish,
    ComplexWish,
    Declaration,
    LiteralWish,
    NestedWish,
    Range,
    Words,
)
from wps_hpc.processes.description import (
    LITERAL_TYPES,
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    DescriptionError,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
)
from wps_hpc.processes.inputs import CRS84
from wps_hpc.processes.literals import Duration, LiteralError
from wps_hpc.processes.run import Job
from wps_hpc.processes.values import BoundingBox, ComplexInput, ComplexOutput, Quantity

_NUMBERS_OF_INT = ("integer", "nonNegativeInteger", "positiveInteger")
_NUMBERS_OF_FLOAT = ("double", "float", "scale", "angle")

#: Python type -> literal types that it can hold, its own one first.
TYPES_OF: Mapping[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: _NUMBERS_OF_INT,
    float: _NUMBERS_OF_FLOAT,
    str: ("string", *(name for name in LITERAL_TYPES if name != "string")),
    datetime: ("dateTime",),
    date: ("date",),
    time: ("time",),
    timedelta: ("duration",),
    Duration: ("duration",),
    Quantity: (*_NUMBERS_OF_FLOAT, *_NUMBERS_OF_INT),
}
#: Python types in which a complex input may arrive; ``object`` is whatever JSON holds.
COMPLEX_KINDS = (Path, bytes, str, dict, list, object, ComplexInput)
_OWN_VALUES = (BoundingBox, Quantity, ComplexInput, ComplexOutput, Duration)
_MISSING = inspect.Parameter.empty

Item = Union[Input, Output]


@dataclass(frozen=True)
class Slot:
    """Where one described item meets Python: a parameter of the function, or a field of what it takes or returns.

    ``kind`` is the Python type of one occurrence, ``repeated`` says that a list of them arrives, ``has_default`` that
    Python itself knows what to do without; ``fields`` are the slots within a nested item.
    """

    name: str
    item: Item
    kind: Any
    repeated: bool = False
    has_default: bool = False
    fields: tuple[Slot, ...] = ()


@dataclass(frozen=True)
class Signature:
    """A function's parameters and results. ``result_type`` is None when its result is the one output itself."""

    parameters: tuple[Slot, ...]
    job_parameter: Optional[str]
    results: tuple[Slot, ...]
    result_type: Optional[type]


@dataclass(frozen=True)
class _Annotation:
    """An annotation taken apart."""

    kind: Any
    declaration: Optional[Declaration] = None
    optional: bool = False
    repeated: bool = False


@dataclass(frozen=True)
class _Member:
    """A parameter, or a field of a class: name, annotation, default, words from a docstring."""

    name: str
    hint: Any
    default: Any = _MISSING
    text: str = ""


def read(function: Callable[..., Any], doc: docstrings.Docstring) -> Signature:
    """Take a function apart; raises DescriptionError naming the function and the parameter at fault."""
    hints = _hints(function)
    job, members = None, []
    for name, parameter in inspect.signature(function).parameters.items():
        if _is_job(name, hints.get(name, _MISSING)):
            job = name
        else:
            members.append(_parameter(function, parameter, hints, doc))
    slots = tuple(_named_error(function, f"parameter '{m.name}'", _input_slot, m) for m in members)
    results, result_type = _named_error(function, "return annotation", _results, hints, doc)
    return Signature(slots, job, results, result_type)


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        # On Python 3.9, `int | None` is such a TypeError even when annotations are postponed.
        raise DescriptionError(f"{function.__qualname__}: an annotation cannot be evaluated: {error}") from error


def _named_error(function: Any, where: str, step: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return step(*arguments)
    except (DescriptionError, LiteralError) as error:
        name = getattr(function, "__qualname__", str(function))
        raise DescriptionError(f"{name}: {where}: {error}") from error


def _is_job(name: str, hint: Any) -> bool:
    return name == "job" if hint is _MISSING else _peel(hint).kind is Job


def _parameter(
    function: Any, parameter: inspect.Parameter, hints: Mapping[str, Any], doc: docstrings.Docstring
) -> _Member:
    where = f"{function.__qualname__}: parameter '{parameter.name}'"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise DescriptionError(f"{where}: inputs are passed by name, one by one")
    if parameter.name not in hints:
        raise DescriptionError(f"{where}: has no annotation")
    text = doc.parameters.get(parameter.name, "")
    return _Member(parameter.name, hints[parameter.name], parameter.default, text)


# --- annotations -----------------------------------------------------------------------------------------------------

_LISTS = (list, collections.abc.Sequence, collections.abc.Iterable)
_UNIONS = (Union, getattr(types, "UnionType", Union))
_NOT_REQUIRED = getattr(typing, "NotRequired", None)


def _peel(hint: Any, lists: bool = True) -> _Annotation:
    """Take Annotated, Optional and (where ``lists``) List off an annotation, in whatever order they were put on."""
    declaration, optional, repeated = None, False, False
    while True:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            declaration = next((item for item in hint.__metadata__ if isinstance(item, Declaration)), declaration)
            hint = hint.__origin__
        elif origin in _UNIONS and type(None) in arguments:
            optional = True
            hint = Union[tuple(item for item in arguments if item is not type(None))]
        elif _NOT_REQUIRED is not None and origin is _NOT_REQUIRED:
            optional, hint = True, arguments[0]
        elif lists and not repeated and _is_list(origin, arguments):
            repeated, hint = True, arguments[0]
        else:
            return _Annotation(_plain(hint), declaration, optional, repeated)


def _is_list(origin: Any, arguments: tuple[Any, ...]) -> bool:
    return origin in _LISTS or (origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis)


def _plain(hint: Any) -> Any:
    """``Dict[str, int]`` is a dict here, ``Any`` an object; Literal and Union stay as they are."""
    if hint is Any:
        return object
    origin = typing.get_origin(hint)
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return dict
    return list if origin is list else hint


def structured(kind: Any) -> bool:
    """Whether a type is a dataclass, NamedTuple or TypedDict of an author's, which has fields of its own."""
    if not isinstance(kind, type) or kind in _OWN_VALUES:
        return False
    return dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or hasattr(kind, "__total__")


def _members(kind: Any, texts: Mapping[str, str]) -> tuple[_Member, ...]:
    hints = _hints(kind)
    words = {**docstrings.parse(kind.__doc__).parameters, **texts}
    defaults = _defaults(kind)
    return tuple(_Member(name, hint, defaults.get(name, _MISSING), words.get(name, "")) for name, hint in hints.items())


def _defaults(kind: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(kind):
        return {
            item.name: None if item.default is dataclasses.MISSING else item.default
            for item in dataclasses.fields(kind)
            if item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        }
    if hasattr(kind, "_field_defaults"):
        return dict(kind._field_defaults)
    return dict.fromkeys(getattr(kind, "__optional_keys__", ()))


# --- what is described -----------------------------------------------------------------------------------------------


def _input_slot(member: _Member) -> Slot:
    said = _peel(member.hint)
    wish = said.declaration.data if said.declaration else _guess(said.kind)
    has_default = member.default is not _MISSING
    fields = _fields(said.kind, _input_slot) if isinstance(wish, NestedWish) else ()
    data = _data(wish, said.kind, NestedInputs(tuple(f.item for f in fields)))  # type: ignore[misc]
    if isinstance(data, ComplexData) and said.kind not in COMPLEX_KINDS:
        raise DescriptionError(f"a complex input cannot arrive as {_type_name(said.kind)}")
    if isinstance(data, LiteralData):
        _one_unit_only(data, said.kind)
        data = dataclasses.replace(data, default=_default_text(data, member.default, said.repeated))
    minimum, maximum = _occurs(said, has_default)
    item = Input(**vars(_words(said, member)), data=data, min_occurs=minimum, max_occurs=maximum)
    return Slot(member.name, item, said.kind, said.repeated, has_default, fields)


def _output_slot(member: _Member) -> Slot:
    said = _peel(member.hint, lists=False)
    wish = said.declaration.data if said.declaration else _guess(said.kind)
    fields = _fields(said.kind, _output_slot) if isinstance(wish, NestedWish) else ()
    data = _data(wish, said.kind, NestedOutputs(tuple(f.item for f in fields)))  # type: ignore[misc]
    item = Output(**vars(_words(said, member)), data=data, optional=said.optional)
    return Slot(member.name, item, said.kind, fields=fields)


def _fields(kind: Any, slot: Callable[[_Member], Slot]) -> tuple[Slot, ...]:
    if not structured(kind):
        raise DescriptionError(f"{_type_name(kind)} has no fields: nest a dataclass, NamedTuple or TypedDict")
    return tuple(_named_error(kind, f"field '{member.name}'", slot, member) for member in _members(kind, {}))


def _results(hints: Mapping[str, Any], doc: docstrings.Docstring) -> tuple[tuple[Slot, ...], Optional[type]]:
    hint = hints.get("return", _MISSING)
    if hint is _MISSING or hint is type(None):
        raise DescriptionError("missing; a process has at least one output")
    said = _peel(hint, lists=False)
    if said.declaration is None and structured(said.kind):
        members = _members(said.kind, doc.parts)
        return tuple(_named_error(said.kind, f"field '{m.name}'", _output_slot, m) for m in members), said.kind
    return (_output_slot(_Member("result", hint, text=doc.returns)),), None


def _words(said: _Annotation, member: _Member) -> Words:
    given = said.declaration.words if said.declaration else Words()
    identifier = given.identifier or member.name
    return dataclasses.replace(
        given, identifier=identifier, title=given.title or identifier, abstract=given.abstract or member.text
    )


def _occurs(said: _Annotation, has_default: bool) -> tuple[int, Optional[int]]:
    declared = said.declaration
    maximum = declared.max_occurs if declared else None
    if isinstance(maximum, str) and maximum != "unbounded":
        raise DescriptionError(f"max_occurs is a number or 'unbounded', not '{maximum}'")
    minimum = (
        declared.min_occurs if declared and declared.min_occurs is not None else int(not _omissible(said, has_default))
    )
    if maximum is None:
        return minimum, None if said.repeated else 1
    if maximum != 1 and not said.repeated:
        raise DescriptionError("may occur several times, so its annotation must be a List")
    return minimum, maximum if isinstance(maximum, int) else None


def _omissible(said: _Annotation, has_default: bool) -> bool:
    return said.optional or has_default


def _guess(kind: Any) -> Union[LiteralWish, BoxWish, NestedWish]:
    """What an annotation means that carries no declaration."""
    if kind is BoundingBox:
        return BoxWish((CRS84,))
    if kind in TYPES_OF or _is_choice(kind):
        return LiteralWish()
    if structured(kind):
        return NestedWish()
    if kind in (*COMPLEX_KINDS, ComplexOutput):
        name = _type_name(kind)
        raise DescriptionError(f"say which formats: Annotated[{name}, inputs.complex(formats.GEOJSON)], or outputs.…")
    raise DescriptionError(f"{_type_name(kind)} is not a type that WPS can express")


def _type_name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))


def _data(wish: Any, kind: Any, nested: Any) -> Any:
    if isinstance(wish, NestedWish):
        return nested
    if isinstance(wish, BoxWish):
        return _box(wish, kind)
    if isinstance(wish, ComplexWish):
        if not wish.formats:
            raise DescriptionError("a complex value has at least one format")
        return ComplexData(wish.formats, wish.maximum_megabytes)
    return _literal(wish, kind)


def _box(wish: BoxWish, kind: Any) -> BoundingBoxData:
    if kind is not BoundingBox:
        raise DescriptionError(f"a bounding box is a BoundingBox, not {_type_name(kind)}")
    return BoundingBoxData(wish.crss)


# --- literals --------------------------------------------------------------------------------------------------------


def _is_choice(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum))


def choices(kind: Any) -> Optional[tuple[Any, ...]]:
    """The values of a Literal or Enum annotation; None for any other."""
    if not _is_choice(kind):
        return None
    return typing.get_args(kind) or tuple(member.value for member in kind)


def _literal(wish: LiteralWish, kind: Any) -> LiteralData:
    values = choices(kind)
    types_found = {type(value) for value in values} if values is not None else {kind}
    if len(types_found) != 1:
        raise DescriptionError("the values of a Literal or Enum must be of one type")
    data_type = _data_type(wish, types_found.pop())
    allowed = tuple(_allowed(data_type, item) for item in (wish.allowed or values or ()))
    return LiteralData(data_type, allowed, wish.values_reference, None, wish.uom)


def _data_type(wish: LiteralWish, kind: Any) -> str:
    possible = TYPES_OF.get(kind)
    if possible is None:
        raise DescriptionError(f"{_type_name(kind)} is not a literal type")
    data_type = wish.data_type or possible[0]
    if data_type not in LITERAL_TYPES:
        raise DescriptionError(f"'{data_type}' is not a WPS literal type: {', '.join(LITERAL_TYPES)}")
    if data_type not in possible:
        raise DescriptionError(f"a {_type_name(kind)} cannot hold a literal of type {data_type}")
    return data_type


def _text(data_type: str, value: Any) -> str:
    value = value.value if isinstance(value, (enum.Enum, Quantity)) else value
    # Text is taken as the client would write it.
    return literals.canonical(data_type, value) if isinstance(value, str) else literals.format(data_type, value)


def _allowed(data_type: str, item: Any) -> Union[str, AllowedRange]:
    if not isinstance(item, Range):
        return _text(data_type, item)
    step_type = "duration" if data_type in ("date", "time", "dateTime") else data_type
    return AllowedRange(
        None if item.minimum is None else _text(data_type, item.minimum),
        None if item.maximum is None else _text(data_type, item.maximum),
        item.closure,
        None if item.spacing is None else _text(step_type, item.spacing),
    )


def _default_text(data: LiteralData, default: Any, repeated: bool) -> Optional[str]:
    if default is _MISSING or default is None or repeated:
        return None
    return _text(data.data_type, default)


def _one_unit_only(data: LiteralData, kind: Any) -> None:
    if len(data.uoms) > 1 and kind is not Quantity:
        raise DescriptionError("offers several units, so its annotation must be a Quantity, which says which one came")
