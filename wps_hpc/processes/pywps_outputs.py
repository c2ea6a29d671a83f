"""What a PyWPS handler left in its response, as values; the files of complex outputs are put into the outputs folder.

Node half: Python 3.9, standard library and pywps 4.5 or newer.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Callable, Optional
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pywps.inout.array_encode import ArrayEncoder
from pywps.inout.basic import BasicComplex, BasicLiteral

from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, Value
from wps_hpc.processes import formats
from wps_hpc.processes.conversion import Unfit, place_file
from wps_hpc.processes.literals import LiteralError
from wps_hpc.processes.pywps_description import literal_text, literal_type, neutral_format
from wps_hpc.processes.run import Job, OutputError, RunFolders

#: Longest name of a file that got a new one, in characters.
NAME_LENGTH = 200
_CDATA = re.compile(r"\s*<!\[CDATA\[((?:(?!\]\]>).)*)\]\]>\s*", re.DOTALL)


def output_values(
    made: list[Any], job: Job, folders: RunFolders, request: RequestRecord
) -> Mapping[str, tuple[Value, ...]]:
    """The outputs of a handler, by identifier; those that it did not set are left out. Raises OutputError."""
    writer = _Writer(folders, _shared_files(request))
    found: dict[str, tuple[Value, ...]] = {}
    for output in made:
        value = _named_error(output.identifier, writer.value, output)
        if value is not None:
            found[output.identifier] = (value,)
    stored = _Stored(folders.outputs, job.outputs_url or folders.outputs.as_uri(), writer)
    return {name: tuple(_named_error(name, stored.with_parts, value) for value in found[name]) for name in found}


def _named_error(identifier: str, step: Callable[[Any], Any], item: Any) -> Any:
    try:
        return step(item)
    except (ValueError, TypeError, FileNotFoundError) as error:
        text = str(error) if isinstance(error, (LiteralError, Unfit)) else f"{type(error).__name__}: {error}"
        raise OutputError(f"output '{identifier}': {text}") from error


def _shared_files(request: RequestRecord) -> frozenset[str]:
    values = [value for occurrences in request.inputs.values() for value in occurrences]
    return frozenset(value.path for value in values if isinstance(value, FileValue) and value.shared)


class _Writer:
    """Makes values of PyWPS outputs, with the files of the complex ones in the outputs folder."""

    def __init__(self, folders: RunFolders, shared: frozenset[str]) -> None:
        self._folders = folders
        self._shared = shared

    def value(self, output: Any) -> Optional[Value]:
        """The value, or None where the handler set none."""
        if isinstance(output, BasicLiteral):
            return _literal(output)
        if isinstance(output, BasicComplex):
            return self._complex(output)
        return _box(output)

    def _complex(self, output: Any) -> Optional[Value]:
        if output.prop is None or (output.prop == "data" and output.data is None):
            return None
        form = neutral_format(output.data_format)
        if output.prop == "url" and output.as_reference and urlsplit(output.url).scheme in ("http", "https", "ftp"):
            return LinkValue(output.url, form.mime_type, form.encoding, form.schema)
        target = self._target(output)
        _WRITERS[output.prop](self, output, target)
        return FileValue(
            f"{self._folders.outputs.name}/{target.name}",
            form.mime_type,
            form.encoding,
            form.schema,
            target.stat().st_size,
            by_reference=True if output.as_reference else None,
        )

    def _target(self, output: Any) -> Path:
        """A free name: the author's own for a file, as PyWPS has it, else the output's."""
        extension = output.extension or formats.extension_for(output.data_format.mime_type)
        name = Path(output.file).name if output.prop == "file" else output.identifier
        if not Path(name).suffix:
            name += extension
        name = _plain_name(name)
        target = self._folders.outputs / name
        while target.exists():
            name = f"{_plain_name(output.identifier)}-{name}"[-NAME_LENGTH:]
            target = target.with_name(name)
        return target

    def write_file(self, output: Any, target: Path) -> None:
        """The file that the handler named."""
        self.place(Path(output.file), target)

    def write_url(self, output: Any, target: Path) -> None:
        """Where the address is that of a file of the run's, that file; else what is downloaded from there."""
        address = urlsplit(output.url)
        self.place(self._own(url2pathname(address.path)) if address.scheme == "file" else Path(output.file), target)

    def _own(self, path: str) -> Path:
        """A file that an address names, which may be a client's word; raises Unfit for what is none of the run's."""
        real = Path(path).resolve()
        folders = (self._folders.work.resolve(), self._folders.outputs.resolve())
        if str(real) not in self._shared and not any(folder in real.parents for folder in folders):
            raise Unfit("its address is that of a file that is none of the job's")
        return real

    def place(self, path: Path, target: Path) -> None:
        """Put a file of the handler's there; raises Unfit."""
        if path.is_symlink() and str(path.readlink()) in self._shared:
            # A client's own input, which PyWPS leaves in the working directory as a link.
            path = path.readlink()
        place_file(path, target, self._folders)

    def write_data(self, output: Any, target: Path) -> None:
        """Text, bytes, or an object."""
        data = output.data
        if isinstance(data, str):
            wrapped = _CDATA.fullmatch(data)
            # Handlers may wrap text for PyWPS's templates; here it is wrapped when it is written.
            data = (wrapped[1] if wrapped else data).encode(_charset(output))
        elif not isinstance(data, (bytes, bytearray)):
            data = _as_text(output).encode(_charset(output))
        target.write_bytes(data)

    def write_stream(self, output: Any, target: Path) -> None:
        """All that is left in the stream."""
        with target.open("wb") as file:
            while piece := output.stream.read(1 << 20):
                file.write(piece.encode(_charset(output)) if isinstance(piece, str) else piece)


_WRITERS: Mapping[str, Callable[[_Writer, Any, Path], None]] = {
    "file": _Writer.write_file,
    "url": _Writer.write_url,
    "data": _Writer.write_data,
    "stream": _Writer.write_stream,
}


def _charset(output: Any) -> str:
    return formats.character_set(output.data_format.encoding or "") or "utf-8"


def _plain_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _as_text(output: Any) -> str:
    """An object as PyWPS writes it: JSON where the format is that, and into stored files where it can; else its own
    text."""
    data = output.data
    if "json" in output.data_format.mime_type or (output.as_reference and isinstance(data, (dict, list))):
        return json.dumps(data, cls=ArrayEncoder)
    return str(data)


def _literal(output: Any) -> Optional[Value]:
    if output.data is None:
        return None
    data_type = literal_type(output)
    text = literal_text(data_type, _plain(output.data) if data_type == "string" else output.data)
    return LiteralValue(text, data_type, str(output.uom.uom) if output.uom else None)


def _plain(value: Any) -> str:
    return value.geturl() if hasattr(value, "geturl") else str(value)


def _box(output: Any) -> Optional[Value]:
    corners = [float(number) for number in output.data or ()]
    if not corners:
        return None
    half = len(corners) // 2
    return BoundingBoxValue(tuple(corners[:half]), tuple(corners[half:]), str(output.crs or output.crss[0]))


class _Stored:
    """What the handler had PyWPS's storage keep (a metalink's files): each beneath a folder with a name of its own."""

    def __init__(self, outputs: Path, address: str, writer: _Writer) -> None:
        """``address`` is where clients will find the outputs folder."""
        self._outputs = outputs
        self._folders = {path.name: path for path in outputs.iterdir() if path.is_dir() and not path.is_symlink()}
        # The folder's name is enough: that of the file is written in many ways (escaped for XML, JSON or addresses).
        self._address = re.compile(re.escape(f"{address.rstrip('/')}/".encode()) + rb"([\w.-]+)/")
        self._writer = writer

    def with_parts(self, value: Value) -> Value:
        """The value with the stored files whose addresses stand in it; raises Unfit."""
        if not isinstance(value, FileValue) or not value.size or not self._folders:
            return value
        path = self._outputs.parent / value.path
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            named = {found[1].decode() for found in self._address.finditer(content)}
        folders = (folder for name, folder in sorted(self._folders.items()) if name in named)
        files = (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())
        return replace(value, parts=tuple(self._part(path) for path in files))

    def _part(self, path: Path) -> FileValue:
        if path.is_symlink():
            # PyWPS keeps links as links. This makes a file of one that may be followed.
            file = path.with_name(f"{path.name[-NAME_LENGTH:]}.part")
            self._writer.place(path, file)
            file.replace(path)
        relative = path.relative_to(self._outputs.parent).as_posix()
        return FileValue(relative, _mime_type(path), size=path.stat().st_size)


def _mime_type(path: Path) -> str:
    known: Iterator[str] = (item.mime_type for item in formats.WELL_KNOWN.values() if item.extension == path.suffix)
    return next(known, None) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
