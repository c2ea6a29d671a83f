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

    def plain(self, job: Job, identifier: str, suffix: str) -> str:
        """A literal or bounding box of a job, in one of PLAIN_SUFFIXES."""
        return f"{self.base}/wps/outputs/{job.id}/{quote(identifier, safe='')}{suffix}"

    def output(self, job: Job, value: FileValue) -> str:
        """An output file of a job."""
        return f"{self.base}/outputs/{job.id}/{quote(output_name(value))}"


#: The two forms in which a literal or bounding box is served, by the end of its address.
PLAIN_SUFFIXES = (".xml", ".txt")


def output_name(value: FileValue) -> str:
    """The name of an output's file below the attempt's outputs folder; it names the download as well."""
    return value.path.removeprefix("outputs/")
