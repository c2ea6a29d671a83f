"""The WPS 1.0.0 client: what it sends is valid, what it reads is what servers say, and what it will not read."""

import base64
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from lxml import etree

from tests.schemas import validate
from wps_hpc.client import (
    DOCUMENT_BYTES,
    ClientError,
    ExecuteStatus,
    GivenInput,
    ProcessInterface,
    ServiceFailure,
    WpsClient,
    execute_document,
    split_bbox,
)

ENDPOINT = "http://wps.example.org/wps"
HEAD = (
    'xmlns:wps="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" service="WPS" version="1.0.0" xml:lang="en"'
)
DESCRIPTION = f"""<wps:ProcessDescriptions {HEAD}>
  <ProcessDescription wps:processVersion="2" storeSupported="true" statusSupported="true">
    <ows:Identifier>clip</ows:Identifier><ows:Title>Clip</ows:Title>
    <DataInputs>
      <Input minOccurs="1" maxOccurs="1"><ows:Identifier>layer</ows:Identifier><ows:Title>Layer</ows:Title>
        <ComplexData><Default><Format><MimeType>application/gml+xml</MimeType></Format></Default>
          <Supported><Format><MimeType>application/gml+xml</MimeType></Format>
          <Format><MimeType>application/x-netcdf</MimeType><Encoding>base64</Encoding></Format></Supported>
        </ComplexData></Input>
      <Input minOccurs="0" maxOccurs="3"><ows:Identifier>size</ows:Identifier><ows:Title>Size</ows:Title>
        <LiteralData><ows:AnyValue/></LiteralData></Input>
      <Input minOccurs="1" maxOccurs="1"><ows:Identifier>box</ows:Identifier><ows:Title>Box</ows:Title>
        <BoundingBoxData><Default><CRS>EPSG:4326</CRS></Default><Supported><CRS>EPSG:4326</CRS></Supported>
        </BoundingBoxData></Input>
    </DataInputs>
    <ProcessOutputs>
      <Output><ows:Identifier>clipped</ows:Identifier><ows:Title>Clipped</ows:Title>
        <ComplexOutput><Default><Format><MimeType>text/csv</MimeType></Format></Default>
        <Supported><Format><MimeType>text/csv</MimeType></Format></Supported></ComplexOutput></Output>
      <Output><ows:Identifier>count</ows:Identifier><ows:Title>Count</ows:Title><LiteralOutput/></Output>
    </ProcessOutputs>
  </ProcessDescription>
</wps:ProcessDescriptions>"""


def response(status: str, outputs: str = "", location: str = "") -> str:
    """An ExecuteResponse."""
    where = f'statusLocation="{location}"' if location else ""
    return (
        f'<wps:ExecuteResponse {HEAD} serviceInstance="{ENDPOINT}" {where}>'
        '<wps:Process wps:processVersion="2"><ows:Identifier>clip</ows:Identifier><ows:Title>Clip</ows:Title>'
        "</wps:Process>"
        f'<wps:Status creationTime="2026-01-01T00:00:00Z">{status}</wps:Status>{outputs}</wps:ExecuteResponse>'
    )


def client(answer: str | bytes | Callable[[httpx.Request], httpx.Response], status: int = 200) -> WpsClient:
    """A client of a server that always answers so."""

    def handler(request: httpx.Request) -> httpx.Response:
        return answer(request) if callable(answer) else httpx.Response(status, content=answer)

    return WpsClient(ENDPOINT, httpx.Client(transport=httpx.MockTransport(handler)))


@pytest.fixture
def clip() -> ProcessInterface:
    """The interface of the process `clip`."""
    return client(DESCRIPTION).describe("clip")


def test_a_description_is_read(clip: ProcessInterface) -> None:
    assert (clip.identifier, clip.store_supported, clip.status_supported) == ("clip", True, True)
    kinds = {name: (p.kind, p.min_occurs, p.max_occurs) for name, p in clip.inputs.items()}
    assert kinds == {"layer": ("complex", 1, 1), "size": ("literal", 0, 3), "box": ("bbox", 1, 1)}
    assert clip.inputs["layer"].formats == ("application/gml+xml", "application/x-netcdf")
    assert {name: output.kind for name, output in clip.outputs.items()} == {"clipped": "complex", "count": "literal"}


def test_questions_are_asked_in_the_words_of_the_standard() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(200, text=DESCRIPTION)

    WpsClient(f"{ENDPOINT}?map=a", httpx.Client(transport=httpx.MockTransport(answer))).describe("cl&ip")
    query = {"map": "a", "service": "WPS", "version": "1.0.0", "request": "DescribeProcess", "identifier": "cl&ip"}
    assert dict(asked[0].params) == query


def test_capabilities_list_processes() -> None:
    offered = client(
        f'<wps:Capabilities {HEAD}><wps:ProcessOfferings><wps:Process wps:processVersion="3">'
        "<ows:Identifier>a</ows:Identifier><ows:Title>A</ows:Title></wps:Process></wps:ProcessOfferings></wps:Capabilities>"
    ).processes()
    assert [(entry.identifier, entry.title, entry.version) for entry in offered] == [("a", "A", "3")]


@pytest.mark.parametrize("asynchronous", [True, False])
def test_an_execute_document_is_valid_and_says_everything(
    clip: ProcessInterface, ogc_schemas: Path, asynchronous: bool
) -> None:
    inputs = [
        GivenInput("layer", content=b"<gml xmlns='urn:g'>\xc3\xa4</gml>", mime_type="application/gml+xml"),
        GivenInput("size", text="<5 & more"),
        GivenInput("size", text="6"),
        GivenInput("box", text="1,2,3.5,4"),
    ]
    root = validate(execute_document(clip, inputs, asynchronous=asynchronous), "wps/1.0.0/wpsExecute_request.xsd")
    spaces = {"w": "http://www.opengis.net/wps/1.0.0", "o": "http://www.opengis.net/ows/1.1"}
    assert [node.text for node in root.iterfind(".//w:LiteralData", spaces)] == ["<5 & more", "6"]
    assert root.findtext(".//{urn:g}gml") == "ä"
    box = root.find(".//w:BoundingBoxData", spaces)
    assert box is not None
    assert (box.get("crs"), box.findtext("o:UpperCorner", None, spaces)) == ("EPSG:4326", "3.5 4")
    document = root.find(".//w:ResponseDocument", spaces)
    assert document is not None
    assert {document.get("storeExecuteResponse"), document.get("status")} == {"true" if asynchronous else "false"}


@pytest.mark.parametrize("content", [b"\x89PNG\x00", b"\xff\xfe", b"a\x00b"])
def test_content_that_xml_cannot_carry_goes_as_base64(clip: ProcessInterface, content: bytes) -> None:
    given = GivenInput("layer", content=content, mime_type="application/x-netcdf")
    root = etree.fromstring(execute_document(clip, [given], asynchronous=False))
    data = root.find(".//{*}ComplexData")
    assert data is not None
    assert (data.get("encoding"), base64.b64decode(data.text or "")) == ("base64", content)


def test_a_file_that_is_not_the_xml_it_claims_to_be_is_not_sent(clip: ProcessInterface) -> None:
    with pytest.raises(ClientError, match="layer is application/gml\\+xml: this is not XML"):
        execute_document(clip, [GivenInput("layer", content=b"<gml>")], asynchronous=False)


def test_an_address_goes_as_a_reference(clip: ProcessInterface) -> None:
    given = GivenInput("layer", href="http://x.org/a?b&c", mime_type="application/x-netcdf")
    root = etree.fromstring(execute_document(clip, [given], asynchronous=False))
    reference = root.find(".//{*}Reference")
    assert reference is not None
    assert reference.get("{http://www.w3.org/1999/xlink}href") == "http://x.org/a?b&c"
    assert reference.get("mimeType") == "application/x-netcdf"


def test_outputs_of_every_kind_are_read() -> None:
    def output(name: str, inner: str) -> str:
        return f"<wps:Output><ows:Identifier>{name}</ows:Identifier><ows:Title>T</ows:Title>{inner}</wps:Output>"

    outputs = (
        output("number", '<wps:Data><wps:LiteralData uom="m"> 5</wps:LiteralData></wps:Data>')
        + output("text", '<wps:Data><wps:ComplexData mimeType="text/plain">a &lt; b</wps:ComplexData></wps:Data>')
        + output("xml", "<wps:Data><wps:ComplexData><a>ä</a></wps:ComplexData></wps:Data>")
        + output("bytes", '<wps:Data><wps:ComplexData encoding="base64">AAE=</wps:ComplexData></wps:Data>')
        + output("far", '<wps:Reference href="http://x.org/out" mimeType="text/csv"/>')
        + output(
            "box",
            '<wps:Data><wps:BoundingBoxData crs="EPSG:4326"><ows:LowerCorner>1 2</ows:LowerCorner>'
            "<ows:UpperCorner>3 4</ows:UpperCorner></wps:BoundingBoxData></wps:Data>",
        )
    )
    document = response(
        "<wps:ProcessSucceeded>done</wps:ProcessSucceeded>", f"<wps:ProcessOutputs>{outputs}</wps:ProcessOutputs>"
    )
    status = client(document).execute(b"<x/>")
    found = {value.identifier: value for value in status.outputs}
    assert status.finished
    assert (found["number"].text, found["number"].uom) == (" 5", "m")
    assert found["text"].content == b"a < b"
    assert etree.fromstring(found["xml"].content or b"").text == "ä"
    assert found["bytes"].content == b"\x00\x01"
    assert (found["far"].href, found["far"].mime_type) == ("http://x.org/out", "text/csv")
    assert found["box"].text == "1,2,3,4,EPSG:4326"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("<wps:ProcessAccepted>waits</wps:ProcessAccepted>", ("ProcessAccepted", "waits", 0, False)),
        ('<wps:ProcessStarted percentCompleted="42">on</wps:ProcessStarted>', ("ProcessStarted", "on", 42, False)),
        ('<wps:ProcessPaused percentCompleted="x"/>', ("ProcessPaused", "", 0, False)),
    ],
)
def test_a_status_is_read(status: str, expected: tuple[str, str, int, bool]) -> None:
    read = client(response(status, location="/status/1")).status("http://wps.example.org/status/1")
    assert (read.state, read.message, read.percent, read.finished) == expected
    assert read.location == "http://wps.example.org/status/1"


def test_a_failure_is_read_with_its_texts_and_code() -> None:
    report = (
        '<wps:ProcessFailed><ows:ExceptionReport version="1.0.0"><ows:Exception exceptionCode="InvalidParameterValue" '
        'locator="size"><ows:ExceptionText>too big</ows:ExceptionText><ows:ExceptionText>by far</ows:ExceptionText>'
        "</ows:Exception></ows:ExceptionReport></wps:ProcessFailed>"
    )
    failure = client(response(report)).execute(b"<x/>").failure
    assert failure is not None
    assert (str(failure), failure.code, failure.locator) == ("too big\nby far", "InvalidParameterValue", "size")


@pytest.mark.parametrize("version", ["http://www.opengis.net/ows/1.1", "http://www.opengis.net/ows"])
def test_an_exception_report_is_raised_whatever_its_http_status(version: str) -> None:
    report = (
        f'<e:ExceptionReport xmlns:e="{version}"><e:Exception exceptionCode="ServerBusy">'
        "<e:ExceptionText>try later</e:ExceptionText></e:Exception></e:ExceptionReport>"
    )
    with pytest.raises(ServiceFailure, match="try later") as raised:
        client(report, status=503).processes()
    assert raised.value.code == "ServerBusy"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("<html><p>oops</html>", 502, "answered with status 502: this is not XML"),
        ("", 200, "this is not XML"),
        ("<a/>", 404, "answered with status 404"),
        ("<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>", 200, "document type is not accepted"),
        ("<a/>", 200, "answered with a instead of an ExecuteResponse"),
        (response(""), 200, "has no status"),
    ],
)
def test_anything_else_is_a_clear_error(answer: str, status: int, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        client(answer, status).execute(b"<x/>")


def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wps_hpc.client.DOCUMENT_BYTES", 1000)
    with pytest.raises(ClientError, match="more than 1000 bytes"):
        client(b"<a>" + b"x" * 2000).processes()
    assert DOCUMENT_BYTES > 1000


def test_a_server_that_cannot_be_reached_is_named() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ClientError, match=r"no answer from http://wps.example.org/wps.*: refused"):
        client(refuse).processes()


def test_addresses_of_a_public_name_are_asked_for_here(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, text=response("<wps:ProcessAccepted/>", location="https://public.org/wps/1.xml"))

    here = WpsClient(
        ENDPOINT,
        httpx.Client(transport=httpx.MockTransport(answer)),
        rebase=("https://public.org", "http://127.0.0.1:80"),
    )
    location = here.execute(b"<x/>").location
    assert location == "http://127.0.0.1:80/wps/1.xml"
    here.download("https://public.org/outputs/1", tmp_path / "out")
    assert asked[-1] == "http://127.0.0.1/outputs/1"


def test_a_download_is_whole_or_not_there(tmp_path: Path) -> None:
    client(b"content").download("http://x.org/out", tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"content"
    with pytest.raises(ClientError, match=r"cannot fetch http://x.org/out: .*404"):
        client(b"gone", 404).download("http://x.org/out", tmp_path / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3,4", (["1", "2"], ["3", "4"], None)),
        (" 1, 2 ,3,4 , EPSG:3035", (["1", "2"], ["3", "4"], "EPSG:3035")),
        ("0,0,0,1,1,1", (["0", "0", "0"], ["1", "1", "1"], None)),
    ],
)
def test_a_box_is_split(text: str, expected: tuple[list[str], list[str], str | None]) -> None:
    assert split_bbox(text) == expected


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,x,4", "EPSG:4326"])
def test_what_is_no_box_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a bounding box|could not convert"):
        split_bbox(text)


def test_a_status_without_a_location_stays_without() -> None:
    assert client(response("<wps:ProcessAccepted/>")).execute(b"<x/>") == ExecuteStatus("ProcessAccepted", "", 0, None)
