"""A client of OGC API - Processes that validates every JSON document it gets against the official schemas."""

from __future__ import annotations

import email
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from werkzeug.test import Client

from tests.protocols.conftest import settings_with
from tests.protocols.site import Site
from tests.schemas import validate_json
from wps_hpc.app import create_app

#: Path and method -> the schema of the JSON that answers with 200, 201 or 202.
SCHEMAS = (
    (r"/", "landingPage.yaml"),
    (r"/conformance", "confClasses.yaml"),
    (r"/processes", "processList.yaml"),
    (r"/processes/[^/]+", "process.yaml"),
    (r"/processes/[^/]+/execution", "results.yaml"),
    (r"/jobs", "jobList.yaml"),
    (r"/jobs/[^/]+(/pause|/resume)?", "statusInfo.yaml"),
    (r"/jobs/[^/]+/results", "results.yaml"),
)
LOCAL = {"public_url": "http://127.0.0.1:8095"}
STANDARD = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Heads(Protocol):
    """Headers of an answer, whoever has it."""

    def get(self, name: str, default: Any = None) -> Any:
        """One of them."""


@dataclass(frozen=True)
class Said:
    """An answer. What was JSON and has a schema is valid."""

    status: int
    headers: Heads
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)

    @property
    def media_type(self) -> str:
        """Without parameters."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0]

    @property
    def problem(self) -> tuple[int, str, str | None]:
        """HTTP status, type and locator of a problem."""
        assert self.media_type == "application/problem+json", self.body
        assert self.json["status"] == self.status and self.json["detail"] and self.json["title"]
        return self.status, self.json["type"], self.json.get("locator")

    @property
    def code(self) -> tuple[int, str, str | None]:
        """HTTP status, exceptionCode and locator of a problem."""
        status, _, locator = self.problem
        return status, self.json["code"], locator

    @property
    def parts(self) -> dict[str, tuple[Mapping[str, str], bytes]]:
        """The parts of a multipart/related body by Content-ID: their heads and bodies."""
        head = f"Content-Type: {self.headers.get('Content-Type')}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body)
        assert message.get_content_type() == "multipart/related"
        found = [part for part in message.walk() if not part.is_multipart()]
        return {str(part["Content-ID"]): (dict(part.items()), part.get_payload(decode=True)) for part in found}  # type: ignore[misc]

    def link(self, rel: str) -> dict[str, Any]:
        """The first link of that relation."""
        return next(link for link in self.json["links"] if link["rel"] == rel)

    def rels(self) -> set[str]:
        """The relations of all links."""
        return {link["rel"] for link in self.json["links"]}


def checked(path: str, said: Said) -> Said:
    """Validate what is JSON."""
    if not said.body:  # HEAD
        return said
    if said.media_type == "application/problem+json":
        validate_json(said.json, "exception.yaml")
        assert "Traceback" not in said.json["detail"]
    elif said.media_type == "application/json" and said.status in (200, 201, 202):
        asynchronous = said.status == 201
        schema = next((name for pattern, name in SCHEMAS if re.fullmatch(pattern, path.partition("?")[0])), None)
        if schema is not None:
            validate_json(said.json, "statusInfo.yaml" if asynchronous else schema)
        if schema == "statusInfo.yaml" or asynchronous:
            check_times(said.json)
    return said


def check_times(status: Mapping[str, Any]) -> None:
    """Times are RFC 3339, in UTC and in order."""
    times = [status[name] for name in ("created", "started", "finished") if name in status]
    assert all(_TIME.fullmatch(text) for text in (*times, status["updated"])), status
    assert times == sorted(times)


class Api:
    """Sends requests to an application in this process."""

    def __init__(self, site: Site, **sections: Any) -> None:
        self.site = site
        sections = {**sections, "server": {**LOCAL, **sections.get("server", {})}}
        self.settings = settings_with(**sections)
        self.application = create_app(self.settings, site.backend)
        self._client = Client(self.application)

    def open(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, **more: Any) -> Said:
        """Any request."""
        answer = self._client.open(path, method=method, headers=dict(headers or {}), buffered=True, **more)
        assert answer.headers["X-Content-Type-Options"] == "nosniff" or answer.status_code == 204
        return checked(path, Said(answer.status_code, answer.headers, answer.data))

    def get(self, path: str, **headers: str) -> Said:
        """GET; headers with underscores for dashes."""
        return self.open(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def execute(self, process: str, inputs: Any = None, *, prefer: str = "", **members: Any) -> Said:
        """Execute; members other than the inputs as they are."""
        body = {**({} if inputs is None else {"inputs": inputs}), **members}
        headers = {"Prefer": prefer} if prefer else {}
        return self.open(f"/processes/{process}/execution", "POST", headers, json=body)

    def start(self, process: str, inputs: Any = None, **members: Any) -> str:
        """Execute asynchronously; the job's path."""
        answer = self.execute(process, inputs, prefer="respond-async", **members)
        assert answer.status == 201, answer.body
        return f"/jobs/{answer.json['jobID']}"


def local_site(folder: Path) -> Api:
    """A site in memory that is not public, so that job list and job control are on."""
    return Api(Site(folder))
