"""Whatever a client sends, it gets an answer that is no defect: never a 500, always a valid document."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joblauncher.formats.values import LiteralValue
from tests.protocols.conftest import CheckedClient, Received, execute_xml, settings_with
from tests.protocols.site import Site
from wps_hpc.app import create_app
from wps_hpc.errors import ServiceError
from wps_hpc.protocols.ows import parse_query
from wps_hpc.protocols.xml import WPS, is_legal
from wps_hpc.protocols.xml_request import read_document

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """service request version Identifier DataInputs ResponseDocument RawDataOutput storeExecuteResponse status
        lineage language WPS Execute DescribeProcess GetCapabilities 1.0.0 echo text number box complex true false
        @href= @mimeType= @encoding=base64 @asReference=true = ; @ & % %3B %253B %00 + , [ ] all 1,2,3,4 text=a""",
    )
)


@pytest.fixture
def quick(tmp_path: Path) -> CheckedClient:
    """A client of a site that several examples share."""
    return CheckedClient(create_app(settings_with(), Site(tmp_path).backend))


def no_defect(answer: Received) -> None:
    assert answer.status not in (500, 502), answer.body
    assert b"Traceback" not in answer.body


@FUZZ
@given(st.lists(WORDS | st.text(max_size=5), max_size=25))
def test_any_query(quick: CheckedClient, parts: list[str]) -> None:
    no_defect(quick.kvp(quote("".join(parts), safe="=;@&%+,[]:"), valid=False))


@FUZZ
@given(st.lists(WORDS | st.text(max_size=5), max_size=12))
def test_any_inputs(quick: CheckedClient, parts: list[str]) -> None:
    start = "service=WPS&version=1.0.0&request=Execute&Identifier=echo&DataInputs="
    no_defect(quick.kvp(start + quote("".join(parts), safe="=;@%+,[]:")))


@FUZZ
@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255)))
def test_the_parser_of_key_value_pairs_is_total(query: str) -> None:
    try:
        parsed = parse_query(query)
        for name in parsed.raw:
            value = parsed.get(name)
            assert value is None or is_legal(value)
    except ServiceError as error:
        assert error.http_status == 400


@FUZZ
@given(st.text().filter(is_legal), st.booleans())
def test_any_text_survives_both_ways_of_encoding(
    tmp_path_factory: pytest.TempPathFactory, text: str, whole: bool
) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    client = CheckedClient(create_app(settings_with(), site.backend))
    value = "text=" + quote(text, safe="")
    inputs = quote(value, safe="") if whole else value
    answer = client.kvp(f"service=WPS&version=1.0.0&request=Execute&Identifier=echo&DataInputs={inputs}")
    assert answer.status == 200
    assert site.received.inputs["text"] == (LiteralValue(text),)


TAGS = st.sampled_from(
    re.findall(
        r"\S+",
        """wps:Input wps:Data wps:ComplexData wps:LiteralData wps:BoundingBoxData wps:Reference wps:Body wps:Header
        ows:Identifier ows:LowerCorner ows:UpperCorner wps:ResponseForm wps:RawDataOutput wps:ResponseDocument
        wps:Output wps:DataInputs other""",
    )
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["mimeType", "encoding", "method", "xlink:href", "crs", "uom", "asReference", "lineage", "status"]),
    st.sampled_from(["base64", "POST", "http://x/", "true", "text/xml", "", "☃"]),
    max_size=2,
)
LEAVES = st.sampled_from(["", "text", "number", "complex", "box", "1 2", "QUJD", "<![CDATA[<]]>", "&amp;", " "])


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda tag, attributes, inner: (
            f"<{tag}{''.join(f' {name}={value!r}' for name, value in attributes.items())}>{''.join(inner)}</{tag}>"
        ),
        TAGS,
        ATTRIBUTES,
        st.lists(children, max_size=4),
    )


@FUZZ
@given(st.lists(st.recursive(LEAVES, element, max_leaves=12), max_size=5), st.booleans())
def test_any_arrangement_of_the_elements(quick: CheckedClient, parts: list[str], within: bool) -> None:
    document = execute_xml("echo", "".join(parts)) if within else execute_xml("echo", form="".join(parts))
    no_defect(quick.post(document.encode(), valid=False))


@FUZZ
@given(st.data())
def test_any_damage_to_a_good_request(quick: CheckedClient, data: st.DataObject) -> None:
    document = execute_xml("echo", "<wps:Input><ows:Identifier>text</ows:Identifier></wps:Input>").encode()
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, min(len(document), start + 40)))
    damaged = document[:start] + data.draw(st.binary(max_size=10)) + document[end:]
    no_defect(quick.post(damaged))


@FUZZ
@given(st.binary(max_size=200))
def test_the_reader_of_xml_is_total(body: bytes) -> None:
    try:
        read_document(body, frozenset({(WPS, "ComplexData")}))
    except ServiceError as error:
        assert error.http_status == 400
