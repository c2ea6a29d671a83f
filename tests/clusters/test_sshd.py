"""The login node of the tests: that it is one."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from tests.services.sshd import Sshd

pytestmark = pytest.mark.cluster


def log_in(sshd: Sshd, account: str) -> subprocess.CompletedProcess[str]:
    """Ask who one is, as an account."""
    options = {"BatchMode": "yes", "IdentitiesOnly": "yes", "UserKnownHostsFile": str(sshd.known_hosts)}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    command = [
        "ssh",
        "-F",
        "none",
        *words,
        "-i",
        str(sshd.key(account)),
        "-p",
        str(sshd.port),
        f"{account}@{sshd.host}",
    ]
    return subprocess.run([*command, "id -un"], capture_output=True, text=True, timeout=60, check=False)


def test_accounts_log_in_with_their_keys(sshd: Sshd, people: Sequence[str]) -> None:
    for account in people:
        done = log_in(sshd, account)
        assert done.stdout == f"{account}\n", done.stderr
