"""Parts of XML requests that both versions of WPS write alike, each in its namespace: content, and references."""

from __future__ import annotations

from wps_hpc.errors import WrongInputData
from wps_hpc.jobs.request import Reference
from wps_hpc.protocols.wps_values import Encoding, reference
from wps_hpc.protocols.xml import XLINK
from wps_hpc.protocols.xml_request import Content, Node


def encoding_of(node: Node) -> Encoding:
    """The attributes of complex data (05-007r7 table 46, 14-065r2 table 20); empty ones say nothing."""
    attributes = node.attributes
    return Encoding(
        attributes.get("mimeType") or None, attributes.get("encoding") or None, attributes.get("schema") or None
    )


def content_of(node: Node, identifier: str) -> Content:
    """What stands in an opaque element; raises WrongInputData when it is neither one element nor text."""
    content = node.content
    assert content is not None, "the reader fills every opaque element"
    if content.problem:
        raise WrongInputData(
            f"The {node.name} of {identifier} {content.problem}; "
            "send one XML element, or text (in CDATA if it has markup).",
            identifier,
        )
    return content


def reference_of(node: Node, identifier: str, form: Encoding, method: str) -> Reference:
    """An input to fetch, with its headers and body (05-007r7 table 43, 14-065r2 tables 20 to 22)."""
    wps = node.namespace
    body, body_reference = node.first("Body", wps), node.first("BodyReference", wps)
    return reference(
        _href(node),
        form,
        identifier,
        method=method,
        headers=tuple(
            (header.attributes.get("key", ""), header.attributes.get("value", "")) for header in node.all("Header", wps)
        ),
        body=None if body is None else _body(body, identifier),
        body_href=None if body_reference is None else _href(body_reference),
    )


def has_body(node: Node) -> bool:
    """Whether a reference has a body, given or referred to."""
    return any(node.first(name, node.namespace) is not None for name in ("Body", "BodyReference"))


def _href(node: Node) -> str | None:
    return node.attributes.get(f"{{{XLINK}}}href") or node.attributes.get("href")


def _body(node: Node, identifier: str) -> bytes:
    content = content_of(node, identifier)
    return content.text.encode() if content.document is None else content.document
