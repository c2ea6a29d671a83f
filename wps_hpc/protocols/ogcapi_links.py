"""Where things are in OGC API - Processes, and links to them (link.yaml, RFC 8288)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from joblauncher.formats.values import FileValue, LinkValue
from wps_hpc.jobs.job import Job
from wps_hpc.protocols.links import elsewhere, output_name
from wps_hpc.protocols.ogcapi_http import Form, Request

_RELATIONS = "http://www.opengis.net/def/rel/ogc/1.0"
CONFORMANCE = f"{_RELATIONS}/conformance"
PROCESSES = f"{_RELATIONS}/processes"
JOBS = f"{_RELATIONS}/job-list"
EXECUTE = f"{_RELATIONS}/execute"
RESULTS = f"{_RELATIONS}/results"
EXCEPTIONS = f"{_RELATIONS}/exceptions"

Link = dict[str, Any]


@dataclass(frozen=True)
class Addresses:
    """``base`` is the public address of the server without a trailing slash."""

    base: str

    def process(self, identifier: str) -> str:
        """A process description. Identifiers hold nothing that an address would have to escape."""
        return f"{self.base}/processes/{identifier}"

    def job(self, job: Job) -> str:
        """The status of a job."""
        return f"{self.base}/jobs/{job.id}"

    def results(self, job: Job) -> str:
        """The results of a job."""
        return f"{self.job(job)}/results"

    def output(self, job: Job, identifier: str, value: object = None) -> str:
        """One output: the file itself where it is one, wherever it lies."""
        if isinstance(value, LinkValue):
            return elsewhere(value)
        if isinstance(value, FileValue):
            return f"{self.base}/outputs/{job.id}/{quote(output_name(value))}"
        return f"{self.results(job)}/{identifier}"

    def here(self, request: Request, **changes: object) -> str:
        """The address of a request with some parameters changed."""
        return f"{self.base}{quote(request.path)}{request.query(**changes)}"


def link(href: str, rel: str, title: str, media_type: str | None = "application/json") -> Link:
    """A link."""
    made = {"href": href, "rel": rel, "title": title}
    return made if media_type is None else {**made, "type": media_type}


def selves(addresses: Addresses, request: Request, form: Form) -> list[Link]:
    """The document itself in the form that it has, and in the other one (18-062r2 §7.9.3, ``alternate``)."""
    forms = {Form.JSON: "application/json", Form.HTML: "text/html"}
    return [
        link(
            addresses.here(request, f=other.value),
            "self" if other is form else "alternate",
            f"This document as {other.name}",
            media_type,
        )
        for other, media_type in sorted(forms.items(), key=lambda entry: entry[0] is not form)
    ]
