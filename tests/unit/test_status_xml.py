"""status.xml: what is written is valid by the OGC's schema and read back; what is torn or forged is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats import status
from joblauncher.formats.records import Failure, RecordError
from joblauncher.formats.status import StatusHead, StatusRecord, parse_status, read_status
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, NestedValue
from tests.schemas import validate

HEAD = StatusHead("8a3f1c52-0000-4000-8000-000000000001", "buffer", "1.2", "Buffer", "en-US")
NOW = 1_700_000_000.0
SCHEMA = "wps/1.0.0/wpsExecute_response.xsd"
NAMESPACES = {"wps": status.WPS, "ows": status.OWS}
ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.binary().map(lambda raw: raw.decode("latin-1"))


def checked(document: bytes) -> StatusRecord:
    """Validate a document and read it."""
    validate(document, SCHEMA)
    return parse_status(document)


def test_progress_is_read_back() -> None:
    document = status.started(HEAD, 42, "reading tile 3 of 7", NOW)
    assert checked(document) == StatusRecord("started", 42, "reading tile 3 of 7")


@pytest.mark.parametrize(("told", "written"), [(-5, 0), (0, 0), (99, 99), (100, 99), (1000, 99)])
def test_percent_stays_where_the_standard_wants_it(told: int, written: int) -> None:
    assert checked(status.started(HEAD, told, "x", NOW)).percent == written


def test_process_and_time_are_named() -> None:
    root = validate(status.started(HEAD, 1, "x", NOW), SCHEMA)
    (process,) = root.findall("wps:Process", NAMESPACES)
    assert process.get(f"{{{status.WPS}}}processVersion") == "1.2"
    assert [child.text for child in process] == ["buffer", "Buffer"]
    assert root.find("wps:Status", NAMESPACES).get("creationTime") == "2023-11-14T22:13:20Z"  # type: ignore[union-attr]


def test_a_head_that_knows_little_is_valid() -> None:
    head = StatusHead("", "process", language="no language at all")
    assert checked(status.started(head, 0, "x", NOW)).state == "started"


def test_failure_carries_code_locator_and_text() -> None:
    failure = Failure("process error", "no such band: 7", code="InvalidParameterValue", locator="band")
    record = checked(status.failed(HEAD, failure, NOW))
    assert record.state == "failed"
    assert (record.code, record.text, record.locator) == ("InvalidParameterValue", "no such band: 7", "band")


def test_a_failure_without_locator_has_none() -> None:
    assert checked(status.failed(HEAD, Failure("lost", "gone"), NOW)).locator is None


def test_lines_of_a_failure_are_kept() -> None:
    assert checked(status.failed(HEAD, Failure("lost", "one\ntwo\tthree"), NOW)).text == "one\ntwo\tthree"


def test_outputs_that_the_standard_can_express_are_there() -> None:
    outputs = {
        "count": (LiteralValue("5", "integer", uom="m/s"),),
        "extent": (BoundingBoxValue((-10.5, 0.0), (float("inf"), 1e-7), "urn:ogc:def:crs:EPSG::4326"),),
        "map": (FileValue("outputs/a map.tif", "image/tiff", encoding="base64"),),
        "many": (LiteralValue("a"), LiteralValue("b")),
        "nested": (NestedValue({"x": (LiteralValue("1"),)}),),
    }
    document = status.succeeded(HEAD, "done", outputs, NOW)
    assert checked(document) == StatusRecord("succeeded", 100, "done")
    found = validate(document, SCHEMA).findall("wps:ProcessOutputs/wps:Output", NAMESPACES)
    assert [output.findtext("ows:Identifier", None, NAMESPACES) for output in found] == [
        "count",
        "extent",
        "map",
        "many",
        "many",
    ]
    (reference,) = validate(document, SCHEMA).iterfind(".//wps:Reference", NAMESPACES)
    assert reference.get("href") == "outputs/a%20map.tif"
    assert reference.get("mimeType") == "image/tiff"
    corner = validate(document, SCHEMA).findtext(".//ows:UpperCorner", None, NAMESPACES)
    assert corner == "INF 1e-07"


@pytest.mark.parametrize("outputs", [{}, {"nested": (NestedValue({}),)}, {"none": ()}])
def test_success_without_expressible_outputs_is_valid(outputs: dict[str, tuple[NestedValue, ...]]) -> None:
    assert checked(status.succeeded(HEAD, "done", outputs, NOW)).state == "succeeded"


def test_outputs_too_large_for_the_file_are_left_to_the_result() -> None:
    outputs = {"text": (LiteralValue("x" * status.SIZE_LIMIT),)}
    document = status.succeeded(HEAD, "done", outputs, NOW)
    assert len(document) < 2000
    assert checked(document).state == "succeeded"


@given(ANY_TEXT)
def test_any_message_gives_a_valid_document(message: str) -> None:
    record = checked(status.started(HEAD, 1, message, NOW))
    assert "\n" not in record.message


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_failure_gives_a_valid_document(text: str, code: str, locator: str) -> None:
    document = status.failed(HEAD, Failure("process error", text, code or "NoApplicableCode", locator), NOW)
    assert checked(document).state == "failed"


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_output_gives_a_valid_document(name: str, text: str, uri: str, path: str) -> None:
    outputs = {
        name: (
            LiteralValue(text, uri, uri),
            BoundingBoxValue((0.0,), (1.0,), uri),
            FileValue(path.encode("utf-8", "replace").decode(), text, uri, uri),
        )
    }
    assert checked(status.succeeded(HEAD, "done", outputs, NOW)).state == "succeeded"


@given(st.from_regex(status._URI))
def test_every_reference_that_is_written_is_a_valid_uri(uri: str) -> None:
    validate(status.succeeded(HEAD, "done", {"x": (LiteralValue("1", uri, uri),)}, NOW), SCHEMA)


@given(ANY_TEXT)
def test_identifiers_of_any_kind_give_a_valid_document(text: str) -> None:
    validate(
        status.started(StatusHead(text.encode("utf-8", "replace").decode(), text, text, text, text), 1, "x", NOW),
        SCHEMA,
    )


def test_control_characters_are_replaced() -> None:
    assert checked(status.started(HEAD, 1, "a\0b\x1bc", NOW)).message == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    ("text", "line"),
    [("  a \n b\t", "a b"), ("x" * 5000, "x" * 3999 + "…"), ("", ""), ("\n", "")],
)
def test_one_line(text: str, line: str) -> None:
    assert status.one_line(text) == line


# --- reading what is not as it should be ------------------------------------------------------------------------------

GOOD = status.started(HEAD, 42, "half way", NOW)


@pytest.mark.parametrize("end", range(0, len(GOOD) - 1, 7))
def test_a_torn_file_is_refused(end: int) -> None:
    with pytest.raises(RecordError):
        parse_status(GOOD[:end])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_nothing_else(content: bytes) -> None:
    with pytest.raises(RecordError):
        parse_status(content)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=4))
def test_any_damage_is_refused_or_read(place: int, damage: bytes) -> None:
    try:
        record = parse_status(GOOD[:place] + damage + GOOD[place + len(damage) :])
    except RecordError:
        return
    assert record.state == "started"
    assert 0 <= record.percent <= 99


ENTITY = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>"""


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        (GOOD.replace(b"<wps:Ex", ENTITY + b"<wps:Ex", 1).split(b"\n", 1)[1], "DOCTYPE"),
        (GOOD.replace(b'"42"', b'"100"'), "percentCompleted"),
        (GOOD.replace(b'"42"', b'"-1"'), "percentCompleted"),
        (GOOD.replace(b'"42"', '"४२"'.encode()), "percentCompleted"),
        (GOOD.replace(b'"42"', b'"4e1"'), "percentCompleted"),
        (GOOD.replace(b"ProcessStarted", b"ProcessAccepted"), "does not write"),
        (GOOD.replace(b"ProcessStarted", b"ProcessPaused"), "does not write"),
        (GOOD.replace(status.WPS.encode(), b"http://example.org/other"), "ExecuteResponse"),
        (GOOD.replace(b"wps:Status", b"wps:Statos"), "0 states"),
        (GOOD.replace(b"</wps:Status>", b"<wps:ProcessSucceeded/></wps:Status>"), "2 states"),
        (GOOD.replace(b">half way<", b">" + b"<a>" * 100 + b"</a>" * 100 + b"<"), "deep"),
        (GOOD.replace(b"half way", b"x" * status.SIZE_LIMIT), "larger"),
        (GOOD.replace(b'encoding="UTF-8"', b'encoding="x-nonsense"'), "encoding"),
        (GOOD.replace(b"half way", b"\xff\xfe"), "not well-formed"),
        (GOOD + b"<more/>", "junk"),
    ],
)
def test_a_forged_file_is_refused(forged: bytes, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        parse_status(forged)


FAILED = status.failed(HEAD, Failure("lost", "gone"), NOW)


@pytest.mark.parametrize(
    "forged",
    [
        FAILED.replace(b"ows:Exception ", b"ows:Other ").replace(b"</ows:Exception>", b"</ows:Other>"),
        FAILED.replace(b'exceptionCode="NoApplicableCode"', b""),
        FAILED.replace(b'exceptionCode="NoApplicableCode"', b'exceptionCode=""'),
        FAILED.replace(b"</ows:ExceptionReport>", b'<ows:Exception exceptionCode="B"/></ows:ExceptionReport>'),
    ],
)
def test_a_failure_without_its_one_exception_is_refused(forged: bytes) -> None:
    with pytest.raises(RecordError, match="one exception"):
        parse_status(forged)


def test_a_long_text_is_cut_on_reading() -> None:
    forged = FAILED.replace(b"gone", b"y" * 100_000).replace(b"NoApplicableCode", b"z" * 100_000)
    record = parse_status(forged)
    assert record.text is not None and len(record.text) == status.TEXT_LIMIT
    assert record.code is not None and len(record.code) == 200


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "status.xml").write_bytes(GOOD)
    assert read_status(tmp_path / "status.xml").percent == 42


def test_a_missing_file_is_a_record_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        read_status(tmp_path / "status.xml")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.xml").write_bytes(GOOD)
    (tmp_path / "status.xml").symlink_to(tmp_path / "real.xml")
    with pytest.raises(RecordError):
        read_status(tmp_path / "status.xml")


def test_a_fifo_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "status.xml")
    with pytest.raises(RecordError, match="regular"):
        read_status(tmp_path / "status.xml")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="regular"):
        read_status(tmp_path)
