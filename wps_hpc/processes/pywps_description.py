"""How a ``pywps.Process`` describes itself, in the neutral terms that every protocol is written from.

Read from its attributes alone: no configuration, no database, no handler is touched.

Node half: Python 3.9, standard library and pywps 4.5 or newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Optional, Union
from urllib.parse import ParseResult, quote

from pywps.inout.basic import BasicComplex, BasicLiteral
from pywps.inout.literaltypes import AllowedValue
from pywps.validator.mode import MODE

from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    LITERAL_TYPES,
    SYNC_PLACES,
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Container,
    DescriptionError,
    Format,
    Input,
    LiteralData,
    Metadata,
    Output,
    ProcessDescription,
    Resources,
    Translation,
)
from wps_hpc.processes.literals import LiteralError

#: What is not escaped in a URI.
_OF_URIS = "%/:?#[]@!$&'()*+,;=~"

Data = Union[LiteralData, ComplexData, BoundingBoxData]


def describe(process: Any) -> ProcessDescription:
    """The description of a ``pywps.Process``; raises DescriptionError, naming input or output, for what it cannot say.

    Four attributes that PyWPS does not know are honoured where a process has them: ``resources`` (a Resources),
    ``sync`` (where a synchronous call runs), ``restartable`` and ``container`` (a Container).
    """
    resources, sync = getattr(process, "resources", None), getattr(process, "sync", None)
    container = getattr(process, "container", None)
    return ProcessDescription(
        **_words(process),
        version=str(process.version),
        inputs=tuple(_named_error("input", _input, item) for item in process.inputs),
        outputs=tuple(_named_error("output", _output, item) for item in process.outputs),
        profiles=tuple(str(profile) for profile in process.profile or ()),
        store_supported=process.store_supported == "true",
        status_supported=process.status_supported == "true",
        sync=sync if sync in SYNC_PLACES else "local",
        resources=resources if isinstance(resources, Resources) else Resources(),
        restartable=getattr(process, "restartable", None) is True,
        container=container if isinstance(container, Container) else Container(),
    )


def _named_error(what: str, step: Any, item: Any) -> Any:
    try:
        return step(item)
    except (AttributeError, TypeError, ValueError) as error:
        raise DescriptionError(f"{what} '{getattr(item, 'identifier', item)}': {error}") from error


def _words(described: Any) -> dict[str, Any]:
    """What process, inputs and outputs all have."""
    return {
        "identifier": str(described.identifier),
        "title": str(described.title or ""),
        "abstract": str(described.abstract or ""),
        "keywords": tuple(str(word) for word in described.keywords or ()),
        "metadata": tuple(_metadata(getattr(described, "metadata", None) or ())),
        "translations": tuple(_translations(described.translations or {})),
    }


def _metadata(links: Iterable[Any]) -> Iterator[Metadata]:
    for link in links:
        yield Metadata(str(link.title or ""), str(link.href or ""), str(link.role or ""))


def _translations(given: Any) -> Iterator[Translation]:
    for language, texts in given.items():
        yield Translation(str(language), str(texts.get("title") or ""), str(texts.get("abstract") or ""))


def _input(item: Any) -> Input:
    return Input(**_words(item), data=_data(item), min_occurs=item.min_occurs, max_occurs=item.max_occurs)


def _output(item: Any) -> Output:
    # A handler that leaves an output alone is right as far as PyWPS is concerned.
    return Output(**_words(item), data=_data(item), optional=True)


def _data(item: Any) -> Data:
    if isinstance(item, BasicLiteral):
        return _literal(item)
    if isinstance(item, BasicComplex):
        return ComplexData(tuple(_formats(item)))
    return BoundingBoxData(tuple(str(crs) for crs in item.crss))


# --- literals --------------------------------------------------------------------------------------------------------


def literal_type(item: Any) -> str:
    """The WPS type of a literal input or output; types that an application registered with PyWPS travel as text."""
    return item.data_type if item.data_type in LITERAL_TYPES else "string"


def _literal(item: Any) -> LiteralData:
    data_type = literal_type(item)
    allowed: tuple[Union[str, AllowedRange], ...] = ()
    reference = getattr(item, "values_reference", None)
    if not getattr(item, "any_value", False) and not reference:
        allowed = tuple(_allowed_values(data_type, getattr(item, "allowed_values", ())))
    default = item.data if getattr(item, "_default", None) is not None else None
    return LiteralData(
        data_type,
        allowed,
        str(reference.reference) if reference else None,
        None if default is None else literal_text(data_type, default),
        tuple(str(unit.uom) for unit in item.uoms),
        tuple((str(unit.uom), str(unit.reference)) for unit in item.uoms if unit.reference),
        advisory=bool(allowed) and item.valid_mode == MODE.NONE,
    )


def literal_text(data_type: str, value: Any) -> str:
    """A value that PyWPS holds as text of its type; raises LiteralError."""
    if isinstance(value, ParseResult):
        value = value.geturl()
    if data_type == "anyURI":
        # XML Schema part 2 §3.2.17: a blank and the like may stand in one, and are escaped where it is used as a URI.
        value = quote(str(value), _OF_URIS)
    if isinstance(value, str):
        return literals.canonical(data_type, value)
    if (type(value) is int and data_type != "boolean") or data_type == "string":
        # Not the canonical form, so that an author's 1 among numbers stays a 1.
        literals.parse(data_type, str(value))
        return str(value)
    return literals.format(data_type, value)


def _allowed_values(data_type: str, items: Sequence[Any]) -> Iterator[Union[str, AllowedRange]]:
    for item in items:
        if isinstance(item, AllowedValue):
            yield _allowed(data_type, item)


def _allowed(data_type: str, item: Any) -> Union[str, AllowedRange]:
    # Zeros as bounds make PyWPS take a range for a value.
    if item.value is not None:
        return literal_text(data_type, item.value)
    return AllowedRange(
        _bound(data_type, item.minval),
        _bound(data_type, item.maxval),
        item.range_closure,
        _spacing(data_type, item.spacing),
    )


def _bound(data_type: str, value: Any) -> Optional[str]:
    return None if value is None else literal_text(data_type, value)


def _spacing(data_type: str, value: Any) -> Optional[str]:
    if not value:
        return None
    if isinstance(value, timedelta) or data_type in literals.MOMENTS:
        return literals.format("duration", value)
    return literal_text(data_type, abs(value))


# --- complex data ----------------------------------------------------------------------------------------------------


def _formats(item: Any) -> Iterator[Format]:
    """The default format, then the others."""
    first = item.data_format
    if first is not None:
        yield neutral_format(first)
    for other in item.supported_formats:
        if first is None or not other.same_as(first):
            yield neutral_format(other)


def neutral_format(item: Any) -> Format:
    """A PyWPS format in the description's terms."""
    if not item.mime_type:
        raise LiteralError("a format has no MIME type")
    return Format(item.mime_type, item.encoding or None, item.schema or None, item.extension or "")
