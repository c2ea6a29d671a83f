"""The Capabilities document of WPS 1.0.0 (OGC 05-007r7 §8.3; OWS Common 1.1, 06-121r3 §7.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from wps_hpc.config import ServiceMetadata
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.wps1_describe import add_brief
from wps_hpc.protocols.wps1_request import SERVED, VERSION
from wps_hpc.protocols.xml import LANG, OWS, WPS, XLINK, add, root, to_bytes

#: The sections that a client may ask for (06-121r3 table 6 and 05-007r7 table 7).
SECTIONS = (
    "ServiceIdentification",
    "ServiceProvider",
    "OperationsMetadata",
    "ProcessOfferings",
    "Languages",
)
#: The schema of WPS 1.0.0 demands these in every Capabilities document, so they stand in every one.
_ALWAYS = frozenset({"ProcessOfferings", "Languages"})

_OPERATIONS = ("GetCapabilities", "DescribeProcess", "Execute")


@dataclass(frozen=True)
class Site:
    """What the documents say of the service beside its processes. ``url`` is the address of the WPS endpoint."""

    url: str
    metadata: ServiceMetadata
    languages: Sequence[str]

    @property
    def service_instance(self) -> str:
        """The GetCapabilities URL (05-007r7 table 54 ``serviceInstance``)."""
        return f"{self.url}?service=WPS&request=GetCapabilities"


def wanted_sections(names: Iterable[str]) -> frozenset[str]:
    """The sections to write; raises InvalidParameterValue for a name that OWS Common and WPS do not have."""
    named = frozenset(names)
    unknown = named - {*SECTIONS, "All", "Contents"}
    if unknown:
        raise InvalidParameterValue(
            f"The section {min(unknown)[:80]!r} is unknown; choose from {', '.join(SECTIONS)} or All.", "Sections"
        )
    return frozenset(SECTIONS) if not named or "All" in named else (named & frozenset(SECTIONS)) | _ALWAYS


def capabilities(
    site: Site,
    offered: Iterable[ProcessDescription],
    sections: frozenset[str],
    language: str,
    update_sequence: str,
) -> bytes:
    """The document, with the processes in the order in which they are offered."""
    document = _capabilities_root(language, update_sequence)
    for name in SECTIONS[:3]:
        if name in sections:
            _WRITERS[name](document, site)
    offerings = add(document, f"{{{WPS}}}ProcessOfferings")
    for process in offered:
        add_brief(add(offerings, f"{{{WPS}}}Process"), process, language)
    _add_languages(document, site)
    return to_bytes(document)


def unchanged_capabilities(language: str, update_sequence: str) -> bytes:
    """The answer to a client whose updateSequence is the current one: nothing but that (06-121r3 §7.3.4).

    The one document of this server that the WPS 1.0.0 schema does not allow, since it demands ProcessOfferings.
    """
    return to_bytes(_capabilities_root(language, update_sequence))


def _capabilities_root(language: str, update_sequence: str) -> etree._Element:
    attributes = {"service": "WPS", "version": VERSION, "updateSequence": update_sequence, LANG: language}
    return root(f"{{{WPS}}}Capabilities", attributes)


def _add_identification(document: etree._Element, site: Site) -> None:
    metadata = site.metadata
    section = add(document, f"{{{OWS}}}ServiceIdentification")
    add(section, f"{{{OWS}}}Title", metadata.title)
    add(section, f"{{{OWS}}}Abstract", metadata.abstract)
    if metadata.keywords:
        keywords = add(section, f"{{{OWS}}}Keywords")
        for keyword in metadata.keywords:
            add(keywords, f"{{{OWS}}}Keyword", keyword)
    add(section, f"{{{OWS}}}ServiceType", "WPS")
    for version in SERVED:
        add(section, f"{{{OWS}}}ServiceTypeVersion", version)
    add(section, f"{{{OWS}}}Fees", metadata.fees)
    add(section, f"{{{OWS}}}AccessConstraints", metadata.access_constraints)


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


def _add_provider(document: etree._Element, site: Site) -> None:
    section = add(document, f"{{{OWS}}}ServiceProvider")
    add(section, f"{{{OWS}}}ProviderName", site.metadata.provider_name)
    if site.metadata.provider_url:
        add(section, f"{{{OWS}}}ProviderSite", None, **{f"{{{XLINK}}}href": site.metadata.provider_url})
    contact = add(section, f"{{{OWS}}}ServiceContact")
    for option, path in _CONTACT:
        value = getattr(site.metadata, option)
        if value:
            add(_descend(contact, path[:-1]), f"{{{OWS}}}{path[-1]}", value)


def _descend(element: etree._Element, path: Sequence[str]) -> etree._Element:
    for name in path:
        found = element.find(f"{{{OWS}}}{name}")
        element = add(element, f"{{{OWS}}}{name}") if found is None else found
    return element


def _add_operations(document: etree._Element, site: Site) -> None:
    section = add(document, f"{{{OWS}}}OperationsMetadata")
    for name in _OPERATIONS:
        operation = add(section, f"{{{OWS}}}Operation", None, name=name)
        http = add(add(operation, f"{{{OWS}}}DCP"), f"{{{OWS}}}HTTP")
        # A GET address ends where key-value pairs can be appended (06-121r3 §11.5.1).
        add(http, f"{{{OWS}}}Get", None, **{f"{{{XLINK}}}href": site.url + "?"})
        add(http, f"{{{OWS}}}Post", None, **{f"{{{XLINK}}}href": site.url})


_WRITERS: Mapping[str, Callable[[etree._Element, Site], None]] = {
    "ServiceIdentification": _add_identification,
    "ServiceProvider": _add_provider,
    "OperationsMetadata": _add_operations,
}


def _add_languages(document: etree._Element, site: Site) -> None:
    section = add(document, f"{{{WPS}}}Languages")
    add(add(section, f"{{{WPS}}}Default"), f"{{{OWS}}}Language", site.languages[0])
    supported = add(section, f"{{{WPS}}}Supported")
    for language in site.languages:
        add(supported, f"{{{OWS}}}Language", language)
