"""GetCapabilities and DescribeProcess of WPS 2.0 (OGC 14-065r2 §9.6, 9.7). The client validates every document."""

import pytest

from tests.protocols.conftest import OWS2, WPS2, CheckedClient, Received, settings_with
from tests.protocols.site import Site
from tests.protocols.wps2 import request_xml
from wps_hpc.app import create_app

LANG = "{http://www.w3.org/XML/1998/namespace}lang"
HREF = "{http://www.w3.org/1999/xlink}href"
LOCAL = {"public_url": "http://127.0.0.1:8095"}


def capabilities(client: CheckedClient, **pairs: str) -> Received:
    return client.kvp(service="WPS", request="GetCapabilities", **{"AcceptVersions": "2.0.0", **pairs})


def describe(client: CheckedClient, identifier: str, **pairs: str) -> Received:
    return client.kvp(service="WPS", version="2.0.0", request="DescribeProcess", identifier=identifier, **pairs)


def sections(answer: Received) -> list[str]:
    return [child.tag.rpartition("}")[2] for child in answer.root]


# GetCapabilities


def test_table_30_every_section_in_the_order_of_the_schema(client: CheckedClient) -> None:
    answer = capabilities(client)
    assert answer.root.tag == f"{WPS2}Capabilities"
    assert (answer.root.get("service"), answer.root.get("version")) == ("WPS", "2.0.0")
    expected = ["ServiceIdentification", "ServiceProvider", "OperationsMetadata", "Languages", "Contents"]
    assert sections(answer) == expected
    assert [node.text for node in answer.all("ows:Languages/ows:Language")] == ["en-US", "fr-CA"]


def test_the_same_by_post(client: CheckedClient) -> None:
    assert client.post(request_xml("GetCapabilities", attributes='service="WPS"')).body == capabilities(client).body


def test_both_versions_are_named(client: CheckedClient) -> None:
    found = capabilities(client).all("ows:ServiceIdentification/ows:ServiceTypeVersion")
    assert [node.text for node in found] == ["1.0.0", "2.0.0"]


def test_table_31_a_summary_for_every_process_also_the_nested_ones(client: CheckedClient, site: Site) -> None:
    found = capabilities(client).all("wps:Contents/wps:ProcessSummary")
    assert [node.findtext(f"{OWS2}Identifier") for node in found] == list(site.catalogue.offers)


@pytest.mark.parametrize(
    ("process", "options", "transmission"),
    [
        ("echo", "sync-execute async-execute", "value reference"),
        ("sync.only", "sync-execute", "value"),
        ("no.status", "sync-execute", "value reference"),
        ("async.only", "async-execute", "value reference"),
    ],
)
def test_table_23_what_each_process_can(client: CheckedClient, process: str, options: str, transmission: str) -> None:
    summaries = capabilities(client).all("wps:Contents/wps:ProcessSummary")
    summary = next(node for node in summaries if node.findtext(f"{OWS2}Identifier") == process)
    offering = describe(client, process).find("wps:ProcessOffering")
    for element in (summary, offering):
        assert element.get("jobControlOptions") == options
        assert element.get("outputTransmission") == transmission
        assert element.get("processVersion") == "2.1.0"


def test_job_control_is_offered_where_it_is_on(client: CheckedClient, site: Site) -> None:
    local = CheckedClient(create_app(settings_with(server=LOCAL), site.backend))
    names = {
        here: [node.get("name") for node in capabilities(here).all("ows:OperationsMetadata/ows:Operation")]
        for here in (client, local)
    }
    assert names[client] == ["GetCapabilities", "DescribeProcess", "Execute", "GetStatus", "GetResult"]
    assert names[local] == [*names[client], "Dismiss", "Pause", "Resume"]
    controls = "sync-execute async-execute dismiss pause resume"
    assert describe(local, "echo").find("wps:ProcessOffering").get("jobControlOptions") == controls
    # What is never there to be steered is not steered.
    assert describe(local, "sync.only").find("wps:ProcessOffering").get("jobControlOptions") == "sync-execute"


def test_execute_has_no_binding_by_get(client: CheckedClient) -> None:
    for operation in capabilities(client).all("ows:OperationsMetadata/ows:Operation"):
        bindings = {node.tag: node.get(HREF) for node in operation.iterfind(f"{OWS2}DCP/{OWS2}HTTP/*")}
        assert bindings.get(f"{OWS2}Post") == "https://wps.example.org/site/wps"
        assert (f"{OWS2}Get" in bindings) == (operation.get("name") != "Execute")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("Contents", ["Contents"]),
        ("ServiceProvider,Languages", ["ServiceProvider", "Languages", "Contents"]),
        ("ProcessOfferings", ["Contents"]),
    ],
)
def test_06_121r9_7_3_3_sections(client: CheckedClient, asked: str, expected: list[str]) -> None:
    assert sections(capabilities(client, Sections=asked)) == expected


def test_06_121r9_7_3_3_all_sections(client: CheckedClient) -> None:
    assert len(sections(capabilities(client, Sections="All"))) == 5


def test_an_unknown_section(client: CheckedClient) -> None:
    assert capabilities(client, Sections="Weather").exception2 == (400, "InvalidParameterValue", "Sections")


def test_06_121r9_7_3_4_update_sequence(client: CheckedClient) -> None:
    current = client.kvp("service=WPS&request=GetCapabilities&updateSequence=7", valid=False)
    assert (len(current.root), current.root.get("updateSequence")) == (0, "7")
    assert len(sections(capabilities(client, updateSequence="6"))) == 5
    assert capabilities(client, updateSequence="8").exception2 == (400, "InvalidUpdateSequence", None)


def test_a_changed_catalogue_shows_at_once(client: CheckedClient, site: Site) -> None:
    assert len(describe(client, "ALL").all("wps:ProcessOffering")) == len(site.catalogue.offers)
    del site.catalogue.offers["silent"]
    site.catalogue.revision += 1
    assert "silent" not in {node.text for node in capabilities(client).root.iter(f"{OWS2}Identifier")}
    assert describe(client, "silent").exception2 == (400, "NoSuchProcess", "silent")


def test_accept_languages(client: CheckedClient) -> None:
    titles = capabilities(client, AcceptLanguages="de,fr").all("wps:Contents/wps:ProcessSummary/ows:Title")
    assert titles[0].text == "Écho"


# DescribeProcess


@pytest.mark.parametrize("name", ["ALL", "all", "aLL"])
def test_all_identifiers_in_any_case(client: CheckedClient, site: Site, name: str) -> None:
    found = describe(client, name).all("wps:ProcessOffering/wps:Process/ows:Identifier")
    assert [node.text for node in found] == list(site.catalogue.offers)


def test_several_processes_each_once(client: CheckedClient) -> None:
    found = describe(client, "echo,nesting,echo").all("wps:ProcessOffering/wps:Process/ows:Identifier")
    assert [node.text for node in found] == ["echo", "nesting"]


def test_the_same_description_by_post(client: CheckedClient) -> None:
    identifiers = "<ows:Identifier>echo</ows:Identifier><ows:Identifier>nested</ows:Identifier>"
    assert client.post(request_xml("DescribeProcess", identifiers)).body == describe(client, "echo,nested").body


def test_table_34_all_violating_identifiers_are_the_locator(client: CheckedClient) -> None:
    assert describe(client, "echo,one,two").exception2 == (400, "NoSuchProcess", "one,two")


def test_the_language_is_named_and_has_to_be_on_offer(client: CheckedClient) -> None:
    answer = describe(client, "echo", lang="fr")
    assert answer.find("wps:ProcessOffering/wps:Process").get(LANG) == "fr-CA"
    assert answer.text("wps:ProcessOffering/wps:Process/ows:Title") == "Écho"
    assert describe(client, "echo", lang="de").exception2 == (400, "InvalidParameterValue", "lang")
    posted = client.post(
        request_xml(
            "DescribeProcess",
            "<ows:Identifier>echo</ows:Identifier>",
            'service="WPS" version="2.0.0" xml:lang="fr-CA"',
        )
    )
    assert posted.body == answer.body


@pytest.mark.parametrize(
    ("query", "locator"),
    [("version=2.0.0", "Identifier"), ("version=2.0.0&identifier=,", "Identifier")],
)
def test_mandatory_parameters(client: CheckedClient, query: str, locator: str) -> None:
    answer = client.kvp(f"service=WPS&request=DescribeProcess&{query}")
    assert answer.exception2 == (400, "MissingParameterValue", locator)


PROCESS = "wps:ProcessOffering/wps:Process"


def inputs(client: CheckedClient, process: str) -> dict[str, Received]:
    answer = describe(client, process)
    found = answer.all(f"{PROCESS}/wps:Input")
    return {node.findtext(f"{OWS2}Identifier") or "": Received(answer.response, node) for node in found}


def test_every_description_has_one_default_format(client: CheckedClient) -> None:
    answer = describe(client, "ALL")
    kinds = ("LiteralData", "ComplexData", "BoundingBoxData")
    described = [node for kind in kinds for node in answer.root.iter(f"{WPS2}{kind}")]
    assert len(described) > 20
    for node in described:
        defaults = [form for form in node.iterfind(f"{WPS2}Format") if form.get("default") == "true"]
        assert defaults == [node.find(f"{WPS2}Format")]


def test_table_8_a_domain_for_each_unit(client: CheckedClient) -> None:
    domains = inputs(client, "everything")["slope"].all("wps:LiteralData/LiteralDataDomain")
    assert [node.findtext(f"{OWS2}UOM") for node in domains] == ["degree", "radian"]
    assert [node.get("default") for node in domains] == ["true", None]


def test_table_9_allowed_values_ranges_defaults_and_references(client: CheckedClient) -> None:
    found = inputs(client, "everything")
    domain = "wps:LiteralData/LiteralDataDomain"
    assert [v.text for v in found["mode"].all(f"{domain}/ows:AllowedValues/ows:Value")] == ["fast", "slow"]
    assert found["mode"].text(f"{domain}/ows:DefaultValue") == "fast"
    allowed = found["ratio"].find(f"{domain}/ows:AllowedValues/ows:Range")
    assert allowed.get(f"{OWS2}rangeClosure") == "closed-open"
    assert [child.text for child in allowed] == ["0", "1", "0.25"]
    reference = found["listed"].find(f"{domain}/ows:ValuesReference")
    assert reference.get(f"{OWS2}reference") == "https://example.org/values.xml"
    kind = found["ratio"].find(f"{domain}/ows:DataType")
    assert kind.get(f"{OWS2}reference") == "http://www.w3.org/2001/XMLSchema#double"


def test_table_5_formats_of_complex_data(client: CheckedClient) -> None:
    forms = inputs(client, "echo")["complex"].all("wps:ComplexData/wps:Format")
    assert forms[0].get("schema") == "http://schemas.opengis.net/gml/3.1.1/base/gml.xsd"
    assert {form.get("maximumMegabytes") for form in forms} == {"2"}
    assert [form.get("encoding") for form in forms if form.get("mimeType") == "image/tiff"] == ["base64"]


def test_table_13_reference_systems(client: CheckedClient) -> None:
    crss = inputs(client, "echo")["box"].all("wps:BoundingBoxData/wps:SupportedCRS")
    assert [(crs.text, crs.get("default")) for crs in crss] == [
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "true"),
        ("urn:ogc:def:crs:EPSG::4326", None),
    ]


def test_table_16_occurrences(client: CheckedClient) -> None:
    found = inputs(client, "everything")["slope"].root
    assert (found.get("minOccurs"), found.get("maxOccurs")) == ("1", "unbounded")


def test_nested_inputs_and_outputs(client: CheckedClient) -> None:
    answer = describe(client, "nesting")
    for kind in ("Input", "Output"):
        path = f"{PROCESS}/wps:{kind}/wps:{kind}"
        assert [node.text for node in answer.all(f"{path}/ows:Identifier")] == ["count", "note", "deeper"]
        assert answer.text(f"{path}/wps:{kind}/ows:Identifier") == "label"


def test_table_4_metadata_are_simple_links_with_a_role(client: CheckedClient) -> None:
    xlink = "{http://www.w3.org/1999/xlink}"
    links = describe(client, "everything").all(f"{PROCESS}/ows:Metadata")
    assert [link.get(f"{xlink}title") for link in links] == ["Manual", "urn:ogc:wps:1.0.0:buffer"]
    for link in links:
        assert link.get(f"{xlink}type") == "simple"
        assert link.get(f"{xlink}role")
        assert link.get(f"{xlink}href")
