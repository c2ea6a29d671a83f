"""Fetching one input by reference over HTTP, from an address that was judged, within limits that hold
while it runs.

The connection goes to the very address that ``addresses`` permitted; Host header, SNI and certificate
check use the name. Proxies and credentials of the server's environment are not used. Every redirect is
judged like the first URL. A body is counted as it arrives, whatever its length is said to be; silence,
total time and cancellation are looked at below TLS and HTTP, so that no dribble of handshake, header or
body bytes outlasts them.

What a remote server says never reaches the client, apart from its status code.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import httpcore
import httpx

from joblauncher.formats.records import SharedFile
from wps_hpc.config import Inputs
from wps_hpc.errors import FileSizeExceeded, InvalidParameterValue, NoApplicableCode, NotEnoughStorage
from wps_hpc.jobs import addresses
from wps_hpc.jobs.request import Reference

log = logging.getLogger(__name__)

#: Seconds after which a silent wait looks at cancellation and deadline again.
SLICE = 0.25
#: Longest time for one TCP connection, in seconds: a host that needs more is as good as down.
LONGEST_CONNECT = 15.0
_CHUNK = 1 << 16
_AGENT = f"wps-hpc/{version('wps-hpc')}"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Redirects after which a POST becomes a GET without its body (RFC 9110 §15.4.2-4, as every client does it).
_TO_GET = frozenset({301, 302, 303})
#: Statuses whose body is the document asked for. 203 comes from a transforming proxy.
_WITH_DOCUMENT = frozenset({200, 203})
#: Headers that describe a body and go wherever it goes; all others are the client's secrets for one origin.
_BODY_HEADERS = frozenset({"content-type", "content-language"})


class FetchCancelled(Exception):
    """The job was cancelled while its inputs were fetched."""


@dataclass(frozen=True)
class Fetched:
    """A document that now lies in ``path``:

    its size in bytes and the MIME type that the reply gave it, if any.
    """

    path: Path
    size: int
    mime_type: str | None


@dataclass(frozen=True)
class Terms:
    """On which terms one input is fetched.

    ``limit`` is the largest size in bytes, ``locator`` the input's identifier for errors; ``cancelled``
    is asked a few times a second, from the fetching thread.
    """

    inputs: Inputs
    limit: int
    locator: str
    cancelled: Callable[[], bool] = lambda: False
    tls: ssl.SSLContext | None = None


def fetch(reference: Reference, target: Path, part: Path, terms: Terms) -> Fetched:
    """Fetch an http(s) reference into ``target``, whole or not at all; ``part`` is where it grows (same
    filesystem).

    Raises InvalidParameterValue for what the configuration forbids, FileSizeExceeded, NotEnoughStorage
    when the disk is full, NoApplicableCode when the host cannot be reached or does not give the document
    (each with the input as locator), and FetchCancelled.
    """
    patience = _Patience(terms.inputs, terms.cancelled)
    began = time.monotonic()
    shown = addresses.printable(reference.href)
    with _as_service_errors(terms.locator, shown), _passing(part.with_name(part.name + ".body")) as body_part:
        body = _request_body(reference, body_part, terms, patience)
        exchange = _first_exchange(reference, body, terms)
        fetched = _follow(exchange, part, terms, patience)
        part.replace(target)
        _sync_folder(target.parent)
    log.info("fetched %s: %d bytes in %.1f s", shown, fetched.size, time.monotonic() - began)
    return replace(fetched, path=target)


def shared_file(reference: Reference, terms: Terms) -> SharedFile:
    """The file that a ``file:`` reference names; it stays where it is.

    Raises InvalidParameterValue and FileSizeExceeded with the input as locator.
    """
    try:
        found = addresses.local_file(reference.href, terms.inputs)
    except addresses.Forbidden as error:
        raise InvalidParameterValue(error.text, terms.locator) from error
    if found.size > terms.limit:
        raise _too_large(terms)
    return found


@dataclass(frozen=True)
class Posting:
    """Something to tell a place of a client's choice. ``headers`` come beside Content-Type and Content-Length."""

    url: str
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class NotSent(Exception):
    """A posting did not arrive, or was not received with thanks; the text says why."""


def post(posting: Posting, inputs: Inputs, cancelled: Callable[[], bool], tls: ssl.SSLContext | None = None) -> None:
    """POST to an http(s) address, judged by the rules for references; a redirect is an answer like any other.

    Raises NotSent unless the other side answers with 2xx, or when ``cancelled`` says so, from this thread.
    """
    patience = _Patience(inputs, cancelled)
    try:
        url = addresses.client_url(posting.url, inputs)
        headers = (("Content-Type", posting.content_type), *posting.headers)
        status = _status(_Exchange(url, "POST", headers, posting.body), patience, tls)
    except addresses.Forbidden as error:
        raise NotSent(f"{error.text} {error.detail}".strip()) from error
    except FetchCancelled as error:
        raise NotSent("the worker is closing") from error
    except _Unavailable as error:
        raise NotSent(f"it {error}") from error
    except tuple(_SENTENCES) as error:
        raise NotSent(f"it {_sentence(error)}") from error
    except OSError as error:
        raise NotSent(str(error)) from error
    if not 200 <= status < 300:
        raise NotSent(f"it answers with HTTP status {status}")


def _status(exchange: _Exchange, patience: _Patience, tls: ssl.SSLContext | None) -> int:
    """The HTTP status that a request is answered with; the rest of the answer is not waited for."""
    with _answering(exchange, patience, tls) as response:
        return response.status


@contextmanager
def _answering(exchange: _Exchange, patience: _Patience, tls: ssl.SSLContext | None) -> Iterator[httpcore.Response]:
    """The answer to one request, its body still to come; the connection is closed in the end."""
    patience.check()
    network = _JudgedNetwork(patience.inputs, patience)
    with (
        httpcore.ConnectionPool(ssl_context=tls or _tls(), network_backend=network) as pool,
        pool.stream(
            exchange.method,
            _wire_url(exchange.url),
            headers=exchange.wire_headers(),
            content=_sent(exchange.body),
        ) as response,
    ):
        yield response


@contextmanager
def _passing(path: Path) -> Iterator[Path]:
    """A file that is gone in the end."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


class _Unavailable(Exception):
    """The document could not be had; the text is a sentence for the client."""


class _Patience:
    """How long to wait: for a word of the remote host, and in all. Used by one thread."""

    def __init__(self, inputs: Inputs, cancelled: Callable[[], bool]) -> None:
        self.inputs = inputs
        self._cancelled = cancelled
        self._deadline = time.monotonic() + inputs.total_seconds
        self._ask_again = 0.0

    def check(self) -> None:
        """Raise FetchCancelled or _Unavailable when there is no reason to go on. Cheap."""
        now = time.monotonic()
        if now >= self._deadline:
            raise _Unavailable(f"was not fetched within {self.inputs.total_seconds:g} seconds")
        if now >= self._ask_again:
            self._ask_again = now + SLICE
            if self._cancelled():
                raise FetchCancelled

    def at_most(self, seconds: float) -> float:
        """``seconds``, or what is left until the deadline."""
        return max(0.001, min(seconds, self._deadline - time.monotonic()))


class _PatientStream(httpcore.NetworkStream):
    """A connection that looks at deadline and cancellation between short waits."""

    def __init__(self, inner: httpcore.NetworkStream, patience: _Patience) -> None:
        self._inner = inner
        self._patience = patience

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        silent_until = time.monotonic() + self._patience.inputs.timeout_seconds
        while True:
            self._patience.check()
            try:
                return self._inner.read(max_bytes, self._patience.at_most(SLICE))
            except httpcore.ReadTimeout:
                if time.monotonic() >= silent_until:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _CHUNK):
            self._patience.check()
            wait = self._patience.at_most(self._patience.inputs.timeout_seconds)
            self._inner.write(buffer[start : start + _CHUNK], wait)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = self._patience.at_most(self._patience.inputs.timeout_seconds)
        return _PatientStream(self._inner.start_tls(ssl_context, server_hostname, wait), self._patience)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _JudgedNetwork(httpcore.NetworkBackend):
    """Resolves a name once, judges the answers, and connects to one that may be connected to."""

    def __init__(self, inputs: Inputs, patience: _Patience) -> None:
        self._inputs = inputs
        self._patience = patience
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = OSError(f"no address for {host}")
        for address in self._addresses(host, port):
            self._patience.check()
            try:
                return _PatientStream(self._connect(str(address), port), self._patience)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int) -> tuple[addresses.Address, ...]:
        try:
            return addresses.permitted_addresses(host, port, self._inputs)
        except (OSError, UnicodeError) as error:
            raise _Unavailable("names a host that has no address") from error

    def _connect(self, address: str, port: int) -> httpcore.NetworkStream:
        wait = self._patience.at_most(min(self._inputs.timeout_seconds, LONGEST_CONNECT))
        return self._sockets.connect_tcp(address, port, timeout=wait)


@dataclass(frozen=True)
class _Exchange:
    """One request of a chain of redirects. ``body`` is None for GET."""

    url: httpx.URL
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | Path | None

    def wire_headers(self) -> list[tuple[bytes, bytes]]:
        """Every header as it is sent: the client's after this server's own."""
        own = {
            "Host": self.url.netloc.decode("ascii"),
            "User-Agent": _AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if self.body is not None:
            own["Content-Length"] = str(_length(self.body))
        given = {name.lower() for name, _ in self.headers}
        kept = [(name, value) for name, value in own.items() if name.lower() not in given]
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in (*kept, *self.headers)]

    def redirected(self, url: httpx.URL, status: int) -> _Exchange:
        """The next request: secrets stay with their origin, and the body goes where HTTP lets it go."""
        drops_body = status in _TO_GET
        headers = tuple(
            (name, value)
            for name, value in self.headers
            if (name.lower() not in _BODY_HEADERS and _origin(url) == _origin(self.url))
            or (name.lower() in _BODY_HEADERS and not drops_body)
        )
        if drops_body:
            return _Exchange(url, "GET", headers, None)
        return replace(self, url=url, headers=headers)


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host.lower(), url.port


def _length(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _request_body(reference: Reference, part: Path, terms: Terms, patience: _Patience) -> bytes | Path | None:
    """What to POST, None for GET.

    A body by reference is fetched under the same rules, without the headers.
    """
    if reference.body_href is None:
        return (reference.body or b"") if addresses.posts(reference) else None
    if addresses.is_file(reference.body_href):
        return Path(shared_file(Reference(reference.body_href), terms).path)
    exchange = _Exchange(addresses.client_url(reference.body_href, terms.inputs), "GET", (), None)
    return _follow(exchange, part, terms, patience).path


def _first_exchange(reference: Reference, body: bytes | Path | None, terms: Terms) -> _Exchange:
    url = addresses.client_url(reference.href, terms.inputs)
    headers = reference.headers
    if body is not None and "content-type" not in {name.lower() for name, _ in headers}:
        headers = (*headers, ("Content-Type", _body_type(body)))
    return _Exchange(url, "GET" if body is None else "POST", headers, body)


def _body_type(body: bytes | Path) -> str:
    """WPS 1.0.0 gives a Body no type; it is XML in practice (a WFS query, a coverage request)."""
    if isinstance(body, bytes):
        start = body[:100]
    else:
        with body.open("rb") as stream:
            start = stream.read(100)
    is_xml = start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    return "application/xml" if is_xml else "application/octet-stream"


def _follow(exchange: _Exchange, part: Path, terms: Terms, patience: _Patience) -> Fetched:
    for _ in range(terms.inputs.redirects + 1):
        outcome = _perform(exchange, part, terms, patience)
        if isinstance(outcome, Fetched):
            return outcome
        exchange = outcome
    raise _Unavailable(f"redirects more than {terms.inputs.redirects} times")


def _perform(exchange: _Exchange, part: Path, terms: Terms, patience: _Patience) -> Fetched | _Exchange:
    """One request: the document, or where to ask next."""
    with _answering(exchange, patience, terms.tls) as response:
        headers = httpx.Headers(response.headers)
        if response.status in _REDIRECTS:
            return _next(exchange, response.status, headers, terms)
        if response.status not in _WITH_DOCUMENT:
            raise _Unavailable(f"was refused by its host with HTTP status {response.status}")
        size = _save(response.iter_stream(), headers, part, terms)
    return Fetched(part, size, _mime_type(headers))


def _wire_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _sent(body: bytes | Path | None) -> bytes | Iterator[bytes] | None:
    return _chunks(body) if isinstance(body, Path) else body


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Verified TLS:

    the certificates that come with httpx and those of this system (a site's own authority).
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _next(exchange: _Exchange, status: int, headers: httpx.Headers, terms: Terms) -> _Exchange:
    location = headers.get("location")
    if location is None:
        raise _Unavailable(f"was answered with HTTP status {status} and no place to go to")
    url = addresses.redirect_url(exchange.url, location, terms.inputs)
    return exchange.redirected(url, status)


_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,60}/[a-z0-9][a-z0-9.+_-]{0,100}")


def _mime_type(headers: httpx.Headers) -> str | None:
    """The reply's media type without parameters, when it is one."""
    text = str(headers.get("content-type", "")).split(";")[0].strip().lower()
    return text if _MEDIA_TYPE.fullmatch(text) else None


def _save(chunks: Iterable[bytes], headers: httpx.Headers, part: Path, terms: Terms) -> int:
    """Write a body to ``part`` and fsync it;

    the size in bytes. The file is gone again when anything goes wrong.
    """
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > terms.limit:
        raise _too_large(terms)
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
            size = _copy(_decoded(chunks, headers, terms), stream, terms)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return size


def _copy(chunks: Iterable[bytes], stream: BinaryIO, terms: Terms) -> int:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > terms.limit:
            raise _too_large(terms)
        stream.write(chunk)
    return size


def _decoded(chunks: Iterable[bytes], headers: httpx.Headers, terms: Terms) -> Iterable[bytes]:
    """The body without its content coding.

    None is asked for, but servers send pre-compressed files as gzip.
    """
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return chunks
    if coding in ("gzip", "x-gzip"):
        return _gunzipped(chunks)
    raise _Unavailable("came in a content encoding that was not asked for")


def _gunzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress in bounded steps, so that a bomb is counted like any other body; members may follow."""
    member = None
    for chunk in chunks:
        pending = chunk
        while pending:
            member = member or zlib.decompressobj(wbits=31)
            yield _inflated(member, pending)
            pending = member.unconsumed_tail
            if member.eof:
                pending, member = member.unused_data, None
    if member is not None:
        raise _Unavailable("did not arrive whole (gzip)")


def _inflated(member: zlib._Decompress, pending: bytes) -> bytes:
    try:
        return member.decompress(pending, _CHUNK)
    except zlib.error as error:
        raise _Unavailable("arrived damaged (gzip)") from error


def _too_large(terms: Terms) -> FileSizeExceeded:
    return FileSizeExceeded(f"The input {terms.locator} is larger than {terms.limit} bytes.", terms.locator)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: What a client is told of a failed connection, the most specific class first.
_SENTENCES: Mapping[type[Exception], str] = {
    httpcore.ConnectTimeout: "is on a host that does not answer",
    httpcore.ReadTimeout: "is on a host that fell silent",
    httpcore.WriteTimeout: "is on a host that stopped taking the request",
    httpcore.ConnectError: "is on a host that cannot be reached",
    httpcore.RemoteProtocolError: "did not arrive whole, or its host does not speak HTTP",
    httpcore.NetworkError: "is on a host that broke the connection",
    httpcore.ProtocolError: "cannot be asked for over HTTP",
}


@contextmanager
def _as_service_errors(locator: str, shown: str) -> Iterator[None]:
    try:
        yield
    except addresses.Forbidden as error:
        log.warning("refused to fetch %s: %s %s", shown, error.text, error.detail)
        raise InvalidParameterValue(error.text, locator) from error
    except _Unavailable as error:
        log.warning("could not fetch %s: it %s", shown, error)
        raise _unavailable(locator, str(error)) from error
    except tuple(_SENTENCES) as error:
        log.warning("could not fetch %s: %s: %s", shown, type(error).__name__, error)
        raise _unavailable(locator, _sentence(error)) from error
    except OSError as error:
        log.error("could not store %s: %s", shown, error)
        raise NotEnoughStorage("The server has no room for the input, or cannot write it.", locator) from error


def _unavailable(locator: str, what: str) -> NoApplicableCode:
    return NoApplicableCode(f"The document for the input {locator} {what}.", locator)


def _sentence(error: BaseException) -> str:
    # httpcore's pool raises "from None", which leaves the context.
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return "is on a host whose certificate is not valid"
    return next(text for kind, text in _SENTENCES.items() if isinstance(error, kind))
