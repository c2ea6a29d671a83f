"""OGC API - Processes: landing page, conformance, definition, processes; forms, languages, methods."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate as validate_openapi
from werkzeug.test import Client

from tests.protocols.conftest import settings_with
from tests.protocols.ogcapi import STANDARD, Api, local_site
from tests.protocols.site import Site
from tests.schemas import validate_json
from wps_hpc.app import create_app
from wps_hpc.protocols.ogcapi import ROUTES

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
CLASSES = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf"
PAGES = ("/", "/conformance", "/api", "/processes", "/processes/echo", "/jobs")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """A site of one's own."""
    return local_site(tmp_path)


@pytest.fixture
def public(tmp_path: Path) -> Api:
    """A public site that does not know who is asking."""
    return Api(Site(tmp_path), server={"public_url": "https://wps.example.org/site"})


def test_the_landing_page_leads_everywhere(api: Api) -> None:
    page = api.get("/")
    assert page.json["title"] == "wps-hpc"
    assert {"self", "alternate", "service-desc", "service-doc", "related"} <= page.rels()
    for rel in ("conformance", "processes", "job-list"):
        address = page.link(f"http://www.opengis.net/def/rel/ogc/1.0/{rel}")["href"]
        assert api.get(address.removeprefix("http://127.0.0.1:8095")).status == 200


def test_the_front_page_is_for_people_too(tmp_path: Path) -> None:
    def health(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise AssertionError("nobody asks")

    client = Client(create_app(settings_with(), Site(tmp_path).backend, {"/health": health}))
    page = client.get("/", headers={"Accept": HTML}).text
    assert "https://wps.example.org/site/wps?service=WPS&amp;request=GetCapabilities" in page
    assert '<a href="https://wps.example.org/site/health"' in page


def test_conformance(api: Api, public: Api) -> None:
    always = ["core", "ogc-process-description", "json", "html", "oas30"]
    assert api.get("/conformance").json["conformsTo"] == [f"{CLASSES}/{n}" for n in (*always, "job-list", "dismiss")]
    assert public.get("/conformance").json["conformsTo"] == [f"{CLASSES}/{name}" for name in always]


def test_the_definition_is_openapi(api: Api, public: Api) -> None:
    answer = api.get("/api")
    assert answer.headers.get("Content-Type") == "application/vnd.oai.openapi+json;version=3.0"
    for document in (answer.json, public.get("/api").json):
        validate_openapi(document)


def test_callbacks_are_told_of_where_they_are_on(tmp_path: Path) -> None:
    api = Api(Site(tmp_path), callbacks={"hosts": ("*",)})
    assert f"{CLASSES}/callback" in api.get("/conformance").json["conformsTo"]
    document = api.get("/api").json
    validate_openapi(document)
    assert set(document["paths"]["/processes/{processID}/execution"]["post"]["callbacks"]) == {
        "successUri",
        "inProgressUri",
        "failedUri",
    }


def test_the_definition_has_every_route_and_no_other(api: Api, public: Api) -> None:
    paths = api.get("/api").json["paths"]
    assert {path: {*operations} for path, operations in paths.items()} == {
        route.path: {method.lower() for method in route.methods} for route in ROUTES
    }
    paths = public.get("/api").json["paths"]
    assert "/jobs" not in paths and "delete" not in paths["/jobs/{jobID}"] and "/jobs/{jobID}/pause" not in paths


def test_operation_ids_are_unique(api: Api) -> None:
    operations = [one["operationId"] for path in api.get("/api").json["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations))


# --------------------------------------------------------------------------------------------------------- processes


def test_every_process_is_described(api: Api) -> None:
    listed = api.get("/processes?limit=100").json["processes"]
    assert [process["id"] for process in listed] == [*api.site.catalogue.offers]
    for process in listed:
        described = api.get(f"/processes/{process['id']}").json
        assert process.items() <= described.items()
        for entry in (*described["inputs"].values(), *described["outputs"].values()):
            validate_json(entry["schema"], "schema.yaml")


def test_what_a_description_says(api: Api) -> None:
    inputs = api.get("/processes/everything").json["inputs"]
    assert inputs["mode"]["schema"] == {"type": "string", "enum": ["fast", "slow"], "default": "fast"}
    ratio = inputs["ratio"]["schema"]
    assert ratio["anyOf"] == [{"minimum": 0, "maximum": 1, "exclusiveMaximum": True}, {"enum": [5]}]
    assert inputs["open"]["schema"]["description"] == "allowed: ]2000-01-01, ∞["
    assert inputs["slope"]["maxOccurs"] == "unbounded"
    assert inputs["slope"]["additionalParameters"]["parameters"] == [{"name": "uom", "value": ["degree", "radian"]}]
    assert [choice["contentMediaType"] for choice in inputs["layer"]["schema"]["oneOf"]] == [
        "text/xml",
        "application/geo+json",
    ]
    crs = inputs["area"]["schema"]["properties"]["crs"]
    assert crs["default"] == crs["enum"][0] == "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
    assert inputs["extra"]["schema"] == {
        "type": "object",
        "properties": {"inner": {"type": "string"}},
        "required": ["inner"],
    }


def test_job_control_options(api: Api, public: Api) -> None:
    options = {process["id"]: process for process in api.get("/processes?limit=100").json["processes"]}
    assert options["echo"]["jobControlOptions"] == ["sync-execute", "async-execute", "dismiss"]
    assert options["sync.only"]["jobControlOptions"] == ["sync-execute"]
    assert options["sync.only"]["outputTransmission"] == ["value"]
    assert public.get("/processes/echo").json["jobControlOptions"] == ["sync-execute", "async-execute"]


def test_the_list_in_pages(api: Api) -> None:
    seen: list[str] = []
    path: str | None = "/processes?limit=3"
    while path:
        answer = api.get(path)
        assert len(answer.json["processes"]) <= 3
        seen += [process["id"] for process in answer.json["processes"]]
        path = answer.link("next")["href"].removeprefix("http://127.0.0.1:8095") if "next" in answer.rels() else None
    assert seen == [*api.site.catalogue.offers]
    assert api.get("/processes?limit=3&offset=5").link("prev")["href"].endswith("limit=3&offset=2")


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=1&limit=2", "limit=1.0", "limit="])
def test_limits_that_are_none(api: Api, query: str) -> None:
    assert api.get(f"/processes?{query}").code == (400, "InvalidParameterValue", "limit")
    assert api.get(f"/jobs?{query}").code == (400, "InvalidParameterValue", "limit")


def test_a_limit_beyond_the_maximum_is_the_maximum(api: Api) -> None:
    assert len(api.get("/processes?limit=99999999").json["processes"]) == len(api.site.catalogue.offers)


@pytest.mark.parametrize("path", ["/processes/none", "/processes/none/execution", "/processes/%E2%98%83%22%3C"])
def test_no_such_process(api: Api, path: str) -> None:
    method = "POST" if path.endswith("execution") else "GET"
    answer = api.open(path, method, json={})
    assert answer.problem == (404, f"{STANDARD}/no-such-process", None)


# ---------------------------------------------------------------------------------------------- forms and languages


@pytest.mark.parametrize("path", PAGES)
def test_every_document_in_both_forms(api: Api, path: str) -> None:
    for accept in ("", "*/*", "application/json", "text/html;q=0.5,application/json"):
        assert "json" in api.get(path, Accept=accept).media_type
    for accept in (HTML, "text/html", "application/json;q=0.1,text/*"):
        assert api.get(path, Accept=accept).media_type == "text/html"
    assert "json" in api.get(f"{path}?f=json", Accept=HTML).media_type
    page = api.get(f"{path}?f=html")
    assert page.body.startswith(b"<!DOCTYPE html>") and page.body.rstrip().endswith(b"</html>")
    assert "default-src 'none'" in page.headers.get("Content-Security-Policy")


@pytest.mark.parametrize("path", PAGES)
def test_forms_that_there_are_not(api: Api, path: str) -> None:
    assert api.get(path, Accept="image/png").status == 406
    assert api.get(path, Accept="text/html;q=0, application/json;q=0").status == 406
    assert api.get(f"{path}?f=xml").code == (400, "InvalidParameterValue", "f")


def test_problems_in_html_for_people(api: Api) -> None:
    answer = api.get("/jobs/none", Accept=HTML)
    assert (answer.status, answer.media_type) == (404, "text/html")
    assert b"no-such-job" in answer.body


def test_a_page_has_all_that_the_document_has(api: Api) -> None:
    for path in PAGES:
        text = api.get(f"{path}?f=html").body.decode()
        for leaf in leaves(api.get(f"{path}?f=json").json):
            if "f=json" not in leaf and "f=html" not in leaf:
                assert escaped(leaf) in text, (path, leaf)


def leaves(document: Any) -> Iterable[str]:
    """Every string of a document, and the name of every member."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name != "links":
                yield from () if name in ("title", "href", "processes", "jobs") else (name,)
            yield from leaves(value)
    elif isinstance(document, list):
        for value in document:
            yield from leaves(value)
    elif isinstance(document, str):
        yield document


def escaped(text: str) -> str:
    """As HTML has it."""
    for letter, name in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "#34"), ("'", "#39")):
        text = text.replace(letter, f"&{name};")
    return text


def test_nothing_of_a_clients_runs_on_a_page(api: Api) -> None:
    job = api.start("echo", {"text": ["<script>alert(1)</script>", "javascript:alert(2)", '"><img src=x>']})
    api.site.run(job.rpartition("/")[2])
    page = api.get(f"{job}/results?f=html").body
    assert b"&lt;script&gt;" in page and b"<script" not in page and b'href="javascript' not in page
    assert b"<img" not in page


def test_descriptions_in_other_languages(api: Api) -> None:
    answer = api.get("/processes/echo", Accept_Language="de, fr;q=0.8, en;q=0.1")
    assert (answer.json["title"], answer.headers.get("Content-Language")) == ("Écho", "fr-CA")
    assert api.get("/processes/echo", Accept_Language="de").json["title"] == "Echo"
    assert "Accept-Language" in answer.headers.get("Vary")


# ------------------------------------------------------------------------------------------------- methods, addresses


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_methods(api: Api, route: Any) -> None:
    job = api.start("slow")
    path = route.path.replace("{processID}", "echo").replace("/jobs/{jobID}", job).replace("{outputID}", "text")
    allowed = ", ".join([*route.methods, "HEAD", "OPTIONS"])
    answer = api.open(path, "PUT")
    assert answer.problem == (405, "about:blank", None)
    assert answer.headers.get("Allow") == allowed
    asked = api.open(path, "OPTIONS")
    assert (asked.status, asked.headers.get("Allow")) == (204, allowed)


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(api: Api, path: str) -> None:
    whole, head = api.get(path), api.open(path, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers.get("Content-Length") == str(len(whole.body))


@pytest.mark.parametrize("path", ["/processes/echo/more", "/jobs/x/y/z", "/api/x", "/conformance/core"])
def test_what_lies_below_the_api_but_is_not_there(api: Api, path: str) -> None:
    assert api.get(path).problem == (404, "about:blank", None)


def test_a_slash_at_the_end_changes_nothing(api: Api) -> None:
    assert api.get("/processes/").json["processes"] == api.get("/processes").json["processes"]


def test_too_many_parameters(api: Api) -> None:
    assert api.get("/processes?" + "&".join(f"a{n}=1" for n in range(200))).status == 400


def test_cors(tmp_path: Path) -> None:
    api = Api(Site(tmp_path), server={"allow_origin": "https://maps.example.org"})
    asked = api.open("/processes/echo/execution", "OPTIONS")
    assert asked.headers.get("Access-Control-Allow-Methods") == "POST, HEAD"
    assert asked.headers.get("Access-Control-Allow-Headers") == "Content-Type, Prefer"
    answer = api.execute("echo", {"text": "a"}, prefer="respond-async")
    assert answer.headers.get("Access-Control-Allow-Origin") == "https://maps.example.org"
    assert {"Location", "Link"} <= set(answer.headers.get("Access-Control-Expose-Headers").split(", "))


def test_a_defect_is_told_without_its_traceback(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    answer = api.execute("broken")
    assert answer.status == 500 and answer.problem[1] == "about:blank"
    assert "0000" not in answer.json["detail"] and "incident" in answer.json["detail"]
    assert "the secret of the server room" in caplog.text


def test_busy(api: Api) -> None:
    answer = api.execute("busy")
    assert answer.code == (503, "ServerBusy", None)
    assert answer.headers.get("Retry-After") == "10"
    assert json.loads(answer.body)["type"].endswith("/api#ServerBusy")


def test_the_page_of_the_definition_explains_the_problems(api: Api) -> None:
    assert b'id="ServerBusy"' in api.get("/api?f=html").body
