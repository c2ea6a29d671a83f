"""OGC API - Processes: whatever a client sends gets an answer that is no defect, and values come back unchanged."""

from __future__ import annotations

import json
import math
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joblauncher.formats.values import LiteralValue
from tests.protocols.ogcapi import Api
from tests.protocols.site import Offer, Offers, Site, echo
from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    LITERAL_TYPES,
    BoundingBoxData,
    Input,
    LiteralData,
    Output,
    ProcessDescription,
)

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CRSS = ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "urn:ogc:def:crs:EPSG::4326", "EPSG:3857")
TYPES = ProcessDescription(
    "types",
    inputs=(
        *(Input(name, data=LiteralData(name), min_occurs=0) for name in LITERAL_TYPES),
        Input("box", data=BoundingBoxData(CRSS), min_occurs=0),
    ),
    outputs=(
        *(Output(name, data=LiteralData(name), optional=True) for name in LITERAL_TYPES),
        Output("box", data=BoundingBoxData(CRSS), optional=True),
    ),
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """A site that several examples share."""
    site = Site(tmp_path)
    site.catalogue = Offers({**site.catalogue.offers, "types": Offer(TYPES, echo)})
    return Api(site)


WORDS = st.sampled_from(
    [
        *("inputs", "outputs", "response", "subscriber", "value", "href", "type", "mediaType", "encoding", "schema"),
        *("bbox", "crs", "uom", "format", "transmissionMode", "text", "number", "width", "complex", "box", "raw"),
        *("document", "reference", "base64", "application/geo+json", "image/tiff", "QUJD", "http://x.example/"),
        *("successUri", "echo", "", "\x00", "\ud800", "é", "NaN"),
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 1e308, 4, 6])
LEAVES = st.none() | st.booleans() | NUMBERS | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)
INPUTS = st.dictionaries(st.sampled_from(["text", "number", "width", "complex", "box", "none"]), VALUES, max_size=4)


def no_defect(api: Api, body: Any, process: str = "echo") -> None:
    """The answer is valid (which the client looks at), or a problem that is the client's."""
    text = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = api.open(f"/processes/{process}/execution", "POST", headers, data=text)
    assert answer.status in (200, 204) or 400 <= answer.status < 500, answer.body


@FUZZ
@given(VALUES)
def test_any_body(api: Api, body: Any) -> None:
    no_defect(api, body)


@FUZZ
@given(INPUTS, VALUES, st.sampled_from(["raw", "document"]))
def test_any_inputs_and_outputs(api: Api, inputs: Any, outputs: Any, response: str) -> None:
    no_defect(api, {"inputs": inputs, "outputs": outputs, "response": response})
    no_defect(api, {"inputs": inputs, "response": response})
    no_defect(api, {"inputs": inputs}, "nested")


@FUZZ
@given(st.binary(max_size=60))
def test_any_bytes(api: Api, body: bytes) -> None:
    answer = api.open("/processes/echo/execution", "POST", {"Content-Type": "application/json"}, data=body)
    assert answer.status in (200, 204, 400), answer.body


@FUZZ
@given(
    st.sampled_from(["/", "/api", "/processes", "/processes/echo", "/jobs"]),
    st.dictionaries(
        st.sampled_from(
            ["f", "limit", "offset", "cursor", "status", "type", "processID", "datetime", "minDuration", "maxDuration"]
        ),
        st.text(max_size=8) | st.sampled_from(["json", "html", "1", "..", "/", "2026-01-01T00:00:00Z/.."]),
        max_size=4,
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_any_query_and_accept(api: Api, path: str, query: dict[str, str], accept: str) -> None:
    answer = api.open(path, headers={"Accept": accept, "Accept-Language": accept}, query_string=query)
    assert answer.status in (200, 400, 406), answer.body


@FUZZ
@given(st.text(max_size=30), st.sampled_from(["/processes/", "/jobs/", "/jobs/x/results/"]))
def test_any_identifier(api: Api, name: str, start: str) -> None:
    assert api.open(start + quote(name or "x", safe="")).status in (200, 404, 405)


# ------------------------------------------------------------------------------------------- what comes back unchanged

ZONES = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"))
FLOATS = st.floats()
NATURAL = st.integers(0, 10**300)
LITERALS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": st.integers(-(10**300), 10**300),
    "nonNegativeInteger": NATURAL,
    "positiveInteger": NATURAL.map(lambda number: number + 1),
    **dict.fromkeys(("float", "double", "scale", "angle"), FLOATS),
    "string": TEXTS | st.sampled_from(["", "]]>", "<![CDATA[x]]>", "&amp;", "\t a\nb ", "\U0001f9ea\u202e"]),
    "date": st.dates(),
    "time": st.times(timezones=ZONES),
    "dateTime": st.datetimes(timezones=ZONES),
    "duration": st.timedeltas(),
    "anyURI": st.sampled_from(["http://é.example/?a=1&b=%20", "urn:x", ""]),
}


def as_json(value: Any, data_type: str) -> Any:
    """A Python value as a client writes it."""
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return literals.format(data_type, value)


@pytest.mark.parametrize("data_type", LITERAL_TYPES)
def test_any_literal_comes_back_unchanged(api: Api, data_type: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(LITERALS[data_type])
    def check(value: Any) -> None:
        sent = as_json(value, data_type)
        found = api.execute("types", {data_type: sent}, response="document").json[data_type]
        assert type(found) is type(sent) and repr(found) == repr(sent)
        (received,) = api.site.received.inputs[data_type]
        assert isinstance(received, LiteralValue)
        text = literals.format(data_type, value)
        assert literals.canonical(data_type, received.text) == literals.canonical(data_type, text)
        raw = api.execute("types", {data_type: sent}, outputs={data_type: {}})
        assert raw.body.decode() == received.text

    check()


AXIS = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2).map(sorted)


@FUZZ
@given(AXIS, AXIS, st.sampled_from(CRSS))
def test_any_bounding_box_keeps_its_system_and_axes(api: Api, first: Any, second: Any, crs: str) -> None:
    sent = {"bbox": [first[0], second[0], first[1], second[1]], "crs": crs}
    found = api.execute("types", {"box": sent}, response="document").json["box"]
    assert found.get("value", found) == sent
    assert api.execute("types", {"box": sent}, outputs={"box": {}}).json == sent
