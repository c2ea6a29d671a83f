"""What a submission tells the spooler: standard input of its ``submit`` command, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import dropwhile
from pathlib import Path

from wps_hpc.clusters.spooler.spool import SpoolError, checked_token


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


def read_order(content: bytes) -> StartOrder:
    """The order in ``content``, checked as far as the spooler depends on it; raises OrderError."""
    try:
        body = json.loads(content)
        order = StartOrder(**{**body, "launcher": tuple(body["launcher"])})
        checked_token(order.token)
    except (ValueError, TypeError, KeyError, SpoolError) as error:
        raise OrderError(f"not an order: {error}") from error
    if not (isinstance(order.submission, int) and order.submission > 0):
        raise OrderError(f"not a submission number: {order.submission!r}")
    if not (Path(order.folder).is_absolute() and Path(order.folder).is_dir()):
        raise OrderError(f"no such job folder: {order.folder}")
    return order
