"""Execute of WPS 2.0: inputs, outputs, modes, responses (OGC 14-065r2 §9.8). The client validates every document, and
the helpers make requests that are valid themselves, as a test shows."""

import base64
import re

import pytest
from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from tests.protocols.conftest import WPS2, CheckedClient, Received, settings_with
from tests.protocols.site import CRS84, EPSG4326, GML, Site
from tests.protocols.wps2 import (
    box_xml,
    data_xml,
    execute_xml,
    job_kvp,
    literal_xml,
    nested_xml,
    output_xml,
    reference_xml,
    submit,
)
from tests.schemas import validate
from wps_hpc.app import create_app
from wps_hpc.jobs.job import JobState
from wps_hpc.jobs.request import InlineContent, Mode, NestedGiven, Reference, Transmission

XS = "http://www.w3.org/2001/XMLSchema#"
HREF = "{http://www.w3.org/1999/xlink}href"
TEXT = literal_xml("text", "hello")


def output(answer: Received, identifier: str) -> etree._Element:
    """The Data or Reference of an output that there is once."""
    (found,) = [node for node in answer.all("wps:Output") if node.get("id") == identifier]
    return found[0]


def value(answer: Received, identifier: str) -> str | None:
    """The text of a literal output."""
    return output(answer, identifier).findtext(f"{WPS2}LiteralValue")


def test_the_requests_of_these_tests_are_valid() -> None:
    parts = (
        TEXT,
        box_xml("box", "1 2", "3 4"),
        reference_xml("complex", "http://a/", "<wps:Body>x</wps:Body>"),
        nested_xml("outer", literal_xml("count", "1")),
        output_xml("text", 'transmission="value"'),
    )
    for mode in Mode:
        validate(execute_xml("echo", *parts, mode=mode, response="raw").encode(), "wps/2.0/wps.xsd")


# Literals


@pytest.mark.parametrize(
    ("content", "attributes", "expected"),
    [
        ("<wps:LiteralValue>5</wps:LiteralValue>", 'mimeType="text/xml"', LiteralValue("5.0", "double", "metre")),
        ("<wps:LiteralValue>5</wps:LiteralValue>", "", LiteralValue("5.0", "double", "metre")),
        ("\n  <wps:LiteralValue>\n 5\n</wps:LiteralValue>\n", "", LiteralValue("5.0", "double", "metre")),
        (f'<wps:LiteralValue dataType="{XS}double">5</wps:LiteralValue>', "", LiteralValue("5.0", "double", "metre")),
        (f'<wps:LiteralValue dataType="{XS}int">5</wps:LiteralValue>', "", LiteralValue("5.0", "double", "metre")),
        ('<wps:LiteralValue dataType="urn:x:y">5</wps:LiteralValue>', "", LiteralValue("5.0", "double", "metre")),
        (
            '<wps:LiteralValue uom="urn:ogc:def:uom:OGC::foot">5</wps:LiteralValue>',
            "",
            LiteralValue("5.0", "double", "urn:ogc:def:uom:OGC::foot"),
        ),
        ("5", "", LiteralValue("5.0", "double", "metre")),
        ("5", 'mimeType="text/plain"', LiteralValue("5.0", "double", "metre")),
        ("<![CDATA[5]]>", 'mimeType="text/plain"', LiteralValue("5.0", "double", "metre")),
        (
            f"5@datatype={XS}double@uom=urn:ogc:def:uom:OGC::foot",
            'mimeType="text/plain"',
            LiteralValue("5.0", "double", "urn:ogc:def:uom:OGC::foot"),
        ),
        ("5@uom=metre", 'mimeType="text/plain"', LiteralValue("5.0", "double", "metre")),
    ],
)
def test_table_12_and_8_2_literals(
    client: CheckedClient, site: Site, content: str, attributes: str, expected: LiteralValue
) -> None:
    assert client.post(execute_xml("echo", data_xml("width", content, attributes))).status in (200, 500)
    assert site.received.inputs["width"] == (expected,)


@pytest.mark.parametrize("text", ["joe@uom=x", "a@datatype=b", f"@datatype={XS}strange", "", " x "])
def test_what_only_looks_like_an_appended_unit_is_part_of_the_value(
    client: CheckedClient, site: Site, text: str
) -> None:
    answer = client.post(execute_xml("echo", data_xml("text", text, 'mimeType="text/plain"')))
    assert (value(answer, "text") or "") == text


def test_the_answer_names_type_and_unit(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", TEXT, literal_xml("width", "1.50")))
    literal = output(answer, "width")[0]
    assert (literal.get("dataType"), literal.get("uom")) == (f"{XS}double", "metre")
    assert output(answer, "width").get("mimeType") == "text/xml"


def test_a_literal_as_plain_text(client: CheckedClient) -> None:
    answer = client.post(
        execute_xml("echo", literal_xml("text", "a &lt; b"), output_xml("text", 'mimeType="text/plain"'))
    )
    assert (output(answer, "text").text, output(answer, "text").get("mimeType")) == ("a < b", "text/plain")


def test_occurrences_in_their_order(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", *(literal_xml("text", word) for word in "cab")))
    assert [node.findtext(f".//{WPS2}LiteralValue") for node in answer.all("wps:Output")] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (literal_xml("number", "many"), "WrongInputData"),
        (literal_xml("number", "11"), "WrongInputData"),
        (literal_xml("number", "5", f'dataType="{XS}date"'), "WrongInputData"),
        (literal_xml("number", "5", 'uom="metre"'), "WrongInputData"),
        (data_xml("number", "<a>5</a>"), "WrongInputData"),
        (data_xml("number", "<wps:LiteralValue><b/></wps:LiteralValue>"), "WrongInputData"),
        (data_xml("number", "5<b/>"), "WrongInputData"),
        (data_xml("number", "5", 'mimeType="image/png"'), "NoSuchFormat"),
        (data_xml("number", "NQ==", 'encoding="base64"'), "NoSuchFormat"),
        (reference_xml("number", "https://example.org/5"), "WrongInputData"),
        (literal_xml("number", "5") * 2, "TooManyInputs"),
        (nested_xml("number", literal_xml("number", "5")), "NoSuchInput"),
        ('<wps:Input id="number"/>', "MissingParameterValue"),
    ],
)
def test_what_is_no_such_literal(client: CheckedClient, site: Site, part: str, code: str) -> None:
    assert client.post(execute_xml("echo", part)).exception2 == (400, code, "number")
    assert not site.jobs


# Bounding boxes


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (box_xml("box", "46 102", "47.5 103", f'crs="{EPSG4326}"'), BoundingBoxValue((46, 102), (47.5, 103), EPSG4326)),
        (box_xml("box", "46 102", "47 103"), BoundingBoxValue((46, 102), (47, 103), CRS84)),
        (box_xml("box", "1 2", "3 4", f'crs="{CRS84}" dimensions="2"'), BoundingBoxValue((1, 2), (3, 4), CRS84)),
        (
            data_xml("box", f"46,102,47,103,{EPSG4326}", 'mimeType="text/plain"'),
            BoundingBoxValue((46, 102), (47, 103), EPSG4326),
        ),
        (data_xml("box", "1,2,3,4"), BoundingBoxValue((1, 2), (3, 4), CRS84)),
        (
            data_xml(
                "box",
                "<ows:WGS84BoundingBox><ows:LowerCorner>1 2</ows:LowerCorner><ows:UpperCorner>3 4</ows:UpperCorner>"
                "</ows:WGS84BoundingBox>",
            ),
            BoundingBoxValue((1, 2), (3, 4), CRS84),
        ),
    ],
)
def test_bounding_boxes_keep_their_axes(
    client: CheckedClient, site: Site, part: str, expected: BoundingBoxValue
) -> None:
    answer = client.post(execute_xml("echo", part))
    assert site.received.inputs["box"] == (expected,)
    box = output(answer, "box")[0]
    assert box.get("crs") == expected.crs
    corners = [tuple(float(number) for number in (corner.text or "").split()) for corner in box]
    assert corners == [expected.lower, expected.upper]


def test_a_bounding_box_as_plain_text(client: CheckedClient) -> None:
    box = box_xml("box", "46 102", "47.5 103", f'crs="{EPSG4326}"')
    answer = client.post(execute_xml("echo", box, output_xml("box", 'mimeType="text/plain"')))
    assert output(answer, "box").text == f"46,102,47.5,103,{EPSG4326}"


@pytest.mark.parametrize(
    "part",
    [
        box_xml("box", "1 2", "3"),
        box_xml("box", "1 2", "3 4", 'dimensions="3"'),
        box_xml("box", "1 b", "3 4"),
        box_xml("box", "1 9", "3 4"),
        box_xml("box", "1 2", "3 4", 'crs="EPSG:31467"'),
        data_xml("box", "<ows:BoundingBox/>"),
        data_xml("box", "<a/>"),
        data_xml("box", "1,2,3"),
        data_xml("box", "here"),
    ],
)
def test_what_is_no_box(client: CheckedClient, part: str) -> None:
    assert client.post(execute_xml("echo", part)).exception2 == (400, "WrongInputData", "box")


# Complex data


@pytest.mark.parametrize(
    ("content", "attributes", "expected"),
    [
        ("<g:a xmlns:g='urn:g'>x</g:a>", 'mimeType="text/xml"', b"<g:a xmlns:wps="),
        ("plain", 'mimeType="text/plain"', b"plain"),
        ("  <![CDATA[<not> & xml]]>\n", 'mimeType="text/plain"', b"<not> & xml"),
        ('{"type": "Point"}', 'mimeType="application/geo+json"', b'{"type": "Point"}'),
        (base64.b64encode(b"\x00\xff").decode(), 'mimeType="image/tiff" encoding="base64"', b"\x00\xff"),
        ("x,y", 'mimeType="text/csv" encoding="raw"', b"x,y"),
        ("ü", 'mimeType="text/csv" encoding="ISO-8859-1"', b"\xfc"),
    ],
)
def test_table_19_complex_data(
    client: CheckedClient, site: Site, content: str, attributes: str, expected: bytes
) -> None:
    client.post(execute_xml("echo", data_xml("complex", content, attributes), mode="async"))
    (received,) = site.received.inputs["complex"]
    assert isinstance(received, InlineContent)
    assert received.content.startswith(expected)


def test_complex_outputs_are_embedded_as_they_are(client: CheckedClient) -> None:
    document = client.post(execute_xml("echo", data_xml("complex", "<a>x</a>", 'mimeType="text/xml"')))
    data = output(document, "complex")
    assert (data.get("mimeType"), data.get("schema")) == (GML.mime_type, GML.schema)
    assert data.findtext("a") == "x"
    picture = base64.b64encode(b"II*\x00\xff").decode()
    binary = client.post(execute_xml("echo", data_xml("complex", picture, 'mimeType="image/tiff" encoding="base64"')))
    data = output(binary, "complex")
    assert (data.get("encoding"), data.text) == ("base64", picture)


def test_a_complex_output_by_reference(client: CheckedClient) -> None:
    answer = client.post(
        execute_xml(
            "echo", data_xml("complex", "a,b", 'mimeType="text/csv"'), output_xml("complex", 'transmission="reference"')
        )
    )
    found = output(answer, "complex")
    assert found.tag == f"{WPS2}Reference"
    assert found.get("mimeType") == "text/csv"
    address = found.get(HREF) or ""
    assert client.open(address.removeprefix("https://wps.example.org/site")).body == b"a,b"


def test_a_large_output_comes_by_reference_unasked(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"embed_bytes": 2}), site.backend))
    answer = client.post(execute_xml("echo", data_xml("complex", "a,b", 'mimeType="text/csv"')))
    assert output(answer, "complex").tag == f"{WPS2}Reference"


def fetched(client: CheckedClient, answer: Received, identifier: str) -> Received:
    """What a reference refers to."""
    found = output(answer, identifier)
    assert found.tag == f"{WPS2}Reference"
    received = client.open((found.get(HREF) or "").removeprefix("https://wps.example.org/site"))
    assert received.response.mimetype == found.get("mimeType")
    assert "sandbox" in received.response.headers["Content-Security-Policy"]
    return received


def test_literals_and_boxes_by_reference(client: CheckedClient) -> None:
    inputs = (literal_xml("text", "a &lt; ü"), box_xml("box", "1 2", "3 4", f'crs="{EPSG4326}"'))
    reference = 'transmission="reference"'
    answer = client.post(execute_xml("echo", *inputs, output_xml("text", reference), output_xml("box", reference)))
    assert fetched(client, answer, "text").root.text == "a < ü"
    assert fetched(client, answer, "box").root.get("crs") == EPSG4326
    plain = f'{reference} mimeType="text/plain"'
    answer = client.post(execute_xml("echo", *inputs, output_xml("text", plain), output_xml("box", plain)))
    assert fetched(client, answer, "text").body == "a < ü".encode()
    assert fetched(client, answer, "box").body == f"1,2,3,4,{EPSG4326}".encode()


def test_several_values_of_a_literal_come_by_value(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", TEXT, TEXT, output_xml("text", 'transmission="reference"')))
    assert [node.text for node in answer.all("wps:Output/wps:Data/wps:LiteralValue")] == ["hello", "hello"]


@pytest.mark.parametrize("name", ["text", "text.pdf", "none.txt", "complex.txt", ".txt", "x", "text.txt/"])
def test_only_literals_and_boxes_are_there(client: CheckedClient, site: Site, name: str) -> None:
    client.post(execute_xml("echo", TEXT, data_xml("complex", "a,b", 'mimeType="text/csv"')))
    address = f"/wps/outputs/{site.latest.id}"
    assert client.open(f"{address}/{name}").exception[:2] == (404, "NoApplicableCode")
    assert client.open(f"{address}/text.txt").body == b"hello"
    site.change(site.latest.id, state=JobState.RUNNING)
    assert client.open(f"{address}/text.txt").status == 404
    assert client.open("/wps/outputs/none/text.txt").status == 404


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (data_xml("complex", "x", 'mimeType="image/png"'), "NoSuchFormat"),
        (data_xml("complex", "x", 'mimeType="text/xml" schema="urn:other"'), "NoSuchFormat"),
        (data_xml("complex", "?", 'mimeType="image/tiff" encoding="base64"'), "WrongInputData"),
        (data_xml("complex", "<a/>text", 'mimeType="text/xml"'), "WrongInputData"),
        (data_xml("complex", "<a/><b/>", 'mimeType="text/xml"'), "WrongInputData"),
        (data_xml("complex", "<a/>", 'mimeType="image/tiff" encoding="base64"'), "WrongInputData"),
        (data_xml("complex", "x" * 1_500_001, 'mimeType="text/plain"'), "SizeExceeded"),
        (reference_xml("complex", ""), "MissingParameterValue"),
    ],
)
def test_what_is_no_such_document(client: CheckedClient, part: str, code: str) -> None:
    assert client.post(execute_xml("echo", part)).exception2 == (400, code, "complex")


# References


def test_table_20_a_reference(client: CheckedClient, site: Site) -> None:
    part = reference_xml("complex", "https://example.org/a?b=1&amp;c=2", "", 'mimeType="text/csv" encoding="raw"')
    submit(client, "echo", part)
    assert site.received.inputs["complex"] == (Reference("https://example.org/a?b=1&c=2", "text/csv"),)


def test_table_21_a_body_makes_it_a_post(client: CheckedClient, site: Site) -> None:
    header = '<wps:Header key="X-Token" value="secret"/>'
    body = "<wps:Body><q:Query xmlns:q='urn:q'>all</q:Query></wps:Body>"
    submit(client, "echo", reference_xml("complex", "https://example.org/", header + body, 'mimeType="text/xml"'))
    (received,) = site.received.inputs["complex"]
    assert isinstance(received, Reference)
    assert (received.method, received.headers) == ("POST", (("X-Token", "secret"),))
    assert etree.fromstring(received.body or b"").tag == "{urn:q}Query"


def test_table_22_a_body_by_reference(client: CheckedClient, site: Site) -> None:
    submit(
        client,
        "echo",
        reference_xml("complex", "https://example.org/", '<wps:BodyReference xlink:href="https://example.org/body"/>'),
    )
    (received,) = site.received.inputs["complex"]
    assert isinstance(received, Reference)
    assert (received.method, received.body_href) == ("POST", "https://example.org/body")


# Nested inputs and outputs


def test_nested_inputs_and_outputs_at_any_depth(client: CheckedClient, site: Site) -> None:
    inner = [
        literal_xml("count", "3"),
        data_xml("note", "hi", 'mimeType="text/plain"'),
        *(nested_xml("deeper", literal_xml("label", label)) for label in "AB"),
    ]
    answer = client.post(execute_xml("nesting", nested_xml("outer", *inner)))
    (received,) = site.received.inputs["outer"]
    assert isinstance(received, NestedGiven)
    assert received.values["count"] == (LiteralValue("3", "integer"),)
    labels = [deeper.values["label"] for deeper in received.values["deeper"] if isinstance(deeper, NestedGiven)]
    assert labels == [(LiteralValue("A"),), (LiteralValue("B"),)]
    assert [node.get("id") for node in answer.all("wps:Output/wps:Output")] == ["count", "note", "deeper", "deeper"]
    deepest = answer.all("wps:Output/wps:Output/wps:Output/wps:Data/wps:LiteralValue")
    assert [node.text for node in deepest] == ["A", "B"]


def test_a_nested_output_is_asked_for_by_its_parts(client: CheckedClient, site: Site) -> None:
    wishes = (output_xml("outer", inner=output_xml(part, 'transmission="reference"')) for part in ("count", "note"))
    answer = client.post(execute_xml("nesting", nested_xml("outer", literal_xml("count", "1")), *wishes))
    assert answer.status == 200
    (wish,) = site.received.outputs
    assert (wish.wanted.identifier, wish.transmission) == ("outer", Transmission.REFERENCE)


COUNT = nested_xml("outer", literal_xml("count", "1"))


@pytest.mark.parametrize(
    ("parts", "code", "locator"),
    [
        ([nested_xml("outer", literal_xml("size", "1"), literal_xml("age", "1"))], "NoSuchInput", "size,age"),
        ([nested_xml("outer", literal_xml("count", "x"))], "WrongInputData", "count"),
        ([data_xml("outer", "x")], "WrongInputData", "outer"),
        ([nested_xml("outer")], "MissingParameterValue", "count"),
        (
            [nested_xml("outer", literal_xml("count", "1")), output_xml("outer", "", output_xml("x"))],
            "NoSuchOutput",
            "x",
        ),
        ([COUNT, output_xml("outer", "", output_xml("deeper", "", output_xml("y")))], "NoSuchOutput", "y"),
    ],
)
def test_what_is_no_such_nesting(client: CheckedClient, parts: list[str], code: str, locator: str) -> None:
    assert client.post(execute_xml("nesting", *parts)).exception2 == (400, code, locator)


# Outputs


def test_only_what_is_asked_for_in_the_order_of_the_request(client: CheckedClient) -> None:
    inputs = (TEXT, literal_xml("number", "5"), literal_xml("width", "1"))
    answer = client.post(execute_xml("echo", *inputs, output_xml("width"), output_xml("text")))
    assert [node.get("id") for node in answer.all("wps:Output")] == ["width", "text"]


@pytest.mark.parametrize(
    ("parts", "code", "locator"),
    [
        ([output_xml("one"), output_xml("two")], "NoSuchOutput", "one,two"),
        ([output_xml("text"), output_xml("text")], "InvalidParameterValue", "text"),
        ([output_xml("text", 'transmission="pigeon"')], "InvalidParameterValue", "transmission"),
        ([output_xml("text", 'mimeType="image/png"')], "NoSuchFormat", "text"),
        ([output_xml("complex", 'mimeType="image/png"')], "NoSuchFormat", "complex"),
        (["<wps:Output/>"], "MissingParameterValue", "id"),
        (["<wps:Input/>"], "MissingParameterValue", "id"),
        ([literal_xml("one", "1"), literal_xml("two", "1"), TEXT], "NoSuchInput", "one,two"),
    ],
)
def test_what_cannot_be_asked_for(client: CheckedClient, site: Site, parts: list[str], code: str, locator: str) -> None:
    assert client.post(execute_xml("echo", *parts)).exception2 == (400, code, locator)
    assert not site.jobs


def test_what_cannot_be_stored_cannot_be_referred_to(client: CheckedClient) -> None:
    answer = client.post(execute_xml("sync.only", TEXT, output_xml("text", 'transmission="reference"')))
    assert answer.exception2[:2] == (400, "StorageNotSupported")


def test_a_process_that_makes_nothing_has_failed(client: CheckedClient) -> None:
    assert client.post(execute_xml("silent")).exception2 == (500, "InternalServerError", None)


# Modes and responses (table 40)


@pytest.mark.parametrize(
    ("process", "mode", "root"),
    [
        ("echo", "sync", "Result"),
        ("echo", "async", "StatusInfo"),
        ("echo", "auto", "Result"),
        ("echo", "", "Result"),
        ("slow", "auto", "StatusInfo"),
        ("sync.only", "auto", "Result"),
        ("no.status", "auto", "Result"),
        ("async.only", "auto", "StatusInfo"),
    ],
)
@pytest.mark.parametrize("response", ["document", ""])
def test_table_40_documents(client: CheckedClient, process: str, mode: str, root: str, response: str) -> None:
    parts = () if process == "slow" else (TEXT,)
    answer = client.post(execute_xml(process, *parts, mode=mode, response=response))
    assert answer.root.tag == f"{WPS2}{root}"
    assert answer.response.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.text("wps:JobID"))


@pytest.mark.parametrize(
    ("process", "mode"), [("sync.only", "async"), ("no.status", "async"), ("async.only", "sync"), ("echo", "never")]
)
def test_table_43_modes_that_a_process_has_not(client: CheckedClient, site: Site, process: str, mode: str) -> None:
    assert client.post(execute_xml(process, TEXT, mode=mode)).exception2 == (400, "NoSuchMode", mode)
    assert not site.jobs


def test_a_response_of_another_kind(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", TEXT, response="song"))
    assert answer.exception2 == (400, "InvalidParameterValue", "response")


def test_a_synchronous_call_that_takes_too_long(client: CheckedClient, site: Site) -> None:
    answer = client.post(execute_xml("slow"))
    assert answer.exception2[:2] == (504, "NoApplicableCode")
    assert 'mode="async"' in answer.text("ows:Exception/ows:ExceptionText")
    assert site.latest.state is JobState.DISMISSED


def test_a_synchronous_call_that_fails(client: CheckedClient) -> None:
    assert client.post(execute_xml("refuses")).exception2 == (500, "InternalServerError", "moon")


def test_a_busy_server(client: CheckedClient) -> None:
    answer = client.post(execute_xml("busy"))
    assert answer.exception2 == (503, "ServerBusy", None)
    assert answer.response.headers["Retry-After"]


def test_an_owner_is_kept(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(server={"trusted_proxies": ["127.0.0.1"]}), site.backend))
    by_proxy = {"REMOTE_ADDR": "127.0.0.1"}
    client.post(execute_xml("echo", TEXT), headers={"X-Remote-User": "ada"}, environ_overrides=by_proxy)
    assert site.latest.owner == "ada"


# Raw data


@pytest.mark.parametrize("mode", ["sync", "auto"])
def test_raw_literals_as_xml_and_as_text(client: CheckedClient, mode: str) -> None:
    xml = client.post(execute_xml("echo", TEXT, output_xml("text"), mode=mode, response="raw"))
    assert (xml.root.tag, xml.root.text) == (f"{WPS2}LiteralValue", "hello")
    wish = output_xml("text", 'mimeType="text/plain"')
    plain = client.post(execute_xml("echo", TEXT, wish, mode=mode, response="raw"))
    assert (plain.body, plain.response.mimetype) == (b"hello", "text/plain")


def test_raw_boxes_as_xml_and_as_text(client: CheckedClient) -> None:
    box = box_xml("box", "1 2", "3 4", f'crs="{EPSG4326}"')
    xml = client.post(execute_xml("echo", box, output_xml("box"), response="raw"))
    assert (xml.root.tag.rpartition("}")[2], xml.root.get("crs")) == ("BoundingBox", EPSG4326)
    plain = client.post(execute_xml("echo", box, output_xml("box", 'mimeType="text/plain"'), response="raw"))
    assert plain.body == f"1,2,3,4,{EPSG4326}".encode()


def test_raw_files(client: CheckedClient) -> None:
    part = data_xml("complex", "a,b", 'mimeType="text/csv"')
    answer = client.post(execute_xml("echo", part, output_xml("complex"), response="raw"))
    assert (answer.body, answer.response.mimetype) == (b"a,b", "text/csv")
    coded = data_xml("complex", base64.b64encode(b"\x00\xff").decode(), 'mimeType="image/tiff" encoding="base64"')
    wish = output_xml("complex", 'mimeType="image/tiff" encoding="base64"')
    assert client.post(execute_xml("echo", coded, wish, response="raw")).body == base64.b64encode(b"\x00\xff")


def test_raw_of_the_only_output_need_not_name_it(client: CheckedClient, site: Site) -> None:
    answer = client.post(execute_xml("nested", nested_xml("outer", literal_xml("inner", "1")), response="raw"))
    assert answer.exception2[1] == "InternalServerError"  # it makes none; but it was not refused
    assert [wish.wanted.identifier for wish in site.received.outputs] == ["text"]


@pytest.mark.parametrize("wishes", [(), ("text", "width")])
def test_table_43_raw_data_is_one_output(client: CheckedClient, site: Site, wishes: tuple[str, ...]) -> None:
    answer = client.post(execute_xml("echo", TEXT, *map(output_xml, wishes), response="raw"))
    assert answer.exception2[:2] == (400, "TooManyOutputs")
    assert not site.jobs


def test_raw_data_of_several_values(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", TEXT, TEXT, output_xml("text"), response="raw"))
    assert answer.exception2 == (400, "TooManyOutputs", "text")


def test_raw_data_of_an_asynchronous_job_is_its_result(client: CheckedClient, site: Site) -> None:
    job_id = submit(client, "echo", TEXT, output_xml("text"), response="raw")
    site.run(job_id)
    answer = job_kvp(client, "GetResult", job_id)
    assert (answer.root.tag, answer.root.text) == (f"{WPS2}LiteralValue", "hello")
