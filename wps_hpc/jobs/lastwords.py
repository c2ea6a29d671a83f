"""The last lines of a failed job's standard error: for the operator's log and, where the site allows it, its client."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import Failure
from wps_hpc.config import Logging
from wps_hpc.jobs import shape
from wps_hpc.jobs.beneath import Missing, Untrusted
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.trusted import DETAIL_LIMIT, read_end

log = logging.getLogger(__name__)

#: No more is read of a stream's end, in bytes, and no more told of a line, in characters.
READ_BYTES = 16_000
LINE_LIMIT = 500


@dataclass(frozen=True)
class LastWords:
    """Reads what the jobs beneath a storage's root said last, as ``settings`` want it told."""

    root: Path
    settings: Logging

    def told(self, job: Job, attempt: int, failure: Failure) -> Failure:
        """The failure of a job's attempt as its client shall read it; the last words go to the log."""
        lines = self._lines(job, attempt)
        for line in lines:
            log.info("job %s: stderr: %s", job.id, line)
        if not lines or not self.settings.stderr_to_clients:
            return failure
        text = "\n".join([failure.text, "The end of its standard error:", *lines])
        return replace(failure, text=shape.clean(text, DETAIL_LIMIT))

    def _lines(self, job: Job, attempt: int) -> list[str]:
        """Of the process and its launcher; where these said nothing, of the container's runtime or the batch script."""
        folder = JobFolder(job_path(self.root, job.id))
        told = (folder.attempt(attempt).stderr, folder.attempt(attempt).container_log, folder.batch_log)
        return next((lines for path in told if (lines := self._read(job, folder, path))), [])

    def _read(self, job: Job, folder: JobFolder, path: Path) -> list[str]:
        if self.settings.stderr_lines == 0:
            return []
        try:
            end = read_end(folder, path, READ_BYTES)
        except Missing:
            return []
        except Untrusted as error:
            log.warning("job %s: its standard error cannot be read: %s", job.id, error)
            return []
        lines = [line.strip() for line in end.decode(errors="replace").splitlines() if line.strip()]
        return [shape.clean(line, LINE_LIMIT) for line in lines[-self.settings.stderr_lines :]]
