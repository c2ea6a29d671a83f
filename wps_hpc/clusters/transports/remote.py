"""What a login node's shell is told to run one command, and how its two streams are read. Knows no SSH library.

SSH runs one string by whatever shell the account has. Ours starts ``/bin/sh`` with every word quoted. That says, on
both streams, a random word; what login files have printed before it is noise and cut off. Then it waits for the same
word on its standard input. Only when that has been sent may the command have run: before, whatever goes wrong is
harmless and is done again. At the end it says another word and the exit code, on both streams: without these the end
was not seen.

A word that was sent may lie on the way for minutes: a frozen host, a line that was cut and retried. By then the server
has looked for the command's effect, found none, and given it to somebody else. So the word says how many seconds it is
good for, and the shell there compares them with its own clock since it began.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from wps_hpc.clusters.transports.base import Command, Completed, NoSuchProgram, TransportError

#: What commands get of the login node's own environment: account and paths, and what tells a batch system's commands
#: where it is. The rest (SQUEUE_FORMAT, SBATCH_PARTITION) would change what they do.
PASSED_ON_THERE = (
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ", "KRB5CCNAME"),
    *("SLURM_CONF", "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT"),
    *("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_SERVER", "TORQUE_HOME"),
)
_ENVIRONMENT = " ".join(f'${{{name}+"{name}=${name}"}}' for name in PASSED_ON_THERE)
_CLEAN = f'exec env -i LANG=C.UTF-8 {_ENVIRONMENT} "$@"'
#: A closed connection ends no command there, so ``timeout`` does, in whole seconds (busybox has no others). Its killing
#: is not told as an exit code: nobody said what became of the command. A shell tells a death by signal N as 128 + N.
_RUN = (
    'begin=$1; end=$2; shift 2; program=$(command -v "$1"); found=no; '
    'case $program in "") ;; */*) [ -f "$program" ] && [ -x "$program" ] && found=yes ;; *) found=yes ;; esac; '
    'clock() { if [ -r /proc/uptime ]; then IFS=" ." read -r now rest </proc/uptime; else now=$(date +%s); fi; }; '
    "clock; began=$now; "
    'printf "%s %s\\n" "$begin" "$found"; printf "%s\\n" "$begin" >&2; [ $found = yes ] || exit 127; '
    'IFS=" " read -r go seconds; [ "$go" = "$begin" ] || exit 1; '
    'clock; began=$((now - began)); seconds=$((seconds - began)); [ "$seconds" -gt 0 ] || exit 1; began=$now; '
    'if command -v timeout >/dev/null; then timeout -s KILL "$seconds" "$@"; else "$@"; fi; code=$?; '
    '[ $code -ne 137 ] || { clock; [ $((now - began)) -lt "$seconds" ] || exit 1; }; '
    'printf "\\n%s %s\\n" "$end" "$code"; printf "\\n%s %s\\n" "$end" "$code" >&2'
)
#: The login shell in place of this one. Those of csh's kin take no command together with ``-l``.
_LOGIN = (
    'case $SHELL in *csh) exec "$SHELL" -c "if (-r /etc/csh.login) source /etc/csh.login; '
    'if (-r ~/.login) source ~/.login; $1" ;; *) exec "$SHELL" -l -c "$1" ;; esac'
)
#: Only these are taken for signals (HUP to TERM): TORQUE's commands have exit codes from 152 on.
_SIGNALS = range(129, 144)
#: So much longer than its deadline here a command may run there, in seconds: the deadline comes first.
_LATER = 1.0
#: No shell reads anything into these.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./:,+-][A-Za-z0-9_./:,+@%=-]*")
#: How these stand in a word in single quotes.
_APART = {"'": "'\"'\"'", "!": "'\\!'", "\\": "'\\\\'"}
#: So many bytes of noise are kept, to be told of.
_NOISE_BYTES = 2000
#: More than any login file prints, and more than any scheduler's command: a stream that brings more is let go.
_MOST_NOISE, _MOST_OUTPUT = 1 << 20, 64 << 20


@dataclass(frozen=True)
class Output:
    """As ``Completed``, in bytes."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def completed(self) -> Completed:
        """As text; what is no text is replaced."""
        return Completed(self.exit_code, self.stdout.decode(errors="replace"), self.stderr.decode(errors="replace"))


@dataclass
class _Stream:
    """One stream of a command: noise, the word that begins, what the command says, the word that ends."""

    begin: bytes
    end: bytes
    content: bytearray = field(default_factory=bytearray)
    noise: bytes = b""
    first: bytes | None = None
    exit_code: int | None = None

    def took(self, data: bytes) -> None:
        """Raises _TooMuch."""
        seen = max(0, len(self.content) - len(self.begin) - 8)
        self.content += data
        if self.first is None and (found := re.compile(rb"%s(?: (yes|no))?\n" % self.begin).search(self.content, seen)):
            self.first = found[1] or b""
            self.noise = bytes(self.content[: found.start()])
            del self.content[: found.end()]
            seen = 0
        if self.first is not None and self.exit_code is None:
            self._end(seen)
        if len(self.content) > (_MOST_NOISE if self.first is None else _MOST_OUTPUT):
            raise _TooMuch

    def _end(self, seen: int) -> None:
        if found := re.compile(rb"\n%s (\d{1,3})\n" % self.end).search(self.content, seen):
            self.exit_code = int(found[1])
            del self.content[found.start() :]


class _TooMuch(Exception):
    """A stream brings more than anything that is waited for."""


class Exchange:
    """One command on its way to a login node and back; see the module."""

    def __init__(self, command: Command, seconds: float, login_shell: bool = False) -> None:
        """``seconds``: the time that the command has. Raises TransportError for one that no shell can be told."""
        self.command = command
        word = secrets.token_hex(8)
        self._begin, self._end = f"wps-hpc-begin-{word}", f"wps-hpc-end-{word}"
        self._deadline = time.monotonic() + seconds
        self.line = self._line(login_shell)
        self._out = _Stream(self._begin.encode(), self._end.encode())
        self._err = _Stream(self._begin.encode(), self._end.encode())
        self._unsent: memoryview | None = None
        self._begun_to_send = False

    def _line(self, login_shell: bool) -> str:
        environment = [f"{name}={value}" for name, value in self.command.env]
        wanted = (self._begin, self._end, *self.command.argv)
        argv = ("/bin/sh", "-c", _CLEAN, "sh", *environment, "/bin/sh", "-c", _RUN, "sh", *wanted)
        if any("\0" in word for word in argv):
            raise TransportError(f"{self.command.argv[0]!r} cannot be told to a shell", may_have_run=False)
        line = _exec(argv)
        return _exec(("/bin/sh", "-c", _LOGIN, "sh", line)) if login_shell else line

    def took_out(self, data: bytes) -> None:
        """Something came on standard output. Raises NoSuchProgram, and TransportError when it is without end."""
        self._took(self._out, data)
        if self._out.first == b"no":
            text = f"the login node has no program {self.command.argv[0]} on its PATH"
            raise NoSuchProgram(f"{text}: give it one in command_environment, or set ssh.login_shell")

    def took_err(self, data: bytes) -> None:
        """Something came on standard error. Raises TransportError when it is without end."""
        self._took(self._err, data)

    def _took(self, stream: _Stream, data: bytes) -> None:
        try:
            stream.took(data)
        except _TooMuch:
            who = self.command.argv[0] if stream.first is not None else f"what comes before {self.command.argv[0]}"
            text = f"the login node does not stop printing: {who} was given up after {len(stream.content)} bytes"
            raise TransportError(text, may_have_run=self.may_have_run) from None

    @property
    def begun(self) -> bool:
        """The shell there waits for the word to run the command, and both its streams get here."""
        return self._out.first is not None and self._err.first is not None

    @property
    def silence(self) -> str:
        """Why it has not begun, as far as can be seen."""
        if self._out.first is None:
            return "no answer"
        return "the standard error of the account's shell does not get here: does a login file redirect it?"

    @property
    def may_have_run(self) -> bool:
        """The word has been sent, or a part of it."""
        return self._begun_to_send

    @property
    def unsent(self) -> memoryview:
        """What is to be sent now: nothing before it has begun, then the word and the command's standard input."""
        if not self.begun or self.done:
            return memoryview(b"")
        if self._unsent is None:
            seconds = max(0, math.ceil(self._deadline - time.monotonic() + _LATER))
            self._unsent = memoryview(f"{self._begin} {seconds}\n".encode() + self.command.stdin)
        return self._unsent

    @property
    def all_sent(self) -> bool:
        """Nothing more will be sent: standard input can be closed."""
        return self._unsent is not None and len(self._unsent) == 0

    def sending(self) -> None:
        """What is unsent is about to be sent."""
        self._begun_to_send = True

    def sent(self, count: int) -> None:
        """So many bytes of it were."""
        self._unsent = self.unsent[count:]

    @property
    def done(self) -> bool:
        """The end was seen on both streams."""
        return self._out.exit_code is not None and self._err.exit_code is not None

    @property
    def output(self) -> Output:
        """What became of it, once it is done."""
        code = self._out.exit_code
        assert code is not None
        return Output(128 - code if code in _SIGNALS else code, bytes(self._out.content), bytes(self._err.content))

    @property
    def noise(self) -> str:
        """What was printed before it began, or instead."""
        streams = (self._out, self._err)
        said = (bytes(each.content) if each.first is None else each.noise for each in streams)
        return b"\n".join(part.strip() for part in said if part.strip())[:_NOISE_BYTES].decode(errors="replace")


def _exec(argv: Sequence[str]) -> str:
    return f"exec {' '.join(map(_quoted, argv))}"


def _quoted(word: str) -> str:
    """One word to whatever shell: zsh and csh read an unquoted word that begins with ``=`` or ``%``; csh reads an
    exclamation mark, and fish a backslash, within single quotes too."""
    if _PLAIN_WORD.fullmatch(word):
        return word
    return "'" + re.sub(r"['!\\]", lambda found: _APART[found[0]], word) + "'"
