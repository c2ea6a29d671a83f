"""Files of host keys, as sshd(8) describes them."""

import base64
import hashlib
import hmac
import logging
from pathlib import Path

import pytest

from wps_hpc.clusters.transports.known_hosts import KnownHosts, Verdict, host_name, note

KEY, OTHER = b"the key", b"another key"


def line(hosts: str, key: bytes = KEY, kind: str = "ssh-ed25519") -> str:
    """A line of such a file."""
    return f"{hosts} {kind} {base64.b64encode(key).decode()} a comment"


def hashed(name: str, salt: bytes = b"salt") -> str:
    """A host as ssh-keygen -H writes it."""
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def known(folder: Path, *lines: str) -> KnownHosts:
    """What a file with these lines says."""
    (folder / "known_hosts").write_text("".join(f"{each}\n" for each in lines))
    return KnownHosts.read([folder / "none", folder / "known_hosts"])


@pytest.mark.parametrize(
    ("hosts", "host", "port", "means"),
    [
        ("login", "login", 22, True),
        ("login", "LOGIN", 22, True),
        ("Login,10.0.0.1", "10.0.0.1", 22, True),
        ("login", "login", 2222, False),
        ("[login]:2222", "login", 2222, True),
        ("[login]:2222", "login", 22, False),
        ("*.example.org", "a.example.org", 22, True),
        ("login?", "login1", 22, True),
        ("[*.example.org]:2222", "a.example.org", 2222, True),
        ("*.example.org,!bad.example.org", "bad.example.org", 22, False),
        ("!bad,*", "good", 22, True),
        (hashed("login"), "login", 22, True),
        (hashed("[login]:2222"), "login", 2222, True),
        (hashed("login"), "other", 22, False),
        ("|1|nonsense", "login", 22, False),
        ("|1|a|b", "login", 22, False),
    ],
)
def test_which_host_a_line_means(tmp_path: Path, hosts: str, host: str, port: int, means: bool) -> None:
    verdict = known(tmp_path, line(hosts)).judge(host, port, KEY)
    assert verdict is (Verdict.TRUSTED if means else Verdict.UNKNOWN)


def test_a_host_may_have_several_keys(tmp_path: Path) -> None:
    both = known(tmp_path, line("login", OTHER), line("login"), line("login", b"rsa", "ssh-rsa"))
    assert both.judge("login", 22, KEY) is both.judge("login", 22, OTHER) is Verdict.TRUSTED
    assert both.judge("login", 22, b"a third") is Verdict.CHANGED
    assert both.kinds("login", 22) == ("ssh-ed25519", "ssh-rsa")
    assert both.kinds("other", 22) == ()


def test_a_revoked_key_is_never_trusted(tmp_path: Path) -> None:
    lines = known(tmp_path, line("login"), f"@revoked {line('*')}", line("login", OTHER))
    assert lines.judge("login", 22, KEY) is Verdict.REVOKED
    assert lines.judge("login", 22, OTHER) is Verdict.TRUSTED


@pytest.mark.parametrize(
    "bad",
    [
        f"@cert-authority {line('*')}",
        "@cert-authority",
        "login ssh-ed25519",
        "login ssh-ed25519 !!!",
        "login ssh-ed25519 schlüssel",
        "@odd " + line("*"),
    ],
)
def test_a_line_that_cannot_be_used_concerns_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    with caplog.at_level(logging.WARNING):
        lines = known(tmp_path, "# comment", "", bad, line("login"))
    assert lines.judge("login", 22, KEY) is Verdict.TRUSTED
    assert lines.judge("other", 22, KEY) is Verdict.UNKNOWN
    assert "line 3: not used" in caplog.text


def test_a_noted_key_is_known(tmp_path: Path) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    for port in (22, 2222):
        note(file, "Login", port, "ssh-ed25519", KEY)
        assert KnownHosts.read([file]).judge("login", port, KEY) is Verdict.TRUSTED
    assert file.stat().st_mode & 0o777 == 0o600
    assert host_name("Login", 2222) == "[login]:2222"


def test_a_key_is_noted_on_a_line_of_its_own(tmp_path: Path) -> None:
    """An editor may have left the last line without an end."""
    (tmp_path / "known_hosts").write_text(f"login ssh-ed25519 {base64.b64encode(KEY).decode()}")
    note(tmp_path / "known_hosts", "other", 22, "ssh-ed25519", OTHER)
    both = KnownHosts.read([tmp_path / "known_hosts"])
    assert both.judge("login", 22, KEY) is both.judge("other", 22, OTHER) is Verdict.TRUSTED
