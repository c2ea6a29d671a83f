"""WPS 2.0 as clients meet it: the real web server, worker, spooler and launcher, over HTTP, with the examples.

Every document of the standard that comes back is validated against the official schemas.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from owslib.wps import WebProcessingService

from tests.clusters.site import until
from tests.clusters.wps2_wire import ECHO, ENDED, Wire, begun, impatient, running
from tests.protocols.conftest import NS2, document_xml
from tests.protocols.conftest import execute_xml as execute1_xml
from tests.protocols.conftest import literal_xml as literal1_xml
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
from tests.services.website import Website, page, website
from wps_hpc.jobs.job import STATE_WORDS, JobState

CITIES = Path(__file__).parents[2] / "examples" / "data" / "cities.geojson"
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
CRS = "urn:ogc:def:crs:EPSG::4326"


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One server for the whole module."""
    with running(tmp_path_factory.mktemp("site")) as started:
        yield started


@pytest.fixture
def remote() -> Iterator[Website]:
    """Where inputs by reference come from."""
    with website() as running:
        yield running


# What there is to run


def test_capabilities_and_all_descriptions(wire: Wire) -> None:
    offered = wire.post(request_xml("GetCapabilities", attributes='service="WPS"')).root
    names = {node.text for node in offered.iterfind("wps:Contents/wps:ProcessSummary/ows:Identifier", NS2)}
    assert {"echo", ECHO, "buffer", "misbehave", "mark"} <= names
    described = wire.post(request_xml("DescribeProcess", "<ows:Identifier>ALL</ows:Identifier>")).root
    assert {n.text for n in described.iterfind("wps:ProcessOffering/wps:Process/ows:Identifier", NS2)} == names
    options = described.find("wps:ProcessOffering", NS2)
    assert options is not None
    assert "dismiss" in options.get("jobControlOptions", "")


# Execute


def test_the_echo_of_the_official_suite(wire: Wire) -> None:
    answer = wire.post(
        execute_xml(
            ECHO,
            literal_xml("literalInput", " a &lt; ü "),
            box_xml("boundingboxInput", "46.5 102", "47 103.25", f'crs="{CRS}"'),
            data_xml("complexInput", "<a b='1'>ü</a>", 'mimeType="application/xml"'),
        )
    )
    assert answer.output("literalOutput")[0].text == " a < ü "
    box = answer.output("boundingboxOutput")[0]
    assert (box.get("crs"), [corner.text for corner in box]) == (CRS, ["46.5 102", "47 103.25"])
    assert answer.output("complexOutput").findtext("a[@b='1']") == "ü"
    assert answer.text("wps:ExpirationDate")


def test_the_result_of_a_quick_asynchronous_job_can_be_had_at_once(wire: Wire) -> None:
    job = wire.post(execute_xml(ECHO, literal_xml("literalInput", "hello"), mode="async"))
    assert (job.kind, job.status) == ("StatusInfo", "Succeeded")
    assert wire.ask("GetResult", job.job).output("literalOutput")[0].text == "hello"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_raw_literals_are_xml(wire: Wire, mode: str) -> None:
    wish = output_xml("literalOutput")
    answer = wire.post(execute_xml(ECHO, literal_xml("literalInput", "ü"), wish, mode=mode, response="raw"))
    if mode == "async":
        answer = wire.ask("GetResult", answer.job)
    assert (answer.kind, answer.root.text) == ("LiteralValue", "ü")


def test_binary_data_in_and_out_by_value_reference_and_raw(wire: Wire) -> None:
    given = data_xml("complexInput", base64.b64encode(PNG).decode(), 'mimeType="image/png" encoding="base64"')
    data = wire.post(execute_xml(ECHO, given, output_xml("complexOutput"))).output("complexOutput")
    assert base64.b64decode(data.text or "") == PNG
    wish = output_xml("complexOutput", 'mimeType="image/png" transmission="reference"')
    found = wire.post(execute_xml(ECHO, given, wish)).output("complexOutput")
    assert wire.http.get(found.get("{http://www.w3.org/1999/xlink}href", "")).content == PNG
    body = execute_xml(ECHO, given, output_xml("complexOutput"), response="raw")
    raw = wire.http.post("/wps", content=body.encode())
    assert (raw.content, raw.headers["content-type"]) == (PNG, "image/png")


def test_by_reference_over_get_and_post(wire: Wire, remote: Website) -> None:
    remote.pages["/here"] = page(b"<got/>", "Content-Type: application/xml")
    remote.pages["/body"] = page(b"<kept/>")
    for inner in ("", "<wps:Body><q/></wps:Body>", f'<wps:BodyReference xlink:href="{remote.url("/body")}"/>'):
        answer = wire.post(
            execute_xml(ECHO, reference_xml("complexInput", remote.url("/here"), inner), output_xml("complexOutput"))
        )
        assert answer.output("complexOutput").find("got") is not None
    bodies = [one.body for one in remote.asked if one.method == "POST"]
    assert [etree.fromstring(body).tag for body in bodies] == ["q", "kept"]


def test_a_real_process(wire: Wire) -> None:
    features = data_xml("features", f"<![CDATA[{CITIES.read_text()}]]>", 'mimeType="application/geo+json"')
    wish = output_xml("buffered", 'mimeType="application/geo+json"')
    distance = literal_xml("distance", "1000")
    document = execute_xml("buffer", features, distance, wish, response="raw", mode="auto")
    answer = wire.http.post("/wps", content=document.encode())
    assert len(answer.json()["features"]) == len(json.loads(CITIES.read_text())["features"])


# Jobs


def test_progress_is_whole_at_every_moment_and_agrees_with_1_0_0(wire: Wire) -> None:
    job = impatient(wire, execute_xml("sleep", literal_xml("seconds", "3"), literal_xml("steps", "30"), mode="async"))
    seen = []

    def last() -> bool:
        seen.append(wire.ask("GetStatus", job))
        return seen[-1].status in ENDED

    until(last, "the job ends")
    order = ["Accepted", "Running", "Succeeded"]
    words = [order.index(document.status) for document in seen]
    assert words == sorted(words)
    percents = [int(found) for document in seen if (found := document.root.findtext("wps:PercentCompleted", None, NS2))]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    assert any(document.root.find("wps:EstimatedCompletion", NS2) is not None for document in seen)
    assert wire.outcome1(job) == "ProcessSucceeded"


def test_a_result_that_is_not_ready(wire: Wire, tmp_path: Path) -> None:
    job = begun(wire, tmp_path)
    assert wire.ask("GetResult", job, 400).exception == ("ResultNotReady", job)
    (tmp_path / "go").touch()
    assert wire.ended(job).status == "Succeeded"
    assert wire.ask("GetResult", job).output("result")[0].text == "m"


def test_dismiss_ends_a_running_job(wire: Wire, tmp_path: Path) -> None:
    job = begun(wire, tmp_path)
    assert wire.post(job_xml("Dismiss", job)).status == "Dismissed"
    assert wire.ask("GetStatus", job, 400).exception == ("NoSuchJob", job)

    def state() -> JobState:
        found = wire.site.store.get(job)
        assert found is not None
        return found.state

    until(lambda: state() is JobState.DISMISSED, "the job is gone")
    assert wire.outcome1(job) == "ProcessFailed"


def test_dismiss_lets_results_go(wire: Wire) -> None:
    job = wire.post(execute_xml(ECHO, literal_xml("literalInput", "x"), mode="async")).job
    assert wire.ask("Dismiss", job).status == "Dismissed"
    assert wire.ask("GetResult", job, 400).exception == ("NoSuchJob", job)


def test_a_running_job_is_paused_and_goes_on(wire: Wire, tmp_path: Path) -> None:
    job = begun(wire, tmp_path)
    wire.ask("Pause", job)
    until(lambda: wire.outcome1(job) == "ProcessPaused", "the job is suspended")
    assert wire.word(job) == STATE_WORDS[JobState.SUSPENDED][1]
    (tmp_path / "go").touch()
    wire.post(job_xml("Resume", job))
    assert wire.ended(job).status == "Succeeded"


def test_jobs_of_1_0_0_can_be_asked_for(wire: Wire) -> None:
    form = document_xml("slept", attributes='storeExecuteResponse="true" status="true"')
    given = literal1_xml("seconds", "0.1")
    answer = wire.http.post("/wps", content=execute1_xml("sleep", given, form).encode())
    location = etree.fromstring(answer.content).get("statusLocation", "")
    job = location.rpartition("/")[2].removesuffix(".xml")
    assert wire.ended(job).status == "Succeeded"
    assert float(wire.ask("GetResult", job).output("slept")[0].text or "") >= 0.1
    query = {"service": "WPS", "version": "1.0.0", "request": "GetExecutionStatus", "executionId": job}
    assert wire.http.get("/wps", params=query).content == wire.http.get(location).content


# Failure


@pytest.mark.parametrize(
    ("how", "status", "exception"),
    [
        ("error", 400, ("WrongInputData", "how")),
        ("exception", 500, ("InternalServerError", None)),
        ("segfault", 500, ("InternalServerError", None)),
    ],
)
def test_a_process_that_fails_says_why(wire: Wire, how: str, status: int, exception: tuple[str, str | None]) -> None:
    given = literal_xml("how", how)
    assert wire.post(execute_xml("misbehave", given), status).exception == exception
    job = wire.post(execute_xml("misbehave", given, mode="async")).job
    assert wire.ended(job).status == "Failed"
    assert wire.ask("GetResult", job, status).exception == exception


def test_an_input_that_cannot_be_fetched(wire: Wire, remote: Website) -> None:
    given = reference_xml("complexInput", remote.url("/missing"))
    assert wire.post(execute_xml(ECHO, given), 400).exception == ("DataNotAccessible", "complexInput")
    forbidden = reference_xml("complexInput", "ftp://example.org/")
    assert wire.post(execute_xml(ECHO, forbidden), 400).exception == ("DataNotAccessible", "complexInput")


# Clients


def test_owslib_reads_the_capabilities_of_2_0(wire: Wire) -> None:
    """OWSLib takes the version, and reads what is OWS Common; the processes, Execute and results it has for 1.0.0."""
    wps = WebProcessingService(f"{wire.site.settings.server.base_url}/wps", version="2.0.0")
    assert wps.identification.title == "wps-hpc"
    assert wps.provider.name == "unnamed provider"
    operations = {operation.name for operation in wps.operations}
    assert {"GetCapabilities", "DescribeProcess", "Execute", "GetStatus", "GetResult", "Dismiss"} <= operations
