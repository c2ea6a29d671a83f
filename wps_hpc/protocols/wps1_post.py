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
from wps_hpc.protocols.ows import boolean, check_service, check_version, split_list
from wps_hpc.protocols.wps1_lineage import lineage_as_received
from wps_hpc.protocols.wps1_request import (
    SERVED,
    Describe,
    DescribeProcess,
    Execute,
    GetCapabilities,
    Operation,
    ResponseForm,
)
from wps_hpc.protocols.wps_values import (
    Encoding,
    bounding_box,
    inline_document,
    inline_text,
    literal,
    reference,
    transmission,
)
from wps_hpc.protocols.xml import OWS, WPS, XLINK
from wps_hpc.protocols.xml_request import Content, Document, Node, read_document

#: Elements whose content belongs to the process, not to the protocol.
OPAQUE = frozenset({(WPS, "ComplexData"), (WPS, "Body")})


def read_post(body: bytes, describe: Describe, charset: str | None = None) -> Operation:
    """The operation that an XML body asks for; raises BadRequest or the ServiceErrors of OWS Common."""
    document = read_document(body, OPAQUE, charset)
    root = document.root
    reader = _READERS.get(root.name)
    if reader is None:
        raise OperationNotSupported(
            f"The operation {root.name[:80]!r} is unknown; send GetCapabilities, DescribeProcess or Execute.",
            root.name[:80],
        )
    if root.namespace != WPS:
        raise InvalidParameterValue(f"The request must be in the namespace {WPS}.", "version")
    check_service(root.attributes.get("service"))
    return reader(document, describe)


def _get_capabilities(document: Document, _: Describe) -> GetCapabilities:
    root = document.root
    if "version" in root.attributes:
        check_version(root.attributes["version"], SERVED)
    return GetCapabilities(
        _texts(root, "AcceptVersions", "Version"),
        _texts(root, "Sections", "Section"),
        root.attributes.get("updateSequence"),
        (*split_list(root.attributes.get("language")), *_texts(root, "AcceptLanguages", "Language")),
    )


def _texts(root: Node, outer: str, inner: str) -> tuple[str, ...]:
    """The texts of ``<outer><inner>…</inner></outer>``. The schemas put the outer one now in wps, now in ows."""
    found = root.first(outer) or root.first(outer, OWS)
    return tuple(node.text for node in found.all(inner, OWS) if node.text) if found else ()


def _describe_process(document: Document, _: Describe) -> DescribeProcess:
    root = document.root
    check_version(root.attributes.get("version"), SERVED)
    identifiers = tuple(node.text for node in root.all("Identifier", OWS) if node.text)
    if not identifiers:
        raise MissingParameterValue("The request has no ows:Identifier; name a process, or all.", "Identifier")
    return DescribeProcess(identifiers, root.attributes.get("language"))


def _execute(document: Document, describe: Describe) -> Execute:
    root = document.root
    check_version(root.attributes.get("version"), SERVED)
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
        return identifier, _reference(found, identifier)
    data = node.first("Data")
    value = next((child for child in data.children if child.name in _VALUES), None) if data else None
    if value is None:
        raise MissingParameterValue(
            f"The input {identifier} has neither a Reference nor Data with a value.", identifier
        )
    return identifier, _VALUES[value.name](value, identifier, process)


def _encoding(node: Node) -> Encoding:
    attributes = node.attributes
    return Encoding(
        attributes.get("mimeType") or None, attributes.get("encoding") or None, attributes.get("schema") or None
    )


def _literal(node: Node, identifier: str, process: ProcessDescription) -> Given:
    if node.children:
        raise InvalidParameterValue(f"The literal input {identifier} holds XML elements.", identifier)
    return literal("".join(node.pieces), process.input(identifier), node.attributes.get("uom"))


def _complex(node: Node, identifier: str, _: ProcessDescription) -> Given:
    content = _content(node, identifier)
    form = _encoding(node)
    if content.document is not None:
        return inline_document(content.document, form, identifier)
    return inline_text(content.text, form, identifier)


def _content(node: Node, identifier: str) -> Content:
    content = node.content
    assert content is not None, "the reader fills every opaque element"
    if content.problem:
        raise InvalidParameterValue(
            f"The {node.name} of {identifier} {content.problem}; "
            "send one XML element, or text (in CDATA if it has markup).",
            identifier,
        )
    return content


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


def _reference(node: Node, identifier: str) -> Given:
    body, body_reference = node.first("Body"), node.first("BodyReference")
    return reference(
        _href(node),
        _encoding(node),
        identifier,
        method=node.attributes.get("method", "GET"),
        headers=tuple(
            (header.attributes.get("key", ""), header.attributes.get("value", "")) for header in node.all("Header")
        ),
        body=None if body is None else _body(body, identifier),
        body_href=None if body_reference is None else _href(body_reference),
    )


def _href(node: Node) -> str | None:
    return node.attributes.get(f"{{{XLINK}}}href") or node.attributes.get("href")


def _body(node: Node, identifier: str) -> bytes:
    content = _content(node, identifier)
    return content.text.encode() if content.document is None else content.document


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
    form = _encoding(node)
    title, abstract = node.first("Title", OWS), node.first("Abstract", OWS)
    return OutputWish(
        WantedOutput(identifier, form.mime_type, form.encoding, form.schema, node.attributes.get("uom") or None),
        transmission(node.attributes.get("asReference"), identifier),
        title.text if title else None,
        abstract.text if abstract else None,
    )
