"""DescribeProcess (OGC 05-007r7 §9). The client validates every document."""

import pytest
from lxml import etree

from tests.protocols.conftest import NS, CheckedClient, Received

OWS = "{http://www.opengis.net/ows/1.1}"


def describe(client: CheckedClient, identifier: str = "everything", **pairs: str) -> Received:
    return client.kvp(service="WPS", version="1.0.0", request="DescribeProcess", Identifier=identifier, **pairs)


def item(answer: Received, identifier: str, kind: str = "DataInputs/Input") -> etree._Element:
    for element in answer.all(f"ProcessDescription/{kind}"):
        if element.findtext("ows:Identifier", None, NS) == identifier:
            return element
    raise AssertionError(f"no {identifier}")


def names(answer: Received) -> list[str | None]:
    return [element.text for element in answer.all("ProcessDescription/ows:Identifier")]


def post(inner: str, attributes: str = 'service="WPS" version="1.0.0"') -> str:
    return (
        f'<wps:DescribeProcess xmlns:wps="{NS["wps"]}" xmlns:ows="{NS["ows"]}" {attributes}>{inner}'
        "</wps:DescribeProcess>"
    )


def test_9_2_2_one_process(client: CheckedClient) -> None:
    answer = describe(client, "echo")
    assert answer.status == 200
    assert names(answer) == ["echo"]
    process = answer.find("ProcessDescription")
    assert process.get("{http://www.opengis.net/wps/1.0.0}processVersion") == "2.1.0"
    assert (process.get("storeSupported"), process.get("statusSupported")) == ("true", "true")


def test_9_2_2_several_processes_in_the_order_asked_for(client: CheckedClient) -> None:
    assert names(describe(client, "silent,echo,silent")) == ["silent", "echo"]


@pytest.mark.parametrize("word", ["all", "ALL", "All"])
def test_9_2_2_all_processes(client: CheckedClient, word: str) -> None:
    found = names(describe(client, word))
    assert "echo" in found
    assert "nested" not in found


def test_9_2_3_xml_post_answers_the_same(client: CheckedClient) -> None:
    inner = "<ows:Identifier>echo</ows:Identifier><ows:Identifier>everything</ows:Identifier>"
    assert client.post(post(inner)).body == describe(client, "echo,everything").body


@pytest.mark.parametrize(
    ("query", "code", "locator"),
    [
        ("service=WPS&request=DescribeProcess&identifier=echo", "MissingParameterValue", "version"),
        ("service=WPS&request=DescribeProcess&version=1.0.0", "MissingParameterValue", "Identifier"),
        ("service=WPS&request=DescribeProcess&version=1.0.0&identifier=,", "MissingParameterValue", "Identifier"),
        ("service=WPS&request=DescribeProcess&version=0.4.0&identifier=echo", "InvalidParameterValue", "version"),
        ("service=WPS&request=DescribeProcess&version=1.0.0&identifier=none", "InvalidParameterValue", "Identifier"),
        ("service=WPS&request=DescribeProcess&version=1.0.0&identifier=ECHO", "InvalidParameterValue", "Identifier"),
        ("service=WPS&request=DescribeProcess&version=1.0.0&identifier=nested", "InvalidParameterValue", "Identifier"),
        ("request=DescribeProcess&version=1.0.0&identifier=echo", "MissingParameterValue", "service"),
        (
            "service=WPS&request=DescribeProcess&version=1.0.0&identifier=echo&language=tlh",
            "InvalidParameterValue",
            "language",
        ),
    ],
)
def test_table_38_exceptions(client: CheckedClient, query: str, code: str, locator: str) -> None:
    assert client.kvp(query).exception == (400, code, locator)


@pytest.mark.parametrize(
    ("document", "code", "locator"),
    [
        (post("", 'service="WPS" version="1.0.0"'), "MissingParameterValue", "Identifier"),
        (post("<ows:Identifier>echo</ows:Identifier>", 'service="WPS"'), "MissingParameterValue", "version"),
        (post("<ows:Identifier>x</ows:Identifier>"), "InvalidParameterValue", "Identifier"),
    ],
)
def test_table_38_exceptions_by_post(client: CheckedClient, document: str, code: str, locator: str) -> None:
    assert client.post(document).exception == (400, code, locator)


def test_table_16_store_and_status_support(client: CheckedClient) -> None:
    process = describe(client, "sync.only").find("ProcessDescription")
    assert (process.get("storeSupported"), process.get("statusSupported")) == ("false", "false")


def test_table_18_occurrences(client: CheckedClient) -> None:
    answer = describe(client)
    assert (item(answer, "mode").get("minOccurs"), item(answer, "mode").get("maxOccurs")) == ("0", "1")
    assert int(item(answer, "slope").get("maxOccurs", "0")) > 1_000_000


def test_optional_nested_inputs_are_left_out(client: CheckedClient) -> None:
    assert "extra" not in [element.text for element in describe(client).all(".//DataInputs/Input/ows:Identifier")]


def test_table_21_allowed_values_and_default(client: CheckedClient) -> None:
    data = item(describe(client), "mode").find("LiteralData")
    assert [value.text for value in data.findall("ows:AllowedValues/ows:Value", NS)] == ["fast", "slow"]
    assert data.findtext("DefaultValue") == "fast"


def test_table_21_any_value(client: CheckedClient) -> None:
    assert item(describe(client, "echo"), "text").find("LiteralData/ows:AnyValue", NS) is not None


def test_table_21_values_reference(client: CheckedClient) -> None:
    reference = item(describe(client), "listed").find("LiteralData/ValuesReference")
    assert reference.get(f"{OWS}reference") == "https://example.org/values.xml"


def test_06_121r3_10_8_2_ranges_with_closure_and_spacing(client: CheckedClient) -> None:
    allowed = item(describe(client), "ratio").find("LiteralData/ows:AllowedValues", NS)
    bounds = allowed.find("ows:Range", NS)
    assert bounds.get(f"{OWS}rangeClosure") == "closed-open"
    assert [child.text for child in bounds] == ["0", "1", "0.25"]
    assert allowed.findtext("ows:Value", None, NS) == "5"
    half = item(describe(client), "open").find("LiteralData/ows:AllowedValues/ows:Range", NS)
    assert [str(child.tag) for child in half] == [f"{OWS}MinimumValue"]


def test_table_20_data_types(client: CheckedClient) -> None:
    answer = describe(client)
    ratio = item(answer, "ratio").find("LiteralData/ows:DataType", NS)
    assert (ratio.text, ratio.get(f"{OWS}reference")) == ("double", "http://www.w3.org/TR/xmlschema-2/#double")
    slope = item(answer, "slope").find("LiteralData/ows:DataType", NS)
    assert slope.get(f"{OWS}reference") == "urn:ogc:def:dataType:OGC:1.1:angle"


def test_table_23_units_of_measure(client: CheckedClient) -> None:
    units = item(describe(client, "echo"), "width").find("LiteralData/UOMs")
    assert units.findtext("Default/ows:UOM", None, NS) == "metre"
    supported = units.findall("Supported/ows:UOM", NS)
    assert [unit.text for unit in supported] == ["metre", "urn:ogc:def:uom:OGC::foot"]
    assert supported[1].get(f"{OWS}reference") == "urn:ogc:def:uom:OGC::foot"


def test_table_19_complex_formats_and_their_limit(client: CheckedClient) -> None:
    data = item(describe(client, "echo"), "complex").find("ComplexData")
    assert data.findtext("Default/Format/MimeType") == "text/xml"
    assert data.findtext("Default/Format/Schema") == "http://schemas.opengis.net/gml/3.1.1/base/gml.xsd"
    assert data.findtext("Supported/Format/MimeType") == "text/xml"
    assert data.findall("Supported/Format")[4].findtext("Encoding") == "base64"
    assert data.get("maximumMegabytes") == "2"
    assert item(describe(client), "layer").find("ComplexData").get("maximumMegabytes") == "256"


def test_table_24_bounding_boxes(client: CheckedClient) -> None:
    data = item(describe(client), "area").find("BoundingBoxData")
    assert data.findtext("Default/CRS") == "urn:ogc:def:crs:OGC:1.3:CRS84"
    assert len(data.findall("Supported/CRS")) == 2


def test_table_26_outputs(client: CheckedClient) -> None:
    answer = describe(client)
    kind = "ProcessOutputs/Output"
    assert item(answer, "length", kind).findtext("LiteralOutput/UOMs/Default/ows:UOM", None, NS) == "metre"
    assert item(answer, "map", kind).findtext("ComplexOutput/Default/Format/MimeType") == "image/tiff"
    assert item(answer, "extent", kind).findtext("BoundingBoxOutput/Default/CRS") == "urn:ogc:def:crs:EPSG::4326"


def test_table_13_language(client: CheckedClient) -> None:
    answer = describe(client, "echo", language="fr")
    assert answer.root.get("{http://www.w3.org/XML/1998/namespace}lang") == "fr-CA"
    assert answer.text("ProcessDescription/ows:Title") == "Écho"
    assert answer.text("ProcessDescription/ows:Abstract") == "Rend ce qu'il reçoit."
