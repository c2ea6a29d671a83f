"""The launcher as a program, on real job folders: what it runs, what it refuses, and what it says of each end."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joblauncher.build import build_pyz
from joblauncher.formats import records
from joblauncher.formats.records import ClaimRecord, Limits, WantedOutput, load
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, NestedValue
from tests.folders import ROOT, Launcher, MadeJob, Recipe, finished, is_alive, make_job, wait_for
from tests.schemas import validate
from tests.services import require

SCHEMA = "wps/1.0.0/wpsExecute_response.xsd"
MODULE = Launcher()

EVERYTHING = """
    job.progress(10, "started on " + request.identifier)
    print("hello from", os.getcwd())
    text = "".join((folders.job.path / value.path).read_text() for value in request.inputs["files"])
    (folders.outputs / "copy.txt").write_text(text)
    return {
        "copy": (FileValue("outputs/copy.txt", "text/plain"),),
        "cores": (LiteralValue(str(job.resources.cores), "integer"),),
        "extent": (BoundingBoxValue((0.0, 1.0), (2.0, 3.0)),),
        "nested": (NestedValue({"file": (FileValue("outputs/copy.txt", "text/plain"),)}),),
    }
"""


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built joblauncher.pyz."""
    target = tmp_path_factory.mktemp("pyz") / "joblauncher.pyz"
    build_pyz(target)
    return target


@pytest.fixture(params=["module", "zipapp", "zipapp on Python 3.9"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    """Every way to start the launcher, the last one with nothing installed and nothing of the environment."""
    if request.param == "module":
        return MODULE
    zipapp = str(request.getfixturevalue("zipapp"))
    if request.param == "zipapp":
        return Launcher((sys.executable, zipapp))
    return Launcher((str(request.getfixturevalue("python39")), "-I", zipapp))


def failed(job: MadeJob, code: int = records.EXIT_FAILED, launcher: Launcher = MODULE) -> records.Failure:
    """Run a job that fails; the failure, which status.xml tells as well."""
    done = launcher.run(job)
    assert done.returncode == code, done.stderr
    validate(job.attempt().status.read_bytes(), SCHEMA)
    failure = job.result().failure
    assert failure is not None
    assert failure.cause in records.CAUSES
    status = job.status()
    assert (status.state, status.code, status.text) == ("failed", failure.code, failure.text)
    return failure


# --- success ----------------------------------------------------------------------------------------------------------


def test_a_process_runs_and_its_outcome_is_told(launcher: Launcher, tmp_path: Path) -> None:
    recipe = Recipe(EVERYTHING, inputs={"a": b"one ", "b": b"two"}, resources={"cores": 3, "unheard_of": 1})
    job = make_job(tmp_path / "job", recipe)
    done = launcher.run(job)
    assert done.returncode == records.EXIT_SUCCEEDED, done.stderr
    validate(job.attempt().status.read_bytes(), SCHEMA)
    assert job.status().state == "succeeded"
    result = job.result()
    assert result.failure is None
    assert result.outputs == {
        "copy": (FileValue("outputs/copy.txt", "text/plain", size=7),),
        "cores": (LiteralValue("3", "integer"),),
        "extent": (BoundingBoxValue((0.0, 1.0), (2.0, 3.0)),),
        "nested": (NestedValue({"file": (FileValue("outputs/copy.txt", "text/plain", size=7),)}),),
    }
    assert (job.attempt().outputs / "copy.txt").read_text() == "one two"
    assert job.stdout == f"hello from {job.attempt().work}\n"


def test_the_record_says_when_where_and_how_much(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("x = bytearray(80 << 20); sum(range(3_000_000)); return {}"))
    assert MODULE.run(job).returncode == 0
    result = job.result()
    claim = load(ClaimRecord, job.attempt().claim.read_bytes())
    assert result.host == claim.host == os.uname().nodename
    assert claim.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert claim.time == result.started <= result.finished
    assert result.rusage["cpu_s"] > 0.02
    assert 80 < result.rusage["max_rss_mb"] < 400
    assert 0 < result.rusage["wall_s"] <= result.finished - result.started
    assert result.signals == ()


def test_nothing_but_the_promised_files_is_left(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe())
    assert MODULE.run(job).returncode == 0
    names = {"claim", "status.xml", "result.json", "stdout.log", "stderr.log", "work", "outputs"}
    assert {file.name for file in job.attempt().path.iterdir()} == names
    assert all(file.stat().st_mode & 0o077 == 0 for file in job.attempt().path.iterdir())


def test_the_process_is_alone_with_itself(tmp_path: Path) -> None:
    body = """
    os.umask(mask := os.umask(0))
    said = {
        "stdin": sys.stdin.read(), "umask": mask, "group": os.getpgid(0) == os.getpid(),
        "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd")),
        "variables": [name for name in os.environ if name.startswith("WPS_HPC_FAILPOINT")],
        "blocked": [int(n) for n in __import__("signal").pthread_sigmask(0, [])],
    }
    import json
    print(json.dumps(said))
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body))
    done = MODULE.run(job, WPS_HPC_FAILPOINT=f"packed:{tmp_path}/never")
    assert done.returncode == 0, done.stderr
    said = json.loads(job.stdout)
    # Standard streams, progress, outcome, and the listing's own.
    assert len(said.pop("descriptors")) <= 6
    assert said == {"stdin": "", "umask": 0o077, "group": True, "variables": [], "blocked": []}


def test_restarts_of_the_scheduler_are_attempts_of_their_own(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe(limits=records.Limits(max_restarts=1), manifest={"submission": 2}))
    assert MODULE.run(job).returncode == 0
    job.attempt(2).status.write_bytes(b"<torn")
    assert MODULE.run(job, "--restarts", "3").returncode == 0
    assert sorted(file.name for file in job.folder.attempts.iterdir()) == ["2", "5"]
    assert job.status(5).state == "succeeded"


def test_what_has_succeeded_is_not_run_again(launcher: Launcher, tmp_path: Path) -> None:
    """An ended job that an administrator puts back into the queue, say."""
    job = make_job(tmp_path / "job", Recipe(limits=records.Limits(max_restarts=5)))
    assert launcher.run(job).returncode == 0
    again = launcher.run(job, "--restarts", "1")
    assert again.returncode == records.EXIT_CLAIMED and "has succeeded before" in again.stderr
    assert [file.name for file in job.folder.attempts.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("most", "text"),
    [(0, "does not allow a run to be started again"), (1, "interrupted the job 2 times; it is not started once more")],
)
def test_a_run_that_was_interrupted_too_often_is_not_started_again(
    launcher: Launcher, tmp_path: Path, most: int, text: str
) -> None:
    """Also where an administrator has put the job back into the queue."""
    mark = tmp_path / "mark"
    recipe = Recipe(f"Path({str(mark)!r}).touch(); return {{}}", limits=records.Limits(max_restarts=most))
    job = make_job(tmp_path / "job", recipe)
    for number in range(1, most + 2):
        job.attempt(number).path.mkdir(mode=0o700, parents=True)
        job.attempt(number).claim.touch()
    (job.folder.attempts / "something else").mkdir()
    assert launcher.run(job, "--restarts", str(most + 1)).returncode == records.EXIT_FAILED
    failure = job.result(most + 2).failure
    assert failure is not None and (failure.cause, mark.exists()) == ("interrupted", False)
    assert text in failure.text
    assert job.status(most + 2).text == failure.text


def test_restarts_without_a_run_do_not_count(tmp_path: Path) -> None:
    """A prolog that failed, say: the scheduler counts it, but nothing was ever begun."""
    job = make_job(tmp_path / "job", Recipe())
    job.attempt(1).path.mkdir(mode=0o700, parents=True)
    assert MODULE.run(job, "--restarts", "4").returncode == 0


def test_progress_is_written_while_the_process_runs(tmp_path: Path) -> None:
    body = """
    job.progress(float("nan"), "not a number")
    job.progress(30.7, "line one\\nline two")
    job.progress(20, "")
    while not (job.workdir / "go").exists():
        time.sleep(0.01)
    job.progress(500, "nearly")
    while not (job.workdir / "stop").exists():
        time.sleep(0.01)
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body))
    process = MODULE.start(job)
    wait_for(lambda: job.attempt().status.exists() and job.status().percent == 30)
    assert job.status().message == "line one line two"
    validate(job.attempt().status.read_bytes(), SCHEMA)
    (job.attempt().work / "go").touch()
    wait_for(lambda: (job.status().percent, job.status().message) == (99, "nearly"))
    (job.attempt().work / "stop").touch()
    assert finished(process).returncode == 0


def test_many_reports_cost_few_writes(tmp_path: Path) -> None:
    body = """
    before = os.stat(folders.outputs.parent).st_mtime_ns
    seen, began = set(), time.monotonic()
    for i in range(20_000):
        job.progress(i / 200, f"step {i}")
        if i % 100 == 0:
            seen.add(os.stat(folders.outputs.parent / "status.xml").st_ino)
    print(len(seen), time.monotonic() - began)
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body))
    assert MODULE.run(job).returncode == 0
    files, seconds = (float(part) for part in job.stdout.split())
    assert files <= seconds / 0.5 + 2


@pytest.mark.parametrize("wanted", [(), (WantedOutput("a"),)])
def test_a_request_by_hand_is_read(tmp_path: Path, wanted: tuple[WantedOutput, ...]) -> None:
    request = records.RequestRecord("x", {}, wanted, "fr")
    assert load(records.RequestRecord, records.dump(request)) == request


def test_parts_of_an_installed_wps_hpc_that_do_not_travel_are_found(zipapp: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site" / "wps_hpc"
    (installed / "examples").mkdir(parents=True)
    (installed / "__init__.py").touch()
    (installed / "examples" / "__init__.py").write_text("WORD = 'found'")
    body = "from wps_hpc.examples import WORD; print(WORD); return {}"
    job = make_job(tmp_path / "job", Recipe(body))
    done = Launcher((sys.executable, str(zipapp))).run(job, PYTHONPATH=str(installed.parent))
    assert done.returncode == 0, job.stderr
    assert job.stdout == "found\n"


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_second_launcher_does_not_run_and_touches_nothing(launcher: Launcher, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("print('ran'); return {}"))
    assert launcher.run(job).returncode == 0
    before = {file: file.stat() for file in sorted(job.folder.path.rglob("*"))}
    assert launcher.run(job).returncode == records.EXIT_CLAIMED
    assert {file: file.stat() for file in sorted(job.folder.path.rglob("*"))} == before


def test_of_many_launchers_at_once_one_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    body = f"os.close(os.open({str(marker)!r}, os.O_CREAT | os.O_EXCL)); return {{}}"
    job = make_job(tmp_path / "job", Recipe(body))
    processes = [MODULE.start(job) for _ in range(6)]
    codes = sorted(finished(process).returncode for process in processes)
    assert codes == [records.EXIT_SUCCEEDED] + [records.EXIT_CLAIMED] * 5
    assert job.status().state == "succeeded"


def test_the_batch_script_may_have_made_the_folder(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe())
    job.attempt().path.mkdir(parents=True)
    job.attempt().exit.write_text("{}")
    assert MODULE.run(job).returncode == 0


# --- what is refused before anything is claimed -----------------------------------------------------------------------


def refused(job: MadeJob, why: str) -> None:
    """Run a job that is refused without an attempt."""
    done = MODULE.run(job)
    assert done.returncode == records.EXIT_REFUSED, done.stderr
    assert why in done.stderr
    assert not job.attempt().claim.exists()


@pytest.fixture
def job(tmp_path: Path) -> MadeJob:
    """A job that would leave a mark if it ran."""
    body = f"Path({str(tmp_path / 'ran')!r}).touch(); return {{}}"
    return make_job(tmp_path / "job", Recipe(body, inputs={"a": b"input"}))


@pytest.fixture(autouse=True)
def marked(tmp_path: Path) -> Iterator[Path]:
    """Where a process that must not run leaves its mark."""
    yield tmp_path / "ran"


def test_another_manifest_is_refused(job: MadeJob, marked: Path) -> None:
    job.folder.manifest.write_bytes(job.folder.manifest.read_bytes() + b" ")
    refused(job, "manifest.json is not the one")
    assert not marked.exists()


def test_a_manifest_of_another_schema_is_refused(tmp_path: Path) -> None:
    refused(make_job(tmp_path / "job", Recipe(manifest={"loads": "guess"})), "loads is 'guess'")


def test_a_linked_folder_is_refused(job: MadeJob, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(job.folder.path)
    for name in ("link", "link/"):
        done = subprocess.run(
            [*MODULE.command, "--digest", job.digest, "--folder", f"{tmp_path}/{name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == records.EXIT_REFUSED
    assert not job.folder.attempts.exists()


def test_a_linked_manifest_is_refused(job: MadeJob, tmp_path: Path) -> None:
    job.folder.manifest.rename(tmp_path / "manifest.json")
    job.folder.manifest.symlink_to(tmp_path / "manifest.json")
    refused(job, "manifest.json")


def test_a_fifo_for_a_manifest_is_refused(job: MadeJob) -> None:
    job.folder.manifest.unlink()
    os.mkfifo(job.folder.manifest)
    refused(job, "not a regular file")


def test_a_missing_folder_is_refused(job: MadeJob) -> None:
    shutil.rmtree(job.folder.path)
    refused(job, "No such file")


@pytest.mark.parametrize("name", ["", "manifest.json"])
def test_what_another_user_owns_is_refused(job: MadeJob, name: str) -> None:
    require("The right to give files away", os.geteuid() == 0, "run the tests as root")
    os.chown(job.folder.path / name, 12345, -1)
    refused(job, "belongs to user 12345")


@pytest.mark.parametrize("name", ["", "manifest.json"])
def test_what_others_can_write_is_refused(job: MadeJob, name: str) -> None:
    (job.folder.path / name).chmod(0o722)
    refused(job, "can be written by others")


@pytest.mark.parametrize("name", ["attempts", "attempts/1"])
def test_a_linked_attempt_is_refused(job: MadeJob, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (job.folder.path / name).parent.mkdir(exist_ok=True)
    (job.folder.path / name).symlink_to(elsewhere)
    refused(job, "attempts" if name == "attempts" else "1")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--digest", "12", "--folder", "/tmp"],
        ["--folder", "/tmp"],
        ["--digest", "0" * 64, "--folder", "/tmp", "--restarts", "-1"],
    ],
)
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    done = subprocess.run([*MODULE.command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: joblauncher" in done.stderr


# --- what is refused and told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["payload.dill", "request.json", "source/wps_hpc_source_test.py", "inputs/a"])
@pytest.mark.parametrize("change", ["content", "size", "missing", "link", "fifo"])
def test_a_file_that_is_not_as_listed_is_refused(job: MadeJob, name: str, change: str, marked: Path) -> None:
    file = job.folder.path / name
    content = file.read_bytes()
    file.rename(file.with_name("moved"))
    if change == "content":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "size":
        file.write_bytes(content + b"x")
    elif change == "link":
        file.symlink_to("moved")
    elif change == "fifo":
        os.mkfifo(file)
    failure = failed(job, records.EXIT_REFUSED)
    assert failure.cause == "payload refused"
    assert name.split("/")[-1] in failure.detail
    assert str(job.folder.path) not in failure.text
    assert not marked.exists()


def test_a_linked_inner_folder_is_refused(job: MadeJob, marked: Path) -> None:
    job.folder.inputs.rename(job.folder.path / "moved")
    job.folder.inputs.symlink_to("moved")
    assert failed(job, records.EXIT_REFUSED).cause == "payload refused"
    assert not marked.exists()


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "inputs/../manifest.json", "inputs//a", "."])
def test_a_listed_path_outside_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    job = make_job(tmp_path / "job", Recipe())
    listed = (*load(records.Manifest, job.folder.manifest.read_bytes()).files, records.ListedFile(path, 1, "0" * 64))
    job = make_job(tmp_path / "job2", Recipe(manifest={"files": listed}))
    assert "not a path inside" in failed(job, records.EXIT_REFUSED).detail


@pytest.mark.parametrize("left_out", ["payload.dill", "request.json", "source/wps_hpc_source_test.py", "inputs/a"])
def test_nothing_that_is_not_listed_is_used(tmp_path: Path, left_out: str) -> None:
    whole = Recipe(inputs={"a": b"x"})
    first = make_job(tmp_path / "job", whole)
    listed = load(records.Manifest, first.folder.manifest.read_bytes()).files
    fewer = tuple(entry for entry in listed if entry.path != left_out)
    job = make_job(tmp_path / "job2", replace(whole, manifest={"files": fewer}))
    assert left_out in failed(job, records.EXIT_REFUSED).detail


def test_a_shared_input_stays_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared.txt").write_text("shared")
    body = "print(Path(request.inputs['files'][0].path).read_text()); return {}"
    job = make_job(tmp_path / "job", Recipe(body, shared=(tmp_path / "shared.txt",)))
    assert MODULE.run(job).returncode == 0
    assert job.stdout == "shared\n"


@pytest.mark.parametrize("change", ["size", "missing", "link", "folder"])
def test_a_shared_input_that_changed_is_not_available(tmp_path: Path, change: str) -> None:
    file = tmp_path / "shared.txt"
    file.write_text("shared")
    job = make_job(tmp_path / "job", Recipe(shared=(file,)))
    file.rename(tmp_path / "moved")
    if change == "size":
        file.write_text("longer than that")
    elif change == "link":
        file.symlink_to(tmp_path / "moved")
    elif change == "folder":
        file.mkdir()
    assert failed(job, records.EXIT_REFUSED).cause == "input not available"


def test_code_by_value_of_this_python_runs(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("print('by value'); return {}", by_value=True))
    assert MODULE.run(job).returncode == 0, job.stderr
    assert job.stdout == "by value\n"


def test_code_by_value_of_another_python_is_refused_before_loading(
    zipapp: Path, python39: Path, tmp_path: Path
) -> None:
    job = make_job(tmp_path / "job", Recipe(by_value=True))
    failure = failed(job, records.EXIT_REFUSED, Launcher((str(python39), "-I", str(zipapp))))
    assert failure.cause == "payload refused"
    assert "Python 3.9." in failure.text
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}." in failure.text


def test_other_versions_are_reported(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe(manifest={"dill": "99.1", "wps_hpc": "88.2"}))
    assert MODULE.run(job).returncode == 0
    assert "is older than the server's 99.1" in job.stderr
    assert "88.2 on the server" in job.stderr


# --- how a process fails ----------------------------------------------------------------------------------------------


def test_what_an_author_raises_reaches_the_client(launcher: Launcher, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("raise ProcessError('no band 7', 'InvalidParameterValue', 'band')"))
    failure = failed(job, launcher=launcher)
    assert (failure.cause, failure.text) == ("process error", "no band 7")
    assert (failure.code, failure.locator) == ("InvalidParameterValue", "band")
    assert job.stderr == ""


def test_an_exception_is_told_in_a_line_its_traceback_to_the_operator(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("raise ValueError('bad\\n' + 'x' * 9000)"))
    failure = failed(job)
    assert failure.cause == "process error"
    assert failure.text.startswith("ValueError: bad xxx")
    assert len(failure.text) < 2100
    assert "Traceback" in job.stderr and "Traceback" not in failure.text


@pytest.mark.parametrize(
    ("body", "cause", "text"),
    [
        ("raise MemoryError", "process error", "The process asked for more memory than it could get: MemoryError"),
        ("x = [0] * (1 << 60)", "process error", "The process asked for more memory than it could get: MemoryError"),
        ("raise OSError(28, 'No space left')", "disk full", "The disk of the job folder is full: OSError: [Errno 28]"),
        ("raise KeyError", "process error", "KeyError"),
        ("raise GeneratorExit", "process error", "GeneratorExit"),
        ("return 5", "bad output", "The process returned something that is no set of outputs."),
        ("return {'x': (5,)}", "bad output", "The process returned something that is no set of outputs."),
        ("return {'x': (BoundingBoxValue((float('nan'),), (1.0,)),)}", "bad output", "The process returned"),
    ],
)
def test_an_end_in_words(tmp_path: Path, body: str, cause: str, text: str) -> None:
    failure = failed(make_job(tmp_path / "job", Recipe(body)))
    assert failure.cause == cause
    assert failure.text.startswith(text)


def test_a_full_disk_behind_another_exception_is_seen(tmp_path: Path) -> None:
    body = """
    try:
        raise OSError(122, 'Disk quota exceeded')
    except OSError:
        raise RuntimeError('could not save')
    """
    assert failed(make_job(tmp_path / "job", Recipe(body))).cause == "disk full"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("os._exit(3)", 3),
        ("os._exit(0)", 0),
        ("sys.exit(4)", 4),
        ("sys.exit()", 0),
        ("sys.exit('why')", 1),
        ("ctypes.CDLL(None).exit(5)", 5),
    ],
)
def test_an_exit_without_outputs_is_a_failure(tmp_path: Path, body: str, code: int) -> None:
    failure = failed(make_job(tmp_path / "job", Recipe(body)))
    assert (failure.cause, failure.exit_code) == ("exit code", code)
    assert f"exit code {code}" in failure.text


def test_a_segfault_is_written_by_the_survivor(launcher: Launcher, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe("print('before'); ctypes.string_at(0)", limits=Limits(memory_mb=1024)))
    failure = failed(job, launcher=launcher)
    assert (failure.cause, failure.signal) == ("signal", 11)
    assert failure.text.startswith("The process was killed by signal 11 (SIGSEGV), peak ")
    assert failure.text.endswith(" of 1024 MB.")
    assert job.stdout == "before\n"
    assert "Fatal Python error: Segmentation fault" in job.stderr


def test_a_killed_process_is_told_with_its_peak(tmp_path: Path) -> None:
    failure = failed(make_job(tmp_path / "job", Recipe("x = bytearray(150 << 20); os.kill(os.getpid(), 9)")))
    assert (failure.cause, failure.signal) == ("signal", 9)
    peak = int(failure.text.split("peak ")[1].split(" MB")[0])
    assert 150 < peak < 300


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", Recipe())
    source = job.folder.source / "wps_hpc_source_test.py"
    content = source.read_text().replace("import ctypes,", "import no_such_module, ctypes,")
    listed = load(records.Manifest, job.folder.manifest.read_bytes()).files
    job = _rewritten(tmp_path / "job2", job, source.relative_to(job.folder.path), content.encode(), listed)
    failure = failed(job)
    assert failure.cause == "could not start"
    assert "no_such_module" in failure.text


def _rewritten(path: Path, job: MadeJob, name: Path, content: bytes, listed: tuple[records.ListedFile, ...]) -> MadeJob:
    """Return the same job with another content of one file, rightly listed."""
    shutil.copytree(job.folder.path, path)
    path.chmod(0o700)
    (path / name).write_bytes(content)
    entry = records.ListedFile(str(name), len(content), hashlib.sha256(content).hexdigest())
    files = tuple(entry if old.path == str(name) else old for old in listed)
    manifest = records.dump(replace(load(records.Manifest, job.folder.manifest.read_bytes()), files=files))
    (path / "manifest.json").write_bytes(manifest)
    return MadeJob(type(job.folder)(path), hashlib.sha256(manifest).hexdigest())


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "path"),
    [
        ("pass", "outputs/missing"),
        ("os.symlink('/etc/passwd', folders.outputs / 'x')", "outputs/x"),
        ("os.mkfifo(folders.outputs / 'x')", "outputs/x"),
        ("(folders.outputs / 'x').mkdir()", "outputs/x"),
        ("os.symlink('/etc', folders.outputs / 'x')", "outputs/x/passwd"),
        ("os.rmdir(folders.outputs); os.symlink('/etc', folders.outputs)", "outputs/passwd"),
        ("pass", "/etc/passwd"),
        ("pass", "outputs/../../../manifest.json"),
        ("pass", "result.json"),
        ("pass", "outputs/"),
        ("pass", "outputs/a\\0b"),
        ("(job.workdir / 'x').touch()", "work/x"),
    ],
)
def test_an_output_that_is_no_file_beneath_outputs_is_refused(tmp_path: Path, make: str, path: str) -> None:
    body = f"{make}\nreturn {{'x': (NestedValue({{'y': (FileValue('{path}', 'text/plain'),)}}),)}}"
    failure = failed(make_job(tmp_path / "job", Recipe(body)))
    assert (failure.cause, failure.locator) == ("bad output", "y")


def test_an_output_that_claims_to_be_shared_is_refused(tmp_path: Path) -> None:
    body = "return {'x': (FileValue('/etc/passwd', 'text/plain', shared=True),)}"
    assert failed(make_job(tmp_path / "job", Recipe(body))).cause == "bad output"


# --- what is printed --------------------------------------------------------------------------------------------------


def test_huge_output_is_cut_and_never_blocks(tmp_path: Path) -> None:
    body = """
    print("first line")
    os.write(1, b"x" * 30_000_000)
    os.write(2, b"y" * 3_000_000)
    print("last line")
    return {}
    """
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(log_bytes=100_000)))
    assert MODULE.run(job).returncode == 0
    assert job.stdout.startswith("first line\nxxx")
    assert job.stdout.endswith("xxxlast line\n")
    assert f"[joblauncher: {30_000_000 + 21 - 100_000} bytes cut here]" in job.stdout
    assert len(job.stdout) < 100_200
    assert len(job.stderr) < 100_200


def test_what_command_line_programs_print_is_kept(tmp_path: Path) -> None:
    body = "subprocess.run(['sh', '-c', 'echo out; echo err >&2'], check=True); job.logger.info('told'); return {}"
    job = make_job(tmp_path / "job", Recipe(body))
    assert MODULE.run(job).returncode == 0
    assert job.stdout == "out\n"
    assert job.stderr.startswith("err\n") and job.stderr.endswith("INFO told\n")


# --- nothing survives -------------------------------------------------------------------------------------------------

_DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        (job.workdir / "daemon").write_text(str(os.getpid()))
        while True:
            time.sleep(60)
    os._exit(0)
while not (job.workdir / "daemon").exists():
    time.sleep(0.01)
"""


@pytest.mark.parametrize("end", ["return {}", "os._exit(3)", "raise ValueError", "os.kill(os.getpid(), 9)"])
def test_no_daemon_survives_its_process(tmp_path: Path, end: str) -> None:
    job = make_job(tmp_path / "job", Recipe(_DAEMON + end))
    MODULE.run(job)
    assert job.status().state in ("succeeded", "failed")
    assert not is_alive(job.number("daemon"))


def test_children_that_go_on_printing_do_not_hold_the_end_up(tmp_path: Path) -> None:
    body = "subprocess.Popen(['setsid', 'sh', '-c', 'while :; do echo x; done']); return {}"
    job = make_job(tmp_path / "job", Recipe(body, limits=Limits(log_bytes=1000)))
    assert MODULE.run(job).returncode == 0
