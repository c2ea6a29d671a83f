"""Execute by XML (OGC 05-007r7 §10.2.2.3, tables 39-51). The client validates every document."""

import base64

import pytest
from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, LiteralValue
from tests.protocols.conftest import (
    NS,
    CheckedClient,
    complex_xml,
    document_xml,
    execute_xml,
    input_xml,
    literal_xml,
    raw_xml,
    settings_with,
)
from tests.protocols.site import Site
from wps_hpc.app import create_app
from wps_hpc.jobs.request import InlineContent, Mode, Reference, Transmission

ASYNC = 'storeExecuteResponse="true" status="true"'


def complex_content(site: Site) -> InlineContent:
    value = site.received.inputs["complex"][0]
    assert isinstance(value, InlineContent)
    return value


# Inputs


def test_table_47_literal_input(client: CheckedClient, site: Site) -> None:
    inputs = literal_xml("width", "35", ' dataType="xs:double" uom="metre"') + literal_xml("text", " a\n&amp;b ")
    assert client.post(execute_xml("echo", inputs)).outcome == "ProcessSucceeded"
    assert site.received.inputs["width"] == (LiteralValue("35", "double", "metre"),)
    assert site.received.inputs["text"] == (LiteralValue(" a\n&b ", "string"),)


def test_repeated_inputs_keep_their_order(client: CheckedClient, site: Site) -> None:
    inputs = "".join(literal_xml("text", text) for text in "cab") + literal_xml("number", "1")
    client.post(execute_xml("echo", inputs))
    assert [value.text for value in site.received.inputs["text"]] == ["c", "a", "b"]


def test_table_46_complex_xml_is_kept_byte_for_byte_with_its_namespaces(client: CheckedClient, site: Site) -> None:
    content = (
        "<gml:Point  b='1' a=\"&#x41;\"><!-- kept --><gml:pos><![CDATA[1 < 2]]></gml:pos><x xmlns=''/></gml:Point>"
    )
    document = execute_xml("echo", complex_xml(f"\n  {content}\n", 'mimeType="text/xml"'))
    client.post(document.replace("<wps:DataInputs>", '<wps:DataInputs xmlns:gml="http://www.opengis.net/gml">'))
    received = complex_content(site).content
    assert etree.fromstring(received).tag == "{http://www.opengis.net/gml}Point"
    declared = b' xmlns:gml="http://www.opengis.net/gml"'
    assert declared in received
    stripped = received
    for prefix in (b"wps", b"ows", b"xlink", b"gml"):
        start = stripped.index(b" xmlns:" + prefix)
        end = stripped.index(b'"', stripped.index(b'"', start) + 1) + 1
        stripped = stripped[:start] + stripped[end:]
    assert stripped == content.encode()


def test_complex_xml_in_the_default_namespace_of_the_request(client: CheckedClient, site: Site) -> None:
    document = (
        '<Execute xmlns="http://www.opengis.net/wps/1.0.0" xmlns:ows="http://www.opengis.net/ows/1.1" '
        'service="WPS" version="1.0.0"><ows:Identifier>echo</ows:Identifier><DataInputs><Input>'
        "<ows:Identifier>complex</ows:Identifier><Data><ComplexData mimeType='text/xml'><a><b/></a></ComplexData>"
        "</Data></Input></DataInputs></Execute>"
    )
    assert client.post(document).outcome == "ProcessSucceeded"
    assert etree.fromstring(complex_content(site).content).tag == "{http://www.opengis.net/wps/1.0.0}a"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("plain &lt;text&gt;\n", b"plain <text>\n"),
        ('<![CDATA[{"a": "<&>"}]]>', b'{"a": "<&>"}'),
        ('\n   <![CDATA[{"a":]]><![CDATA[1}]]>\n', b'{"a":1}'),
        ("<![CDATA[]]>", b""),
        ("", b""),
        ("Gr&#252;n ☃", "Grün ☃".encode()),
    ],
)
def test_complex_text_and_cdata(client: CheckedClient, site: Site, inner: str, expected: bytes) -> None:
    assert client.post(execute_xml("echo", complex_xml(inner, 'mimeType="text/plain"')).encode()).status == 200
    assert complex_content(site) == InlineContent(expected, "text/plain")


def test_complex_text_in_the_character_set_it_claims(client: CheckedClient, site: Site) -> None:
    client.post(execute_xml("echo", complex_xml("Gr&#252;n", 'mimeType="text/plain" encoding="ISO-8859-1"')))
    assert complex_content(site).content == "Grün".encode("latin-1")
    answer = client.post(execute_xml("echo", complex_xml("&#9731;", 'mimeType="text/plain" encoding="ISO-8859-1"')))
    assert answer.exception == (400, "InvalidParameterValue", "complex")


@pytest.mark.parametrize("word", ["base64", "Base64"])
def test_complex_base64_is_decoded(client: CheckedClient, site: Site, word: str) -> None:
    content = bytes(range(256)) * 9
    text = base64.encodebytes(content).decode()
    client.post(execute_xml("echo", complex_xml(f"\n{text}\n", f'mimeType="image/tiff" encoding="{word}"')))
    assert complex_content(site) == InlineContent(content, "image/tiff", word)


@pytest.mark.parametrize("inner", ["QUJ", "Q!JD", "Grün", "<a/>", "QUJD=QUJD"])
def test_bad_base64_is_refused(client: CheckedClient, inner: str) -> None:
    answer = client.post(execute_xml("echo", complex_xml(inner, 'mimeType="image/tiff" encoding="base64"')).encode())
    assert answer.exception == (400, "InvalidParameterValue", "complex")


@pytest.mark.parametrize("inner", ["<a/><b/>", "text <a/>", "<![CDATA[x]]><a/>", "a <![CDATA[x]]>"])
def test_mixtures_are_refused(client: CheckedClient, inner: str) -> None:
    answer = client.post(execute_xml("echo", complex_xml(inner, 'mimeType="text/xml"')))
    assert answer.exception == (400, "InvalidParameterValue", "complex")


def box_xml(lower: str, upper: str, attributes: str = "") -> str:
    corners = f"<ows:LowerCorner>{lower}</ows:LowerCorner><ows:UpperCorner>{upper}</ows:UpperCorner>"
    inner = f"<wps:Data><wps:BoundingBoxData {attributes}>{corners}</wps:BoundingBoxData></wps:Data>"
    return input_xml("box", inner)


def test_06_121r3_10_2_bounding_box_comes_back_as_it_came(client: CheckedClient, site: Site) -> None:
    attributes = 'crs="urn:ogc:def:crs:EPSG::4326" dimensions="2"'
    answer = client.post(execute_xml("echo", box_xml("46.5 102", "47 103.25", attributes)))
    expected = BoundingBoxValue((46.5, 102), (47, 103.25), "urn:ogc:def:crs:EPSG::4326")
    assert site.received.inputs["box"] == (expected,)
    data = answer.find("wps:ProcessOutputs/wps:Output/wps:Data/wps:BoundingBoxData")
    assert data.get("crs") == "urn:ogc:def:crs:EPSG::4326"
    assert [child.text for child in data] == ["46.5 102", "47 103.25"]


@pytest.mark.parametrize(
    "element",
    [
        box_xml("1 2", "3"),
        box_xml("", ""),
        box_xml("a b", "c d"),
        box_xml("1 2", "3 4", 'dimensions="3"'),
        box_xml("1 2", "NaN 4"),
        box_xml("1 2", "-INF 4"),
        box_xml("1 2", "infinity 4"),
        box_xml("1 2", "1_0 4"),
        input_xml("box", "<wps:Data><wps:BoundingBoxData/></wps:Data>"),
    ],
)
def test_bad_bounding_boxes(client: CheckedClient, element: str) -> None:
    assert client.post(execute_xml("echo", element)).exception == (400, "InvalidParameterValue", "box")


def reference_xml(attributes: str, inner: str = "") -> str:
    return input_xml("complex", f"<wps:Reference {attributes}>{inner}</wps:Reference>")


def reference_of(client: CheckedClient, site: Site, attributes: str, inner: str = "") -> Reference:
    client.post(execute_xml("echo", reference_xml(attributes, inner)))
    value = site.received.inputs["complex"][0]
    assert isinstance(value, Reference)
    return value


def test_table_43_reference_by_get(client: CheckedClient, site: Site) -> None:
    attributes = 'xlink:href="http://x/a?b=1&amp;c=2" mimeType="text/xml" encoding="UTF-8" schema="http://x/s"'
    expected = Reference("http://x/a?b=1&c=2", "text/xml", "UTF-8", "http://x/s")
    assert reference_of(client, site, attributes) == expected
    assert reference_of(client, site, attributes.replace("xlink:", "") + ' method="GET"') == expected


def test_table_44_reference_by_post_with_headers_and_an_xml_body(client: CheckedClient, site: Site) -> None:
    inner = '<wps:Header key="X-Token" value="s3cret"/><wps:Body><q xmlns="urn:q"><r/></q></wps:Body>'
    received = reference_of(client, site, 'xlink:href="http://x/" method="POST"', inner)
    assert (received.method, received.headers) == ("POST", (("X-Token", "s3cret"),))
    assert received.body is not None
    assert etree.fromstring(received.body).tag == "{urn:q}q"


def test_table_43_reference_by_post_with_a_text_body_or_a_body_reference(client: CheckedClient, site: Site) -> None:
    post = 'xlink:href="http://x/" method="POST"'
    assert reference_of(client, site, post, "<wps:Body><![CDATA[a=1&b=2]]></wps:Body>").body == b"a=1&b=2"
    by_reference = reference_of(client, site, post, '<wps:BodyReference xlink:href="http://x/body"/>')
    assert (by_reference.body, by_reference.body_href) == (None, "http://x/body")


@pytest.mark.parametrize(
    ("element", "code"),
    [
        (reference_xml(""), "MissingParameterValue"),
        (reference_xml('xlink:href="http://x/" method="PUT"'), "InvalidParameterValue"),
        (reference_xml('xlink:href="http://x/"', "<wps:Body>x</wps:Body>"), "InvalidParameterValue"),
        (
            reference_xml('xlink:href="http://x/"', '<wps:Header key="a" value="b&#13;&#10;Host: c"/>'),
            "InvalidParameterValue",
        ),
        (reference_xml('xlink:href="http://x/"', '<wps:Header value="b"/>'), "InvalidParameterValue"),
        (input_xml("complex", ""), "MissingParameterValue"),
        (input_xml("complex", "<wps:Data/>"), "MissingParameterValue"),
        (input_xml("complex", "<wps:Data><wps:StrangeData/></wps:Data>"), "MissingParameterValue"),
        (literal_xml("complex", "x"), "InvalidParameterValue"),
    ],
)
def test_bad_inputs_name_the_input(client: CheckedClient, element: str, code: str) -> None:
    assert client.post(execute_xml("echo", element)).exception == (400, code, "complex")


def test_literal_with_elements(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", literal_xml("text", "<b>bold</b>")))
    assert answer.exception == (400, "InvalidParameterValue", "text")


def test_input_without_identifier(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", "<wps:Input><wps:Data/></wps:Input>"))
    assert answer.exception == (400, "MissingParameterValue", "Identifier")


@pytest.mark.parametrize(
    ("document", "code", "locator"),
    [
        (execute_xml("").replace("<ows:Identifier></ows:Identifier>", ""), "MissingParameterValue", "Identifier"),
        (execute_xml(""), "MissingParameterValue", "Identifier"),
        (execute_xml("none"), "InvalidParameterValue", "Identifier"),
        (execute_xml("echo").replace(' version="1.0.0">', ">"), "MissingParameterValue", "version"),
        (execute_xml("echo").replace(' version="1.0.0">', ' version="2.0.0">'), "InvalidParameterValue", "version"),
        (execute_xml("echo").replace(' service="WPS"', ""), "MissingParameterValue", "service"),
        (execute_xml("echo", language="tlh"), "InvalidParameterValue", "language"),
        (execute_xml("everything"), "MissingParameterValue", "ratio"),
    ],
)
def test_table_39_mandatory_parts(client: CheckedClient, document: str, code: str, locator: str) -> None:
    assert client.post(document).exception == (400, code, locator)


# Response form


def test_table_50_response_document(client: CheckedClient, site: Site) -> None:
    output = (
        '<wps:Output asReference="true" mimeType="text/xml" encoding="UTF-8" schema="http://x/s">'
        "<ows:Identifier>complex</ows:Identifier><ows:Title>Mine</ows:Title><ows:Abstract>My own.</ows:Abstract>"
        '</wps:Output><wps:Output uom="metre" asReference="false"><ows:Identifier>width</ows:Identifier></wps:Output>'
    )
    form = f"<wps:ResponseDocument {ASYNC}>{output}</wps:ResponseDocument>"
    client.post(execute_xml("echo", form=form))
    request = site.received
    assert (request.mode, request.store, request.status, request.raw) == (Mode.ASYNC, True, True, False)
    first, second = request.outputs
    assert (first.title, first.abstract, first.transmission) == ("Mine", "My own.", Transmission.REFERENCE)
    assert (first.wanted.mime_type, first.wanted.encoding) == ("text/xml", "UTF-8")
    assert first.wanted.schema == "http://x/s"
    assert second.wanted.uom == "metre"


@pytest.mark.parametrize(
    ("attributes", "mode"),
    [
        ("", Mode.SYNC),
        ('storeExecuteResponse="true"', Mode.ASYNC),
        ('storeExecuteResponse="1" status="1"', Mode.ASYNC),
        ('storeExecuteResponse="false" status="false"', Mode.SYNC),
    ],
)
def test_table_50_store_makes_it_asynchronous(client: CheckedClient, site: Site, attributes: str, mode: Mode) -> None:
    client.post(execute_xml("echo", literal_xml("text", "x"), document_xml("text", attributes=attributes)))
    assert site.received.mode is mode


@pytest.mark.parametrize(
    ("form", "locator"),
    [
        (document_xml("text", attributes='status="true"'), "status"),
        (document_xml("text", attributes='lineage="perhaps"'), "lineage"),
        (document_xml("text", "text"), "text"),
        (document_xml("unknown"), "unknown"),
        (document_xml('complex mimeType="video/mp4"'), "complex"),
        (raw_xml("unknown"), "unknown"),
        (raw_xml("text") + raw_xml("text"), "RawDataOutput"),
        (raw_xml("text") + document_xml("text"), "ResponseForm"),
    ],
)
def test_invalid_response_forms(client: CheckedClient, form: str, locator: str) -> None:
    answer = client.post(execute_xml("echo", form=form))
    assert answer.exception == (400, "InvalidParameterValue", locator)


def test_an_empty_uom_says_nothing(client: CheckedClient, site: Site) -> None:
    client.post(execute_xml("echo", literal_xml("text", "x", ' dataType="" uom=""')))
    assert site.received.inputs["text"] == (LiteralValue("x", "string"),)


def test_output_without_identifier(client: CheckedClient) -> None:
    form = "<wps:ResponseDocument><wps:Output/></wps:ResponseDocument>"
    assert client.post(execute_xml("echo", form=form)).exception == (400, "MissingParameterValue", "Identifier")


@pytest.mark.parametrize(
    ("process", "form"),
    [
        ("sync.only", document_xml("text", attributes='storeExecuteResponse="true"')),
        ("sync.only", document_xml('complex asReference="true"')),
        ("no.status", document_xml("text", attributes=ASYNC)),
    ],
)
def test_table_62_storage_not_supported(client: CheckedClient, process: str, form: str) -> None:
    assert client.post(execute_xml(process, form=form)).exception == (400, "StorageNotSupported", None)


def test_table_51_as_reference_only_applies_to_complex_outputs(client: CheckedClient, site: Site) -> None:
    form = document_xml('text asReference="true"')
    answer = client.post(execute_xml("echo", literal_xml("text", "x"), form))
    assert answer.text("wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData") == "x"
    assert site.received.outputs[0].transmission is None


def test_table_62_server_busy_says_when_to_come_again(client: CheckedClient) -> None:
    answer = client.post(execute_xml("busy"))
    assert answer.exception == (503, "ServerBusy", None)
    assert answer.response.headers["Retry-After"] == "10"
    text = answer.text("ows:Exception/ows:ExceptionText")
    assert text == "Maximum number of parallel running processes reached. Please try later."


# Lineage


def test_table_50_lineage_is_echoed_as_received(client: CheckedClient) -> None:
    inputs = literal_xml("text", "a &amp; b") + complex_xml(
        "<g:p xmlns:g='urn:g' z='1' a='2'><!--c--></g:p>", 'mimeType="text/xml"'
    )
    form = document_xml('complex asReference="true"', "text", attributes='lineage="true"')
    answer = client.post(execute_xml("echo", inputs, form))
    sent = etree.fromstring(execute_xml("echo", inputs, form).encode())
    for path in ("wps:DataInputs", "wps:ResponseForm/wps:ResponseDocument"):
        for here, there in zip(
            sent.find(path, NS),
            answer.find(path.replace("ResponseForm/wps:ResponseDocument", "OutputDefinitions")),
            strict=True,
        ):
            assert etree.tostring(here, method="c14n") == etree.tostring(there, method="c14n")


def test_table_50_without_lineage_nothing_is_echoed(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", literal_xml("text", "x"), document_xml("text")))
    assert not answer.all("wps:DataInputs")
    assert not answer.all("wps:OutputDefinitions")


def test_lineage_without_inputs(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", form=document_xml("text", attributes='lineage="true"')))
    assert not answer.all("wps:DataInputs")
    assert len(answer.all("wps:OutputDefinitions/wps:Output")) == 1


def test_lineage_does_not_tell_the_values_of_headers(client: CheckedClient) -> None:
    inner = '<wps:Header key="Authorization" value="Bearer s3cret"/>'
    form = document_xml("text", attributes='lineage="true"')
    answer = client.post(execute_xml("echo", reference_xml('xlink:href="http://x/"', inner), form))
    assert answer.find(".//wps:Header").get("key") == "Authorization"
    assert b"s3cret" not in answer.body


# Transport


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "utf-8-sig"])
def test_character_sets_by_declaration(client: CheckedClient, site: Site, encoding: str) -> None:
    document = execute_xml("echo", literal_xml("text", "Grüße")).replace("UTF-8", encoding.removesuffix("-sig"))
    assert client.post(document.encode(encoding)).status == 200
    assert site.received.inputs["text"] == (LiteralValue("Grüße"),)


def test_character_set_of_the_transport_counts_more(client: CheckedClient, site: Site) -> None:
    document = execute_xml("echo", literal_xml("text", "Grüße"))
    client.post(document.encode("iso-8859-1"), content_type="text/xml; charset=ISO-8859-1")
    assert site.received.inputs["text"] == (LiteralValue("Grüße"),)


@pytest.mark.parametrize("content_type", ["application/xml", "text/plain", "application/x-www-form-urlencoded", ""])
def test_any_content_type_is_read_as_xml(client: CheckedClient, content_type: str) -> None:
    assert client.post(execute_xml("echo", literal_xml("text", "x")), content_type=content_type).status == 200


def test_key_value_pairs_by_post_are_not_a_request(client: CheckedClient) -> None:
    answer = client.post("service=WPS&request=GetCapabilities", content_type="application/x-www-form-urlencoded")
    assert answer.exception == (400, "NoApplicableCode", None)


def test_a_large_input_is_read_whole(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(), site.backend))
    text = base64.b64encode(bytes(12_000_000)).decode()
    client.post(execute_xml("echo", complex_xml(text, 'mimeType="image/tiff" encoding="base64"')))
    assert complex_content(site).content == bytes(12_000_000)
