"""Job folders made by hand, and the launcher run on them as a real program."""

import hashlib
import os
import platform
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import dill

from joblauncher.formats.folder import AttemptFolder, JobFolder
from joblauncher.formats.records import (
    Limits,
    ListedFile,
    Manifest,
    RequestRecord,
    ResultRecord,
    SharedFile,
    dump,
    load,
)
from joblauncher.formats.status import StatusRecord, read_status
from joblauncher.formats.values import FileValue
from joblauncher.version import VERSION
from wps_hpc.processes import payload

ROOT = Path(__file__).parent.parent
T = TypeVar("T")
NO_LIMITS = Limits()

#: A process whose ``run`` has the test's own body; its outputs are those that the body returns.
_SOURCE = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path

from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, NestedValue
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.processes.run import Cancelled, ProcessError


class Process:
    description = ProcessDescription("test", "A test", version="2.5")

    def run(self, request, job, folders):
{body}


process = Process()
"""
MODULE = f"{payload.SOURCE_PREFIX}test"


def wait_for(condition: Callable[[], T], seconds: float = 30.0) -> T:
    """Return the first true value of ``condition``; fail when there is none within the time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        time.sleep(0.01)
    return value


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(frozen=True)
class MadeJob:
    """A job folder ready for the launcher, and the digest of its manifest."""

    folder: JobFolder
    digest: str

    def attempt(self, number: int = 1) -> AttemptFolder:
        """The folder of an attempt."""
        return self.folder.attempt(number)

    def status(self, number: int = 1) -> StatusRecord:
        """What an attempt's status.xml says."""
        return read_status(self.attempt(number).status)

    def result(self, number: int = 1) -> ResultRecord:
        """What an attempt's result.json says."""
        return load(ResultRecord, self.attempt(number).result.read_bytes())

    @property
    def arguments(self) -> list[str]:
        """The launcher's arguments for this job."""
        return ["--digest", self.digest, "--folder", str(self.folder.path)]

    @property
    def stdout(self) -> str:
        """What the process has printed so far."""
        return self.attempt().stdout.read_text() if self.attempt().stdout.exists() else ""

    @property
    def stderr(self) -> str:
        """What the process has said on standard error so far."""
        return self.attempt().stderr.read_text() if self.attempt().stderr.exists() else ""

    def number(self, name: str) -> int:
        """Wait for the process to write a number into a file of its working directory; return it."""
        file = self.attempt().work / name
        return int(wait_for(lambda: file.read_text() if file.exists() else ""))


@dataclass(frozen=True)
class Recipe:
    """What to make a job folder of; the manifest can be falsified by ``manifest``."""

    body: str = "return {}"
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    shared: tuple[Path, ...] = ()
    limits: Limits = NO_LIMITS
    resources: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    by_value: bool = False


def make_job(path: Path, recipe: Recipe) -> MadeJob:
    """Write a job folder as the server would."""
    folder = JobFolder(path)
    path.mkdir(mode=0o700)
    files = {**_process_files(recipe), **{f"inputs/{name}": data for name, data in recipe.inputs.items()}}
    given = {f"inputs/{name}": False for name in recipe.inputs} | {str(file): True for file in recipe.shared}
    values = tuple(FileValue(name, "text/plain", shared=shared) for name, shared in given.items())
    files["request.json"] = dump(RequestRecord("test", {"files": values}))
    listed = tuple(_write(path, name, content) for name, content in files.items())
    content = dump(replace(_manifest(recipe, listed), **recipe.manifest))
    folder.manifest.write_bytes(content)
    return MadeJob(folder, hashlib.sha256(content).hexdigest())


def _process_files(recipe: Recipe) -> dict[str, bytes]:
    source = _SOURCE.replace("{body}", textwrap.indent(textwrap.dedent(recipe.body), " " * 8)).encode()
    if recipe.by_value:
        return {"payload.dill": _pickled_code(source)}
    module = payload.make_module(MODULE, source)
    content, loads, name = payload.dump(module.process, MODULE)
    assert (loads, name) == ("source", MODULE)
    return {"payload.dill": content, f"source/{MODULE}.py": source}


def _pickled_code(source: bytes) -> bytes:
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(source, made)
    content: bytes = dill.dumps(made["process"], byref=False, recurse=True)
    return content


def _write(folder: Path, name: str, content: bytes) -> ListedFile:
    file = folder / name
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_bytes(content)
    return ListedFile(name, len(content), hashlib.sha256(content).hexdigest())


def _manifest(recipe: Recipe, listed: tuple[ListedFile, ...]) -> Manifest:
    return Manifest(
        job="8a3f1c52-0000-4000-8000-000000000001",
        submission=1,
        process="test",
        loads="value" if recipe.by_value else "source",
        module=None if recipe.by_value else MODULE,
        python=platform.python_version(),
        dill=dill.__version__,
        wps_hpc=VERSION,
        created="2026-01-01T00:00:00Z",
        files=listed,
        shared=tuple(SharedFile(str(file), file.stat().st_size) for file in recipe.shared),
        limits=recipe.limits,
        resources=recipe.resources,
    )


@dataclass(frozen=True)
class Launcher:
    """One way to start the launcher: a command line, to which a job's arguments are added."""

    command: tuple[str, ...] = (sys.executable, "-m", "joblauncher")

    def start(self, job: MadeJob, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start the launcher, in a session of its own as a scheduler would."""
        return subprocess.Popen(
            [*self.command, *job.arguments, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, job: MadeJob, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the launcher to its end."""
        return finished(self.start(job, *arguments, **environment))


def finished(process: "subprocess.Popen[str]", seconds: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """Wait for a started launcher; kill it and fail when it takes too long."""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
