"""What hostile clients, and chance, send to WPS 2.0: refused with a report, never a defect, never much memory."""

import re
import tracemalloc
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.protocols.conftest import CheckedClient, Received, settings_with
from tests.protocols.site import Site
from tests.protocols.wps2 import (
    HEAD,
    box_xml,
    data_xml,
    execute_xml,
    job_xml,
    literal_xml,
    nested_xml,
    output_xml,
    reference_xml,
    request_xml,
)
from wps_hpc.app import create_app
from wps_hpc.protocols.xml_request import MAX_DEPTH, MAX_NODES

EXECUTE = execute_xml("echo", literal_xml("text", "&x;"))
BOMB = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 12))


def with_doctype(inner: str) -> str:
    return EXECUTE.replace("<wps:Execute", f"<!DOCTYPE wps:Execute [{inner}]><wps:Execute", 1)


@pytest.mark.parametrize(
    "document",
    [
        with_doctype('<!ENTITY x "harmless">'),
        with_doctype(f'<!ENTITY x0 "ha">{BOMB}<!ENTITY x "&x11;">'),
        with_doctype('<!ENTITY x SYSTEM "file:///etc/passwd">'),
        with_doctype('<!ENTITY % p SYSTEM "http://127.0.0.1:1/evil.dtd"> %p;'),
        EXECUTE,
    ],
    ids=["internal", "bomb", "external", "parameter", "undeclared"],
)
def test_document_types_and_entities_are_refused(client: CheckedClient, site: Site, document: str) -> None:
    answer = client.post(document)
    assert answer.exception2 == (400, "NoApplicableCode", None)
    assert b"root:" not in answer.body
    assert not site.jobs


@pytest.mark.parametrize("wrap", [data_xml, nested_xml], ids=["in data", "nested"])
def test_deep_nesting(client: CheckedClient, wrap: object) -> None:
    deep = "<wps:Input id='a'>" * 100_000 + "</wps:Input>" * 100_000
    document = execute_xml("nesting", data_xml("outer", deep) if wrap is data_xml else deep)
    assert client.post(document).exception2 == (400, "NoApplicableCode", None)


def test_nesting_up_to_the_limit_of_elements_is_an_unknown_input_only(client: CheckedClient) -> None:
    levels = MAX_DEPTH - 5
    deep = '<wps:Input id="deeper">' * levels + "</wps:Input>" * levels
    assert client.post(execute_xml("nesting", nested_xml("outer", deep))).exception2[:2] == (400, "NoSuchInput")


def test_very_many_elements(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", "<wps:Input/>" * (MAX_NODES + 1)))
    assert answer.exception2 == (400, "NoApplicableCode", None)


def test_very_many_unknown_inputs_and_outputs_make_no_endless_report(client: CheckedClient) -> None:
    for part in ("<wps:Input id='{}'/>", "<wps:Output id='{}'/>"):
        answer = client.post(execute_xml("echo", *(part.format(f"{'x' * 50}{number}") for number in range(5000))))
        assert answer.exception2[0] == 400
        assert len(answer.body) < 2000


@pytest.mark.parametrize("content", ["<x{}/>", "<wps:LiteralValue{}>1</wps:LiteralValue>"])
def test_one_enormous_tag_is_refused_before_it_is_understood(client: CheckedClient, content: str) -> None:
    attributes = "".join(f' a{number}=""' for number in range(600_000))
    document = execute_xml("echo", data_xml("text", content.format(attributes))).encode()
    tracemalloc.start()
    answer = client.post(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.exception2 == (400, "NoApplicableCode", None)
    assert peak < 6 * len(document)


def test_namespaces_that_every_literal_would_copy(client: CheckedClient) -> None:
    long = f'xmlns:n="{"u" * 9000}"'
    parts = literal_xml("text", "x") * 2000
    answer = client.post(execute_xml("echo", parts).replace("<wps:Execute ", f"<wps:Execute {long} ", 1))
    assert answer.exception2 == (400, "NoApplicableCode", None)


@pytest.mark.parametrize(
    "content",
    [
        "<wps:LiteralValue><wps:LiteralValue>1</wps:LiteralValue></wps:LiteralValue>",
        "<wps:LiteralValue>1</wps:LiteralValue><wps:LiteralValue>2</wps:LiteralValue>",
        "<LiteralValue>1</LiteralValue>",
        "<wps:LiteralValue/>1",
        "<ows:BoundingBox/>",
    ],
)
def test_what_pretends_to_be_a_literal(client: CheckedClient, content: str) -> None:
    assert client.post(execute_xml("echo", data_xml("text", content))).exception2 == (400, "WrongInputData", "text")


def test_a_header_that_would_break_a_request(client: CheckedClient) -> None:
    header = '<wps:Header key="X" value="a&#13;&#10;Host: evil"/>'
    answer = client.post(execute_xml("echo", reference_xml("complex", "http://a/", header)))
    assert answer.exception2 == (400, "InvalidParameterValue", "complex")


@pytest.mark.parametrize(
    "query",
    [
        "service=WPS&version=2.0.0&request=GetStatus&jobid=%00",
        "service=WPS&version=2.0.0&request=GetStatus&jobid=%FF%FE",
        "service=WPS&version=2.0.0&request=DescribeProcess&identifier=%C0%AF",
        "service=WPS&version=2.0.0&request=DescribeProcess&identifier=echo&lang=%01",
        "service=WPS&version=2.0.0&request=Get%00Status",
    ],
)
def test_hostile_key_value_pairs(client: CheckedClient, query: str) -> None:
    assert client.kvp(query).exception2[:2] == (400, "InvalidParameterValue")


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "' OR 1=1 --", "<script>", "a" * 100_000, "${jndi:x}"])
def test_hostile_job_ids(client: CheckedClient, job_id: str) -> None:
    answer = client.kvp(service="WPS", version="2.0.0", request="GetResult", jobid=job_id)
    assert answer.exception2 == (400, "NoSuchJob", job_id[:100])
    assert len(answer.body) < 1000


# By chance

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        """service request version Identifier jobid lang WPS GetStatus GetResult Dismiss Pause DescribeProcess
        GetCapabilities Execute AcceptVersions 2.0.0 1.0.0 echo ALL = & % %3B %00 + , 2.0.2 sections""",
    )
)


@pytest.fixture
def quick(tmp_path: Path) -> CheckedClient:
    """A client of a site that several examples share."""
    local = {"public_url": "http://127.0.0.1:8095"}
    return CheckedClient(create_app(settings_with(server=local), Site(tmp_path).backend))


def no_defect(answer: Received) -> None:
    assert answer.status not in (500, 502), answer.body
    assert b"Traceback" not in answer.body


@FUZZ
@given(st.lists(WORDS | st.text(max_size=5), max_size=25))
def test_any_query(quick: CheckedClient, parts: list[str]) -> None:
    no_defect(quick.kvp("service=WPS&version=2.0.0&" + quote("".join(parts), safe="=&%+,"), valid=False))


TAGS = st.sampled_from(
    re.findall(
        r"\S+",
        """wps:Input wps:Output wps:Data wps:LiteralValue wps:Reference wps:Body wps:BodyReference wps:Header
        ows:Identifier ows:BoundingBox ows:LowerCorner ows:UpperCorner wps:JobID other""",
    )
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["id", "mimeType", "encoding", "schema", "transmission", "xlink:href", "crs", "uom", "dataType", "dimensions"]
    ),
    st.sampled_from(["base64", "raw", "reference", "http://x/", "text", "box", "complex", "text/xml", "", "☃", "2"]),
    max_size=3,
)
LEAVES = st.sampled_from(["", "text", "1 2", "1,2,3,4", "QUJD", "<![CDATA[<]]>", "&amp;", " ", "5@uom=m"])


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda tag, attributes, inner: (
            f"<{tag}{''.join(f' {name}={value!r}' for name, value in attributes.items())}>{''.join(inner)}</{tag}>"
        ),
        TAGS,
        ATTRIBUTES,
        st.lists(children, max_size=4),
    )


MODES = st.sampled_from(["sync", "async", "auto", "", "x"])
RESPONSES = st.sampled_from(["raw", "document", "", "x"])


@FUZZ
@given(st.lists(st.recursive(LEAVES, element, max_leaves=12), max_size=5), MODES, RESPONSES)
def test_any_arrangement_of_the_elements(quick: CheckedClient, parts: list[str], mode: str, response: str) -> None:
    """A process that got other inputs than it wanted may fail: what it made of nothing has no outputs."""
    answer = quick.post(execute_xml("echo", "".join(parts), mode=mode, response=response).encode(), valid=False)
    assert b"Traceback" not in answer.body
    assert b"incident" not in answer.body


@FUZZ
@given(st.sampled_from(["text", "box", "complex", "number"]), st.recursive(LEAVES, element, max_leaves=8), ATTRIBUTES)
def test_any_content_of_an_input(quick: CheckedClient, name: str, content: str, attributes: dict[str, str]) -> None:
    attributes = {key: value for key, value in attributes.items() if key != "id"}
    said = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    answer = quick.post(execute_xml("echo", data_xml(name, content, said)).encode(), valid=False)
    assert b"incident" not in answer.body


@FUZZ
@given(st.data())
def test_any_damage_to_a_good_request(quick: CheckedClient, data: st.DataObject) -> None:
    parts = (literal_xml("text", "x"), box_xml("box", "1 2", "3 4"), output_xml("text", 'transmission="value"'))
    document = execute_xml("echo", *parts).encode()
    start = data.draw(st.integers(0, len(document)))
    end = data.draw(st.integers(start, min(len(document), start + 40)))
    damaged = document[:start] + data.draw(st.binary(max_size=10)) + document[end:]
    no_defect(quick.post(damaged))


@FUZZ
@given(st.sampled_from(["GetStatus", "GetResult", "Dismiss", "Pause", "Resume"]), st.text(max_size=40))
def test_any_job(quick: CheckedClient, operation: str, job_id: str) -> None:
    no_defect(quick.post(job_xml(operation, quote(job_id)), valid=False))


@FUZZ
@given(st.text(alphabet=st.characters(min_codepoint=65, max_codepoint=122), max_size=20))
def test_any_operation(quick: CheckedClient, name: str) -> None:
    no_defect(quick.post(f"<wps:{name} {HEAD} service='WPS' version='2.0.0'/>", valid=False))
    no_defect(quick.post(request_xml("DescribeProcess", f"<ows:Identifier>{quote(name)}</ows:Identifier>")))
