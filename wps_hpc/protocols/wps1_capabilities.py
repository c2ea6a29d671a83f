"""The Capabilities document of WPS 1.0.0 (OGC 05-007r7 §8.3; OWS Common 1.1, 06-121r3 §7.4)."""

from __future__ import annotations

from collections.abc import Iterable

from lxml import etree

from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.ows_service import BINDINGS, Site, add_identification, add_operations, add_provider
from wps_hpc.protocols.wps1_describe import add_brief
from wps_hpc.protocols.wps1_request import VERSION
from wps_hpc.protocols.xml import LANG, OWS, WPS, add, root, to_bytes

#: The sections that a client may ask for (06-121r3 table 6 and 05-007r7 table 7).
SECTIONS = (
    "ServiceIdentification",
    "ServiceProvider",
    "OperationsMetadata",
    "ProcessOfferings",
    "Languages",
)
#: The schema of WPS 1.0.0 demands these in every Capabilities document, so they stand in every one.
ALWAYS = frozenset({"ProcessOfferings", "Languages"})

_OPERATIONS = dict.fromkeys(("GetCapabilities", "DescribeProcess", "Execute"), tuple(BINDINGS))


def capabilities(
    site: Site,
    offered: Iterable[ProcessDescription],
    sections: frozenset[str],
    language: str,
    update_sequence: str,
) -> bytes:
    """The document, with the processes in the order in which they are offered."""
    document = _capabilities_root(language, update_sequence)
    if "ServiceIdentification" in sections:
        add_identification(document, site, OWS)
    if "ServiceProvider" in sections:
        add_provider(document, site, OWS)
    if "OperationsMetadata" in sections:
        add_operations(document, site, OWS, _OPERATIONS)
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


def _add_languages(document: etree._Element, site: Site) -> None:
    section = add(document, f"{{{WPS}}}Languages")
    add(add(section, f"{{{WPS}}}Default"), f"{{{OWS}}}Language", site.languages[0])
    supported = add(section, f"{{{WPS}}}Supported")
    for language in site.languages:
        add(supported, f"{{{OWS}}}Language", language)
