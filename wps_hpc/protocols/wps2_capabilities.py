"""The Capabilities document of WPS 2.0 (OGC 14-065r2 §9.6.2; OWS Common 2.0, 06-121r9 §7.4)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lxml import etree

from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.ows_service import BINDINGS, Site, add_identification, add_operations, add_provider
from wps_hpc.protocols.wps2_describe import add_description, set_properties
from wps_hpc.protocols.wps2_request import VERSION
from wps_hpc.protocols.xml import OWS2, PREFIXES2, WPS2, add, root, to_bytes

#: The sections that a client may ask for (06-121r9 table 8).
SECTIONS = ("ServiceIdentification", "ServiceProvider", "OperationsMetadata", "Languages", "Contents")
#: The schema demands this in every Capabilities document.
ALWAYS = frozenset({"Contents"})

_BOTH = tuple(BINDINGS)
#: The operations with their bindings: Execute has none by key-value pairs (14-065r2 §10.2).
_OPERATIONS: Mapping[str, Collection[str]] = {
    "GetCapabilities": _BOTH,
    "DescribeProcess": _BOTH,
    "Execute": ("Post",),
    "GetStatus": _BOTH,
    "GetResult": _BOTH,
}
_CONTROL: Mapping[str, Collection[str]] = {"Dismiss": _BOTH, "Pause": _BOTH, "Resume": _BOTH}


def capabilities(
    site: Site,
    offered: Iterable[ProcessDescription],
    sections: frozenset[str],
    language: str,
    update_sequence: str,
    controlled: bool,
) -> bytes:
    """The document, with the processes in the order in which they are offered; ``controlled`` says whether clients may
    steer jobs here."""
    document = _capabilities_root(update_sequence)
    if "ServiceIdentification" in sections:
        add_identification(document, site, OWS2)
    if "ServiceProvider" in sections:
        add_provider(document, site, OWS2)
    if "OperationsMetadata" in sections:
        add_operations(document, site, OWS2, {**_OPERATIONS, **(_CONTROL if controlled else {})})
    if "Languages" in sections:
        _add_languages(document, site)
    contents = add(document, f"{{{WPS2}}}Contents")
    for process in offered:
        summary = add(contents, f"{{{WPS2}}}ProcessSummary")
        set_properties(summary, process, controlled)
        add_description(summary, process, language)
    return to_bytes(document)


def unchanged_capabilities(update_sequence: str) -> bytes:
    """The answer to a client whose updateSequence is the current one: nothing but that (06-121r9 §7.3.4).

    The one document that the schema of WPS 2.0 does not allow, since it demands Contents.
    """
    return to_bytes(_capabilities_root(update_sequence))


def _capabilities_root(update_sequence: str) -> etree._Element:
    attributes = {"service": "WPS", "version": VERSION, "updateSequence": update_sequence}
    return root(f"{{{WPS2}}}Capabilities", attributes, PREFIXES2)


def _add_languages(document: etree._Element, site: Site) -> None:
    section = add(document, f"{{{OWS2}}}Languages")
    for language in site.languages:
        add(section, f"{{{OWS2}}}Language", language)
