"""WPS 1.0.0 by HTTP POST: XML requests (OGC 05-007r7 §8.2.2, 9.2.3, 10.2.2.3, schema wpsExecute_request.xsd).

Read by the schema's names, but tolerant where clients are known to be sloppy: order of elements, a missing
``ResponseForm``, lower-case ``wps``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from joblauncher.formats.records import WantedOutput
from wps_hpc.errors import InvalidParameterValue, MissingParameterValue, OperationNotSupported
from wps_hpc.jobs.request import Given, OutputWish
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.ows import boolean, check_service, check_version
from wps_hpc.protocols.wps1_lineage import lineage_as_received
from wps_hpc.protocols.wps1_request import VERSION, Execute, Operation, ResponseForm
from wps_hpc.protocols.wps_nodes import content_of, encoding_of, reference_of
from wps_hpc.protocols.wps_request import (
    Describe,
    DescribeProcess,
    GetCapabilities,
    capabilities_of_node,
    identifiers_of_node,
)
from wps_hpc.protocols.wps_values import (
    bounding_box,
    inline_document,
    inline_text,
    literal,
    transmission,
)
from wps_hpc.protocols.xml import OWS, WPS, WPS2
from wps_hpc.protocols.xml_request import Document, Node

#: Elements whose content belongs to the process, not to the protocol.
OPAQUE = frozenset({(WPS, "ComplexData"), (WPS, "Body")})


def read_post(document: Document, describe: Describe) -> Operation:
    """The operation that an XML request asks for; raises the ServiceErrors of OWS Common."""
    root = document.root
    reader = _READERS.get(root.name)
    if reader is None:
        raise OperationNotSupported(
            f"The operation {root.name[:80]!r} is unknown; send GetCapabilities, DescribeProcess or Execute.",
            root.name[:80],
        )
    # A client of 2.0 may accept capabilities of 1.0.0.
    if root.namespace not in (WPS, WPS2):
        raise InvalidParameterValue(f"The request must be in the namespace {WPS}.", "version")
    check_service(root.attributes.get("service"))
    return reader(document, describe)


def _get_capabilities(document: Document, _: Describe) -> GetCapabilities:
    return capabilities_of_node(document.root)


def _describe_process(document: Document, _: Describe) -> DescribeProcess:
    root = document.root
    check_version(root.attributes.get("version"), VERSION)
    return DescribeProcess(identifiers_of_node(root, OWS), root.attributes.get("language"))


def _execute(document: Document, describe: Describe) -> Execute:
    root = document.root
    check_version(root.attributes.get("version"), VERSION)
    process = describe(_identifier(root, "the request"))
    inputs = root.first("DataInputs")
    given = tuple(_input(node, process) for node in inputs.all("Input")) if inputs else ()
    form, wanted = _response_form(root.first("ResponseForm"))
    lineage = lineage_as_received(document, inputs, wanted) if form.lineage else None
    return Execute(process, given, form, root.attributes.get("language"), lineage)


_READERS: Mapping[str, Callable[[Document, Describe], Operation]] = {
    "GetCapabilities": _get_capabilities,
    "DescribeProcess": _describe_process,
    "Execute": _execute,
}


def _identifier(parent: Node, what: str) -> str:
    node = parent.first("Identifier", OWS)
    if node is None or not node.text:
        raise MissingParameterValue(f"There is no ows:Identifier in {what}.", "Identifier")
    return node.text


# ----------------------------------------------------------------------------------------------------------- inputs


def _input(node: Node, process: ProcessDescription) -> tuple[str, Given]:
    identifier = _identifier(node, "an Input")
    if (found := node.first("Reference")) is not None:
        return identifier, reference_of(found, identifier, encoding_of(found), found.attributes.get("method", "GET"))
    data = node.first("Data")
    value = next((child for child in data.children if child.name in _VALUES), None) if data else None
    if value is None:
        raise MissingParameterValue(
            f"The input {identifier} has neither a Reference nor Data with a value.", identifier
        )
    return identifier, _VALUES[value.name](value, identifier, process)


def _literal(node: Node, identifier: str, process: ProcessDescription) -> Given:
    if node.children:
        raise InvalidParameterValue(f"The literal input {identifier} holds XML elements.", identifier)
    return literal("".join(node.pieces), process.input(identifier), node.attributes.get("uom"))


def _complex(node: Node, identifier: str, _: ProcessDescription) -> Given:
    content = content_of(node, identifier)
    form = encoding_of(node)
    if content.document is not None:
        return inline_document(content.document, form, identifier)
    return inline_text(content.text, form, identifier)


def _bounding_box(node: Node, identifier: str, _: ProcessDescription) -> Given:
    corners = {child.name: child.text.split() for child in node.children if child.namespace == OWS}
    if not {"LowerCorner", "UpperCorner"} <= corners.keys():
        raise InvalidParameterValue(f"{identifier} needs an ows:LowerCorner and an ows:UpperCorner.", identifier)
    return bounding_box(
        corners["LowerCorner"],
        corners["UpperCorner"],
        node.attributes.get("crs"),
        node.attributes.get("dimensions"),
        identifier,
    )


_VALUES: Mapping[str, Callable[[Node, str, ProcessDescription], Given]] = {
    "LiteralData": _literal,
    "ComplexData": _complex,
    "BoundingBoxData": _bounding_box,
    "BoundingBox": _bounding_box,
}


# ---------------------------------------------------------------------------------------------------- response form


def _response_form(node: Node | None) -> tuple[ResponseForm, tuple[Node, ...]]:
    """The form, and the elements that define its outputs."""
    documented = node.first("ResponseDocument") if node else None
    raw = tuple(node.all("RawDataOutput")) if node else ()
    if raw and documented:
        raise InvalidParameterValue("Ask for a ResponseDocument or for RawDataOutput, not both.", "ResponseForm")
    if len(raw) > 1:
        raise InvalidParameterValue("RawDataOutput is exactly one output.", "RawDataOutput")
    if raw:
        return ResponseForm((_wish(raw[0]),), raw=True), ()
    if documented is None:
        return ResponseForm(), ()
    return _response_document(documented)


def _response_document(node: Node) -> tuple[ResponseForm, tuple[Node, ...]]:
    flags = [boolean(node.attributes.get(name), name) for name in ("storeExecuteResponse", "status", "lineage")]
    outputs = tuple(node.all("Output"))
    return ResponseForm(tuple(map(_wish, outputs)), False, *flags), outputs


def _wish(node: Node) -> OutputWish:
    identifier = _identifier(node, "an Output")
    form = encoding_of(node)
    title, abstract = node.first("Title", OWS), node.first("Abstract", OWS)
    return OutputWish(
        WantedOutput(identifier, form.mime_type, form.encoding, form.schema, node.attributes.get("uom") or None),
        transmission(node.attributes.get("asReference"), identifier),
        title.text if title else None,
        abstract.text if abstract else None,
    )
