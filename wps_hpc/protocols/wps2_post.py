"""WPS 2.0 by HTTP POST: XML requests (OGC 14-065r2 §10.1, 12.2.1, schema wpsExecute.xsd).

Read by the schema's names, but tolerant as WPS 1.0.0 is here: order of elements, unknown ones beside those that are
known, and the ``Header`` of 1.0.0 within a ``Reference``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from joblauncher.formats.records import WantedOutput
from wps_hpc.errors import MissingParameterValue, NoSuchInput, OperationNotSupported, WrongInputData
from wps_hpc.jobs.request import Given, NestedGiven, OutputWish
from wps_hpc.processes.description import (
    BoundingBoxData,
    ComplexData,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
    Output,
)
from wps_hpc.protocols.ows import check_service, check_version
from wps_hpc.protocols.wps2_kvp import JOB_REQUESTS, OPERATIONS
from wps_hpc.protocols.wps2_request import (
    VERSION,
    Execute,
    Operation,
    is_raw,
    mode_of,
    refuse_unknown_inputs,
    refuse_unknown_outputs,
    transmission_of,
)
from wps_hpc.protocols.wps2_values import box_value, literal_value
from wps_hpc.protocols.wps_nodes import content_of, encoding_of, has_body, reference_of
from wps_hpc.protocols.wps_request import (
    Describe,
    DescribeProcess,
    GetCapabilities,
    JobRequest,
    capabilities_of_node,
    gather,
    identifiers_of_node,
)
from wps_hpc.protocols.wps_values import Encoding, inline_document, inline_text
from wps_hpc.protocols.xml import LANG, OWS2, WPS2
from wps_hpc.protocols.xml_request import Document, Node

#: Elements whose content belongs to the process, not to the protocol.
OPAQUE = frozenset({(WPS2, "Data"), (WPS2, "Body")})


def read_post(document: Document, describe: Describe) -> Operation:
    """The operation that an XML request asks for; raises the ServiceErrors of OWS Common."""
    root = document.root
    reader = _READERS.get(root.name)
    if reader is None:
        raise OperationNotSupported(
            f"The operation {root.name[:80]!r} is unknown; WPS 2.0 has {', '.join(OPERATIONS)}.", root.name[:80]
        )
    check_service(root.attributes.get("service"))
    return reader(root, describe)


def _get_capabilities(root: Node, _: Describe) -> GetCapabilities:
    return capabilities_of_node(root)


def _describe_process(root: Node, _: Describe) -> DescribeProcess:
    check_version(root.attributes.get("version"), VERSION)
    return DescribeProcess(identifiers_of_node(root, OWS2), root.attributes.get(LANG))


def _job_request(root: Node, _: Describe) -> JobRequest:
    check_version(root.attributes.get("version"), VERSION)
    node = root.first("JobID", WPS2)
    if node is None or not node.text:
        raise MissingParameterValue("The request has no wps:JobID.", "JobID")
    return JobRequest(JOB_REQUESTS[root.name.lower()], node.text)


def _execute(root: Node, describe: Describe) -> Execute:
    check_version(root.attributes.get("version"), VERSION)
    (identifier, *_) = identifiers_of_node(root, OWS2)
    process = describe(identifier)
    return Execute(
        process,
        _inputs(root, process.inputs),
        tuple(_wishes(root, process.outputs)),
        mode_of(root.attributes.get("mode")),
        is_raw(root.attributes.get("response")),
    )


_READERS: Mapping[str, Callable[[Node, Describe], Operation]] = {
    "GetCapabilities": _get_capabilities,
    "DescribeProcess": _describe_process,
    "Execute": _execute,
    **dict.fromkeys(JOB_REQUESTS.values(), _job_request),
}


def _identifier(node: Node) -> str:
    identifier = node.attributes.get("id", "").strip()
    if not identifier:
        raise MissingParameterValue(f"An {node.name} has no id.", "id")
    return identifier


# ----------------------------------------------------------------------------------------------------------- inputs


def _inputs(parent: Node, described: Sequence[Input]) -> Mapping[str, tuple[Given, ...]]:
    """The inputs of a process, or of a nested input."""
    nodes = [(_identifier(node), node) for node in parent.all("Input", WPS2)]
    refuse_unknown_inputs((identifier for identifier, _ in nodes), described)
    known = {item.identifier: item for item in described}
    return gather([(identifier, _given(node, known[identifier])) for identifier, node in nodes])


def _given(node: Node, described: Input) -> Given:
    if (found := node.first("Reference", WPS2)) is not None:
        return _reference(found, described.identifier)
    if (data := node.first("Data", WPS2)) is not None:
        return _DATA[type(described.data)](data, described)
    if node.first("Input", WPS2) is not None:
        return _nested(node, described)
    if isinstance(described.data, NestedInputs):
        return NestedGiven({})
    raise MissingParameterValue(
        f"The input {described.identifier} has neither Data nor a Reference.", described.identifier
    )


def _nested(node: Node, described: Input) -> Given:
    if not isinstance(described.data, NestedInputs):
        inner = ",".join(_identifier(child)[:80] for child in node.all("Input", WPS2))[:400]
        raise NoSuchInput(f"The input {described.identifier} has no inputs of its own.", inner)
    return NestedGiven(_inputs(node, described.data.inputs))


def _encoding(node: Node) -> Encoding:
    """The attributes of 14-065r2 table 20; ``raw`` is what WPS 1.0.0 says by leaving the encoding out."""
    form = encoding_of(node)
    return replace(form, encoding=None) if (form.encoding or "").lower() == "raw" else form


def _literal(node: Node, described: Input) -> Given:
    assert isinstance(described.data, LiteralData)
    content = content_of(node, described.identifier)
    return literal_value(content, _encoding(node), described.identifier, described.data)


def _box(node: Node, described: Input) -> Given:
    return box_value(content_of(node, described.identifier), _encoding(node), described.identifier)


def _complex(node: Node, described: Input) -> Given:
    content, form = content_of(node, described.identifier), _encoding(node)
    if content.document is not None:
        return inline_document(content.document, form, described.identifier)
    return inline_text(content.text, form, described.identifier)


def _not_nested(node: Node, described: Input) -> Given:
    raise WrongInputData(f"The input {described.identifier} takes inputs of its own, not data.", described.identifier)


_DATA: Mapping[type, Callable[[Node, Input], Given]] = {
    LiteralData: _literal,
    BoundingBoxData: _box,
    ComplexData: _complex,
    NestedInputs: _not_nested,
}


def _reference(node: Node, identifier: str) -> Given:
    return reference_of(node, identifier, _encoding(node), "POST" if has_body(node) else "GET")


# ---------------------------------------------------------------------------------------------------------- outputs


def _wishes(root: Node, described: Sequence[Output]) -> Iterator[OutputWish]:
    """The outputs as they are wanted. Of a nested one the schema lets a client name one part at a time, so it may come
    several times; it is given whole, in the way that is asked for first."""
    nodes = list(root.all("Output", WPS2))
    refuse_unknown_outputs(map(_identifier, nodes), described)
    known = {item.identifier: item for item in described}
    seen = set()
    for node in nodes:
        identifier = _identifier(node)
        nested = _check_parts(node, known[identifier])
        if not (nested and identifier in seen):
            yield _wish(node, identifier)
        seen.add(identifier)


def _check_parts(node: Node, described: Output) -> bool:
    """Whether the output is a nested one, all of whose parts that are named exist; raises NoSuchOutput."""
    parts = described.data.outputs if isinstance(described.data, NestedOutputs) else ()
    nodes = list(node.all("Output", WPS2))
    refuse_unknown_outputs(map(_identifier, nodes), parts)
    for inner in nodes:
        _check_parts(inner, next(part for part in parts if part.identifier == _identifier(inner)))
    return bool(parts)


def _wish(node: Node, identifier: str) -> OutputWish:
    form = _encoding(node)
    wanted = WantedOutput(identifier, form.mime_type, form.encoding, form.schema)
    return OutputWish(wanted, transmission_of(_transmission(node)))


def _transmission(node: Node) -> str | None:
    """That of the output, or of the part of it that is named."""
    own = node.attributes.get("transmission")
    inner = node.first("Output", WPS2)
    return own if own is not None or inner is None else _transmission(inner)
