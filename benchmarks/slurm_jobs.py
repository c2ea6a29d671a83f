"""Jobs through the server, and the same past it: when each of their steps happened, by what it leaves in a file."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.clusters.site import Site, until
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import Slurm

#: Between two looks at a job, whoever looks, in seconds.
PAUSE = 0.05
#: Nothing here takes longer, in seconds.
PATIENCE = 120.0
#: Where in the server's batch script a job notes that it has started: before anything else is done.
_FIRST = "\nlauncher=\n"
_NOTE = "date +%s.%N >>{}"
#: For an sbatch that notes when it is called, and when the real one has answered.
_SBATCH = """\
#!/bin/sh
began=$(date +%s.%N)
{sbatch} "$@"
code=$?
echo "$began $(date +%s.%N)" >>{log}
exit $code
"""


@dataclass(frozen=True)
class Steps:
    """When the steps of one job happened, in Unix seconds; ``sent`` is when its Execute was, or sbatch called."""

    sent: float
    sbatch_began: float
    sbatch_ended: float
    script: float
    process: float
    seen: float

    @property
    def before_sbatch(self) -> float:
        """Seconds from the Execute to sbatch."""
        return self.sbatch_began - self.sent

    @property
    def sbatch(self) -> float:
        """Seconds that sbatch takes."""
        return self.sbatch_ended - self.sbatch_began

    @property
    def launch(self) -> float:
        """Seconds from the batch script's first line to the process's."""
        return self.process - self.script

    @property
    def news(self) -> float:
        """Seconds from the process to the end that is seen."""
        return self.seen - self.process


@dataclass
class Both:
    """A cluster with a server before it, and the same cluster without; ``folder`` has the notes of the steps."""

    slurm: Slurm
    site: Site
    folder: Path
    client: httpx.Client
    jobs: int = 0

    def through_the_server(self) -> Steps:
        """One job by way of an asynchronous Execute, polled over HTTP."""
        self.jobs += 1
        name = f"timed-{self.jobs}"
        sent = time.time()
        location = self.site.execute_over_http(self.client, "mark", folder=self.site.marks, name=name)
        until(lambda: _patiently(lambda: self._has_succeeded(location)), "the job succeeds", PATIENCE)
        seen = time.time()
        return self._steps(sent, (self.site.marks / name).stat().st_mtime, seen)

    def past_it(self) -> Steps:
        """One job by sbatch, which runs a Python that does nothing; squeue is asked for its end."""
        process = self.folder / "process"
        python = shlex.join([sys.executable, "-c", "import time; print(time.time())"])
        script = f"#!/bin/sh\n{_NOTE.format(self.folder / 'began')}\n{python} >{process}\n"
        sent = time.time()
        number = self.sbatch(script)
        until(lambda: _patiently(lambda: self._is_completed(number)), "the job completes", PATIENCE)
        return self._steps(sent, float(process.read_text()), time.time())

    def burst(self, count: int) -> float:
        """Submissions a second of so many Executes that come at once."""
        before = len(self._submissions())
        with self._closed():
            for number in range(count):
                self.site.mark(f"burst-{self.jobs}-{number}")
            until(lambda: len(self._submissions()) >= before + count, "all are submitted", PATIENCE)
            rate = rate_of(self._submissions()[before:])
            self.slurm.run("scancel", "--user=root", "--state=PENDING")
            until(lambda: not self.site.store.active("hpc"), "all have ended", PATIENCE)
        self.jobs += 1
        return rate

    def sequence(self, count: int) -> float:
        """Submissions a second of so many calls of sbatch, one after the other, with the server's own batch script."""
        before = len(self._submissions())
        newest = self.site.store.list_jobs(limit=1)[0]
        script = self.site.job_folder(newest).script.read_text()
        with self._closed():
            for _ in range(count):
                self.sbatch(script)
            self.slurm.run("scancel", "--user=root", "--state=PENDING")
        return rate_of(self._submissions()[before:])

    def sbatch(self, script: str) -> str:
        """Submit a script under a name that is no submission's; returns the job's id."""
        command = [str(self.folder / "sbatch"), "--parsable", "--job-name=bare", "--output=/dev/null", "--chdir=/"]
        environment = {**os.environ, **self.slurm.environment()}
        options = ["--partition=long", "--mem=120M"]
        done = subprocess.run(
            [*command, *options], input=script, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _has_succeeded(self, location: str) -> bool:
        answer = self.client.get(location).text
        if "ProcessFailed" in answer:
            raise RuntimeError(f"a job failed: {answer}")
        return "ProcessSucceeded" in answer

    def _is_completed(self, number: str) -> bool:
        return self.slurm.run("squeue", "-h", "-t", "all", "-j", number, "-o", "%T").stdout.strip() == "COMPLETED"

    def _submissions(self) -> list[tuple[float, float]]:
        return read_notes((self.folder / "sbatch.log").read_text())

    def _steps(self, sent: float, process: float, seen: float) -> Steps:
        began, ended = self._submissions()[-1]
        script = float((self.folder / "began").read_text().split()[-1])
        return Steps(sent, began, ended, script, process, seen)

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """The queue takes jobs, and starts none."""
        self.slurm.run("scontrol", "update", "PartitionName=long", "State=DOWN")
        try:
            yield
        finally:
            self.slurm.run("scontrol", "update", "PartitionName=long", "State=UP")


@contextmanager
def both(slurm: Slurm, folder: Path, most: int) -> Iterator[Both]:
    """A server with a place for ``most`` jobs at a time, within the block."""
    (folder / "sbatch.log").touch()
    program = folder / "sbatch"
    program.write_text(_SBATCH.format(sbatch=shutil.which("sbatch"), log=folder / "sbatch.log"))
    program.chmod(0o755)
    template = folder / "slurm.sh.j2"
    template.write_text(noting(Path("batch_templates/slurm.sh.j2").read_text(), folder / "began"))
    system = SlurmSystem(slurm)
    site = system.make_site(programs=str(folder), more=f'template = "{template}"', parallel=most)
    try:
        site.start_worker()
        with httpx.Client(base_url=site.start_web(), timeout=60) as client:
            yield Both(slurm, site, folder, client)
    finally:
        system.leave(site)


def noting(template: str, file: Path) -> str:
    """The server's batch template with a first command that notes the time."""
    if template.count(_FIRST) != 1:
        raise ValueError("the batch template has changed: where does its script begin?")
    return template.replace(_FIRST, f"\n{_NOTE.format(file)}{_FIRST}")


def read_notes(text: str) -> list[tuple[float, float]]:
    """When each sbatch was called, and when it had answered."""
    return [(float(began), float(ended)) for began, ended in (line.split() for line in text.splitlines())]


def rate_of(submissions: Sequence[tuple[float, float]]) -> float:
    """Submissions a second, from the first one's beginning to the last one's end."""
    return len(submissions) / (submissions[-1][1] - submissions[0][0])


def _patiently(condition: Callable[[], bool]) -> bool:
    """A look, and a pause after one that has seen nothing."""
    seen = condition()
    if not seen:
        time.sleep(PAUSE)
    return seen
