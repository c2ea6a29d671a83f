"""Requests of WPS 1.0.0 once they are read, and the rules that hold however they came (05-007r7 §8.2, 9.2, 10.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from wps_hpc.errors import InvalidParameterValue, NoSuchOutput, StorageNotSupported
from wps_hpc.jobs.request import ExecuteRequest, Given, Mode, OutputWish, Transmission
from wps_hpc.processes.description import ComplexData, Output, ProcessDescription
from wps_hpc.protocols.caller import Caller
from wps_hpc.protocols.wps_request import DescribeProcess, GetCapabilities, JobRequest, gather

PROTOCOL = "wps1"
VERSION = "1.0.0"


@dataclass(frozen=True)
class ResponseForm:
    """05-007r7 tables 49 and 50. ``outputs`` empty means all, each in its default form."""

    outputs: tuple[OutputWish, ...] = ()
    raw: bool = False
    store: bool = False
    status: bool = False
    lineage: bool = False


@dataclass(frozen=True)
class Execute:
    """05-007r7 table 39. ``lineage`` is the account to echo, when the form asks for it."""

    process: ProcessDescription
    inputs: tuple[tuple[str, Given], ...]
    form: ResponseForm
    language: str | None = None
    lineage: bytes | None = None


Operation: TypeAlias = GetCapabilities | DescribeProcess | Execute | JobRequest


def to_execute_request(operation: Execute, language: str, caller: Caller) -> ExecuteRequest:
    """The neutral request. Raises InvalidParameterValue or StorageNotSupported for a form that cannot be given."""
    form = operation.form
    check_form(form, operation.process)
    return ExecuteRequest(
        process=operation.process.identifier,
        protocol=PROTOCOL,
        inputs=gather(operation.inputs),
        outputs=tuple(_only_complex_by_reference(wish, operation.process) for wish in form.outputs),
        mode=Mode.ASYNC if form.store else Mode.SYNC,
        raw=form.raw,
        store=form.store,
        status=form.status,
        lineage=operation.lineage if form.lineage else None,
        language=language,
        owner=caller.owner,
        resources=caller.resources(),
    )


def check_form(form: ResponseForm, process: ProcessDescription) -> None:
    """What table 50 demands of a response form, and what the process supports."""
    if form.status and not form.store:
        raise InvalidParameterValue(
            "status=true needs storeExecuteResponse=true: only a stored response can be updated.", "status"
        )
    if form.store and not process.store_supported:
        raise StorageNotSupported(f"{process.identifier} does not store responses; call it synchronously.")
    if form.status and not process.status_supported:
        raise StorageNotSupported(f"{process.identifier} does not report its status; leave status out.")
    _check_outputs(form, process)


def _check_outputs(form: ResponseForm, process: ProcessDescription) -> None:
    seen = set()
    for wish in form.outputs:
        identifier = wish.wanted.identifier
        if process.output(identifier) is None:
            known = ", ".join(output.identifier for output in process.outputs)
            raise NoSuchOutput(f"{process.identifier} has no output {identifier[:80]!r}; it has {known}.", identifier)
        if identifier in seen:
            raise InvalidParameterValue(f"The output {identifier} is asked for twice.", identifier)
        seen.add(identifier)
        if wish.transmission is Transmission.REFERENCE and not process.store_supported:
            raise StorageNotSupported(f"{process.identifier} does not store outputs; leave asReference out.")


def _only_complex_by_reference(wish: OutputWish, process: ProcessDescription) -> OutputWish:
    """«This parameter only applies to ComplexData outputs» (table 51): elsewhere asReference means nothing."""
    output: Output | None = process.output(wish.wanted.identifier)
    if output is None or isinstance(output.data, ComplexData):
        return wish
    return replace(wish, transmission=None)
