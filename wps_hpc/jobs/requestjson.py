"""The accepted ExecuteRequest as JSON text, for the job's row; what must not stand there, in files of the job folder.

Headers and bodies that a client supplied for its references are its secrets: ``save_secrets`` puts them into a file
that only the server's account can read, and ``forget_secrets`` removes it once everything was fetched. Lineage is kept
as the client sent it, in ``lineage.xml``. Inline content has become files before a request gets here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RecordError, WantedOutput
from joblauncher.formats.values import ValueFormatError, value_from_json, value_to_json
from wps_hpc.jobs.request import (
    ExecuteRequest,
    Given,
    InlineContent,
    Mode,
    NestedGiven,
    OutputWish,
    Reference,
    Subscriber,
    Transmission,
)

SCHEMA = 1

#: How the subscriber stands in the text; within values quotation marks are escaped.
_SUBSCRIBER = '"subscriber":{'

_PUBLIC = ("href", "mime_type", "encoding", "schema", "method", "body_href")


@dataclass(frozen=True)
class _Secrets:
    """What belongs to one reference and does not go into the database."""

    headers: tuple[tuple[str, str], ...]
    body: bytes | None


def to_json(request: ExecuteRequest) -> str:
    """The request as ASCII text without its secrets and lineage; raises TypeError for content that is still inline."""
    numbers = {id(reference): number for number, reference in enumerate(_secretive(request))}
    body = {
        "schema": SCHEMA,
        "process": request.process,
        "protocol": request.protocol,
        "inputs": _inputs_to_json(request.inputs, numbers),
        "outputs": [_wish_to_json(wish) for wish in request.outputs],
        "mode": request.mode.value,
        "raw": request.raw,
        "store": request.store,
        "status": request.status,
        "lineage": request.lineage is not None,
        "language": request.language,
        "owner": request.owner,
        "resources": dict(request.resources),
    }
    if request.subscriber is not None:
        body["subscriber"] = asdict(request.subscriber)
    return json.dumps(body, separators=(",", ":"))


def from_json(text: str, folder: JobFolder | None = None) -> ExecuteRequest:
    """The request that ``to_json`` wrote; with the job's folder also its secrets (until forgotten) and its lineage.

    Raises RecordError when the text is torn, or a file that belongs to it is torn or missing.
    """
    try:
        body = json.loads(text)
        if body.pop("schema") != SCHEMA:
            raise RecordError(f"the request was not written for schema {SCHEMA}")
        return _request(body, folder)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError, ValueFormatError) as error:
        raise RecordError(f"the stored request cannot be read: {error}") from error


def subscriber_of(text: str) -> Subscriber | None:
    """Who is to be told of the job whose stored request this is. Cheap where nobody is, which is the rule."""
    if _SUBSCRIBER not in text:
        return None
    given = json.loads(text).get("subscriber")
    return None if given is None else Subscriber(**given)


def save_secrets(request: ExecuteRequest, folder: JobFolder) -> None:
    """Write the secrets of the request, if it has any, into the job folder; raises OSError."""
    entries = [{"headers": reference.headers, "body": _coded(reference.body)} for reference in _secretive(request)]
    if entries:
        write_atomic(folder.secrets, json.dumps(entries), mode=0o600)


def blank_secrets(folder: JobFolder) -> None:
    """Empty the secrets: they were used, but the stored request, which refers to them, may yet be read once more."""
    if folder.secrets.exists():
        blank: list[dict[str, Any]] = [{"headers": [], "body": None} for _ in json.loads(folder.secrets.read_bytes())]
        write_atomic(folder.secrets, json.dumps(blank), mode=0o600)


def forget_secrets(folder: JobFolder) -> None:
    """Remove the secrets: every reference was fetched, or the job has ended."""
    folder.secrets.unlink(missing_ok=True)


def _secretive(request: ExecuteRequest) -> Iterator[Reference]:
    """The references with something to hide, always in the same order."""
    for value in _flat(request.inputs):
        if isinstance(value, Reference) and (value.headers or value.body is not None):
            yield value


def _flat(inputs: Mapping[str, tuple[Given, ...]]) -> Iterator[Given]:
    for values in inputs.values():
        for value in values:
            yield value
            if isinstance(value, NestedGiven):
                yield from _flat(value.values)


def _coded(body: bytes | None) -> str | None:
    return None if body is None else base64.b64encode(body).decode()


def _inputs_to_json(inputs: Mapping[str, tuple[Given, ...]], numbers: Mapping[int, int]) -> dict[str, Any]:
    return {name: [_given_to_json(value, numbers) for value in values] for name, values in inputs.items()}


def _given_to_json(value: Given, numbers: Mapping[int, int]) -> dict[str, Any]:
    if isinstance(value, InlineContent):
        raise TypeError("inline content has to be written to a file first")
    if isinstance(value, NestedGiven):
        return {"kind": "nested", "values": _inputs_to_json(value.values, numbers)}
    if isinstance(value, Reference):
        fields = {name: getattr(value, name) for name in _PUBLIC}
        return {"kind": "reference", **fields, "secret": numbers.get(id(value))}
    return value_to_json(value)


def _wish_to_json(wish: OutputWish) -> dict[str, Any]:
    return {**asdict(wish), "transmission": wish.transmission and wish.transmission.value}


def _request(body: dict[str, Any], folder: JobFolder | None) -> ExecuteRequest:
    secret = _secret_lookup(folder)
    lineage = folder.lineage.read_bytes() if folder is not None and body["lineage"] else None
    revived: dict[str, Any] = {
        "inputs": _inputs_from_json(body["inputs"], secret),
        "outputs": tuple(_wish_from_json(wish) for wish in body["outputs"]),
        "mode": Mode(body["mode"]),
        "subscriber": Subscriber(**body["subscriber"]) if "subscriber" in body else None,
        "lineage": lineage,
    }
    return ExecuteRequest(**{**body, **revived})


def _secret_lookup(folder: JobFolder | None) -> Callable[[int], _Secrets | None]:
    """The secrets by number, read from the folder when the first one is asked for."""
    entries: list[_Secrets] = []

    def secret(number: int) -> _Secrets | None:
        if folder is None:
            return None
        if not entries:
            entries.extend(_read_secrets(folder))
        return entries[number] if entries else None

    return secret


def _read_secrets(folder: JobFolder) -> list[_Secrets]:
    """None once they are forgotten: a worker may end after everything was fetched and before it said so."""
    try:
        content = folder.secrets.read_bytes()
    except FileNotFoundError:
        return []
    return [_revived(entry) for entry in json.loads(content)]


def _revived(entry: Mapping[str, Any]) -> _Secrets:
    body = None if entry["body"] is None else base64.b64decode(entry["body"], validate=True)
    return _Secrets(tuple((name, value) for name, value in entry["headers"]), body)


def _inputs_from_json(
    inputs: Mapping[str, Any], secret: Callable[[int], _Secrets | None]
) -> dict[str, tuple[Given, ...]]:
    return {name: tuple(_given_from_json(item, secret) for item in items) for name, items in inputs.items()}


def _given_from_json(item: Mapping[str, Any], secret: Callable[[int], _Secrets | None]) -> Given:
    if item["kind"] == "nested":
        return NestedGiven(_inputs_from_json(item["values"], secret))
    if item["kind"] != "reference":
        return value_from_json(item)  # type: ignore[return-value]  # nested values were taken care of
    reference = Reference(**{name: item[name] for name in _PUBLIC})
    found = None if item["secret"] is None else secret(item["secret"])
    return reference if found is None else replace(reference, headers=found.headers, body=found.body)


def _wish_from_json(wish: Mapping[str, Any]) -> OutputWish:
    transmission = None if wish["transmission"] is None else Transmission(wish["transmission"])
    return OutputWish(WantedOutput(**wish["wanted"]), transmission, wish["title"], wish["abstract"])
