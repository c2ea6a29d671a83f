"""The outputs that a process says it left are looked at before they are promised to anyone."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from joblauncher.formats.records import Failure
from joblauncher.formats.values import FileValue, NestedValue, Value, Values
from joblauncher.verify import Refused, open_beneath

_CHUNK = 1 << 20


class BadOutput(Exception):
    """An output is not what it must be; ``failure`` says which and why."""

    def __init__(self, identifier: str, why: str) -> None:
        super().__init__(f"{identifier}: {why}")
        text = f"The process did not leave the output {identifier} as a regular file in its outputs folder."
        self.failure = Failure("bad output", text, locator=identifier, detail=why)


def check_outputs(attempt: Path, outputs: Values, digests: bool = False) -> Values:
    """The outputs with the sizes of their files (bytes), and with their SHA-256 if ``digests``; raises BadOutput.

    Every file must be a regular one beneath ``outputs/`` of the attempt, with no link on the way.
    """
    folder = os.open(attempt, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _checked(folder, outputs, digests)
    finally:
        os.close(folder)


def _checked(folder: int, outputs: Values, digests: bool) -> Values:
    return {name: tuple(_check(folder, name, value, digests) for value in values) for name, values in outputs.items()}


def _check(folder: int, identifier: str, value: Value, digests: bool) -> Value:
    if isinstance(value, NestedValue):
        return NestedValue(_checked(folder, value.values, digests))
    return _check_file(folder, identifier, value, digests) if isinstance(value, FileValue) else value


def _check_file(folder: int, identifier: str, value: FileValue, digests: bool) -> FileValue:
    if value.shared or not value.path.startswith("outputs/"):
        raise BadOutput(identifier, f"{value.path!r} is not beneath outputs/")
    try:
        descriptor = open_beneath(folder, value.path)
    except Refused as refusal:
        raise BadOutput(identifier, refusal.detail) from refusal
    try:
        size = os.fstat(descriptor).st_size
        sha256 = _sha256(descriptor) if digests else None
    except OSError as error:
        raise BadOutput(identifier, f"{value.path!r}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    parts = tuple(_check_file(folder, identifier, part, digests) for part in value.parts)
    return replace(value, size=size, parts=parts, sha256=sha256)


def _sha256(descriptor: int) -> str:
    digest = hashlib.sha256()
    while chunk := os.read(descriptor, _CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
