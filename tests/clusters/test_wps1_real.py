"""WPS 1.0.0 as clients meet it: the real web server, worker, spooler and launcher, over HTTP, with the examples.

Every document of the standard that comes back is validated against the official schemas.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from birdy import WPSClient
from lxml import etree
from owslib.wps import ASYNC, SYNC, BoundingBoxDataInput, ComplexDataInput, WebProcessingService, monitorExecution

from tests.clusters.site import Site, until
from tests.protocols.conftest import NS, SCHEMAS, document_xml, execute_xml, input_xml, literal_xml, raw_xml
from tests.schemas import validate
from tests.services.website import Website, page, website

EXAMPLES = [f"wps_hpc.examples.{name}" for name in ("echo", "sleep", "buffer", "misbehave")]
CITIES = Path(__file__).parents[2] / "examples" / "data" / "cities.geojson"
STORED = 'storeExecuteResponse="true"'
STORED_WITH_STATUS = f'{STORED} status="true"'
FINAL = ("ProcessSucceeded", "ProcessFailed")
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
CRS = "urn:ogc:def:crs:EPSG::4326"
BOX = (
    f'<wps:BoundingBoxData crs="{CRS}" dimensions="2"><ows:LowerCorner>46.5 102</ows:LowerCorner>'
    "<ows:UpperCorner>47 103.25</ows:UpperCorner></wps:BoundingBoxData>"
)


@dataclass(frozen=True)
class Document:
    """A valid document of the standard."""

    root: etree._Element

    @property
    def outcome(self) -> str:
        """The local name below wps:Status."""
        return str(etree.QName(self._status).localname)

    @property
    def message(self) -> str:
        """What a client shows its user."""
        return self._status.findtext(".//ows:ExceptionText", None, NS) or self._status.text or ""

    @property
    def percent(self) -> int:
        """percentCompleted, 0 before the start and 100 at the end."""
        return int(self._status.get("percentCompleted", 100 if self.outcome in FINAL else 0))

    @property
    def location(self) -> str:
        """The address of the stored response."""
        return str(self.root.get("statusLocation"))

    @property
    def exception(self) -> tuple[str | None, str | None]:
        """exceptionCode and locator, of a report or of a failure."""
        (found,) = self.root.iterfind(".//ows:Exception", NS)
        return found.get("exceptionCode"), found.get("locator")

    def output(self, identifier: str) -> etree._Element:
        """What stands below the Data of an output, or its Reference."""
        for element in self.root.iterfind("wps:ProcessOutputs/wps:Output", NS):
            if element.findtext("ows:Identifier", None, NS) == identifier:
                data = element.find("wps:Data", NS)
                return element[-1] if data is None else data[0]
        raise AssertionError(f"no {identifier} in {etree.tostring(self.root).decode()}")

    @property
    def _status(self) -> etree._Element:
        (found,) = self.root.iterfind("wps:Status/*", NS)
        return found


@dataclass(frozen=True)
class Wire:
    """A running server, and a client of it that validates what it gets."""

    site: Site
    http: httpx.Client

    @property
    def url(self) -> str:
        """The service's address."""
        return f"{self.site.settings.server.base_url}/wps"

    def get(self, address: str, status: int = 200, **pairs: str) -> Document:
        """A document by GET."""
        return _checked(self.http.get(address, params=pairs or None), status)

    def execute(self, *parts: str, status: int = 200) -> Document:
        """Execute by POST: process, inputs, response form."""
        return _checked(self.http.post("/wps", content=execute_xml(*parts).encode()), status)

    def raw(self, *parts: str) -> httpx.Response:
        """Execute by POST, to be answered by the bare output."""
        return self.http.post("/wps", content=execute_xml(*parts).encode())

    def ended(self, location: str) -> Document:
        """The stored response once it is final."""
        until(lambda: self.get(location).outcome in FINAL, "the job ends")
        return self.get(location)


def _checked(answer: httpx.Response, status: int) -> Document:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    root = etree.fromstring(answer.content)
    return Document(validate(root, SCHEMAS[str(root.tag)]))


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """One server for the whole module, with the examples and leave to fetch from loopback."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}")
    text = site.config.read_text()
    text = text.replace("[processes]\n", f"[processes]\nmodules = {json.dumps(EXAMPLES)}\n")
    text = text.replace('schemes = ["file"]\n', 'schemes = ["file", "http"]\nprivate_networks = ["127.0.0.0/8"]\n')
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


def complex_input(inner: str, attributes: str = 'mimeType="application/xml"') -> str:
    return input_xml("complexInput", f"<wps:Data><wps:ComplexData {attributes}>{inner}</wps:ComplexData></wps:Data>")


def reference(url: str, inner: str = "", attributes: str = 'mimeType="application/xml"') -> str:
    return input_xml("complexInput", f'<wps:Reference xlink:href="{url}" {attributes}>{inner}</wps:Reference>')


# ---------------------------------------------------------------------------------------------- what there is to run


def test_capabilities_and_all_descriptions(wire: Wire) -> None:
    offered = wire.get("/wps?SERVICE=wps&Request=getcapabilities&acceptversions=1.0.0").root
    names = {element.text for element in offered.iterfind(".//wps:Process/ows:Identifier", NS)}
    assert {"echo", "org.n52.javaps.test.EchoProcess", "buffer", "misbehave", "mark"} <= names
    described = wire.get("/wps", service="WPS", version="1.0.0", request="DescribeProcess", identifier="all").root
    assert {element.findtext("ows:Identifier", None, NS) for element in described} == names


# ------------------------------------------------------------------------------------------------------- synchronous


def test_literals_and_boxes_come_back_as_they_were_sent(wire: Wire) -> None:
    box = input_xml("boundingboxInput", f"<wps:Data>{BOX}</wps:Data>")
    answer = wire.execute("echo", literal_xml("literalInput", " a &lt; ü ") + box)
    assert answer.outcome == "ProcessSucceeded"
    assert answer.output("literalOutput").text == " a < ü "
    echoed = answer.output("boundingboxOutput")
    assert [element.text for element in echoed] == ["46.5 102", "47 103.25"], "no axes are swapped"
    assert echoed.get("crs") == CRS
    assert not answer.location.startswith("http"), "not stored"


def test_key_value_pairs_do_the_same(wire: Wire) -> None:
    given = f"boundingboxInput=46.5,102,47,103.25,{CRS},2;literalInput=a%3Bb"
    execute = "/wps?service=WPS&version=1.0.0&request=Execute&identifier=echo&lineage=true"
    answer = wire.get(f"{execute}&DataInputs={given}&ResponseDocument=boundingboxOutput;literalOutput")
    assert [element.text for element in answer.output("boundingboxOutput")] == ["46.5 102", "47 103.25"]
    assert answer.output("literalOutput").text == "a;b"
    assert len(answer.root.findall("wps:DataInputs/wps:Input", NS)) == 2


@pytest.mark.parametrize("inner", ["<a b='1'>ü</a>", "<![CDATA[<a b='1'>ü</a>]]>", "&lt;a b='1'&gt;ü&lt;/a&gt;"])
def test_xml_inline_however_it_is_wrapped(wire: Wire, inner: str) -> None:
    (element,) = wire.execute("echo", complex_input(inner), document_xml("complexOutput")).output("complexOutput")
    assert (element.tag, element.get("b"), element.text) == ("a", "1", "ü")


def test_base64_both_ways(wire: Wire) -> None:
    given = complex_input(base64.b64encode(PNG).decode(), 'mimeType="image/png" encoding="base64"')
    output = wire.execute("echo", given, document_xml('complexOutput mimeType="image/png"')).output("complexOutput")
    assert (output.get("mimeType"), output.get("encoding")) == ("image/png", "base64")
    assert base64.b64decode(output.text or "") == PNG
    raw = wire.raw("echo", given, raw_xml("complexOutput", 'mimeType="image/png"'))
    assert (raw.content, raw.headers["content-type"]) == (PNG, "image/png")


def test_by_reference_over_get_and_post(wire: Wire, remote: Website) -> None:
    remote.pages["/here"] = page(b"<got/>", "Content-Type: application/xml")
    remote.pages["/body"] = page(b"<kept/>")
    header = '<wps:Header key="X-Secret" value="s3cret"/>'
    for given in (
        reference(remote.url("/here?a=1&amp;b=2"), header),
        reference(remote.url("/here"), f"{header}<wps:Body><q/></wps:Body>", 'method="POST"'),
        reference(remote.url("/here"), f'<wps:BodyReference xlink:href="{remote.url("/body")}"/>', 'method="POST"'),
    ):
        answer = wire.execute("echo", given, document_xml("complexOutput", attributes='lineage="true"'))
        assert [element.tag for element in answer.output("complexOutput")] == ["got"], answer.message
        assert b"s3cret" not in etree.tostring(answer.root)
    asked = {(one.method, one.target): one for one in remote.asked}
    assert asked["GET", "/here?a=1&b=2"].headers["x-secret"] == "s3cret"
    bodies = [one.body for one in remote.asked if one.method == "POST"]
    assert [etree.fromstring(body).tag for body in bodies] == ["q", "kept"]


def test_an_output_by_reference_is_the_file(wire: Wire) -> None:
    features = complex_input(f"<![CDATA[{CITIES.read_text()}]]>", 'mimeType="application/geo+json"')
    form = document_xml('complexOutput asReference="true" mimeType="application/geo+json"', attributes=STORED)
    answer = wire.execute("echo", features, form)
    found = answer.output("complexOutput")
    assert (found.tag, found.get("mimeType")) == (f"{{{NS['wps']}}}Reference", "application/geo+json")
    file = wire.http.get(str(found.get("href")))
    assert file.text == CITIES.read_text()
    assert file.headers["x-content-type-options"] == "nosniff"
    assert etree.tostring(wire.get(answer.location).root) == etree.tostring(answer.root), "stored as it was answered"


def test_raw_output(wire: Wire) -> None:
    raw = wire.raw("echo", literal_xml("literalInput", "ü"), raw_xml("literalOutput"))
    assert (raw.text, raw.headers["content-type"]) == ("ü", "text/plain; charset=utf-8")
    assert wire.raw("echo", "", raw_xml("unknown")).status_code == 400


def test_lineage_as_received(wire: Wire) -> None:
    given = complex_input("<![CDATA[<a/>]]>") + input_xml("boundingboxInput", f"<wps:Data>{BOX}</wps:Data>")
    form = document_xml('complexOutput asReference="false" mimeType="application/xml"', attributes='lineage="true"')
    root = wire.execute("echo", given, form).root
    (inputs,), (definitions,) = (root.findall(f"wps:{name}", NS) for name in ("DataInputs", "OutputDefinitions"))
    sent = etree.fromstring(execute_xml("echo", given, form).encode(), etree.XMLParser(strip_cdata=False))
    for echoed, original in zip(inputs, sent.findall("wps:DataInputs/wps:Input", NS), strict=True):
        assert etree.canonicalize(echoed) == etree.canonicalize(original)
    assert dict(definitions[0].attrib) == {"asReference": "false", "mimeType": "application/xml"}


# ------------------------------------------------------------------------------------------------------ asynchronous


def test_the_status_location_is_a_whole_document_at_every_moment(wire: Wire) -> None:
    """Polled without a pause from the first answer to the last: always valid, never backwards."""
    form = document_xml("slept", attributes=f'{STORED_WITH_STATUS} lineage="true"')
    seen = [wire.execute("sleep", literal_xml("seconds", "1.5") + literal_xml("steps", "30"), form)]
    location = seen[0].location

    def last() -> bool:
        seen.append(wire.get(f"{location}?"))  # as OWSLib asks
        assert seen[-1].location == location
        return seen[-1].outcome in FINAL

    until(last, "the job ends")
    order = ["ProcessAccepted", "ProcessStarted", "ProcessSucceeded"]
    outcomes = [order.index(document.outcome) for document in seen]
    assert outcomes == sorted(outcomes) and set(outcomes) == {0, 1, 2}
    assert [document.percent for document in seen] == sorted(document.percent for document in seen)
    assert len({document.percent for document in seen}) > 3, "progress shows while it runs"
    assert all(document.message for document in seen)
    assert float(seen[-1].output("slept").text or "") >= 1.5
    assert all(document.root.find("wps:DataInputs", NS) is not None for document in seen)


def test_stored_without_status_is_not_updated_and_not_dismissed(wire: Wire, tmp_path: Path) -> None:
    given = "".join(
        literal_xml(name, value)
        for name, value in {"folder": str(tmp_path), "name": "m", "until": str(tmp_path / "go")}.items()
    )
    with httpx.Client(base_url=str(wire.http.base_url), timeout=0.5) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post("/wps", content=execute_xml("mark", given, document_xml("result", attributes=STORED)).encode())
    until((tmp_path / "m").exists, "the job runs")
    job = wire.site.store.list_jobs(limit=1)[0]
    location = f"{wire.url}/status/{job.id}.xml"
    assert wire.get(location).outcome == "ProcessAccepted", "while it runs"
    (tmp_path / "go").touch()
    assert wire.ended(location).output("result").text == "m"


# ----------------------------------------------------------------------------------------------------------- failure


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("error", ("InvalidParameterValue", "how"), "the sentence that the process has for its client"),
        ("exception", ("NoApplicableCode", None), "ZeroDivisionError"),
        ("exit", ("NoApplicableCode", None), "3"),
        ("vanish", ("NoApplicableCode", None), "4"),
        ("segfault", ("NoApplicableCode", None), "signal 11"),
    ],
)
def test_a_process_that_fails_says_why(wire: Wire, how: str, code: tuple[str, str | None], words: str) -> None:
    given = literal_xml("how", how)
    location = wire.execute("misbehave", given, document_xml("nothing", attributes=STORED_WITH_STATUS)).location
    failed = wire.ended(location)
    assert (failed.outcome, failed.exception) == ("ProcessFailed", code)
    assert words in failed.message
    assert "Traceback" not in failed.message
    assert failed.root.find("wps:ProcessOutputs", NS) is None
    raw = wire.raw("misbehave", given, raw_xml("nothing"))
    assert raw.status_code == (400 if how == "error" else 500)
    assert _checked(raw, raw.status_code).outcome == "ProcessFailed"


def test_a_failed_fetch_names_the_input(wire: Wire, remote: Website) -> None:
    answer = wire.execute("echo", reference(remote.url("/missing")), document_xml("complexOutput"))
    assert (answer.outcome, answer.exception) == ("ProcessFailed", ("NoApplicableCode", "complexInput"))
    assert "404" in answer.message


def test_a_dismissed_job_says_by_whom(wire: Wire) -> None:
    form = document_xml("slept", attributes=STORED_WITH_STATUS)
    location = wire.execute("sleep", literal_xml("seconds", "600"), form).location
    until(lambda: wire.get(location).outcome == "ProcessStarted", "the job runs")
    wire.site.intake.dismiss(location.rsplit("/")[-1].removesuffix(".xml"), "its operator")
    ended = wire.ended(location)
    assert (ended.outcome, ended.exception) == ("ProcessFailed", ("NoApplicableCode", None))
    assert "dismissed by its operator" in ended.message


@pytest.mark.parametrize("name", ["00000000-0000-4000-8000-000000000000.xml", "nothing.xml", "..%2f..%2fwps-hpc.toml"])
def test_unknown_jobs_are_not_found(wire: Wire, name: str) -> None:
    assert wire.get(f"/wps/status/{name}", 404).exception == ("NoApplicableCode", None)
    assert wire.get(f"/outputs/{name.removesuffix('.xml')}/result.txt", 404).exception == ("NoApplicableCode", None)


# ----------------------------------------------------------------------------------------------------------- clients


def outputs(execution: Any) -> dict[str, Any]:
    return {output.identifier: output for output in execution.processOutputs}


def test_owslib(wire: Wire) -> None:
    wps = WebProcessingService(wire.url)
    assert "buffer" in {process.identifier for process in wps.describeprocess("all")}
    box = BoundingBoxDataInput([46.5, 102, 47, 103.25], crs=CRS)
    execution = wps.execute("echo", [("literalInput", "hi & bye"), ("boundingboxInput", box)], mode=SYNC)
    assert execution.isSucceded()
    assert outputs(execution)["literalOutput"].data == ["hi & bye"]
    features = ComplexDataInput(CITIES.read_text(), mimeType="application/geo+json")
    wanted = [("buffered", True, "application/geo+json")]
    execution = wps.execute("buffer", [("features", features), ("distance", "1000")], output=wanted, mode=ASYNC)
    monitorExecution(execution, sleepSecs=0, download=False)
    assert execution.isSucceded(), execution.errors
    made = json.loads(execution.processOutputs[0].retrieveData())
    assert len(made["features"]) == len(json.loads(CITIES.read_text())["features"])
    execution = wps.execute("misbehave", [("how", "error")], output="nothing", mode=ASYNC)
    monitorExecution(execution, sleepSecs=0, download=False)
    assert [(error.code, error.locator) for error in execution.errors] == [("InvalidParameterValue", "how")]


def test_birdy(wire: Wire) -> None:
    client = WPSClient(wire.url)
    made = client.buffer(features=str(CITIES), distance=1000).get()
    assert json.loads(httpx.get(made.buffered).content)["features"], "birdy asks every document by reference"
    client = WPSClient(wire.url, progress=True)
    result = client.sleep(seconds=0.3, steps=3)
    until(lambda: result.checkStatus(sleepSecs=0) or result.isComplete(), "birdy sees the end")
    assert float(result.get().slept) >= 0.3
