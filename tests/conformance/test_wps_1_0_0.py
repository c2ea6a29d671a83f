"""WPS 1.0.0 Interface Standard (OGC 05-007r7).

The standard numbers no requirements: each test names the clause or table of 05-007r7, or of OWS Common 1.1 (06-121r3),
that it shows. Every document that is received is validated against the schemas of the OGC. Where the examples have no
such process, a site in memory answers.
"""

import base64
import re
from collections.abc import Callable
from typing import TypeVar

import httpx
import pytest
from lxml import etree

from joblauncher.formats.values import LiteralValue
from tests.clusters.site import until
from tests.clusters.wps2_wire import Wire
from tests.conformance import modules, requirement, rows
from tests.protocols.conftest import (
    NS,
    OWS,
    SCHEMAS,
    WPS,
    CheckedClient,
    document_xml,
    execute_xml,
    input_xml,
    literal_xml,
    raw_xml,
    settings_with,
)
from tests.protocols.site import Site
from tests.schemas import validate
from tests.services.website import Website, page
from wps_hpc.app import create_app
from wps_hpc.errors import NotEnoughStorage
from wps_hpc.jobs.job import JobState
from wps_hpc.jobs.request import ExecuteRequest

Memory = tuple[CheckedClient, Site]
Test = TypeVar("Test", bound=Callable[..., None])

HREF = "{http://www.w3.org/1999/xlink}href"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
START = {"service": "WPS", "version": "1.0.0"}
STORED = 'storeExecuteResponse="true" status="true"'
TEXT = literal_xml("literalInput", "hello")
BOX = (
    '<wps:BoundingBoxData crs="urn:ogc:def:crs:EPSG::4326" dimensions="2"><ows:LowerCorner>46.5 102</ows:LowerCorner>'
    "<ows:UpperCorner>47 103.25</ows:UpperCorner></wps:BoundingBoxData>"
)


def wps(place: str, text: str) -> Callable[[Test], Test]:
    """A clause or table of 05-007r7."""
    return requirement(f"05-007r7 {place}", text)


def ows(place: str, text: str) -> Callable[[Test], Test]:
    """A clause or table of OWS Common 1.1."""
    return requirement(f"06-121r3 {place}", text)


def checked(answer: httpx.Response, status: int = 200) -> etree._Element:
    assert answer.status_code == status, answer.text
    root = etree.fromstring(answer.content)
    return validate(root, SCHEMAS[str(root.tag)])


def get(wire: Wire, status: int = 200, **pairs: str) -> etree._Element:
    return checked(wire.http.get("/wps", params={**START, **pairs}), status)


def execute(wire: Wire, *parts: str, status: int = 200) -> etree._Element:
    return checked(wire.http.post("/wps", content=execute_xml(*parts).encode()), status)


def exception(report: etree._Element) -> tuple[str | None, str | None]:
    (found,) = report.iterfind(".//ows:Exception", NS)
    return found.get("exceptionCode"), found.get("locator")


def output(response: etree._Element, identifier: str) -> etree._Element:
    for found in response.iterfind("wps:ProcessOutputs/wps:Output", NS):
        if found.findtext("ows:Identifier", None, NS) == identifier:
            return found
    raise AssertionError(f"no {identifier}")


def outcome(response: etree._Element) -> str:
    (found,) = response.iterfind("wps:Status/*", NS)
    return etree.QName(found).localname


def ended(wire: Wire, location: str) -> etree._Element:
    def final() -> bool:
        return outcome(checked(wire.http.get(location))) in ("ProcessSucceeded", "ProcessFailed")

    until(final, "the job ends")
    return checked(wire.http.get(location))


# -------------------------------------------------------------------------------------------------- GetCapabilities


@wps("table 6", "GetCapabilities has service, request and language; names in any case.")
@wps("§8.2.1", "GetCapabilities by HTTP GET with key-value pairs.")
@ows("§11.5.2", "Names of parameters are case-insensitive.")
@pytest.mark.parametrize("names", [("service", "request"), ("SERVICE", "REQUEST"), ("Service", "rEqUeSt")])
def test_get_capabilities_by_get(wire: Wire, names: tuple[str, str]) -> None:
    pairs = {names[0]: "WPS", names[1]: "GetCapabilities", "AcceptVersions": "1.0.0"}
    assert checked(wire.http.get("/wps", params=pairs)).tag == f"{WPS}Capabilities"


@wps("§8.2.2", "GetCapabilities by HTTP POST with XML.")
def test_get_capabilities_by_post(wire: Wire) -> None:
    document = f'<wps:GetCapabilities xmlns:wps="{NS["wps"]}" service="WPS"/>'
    validate(document.encode(), "wps/1.0.0/wpsGetCapabilities_request.xsd")
    assert checked(wire.http.post("/wps", content=document)).tag == f"{WPS}Capabilities"


@wps("table 7", "The document has service, provider, operations, processes and languages.")
@wps(
    "§8.3, OperationsMetadata",
    "GetCapabilities, DescribeProcess and Execute are listed, with addresses.",
)
@ows("§11.5.1", "An address for GET ends where key-value pairs can be appended.")
def test_sections_of_the_capabilities(wire: Wire) -> None:
    found = get(wire, request="GetCapabilities")
    assert [etree.QName(part).localname for part in found] == [
        "ServiceIdentification",
        "ServiceProvider",
        "OperationsMetadata",
        "ProcessOfferings",
        "Languages",
    ]
    operations = found.findall("ows:OperationsMetadata/ows:Operation", NS)
    assert [operation.get("name") for operation in operations] == ["GetCapabilities", "DescribeProcess", "Execute"]
    for operation in operations:
        addresses = [
            node.get("{http://www.w3.org/1999/xlink}href", "") for node in operation.iterfind(".//ows:HTTP/*", NS)
        ]
        assert addresses == [f"{wire.site.settings.server.base_url}/wps?", f"{wire.site.settings.server.base_url}/wps"]


@wps("table 9", "Each process has identifier, title and processVersion.")
@wps("table 1", "What is described has an identifier and a title.")
def test_brief_descriptions(wire: Wire) -> None:
    processes = get(wire, request="GetCapabilities").findall("wps:ProcessOfferings/wps:Process", NS)
    assert len(processes) > 3
    for process in processes:
        assert process.findtext("ows:Identifier", None, NS)
        assert process.findtext("ows:Title", None, NS)
        assert process.get(f"{WPS}processVersion")


@wps("table 12", "The default language and all languages are listed.")
@wps("table 6, language", "The document is in the language asked for, if that is there, else in the default one.")
def test_languages(memory: Memory) -> None:
    client, _ = memory
    for asked, given in (("fr-CA", "fr-CA"), ("tlh", "en-US")):
        answer = client.kvp(**START, request="GetCapabilities", language=asked)
        assert answer.root.get(LANG) == given
    assert answer.text("wps:Languages/wps:Default/ows:Language") == "en-US"
    assert [node.text for node in answer.all("wps:Languages/wps:Supported/ows:Language")] == ["en-US", "fr-CA"]


@ows("§7.3.2", "The first version accepted that is served is answered; none: VersionNegotiationFailed.")
def test_version_negotiation(wire: Wire) -> None:
    query = {"service": "WPS", "request": "GetCapabilities"}
    for accepted in ("1.0.0", "9.9.9,1.0.0", "1.0.0,2.0.0"):
        found = checked(wire.http.get("/wps", params={**query, "AcceptVersions": accepted}))
        assert found.get("version") == "1.0.0"
    refused = checked(wire.http.get("/wps", params={**query, "AcceptVersions": "9.9.9"}), 400)
    assert exception(refused) == ("VersionNegotiationFailed", None)


@ows("§7.3.4", "The current updateSequence is answered by nothing else, an older one by the document.")
@ows("table 25, InvalidUpdateSequence", "A newer updateSequence is refused.")
def test_update_sequence(memory: Memory) -> None:
    client, _ = memory
    pairs = {**START, "request": "GetCapabilities"}
    current = client.open("/wps", query_string={**pairs, "updateSequence": "7"}, valid=False)
    assert (len(current.root), current.root.get("updateSequence")) == (0, "7")
    assert len(client.kvp(**pairs, updateSequence="6").root) == 5
    assert client.kvp(**pairs, updateSequence="8").exception == (400, "InvalidUpdateSequence", None)


DESCRIBE = {**START, "request": "DescribeProcess"}
#: What is wrong with a request by GET, with exceptionCode and locator.
WRONG = [
    ({"version": "1.0.0", "request": "GetCapabilities"}, "MissingParameterValue", "service"),
    ({"version": "1.0.0", "service": "WFS", "request": "GetCapabilities"}, "InvalidParameterValue", "service"),
    ({"service": "WPS"}, "MissingParameterValue", "request"),
    ({"service": "WPS", "request": "DescribeProcess", "identifier": "echo"}, "MissingParameterValue", "version"),
    ({"service": "WPS", "request": "Execute", "identifier": "echo"}, "MissingParameterValue", "version"),
    (
        {"service": "WPS", "request": "DescribeProcess", "identifier": "echo", "version": "0.4.0"},
        "InvalidParameterValue",
        "version",
    ),
    (DESCRIBE, "MissingParameterValue", "Identifier"),
    ({**DESCRIBE, "identifier": "none"}, "InvalidParameterValue", "Identifier"),
    ({**START, "request": "Execute"}, "MissingParameterValue", "Identifier"),
    ({**START, "request": "Execute", "identifier": "none"}, "InvalidParameterValue", "Identifier"),
    (
        {**START, "request": "DescribeProcess", "identifier": "echo", "language": "tlh"},
        "InvalidParameterValue",
        "language",
    ),
]


@ows("table 25, MissingParameterValue", "A mandatory parameter is missing; the locator names it.")
@ows("table 25, InvalidParameterValue", "A parameter has a wrong value; the locator names it.")
@wps("§8.4, 9.4 and 10.4", "Errors are reported as OWS exception reports.")
@wps("table 13", "DescribeProcess has service, request, version and identifiers, and may have a language.")
@wps("table 39", "Execute has service, request, version and an identifier.")
@pytest.mark.parametrize(("pairs", "code", "locator"), WRONG)
def test_what_is_wrong_with_a_request(wire: Wire, pairs: dict[str, str], code: str, locator: str) -> None:
    assert exception(checked(wire.http.get("/wps", params=pairs), 400)) == (code, locator)


@ows("table 25, OperationNotSupported", "An unknown operation is not supported; the locator names it.")
def test_an_unknown_operation(wire: Wire) -> None:
    assert exception(get(wire, 501, request="GetMap")) == ("OperationNotSupported", "GetMap")


# -------------------------------------------------------------------------------------------------- DescribeProcess


@wps("§9.2.2", "DescribeProcess by HTTP GET with key-value pairs.")
@wps("§9.3", "There is a description for each process that was asked for.")
@wps("§9.2.1, all", "The identifier all describes all processes.")
def test_describe_process_by_get(wire: Wire) -> None:
    two = get(wire, request="DescribeProcess", identifier="echo,buffer")
    assert [node.findtext("ows:Identifier", None, NS) for node in two] == ["echo", "buffer"]
    offered = get(wire, request="GetCapabilities").findall("wps:ProcessOfferings/wps:Process", NS)
    assert len(get(wire, request="DescribeProcess", identifier="all")) == len(offered)


@wps("§9.2.3", "DescribeProcess by HTTP POST with XML.")
def test_describe_process_by_post(wire: Wire) -> None:
    document = (
        f'<wps:DescribeProcess xmlns:wps="{NS["wps"]}" xmlns:ows="{NS["ows"]}" service="WPS" version="1.0.0">'
        "<ows:Identifier>echo</ows:Identifier></wps:DescribeProcess>"
    )
    validate(document.encode(), "wps/1.0.0/wpsDescribeProcess_request.xsd")
    assert len(checked(wire.http.post("/wps", content=document))) == 1


@wps("§9.3.1, ProcessDescription", "A description says whether responses are stored and status is reported.")
@wps("§9.3.1, DataInputs", "Each input says how often it may be given.")
@wps("§9.3.1, forms of inputs", "An input is a literal, complex data or a bounding box.")
@wps("table 23", "Complex data have a default format and all supported ones.")
@wps("§9.3.1, literals", "Literals have a type, and any value, allowed values or a reference to values.")
@wps("§9.3.1, units", "Literals have a default unit and all supported ones.")
@wps("§9.3.1, bounding boxes", "Bounding boxes have a default CRS and all supported ones.")
@wps("§9.3.1, ProcessOutputs", "Outputs are literals, complex data or bounding boxes.")
def test_descriptions(memory: Memory) -> None:
    client, _ = memory
    process = client.kvp(**START, request="DescribeProcess", identifier="everything").find("ProcessDescription")
    assert (process.get("storeSupported"), process.get("statusSupported")) == ("true", "true")
    inputs = process.findall("DataInputs/Input")
    assert all(item.get("minOccurs") and item.get("maxOccurs") for item in inputs)
    kinds = [item[-1].tag for item in (*inputs, *process.iterfind("ProcessOutputs/Output"))]
    assert set(kinds) == {
        "LiteralData",
        "ComplexData",
        "BoundingBoxData",
        "LiteralOutput",
        "ComplexOutput",
        "BoundingBoxOutput",
    }
    for literal in process.iterfind(".//LiteralData"):
        values = [literal.find(f"{OWS}AnyValue"), literal.find(f"{OWS}AllowedValues"), literal.find("ValuesReference")]
        assert sum(found is not None for found in values) == 1
        assert literal.find(f"{OWS}DataType") is not None
    for kind in ("ComplexData", "ComplexOutput", "BoundingBoxData", "BoundingBoxOutput", "LiteralData/UOMs"):
        for data in process.iterfind(f".//{kind}"):
            default, supported = data.find("Default"), data.find("Supported")
            assert default is not None
            assert supported is not None
            assert etree.tostring(default[0]) in [etree.tostring(item) for item in supported]


@wps("table 13, language", "Descriptions are in the language asked for, which must be one on offer.")
def test_the_language_of_descriptions(memory: Memory) -> None:
    client, _ = memory
    answer = client.kvp(**START, request="DescribeProcess", identifier="echo", language="fr-CA")
    assert (answer.root.get(LANG), answer.text("ProcessDescription/ows:Title")) == ("fr-CA", "Écho")


# --------------------------------------------------------------------------------------------------------- Execute


@wps("§10.2.2.3", "Execute by HTTP POST with XML.")
@wps("§10.2.1, DataInputs", "Inputs have an identifier, and data or a reference.")
@wps("§10.2.1, Data", "Literals, complex data and bounding boxes by value.")
@wps("table 46", "Complex data have MIME type, encoding and schema.")
@wps("§10.2.1, LiteralData", "Literals have a type and a unit.")
@wps("§10.3.1, ProcessOutputs", "The outputs are in the response.")
@ows("§10.2", "Bounding boxes keep their CRS and the order of its axes.")
def test_execute_by_post(wire: Wire) -> None:
    complex_data = '<wps:ComplexData mimeType="application/xml"><a/></wps:ComplexData>'
    inputs = (
        TEXT,
        input_xml("complexInput", f"<wps:Data>{complex_data}</wps:Data>"),
        input_xml("boundingboxInput", f"<wps:Data>{BOX}</wps:Data>"),
    )
    document = execute_xml("echo", "".join(inputs))
    validate(document.encode(), "wps/1.0.0/wpsExecute_request.xsd")
    answer = checked(wire.http.post("/wps", content=document.encode()))
    assert output(answer, "literalOutput").findtext("wps:Data/wps:LiteralData", None, NS) == "hello"
    assert output(answer, "complexOutput").find("wps:Data/wps:ComplexData/a", NS) is not None
    box = output(answer, "boundingboxOutput").find("wps:Data/wps:BoundingBoxData", NS)
    assert box is not None
    assert (box.get("crs"), [corner.text for corner in box]) == (
        "urn:ogc:def:crs:EPSG::4326",
        ["46.5 102", "47 103.25"],
    )


@wps("§10.2.2.1", "Execute by HTTP GET with key-value pairs.")
def test_execute_by_get(wire: Wire) -> None:
    given = "literalInput=a%3Bb;boundingboxInput=46.5,102,47,103.25,urn:ogc:def:crs:EPSG::4326,2"
    form = "ResponseDocument=literalOutput;boundingboxOutput"
    query = f"service=WPS&version=1.0.0&request=Execute&identifier=echo&DataInputs={given}&{form}"
    answer = checked(wire.http.get(f"/wps?{query}"))
    assert output(answer, "literalOutput").findtext("wps:Data/wps:LiteralData", None, NS) == "a;b"


@wps("table 43", "Inputs by reference, by GET and by POST with headers and a body.")
@pytest.mark.parametrize(
    ("inner", "attributes"), [("", ""), ('<wps:Header key="X-A" value="b"/><wps:Body><q/></wps:Body>', 'method="POST"')]
)
def test_inputs_by_reference(wire: Wire, remote: Website, inner: str, attributes: str) -> None:
    remote.pages["/here"] = page(b"<got/>", "Content-Type: application/xml")
    reference = f'<wps:Reference xlink:href="{remote.url("/here")}" {attributes}>{inner}</wps:Reference>'
    answer = execute(wire, "echo", input_xml("complexInput", reference), document_xml("complexOutput"))
    assert output(answer, "complexOutput").find("wps:Data/wps:ComplexData/got", NS) is not None


@wps("table 43, BodyReference", "A body may be given by reference.")
def test_a_body_by_reference(wire: Wire, remote: Website) -> None:
    remote.pages.update({"/here": page(b"<got/>", "Content-Type: application/xml"), "/body": page(b"<kept/>")})
    body = f'<wps:BodyReference xlink:href="{remote.url("/body")}"/>'
    reference = f'<wps:Reference xlink:href="{remote.url("/here")}" method="POST">{body}</wps:Reference>'
    execute(wire, "echo", input_xml("complexInput", reference), document_xml("complexOutput"))
    assert [one.body for one in remote.asked if one.method == "POST"] == [b"<kept/>"]


@wps("§10.2.1, occurrences", "An input that is missing, given too often or unknown is refused.")
@wps("§10.2.1, allowed values", "Values that the description does not allow are refused.")
@pytest.mark.parametrize(
    ("inputs", "code", "locator"),
    [
        (TEXT + TEXT, "InvalidParameterValue", "literalInput"),
        (literal_xml("none", "1"), "InvalidParameterValue", "none"),
        (literal_xml("pause", "much"), "InvalidParameterValue", "pause"),
        (literal_xml("pause", "1", ' uom="fortnight"'), "InvalidParameterValue", "pause"),
    ],
)
def test_wrong_inputs(wire: Wire, inputs: str, code: str, locator: str) -> None:
    assert exception(execute(wire, "echo", inputs, status=400)) == (code, locator)


@wps("§10.2.1, mandatory inputs", "A mandatory input that is missing is refused.")
def test_a_missing_input(wire: Wire) -> None:
    assert exception(execute(wire, "buffer", status=400)) == ("MissingParameterValue", "features")


@wps("table 49", "A response form has a document or raw data, not both.")
@wps("§10.3.1", "Raw data are the bare output.")
def test_raw_data(wire: Wire) -> None:
    raw = wire.http.post("/wps", content=execute_xml("echo", TEXT, raw_xml("literalOutput")).encode())
    assert (raw.text, raw.headers["content-type"]) == ("hello", "text/plain; charset=utf-8")
    both = execute(wire, "echo", TEXT, raw_xml("literalOutput") + document_xml("literalOutput"), status=400)
    assert exception(both)[0] == "InvalidParameterValue"


@wps("table 51", "Outputs have the format that was asked for; one that the process has not is refused.")
@wps("table 50, Output", "Only the outputs that were asked for are in the document.")
def test_output_definitions(wire: Wire) -> None:
    answer = execute(wire, "echo", TEXT + literal_xml("pause", "0"), document_xml("literalInput"))
    outputs = answer.findall("wps:ProcessOutputs/wps:Output", NS)
    assert [found.findtext("ows:Identifier", None, NS) for found in outputs] == ["literalInput"]
    wrong = document_xml('complexOutput mimeType="image/gif"')
    assert exception(execute(wire, "echo", TEXT, wrong, status=400)) == ("InvalidParameterValue", "complexOutput")


@wps("table 51, asReference", "A complex output may come as a reference.")
@wps("§10.3.1, Reference", "A reference says where the output is, and its format.")
def test_outputs_by_reference(wire: Wire) -> None:
    given = base64.b64encode(b"\x00\xff").decode()
    data = f'<wps:ComplexData mimeType="image/png" encoding="base64">{given}</wps:ComplexData>'
    form = document_xml('complexOutput mimeType="image/png" asReference="true"')
    answer = execute(wire, "echo", input_xml("complexInput", f"<wps:Data>{data}</wps:Data>"), form)
    reference = output(answer, "complexOutput").find("wps:Reference", NS)
    assert reference is not None
    assert reference.get("mimeType") == "image/png"
    assert wire.http.get(reference.get("href", "")).content == b"\x00\xff"


@wps("table 50, lineage", "With lineage, inputs and output definitions are in the response, as received.")
def test_lineage(wire: Wire) -> None:
    answer = execute(wire, "echo", TEXT, document_xml("literalOutput", attributes='lineage="true"'))
    assert answer.findtext("wps:DataInputs/wps:Input/wps:Data/wps:LiteralData", None, NS) == "hello"
    assert answer.find("wps:OutputDefinitions/wps:Output", NS) is not None
    assert execute(wire, "echo", TEXT, document_xml("literalOutput")).find("wps:DataInputs", NS) is None


@wps("table 50, storeExecuteResponse", "A stored response is at its statusLocation.")
@wps("table 54", "The response has service, version, language, serviceInstance, process and status.")
@wps("table 55", "The status has a creationTime, and one of its states.")
def test_stored_responses(wire: Wire) -> None:
    answer = execute(wire, "echo", TEXT, document_xml("literalOutput", attributes=STORED))
    location = answer.get("statusLocation", "")
    stored = ended(wire, location)
    assert output(stored, "literalOutput").findtext("wps:Data/wps:LiteralData", None, NS) == "hello"
    assert (stored.get("service"), stored.get("version")) == ("WPS", "1.0.0")
    assert stored.get(LANG)
    assert "GetCapabilities" in stored.get("serviceInstance", "")
    assert stored.findtext("wps:Process/ows:Identifier", None, NS) == "echo"
    status = stored.find("wps:Status", NS)
    assert status is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status.get("creationTime", ""))


@wps("table 50, status", "With status, the stored response shows how far the job is; without, only its end.")
@wps("table 57", "A job that runs or pauses says so, in words and percent.")
@pytest.mark.parametrize("status", ["true", "false"])
def test_status(memory: Memory, status: str) -> None:
    client, site = memory
    form = document_xml("text", attributes=f'storeExecuteResponse="true" status="{status}"')
    client.post(execute_xml("slow", "", form))
    job = site.latest.id
    for state, word in ((JobState.RUNNING, "ProcessStarted"), (JobState.SUSPENDED, "ProcessPaused")):
        site.change(job, state=state, percent=40, message="Reading")
        answer = client.open(f"/wps/status/{job}.xml")
        if status == "false":
            assert answer.outcome == "ProcessAccepted"
            continue
        assert answer.outcome == word
        found = answer.find("wps:Status/*")
        assert (found.get("percentCompleted"), found.text) == ("40", "Reading")


@wps("table 50, store and status", "status without store is refused, as is what the process does not support.")
@wps("§10.4, StorageNotSupported", "A response that the process cannot store is refused.")
def test_status_needs_a_stored_response(memory: Memory) -> None:
    client, _ = memory
    alone = client.post(execute_xml("echo", "", document_xml("text", attributes='status="true"')))
    assert alone.exception == (400, "InvalidParameterValue", "status")
    stored = client.post(execute_xml("sync.only", "", document_xml("text", attributes=STORED)))
    assert stored.exception[:2] == (400, "StorageNotSupported")


@wps("§10.3.1, ProcessFailed", "A job that fails says so with an exception report.")
def test_failure(wire: Wire) -> None:
    answer = execute(wire, "misbehave", literal_xml("how", "error"), document_xml("nothing", attributes=STORED))
    failed = ended(wire, answer.get("statusLocation", ""))
    assert outcome(failed) == "ProcessFailed"
    assert exception(failed) == ("InvalidParameterValue", "how")
    assert failed.find("wps:ProcessOutputs", NS) is None


@wps("§10.4, ServerBusy", "A server that has no place says so.")
def test_a_busy_server(memory: Memory) -> None:
    client, _ = memory
    assert client.post(execute_xml("busy")).exception == (503, "ServerBusy", None)


@wps("§10.4, FileSizeExceeded", "An input that is too large is refused.")
def test_large_requests(memory: Memory) -> None:
    _, site = memory
    client = CheckedClient(create_app(settings_with(limits={"request_bytes": 100}), site.backend))
    assert client.post(execute_xml("echo", literal_xml("text", "x" * 100))).exception[:2] == (413, "FileSizeExceeded")


@wps("§10.4, NotEnoughStorage", "A server whose disk is full says so.")
def test_a_full_disk(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = wire.site.settings.storage.model_copy(update={"min_free_bytes": 2**62})
    monkeypatch.setattr(wire.site.intake, "_settings", wire.site.settings.model_copy(update={"storage": storage}))
    wanted = {"folder": (LiteralValue("/"),), "name": (LiteralValue("m"),)}
    with pytest.raises(NotEnoughStorage):
        wire.site.intake.execute(ExecuteRequest("mark", "wps1", wanted))


#: Parts of the standard that are optional, and are not here.
NOT_SHOWN = {
    "05-007r7 §10.2.2.4": "SOAP and WSDL are optional (§7.4, annex E), and not offered",
}


def test_no_requirement_stands_here_twice() -> None:
    (module,) = [module for module in modules() if module.__name__ == __name__]
    named = [row.requirement.identifier for row in rows(module)]
    assert len(named) == len(set(named)) > 50
