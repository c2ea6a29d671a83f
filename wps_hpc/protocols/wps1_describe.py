"""Descriptions of processes in the terms of WPS 1.0.0 (OGC 05-007r7 §9.3, wpsDescribeProcess_response.xsd)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lxml import etree

from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Described,
    Format,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
    ProcessDescription,
)
from wps_hpc.protocols.wps1_request import VERSION
from wps_hpc.protocols.xml import LANG, OWS, WPS, XLINK, add, root, to_bytes

#: The schema has no word for «unbounded»; this is the largest number that every client's integers hold.
UNBOUNDED = 2**31 - 1
MEGABYTE = 1_000_000

_XML_TYPES = "http://www.w3.org/TR/xmlschema-2/#"
#: Types of OWS that XML Schema does not have.
_OWS_TYPES = {name: f"urn:ogc:def:dataType:OGC:1.1:{name}" for name in ("scale", "angle")}


def data_type_reference(data_type: str) -> str:
    """The URI of a literal type (``ows:reference`` of DataType, ``dataType`` of LiteralData)."""
    return _OWS_TYPES.get(data_type, _XML_TYPES + data_type)


def offered(process: ProcessDescription) -> ProcessDescription | None:
    """The process as WPS 1.0.0 can offer it: without optional nested parts; None if a nested part is mandatory."""
    needed = any(isinstance(item.data, NestedInputs) and item.min_occurs for item in process.inputs)
    if needed or any(isinstance(item.data, NestedOutputs) and not item.optional for item in process.outputs):
        return None
    outputs = tuple(item for item in process.outputs if not isinstance(item.data, NestedOutputs))
    inputs = tuple(item for item in process.inputs if not isinstance(item.data, NestedInputs))
    return replace(process, inputs=inputs, outputs=outputs) if outputs else None


def descriptions(fragments: Iterable[bytes], language: str) -> bytes:
    """A ProcessDescriptions document around descriptions made by ``description``."""
    empty = to_bytes(_descriptions_root(language))
    head = empty[: empty.rindex(b"/>")] + b">"
    return b"".join([head, *fragments, b"</wps:ProcessDescriptions>"])


def description(process: ProcessDescription, language: str, largest_input: int) -> bytes:
    """One ProcessDescription, as bytes to be put between others. ``largest_input`` is the server's limit in bytes."""
    document = _descriptions_root(language)
    element = add(document, "ProcessDescription")
    element.set("storeSupported", str(process.store_supported).lower())
    element.set("statusSupported", str(process.status_supported).lower())
    add_brief(element, process, language)
    if process.inputs:
        inputs = add(element, "DataInputs")
        for item in process.inputs:
            _add_input(inputs, item, language, largest_input)
    outputs = add(element, "ProcessOutputs")
    for output in process.outputs:
        _add_output(outputs, output, language)
    # Within its root the element needs no namespace declarations of its own.
    whole = etree.tostring(document)
    return whole[whole.index(b"<ProcessDescription ") : whole.rindex(b"</wps:ProcessDescriptions>")]


def _descriptions_root(language: str) -> etree._Element:
    attributes = {"service": "WPS", "version": VERSION, LANG: language}
    return root(f"{{{WPS}}}ProcessDescriptions", attributes)


def add_brief(element: etree._Element, process: ProcessDescription, language: str) -> None:
    """Fill an element of ProcessBriefType (05-007r7 table 9)."""
    element.set(f"{{{WPS}}}processVersion", process.version)
    add_words(element, process, language)
    for profile in process.profiles:
        add(element, f"{{{WPS}}}Profile", profile)


def add_words(element: etree._Element, described: Described, language: str) -> None:
    """Identifier, Title, Abstract and Metadata (05-007r7 table 1)."""
    title, abstract = described.words(language)
    add(element, f"{{{OWS}}}Identifier", described.identifier)
    add(element, f"{{{OWS}}}Title", title)
    if abstract:
        add(element, f"{{{OWS}}}Abstract", abstract)
    for link in described.metadata:
        names = {"title": link.title, "href": link.href, "role": link.role}
        add(
            element,
            f"{{{OWS}}}Metadata",
            None,
            **{f"{{{XLINK}}}{name}": value for name, value in names.items() if value},
        )


# ----------------------------------------------------------------------------------------------------------- inputs


def _add_input(parent: etree._Element, item: Input, language: str, largest: int) -> None:
    element = add(parent, "Input")
    element.set("minOccurs", str(item.min_occurs))
    element.set("maxOccurs", str(UNBOUNDED if item.max_occurs is None else item.max_occurs))
    add_words(element, item, language)
    match item.data:
        case LiteralData() as data:
            _add_literal_input(element, data)
        case ComplexData() as data:
            _add_complex(element, "ComplexData", data, megabytes(data, largest))
        case BoundingBoxData() as data:
            _add_crss(element, "BoundingBoxData", data)


def megabytes(data: ComplexData, largest: int) -> str:
    """The limit that is enforced, in whole megabytes as the schema wants them; never less than what is allowed."""
    limit = largest / MEGABYTE
    if data.maximum_megabytes is not None:
        limit = min(limit, data.maximum_megabytes)
    return str(math.ceil(limit))


def _add_literal_input(parent: etree._Element, data: LiteralData) -> None:
    element = add(parent, "LiteralData")
    _add_type_and_units(element, data)
    if data.allowed:
        add_allowed(add(element, f"{{{OWS}}}AllowedValues"), data.allowed, OWS)
    elif data.values_reference:
        reference = add(element, "ValuesReference")
        reference.set(f"{{{OWS}}}reference", data.values_reference)
        reference.set("valuesForm", data.values_reference)
    else:
        add(element, f"{{{OWS}}}AnyValue")
    if data.default is not None:
        add(element, "DefaultValue", data.default)


def add_allowed(element: etree._Element, allowed: Sequence[str | AllowedRange], ows: str) -> None:
    """Fill an ows:AllowedValues; ``ows`` is the namespace of OWS Common."""
    for value in allowed:
        if isinstance(value, AllowedRange):
            _add_range(element, value, ows)
        else:
            add(element, f"{{{ows}}}Value", value)


def _add_range(parent: etree._Element, bounds: AllowedRange, ows: str) -> None:
    element = add(parent, f"{{{ows}}}Range", None, **{f"{{{ows}}}rangeClosure": bounds.closure})
    parts = {"MinimumValue": bounds.minimum, "MaximumValue": bounds.maximum, "Spacing": bounds.spacing}
    for name, value in parts.items():
        if value is not None:
            add(element, f"{{{ows}}}{name}", value)


def _add_type_and_units(element: etree._Element, data: LiteralData) -> None:
    reference = {f"{{{OWS}}}reference": data_type_reference(data.data_type)}
    add(element, f"{{{OWS}}}DataType", data.data_type, **reference)
    if data.uoms:
        units = add(element, "UOMs")
        references = dict(data.uom_references)
        add_unit(add(units, "Default"), data.uoms[0], references, OWS)
        supported = add(units, "Supported")
        for uom in data.uoms:
            add_unit(supported, uom, references, OWS)


def add_unit(parent: etree._Element, uom: str, references: Mapping[str, str], ows: str) -> None:
    """Append an ows:UOM, with its reference if it has one or is a URI itself."""
    add(parent, f"{{{ows}}}UOM", uom, **{f"{{{ows}}}reference": references.get(uom, uom if ":" in uom else None)})


def _add_complex(parent: etree._Element, tag: str, data: ComplexData, megabytes: str | None) -> None:
    element = add(parent, tag, None, maximumMegabytes=megabytes)
    _add_format(add(element, "Default"), data.formats[0])
    supported = add(element, "Supported")
    for form in data.formats:
        _add_format(supported, form)


def _add_format(parent: etree._Element, form: Format) -> None:
    element = add(parent, "Format")
    add(element, "MimeType", form.mime_type)
    if form.encoding:
        add(element, "Encoding", form.encoding)
    if form.schema:
        add(element, "Schema", form.schema)


def _add_crss(parent: etree._Element, tag: str, data: BoundingBoxData) -> None:
    element = add(parent, tag)
    add(add(element, "Default"), "CRS", data.crss[0])
    supported = add(element, "Supported")
    for crs in data.crss:
        add(supported, "CRS", crs)


# ---------------------------------------------------------------------------------------------------------- outputs


def _add_output(parent: etree._Element, output: Output, language: str) -> None:
    element = add(parent, "Output")
    add_words(element, output, language)
    match output.data:
        case LiteralData() as data:
            _add_type_and_units(add(element, "LiteralOutput"), data)
        case ComplexData() as data:
            _add_complex(element, "ComplexOutput", data, None)
        case BoundingBoxData() as data:
            _add_crss(element, "BoundingBoxOutput", data)
