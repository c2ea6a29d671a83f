"""Who sends a request, and the resources that it wishes for its job, which no protocol has a word for.

A wish is the query parameter ``resources`` of the address that the request goes to, by GET as by POST:
``resources=cores=4,walltime_s=7200``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from wps_hpc.errors import InvalidParameterValue

PARAMETER = "resources"
_WISH = re.compile(r"([a-z_]{1,30})=([0-9]{1,9})")


@dataclass(frozen=True)
class Caller:
    """``owner`` is who asks, if that is known; ``wished`` the text of the parameter, where it is there."""

    owner: str | None = None
    wished: str | None = None

    @classmethod
    def of(cls, query: str, owner: str | None) -> Caller:
        """From a query string as WSGI has it. Names of parameters are case-insensitive (06-121r3 §11.5.2)."""
        found = [value for name, value in parse_qsl(query) if name.lower() == PARAMETER]
        return cls(owner, ",".join(found) if found else None)

    def resources(self) -> Mapping[str, int]:
        """The wishes by name; raises InvalidParameterValue. Names and amounts are judged with the process at hand."""
        return read_wishes(self.wished)


#: Nobody in particular, with no wishes.
ANYBODY = Caller()


def read_wishes(text: str | None) -> Mapping[str, int]:
    """The wishes of a parameter's value (None: it is not there); raises InvalidParameterValue for what is no list."""
    wishes: dict[str, int] = {}
    for item in (text or "").split(","):
        found = _WISH.fullmatch(item.strip())
        if found is not None and found[1] not in wishes:
            wishes[found[1]] = int(found[2])
        elif item.strip() or found:
            raise InvalidParameterValue(
                f"{PARAMETER} is a list of names with whole numbers, each once, such as cores=4,walltime_s=7200.",
                PARAMETER,
            )
    return wishes
