"""Reading a request's body: within its limits of size and time, or not at all."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, BinaryIO

from werkzeug.http import parse_options_header

from wps_hpc.errors import BadRequest, BodyTimeout, FileSizeExceeded, ServerBusy, UnsupportedBody

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

STEP = 1_000_000


class NoPlaceToWait(TimeoutError):
    """A body did not arrive at once, and as many as the server waits for at a time are waited for already."""


def read_body(environ: WSGIEnvironment, limit: int, seconds: float) -> bytes:
    """The whole body, with a Content-Length or chunked.

    Raises FileSizeExceeded for more than ``limit`` bytes (before it reads any, where the length is declared),
    BodyTimeout when it takes longer than ``seconds`` (the server raises TimeoutError out of a read that blocks; here is
    the check between two reads), ServerBusy when the server's read raises NoPlaceToWait, UnsupportedBody for a content
    encoding, BadRequest for one that ends early.
    """
    _refuse_encoding(environ)
    declared = _declared_length(environ)
    if declared is not None and declared > limit:
        raise _too_large(limit)
    if declared is None and not environ.get("wsgi.input_terminated"):
        return b""
    # One byte beyond the limit tells a chunked body that is too large.
    body = _read(environ["wsgi.input"], limit + 1 if declared is None else declared, seconds)
    if len(body) > limit:
        raise _too_large(limit)
    if declared is not None and len(body) < declared:
        raise BadRequest(f"The request's body ended after {len(body)} of {declared} bytes.")
    return body


def body_charset(environ: WSGIEnvironment) -> str | None:
    """The charset parameter of the body's Content-Type, or None."""
    content_type = environ.get("CONTENT_TYPE")
    return parse_options_header(content_type)[1].get("charset") if content_type else None


def _refuse_encoding(environ: WSGIEnvironment) -> None:
    # A compressed body can be a thousand times larger than its transfer.
    encoding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedBody(f"Bodies with Content-Encoding {encoding[:40]} are not read; send it as it is.")


def _declared_length(environ: WSGIEnvironment) -> int | None:
    text: str | None = environ.get("CONTENT_LENGTH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadRequest("The Content-Length of the request is not a number.")
    return int(text[:20])


def _too_large(limit: int) -> FileSizeExceeded:
    return FileSizeExceeded(f"The request is larger than {limit} bytes; send large inputs by reference.")


def _read(stream: BinaryIO, wanted: int, seconds: float) -> bytes:
    """Up to ``wanted`` bytes of the stream."""
    deadline = time.monotonic() + seconds
    parts: list[Any] = []
    while wanted > 0:
        try:
            part = stream.read(min(STEP, wanted))
        except NoPlaceToWait as error:
            raise ServerBusy("Too many requests arrive slowly; send the request again, at once as a whole.") from error
        except TimeoutError as error:
            raise _late(seconds) from error
        except OSError as error:
            raise BadRequest("The request's body ended early, or not as HTTP has it.") from error
        if not part:
            break
        if time.monotonic() > deadline:
            raise _late(seconds)
        parts.append(part)
        wanted -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _late(seconds: float) -> BodyTimeout:
    return BodyTimeout(f"The request's body did not arrive within {seconds:g} s.")
