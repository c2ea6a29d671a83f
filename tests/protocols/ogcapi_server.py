"""A real server for OGC API - Processes, from gunicorn to the launcher; and a client that validates what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.clusters.site import PROCESSES as SITE_PROCESSES
from tests.clusters.site import Site, until
from tests.protocols.ogcapi import Said, checked

EXAMPLES = [f"wps_hpc.examples.{name}" for name in ("echo", "sleep", "misbehave")]
PROCESSES = Path(__file__).parents[1] / "conformance" / "processes"
#: Leave to call back to, and to fetch from, this host.
CALLBACKS = """[callbacks]
hosts = ["127.0.0.1"]
schemes = ["http"]
private_networks = ["127.0.0.0/8"]
"""


@dataclass(frozen=True)
class Server:
    """A running server."""

    site: Site
    http: httpx.Client

    @property
    def base(self) -> str:
        """Its address."""
        return str(self.site.settings.server.base_url)

    def open(self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **more: Any) -> Said:
        """Any request; ``path`` may be an address."""
        answer = self.http.request(method, path.removeprefix(self.base), headers=headers, **more)
        return checked(path.removeprefix(self.base), Said(answer.status_code, answer.headers, answer.content))

    def get(self, path: str, **headers: str) -> Said:
        """GET; headers with underscores for dashes."""
        return self.open(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def execute(self, process: str, inputs: Any = None, *, prefer: str = "", **members: Any) -> Said:
        """Execute; members other than the inputs as they are."""
        headers = {"Prefer": prefer} if prefer else {}
        body = {"inputs": inputs or {}, **members}
        return self.open(f"/processes/{process}/execution", "POST", headers, json=body)

    def start(self, process: str, inputs: Any = None, **members: Any) -> str:
        """Execute asynchronously; the job's path."""
        answer = self.execute(process, inputs, prefer="respond-async", **members)
        assert answer.status == 201, answer.body
        return str(answer.headers.get("Location")).removeprefix(self.base)

    def ended(self, job: str) -> Said:
        """The status of a job once it has ended."""
        until(lambda: self.get(job).json["status"] not in ("accepted", "running"), "the job ends")
        return self.get(job)

    def runs(self, job: str) -> None:
        """Wait until a job runs."""
        until(lambda: self.get(job).json["status"] == "running", "the job runs")

    def run(self, process: str, inputs: Any = None, **members: Any) -> str:
        """Execute asynchronously and wait for the success; the path of the results."""
        job = self.start(process, inputs, **members)
        assert self.ended(job).json["status"] == "successful"
        return f"{job}/results"


@contextmanager
def server(folder: Path, config: str = CALLBACKS) -> Iterator[Server]:
    """A server with the examples and the processes of the conformance tests."""
    site = Site(folder, f"sqlite:///{folder / 'jobs.sqlite'}")
    text = site.config.read_text()
    text = text.replace("[processes]\n", f"[processes]\nmodules = {json.dumps(EXAMPLES)}\n")
    text = text.replace('schemes = ["file"]\n', 'schemes = ["file", "http"]\nprivate_networks = ["127.0.0.0/8"]\n')
    text = text.replace("folders = [" + json.dumps(str(SITE_PROCESSES)), "folders = [" + json.dumps(str(PROCESSES)))
    site.config.write_text(text + config)
    try:
        site.start_worker()
        with httpx.Client(base_url=site.start_web(), timeout=60) as client:
            yield Server(site, client)
    finally:
        site.close()
