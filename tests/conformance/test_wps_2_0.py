"""WPS 2.0.2 Interface Standard (OGC 14-065r2).

Each test shows requirements (``req/…``) and abstract tests of annex A (``conf/…``), named relative to
http://www.opengis.net/spec/WPS/2.0. Every document that is received is validated against the schemas of the OGC.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from lxml import etree

from tests.clusters.wps2_wire import ECHO, Document, Wire, begun, impatient
from tests.conformance import modules, requirement, rows
from tests.conformance.conftest import in_memory
from tests.protocols.conftest import NS2
from tests.protocols.wps2 import (
    box_xml,
    data_xml,
    execute_xml,
    job_xml,
    literal_xml,
    output_xml,
    reference_xml,
    request_xml,
)
from tests.schemas import validate
from tests.services.website import Website, page

Test = TypeVar("Test", bound=Callable[..., None])

BASE = "http://www.opengis.net/spec/WPS/2.0/"
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HELLO = literal_xml("literalInput", "hello")
LITERAL = output_xml("literalOutput")
XLINK = "{http://www.w3.org/1999/xlink}"
KEYS = ("service", "SERVICE", "sErViCe"), ("version", "VERSION", "Version"), ("request", "REQUEST", "rEQUEST")


def shows(path: str, text: str) -> Callable[[Test], Test]:
    """A requirement of this standard by its relative identifier."""
    return requirement(BASE + path, text)


def get(wire: Wire, http_status: int = 200, **pairs: str) -> Document:
    return wire.document(wire.http.get("/wps", params={"service": "WPS", **pairs}), http_status)


def capabilities(wire: Wire) -> Document:
    return get(wire, request="GetCapabilities")


def describe(wire: Wire, identifier: str = "ALL", http_status: int = 200, **pairs: str) -> Document:
    pairs = {"version": "2.0.0", "request": "DescribeProcess", "identifier": identifier, **pairs}
    return get(wire, http_status, **pairs)


def summaries(wire: Wire) -> list[etree._Element]:
    return capabilities(wire).root.findall("wps:Contents/wps:ProcessSummary", NS2)


def offering(wire: Wire, identifier: str) -> etree._Element:
    (found,) = describe(wire, identifier).root.findall("wps:ProcessOffering", NS2)
    return found


def identifiers(elements: list[etree._Element]) -> list[str]:
    return [element.findtext("ows:Identifier", "", NS2) for element in elements]


def submit(wire: Wire, *parts: str, process: str = ECHO, response: str = "document") -> Document:
    return wire.post(execute_xml(process, *parts, mode="async", response=response))


@pytest.fixture
def running(wire: Wire, tmp_path: Path) -> Iterator[str]:
    """A job that runs until the test has ended."""
    yield begun(wire, tmp_path)
    (tmp_path / "go").touch()


# ------------------------------------------------------------------------------------------------- conceptual model


@shows("req/conceptual-model/discovery/endpoint", "There is an initial end point.")
@shows("req/conceptual-model/discovery/capabilities", "There is a systematic mechanism to discover all capabilities.")
@shows("req/conceptual-model/discovery/mechanism", "The mechanism is predictable from the initial end point.")
def test_discovery(wire: Wire) -> None:
    found = capabilities(wire).root
    addresses = {node.get(f"{XLINK}href", "").rstrip("?") for node in found.iterfind(".//ows:HTTP/*", NS2)}
    assert addresses == {f"{wire.site.settings.server.base_url}/wps"}


@shows("req/conceptual-model/capabilities/process-offering", "The service says which processes there are.")
@shows("req/conceptual-model/capabilities/job-control", "The service offers job control and monitoring.")
@shows("req/conceptual-model/capabilities/job-control-per-process-offering", "It says which job control each has.")
@shows("req/conceptual-model/process-execution/mode", "There are synchronous or asynchronous executions, or both.")
@shows("req/conceptual-model/process-execution/mode-per-process-offering", "Each process says its execution modes.")
def test_what_is_offered(wire: Wire) -> None:
    assert {ECHO, "buffer", "sleep"} <= set(identifiers(summaries(wire)))
    for element in (*summaries(wire), *describe(wire).root):
        options = element.get("jobControlOptions", "").split()
        assert {"sync-execute", "async-execute"} & set(options)
        assert "dismiss" in options or "async-execute" not in options


@shows("req/conceptual-model/capabilities/process-model-identification", "Each process names its process model.")
def test_the_process_model_is_the_native_one(wire: Wire) -> None:
    for element in describe(wire).root:
        assert element.get("processModel", "native") == "native"  # the default that the schema gives
        assert element.find("wps:Process", NS2) is not None


@shows("req/conceptual-model/process/identifier", "A process has a unique identifier.")
@shows("req/conceptual-model/process/identifier-string", "It is a character string.")
@shows("conf/common-wps/identifier", "Every process that the server offers has a unique identifier.")
def test_identifiers_of_processes_are_unique(wire: Wire) -> None:
    found = identifiers(summaries(wire))
    assert len(found) == len(set(found))
    assert all(found)


@shows("req/conceptual-model/process/input", "A process has any number of inputs.")
@shows("req/conceptual-model/process/input-identifier", "Each has an identifier that no other input has.")
@shows("req/conceptual-model/process/input-identifier-string", "It is a character string.")
@shows("req/conceptual-model/process/input-value-cardinality", "Each says how often it may be given.")
@shows("req/conceptual-model/process/output", "A process has one or more outputs.")
@shows("req/conceptual-model/process/output-identifier", "Each has an identifier that no other output has.")
@shows("req/conceptual-model/process/output-identifier-string", "It is a character string.")
@shows("req/conceptual-model/process/io-format", "Each of them says its data format.")
@shows("req/conceptual-model/process/io-format-properties", "A format is MIME type, encoding and schema.")
def test_inputs_and_outputs(wire: Wire) -> None:
    for process in describe(wire).root.iterfind("wps:ProcessOffering/wps:Process", NS2):
        inputs, outputs = process.findall("wps:Input", NS2), process.findall("wps:Output", NS2)
        for group in (inputs, outputs):
            assert len(set(identifiers(group))) == len(group)
        assert outputs
        assert all(item.get("minOccurs") and item.get("maxOccurs") for item in inputs)
        for item in (*inputs, *outputs):
            forms = item.findall("*/wps:Format", NS2)
            assert forms
            known = {"mimeType", "encoding", "schema", "maximumMegabytes", "default"}
            assert all(set(map(str, form.attrib)) <= known for form in forms)


@shows("req/conceptual-model/process/nested-input", "Inputs may be nested.")
@shows("req/conceptual-model/process/nested-input-identifier", "An identifier is unique within its node.")
@shows("req/conceptual-model/process/nested-output", "Outputs may be nested.")
@shows("req/conceptual-model/process/nested-output-identifier", "An identifier is unique within its node.")
def test_nested_inputs_and_outputs() -> None:
    """No example has any: shown with a process in memory."""
    from tests.protocols.test_wps2_describe import test_nested_inputs_and_outputs as described
    from tests.protocols.test_wps2_execute import test_nested_inputs_and_outputs_at_any_depth as executed

    with in_memory() as (client, site):
        described(client)
        executed(client, site)


@shows("req/conceptual-model/job/identifier", "Each job has a unique identifier.")
@shows("conf/common-wps/job/identifier", "Several asynchronous Executes give different JobIDs.")
def test_identifiers_of_jobs_are_unique(wire: Wire) -> None:
    assert len({submit(wire, HELLO).job for _ in range(3)}) == 3


@shows("req/conceptual-model/job/identifier-unavailable-exception", "An invalid job identifier is an exception.")
@shows("req/service/model/get-status/exception/common", "An error of GetStatus is an OWS exception report.")
@shows("req/service/model/get-status/exception/job-id", "GetStatus with an invalid JobID is NoSuchJob.")
@shows("req/service/model/get-result/exception/common", "An error of GetResult is an OWS exception report.")
@shows("req/service/model/get-result/exception/job-id", "GetResult with an invalid JobID is NoSuchJob.")
@shows("req/service/model/dismiss/exception/common", "An error of Dismiss is an OWS exception report.")
@shows("req/service/model/dismiss/exception/job-id", "Dismiss with an invalid JobID is NoSuchJob.")
@pytest.mark.parametrize("operation", ["GetStatus", "GetResult", "Dismiss"])
def test_no_such_job(wire: Wire, operation: str) -> None:
    assert wire.ask(operation, "none", 400).exception == ("NoSuchJob", "none")
    assert wire.post(job_xml(operation, "none"), 400).exception == ("NoSuchJob", "none")


@shows("req/conceptual-model/job-control/execution", "A client can execute a process, which makes a job.")
@shows("req/conceptual-model/process-execution/select-process", "The client says which process is executed.")
@shows("req/conceptual-model/process-execution/input-data", "The client gives the input data.")
@shows("req/conceptual-model/process-execution/result", "A successful execution delivers a result.")
@shows("req/conceptual-model/process-execution/result-expiry", "The result may have an expiration date.")
def test_execution(wire: Wire) -> None:
    answer = wire.post(execute_xml(ECHO, HELLO))
    assert answer.output("literalOutput")[0].text == "hello"
    assert UTC.fullmatch(answer.text("wps:ExpirationDate"))


@shows("req/conceptual-model/process-execution/process-unavailable-exception", "An unavailable process: exception.")
@shows("req/service/model/execute/exception/common", "An error of Execute is an OWS exception report.")
def test_a_process_that_is_not_there(wire: Wire) -> None:
    assert wire.post(execute_xml("none"), 400).exception == ("NoSuchProcess", "none")


@shows("req/conceptual-model/process-execution/failed-exception", "A failed execution delivers an exception.")
def test_a_failed_execution(wire: Wire) -> None:
    answer = wire.post(execute_xml("misbehave", literal_xml("how", "exception")), 500)
    assert answer.exception == ("InternalServerError", None)


#: What is wrong with an Execute of the echo, and its exceptionCode and locator by table 43.
WRONG = [
    (data_xml("complexInput", "?", 'mimeType="image/png" encoding="base64"'), "WrongInputData", "complexInput"),
    (box_xml("boundingboxInput", "1 2", "3"), "WrongInputData", "boundingboxInput"),
    (literal_xml("none", "1") + literal_xml("nothing", "1"), "NoSuchInput", "none,nothing"),
    (output_xml("none") + output_xml("nothing"), "NoSuchOutput", "none,nothing"),
    (HELLO + HELLO, "TooManyInputs", "literalInput"),
    (data_xml("complexInput", "x", 'mimeType="image/gif"'), "NoSuchFormat", "complexInput"),
    (output_xml("complexOutput", 'mimeType="image/gif"'), "NoSuchFormat", "complexOutput"),
    (reference_xml("complexInput", "ftp://example.org/"), "DataNotAccessible", "complexInput"),
    (
        data_xml("complexInput", "x" * 50_000_001, 'mimeType="text/plain"'),
        "SizeExceeded",
        "complexInput",
    ),
]


@shows("req/conceptual-model/process-execution/input-data-exception", "Invalid input data are an exception.")
@shows("req/conceptual-model/process-execution/output-data-format-exception", "So is an unsupported format.")
@shows("req/service/model/execute/exception/specific", "Errors of Execute have the codes of table 43.")
@pytest.mark.parametrize(("part", "code", "locator"), WRONG, ids=[f"{code}-{where}" for _, code, where in WRONG])
def test_exception_codes_of_execute(wire: Wire, part: str, code: str, locator: str) -> None:
    assert wire.post(execute_xml(ECHO, part), 400).exception == (code, locator)


@shows("req/conceptual-model/process-execution/mode-unavailable-exception", "An unsupported mode is an exception.")
def test_a_mode_that_is_not_there(wire: Wire) -> None:
    assert wire.post(execute_xml(ECHO, HELLO, mode="never"), 400).exception == ("NoSuchMode", "never")


@shows("req/service/model/execute/request/raw-for-single-output", "Raw data is for a single output value.")
def test_raw_data_is_one_output(wire: Wire) -> None:
    assert wire.post(execute_xml(ECHO, HELLO, response="raw"), 400).exception[0] == "TooManyOutputs"


@shows("req/conceptual-model/process-execution/output-data-format", "The client may choose the format of a result.")
@shows("req/service/model/execute/response/raw-data", "Raw data comes in the format that was asked for.")
def test_formats_of_results(wire: Wire) -> None:
    wish = output_xml("literalOutput", 'mimeType="text/plain"')
    raw = wire.http.post("/wps", content=execute_xml(ECHO, HELLO, wish, response="raw").encode())
    assert (raw.text, raw.headers["content-type"].partition(";")[0]) == ("hello", "text/plain")
    assert wire.post(execute_xml(ECHO, HELLO, LITERAL, response="raw")).kind == "LiteralValue"


@shows("req/conceptual-model/process-execution/mode-select", "The client chooses among several modes.")
@shows("req/service/model/execute/response/type", "The response is the one that table 40 has for the request.")
@shows("req/service/model/execute/response/document", "A response document is a Result.")
@shows("req/service/model/execute/response/status-info", "An asynchronous Execute is answered by a StatusInfo.")
@shows("conf/service/binding/post-xml/execute-sync/request-response", "Synchronous Execute, document and raw.")
@shows("conf/service/binding/post-xml/execute-async/request-response", "Asynchronous Execute.")
@shows("req/service/binding/post-xml/execute/request", "An Execute by POST is a wps:Execute.")
@shows("req/service/binding/post-xml/execute/response", "It is answered by a Result, a StatusInfo or raw data.")
@shows("req/service/model/execute/request/structure", "An Execute has the structure of tables 36 to 38.")
@pytest.mark.parametrize(
    ("mode", "response", "kind"),
    [
        ("sync", "document", "Result"),
        ("sync", "raw", "LiteralValue"),
        ("async", "document", "StatusInfo"),
        ("async", "raw", "StatusInfo"),
    ],
)
def test_modes_and_responses(wire: Wire, mode: str, response: str, kind: str) -> None:
    request = execute_xml(ECHO, HELLO, LITERAL, mode=mode, response=response)
    validate(request.encode(), "wps/2.0/wps.xsd")
    assert wire.post(request).kind == kind


@shows("req/conceptual-model/process-execution/mode-auto", "Without a mode, the service picks one.")
@shows("conf/service/binding/post-xml/execute-auto/request-response", "Execute with the mode auto, document and raw.")
@pytest.mark.parametrize("mode", ["auto", ""])
@pytest.mark.parametrize(("response", "kind"), [("document", "Result"), ("raw", "LiteralValue")])
def test_the_service_picks_the_mode(wire: Wire, mode: str, response: str, kind: str) -> None:
    assert wire.post(execute_xml(ECHO, HELLO, LITERAL, mode=mode, response=response)).kind == kind


@shows("req/service/model/execute/response/status-info-status", "The StatusInfo that answers Execute says Accepted.")
def test_execute_is_answered_as_accepted() -> None:
    """Unless the job has ended before the answer goes out (``limits.grace_seconds``), as it has in the other tests."""
    with in_memory() as (client, _):
        answer = client.post(execute_xml("slow", mode="async"))
        assert answer.text("wps:Status") == "Accepted"


# ------------------------------------------------------------------------------------------------ data transmission


@shows("req/conceptual-model/data-transmission/input-by-value", "The service accepts inputs by value.")
@shows("conf/common-wps/data-transmission/input-by-value", "Executes with inputs by value finish successfully.")
@shows("req/service/model/data-transmission/data", "Data and references have the structure of tables 19 to 23.")
def test_inputs_by_value(wire: Wire) -> None:
    answer = wire.post(
        execute_xml(
            ECHO,
            HELLO,
            data_xml("complexInput", "<a/>", 'mimeType="application/xml"'),
            box_xml("boundingboxInput", "1 2", "3 4", 'crs="EPSG:4326"'),
        )
    )
    assert {node.get("id") for node in answer.root.iterfind("wps:Output", NS2)} == {
        "literalOutput",
        "complexOutput",
        "boundingboxOutput",
    }


@shows("req/conceptual-model/data-transmission/input-by-reference", "The service accepts inputs by reference.")
@shows("conf/common-wps/input-by-reference", "Executes with inputs by reference finish successfully.")
@pytest.mark.parametrize("inner", ["", "<wps:Body><q/></wps:Body>"])
def test_inputs_by_reference(wire: Wire, remote: Website, inner: str) -> None:
    remote.pages["/here"] = page(b"<got/>", "Content-Type: application/xml")
    given = reference_xml("complexInput", remote.url("/here"), inner, 'mimeType="application/xml"')
    found = wire.post(execute_xml(ECHO, given, output_xml("complexOutput"))).output("complexOutput")
    assert found.find("got") is not None


@shows(
    "req/conceptual-model/data-transmission/input-by-reference-unavailable-exception",
    "A reference that cannot be followed is an exception.",
)
def test_an_input_that_is_not_there(wire: Wire, remote: Website) -> None:
    given = reference_xml("complexInput", remote.url("/missing"))
    assert wire.post(execute_xml(ECHO, given), 400).exception == ("DataNotAccessible", "complexInput")


@shows("req/conceptual-model/data-transmission/output-mode", "Outputs come by value, by reference, or both.")
@shows("req/conceptual-model/data-transmission/output-mode-per-process-offering", "Each process says which.")
@shows("req/conceptual-model/data-transmission/output-mode-select", "The client chooses for each output.")
@shows("conf/common-wps/data-transmission/output-by-value", "An output that is asked for by value is in the answer.")
@shows("conf/common-wps/data-transmission/output-by-reference", "By reference, the answer says where it is.")
def test_outputs_by_value_and_by_reference(wire: Wire) -> None:
    assert offering(wire, ECHO).get("outputTransmission") == "value reference"
    given = data_xml("complexInput", "a,b", 'mimeType="text/plain"')
    for transmission, tag in (("value", "Data"), ("reference", "Reference")):
        wish = output_xml("complexOutput", f'mimeType="text/plain" transmission="{transmission}"')
        found = wire.post(execute_xml(ECHO, given, wish)).output("complexOutput")
        assert etree.QName(found).localname == tag
    assert wire.http.get(found.get(f"{XLINK}href", "")).text == "a,b"


@shows(
    "req/conceptual-model/data-transmission/output-mode-unavailable-exception",
    "A transmission mode that is not supported is an exception.",
)
def test_a_transmission_that_is_not_there(wire: Wire) -> None:
    wish = output_xml("literalOutput", 'transmission="pigeon"')
    assert wire.post(execute_xml(ECHO, HELLO, wish), 400).exception == ("InvalidParameterValue", "transmission")
    with in_memory() as (client, _):
        document = execute_xml("sync.only", literal_xml("text", "x"), output_xml("text", 'transmission="reference"'))
        assert client.post(document).exception2[:2] == (400, "StorageNotSupported")


# --------------------------------------------------------------------------------------------------- job monitoring


@shows("req/conceptual-model/job-monitoring/status", "The state of asynchronous jobs can be read by machines.")
@shows("req/conceptual-model/job-monitoring/status-set", "It is one of the basic status set.")
@shows("req/conceptual-model/job-monitoring/progress", "Progress may be reported in percent.")
@shows("req/conceptual-model/job-monitoring/estimated-completion", "There may be an estimate of the end.")
@shows("req/conceptual-model/job-monitoring/next-poll", "There may be a time for the next poll.")
@shows("req/conceptual-model/job-monitoring/job-expiry", "There may be an expiration time.")
@shows("req/service/model/status-info/document", "A StatusInfo has the structure of table 26.")
@shows("req/service/model/status-info/document-status", "Status has a well-known identifier.")
@shows("req/service/model/get-status/response/status-info", "GetStatus is answered by a StatusInfo.")
def test_a_job_is_watched_to_its_end(wire: Wire) -> None:
    job = impatient(wire, execute_xml("sleep", literal_xml("seconds", "2"), literal_xml("steps", "20"), mode="async"))
    seen = [wire.ask("GetStatus", job)]
    while seen[-1].status in ("Accepted", "Running"):
        seen.append(wire.ask("GetStatus", job))
    assert seen[-1].status == "Succeeded"
    assert {document.status for document in seen} <= {"Accepted", "Running", "Succeeded"}
    found = {etree.QName(part).localname for document in seen for part in document.root}
    assert {"PercentCompleted", "EstimatedCompletion", "NextPoll", "ExpirationDate"} <= found
    for document in seen:
        for name in ("EstimatedCompletion", "NextPoll", "ExpirationDate"):
            assert all(UTC.fullmatch(part.text or "") for part in document.root.iterfind(f"wps:{name}", NS2))


# --------------------------------------------------------------------------------------------- handling of requests


#: A request of each type, with a placeholder for service and version.
REQUESTS = {
    "DescribeProcess": f"<ows:Identifier>{ECHO}</ows:Identifier>",
    "Execute": f"<ows:Identifier>{ECHO}</ows:Identifier>{HELLO}",
    "GetStatus": "<wps:JobID>{job}</wps:JobID>",
    "GetResult": "<wps:JobID>{job}</wps:JobID>",
    "Dismiss": "<wps:JobID>{job}</wps:JobID>",
}


def sent(wire: Wire, name: str, http_status: int, attributes: str) -> Document:
    extra = ' mode="sync" response="document"' if name == "Execute" else ""
    inner = REQUESTS[name].replace("{job}", submit(wire, HELLO).job)
    return wire.post(request_xml(name, inner, attributes + extra), http_status)


@shows("req/service/model/handling/request-base", "Requests have the minimum of parameters of OWS Common.")
@shows("req/service/model/handling/request-base-type", "Requests have service and version.")
@shows("req/service/model/handling/service", "The service is always WPS.")
@shows("conf/common-wps/handling/service", "The right service succeeds, a wrong one fails, for each request type.")
@pytest.mark.parametrize("name", REQUESTS)
def test_service(wire: Wire, name: str) -> None:
    assert sent(wire, name, 200, 'service="WPS" version="2.0.0"').kind != "ExceptionReport"
    assert sent(wire, name, 400, 'service="WFS" version="2.0.0"').exception == ("InvalidParameterValue", "service")
    assert sent(wire, name, 400, 'version="2.0.0"').exception == ("MissingParameterValue", "service")


@shows("req/service/model/handling/version", "The version is always 2.0.0.")
@shows("conf/common-wps/handling/version", "The right version succeeds, a wrong one fails, for each request type.")
@pytest.mark.parametrize("name", REQUESTS)
def test_version(wire: Wire, name: str) -> None:
    assert sent(wire, name, 200, 'service="WPS" version="2.0.0"').kind != "ExceptionReport"
    assert sent(wire, name, 400, 'service="WPS" version="3.0.0"').exception == ("InvalidParameterValue", "version")
    assert sent(wire, name, 400, 'service="WPS"').exception == ("MissingParameterValue", "version")


# -------------------------------------------------------------------------------------------------- GetCapabilities


@shows("req/service/model/get-capabilities/request/ows", "GetCapabilities is as OWS Common has it.")
@shows("req/service/model/get-capabilities/request/properties", "Its service is WPS.")
@shows("req/service/model/get-capabilities/response/ows", "The answer has the service metadata of OWS Common.")
@shows("req/service/model/get-capabilities/response/version", "The version of the answer is 2.0.0 by default.")
@shows("req/service/model/get-capabilities/response/properties", "The answer has service and contents.")
@shows("req/service/model/get-capabilities/response/process-summary", "Each process has a summary.")
@shows("req/service/model/get-capabilities/response/process-summary-properties", "It has title and identifier.")
@shows("req/service/model/process-offering-properties/attributes", "It has job control options and transmission.")
def test_get_capabilities(wire: Wire) -> None:
    found = capabilities(wire).root
    assert (found.get("service"), found.get("version")) == ("WPS", "2.0.0")
    sections = [etree.QName(part).localname for part in found]
    assert sections[:3] == ["ServiceIdentification", "ServiceProvider", "OperationsMetadata"]
    assert sections[-1] == "Contents"
    offered = [process for entry in describe(wire).root for process in entry]
    assert identifiers(summaries(wire)) == identifiers(offered)
    for summary in summaries(wire):
        assert summary.findtext("ows:Title", None, NS2)
        assert summary.get("jobControlOptions")
        assert summary.get("outputTransmission")


@shows("req/service/model/get-capabilities/request/accept-versions", "AcceptVersions has 2.0.0.")
@shows("req/service/model/get-capabilities/exception/common", "An error is an OWS exception report.")
def test_accept_versions(wire: Wire) -> None:
    assert get(wire, request="GetCapabilities", AcceptVersions="2.0.0").root.get("version") == "2.0.0"
    refused = wire.http.get("/wps?service=WPS&request=GetCapabilities&AcceptVersions=3.0.0")
    assert refused.status_code == 400
    assert b"VersionNegotiationFailed" in refused.content
    wrong = get(wire, 400, request="GetCapabilities", AcceptVersions="2.0.0", Sections="Weather")
    assert wrong.exception == ("InvalidParameterValue", "Sections")


@shows("req/service/binding/post-xml/get-capabilities/request", "GetCapabilities by POST.")
@shows("req/service/binding/post-xml/get-capabilities/response", "It is answered by wps:Capabilities.")
@shows("conf/service/binding/post-xml/get-capabilities/request-response", "GetCapabilities by POST.")
def test_get_capabilities_by_post(wire: Wire) -> None:
    request = request_xml("GetCapabilities", attributes='service="WPS"')
    validate(request.encode(), "wps/2.0/wps.xsd")
    assert wire.post(request).kind == "Capabilities"


@shows("req/service/binding/get-kvp/get-capabilities/request", "GetCapabilities by GET.")
@shows("req/service/binding/get-kvp/get-capabilities/response-xml", "It is answered by wps:Capabilities.")
@shows("conf/service/binding/get-kvp/get-capabilities/request-response", "GetCapabilities by GET, names in any case.")
@shows("req/service/binding/get-kvp/case-sensitivity", "Keys are case-insensitive, values are not.")
@pytest.mark.parametrize("case", range(3))
def test_get_capabilities_by_get(wire: Wire, case: int) -> None:
    service, _, request = (names[case] for names in KEYS)
    answer = wire.document(wire.http.get("/wps", params={service: "WPS", request: "GetCapabilities"}))
    assert answer.kind == "Capabilities"
    assert describe(wire, ECHO.upper(), 400).exception == ("NoSuchProcess", ECHO.upper())


# -------------------------------------------------------------------------------------------------- DescribeProcess


@shows("req/service/model/describe-process/request/structure", "DescribeProcess names processes and a language.")
@shows("req/service/model/describe-process/request/all-identifiers", "ALL describes all processes.")
@shows("req/service/model/describe-process/response/structure", "The answer has an offering for each process.")
def test_describe_process(wire: Wire) -> None:
    everything = [process for entry in describe(wire).root for process in entry]
    assert identifiers(everything) == identifiers(summaries(wire))
    two = [process for entry in describe(wire, f"buffer,{ECHO}").root for process in entry]
    assert identifiers(two) == ["buffer", ECHO]


@shows("req/service/model/describe-process/response/offerings-language", "The answer is in the language asked for.")
@shows("req/native-process/model/description/language", "A description says its language.")
def test_the_language_of_descriptions(wire: Wire) -> None:
    process = describe(wire, ECHO, lang="en-US").root.find("wps:ProcessOffering/wps:Process", NS2)
    assert process is not None
    assert process.get("{http://www.w3.org/XML/1998/namespace}lang") == "en-US"
    assert describe(wire, ECHO, 400, lang="tlh").exception == ("InvalidParameterValue", "lang")


@shows("req/service/model/describe-process/exception/common", "An error is an OWS exception report.")
@shows("req/service/model/describe-process/exception/specific", "An invalid identifier is NoSuchProcess.")
def test_describe_process_that_is_not_there(wire: Wire) -> None:
    assert describe(wire, f"{ECHO},none,nothing", 400).exception == ("NoSuchProcess", "none,nothing")


@shows("req/service/binding/post-xml/describe-process/request", "DescribeProcess by POST.")
@shows("req/service/binding/post-xml/describe-process/response", "It is answered by wps:ProcessOfferings.")
@shows("conf/service/binding/post-xml/describe-process/request-response", "DescribeProcess by POST.")
def test_describe_process_by_post(wire: Wire) -> None:
    request = request_xml("DescribeProcess", f"<ows:Identifier>{ECHO}</ows:Identifier>")
    validate(request.encode(), "wps/2.0/wps.xsd")
    assert wire.post(request).kind == "ProcessOfferings"


@shows("req/service/binding/get-kvp/describe-process/request", "DescribeProcess by GET.")
@shows("req/service/binding/get-kvp/describe-process/response-xml", "It is answered by wps:ProcessOfferings.")
@shows("conf/service/binding/get-kvp/describe-process/request-response", "DescribeProcess by GET, names in any case.")
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("key", ["identifier", "IDENTIFIER"])
def test_describe_process_by_get(wire: Wire, case: int, key: str) -> None:
    service, version, request = (names[case] for names in KEYS)
    pairs = {service: "WPS", version: "2.0.0", request: "DescribeProcess", key: ECHO}
    assert wire.document(wire.http.get("/wps", params=pairs)).kind == "ProcessOfferings"


# --------------------------------------------------------------------------------------------- native process model


@shows("req/native-process/model/description-type/basic-identification", "Descriptions have what OWS Common has.")
@shows("req/native-process/model/description-type/structure", "Title, abstract, keywords, identifier, metadata.")
@shows("req/native-process/model/description/model-compliance", "A description fits the process model.")
@shows("req/native-process/model/description/structure", "A process has the structure of table 15.")
@shows("req/native-process/model/description/io-description-type", "Inputs and outputs have that of tables 16, 17.")
@shows("req/native-process/xml-encoding/process/schema", "A process in XML is a valid wps:Process.")
@shows("req/native-process/xml-encoding/process/content", "It has the contents of the model.")
@shows("conf/process-model-encoding/xml-encoding/process", "A description fulfils the requirements of its encoding.")
def test_process_descriptions(wire: Wire) -> None:
    for process in describe(wire).root.iterfind("wps:ProcessOffering/wps:Process", NS2):
        validate(etree.fromstring(etree.tostring(process)), "wps/2.0/wps.xsd")
        for described in (process, *process.iterfind(".//wps:Input", NS2), *process.iterfind(".//wps:Output", NS2)):
            assert described.findtext("ows:Title", None, NS2)
            assert described.findtext("ows:Identifier", None, NS2)


@shows("req/native-process/model/description-type/metadata", "Documentation is linked by metadata.")
@shows("req/native-process/model/description-type/metadata-simple-xlink", "Metadata are simple links with a title.")
@shows("req/native-process/model/description-type/metadata-documentation-role", "Documentation has that role.")
def test_metadata() -> None:
    from tests.protocols.test_wps2_describe import test_table_4_metadata_are_simple_links_with_a_role as linked

    with in_memory() as (client, _):
        linked(client)


@shows("req/native-process/model/io-format/structure", "Formats have the structure of table 5.")
@shows("req/native-process/model/io-format/default", "One of the formats is the default.")
@shows("req/native-process/model/datatypes/complex-data/description/structure", "Complex data have formats.")
@shows("req/native-process/model/datatypes/literal-data/description/structure", "Literal data have domains.")
@shows("req/native-process/model/datatypes/bounding-box-data/description/structure", "Boxes have CRSs.")
@shows("req/native-process/xml-encoding/datatypes/schema", "Descriptions of data are valid XML.")
@shows("req/native-process/xml-encoding/datatypes/mimetype", "Literals and boxes in XML are text/xml.")
@shows("req/native-process/plain-text-encoding/datatypes/mimetype", "Literals and boxes as text are text/plain.")
@shows("conf/process-model-encoding/xml-encoding/datatypes", "Descriptions and values of data are valid XML.")
def test_descriptions_of_data(wire: Wire) -> None:
    process = offering(wire, ECHO)[0]
    for kind in ("LiteralData", "ComplexData", "BoundingBoxData"):
        for data in process.iterfind(f".//wps:{kind}", NS2):
            validate(etree.fromstring(etree.tostring(data)), "wps/2.0/wps.xsd")
            forms = data.findall("wps:Format", NS2)
            assert [form.get("default") for form in forms].count("true") == 1
            assert all(form.get("mimeType") for form in forms)
            if kind != "ComplexData":
                assert [form.get("mimeType") for form in forms] == ["text/xml", "text/plain"]
    domains = process.findall(".//LiteralDataDomain")
    assert all(domain.find("ows:DataType", NS2) is not None for domain in domains)
    for box in process.iterfind(".//wps:BoundingBoxData", NS2):
        systems = box.findall("wps:SupportedCRS", NS2)
        assert [crs.get("default") for crs in systems].count("true") == 1


@shows("req/native-process/model/datatypes/complex-data/value/encoding", "Complex values come as they are described.")
@shows("req/native-process/model/datatypes/literal-data/value/structure", "Literals have value, type and unit.")
@shows("req/native-process/model/datatypes/bounding-box-data/values/structure", "Boxes are those of OWS Common.")
@shows("req/native-process/model/datatypes/bounding-box-data/values/crs", "The CRS of a box is not empty.")
@shows("req/service/model/result/document", "A Result has the structure of tables 27 and 28.")
def test_values(wire: Wire) -> None:
    given = (HELLO, box_xml("boundingboxInput", "1 2", "3 4"), data_xml("complexInput", "x", 'mimeType="text/plain"'))
    answer = wire.post(execute_xml(ECHO, *given))
    literal, box = answer.output("literalOutput")[0], answer.output("boundingboxOutput")[0]
    validate(etree.fromstring(etree.tostring(literal)), "wps/2.0/wps.xsd")
    validate(etree.fromstring(etree.tostring(box)), "ows/2.0/owsCommon.xsd")
    assert literal.get("dataType") == "http://www.w3.org/2001/XMLSchema#string"
    assert box.get("crs")
    assert answer.output("complexOutput").get("mimeType") == "text/plain"


@shows("req/native-process/plain-text-encoding/datatypes/schema", "Literals and boxes as text fit the BNF.")
def test_values_as_plain_text(wire: Wire) -> None:
    text = 'mimeType="text/plain"'
    literal = data_xml("literalInput", "70@datatype=http://www.w3.org/2001/XMLSchema#string", text)
    box = data_xml("boundingboxInput", "51.9,7.0,53.0,8.0,EPSG:4326", text)
    wishes = output_xml("literalOutput", text), output_xml("boundingboxOutput", text)
    answer = wire.post(execute_xml(ECHO, literal, box, *wishes))
    assert answer.output("literalOutput").text == "70"
    assert answer.output("boundingboxOutput").text == "51.9,7,53,8,EPSG:4326"


# ------------------------------------------------------------------------------------------- GetStatus and GetResult


@shows("req/service/model/get-status/request/structure", "GetStatus has a JobID.")
@shows("req/service/model/get-status/request/job-id", "The JobID is one that the client got from Execute.")
@shows("req/service/binding/post-xml/get-status/request", "GetStatus by POST.")
@shows("req/service/binding/post-xml/get-status/response", "It is answered by wps:StatusInfo.")
@shows("conf/service/binding/post-xml/get-status/request-response", "GetStatus by POST.")
def test_get_status_by_post(wire: Wire) -> None:
    request = job_xml("GetStatus", submit(wire, HELLO).job)
    validate(request.encode(), "wps/2.0/wps.xsd")
    assert wire.post(request).kind == "StatusInfo"


@shows("req/service/binding/get-kvp/get-status/request", "GetStatus by GET.")
@shows("req/service/binding/get-kvp/get-status/response-xml", "It is answered by wps:StatusInfo.")
@shows("conf/service/binding/get-kvp/get-status/request-response", "GetStatus by GET, names in any case.")
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("key", ["jobid", "JOBID", "JobID"])
def test_get_status_by_get(wire: Wire, case: int, key: str) -> None:
    assert by_get(wire, "GetStatus", submit(wire, HELLO).job, case, key).kind == "StatusInfo"


def by_get(wire: Wire, operation: str, job: str, case: int, key: str) -> Document:
    service, version, request = (names[case] for names in KEYS)
    pairs = {service: "WPS", version: "2.0.0", request: operation, key: job}
    return wire.document(wire.http.get("/wps", params=pairs))


@shows("req/service/model/get-result/request/structure", "GetResult has a JobID.")
@shows("req/service/model/get-result/request/job-id", "The JobID is one that the client got from Execute.")
@shows("req/service/model/get-result/response/result", "GetResult is answered by a Result.")
@shows("req/service/binding/post-xml/get-result/request", "GetResult by POST.")
@shows("req/service/binding/post-xml/get-result/response", "It is answered by wps:Result.")
@shows("conf/service/binding/post-xml/get-result/request-response", "GetResult by POST.")
@shows("req/service/model/asynchronous-wps/result-jobid", "The result of an asynchronous execution has its JobID.")
def test_get_result_by_post(wire: Wire) -> None:
    job = submit(wire, HELLO).job
    request = job_xml("GetResult", job)
    validate(request.encode(), "wps/2.0/wps.xsd")
    answer = wire.post(request)
    assert (answer.kind, answer.job) == ("Result", job)


@shows("req/service/binding/get-kvp/get-result/request", "GetResult by GET.")
@shows("req/service/binding/get-kvp/get-result/response-xml", "It is answered by wps:Result.")
@shows("conf/service/binding/get-kvp/get-result/request-response", "GetResult by GET, document and raw.")
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize(("response", "kind"), [("document", "Result"), ("raw", "LiteralValue")])
def test_get_result_by_get(wire: Wire, case: int, response: str, kind: str) -> None:
    job = submit(wire, HELLO, LITERAL, response=response).job
    assert by_get(wire, "GetResult", job, case, "jobId").kind == kind


@shows("req/service/model/get-result/exception/result-not-ready", "A job that runs has no result: ResultNotReady.")
def test_a_result_that_is_not_ready(wire: Wire, running: str) -> None:
    assert wire.ask("GetResult", running, 400).exception == ("ResultNotReady", running)


@shows("req/service/model/execute/exception/accepted-job", "A job that fails is Failed, its result a report.")
@shows("req/service/model/get-result/exception/execution-exception", "The report has the codes of table 43.")
def test_a_job_that_fails(wire: Wire) -> None:
    job = submit(wire, literal_xml("how", "error"), process="misbehave").job
    assert wire.ended(job).status == "Failed"
    assert wire.ask("GetResult", job, 400).exception == ("WrongInputData", "how")


# ---------------------------------------------------------------------------------------------------------- Dismiss


@shows("req/conceptual-model/job-control/dismiss", "A client may dismiss a job.")
@shows("req/service/model/dismiss/job-control-attribute", "Processes whose jobs can be dismissed say so.")
@shows("req/service/model/dismiss/status-dismissed", "The status of a dismissed job is Dismissed.")
@shows("req/service/model/dismiss/request/strcuture", "Dismiss has a JobID.")
@shows("req/service/model/dismiss/request/job-id", "The JobID is one that the client got from Execute.")
@shows("req/service/model/dismiss/response/structure", "Dismiss is answered by a StatusInfo.")
@shows("req/service/model/dismiss/response/status-dismissed", "Its status is Dismissed.")
@shows("req/service/binding/post-xml/dismiss/compliance", "Dismiss by POST is as OWS Common has it.")
@shows("req/service/binding/post-xml/dismiss/request", "Dismiss by POST is a wps:Dismiss.")
@shows("req/service/binding/post-xml/dismiss/response", "It is answered by wps:StatusInfo.")
@shows("conf/service/binding/post-xml/dismiss/request-response", "Dismiss by POST.")
def test_dismiss_by_post(wire: Wire, running: str) -> None:
    assert "dismiss" in offering(wire, "mark").get("jobControlOptions", "").split()
    request = job_xml("Dismiss", running)
    validate(request.encode(), "wps/2.0/wps.xsd")
    answer = wire.post(request)
    assert (answer.kind, answer.status, answer.job) == ("StatusInfo", "Dismissed", running)


@shows("req/service/binding/get-kvp/dismiss/compliance", "Dismiss by GET is as OWS Common has it.")
@shows("req/service/binding/get-kvp/dismiss/request", "Dismiss by GET.")
@shows("req/service/binding/get-kvp/dismiss/response-xml", "It is answered by wps:StatusInfo.")
@shows("conf/service/binding/get-kvp/dismiss/request-response", "Dismiss by GET, names in any case.")
@shows("req/service/model/dismiss/status-transient", "Dismissed is said within the dismissal alone.")
@shows("req/service/model/dismiss/response/release-job-id", "From then on the JobID is unknown.")
@shows("req/service/model/dismiss/execute-response-jobid", "A result that can be dismissed has its JobID.")
@pytest.mark.parametrize("case", range(3))
def test_dismiss_by_get(wire: Wire, case: int) -> None:
    job = wire.post(execute_xml(ECHO, HELLO)).job
    assert by_get(wire, "Dismiss", job, case, "JobId").status == "Dismissed"
    assert wire.ask("GetStatus", job, 400).exception == ("NoSuchJob", job)


# ------------------------------------------------------------------------------------------------ bindings, profiles


@shows("req/service/binding/post-xml/extension-binding", "Extensions have a binding by POST.")
@shows("req/service/binding/get-kvp/extension-binding", "Extensions have a binding by GET.")
@pytest.mark.parametrize("operation", ["Pause", "Resume"])
def test_extensions_have_both_bindings(wire: Wire, running: str, operation: str) -> None:
    assert wire.post(job_xml(operation, running)).kind == "StatusInfo"
    assert wire.ask(operation, running).kind == "StatusInfo"


def bindings(wire: Wire) -> dict[str, set[str]]:
    found = capabilities(wire).root.iterfind("ows:OperationsMetadata/ows:Operation", NS2)
    return {
        node.get("name", ""): {etree.QName(n).localname for n in node.iterfind(".//ows:HTTP/*", NS2)} for node in found
    }


@shows("req/service/model/synchronous-wps/sync-execute", "Some processes run synchronously, some asynchronously.")
@shows("req/service/model/synchronous-wps/operations", "GetCapabilities, DescribeProcess, Execute.")
@shows(
    "req/service/model/asynchronous-wps/operations", "GetCapabilities, DescribeProcess, Execute, GetStatus, GetResult."
)
@shows("req/service/profile/basic-wps/common-service-model", "The common service model is implemented.")
@shows("req/service/profile/basic-wps/binding", "Each operation has a binding.")
@shows("req/service/profile/basic-wps/process-model", "The processes have the native process model.")
@shows("conf/service/synchronous-wps", "What synchronous execution needs is advertised and implemented.")
@shows("conf/service/asynchronous-wps", "What asynchronous execution needs is advertised and implemented.")
@shows("conf/service/profile/basic-wps", "The service is a Basic WPS.")
def test_the_profiles(wire: Wire) -> None:
    operations = bindings(wire)
    assert {"GetCapabilities", "DescribeProcess", "Execute", "GetStatus", "GetResult", "Dismiss"} <= set(operations)
    assert all(operations.values())
    options = [set(summary.get("jobControlOptions", "").split()) for summary in summaries(wire)]
    assert any("sync-execute" in found for found in options)
    assert any("async-execute" in found for found in options)


#: What is asked of others than a server.
NOT_SHOWN = {
    f"{BASE}req/service/model/status-info/document-status-case-insensitive": "asked of clients, which read the status",
    f"{BASE}req/conceptual-model/process/output-value-cardinality": (
        "a process may here make several values of an output; each is an Output of its own"
    ),
    f"{BASE}req/native-process/xml-encoding/profile/generic/schema": "no generic processes are published here",
    f"{BASE}req/native-process/xml-encoding/profile/generic/content": "no generic processes are published here",
    f"{BASE}conf/process-model-encoding/xml-encoding/generic-process": "no generic processes are published here",
}


def test_no_requirement_stands_here_twice() -> None:
    (module,) = [module for module in modules() if module.__name__ == __name__]
    named = [row.requirement.identifier for row in rows(module)]
    assert len(named) == len(set(named)) > 150
