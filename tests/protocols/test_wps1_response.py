"""ExecuteResponse and status documents (OGC 05-007r7 §10.3). The client validates every document."""

import base64
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from lxml import etree

from joblauncher.formats.records import Failure
from joblauncher.formats.values import FileValue, LiteralValue, NestedValue, Value
from tests.protocols.conftest import (
    WPS,
    CheckedClient,
    Received,
    complex_xml,
    document_xml,
    execute_xml,
    literal_xml,
    raw_xml,
    settings_with,
)
from tests.protocols.site import GML, Site
from wps_hpc.app import create_app
from wps_hpc.jobs.job import STATE_WORDS, JobState

ASYNC = 'storeExecuteResponse="true" status="true"'
BASE = "https://wps.example.org/site"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
DATA = "wps:ProcessOutputs/wps:Output/wps:Data/wps:ComplexData"


def submit(client: CheckedClient, process: str = "slow", *outputs: str) -> Received:
    """An asynchronous Execute."""
    return client.post(execute_xml(process, form=document_xml(*(outputs or ("text",)), attributes=ASYNC)))


def poll(client: CheckedClient, site: Site, query: str = "") -> Received:
    """The status document of the latest job."""
    return client.open(f"/wps/status/{site.latest.id}.xml{query}")


def echo_complex(
    client: CheckedClient, content: str, mime: str, output: str = "complex", encoding: str = ""
) -> Received:
    attributes = f'mimeType="{mime}"' + (f' encoding="{encoding}"' if encoding else "")
    return client.post(execute_xml("echo", complex_xml(content, attributes), document_xml(output)).encode())


# The document


def test_table_54_attributes(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", literal_xml("text", "x"), language="fr-CA"))
    assert answer.status == 200
    assert answer.root.get(LANG) == "fr-CA"
    assert answer.root.get("statusLocation") is None
    instance = answer.root.get("serviceInstance", "")
    assert instance == f"{BASE}/wps?service=WPS&request=GetCapabilities&AcceptVersions=1.0.0"
    assert client.kvp(instance.partition("?")[2]).root.tag == f"{WPS}Capabilities"


def test_table_54_process_in_every_document(client: CheckedClient, site: Site) -> None:
    for answer in (submit(client), poll(client, site), client.post(execute_xml("echo", language="fr"))):
        process = answer.find("wps:Process")
        assert process.get("{http://www.opengis.net/wps/1.0.0}processVersion")
    assert answer.text("wps:Process/ows:Title") == "Écho"


def test_a_process_that_left_the_offer_still_has_its_status(client: CheckedClient, site: Site) -> None:
    submit(client, "echo")
    site.run(site.latest.id)
    del site.catalogue.offers["echo"]
    site.catalogue.revision += 1
    answer = poll(client, site)
    assert answer.text("wps:Process/ows:Identifier") == "echo"
    assert answer.find("wps:Process").get("{http://www.opengis.net/wps/1.0.0}processVersion") == "2.1.0"


# Status


def test_table_50_asynchronous_answer_comes_at_once(client: CheckedClient, site: Site) -> None:
    answer = submit(client)
    assert answer.outcome == "ProcessAccepted"
    assert answer.text("wps:Status/wps:ProcessAccepted")
    assert answer.root.get("statusLocation") == f"{BASE}/wps/status/{site.latest.id}.xml"
    assert answer.response.headers["Cache-Control"] == "no-store"


def test_grace_lets_a_quick_asynchronous_job_answer_as_finished(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"grace_seconds": 1}), site.backend))
    assert submit(client, "echo").outcome == "ProcessSucceeded"


@pytest.mark.parametrize("query", ["", "?"])
def test_status_location_is_the_whole_document_at_any_time(client: CheckedClient, site: Site, query: str) -> None:
    submit(client)
    first = poll(client, site, query)
    assert first.outcome == "ProcessAccepted"
    assert first.response.headers["Cache-Control"] == "no-store"
    site.change(site.latest.id, state=JobState.RUNNING, percent=40, message="Reading tiles")
    second = poll(client, site, query)
    assert second.outcome == "ProcessStarted"
    assert second.find("wps:Status/wps:ProcessStarted").get("percentCompleted") == "40"
    assert second.text("wps:Status/wps:ProcessStarted") == "Reading tiles"
    site.run(site.latest.id)
    assert poll(client, site, query).outcome == "ProcessSucceeded"


@pytest.mark.parametrize("state", JobState)
def test_table_55_each_state(client: CheckedClient, site: Site, state: JobState) -> None:
    submit(client)
    site.made[site.latest.id] = {}
    job = site.change(site.latest.id, state=state, finished=1.0 if state.final else None)
    answer = poll(client, site)
    assert answer.outcome == STATE_WORDS[job.state][0]
    assert "".join(str(text) for text in answer.find("wps:Status").itertext()).strip()


@pytest.mark.parametrize(("percent", "shown"), [(0, "0"), (55, "55"), (100, "99"), (-3, "0")])
@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUSPENDED])
def test_table_57_percent_completed(
    client: CheckedClient, site: Site, percent: int, shown: str, state: JobState
) -> None:
    submit(client)
    site.change(site.latest.id, state=state, percent=percent)
    assert poll(client, site).find("wps:Status/*").get("percentCompleted") == shown


def test_table_55_creation_time_is_utc(client: CheckedClient, site: Site) -> None:
    submit(client)
    shown = poll(client, site).find("wps:Status").get("creationTime", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown)
    assert abs(datetime.fromisoformat(shown).timestamp() - time.time()) < 60
    finished = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    site.made[site.latest.id] = {}
    site.change(site.latest.id, state=JobState.SUCCEEDED, finished=finished)
    assert poll(client, site).find("wps:Status").get("creationTime") == "2026-02-03T04:05:06Z"


def test_waiting_says_why(client: CheckedClient, site: Site) -> None:
    submit(client)
    site.change(site.latest.id, state=JobState.QUEUED, reason="Resources", stale_since=0.0)
    text = poll(client, site).text("wps:Status/wps:ProcessAccepted")
    assert "(Resources)" in text
    assert "1970-01-01 00:00:00 UTC" in text


def test_illegal_characters_of_a_message_are_replaced(client: CheckedClient, site: Site) -> None:
    submit(client)
    site.change(site.latest.id, state=JobState.RUNNING, message="a\x00b\x1b[31m\ud800 <&>")
    assert poll(client, site).text("wps:Status/*") == "a\ufffdb\ufffd[31m\ufffd <&>"


def test_table_50_without_status_the_document_is_not_updated_before_the_end(client: CheckedClient, site: Site) -> None:
    site.background = True
    settings = settings_with(limits={"sync_seconds": 0.01})
    form = document_xml("text", attributes='storeExecuteResponse="true"')
    answer = CheckedClient(create_app(settings, site.backend)).post(execute_xml("slow", form=form))
    assert answer.outcome == "ProcessAccepted", "stored: nobody need wait for it, and it is not dismissed"
    assert answer.root.get("statusLocation") == f"{BASE}/wps/status/{site.latest.id}.xml"
    site.change(site.latest.id, state=JobState.RUNNING, percent=50, message="half-way")
    assert poll(client, site).body == answer.body
    site.run(site.latest.id)
    assert poll(client, site).outcome == "ProcessSucceeded"


def test_table_50_store_without_status_answers_a_quick_job_as_finished(client: CheckedClient, site: Site) -> None:
    form = document_xml("text", attributes='storeExecuteResponse="true"')
    answer = client.post(execute_xml("echo", literal_xml("text", "x"), form))
    assert answer.outcome == "ProcessSucceeded"
    assert answer.root.get("statusLocation") == f"{BASE}/wps/status/{site.latest.id}.xml"
    assert poll(client, site).body == answer.body


def test_polls_of_an_unchanged_job_are_not_rendered_again(
    client: CheckedClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client)
    first = poll(client, site).body
    monkeypatch.setattr(site, "request", None)
    assert poll(client, site).body == first


# Failure


def test_table_58_failure_is_an_ows_exception_report(client: CheckedClient) -> None:
    answer = client.post(execute_xml("refuses"))
    assert answer.status == 200
    report = answer.find("wps:Status/wps:ProcessFailed/ows:ExceptionReport")
    assert report.get("version") == "1.1.0"
    assert report[0].get("locator") == "moon"
    assert report[0].get("exceptionCode") == "NoApplicableCode"
    assert report[0][0].text == "The moon is in the wrong phase \ufffd today."
    assert not answer.all("wps:ProcessOutputs")


def test_dismissed_says_by_whom(client: CheckedClient, site: Site) -> None:
    submit(client)
    site.dismiss(site.latest.id, "the operator")
    assert "dismissed by the operator" in poll(client, site).text(".//ows:ExceptionText")
    # A job that ran also has its launcher's account of the end.
    site.change(site.latest.id, failure=Failure("cancelled", "The process was cancelled.", "NoApplicableCode"))
    assert "dismissed by the operator" in poll(client, site).text(".//ows:ExceptionText")


@pytest.mark.parametrize("code", ["InvalidParameterValue", "NotEnoughStorage"])
def test_raw_output_of_a_failure_is_the_response_document(client: CheckedClient, site: Site, code: str) -> None:
    failure = Failure("process error", "No.", code)
    site.run = lambda job_id: site.change(job_id, state=JobState.FAILED, failure=failure)  # type: ignore[method-assign]
    answer = client.post(execute_xml("echo", form=raw_xml("text")))
    assert answer.outcome == "ProcessFailed"
    assert answer.status == {"InvalidParameterValue": 400, "NotEnoughStorage": 507}[code]


def test_synchronous_call_that_takes_too_long(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"sync_seconds": 0.01}), site.backend))
    answer = client.post(execute_xml("slow"))
    assert answer.exception == (504, "NoApplicableCode", None)
    assert "asynchronously" in answer.text("ows:Exception/ows:ExceptionText")
    assert site.latest.state is JobState.DISMISSED


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_synchronous_call_that_ends_while_it_is_being_dismissed(site: Site, state: JobState) -> None:
    def too_late(job_id: str, by: str) -> Any:
        site.made[job_id] = {"text": (LiteralValue("just in time"),)}
        return site.change(job_id, state=state, finished=time.time())

    site.dismiss = too_late  # type: ignore[method-assign]
    client = CheckedClient(create_app(settings_with(limits={"sync_seconds": 0.01}), site.backend))
    assert client.post(execute_xml("slow")).outcome == STATE_WORDS[state][0]


# Status documents that are not there


@pytest.mark.parametrize(
    "path",
    [
        "/wps/status/00000000-0000-4000-8000-000000000000.xml",
        "/wps/status/",
        "/wps/status/x.xml",
        "/wps/status/..%2f..%2fetc%2fpasswd.xml",
        "/wps/status/00000000-0000-4000-8000-000000000000",
    ],
)
def test_unknown_status_documents(client: CheckedClient, path: str) -> None:
    assert client.open(path).exception == (404, "NoApplicableCode", None)


def test_expired_and_unstored_jobs_have_no_status_document(client: CheckedClient, site: Site) -> None:
    client.post(execute_xml("echo", literal_xml("text", "x")))
    assert poll(client, site).status == 404
    submit(client)
    assert poll(client, site).status == 200
    job = site.jobs.pop(site.latest.id)
    assert client.open(f"/wps/status/{job.id}.xml").status == 404


# Outputs


def test_all_outputs_when_none_is_named(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", literal_xml("number", "4") + literal_xml("text", "x")))
    found = [element.text for element in answer.all("wps:ProcessOutputs/wps:Output/ows:Identifier")]
    assert sorted(str(name) for name in found) == ["number", "text"]


def test_all_outputs_come_in_the_order_of_the_description(client: CheckedClient, site: Site) -> None:
    answer = client.post(execute_xml("echo", literal_xml("width", "2") + literal_xml("text", "hi")))
    assert [element.text for element in answer.all("wps:ProcessOutputs/wps:Output/ows:Identifier")] == ["text", "width"]
    # Of a process that is no longer on offer, in any order.
    site.change(submit_echo(client, site), process="gone")
    names = {element.text for element in poll(client, site).all("wps:ProcessOutputs/wps:Output/ows:Identifier")}
    assert names == {"text", "width"}


def submit_echo(client: CheckedClient, site: Site) -> str:
    """A stored, finished echo of two literals; its job id."""
    form = document_xml(attributes='storeExecuteResponse="true"')
    client.post(execute_xml("echo", literal_xml("width", "2") + literal_xml("text", "hi"), form))
    return site.latest.id


def test_only_the_outputs_asked_for_in_their_order(client: CheckedClient) -> None:
    inputs = literal_xml("text", "x") + literal_xml("number", "4") + literal_xml("width", "2")
    answer = client.post(execute_xml("echo", inputs, document_xml("width", "text")))
    found = [element.text for element in answer.all("wps:ProcessOutputs/wps:Output/ows:Identifier")]
    assert found == ["width", "text"]


def test_table_59_literal_output(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", literal_xml("width", "2.5", ' uom="metre"'), document_xml("width")))
    data = answer.find("wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData")
    assert (data.text, data.get("uom")) == ("2.5", "metre")
    assert data.get("dataType") == "http://www.w3.org/TR/xmlschema-2/#double"


def test_table_51_the_clients_own_words_for_an_output(client: CheckedClient) -> None:
    form = (
        "<wps:ResponseDocument><wps:Output><ows:Identifier>text</ows:Identifier><ows:Title>Mine &lt;</ows:Title>"
        "<ows:Abstract>Own</ows:Abstract></wps:Output></wps:ResponseDocument>"
    )
    output = client.post(execute_xml("echo", literal_xml("text", "x"), form)).find("wps:ProcessOutputs/wps:Output")
    assert [child.text for child in output[:3]] == ["text", "Mine <", "Own"]


def test_process_without_outputs_has_no_empty_element(client: CheckedClient) -> None:
    answer = client.post(execute_xml("silent"))
    assert answer.outcome == "ProcessSucceeded"
    assert not answer.all("wps:ProcessOutputs")


def test_raw_output_that_was_not_made(client: CheckedClient) -> None:
    assert client.post(execute_xml("silent", form=raw_xml("text"))).exception == (500, "NoApplicableCode", None)


def test_xml_output_is_embedded_as_elements(client: CheckedClient) -> None:
    answer = echo_complex(client, '<g:p xmlns:g="urn:g"><!--c--><g:q a="1"/></g:p>', "text/xml")
    data = answer.find(DATA)
    assert (data.get("mimeType"), data.get("schema"), data.get("encoding")) == ("text/xml", GML.schema, None)
    assert [child.tag for child in data] == ["{urn:g}p"]


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        ("<![CDATA[not <well formed]]>", "text/xml"),
        ("<![CDATA[<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>]]>", "text/xml"),
        ('<![CDATA[{"a": "1 < 2 & ]"}]]>', "application/geo+json"),
        ("a,b&#13;&#10;1,&lt;2&#13;&#10;", "text/csv"),
        ("]]&gt; &lt;", "text/plain"),
        ("☃", "text/plain"),
    ],
)
def test_text_output_arrives_as_it_was(client: CheckedClient, site: Site, content: str, mime: str) -> None:
    answer = echo_complex(client, content, mime)
    sent = site.received.inputs["complex"][0]
    assert (answer.find(DATA).text or "").encode() == getattr(sent, "content", None)
    assert not len(answer.find(DATA))
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("content", "mime"),
    [(b"\x00\xff\x01", "image/tiff"), (b"\x00 not text", "text/plain"), (b"\xff\xfe", "application/geo+json")],
)
def test_binary_output_is_base64(client: CheckedClient, content: bytes, mime: str) -> None:
    text = base64.b64encode(content).decode()
    data = echo_complex(client, text, mime, encoding="base64").find(DATA)
    assert (data.text, data.get("encoding")) == (text, "base64")


def test_base64_on_request(client: CheckedClient) -> None:
    data = echo_complex(client, "<a/>", "text/xml", 'complex encoding="base64"').find(DATA)
    assert base64.b64decode(data.text or "").endswith(b"/>")


def test_deeply_nested_xml_output_does_not_break_the_document(client: CheckedClient, site: Site) -> None:
    echo_complex(client, "<a/>", "text/xml")
    deep = b"<a>" * 5000 + b"</a>" * 5000
    made = _remake(site, deep, "text/xml")
    answer = poll_stored(client, site)
    assert answer.find(DATA).text == deep.decode()
    assert made.size == len(deep)


def _remake(site: Site, content: bytes, mime: str) -> FileValue:
    """Replace the output of the latest job by other bytes, and have the job stored."""
    job = site.latest
    (site.folder / job.id / "outputs" / "file").write_bytes(content)
    value = FileValue("outputs/file", mime, size=len(content))
    site.made[job.id] = {"complex": (value,)}
    return value


def poll_stored(client: CheckedClient, site: Site) -> Received:
    """The status document of the latest job, as if it had been stored."""
    request = site.requests[site.latest.id]
    object.__setattr__(request, "store", True)
    site.change(site.latest.id)
    return poll(client, site)


def test_outputs_that_the_standard_cannot_express_are_left_out(client: CheckedClient, site: Site) -> None:
    submit(client, "echo")
    site.run(site.latest.id)
    made: dict[str, tuple[Value, ...]] = {"text": (NestedValue({}), LiteralValue("x"))}
    site.made[site.latest.id] = made
    assert len(poll(client, site).all("wps:ProcessOutputs/wps:Output")) == 1


def test_large_output_comes_as_a_reference(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"embed_bytes": 100}), site.backend))
    assert echo_complex(client, "x" * 100, "text/plain").find(DATA).text == "x" * 100
    answer = echo_complex(client, "x" * 101, "text/plain")
    assert answer.find("wps:ProcessOutputs/wps:Output/wps:Reference").get("mimeType") == "text/plain"


def test_output_whose_size_is_not_told_is_measured(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"embed_bytes": 100}), site.backend))
    echo_complex(client, "<a/>", "text/xml")
    value = _remake(site, b"x" * 101, "text/plain")
    site.made[site.latest.id] = {"complex": (FileValue(value.path, "text/plain"),)}
    assert poll_stored(client, site).all("wps:ProcessOutputs/wps:Output/wps:Reference")


# By reference and raw


def test_table_60_output_by_reference_can_be_fetched(client: CheckedClient, site: Site) -> None:
    answer = echo_complex(client, "<a>1</a>", "text/xml", 'complex asReference="true"')
    reference = answer.find("wps:ProcessOutputs/wps:Output/wps:Reference")
    assert reference.get("mimeType") == "text/xml"
    href = reference.get("href", "")
    assert href == f"{BASE}/outputs/{site.latest.id}/complex.gml"
    fetched = client.open(href.removeprefix(BASE))
    assert fetched.status == 200
    assert etree.fromstring(fetched.body).text == "1"


def test_raw_complex_output_is_the_bytes_in_their_type(client: CheckedClient) -> None:
    content = base64.b64encode(b"\x00\xffTIFF").decode()
    inputs = complex_xml(content, 'mimeType="image/tiff" encoding="base64"')
    answer = client.post(execute_xml("echo", inputs, raw_xml("complex")))
    assert answer.body == b"\x00\xffTIFF"
    assert answer.response.headers["Content-Type"] == "image/tiff"
    assert answer.response.headers["Content-Length"] == "6"
    encoded = client.post(execute_xml("echo", inputs, raw_xml("complex", 'encoding="base64"')))
    assert encoded.body == content.encode()
    assert encoded.response.headers["Content-Transfer-Encoding"] == "base64"


def test_raw_bounding_box_is_its_element(client: CheckedClient) -> None:
    answer = client.execute(Identifier="echo", DataInputs="box=1,2,3,4", RawDataOutput="box")
    assert answer.root.tag == "{http://www.opengis.net/wps/1.0.0}BoundingBoxData"
    assert [child.text for child in answer.root] == ["1 2", "3 4"]


def test_progress_that_runs_ahead_of_the_record_shows_at_once(client: CheckedClient, site: Site) -> None:
    submit(client)
    job = site.change(site.latest.id, state=JobState.RUNNING, percent=10)
    assert poll(client, site).find("wps:Status/*").get("percentCompleted") == "10"
    site.jobs[job.id] = replace(job, percent=20, message="Halfway up the hill")
    answer = poll(client, site)
    assert answer.find("wps:Status/*").get("percentCompleted") == "20"
    assert answer.text("wps:Status/*") == "Halfway up the hill"
