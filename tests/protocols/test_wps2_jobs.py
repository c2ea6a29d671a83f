"""GetStatus, GetResult and Dismiss of WPS 2.0 (OGC 14-065r2 §9.9, 9.10, 12), and jobs between the protocols. The client
validates every document."""

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from joblauncher.formats.records import Failure, WantedOutput
from joblauncher.formats.values import LiteralValue
from tests.protocols.conftest import CheckedClient, Received, document_xml, settings_with
from tests.protocols.conftest import execute_xml as execute1_xml
from tests.protocols.conftest import literal_xml as literal1_xml
from tests.protocols.site import Site
from tests.protocols.wps2 import (
    data_xml,
    execute_xml,
    job_kvp,
    job_xml,
    literal_xml,
    output_xml,
    submit,
)
from wps_hpc.app import create_app
from wps_hpc.errors import BY_CODE
from wps_hpc.jobs.job import STATE_WORDS, Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, OutputWish

TEXT = literal_xml("text", "hello")
STORED = 'storeExecuteResponse="true"'


def status(client: CheckedClient, job_id: str) -> Received:
    return job_kvp(client, "GetStatus", job_id)


def moment(answer: Received, name: str) -> float:
    text = answer.text(f"wps:{name}")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    return datetime.fromisoformat(text).timestamp()


def names(answer: Received) -> list[str]:
    return [child.tag.rpartition("}")[2] for child in answer.root]


@pytest.fixture
def local(site: Site) -> CheckedClient:
    """A client of a service that only this host reaches, so that job control is on."""
    return CheckedClient(create_app(settings_with(server={"public_url": "http://127.0.0.1:8095"}), site.backend))


# GetStatus


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_its_word(client: CheckedClient, site: Site, state: JobState) -> None:
    job_id = submit(client)
    site.change(job_id, state=state)
    assert status(client, job_id).text("wps:Status") == STATE_WORDS[state][1]


def test_the_same_by_post_and_in_any_case(client: CheckedClient) -> None:
    job_id = submit(client)
    for answer in (
        client.post(job_xml("GetStatus", job_id)),
        client.post(job_xml("GetStatus", f"\n {job_id.upper()} ")),
        client.kvp(f"SERVICE=WPS&VERSION=2.0.0&REQUEST=getstatus&JOBID={job_id}"),
        client.kvp(f"service=WPS&version=2.0.0&request=GetStatus&jobId={job_id}"),
    ):
        assert (answer.text("wps:JobID"), answer.text("wps:Status")) == (job_id, "Accepted")
        assert answer.response.headers["Cache-Control"] == "no-store"


def test_a_job_that_waits_says_when_to_ask_again_and_no_percentage(client: CheckedClient) -> None:
    answer = status(client, submit(client))
    assert names(answer) == ["JobID", "Status", "NextPoll"]
    assert 0 < moment(answer, "NextPoll") - time.time() <= 1.5


@pytest.mark.parametrize(("age", "pause"), [(0, 1), (100, 10), (100_000, 60)])
def test_polls_grow_rarer_with_the_age_of_the_job(client: CheckedClient, site: Site, age: float, pause: float) -> None:
    job_id = submit(client)
    site.change(job_id, created=time.time() - age)
    assert abs(moment(status(client, job_id), "NextPoll") - time.time() - pause) < 1


@pytest.mark.parametrize(("percent", "shown"), [(0, "0"), (55, "55"), (100, "99"), (-3, "0")])
@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUSPENDED])
def test_percent_completed(client: CheckedClient, site: Site, percent: int, shown: str, state: JobState) -> None:
    job_id = submit(client)
    site.change(job_id, state=state, percent=percent)
    assert status(client, job_id).text("wps:PercentCompleted") == shown


def test_a_running_job_is_estimated_from_how_far_it_is(client: CheckedClient, site: Site) -> None:
    job_id = submit(client)
    site.change(job_id, state=JobState.RUNNING, percent=25, started=time.time() - 100)
    answer = status(client, job_id)
    assert names(answer) == ["JobID", "Status", "EstimatedCompletion", "NextPoll", "PercentCompleted"]
    assert abs(moment(answer, "EstimatedCompletion") - time.time() - 300) < 5
    site.change(job_id, percent=0)
    assert "EstimatedCompletion" not in names(status(client, job_id))


def test_a_job_that_has_ended_says_until_when_it_is_kept(client: CheckedClient, site: Site) -> None:
    job_id = submit(client, "echo", TEXT)
    expires = datetime(2099, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC).timestamp()
    site.run(job_id)
    site.change(job_id, expires=expires)
    answer = status(client, job_id)
    assert names(answer) == ["JobID", "Status", "ExpirationDate", "PercentCompleted"]
    assert answer.text("wps:ExpirationDate") == "2099-02-03T04:05:06.789Z"
    assert answer.text("wps:PercentCompleted") == "100"
    assert job_kvp(client, "GetResult", job_id).text("wps:ExpirationDate") == "2099-02-03T04:05:06.789Z"


def test_a_quick_job_is_answered_as_finished(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(limits={"grace_seconds": 1}), site.backend))
    answer = client.post(execute_xml("echo", TEXT, mode="async"))
    assert answer.text("wps:Status") == "Succeeded"
    assert client.post(execute_xml("slow", mode="async")).text("wps:Status") == "Accepted"


@pytest.mark.parametrize("operation", ["GetStatus", "GetResult"])
@pytest.mark.parametrize("job_id", ["00000000-0000-4000-8000-000000000000", "none", "é" * 200, "../etc", "%"])
def test_table_46_no_such_job(client: CheckedClient, operation: str, job_id: str) -> None:
    assert job_kvp(client, operation, job_id).exception2 == (400, "NoSuchJob", job_id[:100])
    assert client.post(job_xml(operation, job_id)).exception2 == (400, "NoSuchJob", job_id[:100])


def test_a_request_without_a_job(client: CheckedClient) -> None:
    assert client.post(job_xml("GetStatus", "")).exception2 == (400, "MissingParameterValue", "JobID")


def test_jobs_have_different_ids(client: CheckedClient) -> None:
    assert len({submit(client) for _ in range(5)}) == 5


# GetResult


@pytest.mark.parametrize("state", [state for state in JobState if not state.final])
def test_table_49_the_result_is_not_ready(client: CheckedClient, site: Site, state: JobState) -> None:
    job_id = submit(client)
    site.change(job_id, state=state)
    assert job_kvp(client, "GetResult", job_id).exception2 == (400, "ResultNotReady", job_id)


def test_the_result_of_an_asynchronous_job(client: CheckedClient, site: Site) -> None:
    job_id = submit(client, "echo", TEXT, data_xml("complex", "<a/>", 'mimeType="text/xml"'), output_xml("text"))
    site.run(job_id)
    for answer in (job_kvp(client, "GetResult", job_id), client.post(job_xml("GetResult", job_id))):
        assert answer.text("wps:JobID") == job_id
        assert [node.get("id") for node in answer.all("wps:Output")] == ["text"]
        assert answer.text("wps:Output/wps:Data/wps:LiteralValue") == "hello"


#: exceptionCode of the failure and its cause, and what WPS 2.0 calls that.
FAILURES = [
    ("NoApplicableCode", "process error", (500, "InternalServerError")),
    ("NoApplicableCode", "time limit", (500, "InternalServerError")),
    ("NotEnoughStorage", "disk full", (500, "InternalServerError")),
    ("NoApplicableCode", "input not available", (400, "DataNotAccessible")),
    ("InvalidParameterValue", "input not available", (400, "DataNotAccessible")),
    ("FileSizeExceeded", "input not available", (400, "SizeExceeded")),
    ("InvalidParameterValue", "process error", (400, "WrongInputData")),
    ("MissingParameterValue", "process error", (400, "WrongInputData")),
    ("OperationNotSupported", "process error", (500, "InternalServerError")),
    ("VersionNegotiationFailed", "process error", (500, "InternalServerError")),
    ("StorageNotSupported", "process error", (400, "StorageNotSupported")),
    ("ServerBusy", "process error", (503, "ServerBusy")),
    ("SomethingElse", "process error", (500, "InternalServerError")),
]


@pytest.mark.parametrize(("code", "cause", "expected"), FAILURES)
def test_a_failed_job_says_so_and_its_result_is_the_report(
    client: CheckedClient, site: Site, code: str, cause: str, expected: tuple[int, str]
) -> None:
    job_id = submit(client)
    failure = Failure(cause, "The moon is in the wrong phase.", code, "moon")
    site.change(job_id, state=JobState.FAILED, failure=failure)
    assert status(client, job_id).text("wps:Status") == "Failed"
    answer = job_kvp(client, "GetResult", job_id)
    assert answer.exception2 == (*expected, "moon")
    assert answer.text("ows:Exception/ows:ExceptionText") == "The moon is in the wrong phase."


def test_every_code_of_a_failure_has_a_name(client: CheckedClient, site: Site) -> None:
    for code in BY_CODE:
        job_id = submit(client)
        site.change(job_id, state=JobState.FAILED, failure=Failure("process error", "It failed.", code))
        assert job_kvp(client, "GetResult", job_id).exception2[0] >= 400


def test_a_failure_without_a_record(client: CheckedClient, site: Site) -> None:
    job_id = submit(client)
    site.change(job_id, state=JobState.FAILED)
    assert job_kvp(client, "GetResult", job_id).exception2[:2] == (500, "InternalServerError")


def test_a_job_dismissed_by_others_is_known_and_has_no_result(client: CheckedClient, site: Site) -> None:
    job_id = submit(client)
    site.dismiss(job_id, "root (operator)")
    assert status(client, job_id).text("wps:Status") == "Dismissed"
    answer = job_kvp(client, "GetResult", job_id)
    assert answer.exception2 == (400, "NoSuchJob", job_id)
    assert "root (operator)" in answer.text("ows:Exception/ows:ExceptionText")


def test_results_of_a_process_that_left_the_offer(client: CheckedClient, site: Site) -> None:
    job_id = submit(client, "echo", TEXT)
    site.run(job_id)
    del site.catalogue.offers["echo"]
    site.catalogue.revision += 1
    assert job_kvp(client, "GetResult", job_id).text("wps:Output/wps:Data/wps:LiteralValue") == "hello"


# Dismiss


@pytest.mark.parametrize("by_post", [True, False])
def test_12_1_2_dismissed_and_then_unknown(local: CheckedClient, site: Site, by_post: bool) -> None:
    job_id = submit(local)
    answer = local.post(job_xml("Dismiss", job_id)) if by_post else job_kvp(local, "Dismiss", job_id)
    assert names(answer) == ["JobID", "Status"]
    assert answer.text("wps:Status") == "Dismissed"
    assert site.jobs[job_id].state is JobState.DISMISSED
    for operation in ("GetStatus", "GetResult", "Dismiss"):
        assert job_kvp(local, operation, job_id).exception2 == (400, "NoSuchJob", job_id)


def test_a_dismissed_job_that_is_still_on_its_way_is_unknown_at_once(
    local: CheckedClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def later(job_id: str, by: str) -> Job:
        return site.change(job_id, cancel_requested=time.time(), cancelled_by=by)

    monkeypatch.setattr(site, "dismiss", later)
    job_id = submit(local)
    site.change(job_id, state=JobState.RUNNING, percent=50)
    assert job_kvp(local, "Dismiss", job_id).text("wps:Status") == "Dismissed"
    assert site.jobs[job_id].state is JobState.RUNNING
    assert status(local, job_id).exception2 == (400, "NoSuchJob", job_id)


def test_the_results_of_an_ended_job_go(local: CheckedClient, site: Site) -> None:
    job_id = submit(local, "echo", TEXT)
    site.run(job_id)
    assert job_kvp(local, "Dismiss", job_id).text("wps:Status") == "Dismissed"
    assert (site.jobs[job_id].expires or 0) <= time.time()
    assert job_kvp(local, "GetResult", job_id).exception2 == (400, "NoSuchJob", job_id)


# Between the protocols


def poll1(client: CheckedClient, job_id: str) -> Received:
    return client.open(f"/wps/status/{job_id}.xml")


def submit1(client: CheckedClient, site: Site, process: str, attributes: str, *inputs: str) -> str:
    client.post(execute1_xml(process, "".join(inputs), document_xml("text", attributes=attributes)))
    return site.latest.id


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("started_by", ["1.0.0", "2.0"])
def test_status_document_and_get_status_agree(
    client: CheckedClient, site: Site, state: JobState, started_by: str
) -> None:
    stored = f'{STORED} status="true"'
    job_id = submit(client) if started_by == "2.0" else submit1(client, site, "slow", stored)
    site.made[job_id] = {"text": (LiteralValue("x"),)}
    site.change(job_id, state=state, percent=40)
    assert (poll1(client, job_id).outcome, status(client, job_id).text("wps:Status")) == STATE_WORDS[state][:2]
    if state in (JobState.RUNNING, JobState.SUSPENDED):
        shown = poll1(client, job_id).find("wps:Status/*").get("percentCompleted")
        assert shown == status(client, job_id).text("wps:PercentCompleted") == "40"


def test_the_status_document_of_a_job_of_2_0_has_its_outputs(client: CheckedClient, site: Site) -> None:
    csv = data_xml("complex", "a,b", 'mimeType="text/csv"')
    job_id = submit(client, "echo", TEXT, csv, output_xml("text"), output_xml("complex", 'transmission="reference"'))
    assert poll1(client, job_id).root.get("statusLocation", "").endswith(f"/wps/status/{job_id}.xml")
    site.run(job_id)
    answer = poll1(client, job_id)
    assert answer.text("wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData") == "hello"
    assert answer.find("wps:ProcessOutputs/wps:Output/wps:Reference").get("mimeType") == "text/csv"


def test_the_result_of_a_job_of_1_0_0(client: CheckedClient, site: Site) -> None:
    job_id = submit1(client, site, "echo", f'{STORED} status="true"', literal1_xml("text", "hello"))
    site.run(job_id)
    answer = job_kvp(client, "GetResult", job_id)
    assert answer.text("wps:Output/wps:Data/wps:LiteralValue") == "hello"


def test_a_job_of_another_protocol_can_be_asked_for_in_both(client: CheckedClient, site: Site) -> None:
    wish = OutputWish(WantedOutput("text"))
    job = site.execute(ExecuteRequest("echo", "ogcapi", {"text": (LiteralValue("x"),)}, (wish,), raw=True))
    site.run(job.id)
    assert poll1(client, job.id).outcome == "ProcessSucceeded"
    # What is raw there need not be raw data of WPS.
    assert job_kvp(client, "GetResult", job.id).text("wps:Output/wps:Data/wps:LiteralValue") == "x"


def test_a_job_of_1_0_0_that_was_not_stored_has_no_status_document(client: CheckedClient, site: Site) -> None:
    client.post(execute1_xml("echo", literal1_xml("text", "x")))
    assert poll1(client, site.latest.id).status == 404


# Who may steer jobs


def request_as(client: CheckedClient, user: str | None, **pairs: str) -> Received:
    headers = {"X-Remote-User": user} if user else {}
    by_proxy = {"REMOTE_ADDR": "127.0.0.1"}
    query = {"service": "WPS", **pairs}
    return client.open("/wps", query_string=query, headers=headers, environ_overrides=by_proxy)


STEERING = [
    ("2.0.0", "Dismiss", "jobid"),
    ("2.0.0", "Pause", "jobid"),
    ("2.0.0", "Resume", "jobid"),
    ("1.0.0", "Dismiss", "executionId"),
    ("1.0.0", "Pause", "executionId"),
    ("1.0.0", "Resume", "executionId"),
]


@pytest.mark.parametrize(("version", "operation", "parameter"), STEERING)
def test_nobody_steers_on_a_public_service_without_owners(
    client: CheckedClient, site: Site, version: str, operation: str, parameter: str
) -> None:
    job_id = submit(client)
    answer = client.kvp(service="WPS", version=version, request=operation, **{parameter: job_id})
    found = answer.exception2 if version == "2.0.0" else answer.exception
    assert found == (501, "OperationNotSupported", operation)
    assert site.jobs[job_id].revision == 1


@pytest.mark.parametrize(("version", "operation", "parameter"), STEERING)
def test_owners_steer_their_own_jobs_alone(site: Site, version: str, operation: str, parameter: str) -> None:
    client = CheckedClient(create_app(settings_with(server={"trusted_proxies": ["127.0.0.1"]}), site.backend))
    for owner, user, allowed in (
        ("ada", "ada", True),
        ("ada", "bob", False),
        ("ada", None, False),
        (None, "ada", False),
        (None, None, False),
    ):
        job_id = submit(client)
        site.change(job_id, owner=owner)
        pairs = {parameter: job_id}
        answer = request_as(client, user, version=version, request=operation, **pairs)
        assert answer.status == (200 if allowed else 403)
        assert (site.jobs[job_id].revision > 2) == allowed


@pytest.mark.parametrize(
    ("server", "on"),
    [
        ({"host": "127.0.0.1", "public_url": None}, True),
        ({"host": "::1", "public_url": "http://localhost:8095"}, True),
        ({"host": "localhost", "public_url": "http://[::1]:8095"}, True),
        ({"host": "0.0.0.0", "public_url": None}, False),
        ({"host": "127.0.0.1", "public_url": "https://wps.example.org"}, False),
        ({"host": "192.0.2.1", "public_url": "http://127.0.0.1"}, False),
        ({"host": "0.0.0.0", "public_url": None, "trusted_proxies": ["127.0.0.1"]}, True),
    ],
)
def test_where_job_control_is_on(server: dict[str, Any], on: bool) -> None:
    assert settings_with(server=server).server.job_control is on
