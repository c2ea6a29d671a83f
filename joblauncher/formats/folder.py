"""Every name inside a job folder, once.

``<storage.root>/jobs/<2 hex>/<uuid>/`` (mode 0700)::

    manifest.json  payload.dill  request.json  source/  inputs/        written by the server, read by the launcher
    job.sh  submit.log  lineage.xml  secrets.json  staging/            written by the server
    attempts/<n>/  claim status.xml result.json stdout.log stderr.log work/ outputs/     written by the launcher
    attempts/<n>/exit  attempts/<n>.container/log                      written outside the container, see ExitRecord
    batch.log                                                          what the batch system and job.sh say

``n`` is the submission number plus the scheduler's restart count. The server never writes into an attempt and the
launcher never writes outside of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


def job_path(root: Path, job_id: str) -> Path:
    """The folder of a job below a storage root: two hexadecimal digits spread the jobs over 256 folders."""
    return root / "jobs" / job_id[:2] / job_id


@dataclass(frozen=True)
class AttemptFolder:
    """``attempts/<n>``: what one run of a job writes."""

    path: Path

    @property
    def claim(self) -> Path:
        """Created with O_EXCL by the launcher that runs this attempt; holds host, pid and time."""
        return self.path / "claim"

    @property
    def status(self) -> Path:
        """Progress and commit point: a WPS 1.0.0 ExecuteResponse."""
        return self.path / "status.xml"

    @property
    def result(self) -> Path:
        """The full neutral record, written just before the final status."""
        return self.path / "result.json"

    @property
    def stdout(self) -> Path:
        """What the process printed, size-capped."""
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        """What the process and the launcher said, size-capped."""
        return self.path / "stderr.log"

    @property
    def container_log(self) -> Path:
        """What the container's runtime and the launcher in it have to say; only of a launcher that runs in one."""
        return self.path.with_name(f"{self.path.name}.container") / "log"

    @property
    def work(self) -> Path:
        """The process's working directory."""
        return self.path / "work"

    @property
    def outputs(self) -> Path:
        """Where complex outputs lie when the job has succeeded."""
        return self.path / "outputs"

    @property
    def exit(self) -> Path:
        """Written by the batch script or the spooler once the launcher is gone: JSON, see ``exitfile``."""
        return self.path / "exit"


@dataclass(frozen=True)
class JobFolder:
    """A job's folder and the files that the server writes into it."""

    path: Path

    @property
    def manifest(self) -> Path:
        """Size and SHA-256 of exactly what the launcher reads, and what it must know to run."""
        return self.path / "manifest.json"

    @property
    def payload(self) -> Path:
        """The dilled process."""
        return self.path / "payload.dill"

    @property
    def request(self) -> Path:
        """Inputs and wanted outputs, neutral."""
        return self.path / "request.json"

    @property
    def source(self) -> Path:
        """The Python file of a process from a watched folder."""
        return self.path / "source"

    @property
    def inputs(self) -> Path:
        """Complex inputs: inline ones as sent, referenced ones as fetched."""
        return self.path / "inputs"

    def input(self, place: Sequence[tuple[str, int]], extension: str) -> Path:
        """The file of one complex input: identifier and occurrence (from 1), for a nested input those of each level.

        Different places have different names, whatever an identifier consists of.
        """
        name = ",".join(f"{quote(identifier, safe='')}-{number}" for identifier, number in place)
        if len(name) > 100:
            name = f"{name[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        return self.inputs / (name + extension)

    @property
    def secrets(self) -> Path:
        """Headers and bodies that a client supplied for its references; deleted once they were fetched."""
        return self.path / "secrets.json"

    @property
    def staging(self) -> Path:
        """Downloads that are not finished, and what is known of those that are; the server's own."""
        return self.path / "staging"

    @property
    def script(self) -> Path:
        """The batch script as submitted."""
        return self.path / "job.sh"

    @property
    def submit_log(self) -> Path:
        """Every submission: command, exit code, what it said."""
        return self.path / "submit.log"

    @property
    def batch_log(self) -> Path:
        """What the batch system and the batch script had to say, of all attempts; empty when all went well."""
        return self.path / "batch.log"

    @property
    def lineage(self) -> Path:
        """The client's own DataInputs and OutputDefinitions, kept when it asked for lineage."""
        return self.path / "lineage.xml"

    @property
    def attempts(self) -> Path:
        """The parent of all attempts."""
        return self.path / "attempts"

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of attempt ``number`` (from 1)."""
        return AttemptFolder(self.attempts / str(number))
