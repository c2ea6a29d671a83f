"""GetCapabilities (OGC 05-007r7 §8; OWS Common 1.1, 06-121r3 §7). The client validates every document."""

import pytest

from tests.protocols.conftest import NS, CheckedClient, Received, settings_with
from tests.protocols.site import Site
from wps_hpc.app import create_app

XLINK = "{http://www.w3.org/1999/xlink}href"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def get(client: CheckedClient, **pairs: str) -> Received:
    return client.kvp(service="WPS", request="GetCapabilities", **{"AcceptVersions": "1.0.0", **pairs})


def post(attributes: str = "", inner: str = "") -> str:
    return (
        f'<wps:GetCapabilities xmlns:wps="{NS["wps"]}" xmlns:ows="{NS["ows"]}" {attributes}>'
        f"{inner}</wps:GetCapabilities>"
    )


def test_8_2_1_kvp_get_answers_a_capabilities_document(client: CheckedClient) -> None:
    answer = get(client)
    assert answer.status == 200
    assert answer.response.headers["Content-Type"] == "text/xml; charset=utf-8"
    assert answer.root.get("service") == "WPS"
    assert answer.root.get("version") == "1.0.0"
    assert answer.root.get("updateSequence") == "7"
    assert answer.root.get(LANG) == "en-US"


@pytest.mark.parametrize(
    "query",
    [
        "service=WPS&request=GetCapabilities",
        "SERVICE=WPS&REQUEST=GetCapabilities",
        "sErViCe=wps&Request=getcapabilities",
        "&&service=WPS&request=GetCapabilities&",
        "service=WPS&service=WPS&request=GetCapabilities",
        "service=WPS&request=GetCapabilities&version=1.0.0&AcceptVersions=",
        "service=WPS&request=GetCapabilities&unknown=%FF",
    ],
)
def test_06_121r3_11_5_2_names_are_case_insensitive(client: CheckedClient, query: str) -> None:
    assert client.kvp(query).status == 200


def test_8_2_2_xml_post_answers_the_same(client: CheckedClient) -> None:
    assert client.post(post('service="WPS"')).body == get(client).body
    assert client.post(post('service="wps"')).body == get(client).body


def test_06_121r3_9_2_1_the_bare_address_answers_a_missing_parameter(client: CheckedClient) -> None:
    assert client.kvp("").exception == (400, "MissingParameterValue", "service")


@pytest.mark.parametrize(
    ("query", "code", "locator"),
    [
        ("request=GetCapabilities&version=1.0.0", "MissingParameterValue", "service"),
        ("service=WPS", "MissingParameterValue", "request"),
        ("service=WPS&request=", "MissingParameterValue", "request"),
        ("service=WMS&request=GetCapabilities&version=1.0.0", "InvalidParameterValue", "service"),
        ("service=WPS&request=GetCapabilities&version=3.0.0", "InvalidParameterValue", "version"),
        ("service=WPS&service=WMS&request=GetCapabilities", "InvalidParameterValue", "service"),
    ],
)
def test_table_25_kvp_exceptions(client: CheckedClient, query: str, code: str, locator: str) -> None:
    assert client.kvp(query).exception == (400, code, locator)


def test_table_25_unknown_operation_is_not_supported(client: CheckedClient) -> None:
    assert client.kvp(service="WPS", request="GetMap").exception == (501, "OperationNotSupported", "GetMap")
    posted = client.post('<GetMap xmlns="http://www.opengis.net/wps/1.0.0" service="WPS"/>')
    assert posted.exception == (501, "OperationNotSupported", "GetMap")


def test_8_2_2_post_without_service(client: CheckedClient) -> None:
    assert client.post(post()).exception == (400, "MissingParameterValue", "service")
    assert client.post(post('service="WFS"')).exception == (400, "InvalidParameterValue", "service")


def test_post_in_the_namespace_of_another_version(client: CheckedClient) -> None:
    document = '<GetCapabilities xmlns="http://www.opengis.net/wps/3.0" service="WPS"/>'
    assert client.post(document).exception == (400, "InvalidParameterValue", "version")


# AcceptVersions


@pytest.mark.parametrize("versions", ["1.0.0", "1.0.0,2.0.0", "9.9.9, 1.0.0 ,0.4.0"])
def test_06_121r3_7_3_2_first_served_version_wins(client: CheckedClient, versions: str) -> None:
    assert get(client, AcceptVersions=versions).root.get("version") == "1.0.0"


def test_06_121r3_7_3_2_no_served_version_fails(client: CheckedClient) -> None:
    # Table 25: «None, omit locator parameter».
    expected = (400, "VersionNegotiationFailed", None)
    assert get(client, AcceptVersions="3.0.0,0.4.0").exception == expected
    inner = "<wps:AcceptVersions><ows:Version>3.0.0</ows:Version></wps:AcceptVersions>"
    assert client.post(post('service="WPS"', inner)).exception == expected


# updateSequence


def test_06_121r3_7_3_4_equal_update_sequence_answers_nothing_else(client: CheckedClient) -> None:
    answer = client.kvp("service=WPS&request=GetCapabilities&version=1.0.0&updateSequence=7", valid=False)
    assert answer.status == 200
    assert len(answer.root) == 0
    assert answer.root.get("updateSequence") == "7"
    assert answer.root.get("version") == "1.0.0"


def test_06_121r3_7_3_4_older_update_sequence_answers_the_document(client: CheckedClient) -> None:
    assert len(get(client, updateSequence="6").all("wps:ProcessOfferings/wps:Process")) > 1


@pytest.mark.parametrize("sequence", ["8", "10", "2026-01-01", "-1"])
def test_06_121r3_table_25_newer_update_sequence(client: CheckedClient, sequence: str) -> None:
    assert get(client, updateSequence=sequence).exception == (400, "InvalidUpdateSequence", None)


def test_a_changed_catalogue_shows_at_once(client: CheckedClient, site: Site) -> None:
    before = get(client)
    del site.catalogue.offers["silent"]
    site.catalogue.revision += 1
    after = get(client)
    names = {element.text for element in after.all("wps:ProcessOfferings/wps:Process/ows:Identifier")}
    assert "silent" in before.body.decode()
    assert "silent" not in names
    assert after.root.get("updateSequence") == "8"


# Sections


def sections_of(answer: Received) -> list[str]:
    return [str(child.tag).rpartition("}")[2] for child in answer.root]


def test_06_121r3_7_3_3_sections(client: CheckedClient) -> None:
    whole = ["ServiceIdentification", "ServiceProvider", "OperationsMetadata", "ProcessOfferings", "Languages"]
    assert sections_of(get(client)) == whole
    assert sections_of(get(client, Sections="All")) == whole
    only = sections_of(get(client, Sections="ServiceProvider,ProcessOfferings"))
    assert only == ["ServiceProvider", "ProcessOfferings", "Languages"]
    inner = "<ows:Sections><ows:Section>OperationsMetadata</ows:Section></ows:Sections>"
    posted = sections_of(client.post(post('service="WPS"', inner)))
    assert posted == ["OperationsMetadata", "ProcessOfferings", "Languages"]


def test_06_121r3_7_3_3_unknown_section(client: CheckedClient) -> None:
    assert get(client, Sections="Weather").exception == (400, "InvalidParameterValue", "Sections")


# Content


def test_table_7_operations_have_addresses_for_get_and_post(client: CheckedClient) -> None:
    operations = get(client).all("ows:OperationsMetadata/ows:Operation")
    assert [operation.get("name") for operation in operations] == ["GetCapabilities", "DescribeProcess", "Execute"]
    for operation in operations:
        assert operation.find(".//ows:Get", NS).get(XLINK) == "https://wps.example.org/site/wps?"
        assert operation.find(".//ows:Post", NS).get(XLINK) == "https://wps.example.org/site/wps"


def test_table_9_brief_descriptions(client: CheckedClient) -> None:
    process = get(client).all("wps:ProcessOfferings/wps:Process")[1]
    assert process.get(f"{{{NS['wps']}}}processVersion") == "1.0.0"
    assert process.findtext("ows:Identifier", None, NS) == "everything"
    assert process.findtext("ows:Title", None, NS) == "Every kind of description & <more>"
    assert process.find("ows:Metadata", NS).get(XLINK) == "https://example.org/manual?a=1&b=2"
    assert process.findtext("wps:Profile", None, NS) == "urn:ogc:wps:1.0.0:buffer"


def test_a_process_with_mandatory_nested_inputs_is_not_offered(client: CheckedClient) -> None:
    names = [element.text for element in get(client).all("wps:ProcessOfferings/wps:Process/ows:Identifier")]
    assert "echo" in names
    assert "nested" not in names


def test_provider_and_identification_come_from_the_configuration(site: Site) -> None:
    settings = settings_with(
        metadata={
            "title": "Tides & <Waves>",
            "keywords": ["sea"],
            "provider_name": "Harbour",
            "provider_url": "https://harbour.example.org",
            "contact_name": "A. Pilot",
            "contact_position": "Pilot",
            "contact_phone": "+49 1",
            "contact_email": "pilot@example.org",
            "address": "Pier 1",
            "city": "Kiel",
            "region": "SH",
            "postal_code": "24103",
            "country": "Germany",
        }
    )
    answer = get(CheckedClient(create_app(settings, site.backend)))
    assert answer.text("ows:ServiceIdentification/ows:Title") == "Tides & <Waves>"
    contact = "ows:ServiceProvider/ows:ServiceContact/"
    assert answer.text(contact + "ows:IndividualName") == "A. Pilot"
    assert answer.text(contact + "ows:ContactInfo/ows:Phone/ows:Voice") == "+49 1"
    assert answer.text(contact + "ows:ContactInfo/ows:Address/ows:ElectronicMailAddress") == "pilot@example.org"


# Languages


def test_table_12_languages(client: CheckedClient) -> None:
    answer = get(client)
    assert answer.text("wps:Languages/wps:Default/ows:Language") == "en-US"
    supported = [element.text for element in answer.all("wps:Languages/wps:Supported/ows:Language")]
    assert supported == ["en-US", "fr-CA"]


@pytest.mark.parametrize(
    ("wanted", "given"),
    [("fr-CA", "fr-CA"), ("FR-ca", "fr-CA"), ("fr", "fr-CA"), ("fr-FR", "fr-CA"), ("de", "en-US"), ("*", "en-US")],
)
def test_table_6_language_of_the_response(client: CheckedClient, wanted: str, given: str) -> None:
    answer = get(client, language=wanted)
    assert answer.root.get(LANG) == given
    title = answer.all("wps:ProcessOfferings/wps:Process/ows:Title")[0].text
    assert title == ("Écho" if given == "fr-CA" else "Echo")


def test_accept_languages_is_a_list_in_order(client: CheckedClient) -> None:
    assert get(client, AcceptLanguages="de,fr,en").root.get(LANG) == "fr-CA"
    assert client.post(post('service="WPS" language="fr-CA"')).root.get(LANG) == "fr-CA"
