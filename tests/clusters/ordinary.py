"""A whole site that runs as an account without privileges, web side and worker: what is asked of it goes over HTTP."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clusters.site import PROCESSES, Site, until
from tests.services import ordinary
from tests.services.ordinary import ORDINARY
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import Mode

_STOP = """
import sys
from pathlib import Path
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
EmbeddedTransport(Path(sys.argv[1])).stop(10.0, detach=True)
"""


@dataclass
class OrdinarySite(Site):
    """A Site of that account's own; the test itself only looks into its database and folders."""

    modules: tuple[str, ...] = ()
    #: A file of processes of the site's own.
    own: str = ""
    #: The ``container`` table of the cluster ``local``, and its ``environment``.
    local: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        watched = self.folder / "processes"
        watched.mkdir()
        if self.own:
            (watched / "own.py").write_text(self.own)
        text = self.config.read_text()
        text = text.replace(f'["{PROCESSES}"]', f'["{PROCESSES}", "{watched}"]\nmodules = {list(self.modules)}')
        self.config.write_text(text.replace("lost_seconds = 2.0", f"lost_seconds = 2.0\n{self.local}"))
        self.folder.chmod(0o755)
        for path in (self.folder, *self.folder.rglob("*")):
            shutil.chown(path, ORDINARY, ORDINARY)

    def _started(self, *command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [*ordinary.entrance(), *self.cli(*command)],
                env={**ordinary.clean(), **{n: v for n, v in environment.items() if n.startswith("APPTAINER")}},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )

    def cli(self, *command: str) -> list[str]:
        """A command of ``wps-hpc`` for this site."""
        return [sys.executable, "-m", "wps_hpc.cli", "--config", str(self.config), *command]

    def check(self, *options: str) -> tuple[int, str]:
        """Exit code and words of ``wps-hpc check``."""
        done = subprocess.run(
            [*ordinary.entrance(), *self.cli("check", *options)],
            env=ordinary.clean(),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            cwd="/",
        )
        return done.returncode, done.stdout + done.stderr

    def open(self) -> None:
        """Start both sides."""
        self.start_worker()
        self.start_web()

    def execute(self, process: str, mode: Mode = Mode.ASYNC, **inputs: Any) -> Job:
        """Ask for one Execute as clients do; ``resources`` among the inputs is a wish for the job's own."""
        resources = inputs.pop("resources", "")
        address = f"{self.settings.server.base_url}/processes/{process}/execution?{resources}"
        answer = httpx.post(
            address, json={"inputs": inputs, "response": "document"}, headers={"Prefer": "respond-async"}, timeout=60
        )
        assert answer.status_code == 201, answer.text
        return self.job(answer.headers["Location"].rpartition("/")[2])

    def results(self, job: Job) -> Mapping[str, Any]:
        """The results of a job, once it has succeeded."""
        ended = self.ended(job.id, 180)
        assert ended.state is JobState.SUCCEEDED, (ended, self.said(job))
        answer = httpx.get(f"{self.settings.server.base_url}/jobs/{job.id}/results?f=json", timeout=60)
        found: Mapping[str, Any] = answer.json()
        return found

    def result(self, job: Job) -> Any:
        """The one result of a job, once it has succeeded."""
        (value,) = self.results(job).values()
        return value

    def said(self, job: Job) -> str:
        """What the last attempt of a job and its container had to say."""
        attempt = self.job_folder(job).attempt(max(1, self.job(job.id).attempt))
        logs = (attempt.container_log, attempt.stderr, self.job_folder(job).batch_log, attempt.result)
        return "\n".join(path.read_text(errors="replace") for path in logs if path.exists())

    def inside(self, job: Job) -> list[int]:
        """The launcher of a job and what it has forked, as they are seen from outside of their container."""
        folder = str(self.job_folder(job).path)
        lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in _with(folder)}
        return [pid for pid, words in lines.items() if b"python" in words[0] and folder.encode() in words]

    def outside(self, job: Job) -> list[int]:
        """All other processes that have the job's folder in their command line or environment."""
        return [pid for pid in _with(str(self.job_folder(job).path)) if pid not in self.inside(job)]

    def close(self) -> None:
        """End everything, as whoever started it."""
        for process in self.workers + self.servers:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
        with contextlib.suppress(AssertionError):
            ordinary.run(sys.executable, "-c", _STOP, str(self.settings.storage.run))
        for pid in _with(str(self.settings.storage.root)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not _with(str(self.settings.storage.root)), "nothing of the site is left")
        self.bell.close()
        self.store.close()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def ordinary_site(**options: Any) -> Iterator[OrdinarySite]:
    """A site of that account's within the block; ``options`` are the site's fields."""
    ordinary.make_account()
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-site-"))
    site = OrdinarySite(folder, f"sqlite:///{folder / 'jobs.sqlite'}", **options)
    try:
        site.open()
        yield site
    finally:
        site.close()


def _with(words: str) -> list[int]:
    """Processes, but for this one, that have these words in their command line or environment."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if any(words.encode() in (path / name).read_bytes() for name in ("cmdline", "environ")):
                    found.append(int(path.name))
    return found
