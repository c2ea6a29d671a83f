"""What a hostile client sends: refused with a report, never obeyed, never a traceback, never much memory."""

import encodings
import io
import tracemalloc

import pytest

from tests.protocols.conftest import (
    NS,
    CheckedClient,
    Received,
    complex_xml,
    execute_xml,
    literal_xml,
    settings_with,
)
from tests.protocols.site import Site, Trickle
from wps_hpc.app import create_app
from wps_hpc.protocols.body import NoPlaceToWait
from wps_hpc.protocols.xml_request import MAX_DEPTH, MAX_NODES

EXECUTE = execute_xml("echo", literal_xml("text", "&x;"))
BOMB = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 12))


def with_doctype(inner: str) -> str:
    return EXECUTE.replace("<wps:Execute", f"<!DOCTYPE wps:Execute [{inner}]><wps:Execute", 1)


@pytest.mark.parametrize(
    "document",
    [
        with_doctype(""),
        with_doctype('<!ENTITY x "harmless">'),
        with_doctype(f'<!ENTITY x0 "ha">{BOMB}<!ENTITY x "&x11;">'),
        with_doctype('<!ENTITY x SYSTEM "file:///etc/passwd">'),
        with_doctype('<!ENTITY % p SYSTEM "http://127.0.0.1:1/evil.dtd"> %p;'),
        EXECUTE.replace("<wps:Execute", '<!DOCTYPE wps:Execute SYSTEM "file:///etc/passwd"><wps:Execute', 1),
        EXECUTE,
    ],
    ids=["empty", "internal", "bomb", "external", "parameter", "subset", "undeclared"],
)
def test_document_types_and_entities_are_refused(client: CheckedClient, site: Site, document: str) -> None:
    answer = client.post(document)
    assert answer.exception == (400, "NoApplicableCode", None)
    assert b"root:" not in answer.body
    assert not site.jobs


def test_a_document_type_is_named_with_its_line(client: CheckedClient) -> None:
    text = client.post("\n\n<!DOCTYPE a><a/>").text("ows:Exception/ows:ExceptionText")
    assert "document type declaration (line 3)" in text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"text",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"<a>\x00</a>",
        b"<a>\xff</a>",
        b"<a b='1' b='2'/>",
        b"<p:a/>",
        b"<?xml version='1.0' encoding='klingon'?><a/>",
        b"<?xml version='1.0' encoding='utf-16'?><a/>",
        b"<?xml version='1.0' encoding='rot13'?><a/>",
        b'{"service": "WPS"}',
        b"<a>&#0;</a>",
        b"<a>\xed\xa0\x80</a>",
    ],
)
def test_malformed_bodies(client: CheckedClient, body: bytes) -> None:
    assert client.post(body).exception == (400, "NoApplicableCode", None)


def test_malformed_xml_is_reported_with_its_line(client: CheckedClient) -> None:
    document = execute_xml("echo", "\n\n" + literal_xml("text", "<b>"))
    assert "line 3" in client.post(document).text("ows:Exception/ows:ExceptionText")


def test_a_character_set_of_the_transport_that_does_not_exist(client: CheckedClient) -> None:
    answer = client.post(EXECUTE, content_type="text/xml; charset=klingon")
    assert answer.exception == (400, "NoApplicableCode", None)


@pytest.mark.parametrize("inside", [True, False])
def test_deep_nesting(client: CheckedClient, inside: bool) -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    document = execute_xml("echo", complex_xml(deep)) if inside else execute_xml("echo", deep)
    assert client.post(document).exception == (400, "NoApplicableCode", None)


def test_nesting_up_to_the_limit_is_read(client: CheckedClient) -> None:
    levels = MAX_DEPTH - 5
    deep = "<a>" * levels + "</a>" * levels
    assert client.post(execute_xml("echo", complex_xml(deep, 'mimeType="text/xml"'))).status == 200


def test_very_many_elements(client: CheckedClient) -> None:
    answer = client.post(execute_xml("echo", "<wps:Input/>" * (MAX_NODES + 1)))
    assert answer.exception == (400, "NoApplicableCode", None)


def test_one_enormous_tag_is_refused_before_it_is_understood(client: CheckedClient) -> None:
    attributes = "".join(f' a{number}=""' for number in range(600_000))
    document = execute_xml("echo", complex_xml(f"<x{attributes}/>")).encode()
    tracemalloc.start()
    answer = client.post(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.exception == (400, "NoApplicableCode", None)
    assert peak < 6 * len(document)


def peak_of(client: CheckedClient, document: bytes) -> tuple[Received, int]:
    """The answer, and the most memory that it took to make it, in bytes."""
    tracemalloc.start()
    answer = client.post(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return answer, peak


def test_namespaces_that_every_element_would_inherit(client: CheckedClient) -> None:
    many = "".join(f' xmlns:n{number}="b"' for number in range(20_000))
    document = (f"<r{many}>" + "<a xmlns:x='y'/>" * 1000 + "</r>").encode()
    answer, peak = peak_of(client, document)
    assert answer.exception == (400, "NoApplicableCode", None)
    assert peak < 50 * len(document)


def test_a_few_namespaces_that_very_many_elements_would_inherit(client: CheckedClient) -> None:
    few = "".join(f' xmlns:n{number}="b"' for number in range(500))
    document = (f"<r{few}>" + "<a xmlns:x='y'/>" * 90_000 + "</r>").encode()
    answer, peak = peak_of(client, document)
    assert answer.exception == (400, "NoApplicableCode", None)
    assert peak < 100 * len(document)


def test_namespaces_that_every_complex_input_would_copy(client: CheckedClient) -> None:
    long = f'xmlns:n="{"u" * 9000}"'
    inputs = complex_xml("<a/>") * 4000
    document = execute_xml("echo", inputs).replace("<wps:Execute", f"<wps:Execute {long}", 1).encode()
    answer, peak = peak_of(client, document)
    assert answer.exception == (400, "NoApplicableCode", None)
    assert peak < 80_000_000


def test_many_tags_of_very_many_attributes(client: CheckedClient) -> None:
    tag = "<a" + "".join(f' a{number}=""' for number in range(90_000)) + "/>"
    assert client.post(f"<r>{tag * 12}</r>").exception == (400, "NoApplicableCode", None)


def test_a_large_complex_input_costs_a_few_times_its_size(client: CheckedClient) -> None:
    content = "<r>" + "<a b='1'>text</a>" * 300_000 + "</r>"
    document = execute_xml("echo", complex_xml(content, 'mimeType="text/xml"')).replace("echo", "everything").encode()
    tracemalloc.start()
    answer = client.post(document)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status == 400
    assert peak < 3 * len(document)


@pytest.mark.parametrize("codec", ["punycode", "idna", "unicode_escape", "raw_unicode_escape", "utf-7", "undefined"])
def test_codecs_that_are_no_character_sets_are_never_run(client: CheckedClient, codec: str) -> None:
    refused = client.post(EXECUTE.replace("&x;", "x"), content_type=f"text/xml; charset={codec}")
    assert refused.exception == (400, "NoApplicableCode", None)
    declared = client.post(f"<?xml version='1.0' encoding='{codec}'?>{EXECUTE.replace('&x;', 'x')}")
    assert declared.exception == (400, "NoApplicableCode", None)


@pytest.mark.parametrize("where", ["transport", "input", "output"])
def test_names_of_character_sets_that_are_unknown_are_not_remembered(client: CheckedClient, where: str) -> None:
    name = f"unknown-{where}-" + "k" * 1000
    if where == "transport":
        client.post(EXECUTE, content_type=f"text/xml; charset={name}")
    elif where == "input":
        client.post(execute_xml("everything", complex_xml("text", f'mimeType="text/plain" encoding="{name}"')))
    else:
        client.kvp(
            service="WPS",
            version="1.0.0",
            request="Execute",
            Identifier="everything",
            ResponseDocument=f"text@encoding={name}",
        )
    # Python's codec registry would keep every name for as long as the process lives.
    assert not [known for known in vars(encodings)["_cache"] if known.startswith(f"unknown_{where}")]


# Key-value pairs


@pytest.mark.parametrize(
    "query",
    [
        "service=WPS%00&request=GetCapabilities&version=1.0.0",
        "service=WPS&request=Get%00Capabilities",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo%00",
        "service=WPS&request=Execute&version=1.0.0&Identifier=%ff%fe",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo&DataInputs=text=%00",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo&DataInputs=text=%C0%AF",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo&DataInputs=text=%ED%A0%80",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo&DataInputs=te%1Bxt=1",
        "service=WPS&request=Execute&version=1.0.0&Identifier=echo&DataInputs=te%22%3E%3Cscript%3Ext=1",
        "%00=1&service=WPS",
        "%ff=1",
    ],
)
def test_hostile_key_value_pairs(client: CheckedClient, site: Site, query: str) -> None:
    status, code, _ = client.kvp(query).exception
    assert (status, code) == (400, "InvalidParameterValue")
    assert not site.jobs


@pytest.mark.parametrize(
    "injected",
    [
        '"><script>alert(1)</script>',
        "</ows:ExceptionText><evil/>",
        "]]><evil/>",
        "&lt;&#0;",
        "\u202e\ud7ff",
        "x" * 9000,
    ],
)
def test_what_a_client_says_cannot_break_out_of_a_report(client: CheckedClient, injected: str) -> None:
    answer = client.kvp(service="WPS", version="1.0.0", request="DescribeProcess", Identifier=injected)
    assert answer.exception == (400, "InvalidParameterValue", "Identifier")
    assert b"<script" not in answer.body
    assert b"<evil" not in answer.body
    assert len(answer.body) < 2000
    assert client.kvp(service="WPS", request=injected).exception[1] == "OperationNotSupported"


# Bodies


def small(site: Site, limit: int = 2000) -> CheckedClient:
    return CheckedClient(create_app(settings_with(limits={"request_bytes": limit}), site.backend))


def test_a_body_over_the_limit_is_refused_by_its_declared_length(site: Site) -> None:
    assert small(site).post(b" " * 2001).exception == (413, "FileSizeExceeded", None)
    unread = send(small(site), Trickle(b""), CONTENT_LENGTH=str(10**15))
    assert unread.exception == (413, "FileSizeExceeded", None)


def send(client: CheckedClient, stream: io.RawIOBase | io.BytesIO, **environ: object) -> Received:
    """POST a stream as a server hands it over, with the environment exactly as given."""
    return client.open("/wps", method="POST", environ_overrides={"wsgi.input": stream, **environ})


def chunked(client: CheckedClient, body: bytes) -> Received:
    return send(client, io.BytesIO(body), **{"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"})


def test_a_chunked_body_over_the_limit_is_refused(site: Site) -> None:
    assert chunked(small(site), b" " * 2001).exception == (413, "FileSizeExceeded", None)


def test_a_chunked_body_within_the_limit_is_read(site: Site) -> None:
    document = execute_xml("echo", literal_xml("text", "x")).encode()
    assert chunked(small(site), document).outcome == "ProcessSucceeded"


def test_a_body_without_length_and_end_is_no_body(client: CheckedClient) -> None:
    answer = send(client, Trickle(b"<a"))
    assert answer.exception == (400, "NoApplicableCode", None)


def test_a_body_that_never_arrives(client: CheckedClient) -> None:
    answer = send(client, Trickle(b"<wps:Exec"), CONTENT_LENGTH="500")
    assert answer.exception == (408, "NoApplicableCode", None)


def test_a_body_for_which_there_is_no_place_to_wait(client: CheckedClient) -> None:
    answer = send(client, Trickle(b"<wps:Exec", NoPlaceToWait()), CONTENT_LENGTH="500")
    assert answer.exception == (503, "ServerBusy", None)
    assert answer.response.headers["Retry-After"] == "10"


def test_a_body_that_ends_early(client: CheckedClient) -> None:
    answer = send(client, io.BytesIO(b"<a/>"), CONTENT_LENGTH="500")
    assert answer.exception == (400, "NoApplicableCode", None)
    assert "4 of 500" in answer.text("ows:Exception/ows:ExceptionText")


@pytest.mark.parametrize("length", ["-1", "ten", "1e3", "٣", "+5"])
def test_a_length_that_is_none(client: CheckedClient, length: str) -> None:
    answer = send(client, io.BytesIO(b"<a/>"), CONTENT_LENGTH=length)
    assert answer.exception == (400, "NoApplicableCode", None)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_compressed_bodies_are_refused(client: CheckedClient, encoding: str) -> None:
    answer = client.post(b"\x1f\x8b", headers={"Content-Encoding": encoding})
    assert answer.exception == (415, "NoApplicableCode", None)


def test_namespaces_of_another_standard_are_no_operation(client: CheckedClient) -> None:
    soap = "http://schemas.xmlsoap.org/soap/envelope/"
    answer = client.post(f'<s:Envelope xmlns:s="{soap}" xmlns:wps="{NS["wps"]}"><s:Body/></s:Envelope>')
    assert answer.exception == (501, "OperationNotSupported", "Envelope")
