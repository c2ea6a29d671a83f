"""Output files over HTTP: never as something that a browser would run.

What a job wrote is not trusted: every file goes out with ``nosniff`` and a policy that lets nothing in it run, and all
but a few harmless types as attachments.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote

from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import dump_options_header
from werkzeug.wrappers import Response
from werkzeug.wsgi import wrap_file

from joblauncher.formats.values import FileValue
from wps_hpc.errors import NotFound, RangeNotSatisfiable
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.shape import files
from wps_hpc.protocols.answer import FileAnswer
from wps_hpc.protocols.ports import Backend

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Types that a browser may show in place. XML, HTML, SVG and PDF can carry scripts; an unknown type can be anything.
SHOWN = frozenset(
    {
        "application/geo+json",
        "application/json",
        "application/vnd.geo+json",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "text/csv",
        "text/plain",
    }
)

#: What every file is sent with.
SAFETY = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
)

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*/[A-Za-z0-9][A-Za-z0-9.+_-]*")
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CHUNK = 1024 * 1024


def open_output(backend: Backend, job_id: str, name: str) -> FileAnswer:
    """The output file of that name, as the job's results declare it: no other file of the job can be had.

    Raises NotFound for unknown jobs and files, expired ones, and jobs that have not succeeded.
    """
    job = backend.store.get(job_id)
    value = None if job is None else _declared(backend, job, f"outputs/{name}")
    if job is None or value is None:
        raise NotFound("There is no such output: the job or the file is unknown, or has expired.")
    return FileAnswer(backend.results.open(job, value), name, _content_type(value))


def _declared(backend: Backend, job: Job, path: str) -> FileValue | None:
    if job.state is not JobState.SUCCEEDED:
        return None
    # Nested files, too, and a file's parts, which are found by the addresses within it.
    return next((file for _, file in files(backend.results.outputs(job)) if file.path == path), None)


def _content_type(value: FileValue) -> str:
    charset = value.encoding
    if charset and charset.lower() != "base64" and _CHARSET.fullmatch(charset) and "charset" not in value.mime_type:
        return f"{value.mime_type}; charset={charset}"
    return value.mime_type


def file_response(answer: FileAnswer, environ: WSGIEnvironment) -> Response:
    """The HTTP response for a file: with its length, ranges, validators, and the headers that keep it harmless.

    Raises RangeNotSatisfiable. The response closes the stream.
    """
    found = os.fstat(answer.stream.fileno())
    body = _in_base64(answer.stream) if answer.as_base64 else wrap_file(environ, answer.stream, _CHUNK)
    response = Response(body, answer.status, direct_passthrough=True)
    response.call_on_close(answer.stream.close)
    bare = _safe_type(answer.content_type)
    response.headers["Content-Type"] = answer.content_type if _is_plain(answer.content_type, bare) else bare
    response.headers["Content-Disposition"] = _disposition(answer.name, "inline" if bare in SHOWN else "attachment")
    response.headers.extend([*SAFETY, *answer.headers])
    response.content_length = 4 * -(-found.st_size // 3) if answer.as_base64 else found.st_size
    if not answer.as_base64 and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
        _make_conditional(response, environ, found)
    return response


def _in_base64(stream: BinaryIO) -> Iterator[bytes]:
    """The file in Base64, a piece at a time; a piece of a multiple of three bytes needs no padding."""
    while piece := stream.read(3 * _CHUNK // 4 // 3 * 3):
        yield b64encode(piece)


def _make_conditional(response: Response, environ: WSGIEnvironment, found: os.stat_result) -> None:
    response.set_etag(f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}")
    response.last_modified = datetime.fromtimestamp(found.st_mtime, UTC)
    try:
        response.make_conditional(environ, accept_ranges=True, complete_length=found.st_size)
    except RequestedRangeNotSatisfiable as error:
        response.close()
        raise RangeNotSatisfiable(f"The file has {found.st_size} bytes.") from error


def _disposition(path: str, kind: str) -> str:
    """Content-Disposition with the file's name, its letters of any language as RFC 6266 §4.3 has them."""
    name = "".join(character if character.isprintable() else "_" for character in path.rpartition("/")[2])
    if name.isascii():
        return dump_options_header(kind, {"filename": name})
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return dump_options_header(kind, {"filename": plain, "filename*": f"UTF-8''{quote(name, safe='')}"})


def _safe_type(content_type: str) -> str:
    bare = content_type.partition(";")[0].strip().lower()
    return bare if _TYPE.fullmatch(bare) else "application/octet-stream"


def _is_plain(content_type: str, bare: str) -> bool:
    """Whether a type with parameters can stand in a header as it is."""
    return bare != "application/octet-stream" and content_type.isascii() and content_type.isprintable()
