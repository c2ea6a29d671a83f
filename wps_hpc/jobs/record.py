"""A request as the launcher will read it, and the files that belong to it."""

from __future__ import annotations

import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import FileValue, NestedValue, Value, Values
from wps_hpc.jobs.request import ExecuteRequest, Given, NestedGiven, OutputWish, Transmission

_MIB = 1 << 20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def request_record(request: ExecuteRequest) -> RequestRecord:
    """The record of a request whose inputs are all staged; raises TypeError for one that is not."""
    # Who wants the bare value, and does not say how it is to come, does not want an address.
    unsaid = Transmission.VALUE if request.raw else None
    wanted = tuple(_wanted(wish, wish.transmission or unsaid) for wish in request.outputs)
    return RequestRecord(request.process, _values(request.inputs), wanted, request.language)


def _wanted(wish: OutputWish, said: Transmission | None) -> WantedOutput:
    return wish.wanted if said is None else replace(wish.wanted, by_reference=said is Transmission.REFERENCE)


class InputGone(Exception):
    """A ``file:`` input is no longer the file that was accepted; the text is the operator's."""


def brought_along(record: RequestRecord, folder: JobFolder) -> RequestRecord:
    """The record for a cluster that does not see the server's file systems: ``file:`` inputs are copied into the job's
    folder. Raises InputGone, and OSError for a copy that cannot be written."""
    copies: dict[str, str] = {}
    return replace(record, inputs=_brought(record.inputs, folder, copies))


def _brought(values: Values, folder: JobFolder, copies: dict[str, str]) -> Values:
    def one(value: Value) -> Value:
        if isinstance(value, NestedValue):
            return NestedValue(_brought(value.values, folder, copies))
        return _copied(value, folder, copies) if isinstance(value, FileValue) and value.shared else value

    return {name: tuple(one(value) for value in occurrences) for name, occurrences in values.items()}


def _copied(value: FileValue, folder: JobFolder, copies: dict[str, str]) -> FileValue:
    if value.path not in copies:
        target = folder.inputs / f"shared-{len(copies) + 1}{Path(value.path).suffix[:20]}"
        copies[value.path] = target.relative_to(folder.path).as_posix()
        _copy_regular(Path(value.path), target, value.size)
    return replace(value, path=copies[value.path], shared=False)


def _copy_regular(source: Path, target: Path, size: int | None) -> None:
    """Not through a link that stands in its place by now."""
    try:
        descriptor = os.open(source, _FILE)
    except OSError as error:
        raise InputGone(f"{source}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as stream, target.open("wb") as copy:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise InputGone(f"{source}: it has {found.st_size} bytes where {size} were submitted")
        shutil.copyfileobj(stream, copy)


def input_files(record: RequestRecord) -> Iterator[FileValue]:
    """The files among the inputs, nested ones too, in the order of the record."""
    return (value for value in _flat(record.inputs) if isinstance(value, FileValue))


def input_megabytes(record: RequestRecord) -> int:
    """The size of all input files together, in MiB, rounded up."""
    return megabytes(value.size or 0 for value in input_files(record))


def megabytes(sizes: Iterable[int]) -> int:
    """The sum of sizes in bytes, in MiB, rounded up."""
    return math.ceil(sum(sizes) / _MIB)


def _values(given: Mapping[str, tuple[Given, ...]]) -> Values:
    return {name: tuple(_value(item) for item in items) for name, items in given.items()}


def _value(item: Given) -> Value:
    if isinstance(item, NestedGiven):
        return NestedValue(_values(item.values))
    if not isinstance(item, Value.__args__):  # type: ignore[attr-defined]
        raise TypeError(f"an input that was not staged: {type(item).__name__}")
    return item  # type: ignore[no-any-return]


def _flat(values: Values) -> Iterable[Value]:
    for occurrences in values.values():
        for value in occurrences:
            if isinstance(value, NestedValue):
                yield from _flat(value.values)
            else:
                yield value
