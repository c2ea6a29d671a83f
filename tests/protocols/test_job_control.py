"""What was added to WPS: GetExecutionStatus and Dismiss of 1.0.0, as GeoServer has them, and Pause and Resume of both
versions, which are this server's own. The client validates every document."""

import uuid

import pytest

from tests.protocols.conftest import CheckedClient, Received, document_xml, execute_xml, literal_xml, settings_with
from tests.protocols.site import Site
from tests.protocols.wps2 import job_kvp, job_xml, submit
from wps_hpc.app import create_app
from wps_hpc.jobs.job import JobState

STORED = document_xml("text", attributes='storeExecuteResponse="true" status="true"')


@pytest.fixture
def local(site: Site) -> CheckedClient:
    """A client of a service that only this host reaches, so that job control is on."""
    return CheckedClient(create_app(settings_with(server={"public_url": "http://127.0.0.1:8095"}), site.backend))


def ask(client: CheckedClient, operation: str, execution_id: str) -> Received:
    return client.kvp(service="WPS", version="1.0.0", request=operation, executionId=execution_id)


def stored(client: CheckedClient, site: Site, process: str = "slow", *inputs: str) -> str:
    client.post(execute_xml(process, "".join(inputs), STORED))
    return site.latest.id


def test_get_execution_status_is_the_status_document(client: CheckedClient, site: Site) -> None:
    job_id = stored(client, site)
    site.change(job_id, state=JobState.RUNNING, percent=30, message="Reading tiles")
    answer = ask(client, "GetExecutionStatus", job_id)
    assert answer.body == client.open(f"/wps/status/{job_id}.xml").body
    assert answer.outcome == "ProcessStarted"
    assert ask(client, "getexecutionstatus", job_id).status == 200


def test_dismiss_answers_how_the_job_ended(local: CheckedClient, site: Site) -> None:
    job_id = stored(local, site)
    answer = ask(local, "Dismiss", job_id)
    assert answer.outcome == "ProcessFailed"
    failure = "wps:Status/wps:ProcessFailed/ows:ExceptionReport/ows:Exception/ows:ExceptionText"
    assert answer.text(failure) == "The job was dismissed by its client (Dismiss)."
    # A client of 1.0.0 is told so for as long as the job is kept, and so are the others.
    assert client_sees(local, job_id) == ("ProcessFailed", "Dismissed")


def test_dismiss_lets_an_ended_job_go(local: CheckedClient, site: Site) -> None:
    job_id = stored(local, site, "echo", literal_xml("text", "x"))
    site.run(job_id)
    assert ask(local, "Dismiss", job_id).outcome == "ProcessSucceeded"
    assert site.jobs[job_id].expires is not None


def client_sees(client: CheckedClient, job_id: str) -> tuple[str, str]:
    status = job_kvp(client, "GetStatus", job_id).text("wps:Status")
    return client.open(f"/wps/status/{job_id}.xml").outcome, status


PAUSED = [
    (JobState.ACCEPTED, JobState.HELD, ("ProcessAccepted", "Accepted")),
    (JobState.RUNNING, JobState.SUSPENDED, ("ProcessPaused", "Running")),
]


@pytest.mark.parametrize(("before", "paused", "seen"), PAUSED)
def test_pause_and_resume_in_1_0_0(
    local: CheckedClient, site: Site, before: JobState, paused: JobState, seen: tuple[str, str]
) -> None:
    job_id = stored(local, site)
    site.change(job_id, state=before)
    assert ask(local, "Pause", job_id).outcome == seen[0]
    assert site.jobs[job_id].state is paused
    assert client_sees(local, job_id) == seen
    assert ask(local, "Resume", job_id).status == 200
    assert site.jobs[job_id].state is before


@pytest.mark.parametrize(("before", "paused", "seen"), PAUSED)
@pytest.mark.parametrize("by_post", [True, False])
def test_pause_and_resume_in_2_0(
    local: CheckedClient, site: Site, before: JobState, paused: JobState, seen: tuple[str, str], by_post: bool
) -> None:
    def send(operation: str) -> Received:
        return local.post(job_xml(operation, job_id)) if by_post else job_kvp(local, operation, job_id)

    job_id = submit(local)
    site.change(job_id, state=before)
    assert send("Pause").text("wps:Status") == seen[1]
    assert site.jobs[job_id].state is paused
    assert send("Resume").text("wps:JobID") == job_id
    assert site.jobs[job_id].state is before


@pytest.mark.parametrize("operation", ["Pause", "Resume"])
@pytest.mark.parametrize("state", [state for state in JobState if state.final])
def test_what_has_ended_is_neither_paused_nor_resumed(
    local: CheckedClient, site: Site, operation: str, state: JobState
) -> None:
    job_id = stored(local, site)
    site.change(job_id, state=state)
    assert ask(local, operation, job_id).exception == (400, "InvalidParameterValue", job_id)
    assert job_kvp(local, operation, job_id).exception2 == (400, "InvalidParameterValue", job_id)


@pytest.mark.parametrize("operation", ["GetExecutionStatus", "Dismiss", "Pause", "Resume"])
def test_unknown_executions(local: CheckedClient, operation: str) -> None:
    assert ask(local, operation, str(uuid.uuid4())).exception == (400, "InvalidParameterValue", "executionId")
    missing = local.kvp(service="WPS", version="1.0.0", request=operation)
    assert missing.exception == (400, "MissingParameterValue", "executionId")
    unversioned = local.kvp(service="WPS", request=operation, executionId="1")
    assert unversioned.exception == (400, "MissingParameterValue", "version")
