"""OGC API - Processes: jobs, their results, the list of them, and control over them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from joblauncher.formats.records import Failure
from tests.protocols.conftest import CheckedClient, execute_xml, literal_xml
from tests.protocols.ogcapi import STANDARD, Api, Said, local_site
from tests.protocols.site import Site
from wps_hpc.app import create_app
from wps_hpc.jobs.job import STATE_WORDS, JobState
from wps_hpc.protocols.ogcapi_jobs import STATES

RESULTS = "http://www.opengis.net/def/rel/ogc/1.0/results"
EXCEPTIONS = "http://www.opengis.net/def/rel/ogc/1.0/exceptions"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """A site of one's own."""
    return local_site(tmp_path)


def job_id(path: str) -> str:
    return path.rpartition("/")[2]


# ------------------------------------------------------------------------------------------------------------ status


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_its_word(api: Api, state: JobState) -> None:
    path = api.start("echo", {"text": "a"})
    moments = {"started": time.time(), "finished": time.time()} if state.final else {}
    api.site.change(job_id(path), state=state, percent=40, **moments)
    status = api.get(path).json
    assert (status["status"], status["state"]) == (STATE_WORDS[state][2], state.value)
    assert status["progress"] == (100 if state is JobState.SUCCEEDED else 40)
    assert status["type"] == "process" and status["processID"] == "echo" and status["message"]
    assert ("finished" in status) == state.final


def test_every_word_has_its_states() -> None:
    assert {state for states in STATES.values() for state in states} == set(JobState)


def test_a_status_leads_on(api: Api) -> None:
    path = api.start("echo", {"text": "a"})
    assert {"self", "alternate", "up"} == api.get(path).rels()
    api.site.run(job_id(path))
    assert api.get(path).link(RESULTS)["href"] == f"http://127.0.0.1:8095{path}/results"
    failed = api.start("refuses")
    api.site.run(job_id(failed))
    assert EXCEPTIONS in api.get(failed).rels()


def test_a_status_is_not_kept_by_caches(api: Api) -> None:
    assert api.get(api.start("echo")).headers.get("Cache-Control") == "no-store"


def test_why_a_job_waits(api: Api) -> None:
    path = api.start("echo")
    api.site.change(job_id(path), state=JobState.QUEUED, message="queued", reason="Resources", stale_since=0.0)
    message = api.get(path).json["message"]
    assert message.startswith("queued (Resources) [The batch system has not answered since 1970")


@pytest.mark.parametrize("name", ["none", "x" * 3000, "00000000-0000-4000-8000-000000000000", "%00", "..", "%E2%98%83"])
@pytest.mark.parametrize("rest", ["", "/results", "/results/text"])
def test_no_such_job(api: Api, name: str, rest: str) -> None:
    assert api.get(f"/jobs/{name}{rest}").problem == (404, f"{STANDARD}/no-such-job", None)


def test_an_identifier_in_capitals_is_the_same(api: Api) -> None:
    assert api.get(api.start("echo").upper().replace("/JOBS", "/jobs")).status == 200


# ----------------------------------------------------------------------------------------------------------- results


def test_results_as_asked_for(api: Api) -> None:
    raw, document = api.start("echo", {"text": "a"}, outputs={"text": {}}), api.start("echo", {"text": "a"})
    api.site.run(job_id(raw))
    assert api.get(f"{raw}/results").body == b"a"
    document = api.start("echo", {"text": "a"}, response="document")
    api.site.run(job_id(document))
    assert api.get(f"{document}/results").json == {"text": "a"}


def test_results_in_parts_and_by_reference(api: Api) -> None:
    path = api.start("echo", {"text": "a", "number": 5})
    api.site.run(job_id(path))
    assert set(api.get(f"{path}/results").parts) == {"text", "number"}
    path = api.start("echo", {"text": "a"}, outputs={"text": {"transmissionMode": "reference"}})
    api.site.run(job_id(path))
    answer = api.get(f"{path}/results")
    assert answer.status == 204 and f"{path}/results/text" in answer.headers.get("Link")


def test_one_result(api: Api) -> None:
    path = api.start("echo", {"text": "é", "box": {"bbox": [1, 2, 3, 4]}, "complex": "<a/>"})
    api.site.run(job_id(path))
    assert api.get(f"{path}/results/text").body == "é".encode()
    assert api.get(f"{path}/results/box").json["bbox"] == [1, 2, 3, 4]
    part = api.get(f"{path}/results/complex", Range="bytes=1-2")
    assert (part.status, part.body) == (206, b"a/")
    assert api.get(f"{path}/results/complex", Range="bytes=99-").problem[0] == 416
    for name in ("number", "none"):
        assert api.get(f"{path}/results/{name}").problem == (404, "about:blank", None)


def test_results_that_are_not_ready(api: Api) -> None:
    path = api.start("echo", {"text": "a"})
    for rest in ("", "/text"):
        assert api.get(f"{path}/results{rest}").problem == (404, f"{STANDARD}/result-not-ready", None)


@pytest.mark.parametrize(
    ("code", "status"), [("InvalidParameterValue", 400), ("FileSizeExceeded", 413), ("NoApplicableCode", 500)]
)
def test_results_of_a_job_that_failed(api: Api, code: str, status: int) -> None:
    path = api.start("echo")
    failure = Failure("process error", "It was too late.", code, "text")
    api.site.change(job_id(path), state=JobState.FAILED, failure=failure, finished=time.time())
    for rest in ("", "/text"):
        answer = api.get(f"{path}/results{rest}")
        assert answer.code == (status, code, "text") and answer.json["detail"] == "It was too late."


def test_results_of_a_job_that_was_dismissed(api: Api) -> None:
    path = api.start("echo")
    api.open(path, "DELETE")
    answer = api.get(f"{path}/results")
    assert answer.problem[0] == 410 and "dismissed" in answer.json["detail"]


def test_jobs_of_other_protocols_are_jobs_here(api: Api) -> None:
    wps = CheckedClient(create_app(api.settings, api.site.backend))
    form = '<wps:ResponseDocument storeExecuteResponse="true" status="true"/>'
    wps.post(execute_xml("echo", literal_xml("text", "a"), form))
    path = f"/jobs/{api.site.latest.id}"
    assert api.get(path).json["status"] == "accepted"
    api.site.run(api.site.latest.id)
    assert api.get(path).json["status"] == "successful"
    assert api.get(f"{path}/results").json == {"text": "a"}


def test_the_results_of_a_process_that_is_gone(api: Api) -> None:
    path = api.start("echo", {"text": "a"}, response="document")
    api.site.run(job_id(path))
    del api.site.catalogue.offers["echo"]
    assert api.get(f"{path}/results").json == {"text": "a"}


# ---------------------------------------------------------------------------------------------------------- the list


def ids(answer: Said) -> list[str]:
    return [job["jobID"] for job in answer.json["jobs"]]


def test_the_list_is_the_newest_first_in_pages(api: Api) -> None:
    made = [job_id(api.start("echo")) for _ in range(7)]
    seen: list[str] = []
    path: str | None = "/jobs?limit=3&status=accepted"
    while path:
        answer = api.get(path)
        seen += ids(answer)
        path = answer.link("next")["href"].removeprefix("http://127.0.0.1:8095") if "next" in answer.rels() else None
        assert path is None or "status=accepted" in path
    assert seen == made[::-1]


def test_the_list_by_process_status_and_type(api: Api) -> None:
    echo, slow = job_id(api.start("echo", {"text": "a"})), job_id(api.start("slow"))
    api.site.run(echo)
    assert ids(api.get("/jobs?processID=echo")) == [echo]
    assert ids(api.get("/jobs?processID=echo,slow")) == ids(api.get("/jobs?processID=echo&processID=slow"))
    assert ids(api.get("/jobs?status=successful")) == [echo]
    assert ids(api.get("/jobs?status=running,accepted")) == [slow]
    assert ids(api.get("/jobs?type=process")) == ids(api.get("/jobs")) == [slow, echo]
    assert ids(api.get("/jobs?type=other")) == []


@pytest.mark.parametrize(
    ("query", "locator"),
    [
        ("status=done", "status"),
        ("status=running,", None),
        ("minDuration=x", "minDuration"),
        ("maxDuration=-1", "maxDuration"),
        ("minDuration=1.5", "minDuration"),
        ("datetime=yesterday", "datetime"),
        ("datetime=2026-01-01", "datetime"),
        ("datetime=..", "datetime"),
        ("datetime=2026-13-01T00:00:00Z", "datetime"),
        ("datetime=2026-01-01T00:00:00", "datetime"),
        ("datetime=2026-01-01T00:00:00Z/../..", "datetime"),
        ("datetime=0001-01-01T00:00:00%2B14:00/..", None),
        ("cursor=1", "cursor"),
        ("cursor=1.0~../../etc", "cursor"),
        ("f=xml", "f"),
    ],
)
def test_filters_that_are_none(api: Api, query: str, locator: str | None) -> None:
    answer = api.get(f"/jobs?{query}")
    if locator is None:
        assert answer.status in (200, 400)
    else:
        assert answer.code == (400, "InvalidParameterValue", locator)


@pytest.mark.parametrize("server", [{"public_url": "https://wps.example.org"}, {"host": "0.0.0.0"}])
def test_a_public_server_without_owners_lists_and_controls_nothing(tmp_path: Path, server: dict[str, str]) -> None:
    api = Api(Site(tmp_path), server=server)
    path = api.start("echo")
    assert api.get(path).status == 200
    assert api.get("/jobs").problem[0] == 403
    for method, rest in (("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")):
        assert api.open(path + rest, method).code[:2] == (501, "OperationNotSupported")
    assert api.site.latest.state is JobState.ACCEPTED


def test_everybody_has_his_own_jobs(tmp_path: Path) -> None:
    api = Api(Site(tmp_path), server={"public_url": "https://wps.example.org", "trusted_proxies": ("127.0.0.1/32",)})

    def ask(path: str, who: str | None, method: str = "GET", **more: object) -> Said:
        headers = {"X-Remote-User": who} if who else {}
        return api.open(path, method, headers, environ_overrides={"REMOTE_ADDR": "127.0.0.1"}, **more)

    for who in ("ann", "bob"):
        ask("/processes/echo/execution", who, "POST", json={"inputs": {"text": "a"}})
    ann, bob = api.site.jobs
    assert (ids(ask("/jobs", "ann")), ids(ask("/jobs", "bob"))) == ([ann], [bob])
    assert ask("/jobs", None).problem[0] == 403
    assert ask(f"/jobs/{ann}", "bob", "DELETE").problem[0] == 403
    assert ask(f"/jobs/{ann}", None, "DELETE").problem[0] == 403
    assert ask(f"/jobs/{ann}", "ann", "DELETE").status == 200


# ------------------------------------------------------------------------------------------------------------ control


def test_dismissing_a_job(api: Api) -> None:
    path = api.start("slow")
    answer = api.open(path, "DELETE")
    assert (answer.status, answer.json["status"]) == (200, "dismissed")
    assert api.get(path).json["status"] == "dismissed"
    assert api.site.latest.cancelled_by == "its client (Dismiss)"


def test_dismissing_a_job_that_has_ended_removes_it(api: Api) -> None:
    path = api.start("echo", {"text": "a"})
    api.site.run(job_id(path))
    answer = api.open(path, "DELETE")
    assert (answer.status, answer.json["status"]) == (200, "dismissed")
    assert api.site.latest.expires is not None and api.site.latest.state is JobState.SUCCEEDED


def test_pausing_and_resuming(api: Api) -> None:
    path = api.start("slow")
    for _ in range(2):
        held = api.open(f"{path}/pause", "POST")
        assert (held.status, held.json["state"]) == (200, "held")
    resumed = api.open(f"{path}/resume", "POST")
    assert (resumed.status, resumed.json["state"]) == (200, "accepted")
    api.site.change(job_id(path), state=JobState.RUNNING)
    paused = api.open(f"{path}/pause", "POST").json
    assert (paused["state"], paused["status"]) == ("suspended", "running")
    assert api.open(f"{path}/resume", "POST").json["state"] == "running"
    api.site.run(job_id(path))
    assert api.open(f"{path}/pause", "POST").code == (400, "InvalidParameterValue", job_id(path))


def test_what_is_asked_but_not_there_yet_is_202(api: Api) -> None:
    path = api.start("slow")
    api.site.pause = lambda job_id: api.site.change(job_id, wish="hold")  # type: ignore[method-assign]
    api.site.resume = lambda job_id: api.site.change(job_id, wish="release")  # type: ignore[method-assign]
    assert api.open(f"{path}/pause", "POST").status == 202
    assert api.open(f"{path}/resume", "POST").status == 200, "it was never held"
    api.site.change(job_id(path), state=JobState.HELD)
    assert api.open(f"{path}/pause", "POST").status == 200, "what was asked for before is so"
    assert api.open(f"{path}/resume", "POST").status == 202
