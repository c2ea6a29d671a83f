"""Requests that both versions of WPS have, once they are read (OWS Common 06-121r3 and r9 §7.2; 05-007r7, 14-065r2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wps_hpc.errors import MissingParameterValue
from wps_hpc.jobs.request import Given
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.ows import Query, split_list
from wps_hpc.protocols.xml import OWS, OWS2, WPS, WPS2
from wps_hpc.protocols.xml_request import Node

#: Gives the description of an offered process; raises NoSuchProcess with locator Identifier for others.
Describe: TypeAlias = Callable[[str], ProcessDescription]


@dataclass(frozen=True)
class GetCapabilities:
    """05-007r7 table 6, with the optional parameters of OWS Common (06-121r3 table 3). ``sections`` empty means all."""

    versions: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    update_sequence: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True)
class DescribeProcess:
    """05-007r7 table 13; 14-065r2 table 33."""

    identifiers: tuple[str, ...]
    language: str | None = None


@dataclass(frozen=True)
class JobRequest:
    """An operation on one job: GetStatus, GetResult and Dismiss of WPS 2.0, and what vendors added to 1.0.0."""

    operation: str
    job_id: str


def capabilities_of_query(query: Query) -> GetCapabilities:
    """GetCapabilities by key-value pairs."""
    languages = (*query.list("language"), *query.list("AcceptLanguages"))
    return GetCapabilities(query.list("AcceptVersions"), query.list("Sections"), query.get("updateSequence"), languages)


def capabilities_of_node(root: Node) -> GetCapabilities:
    """GetCapabilities by XML, of either version."""
    return GetCapabilities(
        _texts(root, "AcceptVersions", "Version"),
        _texts(root, "Sections", "Section"),
        root.attributes.get("updateSequence"),
        (*split_list(root.attributes.get("language")), *_texts(root, "AcceptLanguages", "Language")),
    )


def _texts(root: Node, outer: str, inner: str) -> tuple[str, ...]:
    """The texts of ``<outer><inner>…</inner></outer>``. The schemas put the outer one now in wps, now in ows."""
    found = next((node for space in (WPS, OWS, WPS2, OWS2) for node in root.all(outer, space)), None)
    return tuple(node.text for node in found.children if node.name == inner and node.text) if found else ()


def identifiers_of_query(query: Query) -> tuple[str, ...]:
    """The processes that DescribeProcess names; raises MissingParameterValue."""
    return _named(query.list("Identifier"))


def identifiers_of_node(root: Node, ows: str) -> tuple[str, ...]:
    """The processes that DescribeProcess names; raises MissingParameterValue."""
    return _named(tuple(node.text for node in root.all("Identifier", ows) if node.text))


def _named(identifiers: tuple[str, ...]) -> tuple[str, ...]:
    if not identifiers:
        raise MissingParameterValue("The request has no Identifier; name a process, or all.", "Identifier")
    return identifiers


def gather(inputs: Sequence[tuple[str, Given]]) -> Mapping[str, tuple[Given, ...]]:
    """The occurrences of each input, in the order of the request."""
    gathered: dict[str, list[Given]] = {}
    for identifier, value in inputs:
        gathered.setdefault(identifier, []).append(value)
    return {identifier: tuple(values) for identifier, values in gathered.items()}
