"""WPS 1.0.0 by HTTP GET: key-value pairs (OGC 05-007r7 §8.2.1, 9.2.2, 10.2.2.1).

``DataInputs=name=value@attribute=value;name=…``: clients encode it in two ways. Either the separators stand bare in
the URL and what is encoded between them belongs to the values (``DataInputs=a=1%3B2;b=3``), or the whole parameter is
encoded and the values once more within it, as rule 6 of the standard has it (``DataInputs=a%3D1%253B2%3Bb%3D3``). A
bare equals sign tells the first way. Both are split before their values are decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from joblauncher.formats.records import WantedOutput
from joblauncher.formats.values import BoundingBoxValue
from wps_hpc.errors import InvalidParameterValue, MissingParameterValue, OperationNotSupported
from wps_hpc.jobs.request import Given, OutputWish
from wps_hpc.processes.description import BoundingBoxData, ComplexData, ProcessDescription
from wps_hpc.protocols.ows import Query, boolean, check_service, check_version, decode
from wps_hpc.protocols.wps1_lineage import lineage_of
from wps_hpc.protocols.wps1_request import VERSION, Execute, Operation, ResponseForm
from wps_hpc.protocols.wps_request import (
    Describe,
    DescribeProcess,
    GetCapabilities,
    JobRequest,
    capabilities_of_query,
    identifiers_of_query,
)
from wps_hpc.protocols.wps_values import Encoding, bounding_box_of_text, inline_text, literal, reference, transmission


def read_kvp(query: Query, describe: Describe) -> Operation:
    """The operation that a GET asks for; raises the ServiceErrors of OWS Common for anything that is none."""
    check_service(query.get("service"))
    name = query.required("request")
    reader = _READERS.get(name.lower())
    if reader is None:
        raise OperationNotSupported(
            f"The operation {name[:80]!r} is unknown; ask for GetCapabilities, DescribeProcess or Execute.", name[:80]
        )
    return reader(query, describe)


def _get_capabilities(query: Query, _: Describe) -> GetCapabilities:
    return capabilities_of_query(query)


def _describe_process(query: Query, _: Describe) -> DescribeProcess:
    check_version(query.get("version"), VERSION)
    return DescribeProcess(identifiers_of_query(query), query.get("language"))


def _execute(query: Query, describe: Describe) -> Execute:
    check_version(query.get("version"), VERSION)
    process = describe(query.required("Identifier"))
    inputs = tuple((item.name, _given(item, process)) for item in _items(query, "DataInputs"))
    form = _response_form(query)
    account = lineage_of(inputs, form.outputs) if form.lineage else None
    return Execute(process, inputs, form, query.get("language"), account)


def _job_request(query: Query, _: Describe) -> JobRequest:
    check_version(query.get("version"), VERSION)
    return JobRequest(_JOB_REQUESTS[query.required("request").lower()], query.required("executionId"))


#: What vendors added: the first two as GeoServer has them, the others this server's own.
_JOB_REQUESTS = {name.lower(): name for name in ("GetExecutionStatus", "Dismiss", "Pause", "Resume")}

_READERS: Mapping[str, Callable[[Query, Describe], Operation]] = {
    "getcapabilities": _get_capabilities,
    "describeprocess": _describe_process,
    "execute": _execute,
    **dict.fromkeys(_JOB_REQUESTS, _job_request),
}


# ------------------------------------------------------------------------------------------------------------ items


@dataclass(frozen=True)
class Item:
    """``name=value@attribute=value``; attribute names in the spelling of ``_ATTRIBUTES``."""

    name: str
    value: str
    attributes: Mapping[str, str]

    def encoding(self) -> Encoding:
        """The attributes of complex data."""
        return Encoding(self.attributes.get("mimeType"), self.attributes.get("encoding"), self.attributes.get("schema"))


#: Attribute names in lower case, with the variants that the standard's own examples have, to the names of the schema.
_ATTRIBUTES = {
    "mimetype": "mimeType",
    "format": "mimeType",
    "encoding": "encoding",
    "schema": "schema",
    "href": "href",
    "xlink:href": "href",
    "method": "method",
    "datatype": "dataType",
    "uom": "uom",
    "asreference": "asReference",
    "crs": "crs",
    "dimensions": "dimensions",
}

#: An @ begins an attribute only before a name and an equals sign: joe@example.org is a value.
_AT = re.compile(r"@(?=[A-Za-z:]+=)")


def _items(query: Query, parameter: str) -> Iterator[Item]:
    raw = query.raw.get(parameter.lower(), "")
    bare = "=" in raw or "%" not in raw
    text = raw if bare else decode(raw, parameter)
    # Some clients put the whole list in brackets, as drafts of the standard did.
    for part in text.removeprefix("[").removesuffix("]").split(";"):
        if part.strip(" +"):
            yield _item(part, parameter, plus=bare)


def _item(part: str, parameter: str, *, plus: bool) -> Item:
    head, *attributes = _AT.split(part)
    name, _, value = head.partition("=")
    identifier = decode(name, parameter, plus=plus).strip()
    if not identifier:
        raise MissingParameterValue(f"An item of {parameter} has no name.", parameter)
    pairs = (_attribute(text, identifier, plus) for text in attributes)
    # An empty attribute says nothing, but an empty address is a missing one.
    said = {name: text for name, text in pairs if text or name == "href"}
    return Item(identifier, decode(value, identifier, plus=plus), said)


def _attribute(text: str, identifier: str, plus: bool) -> tuple[str, str]:
    name, _, value = text.partition("=")
    known = _ATTRIBUTES.get(name.lower())
    if known is None:
        raise InvalidParameterValue(f"{identifier} has an attribute {name[:40]!r} that is unknown.", identifier)
    return known, decode(value, identifier, plus=plus)


# ----------------------------------------------------------------------------------------------------------- inputs


def _given(item: Item, process: ProcessDescription) -> Given:
    described = process.input(item.name)
    if "href" in item.attributes:
        return _reference(item)
    if described and isinstance(described.data, ComplexData):
        return inline_text(item.value, item.encoding(), item.name)
    if described and isinstance(described.data, BoundingBoxData):
        return _bounding_box(item)
    return literal(item.value, described, item.attributes.get("uom"))


def _reference(item: Item) -> Given:
    if item.attributes.get("method", "GET").upper() != "GET":
        raise InvalidParameterValue(
            f"{item.name} refers by POST, which key-value pairs cannot express; send the Execute as XML.", item.name
        )
    return reference(item.attributes["href"], item.encoding(), item.name)


def _bounding_box(item: Item) -> BoundingBoxValue:
    return bounding_box_of_text(item.value, item.attributes.get("crs"), item.attributes.get("dimensions"), item.name)


# ---------------------------------------------------------------------------------------------------- response form


def _response_form(query: Query) -> ResponseForm:
    flags = {name: boolean(query.get(name), name) for name in ("storeExecuteResponse", "status", "lineage")}
    raw = tuple(_items(query, "RawDataOutput"))
    documented = tuple(_items(query, "ResponseDocument"))
    if not raw:
        outputs = tuple(_wish(item) for item in documented)
        return ResponseForm(outputs, False, flags["storeExecuteResponse"], flags["status"], flags["lineage"])
    if documented:
        raise InvalidParameterValue("Ask for a ResponseDocument or for RawDataOutput, not both.", "RawDataOutput")
    if len(raw) > 1:
        raise InvalidParameterValue("RawDataOutput is exactly one output.", "RawDataOutput")
    for name, value in flags.items():
        if value:
            raise InvalidParameterValue(f"{name} belongs to a ResponseDocument; raw data has none.", name)
    return ResponseForm((_wish(raw[0]),), raw=True)


def _wish(item: Item) -> OutputWish:
    form = item.encoding()
    return OutputWish(
        WantedOutput(item.name, form.mime_type, form.encoding, form.schema, item.attributes.get("uom")),
        transmission(item.attributes.get("asReference"), item.name),
    )
