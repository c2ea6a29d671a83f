"""Commands over the system's ssh: one connection (ControlMaster), and a small process for each command on it.

Whatever ssh can do can be done here: Kerberos, host certificates, jump hosts, its own configuration; and with
``ssh.control_path`` a connection that a person has opened, with a second factor.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wps_hpc import config
from wps_hpc.clusters.environment import clean_environment
from wps_hpc.clusters.transports import known_hosts, ssh_words
from wps_hpc.clusters.transports.remote import Exchange
from wps_hpc.clusters.transports.ssh import NoConnection, NoSession, NotBegun, SshTransport, shell_ended

#: What ssh needs besides the variables that every command gets.
_PASSED_ON = ("SSH_AUTH_SOCK", "KRB5CCNAME", "KRB5_CONFIG")
#: A connection that nobody uses closes after so long, also when its server was killed. Seconds.
_IDLE_SECONDS = 300
#: A host that gives no sign of life so many times is gone.
_SIGNS_MISSED = 2
#: A socket's path may have 107 characters, of which ssh takes 17 for a name of its own at first.
_LONGEST_FOLDER = 80
_CHUNK = 1 << 16
#: The exit code of ssh's own failures.
_FAILED = 255
_NO_SESSION = re.compile(rb"Session open refused|open failed: (?:administratively|connect failed|resource)")
_QUOTED = {'"': '\\"', "\\": "\\\\", "%": "%%"}


class OpenSshTransport(SshTransport):
    """See the module."""

    def __init__(self, settings: config.Ssh) -> None:
        super().__init__(settings)
        self._folder: Path | None = None
        self._generation = 0
        self._current: Path | None = settings.control_path
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections that this transport opened; commands under way are cut off."""
        folder, self._current = self._folder, self.settings.control_path
        if folder is None:
            return
        for control in folder.glob("*.sock"):
            self._tell(control, "exit")
        self._folder = None
        shutil.rmtree(folder, ignore_errors=True)

    def converse(self, exchange: Exchange, deadline: float) -> None:
        """See ``SshTransport.converse``."""
        control = self._connected(deadline)
        # Where there is no connection any more, ssh would open one of its own.
        words = ("-o", "ControlMaster=no", "-o", "ProxyCommand=false", "-S", str(control))
        process = self._ssh(*words, self.settings.host, exchange.line)
        try:
            self._carry(process, exchange, self.begin_by(deadline), deadline)
        except NotBegun:
            self._drop(control)
            raise
        finally:
            _end(process)

    def _ssh(self, *words: str) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self._argv(*words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise NoConnection(f"ssh cannot be started: {error.strerror}") from error

    def _argv(self, *words: str) -> Sequence[str]:
        own = self.settings
        user = ("-l", own.user) if own.user else ()
        port = ("-p", str(own.port)) if own.port else ()
        return ("ssh", "-F", str(self._configured()), "-T", *user, *port, *words)

    def _carry(self, process: subprocess.Popen[bytes], exchange: Exchange, begin_by: float, deadline: float) -> None:
        with _Streams(process, exchange) as streams:
            while not exchange.done:
                limit = deadline if exchange.begun else begin_by
                if time.monotonic() >= limit:
                    self._late(exchange)
                if not streams.move(limit):
                    self._ended(process, exchange)

    def _late(self, exchange: Exchange) -> None:
        if exchange.may_have_run:
            raise self.overdue(exchange, "had not ended in time")
        raise NotBegun(exchange.silence)

    def _ended(self, process: subprocess.Popen[bytes], exchange: Exchange) -> None:
        """Both streams are over, and the end was not seen."""
        if exchange.may_have_run:
            raise self.overdue(exchange, "was cut off: its end was not seen")
        if process.wait() != _FAILED:
            raise shell_ended(self.where, exchange)
        said = " ".join(exchange.noise.split())
        if _NO_SESSION.search(said.encode()):
            raise NoSession(said)
        if self.settings.control_path is not None:
            text = f"nobody has opened a connection at ssh.control_path {self.settings.control_path}"
            raise NoConnection(f"{self.where}: {text} ({said})")
        raise NotBegun(f"the connection was lost ({said})")

    def _connected(self, deadline: float) -> Path:
        """The socket of a connection that is open, as far as can be seen."""
        current = self._current
        if current is not None and (current.exists() or current == self.settings.control_path):
            return current
        with self.opening(deadline) as seconds:
            if self._current is None or not self._current.exists():
                self._current = self._opened_at(self._next(), seconds)
            return self._current

    def _drop(self, control: Path) -> None:
        """Commands under way keep their connection; it closes by itself."""
        if self._current == control and control != self.settings.control_path:
            self._current = None

    def _next(self) -> Path:
        self._generation += 1
        return self._own_folder() / f"{self._generation}.sock"

    def _opened_at(self, control: Path, seconds: float) -> Path:
        """Open a connection in the background; raises NoConnection."""
        self._can_note()
        words = ("-M", "-N", "-f", "-S", str(control), "-o", f"ControlPersist={_IDLE_SECONDS}")
        deadline = time.monotonic() + seconds
        code, said = self._tried_to_open(words, seconds)
        if code != 0 and self.settings.proxy_jump:
            # What a host on the way said is not passed on by a connection that is to stay.
            _, said = self._tried_to_open(("-N", "-S", "none"), max(0.1, deadline - time.monotonic()))
        if code != 0:
            raise NoConnection(f"{self.where}: {ssh_words.of_openssh(said)}{self._unusable(said)}")
        return control

    def _can_note(self) -> None:
        """ssh goes on where it cannot note a new key, and so would trust any key, each time; raises NoConnection."""
        if self.settings.host_key_policy != "accept-new":
            return
        file = self.settings.known_hosts[0] if self.settings.known_hosts else Path("~/.ssh/known_hosts").expanduser()
        try:
            os.close(known_hosts.opened(file))
        except OSError as error:
            text = f"the host key could not be noted in {file}: {error.strerror}"
            raise NoConnection(f"{self.where}: {text}") from error

    def _tried_to_open(self, words: Sequence[str], seconds: float) -> tuple[int, str]:
        """ssh's exit code, once it has one or is in the background, and what it said."""
        jump = ("-J", ",".join(self.settings.proxy_jump)) if self.settings.proxy_jump else ()
        # What stays in the background keeps the stream, so it is a file.
        with tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(
                    self._argv(*words, *jump, self.settings.host),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    env=_environment(),
                    start_new_session=True,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise NoConnection(f"{self.where}: {ssh_words.NO_ANSWER}") from error
            except OSError as error:
                raise NoConnection(f"ssh cannot be started: {error.strerror}") from error
            said.seek(0)
            return done.returncode, said.read().decode(errors="replace")

    def _unusable(self, said: str) -> str:
        """Keys that ssh has passed over in silence, where it was not let in."""
        if ssh_words.NOT_LET_IN not in ssh_words.of_openssh(said):
            return ""
        return "".join(f"; {text}" for path in self.settings.identity_files if (text := _key_problem(path)))

    def _tell(self, control: Path, order: str) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                self._argv("-S", str(control), "-O", order, self.settings.host),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=_environment(),
                timeout=self.settings.connect_seconds,
                check=False,
            )

    def _own_folder(self) -> Path:
        with self._lock:
            # What cleans a temporary folder may have taken it.
            if self._folder is None or not self._folder.is_dir():
                above = tempfile.gettempdir()
                above = above if len(above) < _LONGEST_FOLDER - 20 else "/tmp"
                self._folder = Path(tempfile.mkdtemp(prefix="wps-hpc-ssh-", dir=above))
            return self._folder

    def _configured(self) -> Path:
        """ssh's configuration: as a file, since hosts to go through read that and not the command line."""
        path = self._own_folder() / "config"
        if not path.exists():
            draft = path.with_name(f"config.{threading.get_ident()}")
            draft.write_text("".join(f"{line}\n" for line in configuration(self.settings)))
            draft.replace(path)
        return path


def configuration(own: config.Ssh) -> Iterator[str]:
    """The lines of ssh_config(5) for a connection; of several values for one option, ssh takes the first."""
    yield from ("BatchMode yes", "LogLevel ERROR", "ForwardAgent no", "ForwardX11 no", "PermitLocalCommand no")
    yield from ("ClearAllForwardings yes", "EscapeChar none", "RequestTTY no", "RemoteCommand none")
    yield f"StrictHostKeyChecking {'yes' if own.host_key_policy == 'reject' else 'accept-new'}"
    yield f"ServerAliveInterval {own.keepalive_seconds}"
    yield f"ServerAliveCountMax {_SIGNS_MISSED}"
    yield f"ConnectTimeout {max(1, round(own.connect_seconds))}"
    if own.known_hosts:
        yield f"UserKnownHostsFile {' '.join(map(_quoted, own.known_hosts))}"
        yield "GlobalKnownHostsFile none"
        yield "UpdateHostKeys no"
    if not own.agent:
        yield "IdentityAgent none"
    yield from (f"IdentityFile {_quoted(path)}" for path in own.identity_files)
    yield from (f"CertificateFile {_quoted(path)}" for path in own.certificate_files)
    yield f"Include {_quoted(own.config) if own.config else '~/.ssh/config'}"
    if not own.config:
        yield "Include /etc/ssh/ssh_config"


class _Streams:
    """The three pipes of an ssh process, none of which ever waits for another."""

    def __init__(self, process: subprocess.Popen[bytes], exchange: Exchange) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._stdin, self._exchange = process.stdin, exchange
        self._waiting = selectors.DefaultSelector()
        self._writing = False
        os.set_blocking(self._stdin.fileno(), False)
        self._waiting.register(process.stdout, selectors.EVENT_READ, exchange.took_out)
        self._waiting.register(process.stderr, selectors.EVENT_READ, exchange.took_err)
        self._reading = 2

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.close()

    def move(self, deadline: float) -> bool:
        """Wait until something can be read or written, and do so; False once both streams are over."""
        self._offer()
        for key, _ in self._waiting.select(max(0.0, deadline - time.monotonic())):
            if key.data is None:
                self._write()
            elif part := os.read(key.fd, _CHUNK):
                key.data(part)
            else:
                self._waiting.unregister(key.fileobj)
                self._reading -= 1
        return self._reading > 0

    def _offer(self) -> None:
        wanted = len(self._exchange.unsent) > 0
        if wanted and not self._writing:
            self._waiting.register(self._stdin, selectors.EVENT_WRITE, None)
        elif not wanted and self._writing:
            self._waiting.unregister(self._stdin)
        self._writing = wanted
        if self._exchange.all_sent and not self._stdin.closed:
            self._stdin.close()

    def _write(self) -> None:
        self._exchange.sending()
        try:
            self._exchange.sent(os.write(self._stdin.fileno(), self._exchange.unsent[:_CHUNK]))
        except BlockingIOError:
            return
        except BrokenPipeError:  # the process has ended: what it said tells why
            self._exchange.sent(len(self._exchange.unsent))


def _key_problem(path: Path) -> str:
    """Why ssh, which asks nobody for a passphrase, cannot use a key; empty where it can."""
    if not path.exists():
        return f"the key {path} is not there"
    words = ("ssh-keygen", "-y", "-P", "", "-f", str(path))
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
        if b"incorrect passphrase" in done.stderr:
            return f"the key {path} has a passphrase: load it into an ssh-agent"
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):  # what was not sent any more
                stream.close()


def _environment() -> dict[str, str]:
    return clean_environment({name: os.environ[name] for name in _PASSED_ON if name in os.environ})


def _quoted(path: Path) -> str:
    """A path as a value of ssh_config(5), which knows quotes and has placeholders."""
    return '"' + "".join(_QUOTED.get(letter, letter) for letter in str(path)) + '"'
