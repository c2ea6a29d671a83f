"""request.json, manifest.json, result.json, claim and exit: read back as written, refused when anything else."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats import records
from joblauncher.formats.records import (
    ClaimRecord,
    ExitRecord,
    Failure,
    Limits,
    ListedFile,
    Manifest,
    RecordError,
    RequestRecord,
    ResultRecord,
    SharedFile,
    WantedOutput,
    dump,
    load,
)
from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, NestedValue, Value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXT
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FILES = st.builds(
    FileValue, TEXT, TEXT, MAYBE, MAYBE, st.none() | st.integers(0), st.booleans(), MAYBE, st.none() | st.booleans()
)
LEAVES = st.one_of(
    st.builds(LiteralValue, TEXT, TEXT, MAYBE),
    st.builds(BoundingBoxValue, st.tuples(FINITE, FINITE), st.tuples(FINITE, FINITE), MAYBE),
    st.builds(lambda file, parts: replace(file, parts=tuple(parts)), FILES, st.lists(FILES, max_size=2)),
    st.builds(LinkValue, TEXT, TEXT, MAYBE, MAYBE),
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    LEAVES,
    lambda inner: st.builds(NestedValue, st.dictionaries(TEXT, st.lists(inner, max_size=2).map(tuple), max_size=2)),
    max_leaves=4,
)
MANY = st.dictionaries(TEXT, st.lists(VALUES, max_size=3).map(tuple), max_size=3)

MANIFEST = Manifest(
    job="j",
    submission=2,
    process="p",
    loads="source",
    module="m",
    python="3.11.7",
    dill="0.4.1",
    wps_hpc="0.1.0",
    created="2026-01-01T00:00:00Z",
    files=(ListedFile("payload.dill", 3, "0" * 64),),
    shared=(SharedFile("/data/x", 7),),
    limits=Limits(60.0, 1024, 1000, False, 3.0),
    resources={"cores": 2},
)
EVERY = [
    (RequestRecord, RequestRecord("p", {}, (WantedOutput("a", "text/plain"),), "fr")),
    (Manifest, MANIFEST),
    (
        ResultRecord,
        ResultRecord("failed", 1.0, 2.0, "node7", failure=Failure("signal", "t", signal=9), signals=("SIGTERM",)),
    ),
    (ClaimRecord, ClaimRecord("node7", "boot", 12, 1.5)),
    (ExitRecord, ExitRecord(None, 9, "node7")),
]


@pytest.mark.parametrize(("kind", "record"), EVERY)
def test_a_record_is_read_back(kind: Any, record: Any) -> None:
    assert load(kind, dump(record)) == record


@given(MANY)
def test_any_values_are_read_back(values: Any) -> None:
    assert load(RequestRecord, dump(RequestRecord("p", values))).inputs == values
    assert load(ResultRecord, dump(ResultRecord("succeeded", 1.0, 2.0, "h", values))).outputs == values


@pytest.mark.parametrize(("kind", "record"), EVERY)
def test_the_same_record_gives_the_same_bytes(kind: Any, record: Any) -> None:
    assert dump(load(kind, dump(record))) == dump(record)


@pytest.mark.parametrize(("kind", "record"), EVERY)
def test_a_torn_record_is_refused(kind: Any, record: Any) -> None:
    content = dump(record)
    for end in range(0, len(content), 5):
        with pytest.raises(RecordError):
            load(kind, content[:end])


@pytest.mark.parametrize(("kind", "record"), EVERY)
def test_another_schema_is_refused(kind: Any, record: Any) -> None:
    body = json.loads(dump(record))
    with pytest.raises(RecordError, match="schema"):
        load(kind, json.dumps({**body, "schema": records.SCHEMA + 1}).encode())


@pytest.mark.parametrize(("kind", "record"), EVERY)
@pytest.mark.parametrize("other", [{"other": 1}, {"self": 1}])
def test_an_unknown_field_is_refused(kind: Any, record: Any, other: dict[str, int]) -> None:
    body = json.loads(dump(record))
    with pytest.raises(RecordError):
        load(kind, json.dumps({**body, **other}).encode())


@pytest.mark.parametrize(("kind", "_record"), EVERY)
@pytest.mark.parametrize(
    "content", [b"", b"null", b"[]", b"5", b'"x"', b"{}", b'{"schema":1}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_record_is_refused(kind: Any, _record: Any, content: bytes) -> None:
    with pytest.raises(RecordError):
        load(kind, content)


def literal(**fields: Any) -> dict[str, Any]:
    """Outputs with one literal of those fields."""
    return {"a": [{"kind": "literal", **fields}]}


WRONG_OUTPUTS = [
    5,
    [],
    "x",
    {"a": 5},
    {"a": "b"},
    {"a": [5]},
    {"a": {"kind": "literal", "text": "x"}},
    {"a": [["kind", "literal"]]},
    {"a": [{"kind": "other"}]},
    {"a": [{"kind": []}]},
    literal(),
    literal(text=5),
    literal(text=[1]),
    literal(text="x", uom=1),
    literal(text="x", other="x"),
    {"a": [{"kind": "file", "path": "p", "mime_type": "m", "size": True}]},
    {"a": [{"kind": "bbox", "lower": 5, "upper": []}]},
    {"a": [{"kind": "bbox", "lower": ["1"], "upper": [2]}]},
    {"a": [{"kind": "nested", "values": 5}]},
]


@pytest.mark.parametrize("outputs", WRONG_OUTPUTS)
def test_values_of_another_shape_are_refused(outputs: Any) -> None:
    body = json.loads(dump(ResultRecord("succeeded", 1.0, 2.0, "h")))
    with pytest.raises(RecordError):
        load(ResultRecord, json.dumps({**body, "outputs": outputs}).encode())


def test_the_exit_codes_are_told_apart() -> None:
    codes = [getattr(records, name) for name in dir(records) if name.startswith("EXIT_")]
    assert len(set(codes)) == len(codes) == 5
    assert all(code < 126 for code in codes)
