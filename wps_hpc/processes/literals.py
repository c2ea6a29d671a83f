"""WPS literal types: exact parsing and formatting, order, allowed values.

The lexical rules are those of XML Schema part 2 (boolean, the integers, float, double, string, date, time, dateTime,
duration, anyURI); OWS's ``scale`` and ``angle`` are doubles. Nothing that only Python reads (``1_000``, ``infinity``)
is accepted, and nothing is rounded: what cannot be held exactly (years outside 1 to 9999, parts of a microsecond) is
refused with a sentence for the client. Two spellings beyond XML Schema are read, because birdy writes Python's own:
``True`` and ``False``, and a blank between date and time.

Canonical text keeps the time zone as given (XML Schema 1.1), ``Z`` for UTC; a number is its shortest exact form.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, Callable, Optional, Union

from wps_hpc.processes.description import AllowedRange, LiteralData

#: More digits than this are an attack, not a number (Python's own limit for converting text to int).
MAXIMUM_DIGITS = 4300
#: The same for each part of a duration: the sum of two must still be within that limit.
MAXIMUM_DURATION_DIGITS = 1000


class LiteralError(ValueError):
    """A text or value is not one of its literal type; the text is a sentence for the client."""


class ZonedDate(date):
    """A date with a time zone, as ``xs:date`` allows and Python's own date does not. Equal only to the same zone's."""

    #: The zone whose midnight begins the day.
    tzinfo: timezone

    def __new__(cls, year: int, month: int, day: int, zone: timezone = timezone.utc) -> ZonedDate:
        """The day that begins at midnight in ``zone``."""
        self = super().__new__(cls, year, month, day)
        self.tzinfo = zone
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the zone."""
        return ZonedDate, (self.year, self.month, self.day, self.tzinfo)

    def __eq__(self, other: object) -> bool:
        """The same day in the same zone."""
        return isinstance(other, ZonedDate) and _date_text(self) == _date_text(other)

    def __ne__(self, other: object) -> bool:
        """As ``__eq__``; date has its own, which looks at the day alone."""
        return not self == other

    def __hash__(self) -> int:
        """As ``__eq__``."""
        return hash(_date_text(self))

    def __repr__(self) -> str:
        """For people."""
        return f"ZonedDate({_date_text(self)})"


@dataclass(frozen=True, eq=False)
class Duration:
    """An ``xs:duration``, its parts exactly as written: years and months are never turned into days.

    Equality and order are XML Schema's: by what the duration does to four reference dates. Durations that it leaves
    unordered (one month, thirty days) are neither equal nor less.
    """

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0
    minutes: int = 0
    seconds: Decimal = Decimal(0)
    negative: bool = False

    @classmethod
    def of(cls, delta: timedelta) -> Duration:
        """The duration of a Python timedelta, in days, hours, minutes and seconds."""
        size = abs(delta)
        minutes, seconds = divmod(size.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        exact = Decimal(seconds) + Decimal(size.microseconds).scaleb(-6)
        return cls(0, 0, size.days, hours, minutes, exact, delta < timedelta(0))

    def timedelta(self) -> timedelta:
        """As a Python timedelta; raises LiteralError when years or months, or parts of a microsecond, forbid it."""
        if self.total_months:
            raise LiteralError(f"{self}: years and months have no fixed length; give days, hours, minutes and seconds")
        microseconds = self.total_seconds.scaleb(6)
        if microseconds != microseconds.to_integral_value():
            raise LiteralError(f"{self}: finer than a microsecond")
        try:
            return timedelta(microseconds=int(microseconds))
        except OverflowError as error:
            raise LiteralError(f"{self}: too long") from error

    @property
    def total_months(self) -> int:
        """Years and months together, signed."""
        return (-1 if self.negative else 1) * (12 * self.years + self.months)

    @property
    def total_seconds(self) -> Decimal:
        """Days, hours, minutes and seconds together, in seconds, signed."""
        whole = ((self.days * 24 + self.hours) * 60 + self.minutes) * 60
        # Built from digits: Decimal's arithmetic would round what its context cannot hold.
        total = _exact_sum(whole, self.seconds)
        return total.copy_negate() if self.negative else total

    def _on_reference_dates(self) -> tuple[Decimal, ...]:
        return tuple(_exact_sum(days * 86400, self.total_seconds) for days in _days_of_months(self.total_months))

    def __eq__(self, other: object) -> bool:
        """The same length, however it is written (XML Schema part 2 §3.2.6.2)."""
        if not isinstance(other, Duration):
            return NotImplemented
        return (self.total_months, self.total_seconds) == (other.total_months, other.total_seconds)

    def __hash__(self) -> int:
        """As ``__eq__``."""
        return hash((self.total_months, self.total_seconds))

    def __lt__(self, other: Duration) -> bool:
        """Shorter from every reference date."""
        return all(a < b for a, b in zip(self._on_reference_dates(), other._on_reference_dates()))

    def __le__(self, other: Duration) -> bool:
        """Not longer from any reference date."""
        return all(a <= b for a, b in zip(self._on_reference_dates(), other._on_reference_dates()))

    def __gt__(self, other: Duration) -> bool:
        """Longer from every reference date."""
        return other < self

    def __ge__(self, other: Duration) -> bool:
        """Not shorter from any reference date."""
        return other <= self

    def __str__(self) -> str:
        """The canonical text: its parts as written, those that are zero left out."""
        day_part = _parts(((self.years, "Y"), (self.months, "M"), (self.days, "D")))
        time_part = _parts(((self.hours, "H"), (self.minutes, "M"), (self.seconds, "S")))
        text = day_part + ("T" + time_part if time_part else "")
        return ("-" if self.negative and text else "") + "P" + (text or "T0S")


def _parts(parts: tuple[tuple[Union[int, Decimal], str], ...]) -> str:
    return "".join(f"{_decimal_text(Decimal(number))}{letter}" for number, letter in parts if number)


def _decimal_text(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exact_sum(whole: int, fraction: Decimal) -> Decimal:
    sign, digits, exponent = fraction.as_tuple()
    places = max(0, -int(exponent))
    scaled = int("".join(map(str, digits)) or "0") * 10 ** (int(exponent) + places)
    total = whole * 10**places + (-scaled if sign else scaled)
    return Decimal((int(total < 0), tuple(int(digit) for digit in str(abs(total))), -places))


#: XML Schema part 2 §3.2.6.2: durations are compared as added to these (year, month).
_REFERENCE_MONTHS = ((1696, 9), (1697, 2), (1903, 3), (1903, 7))


def _days_of_months(months: int) -> tuple[int, ...]:
    return tuple(
        _day_number(year * 12 + month - 1 + months) - _day_number(year * 12 + month - 1)
        for year, month in _REFERENCE_MONTHS
    )


def _day_number(month_index: int) -> int:
    # The Gregorian calendar repeats after 400 years = 4800 months = 146097 days; Python's has years 1 to 9999 only.
    cycles, month = divmod(month_index, 4800)
    return cycles * 146_097 + date(2000 + month // 12, month % 12 + 1, 1).toordinal()


# --- parsing ---------------------------------------------------------------------------------------------------------

_ZONE = r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?"
_DATE = r"(?P<year>-?[0-9]{4,})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
_PATTERNS = {
    "integer": re.compile(r"[+-]?[0-9]+"),
    "double": re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
    "date": re.compile(_DATE + _ZONE),
    "time": re.compile(_TIME + _ZONE),
    "dateTime": re.compile(_DATE + "[T ]" + _TIME + _ZONE),
    "duration": re.compile(
        r"(?P<sign>-?)P(?=[0-9T])(?:(?P<years>[0-9]+)Y)?(?:(?P<months>[0-9]+)M)?(?:(?P<days>[0-9]+)D)?"
        r"(?:T(?=[0-9])(?:(?P<hours>[0-9]+)H)?(?:(?P<minutes>[0-9]+)M)?(?:(?P<seconds>[0-9]+(?:\.[0-9]+)?)S)?)?"
    ),
}
_BOOLEANS = {"true": True, "1": True, "True": True, "false": False, "0": False, "False": False}
_SPECIAL_DOUBLES = {"INF": math.inf, "+INF": math.inf, "-INF": -math.inf, "NaN": math.nan}
_XML_SPACE = re.compile("[ \t\r\n]+")


def _collapse(text: str) -> str:
    return _XML_SPACE.sub(" ", text).strip(" ")


def _shown(value: object) -> str:
    text = str(value)
    return f"'{text}'" if len(text) <= 60 else f"'{text[:60]}…'"


def _match(name: str, text: str, what: str) -> re.Match[str]:
    found = _PATTERNS[name].fullmatch(text)
    if found is None:
        raise LiteralError(f"{_shown(text)} is not {what}")
    return found


def _parse_boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text]
    except KeyError:
        raise LiteralError(f"{_shown(text)} is not a boolean: true or false") from None


def _parse_integer(text: str) -> int:
    _match("integer", text, "an integer")
    return _to_int(text)


def _to_int(digits: str, most: int = MAXIMUM_DIGITS) -> int:
    if len(digits) > most:
        raise LiteralError(f"{_shown(digits)} has more than {most} digits")
    return int(digits)


def _parse_double(text: str) -> float:
    if text in _SPECIAL_DOUBLES:
        return _SPECIAL_DOUBLES[text]
    _match("double", text, "a number")
    value = float(text)
    if math.isinf(value):
        raise LiteralError(f"{_shown(text)} is too large for a double")
    return value


def _parse_zone(text: Optional[str]) -> Optional[timezone]:
    if text is None or text == "Z":
        return timezone.utc if text else None
    minutes = int(text[1:3]) * 60 + int(text[4:6])
    if minutes > 14 * 60 or int(text[4:6]) > 59:
        raise LiteralError(f"{_shown(text)} is not a time zone: -14:00 to +14:00")
    offset = timedelta(minutes=-minutes if text[0] == "-" else minutes)
    return timezone(offset) if offset else timezone.utc


def _parse_day(parts: Mapping[str, str]) -> date:
    year = parts["year"]
    if len(year) != 4 or not int(year):
        raise LiteralError(f"{_shown(year)}: only years 0001 to 9999 are supported")
    try:
        return date(int(year), int(parts["month"]), int(parts["day"]))
    except ValueError as error:
        raise LiteralError(f"{year}-{parts['month']}-{parts['day']} is not a date: {error}") from error


def _parse_clock(parts: Mapping[str, Optional[str]]) -> tuple[time, int]:
    """The time of day with its zone, and 1 where 24:00:00 means the next day's midnight."""
    fraction = (parts["fraction"] or "").rstrip("0")
    if len(fraction) > 6:
        raise LiteralError(f"'.{fraction}': seconds are kept to the microsecond")
    clock = (int(parts["hour"] or 0), int(parts["minute"] or 0), int(parts["second"] or 0), int(fraction.ljust(6, "0")))
    midnight = clock == (24, 0, 0, 0)
    try:
        found = time(*((0, 0, 0, 0) if midnight else clock), tzinfo=_parse_zone(parts["zone"]))
    except LiteralError:
        raise
    except ValueError as error:
        raise LiteralError(f"{parts['hour']}:{parts['minute']}:{parts['second']} is not a time: {error}") from error
    return found, int(midnight)


def _parse_date(text: str) -> date:
    parts = _match("date", text, "a date: YYYY-MM-DD").groupdict()
    day = _parse_day(parts)
    zone = _parse_zone(parts["zone"])
    return day if zone is None else ZonedDate(day.year, day.month, day.day, zone)


def _parse_time(text: str) -> time:
    return _parse_clock(_match("time", text, "a time: hh:mm:ss").groupdict())[0]


def _parse_datetime(text: str) -> datetime:
    parts = _match("dateTime", text, "a dateTime: YYYY-MM-DDThh:mm:ss").groupdict()
    clock, next_day = _parse_clock(parts)
    try:
        return datetime.combine(_parse_day(parts) + timedelta(days=next_day), clock)
    except OverflowError as error:
        raise LiteralError(f"{_shown(text)}: only years 0001 to 9999 are supported") from error


def _parse_duration(text: str) -> Duration:
    parts = _match("duration", text, "a duration, such as P1DT12H").groupdict()
    most = MAXIMUM_DURATION_DIGITS
    counts = {name: _to_int(parts[name] or "0", most) for name in ("years", "months", "days", "hours", "minutes")}
    seconds = parts["seconds"] or "0"
    if len(seconds) > most:
        raise LiteralError(f"{_shown(seconds)} has more than {most} digits")
    return Duration(**counts, seconds=Decimal(seconds), negative=bool(parts["sign"]))


def _at_least(minimum: int, words: str) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value < minimum:
            raise LiteralError(f"{_shown(value)} is not {words}")
        return value

    return check


_not_negative = _at_least(0, "a non-negative integer")
_positive = _at_least(1, "a positive integer")


def _parse_uri(text: str) -> str:
    if any(letter in text for letter in ' <>"{}|\\^`'):
        raise LiteralError(f"{_shown(text)} is not a URI")
    return text


# --- formatting ------------------------------------------------------------------------------------------------------


def _wrong(value: object, what: str) -> LiteralError:
    return LiteralError(f"{_shown(value)} ({type(value).__name__}) is not {what}")


def _format_boolean(value: Any) -> str:
    # numpy's own boolean is not Python's, and says so only by name.
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise _wrong(value, "a boolean")
    return "true" if value else "false"


def _format_integer(value: Any) -> str:
    if isinstance(value, bool):
        raise _wrong(value, "an integer")
    try:
        return str(operator.index(value))
    except (TypeError, ValueError) as error:
        raise _wrong(value if isinstance(error, TypeError) else "…", "an integer") from error


def _format_double(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, Decimal)):
        raise _wrong(value, "a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise LiteralError("the number is too large for a double") from error
    if math.isfinite(number):
        return repr(number)
    return "NaN" if math.isnan(number) else "INF" if number > 0 else "-INF"


def _format_string(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "a string")
    return str(value)


def _zone_text(offset: Optional[timedelta]) -> str:
    if offset is None:
        return ""
    minutes, rest = divmod(int(offset.total_seconds()), 60)
    if rest or offset.microseconds or abs(minutes) > 14 * 60:
        raise LiteralError(f"{offset} is not a time zone: whole minutes within 14 hours")
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "Z"


def _date_text(value: date) -> str:
    zone = getattr(value, "tzinfo", None)
    return f"{value.year:04}-{value.month:02}-{value.day:02}" + _zone_text(zone.utcoffset(None) if zone else None)


def _format_date(value: Any) -> str:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _wrong(value, "a date")
    return _date_text(value)


def _clock_text(value: Union[time, datetime]) -> str:
    fraction = f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""
    return f"{value.hour:02}:{value.minute:02}:{value.second:02}{fraction}" + _zone_text(value.utcoffset())


def _format_time(value: Any) -> str:
    if not isinstance(value, time):
        raise _wrong(value, "a time")
    return _clock_text(value)


def _format_datetime(value: Any) -> str:
    if not isinstance(value, datetime):
        raise _wrong(value, "a dateTime")
    return f"{value.year:04}-{value.month:02}-{value.day:02}T{_clock_text(value)}"


def _format_duration(value: Any) -> str:
    if not isinstance(value, (Duration, timedelta)):
        raise _wrong(value, "a duration")
    return str(Duration.of(value) if isinstance(value, timedelta) else value)


# --- order -----------------------------------------------------------------------------------------------------------


def _instant(value: Any) -> Any:
    """A moment that can be compared: without a zone it counts as UTC."""
    return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)


def _date_instant(value: date) -> datetime:
    return datetime(value.year, value.month, value.day, tzinfo=getattr(value, "tzinfo", None) or timezone.utc)


def _itself(value: Any) -> Any:
    return value


def _time_instant(value: time) -> timedelta:
    since_midnight = timedelta(
        hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
    )
    return since_midnight - (value.utcoffset() or timedelta(0))


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LiteralType:
    """How one type is read and written, what its values are compared by, and whether blanks around it count."""

    parse: Callable[[str], Any]
    format: Callable[[Any], str]
    order: Callable[[Any], Any] = _itself
    preserve_space: bool = False
    check: Callable[[Any], Any] = _itself


_INTEGER = LiteralType(_parse_integer, _format_integer)
_DOUBLE = LiteralType(_parse_double, _format_double)

#: Every WPS literal type, by its name in a description.
TYPES: Mapping[str, LiteralType] = {
    "boolean": LiteralType(_parse_boolean, _format_boolean),
    "integer": _INTEGER,
    "nonNegativeInteger": LiteralType(_parse_integer, _format_integer, check=_not_negative),
    "positiveInteger": LiteralType(_parse_integer, _format_integer, check=_positive),
    "float": _DOUBLE,
    "double": _DOUBLE,
    "string": LiteralType(_itself, _format_string, preserve_space=True),
    "date": LiteralType(_parse_date, _format_date, _date_instant),
    "time": LiteralType(_parse_time, _format_time, _time_instant),
    "dateTime": LiteralType(_parse_datetime, _format_datetime, _instant),
    "duration": LiteralType(_parse_duration, _format_duration),
    "anyURI": LiteralType(_parse_uri, _format_string),
    "scale": _DOUBLE,
    "angle": _DOUBLE,
}


def parse(data_type: str, text: str) -> Any:
    """The Python value of ``text``: bool, int, float, str, date (ZonedDate with a zone), time, datetime or Duration.

    Raises LiteralError. ``data_type`` must be a key of TYPES.
    """
    kind = TYPES[data_type]
    return kind.check(kind.parse(text if kind.preserve_space else _collapse(text)))


def format(data_type: str, value: Any) -> str:
    """The canonical text of a Python value; raises LiteralError when the value is not one of that type.

    timedelta counts as a duration, and any real number (numpy's, too) as a double; a bool is never a number.
    """
    kind = TYPES[data_type]
    text = kind.format(value)
    # Once through the parser: what the type forbids (a negative count, a blank in a URI) shall not get out either.
    parse(data_type, text)
    return text


def canonical(data_type: str, text: str) -> str:
    """``text`` in the one form that equal texts share; raises LiteralError."""
    return format(data_type, parse(data_type, text))


# --- allowed values --------------------------------------------------------------------------------------------------

#: closure -> does the minimum count, does the maximum.
_ENDS_INCLUDED: Mapping[str, tuple[bool, bool]] = {
    "closed": (True, True),
    "open": (False, False),
    "open-closed": (False, True),
    "closed-open": (True, False),
}


def allowed(data: LiteralData, text: str) -> bool:
    """Whether ``text`` is one of the values or within one of the ranges of ``data`` (all are, when it lists none).

    Compared in the type's own order; moments without a time zone count as UTC. Raises LiteralError when ``text`` is not
    of the type at all.
    """
    value = parse(data.data_type, text)
    if not data.allowed:
        return True
    return any(_permits(data.data_type, item, value) for item in data.allowed)


def _permits(data_type: str, item: Union[str, AllowedRange], value: Any) -> bool:
    if isinstance(item, AllowedRange):
        return _within(data_type, item, value) and _on_step(data_type, item, value)
    order = TYPES[data_type].order
    single = parse(data_type, item)
    # NaN differs from itself, but a list that has NaN means it.
    return bool(order(single) == order(value)) or (single != single and value != value)


def _within(data_type: str, bounds: AllowedRange, value: Any) -> bool:
    order = TYPES[data_type].order
    with_minimum, with_maximum = _ENDS_INCLUDED[bounds.closure]
    above = operator.ge if with_minimum else operator.gt
    below = operator.le if with_maximum else operator.lt
    found = order(value)
    if found != found:
        return False
    return (bounds.minimum is None or above(found, order(parse(data_type, bounds.minimum)))) and (
        bounds.maximum is None or below(found, order(parse(data_type, bounds.maximum)))
    )


#: Types whose ranges are spaced by a number of the same type, and by a duration.
NUMBERS = ("integer", "nonNegativeInteger", "positiveInteger", "float", "double", "scale", "angle")
MOMENTS = ("date", "time", "dateTime")


def _on_step(data_type: str, bounds: AllowedRange, value: Any) -> bool:
    """Whether the value is a whole number of spacings from the minimum (else from the maximum, else from zero)."""
    if bounds.spacing is None:
        return True
    origin = bounds.minimum if bounds.minimum is not None else bounds.maximum
    if data_type in NUMBERS:
        return _number_on_step(data_type, origin or "0", bounds.spacing, value)
    if data_type in MOMENTS and origin is not None:
        return _moment_on_step(data_type, origin, parse("duration", bounds.spacing), value)
    return True


def _number_on_step(data_type: str, origin: str, spacing: str, value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    # By decimal digits, as people mean them: 0.3 is three steps of 0.1, which it is not in binary.
    start, step, found = (Fraction(item) for item in (origin, spacing, format(data_type, value)))
    return bool((found - start) % step == 0)


def _moment_on_step(data_type: str, origin: str, spacing: Duration, value: Any) -> bool:
    order = TYPES[data_type].order
    start, found = order(parse(data_type, origin)), order(value)
    if not spacing.total_months:
        return bool((found - start) % spacing.timedelta() == timedelta(0))
    months = (found.year - start.year) * 12 + found.month - start.month
    return bool(months % spacing.total_months == 0 and _day_and_clock(found) == _day_and_clock(start))


def _day_and_clock(moment: datetime) -> tuple[int, time]:
    return moment.day, moment.time()
