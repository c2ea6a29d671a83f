"""What capabilities documents say of the service itself, in OWS Common 1.1 (06-121r3 §7.4) and 2.0 (06-121r9 §7.4).

The two differ in their namespace alone, which every writer here is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from wps_hpc.config import ServiceMetadata
from wps_hpc.errors import InvalidParameterValue, InvalidUpdateSequence
from wps_hpc.protocols.ows import VERSIONS
from wps_hpc.protocols.xml import XLINK, add

#: What each version calls the list of processes; clients that speak both ask for either.
_CONTENTS = frozenset({"Contents", "ProcessOfferings"})


@dataclass(frozen=True)
class Site:
    """What the documents say of the service beside its processes. ``url`` is the address of the WPS endpoint."""

    url: str
    metadata: ServiceMetadata
    languages: Sequence[str]

    @property
    def service_instance(self) -> str:
        """The GetCapabilities URL of WPS 1.0.0 (05-007r7 table 54 ``serviceInstance``)."""
        return f"{self.url}?service=WPS&request=GetCapabilities&AcceptVersions=1.0.0"


def wanted_sections(names: Iterable[str], known: Sequence[str], always: frozenset[str]) -> frozenset[str]:
    """The sections to write, of those ``known``; those that stand in every document are among them.

    Raises InvalidParameterValue for a name that OWS Common and WPS do not have.
    """
    named = frozenset(names)
    unknown = named - {*known, *_CONTENTS, "All"}
    if unknown:
        raise InvalidParameterValue(
            f"The section {min(unknown)[:80]!r} is unknown; choose from {', '.join(known)} or All.", "Sections"
        )
    return frozenset(known) if not named or "All" in named else (named & frozenset(known)) | always


def is_current(theirs: str | None, ours: int) -> bool:
    """Whether the client's updateSequence is the service's (06-121r3 §7.3.4).

    Raises InvalidUpdateSequence for one beyond the service's (06-121r3 table 25), or not of this service.
    """
    if theirs is None or theirs == str(ours):
        return theirs is not None
    counts = theirs.isascii() and theirs.isdigit() and len(theirs) < 100
    if not counts or int(theirs) > ours:
        raise InvalidUpdateSequence(
            f"The updateSequence {theirs[:80]!r} is newer than the service's, {ours}, or not of this service."
        )
    return False


def add_identification(document: etree._Element, site: Site, ows: str) -> None:
    """Append ServiceIdentification."""
    metadata = site.metadata
    section = add(document, f"{{{ows}}}ServiceIdentification")
    add(section, f"{{{ows}}}Title", metadata.title)
    add(section, f"{{{ows}}}Abstract", metadata.abstract)
    add_keywords(section, metadata.keywords, ows)
    add(section, f"{{{ows}}}ServiceType", "WPS")
    for version in VERSIONS:
        add(section, f"{{{ows}}}ServiceTypeVersion", version)
    add(section, f"{{{ows}}}Fees", metadata.fees)
    add(section, f"{{{ows}}}AccessConstraints", metadata.access_constraints)


def add_keywords(parent: etree._Element, keywords: Iterable[str], ows: str) -> None:
    """Append Keywords, if there are any."""
    words = list(keywords)
    if words:
        section = add(parent, f"{{{ows}}}Keywords")
        for keyword in words:
            add(section, f"{{{ows}}}Keyword", keyword)


#: Where each contact option of the configuration stands below ows:ServiceContact, in the order of the schema.
_CONTACT: Sequence[tuple[str, tuple[str, ...]]] = (
    ("contact_name", ("IndividualName",)),
    ("contact_position", ("PositionName",)),
    ("contact_phone", ("ContactInfo", "Phone", "Voice")),
    ("address", ("ContactInfo", "Address", "DeliveryPoint")),
    ("city", ("ContactInfo", "Address", "City")),
    ("region", ("ContactInfo", "Address", "AdministrativeArea")),
    ("postal_code", ("ContactInfo", "Address", "PostalCode")),
    ("country", ("ContactInfo", "Address", "Country")),
    ("contact_email", ("ContactInfo", "Address", "ElectronicMailAddress")),
)


def add_provider(document: etree._Element, site: Site, ows: str) -> None:
    """Append ServiceProvider."""
    section = add(document, f"{{{ows}}}ServiceProvider")
    add(section, f"{{{ows}}}ProviderName", site.metadata.provider_name)
    if site.metadata.provider_url:
        add(section, f"{{{ows}}}ProviderSite", None, **{f"{{{XLINK}}}href": site.metadata.provider_url})
    contact = add(section, f"{{{ows}}}ServiceContact")
    for option, path in _CONTACT:
        value = getattr(site.metadata, option)
        if value:
            add(_descend(contact, path[:-1], ows), f"{{{ows}}}{path[-1]}", value)


def _descend(element: etree._Element, path: Sequence[str], ows: str) -> etree._Element:
    for name in path:
        found = element.find(f"{{{ows}}}{name}")
        element = add(element, f"{{{ows}}}{name}") if found is None else found
    return element


#: The ways to send a request, and what is appended to the address: a GET address ends where key-value pairs can be
#: appended (06-121r3 §11.5.1).
BINDINGS: Mapping[str, str] = {"Get": "?", "Post": ""}


def add_operations(document: etree._Element, site: Site, ows: str, operations: Mapping[str, Collection[str]]) -> None:
    """Append OperationsMetadata: each operation with the bindings that it has."""
    section = add(document, f"{{{ows}}}OperationsMetadata")
    for name, bindings in operations.items():
        operation = add(section, f"{{{ows}}}Operation", None, name=name)
        http = add(add(operation, f"{{{ows}}}DCP"), f"{{{ows}}}HTTP")
        for binding in bindings:
            add(http, f"{{{ows}}}{binding}", None, **{f"{{{XLINK}}}href": site.url + BINDINGS[binding]})
