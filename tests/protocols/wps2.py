"""Requests of WPS 2.0 for tests, each made as the schema has it."""

from tests.protocols.conftest import CheckedClient, Received

HEAD = (
    'xmlns:wps="http://www.opengis.net/wps/2.0" xmlns:ows="http://www.opengis.net/ows/2.0" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def request_xml(name: str, inner: str = "", attributes: str = 'service="WPS" version="2.0.0"') -> str:
    """Any request."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<wps:{name} {HEAD} {attributes}>{inner}</wps:{name}>'


def execute_xml(process: str, *parts: str, mode: str = "sync", response: str = "document") -> str:
    """An Execute around its inputs and outputs; a mode or response of "" is left out."""
    said = {"mode": mode, "response": response}
    attributes = "".join(f' {name}="{value}"' for name, value in said.items() if value)
    inner = f"<ows:Identifier>{process}</ows:Identifier>{''.join(parts)}"
    return request_xml("Execute", inner, f'service="WPS" version="2.0.0"{attributes}')


def data_xml(identifier: str, content: str, attributes: str = "") -> str:
    """An Input by value."""
    return f'<wps:Input id="{identifier}"><wps:Data {attributes}>{content}</wps:Data></wps:Input>'


def literal_xml(identifier: str, text: str, attributes: str = "") -> str:
    """A literal Input, its text as it stands in XML."""
    return data_xml(identifier, f"<wps:LiteralValue {attributes}>{text}</wps:LiteralValue>", 'mimeType="text/xml"')


def box_xml(identifier: str, lower: str, upper: str, attributes: str = "") -> str:
    """A bounding box Input."""
    corners = f"<ows:LowerCorner>{lower}</ows:LowerCorner><ows:UpperCorner>{upper}</ows:UpperCorner>"
    return data_xml(identifier, f"<ows:BoundingBox {attributes}>{corners}</ows:BoundingBox>", 'mimeType="text/xml"')


def reference_xml(identifier: str, href: str, inner: str = "", attributes: str = "") -> str:
    """An Input by reference."""
    reference = f'<wps:Reference xlink:href="{href}" {attributes}>{inner}</wps:Reference>'
    return f'<wps:Input id="{identifier}">{reference}</wps:Input>'


def nested_xml(identifier: str, *parts: str) -> str:
    """An Input of inputs."""
    return f'<wps:Input id="{identifier}">{"".join(parts)}</wps:Input>'


def output_xml(identifier: str, attributes: str = "", inner: str = "") -> str:
    """An Output definition."""
    return f'<wps:Output id="{identifier}" {attributes}>{inner}</wps:Output>'


def job_xml(operation: str, job_id: str) -> str:
    """GetStatus, GetResult, Dismiss, Pause or Resume."""
    return request_xml(operation, f"<wps:JobID>{job_id}</wps:JobID>")


def job_kvp(client: CheckedClient, operation: str, job_id: str) -> Received:
    """The same by key-value pairs."""
    return client.kvp(service="WPS", version="2.0.0", request=operation, jobid=job_id)


def submit(client: CheckedClient, process: str = "slow", *parts: str, response: str = "document") -> str:
    """The id of a new asynchronous job."""
    answer = client.post(execute_xml(process, *parts, mode="async", response=response))
    return answer.text("wps:JobID")
