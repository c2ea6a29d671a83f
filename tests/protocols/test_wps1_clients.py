"""The clients that people use, over real HTTP: OWSLib and birdy."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from birdy import WPSClient
from owslib.util import ServiceException
from owslib.wps import (
    ASYNC,
    SYNC,
    BoundingBoxDataInput,
    ComplexDataInput,
    WebProcessingService,
    WPSExecution,
    monitorExecution,
)
from requests import HTTPError
from werkzeug.serving import make_server

from tests.protocols.conftest import execute_xml, literal_xml, settings_with
from tests.protocols.site import Site
from wps_hpc.app import create_app
from wps_hpc.jobs.job import JobState


@dataclass
class Served:
    """A site that is served over HTTP; its jobs run in the background."""

    url: str
    site: Site


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """The application on a free port."""
    site = Site(tmp_path, background=True)
    application: list[Callable[..., Any]] = []
    server = make_server("127.0.0.1", 0, lambda *call: application[0](*call), threaded=True)
    base = f"http://127.0.0.1:{server.server_port}"
    application.append(create_app(settings_with(server={"public_url": base}), site.backend))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Served(f"{base}/wps", site)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def wps(served: Served) -> WebProcessingService:
    """OWSLib's client."""
    return WebProcessingService(served.url)


def outputs(execution: WPSExecution) -> dict[str, Any]:
    return {output.identifier: output for output in execution.processOutputs}


# OWSLib


def test_owslib_reads_the_capabilities(wps: WebProcessingService) -> None:
    assert wps.identification.title == "wps-hpc"
    assert wps.updateSequence == "7"
    assert {operation.name for operation in wps.operations} == {"GetCapabilities", "DescribeProcess", "Execute"}
    assert "echo" in [process.identifier for process in wps.processes]
    assert wps.languages.supported == ["en-US", "fr-CA"]


def test_owslib_reads_all_descriptions(wps: WebProcessingService) -> None:
    processes = {process.identifier: process for process in wps.describeprocess("all")}
    inputs = {item.identifier: item for item in processes["everything"].dataInputs}
    assert inputs["mode"].allowedValues == ["fast", "slow"]
    assert inputs["mode"].defaultValue == "fast"
    assert inputs["ratio"].dataType == "double"
    assert inputs["layer"].dataType == "ComplexData"
    assert inputs["layer"].supportedValues[0].mimeType == "text/xml"
    assert inputs["area"].dataType == "BoundingBoxData"
    assert (processes["echo"].storeSupported, processes["sync.only"].storeSupported) == (True, False)


def test_owslib_executes_synchronously(wps: WebProcessingService) -> None:
    box = BoundingBoxDataInput([46.0, 102.0, 47.0, 103.0], crs="urn:ogc:def:crs:EPSG::4326")
    document = ComplexDataInput("<a>b</a>", mimeType="text/xml")
    execution = wps.execute("echo", [("text", "hi & bye"), ("box", box), ("complex", document)], mode=SYNC)
    assert execution.isSucceded()
    found = outputs(execution)
    assert found["text"].data == ["hi & bye"]
    assert found["complex"].mimeType == "text/xml"
    assert b"<a>b</a>" in found["complex"].data[0] or b">b</a>" in found["complex"].data[0]
    assert (found["box"].data[0].minx, found["box"].data[0].maxy) in {("46", "103"), ("102", "47")}


def test_owslib_executes_asynchronously_and_fetches_a_reference(wps: WebProcessingService, served: Served) -> None:
    document = ComplexDataInput("a,b", mimeType="text/csv")
    execution = wps.execute("echo", [("complex", document)], output=[("complex", True, "text/csv")], mode=ASYNC)
    assert execution.statusLocation == f"{served.url}/status/{served.site.latest.id}.xml"
    monitorExecution(execution, sleepSecs=0)
    assert execution.isSucceded()
    assert execution.percentCompleted == 100
    assert execution.processOutputs[0].retrieveData() == b"a,b"


def test_owslib_sees_progress(wps: WebProcessingService, served: Served) -> None:
    execution = wps.execute("slow", [], output="text", mode=ASYNC)
    assert execution.status == "ProcessAccepted"
    served.site.change(served.site.latest.id, state=JobState.RUNNING, percent=33, message="A third")
    execution.checkStatus(sleepSecs=0)
    assert (execution.status, execution.percentCompleted, execution.statusMessage) == ("ProcessStarted", 33, "A third")
    served.site.run(served.site.latest.id)
    execution.checkStatus(sleepSecs=0)
    assert execution.isSucceded()


def test_owslib_sees_failures(wps: WebProcessingService) -> None:
    execution = wps.execute("refuses", [], output="text", mode=ASYNC)
    monitorExecution(execution, sleepSecs=0)
    assert execution.isComplete()
    assert not execution.isSucceded()
    (error,) = execution.errors
    assert (error.code, error.locator) == ("NoApplicableCode", "moon")
    assert "wrong phase" in error.text


def test_owslib_sees_why_a_request_was_refused(wps: WebProcessingService) -> None:
    with pytest.raises(ServiceException, match='exceptionCode="InvalidParameterValue" locator="number"'):
        wps.execute("echo", [("number", "many")], mode=SYNC)


def test_owslib_sees_a_busy_server_as_such(wps: WebProcessingService) -> None:
    with pytest.raises(HTTPError) as caught:
        wps.execute("busy", [], mode=SYNC)
    assert caught.value.response.status_code == 503
    assert "Maximum number of parallel running processes reached." in caught.value.response.text


# birdy


def test_birdy_runs_a_process(served: Served) -> None:
    client = WPSClient(served.url)
    assert "All that a description can say." in (client.everything.__doc__ or "")
    result = client.echo(text="hello", number=3, box=None)
    assert result.get().text == "hello"
    assert result.get().number == 3


def test_birdy_follows_an_asynchronous_job(served: Served) -> None:
    client = WPSClient(served.url, progress=True)
    result = client.echo(text="hello", complex="a,b", box=None)
    deadline = time.monotonic() + 20
    while not result.isComplete() and time.monotonic() < deadline:
        result.checkStatus(sleepSecs=0)
    assert result.get().text == "hello"


# Over a real connection


def test_a_chunked_request_over_http(served: Served) -> None:
    document = execute_xml("echo", literal_xml("text", "in pieces")).encode()
    host = served.url.split("/")[2]
    connection = HTTPConnection(host, timeout=20)
    connection.request("POST", "/wps", iter([document[:100], document[100:]]), encode_chunked=True)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert response.status == 200
    assert b"in pieces" in content
