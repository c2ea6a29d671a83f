"""What is wrong with an SSH connection, in sentences that say what to do: the same for both transports."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wps_hpc.clusters.transports.known_hosts import Verdict

_SSH_PORT = 22
_HOP = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<literal>[^\]]+)\]|(?P<host>[^:]+))(?::(?P<port>\d+))?")

UNKNOWN_KEY = "the host key is not known: have it from its administrators and add it to ssh.known_hosts"
CHANGED_KEY = "the host key is not the one that is known: the host was installed anew, or somebody stands between"
REVOKED_KEY = "the host key has been revoked"
NOT_LET_IN = "none of the keys is accepted"
OPEN_TO_OTHERS = "can be read by others"
NO_SUCH_HOST = "there is no host of that name"
REFUSED = "nothing listens there (connection refused)"
NOT_BEHIND = "the host to go through (ssh.proxy_jump) cannot reach it"
NO_ANSWER = "the login node did not answer in time"

_KEYS: Mapping[Verdict, str] = {
    Verdict.UNKNOWN: UNKNOWN_KEY,
    Verdict.CHANGED: CHANGED_KEY,
    Verdict.REVOKED: REVOKED_KEY,
}
#: What the system's ssh says, by the first that is found.
_SAID: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"marked as revoked", REVOKED_KEY),
        (r"HOST IDENTIFICATION HAS CHANGED", CHANGED_KEY),
        (r"host key is known for|Host key verification failed", UNKNOWN_KEY),
        (r"UNPROTECTED PRIVATE KEY FILE|bad permissions", f"a key {OPEN_TO_OTHERS}: chmod 600 it"),
        (r"Permission denied|Too many authentication failures", NOT_LET_IN),
        (r"Could not resolve hostname", NO_SUCH_HOST),
        (r"stdio forwarding failed", NOT_BEHIND),
        (r"Connection refused", REFUSED),
        (r"timed out|timeout", NO_ANSWER),
    )
)


@dataclass(frozen=True)
class Hop:
    """A host to log in to."""

    user: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != _SSH_PORT else "")


def parse_hop(text: str, user: str) -> Hop:
    """``[user@]host[:port]``; ``user`` where none is named."""
    found = _HOP.fullmatch(text)
    assert found is not None, "the configuration has seen to it"
    return Hop(found["user"] or user, found["literal"] or found["host"], int(found["port"] or _SSH_PORT))


def of_host_key(verdict: Verdict, hop: Hop, kind: str, fingerprint: str) -> str:
    """Why a host's key is not trusted."""
    return f"{_KEYS[verdict]} ({hop.host} showed {kind} {fingerprint})"


def not_let_in(hop: Hop, offered: int, problems: Sequence[str]) -> str:
    """Why nobody was let in."""
    told = f"; {'; '.join(problems)}" if problems else ""
    if not offered:
        return f"there is no key to offer: set ssh.identity_files, or load one into an ssh-agent{told}"
    return f"{NOT_LET_IN} for {hop} ({offered} offered){told}"


def unreachable(error: BaseException) -> str:
    """Why there is no connection, by the error of a socket or of paramiko."""
    if isinstance(error, socket.gaierror):
        return NO_SUCH_HOST
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    if "Connect failed" in str(error) or "Administratively prohibited" in str(error):
        return NOT_BEHIND
    if isinstance(error, TimeoutError) or "Timeout" in str(error) or "banner" in str(error):
        return NO_ANSWER
    return str(error) or type(error).__name__


def of_openssh(said: str) -> str:
    """What the system's ssh said when it did not get in, and what that means."""
    text = " ".join(said.split())
    words = next((words for pattern, words in _SAID if pattern.search(said)), "")
    if not words:
        return text[-500:] or "ssh gave no reason"
    return f"{words} (ssh: {text[-300:]})" if text else words
