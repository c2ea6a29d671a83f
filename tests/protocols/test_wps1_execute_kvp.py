"""Execute by key-value pairs (OGC 05-007r7 §10.2.2.1). The client validates every document."""

from urllib.parse import quote

import pytest

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from tests.protocols.conftest import CheckedClient
from tests.protocols.site import CRS84, Site
from wps_hpc.jobs.request import InlineContent, Mode, Reference, Transmission

START = "service=WPS&version=1.0.0&request=Execute&Identifier=echo"


def texts(site: Site, name: str = "text") -> list[str]:
    values = site.received.inputs[name]
    return [value.text for value in values if isinstance(value, LiteralValue)]


def test_10_2_2_1_literals_and_the_whole_answer(client: CheckedClient) -> None:
    answer = client.execute(Identifier="echo", DataInputs="text=hello;number=7")
    assert answer.outcome == "ProcessSucceeded"
    values = [element.text for element in answer.all("wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData")]
    assert values == ["hello", "7"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("text=plain", ["plain"]),
        ("text=a%3Bb", ["a;b"]),
        ("text=a%3Bb%3Dc%40d;text=e", ["a;b=c@d", "e"]),
        ("text=a+b%20c%2Bd", ["a b c+d"]),
        ("text=x=y=z", ["x=y=z"]),
        ("text=joe@example.org", ["joe@example.org"]),
        ("text=Gr%C3%BC%C3%9Fe", ["Grüße"]),
        ("text%3Da%253Bb%3Btext%3Dc", ["a;b", "c"]),
        ("text%3D1e%2B5", ["1e+5"]),
        ("text%3Da+b", ["a b"]),
        ("text%3D%C3%A9t%C3%A9%2520%25", ["été %"]),
        ("text=100%25", ["100%"]),
        ("[text=bracketed;text=list]", ["bracketed", "list"]),
        ("text=;text=%20", ["", " "]),
        ("text=last;", ["last"]),
    ],
)
def test_10_2_2_1_values_are_decoded_after_splitting(
    client: CheckedClient, site: Site, raw: str, expected: list[str]
) -> None:
    assert client.kvp(f"{START}&DataInputs={raw}").status == 200
    assert texts(site) == expected


def test_10_2_2_1_attributes(client: CheckedClient, site: Site) -> None:
    client.kvp(f"{START}&DataInputs=width=35@datatype=xs:double@uom=metre")
    assert site.received.inputs["width"] == (LiteralValue("35", "double", "metre"),)


def test_10_2_2_1_unknown_attribute(client: CheckedClient) -> None:
    answer = client.kvp(f"{START}&DataInputs=width=35@unit=metre")
    assert answer.exception == (400, "InvalidParameterValue", "width")


def test_10_2_2_1_item_without_a_name(client: CheckedClient) -> None:
    assert client.kvp(f"{START}&DataInputs==5").exception == (400, "MissingParameterValue", "DataInputs")


def test_10_2_2_1_bounding_box(client: CheckedClient, site: Site) -> None:
    client.kvp(f"{START}&DataInputs=box=46,102,47,103,urn:ogc:def:crs:EPSG:6.6:4326,2")
    expected = BoundingBoxValue((46, 102), (47, 103), "urn:ogc:def:crs:EPSG:6.6:4326")
    assert site.received.inputs["box"] == (expected,)


@pytest.mark.parametrize(
    ("value", "lower", "upper", "crs"),
    [
        ("1,2,3,4", (1, 2), (3, 4), None),
        ("-1.5,2e1,3,4," + CRS84, (-1.5, 20), (3, 4), CRS84),
        ("1,2,3,4,5,6", (1, 2, 3), (4, 5, 6), None),
    ],
)
def test_10_2_2_1_bounding_box_forms(
    client: CheckedClient, site: Site, value: str, lower: tuple[float], upper: tuple[float], crs: str | None
) -> None:
    client.kvp(f"{START}&DataInputs=box={value}")
    assert site.received.inputs["box"] == (BoundingBoxValue(lower, upper, crs),)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1,2,3",
        "a,b,c,d",
        "1,2,3,4,crs,3",
        "1,2,3,4,crs,2,more",
        *(f"1,2,{number},4" for number in ("nan", "NaN", "inf", "INF", "-INF", "infinity", "1e999", "1_0", "٣", "")),
    ],
)
def test_10_2_2_1_bad_bounding_boxes(client: CheckedClient, value: str) -> None:
    assert client.kvp(f"{START}&DataInputs=box={value}").exception == (400, "InvalidParameterValue", "box")


@pytest.mark.parametrize("attribute", ["xlink:href", "href", "HREF"])
def test_10_2_2_1_reference(client: CheckedClient, site: Site, attribute: str) -> None:
    address = "http://foo.example.org/wfs?a=1&b=2;c@d"
    raw = f"complex=@{attribute}={quote(address, safe='')}@mimeType=text%2Fxml@schema=http%3A%2F%2Fx%2Fy.xsd"
    client.kvp(f"{START}&DataInputs={raw}")
    assert site.received.inputs["complex"] == (Reference(address, "text/xml", None, "http://x/y.xsd"),)


def test_10_2_2_2_chained_request_keeps_its_inner_encoding(client: CheckedClient, site: Site) -> None:
    inner = "http://foo.example.org/wps?request=Execute&DataInputs=a%3Dhttp%253A%252F%252Fbar"
    client.kvp(f"{START}&DataInputs=complex=@href={quote(inner, safe='')}")
    received = site.received.inputs["complex"][0]
    assert isinstance(received, Reference)
    assert received.href == inner


def test_10_2_2_1_references_by_post_are_not_for_kvp(client: CheckedClient) -> None:
    answer = client.kvp(f"{START}&DataInputs=complex=@href=http%3A%2F%2Fx%2F@method=POST")
    assert answer.exception == (400, "InvalidParameterValue", "complex")


def test_10_2_2_1_complex_text_and_base64(client: CheckedClient, site: Site) -> None:
    client.kvp(f"{START}&DataInputs=complex=a%3Bb@mimeType=text/csv")
    assert site.received.inputs["complex"] == (InlineContent(b"a;b", "text/csv"),)
    client.kvp(f"{START}&DataInputs=complex=AAH%2B@mimeType=image/tiff@encoding=base64")
    assert site.received.inputs["complex"] == (InlineContent(b"\0\1\xfe", "image/tiff", "base64"),)


def test_empty_attributes_say_nothing(client: CheckedClient, site: Site) -> None:
    client.kvp(f"{START}&DataInputs=width=35@datatype=@uom=;complex=a@mimeType=@encoding=@schema=")
    assert site.received.inputs["width"] == (LiteralValue("35", "double"),)
    assert site.received.inputs["complex"] == (InlineContent(b"a"),)
    answer = client.kvp(f"{START}&DataInputs=complex=@href=")
    assert answer.exception == (400, "MissingParameterValue", "complex")


def test_10_2_2_1_bad_base64(client: CheckedClient) -> None:
    answer = client.kvp(f"{START}&DataInputs=complex=%21%21@mimeType=image/tiff@encoding=base64")
    assert answer.exception == (400, "InvalidParameterValue", "complex")


# Response form


def test_table_50_response_document_options(client: CheckedClient, site: Site) -> None:
    raw = "text@asReference=false;complex@asReference=true@mimeType=text/xml@schema=s@encoding=UTF-8"
    client.kvp(f"{START}&ResponseDocument={raw}&storeExecuteResponse=true&status=TRUE&lineage=1")
    request = site.received
    assert (request.store, request.status, request.mode) == (True, True, Mode.ASYNC)
    assert request.lineage is not None
    text, document = request.outputs
    assert (text.wanted.identifier, text.transmission) == ("text", None)
    assert (document.wanted.mime_type, document.wanted.schema) == ("text/xml", "s")
    assert document.wanted.encoding == "UTF-8"
    assert document.transmission is Transmission.REFERENCE


def test_raw_data_output(client: CheckedClient) -> None:
    answer = client.execute(Identifier="echo", DataInputs="text=bare", RawDataOutput="text")
    assert (answer.status, answer.body) == (200, b"bare")
    assert answer.response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("form", "locator"),
    [
        ("status=true", "status"),
        ("storeExecuteResponse=maybe", "storeExecuteResponse"),
        ("lineage=2", "lineage"),
        ("RawDataOutput=text;complex", "RawDataOutput"),
        ("RawDataOutput=text&ResponseDocument=text", "RawDataOutput"),
        ("RawDataOutput=text&storeExecuteResponse=true", "storeExecuteResponse"),
        ("RawDataOutput=nothing", "nothing"),
        ("ResponseDocument=text;text", "text"),
        ("ResponseDocument=other", "other"),
        ("ResponseDocument=complex@asReference=perhaps", "complex"),
        ("ResponseDocument=complex@mimeType=video/mp4", "complex"),
        ("DataInputs=strange=1", "strange"),
        ("DataInputs=number=11", "number"),
        ("DataInputs=number=one", "number"),
        ("DataInputs=text=1;text=2;text=3;text=4", "text"),
        ("DataInputs=complex=x@mimeType=video/mp4", "complex"),
        ("language=tlh", "language"),
    ],
)
def test_invalid_forms_name_the_parameter(client: CheckedClient, form: str, locator: str) -> None:
    assert client.kvp(f"{START}&{form}").exception == (400, "InvalidParameterValue", locator)


@pytest.mark.parametrize(
    ("query", "code", "locator"),
    [
        ("service=WPS&request=Execute&Identifier=echo", "MissingParameterValue", "version"),
        ("service=WPS&request=Execute&version=1.0.0", "MissingParameterValue", "Identifier"),
        ("service=WPS&request=Execute&version=3.0.0&Identifier=echo", "InvalidParameterValue", "version"),
        ("service=WPS&request=Execute&version=1.0.0&Identifier=none", "InvalidParameterValue", "Identifier"),
        ("service=WPS&request=Execute&version=1.0.0&Identifier=nested", "InvalidParameterValue", "Identifier"),
        ("request=Execute&version=1.0.0&Identifier=echo", "MissingParameterValue", "service"),
    ],
)
def test_table_39_mandatory_parameters(client: CheckedClient, query: str, code: str, locator: str) -> None:
    assert client.kvp(query).exception == (400, code, locator)


def test_lineage_of_kvp_tells_what_was_sent(client: CheckedClient) -> None:
    raw = "text=hi;width=2@uom=metre;box=1,2,3.5,4," + CRS84 + ";complex=AAH%2B@mimeType=image/tiff@encoding=base64"
    answer = client.kvp(f"{START}&DataInputs={raw}&ResponseDocument=text;complex@asReference=true&lineage=true")
    inputs = answer.all("wps:DataInputs/wps:Input")
    assert [element[0].text for element in inputs] == ["text", "width", "box", "complex"]
    assert answer.text("wps:DataInputs/wps:Input/wps:Data/wps:ComplexData") == "AAH+"
    assert answer.text("wps:DataInputs/wps:Input/wps:Data/wps:BoundingBoxData/ows:LowerCorner") == "1 2"
    definitions = answer.all("wps:OutputDefinitions/wps:Output")
    assert [element.get("asReference") for element in definitions] == [None, "true"]
    reference = client.kvp(f"{START}&DataInputs=complex=@href=http%3A%2F%2Fx%2F&lineage=true")
    href = reference.find("wps:DataInputs/wps:Input/wps:Reference").get("{http://www.w3.org/1999/xlink}href")
    assert href == "http://x/"
