"""WPS literal types: lexical rules, exact round trips, order and allowed values."""

import dataclasses
import math
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wps_hpc.processes import literals
from wps_hpc.processes.description import LITERAL_TYPES, AllowedRange, LiteralData
from wps_hpc.processes.literals import Duration, LiteralError, ZonedDate

UTC = UTC
EAST = timezone(timedelta(hours=5, minutes=30))

ZONES = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
DURATIONS = st.builds(
    Duration,
    *([st.integers(0, 10**20)] * 5),
    st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=9),
    st.booleans(),
)
VALUES = {
    "boolean": st.booleans(),
    "integer": st.integers(-(10**40), 10**40),
    "nonNegativeInteger": st.integers(0, 10**40),
    "positiveInteger": st.integers(1, 10**40),
    "float": st.floats(allow_nan=False),
    "double": st.floats(allow_nan=False),
    "scale": st.floats(allow_nan=False),
    "angle": st.floats(allow_nan=False),
    "string": st.text(),
    "anyURI": st.text("abcXYZ0189:/?#[]@!$&'()*+,;=-._~%é", max_size=40),
    "date": st.dates(),
    "time": st.times(timezones=ZONES),
    "dateTime": st.datetimes(timezones=ZONES),
    "duration": DURATIONS,
}


def test_every_type_of_a_description_is_in_the_table() -> None:
    assert tuple(literals.TYPES) == LITERAL_TYPES
    assert set(VALUES) == set(LITERAL_TYPES)


@pytest.mark.parametrize("data_type", LITERAL_TYPES)
def test_what_is_formatted_is_parsed_to_the_same(data_type: str) -> None:
    @settings(deadline=None)
    @given(VALUES[data_type])
    def check(value: object) -> None:
        text = literals.format(data_type, value)
        assert literals.parse(data_type, text) == value
        assert literals.canonical(data_type, text) == text

    check()


@settings(deadline=None)
@given(DURATIONS)
def test_a_duration_keeps_its_parts_as_written(duration: Duration) -> None:
    again = literals.parse("duration", str(duration))
    parts = dataclasses.replace(duration, negative=duration.negative and str(duration) != "PT0S")
    assert dataclasses.astuple(again) == dataclasses.astuple(parts)


@settings(deadline=None)
@given(st.timedeltas())
def test_a_timedelta_survives_as_a_duration(delta: timedelta) -> None:
    assert literals.parse("duration", literals.format("duration", delta)).timedelta() == delta


@settings(deadline=None)
@given(st.dates(), ZONES.filter(bool))
def test_a_date_keeps_its_zone(day: date, zone: timezone) -> None:
    zoned = ZonedDate(day.year, day.month, day.day, zone)
    assert literals.parse("date", literals.format("date", zoned)) == zoned
    assert zoned != day


CANONICAL = [
    ("boolean", " true ", "true"),
    ("boolean", "1", "true"),
    ("boolean", "0", "false"),
    ("boolean", "True", "true"),
    ("integer", "+007", "7"),
    ("integer", "-0", "0"),
    ("integer", "\n 12\t", "12"),
    ("integer", "9" * 4000, "9" * 4000),
    ("nonNegativeInteger", "-0", "0"),
    ("positiveInteger", "1", "1"),
    ("double", "1", "1.0"),
    ("double", ".5", "0.5"),
    ("double", "5.", "5.0"),
    ("double", "-1E-3", "-0.001"),
    ("double", "-0", "-0.0"),
    ("double", "INF", "INF"),
    ("double", "+INF", "INF"),
    ("double", "-INF", "-INF"),
    ("float", "NaN", "NaN"),
    ("string", "  kept\n as it is ", "  kept\n as it is "),
    ("string", "", ""),
    ("anyURI", " http://example.org/a%20b ", "http://example.org/a%20b"),
    ("date", "2024-02-29", "2024-02-29"),
    ("date", "2024-02-29Z", "2024-02-29Z"),
    ("date", "2024-02-29-00:00", "2024-02-29Z"),
    ("date", "2024-02-29+05:30", "2024-02-29+05:30"),
    ("time", "24:00:00", "00:00:00"),
    ("time", "01:02:03.4500-14:00", "01:02:03.45-14:00"),
    ("dateTime", "2024-12-31T24:00:00Z", "2025-01-01T00:00:00Z"),
    ("dateTime", "2024-06-01 12:30:00", "2024-06-01T12:30:00"),
    ("dateTime", "0001-01-01T00:00:00.000001", "0001-01-01T00:00:00.000001"),
    ("dateTime", "2024-06-01T12:30:00.1234560000+00:00", "2024-06-01T12:30:00.123456Z"),
    ("duration", "P1Y2M3DT4H5M6.70S", "P1Y2M3DT4H5M6.7S"),
    ("duration", "-P1Y12M", "-P1Y12M"),
    ("duration", "PT36H", "PT36H"),
    ("duration", "P0Y", "PT0S"),
    ("duration", "-PT0S", "PT0S"),
    ("scale", "25000", "25000.0"),
    ("angle", "-90.5", "-90.5"),
]


@pytest.mark.parametrize(("data_type", "text", "canonical"), CANONICAL)
def test_canonical_text(data_type: str, text: str, canonical: str) -> None:
    assert literals.canonical(data_type, text) == canonical


REFUSED = [
    *[("boolean", text) for text in ("", "yes", "TRUE", "2", "tru e")],
    *[
        ("integer", text)
        for text in ("", "1_000", "1.0", "1e3", "0x10", "١٢", "- 1", "12\N{NO-BREAK SPACE}", "9" * 4301)
    ],
    *[("nonNegativeInteger", text) for text in ("-1", "1.5")],
    *[("positiveInteger", text) for text in ("0", "-5", "")],
    *[
        ("double", text)
        for text in ("", ".", "1_0", "inf", "infinity", "nan", "+NaN", "0x1p3", "1e", "e5", "1,5", "٣", "1e400")
    ],
    *[("anyURI", text) for text in ("http://a b", "<x>", 'a"b')],
    *[
        ("date", text)
        for text in ("2023-02-29", "2024-13-01", "24-01-01", "0000-01-01", "-0001-01-01", "12024-01-01", "2024-1-1")
    ],
    *[("date", text) for text in ("2024-01-01T00:00:00", "2024-01-01+14:01", "2024-01-01+05", "2024-01-01z", "")],
    *[
        ("time", text)
        for text in ("24:00:01", "12:60:00", "12:00:60", "12:00", "1:00:00", "12:00:00.", "12:00:00+24:00")
    ],
    ("time", "12:00:00.1234567"),
    *[
        ("dateTime", text)
        for text in ("2024-01-01", "2024-01-01t00:00:00", "9999-12-31T24:00:00", "2024-01-01T25:00:00")
    ],
    *[("duration", text) for text in ("", "P", "PT", "P1DT", "1D", "P-1D", "P1.5D", "P1S", "PT1.S", "P1M1Y", "+P1D")],
    ("duration", "P" + "9" * 4301 + "D"),
]


@pytest.mark.parametrize(("data_type", "text"), REFUSED)
def test_refused_with_a_sentence(data_type: str, text: str) -> None:
    with pytest.raises(LiteralError) as caught:
        literals.parse(data_type, text)
    assert 5 < len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        ("boolean", 1),
        ("integer", True),
        ("integer", 1.0),
        ("integer", "1"),
        ("nonNegativeInteger", -1),
        ("positiveInteger", 0),
        ("double", "1.0"),
        ("double", False),
        ("double", 10**400),
        ("string", 1),
        ("anyURI", "a b"),
        ("date", datetime(2024, 1, 1)),
        ("date", "2024-01-01"),
        ("time", datetime(2024, 1, 1)),
        ("time", time(1, tzinfo=timezone(timedelta(hours=15)))),
        ("time", time(1, tzinfo=timezone(timedelta(seconds=30)))),
        ("dateTime", date(2024, 1, 1)),
        ("duration", 5),
    ],
)
def test_a_value_of_another_type_is_not_formatted(data_type: str, value: object) -> None:
    with pytest.raises(LiteralError):
        literals.format(data_type, value)


def test_numbers_of_other_libraries_count_as_what_they_are() -> None:
    assert literals.format("double", numpy.float32(0.5)) == "0.5"
    assert literals.format("integer", numpy.int16(7)) == "7"
    assert literals.format("boolean", numpy.bool_(True)) == "true"
    assert literals.format("double", Fraction(1, 4)) == "0.25"
    assert literals.format("double", Decimal("0.1")) == "0.1"


def test_nan_is_formatted_and_parsed() -> None:
    assert literals.format("double", math.nan) == "NaN"
    assert math.isnan(literals.parse("double", "NaN"))


def test_years_and_months_are_no_timedelta() -> None:
    assert literals.parse("duration", "-P1DT1.5S").timedelta() == -timedelta(days=1, seconds=1.5)
    for text in ("P1M", "PT0.0000001S", "P999999999999D"):
        with pytest.raises(LiteralError):
            literals.parse("duration", text).timedelta()


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [("P1D", "P2D"), ("P27D", "P1M"), ("P1M", "P32D"), ("-P1D", "PT0S"), ("P364D", "P1Y"), ("P1Y", "P367D")],
)
def test_durations_are_ordered_as_xml_schema_orders_them(shorter: str, longer: str) -> None:
    one, other = literals.parse("duration", shorter), literals.parse("duration", longer)
    assert one < other and one <= other and other > one and other >= one
    assert not (other < one or other <= one or one == other)


@pytest.mark.parametrize(("one", "other"), [("P1M", "P30D"), ("P1Y", "P365D"), ("P5M", "P152D")])
def test_some_durations_have_no_order(one: str, other: str) -> None:
    a, b = literals.parse("duration", one), literals.parse("duration", other)
    assert not (a < b or a > b or a == b)


def test_durations_are_equal_however_written() -> None:
    for one, other in (("PT24H", "P1D"), ("P12M", "P1Y"), ("PT60.0S", "PT1M"), ("-PT0S", "P0D")):
        a, b = literals.parse("duration", one), literals.parse("duration", other)
        assert a == b and hash(a) == hash(b)
    assert Duration(days=1) != timedelta(days=1)


def _range(*bounds: str | None, closure: str = "closed", spacing: str | None = None, of: str = "double") -> LiteralData:
    return LiteralData(of, (AllowedRange(*bounds, closure=closure, spacing=spacing),))


@pytest.mark.parametrize(
    ("closure", "at_minimum", "at_maximum"),
    [("closed", True, True), ("open", False, False), ("open-closed", False, True), ("closed-open", True, False)],
)
def test_closure_decides_over_the_ends(closure: str, at_minimum: bool, at_maximum: bool) -> None:
    data = _range("0.0", "10.0", closure=closure)
    found = [literals.allowed(data, text) for text in ("-1", "0", "5", "10", "11")]
    assert found == [False, at_minimum, True, at_maximum, False]


@pytest.mark.parametrize(
    ("data", "yes", "no"),
    [
        (LiteralData("string"), ["", "anything"], []),
        (LiteralData("string", ("a", "b")), ["a"], ["A", " a", "c"]),
        (LiteralData("integer", ("1", AllowedRange("5", "7"))), ["1", "+6", "7"], ["2", "8"]),
        (LiteralData("double", ("NaN", "0.5")), ["NaN", "5e-1"], ["1", "INF"]),
        (_range("0", None), ["0", "1e300", "INF"], ["-1", "NaN", "-INF"]),
        (_range(None, "0"), ["0", "-INF"], ["1", "NaN"]),
        (_range("0", "1", spacing="0.1"), ["0.3", "0.7", "1"], ["0.35", "1.1"]),
        (_range("1", None, spacing="2"), ["1", "7"], ["2", "INF"]),
        (_range(None, "10", spacing="3"), ["10", "7", "-2"], ["9"]),
        (_range(None, None, spacing="5"), ["0", "-15"], ["3"]),
        (_range("10", "20", spacing="5", of="integer"), ["10", "15"], ["12", "25"]),
        (_range("2024-01-01", "2024-12-31", of="date"), ["2024-06-01", "2024-01-01"], ["2023-12-31", "2025-01-01"]),
        (_range("2024-01-01", None, spacing="P7D", of="date"), ["2024-01-08"], ["2024-01-09"]),
        (
            _range("2024-01-15", None, spacing="P3M", of="date"),
            ["2024-04-15", "2025-01-15"],
            ["2024-02-15", "2024-04-16"],
        ),
        (_range("00:00:00", None, spacing="PT6H", of="time"), ["12:00:00"], ["13:00:00"]),
        (
            _range("2024-01-01T00:00:00Z", "2024-01-01T02:00:00Z", of="dateTime"),
            ["2024-01-01T06:00:00+05:00", "2024-01-01T01:00:00"],
            ["2024-01-01T01:00:00+05:00"],
        ),
        (_range("P1D", "P1M", of="duration"), ["PT24H", "P1M", "P27D"], ["P32D", "P29D", "PT1H"]),
        (_range("b", "d", of="string"), ["b", "cat"], ["a", "dd"]),
        (LiteralData("boolean", ("true",)), ["1"], ["false"]),
        (LiteralData("dateTime", ("2024-01-01T00:00:00Z",)), ["2024-01-01T05:30:00+05:30"], ["2024-01-01T00:00:01Z"]),
    ],
)
def test_allowed(data: LiteralData, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not literals.allowed(data, text)] == []
    assert [text for text in no if literals.allowed(data, text)] == []


def test_allowed_raises_for_what_is_not_of_the_type() -> None:
    with pytest.raises(LiteralError, match="integer"):
        literals.allowed(LiteralData("integer"), "one")


def test_a_zoned_date_survives_pickling() -> None:
    zoned = ZonedDate(2024, 2, 29, EAST)
    assert pickle.loads(pickle.dumps(zoned)) == zoned
    assert hash(zoned) == hash(ZonedDate(2024, 2, 29, EAST))
    assert zoned != ZonedDate(2024, 2, 29, UTC)


@pytest.mark.parametrize("form", ["P{}D", "P{}Y", "PT{}H", "PT{}.1S", "P1DT0.{}S", "P{}DT0.{}S"])
def test_durations_of_very_many_digits_are_refused(form: str) -> None:
    data = LiteralData("duration", allowed=(AllowedRange("PT0S", "P1D"),))
    assert not literals.allowed(data, form.format("9" * 900, "9" * 900))
    for digits in (1100, 4300, 5000):
        with pytest.raises(LiteralError, match="has more than 1000 digits"):
            literals.allowed(data, form.format("9" * digits, "9" * digits))
