"""The protocol-neutral Execute request that every protocol makes and the jobs room takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from joblauncher.formats.records import WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue


class Mode(StrEnum):
    """How the client wants to wait."""

    SYNC = "sync"
    ASYNC = "async"
    AUTO = "auto"


class Transmission(StrEnum):
    """How an output reaches the client."""

    VALUE = "value"
    REFERENCE = "reference"


@dataclass(frozen=True)
class InlineContent:
    """A complex input that came within the request: its decoded bytes and the format it claims to have."""

    content: bytes
    mime_type: str | None = None
    encoding: str | None = None
    schema: str | None = None


@dataclass(frozen=True)
class Reference:
    """A complex input to fetch. ``body`` and ``body_href`` make it a POST; ``headers`` are the client's own secrets."""

    href: str
    mime_type: str | None = None
    encoding: str | None = None
    schema: str | None = None
    method: str = "GET"
    # Neither belongs in a log line that shows a request.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    body_href: str | None = None


@dataclass(frozen=True)
class NestedGiven:
    """Nested inputs as given (WPS 2.0)."""

    values: Mapping[str, tuple[Given, ...]]


#: A value as a client gave it. FileValue appears once accept has written inline content to disk.
Given: TypeAlias = LiteralValue | BoundingBoxValue | InlineContent | Reference | FileValue | NestedGiven


@dataclass(frozen=True)
class OutputWish:
    """An output as the client wants it. ``transmission`` of None is the protocol's default.

    ``title`` and ``abstract`` are the client's own words for it, echoed by WPS 1.0.0 (05-007r7 table 51).
    """

    wanted: WantedOutput
    transmission: Transmission | None = None
    title: str | None = None
    abstract: str | None = None


@dataclass(frozen=True)
class Subscriber:
    """Where a client wants to be told of its job (18-062r2 §12): http(s) addresses, each for its occasion."""

    success: str | None = None
    in_progress: str | None = None
    failed: str | None = None


@dataclass(frozen=True)
class ExecuteRequest:
    """One Execute, whichever protocol it came by.

    ``outputs`` empty means all. ``raw`` asks for the bare bytes of the one output. ``store`` and ``status`` are the
    WPS 1.0.0 options of those names; ``lineage`` is the client's DataInputs and OutputDefinitions as it sent them, when
    it asked to have them echoed. ``resources`` are per-request wishes within the site's caps. ``subscriber`` is
    told of the job.
    """

    process: str
    protocol: str
    inputs: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)
    outputs: tuple[OutputWish, ...] = ()
    mode: Mode = Mode.SYNC
    raw: bool = False
    store: bool = False
    status: bool = False
    lineage: bytes | None = None
    language: str = "en-US"
    owner: str | None = None
    resources: Mapping[str, int] = field(default_factory=dict)
    subscriber: Subscriber | None = None
