"""What a submission tells the spooler: standard input of its ``submit`` command, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

from wps_hpc.clusters.spooler.spool import is_token


class OrderError(ValueError):
    """A submission that the spooler cannot take; the text says why."""


@dataclass(frozen=True)
class StartOrder:
    """One job to start. ``environment`` is all that the job gets, but for the token.

    ``warm``: fork, and call the launcher with the options of ``launcher``; otherwise ``script`` is run by ``/bin/sh``.
    """

    token: str
    job_id: str
    folder: str
    submission: int
    warm: bool
    launcher: tuple[str, ...]
    script: str
    environment: Mapping[str, str]

    @property
    def launcher_options(self) -> tuple[str, ...]:
        """The launcher's argv from its first option on, without the Python and the file that a cold start needs."""
        return tuple(dropwhile(lambda argument: not argument.startswith("--"), self.launcher))

    def dump(self) -> bytes:
        """The order as JSON text."""
        return json.dumps(asdict(self)).encode()


def _texts(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(each, str) for each in value)


#: What each part of an order must be.
_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "token": is_token,
    "job_id": lambda value: isinstance(value, str),
    "folder": lambda value: isinstance(value, str) and Path(value).is_absolute() and Path(value).is_dir(),
    "submission": lambda value: type(value) is int and value > 0,
    "warm": lambda value: isinstance(value, bool),
    "launcher": lambda value: isinstance(value, list) and _texts(value),
    "script": lambda value: isinstance(value, str),
    "environment": lambda value: isinstance(value, dict) and _texts(value.values()),
}


def read_order(content: bytes) -> StartOrder:
    """The order in ``content``, each part checked, and that the job folder exists; raises OrderError."""
    body = _parsed(content)
    for name, fits in _SHAPES.items():
        if not fits(body[name]):
            raise OrderError(f"not an order: {name} is {body[name]!r:.200}")
    return StartOrder(**{**body, "launcher": tuple(body["launcher"])})


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as error:
        raise OrderError(f"not an order: {error}") from error
    if not isinstance(body, dict) or set(body) != set(_SHAPES):
        raise OrderError("not an order: its parts are not those of this version")
    return body
