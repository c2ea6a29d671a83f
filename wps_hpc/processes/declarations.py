"""What ``inputs.…`` and ``outputs.…`` leave in an annotation: an author's wishes, before they meet the types.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from wps_hpc.processes.description import AllowedRange, Format, Metadata, Translation

#: Links may be given as Metadata or as (title, address); translations by language.
Links = Sequence[Union[Metadata, tuple[str, str]]]
Translations = Union[Sequence[Translation], Mapping[str, tuple[str, str]]]


@dataclass(frozen=True)
class Words:
    """Identifier and words for people; what is empty comes from the function's signature and docstring."""

    identifier: str = ""
    title: str = ""
    abstract: str = ""
    keywords: tuple[str, ...] = ()
    metadata: tuple[Metadata, ...] = ()
    translations: tuple[Translation, ...] = ()


@dataclass(frozen=True)
class Range:
    """A range of allowed values in Python's terms; AllowedRange once the literal type is known."""

    minimum: Any = None
    maximum: Any = None
    closure: str = "closed"
    spacing: Any = None


@dataclass(frozen=True)
class LiteralWish:
    """A literal: its type where the annotation's own will not do, allowed values, units."""

    data_type: Optional[str] = None
    allowed: tuple[Any, ...] = ()
    values_reference: Optional[str] = None
    uom: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComplexWish:
    """A document or file in one of some formats."""

    formats: tuple[Format, ...]
    maximum_megabytes: Optional[float] = None


@dataclass(frozen=True)
class BoxWish:
    """A bounding box in one of some coordinate systems."""

    crss: tuple[str, ...]


@dataclass(frozen=True)
class NestedWish:
    """A structure whose fields are the annotated class's."""


@dataclass(frozen=True)
class Declaration:
    """All that an author said of one input or output. ``max_occurs`` of None: unsaid; "unbounded": no limit."""

    words: Words
    data: Union[LiteralWish, ComplexWish, BoxWish, NestedWish]
    min_occurs: Optional[int] = None
    max_occurs: Union[int, str, None] = None


def words(
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
) -> Words:
    """Words as given by an author, in the shapes of a description."""
    links = tuple(item if isinstance(item, Metadata) else Metadata(*item) for item in metadata)
    return Words(identifier, title, abstract, tuple(keywords), links, _translations(translations))


def _translations(given: Translations) -> tuple[Translation, ...]:
    if isinstance(given, Mapping):
        return tuple(Translation(language, *texts) for language, texts in given.items())
    return tuple(given)


def literal_wish(
    data_type: Optional[str],
    allowed: Sequence[Any],
    bounds: Range,
    values_reference: Optional[str],
    uom: Union[str, Sequence[str]],
) -> LiteralWish:
    """A literal as given by an author; ``bounds`` counts only when it says something."""
    ranges = (bounds,) if bounds != Range(closure=bounds.closure) else ()
    units = (uom,) if isinstance(uom, str) else tuple(uom)
    return LiteralWish(data_type, (*map(_allowed, allowed), *ranges), values_reference, units)


def _allowed(item: Any) -> Any:
    # As in PyWPS: (least, greatest) or (least, step, greatest).
    if isinstance(item, tuple) and len(item) == 2:
        return Range(item[0], item[1])
    if isinstance(item, tuple) and len(item) == 3:
        return Range(item[0], item[2], spacing=item[1])
    if isinstance(item, AllowedRange):
        return Range(item.minimum, item.maximum, item.closure, item.spacing)
    return item
