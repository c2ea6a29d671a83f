"""Commands over SSH by paramiko (extra ``ssh``): no other program, one connection, a channel for each command.

It has no Kerberos, no host certificates and reads no configuration of ssh; where those are needed, and where a person
has to log in with a second factor, ``ssh_openssh`` is the transport to take.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.agent import AgentSSH

from wps_hpc import config
from wps_hpc.clusters.transports import known_hosts, ssh_words
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.clusters.transports.known_hosts import KnownHosts, Verdict
from wps_hpc.clusters.transports.remote import Exchange
from wps_hpc.clusters.transports.ssh import NoConnection, NoSession, NotBegun, SshTransport, shell_ended

log = logging.getLogger(__name__)
# It logs as errors, with tracebacks, what is told here in a sentence.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_SSH_PORT = 22
_HOME_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
#: So many bytes are sent, and received, at once.
_CHUNK = 1 << 15
#: While a channel takes nothing more, its other direction is looked at after so long. Seconds.
_FULL_SECONDS = 0.05
#: So long after a deadline a thread that hangs in the library is let go, and between two tries to do so. Seconds.
_WATCHDOG_SECONDS = 1.0
#: An agent that does not say in so long what it has is left out. Seconds.
_AGENT_SECONDS = 5.0
#: «No more sessions», of the reasons for which a channel is not opened (RFC 4254 §5.1): OpenSSH says «connect failed».
_REFUSALS = frozenset({1, 2, 4})


class _CannotOpen(Exception):
    """What is wrong with a connection, in words."""


@dataclass
class _Link:
    """One connection and those it goes through, the last one first to be closed."""

    through: Sequence[paramiko.Transport]
    users: int = 0
    retired: bool = False
    #: The library has one place for the errors of all channels that are being opened.
    opening: threading.Lock = field(default_factory=threading.Lock)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def transport(self) -> paramiko.Transport:
        return self.through[-1]

    @property
    def alive(self) -> bool:
        return not self.retired and all(transport.is_active() for transport in self.through)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """A command is under way on it."""
        with self._lock:
            self.users += 1
        try:
            yield
        finally:
            with self._lock:
                self.users -= 1
            self._close_if_over()

    def retire(self) -> None:
        """No new command; those under way may end."""
        self.retired = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.retired and (self.users == 0 or not self.transport.is_active()):
            self.close()

    def close(self) -> None:
        self.retired = True
        for transport in reversed(self.through):
            transport.close()


class ParamikoTransport(SshTransport):
    """See the module."""

    def __init__(self, settings: config.Ssh) -> None:
        super().__init__(settings)
        self._link: _Link | None = None

    def close(self) -> None:
        """Close the connection; commands under way are cut off."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def converse(self, exchange: Exchange, deadline: float) -> None:
        """See ``SshTransport.converse``."""
        link = self._connected(deadline)
        with link.used(), _watchdog(deadline, link.close):
            try:
                self._converse(link, exchange, deadline)
            except (TransportError, NoSession):
                raise
            # Whatever the host has sent, the library raises here what it stumbled over: it may be anything.
            except Exception as error:
                if exchange.may_have_run:
                    raise self.overdue(exchange, f"was cut off: {error or 'the connection was lost'}") from error
                self._drop(link)
                raise NotBegun(f"the connection was lost ({error or type(error).__name__})") from error

    def _converse(self, link: _Link, exchange: Exchange, deadline: float) -> None:
        begin_by = self.begin_by(deadline)
        # The library waits without a limit for what a frozen host should answer.
        with _watchdog(begin_by, link.close):
            with link.opening:
                channel = _session(link.transport, begin_by)
            # When the connection has just ended it waits for an answer all the same, which closing would not bring.
            with _watchdog(begin_by, channel.event.set):
                channel.exec_command(exchange.line)
        with contextlib.closing(channel):
            self._carry(channel, exchange, begin_by, deadline)

    def _carry(self, channel: paramiko.Channel, exchange: Exchange, begin_by: float, deadline: float) -> None:
        channel.settimeout(_FULL_SECONDS)
        closed_input = False
        while not exchange.done:
            limit = deadline if exchange.begun else begin_by
            if time.monotonic() >= limit:
                self._late(exchange)
            if _drain(channel, exchange):
                continue
            if _over(channel):
                self._ended(channel, exchange)
            if len(exchange.unsent):
                _send(channel, exchange)
            elif exchange.all_sent and not closed_input:
                channel.shutdown_write()
                closed_input = True
            else:
                _wait(channel, limit)

    def _ended(self, channel: paramiko.Channel, exchange: Exchange) -> None:
        if exchange.may_have_run:
            raise self.overdue(exchange, "was cut off: its end was not seen")
        if not channel.eof_received:
            raise paramiko.SSHException("it was cut")
        raise shell_ended(self.where, exchange)

    def _late(self, exchange: Exchange) -> None:
        if exchange.may_have_run:
            raise self.overdue(exchange, "had not ended in time")
        raise paramiko.SSHException(exchange.silence)

    def _connected(self, deadline: float) -> _Link:
        link = self._link
        if link is not None and link.alive:
            return link
        with self.opening(deadline) as seconds:
            if self._link is None or not self._link.alive:
                self._link = self._open(time.monotonic() + seconds)
            return self._link

    def _drop(self, link: _Link) -> None:
        if self._link is link:
            self._link = None
        link.retire()

    def _open(self, deadline: float) -> _Link:
        """Hop by hop; raises NoConnection."""
        through: list[paramiko.Transport] = []
        try:
            for hop in self._hops():
                through.append(self._hop(hop, through, deadline))
        except _CannotOpen as error:
            _close(through)
            raise NoConnection(f"{self.where}: {error}") from error
        except Exception as error:  # as in converse
            _close(through)
            raise NoConnection(f"{self.where}: {ssh_words.unreachable(error)}") from error
        through[-1].set_keepalive(self.settings.keepalive_seconds)
        return _Link(tuple(through))

    def _hops(self) -> Iterator[ssh_words.Hop]:
        own = self.settings
        user = own.user or getpass.getuser()
        yield from (ssh_words.parse_hop(hop, user) for hop in own.proxy_jump)
        yield ssh_words.Hop(user, own.host, own.port or _SSH_PORT)

    def _hop(self, hop: ssh_words.Hop, through: Sequence[paramiko.Transport], deadline: float) -> paramiko.Transport:
        transport = paramiko.Transport(_socket(hop, through, deadline))
        try:
            self._greet(transport, hop, deadline)
            self._log_in(transport, hop, deadline)
        except BaseException:
            transport.close()
            raise
        return transport

    def _greet(self, transport: paramiko.Transport, hop: ssh_words.Hop, deadline: float) -> None:
        """Agree on keys, and see that it is the host."""
        known = KnownHosts.read(self._known_hosts())
        _prefer(transport, known.kinds(hop.host, hop.port))
        transport.banner_timeout = transport.handshake_timeout = _left(deadline)
        transport.start_client(timeout=_left(deadline))
        if not transport.is_active() or not transport.initial_kex_done:
            raise _CannotOpen("the login node did not answer in time")
        key = transport.get_remote_server_key()
        verdict = known.judge(hop.host, hop.port, key.asbytes())
        if verdict is Verdict.UNKNOWN and self.settings.host_key_policy == "accept-new":
            self._accept(hop, key)
        elif verdict is not Verdict.TRUSTED:
            raise _CannotOpen(ssh_words.of_host_key(verdict, hop, key.get_name(), key.fingerprint))

    def _known_hosts(self) -> Sequence[Path]:
        return self.settings.known_hosts or (Path("~/.ssh/known_hosts").expanduser(), _SYSTEM_KNOWN_HOSTS)

    def _accept(self, hop: ssh_words.Hop, key: paramiko.PKey) -> None:
        file = self._known_hosts()[0]
        try:
            known_hosts.note(file, hop.host, hop.port, key.get_name(), key.asbytes())
        except OSError as error:
            raise _CannotOpen(f"the host key could not be noted in {file}: {error.strerror}") from error
        log.warning("%s: a new host key is trusted from now on: %s", hop, key.fingerprint)

    def _log_in(self, transport: paramiko.Transport, hop: ssh_words.Hop, deadline: float) -> None:
        problems: list[str] = []
        offered = 0
        with contextlib.closing(_Agent(self.settings.agent)) as agent:
            for key in (*self._keys(problems), *agent.keys):
                offered += 1
                transport.auth_timeout = _left(deadline)
                try:
                    left = transport.auth_publickey(hop.user, key)
                except paramiko.AuthenticationException:
                    if not transport.is_active():
                        break  # so many keys were too many
                    continue
                if not left:
                    return
                problems.append(f"after a key it asks for {' or '.join(left)}: that is for ssh_openssh")
        raise _CannotOpen(ssh_words.not_let_in(hop, offered, problems))

    def _keys(self, problems: list[str]) -> Iterator[paramiko.PKey]:
        """The private keys of files, each with its certificate before it is offered alone."""
        for file in self.settings.identity_files or _home_keys():
            try:
                key = _load(file)
                yield from (_certified(file, certificate) for certificate in self._certificates(file, key))
                yield key
            except _CannotOpen as error:
                problems.append(str(error))

    def _certificates(self, file: Path, key: paramiko.PKey) -> Iterator[Path]:
        """The certificates that are this key's: they contain its public half, without the name of its kind."""
        public = key.asbytes()[4 + len(key.get_name()) :]
        for path in (file.with_name(f"{file.name}-cert.pub"), *self.settings.certificate_files):
            with contextlib.suppress(OSError, IndexError, ValueError):
                if public in base64.b64decode(path.read_text().split()[1]):
                    yield path


class _Agent:
    """The keys of an agent, while they are offered."""

    def __init__(self, wanted: bool) -> None:
        self._agent: Any = None
        self.keys: Sequence[paramiko.PKey] = ()
        if wanted and (address := os.environ.get("SSH_AUTH_SOCK")):
            try:
                self._ask(address)
            except (paramiko.SSHException, OSError) as error:
                log.warning("the ssh-agent is of no use: %s", error)

    def _ask(self, address: str) -> None:
        """As the library does, but not for ever."""
        with contextlib.ExitStack() as on_failure:
            connection = on_failure.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(_AGENT_SECONDS)
            connection.connect(address)
            self._agent = AgentSSH()
            self._agent._connect(connection)
            connection.settimeout(None)  # to sign, it may ask a person
            self.keys = self._agent.get_keys()
            on_failure.pop_all()

    def close(self) -> None:
        if self._agent is not None:
            self._agent._close()


def _home_keys() -> Iterator[Path]:
    return (path for name in _HOME_KEYS if (path := Path("~/.ssh", name).expanduser()).exists())


def _load(file: Path) -> paramiko.PKey:
    """A private key; raises _CannotOpen with what is wrong with the file."""
    try:
        if file.stat().st_mode & 0o077:
            raise _CannotOpen(f"the key {file} can be read by others: chmod 600 {file}")
        key = paramiko.PKey.from_path(file)
        key.public_blob = None  # a certificate beside it is offered on its own
        return key
    except OSError as error:
        raise _CannotOpen(f"the key {file} cannot be read: {error.strerror}") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise _CannotOpen(f"the key {file} has a passphrase: load it into an ssh-agent") from error
    except (paramiko.SSHException, ValueError, UnsupportedAlgorithm) as error:
        raise _CannotOpen(f"{file} is no private key: {error}") from error


def _certified(file: Path, certificate: Path) -> paramiko.PKey:
    key = paramiko.PKey.from_path(file)
    key.load_certificate(str(certificate))
    return key


def _socket(hop: ssh_words.Hop, through: Sequence[paramiko.Transport], deadline: float) -> Any:
    if through:
        # The host before opens it; where we come from is for its log.
        return through[-1].open_channel("direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=_left(deadline))
    made = socket.create_connection((hop.host, hop.port), timeout=_left(deadline))
    # Commands are small messages that wait for each other.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def _prefer(transport: paramiko.Transport, kinds: Sequence[str]) -> None:
    """Ask the host for a key of a kind that is known, if it has one: any other would look like a change."""
    options = transport.get_security_options()
    wanted = {"rsa-sha2-512", "rsa-sha2-256"} if "ssh-rsa" in kinds else set()
    options.key_types = sorted(options.key_types, key=lambda kind: kind not in wanted | set(kinds))


def _session(transport: paramiko.Transport, deadline: float) -> paramiko.Channel:
    try:
        return transport.open_session(timeout=_left(deadline))
    except paramiko.ChannelException as error:
        if error.code in _REFUSALS:
            raise NoSession(str(error)) from error
        raise


def _drain(channel: paramiko.Channel, exchange: Exchange) -> bool:
    """Take what has come on both streams; whether anything has."""
    came = False
    if channel.recv_stderr_ready():
        exchange.took_err(channel.recv_stderr(_CHUNK))
        came = True
    if channel.recv_ready():
        exchange.took_out(channel.recv(_CHUNK))
        came = True
    return came


def _over(channel: paramiko.Channel) -> bool:
    """Nothing will come any more. Asked first, then looked: what came before is still there."""
    over = bool(channel.closed or channel.eof_received)
    return over and not channel.recv_ready() and not channel.recv_stderr_ready()


def _send(channel: paramiko.Channel, exchange: Exchange) -> None:
    exchange.sending()
    try:
        exchange.sent(channel.send(bytes(exchange.unsent[:_CHUNK])))
    except TimeoutError:
        return
    except OSError:
        if not channel.closed:  # else the command has ended meanwhile, and what it said is still to be read
            raise


def _wait(channel: paramiko.Channel, deadline: float) -> None:
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    waiting.poll(1000 * _left(deadline))


@contextlib.contextmanager
def _watchdog(deadline: float, alarm: Callable[[], object]) -> Iterator[None]:
    """Sound the alarm some time after the deadline, and then again and again, until the block ends."""
    over = threading.Event()

    def watch() -> None:
        pause = _left(deadline) + _WATCHDOG_SECONDS
        while not over.wait(pause):
            alarm()
            pause = _WATCHDOG_SECONDS

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _close(through: Sequence[paramiko.Transport]) -> None:
    for transport in reversed(through):
        transport.close()


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
