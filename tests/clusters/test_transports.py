"""How commands and files travel: by processes of this host, and by the spooler's socket."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters.spooling import Site, new_mark, running, running_site, wait_for
from tests.services import require
from wps_hpc.clusters.spooler import wire
from wps_hpc.clusters.spooler.spool import Spool
from wps_hpc.clusters.transports.base import Command, Completed, Transport, TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.clusters.transports.local import LocalTransport

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def local() -> LocalTransport:
    """Commands of this host."""
    return LocalTransport()


def test_a_command_gets_its_input_and_gives_its_outcome(local: LocalTransport) -> None:
    """Standard input, both streams, the exit code."""
    completed = local.run(Command(("sh", "-c", "cat; echo said >&2; exit 3"), stdin=b"given"), 10)
    assert completed == Completed(3, "given", "said\n")


def test_no_shell_comes_near_an_argument(local: LocalTransport) -> None:
    """One argv, element by element."""
    assert local.run(Command(("printf", "%s|", "a b", "$HOME", "`id`", "")), 10).stdout == "a b|$HOME|`id`||"


def test_a_command_gets_a_listed_environment(local: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own variables and a few of the server's; no leftovers of an outer batch job."""
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    lines = local.run(Command(("env",), env=(("SLURM_CONF", "/etc/slurm.conf"),)), 10).stdout.splitlines()
    assert "SLURM_CONF=/etc/slurm.conf" in lines
    assert {line.split("=")[0] for line in lines} >= {"PATH", "HOME", "LANG"}
    assert "SQUEUE_FORMAT=%i" not in lines


def test_a_death_by_a_signal_is_negative(local: LocalTransport) -> None:
    """As Completed promises."""
    assert local.run(Command(("sh", "-c", "kill -KILL $$")), 10).exit_code == -9


def test_much_output_on_both_streams_does_not_block(local: LocalTransport) -> None:
    """More than any pipe holds, on both at the same time, with input that nobody reads."""
    code = "import sys; sys.stdout.write('o' * 3_000_000); sys.stderr.write('e' * 3_000_000)"
    completed = local.run(Command((sys.executable, "-c", code), stdin=b"i" * 1_000_000), 30)
    assert (len(completed.stdout), len(completed.stderr)) == (3_000_000, 3_000_000)


def test_bytes_that_are_no_text_are_replaced(local: LocalTransport) -> None:
    """A banner in another encoding is no reason to fail."""
    assert local.run(Command(("printf", r"J\351r\364me 17")), 10).stdout == "J\ufffdr\ufffdme 17"


def test_a_command_past_its_deadline_is_killed_with_its_children(local: LocalTransport) -> None:
    """The whole process group; and it may have had its effect."""
    mark = new_mark()
    began = time.monotonic()
    with pytest.raises(TransportError) as raised:
        local.run(Command(("sh", "-c", f"sleep 1000 {mark} & sleep 1000 {mark}")), 0.3)
    assert raised.value.may_have_run
    assert time.monotonic() - began < 5
    wait_for(lambda: running(mark) == [], "the end of the group")


def test_what_left_the_group_does_not_hold_the_caller(local: LocalTransport) -> None:
    """A daemon that keeps the streams open is not waited for."""
    mark = new_mark()
    began = time.monotonic()
    with pytest.raises(TransportError):
        local.run(Command(("sh", "-c", f"setsid sleep 1000 {mark} & sleep 1000")), 0.3)
    assert time.monotonic() - began < 5
    for pid in running(mark):
        os.kill(pid, 9)


@pytest.mark.parametrize("program", ["no-such-program", "/", "nul\0byte"])
def test_a_program_that_cannot_be_started_did_not_run(local: LocalTransport, program: str) -> None:
    """Certain, and so harmless to try again."""
    with pytest.raises(TransportError) as raised:
        local.run(Command((program,)), 10)
    assert not raised.value.may_have_run


@pytest.fixture(params=["local", "embedded"])
def carrier(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    """Either transport, for what both do with files."""
    transports: dict[str, Transport] = {"local": LocalTransport(), "embedded": EmbeddedTransport(tmp_path / "run")}
    return transports[request.param]


def test_files_travel_whole(carrier: Transport, tmp_path: Path) -> None:
    """There and back, replacing what was there."""
    (tmp_path / "source").write_bytes(b"content" * 100_000)
    (tmp_path / "there").write_bytes(b"old")
    carrier.put(tmp_path / "source", str(tmp_path / "there"))
    carrier.get(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content" * 100_000
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["back", "source", "there"]


def test_a_copy_that_fails_leaves_the_target_as_it_was(carrier: Transport, tmp_path: Path) -> None:
    """No source; and a target that cannot be replaced."""
    (tmp_path / "target").write_text("old")
    with pytest.raises(TransportError):
        carrier.put(tmp_path / "missing", str(tmp_path / "target"))
    assert (tmp_path / "target").read_text() == "old"
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(TransportError):
        carrier.get(str(tmp_path / "target"), tmp_path / "folder" / "full")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["full"]


def test_local_commands_announce_nothing(local: LocalTransport) -> None:
    """The watcher keeps to its interval."""
    assert local.changes(1) is None
    local.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other accounts can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Run Python code under another account (which need not be able to start this Python by itself)."""
    require("an account that may become another", os.geteuid() == 0, "run the tests as root")
    changed = (
        f"import json, os, socket, struct, sys\nos.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n{code}"
    )
    return subprocess.Popen([sys.executable, "-c", changed, *arguments], text=True, stdout=subprocess.PIPE)


CLIENT = """
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
body = json.dumps({"argv": ["shutdown", "--detach"], "stdin": "", "fingerprint": None}).encode()
try:
    connection.sendall(struct.pack(">Q", len(body)) + body)
except BrokenPipeError:
    print("cut off")
answer = connection.recv(65536)
print(answer[8:].decode())
"""


def test_a_client_of_another_account_is_refused(open_folder: Path) -> None:
    """Even where the file permissions would let it in: the kernel tells who it is."""
    with running_site(open_folder / "site") as site:
        pid = site.pid()
        for path in (site.root, site.spool.run):
            path.chmod(0o755)
        site.spool.socket.chmod(0o777)
        with as_nobody(CLIENT, str(site.spool.socket)) as client:
            said, _ = client.communicate(timeout=30)
        assert '"exit_code": 77' in said and f"not {NOBODY}" in said
        assert site.pid() == pid


IMPOSTOR = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("up", flush=True)
listener.accept()[0].recv(1)
"""


def test_a_spooler_of_another_account_is_not_believed(open_folder: Path) -> None:
    """Somebody else's socket at our address gets no command."""
    (open_folder / "run").mkdir()
    os.chown(open_folder / "run", NOBODY, NOBODY)
    with as_nobody(IMPOSTOR, str(open_folder / "run" / "spooler.sock")) as impostor:
        assert impostor.stdout is not None and impostor.stdout.readline() == "up\n"
        with pytest.raises(TransportError, match="poses as the spooler") as raised:
            EmbeddedTransport(open_folder / "run").run(Command(("ping",)), 10)
        assert not raised.value.may_have_run
        impostor.kill()


def test_a_spool_folder_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    """Whoever may write there could give orders."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(TransportError, match="needs its own folder") as raised:
        EmbeddedTransport(tmp_path / "run").run(Command(("ping",)), 10)
    assert not raised.value.may_have_run


def test_a_spool_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """With the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="spool"):
        EmbeddedTransport(tmp_path / "file" / "run").run(Command(("ping",)), 10)


def test_a_spooler_whose_lock_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """As on a full disk: an answer for dispatch and watch, never an exception that they do not expect."""
    Spool(tmp_path).start_lock.mkdir()
    transport = EmbeddedTransport(tmp_path)
    with pytest.raises(TransportError, match="cannot be started") as caught:
        transport.run(Command(("list",)), 5.0)
    assert not caught.value.may_have_run
    assert transport.changes(5.0) is None


def test_the_spooler_takes_no_environment(tmp_path: Path) -> None:
    """A job's environment is part of its order."""
    with pytest.raises(TransportError, match="no environment"):
        EmbeddedTransport(tmp_path).run(Command(("list",), env=(("A", "b"),)), 10)


def test_a_spooler_that_does_not_answer_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    """It took the command, perhaps."""
    (tmp_path / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "run" / "spooler.sock"))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(TransportError) as raised:
            EmbeddedTransport(tmp_path / "run").run(Command(("list",)), 0.3)
        assert raised.value.may_have_run
        assert time.monotonic() - began < 5


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A storage root with a spooler."""
    with running_site(tmp_path) as made:
        yield made


def connected(site: Site) -> socket.socket:
    """A bare connection to the spooler."""
    site.pid()
    connection = socket.socket(socket.AF_UNIX)
    with wire.short_address(site.spool.socket) as address:
        connection.connect(address)
    connection.settimeout(30)
    return connection


@pytest.mark.parametrize(
    "sent",
    [b"\xff" * 8, b"\0" * 7 + b"\x04null", b"\0" * 7 + b"\x03{{{", b"GET / HTTP/1.1\r\n\r\n"],
    ids=["huge", "no object", "no JSON", "another protocol"],
)
def test_what_is_not_of_the_protocol_is_cut_off(site: Site, sent: bytes) -> None:
    """One such client does not trouble the others."""
    with connected(site) as connection:
        connection.sendall(sent)
        assert connection.recv(1) == b""
    assert site.ping()["jobs"] == 0


def test_a_client_that_stops_in_the_middle_does_not_hold_up_the_others(site: Site) -> None:
    """Nobody waits for anybody."""
    with connected(site) as slow:
        slow.sendall(wire.pack({"argv": ["ping"], "stdin": "", "fingerprint": None})[:-1])
        assert site.ping()["jobs"] == 0
        slow.sendall(b"}")
        assert wire.receive(slow, time.monotonic() + 30)["exit_code"] == 0


def test_a_client_that_does_not_take_its_answer_does_not_hold_up_the_others(site: Site) -> None:
    """The answer waits in the spooler, not the spooler for the client."""
    site.start(site.shell("w1", "exit 0"))
    site.ended("w1")
    argv = ["show", *["w1"] * 100_000]
    with connected(site) as slow:
        slow.sendall(wire.pack({"argv": argv, "stdin": "", "fingerprint": None}))
        assert site.ping()["jobs"] == 0
        answer = wire.receive(slow, time.monotonic() + 30)
    assert len(str(answer["stdout"])) > 5_000_000


@pytest.mark.parametrize("message", [{}, {"argv": []}, {"argv": 7}, {"argv": [7]}, {"argv": ["list"], "stdin": 3}])
def test_messages_of_the_wrong_shape_are_answered_with_a_failure(site: Site, message: dict[str, object]) -> None:
    """And the spooler lives on."""
    with connected(site) as connection:
        wire.send(connection, message, time.monotonic() + 30)
        assert wire.receive(connection, time.monotonic() + 30)["exit_code"] != 0
    assert site.ping()["jobs"] == 0
