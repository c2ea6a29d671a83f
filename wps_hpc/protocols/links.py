"""Where clients find a job's documents and files."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from joblauncher.formats.values import FileValue, LinkValue
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


#: What a URI may hold as it is (RFC 3986 §2), and the sign of what is escaped already.
_URI = "%:/?#[]@!$&'()*+,;=~"


def elsewhere(value: LinkValue) -> str:
    """The address of an output that lies elsewhere, as documents and headers of HTTP can carry it: what no URI may hold
    is escaped, so that no process can write a header of its own."""
    return quote(value.href, safe=_URI, errors="replace")


def output_name(value: FileValue) -> str:
    """The name of an output's file below the attempt's outputs folder; it names the download as well."""
    return value.path.removeprefix("outputs/")
