"""Where clients find a job's documents and files."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from joblauncher.formats.values import FileValue
from wps_hpc.jobs.job import Job


@dataclass(frozen=True)
class Addresses:
    """Where clients find things. ``base`` is the public address of the server without a trailing slash."""

    base: str
    service_instance: str

    def status(self, job: Job) -> str:
        """The status document of a job."""
        return f"{self.base}/wps/status/{job.id}.xml"

    def output(self, job: Job, value: FileValue) -> str:
        """An output file of a job."""
        return f"{self.base}/outputs/{job.id}/{quote(output_name(value))}"


def output_name(value: FileValue) -> str:
    """The name of an output's file below the attempt's outputs folder; it names the download as well."""
    return value.path.removeprefix("outputs/")
