"""How an author describes an output beyond its Python type: ``-> Annotated[Path, outputs.complex(formats.GEOTIFF)]``.

Common arguments are those of ``inputs``; an output that may be missing is annotated Optional.

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
from wps_hpc.processes.inputs import CRS84


def literal(
    *,
    data_type: Optional[str] = None,
    allowed: Sequence[Any] = (),
    uom: Union[str, Sequence[str]] = (),
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
) -> Declaration:
    """One value of ``data_type`` (default: by the annotated type), in the first unit of ``uom`` unless a Quantity."""
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, literal_wish(data_type, allowed, Range(), None, uom))


def complex(
    *formats: Format,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
) -> Declaration:
    """A document or file in one of ``formats`` (at least one, the default one first).

    The function returns a Path, bytes, str, dict or list (written as JSON), or a ComplexOutput that names its format.
    With several formats, ``job.wanted[identifier].mime_type`` is the one that the client asked for.
    """
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, ComplexWish(formats))


def bounding_box(
    *crss: str,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
) -> Declaration:
    """A BoundingBox in one of ``crss`` (the default one first; CRS84 when none is given)."""
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, BoxWish(crss or (CRS84,)))


def nested(
    *,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
) -> Declaration:
    """Outputs within an output (WPS 2.0): the fields of the annotated dataclass, NamedTuple or TypedDict."""
    said = words(identifier, title, abstract, keywords, metadata, translations)
    return Declaration(said, NestedWish())
