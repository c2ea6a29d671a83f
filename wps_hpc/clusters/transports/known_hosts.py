"""Host keys that are trusted: files as ``known_hosts`` in sshd(8) describes them, read line by line.

A line that cannot be used (a certificate authority's, a broken one) concerns nobody but itself. A host may have several
keys of one kind; any of them will do, unless it is revoked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

log = logging.getLogger(__name__)

_SSH_PORT = 22
_REVOKED = "@revoked"


class Verdict(StrEnum):
    """What the files say of a host's key."""

    TRUSTED = "trusted"
    #: Nothing is known of the host.
    UNKNOWN = "unknown"
    #: Another key is known: the host has changed, or somebody stands between.
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class _Line:
    """One line of a file that can be used; ``key`` is the blob that also goes over the wire."""

    hosts: str
    kind: str
    key: bytes
    revoked: bool


@dataclass(frozen=True)
class KnownHosts:
    """The keys of the files that are there."""

    lines: Sequence[_Line]

    @classmethod
    def read(cls, files: Iterable[Path]) -> KnownHosts:
        """All that can be used in these files; what cannot be is logged. A file that is missing has nothing."""
        return cls([line for file in files for line in _lines(file)])

    def kinds(self, host: str, port: int) -> tuple[str, ...]:
        """The kinds of keys (``ssh-ed25519``) that are known of a host: it is asked for one of these."""
        return tuple(dict.fromkeys(line.kind for line in self._of(host, port) if not line.revoked))

    def judge(self, host: str, port: int, key: bytes) -> Verdict:
        """Whether a key that a host has shown is one of its own; revoked goes before known."""
        known = list(self._of(host, port))
        if any(line.revoked and line.key == key for line in known):
            return Verdict.REVOKED
        trusted = [line.key for line in known if not line.revoked]
        if key in trusted:
            return Verdict.TRUSTED
        return Verdict.CHANGED if trusted else Verdict.UNKNOWN

    def _of(self, host: str, port: int) -> Iterator[_Line]:
        name = host_name(host, port)
        return (line for line in self.lines if _matches(line.hosts, name))


def host_name(host: str, port: int) -> str:
    """How a host stands in such a file."""
    return host.lower() if port == _SSH_PORT else f"[{host.lower()}]:{port}"


def note(file: Path, host: str, port: int, kind: str, key: bytes) -> None:
    """Add a host's key to a file; raises OSError."""
    line = f"{host_name(host, port)} {kind} {base64.b64encode(key).decode()}\n"
    with os.fdopen(opened(file), "ab") as stream:
        stream.write(b"" if _whole(file) else b"\n")
        stream.write(line.encode())


def opened(file: Path) -> int:
    """A descriptor to add to a file, which is made where it is missing; raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _whole(file: Path) -> bool:
    """Whether the last line has an end: what is added would make both unreadable, and any key be accepted again."""
    text = file.read_bytes()
    return not text or text.endswith(b"\n")


def _lines(file: Path) -> Iterator[_Line]:
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s: %s", file, error.strerror)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if (read := _line(line)) is not None:
            yield read
        else:
            log.warning("%s, line %d: not used: no host key that this transport can read", file, number)


def _line(text: str) -> _Line | None:
    """One line, or None where it is no host's key: authorities are for ssh_openssh."""
    words = text.split()
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", _REVOKED) or len(words) < 3:
        return None
    try:
        return _Line(words[0], words[1], base64.b64decode(words[2], validate=True), marker == _REVOKED)
    except ValueError:  # no Base64, or not even ASCII
        return None


def _matches(hosts: str, name: str) -> bool:
    """Whether a comma-separated list of patterns, of which ``!`` excludes, or a hashed name means a host."""
    if hosts.startswith("|1|"):
        return _hashed(hosts, name)
    patterns = hosts.lower().split(",")
    if any(pattern.startswith("!") and _fits(name, pattern[1:]) for pattern in patterns):
        return False
    return any(_fits(name, pattern) for pattern in patterns)


def _fits(name: str, pattern: str) -> bool:
    """As ssh has it: only ``*`` and ``?`` are special, not the brackets of a port."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _hashed(hosts: str, name: str) -> bool:
    try:
        _, _, salt, digest = hosts.split("|")
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    except (ValueError, binascii.Error):
        return False
