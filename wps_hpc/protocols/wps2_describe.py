"""Descriptions of processes in the terms of WPS 2.0 (OGC 14-065r2 §7, 8.1, 9.7.2; processDescription.xsd)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lxml import etree

from wps_hpc.processes.description import (
    BoundingBoxData,
    ComplexData,
    Described,
    Format,
    Input,
    LiteralData,
    Metadata,
    NestedInputs,
    NestedOutputs,
    Output,
    ProcessDescription,
)
from wps_hpc.protocols.ows_service import add_keywords
from wps_hpc.protocols.wps1_describe import add_allowed, add_unit, megabytes
from wps_hpc.protocols.wps2_request import execution_modes
from wps_hpc.protocols.wps2_values import PLAIN_FORMS, data_type_uri
from wps_hpc.protocols.xml import LANG, OWS2, PREFIXES2, WPS2, XLINK, add, root, to_bytes

#: What a link of a description is unless it says so itself, and what the profile of a process is (14-065r2 §7.1, 7.6).
_DOCUMENTATION = "http://www.opengis.net/spec/wps/2.0/def/process/description/documentation"
_PROFILE = "http://www.opengis.net/spec/wps/2.0/def/process-profile/generic"
#: What can be done with jobs where there is job control: «dismiss» of 14-065r2 §12.1, and this server's own two.
_CONTROLS = ("dismiss", "pause", "resume")


def offerings(fragments: Iterable[bytes]) -> bytes:
    """A ProcessOfferings document around fragments made by ``offering``."""
    empty = to_bytes(_offerings_root())
    head = empty[: empty.rindex(b"/>")] + b">"
    return b"".join([head, *fragments, b"</wps:ProcessOfferings>"])


def offering(process: ProcessDescription, language: str, largest_input: int, controlled: bool) -> bytes:
    """One ProcessOffering, as bytes to be put between others. ``largest_input`` is the server's limit in bytes;
    ``controlled`` says whether clients may steer jobs here."""
    document = _offerings_root()
    element = add(document, f"{{{WPS2}}}ProcessOffering")
    set_properties(element, process, controlled)
    described = add(element, f"{{{WPS2}}}Process", None, **{LANG: language})
    add_description(described, process, language)
    for item in process.inputs:
        _add_input(described, item, language, largest_input)
    for output in process.outputs:
        _add_output(described, output, language)
    # Within its root the element needs no namespace declarations of its own.
    whole = etree.tostring(document)
    return whole[whole.index(b"<wps:ProcessOffering ") : whole.rindex(b"</wps:ProcessOfferings>")]


def _offerings_root() -> etree._Element:
    return root(f"{{{WPS2}}}ProcessOfferings", prefixes=PREFIXES2)


def set_properties(element: etree._Element, process: ProcessDescription, controlled: bool) -> None:
    """The attributes of 14-065r2 table 23."""
    modes = execution_modes(process)
    steered = _CONTROLS if controlled and "async-execute" in modes else ()
    element.set("jobControlOptions", " ".join((*modes, *steered)))
    element.set("outputTransmission", "value reference" if process.store_supported else "value")
    element.set("processVersion", process.version)


def add_description(element: etree._Element, described: Described, language: str) -> None:
    """Title, Abstract, Keywords, Identifier and Metadata (14-065r2 table 3)."""
    title, abstract = described.words(language)
    add(element, f"{{{OWS2}}}Title", title)
    if abstract:
        add(element, f"{{{OWS2}}}Abstract", abstract)
    add_keywords(element, described.keywords, OWS2)
    add(element, f"{{{OWS2}}}Identifier", described.identifier)
    for link in (*described.metadata, *_profiles(described)):
        names = {"type": "simple", "href": link.href, "role": link.role or _DOCUMENTATION, "title": link.title}
        if link.href:  # what leads nowhere is no metadata there (14-065r2 table 4)
            add(element, f"{{{OWS2}}}Metadata", None, **{f"{{{XLINK}}}{name}": value for name, value in names.items()})


def _profiles(described: Described) -> list[Metadata]:
    profiles = described.profiles if isinstance(described, ProcessDescription) else ()
    return [Metadata(profile, profile, _PROFILE) for profile in profiles]


# ----------------------------------------------------------------------------------------------------------- inputs


def _add_input(parent: etree._Element, item: Input, language: str, largest: int) -> None:
    element = add(parent, f"{{{WPS2}}}Input")
    element.set("minOccurs", str(item.min_occurs))
    element.set("maxOccurs", "unbounded" if item.max_occurs is None else str(item.max_occurs))
    add_description(element, item, language)
    match item.data:
        case LiteralData() as data:
            _add_literal(element, data, data.default)
        case ComplexData() as data:
            _add_complex(element, data, megabytes(data, largest))
        case BoundingBoxData() as data:
            _add_box(element, data)
        case NestedInputs() as data:
            for inner in data.inputs:
                _add_input(element, inner, language, largest)


def _add_formats(parent: etree._Element, formats: Sequence[Format], largest: str | None = None) -> None:
    for number, form in enumerate(formats):
        add(
            parent,
            f"{{{WPS2}}}Format",
            None,
            mimeType=form.mime_type,
            encoding=form.encoding,
            schema=form.schema,
            maximumMegabytes=largest,
            default=None if number else "true",
        )


def _add_literal(parent: etree._Element, data: LiteralData, default: str | None) -> None:
    """A domain for each unit, the default one first (14-065r2 table 8)."""
    element = add(parent, f"{{{WPS2}}}LiteralData")
    _add_formats(element, [Format(form) for form in PLAIN_FORMS])
    for number, uom in enumerate(data.uoms or (None,)):
        # The schema leaves this one element without a namespace.
        domain = add(element, "LiteralDataDomain", None, default=None if number else "true")
        _add_values(domain, data)
        reference = {f"{{{OWS2}}}reference": data_type_uri(data.data_type)}
        add(domain, f"{{{OWS2}}}DataType", data.data_type, **reference)
        if uom is not None:
            add_unit(domain, uom, dict(data.uom_references), OWS2)
        if default is not None and not number:
            add(domain, f"{{{OWS2}}}DefaultValue", default)


def _add_values(domain: etree._Element, data: LiteralData) -> None:
    if data.allowed:
        add_allowed(add(domain, f"{{{OWS2}}}AllowedValues"), data.allowed, OWS2)
    elif data.values_reference:
        reference = {f"{{{OWS2}}}reference": data.values_reference}
        add(domain, f"{{{OWS2}}}ValuesReference", data.values_reference, **reference)
    else:
        add(domain, f"{{{OWS2}}}AnyValue")


def _add_complex(parent: etree._Element, data: ComplexData, largest: str | None) -> None:
    _add_formats(add(parent, f"{{{WPS2}}}ComplexData"), data.formats, largest)


def _add_box(parent: etree._Element, data: BoundingBoxData) -> None:
    element = add(parent, f"{{{WPS2}}}BoundingBoxData")
    _add_formats(element, [Format(form) for form in PLAIN_FORMS])
    for number, crs in enumerate(data.crss):
        add(element, f"{{{WPS2}}}SupportedCRS", crs, default=None if number else "true")


# ---------------------------------------------------------------------------------------------------------- outputs


def _add_output(parent: etree._Element, output: Output, language: str) -> None:
    element = add(parent, f"{{{WPS2}}}Output")
    add_description(element, output, language)
    match output.data:
        case LiteralData() as data:
            _add_literal(element, data, None)
        case ComplexData() as data:
            _add_complex(element, data, None)
        case BoundingBoxData() as data:
            _add_box(element, data)
        case NestedOutputs() as data:
            for inner in data.outputs:
                _add_output(element, inner, language)
