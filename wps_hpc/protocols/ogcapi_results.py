"""The results of a job: as a document, or raw, alone or in parts (18-062r2 §7.11.4, §7.13, results.yaml)."""

from __future__ import annotations

import base64
import json
import math
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, NestedValue, Value
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.request import ExecuteRequest, OutputWish, Transmission
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.processes.formats import character_set, is_text, split_mime
from wps_hpc.protocols.answer import Answer, FileAnswer, StreamAnswer
from wps_hpc.protocols.execution import goes_by_reference, raw_link
from wps_hpc.protocols.links import elsewhere, output_name
from wps_hpc.protocols.ogcapi_http import NO_STORE
from wps_hpc.protocols.ogcapi_links import Addresses, Link
from wps_hpc.protocols.ogcapi_schema import PLAIN_CRS, is_json, literal_json
from wps_hpc.protocols.wps1_lineage import corner

Reply = Answer | FileAnswer | StreamAnswer
_CHUNK = 1 << 20
#: JSON that is nested deeper stands in a document as text.
_DEEPEST = 500
_PLAIN_TEXT = "text/plain; charset=utf-8"
_UNQUOTABLE = re.compile(r'["\\]')
_LINE = b"\r\n"


@dataclass(frozen=True)
class Made:
    """A job that succeeded, with what its results are made of.

    ``process`` is None when it is no longer on offer. Files larger than ``embed_bytes`` are linked to even where the
    client wants their content in a document: one of gigabytes helps nobody.
    """

    job: Job
    request: ExecuteRequest
    process: ProcessDescription | None
    outputs: Mapping[str, tuple[Value, ...]]
    addresses: Addresses
    open: Callable[[FileValue], BinaryIO]
    embed_bytes: int

    def wanted(self) -> dict[str, OutputWish | None]:
        """The outputs to give by identifier, in the order in which they were asked for; all when none was named."""
        if self.request.outputs:
            return {wish.wanted.identifier: wish for wish in self.request.outputs}
        described = [output.identifier for output in self.process.outputs] if self.process else []
        return dict.fromkeys([*described, *self.outputs])


def _by_reference(wish: OutputWish | None) -> bool:
    return wish is not None and wish.transmission is Transmission.REFERENCE


# ------------------------------------------------------------------------------------------------------- the document


def results(made: Made) -> dict[str, Any]:
    """The results as one document (results.yaml). An output that the process did not make is left out."""
    return {
        identifier: _in_document(made, identifier, made.outputs[identifier], wish)
        for identifier, wish in made.wanted().items()
        if made.outputs.get(identifier)
    }


def _in_document(made: Made, identifier: str, values: Sequence[Value], wish: OutputWish | None) -> Any:
    if _by_reference(wish):
        links = [reference(made, identifier, value) for value in _referable(values)]
        return links[0] if len(links) == 1 else links
    shown = [_shown_by_wish(made, value, wish) for value in values]
    return shown[0] if len(shown) == 1 else shown


def _shown_by_wish(made: Made, value: Value, wish: OutputWish | None) -> Any:
    if isinstance(value, FileValue) and goes_by_reference(value, wish):
        return _shown_reference(made, value)
    return _shown(made, value)


def _referable(values: Sequence[Value]) -> Sequence[Value]:
    """What has an address of its own: each file, else all values of the output together."""
    return values if all(isinstance(value, FileValue | LinkValue) for value in values) else values[:1]


def reference(made: Made, identifier: str, value: Value) -> Link:
    """A link to an output (link.yaml)."""
    return {
        "href": made.addresses.output(made.job, identifier, value),
        "rel": "item",
        "type": _media_type(value),
        "title": identifier,
    }


def _shown(made: Made, value: Value) -> Any:
    """A value as a results document has it: what is an object in JSON comes with the word ``value`` around it."""
    return _SHOWN[type(value)](made, value)


def _shown_literal(made: Made, value: LiteralValue) -> Any:
    plain = literal_json(value.text, value.data_type)
    return plain if value.uom is None else {"value": plain, "uom": value.uom}


def _shown_box(made: Made, value: BoundingBoxValue) -> dict[str, Any]:
    box = _box(value)
    # bbox.yaml knows numbers and two reference systems only; any other box is an object like any other.
    plain = box.get("crs") in PLAIN_CRS and all(map(math.isfinite, (*value.lower, *value.upper)))
    return box if plain else {"value": box}


def _box(value: BoundingBoxValue) -> dict[str, Any]:
    box: dict[str, Any] = {"bbox": [_coordinate(number) for number in (*value.lower, *value.upper)]}
    return box if value.crs is None else {**box, "crs": value.crs}


def _coordinate(number: float) -> float | str:
    """JSON has no number for what is not finite."""
    return number if math.isfinite(number) else corner((number,))


def _shown_nested(made: Made, value: NestedValue) -> dict[str, Any]:
    return {"value": _nested(made, value)}


def _nested(made: Made, value: NestedValue) -> dict[str, Any]:
    shown = {name: [_shown(made, inner) for inner in values] for name, values in value.values.items()}
    return {name: values[0] if len(values) == 1 else values for name, values in shown.items()}


def _shown_file(made: Made, value: FileValue) -> dict[str, Any]:
    content = _embeddable(made, value)
    if content is None:
        return _shown_reference(made, value)
    described = {"mediaType": value.mime_type, **({"schema": value.schema} if value.schema else {})}
    if is_json(value.mime_type) and (found := _as_json(content)) is not None:
        return {"value": found, **described}
    if is_text(value.mime_type) and (text := _as_text(content, value.encoding)) is not None:
        return {"value": text, **described}
    return {"value": base64.b64encode(content).decode(), "encoding": "base64", **described}


def _shown_reference(made: Made, value: FileValue) -> dict[str, Any]:
    address = made.addresses.output(made.job, "", value)
    return {"href": address, "type": value.mime_type, "title": output_name(value)}


def _shown_link(made: Made, value: LinkValue) -> dict[str, Any]:
    return {"href": elsewhere(value), "type": value.mime_type}


_SHOWN: Mapping[type, Callable[[Made, Any], Any]] = {
    LiteralValue: _shown_literal,
    BoundingBoxValue: _shown_box,
    NestedValue: _shown_nested,
    FileValue: _shown_file,
    LinkValue: _shown_link,
}


def _embeddable(made: Made, value: FileValue) -> bytes | None:
    """The file's content, or None when it is too large to stand within a document."""
    if value.size is not None and value.size > made.embed_bytes:
        return None
    with made.open(value) as stream:
        content = stream.read(made.embed_bytes + 1)
    return None if len(content) > made.embed_bytes else content


def _as_json(content: bytes) -> Any:
    """The value of a JSON document; None for what is no JSON that can be written again, or is null, which no result
    can be."""
    try:
        value = json.loads(content, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if _is_shallow(value) else None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _is_shallow(value: Any) -> bool:
    """Whether a value is nested no deeper than writing it can bear, in any thread."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _inside(outer)]
        if not level:
            return True
    return False


def _inside(outer: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return outer.values() if isinstance(outer, dict) else outer


def _as_text(content: bytes, encoding: str | None) -> str | None:
    codec = "utf-8" if encoding is None or encoding.lower() == "base64" else character_set(encoding)
    try:
        return None if codec is None else content.decode(codec)
    except UnicodeDecodeError:
        return None


# ---------------------------------------------------------------------------------------------------------------- raw


def raw(made: Made) -> Reply:
    """The results as they are: the one value alone, several as parts, those by reference as links.

    18-062r2 §7.11.4.2, table 11: one value is the whole body; several are multipart/related; when all are wanted by
    reference, or the process made none, there is no body (204).
    """
    wanted = made.wanted()
    present = {name: wish for name, wish in wanted.items() if made.outputs.get(name)}
    if not present or all(_is_linked(made.outputs[name], wish) for name, wish in present.items()):
        return _linked(made, present)
    if len(wanted) == 1:
        return one_output(made, *present)
    return _multipart([part for name, wish in present.items() for part in _parts(made, name, wish)])


def _is_linked(values: Sequence[Value], wish: OutputWish | None) -> bool:
    """Whether an output is only linked to: it is wanted so, or lies elsewhere."""
    return _by_reference(wish) or all(isinstance(value, LinkValue) for value in values)


def _linked(made: Made, wanted: Mapping[str, OutputWish | None]) -> Answer:
    links = [
        reference(made, identifier, value) for identifier in wanted for value in _referable(made.outputs[identifier])
    ]
    return Answer(b"", "text/plain", 204, (NO_STORE, *(("Link", link_header(found)) for found in links)))


def link_header(found: Link) -> str:
    """A link as RFC 8288 has it. Names and addresses hold nothing that would have to be escaped; of what a job calls
    its files, quotes and backslashes are left out."""
    quoted = {name: _UNQUOTABLE.sub("", str(found[name])) for name in ("rel", "type", "title") if name in found}
    return f"<{found['href']}>; " + "; ".join(f'{name}="{text}"' for name, text in quoted.items())


def one_output(made: Made, identifier: str) -> Reply:
    """One output alone: a file as it is, a literal as text, anything else as JSON."""
    values = made.outputs[identifier]
    if len(values) > 1:
        return _several(made, identifier)
    value = values[0]
    if isinstance(value, LinkValue):
        return raw_link(value)
    if isinstance(value, FileValue):
        return FileAnswer(made.open(value), output_name(value), _with_charset(value), headers=(NO_STORE,))
    wish = made.wanted().get(identifier)
    body, media_type = _plain(made, value, wish)
    return Answer(body, media_type, headers=(NO_STORE,))


def _several(made: Made, identifier: str) -> Reply:
    """All values of one output: files as parts, others as an array."""
    values = made.outputs[identifier]
    if any(isinstance(value, FileValue | LinkValue) for value in values):
        return _multipart(list(_parts(made, identifier, None)))
    return Answer(to_json([_shown(made, value) for value in values]), "application/json", headers=(NO_STORE,))


def _plain(made: Made, value: Value, wish: OutputWish | None) -> tuple[bytes, str]:
    """A value that is no file, and its media type."""
    if isinstance(value, LiteralValue):
        if wish is not None and is_json(wish.wanted.mime_type or ""):
            return to_json(literal_json(value.text, value.data_type)), "application/json"
        return value.text.encode("utf-8", "replace"), _PLAIN_TEXT
    bare = _box(value) if isinstance(value, BoundingBoxValue) else _nested(made, value)  # type: ignore[arg-type]
    return to_json(bare), "application/json"


def _media_type(value: Value) -> str:
    if isinstance(value, FileValue | LinkValue):
        return _safe(value.mime_type)
    return "text/plain" if isinstance(value, LiteralValue) else "application/json"


def _with_charset(value: FileValue) -> str:
    """The media type of a file, with its character set where that is known and plain."""
    codec = character_set(value.encoding) if value.encoding and value.encoding.lower() != "base64" else None
    known = codec is not None and "charset" not in value.mime_type
    return f"{value.mime_type}; charset={value.encoding}" if known else value.mime_type


def to_json(value: Any) -> bytes:
    """JSON in ASCII: what is no Unicode within a document of a job's is escaped like everything else."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


# -------------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class _Part:
    """A part of a multipart answer (RFC 2387): its head, and what gives its body a piece at a time."""

    head: Mapping[str, str]
    chunks: Callable[[], Iterator[bytes]]


def _parts(made: Made, identifier: str, wish: OutputWish | None) -> Iterator[_Part]:
    """The parts of an output; the Content-ID of each is its identifier (18-062r2 req. 31)."""
    if _by_reference(wish):
        for value in _referable(made.outputs[identifier]):
            yield _link_part(made, identifier, value)
        return
    for value in made.outputs[identifier]:
        yield _value_part(made, identifier, value, wish)


def _link_part(made: Made, identifier: str, value: Value) -> _Part:
    found = reference(made, identifier, value)
    head = {"Content-Type": _safe(found["type"]), "Content-ID": identifier, "Content-Location": found["href"]}
    return _Part(head, lambda: iter(()))


def _value_part(made: Made, identifier: str, value: Value, wish: OutputWish | None) -> _Part:
    if isinstance(value, LinkValue):
        return _link_part(made, identifier, value)
    if isinstance(value, FileValue):
        head = {"Content-Type": _safe(_with_charset(value)), "Content-ID": identifier}
        return _Part(head, _file_chunks(made, value))
    body, media_type = _plain(made, value, wish)
    return _Part({"Content-Type": media_type, "Content-ID": identifier}, lambda: iter((body,)))


def _file_chunks(made: Made, value: FileValue) -> Callable[[], Iterator[bytes]]:
    # What is not there any more must be told before the answer begins.
    made.open(value).close()

    def chunks() -> Iterator[bytes]:
        with made.open(value) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    return chunks


def _safe(media_type: str) -> str:
    """A media type that may stand in a head: what a job called its file can hold anything."""
    plain = media_type.isascii() and media_type.isprintable() and "/" in split_mime(media_type)[0]
    return media_type if plain else "application/octet-stream"


def _multipart(parts: Sequence[_Part]) -> StreamAnswer:
    boundary = secrets.token_hex(24)
    first = parts[0].head["Content-Type"].partition(";")[0]
    content_type = f'multipart/related; boundary={boundary}; type="{first}"'
    return StreamAnswer(_multipart_chunks(parts, boundary.encode()), content_type, headers=(NO_STORE,))


def _multipart_chunks(parts: Sequence[_Part], boundary: bytes) -> Iterator[bytes]:
    for part in parts:
        head = _LINE.join(f"{name}: {text}".encode("latin-1") for name, text in part.head.items())
        yield b"--" + boundary + _LINE + head + _LINE + _LINE
        yield from part.chunks()
        yield _LINE
    yield b"--" + boundary + b"--" + _LINE
