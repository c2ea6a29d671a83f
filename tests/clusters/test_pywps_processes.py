"""PyWPS processes on this server, beside PyWPS itself: for each request both answer the same.

What is allowed to differ stands in EXCEPTIONS, with the defect of PyWPS that is avoided and the clause of the standard.
Any other difference fails, and so does an exception that nothing needs any more.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from birdy import WPSClient
from owslib.wps import ASYNC, SYNC, ComplexDataInput, WebProcessingService, monitorExecution

from tests.clusters.pywps_peers import Peers, Request, final, local_site, offer, parsed, peers
from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.protocols.conftest import document_xml, execute_xml, input_xml, literal_xml, raw_xml
from tests.pywps_processes.classes import LITERALS
from tests.schemas import ROOT
from tests.services.pywps_releases import NEWEST, OLDEST, node_path
from tests.services.slurm import Slurm
from tests.services.website import page, website

pytestmark = pytest.mark.cluster

PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
EXECUTE = "service=WPS&version=1.0.0&request=Execute&identifier="


def complex_xml(name: str, inner: str, attributes: str = "") -> str:
    return input_xml(name, f"<wps:Data><wps:ComplexData {attributes}>{inner}</wps:ComplexData></wps:Data>")


def reference_xml(name: str, href: str, attributes: str = "") -> str:
    return input_xml(name, f'<wps:Reference xlink:href="{href}" {attributes}/>')


def box_xml(name: str, crs: str, lower: str, upper: str) -> str:
    corners = f"<ows:LowerCorner>{lower}</ows:LowerCorner><ows:UpperCorner>{upper}</ows:UpperCorner>"
    return input_xml(
        name, f'<wps:Data><wps:BoundingBoxData crs="{crs}" dimensions="2">{corners}</wps:BoundingBoxData></wps:Data>'
    )


def kvp(process: str, inputs: str = "", more: str = "") -> Request:
    return Request(f"{EXECUTE}{process}&DataInputs={inputs}{more}")


def post(process: str, *parts: str, follow: bool = False) -> Request:
    """Inputs, and a response form as the last part if there is one."""
    inputs = "".join(part for part in parts if part.startswith("<wps:Input"))
    form = "".join(part for part in parts if not part.startswith("<wps:Input"))
    return Request(document=execute_xml(process, inputs, form), follow=follow)


def stored(*outputs: str) -> str:
    return document_xml(*outputs, attributes='storeExecuteResponse="true" status="true"')


ALL_LITERALS = "".join(literal_xml(name, text.replace("&", "&amp;")) for name, text in LITERALS.items())
#: By name; ``{remote}`` is a web site, ``{shared}`` a folder that both servers may read.
REQUESTS = {
    "describe all": Request("service=WPS&version=1.0.0&request=DescribeProcess&identifier=all"),
    "describe in French": Request(
        "service=WPS&version=1.0.0&request=DescribeProcess&identifier=annotated&language=fr-CA"
    ),
    "describe nobody": Request("service=WPS&version=1.0.0&request=DescribeProcess&identifier=nobody"),
    # literals
    "all literals": post("literals", ALL_LITERALS),
    "one literal": kvp("literals", "integer=12"),
    "one of several outputs": kvp("literals", "integer=12", "&ResponseDocument=integer"),
    "no literal": kvp("literals"),
    "not a number": kvp("literals", "integer=many"),
    "not a URI": kvp("literals", "anyURI=nowhere"),
    "escaped pairs": kvp("salut", "name=a%3Bb%3Dc%26%20d"),
    "escaped text": post("salut", literal_xml("name", "a &amp; b &lt;c&gt;")),
    "choices": kvp("choices", "word=green;number=15;share=0.25;any=x;listed=y;unchecked=9"),
    "not allowed": kvp("choices", "word=blue;number=1;share=0.5"),
    "outside of the range": kvp("choices", "word=red;number=21;share=0.5"),
    "at the open end": kvp("choices", "word=red;number=1;share=1.0"),
    "off the step": kvp("choices", "word=red;number=101;share=0.5"),
    "default unit": post("units", literal_xml("length", "2")),
    "another unit": post("units", literal_xml("length", "2", ' uom="feet"')),
    "the default unit, named": post("units", literal_xml("length", "2", ' uom="metre"')),
    "defaults": kvp("defaults"),
    "no defaults": kvp("defaults", "number=1;flag=false;zero=2;none=x;text=given"),
    "repeated": kvp("repeated", "number=1;number=2;number=3;text=a;text=b"),
    "not often enough": kvp("repeated", "number=1"),
    "too often": kvp("repeated", "number=1;number=2;number=3;number=4;number=5"),
    "missing": kvp("salut"),
    # complex data
    "a text": post("documents", complex_xml("text", "one line")),
    "lines in CDATA": post(
        "documents", complex_xml("text", "<![CDATA[one\n<two> & ]\nthree]]>", 'mimeType="text/plain"')
    ),
    "a document": post("documents", complex_xml("xml", '<a b="1"><c>d</c></a>', 'mimeType="application/xml"')),
    "a document in CDATA": post("documents", complex_xml("xml", "<![CDATA[<a><b>c</b></a>]]>")),
    "JSON": post("documents", complex_xml("json", '{"a": [1, 2.5, "x"]}', 'mimeType="application/json"')),
    "JSON with markup": post(
        "documents", complex_xml("json", '<![CDATA[{"a": [1, 2.5, "<x> & y"]}]]>', 'mimeType="application/json"')
    ),
    "base64": post(
        "documents", complex_xml("bytes", base64.b64encode(PNG).decode(), 'mimeType="image/png" encoding="base64"')
    ),
    "a second format": post("documents", complex_xml("text", "a,b", 'mimeType="text/csv"')),
    "no such format": post("documents", complex_xml("text", "a,b", 'mimeType="text/nonsense"')),
    "a text as pairs": kvp("documents", "text=one%20two@mimeType=text/plain"),
    "streams": post("streams", complex_xml("text", "loud")),
    "by reference": post("remote", reference_xml("text", "{remote}/folder/data.txt?x=1")),
    "two by reference": post(
        "remote", reference_xml("text", "{remote}/folder/data.txt"), reference_xml("text", "{remote}/folder/data.txt")
    ),
    "by reference as pairs": kvp("remote", "text=@xlink:href={remote}/folder/data.txt"),
    "a file": post("remote", reference_xml("text", "file://{shared}/shared.txt")),
    "a file of others": post("remote", reference_xml("text", "file:///etc/hostname")),
    "valid": post("validated", complex_xml("json", "{}"), complex_xml("magic", "magic word")),
    "not valid JSON": post("validated", complex_xml("json", "nonsense")),
    "not valid by the author's word": post("validated", complex_xml("magic", "mundane")),
    "not checked": post("validated", complex_xml("unchecked", "nonsense")),
    # bounding boxes
    "a box": post("boxes", box_xml("box", "urn:ogc:def:crs:EPSG::3857", "10 20", "30 40.5")),
    "a box in degrees": post("boxes", box_xml("box", "urn:ogc:def:crs:EPSG::4326", "46 7", "47 8")),
    "a box in short": post("boxes", box_xml("box", "EPSG:3857", "10 20", "30 40.5")),
    # outputs
    "objects": kvp("objects"),
    "a client's file behind a metalink": post("objects", reference_xml("text", "file://{shared}/shared.txt")),
    "files": kvp("files"),
    "files as asked for": post(
        "files",
        document_xml(
            'text asReference="true"', 'table mimeType="application/json"', 'kept asReference="false"', "picture"
        ),
    ),
    "raw text": post("files", raw_xml("text")),
    "raw picture": post("files", raw_xml("picture")),
    "raw literal": kvp("salut", "name=Ada", "&RawDataOutput=greeting"),
    "raw nothing": kvp("silent", "", "&RawDataOutput=unset"),
    "metalinks": kvp("metalinks", "count=3"),
    "silent": kvp("silent"),
    # the run
    "surroundings": post("surroundings", document_xml("said")),
    "in French": Request(f"{EXECUTE}annotated&DataInputs=name=Ada&language=fr-CA"),
    "asynchronous": post("progress", stored(), follow=True),
    "asynchronous with references": post("files", stored('text asReference="true"', "table"), follow=True),
    "lineage": post("salut", literal_xml("name", "Ada"), document_xml("greeting", attributes='lineage="true"')),
    "lineage of a box": post(
        "boxes",
        box_xml("box", "urn:ogc:def:crs:EPSG::3857", "10 20", "30 40.5"),
        document_xml("box", attributes='lineage="true"'),
    ),
    "process error": kvp("fails", "how=told"),
    "process error, stored": post("fails", literal_xml("how", "told"), stored(), follow=True),
    "another error": kvp("fails", "how=silly"),
    "an OWS error": kvp("fails", "how=blamed"),
    "not stored": post("calls", literal_xml("word", "abc"), stored()),
    "synchronous only": kvp("calls", "word=abc"),
    # made otherwise
    "a closure": kvp("salut", "name=Ada"),
    "a closure with a lock and a database": kvp("query", "number=21"),
    "a class made at run time": kvp("power_3", "number=2"),
    "another of them": kvp("power_2", "number=1.5"),
    "a hidden module": kvp("shadowed", "number=21"),
    "no such process": kvp("nobody", "a=b"),
}


@dataclass(frozen=True)
class Exception_:
    """A difference that is meant: in which requests, at which paths of the answer; why, and by which clause."""

    requests: str
    paths: str
    defect: str
    clause: str
    releases: tuple[str, ...] = (NEWEST, OLDEST)

    def covers(self, request: str, path: str) -> bool:
        """Whether it is about that place."""
        return bool(re.fullmatch(self.requests, request) and re.fullmatch(self.paths, path))


REFUSED = (
    "not .*|no such .*|outside .*|at the open end|off the step|too often|missing|describe nobody|a file of others"
    "|raw nothing"
)
#: What PyWPS gets wrong and this server does not, with the clause that says so.
EXCEPTIONS = (
    # descriptions
    Exception_(
        "describe all",
        r".*/ComplexData @maximumMegabytes",
        "maximumMegabytes is advertised but not enforced, and counts in units of 1024² bytes",
        "05-007r7 table 24",
    ),
    Exception_(
        "describe .*",
        r"annotated/DataInputs/Input name/Metadata @\w+",
        "metadata of inputs is not written",
        "05-007r7 table 1",
    ),
    Exception_(
        "describe all",
        r".*/ValuesReference @valuesForm",
        "ValuesReference without its mandatory attribute valuesForm: not valid",
        "05-007r7 table 34",
    ),
    Exception_(
        "describe all",
        r".*/DefaultValue",
        "defaults are written as Python's True and False, which are no booleans",
        "XML Schema part 2 §3.2.2",
    ),
    Exception_(
        "describe .*",
        r".*/LiteralData/AnyValue",
        "LiteralData without AnyValue or AllowedValues",
        "05-007r7 table 26",
    ),
    Exception_(
        "describe all",
        r"literals/.*/DataType @reference",
        "scale and angle are named as types of XML Schema, which has none of these names",
        "05-007r7 table 27",
    ),
    Exception_(
        "describe all",
        r"units/.*/Supported/UOM 2.*",
        "the default unit is listed once for each supported one",
        "05-007r7 table 29",
        (OLDEST,),
    ),
    # literals
    Exception_(
        ".*", r"output \w+ dataType", "the data type of a literal is a bare word instead of a URI", "05-007r7 table 46"
    ),
    Exception_(
        "all literals",
        r"output (anyURI|boolean|dateTime) content",
        "literals are written as Python prints them, not in the lexical form of their type",
        "XML Schema part 2 §3.2.2, §3.2.7, §3.2.17",
    ),
    Exception_(
        "escaped pairs",
        r"output greeting content",
        "pairs are split after they were decoded, so that no value can hold a separator",
        "06-121r3 §11.2.3",
    ),
    Exception_(
        "default unit",
        r"output unit content",
        "a value without a unit loses the default one",
        "05-007r7 table 28",
    ),
    Exception_(
        "too often",
        r".*",
        "inputs given more often than maxOccurs are accepted, and the first ones dropped",
        "05-007r7 table 21",
    ),
    # outputs
    Exception_(
        "one of several outputs|surroundings|asynchronous with references|lineage of a box",
        r"output .*|lineage output said.*",
        "one output asked for, all returned; OutputDefinitions not as received",
        "05-007r7 table 50, table 53",
    ),
    Exception_(
        "one literal|no literal|a text.*|lines in CDATA|a document.*|JSON|base64|a second format|silent",
        r"output .*",
        "outputs that the process did not set are written as «None», empty data or a box without corners",
        "05-007r7 table 58",
    ),
    Exception_(
        "a box in degrees",
        r"output (box|said) content",
        "EPSG:4326 bounding boxes come back with their axes swapped",
        "06-121r3 §10.2.1",
    ),
    Exception_(
        "JSON with markup",
        r"(?!http).*",
        "JSON is put into the document unescaped, which then is not well-formed",
        "XML 1.0 §2.4",
    ),
    # failures
    Exception_(
        REFUSED + "|an OWS error",
        r"exception locator",
        "the locator is missing, or does not name the parameter",
        "06-121r3 §8.4, 05-007r7 table 62",
    ),
    Exception_(
        REFUSED + "|not often enough|not a URI",
        r"exception text",
        "none: the text of a refusal is the server's own",
        "06-121r3 §8.4",
    ),
    Exception_(
        "a file of others|an OWS error",
        r"exception (code|text)",
        "FileURLNotSupported is no exceptionCode; that of a process is lost",
        "05-007r7 table 62",
    ),
    Exception_(
        "process error.*|another error|an OWS error",
        r"report namespace|exception locator",
        "ProcessFailed holds a wps:ExceptionReport, which does not exist, with the locator «None»",
        "05-007r7 table 57, 06-121r3 §8.4",
    ),
    Exception_(
        "raw nothing",
        r"http",
        "what the server could not make is reported as the client's fault",
        "RFC 9110 §15.5",
    ),
    # what the issue itself says
    Exception_(
        "surroundings",
        r"output said content",
        "none: the HTTP request is long answered when a job runs on a node",
        "(request.http_request absent)",
    ),
)


@dataclass(frozen=True)
class Answers:
    """What both servers answered to every request: path -> value."""

    release: str
    peers: Peers
    theirs: dict[str, dict[str, Any]]
    ours: dict[str, dict[str, Any]]

    def differences(self, request: str) -> dict[str, tuple[Any, Any]]:
        """Path -> (theirs, ours), where they differ."""
        theirs, ours = self.theirs[request], self.ours[request]
        paths = sorted(theirs.keys() | ours.keys())
        return {path: (theirs.get(path), ours.get(path)) for path in paths if theirs.get(path) != ours.get(path)}


@pytest.fixture(scope="module", params=[NEWEST, pytest.param(OLDEST, marks=pytest.mark.slow)])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """All requests, answered by PyWPS in one of its releases, and by this server with its processes."""
    folder = tmp_path_factory.mktemp("peers")
    with website() as remote, peers(folder, request.param) as both, httpx.Client(timeout=120) as client:
        remote.pages["/folder/data.txt"] = page(b"from afar", "Content-Type: text/plain")
        (both.shared / "shared.txt").write_text("shared text")

        def answer(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
            asked = REQUESTS[name].at(remote.url(""), both.shared)
            theirs = parsed(asked.send(client, both.theirs), client, valid=False)
            return theirs, parsed(asked.send(client, both.ours), client, valid=True)

        # PyWPS forks for an asynchronous job, which hangs where another thread of it holds a lock at that moment.
        alone = [name for name, asked in REQUESTS.items() if asked.follow]
        pairs = {name: answer(name) for name in alone}
        together = [name for name in REQUESTS if name not in alone]
        with ThreadPoolExecutor(4) as pool:
            pairs |= dict(zip(together, pool.map(answer, together), strict=True))
        theirs, ours = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
        yield Answers(request.param, both, theirs, ours)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_both_answer_the_same(answers: Answers, request_name: str) -> None:
    different = answers.differences(request_name)
    unexplained = {
        path: values
        for path, values in different.items()
        if not any(entry.covers(request_name, path) for entry in EXCEPTIONS if answers.release in entry.releases)
    }
    assert unexplained == {}


@pytest.mark.parametrize(
    ("request_name", "output"),
    [
        ("one of several outputs", "integer"),
        ("surroundings", "said"),
        ("asynchronous with references", "text"),
        ("asynchronous with references", "table"),
        ("lineage of a box", "box"),
    ],
)
def test_the_outputs_that_were_asked_for_are_the_same(answers: Answers, request_name: str, output: str) -> None:
    """Where PyWPS returns more than was asked for, that is not to hide the rest."""
    content = answers.differences(request_name).get(f"output {output} content")
    assert answers.ours[request_name][f"output {output} content"]
    assert content is None or request_name == "surroundings"


def test_every_exception_is_needed(answers: Answers) -> None:
    places = [(name, path) for name in REQUESTS for path in answers.differences(name)]
    meant = [entry for entry in EXCEPTIONS if answers.release in entry.releases]
    idle = [entry for entry in meant if not any(entry.covers(*place) for place in places)]
    assert idle == []


# --- the clients that people use -------------------------------------------------------------------------------------


def test_owslib_finds_the_same_descriptions(answers: Answers) -> None:
    theirs, ours = (
        {item.identifier: item for item in WebProcessingService(url).describeprocess("all")}
        for url in (answers.peers.theirs, answers.peers.ours)
    )
    assert theirs.keys() == ours.keys()
    for identifier, process in theirs.items():
        for there, here in zip(process.dataInputs, ours[identifier].dataInputs, strict=True):
            told = ("identifier", "dataType", "minOccurs", "maxOccurs", "allowedValues")
            assert [getattr(here, name, None) for name in told] == [getattr(there, name, None) for name in told]


@pytest.mark.parametrize("mode", [SYNC, ASYNC], ids=["sync", "async"])
def test_owslib_gets_the_same(answers: Answers, mode: str) -> None:
    def run(url: str) -> list[object]:
        wps = WebProcessingService(url)
        inputs = [("text", ComplexDataInput("one\ntwo & <three>", mimeType="text/plain"))]
        execution = wps.execute("documents", inputs, output=[("text", False, "text/plain")], mode=mode)
        if mode == ASYNC:
            monitorExecution(execution, sleepSecs=0)
        (output,) = [item for item in execution.processOutputs if item.identifier == "text"]
        return [execution.status, execution.percentCompleted, output.mimeType, output.retrieveData()]

    assert run(answers.peers.ours) == run(answers.peers.theirs)


def test_owslib_fetches_references(answers: Answers) -> None:
    execution = WebProcessingService(answers.peers.ours).execute("files", [], output=[("text", True, None)], mode=ASYNC)
    monitorExecution(execution, sleepSecs=0)
    (output,) = execution.processOutputs
    assert output.reference.startswith(answers.peers.site.settings.server.base_url)
    assert output.retrieveData() == b"line 0\nline 1\nline 2\n"


def test_birdy_gets_the_same(answers: Answers) -> None:
    def run(url: str) -> list[object]:
        client = WPSClient(url)
        defaults = client.defaults(number=7).get()
        files = client.files(lines=2).get(asobj=False)
        return [client.salut(name="Ada").get().greeting, json.loads(defaults.said), bool(files.text)]

    assert run(answers.peers.ours) == run(answers.peers.theirs)


def test_birdy_follows_a_job(answers: Answers) -> None:
    job = WPSClient(answers.peers.ours, progress=True).progress(steps=2)
    until(lambda: job.isComplete() or job.checkStatus(sleepSecs=0), "the job ends")
    assert job.get().done == 2


# --- on a real cluster -----------------------------------------------------------------------------------------------

#: Request -> what is expected of its outputs (or of its failure).
ON_SLURM: dict[str, dict[str, Any]] = {
    "all literals": {"output integer content": "-7", "output boolean content": "true"},
    "choices": {"output said content": "word=green number=15 share=0.25 any=x listed=y unchecked=9"},
    "another unit": {"output length content": "0.6096", "output unit content": "feet"},
    "defaults": {
        "output said content": '{"flag": true, "number": 5, "text": "default text", "zero": 0.0}',
    },
    "repeated": {"output sum content": "6", "output texts content": "a|b"},
    "lines in CDATA": {"output text content": b"one\n<two> & ]\nthree"},
    "base64": {"output bytes content": PNG},
    "a file": {"output copy content": b"shared text", "output elsewhere kind": "Reference"},
    "by reference": {"output copy content": b"from afar", "output embedded content": b"from afar"},
    "a box": {"output box content": [[10.0, 20.0], [31.0, 41.5]]},
    "files": {"output kept kind": "Reference", "output kept content": b'{"kept": true}'},
    "metalinks": {"output three content": {f"three_{number}.txt": f"three {number}".encode() for number in range(3)}},
    "streams": {"output upper content": b"LOUD"},
    "in French": {"output greeting content": "fr-CA: Ada", "output greeting Title": "Salutation"},
    "process error": {
        "status": "ProcessFailed",
        "exception text": "Process error: The moon is in the wrong phase: please wait.",
    },
    "asynchronous": {"output done content": "4"},
    "silent": {"output set content": "here"},
    "valid": {"output said content": "json,magic"},
    "a closure": {"output greeting content": "Salut Ada"},
    "a closure with a lock and a database": {"output twice content": "42"},
    "a client's file behind a metalink": {"output links content": {"shared.txt": b"shared text"}},
    "a class made at run time": {"output power content": "8.0"},
}


@pytest.fixture(scope="module")
def on_slurm(slurm_cluster: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What came of all requests of ON_SLURM, submitted together."""
    shared = tmp_path_factory.mktemp("shared")
    (shared / "shared.txt").write_text("shared text")
    system = SlurmSystem(slurm_cluster)
    site = system.make_site()
    offer(site, shared)
    text = site.config.read_text()
    path = f'\nenvironment = {{ PYTHONPATH = "{ROOT}", PYTHONDONT'
    assert "\nenvironment = { PYTHONDONT" in text
    site.config.write_text(text.replace("\nenvironment = { PYTHONDONT", path))
    with website() as remote, httpx.Client(timeout=120) as client:
        remote.pages["/folder/data.txt"] = page(b"from afar", "Content-Type: text/plain")
        site.start_worker()
        url = f"{site.start_web()}/wps"
        asked = {name: stored_request(REQUESTS[name].at(remote.url(""), shared)) for name in ON_SLURM}
        # All at once: the first answers are not waited for.
        accepted = {name: replace(one, follow=False).send(client, url) for name, one in asked.items()}
        yield {name: parsed(final(client, answer), client, valid=True) for name, answer in accepted.items()}
    system.leave(site)


def stored_request(asked: Request) -> Request:
    """The request, asynchronously."""
    if asked.pairs:
        return Request(f"{asked.pairs}&storeExecuteResponse=true&status=true")
    if "<wps:ResponseForm>" in asked.document:
        return asked
    form = f"<wps:ResponseForm>{stored()}</wps:ResponseForm></wps:Execute>"
    return Request(document=asked.document.replace("</wps:Execute>", form))


@pytest.mark.parametrize("request_name", ON_SLURM)
def test_on_slurm(on_slurm: dict[str, dict[str, Any]], request_name: str) -> None:
    found = on_slurm[request_name]
    expected = {"status": "ProcessSucceeded", **ON_SLURM[request_name]}
    assert {path: found.get(path) for path in expected} == expected


# --- another Python and another release on the node ------------------------------------------------------------------


@pytest.fixture(scope="module")
def old_node(python39: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A site whose jobs run on Python 3.9 with the oldest PyWPS, while the server has the newest of both."""
    folder = tmp_path_factory.mktemp("old")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        site = local_site(folder, node_path(python39, OLDEST), folder, python39)
        site.start_worker()
        yield site, f"{site.start_web()}/wps"
        site.close()


@pytest.mark.parametrize(
    ("name", "path", "content"),
    [
        ("all literals", "output dateTime content", "2020-02-29T12:30:00"),
        ("metalinks", "output four content", {f"four_{number}.txt": f"four {number}".encode() for number in range(3)}),
        ("a hidden module", "output double content", "42"),
    ],
)
def test_a_node_with_the_oldest_python_and_pywps(
    old_node: tuple[Site, str], name: str, path: str, content: Any
) -> None:
    with httpx.Client(timeout=120) as client:
        found = parsed(REQUESTS[name].send(client, old_node[1]), client, valid=True)
    assert found.get(path) == content, found


def test_what_travels_as_code_is_refused_by_another_python(old_node: tuple[Site, str]) -> None:
    with httpx.Client(timeout=120) as client:
        found = parsed(REQUESTS["a closure"].send(client, old_node[1]), client, valid=True)
    assert found["status"] == "ProcessFailed"
    assert "3.9" in found["exception text"]
