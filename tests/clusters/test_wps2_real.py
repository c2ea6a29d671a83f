"""WPS 2.0 as clients meet it: the real web server, worker, spooler and launcher, over HTTP, with the examples.

Every document of the standard that comes back is validated against the official schemas.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from lxml import etree
from owslib.wps import WebProcessingService

from tests.clusters.site import Site, until
from tests.protocols.conftest import NS2, SCHEMAS, document_xml
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
from tests.schemas import validate
from tests.services.website import Website, page, website
from wps_hpc.jobs.job import STATE_WORDS, JobState

EXAMPLES = [f"wps_hpc.examples.{name}" for name in ("echo", "sleep", "buffer", "misbehave")]
CITIES = Path(__file__).parents[2] / "examples" / "data" / "cities.geojson"
ECHO = "org.n52.javaps.test.EchoProcess"
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
CRS = "urn:ogc:def:crs:EPSG::4326"
ENDED = ("Succeeded", "Failed", "Dismissed")


@dataclass(frozen=True)
class Document:
    """A valid document of the standard."""

    root: etree._Element

    @property
    def kind(self) -> str:
        """The local name of the root."""
        return str(etree.QName(self.root).localname)

    def text(self, path: str) -> str:
        """The text of the one element at a path."""
        (found,) = self.root.iterfind(path, NS2)
        return found.text or ""

    @property
    def job(self) -> str:
        """The job's id."""
        return self.text("wps:JobID")

    @property
    def status(self) -> str:
        """The word of a StatusInfo."""
        return self.text("wps:Status")

    @property
    def exception(self) -> tuple[str | None, str | None]:
        """exceptionCode and locator of a report."""
        (found,) = self.root.iterfind("ows:Exception", NS2)
        return found.get("exceptionCode"), found.get("locator")

    def output(self, identifier: str) -> etree._Element:
        """The Data or Reference of an output."""
        (found,) = [node for node in self.root.iterfind("wps:Output", NS2) if node.get("id") == identifier]
        return found[0]


@dataclass(frozen=True)
class Wire:
    """A running server, and a client of it that validates what it gets."""

    site: Site
    http: httpx.Client

    def post(self, document: str, status: int = 200) -> Document:
        """A document by POST."""
        return _checked(self.http.post("/wps", content=document.encode()), status)

    def ask(self, operation: str, job: str, status: int = 200) -> Document:
        """A document about a job by GET."""
        query = {"service": "WPS", "version": "2.0.0", "request": operation, "jobid": job}
        return _checked(self.http.get("/wps", params=query), status)

    def word(self, job: str) -> str:
        """What GetStatus says of a job."""
        return self.ask("GetStatus", job).status

    def ended(self, job: str) -> Document:
        """GetStatus once the job has ended."""
        until(lambda: self.word(job) in ENDED, "the job ends")
        return self.ask("GetStatus", job)

    def outcome1(self, job: str) -> str:
        """What the status document of WPS 1.0.0 says of a job."""
        answer = self.http.get(f"/wps/status/{job}.xml")
        root = validate(answer.content, "wps/1.0.0/wpsExecute_response.xsd")
        (found,) = root.iterfind("{*}Status/*")
        return str(etree.QName(found).localname)


def _checked(answer: httpx.Response, status: int) -> Document:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    root = etree.fromstring(answer.content)
    return Document(validate(root, SCHEMAS[str(root.tag)]))


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One server for the whole module, with the examples, leave to fetch from loopback, and a grace for quick jobs."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}")
    text = site.config.read_text()
    text = text.replace("[processes]\n", f"[processes]\nmodules = {json.dumps(EXAMPLES)}\n")
    text = text.replace('schemes = ["file"]\n', 'schemes = ["file", "http"]\nprivate_networks = ["127.0.0.0/8"]\n')
    # Long, for a busy machine; what is quick is answered as soon as it has ended.
    text = text.replace("grace_seconds = 0\n", "grace_seconds = 10\n")
    site.config.write_text(text)
    site.start_worker()
    with httpx.Client(base_url=site.start_web(), timeout=60) as client:
        yield Wire(site, client)
    site.close()


@pytest.fixture
def remote() -> Iterator[Website]:
    """Where inputs by reference come from."""
    with website() as running:
        yield running


def mark(folder: Path) -> list[str]:
    """Inputs of a process that runs until it may go, and leaves a mark when it has begun."""
    values = {"folder": str(folder), "name": "m", "until": str(folder / "go")}
    return [literal_xml(name, value) for name, value in values.items()]


def begun(wire: Wire, folder: Path) -> str:
    """A job that runs until the folder has a file «go»."""
    job = impatient(wire, execute_xml("mark", *mark(folder), mode="async"))
    until((folder / "m").exists, "the job runs")
    until(lambda: wire.word(job) == "Running", "and is known to")
    return job


def impatient(wire: Wire, document: str) -> str:
    """Send an Execute whose answer waits for a grace that is in vain, and take the job from the database."""
    known = {job.id for job in wire.site.store.list_jobs()}
    with httpx.Client(base_url=str(wire.http.base_url), timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/wps", content=document.encode())
    (new,) = [job.id for job in wire.site.store.list_jobs() if job.id not in known]
    return new


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
