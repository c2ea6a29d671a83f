"""Outputs that lie elsewhere, files that the process gives by their addresses, and files that belong to them; units
with URIs, and lists of values that are advice: in every protocol. The clients validate every document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocols import wps2
from tests.protocols.conftest import CheckedClient, document_xml, execute_xml, raw_xml
from tests.protocols.ogcapi import Api, local_site
from tests.protocols.site import FAR_SENT, METRE, Site

HREF = "{http://www.w3.org/1999/xlink}href"
LISTED = "list.gml"
BASE = "https://wps.example.org/site"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """OGC API - Processes."""
    return local_site(tmp_path)


def files(base: str, site: Site) -> str:
    """Where the latest job's files are."""
    return f"{base}/outputs/{site.latest.id}"


# WPS 1.0.0


def test_wps1_gives_addresses(client: CheckedClient, site: Site) -> None:
    answer = client.post(execute_xml("pointing"))
    found = [node.get("href") for node in answer.all("wps:ProcessOutputs/wps:Output/wps:Reference")]
    assert found == [FAR_SENT, f"{files(BASE, site)}/{LISTED}"]
    literal = answer.find("wps:ProcessOutputs/wps:Output/wps:Data/wps:LiteralData")
    assert (literal.text, literal.get("uom")) == ("2.5", METRE)


def test_wps1_raw(client: CheckedClient) -> None:
    answer = client.post(execute_xml("pointing", form=raw_xml("far")), valid=False)
    assert (answer.status, answer.response.headers["Location"]) == (303, FAR_SENT)
    assert "X-Mine" not in answer.response.headers
    assert client.post(execute_xml("pointing", form=raw_xml("list")), valid=False).body == b"<list/>"


def test_parts_are_served_and_nothing_else(client: CheckedClient, site: Site) -> None:
    client.post(execute_xml("pointing", form=document_xml("list")))
    folder = f"/outputs/{site.latest.id}"
    assert client.open(f"{folder}/part/one.csv", valid=False).body == b"1,2"
    (site.folder / site.latest.id / "outputs" / "part" / "two.csv").write_text("3,4")
    assert client.open(f"{folder}/part/two.csv").status == 404


# WPS 2.0


def test_wps2_gives_addresses(client: CheckedClient, site: Site) -> None:
    answer = client.post(wps2.execute_xml("pointing"))
    found = [node.get(HREF) for node in answer.all("wps:Output/wps:Reference")]
    assert found == [FAR_SENT, f"{files(BASE, site)}/{LISTED}"]
    assert answer.find("wps:Output/wps:Data/wps:LiteralValue").get("uom") == METRE


def test_wps2_what_the_client_says_counts_more(client: CheckedClient) -> None:
    wanted = [wps2.output_xml(name, 'transmission="value"') for name in ("far", "list")]
    answer = client.post(wps2.execute_xml("pointing", *wanted))
    far, listed = (node[0] for node in answer.all("wps:Output"))
    assert far.get(HREF) == FAR_SENT, "what lies elsewhere has no content here"
    assert listed.find("list") is not None


def test_wps2_raw(client: CheckedClient) -> None:
    far, listed, length = (
        client.post(wps2.execute_xml("pointing", wps2.output_xml(name), response="raw"), valid=False)
        for name in ("far", "list", "length")
    )
    assert (far.status, far.response.headers["Location"]) == (303, FAR_SENT)
    assert listed.body == b"<list/>"
    assert length.root.get("uom") == METRE


def test_wps2_a_unit_by_reference(client: CheckedClient) -> None:
    wanted = wps2.output_xml("length", 'transmission="reference"')
    address = client.post(wps2.execute_xml("pointing", wanted)).find("wps:Output/wps:Reference").get(HREF, "")
    assert client.open(address.removeprefix(BASE)).root.get("uom") == METRE


def test_wps2_units_and_advice(client: CheckedClient, site: Site) -> None:
    answer = client.kvp(service="WPS", version="2.0.0", request="DescribeProcess", identifier="pointing")
    assert METRE in {node.get("{http://www.opengis.net/ows/2.0}reference") for node in answer.root.iter("{*}UOM")}
    pace = wps2.literal_xml("pace", "100")
    for width in (
        wps2.literal_xml("width", "3", f'uom="{METRE}"'),
        wps2.data_xml("width", f"3@uom={METRE}", 'mimeType="text/plain"'),
    ):
        assert client.post(wps2.execute_xml("pointing", pace, width)).status == 200
        assert [value.uom for value in site.received.inputs["width"]] == ["metre"]


# OGC API - Processes


def test_ogcapi_gives_addresses(api: Api) -> None:
    answer = api.execute("pointing", response="document")
    assert answer.json["far"] == {"href": FAR_SENT, "type": "text/csv"}
    assert answer.json["list"]["href"] == f"{files('http://127.0.0.1:8095', api.site)}/{LISTED}"
    assert answer.json["length"] == {"value": 2.5, "uom": "metre"}
    page = api.get(f"/jobs/{api.site.latest.id}/results?f=html")
    assert page.status == 200 and b"data.example.org" in page.body


def test_ogcapi_what_the_client_says_counts_more(api: Api) -> None:
    said = api.execute("pointing", outputs={"list": {"transmissionMode": "value"}}, response="document")
    assert said.json["list"]["value"] == "<list/>"
    both = {name: {"transmissionMode": "reference"} for name in ("far", "list")}
    linked = api.execute("pointing", outputs=both, response="document")
    assert [linked.json[name]["rel"] for name in both] == ["item", "item"]
    assert linked.json["far"]["href"] == FAR_SENT


def test_ogcapi_raw(api: Api) -> None:
    alone = api.execute("pointing", outputs={"far": {}}, response="raw")
    assert alone.status == 204 and f"<{FAR_SENT}>" in alone.headers.get("Link")
    assert api.execute("pointing", outputs={"list": {}}, response="raw").body == b"<list/>"
    parts = api.execute("pointing", response="raw").parts
    assert parts["far"][0]["Content-Location"] == FAR_SENT and not parts["far"][1]
    assert parts["list"][1] == b"<list/>"


def test_ogcapi_one_output(api: Api) -> None:
    api.execute("pointing")
    answer = api.get(f"/jobs/{api.site.latest.id}/results/far")
    assert (answer.status, answer.headers.get("Location")) == (303, FAR_SENT)


def test_ogcapi_units_and_advice(api: Api) -> None:
    described = api.get("/processes/pointing").json["inputs"]
    pace = described["pace"]["schema"]
    assert pace["type"] == "integer" and not {"enum", "anyOf", "minimum"} & set(pace)
    assert pace["description"].startswith("suggested: 1, ")
    assert f"in metre ({METRE}), or as told by uom in foot" in described["width"]["schema"]["description"]
    answer = api.execute("pointing", {"pace": 100, "width": {"value": 3, "uom": METRE}})
    assert answer.status == 200
    assert [value.uom for value in api.site.received.inputs["width"]] == ["metre"]


@pytest.mark.parametrize("href", ["ftp://data.example.org/a.csv", "https://data.example.org/a.csv", "javascript:x"])
def test_a_page_shows_links_without_titles(api: Api, href: str) -> None:
    document = {"href": href}
    api.execute("echo", {"complex": {"value": document, "mediaType": "application/geo+json"}})
    page = api.get(f"/jobs/{api.site.latest.id}/results?f=html")
    assert page.status == 200 and href.encode() in page.body
    assert b'href="javascript' not in page.body
