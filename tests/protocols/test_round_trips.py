"""Any literal value and any bounding box comes back as it went in: in both versions, every binding and every encoding.

The client validates every document.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.protocols import wps2
from tests.protocols.conftest import CheckedClient, Received, execute_xml, input_xml, literal_xml, settings_with
from tests.protocols.site import CRS84, ECHO, EPSG4326, Offer, Offers, Site, echo
from wps_hpc.app import create_app
from wps_hpc.processes import literals
from wps_hpc.processes.description import (
    LITERAL_TYPES,
    BoundingBoxData,
    Input,
    LiteralData,
    Output,
    ProcessDescription,
)
from wps_hpc.protocols.xml import is_legal

MANY = settings(max_examples=40, deadline=None)

#: An echo with an input and an output of each literal type.
ALL = ProcessDescription(
    "all",
    inputs=tuple(Input(name, data=LiteralData(name), min_occurs=0) for name in LITERAL_TYPES),
    outputs=tuple(Output(name, data=LiteralData(name), optional=True) for name in LITERAL_TYPES),
)


@contextmanager
def served() -> Iterator[CheckedClient]:
    """A site of its own for one example."""
    offers = {offer.description.identifier: offer for offer in (Offer(ALL, echo), Offer(ECHO, echo))}
    with TemporaryDirectory() as folder:
        site = Site(Path(folder), catalogue=Offers(offers))
        yield CheckedClient(create_app(settings_with(), site.backend))


# How a value is written


def cdata(text: str) -> str:
    """Text in CDATA sections, with ]]> between two of them, and carriage returns between others."""
    inside = text.replace("]]>", "]]]]><![CDATA[>").replace("\r", "]]>&#13;<![CDATA[")
    return f"<![CDATA[{inside}]]>"


def escaped(text: str) -> str:
    """Text with its markup escaped, and what parsers would turn into spaces or newlines as references."""
    return escape(text, {"\r": "&#13;"})


@dataclass(frozen=True)
class Way:
    """A way to send a literal and to find it in the answer."""

    send: Callable[[CheckedClient, str, str], Received]
    found: str


def kvp(client: CheckedClient, inputs: str) -> Received:
    return client.kvp(f"service=WPS&version=1.0.0&request=Execute&Identifier=all&DataInputs={inputs}")


def post1(client: CheckedClient, name: str, content: str) -> Received:
    return client.post(execute_xml("all", literal_xml(name, content)).encode())


def post2(client: CheckedClient, *parts: str) -> Received:
    return client.post(wps2.execute_xml("all", *parts).encode())


FIRST = "wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData"
SECOND = "wps:Output/wps:Data/wps:LiteralValue"
PLAIN = 'mimeType="text/plain"'
WAYS = {
    "1.0.0 KVP": Way(lambda client, name, text: kvp(client, f"{name}={quote(text, safe='')}"), FIRST),
    "1.0.0 KVP, encoded as a whole": Way(
        lambda client, name, text: kvp(client, quote(f"{name}={quote(text, safe='')}", safe="")), FIRST
    ),
    "1.0.0 XML": Way(lambda client, name, text: post1(client, name, escaped(text)), FIRST),
    "1.0.0 CDATA": Way(lambda client, name, text: post1(client, name, cdata(text)), FIRST),
    "2.0 XML": Way(lambda client, name, text: post2(client, wps2.literal_xml(name, escaped(text))), SECOND),
    "2.0 CDATA": Way(lambda client, name, text: post2(client, wps2.literal_xml(name, cdata(text))), SECOND),
    "2.0 bare": Way(lambda client, name, text: post2(client, wps2.data_xml(name, escaped(text))), SECOND),
    "2.0 plain text, both ways": Way(
        lambda client, name, text: post2(
            client, wps2.data_xml(name, escaped(text), PLAIN), wps2.output_xml(name, PLAIN)
        ),
        "wps:Output/wps:Data",
    ),
}


# What is sent


ZONES = st.one_of(
    st.just(""),
    st.just("Z"),
    st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 13), st.integers(0, 59)),
)
FRACTIONS = st.one_of(st.just(""), st.integers(1, 999_999).map(".{:06}".format))


def with_zone(moments: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.builds("{}{}".format, moments.map(lambda moment: moment.isoformat()), ZONES)


TIMES = st.builds(
    "{:02}:{:02}:{:02}{}{}".format, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), FRACTIONS, ZONES
)
NUMBERS = st.floats().map(
    lambda number: literals.canonical("double", repr(number).replace("inf", "INF").replace("nan", "NaN"))
)
TEXTS = st.text().filter(is_legal)
VALUES = {
    "boolean": st.sampled_from(["true", "false", "1", "0"]),
    "integer": st.integers().map(str),
    "nonNegativeInteger": st.integers(0).map(str),
    "positiveInteger": st.integers(1).map(str),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    "double": NUMBERS,
    "string": TEXTS,
    "date": with_zone(st.dates()),
    "time": TIMES,
    "dateTime": st.builds("{}T{}".format, st.dates(), TIMES),
    "duration": st.builds("{}P{}Y{}M{}DT{}H{}M{}S".format, st.sampled_from(["", "-"]), *[st.integers(0, 99)] * 6),
    "anyURI": st.sampled_from(
        ["http://a.example/?b=1&c=%20;d", "urn:x:y", "file:///tmp/a;b@c=d", "mailto:joe@example.org"]
    ),
    "scale": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "angle": st.floats(allow_nan=False, allow_infinity=False).map(repr),
}


def test_there_are_values_of_every_type() -> None:
    assert set(VALUES) == set(LITERAL_TYPES)


def check(way: Way, name: str, text: str) -> None:
    with served() as client:
        answer = way.send(client, name, text)
        assert answer.status == 200, answer.body
        (found,) = [node.text or "" for node in answer.all(way.found)]
    assert found == text if name == "string" else same(name, found, text)


def same(name: str, one: str, other: str) -> bool:
    return literals.canonical(name, one) == literals.canonical(name, other)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@MANY
@given(TEXTS)
@example("")
@example(" ")
@example("\n a\tb \n")
@example("]]>")
@example("<![CDATA[x]]>")
@example("a]]>b]]&gt;c")
@example("\r\n\r")
@example("\u2028\ufeff\u0085\ue000\U0001f600e\u0301")
@example("joe@uom=x")
@example("a;b=c@d=e&f+g%20h%")
@example("[x]")
def test_any_text_is_unchanged(way: Way, text: str) -> None:
    check(way, "string", text)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.tuples(st.just(name), VALUES[name])))
@example(("date", "2024-02-29-13:59"))
@example(("dateTime", "2024-12-31T23:59:59.000001+05:45"))
@example(("double", "-0.0"))
@example(("double", "NaN"))
@example(("double", "-INF"))
@example(("double", "5E-324"))
@example(("integer", "9" * 300))
@example(("time", "00:00:00Z"))
def test_any_literal_keeps_its_value(way: Way, sent: tuple[str, str]) -> None:
    check(way, *sent)


# Bounding boxes


def kvp_box(client: CheckedClient, lower: str, upper: str, crs: str) -> Received:
    box = quote(f"{lower},{upper},{crs}".replace(" ", ","), safe=",:")
    return client.kvp(f"service=WPS&version=1.0.0&request=Execute&Identifier=echo&DataInputs=box={box}")


def post_box(client: CheckedClient, lower: str, upper: str, crs: str) -> Received:
    corners = f"<ows:LowerCorner>{lower}</ows:LowerCorner><ows:UpperCorner>{upper}</ows:UpperCorner>"
    data = f'<wps:Data><wps:BoundingBoxData crs="{crs}">{corners}</wps:BoundingBoxData></wps:Data>'
    return client.post(execute_xml("echo", input_xml("box", data)))


def post_box2(client: CheckedClient, lower: str, upper: str, crs: str) -> Received:
    return client.post(wps2.execute_xml("echo", wps2.box_xml("box", lower, upper, f'crs="{crs}"')))


def post_plain_box2(client: CheckedClient, lower: str, upper: str, crs: str) -> Received:
    text = f"{lower},{upper},{crs}".replace(" ", ",")
    return client.post(wps2.execute_xml("echo", wps2.data_xml("box", text, PLAIN)))


BOX1, BOX2 = "wps:ProcessOutputs/wps:Output/wps:Data/wps:BoundingBoxData", "wps:Output/wps:Data/ows:BoundingBox"
BOX_WAYS = {
    "1.0.0 KVP": (kvp_box, BOX1),
    "1.0.0 XML": (post_box, BOX1),
    "2.0 XML": (post_box2, BOX2),
    "2.0 plain text": (post_plain_box2, BOX2),
}
COORDINATES = st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2).map(sorted)


@pytest.mark.parametrize("way", BOX_WAYS.values(), ids=BOX_WAYS)
@MANY
@given(COORDINATES, COORDINATES, st.sampled_from([CRS84, EPSG4326]))
@example([46.0, 47.0], [102.0, 103.0], EPSG4326)
@example([102.0, 103.0], [46.0, 47.0], CRS84)
@example([-0.0, 1e22], [5e-324, 1.7976931348623157e308], CRS84)
def test_any_box_keeps_its_crs_and_the_order_of_its_axes(
    way: tuple[Callable[..., Received], str], first: list[float], second: list[float], crs: str
) -> None:
    send, path = way
    lower, upper = (first[0], second[0]), (first[1], second[1])
    with served() as client:
        answer = send(client, *(" ".join(map(repr, corner)) for corner in (lower, upper)), crs)
        box = answer.find(path)
    assert box.get("crs") == crs
    assert [tuple(map(float, (corner.text or "").split())) for corner in box] == [lower, upper]


def test_the_echo_has_these_systems() -> None:
    box = ECHO.input("box")
    assert box is not None
    assert isinstance(box.data, BoundingBoxData)
    assert {CRS84, EPSG4326} <= set(box.data.crss)
