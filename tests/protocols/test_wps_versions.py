"""Which version of WPS answers at the one address, and in whose shape errors come."""

import pytest

from tests.protocols.conftest import OWS, OWS2, WPS, WPS2, CheckedClient, settings_with
from tests.protocols.site import Site
from tests.protocols.wps2 import request_xml
from wps_hpc.app import create_app
from wps_hpc.jobs.database import StoreBusy

FIRST, SECOND = f"{WPS}Capabilities", f"{WPS2}Capabilities"
OPENED = '<wps:GetCapabilities xmlns:wps="http://www.opengis.net/wps/1.0.0" service="WPS">'


@pytest.mark.parametrize(
    ("query", "root"),
    [
        ("", SECOND),
        ("&AcceptVersions=", SECOND),
        ("&AcceptVersions=2.0.0", SECOND),
        ("&AcceptVersions=1.0.0", FIRST),
        ("&AcceptVersions=1.0.0,2.0.0", FIRST),
        ("&AcceptVersions=2.0.0,1.0.0", SECOND),
        ("&AcceptVersions=9.9.9,1.0.0", FIRST),
        ("&version=1.0.0", FIRST),
        ("&version=2.0.0", SECOND),
        ("&version=1.0.0&AcceptVersions=2.0.0", SECOND),
        ("&VERSION=1.0.0", FIRST),
    ],
)
def test_get_capabilities_negotiates(client: CheckedClient, query: str, root: str) -> None:
    assert client.kvp(f"service=WPS&request=GetCapabilities{query}").root.tag == root


@pytest.mark.parametrize(
    ("document", "root"),
    [
        (f"{OPENED}</wps:GetCapabilities>", FIRST),
        (request_xml("GetCapabilities", attributes='service="WPS"'), SECOND),
        (
            f'{OPENED}<wps:AcceptVersions><o:Version xmlns:o="http://www.opengis.net/ows/1.1">2.0.0</o:Version>'
            "</wps:AcceptVersions></wps:GetCapabilities>",
            SECOND,
        ),
        (
            request_xml(
                "GetCapabilities",
                "<ows:AcceptVersions><ows:Version>1.0.0</ows:Version></ows:AcceptVersions>",
                'service="WPS"',
            ),
            FIRST,
        ),
    ],
)
def test_a_post_is_in_the_version_of_its_namespace_unless_it_accepts_others(
    client: CheckedClient, document: str, root: str
) -> None:
    assert client.post(document).root.tag == root


@pytest.mark.parametrize("query", ["&version=3.0.0", "&AcceptVersions=3.0.0", "&AcceptVersions=0.4.0,3.0.0"])
def test_a_version_that_nobody_speaks_is_not_answered_by_another(client: CheckedClient, query: str) -> None:
    answer = client.kvp(f"service=WPS&request=GetCapabilities{query}")
    assert answer.status == 400
    assert answer.exception[1] in ("InvalidParameterValue", "VersionNegotiationFailed")


@pytest.mark.parametrize(
    ("query", "shape"),
    [
        ("service=WPS&version=2.0.0&request=DescribeProcess&identifier=none", OWS2),
        ("service=WPS&version=1.0.0&request=DescribeProcess&identifier=none", OWS),
        ("service=WPS&version=2.0.0&request=GetMap", OWS2),
        ("service=WPS&request=GetMap", OWS),
        ("service=WPS&version=2.0.2&request=GetStatus&jobid=1", OWS2),
        ("service=WPS&request=GetStatus&jobid=1", OWS2),
        ("service=WPS&request=GetResult&jobid=1", OWS2),
        ("service=WPS&version=2.0.0&request=%FF", OWS2),
        ("service=WPS&version=2.0.0&request=GetStatus&a=1&a=2", OWS2),
        ("service=WPS&request=%FF", OWS),
        ("service=WMS&version=2.0.0&request=GetStatus", OWS2),
    ],
)
def test_errors_come_in_the_shape_of_the_version(client: CheckedClient, query: str, shape: str) -> None:
    assert client.kvp(query).root.tag == f"{shape}ExceptionReport"


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b'<wps:Execute xmlns:wps="http://www.opengis.net/wps/2.0">', OWS2),
        (b'<wps:Execute xmlns:wps="http://www.opengis.net/wps/1.0.0">', OWS),
        (b"nothing of the kind", OWS),
        (b'<!DOCTYPE a><a xmlns="http://www.opengis.net/wps/2.0"/>', OWS2),
        (b'<Nonsense xmlns="http://www.opengis.net/wps/2.0"/>', OWS2),
    ],
)
def test_errors_of_a_post_too(client: CheckedClient, body: bytes, shape: str) -> None:
    assert client.post(body).root.tag == f"{shape}ExceptionReport"


@pytest.mark.parametrize(
    ("query", "code", "locator"),
    [
        ("service=WPS&request=GetStatus&jobid=1", "MissingParameterValue", "version"),
        ("service=WPS&version=2.0.2&request=GetStatus&jobid=1", "InvalidParameterValue", "version"),
        ("version=2.0.0&request=GetStatus&jobid=1", "MissingParameterValue", "service"),
        ("service=WPS&version=2.0.0&request=GetStatus", "MissingParameterValue", "JobID"),
        ("service=WPS&version=2.0.0", "MissingParameterValue", "request"),
    ],
)
def test_mandatory_parameters_of_2_0(client: CheckedClient, query: str, code: str, locator: str) -> None:
    assert client.kvp(query).exception2 == (400, code, locator)


def test_2_0_has_no_execute_by_key_value_pairs(client: CheckedClient) -> None:
    answer = client.kvp(service="WPS", version="2.0.0", request="Execute", identifier="echo")
    assert answer.exception2 == (501, "OperationNotSupported", "Execute")


def test_a_defect_is_an_internal_server_error_in_2_0(client: CheckedClient) -> None:
    answer = client.post(
        request_xml(
            "Execute",
            "<ows:Identifier>broken</ows:Identifier>",
            'service="WPS" version="2.0.0" mode="sync" response="document"',
        )
    )
    assert answer.exception2 == (500, "InternalServerError", None)
    assert b"0000" not in answer.body


def test_a_database_that_is_away_is_a_busy_server_in_both(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(job_id: str) -> None:
        raise StoreBusy("the database is locked")

    monkeypatch.setattr(site, "get", away)
    client = CheckedClient(create_app(settings_with(), site.backend))
    answer = client.kvp(service="WPS", version="2.0.0", request="GetStatus", jobid="1")
    assert answer.exception2 == (503, "ServerBusy", None)
    assert answer.response.headers["Retry-After"]
    assert client.open(f"/wps/status/{'0' * 8}-0000-0000-0000-{'0' * 12}.xml").exception[:2] == (503, "ServerBusy")
