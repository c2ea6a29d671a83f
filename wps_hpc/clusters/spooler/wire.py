"""How a command reaches the spooler and its outcome comes back: one length-prefixed JSON object each way.

Everybody here is of one account; both ends ask the kernel whether it is so (SO_PEERCRED, unix(7)).
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER = struct.Struct(">Q")
_CREDENTIALS = struct.Struct("3i")
#: No command and no answer is larger than this, in bytes.
LARGEST = 64 * 1024 * 1024


class WireError(Exception):
    """The other end said something that is not of this protocol, or went away in the middle."""


@dataclass(frozen=True)
class Request:
    """One command for the spooler. ``fingerprint`` is the code that the client runs; None: any will do."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    fingerprint: str | None = None

    def message(self) -> dict[str, Any]:
        """As it travels: the bytes of standard input as text that gives them back exactly."""
        text = self.stdin.decode(errors="surrogateescape")
        return {"argv": self.argv, "stdin": text, "fingerprint": self.fingerprint}


def read_request(message: Mapping[str, Any]) -> Request:
    """The request in a message; raises WireError when it is none."""
    argv, stdin, fingerprint = (message.get(name) for name in ("argv", "stdin", "fingerprint"))
    if not isinstance(argv, list) or not all(isinstance(word, str) for word in argv):
        raise WireError("argv is not a list of strings")
    if not isinstance(stdin, str) or not isinstance(fingerprint, (str, type(None))):
        raise WireError("stdin or fingerprint is not text")
    try:
        return Request(tuple(argv), stdin.encode(errors="surrogateescape"), fingerprint)
    except UnicodeEncodeError as error:
        raise WireError(f"stdin: {error}") from error


def pack(message: Mapping[str, Any]) -> bytes:
    """One message as it travels."""
    body = json.dumps(message).encode()
    return _HEADER.pack(len(body)) + body


def unpack(buffer: bytes | bytearray) -> dict[str, Any] | None:
    """The message in ``buffer``; None while it is not complete. Raises WireError when it can never be one."""
    if len(buffer) < _HEADER.size:
        return None
    (size,) = _HEADER.unpack_from(buffer)
    if size > LARGEST:
        raise WireError(f"a message of {size} bytes is too large")
    if len(buffer) < _HEADER.size + size:
        return None
    try:
        message = json.loads(bytes(buffer[_HEADER.size : _HEADER.size + size]))
    except ValueError as error:
        raise WireError(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


def send(connection: socket.socket, message: Mapping[str, Any], deadline: float) -> None:
    """Send one message before ``deadline`` (on the monotonic clock); raises OSError, also TimeoutError."""
    connection.settimeout(_left(deadline))
    connection.sendall(pack(message))


def receive(connection: socket.socket, deadline: float) -> dict[str, Any]:
    """The next message, before ``deadline`` (on the monotonic clock); raises WireError, OSError, TimeoutError."""
    buffer = bytearray()
    while (message := unpack(buffer)) is None:
        connection.settimeout(_left(deadline))
        part = connection.recv(65536)
        if not part:
            raise WireError("the connection was closed before an answer came")
        buffer += part
    return message


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address for a socket at ``path``, however long that is: a socket's address has room for 107 bytes only.

    It goes by way of an open descriptor of the folder, so that neither the current directory nor a second name is
    needed. Raises OSError when the folder cannot be opened.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def peer_account(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel noted it when it connected."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    return left
