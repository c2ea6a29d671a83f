"""The contract of transports that carry whole job folders."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clusters.login import proxied, settings
from tests.services import require
from tests.services.sshd import Sshd
from wps_hpc.clusters.connections import SSH_TRANSPORTS
from wps_hpc.clusters.transports import files
from wps_hpc.clusters.transports.base import (
    PIECE_BYTES,
    Command,
    FileTransport,
    Kind,
    Listed,
    NoSuchFile,
    Stopped,
    TransportError,
    Unreadable,
)
from wps_hpc.clusters.transports.files import CommandFiles
from wps_hpc.clusters.transports.remote import Output

SECONDS = 60.0
#: What a job folder's files may be called, or a mean job calls them.
NAMES = ("plain", "with space", "ümläut", "-n", "a'b", 'a"b', "a\\b", "$HOME", "two\nlines")


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_is_a_file_transport(transport: FileTransport) -> None:
    assert isinstance(transport, FileTransport)


def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(transport: FileTransport, tmp_path: Path) -> None:
    """As when a login node's network file system has hiccups: it would never be read again. Others are read."""
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_text(file.name)
    paths = [str(file) for file in files]
    read = transport.read_many([paths[0], "/proc/self/mem", *paths[1:]], 10, SECONDS)
    assert read == {path: Path(path).name.encode() for path in paths}
    assert transport.read_many([], 10, SECONDS) == {}


def test_folders_are_made_with_what_is_above_them(transport: FileTransport, tmp_path: Path) -> None:
    """For the account alone; what is there stays as it is."""
    (tmp_path / "there").mkdir(mode=0o755)
    wanted = [tmp_path / "there", tmp_path / "a" / "b", *(tmp_path / "c" / name for name in NAMES)]
    transport.make_folders([str(path) for path in wanted], SECONDS)
    assert all(path.is_dir() for path in wanted)
    assert [mode(tmp_path / name) for name in ("there", "a", "a/b")] == [0o755, 0o700, 0o700]
    transport.make_folders([], SECONDS)


def test_a_folder_that_cannot_be_made_is_an_error_that_says_why(transport: FileTransport, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match=r"Not a directory|File exists"):
        transport.make_folders([str(tmp_path / "file" / "folder")], SECONDS)


def test_many_files_are_put(transport: FileTransport, tmp_path: Path) -> None:
    """Small and large, of any name; executable where the source is, else for the account to read and write."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    contents = {name: f"content of {name}".encode() for name in NAMES}
    contents |= {f"file-{number}": bytes([number]) * 100 for number in range(70)}
    contents |= {"empty": b"", "large": os.urandom(2 * PIECE_BYTES + 1), "half": os.urandom(PIECE_BYTES // 2 + 1)}
    contents["other half"] = contents["half"]
    for name, content in contents.items():
        (source / name).write_bytes(content)
    for name in ("plain", "large"):
        (source / name).chmod(0o755)
    transport.put_many({str(target / name): source / name for name in contents}, SECONDS)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == contents
    assert [mode(target / name) for name in ("plain", "large", "empty", "half")] == [0o700, 0o700, 0o600, 0o600]


def test_a_file_that_nobody_wants_any_more_leaves_nothing(transport: FileTransport, tmp_path: Path) -> None:
    (target := tmp_path / "target").mkdir()
    (tmp_path / "source").write_bytes(bytes(3 * PIECE_BYTES))
    asked = iter((False, False, True))
    with pytest.raises(Stopped):
        transport.put_many({str(target / "large"): tmp_path / "source"}, SECONDS, lambda: next(asked))
    assert list(target.iterdir()) == []


def test_a_listing_of_many_folders(transport: FileTransport, tmp_path: Path) -> None:
    """Those that are not there are left out, empty ones have nothing; links are not followed."""
    for name in NAMES:
        (tmp_path / "full" / name).mkdir(parents=True)
        (tmp_path / "full" / name / "file").write_bytes(b"four")
    (tmp_path / "full" / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "full" / "fifo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "full")
    os.utime(tmp_path / "full" / "plain" / "file", (1.0, 1_700_000_000.25))
    asked = [str(tmp_path / name) for name in ("full", "empty", "missing", "file", "linked")]
    shallow = transport.list_folders(asked, SECONDS)
    assert set(shallow) == {str(tmp_path / "full"), str(tmp_path / "empty")}
    assert shallow[str(tmp_path / "empty")] == ()
    found = {entry.path: entry.kind for entry in shallow[str(tmp_path / "full")]}
    assert found == {**dict.fromkeys(NAMES, Kind.FOLDER), "link": Kind.OTHER, "fifo": Kind.OTHER}
    deep = transport.list_folders(asked, SECONDS, depth=2)[str(tmp_path / "full")]
    assert Listed("plain/file", Kind.FILE, 4, 1_700_000_000.25) in deep
    assert {entry.path for entry in deep if entry.kind is Kind.FILE} == {f"{name}/file" for name in NAMES}
    assert transport.list_folders([], SECONDS) == {}


def test_a_folder_that_cannot_be_read_is_an_error(transport: FileTransport) -> None:
    """Not one that is not there: nothing may be concluded."""
    with pytest.raises(TransportError, match="too long"):
        transport.list_folders([f"/tmp/{'x' * 300}"], SECONDS)


def test_a_listing_of_more_folders_than_a_command_line_holds(transport: FileTransport, tmp_path: Path) -> None:
    missing = [f"{tmp_path}/{'x' * 200}/{number}" for number in range(2000)]
    (tmp_path / "one").mkdir()
    assert set(transport.list_folders([*missing, str(tmp_path / "one")], SECONDS)) == {str(tmp_path / "one")}


def test_small_files_are_read_together(transport: FileTransport, tmp_path: Path) -> None:
    """Cut to what was asked for; none that is not there, not regular, or stands for another."""
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode() + b"\0\xff\n" * 100)
    (tmp_path / "link").symlink_to("plain")
    os.mkfifo(tmp_path / "fifo")
    asked = [str(tmp_path / name) for name in (*NAMES, "missing", "link", "fifo")]
    found = transport.read_many(asked, 50, SECONDS)
    assert found == {str(tmp_path / name): (tmp_path / name).read_bytes()[:50] for name in NAMES}
    assert transport.read_many([], 50, SECONDS) == {}


def test_a_part_of_a_file(transport: FileTransport, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    got = [
        transport.get_part(str(tmp_path / "file"), offset, 30_000, SECONDS) for offset in (0, 90_000, 100_000, 200_000)
    ]
    assert got == [content[:30_000], content[90_000:], b"", b""]
    (tmp_path / "link").symlink_to("file")
    for name in ("missing", "link", "."):
        with pytest.raises(NoSuchFile):
            transport.get_part(str(tmp_path / name), 0, 10, SECONDS)


def test_checksums_are_worked_out_there(transport: FileTransport, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_text(name)
    asked = [str(tmp_path / name) for name in (*NAMES, "missing", ".")]
    hashed = {str(tmp_path / name): hashlib.sha256(name.encode()).hexdigest() for name in NAMES}
    assert transport.checksums(asked, SECONDS) == hashed


def test_trees_are_removed(transport: FileTransport, tmp_path: Path) -> None:
    """Links with them, not what they lead to; what is gone already is no error."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    for name in NAMES:
        (tmp_path / "gone" / name).mkdir(parents=True)
        (tmp_path / "gone" / name / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    transport.remove_trees([str(tmp_path / name) for name in ("gone", "missing", "link")], SECONDS)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").exists()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A folder with room for a quarter MiB within the block."""
    require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", [PIECE_BYTES // 2, PIECE_BYTES + 1], ids=["small", "large"])
def test_a_disk_that_is_full_there(transport: FileTransport, tmp_path: Path, size: int) -> None:
    """It is told as that, and nothing is left over."""
    full = tmp_path / "full"
    full.mkdir()
    (tmp_path / "source").write_bytes(b"x" * size)
    with small_disk(full):
        with pytest.raises(TransportError, match="No space left on device"):
            transport.put_many({str(full / "target"): tmp_path / "source"}, SECONDS)
        assert list(full.iterdir()) == []


@pytest.mark.cluster
@pytest.mark.parametrize("kind", SSH_TRANSPORTS)
def test_a_download_that_is_cut_off_leaves_nothing_and_goes_on_where_it_was(
    kind: str, sshd: Sshd, tmp_path: Path
) -> None:
    content = os.urandom(3 * PIECE_BYTES)
    (tmp_path / "source").write_bytes(content)
    with proxied(sshd) as proxy:
        own = settings(sshd, port=proxy.port, known_hosts=[str(proxy.known_hosts(sshd, tmp_path))])
        transport = SSH_TRANSPORTS[kind](own)
        try:
            begun = transport.get_part(str(tmp_path / "source"), 0, PIECE_BYTES, SECONDS)
            proxy.lose_after(PIECE_BYTES // 2)
            with pytest.raises(TransportError):
                transport.get(str(tmp_path / "source"), tmp_path / "target")
            assert sorted(path.name for path in tmp_path.iterdir()) == ["known_hosts", "source"]
            rest = transport.get_part(str(tmp_path / "source"), len(begun), 3 * PIECE_BYTES, SECONDS)
            assert begun + rest == content
        finally:
            transport.close()


class _Account(CommandFiles):
    """The commands of a transport, as an account that permissions hold for."""

    def output(self, command: Command, timeout: float) -> Output:
        """As nobody, where the tests run as root."""
        user = 65534 if os.geteuid() == 0 else None
        done = subprocess.run(command.argv, input=command.stdin, capture_output=True, timeout=timeout, user=user)
        return Output(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of that account, with two files in it, and a folder with one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        top = Path(name)
        (top / "job" / "inner").mkdir(parents=True)
        for path in ("job/closed", "job/open", "job/inner/file"):
            (top / path).write_bytes(b"some words")
        for path in (top, *top.rglob("*")):
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
        yield top / "job"
        subprocess.run(["chmod", "-R", "u+rwx", str(top)], check=True)


def test_a_file_that_its_account_cannot_read_is_none(folder: Path) -> None:
    """A job may have closed it: that is no fault of the connection, and nothing that all others have to wait for."""
    files, closed, readable = _Account(), str(folder / "closed"), str(folder / "open")
    (folder / "closed").chmod(0)
    with pytest.raises(NoSuchFile):
        files.get_part(closed, 0, 100, SECONDS)
    assert files.read_many([closed, readable], 100, SECONDS) == {readable: b"some words"}
    assert set(files.checksums([closed, readable], SECONDS)) == {readable}


def test_folders_that_a_job_has_closed_are_opened(folder: Path) -> None:
    files = _Account()
    (folder / "inner").chmod(0)
    folder.chmod(0)
    with pytest.raises(Unreadable):
        files.list_folders([str(folder)], SECONDS, 2)
    files.open_folders([str(folder), str(folder / "missing")], SECONDS, 2)
    found = files.list_folders([str(folder)], SECONDS, 2)[str(folder)]
    assert {entry.path for entry in found} == {"closed", "open", "inner", "inner/file"}


@pytest.mark.parametrize("mode", [0, 0o500])
def test_trees_with_closed_folders_are_removed(folder: Path, mode: int) -> None:
    """A copy of something read-only leaves such folders without any malice."""
    (folder / "inner").chmod(mode)
    folder.chmod(mode)
    _Account().remove_trees([str(folder), str(folder.parent / "missing")], SECONDS)
    assert not folder.exists()


def test_a_listing_of_what_is_wanted_only(folder: Path) -> None:
    """A job may leave any number of other files, of any name."""
    attempt = folder / "attempts" / "12"
    attempt.mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("status.xml", "statusXxml", "two\nstatus.xml", *(f"other-{number}" for number in range(500))):
        (attempt / name).touch()
    asked = [str(folder), str(folder / "empty"), str(folder / "open"), str(folder / "missing")]
    only = r"(attempts/[1-9][0-9]?/status\.xml|closed)"
    found = _Account().list_folders(asked, SECONDS, 3, only)
    assert {name: {entry.path for entry in entries} for name, entries in found.items()} == {
        asked[0]: {"attempts/12/status.xml", "closed"},
        asked[1]: set(),
    }


@pytest.fixture
def swapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A FIFO in the place of a file that was regular when it was looked at: a command without that look."""
    for name in ("_READ", "_HASH", "_PART"):
        script: str = getattr(files, name)
        assert '-f "$' in script
        monkeypatch.setattr(files, name, script.replace("[ -f", "[ -e").replace("[ ! -f", "[ ! -e"))
    (folder / "closed").unlink()
    subprocess.run(["mkfifo", "--mode=666", str(folder / "closed")], check=True)
    return folder / "closed"


@pytest.mark.parametrize("held", [False, True])
def test_a_fifo_that_takes_the_place_of_a_file_holds_nobody_up(folder: Path, swapped: Path, held: bool) -> None:
    """Opened as a file is, it would wait for a writer, and all others of the round with it."""
    account, others = _Account(), [str(folder / "open"), str(folder / "inner" / "file")]
    writer = os.open(swapped, os.O_RDWR) if held else None
    try:
        read = account.read_many([others[0], str(swapped), others[1]], 100, 10)
        assert {path: read[path] for path in others} == dict.fromkeys(others, b"some words")
        assert read.get(str(swapped), b"") == b""
        sums = account.checksums([others[0], str(swapped), others[1]], 10)
        assert sums[others[0]] == sums[others[1]] == hashlib.sha256(b"some words").hexdigest()
        if held:
            with pytest.raises(TransportError):
                account.get_part(str(swapped), 0, 10, 10)
        else:
            assert account.get_part(str(swapped), 5, 10, 10) == b""
    finally:
        if writer is not None:
            os.close(writer)


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_READ", "_HASH", "_PART"):
        monkeypatch.setattr(files, name, getattr(files, name).replace("[ -L", "[ ! -e"))
    (folder / "closed").unlink()
    (folder / "closed").symlink_to("open")
    account, link, other = _Account(), str(folder / "closed"), str(folder / "open")
    assert account.read_many([link, other], 100, 10) == {other: b"some words"}
    assert account.checksums([link], 10).get(link) != hashlib.sha256(b"some words").hexdigest()
    with pytest.raises(TransportError):
        account.get_part(link, 0, 10, 10)
