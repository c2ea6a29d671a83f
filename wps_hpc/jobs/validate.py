"""Everything that can be said of an Execute without running it.

``validated`` gives the request as the process will get it: literals in canonical form and with their type and unit,
defaults filled in, formats resolved. Whatever does not fit the description is refused with the exceptionCode of OGC
05-007r7 table 38 (06-121r3 table 25), by the class of ``errors`` that says what is wrong, and with the input, output or
parameter as locator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from joblauncher.formats.records import WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue
from wps_hpc.config import Limits, Settings
from wps_hpc.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    MissingParameterValue,
    ModeNotSupported,
    NoSuchFormat,
    NoSuchInput,
    NoSuchOutput,
    StorageNotSupported,
    TooManyInputs,
    TooManyOutputs,
    WrongInputData,
)
from wps_hpc.jobs.request import (
    ExecuteRequest,
    Given,
    InlineContent,
    Mode,
    NestedGiven,
    OutputWish,
    Reference,
    Transmission,
)
from wps_hpc.processes import formats, literals
from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Described,
    Format,
    Input,
    LiteralData,
    NestedInputs,
    Output,
    ProcessDescription,
)

_Kind = TypeVar("_Kind", LiteralValue, BoundingBoxValue, NestedGiven)

#: The unit of ``maximumMegabytes`` in bytes.
MEGABYTE = 1_000_000

#: Where a client of each protocol says how it wants to wait.
_MODE_LOCATORS = {"wps1": "status"}

#: Protocols whose raw answer may have several parts, one for each output.
_RAW_IN_PARTS = frozenset({"ogcapi"})

#: What a literal or bounding box may be asked for as: it has no formats of its own.
_PLAIN_TYPES = ("text/plain", "application/xml", "application/json")

_NUMBERS = frozenset({"integer", "nonNegativeInteger", "positiveInteger", "float", "double", "scale", "angle"})

#: Least values of resource wishes; those not in here cannot be wished for.
_RESOURCES = {"cores": 1, "memory_mb": 1, "walltime_s": 1, "gpus": 0, "nodes": 1, "tasks": 1}


def validated(process: ProcessDescription, request: ExecuteRequest, settings: Settings) -> ExecuteRequest:
    """The request made complete. Raises a ServiceError that says what does not fit, and where."""
    check_wishes(process, request.resources, settings.limits)
    return replace(
        request,
        mode=_mode(process, request),
        inputs=_inputs(process.inputs, request.inputs, settings.limits),
        outputs=_outputs(process, request),
    )


def check_fit(process: ProcessDescription, request: ExecuteRequest) -> None:
    """Raise unless the process takes inputs and makes outputs of these names, numbers and kinds.

    For a request that was validated before: its process may have changed since, and must never be called with inputs
    that it does not describe.
    """
    _check_inputs_fit(process.inputs, request.inputs)
    _refuse_unknown("output", process.outputs, (wish.wanted.identifier for wish in request.outputs))


def _check_inputs_fit(described: Sequence[Input], given: Mapping[str, tuple[Given, ...]]) -> None:
    _refuse_unknown("input", described, given)
    for entry in described:
        values = given.get(entry.identifier, ())
        _check_count(entry, len(values))
        for value in values:
            if not isinstance(value, _KINDS[type(entry.data)]):
                raise WrongInputData(f"The input {entry.identifier} is of another kind.", entry.identifier)
            if isinstance(value, NestedGiven) and isinstance(entry.data, NestedInputs):
                _check_inputs_fit(entry.data.inputs, value.values)


#: What a value of each kind of data is once it is staged.
_KINDS: Mapping[type, type] = {
    LiteralData: LiteralValue,
    ComplexData: FileValue,
    BoundingBoxData: BoundingBoxValue,
    NestedInputs: NestedGiven,
}


# --- how the client waits --------------------------------------------------------------------------------------------


def _mode(process: ProcessDescription, request: ExecuteRequest) -> Mode:
    """The request's mode; ``auto`` becomes the one that is possible when the other is not."""
    _check_storage(process, request)
    # Who wants the stored response and no status (05-007r7 table 50) needs a process that stores, and no more.
    reports = process.status_supported or (request.store and not request.status)
    storable = process.store_supported and reports
    if request.mode is Mode.ASYNC and not storable:
        raise StorageNotSupported(f"{process.identifier} cannot run asynchronously; call it synchronously.")
    if request.mode is Mode.SYNC and process.sync == "refused":
        raise ModeNotSupported(
            f"{process.identifier} only runs asynchronously; ask for a stored response with status.",
            _MODE_LOCATORS.get(request.protocol, "mode"),
        )
    if request.mode is Mode.AUTO and not storable:
        return Mode.SYNC
    return Mode.ASYNC if request.mode is Mode.AUTO and process.sync == "refused" else request.mode


def _check_storage(process: ProcessDescription, request: ExecuteRequest) -> None:
    """05-007r7 table 50."""
    if request.status and not request.store:
        raise InvalidParameterValue("Only a stored response can report status; store it, too.", "status")
    if request.store and not process.store_supported:
        raise StorageNotSupported(f"{process.identifier} does not store responses.")
    if request.status and not process.status_supported:
        raise StorageNotSupported(f"{process.identifier} does not report its status.")


def check_wishes(process: ProcessDescription, wishes: Mapping[str, int], limits: Limits) -> None:
    """Raise InvalidParameterValue, with the resource as locator, for what nobody can have of this process here."""
    for name, wish in wishes.items():
        if name not in _RESOURCES:
            raise InvalidParameterValue(f"Resources are {', '.join(_RESOURCES)}.", _shortened(name))
        if isinstance(wish, bool) or not isinstance(wish, int) or wish < _RESOURCES[name]:
            raise InvalidParameterValue(f"{name} must be a whole number from {_RESOURCES[name]}.", name)
        cap = _cap(name, process, limits)
        if wish > cap:
            raise InvalidParameterValue(f"{name} can be at most {cap} here.", name)


def _cap(name: str, process: ProcessDescription, limits: Limits) -> int:
    """The site's cap; without one, no more than the process states."""
    sites = {
        "walltime_s": limits.max_walltime_seconds,
        "cores": limits.max_cores,
        "memory_mb": limits.max_memory_mb,
    }.get(name)
    if sites is not None:
        return sites
    stated: int | None = getattr(process.resources, name)
    if stated is None and name == "memory_mb":
        stated = limits.memory_mb
    return _RESOURCES[name] if stated is None else stated


# --- inputs ----------------------------------------------------------------------------------------------------------


def _inputs(
    described: Sequence[Input], given: Mapping[str, tuple[Given, ...]], limits: Limits
) -> dict[str, tuple[Given, ...]]:
    """The values of all described inputs that have any; for the inputs of a process as for those within an input."""
    _refuse_unknown("input", described, given)
    values = ((entry.identifier, _occurrences(entry, given.get(entry.identifier, ()), limits)) for entry in described)
    return {identifier: found for identifier, found in values if found}


def _refuse_unknown(kind: str, described: Iterable[Described], asked: Iterable[str]) -> None:
    known = [entry.identifier for entry in described]
    for identifier in asked:
        if identifier not in known:
            has = f"there are {', '.join(known)}" if known else "there are none"
            text = f"There is no {kind} {_quoted(identifier)}; {has}."
            raise _UNKNOWN[kind](text, _shortened(identifier))


_UNKNOWN: Mapping[str, type[InvalidParameterValue]] = {"input": NoSuchInput, "output": NoSuchOutput}


def _occurrences(described: Input, given: tuple[Given, ...], limits: Limits) -> tuple[Given, ...]:
    if not given:
        given = _defaults(described)
    _check_count(described, len(given))
    return tuple(_value(described, value, limits) for value in given)


def _defaults(described: Input) -> tuple[Given, ...]:
    data = described.data
    if isinstance(data, LiteralData) and data.default is not None and described.min_occurs <= 1:
        return (LiteralValue(data.default, data.data_type),)
    return ()


def _check_count(described: Input, count: int) -> None:
    identifier, least, most = described.identifier, described.min_occurs, described.max_occurs
    if count < least:
        text = f"The input {identifier} is missing" if not count else f"The input {identifier} has {count} values"
        needed = "." if least == 1 else f"; it needs at least {least}."
        raise MissingParameterValue(text + needed, identifier)
    if most is not None and count > most:
        text = f"The input {identifier} has {count} values; it takes at most {most}."
        raise TooManyInputs(text, identifier)


def _value(described: Input, value: Given, limits: Limits) -> Given:
    data = described.data
    name = described.identifier
    if isinstance(data, LiteralData):
        return _literal(name, data, _of_kind(value, LiteralValue, name, "a literal value"))
    if isinstance(data, BoundingBoxData):
        return _bounding_box(name, data, _of_kind(value, BoundingBoxValue, name, "a bounding box"))
    if isinstance(data, NestedInputs):
        nested = _of_kind(value, NestedGiven, name, "nested inputs")
        return NestedGiven(_inputs(data.inputs, nested.values, limits))
    return _complex(name, data, value, limits)


def _of_kind(value: Given, kind: type[_Kind], identifier: str, words: str) -> _Kind:
    if not isinstance(value, kind):
        raise WrongInputData(f"The input {identifier} takes {words}.", identifier)
    return value


def _literal(identifier: str, data: LiteralData, value: LiteralValue) -> LiteralValue:
    _check_claimed_type(identifier, data.data_type, value.data_type)
    uom = _uom(identifier, data, value.uom)
    try:
        text = literals.canonical(data.data_type, value.text)
        fits = data.advisory or literals.allowed(data, text)
    except literals.LiteralError as error:
        raise WrongInputData(f"The input {identifier}: {error}.", identifier) from error
    if not fits:
        words = f"The input {identifier} cannot be {_quoted(value.text)}; allowed: {_allowed_words(data)}."
        raise WrongInputData(words, identifier)
    return LiteralValue(text, data.data_type, uom)


def _check_claimed_type(identifier: str, described: str, claimed: str) -> None:
    """A client may leave the type out (``string``), or be content with another kind of number."""
    if claimed in (described, "string") or {claimed, described} <= _NUMBERS:
        return
    raise WrongInputData(f"The input {identifier} is of type {described}, not {_quoted(claimed)}.", identifier)


def _uom(identifier: str, data: LiteralData, wanted: str | None) -> str | None:
    if wanted is None:
        return data.uoms[0] if data.uoms else None
    wanted = next((uom for uom, reference in data.uom_references if reference == wanted), wanted)
    if wanted not in data.uoms:
        has = f"its units are {', '.join(data.uoms)}" if data.uoms else "it has no unit"
        raise WrongInputData(f"{identifier} is not given in {_quoted(wanted)}; {has}.", identifier)
    return wanted


def _allowed_words(data: LiteralData) -> str:
    words = [range_words(item) if isinstance(item, AllowedRange) else item for item in data.allowed[:20]]
    return ", ".join(words) + (", …" if len(data.allowed) > len(words) else "")


def range_words(item: AllowedRange) -> str:
    """A range of allowed values for people, in the notation of mathematics."""
    first = "]" if item.closure in ("open", "open-closed") else "["
    last = "[" if item.closure in ("open", "closed-open") else "]"
    step = f" in steps of {item.spacing}" if item.spacing else ""
    return f"{first}{item.minimum or '-∞'}, {item.maximum or '∞'}{last}{step}"


def _complex(identifier: str, data: ComplexData, value: Given, limits: Limits) -> Given:
    if not isinstance(value, InlineContent | Reference | FileValue):
        raise WrongInputData(f"The input {identifier} takes a document or a reference to one.", identifier)
    found = _format(f"The input {identifier}", identifier, data, value.mime_type, value.encoding, value.schema)
    if isinstance(value, InlineContent):
        _check_size(identifier, len(value.content), data, limits)
    if isinstance(value, Reference) and value.mime_type is None:
        return value  # what the remote server calls it will say more than our default
    return replace(value, mime_type=found.mime_type, encoding=found.encoding, schema=found.schema)


def _format(
    what: str, locator: str, data: ComplexData, mime_type: str | None, encoding: str | None, schema: str | None
) -> Format:
    found = formats.matching(data.formats, mime_type, encoding, schema)
    if found is None or not (found in data.formats or _is_encoding(found.encoding)):
        asked = _quoted(" ".join(part for part in (mime_type, encoding, schema) if part))
        known = "; ".join(" ".join(p for p in (f.mime_type, f.encoding, f.schema) if p) for f in data.formats)
        raise NoSuchFormat(f"{what} has no format {asked}; it has {known}.", locator)
    return found


def _is_encoding(name: str | None) -> bool:
    """Whether a granted encoding is one at all: base64, or a character set that can be read."""
    return name is None or name.lower() == "base64" or formats.character_set(name) is not None


def _check_size(identifier: str, size: int, data: ComplexData, limits: Limits) -> None:
    largest = limits.input_bytes
    if data.maximum_megabytes is not None:
        largest = min(largest, int(data.maximum_megabytes * MEGABYTE))
    if size > largest:
        text = f"The input {identifier} has {size} bytes; it may have {largest}."
        raise FileSizeExceeded(text, identifier)


# --- bounding boxes --------------------------------------------------------------------------------------------------

#: The ways to write a CRS: authority and code, whatever the version (07-092r3 §7; 09-048r3).
_CRS_FORMS = (
    re.compile(r"urn:(?:x-)?ogc:def:crs:(?P<authority>[^:]+):[^:]*:(?P<code>[^:]+)", re.IGNORECASE),
    re.compile(r"https?://www\.opengis\.net/def/crs/(?P<authority>[^/]+)/[^/]+/(?P<code>[^/]+)", re.IGNORECASE),
    re.compile(r"https?://www\.opengis\.net/gml/srs/(?P<authority>[^.]+)\.xml#(?P<code>.+)", re.IGNORECASE),
    re.compile(r"(?P<authority>EPSG|OGC|CRS):(?P<code>[A-Za-z0-9]+)", re.IGNORECASE),
)


@dataclass(frozen=True)
class _Crs:
    """What the check must know of a CRS: how many axes it has (None: unknown), and which may be the longitude."""

    dimensions: int | None = None
    longitudes: tuple[int, ...] = ()


_LONGITUDE_FIRST = _Crs(2, (0,))
#: WGS 84 in degrees. «EPSG:4326» is written in either order, so either axis may be the longitude.
_KNOWN_CRS: Mapping[tuple[str, str], _Crs] = {
    ("OGC", "CRS84"): _LONGITUDE_FIRST,
    ("OGC", "CRS83"): _LONGITUDE_FIRST,
    ("OGC", "CRS27"): _LONGITUDE_FIRST,
    ("OGC", "CRS84H"): _Crs(3, (0,)),
    ("EPSG", "4326"): _Crs(2, (0, 1)),
    ("EPSG", "4258"): _Crs(2, (0, 1)),
    ("EPSG", "4979"): _Crs(3, (0, 1)),
    ("EPSG", "3857"): _Crs(2),
}


def crs_key(crs: str) -> tuple[str, str]:
    """Authority and code of a CRS however it is written; for an unknown form the text itself."""
    for form in _CRS_FORMS:
        found = form.fullmatch(crs.strip())
        if found:
            authority, code = found["authority"].upper(), found["code"].upper()
            # «CRS:84» is WMS's name for OGC:CRS84.
            return ("OGC", f"CRS{code}") if authority == "CRS" else (authority, code)
    return "", crs.strip()


def _bounding_box(identifier: str, data: BoundingBoxData, box: BoundingBoxValue) -> BoundingBoxValue:
    """The box with its CRS, which stays as the client wrote it: its axis order hangs on that."""
    crs = box.crs or data.crss[0]
    key = crs_key(crs)
    if key not in {crs_key(known) for known in data.crss}:
        known = ", ".join(data.crss)
        raise WrongInputData(f"{identifier} has no CRS {_quoted(crs)}; it has {known}.", identifier)
    _check_corners(identifier, box, _KNOWN_CRS.get(key, _Crs()))
    return replace(box, crs=crs)


def _check_corners(identifier: str, box: BoundingBoxValue, crs: _Crs) -> None:
    count = len(box.lower)
    if count != len(box.upper) or not count or crs.dimensions not in (None, count):
        wanted = "as many coordinates as the other" if crs.dimensions is None else f"{crs.dimensions} coordinates"
        raise WrongInputData(f"Each corner of {identifier} needs {wanted}.", identifier)
    if not all(map(math.isfinite, (*box.lower, *box.upper))):
        raise WrongInputData(f"The coordinates of {identifier} must be finite numbers.", identifier)
    reversed_axes = [axis for axis in range(count) if box.lower[axis] > box.upper[axis]]
    if reversed_axes and not _crosses_antimeridian(box, reversed_axes, crs):
        raise WrongInputData(f"The lower corner of {identifier} lies above its upper corner.", identifier)


def _crosses_antimeridian(box: BoundingBoxValue, reversed_axes: Sequence[int], crs: _Crs) -> bool:
    """West of a box across 180° is greater than its east (RFC 7946 §5.2, 06-121r3 §10.2)."""
    if len(reversed_axes) != 1 or reversed_axes[0] not in crs.longitudes:
        return False
    axis = reversed_axes[0]
    return box.lower[axis] <= 180 and box.upper[axis] >= -180


# --- outputs ---------------------------------------------------------------------------------------------------------


def _outputs(process: ProcessDescription, request: ExecuteRequest) -> tuple[OutputWish, ...]:
    wishes = request.outputs
    _refuse_unknown("output", process.outputs, (wish.wanted.identifier for wish in wishes))
    _refuse_twice([wish.wanted.identifier for wish in wishes])
    if request.raw and request.protocol not in _RAW_IN_PARTS:
        wishes = _raw(process, wishes)
    return tuple(_wish(process, wish) for wish in wishes)


def _refuse_twice(identifiers: Sequence[str]) -> None:
    for identifier in identifiers:
        if identifiers.count(identifier) > 1:
            raise InvalidParameterValue(f"The output {identifier} is asked for twice.", identifier)


def _raw(process: ProcessDescription, wishes: tuple[OutputWish, ...]) -> tuple[OutputWish, ...]:
    """Raw data is one output (05-007r7 §10.2.3): the one asked for, or the only one that there is. The locator of
    TooManyOutputs is all of them (14-065r2 table 43)."""
    if not wishes:
        wishes = tuple(OutputWish(WantedOutput(output.identifier)) for output in process.outputs)
    if len(wishes) != 1:
        identifiers = ",".join(wish.wanted.identifier for wish in wishes)
        raise TooManyOutputs("Raw data is exactly one output; name it.", identifiers[:400])
    return wishes


def _wish(process: ProcessDescription, wish: OutputWish) -> OutputWish:
    wanted = wish.wanted
    output = next(entry for entry in process.outputs if entry.identifier == wanted.identifier)
    if wish.transmission is Transmission.REFERENCE and not process.store_supported:
        text = f"{process.identifier} does not store outputs; take {wanted.identifier} by value."
        raise StorageNotSupported(text)
    return replace(wish, wanted=_WANTED.get(type(output.data), _plain_wanted)(output, wanted))


def _complex_wanted(output: Output, wanted: WantedOutput) -> WantedOutput:
    assert isinstance(output.data, ComplexData)
    if wanted.uom is not None:
        raise InvalidParameterValue(f"The output {output.identifier} has no unit.", output.identifier)
    form = (wanted.mime_type, wanted.encoding, wanted.schema)
    if not any(form):
        return wanted
    found = _format(f"The output {output.identifier}", output.identifier, output.data, *form)
    return replace(wanted, mime_type=found.mime_type, encoding=found.encoding, schema=found.schema)


def _literal_wanted(output: Output, wanted: WantedOutput) -> WantedOutput:
    assert isinstance(output.data, LiteralData)
    uom = None if wanted.uom is None else _uom(output.identifier, output.data, wanted.uom)
    return replace(_plain_wanted(output, replace(wanted, uom=None)), uom=uom)


def _plain_wanted(output: Output, wanted: WantedOutput) -> WantedOutput:
    """Outputs without formats of their own: how they are written is their document's affair, not the process's."""
    if wanted.uom is not None:
        raise InvalidParameterValue(f"The output {output.identifier} has no unit.", output.identifier)
    if wanted.schema or (wanted.mime_type and formats.split_mime(wanted.mime_type)[0] not in _PLAIN_TYPES):
        text = f"The output {output.identifier} has no formats to choose from."
        raise NoSuchFormat(text, output.identifier)
    return wanted


_WANTED: Mapping[type, Callable[[Output, WantedOutput], WantedOutput]] = {
    ComplexData: _complex_wanted,
    LiteralData: _literal_wanted,
}


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else text[:80] + "…"


def _quoted(text: str) -> str:
    return f"«{_shortened(text)}»"
