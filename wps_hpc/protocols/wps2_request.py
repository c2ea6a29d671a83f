"""Requests of WPS 2.0 once they are read, and the rules that hold however they came (OGC 14-065r2 §9.8.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wps_hpc.errors import InvalidParameterValue, ModeNotSupported, NoSuchInput, NoSuchOutput
from wps_hpc.jobs.request import ExecuteRequest, Given, Mode, OutputWish, Transmission
from wps_hpc.processes.description import Described, ProcessDescription
from wps_hpc.protocols.caller import Caller
from wps_hpc.protocols.wps_request import DescribeProcess, GetCapabilities, JobRequest

PROTOCOL = "wps2"
VERSION = "2.0.0"


@dataclass(frozen=True)
class Execute:
    """14-065r2 table 36. ``outputs`` empty means all, each in its default form."""

    process: ProcessDescription
    inputs: Mapping[str, tuple[Given, ...]]
    outputs: tuple[OutputWish, ...]
    mode: Mode
    raw: bool


Operation: TypeAlias = GetCapabilities | DescribeProcess | Execute | JobRequest


def to_execute_request(operation: Execute, language: str, caller: Caller) -> ExecuteRequest:
    """The neutral request; raises ModeNotSupported."""
    process = operation.process
    if operation.mode is not Mode.AUTO and MODES[operation.mode] not in execution_modes(process):
        raise ModeNotSupported(
            f"{process.identifier} does not run in the mode {operation.mode}; it has "
            f"{' and '.join(execution_modes(process))}.",
            operation.mode,
        )
    return ExecuteRequest(
        process=process.identifier,
        protocol=PROTOCOL,
        inputs=operation.inputs,
        outputs=operation.outputs,
        mode=operation.mode,
        raw=operation.raw,
        language=language,
        owner=caller.owner,
        resources=caller.resources(),
    )


#: What the modes are called among the job control options (14-065r2 table 24).
MODES: Mapping[Mode, str] = {Mode.SYNC: "sync-execute", Mode.ASYNC: "async-execute"}


def execution_modes(process: ProcessDescription) -> tuple[str, ...]:
    """The execution modes of a process. Every process has one: what cannot be stored runs synchronously."""
    asynchronous = process.store_supported and process.status_supported
    synchronous = process.sync != "refused" or not asynchronous
    return (("sync-execute",) if synchronous else ()) + (("async-execute",) if asynchronous else ())


def mode_of(text: str | None) -> Mode:
    """The mode attribute; without one the server picks (req/conceptual-model/process-execution/mode-auto).

    Raises ModeNotSupported for a word that is none.
    """
    if text is None:
        return Mode.AUTO
    try:
        return Mode(text)
    except ValueError:
        raise ModeNotSupported(f"The mode must be sync, async or auto, not {text[:80]!r}.", text[:80]) from None


_RESPONSES = {None: False, "document": False, "raw": True}


def is_raw(text: str | None) -> bool:
    """The response attribute, document by default (14-065r2 table 40); raises InvalidParameterValue."""
    if text not in _RESPONSES:
        raise InvalidParameterValue(f"The response must be document or raw, not {str(text)[:80]!r}.", "response")
    return _RESPONSES[text]


def transmission_of(text: str | None) -> Transmission | None:
    """The transmission attribute (14-065r2 table 25); raises InvalidParameterValue."""
    if text is None:
        return None
    try:
        return Transmission(text)
    except ValueError:
        raise InvalidParameterValue(
            f"The transmission must be value or reference, not {text[:80]!r}.", "transmission"
        ) from None


def refuse_unknown_inputs(asked: Iterable[str], described: Sequence[Described]) -> None:
    """Raise NoSuchInput with all the violating identifiers as locator (14-065r2 table 43)."""
    if unknown := _unknown(asked, described):
        raise NoSuchInput(f"There is no input {unknown}; there are {_listed(described)}.", unknown)


def refuse_unknown_outputs(asked: Iterable[str], described: Sequence[Described]) -> None:
    """Raise NoSuchOutput with all the violating identifiers as locator (14-065r2 table 43)."""
    if unknown := _unknown(asked, described):
        raise NoSuchOutput(f"There is no output {unknown}; there are {_listed(described)}.", unknown)


def _unknown(asked: Iterable[str], described: Sequence[Described]) -> str:
    known = {item.identifier for item in described}
    return ",".join(name[:80] for name in dict.fromkeys(asked) if name not in known)[:400]


def _listed(described: Sequence[Described]) -> str:
    return ", ".join(item.identifier for item in described) or "none"
