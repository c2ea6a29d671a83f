"""What a finished job gives: its outputs, the files behind them, and what it was asked for.

Everything that a node wrote is read again with the care of ``trusted`` each time that it is served, because the account
of the jobs can still write to it. Only files that the job's accepted record lists are ever opened.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from joblauncher.formats.folder import AttemptFolder, JobFolder, job_path
from joblauncher.formats.values import FileValue, Value
from wps_hpc.config import Settings
from wps_hpc.errors import NoApplicableCode, NotFound
from wps_hpc.jobs.beneath import Missing, Untrusted, folder_beneath, read_in
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.requestjson import from_json
from wps_hpc.jobs.trusted import open_output, read_end, read_result

log = logging.getLogger(__name__)

#: No kept lineage is larger, in bytes: a request with a larger one is refused.
LINEAGE_LIMIT = 64_000_000
#: Records kept in memory, and the size in bytes above which one is rather read again.
KEPT_RECORDS = 256
KEPT_BYTES = 64_000

Outputs = Mapping[str, tuple[Value, ...]]
#: The streams of a job, and where they are kept.
STREAMS: Mapping[str, Callable[[AttemptFolder], Path]] = {
    "stdout": lambda attempt: attempt.stdout,
    "stderr": lambda attempt: attempt.stderr,
}


class Results:
    """Reads what finished jobs left; used by several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._root = settings.storage.root
        self._kept: OrderedDict[tuple[str, int], Outputs] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, job: Job) -> JobFolder:
        """The job's folder."""
        return JobFolder(job_path(self._root, job.id))

    def request(self, job: Job) -> ExecuteRequest:
        """The request as it was accepted, without the client's secrets."""
        return from_json(job.request)

    def outputs(self, job: Job) -> Outputs:
        """The outputs of a job that succeeded. Raises NotFound when it has none (any more), NoApplicableCode when they
        are no longer what was accepted."""
        if job.state is not JobState.SUCCEEDED:
            raise NotFound(f"The job {job.id} has no results.")
        key = (job.id, job.attempt)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        outputs, size = self._read(job)
        if size <= KEPT_BYTES:
            self._keep(key, outputs)
        return outputs

    def _keep(self, key: tuple[str, int], outputs: Outputs) -> None:
        with self._lock:
            self._kept[key] = outputs
            while len(self._kept) > KEPT_RECORDS:
                self._kept.popitem(last=False)

    def _read(self, job: Job) -> tuple[Outputs, int]:
        try:
            record, size = read_result(self.folder(job), job.attempt)
        except Untrusted as error:
            raise _unusable(job, error) from error
        return record.outputs, size

    def open(self, job: Job, value: FileValue) -> BinaryIO:
        """An output file, open for reading at its start. Raises NotFound when it is not there (any more),
        NoApplicableCode when it is not what was accepted: a link, no regular file, another size, another owner."""
        try:
            return os.fdopen(open_output(self.folder(job), job.attempt, value), "rb")
        except Untrusted as error:
            raise _unusable(job, error) from error

    def lineage(self, job: Job) -> bytes | None:
        """The client's own DataInputs and OutputDefinitions, when it asked to have them echoed.

        The job runs as this account and may have put a FIFO or a link in its place: then there is none.
        """
        folder = self.folder(job)
        try:
            with folder_beneath(folder.path, "") as opened:
                return read_in(opened, folder.lineage.name, LINEAGE_LIMIT).data
        except Missing:
            return None
        except Untrusted as error:
            log.warning("job %s: its lineage is left out: %s", job.id, error)
            return None

    def log(self, job: Job, stream: str, max_bytes: int) -> bytes:
        """The last ``max_bytes`` of what the job's current attempt printed to one of STREAMS, if anything yet."""
        folder = self.folder(job)
        try:
            return read_end(folder, STREAMS[stream](folder.attempt(job.attempt)), max_bytes)
        except Missing:
            return b""
        except Untrusted as error:
            raise _unusable(job, error) from error


def _unusable(job: Job, error: Untrusted) -> NotFound | NoApplicableCode:
    log.warning("job %s: %s", job.id, error)
    if isinstance(error, Missing):
        return NotFound(f"The results of job {job.id} are not there, or no longer.")
    return NoApplicableCode(f"The results of job {job.id} are no longer as they were accepted, and cannot be served.")
