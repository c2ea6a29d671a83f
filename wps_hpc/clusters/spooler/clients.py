"""The spooler's side of its socket: many clients, none of whom can make it wait."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from wps_hpc.clusters.spooler import wire
from wps_hpc.clusters.spooler.commands import Exit
from wps_hpc.clusters.transports.base import Completed

log = logging.getLogger(__name__)

#: A client that has not finished saying what it wants after so long is cut off. Seconds.
_SILENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Reply:
    """What a client gets. A ``feed`` stays connected and gets one byte for every change."""

    message: Mapping[str, Any]
    feed: bool = False


def completed_reply(completed: Completed, feed: bool = False) -> Reply:
    """The outcome of a command as a reply."""
    return Reply(asdict(completed), feed)


@dataclass(eq=False)
class _Client:
    socket: socket.socket
    since: float
    received: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)
    feed: bool = False
    refused: bool = False


class Clients:
    """All connections to the listening socket; ``answer`` turns a message into a reply and never raises."""

    def __init__(self, selector: selectors.BaseSelector, answer: Callable[[Mapping[str, Any]], Reply]) -> None:
        self._selector = selector
        self._answer = answer
        self._clients: set[_Client] = set()

    def listen_on(self, listener: socket.socket) -> None:
        """Take connections from a non-blocking listening socket."""
        self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def announce(self) -> None:
        """Wake everybody who follows the changes."""
        for client in [client for client in self._clients if client.feed and not client.pending]:
            client.pending += b"\n"
            self._write(client)

    @property
    def connected(self) -> int:
        """How many clients there are; a server that runs is one, by its feed."""
        return len(self._clients)

    @property
    def waiting(self) -> bool:
        """Somebody has not yet got the whole answer."""
        return any(client.pending for client in self._clients)

    def drop_silent(self) -> None:
        """Cut off clients that connected and then said nothing, or too little."""
        oldest = time.monotonic() - _SILENCE_SECONDS
        for client in [client for client in self._clients if not client.feed and client.since < oldest]:
            self._close(client)

    def close(self) -> None:
        """Cut everybody off; followers of the changes see the end."""
        for client in list(self._clients):
            self._close(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # no descriptor is free, say: a client waits, the jobs must not
            log.error("a client has to wait: %s", error)
            return
        connection.setblocking(False)
        client = _Client(connection, time.monotonic())
        self._clients.add(client)
        account = wire.peer_account(connection)
        if account == os.geteuid():
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))
        else:
            self._refuse(client, account)

    def _refuse(self, client: _Client, account: int) -> None:
        log.warning("refused a client of account %d", account)
        text = f"this spooler serves account {os.geteuid()}, not {account}\n"
        client.refused = True
        self._selector.register(client.socket, selectors.EVENT_WRITE, lambda: self._write(client))
        self._reply(client, completed_reply(Completed(Exit.NOT_ALLOWED, "", text)))

    def _read(self, client: _Client) -> None:
        try:
            part = client.socket.recv(65536)
            client.received += part
            message = wire.unpack(client.received) if part and not client.feed else None
        except BlockingIOError:
            return
        except (OSError, wire.WireError) as error:
            log.warning("cut a client off: %s", error)
            self._close(client)
            return
        if not part:
            self._close(client)
        elif message is not None:
            self._reply(client, self._answer(message))

    def _reply(self, client: _Client, reply: Reply) -> None:
        client.received.clear()
        client.feed = reply.feed
        client.pending += wire.pack(reply.message)
        self._write(client)

    def _write(self, client: _Client) -> None:
        try:
            with contextlib.suppress(BlockingIOError):
                del client.pending[: client.socket.send(client.pending)]
        except OSError:
            self._close(client)
            return
        if client.refused and not client.pending:
            self._close(client)
            return
        events = selectors.EVENT_WRITE if client.pending else selectors.EVENT_READ
        go_on = self._write if client.pending else self._read
        self._selector.modify(client.socket, events, lambda: go_on(client))

    def _close(self, client: _Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self._clients.discard(client)
