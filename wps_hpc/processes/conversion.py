"""Values as they cross between a job's files and a process function: inputs to Python, Python to outputs.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import enum
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Optional

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, NestedValue, Value
from wps_hpc.processes import formats, literals
from wps_hpc.processes.description import (
    BoundingBoxData,
    ComplexData,
    Format,
    LiteralData,
    Output,
    ProcessDescription,
)
from wps_hpc.processes.run import OutputError, ProcessError, RunFolders
from wps_hpc.processes.signature import Slot
from wps_hpc.processes.values import BoundingBox, ComplexInput, ComplexOutput, Quantity

# --- inputs ----------------------------------------------------------------------------------------------------------


def arguments(slots: Sequence[Slot], given: Mapping[str, tuple[Value, ...]], job: JobFolder) -> dict[str, Any]:
    """Keyword arguments for the function: what was given, in the types that it asks for.

    An absent input is left to the function's own default, else it is None (or an empty list). Raises ProcessError with
    the input as locator when a value is not what the process describes.
    """
    found: dict[str, Any] = {}
    for slot in slots:
        occurrences = given.get(slot.item.identifier, ())
        if occurrences:
            found[slot.name] = _occurrences(slot, occurrences, job)
        elif not slot.has_default:
            found[slot.name] = [] if slot.repeated else None
    return found


def _occurrences(slot: Slot, occurrences: tuple[Value, ...], job: JobFolder) -> Any:
    values = [_argument(slot, value, job) for value in occurrences]
    if slot.repeated:
        return values
    if len(values) > 1:
        raise _invalid(slot, "it was given more than once")
    return values[0]


def _invalid(slot: Slot, why: str) -> ProcessError:
    identifier = slot.item.identifier
    return ProcessError(f"Input '{identifier}': {why}.", "InvalidParameterValue", identifier)


def _argument(slot: Slot, value: Value, job: JobFolder) -> Any:
    data = slot.item.data
    try:
        if isinstance(value, LiteralValue) and isinstance(data, LiteralData):
            return _literal_argument(slot.kind, data, value)
        if isinstance(value, FileValue) and isinstance(data, ComplexData):
            return _complex_argument(slot.kind, value, job)
    except (literals.LiteralError, UnicodeError, LookupError, json.JSONDecodeError) as error:
        raise _invalid(slot, str(error)) from error
    if isinstance(value, BoundingBoxValue) and isinstance(data, BoundingBoxData):
        return value if value.crs else replace(value, crs=data.crss[0])
    if isinstance(value, NestedValue) and slot.fields:
        return slot.kind(**arguments(slot.fields, value.values, job))
    raise _invalid(slot, "it is another kind of input than the process describes")


def _literal_argument(kind: Any, data: LiteralData, value: LiteralValue) -> Any:
    parsed = literals.parse(data.data_type, value.text)
    if kind is Quantity:
        return Quantity(parsed, value.uom or (data.uoms[0] if data.uoms else None))
    if kind is str:
        return literals.format(data.data_type, parsed)
    if kind is timedelta:
        return parsed.timedelta()
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(_native(kind, parsed))
    return parsed


def _native(kind: type[enum.Enum], parsed: Any) -> Any:
    """The parsed value as the enumeration's own values have it (a timedelta where XML has a duration)."""
    return parsed.timedelta() if isinstance(next(iter(kind)).value, timedelta) else parsed


def _complex_argument(kind: Any, value: FileValue, job: JobFolder) -> Any:
    path = Path(value.path) if value.shared else job.path / value.path
    given = ComplexInput(path, value.mime_type, value.encoding, value.schema)
    return _COMPLEX_READERS[kind](given)


_COMPLEX_READERS: Mapping[Any, Any] = {
    ComplexInput: lambda given: given,
    Path: lambda given: given.path,
    bytes: ComplexInput.read_bytes,
    str: ComplexInput.read_text,
    dict: ComplexInput.json,
    list: ComplexInput.json,
    object: ComplexInput.json,
}

# --- outputs ---------------------------------------------------------------------------------------------------------


def wanted_outputs(description: ProcessDescription, request: RequestRecord) -> dict[str, WantedOutput]:
    """The outputs that the client wants, with format or unit filled in where it left that to the process."""
    asked = {item.identifier: item for item in request.outputs}
    every = {item.identifier: WantedOutput(item.identifier) for item in description.outputs}
    found = [(description.output(name), item) for name, item in (asked or every).items()]
    return {output.identifier: _complete(output, item) for output, item in found if output is not None}


def _complete(output: Output, wanted: WantedOutput) -> WantedOutput:
    data = output.data
    if isinstance(data, ComplexData):
        chosen = formats.matching(data.formats, wanted.mime_type, wanted.encoding, wanted.schema)
        if chosen is None:
            text = f"Output '{output.identifier}' is not offered as {wanted.mime_type}."
            raise ProcessError(text, "InvalidParameterValue", output.identifier)
        return replace(wanted, mime_type=chosen.mime_type, encoding=chosen.encoding, schema=chosen.schema)
    if isinstance(data, LiteralData) and data.uoms and not wanted.uom:
        return replace(wanted, uom=data.uoms[0])
    return wanted


@dataclass(frozen=True)
class Destination:
    """Where outputs go: the run's folders, which are wanted in which format, and the name that files begin with."""

    folders: RunFolders
    wanted: Mapping[str, WantedOutput]
    prefix: str = ""

    def within(self, identifier: str) -> Destination:
        """For the fields of a nested output: all wanted, in their default formats."""
        return Destination(self.folders, {}, f"{self.prefix}{identifier}.")


def results(
    slots: Sequence[Slot], result: Any, result_type: Optional[type], to: Destination
) -> dict[str, tuple[Value, ...]]:
    """What the function returned, as output values; files are in place in the outputs folder.

    Outputs that nobody wants are left out. Raises OutputError, naming the output, for what cannot be one.
    """
    wanted = [slot for slot in slots if slot.item.identifier in to.wanted]
    if result_type is None:
        return _collect([(slot, result) for slot in wanted], to)
    return _collect([(slot, _field(result, slot.name)) for slot in wanted], to)


def _field(result: Any, name: str) -> Any:
    if isinstance(result, Mapping):
        return result.get(name)
    try:
        return getattr(result, name)
    except AttributeError:
        text = f"output '{name}': the process returned {type(result).__name__}, which has no such field"
        raise OutputError(text) from None


def _collect(pairs: Sequence[tuple[Slot, Any]], to: Destination) -> dict[str, tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {}
    for slot, value in pairs:
        if value is not None:
            found[slot.item.identifier] = (_output(slot, value, to),)
        elif not getattr(slot.item, "optional", False):
            raise OutputError(f"output '{slot.item.identifier}': the process returned none")
    return found


def _output(slot: Slot, value: Any, to: Destination) -> Value:
    data, name = slot.item.data, slot.item.identifier
    try:
        if isinstance(data, LiteralData):
            return _literal_output(data, value)
        if isinstance(data, ComplexData):
            return _complex_output(name, data, value, to)
        if isinstance(data, BoundingBoxData):
            return _box_output(data, value)
        inner = to.within(name)
        return NestedValue(_collect([(field, _field(value, field.name)) for field in slot.fields], inner))
    except (literals.LiteralError, Unfit) as error:
        raise OutputError(f"output '{name}': {error}") from error


class Unfit(ValueError):
    """A returned value cannot be the output; the text says why."""


def _literal_output(data: LiteralData, value: Any) -> LiteralValue:
    uom = data.uoms[0] if data.uoms else None
    if isinstance(value, Quantity):
        value, uom = value.value, value.uom or uom
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str) and data.data_type != "string":
        return LiteralValue(literals.canonical(data.data_type, value), data.data_type, uom)
    return LiteralValue(literals.format(data.data_type, value), data.data_type, uom)


def _box_output(data: BoundingBoxData, value: Any) -> BoundingBoxValue:
    if not isinstance(value, BoundingBox):
        raise Unfit(f"a bounding box is a BoundingBox, not {type(value).__name__}")
    if len(value.lower) != len(value.upper) or not value.lower:
        raise Unfit("its corners have different numbers of coordinates")
    lower, upper = (tuple(float(number) for number in corner) for corner in (value.lower, value.upper))
    return BoundingBoxValue(lower, upper, value.crs or data.crss[0])


def _complex_output(name: str, data: ComplexData, value: Any, to: Destination) -> FileValue:
    given = value if isinstance(value, ComplexOutput) else ComplexOutput(value)
    chosen = _chosen_format(data, given, to.wanted.get(name))
    target = _free_name(
        to.folders.outputs, to.prefix + name, chosen.extension or formats.extension_for(chosen.mime_type)
    )
    _place(given.content, chosen, target, to.folders)
    path = f"{to.folders.outputs.name}/{target.name}"
    return FileValue(path, chosen.mime_type, chosen.encoding, chosen.schema, target.stat().st_size)


def _chosen_format(data: ComplexData, given: ComplexOutput, wanted: Optional[WantedOutput]) -> Format:
    """The author's word; else the one format that the file's suffix can mean; else what the client wants."""
    if given.mime_type or given.encoding or given.schema:
        said = formats.matching(data.formats, given.mime_type, given.encoding, given.schema)
        if said is None:
            raise Unfit(f"{given.mime_type} is not among the formats that the process describes")
        return said
    likely = formats.matching(data.formats, wanted.mime_type, wanted.encoding, wanted.schema) if wanted else None
    likely = likely or data.formats[0]
    if not isinstance(given.content, Path) or given.content.suffix == likely.extension:
        return likely
    by_suffix = [item for item in data.formats if item.extension and item.extension == given.content.suffix]
    return by_suffix[0] if len(by_suffix) == 1 else likely


def _free_name(folder: Path, stem: str, extension: str) -> Path:
    # ':' is an identifier's, but no file system likes it in a name that clients download.
    return folder / (re.sub(r"[^A-Za-z0-9_.-]", "_", stem) + extension)


def _place(content: Any, chosen: Format, target: Path, folders: RunFolders) -> None:
    if isinstance(content, Path):
        place_file(content, target, folders)
    elif isinstance(content, (bytes, bytearray, memoryview)):
        target.write_bytes(content)
    elif isinstance(content, str):
        charset = chosen.encoding if chosen.encoding not in (None, "base64") else "utf-8"
        target.write_text(content, encoding=charset, newline="")
    else:
        target.write_text(_json_text(content), encoding="utf-8")


def _json_text(content: Any) -> str:
    try:
        return json.dumps(content, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Unfit(f"{type(content).__name__} is neither a Path, bytes, str nor JSON: {error}") from error


def place_file(path: Path, target: Path, folders: RunFolders) -> None:
    """Put a file into the outputs folder by a hard link where it is the run's own, else as a copy; raises Unfit.

    Links are followed, but none that leads from the run's own folders out of them: no author makes those, yet a
    client's archive that an honest process unpacks may hold one, to a file that is not the client's to read.
    """
    written = folders.work / path
    try:
        source = written.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Unfit(f"the process returned the file {_shown(path, folders)}, which does not exist") from error
    work, outputs = folders.work.resolve(), folders.outputs.resolve()
    leaving = _link_out_of((work, outputs), written)
    if leaving is not None:
        raise Unfit(
            f"the process returned {_shown(path, folders)}, where the symbolic link {leaving.name} leads out of the "
            "job's folder"
        )
    if not source.is_file():
        raise Unfit(f"the process returned {_shown(path, folders)}, which is not a file; a folder must be packed (zip)")
    if source == target.resolve():
        return
    if work in source.parents and _linked(source, target):
        return
    shutil.copyfile(source, target)


def _shown(path: Path, folders: RunFolders) -> Path:
    """A path as the client may see it: within the run's folders, without where those lie."""
    for folder in (folders.work, folders.outputs):
        if path.is_relative_to(folder):
            return path.relative_to(folder)
    return path


def _link_out_of(own: tuple[Path, ...], path: Path) -> Optional[Path]:
    """The first step of the path that is a link within one's own folders to somewhere else, if there is one."""
    for step in (*reversed(path.parents), path):
        if step.is_symlink() and _within(own, step.parent.resolve()) and not _within(own, step.resolve()):
            return step
    return None


def _within(folders: tuple[Path, ...], resolved: Path) -> bool:
    return any(folder == resolved or folder in resolved.parents for folder in folders)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        # Another file system, or one without hard links.
        return False
    return True
