"""The launcher's parts by themselves: logs, checks, versions, the kernel's files, progress, failures in words."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblauncher import inside, kernel, reaper, verify
from joblauncher.attempt import Attempt, Progress
from joblauncher.formats.folder import AttemptFolder
from joblauncher.formats.records import Manifest
from joblauncher.formats.status import StatusHead, read_status
from joblauncher.formats.values import FileValue, LiteralValue, NestedValue
from joblauncher.logs import CappedLog
from joblauncher.outputs import check_outputs
from tests.folders import wait_for
from wps_hpc.processes.payload import PayloadError
from wps_hpc.processes.run import ProcessError

# --- logs ------------------------------------------------------------------------------------------------------------


def logged(folder: Path, limit: int, *pieces: bytes) -> bytes:
    """What stands in a log that was fed with those pieces."""
    log = CappedLog(folder / "log", limit)
    for piece in pieces:
        log.feed(piece)
    log.close()
    return (folder / "log").read_bytes()


def test_a_short_log_is_kept_whole(tmp_path: Path) -> None:
    assert logged(tmp_path, 10, b"abc", b"", b"defghij") == b"abcdefghij"


def test_a_long_log_keeps_both_ends(tmp_path: Path) -> None:
    kept = logged(tmp_path, 10, b"0123456789", b"abcdefghij", b"XYZ")
    assert kept == b"01234\n[joblauncher: 13 bytes cut here]\nijXYZ"


@given(st.lists(st.binary(max_size=40), max_size=12), st.integers(0, 60))
def test_any_log_keeps_its_ends_and_counts_right(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int
) -> None:
    kept = logged(tmp_path_factory.mktemp("log"), limit, *pieces)
    whole = b"".join(pieces)
    if len(whole) <= limit:
        assert kept == whole
    else:
        head, tail = whole[: limit // 2], whole[len(whole) - (limit - limit // 2) :]
        assert kept == head + b"\n[joblauncher: %d bytes cut here]\n" % (len(whole) - limit) + tail


def test_the_head_can_be_read_while_the_process_runs(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", 100)
    log.feed(b"now")
    assert (tmp_path / "log").read_bytes() == b"now"
    log.note("said")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"nowjoblauncher: said\n"


def test_a_full_disk_costs_log_and_nothing_else() -> None:
    log = CappedLog(Path("/dev/full"), 1000)
    log.feed(b"x" * 5000)
    log.close()


def test_a_log_is_private(tmp_path: Path) -> None:
    logged(tmp_path, 10, b"x")
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


# --- checks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> int:
    """A directory descriptor with ``inner/file`` in it."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"content")
    return os.open(tmp_path, os.O_RDONLY)


def test_a_file_beneath_is_opened(folder: int) -> None:
    with os.fdopen(verify.open_beneath(folder, "inner/file"), "rb") as stream:
        assert stream.read() == b"content"


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "..", "inner", "inner/", "/inner/file", "inner//file", "inner/../inner/file", "inner/file/", "x\0y"],
)
def test_nothing_else_is_opened(folder: int, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(verify.Refused):
        verify.open_beneath(folder, path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_files_within_nested_values_are_found() -> None:
    one, two = FileValue("a", "text/plain"), FileValue("b", "text/plain")
    values = {"x": (one, LiteralValue("1")), "y": (NestedValue({"z": (NestedValue({"w": (two,)}),)}),)}
    assert list(verify.file_values(values)) == [one, two]


def manifest(**fields: str) -> Manifest:
    """A manifest of which only versions matter."""
    told = {"loads": "value", "python": "3.11.7", "dill": "0.4.0", "wps_hpc": "1.0", **fields}
    return Manifest(job="j", submission=1, process="p", module=None, created="", files=(), **told)


@pytest.mark.parametrize(
    ("loads", "written", "here", "refused"),
    [
        ("value", "3.11.7", "3.11.2", False),
        ("value", "3.11.7", "3.12.1", True),
        ("value", "3.1.0", "3.11.0", True),
        ("reference", "3.11.7", "3.9.1", False),
        ("source", "3.11.7", "3.13.0", False),
    ],
)
def test_code_by_value_needs_the_same_minor_python(
    monkeypatch: pytest.MonkeyPatch, loads: str, written: str, here: str, refused: bool
) -> None:
    monkeypatch.setattr("joblauncher.verify._HERE", here)
    told = manifest(loads=loads, python=written)
    if not refused:
        verify.check_versions(told)
        return
    with pytest.raises(verify.Refused) as caught:
        verify.check_versions(told)
    assert written in caught.value.text and here in caught.value.text


@pytest.mark.parametrize(
    ("dill", "wps_hpc", "warnings"),
    [
        ("0.4.0", "1.0", 0),
        ("0.4.1", "1.0", 0),
        ("0.10.0", "1.0", 0),
        ("0.3.9", "1.0", 1),
        ("0.4.0", "1.1", 1),
        ("0.3.9", "0.9", 2),
    ],
)
def test_other_versions_are_warned_about(dill: str, wps_hpc: str, warnings: int) -> None:
    assert len(inside.version_warnings(manifest(), dill, wps_hpc)) == warnings


# --- failures in words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "cause", "text"),
    [
        (ProcessError("as it\nis"), "process error", "as it\nis"),
        (ValueError("two\nlines"), "process error", "ValueError: two lines"),
        (ValueError(), "process error", "ValueError"),
        (PayloadError("no"), "could not start", "The process could not be loaded on the node: no"),
        (OSError(errno.EDQUOT, "quota"), "disk full", "The disk of the job folder is full: OSError: [Errno 122] quota"),
        (OSError(errno.ENOENT, "gone"), "process error", "FileNotFoundError: [Errno 2] gone"),
    ],
)
def test_an_exception_is_a_failure(error: BaseException, cause: str, text: str) -> None:
    failure = inside.failure_of(error)
    assert (failure.cause, failure.text) == (cause, text)


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    assert inside.failure_of(error).cause == "process error"


# --- progress --------------------------------------------------------------------------------------------------------


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    """Progress of an attempt in ``tmp_path``."""
    return Progress(Attempt(AttemptFolder(tmp_path), 1, 0.0), StatusHead("j", "p"))


def test_progress_never_goes_back_and_is_never_without_words(progress: Progress, tmp_path: Path) -> None:
    told = []
    for percent, message in [(0, ""), (40, "a\nb"), (10, "back"), (200, ""), (-5, "c" * 900)]:
        progress.note(percent, message)
        progress.write()
        record = read_status(tmp_path / "status.xml")
        told.append((record.percent, record.message))
    assert told[:4] == [(0, "The process has started."), (40, "a b"), (40, "back"), (99, "back")]
    assert told[4] == (99, "c" * 499 + "…")


def test_progress_is_due_only_when_there_is_something_new(progress: Progress) -> None:
    progress.write()
    assert progress.due is None
    progress.note(0, "The process has started.")
    assert progress.due is None
    progress.note(1, "on")
    assert progress.due is not None
    assert 0.4 < progress.due - time.monotonic() <= progress.INTERVAL


def test_progress_that_cannot_be_written_stays_due(
    progress: Progress, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "status.xml").mkdir()
    for percent in (1, 2):
        progress.note(percent, "on")
        progress.write()
        assert progress.due is not None
    assert capsys.readouterr().err.count("progress not written") == 1
    (tmp_path / "status.xml").rmdir()
    progress.write()
    assert progress.due is None
    assert read_status(tmp_path / "status.xml").percent == 2


def test_what_the_process_calls_itself_is_written(progress: Progress, tmp_path: Path) -> None:
    progress.describe("3.1", "A title")
    progress.write()
    assert b'processVersion="3.1"' in (tmp_path / "status.xml").read_bytes()


# --- the kernel's files ----------------------------------------------------------------------------------------------


def grouped(tmp_path: Path, membership: str, file: str, content: str) -> int | None:
    """The count of kills in a made-up /proc and /sys/fs/cgroup."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(membership)
    (tmp_path / "sys" / file).parent.mkdir(parents=True)
    (tmp_path / "sys" / file).write_text(content)
    return kernel.oom_kills(tmp_path / "proc", tmp_path / "sys")


V1 = "9:name=systemd:/\n4:cpu,memory:/slurm/job_7\n0::/\n"
V1_FILE = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
V2 = "0::/user.slice/job.scope\n"
V2_FILE = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 5\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("membership", "file", "content", "kills"),
    [
        (V1, "memory/slurm/job_7/memory.oom_control", V1_FILE, 3),
        # Within a container the group is the root of what is mounted.
        (V1, "memory/memory.oom_control", V1_FILE, 3),
        (V2, "user.slice/job.scope/memory.events", V2_FILE, 5),
        (V2, "memory.events", V2_FILE, 5),
        (V2, "unified/user.slice/job.scope/memory.events", V2_FILE, 5),
        # Before Linux 4.13 nobody counted.
        (V1, "memory/slurm/job_7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", None),
        (V1, "elsewhere", "", None),
        ("", "elsewhere", "", None),
    ],
)
def test_kills_for_memory_are_counted(
    tmp_path: Path, membership: str, file: str, content: str, kills: int | None
) -> None:
    assert grouped(tmp_path, membership, file, content) == kills


@pytest.fixture
def family() -> "subprocess.Popen[str]":
    """A process with a child that has a child, all of them alive."""
    program = "sleep 1000 & sh -c 'sleep 1000 & echo ready; wait' & wait"
    process = subprocess.Popen(["sh", "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("by_scan", [False, True])
def test_descendants_are_found(family: "subprocess.Popen[str]", by_scan: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_scan:
        monkeypatch.setattr(kernel, "_HAS_CHILDREN_FILES", False)
    try:
        # A child is first called as its parent, until it becomes another program.
        wait_for(lambda: _names(kernel.descendants(family.pid)) == ["sh", "sleep", "sleep"])
        found = kernel.descendants(family.pid)
        assert 0 < kernel.proportional_mb(found) <= kernel.resident_mb(found)
    finally:
        os.killpg(family.pid, signal.SIGKILL)
        family.communicate()


def _names(pids: list[int]) -> list[str]:
    return sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids)


def test_who_is_gone_has_neither_children_nor_memory() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert kernel.descendants(child.pid) == []
    assert kernel.resident_mb([child.pid]) == kernel.proportional_mb([child.pid]) == 0


def test_all_descendants_are_killed_and_reaped() -> None:
    program = """
import os, subprocess
from joblauncher import kernel, reaper
kernel.adopt_orphans()
first = subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; sleep 1000 & setsid sleep 1000 & echo up; wait"],
                         stdout=subprocess.PIPE)
first.stdout.readline()
statuses, survivors = reaper.kill_descendants(10.0)
first.returncode = 0
print(survivors, statuses[first.pid], len(statuses) >= 3, kernel.descendants(os.getpid()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "0 9 True []\n"


def test_a_report_of_the_guard_is_read_back() -> None:
    reaped = reaper.Reaped(9, 1.5, 20.0, 1, "x")
    assert reaper.Reaped.read(reaped.line()) == reaped


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"5", b'{"other": 1}'])
def test_another_report_is_an_error(line: bytes) -> None:
    with pytest.raises((TypeError, ValueError)):
        reaper.Reaped.read(line)


def test_descriptors_are_closed() -> None:
    program = """
import os
from joblauncher.kernel import close_all_but
ends = [end for _ in range(3) for end in os.pipe()]
close_all_but(ends[0], ends[5])
print([os.path.exists(f"/proc/self/fd/{end}") for end in ends])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[True, False, False, False, False, True]\n"


def test_a_child_dies_with_its_parent() -> None:
    program = """
import os, time
from joblauncher.kernel import die_with_parent
if os.fork() == 0:
    die_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(1000)
time.sleep(1000)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2])


# --- outputs ---------------------------------------------------------------------------------------------------------


def an_output(attempt: Path) -> FileValue:
    """An output that leads to a second file, as a process names it: its own word on the digest counts for nothing."""
    folder = attempt / "outputs"
    folder.mkdir()
    (folder / "map.tif").write_bytes(b"pixels")
    (folder / "tile.tif").write_bytes(b"a tile")
    return FileValue("outputs/map.tif", "image/tiff", sha256="0", parts=(FileValue("outputs/tile.tif", "image/tiff"),))


def test_outputs_that_travel_get_the_digest_of_what_lies_there(tmp_path: Path) -> None:
    (checked,) = check_outputs(tmp_path, {"map": (an_output(tmp_path),)}, digests=True)["map"]
    assert isinstance(checked, FileValue)
    found = [(value.size, value.sha256) for value in (checked, *checked.parts)]
    assert found == [(6, hashlib.sha256(content).hexdigest()) for content in (b"pixels", b"a tile")]


def test_outputs_on_a_shared_filesystem_get_none(tmp_path: Path) -> None:
    (checked,) = check_outputs(tmp_path, {"map": (an_output(tmp_path),)})["map"]
    assert isinstance(checked, FileValue)
    assert [(value.size, value.sha256) for value in (checked, *checked.parts)] == [(6, None), (6, None)]
