"""A request as the launcher will read it, and the files that belong to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import FileValue, NestedValue, Value, Values
from wps_hpc.jobs.request import ExecuteRequest, Given, NestedGiven, OutputWish, Transmission

_MIB = 1 << 20


def request_record(request: ExecuteRequest) -> RequestRecord:
    """The record of a request whose inputs are all staged; raises TypeError for one that is not."""
    # Who wants the bare value, and does not say how it is to come, does not want an address.
    unsaid = Transmission.VALUE if request.raw else None
    wanted = tuple(_wanted(wish, wish.transmission or unsaid) for wish in request.outputs)
    return RequestRecord(request.process, _values(request.inputs), wanted, request.language)


def _wanted(wish: OutputWish, said: Transmission | None) -> WantedOutput:
    return wish.wanted if said is None else replace(wish.wanted, by_reference=said is Transmission.REFERENCE)


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
