"""The stored form of a request: it comes back as it was, and no secret stands in the database."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RecordError, WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue
from wps_hpc.jobs.request import (
    ExecuteRequest,
    InlineContent,
    Mode,
    NestedGiven,
    OutputWish,
    Reference,
    Transmission,
)
from wps_hpc.jobs.requestjson import forget_secrets, from_json, save_secrets, to_json

texts = st.text(max_size=12)
maybe = st.none() | texts
numbers = st.floats(allow_nan=False)
corners = st.lists(numbers, max_size=3).map(tuple)

literals = st.builds(LiteralValue, texts, texts, maybe)
boxes = st.builds(BoundingBoxValue, corners, corners, maybe)
files = st.builds(FileValue, texts, texts, maybe, maybe, st.none() | st.integers(0), st.booleans())
references = st.builds(
    Reference,
    texts,
    maybe,
    maybe,
    maybe,
    st.sampled_from(["GET", "POST"]),
    st.lists(st.tuples(texts, texts), max_size=3).map(tuple),
    st.none() | st.binary(max_size=20),
    maybe,
)


def inputs_of(values: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, tuple[object, ...]]]:
    return st.dictionaries(texts, st.lists(values, max_size=3).map(tuple), max_size=3)


values = st.recursive(
    literals | boxes | files | references,
    lambda inner: st.builds(NestedGiven, inputs_of(inner)),
    max_leaves=6,
)
wishes = st.builds(
    OutputWish,
    st.builds(WantedOutput, texts, maybe, maybe, maybe, maybe),
    st.none() | st.sampled_from(Transmission),
    maybe,
    maybe,
)
requests = st.builds(
    ExecuteRequest,
    process=texts,
    protocol=texts,
    inputs=inputs_of(values),
    outputs=st.lists(wishes, max_size=3).map(tuple),
    mode=st.sampled_from(Mode),
    raw=st.booleans(),
    store=st.booleans(),
    status=st.booleans(),
    lineage=st.none() | st.binary(max_size=20),
    language=texts,
    owner=maybe,
    resources=st.dictionaries(texts, st.integers(), max_size=2),
)

SECRET = Reference("http://a/", headers=(("Authorization", "Bearer s3cret"),), body=b"<password/>", method="POST")
REQUEST = ExecuteRequest("p", "wps1", {"in": (SECRET, NestedGiven({"x": (SECRET,)}))})


@given(requests)
def test_a_request_comes_back_as_it_was(request: ExecuteRequest) -> None:
    with TemporaryDirectory() as path:
        folder = JobFolder(Path(path))
        save_secrets(request, folder)
        if request.lineage is not None:
            folder.lineage.write_bytes(request.lineage)
        assert from_json(to_json(request), folder) == request


@given(requests)
def test_the_text_is_ascii_and_always_the_same(request: ExecuteRequest) -> None:
    text = to_json(request)
    assert text.isascii()
    assert to_json(request) == text


def test_no_secret_stands_in_the_text(tmp_path: Path) -> None:
    text = to_json(REQUEST)
    assert "s3cret" not in text and "Authorization" not in text and "password" not in text
    bare = from_json(text)
    assert bare.inputs["in"][0] == replace(SECRET, headers=(), body=None)


def test_the_secrets_are_the_servers_own_and_are_forgotten(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    save_secrets(REQUEST, folder)
    assert stat.S_IMODE(folder.secrets.stat().st_mode) == 0o600
    assert from_json(to_json(REQUEST), folder) == REQUEST
    forget_secrets(folder)
    forget_secrets(folder)
    assert from_json(to_json(REQUEST), folder).inputs["in"][0] == replace(SECRET, headers=(), body=None)


def test_a_request_without_secrets_has_no_such_file(tmp_path: Path) -> None:
    save_secrets(ExecuteRequest("p", "wps1", {"in": (Reference("http://a/"),)}), JobFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_inline_content_has_to_be_a_file_by_now() -> None:
    with pytest.raises(TypeError):
        to_json(ExecuteRequest("p", "wps1", {"in": (InlineContent(b"x"),)}))


def without(name: str) -> Callable[[dict[str, object]], object]:
    return lambda body: {key: value for key, value in body.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        lambda body: [],
        lambda body: {**body, "schema": 99},
        lambda body: {**body, "unknown": 1},
        lambda body: {**body, "mode": "sometime"},
        lambda body: {**body, "inputs": {"a": [{"kind": "other"}]}},
        lambda body: {**body, "inputs": {"a": [{"kind": "reference"}]}},
        lambda body: {**body, "inputs": {"a": 5}},
        lambda body: {**body, "outputs": [{}]},
        without("schema"),
        without("process"),
        without("lineage"),
    ],
)
def test_anything_else_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    torn = json.dumps(change(json.loads(to_json(ExecuteRequest("p", "wps1")))))
    with pytest.raises(RecordError):
        from_json(torn, JobFolder(Path("/nonexistent")))


def test_torn_text_torn_secrets_and_lost_lineage_are_refused(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with pytest.raises(RecordError):
        from_json(to_json(REQUEST)[:-5])
    folder.secrets.write_text("[{")
    with pytest.raises(RecordError):
        from_json(to_json(REQUEST), folder)
    with pytest.raises(RecordError):
        from_json(to_json(replace(REQUEST, inputs={}, lineage=b"<x/>")), folder)
