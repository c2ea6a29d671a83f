"""A JSON body: read within bounds, or not at all."""

from __future__ import annotations

import json
import re
from typing import Any

from wps_hpc.errors import BadRequest, FileSizeExceeded

#: More values than this in one body are refused: each costs some hundred bytes of memory, whatever it is.
MOST_VALUES = 2_000_000
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BETWEEN_VALUES = b",[{"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Number(float):
    """A number with a fraction or an exponent that knows how it was written: a literal keeps every digit."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        """The number that ``text`` spells, infinite when it is too large for a double."""
        made = super().__new__(cls, text)
        made.text = text
        return made


def read_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Numbers with a fraction or an exponent are ``Number``s.

    Raises BadRequest for what is no JSON (also NaN and Infinity, which only Python reads), for nesting that is too deep
    and for text that is no Unicode (half a surrogate pair); FileSizeExceeded for more than MOST_VALUES values.
    """
    _check_count(body)
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_float=Number, parse_constant=_refuse)
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error
    except UnicodeEncodeError as error:
        raise BadRequest("The body has half of a surrogate pair, which is no character.") from error
    except ValueError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_count(body: bytes) -> None:
    if _count(body) > MOST_VALUES and _count(_STRINGS.sub(b"", body)) > MOST_VALUES:
        raise FileSizeExceeded(f"The body has more than {MOST_VALUES} values; send large inputs by reference.")


def _count(body: bytes) -> int:
    return sum(body.count(bytes([letter])) for letter in _BETWEEN_VALUES)
