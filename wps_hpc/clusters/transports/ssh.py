"""What both SSH transports share: when a command is tried again, how many run at once, what went wrong in words.

A command is *begun* once its shell waits for the word to run it (``remote.Exchange``). Until then it may be tried on a
new connection; afterwards never.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections.abc import Iterator

from wps_hpc import config
from wps_hpc.clusters.transports.base import Command, TransportError
from wps_hpc.clusters.transports.files import CommandFiles
from wps_hpc.clusters.transports.remote import Exchange, Output

#: After a connection could not be opened, so long no other try, doubled with each failure. Seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Between two tries to get a session from a login node that has none left. Seconds.
_BUSY_PAUSE = 0.2
#: So many channels no file's contents may take: the scheduler is asked, and told, all the same.
_KEPT_FREE = 2
#: A command starts on a connection that is there, or on a new one in its place.
_CONNECTIONS = 2


class NoConnection(TransportError):
    """The login node cannot be reached, or does not let this server in; the text says why, and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(text, may_have_run=False)


class NotBegun(Exception):
    """The connection did not get as far as the command: another one may."""


class NoSession(Exception):
    """The login node gives no more sessions on this connection; the connection itself is good."""


class SshTransport(CommandFiles):
    """Commands on one connection, which is opened when it is needed and shared by all threads."""

    def __init__(self, settings: config.Ssh) -> None:
        """Opens nothing yet."""
        self.settings = settings
        self._channels = threading.BoundedSemaphore(settings.max_channels)
        self._carriers = threading.BoundedSemaphore(max(1, settings.max_channels - _KEPT_FREE))
        self._failure = ""
        self._not_before = 0.0
        self._pause = 0.0
        self._opening = threading.Lock()

    @property
    def where(self) -> str:
        """The login node, as texts name it."""
        account = f"{self.settings.user}@" if self.settings.user else ""
        return f"{account}{self.settings.host}" + (f":{self.settings.port}" if self.settings.port else "")

    def output(self, command: Command, timeout: float) -> Output:
        """See ``Transport.run``. Tried on a second connection only when it certainly has not run."""
        deadline = time.monotonic() + timeout
        with self._channel(deadline):
            return self._tried(command, deadline).output

    def carried(self, command: Command, timeout: float) -> Output:
        """See ``CommandFiles.carried``: as long as ``timeout`` until it is its turn, and as long again for itself."""
        with self._turn(self._carriers, time.monotonic() + timeout):
            return self.output(command, timeout)

    def noise(self, timeout: float) -> str:
        """What the account's login files print before a command; raises TransportError."""
        deadline = time.monotonic() + timeout
        with self._channel(deadline):
            return self._tried(Command(("true",)), deadline).noise

    def _tried(self, command: Command, deadline: float) -> Exchange:
        seen = ""
        for _ in range(_CONNECTIONS):
            try:
                return self._insisted(command, deadline)
            except NotBegun as error:
                seen = str(error)
            if time.monotonic() >= deadline:
                break
        raise TransportError(f"{self.where}: {command.argv[0]} was not run: {seen}", may_have_run=False)

    def _insisted(self, command: Command, deadline: float) -> Exchange:
        """On one connection, again while it has no session to give; raises NotBegun and TransportError."""
        refused: NoSession | None = None
        while True:
            exchange = Exchange(command, max(0.1, deadline - time.monotonic()), self.settings.login_shell)
            try:
                self.converse(exchange, deadline)
                return exchange
            except NoSession as error:
                if time.monotonic() + _BUSY_PAUSE >= deadline:
                    raise self._without_sessions(error) from error
                refused = error
                time.sleep(_BUSY_PAUSE)
            except NotBegun as error:
                if refused is None or time.monotonic() < deadline:
                    raise
                # The last try had too little time to be refused as those before it.
                raise self._without_sessions(refused) from error
            except (OSError, RuntimeError) as error:  # this host has no descriptors, threads or room left
                text = f"{self.where}: {exchange.command.argv[0]}: {error}"
                raise TransportError(text, may_have_run=exchange.may_have_run) from error

    def _without_sessions(self, error: NoSession) -> TransportError:
        text = f"{self.where} gives no more sessions (MaxSessions): lower ssh.max_channels ({error})"
        return TransportError(text, may_have_run=False)

    @abstractmethod
    def converse(self, exchange: Exchange, deadline: float) -> None:
        """Carry an exchange to its end. Raises NotBegun (having dropped the connection), NoSession, TransportError."""

    def _channel(self, deadline: float) -> contextlib.AbstractContextManager[None]:
        return self._turn(self._channels, deadline)

    @contextlib.contextmanager
    def _turn(self, among: threading.Semaphore, deadline: float) -> Iterator[None]:
        if not among.acquire(timeout=max(0.0, deadline - time.monotonic())):
            text = f"{self.where}: all {self.settings.max_channels} channels are busy"
            raise TransportError(text, may_have_run=False)
        try:
            yield
        finally:
            among.release()

    @contextlib.contextmanager
    def opening(self, deadline: float) -> Iterator[float]:
        """One thread at a time opens connections; gives the seconds it has. Raises NoConnection.

        What failed is not tried again at once: a server that knocks all the time is soon shut out by the login node.
        """
        if not self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise NoConnection(f"{self.where}: another command still opens the connection")
        try:
            if time.monotonic() < self._not_before:
                raise NoConnection(self._failure)
            yield from self._opened(max(0.1, min(self.settings.connect_seconds, deadline - time.monotonic())))
        finally:
            self._opening.release()

    def _opened(self, seconds: float) -> Iterator[float]:
        try:
            yield seconds
        except NoConnection as error:
            self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, self._pause * 2))
            self._failure, self._not_before = str(error), time.monotonic() + self._pause
            raise
        self._pause = 0.0

    def begin_by(self, deadline: float) -> float:
        """When a command that starts now has to have begun, on the monotonic clock."""
        return min(deadline, time.monotonic() + self.settings.connect_seconds)

    def overdue(self, exchange: Exchange, timeout_text: str) -> TransportError:
        """A command that has begun and whose end was not seen."""
        return TransportError(
            f"{self.where}: {exchange.command.argv[0]} {timeout_text}", may_have_run=exchange.may_have_run
        )


def shell_ended(where: str, exchange: Exchange) -> TransportError:
    """The account's shell ended before it came to the command."""
    said = f": {' '.join(exchange.noise.split())}" if exchange.noise else ""
    text = f"{where}: the account's shell ended before it ran {exchange.command.argv[0]}{said}"
    return TransportError(text, may_have_run=False)
