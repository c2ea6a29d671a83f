"""The clients that people use, over HTTP against a real server: OWSLib, and httpx as a script would use it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from owslib.ogcapi.processes import Processes

from tests.clusters.site import until
from tests.protocols.ogcapi import STANDARD
from tests.protocols.ogcapi_server import Server, server

FEATURE = {"type": "Feature", "properties": {"name": "é"}, "geometry": {"type": "Point", "coordinates": [7.1, 51.2]}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole module."""
    with server(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def owslib(api: Server) -> Processes:
    """OWSLib's client."""
    return Processes(api.base)


def test_owslib_finds_its_way(owslib: Processes) -> None:
    assert "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core" in owslib.conformance()["conformsTo"]
    assert owslib.api()["openapi"].startswith("3.0")
    assert {process["id"] for process in owslib.processes()} >= {"echo", "join", "later"}
    assert owslib.process("echo")["inputs"]["literalInput"]["schema"] == {"type": "string"}


def test_owslib_runs_a_process(owslib: Processes) -> None:
    given = {
        "literalInput": "a",
        "complexInput": {"value": FEATURE, "mediaType": "application/geo+json"},
        "boundingboxInput": {"bbox": [7, 51, 8, 52]},
    }
    found = owslib.execute("echo", inputs=given)
    assert found["literalOutput"] == "a"
    assert found["complexOutput"]["value"] == FEATURE
    assert found["boundingboxOutput"]["bbox"] == [7, 51, 8, 52]


def test_owslib_starts_a_process(api: Server, owslib: Processes) -> None:
    status = owslib.execute("join", inputs={"texts": ["a", "b"]}, async_=True)
    assert api.ended(f"/jobs/{status['jobID']}").json["status"] == "successful"
    assert api.get(f"/jobs/{status['jobID']}/results").json == {"text": "a+b", "count": 2}


def test_owslib_chooses_outputs(owslib: Processes) -> None:
    found = owslib.execute("join", inputs={"texts": ["a"]}, outputs={"text": {"transmissionMode": "reference"}})
    assert found["text"]["href"].endswith("/results/text") and "count" not in found


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_runs_a_process(api: Server) -> None:
    body = json.dumps({"inputs": {"literalInput": "a"}, "outputs": {"literalOutput": {}}})
    address = f"{api.base}/processes/echo/execution"
    command = ["curl", "-sS", "--json", body, address]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "a"


# ------------------------------------------------------------------------------------------------ the life of a job


def test_progress_is_seen(api: Server) -> None:
    job = api.start("echo", {"pause": 3})
    until(lambda: 0 < api.get(job).json["progress"] < 100, "the job shows progress")
    assert "pausing" in api.get(job).json["message"]
    assert api.ended(job).json["progress"] == 100


def test_pausing_and_resuming_a_job_that_runs(api: Server) -> None:
    job = api.start("echo", {"pause": 600})
    api.runs(job)
    assert api.open(f"{job}/pause", "POST").status in (200, 202)
    until(lambda: api.get(job).json["state"] == "suspended", "the job is suspended")
    assert api.get(job).json["status"] == "running"
    assert api.open(f"{job}/resume", "POST").status in (200, 202)
    until(lambda: api.get(job).json["state"] == "running", "the job runs on")
    assert api.open(job, "DELETE").json["status"] == "dismissed"


def test_an_ended_job_that_is_dismissed_is_gone(api: Server) -> None:
    job = api.run("join", {"texts": ["a"]}).removesuffix("/results")
    until(lambda: api.site.job(job.rpartition("/")[2]).scheduler_gone, "the scheduler lets go of the job")
    assert api.open(job, "DELETE").json["status"] == "dismissed"
    for rest in ("", "/results"):
        assert api.get(job + rest).problem == (404, f"{STANDARD}/no-such-job", None)


def test_wps_and_this_api_agree_on_a_job(api: Server) -> None:
    job = api.site.execute_over_http(api.http, "join", texts="a").rpartition("/")[2].removesuffix(".xml")
    assert api.ended(f"/jobs/{job}").json["status"] == "successful"
    assert b"ProcessSucceeded" in api.http.get(f"/wps/status/{job}.xml").content
    assert api.get(f"/jobs/{job}/results").json == {"text": "a", "count": 1}


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff", min_codepoint=32))
FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(ANY_TEXT | st.sampled_from(["", "]]>", "<![CDATA[x]]>", "&amp;", "\t a\nb ", "\U0001f9ea\u202e", "null"]))
def test_any_text_comes_back_from_a_real_job(api: Server, text: str) -> None:
    found = api.execute("echo", {"literalInput": text}, outputs={"literalOutput": {}})
    assert (found.status, found.body.decode()) == (200, text)
