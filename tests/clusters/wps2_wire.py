"""A real service that speaks WPS 2.0 over HTTP, and a client of it that validates what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from lxml import etree

from tests.clusters.site import Site, until
from tests.protocols.conftest import NS2, SCHEMAS
from tests.protocols.wps2 import execute_xml, literal_xml
from tests.schemas import validate

EXAMPLES = [f"wps_hpc.examples.{name}" for name in ("echo", "sleep", "buffer", "misbehave")]
#: The echo process that the official test suite of WPS 2.0 knows.
ECHO = "org.n52.javaps.test.EchoProcess"
ENDED = ("Succeeded", "Failed", "Dismissed")


@dataclass(frozen=True)
class Document:
    """A valid document of the standard."""

    root: etree._Element

    @property
    def kind(self) -> str:
        """The local name of the root."""
        return str(etree.QName(self.root).localname)

    def text(self, path: str) -> str:
        """The text of the one element at a path."""
        (found,) = self.root.iterfind(path, NS2)
        return found.text or ""

    @property
    def job(self) -> str:
        """The job's id."""
        return self.text("wps:JobID")

    @property
    def status(self) -> str:
        """The word of a StatusInfo."""
        return self.text("wps:Status")

    @property
    def exception(self) -> tuple[str | None, str | None]:
        """exceptionCode and locator of a report."""
        (found,) = self.root.iterfind("ows:Exception", NS2)
        return found.get("exceptionCode"), found.get("locator")

    def output(self, identifier: str) -> etree._Element:
        """The Data or Reference of an output."""
        (found,) = [node for node in self.root.iterfind("wps:Output", NS2) if node.get("id") == identifier]
        return found[0]


@dataclass(frozen=True)
class Wire:
    """A running server, and a client of it that validates what it gets."""

    site: Site
    http: httpx.Client

    def post(self, document: str, status: int = 200) -> Document:
        """A document by POST."""
        return _checked(self.http.post("/wps", content=document.encode()), status)

    def document(self, answer: httpx.Response, status: int = 200) -> Document:
        """The document of an answer."""
        return _checked(answer, status)

    def ask(self, operation: str, job: str, status: int = 200) -> Document:
        """A document about a job by GET."""
        query = {"service": "WPS", "version": "2.0.0", "request": operation, "jobid": job}
        return _checked(self.http.get("/wps", params=query), status)

    def word(self, job: str) -> str:
        """What GetStatus says of a job."""
        return self.ask("GetStatus", job).status

    def ended(self, job: str) -> Document:
        """GetStatus once the job has ended."""
        until(lambda: self.word(job) in ENDED, "the job ends")
        return self.ask("GetStatus", job)

    def outcome1(self, job: str) -> str:
        """What the status document of WPS 1.0.0 says of a job."""
        answer = self.http.get(f"/wps/status/{job}.xml")
        root = validate(answer.content, "wps/1.0.0/wpsExecute_response.xsd")
        (found,) = root.iterfind("{*}Status/*")
        return str(etree.QName(found).localname)


def _checked(answer: httpx.Response, status: int) -> Document:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    root = etree.fromstring(answer.content)
    return Document(validate(root, SCHEMAS[str(root.tag)]))


@contextmanager
def running(folder: Path) -> Iterator[Wire]:
    """A server with the examples, leave to fetch from loopback, and a grace for quick jobs."""
    site = Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}")
    text = site.config.read_text()
    text = text.replace("[processes]\n", f"[processes]\nmodules = {json.dumps(EXAMPLES)}\n")
    text = text.replace('schemes = ["file"]\n', 'schemes = ["file", "http"]\nprivate_networks = ["127.0.0.0/8"]\n')
    # Long, for a busy machine; what is quick is answered as soon as it has ended.
    text = text.replace("grace_seconds = 0\n", "grace_seconds = 10\n")
    site.config.write_text(text)
    site.start_worker()
    with httpx.Client(base_url=site.start_web(), timeout=60) as client:
        yield Wire(site, client)
    site.close()


def mark(folder: Path) -> list[str]:
    """Inputs of a process that runs until it may go, and leaves a mark when it has begun."""
    values = {"folder": str(folder), "name": "m", "until": str(folder / "go")}
    return [literal_xml(name, value) for name, value in values.items()]


def begun(wire: Wire, folder: Path) -> str:
    """A job that runs until the folder has a file «go»."""
    job = impatient(wire, execute_xml("mark", *mark(folder), mode="async"))
    until((folder / "m").exists, "the job runs")
    until(lambda: wire.word(job) == "Running", "and is known to")
    return job


def impatient(wire: Wire, document: str) -> str:
    """Send an Execute whose answer waits for a grace that is in vain, and take the job from the database."""
    known = {job.id for job in wire.site.store.list_jobs()}
    with httpx.Client(base_url=str(wire.http.base_url), timeout=0.5) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/wps", content=document.encode())
    (new,) = [job.id for job in wire.site.store.list_jobs() if job.id not in known]
    return new
