"""A web site on loopback whose every byte is scripted: what hostile, broken and slow servers send."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | Callable[["Reply"], None]


@dataclass
class Reply:
    """The open connection of one request. ``left`` is set once the client has hung up or the site closes."""

    connection: socket.socket
    asked: Asked
    left: threading.Event

    def send(self, data: bytes) -> bool:
        """Send; False when the client has gone."""
        try:
            self.connection.sendall(data)
        except OSError:
            self.left.set()
            return False
        return True

    def wait_for_hang_up(self, seconds: float = 30.0) -> None:
        """Say nothing more until the client goes away."""
        self.connection.settimeout(seconds)
        try:
            while self.connection.recv(4096):
                pass
        except OSError:
            return
        finally:
            self.left.set()


@dataclass
class Website:
    """``pages`` maps a path (without its query) to what is answered; ``asked`` has every request so far."""

    host: str
    port: int
    scheme: str = "http"
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str | None = None) -> str:
        """The address of a page, by another name for the host if given."""
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"


def page(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """An ordinary answer. ``length`` is what Content-Length says, right by default."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def redirect(location: str, status: int = 302) -> bytes:
    """An answer that sends the client elsewhere."""
    return page(b"moved", f"Location: {location}", status=f"{status} Moved")


@contextmanager
def website(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Website]:
    """A site that is up within the block."""
    with socketserver.ThreadingTCPServer((host, 0), _Connection, bind_and_activate=False) as server:
        server.daemon_threads = True
        server.request_queue_size = 50
        server.server_bind()
        server.server_activate()
        site = Website(host, server.server_address[1], "https" if tls else "http")
        server.site, server.tls = site, tls  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        site, tls = self.server.site, self.server.tls  # type: ignore[attr-defined]
        connection = self.request
        connection.settimeout(30)
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            asked = _read_request(connection)
        except OSError:
            return
        with connection:
            if asked is not None:
                site.asked.append(asked)
                self._answer(site, Reply(connection, asked, site.hung_up))

    def _answer(self, site: Website, reply: Reply) -> None:
        answer = site.pages.get(reply.asked.target.split("?")[0], page(b"none here", status="404 Not Found"))
        if isinstance(answer, bytes):
            reply.send(answer)
        else:
            answer(reply)


def _read_request(connection: socket.socket) -> Asked | None:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode("latin-1").split()
        if len(line) != 3:
            return None
        headers = {}
        while text := stream.readline().decode("latin-1").strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", "0")))
    return Asked(line[0], line[1], headers, body)
