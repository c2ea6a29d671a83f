"""How an author describes an input beyond its Python type: ``Annotated[Path, inputs.complex(formats.GEOJSON)]``.

All arguments are optional unless said otherwise. Common to all functions: ``identifier`` (the parameter's name),
``title``, ``abstract`` (the docstring's words), ``keywords``, ``metadata`` (links: Metadata or (title, address)),
``translations`` ({language: (title, abstract)}), ``min_occurs`` (1; 0 with a default or Optional) and ``max_occurs``
(1; unbounded for a List; a number or "unbounded").

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Union

from wps_hpc.processes.declarations import (
    BoxWish,
    ComplexWish,
    Declaration,
    Links,
    NestedWish,
    Range,
    Translations,
    literal_wish,
    words,
)
from wps_hpc.processes.description import Format

CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"


def between(minimum: Any = None, maximum: Any = None, closure: str = "closed", spacing: Any = None) -> Range:
    """A range for ``allowed``: bounds in the parameter's type (None: open-ended), ``closure`` one of RANGE_CLOSURES.

    ``spacing`` counts from the minimum; a timedelta or duration text for dates and times.
    """
    return Range(minimum, maximum, closure, spacing)


def literal(
    *,
    data_type: Optional[str] = None,
    allowed: Sequence[Any] = (),
    minimum: Any = None,
    maximum: Any = None,
    closure: str = "closed",
    spacing: Any = None,
    values_reference: Optional[str] = None,
    uom: Union[str, Sequence[str]] = (),
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
    min_occurs: Optional[int] = None,
    max_occurs: Union[int, str, None] = None,
) -> Declaration:
    """One value. ``data_type`` is one of LITERAL_TYPES where the parameter's type is not enough (``angle``, ``scale``,
    ``anyURI``, ``positiveInteger`` …); ``allowed`` lists values and ranges (``between(…)``, or a pair); ``minimum``,
    ``maximum``, ``closure`` and ``spacing`` make one range; ``uom`` lists units, the default one first.
    """
    said = words(identifier, title, abstract, keywords, metadata, translations)
    wish = literal_wish(data_type, allowed, Range(minimum, maximum, closure, spacing), values_reference, uom)
    return Declaration(said, wish, min_occurs, max_occurs)


def complex(
    *formats: Format,
    maximum_megabytes: Optional[float] = None,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
    min_occurs: Optional[int] = None,
    max_occurs: Union[int, str, None] = None,
) -> Declaration:
    """A document or file in one of ``formats`` (at least one, the default one first).

    It arrives as the parameter's type says: Path, bytes, str (decoded), dict or list (parsed JSON), or ComplexInput.
    """
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, ComplexWish(formats, maximum_megabytes), min_occurs, max_occurs)


def bounding_box(
    *crss: str,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
    min_occurs: Optional[int] = None,
    max_occurs: Union[int, str, None] = None,
) -> Declaration:
    """A BoundingBox in one of ``crss`` (URIs or EPSG codes, the default one first; CRS84 when none is given)."""
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, BoxWish(crss or (CRS84,)), min_occurs, max_occurs)


def nested(
    *,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
    min_occurs: Optional[int] = None,
    max_occurs: Union[int, str, None] = None,
) -> Declaration:
    """Inputs within an input (WPS 2.0): the fields of the parameter's dataclass, NamedTuple or TypedDict."""
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, NestedWish(), min_occurs, max_occurs)
