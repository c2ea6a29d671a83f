"""``request.json``, ``manifest.json``, ``result.json`` and ``exit``: small JSON records with a schema number.

Every reader refuses another schema number and a wrong shape with RecordError, so that a torn or forged file is never
half understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, TypeVar, Union

from joblauncher.formats.values import Value, values_from_json, values_to_json

SCHEMA = 1

#: The launcher's exit codes. Any other one comes from Python, a container runtime or the system.
EXIT_SUCCEEDED = 0
EXIT_FAILED = 1
EXIT_NOT_WRITTEN = 74
EXIT_CLAIMED = 75
EXIT_REFUSED = 76


class RecordError(ValueError):
    """A record is torn, forged, or of a version that this code does not read."""


@dataclass(frozen=True)
class WantedOutput:
    """An output that the client wants, and in which format or unit (None: the process's default).

    ``by_reference`` says that it wants the output's address (None: it did not say).
    """

    identifier: str
    mime_type: Optional[str] = None
    encoding: Optional[str] = None
    schema: Optional[str] = None
    uom: Optional[str] = None
    by_reference: Optional[bool] = None


@dataclass(frozen=True)
class RequestRecord:
    """What the process gets: validated inputs (files by path), wanted outputs (empty: all), the client's language."""

    identifier: str
    inputs: Mapping[str, tuple[Value, ...]]
    outputs: tuple[WantedOutput, ...] = ()
    language: str = "en-US"


@dataclass(frozen=True)
class ListedFile:
    """A file that the launcher reads: path relative to the job folder, size in bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class SharedFile:
    """A ``file:`` input that stays where it is: absolute path and size in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Limits:
    """What the launcher enforces itself. Seconds, MiB, bytes; None: no limit.

    ``enforce`` is false where a scheduler enforces walltime and memory. ``grace_s`` is the time that a process has
    between SIGTERM and SIGKILL. ``max_restarts`` is how often a run that was interrupted may be started again.
    """

    walltime_s: Optional[float] = None
    memory_mb: Optional[int] = None
    log_bytes: int = 10_000_000
    enforce: bool = True
    grace_s: float = 10.0
    max_restarts: int = 0


#: The word in a container's command line that stands for the number of the attempt.
NUMBER_WORD = "@number"


@dataclass(frozen=True)
class Container:
    """How a command is started in the job's container: ``argv`` comes before it, NUMBER_WORD among its words.

    ``commands``: the launcher runs outside, and only what the process starts as its commands runs inside.
    """

    argv: tuple[str, ...]
    commands: bool = False

    def entered(self, number: str) -> tuple[str, ...]:
        """The words that come before a command, for that attempt."""
        return tuple(number if word == NUMBER_WORD else word for word in self.argv)


@dataclass(frozen=True)
class Manifest:
    """What one submission of a job consists of. Its own SHA-256 rides on the launcher's command line.

    ``loads`` says how the payload finds its code: ``reference`` (an importable module), ``source`` (``module`` is the
    file ``source/<module>.py``) or ``value`` (pickled code: only the same minor Python may load it). ``outputs_url`` is
    the address below which clients find the files of the job's outputs folder. ``container`` is where it runs, if in
    one.
    ``digests`` asks for the SHA-256 of each output file, because they travel to the server by another way than a shared
    filesystem.
    """

    job: str
    submission: int
    process: str
    loads: str
    module: Optional[str]
    python: str
    dill: str
    wps_hpc: str
    created: str
    files: tuple[ListedFile, ...]
    shared: tuple[SharedFile, ...] = ()
    limits: Limits = Limits()
    resources: Mapping[str, Any] = field(default_factory=dict)
    outputs_url: str = ""
    container: Optional[Container] = None
    digests: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a job failed.

    ``cause`` is one of CAUSES; ``text`` is a sentence for the client; ``detail`` is for the operator.
    """

    cause: str
    text: str
    code: str = "NoApplicableCode"
    locator: Optional[str] = None
    signal: Optional[int] = None
    exit_code: Optional[int] = None
    detail: str = ""


#: The causes of a failure that launcher, watcher and schedulers tell apart.
CAUSES = (
    "process error",
    "exit code",
    "signal",
    "time limit",
    "out of memory",
    "node failure",
    "preempted",
    "interrupted",
    "cancelled",
    "could not start",
    "could not be submitted",
    "input not available",
    "disk full",
    "bad output",
    "payload refused",
    "lost",
    "internal error",
)


@dataclass(frozen=True)
class ResultRecord:
    """The full neutral record of a finished attempt. Times are Unix seconds on the node's clock.

    ``rusage`` has ``cpu_s`` (user + system), ``max_rss_mb`` and ``wall_s``; ``signals`` lists what the launcher got.
    """

    state: str
    started: float
    finished: float
    host: str
    outputs: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    failure: Optional[Failure] = None
    rusage: Mapping[str, float] = field(default_factory=dict)
    signals: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimRecord:
    """Which launcher runs an attempt: host, the host's boot id, process id there, and when it began (Unix seconds)."""

    host: str
    boot: str
    pid: int
    time: float


@dataclass(frozen=True)
class ExitRecord:
    """How the launcher itself ended, as seen from outside the container: an exit code, or a signal; and the host."""

    exit_code: Optional[int]
    signal: Optional[int]
    host: str


Record = Union[RequestRecord, Manifest, ResultRecord, ClaimRecord, ExitRecord]
R = TypeVar("R", RequestRecord, Manifest, ResultRecord, ClaimRecord, ExitRecord)


def dump(record: Record) -> bytes:
    """A record as JSON text with its schema number; the same record always gives the same bytes."""
    body = asdict(record)
    for name in ("inputs", "outputs"):
        if isinstance(getattr(record, name, None), Mapping):
            body[name] = values_to_json(getattr(record, name))
    return json.dumps({"schema": SCHEMA, **body}, sort_keys=True, separators=(",", ":")).encode()


def load(kind: type[R], content: bytes) -> R:
    """The record of that kind in ``content``; raises RecordError when it is anything else."""
    try:
        body = json.loads(content)
        if body.pop("schema") != SCHEMA:
            raise RecordError(f"{kind.__name__}: not written for schema {SCHEMA}")
        return kind(**{name: _revive(kind, name, part) for name, part in body.items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordError(f"{kind.__name__}: {error}") from error


def _revive(kind: type, name: str, part: Any) -> Any:
    reviver = _REVIVERS.get((kind, name))
    return part if reviver is None or part is None else reviver(part)


_REVIVERS: Mapping[tuple[type, str], Any] = {
    (RequestRecord, "inputs"): values_from_json,
    (RequestRecord, "outputs"): lambda items: tuple(WantedOutput(**item) for item in items),
    (Manifest, "files"): lambda items: tuple(ListedFile(**item) for item in items),
    (Manifest, "shared"): lambda items: tuple(SharedFile(**item) for item in items),
    (Manifest, "limits"): lambda item: Limits(**item),
    (Manifest, "container"): lambda item: Container(tuple(item["argv"]), item["commands"]),
    (ResultRecord, "outputs"): values_from_json,
    (ResultRecord, "failure"): lambda item: Failure(**item),
    (ResultRecord, "signals"): tuple,
}
