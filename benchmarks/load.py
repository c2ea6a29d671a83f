"""The load: one process, several connections that are kept alive, each with one request under way at a time.

``python load.py`` reads a plan from its standard input and writes the outcome to its standard output, both JSON. It
talks to 127.0.0.1 alone and ends by itself: after so many seconds, so many requests, or a silence of SILENCE seconds.
Standard library only.
"""

from __future__ import annotations

import itertools
import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

LOOPBACK = "127.0.0.1"
#: Stands for the request's own number, eight digits, in a request and in what its answer must hold.
SERIAL = "@@SERIAL"
#: No answer to any connection for so many seconds: the load ends, and what was under way counts as errors.
SILENCE = 30.0
#: So many different errors are told in words.
TOLD = 5
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Exchange:
    """A request as it is sent, head and body, and what its answer must be: this very body, or one that holds these."""

    request: str
    exact: str | None = None
    holds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is sent: the exchanges in turn, until ``seconds`` are over or ``most`` requests have been sent.

    ``collect``: a regular expression whose first group is gathered from every answer.
    """

    port: int
    exchanges: tuple[Exchange, ...]
    connections: int
    seconds: float
    most: int
    collect: str | None = None


@dataclass
class Outcome:
    """What came of it. ``seconds`` is from the first request to the last answer; latencies are in seconds.

    Latencies are those of right answers; ``errors`` counts the others, and ``told`` describes some of them.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    told: list[str] = field(default_factory=list)
    collected: list[str] = field(default_factory=list)

    def note_error(self, text: str) -> None:
        """One more answer that is not the expected one."""
        self.errors += 1
        if len(self.told) < TOLD and text not in self.told:
            self.told.append(text)


@dataclass(frozen=True)
class _Case:
    """An exchange in bytes."""

    request: bytes
    exact: bytes | None
    holds: tuple[bytes, ...]

    def numbered(self, serial: int) -> _Case:
        own = f"{serial:08d}".encode()
        mark = SERIAL.encode()
        return _Case(self.request.replace(mark, own), self.exact, tuple(text.replace(mark, own) for text in self.holds))

    def fits(self, body: bytes) -> bool:
        if self.exact is not None:
            return body == self.exact
        return all(text in body for text in self.holds)


def _case(exchange: Exchange) -> _Case:
    exact = None if exchange.exact is None else exchange.exact.encode()
    return _Case(exchange.request.encode(), exact, tuple(text.encode() for text in exchange.holds))


@dataclass
class _Connection:
    """One connection and the request that is under way on it."""

    port: int
    socket: socket.socket = field(init=False)
    case: _Case = field(init=False)
    began: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection((LOOPBACK, self.port), timeout=SILENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, case: _Case) -> None:
        self.case, self.began = case, time.perf_counter()
        self.buffer.clear()
        self.socket.sendall(case.request)

    def answer(self) -> tuple[bytes, bytes] | None:
        """Head and body once they are whole. Raises OSError when the server breaks off, ValueError without a length."""
        part = self.socket.recv(262_144)
        if not part:
            raise ConnectionResetError("the connection was closed before an answer came")
        self.buffer += part
        end = self.buffer.find(_END_OF_HEAD)
        if end < 0:
            return None
        head = bytes(self.buffer[: end + 2])
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError("an answer without a Content-Length")
        start = end + len(_END_OF_HEAD)
        if len(self.buffer) - start < int(length[1]):
            return None
        return head, bytes(self.buffer[start:])


class Load:
    """Carries a plan out, once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._outcome = Outcome()
        self._collect = None if plan.collect is None else re.compile(plan.collect.encode())
        self._selector = selectors.DefaultSelector()
        self._cases = self._numbered()
        self._until = 0.0

    def run(self) -> Outcome:
        """Send, judge every answer, and wait for the last."""
        connections = [_Connection(self._plan.port) for _ in range(self._plan.connections)]
        began = time.perf_counter()
        self._until = began + self._plan.seconds
        for connection in connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            self._next(connection)
        while self._selector.get_map():
            self._turn()
        self._outcome.seconds = time.perf_counter() - began
        return self._outcome

    def _numbered(self) -> Iterator[_Case]:
        cases = itertools.cycle([_case(exchange) for exchange in self._plan.exchanges])
        for serial in range(self._plan.most):
            yield next(cases).numbered(serial)

    def _turn(self) -> None:
        ready = self._selector.select(SILENCE)
        for key, _ in ready:
            self._read(key.data)
        if not ready:
            for key in list(self._selector.get_map().values()):
                self._outcome.note_error(f"no answer within {SILENCE:g} s")
                self._drop(key.data)

    def _read(self, connection: _Connection) -> None:
        try:
            answer = connection.answer()
        except (OSError, ValueError) as error:
            self._outcome.note_error(str(error))
            self._again(connection)
            return
        if answer is None:
            return
        self._judge(connection, *answer)
        if _CLOSES.search(answer[0]):
            self._again(connection)
        else:
            self._next(connection)

    def _judge(self, connection: _Connection, head: bytes, body: bytes) -> None:
        taken = time.perf_counter() - connection.began
        if head.startswith(b"HTTP/1.1 200 ") and connection.case.fits(body):
            self._outcome.latencies.append(taken)
            if self._collect is not None and (found := self._collect.search(body)):
                self._outcome.collected.append(found[1].decode())
        else:
            status = head.partition(b"\r\n")[0].decode("latin-1")
            self._outcome.note_error(f"{status}: {body[:600].decode(errors='replace')}")

    def _next(self, connection: _Connection) -> None:
        case = next(self._cases, None) if time.perf_counter() < self._until else None
        if case is None:
            self._drop(connection)
        else:
            connection.send(case)

    def _again(self, connection: _Connection) -> None:
        """Go on with a new connection."""
        self._drop(connection)
        if time.perf_counter() < self._until:
            connection.connect()
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            self._next(connection)

    def _drop(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()


def main() -> int:
    """Read a plan, carry it out, write the outcome."""
    told = json.load(sys.stdin)
    exchanges = tuple(Exchange(**exchange) for exchange in told.pop("exchanges"))
    outcome = Load(Plan(exchanges=exchanges, **told)).run()
    json.dump(asdict(outcome), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
