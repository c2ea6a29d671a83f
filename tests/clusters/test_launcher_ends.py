"""How the launcher ends a process, or is ended itself: signals, limits, full disks, kill -9 at any place."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats import records
from joblauncher.formats.records import Limits, RecordError
from tests.folders import ROOT, Launcher, MadeJob, Recipe, finished, is_alive, make_job, wait_for
from tests.schemas import validate
from tests.services import require

SCHEMA = "wps/1.0.0/wpsExecute_response.xsd"
MODULE = Launcher()

#: Says that it runs, and runs on.
RUNNING = """
(job.workdir / "pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.05)
"""
#: Starts a program in a session of its own, and one in its group.
WITH_CHILDREN = """
for name, own_session in (("grouped", False), ("apart", True)):
    child = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
    (job.workdir / name).write_text(str(child.pid))
"""
PATIENT = Limits(grace_s=60.0)


def _indented(body: str) -> str:
    return textwrap.indent(body, "    ")


@pytest.fixture
def started(tmp_path: Path) -> Iterator["Started"]:
    """Starts launchers, and leaves none behind."""
    starter = Started(tmp_path)
    yield starter
    for process in starter.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Started:
    """Jobs whose launcher runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, recipe: Recipe, *arguments: str, **environment: str) -> tuple[MadeJob, "subprocess.Popen[str]"]:
        """Make a job, start it, and wait until its process says that it runs."""
        job = make_job(self._path / "job", recipe)
        process = MODULE.start(job, *arguments, **environment)
        self.processes.append(process)
        job.number("pid")
        return job, process


def failure_of(job: MadeJob) -> records.Failure:
    """The failure that both files of the attempt tell."""
    validate(job.attempt().status.read_bytes(), SCHEMA)
    failure = job.result().failure
    assert failure is not None
    assert (job.status().state, job.status().text) == ("failed", failure.text)
    return failure


def gone(*pids: int) -> None:
    """Assert that processes are gone, now or very soon."""
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


# --- cancel ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_cancel_lets_the_process_clean_up(started: Started, name: str) -> None:
    body = f"try:\n{_indented(RUNNING)}\nfinally:\n    (job.workdir / 'cleaned').touch()"
    job, process = started(Recipe(body, limits=PATIENT))
    process.send_signal(signal.Signals[name])
    assert finished(process).returncode == records.EXIT_FAILED
    assert (job.attempt().work / "cleaned").exists()
    assert failure_of(job).cause == "cancelled"
    assert job.result().signals == (name,)


def test_cancel_reaches_command_line_programs(started: Started) -> None:
    child = "trap 'echo stopping > stopped; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    # Unlike subprocess.run, which kills its program on any exception, this waits for it.
    body = f"with subprocess.Popen(['sh', '-c', {child!r}]) as child: child.wait()"
    job, process = started(Recipe(body, limits=PATIENT))
    process.terminate()
    finished(process)
    assert (job.attempt().work / "stopped").read_text() == "stopping\n"
    assert failure_of(job).cause == "cancelled"


def test_cancel_reaches_programs_in_a_session_of_their_own(started: Started) -> None:
    child = "trap 'echo stopping > stopped; exit 0' TERM; echo $$ > pid; while :; do sleep 0.05; done"
    start = f"child = subprocess.Popen(['sh', '-c', {child!r}], start_new_session=True)"
    body = f"{start}\ntry: child.wait()\nfinally: child.wait()"
    job, process = started(Recipe(body, limits=PATIENT))
    process.terminate()
    finished(process)
    assert (job.attempt().work / "stopped").read_text() == "stopping\n"


def test_who_ignores_cancel_is_killed_after_the_grace_with_all_that_is_his(started: Started) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" + WITH_CHILDREN + RUNNING
    job, process = started(Recipe(body, limits=Limits(grace_s=0.3)))
    process.terminate()
    finished(process)
    assert failure_of(job).cause == "cancelled"
    gone(job.number("pid"), job.number("grouped"), job.number("apart"))


def test_a_second_cancel_does_not_interrupt_the_clean_up(started: Started) -> None:
    body = f"""
try:
{_indented(RUNNING)}
finally:
    (job.workdir / "cleaning").write_text("1")
    os.kill(os.getpid(), signal.SIGTERM)
    while not (job.workdir / "go").exists():
        time.sleep(0.01)
    (job.workdir / "cleaned").touch()
"""
    job, process = started(Recipe(body, limits=PATIENT))
    process.terminate()
    job.number("cleaning")
    process.terminate()
    (job.attempt().work / "go").touch()
    finished(process)
    assert (job.attempt().work / "cleaned").exists()


def test_who_finishes_all_the_same_has_succeeded(started: Started) -> None:
    body = f"try:\n{_indented(RUNNING)}\nexcept Cancelled:\n    return {{'x': (LiteralValue('partial'),)}}"
    job, process = started(Recipe(body, limits=PATIENT))
    process.terminate()
    assert finished(process).returncode == records.EXIT_SUCCEEDED
    assert job.result().signals == ("SIGTERM",)
    assert job.status().state == "succeeded"


def test_cancel_while_inputs_are_checked_ends_before_the_process_starts(tmp_path: Path) -> None:
    # A sparse file that takes seconds to hash; the launcher is cancelled as soon as it has said that it began.
    job = make_job(tmp_path / "job", Recipe(inputs={"a": b""}))
    manifest = records.load(records.Manifest, job.folder.manifest.read_bytes())
    size = 40 << 30
    os.truncate(job.folder.inputs / "a", size)
    files = tuple(
        records.ListedFile(entry.path, size, "0" * 64) if entry.path == "inputs/a" else entry
        for entry in manifest.files
    )
    job = _with_files(job, files)
    process = MODULE.start(job)
    wait_for(lambda: job.attempt().status.exists())
    process.terminate()
    assert finished(process).returncode == records.EXIT_FAILED
    failure = failure_of(job)
    assert (failure.cause, "before" in failure.text) == ("cancelled", True)
    assert not job.attempt().stdout.exists()


def _with_files(job: MadeJob, files: tuple[records.ListedFile, ...]) -> MadeJob:
    manifest = replace(records.load(records.Manifest, job.folder.manifest.read_bytes()), files=files)
    content = records.dump(manifest)
    job.folder.manifest.write_bytes(content)
    return MadeJob(job.folder, hashlib.sha256(content).hexdigest())


# --- time limits -----------------------------------------------------------------------------------------------------

ON_WARNING = """
def save():
    (job.workdir / "saved").write_text("1")
job.on_time_warning(save)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_time_warning_calls_who_asked_and_the_process_goes_on(started: Started, name: str) -> None:
    job, process = started(Recipe(ON_WARNING + RUNNING, limits=PATIENT))
    process.send_signal(signal.Signals[name])
    job.number("saved")
    assert is_alive(job.number("pid"))
    process.terminate()
    finished(process)
    assert failure_of(job).cause == "time limit"
    assert job.result().signals == (name, "SIGTERM")


COUNTING = """
def count():
    with (job.workdir / "warnings").open("a") as stream:
        stream.write("1")
    (job.workdir / "saved").write_text("1")
job.on_time_warning(count)
"""


def test_a_warning_that_comes_twice_at_once_is_one(started: Started) -> None:
    """As it does within a container: from the scheduler, and passed on by the container's runtime."""
    job, process = started(Recipe(COUNTING + RUNNING, limits=PATIENT))
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGUSR2)
    job.number("saved")
    process.terminate()
    finished(process)
    assert job.result().signals[:2] == ("SIGUSR1", "SIGUSR2")
    assert (job.attempt().work / "warnings").read_text() == "1"


@pytest.mark.parametrize("to_all", [False, True])
def test_where_ends_are_announced_usr2_is_an_order_to_end(started: Started, to_all: bool) -> None:
    """Grid Engine's -notify: without it there is only SIGKILL, and no clean-up. An ordinary account's processes all get
    it, the job process first perhaps."""
    body = f"try:\n{_indented(RUNNING)}\nfinally:\n    (job.workdir / 'cleaned').touch()"
    job, process = started(Recipe(body, limits=PATIENT), "--notified")
    if to_all:
        os.kill(job.number("pid"), signal.SIGUSR2)
    process.send_signal(signal.SIGUSR2)
    assert finished(process).returncode == records.EXIT_FAILED
    assert (job.attempt().work / "cleaned").exists()
    assert failure_of(job).cause == "cancelled"
    assert to_all or job.result().signals == ("SIGTERM",)


def test_where_stops_are_announced_usr1_warns_and_proves_no_time_limit(started: Started) -> None:
    """It may come before a soft limit, or before the job is suspended."""
    job, process = started(Recipe(ON_WARNING + RUNNING, limits=PATIENT), "--notified")
    process.send_signal(signal.SIGUSR1)
    job.number("saved")
    os.kill(job.number("pid"), signal.SIGKILL)
    finished(process)
    assert failure_of(job).cause == "signal"


def test_a_time_warning_does_not_kill_command_line_programs(started: Started) -> None:
    body = "child = subprocess.Popen(['sleep', '1000'])" + ON_WARNING + WITH_CHILDREN + RUNNING
    job, process = started(Recipe(body, limits=PATIENT))
    process.send_signal(signal.SIGUSR1)
    job.number("saved")
    assert is_alive(job.number("grouped")) and is_alive(job.number("apart"))


def test_killed_after_a_time_warning_is_the_time_limit(started: Started) -> None:
    job, process = started(Recipe(ON_WARNING + RUNNING, limits=PATIENT))
    process.send_signal(signal.SIGUSR1)
    job.number("saved")
    os.kill(job.number("pid"), signal.SIGKILL)
    finished(process)
    assert failure_of(job).cause == "time limit"


def test_the_walltime_warns_asks_and_kills(started: Started) -> None:
    body = ON_WARNING + "signal.signal(signal.SIGTERM, signal.SIG_IGN)" + WITH_CHILDREN + RUNNING
    job, process = started(Recipe(body, limits=Limits(walltime_s=1.5, grace_s=0.3)))
    finished(process)
    failure = failure_of(job)
    assert failure.cause == "time limit"
    assert failure.text == "The process was ended at its time limit of 1.5 s."
    assert (job.attempt().work / "saved").exists()
    assert job.result().signals == ()
    assert 1.5 <= job.result().rusage["wall_s"] < 10
    gone(job.number("pid"), job.number("grouped"), job.number("apart"))


def test_the_walltime_stands_still_while_the_job_is_suspended(started: Started) -> None:
    body = """
    (job.workdir / "pid").write_text(str(os.getpid()))
    while not (job.workdir / "go").exists():
        time.sleep(0.01)
    # Long enough to be cancelled, were the time that has passed by the clock counted.
    time.sleep(0.5)
    return {}
    """
    job, process = started(Recipe(body, limits=Limits(walltime_s=6.0, grace_s=0.1)))
    process.send_signal(signal.SIGSTOP)
    resumed = threading.Timer(7.0, process.send_signal, [signal.SIGCONT])
    resumed.start()
    resumed.join()
    (job.attempt().work / "go").touch()
    assert finished(process).returncode == records.EXIT_SUCCEEDED


def test_whoever_suspends_the_launcher_alone_suspends_all_of_the_job(started: Started) -> None:
    """As batch systems do, which know of one process group."""
    body = """
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (job.workdir / "child").write_text(str(child.pid))
    (job.workdir / "pid").write_text(str(os.getpid()))
    while not (job.workdir / "go").exists():
        time.sleep(0.01)
    return {}
    """
    job, process = started(Recipe(body))
    pids = [job.number("pid"), job.number("child")]

    def states() -> set[str]:
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}

    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: states() == {"T"})
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: "T" not in states())
    (job.attempt().work / "go").touch()
    assert finished(process).returncode == records.EXIT_SUCCEEDED


def test_limits_are_left_to_the_scheduler_where_it_enforces_them(tmp_path: Path) -> None:
    body = """
    x = bytearray(100 << 20)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        pass
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(walltime_s=0.5, memory_mb=50, enforce=False)))
    assert MODULE.run(job).returncode == records.EXIT_SUCCEEDED


# --- memory ----------------------------------------------------------------------------------------------------------


def test_a_memory_bomb_is_killed_with_peak_and_limit(tmp_path: Path) -> None:
    body = "hoard = []\nwhile True:\n    hoard.append(bytearray(b'x' * (4 << 20))); time.sleep(0.01)"
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(memory_mb=200)))
    assert MODULE.run(job).returncode == records.EXIT_FAILED
    failure = failure_of(job)
    assert failure.cause == "out of memory"
    assert failure.text.startswith("The process ran out of memory: peak ")
    assert failure.text.endswith(" MB of 200 MB.")
    assert job.result().rusage["max_rss_mb"] > 200


def test_memory_of_the_whole_tree_counts(tmp_path: Path) -> None:
    program = "import time; x = bytearray(b'x' * (60 << 20)); time.sleep(1000)"
    start = f"subprocess.Popen([sys.executable, '-c', {program!r}], start_new_session=True)"
    body = f"for _ in range(4): child = {start}\nchild.wait()"
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(memory_mb=220)))
    assert MODULE.run(job).returncode == records.EXIT_FAILED
    assert failure_of(job).cause == "out of memory"


def test_shared_pages_of_forked_processes_count_once(tmp_path: Path) -> None:
    body = """
    x = bytearray(b'x' * (60 << 20))
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            time.sleep(1.0)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(memory_mb=180)))
    assert MODULE.run(job).returncode == records.EXIT_SUCCEEDED, job.stderr


@pytest.mark.parametrize(("kills", "cause"), [(3, "out of memory"), (2, "signal")])
def test_out_of_memory_is_said_on_the_kernels_evidence_only(tmp_path: Path, kills: int, cause: str) -> None:
    require("The right to mount", os.geteuid() == 0, "run the tests as root")
    fake = tmp_path / "cgroup"
    events = _memory_group(fake)
    events.parent.mkdir(parents=True)
    events.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    body = f"Path({str(events)!r}).write_text('under_oom 0\\noom_kill {kills}\\n'); os.kill(os.getpid(), 9)"
    job = make_job(tmp_path / "job", Recipe(body))
    # A file stands in for the kernel's: the tests may not make control groups.
    mount = f'mount --bind {fake} /sys/fs/cgroup && exec "$@"'
    done = Launcher(("unshare", "--mount", "sh", "-c", mount, "sh", *MODULE.command)).run(job)
    assert done.returncode == records.EXIT_FAILED, done.stderr
    assert failure_of(job).cause == cause


def _memory_group(mount: Path) -> Path:
    """Where this process's own memory group has its count of kills, by /proc/self/cgroup."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return mount / "memory" / path.lstrip("/") / "memory.oom_control"
    return mount / Path("/proc/self/cgroup").read_text().split("::")[-1].strip().lstrip("/") / "memory.events"


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_kill_9_of_the_process_is_told(started: Started) -> None:
    job, process = started(Recipe(WITH_CHILDREN + RUNNING))
    os.kill(job.number("pid"), signal.SIGKILL)
    assert finished(process).returncode == records.EXIT_FAILED
    failure = failure_of(job)
    assert (failure.cause, failure.signal) == ("signal", 9)
    gone(job.number("grouped"), job.number("apart"))


def test_kill_9_of_the_guard_is_told_and_nothing_survives(started: Started) -> None:
    job, process = started(Recipe(WITH_CHILDREN + RUNNING))
    (guard,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    os.kill(guard, signal.SIGKILL)
    assert finished(process).returncode == records.EXIT_FAILED
    assert failure_of(job).cause == "signal"
    assert "guard" in job.stderr
    gone(guard, job.number("pid"), job.number("grouped"), job.number("apart"))


def test_kill_9_of_the_launcher_leaves_nothing_of_the_job(started: Started) -> None:
    job, process = started(Recipe(WITH_CHILDREN + RUNNING))
    process.kill()
    finished(process)
    gone(job.number("pid"), job.number("grouped"), job.number("apart"))
    assert job.status().state == "started"
    assert not job.attempt().result.exists()


def test_kill_9_of_the_launchers_group_leaves_nothing_of_the_job(started: Started) -> None:
    job, process = started(Recipe(WITH_CHILDREN + RUNNING))
    os.killpg(process.pid, signal.SIGKILL)
    finished(process)
    gone(job.number("pid"), job.number("grouped"), job.number("apart"))


def test_a_fork_bomb_does_not_outlive_its_launcher(started: Started) -> None:
    body = """
    (job.workdir / "pid").write_text(str(os.getpid()))
    for _ in range(5):
        os.fork()
    os.setsid() if os.getpid() != os.getpgid(0) else None
    with open(job.workdir / "all", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while True:
        time.sleep(0.05)
    """
    job, process = started(Recipe(body))
    everyone = job.attempt().work / "all"
    wait_for(lambda: everyone.exists() and everyone.read_text().count("\n") == 32)
    process.kill()
    gone(*map(int, everyone.read_text().split()))


# --- failpoints ------------------------------------------------------------------------------------------------------


def at_failpoint(tmp_path: Path, point: Failpoint) -> tuple[MadeJob, int]:
    """Run a job whose launcher (or process) dies at that place; the launcher's exit code."""
    body = f"os.close(os.open({str(tmp_path / 'ran')!r}, os.O_CREAT | os.O_EXCL)); return {{'x': (LiteralValue('1'),)}}"
    job = make_job(tmp_path / "job", Recipe(body))
    done = MODULE.run(job, WPS_HPC_FAILPOINT=f"{point.value}:{tmp_path / 'marker'}")
    assert (tmp_path / "marker").exists()
    return job, done.returncode


def test_killed_before_the_claim_nothing_is_there_and_it_can_run(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_BEFORE_CLAIM)
    assert code == -signal.SIGKILL
    assert not job.folder.attempts.exists()
    assert MODULE.run(job).returncode == records.EXIT_SUCCEEDED


def test_killed_after_the_claim_it_never_runs_again(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_AFTER_CLAIM)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RecordError):
        job.status()
    assert MODULE.run(job).returncode == records.EXIT_CLAIMED


def test_the_process_killed_after_loading_is_a_failure(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_LOADED)
    assert code == records.EXIT_FAILED
    failure = failure_of(job)
    assert (failure.cause, failure.signal) == ("signal", 9)
    assert not (tmp_path / "ran").exists()


def test_killed_when_the_process_is_done_it_never_claims_success(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_PROCESS_DONE)
    assert code == -signal.SIGKILL
    assert (tmp_path / "ran").exists()
    assert job.status().state == "started"
    assert not job.attempt().result.exists()
    assert MODULE.run(job).returncode == records.EXIT_CLAIMED


def test_a_result_without_its_status_is_not_committed(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_RESULT_WRITTEN)
    assert code == -signal.SIGKILL
    assert job.status().state == "started"
    assert job.result().state == "succeeded"
    assert MODULE.run(job).returncode == records.EXIT_CLAIMED
    assert job.status().state == "started"


def test_killed_after_the_status_it_has_succeeded(tmp_path: Path) -> None:
    job, code = at_failpoint(tmp_path, Failpoint.LAUNCH_STATUS_WRITTEN)
    assert code == -signal.SIGKILL
    assert job.status().state == job.result().state == "succeeded"


def test_every_failpoint_of_the_launcher_is_made_above() -> None:
    mine = {point.name for point in Failpoint if point.name.startswith("LAUNCH_")}
    assert {name for name in mine if f"Failpoint.{name})" in Path(__file__).read_text()} == mine


# --- full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    require("The right to mount", os.geteuid() == 0, "run the tests as root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


#: Leaves not one byte, and hides that it could not write.
FILL = """
with open(folders.outputs / "fill", "wb", 0) as file:
    for size in (65536, 4096, 1):
        try:
            while True:
                file.write(b"x" * size)
        except OSError as error:
            full = error
"""


def test_a_disk_that_the_process_fills_is_told(small_disk: Path) -> None:
    job = make_job(small_disk / "job", Recipe(FILL + "raise full"))
    assert MODULE.run(job).returncode == records.EXIT_FAILED
    failure = failure_of(job)
    assert (failure.cause, failure.code) == ("disk full", "NotEnoughStorage")


def test_a_full_disk_does_not_stop_what_needs_no_more_of_it(small_disk: Path) -> None:
    body = FILL + "job.progress(50, 'full'); print('x' * 200_000); return {'x': (LiteralValue('1'),)}"
    job = make_job(small_disk / "job", Recipe(body))
    done = MODULE.run(job)
    assert done.returncode == records.EXIT_SUCCEEDED, done.stderr
    assert job.status().state == "succeeded"


def test_an_outcome_too_large_for_the_disk_is_a_failure(small_disk: Path) -> None:
    job = make_job(small_disk / "job", Recipe(FILL + "return {'x': (LiteralValue('1' * 300_000),)}"))
    done = MODULE.run(job)
    assert done.returncode == records.EXIT_FAILED, done.stderr
    failure = failure_of(job)
    assert failure.cause == "disk full"
    assert "could not be recorded" in failure.text


def test_a_disk_without_even_the_reserve_is_an_exit_code(small_disk: Path) -> None:
    job = make_job(small_disk / "job", Recipe())
    with (small_disk / "fill").open("wb", 0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    done = MODULE.run(job)
    assert done.returncode == records.EXIT_NOT_WRITTEN
    assert "No space left" in done.stderr


def test_a_reserve_that_another_takes_is_an_exit_code(small_disk: Path) -> None:
    body = "(folders.outputs.parent / '.reserve').unlink()\n" + FILL + "return {}"
    job = make_job(small_disk / "job", Recipe(body))
    done = MODULE.run(job)
    assert done.returncode == records.EXIT_NOT_WRITTEN
    assert "No space left" in done.stderr
    assert job.status().state == "started"
    assert not job.attempt().result.exists()


@pytest.mark.parametrize(
    ("body", "code"), [("return {}", records.EXIT_SUCCEEDED), ("os._exit(3)", records.EXIT_FAILED)]
)
def test_a_standard_error_that_cannot_be_written_changes_nothing(tmp_path: Path, body: str, code: int) -> None:
    job = make_job(tmp_path / "job", Recipe(body))
    launcher = Launcher(("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *MODULE.command))
    assert launcher.run(job).returncode == code
    assert job.status().state == ("succeeded" if code == 0 else "failed")


def test_a_folder_that_cannot_be_written_is_an_exit_code(tmp_path: Path) -> None:
    require("The right to mount", os.geteuid() == 0, "run the tests as root")
    job = make_job(tmp_path / "job", Recipe())
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    launcher = Launcher(("unshare", "--mount", "sh", "-c", mount, str(job.folder.path), *MODULE.command))
    done = launcher.run(job)
    assert done.returncode == records.EXIT_NOT_WRITTEN
    assert "Read-only file system" in done.stderr


# --- the launcher's own failures -------------------------------------------------------------------------------------

_DEFECT = """
import errno, os, sys
from joblauncher import supervise
from joblauncher.__main__ import main

def no_fork():
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

def defect(self):
    if os.path.exists(sys.argv[4] + "/attempts/1/work/pid"):
        raise RuntimeError("a defect")
    turn(self)

turn = supervise.Supervision._turn
{change}
sys.exit(main(sys.argv[1:]))
"""


def with_defect(job: MadeJob, change: str) -> records.Failure:
    """Run a job with a launcher that was made to fail."""
    done = Launcher((sys.executable, "-c", _DEFECT.format(change=change))).run(job)
    assert done.returncode == records.EXIT_FAILED, done.stderr
    return failure_of(job)


def test_a_process_that_cannot_be_forked_is_told(tmp_path: Path) -> None:
    failure = with_defect(make_job(tmp_path / "job", Recipe()), "os.fork = no_fork")
    assert failure.cause == "could not start"
    assert "Resource temporarily unavailable" in failure.detail


def test_a_defect_of_the_launcher_is_told_and_leaves_no_process(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe(WITH_CHILDREN + RUNNING))
    failure = with_defect(job, "supervise.Supervision._turn = defect")
    assert (failure.cause, failure.detail) == ("internal error", "RuntimeError('a defect')")
    gone(job.number("pid"), job.number("grouped"), job.number("apart"))


@pytest.mark.parametrize(
    "line",
    ["[]", "5", "x", '["progress", "a", "b"]', '["other", 1, 2]', '["progress", NaN, ""]', '["progress", 5]'],
)
def test_progress_that_cannot_be_read_is_noted_and_no_more(tmp_path: Path, line: str) -> None:
    body = f"os.write(job.report.__self__._descriptor, {line.encode()!r} + b'\\n'); return {{}}"
    job = make_job(tmp_path / "job", Recipe(body))
    assert MODULE.run(job).returncode == records.EXIT_SUCCEEDED
    assert "cannot be read" in job.stderr


@pytest.mark.parametrize(
    ("outcome", "cause"),
    [
        (b"[]", "exit code"),
        (b"{}", "exit code"),
        (b'{"outputs": {}', "exit code"),
        (b'{"outputs": 5}', "bad output"),
        (b'{"outputs": {"x": [{"kind": "literal", "text": 5}]}}', "bad output"),
        (b'{"failure": 5}', "internal error"),
        (b"[" * 9_999, "exit code"),
    ],
)
def test_an_outcome_that_cannot_be_read_is_a_failure(tmp_path: Path, outcome: bytes, cause: str) -> None:
    body = f"os._exit(tell({outcome!r}))"
    # The outcome goes to the one pipe beside that of progress.
    tell = """
    def tell(content):
        mine = job.report.__self__._descriptor
        pipes = [n for n in map(int, os.listdir("/proc/self/fd")) if n > 2 and n != mine]
        (pipe,) = [n for n in pipes if os.path.exists(f"/proc/self/fd/{n}")]
        os.write(pipe, content + b"\\n")
        return 0
    """
    job = make_job(tmp_path / "job", Recipe(textwrap.dedent(tell) + body))
    assert MODULE.run(job).returncode == records.EXIT_FAILED
    assert failure_of(job).cause == cause


def test_an_outcome_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("return {'x': (LiteralValue('x' * (70 << 20)),)}"))
    assert MODULE.run(job).returncode == records.EXIT_FAILED
    failure = failure_of(job)
    assert failure.cause == "bad output"
    assert "belong into files" in failure.text


# --- within a process that is already there --------------------------------------------------------------------------

_FORKED = """
import os, sys
from joblauncher.__main__ import main
for arguments in (sys.argv[1:5], sys.argv[5:9]):
    if os.fork() == 0:
        os._exit(main(arguments))
codes = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))
print(codes)
"""


def test_it_runs_in_forks_of_a_warm_process(tmp_path: Path) -> None:
    first = make_job(tmp_path / "first", Recipe("print('first'); return {}"))
    second = make_job(tmp_path / "second", Recipe("raise ProcessError('second')"))
    command = [sys.executable, "-c", _FORKED, *first.arguments, *second.arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[0, 1]\n"
    assert (first.stdout, second.status().text) == ("first\n", "second")


def test_the_tests_have_the_programs_they_use() -> None:
    assert shutil.which("unshare") and shutil.which("setsid")
