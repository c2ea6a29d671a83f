"""What happens to an SSH connection, and what is told of it: nothing runs twice or hangs, each fault has words."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest

from tests.clusters.login import SSH, opened, proxied, settings
from tests.clusters.site import until
from tests.services.sshd import Sshd, find_program, keygen, running_sshd, sign
from wps_hpc.clusters.transports import ssh_words
from wps_hpc.clusters.transports.base import Command, TransportError
from wps_hpc.clusters.transports.remote import Exchange
from wps_hpc.clusters.transports.ssh import NoConnection, SshTransport
from wps_hpc.clusters.transports.ssh_openssh import OpenSshTransport

pytestmark = pytest.mark.cluster

SECONDS = 60.0
TRUE = Command(("true",))


@pytest.fixture(params=SSH)
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the SSH transports."""
    return str(request.param)


@pytest.fixture(scope="module")
def node() -> Iterator[Sshd]:
    """A login node of this module's own, which is ended, frozen and given another identity."""
    program = find_program()
    assert program is not None
    with running_sshd(program) as own:
        yield own


@pytest.fixture(scope="module", autouse=True)
def _there_is_an_sshd(sshd: Sshd) -> None:
    """Skip, or fail, where there is none."""


def says(transport: SshTransport, word: str = "hello", seconds: float = SECONDS) -> None:
    """A command runs."""
    assert transport.run(Command(("echo", word)), seconds).stdout == f"{word}\n"


def refused(transport: SshTransport, seconds: float = SECONDS) -> str:
    """Why no command is run: for certain."""
    with pytest.raises(TransportError) as raised:
        transport.run(TRUE, seconds)
    assert not raised.value.may_have_run
    return str(raised.value)


# --- the connection goes away --------------------------------------------------------------------------------------


def test_one_connection_serves_all_commands(kind: str, node: Sshd) -> None:
    with opened(kind, node) as transport:
        before = node.log.count("Accepted publickey")
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: says(transport), range(12)))
        assert node.log.count("Accepted publickey") == before + 1


def test_a_closed_transport_leaves_nothing_behind(kind: str, node: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp())  # of a short path: sockets lie in it
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with opened(kind, node) as transport:
        says(transport)
        assert node.connections()
    until(lambda: not node.connections(), "the connection is closed")
    folder.rmdir()


def test_a_connection_that_was_cut_meanwhile_is_replaced(kind: str, node: Sshd) -> None:
    """Without an error: the command cannot have run."""
    with opened(kind, node) as transport:
        says(transport, "one")
        node.cut()
        says(transport, "two")


def test_an_sshd_that_is_away_and_comes_back(kind: str, node: Sshd) -> None:
    with opened(kind, node) as transport:
        says(transport)
        node.stop()
        try:
            assert ssh_words.REFUSED in refused(transport)
        finally:
            node.start()
        until(lambda: succeeds(transport), "it answers again")


def succeeds(transport: SshTransport) -> bool:
    """Whether a command runs."""
    try:
        return transport.run(TRUE, SECONDS).exit_code == 0
    except TransportError:
        return False


def test_who_cannot_get_in_does_not_knock_all_the_time(kind: str, node: Sshd) -> None:
    """A login node shuts out who does: what failed is told again, without a new try."""
    with opened(kind, node, identity_files=[str(node.folder / "host_key")]) as transport:
        before = node.log.count("Connection from") + node.log.count("Connection closed by auth")
        for _ in range(5):
            assert ssh_words.NOT_LET_IN in refused(transport)
        assert node.log.count("Connection from") + node.log.count("Connection closed by auth") <= before + 3


def test_a_connection_cut_while_a_command_runs_leaves_its_outcome_unknown(
    kind: str, node: Sshd, tmp_path: Path
) -> None:
    """It may have had its effect, so it is not run again."""
    script = f"echo ran >>{tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done; touch {tmp_path}/end"
    with opened(kind, node) as transport:
        says(transport)
        cutter = threading.Thread(target=lambda: until((tmp_path / "runs").exists, "it runs") and node.cut())
        cutter.start()
        with pytest.raises(TransportError, match="cut off") as raised:
            transport.run(Command(("sh", "-c", script)), SECONDS)
        cutter.join()
        assert raised.value.may_have_run
        (tmp_path / "go").touch()
        until((tmp_path / "end").exists, "what was begun goes on")
        assert (tmp_path / "runs").read_text() == "ran\n"
        says(transport)


def test_a_frozen_connection_is_given_up_at_the_deadline(kind: str, node: Sshd, tmp_path: Path) -> None:
    """In the middle of a command: its outcome is unknown, and the next one goes over another connection."""
    with opened(kind, node, connect_seconds=4.0) as transport:
        says(transport)
        began = threading.Event()

        def freeze() -> None:
            until((tmp_path / "runs").exists, "it runs")
            frozen.__enter__()
            began.set()

        frozen = node.frozen()
        freezer = threading.Thread(target=freeze)
        freezer.start()
        with pytest.raises(TransportError) as raised:
            transport.run(Command(("sh", "-c", f"touch {tmp_path}/runs; sleep 8")), 6.0)
        freezer.join()
        try:
            assert began.is_set() and raised.value.may_have_run
            says(transport, "over another connection")
        finally:
            frozen.__exit__(None, None, None)


def test_a_connection_that_froze_while_it_was_idle_is_replaced(kind: str, node: Sshd) -> None:
    """Before the command could begin, so it is simply run over another one."""
    with opened(kind, node, connect_seconds=4.0) as transport:
        says(transport)
        with node.frozen():
            says(transport, "over another connection")


def test_a_command_runs_only_when_it_is_known_to_have_begun(kind: str, node: Sshd, tmp_path: Path) -> None:
    """A login shell that takes too long is left; what it does once it is let go runs nothing."""
    runs = tmp_path / "runs"
    with opened(kind, node, connect_seconds=1.0) as transport, frozen_shells(node) as let_go:
        with pytest.raises(TransportError) as raised:
            transport.run(Command(("touch", str(runs))), 3.0)
        assert not raised.value.may_have_run
        let_go()
        says(transport)
        assert not runs.exists()


@contextmanager
def frozen_shells(node: Sshd) -> Iterator[Callable[[], None]]:
    """Every command waits, before it begins, until it is let go."""
    gate = node.folder / "gate"
    waiting = node.folder / "waiting.sh"
    waiting.write_text(f'while [ -e {gate} ]; do sleep 0.05; done\neval "$SSH_ORIGINAL_COMMAND"\n')
    gate.touch()
    try:
        with with_options(node, f"ForceCommand sh {waiting}"):
            yield gate.unlink
    finally:
        gate.unlink(missing_ok=True)


def test_a_cable_that_was_pulled_out(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Nobody is told, and nothing comes any more."""
    with proxied(node) as proxy:
        known = [str(proxy.known_hosts(node, tmp_path))]
        with opened(kind, node, port=proxy.port, known_hosts=known, connect_seconds=4.0) as transport:
            says(transport)
            proxy.mute()
            healer = threading.Timer(1.0, proxy.heal)
            healer.start()
            says(transport, "over another connection")
            healer.join()


def test_a_command_that_reaches_the_login_node_late_runs_nothing(
    kind: str, node: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its submission has been looked up, not found and given to somebody else: the line was only slow."""
    runs = tmp_path / "runs"
    with proxied(node) as proxy:
        known = [str(proxy.known_hosts(node, tmp_path))]
        with opened(kind, node, port=proxy.port, known_hosts=known) as transport:
            says(transport)
            sending = Exchange.sending
            with monkeypatch.context() as patched:
                patched.setattr(Exchange, "sending", lambda exchange: (proxy.stall(), sending(exchange)))
                with pytest.raises(TransportError) as raised:
                    transport.run(Command(("touch", str(runs))), 3.0)
            assert raised.value.may_have_run
            over = time.monotonic() + 4.0  # a second after the deadline, and one for a clock of whole seconds
            until(lambda: time.monotonic() > over, "the word is good no more")
            assert node.shells()
            proxy.flow()
            until(lambda: not node.shells(), "the shell there has got it")
            assert not runs.exists()
            says(transport)


def test_a_command_that_hangs_does_not_cost_the_others_their_connection(kind: str, node: Sshd) -> None:
    with opened(kind, node) as transport:
        says(transport)
        before = node.log.count("Accepted publickey")
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(transport.run, Command(("sh", "-c", "sleep 5; echo done")), SECONDS)
            with pytest.raises(TransportError, match="had not ended"):
                transport.run(Command(("sleep", "1000")), 3.0)
            assert other.result().stdout == "done\n"
        assert node.log.count("Accepted publickey") == before


# --- sessions ------------------------------------------------------------------------------------------------------


def test_more_commands_than_the_login_node_has_sessions(kind: str, node: Sshd) -> None:
    """MaxSessions below our own bound: they wait for each other, and nobody opens another connection."""
    with with_options(node, "MaxSessions 2"), opened(kind, node, max_channels=8) as transport:
        before = node.log.count("Accepted publickey")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: says(transport, str(number)), range(8)))
        assert node.log.count("Accepted publickey") == before + 1


def test_a_login_node_without_any_session_is_told_of(kind: str, node: Sshd) -> None:
    with with_options(node, "MaxSessions 0"), opened(kind, node) as transport:
        assert "MaxSessions" in refused(transport, 4.0)


def test_commands_wait_for_a_free_channel(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Until their deadline, and then certainly have not run."""
    with opened(kind, node, max_channels=1) as transport, ThreadPoolExecutor(1) as pool:
        script = f"touch {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.1; done"
        long = pool.submit(transport.run, Command(("sh", "-c", script)), SECONDS)
        until((tmp_path / "runs").exists, "it runs")
        assert "channels are busy" in refused(transport, 0.5)
        (tmp_path / "go").touch()
        says(transport)
        assert long.result().exit_code == 0


@contextmanager
def with_options(node: Sshd, more: str) -> Iterator[None]:
    """The login node with more lines of configuration."""
    node.stop()
    node.more = more
    try:
        node.start()
        yield
    finally:
        node.stop()
        node.more = ""
        node.start()


# --- noise ---------------------------------------------------------------------------------------------------------


NOISE = "echo Welcome to HPC; echo 3 jobs are waiting; echo careful >&2\n"


@pytest.fixture
def talkative(people: Sequence[str], node: Sshd) -> Iterator[str]:
    """An account whose login files print, and set what would change a command's output."""
    home = Path(f"~{people[0]}").expanduser()
    for name in (".bashrc", ".bash_profile"):
        shutil.copyfile(home / name, home / f"{name}.kept") if (home / name).exists() else None
        (home / name).write_text(f"{NOISE}export SQUEUE_FORMAT=%i PATH=$PATH:{home}/programs\n")
    node.bashrc = True
    with with_options(node, ""):
        yield people[0]
    node.bashrc = False
    node.stop()
    node.start()
    for name in (".bashrc", ".bash_profile"):
        (home / name).unlink()
        if (kept := home / f"{name}.kept").exists():
            kept.rename(home / name)


@pytest.mark.parametrize("login_shell", [False, True])
def test_what_login_files_print_is_cut_off(kind: str, node: Sshd, talkative: str, login_shell: bool) -> None:
    with opened(kind, node, user=talkative, login_shell=login_shell) as transport:
        completed = transport.run(Command(("sh", "-c", "echo 17; id -un; echo said >&2")), SECONDS)
        assert completed.stdout == f"17\n{talkative}\n" and completed.stderr == "said\n"
        assert "SQUEUE_FORMAT" not in transport.run(Command(("env",)), SECONDS).stdout
        assert "Welcome to HPC" in transport.noise(SECONDS)


def test_a_banner_is_no_output(kind: str, node: Sshd) -> None:
    (node.folder / "banner").write_text("Authorised use only\n")
    with with_options(node, f"Banner {node.folder}/banner"), opened(kind, node) as transport:
        completed = transport.run(Command(("echo", "17")), SECONDS)
        assert (completed.stdout, completed.stderr) == ("17\n", "")


def test_a_path_that_only_the_profile_sets(kind: str, node: Sshd, talkative: str) -> None:
    """Found by a login shell, or by a PATH in the command's own environment."""
    programs = Path(f"~{talkative}").expanduser() / "programs"
    programs.mkdir(mode=0o755)
    (programs / "wps-sbatch").write_text("#!/bin/sh\necho 17\n")
    (programs / "wps-sbatch").chmod(0o755)
    (programs.parent / ".bashrc").unlink()
    sbatch = Command(("wps-sbatch",))
    try:
        with opened(kind, node, user=talkative) as transport:
            with pytest.raises(TransportError, match="no program wps-sbatch"):
                transport.run(sbatch, SECONDS)
            own = Command(("wps-sbatch",), env=(("PATH", f"{programs}:/usr/bin:/bin"),))
            assert transport.run(own, SECONDS).stdout == "17\n"
        with opened(kind, node, user=talkative, login_shell=True) as transport:
            assert transport.run(sbatch, SECONDS).stdout == "17\n"
    finally:
        shutil.rmtree(programs)
        (programs.parent / ".bashrc").touch()


def test_an_account_without_a_shell(kind: str, node: Sshd) -> None:
    """What it says instead is told."""
    said = "This account is not available"
    with with_options(node, f"ForceCommand echo {said}; exit 1"), opened(kind, node) as transport:
        assert said in refused(transport)


# --- host keys -----------------------------------------------------------------------------------------------------


def test_an_unknown_host_is_not_trusted(kind: str, node: Sshd, tmp_path: Path) -> None:
    with opened(kind, node, known_hosts=[str(tmp_path / "none")]) as transport:
        assert ssh_words.UNKNOWN_KEY in refused(transport)
        assert not (tmp_path / "none").exists()


def test_a_host_whose_key_has_changed_is_never_trusted(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Also where unknown ones are accepted."""
    known = tmp_path / "known_hosts"
    for policy in ("reject", "accept-new"):
        shutil.copyfile(node.known_hosts, known)
        node.stop()
        node.renew_host_key()
        node.start()
        with opened(kind, node, known_hosts=[str(known)], host_key_policy=policy) as transport:
            assert ssh_words.CHANGED_KEY in refused(transport)


def test_an_unknown_host_is_noted_where_that_is_wanted(kind: str, node: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    with opened(kind, node, known_hosts=[str(known)], host_key_policy="accept-new") as transport:
        says(transport)
    assert node.known_hosts.read_text().split()[-1] in known.read_text()
    with opened(kind, node, known_hosts=[str(known)]) as transport:
        says(transport)


def test_an_unknown_host_that_cannot_be_noted_is_not_trusted(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Else any key would be, each time."""
    (tmp_path / "file").touch()
    for known in (tmp_path, tmp_path / "file" / "known_hosts"):
        with opened(kind, node, known_hosts=[str(known)], host_key_policy="accept-new") as transport:
            assert "could not be noted" in refused(transport)


def test_lines_that_cannot_be_used_and_keys_of_old_spoil_nothing(
    kind: str, node: Sshd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An authority's line, a broken one, a stale key of the same kind before the right one, and a hashed host."""
    keygen("-t", "ed25519", "-f", str(tmp_path / "other"))
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    name, own = node.known_hosts.read_text().split(maxsplit=1)
    lines = (f"@cert-authority *.example.org {other}", "broken line", "# a comment", f"{name} {other}", f"{name} {own}")
    known = tmp_path / "known_hosts"
    known.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING), opened(kind, node, known_hosts=[str(known)]) as transport:
        says(transport)
    known.write_text(f"{name} {own}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    with opened(kind, node, known_hosts=[str(known)]) as transport:
        says(transport)


def test_a_revoked_key_is_refused(kind: str, node: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{node.known_hosts.read_text()}@revoked {node.known_hosts.read_text()}")
    with opened(kind, node, known_hosts=[str(known)]) as transport:
        assert "revoked" in refused(transport)


def test_a_host_is_asked_for_a_key_of_a_kind_that_is_known(kind: str, node: Sshd, tmp_path: Path) -> None:
    """It has several, of which one alone is known, and that is not the first."""
    rsa = tmp_path / "rsa"
    keygen("-t", "rsa", "-b", "2048", "-f", str(rsa))
    name, _ = node.known_hosts.read_text().split(maxsplit=1)
    known = tmp_path / "known_hosts"
    known.write_text(f"{name} {' '.join(rsa.with_suffix('.pub').read_text().split()[:2])}\n")
    with with_options(node, f"HostKey {rsa}"), opened(kind, node, known_hosts=[str(known)]) as transport:
        says(transport)


def test_a_host_certificate_is_for_the_systems_ssh(node: Sshd, tmp_path: Path) -> None:
    keygen("-t", "ed25519", "-f", str(tmp_path / "authority"))
    public = node.folder / "host_key.pub"
    certificate = sign(tmp_path / "authority", public, "-h", "-n", node.host)
    known = tmp_path / "known_hosts"
    known.write_text(f"@cert-authority [{node.host}]:{node.port} {(tmp_path / 'authority.pub').read_text()}")
    try:
        with with_options(node, f"HostCertificate {certificate}"):
            with opened("ssh_openssh", node, known_hosts=[str(known)]) as transport:
                says(transport)
            with opened("ssh_paramiko", node, known_hosts=[str(known)]) as transport:
                assert ssh_words.UNKNOWN_KEY in refused(transport)
    finally:
        certificate.unlink()


# --- who gets in ---------------------------------------------------------------------------------------------------


def test_a_key_that_is_not_accepted(kind: str, node: Sshd, tmp_path: Path) -> None:
    keygen("-t", "ed25519", "-f", str(tmp_path / "stranger"))
    with opened(kind, node, identity_files=[str(tmp_path / "stranger")]) as transport:
        assert ssh_words.NOT_LET_IN in refused(transport)


def test_a_key_that_others_can_read(kind: str, node: Sshd, tmp_path: Path) -> None:
    shutil.copyfile(node.key(), tmp_path / "open")
    (tmp_path / "open").chmod(0o644)
    with opened(kind, node, identity_files=[str(tmp_path / "open")]) as transport:
        assert ssh_words.OPEN_TO_OTHERS in refused(transport)


def test_a_key_that_is_not_there(kind: str, node: Sshd, tmp_path: Path) -> None:
    with opened(kind, node, identity_files=[str(tmp_path / "missing")]) as transport:
        assert "missing" in refused(transport)


def test_a_key_with_a_passphrase_needs_an_agent(kind: str, node: Sshd, tmp_path: Path) -> None:
    shutil.copyfile(node.key(), tmp_path / "locked")
    (tmp_path / "locked").chmod(0o600)
    change = ["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(change, check=True, capture_output=True)
    with opened(kind, node, identity_files=[str(tmp_path / "locked")]) as transport:
        assert "locked has a passphrase: load it into an ssh-agent" in refused(transport)


def test_the_keys_of_an_agent(kind: str, node: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offered where they are wanted."""
    keygen("-t", "ed25519", "-f", str(tmp_path / "stranger"))
    with agent(tmp_path / "agent", node.key()) as address:
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        with opened(kind, node, identity_files=[str(tmp_path / "stranger")], agent=True) as transport:
            says(transport)
        with opened(kind, node, identity_files=[str(tmp_path / "stranger")]) as transport:
            assert ssh_words.NOT_LET_IN in refused(transport)


def test_an_agent_that_says_nothing_is_left_out(kind: str, node: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as mute, tempfile.TemporaryDirectory() as folder:
        mute.bind(f"{folder}/agent")
        mute.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{folder}/agent")
        if kind == "ssh_openssh":  # which asks without a limit of its own, so that the whole connection has one
            with opened(kind, node, agent=True, connect_seconds=3.0) as transport:
                assert ssh_words.NO_ANSWER in refused(transport)
        else:
            with opened(kind, node, agent=True) as transport:
                says(transport)


def test_an_agent_that_is_gone_is_left_out(
    kind: str, node: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    with opened(kind, node, agent=True) as transport:
        says(transport)


@contextmanager
def agent(address: Path, key: Path) -> Iterator[str]:
    """An ssh-agent with one key within the block."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(address)], stdout=subprocess.DEVNULL) as process:
        try:
            until(address.exists, "the agent listens")
            environment = {**os.environ, "SSH_AUTH_SOCK": str(address)}
            subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True, capture_output=True)
            yield str(address)
        finally:
            process.terminate()


@pytest.mark.parametrize("beside", [True, False], ids=["beside the key", "elsewhere"])
def test_user_certificates(kind: str, node: Sshd, tmp_path: Path, beside: bool) -> None:
    """The login node trusts an authority, and no key as such."""
    for name in ("authority", "id"):
        keygen("-t", "ed25519", "-f", str(tmp_path / name))
    certificate = sign(tmp_path / "authority", tmp_path / "id.pub", "-n", node.account)
    if not beside:
        certificate = certificate.rename(tmp_path / "of-me.pub")
    own = {"identity_files": [str(tmp_path / "id")], "certificate_files": [] if beside else [str(certificate)]}
    shutil.copyfile(tmp_path / "authority.pub", node.folder / "authorities")
    with with_options(node, f"TrustedUserCAKeys {node.folder}/authorities"):
        with opened(kind, node, **own) as transport:
            says(transport)
        certificate.unlink()
        with opened(kind, node, **{**own, "certificate_files": []}) as transport:
            assert ssh_words.NOT_LET_IN in refused(transport)


def test_through_another_host(kind: str, node: Sshd, sshd: Sshd, tmp_path: Path) -> None:
    """Whose key is checked as well, with the same files, and which the same private key opens."""
    authorized = sshd.folder / "keys" / sshd.account
    sshd.key()
    before = authorized.read_text()
    authorized.write_text(before + node.key().with_suffix(".pub").read_text())
    known = tmp_path / "known_hosts"
    known.write_text(node.known_hosts.read_text() + sshd.known_hosts.read_text())
    own = {"proxy_jump": [f"{sshd.account}@{sshd.host}:{sshd.port}"], "known_hosts": [str(known)]}
    try:
        seen = sshd.log.count("Accepted publickey")
        with opened(kind, node, **own) as transport:
            says(transport)
        assert sshd.log.count("Accepted publickey") == seen + 1
        with opened(kind, node, **{**own, "port": 1}) as transport:
            assert ssh_words.NOT_BEHIND in refused(transport)
        known.write_text(node.known_hosts.read_text())
        with opened(kind, node, **own) as transport:
            assert ssh_words.UNKNOWN_KEY in refused(transport)
    finally:
        authorized.write_text(before)


def test_hosts_that_are_not_there(kind: str, node: Sshd) -> None:
    with opened(kind, node, host="no-such-host.invalid") as transport:
        assert ssh_words.NO_SUCH_HOST in refused(transport)


def test_a_host_that_says_nothing(kind: str, node: Sshd, tmp_path: Path) -> None:
    with proxied(node) as proxy:
        proxy.mute()
        known = [str(proxy.known_hosts(node, tmp_path))]
        with opened(kind, node, port=proxy.port, known_hosts=known, connect_seconds=2.0) as transport:
            assert ssh_words.NO_ANSWER in refused(transport)


# --- a login node that means harm -----------------------------------------------------------------------------------


def hostile(answer: bytes) -> tuple[socket.socket, threading.Thread]:
    """Listens on the loopback, and says this to whoever comes, and then whatever comes to its mind."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(1 << 16):
                        pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread


def packet(payload: bytes) -> bytes:
    """As RFC 4253 §6 frames it before there are keys."""
    padding = 8 - (len(payload) + 5) % 8 + 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff" * 100_000,
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-\xff\xfe\r\n" + bytes(5000),
        b"SSH-2.0-x\r\n" + packet(b"\x14" + bytes(16) + b"\xff" * 40),
        b"SSH-2.0-x\r\n" + packet(b"\x14" + bytes(16) + struct.pack(">I", 2) + b"\xff\xff" + bytes(60)),
        b"SSH-2.0-x\r\n" + packet(b"\x14" + bytes(70)),
        b"SSH-2.0-x\r\n" + packet(b""),
        b"SSH-2.0-x\r\n" + packet(b"\x1f\xff\xff\xff\xff"),
    ],
    ids=["nothing", "bytes", "web", "banner", "cut", "no text", "no kinds", "empty", "early"],
)
def test_a_host_that_speaks_nonsense_is_an_error_as_any_other(kind: str, node: Sshd, answer: bytes) -> None:
    listener, thread = hostile(answer)
    try:
        with opened(kind, node, port=listener.getsockname()[1], connect_seconds=3.0) as transport:
            assert node.host in refused(transport)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_output_without_end_is_given_up_and_costs_the_others_nothing(kind: str, node: Sshd) -> None:
    """Neither memory nor their connection."""
    with opened(kind, node) as transport, ThreadPoolExecutor(1) as pool:
        says(transport)
        before = node.log.count("Accepted publickey")
        other = pool.submit(transport.run, Command(("sh", "-c", "sleep 3; echo done")), SECONDS)
        with pytest.raises(TransportError, match="does not stop printing") as raised:
            transport.run(Command(("yes",)), SECONDS)
        assert raised.value.may_have_run
        assert other.result().stdout == "done\n"
        says(transport)
        assert node.log.count("Accepted publickey") == before


def test_output_that_is_still_coming_at_the_deadline(kind: str, node: Sshd) -> None:
    with opened(kind, node) as transport:
        says(transport)
        before = node.log.count("Accepted publickey")
        drip = "while :; do echo drip; done"
        with pytest.raises(TransportError, match=r"had not ended|does not stop") as raised:
            transport.run(Command(("sh", "-c", drip)), 3.0)
        assert raised.value.may_have_run
        says(transport)
        assert node.log.count("Accepted publickey") == before


@pytest.mark.parametrize(
    "instead",
    [
        "yes",
        "echo wps-hpc-begin-0 yes; sleep 2",
        "printf '\\033[2J'; exit 3",
        "exec sleep 60",
        "kill -9 $PPID",
    ],
    ids=["endless", "wrong word", "no words", "mute", "ends the connection"],
)
def test_a_shell_that_does_not_come_to_the_command(kind: str, node: Sshd, instead: str) -> None:
    with with_options(node, f"ForceCommand {instead}"), opened(kind, node, connect_seconds=3.0) as transport:
        assert refused(transport, 10.0)


def test_a_login_file_that_takes_a_stream_away_lets_nothing_run(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Else each submission would have an outcome that nobody can see."""
    script = node.folder / "quiet.sh"
    script.write_text('exec 2>/dev/null; eval "$SSH_ORIGINAL_COMMAND"\n')
    with with_options(node, f"ForceCommand sh {script}"), opened(kind, node, connect_seconds=3.0) as transport:
        with pytest.raises(TransportError, match="standard error") as raised:
            transport.run(Command(("touch", str(tmp_path / "runs"))), 10.0)
        assert not raised.value.may_have_run
    assert not (tmp_path / "runs").exists()


def test_a_connection_cut_before_the_command_began_is_replaced(kind: str, node: Sshd, tmp_path: Path) -> None:
    """The first shell is cut off while its login files are read; the second one gets there."""
    gate = tmp_path / "came"
    script = node.folder / "once.sh"
    script.write_text(f'[ -e {gate} ] || {{ touch {gate}; kill -9 $PPID; exit 1; }}; eval "$SSH_ORIGINAL_COMMAND"\n')
    with with_options(node, f"ForceCommand sh {script}"), opened(kind, node) as transport:
        says(transport)


@pytest.mark.parametrize("at", ["open_session", "_event_pending"])
def test_a_connection_that_ends_at_an_unlucky_moment_is_replaced(
    node: Sshd, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """paramiko has looked whether it is there, and then waits for an answer that nobody will give."""
    owner = paramiko.Transport if at == "open_session" else paramiko.Channel
    real, cut = getattr(owner, at), []

    def end(own: Any, *args: Any, **more: Any) -> Any:
        transport = own if at == "open_session" else own.transport
        if threading.current_thread() is threading.main_thread() and not cut:
            cut.append(True)
            node.cut()
            until(lambda: not transport.is_active(), "the connection has ended")
        return real(own, *args, **more)

    with opened("ssh_paramiko", node, connect_seconds=4.0) as transport:
        says(transport)
        monkeypatch.setattr(owner, at, end)
        says(transport, "over another connection")
        assert cut


# --- one of the two alone ------------------------------------------------------------------------------------------


def test_a_connection_that_a_person_has_opened(node: Sshd, tmp_path: Path) -> None:
    """With a second factor, say: the server has no key at all, and never opens one of its own."""
    control = tmp_path / "control"
    person = settings(node)
    with opened("ssh_openssh", node, identity_files=[], control_path=str(control)) as transport:
        assert "nobody has opened a connection" in refused(transport)
        options = [f"-oUserKnownHostsFile={person.known_hosts[0]}", "-oIdentitiesOnly=yes", f"-i{node.key()}"]
        where = ["-p", str(node.port), f"{node.account}@{node.host}"]
        with subprocess.Popen(["ssh", "-F", "none", "-M", "-N", "-S", str(control), *options, *where]) as master:
            until(control.exists, "the person is in")
            says(transport)
            transport.close()
            assert master.poll() is None, "it is not ours to close"
            master.terminate()


def test_a_temporary_folder_that_was_cleaned_away(node: Sshd) -> None:
    """As hosts do with what lies there for days."""
    with opened("ssh_openssh", node) as transport:
        says(transport)
        assert isinstance(transport, OpenSshTransport)
        transport._tell(transport._current, "exit")  # type: ignore[arg-type]
        shutil.rmtree(transport._own_folder())
        says(transport)


def test_the_deadline_of_a_connection_that_cannot_be_opened_in_time(kind: str, node: Sshd, tmp_path: Path) -> None:
    """Threads that wait for it do so no longer than they have."""
    with proxied(node) as proxy:
        proxy.mute()
        known = [str(proxy.known_hosts(node, tmp_path))]
        own = {"port": proxy.port, "known_hosts": known, "connect_seconds": 20.0}
        with opened(kind, node, **own) as transport, ThreadPoolExecutor(3) as pool:
            waits = [pool.submit(transport.run, TRUE, 2.0) for _ in range(3)]
            assert all(isinstance(each.exception(30), NoConnection) for each in waits)
