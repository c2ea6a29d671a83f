"""How commands and files travel: the contract of every transport, and the spooler's socket."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clusters.login import SSH
from tests.clusters.spooling import Site, new_mark, running, running_site, wait_for
from tests.services import require
from wps_hpc.clusters.spooler import wire
from wps_hpc.clusters.spooler.spool import Spool
from wps_hpc.clusters.transports.base import (
    PIECE_BYTES,
    Command,
    Completed,
    FileTransport,
    NoSuchProgram,
    Transport,
    TransportError,
)
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.clusters.transports.local import LocalTransport

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def test_a_command_gets_its_input_and_gives_its_outcome(transport: Transport) -> None:
    """Standard input, both streams, the exit code."""
    completed = transport.run(Command(("sh", "-c", "cat; echo said >&2; exit 3"), stdin=b"given"), 60)
    assert completed == Completed(3, "given", "said\n")


def test_streams_that_are_empty_are_empty(transport: Transport) -> None:
    """And standard input has an end."""
    assert transport.run(Command(("cat",)), 60) == Completed(0, "", "")


def test_no_shell_comes_near_an_argument(transport: Transport) -> None:
    """One argv, element by element."""
    words = ("a b", "$HOME", "`id`", "", "it's", '"', "\\", "!x", "*", "a\nb", "~", "-n", "c;id -un", "ü")
    expected = "".join(f"{word}|" for word in words)
    assert transport.run(Command(("printf", "%s|", *words)), 60).stdout == expected


def test_a_command_gets_a_listed_environment(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own variables and a few of the host's; no leftovers of an outer batch job."""
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    own = (("SLURM_CONF", "/etc/slurm.conf"), ("ODD", "a 'b' $c\\"))
    lines = transport.run(Command(("env",), env=own), 60).stdout.splitlines()
    assert {"SLURM_CONF=/etc/slurm.conf", "ODD=a 'b' $c\\"} <= set(lines)
    assert {line.split("=")[0] for line in lines} >= {"PATH", "HOME", "LANG"}
    assert "SQUEUE_FORMAT=%i" not in lines


def test_a_death_by_a_signal_is_negative(transport: Transport) -> None:
    """As Completed promises."""
    assert transport.run(Command(("sh", "-c", "kill -KILL $$")), 60).exit_code == -9


@pytest.mark.parametrize("code", [1, 127, 153, 255])
def test_an_exit_code_is_not_taken_for_anything_else(transport: Transport, code: int) -> None:
    """255 is what ssh itself exits with; 153 is qstat's «unknown job id»."""
    assert transport.run(Command(("sh", "-c", f"exit {code}")), 60).exit_code == code


def test_much_output_on_both_streams_does_not_block(transport: Transport) -> None:
    """More than any pipe or window holds, on both at the same time, with input that nobody reads."""
    code = "import sys; sys.stdout.write('o' * 3_000_000); sys.stderr.write('e' * 3_000_000)"
    completed = transport.run(Command((sys.executable, "-c", code), stdin=b"i" * 1_000_000), 60)
    assert (len(completed.stdout), len(completed.stderr)) == (3_000_000, 3_000_000)


def test_much_goes_in_and_comes_out_as_it_went_in(transport: Transport) -> None:
    """At the same time, in both directions."""
    given = bytes(range(256)) * 12_000
    hashed = transport.run(Command(("sha256sum",), stdin=given), 60).stdout
    assert hashed.split()[0] == hashlib.sha256(given).hexdigest()
    text = "".join(chr(33 + number % 90) for number in range(2_500_000))
    assert transport.run(Command(("cat",), stdin=text.encode()), 60).stdout == text


def test_bytes_that_are_no_text_are_replaced(transport: Transport) -> None:
    """A banner in another encoding is no reason to fail."""
    assert transport.run(Command(("printf", r"J\351r\364me 17")), 60).stdout == "J\ufffdr\ufffdme 17"


def test_a_command_past_its_deadline_is_killed_with_its_children(transport: Transport) -> None:
    """The whole process group, here or there; and it may have had its effect."""
    mark = new_mark()
    with pytest.raises(TransportError, match="had not ended") as raised:
        transport.run(Command(("sh", "-c", f"sleep 1000 {mark} & sleep 1000 {mark}")), deadline(transport))
    assert raised.value.may_have_run
    wait_for(lambda: running(mark) == [], "the end of the group")


def test_what_left_the_group_does_not_hold_the_caller(transport: Transport) -> None:
    """A daemon that keeps the streams open is not waited for."""
    mark = new_mark()
    with pytest.raises(TransportError):
        transport.run(Command(("sh", "-c", f"setsid sleep 1000 {mark} & sleep 1000")), deadline(transport))
    assert len(running(mark)) == 1
    for pid in running(mark):
        os.kill(pid, 9)


def deadline(transport: Transport) -> float:
    """Long enough for a command to begin, which takes a login node a moment."""
    return 0.3 if isinstance(transport, LocalTransport) else 3.0


@pytest.mark.parametrize("program", ["no-such-program", "/", "/no/such/program", "nul\0byte"])
def test_a_program_that_cannot_be_started_did_not_run(transport: Transport, program: str) -> None:
    """Certain, and so harmless to try again."""
    with pytest.raises(TransportError) as raised:
        transport.run(Command((program,)), 60)
    assert not raised.value.may_have_run
    assert isinstance(raised.value, NoSuchProgram) or program in ("/", "nul\0byte")


def test_threads_share_a_transport(transport: Transport) -> None:
    """Each gets its own answer, however many there are."""
    numbers = range(24)
    with ThreadPoolExecutor(len(numbers)) as pool:
        said = pool.map(lambda number: transport.run(Command(("echo", str(number))), 120).stdout, numbers)
        assert list(said) == [f"{number}\n" for number in numbers]


def test_commands_announce_nothing(transport: Transport) -> None:
    """The watcher keeps to its interval."""
    assert transport.changes(1) is None


@pytest.fixture(params=["local", "embedded", *(pytest.param(kind, marks=pytest.mark.cluster) for kind in SSH)])
def carrier(request: pytest.FixtureRequest, transports: Callable[[str], FileTransport], tmp_path: Path) -> Transport:
    """Any transport, for what all of them do with files."""
    if request.param == "embedded":
        return EmbeddedTransport(tmp_path / "run")
    return transports(request.param)


def test_files_travel_whole(carrier: Transport, tmp_path: Path) -> None:
    """There and back, replacing what was there; large ones in pieces."""
    content = os.urandom(PIECE_BYTES + 4711)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "there").write_bytes(b"old")
    carrier.put(tmp_path / "source", str(tmp_path / "there"))
    carrier.get(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["back", "source", "there"]


@pytest.mark.parametrize("size", [3, PIECE_BYTES + 1], ids=["small", "large"])
def test_a_copy_that_fails_leaves_the_target_as_it_was(carrier: Transport, tmp_path: Path, size: int) -> None:
    """No source; and a target that cannot be replaced."""
    (tmp_path / "target").write_bytes(b"x" * size)
    with pytest.raises(TransportError):
        carrier.put(tmp_path / "missing", str(tmp_path / "target"))
    assert (tmp_path / "target").stat().st_size == size
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(TransportError):
        carrier.get(str(tmp_path / "target"), tmp_path / "folder" / "full")
    with pytest.raises(TransportError):
        carrier.put(tmp_path / "target", str(tmp_path / "folder" / "full"))
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["full"]


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
