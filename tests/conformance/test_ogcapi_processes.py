"""OGC API - Processes - Part 1: Core 1.0 (18-062r2), its abstract test suite.

Against a real server: gunicorn, the worker, the local scheduler and the launcher. Every JSON document is validated
against the official schemas as it arrives.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from openapi_spec_validator import validate as validate_openapi

from tests.clusters.site import until
from tests.conformance import requirement
from tests.protocols.ogcapi import STANDARD, Said
from tests.protocols.ogcapi_server import Server, server
from tests.schemas import validate_json
from tests.services.website import Website, page, website

FORMS = ("json", "html")
PAGES = ("/", "/conformance", "/api", "/processes", "/processes/echo", "/jobs")
RELATIONS = "http://www.opengis.net/def/rel/ogc/1.0"
CLASSES = "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
FEATURE = {"type": "Feature", "properties": {}, "geometry": None}
ECHO = "echo"
BY_REFERENCE = {"transmissionMode": "reference"}
BY_VALUE = {"transmissionMode": "value"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole module."""
    with server(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def remote() -> Iterator[Website]:
    """Where inputs by reference come from, and callbacks go to."""
    with website() as running:
        yield running


@pytest.fixture(scope="module")
def done(api: Server) -> str:
    """A job that has succeeded."""
    return api.run(ECHO, {"literalInput": "a"}, response="document").removesuffix("/results")


def parameter(api: Server, path: str, name: str) -> dict[str, Any]:
    """A query parameter as the definition of the API has it."""
    found = [p for p in api.get("/api").json["paths"][path]["get"]["parameters"] if p["name"] == name]
    assert found[0]["in"] == "query" and found[0]["required"] is False
    return dict(found[0])


def is_page(said: Said) -> bool:
    """Whether an answer is a whole HTML document."""
    text = said.body.decode()
    checker = _Balanced()
    checker.feed(text)
    checker.close()
    return said.media_type == "text/html" and text.startswith("<!DOCTYPE html>") and not checker.open


class _Balanced(HTMLParser):
    """Whether every element that is opened is closed, in order; and where links lead."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.add(dict(attrs)["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# ------------------------------------------------------------------------------------------------ about the service


@requirement("/conf/core/http", "Everything goes over HTTP 1.1.")
def test_http(api: Server) -> None:
    assert api.http.get("/").http_version == "HTTP/1.1"


@requirement("/conf/core/landingpage-op", "GET of the root is answered.")
@requirement("/conf/core/landingpage-success", "The landing page links to definition, conformance and processes.")
def test_landing_page(api: Server) -> None:
    landing = api.get("/")
    assert landing.status == 200
    assert {"service-desc", "service-doc", f"{RELATIONS}/conformance", f"{RELATIONS}/processes"} <= landing.rels()
    assert is_page(api.get("/?f=html"))


@requirement("/conf/core/api-definition-op", "The definition of the API can be had at /api.")
@requirement("/conf/core/api-definition-success", "The definition is a valid document of its kind.")
@requirement("/conf/oas30/oas-definition-2", "The JSON form of the definition conforms to OpenAPI 3.0.")
def test_definition(api: Server) -> None:
    found = api.get(api.get("/").link("service-desc")["href"])
    assert found.status == 200
    validate_openapi(found.json)
    assert found.json["openapi"].startswith("3.0")


@requirement("/conf/oas30/oas-definition-1", "The definition exists as OpenAPI JSON and as HTML, each by its link.")
def test_definition_in_both_forms(api: Server) -> None:
    landing = api.get("/")
    described, documented = landing.link("service-desc"), landing.link("service-doc")
    kind = "application/vnd.oai.openapi+json;version=3.0"
    assert described["type"] == kind == api.get(described["href"]).headers.get("Content-Type")
    assert documented["type"] == "text/html" and is_page(api.get(documented["href"]))


@requirement("/conf/core/conformance-op", "The conformance declaration can be had by its link and at /conformance.")
@requirement("/conf/core/conformance-success", "The declaration lists every class that the server has.")
def test_conformance(api: Server) -> None:
    declared = api.get(api.get("/").link(f"{RELATIONS}/conformance")["href"])
    names = ("core", "ogc-process-description", "json", "html", "oas30", "job-list", "dismiss", "callback")
    assert declared.status == 200 and declared.json["conformsTo"] == [f"{CLASSES}/{name}" for name in names]
    assert api.get("/conformance").json == declared.json


@requirement("/conf/json/definition", "Every resource can be had as application/json.")
def test_json(api: Server, done: str) -> None:
    for path in ("/", "/conformance", "/processes", "/processes/echo", "/jobs", done, f"{done}/results"):
        said = api.get(path, Accept="application/json")
        assert (said.status, said.media_type) == (200, "application/json")
    for members in ({"response": "document"}, {"prefer": "respond-async"}):
        assert api.execute(ECHO, {"literalInput": "a"}, **members).media_type == "application/json"


@requirement("/conf/html/definition", "Every 200 can be had as text/html.")
@requirement("/conf/html/content", "A page is an HTML 5 document with all information and all links.")
def test_html(api: Server, done: str) -> None:
    for path in (*PAGES, done, f"{done}/results"):
        said = api.get(path, Accept="text/html")
        assert said.status == 200 and is_page(said)
        found = _Balanced()
        found.feed(said.body.decode())
        document = api.get(path, Accept="application/json").json
        hrefs = {link["href"] for link in document.get("links", ()) if link["rel"] not in ("self", "alternate")}
        assert hrefs <= found.links
    body = {"inputs": {"literalInput": "a"}, "response": "document"}
    assert is_page(api.open("/processes/echo/execution", "POST", {"Accept": "text/html"}, json=body))


# ------------------------------------------------------------------------------------------------ the OpenAPI document


def _operations(api: Server) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in api.get("/api").json["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


@requirement("/conf/oas30/completeness", "The definition tells of every answer of every operation.")
@requirement("/conf/oas30/exceptions-codes", "The definition tells of every HTTP status of every operation.")
def test_definition_is_complete(api: Server, done: str) -> None:
    told = {(path, method): set(operation["responses"]) for path, method, operation in _operations(api)}
    execution = "/processes/{processID}/execution"
    for path, answer in (
        ("/jobs/{jobID}", api.get(done)),
        ("/jobs/{jobID}", api.get("/jobs/none")),
        ("/jobs/{jobID}/results/{outputID}", api.get(f"{done}/results/none")),
        ("/jobs", api.get("/jobs?limit=0")),
        ("/processes/{processID}", api.get("/processes/none")),
        ("/processes", api.get("/processes", Accept="image/png")),
    ):
        assert str(answer.status) in told[path, "get"]
    for answer in (
        api.execute(ECHO, {"pause": "x"}),
        api.execute("none"),
        api.execute("misbehave", {"how": "error"}),
        api.execute(ECHO, {"literalInput": "a"}, outputs={"literalOutput": BY_REFERENCE}),
        api.open("/processes/echo/execution", "POST", content=b"<a/>"),
    ):
        assert str(answer.status) in told[execution, "post"]
    for responses in told.values():
        assert {"400", "406", "500", "503"} <= responses


@requirement("/conf/oas30/oas-impl", "What the definition has, the server has.")
def test_definition_is_implemented(api: Server, done: str) -> None:
    (address,) = (entry["url"] for entry in api.get("/api").json["servers"])
    assert address == api.base
    job = api.start(ECHO, {"pause": 60})
    for path, method, _ in _operations(api):
        target = done if method == "get" else job
        concrete = path.replace("/jobs/{jobID}", target).replace("{processID}", ECHO)
        if method != "delete":
            body = {"inputs": {}} if method == "post" else None
            said = api.open(concrete.replace("{outputID}", "literalOutput"), method.upper(), json=body)
            assert said.status in (200, 201, 202, 204), (method, path, said.body)
    assert api.open(job, "DELETE").status == 200


@requirement(
    "/conf/oas30/security", "The definition tells of the ways to authenticate: this server has none of its own."
)
def test_definition_of_security(api: Server) -> None:
    assert "securitySchemes" not in api.get("/api").json["components"]
    assert all("security" not in operation for _, _, operation in _operations(api))


# ------------------------------------------------------------------------------------------------------ processes


@requirement("/conf/core/process-list", "GET of /processes is answered.")
@requirement("/conf/core/process-list-success", "The list is valid in each of its forms.")
def test_process_list(api: Server) -> None:
    assert {process["id"] for process in api.get("/processes").json["processes"]} >= {ECHO, "join", "later"}
    assert is_page(api.get("/processes?f=html"))


@requirement("/conf/core/pl-limit-definition", "limit of the process list is defined as the standard has it.")
def test_process_list_limit_definition(api: Server) -> None:
    assert parameter(api, "/processes", "limit")["schema"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10000,
        "default": 10,
    }


@requirement("/conf/core/pl-limit-response", "The process list has no more entries than limit says.")
def test_process_list_limit(api: Server) -> None:
    assert len(api.get("/processes?limit=2").json["processes"]) == 2


@requirement("/conf/core/pl-links", "The process list links to itself and to its other forms.")
def test_process_list_links(api: Server) -> None:
    for form in FORMS:
        assert {"self", "alternate"} <= api.get("/processes", Accept="application/json").rels(), form


@requirement("/conf/core/process", "Every process of the list is described.")
@requirement("/conf/core/process-success", "A description is valid.")
@requirement("/conf/ogc-process-description/json-encoding", "A description is valid against process.yaml.")
@requirement("/conf/ogc-process-description/inputs-def", "Inputs are valid against inputDescription.yaml.")
@requirement("/conf/ogc-process-description/outputs-def", "Outputs are valid against outputDescription.yaml.")
@requirement("/conf/ogc-process-description/input-def", "The schema of each input is valid against schema.yaml.")
@requirement("/conf/ogc-process-description/output-def", "The schema of each output is valid against schema.yaml.")
def test_descriptions(api: Server) -> None:
    for process in api.get("/processes?limit=100").json["processes"]:
        said = api.get(f"/processes/{process['id']}")
        assert said.status == 200
        for kind in ("input", "output"):
            for entry in said.json[f"{kind}s"].values():
                validate_json(entry, f"{kind}Description.yaml")
                validate_json(entry["schema"], "schema.yaml")


@requirement("/conf/ogc-process-description/input-mixed-type", "Inputs of several formats are told by oneOf.")
@requirement("/conf/ogc-process-description/output-mixed-type", "Outputs of several formats are told by oneOf.")
def test_mixed_types(api: Server) -> None:
    described = api.get(f"/processes/{ECHO}").json
    for entry in (described["inputs"]["complexInput"], described["outputs"]["complexOutput"]):
        choices = entry["schema"]["oneOf"]
        assert len(choices) > 1 and choices[0]["contentMediaType"] == "application/xml"
        for choice in choices:
            validate_json(choice, "schema.yaml")


@requirement("/conf/core/process-exception-no-such-process", "An unknown process is 404, of the standard's type.")
def test_no_such_process(api: Server) -> None:
    assert api.get("/processes/none").problem == (404, f"{STANDARD}/no-such-process", None)
    assert is_page(api.get("/processes/none", Accept="text/html"))


# ------------------------------------------------------------------------------------------------- execution: inputs


def echoed(api: Server, **inputs: Any) -> Any:
    """The results document of an echo."""
    said = api.execute(ECHO, inputs, response="document")
    assert said.status == 200, said.body
    return said.json


@requirement("/conf/core/job-creation-request", "An execute request is one by execute.yaml.")
@requirement("/conf/core/job-creation-op", "POST to /processes/{processID}/execution makes a job, in each mode.")
def test_job_creation(api: Server) -> None:
    request = {"inputs": {"literalInput": "a"}, "outputs": {"literalOutput": {}}, "response": "document"}
    validate_json(request, "execute.yaml")
    for prefer, status in (("", 200), ("respond-async", 201)):
        said = api.open("/processes/echo/execution", "POST", {"Prefer": prefer}, json=request)
        assert said.status == status


@requirement("/conf/core/job-creation-inputs", "Inputs are taken within the request and by reference.")
@requirement("/conf/core/job-creation-input-inline", "Inputs are taken within the request.")
def test_input_inline(api: Server) -> None:
    assert echoed(api, literalInput="é ]]> ☃", pause=0)["literalOutput"] == "é ]]> ☃"


@requirement("/conf/core/job-creation-inputs", "Inputs are taken within the request and by reference.")
@requirement("/conf/core/job-creation-input-ref", "Inputs are taken by reference.")
def test_input_by_reference(api: Server, remote: Website) -> None:
    remote.pages["/doc.json"] = page(json.dumps(FEATURE).encode(), "Content-Type: application/geo+json")
    link = {"href": remote.url("/doc.json"), "type": "application/geo+json"}
    assert echoed(api, complexInput=link)["complexOutput"]["value"] == FEATURE


@requirement("/conf/core/job-creation-input-array", "Values of an input that may be given several times are an array.")
def test_input_array(api: Server) -> None:
    assert api.get("/processes/join").json["inputs"]["texts"]["maxOccurs"] == "unbounded"
    for texts in (["a", "b", {"value": "c"}], ["a"]):
        said = api.execute("join", {"texts": texts}, response="document")
        assert said.json["count"] == len(texts)


@requirement("/conf/core/job-creation-input-inline-bbox", "Bounding boxes are taken as bbox.yaml has them.")
def test_input_bbox(api: Server) -> None:
    box = {"bbox": [7.0, 51.5, 8.25, 52], "crs": CRS84}
    validate_json(box, "bbox.yaml")
    assert echoed(api, boundingboxInput=box)["boundingboxOutput"] == box
    assert echoed(api, boundingboxInput={"bbox": box["bbox"]})["boundingboxOutput"] == box


@requirement("/conf/core/job-creation-input-inline-binary", "Binary values are taken as Base64.")
def test_input_binary(api: Server) -> None:
    coded = base64.b64encode(b"\x89PNG\r\n\x1a\n\x00\xff").decode()
    given = {"value": coded, "encoding": "base64", "mediaType": "image/png"}
    assert echoed(api, complexInput=given)["complexOutput"] == given


@requirement("/conf/core/job-creation-input-inline-mixed", "A value of one of several formats says which it is.")
def test_input_mixed(api: Server) -> None:
    for value, media_type in (("<a/>", "application/xml"), (FEATURE, "application/geo+json"), ("x", "text/plain")):
        found = echoed(api, complexInput={"value": value, "mediaType": media_type})["complexOutput"]
        assert (found["value"], found["mediaType"]) == (value, media_type)


@requirement("/conf/core/job-creation-input-inline-object", "A value that is an object is taken qualified.")
def test_input_object(api: Server) -> None:
    given = {"value": FEATURE, "mediaType": "application/geo+json"}
    assert echoed(api, complexInput=given)["complexOutput"]["value"] == FEATURE


@requirement("/conf/core/job-creation-input-validation", "Inputs are checked against their schemas.")
def test_input_validation(api: Server) -> None:
    assert echoed(api, literalInput="a")["literalOutput"] == "a"
    for wrong in (
        {"literalInput": 5},
        {"pause": "soon"},
        {"pause": -1},
        {"boundingboxInput": [1, 2, 3, 4]},
        {"complexInput": {"value": "x", "mediaType": "video/mp4"}},
        {"other": "a"},
    ):
        assert api.execute(ECHO, wrong).code == (400, "InvalidParameterValue", next(iter(wrong)))


# ------------------------------------------------------------------------------------------------- execution: modes


@requirement("/conf/core/job-creation-default-execution-mode", "Unasked, synchronous where the process can.")
def test_default_mode(api: Server) -> None:
    options = {p["id"]: p["jobControlOptions"] for p in api.get("/processes?limit=100").json["processes"]}
    assert options["later"] == ["async-execute", "dismiss"]
    assert api.execute("later", {"text": "a"}).status == 201
    assert options[ECHO] == ["sync-execute", "async-execute", "dismiss"]
    assert api.execute(ECHO, {"literalInput": "a"}).status == 200


@requirement("/conf/core/job-creation-auto-execution-mode", "With Prefer, asynchronous where the process can.")
def test_auto_mode(api: Server) -> None:
    for process, inputs, prefer, status in (
        (ECHO, {"literalInput": "a"}, "respond-sync", 200),
        (ECHO, {"literalInput": "a"}, "respond-async", 201),
        ("later", {"text": "a"}, "respond-sync", 201),
        ("later", {"text": "a"}, "respond-async", 201),
    ):
        assert api.execute(process, inputs, prefer=prefer).status == status


@requirement("/conf/core/job-creation-success-async", "An asynchronous answer is 201 with Location and a status.")
def test_success_async(api: Server) -> None:
    said = api.execute(ECHO, {"literalInput": "a"}, prefer="respond-async")
    assert said.status == 201 and said.headers.get("Preference-Applied") == "respond-async"
    assert api.get(said.headers.get("Location")).json["jobID"] == said.json["jobID"]


@requirement("/conf/core/job-creation-default-outputs", "Without outputs in the request, all are given.")
def test_default_outputs(api: Server) -> None:
    said = api.execute("join", {"texts": ["a"]}, response="document")
    assert set(said.json) == set(api.get("/processes/join").json["outputs"])


# ------------------------------------------------------------------------------------- results, at once and later


def _both(api: Server, process: str, inputs: Any, **members: Any) -> Iterator[Said]:
    """The same results, of a synchronous and of an asynchronous job."""
    yield api.execute(process, inputs, **members)
    yield api.get(api.run(process, inputs, **members))


def _first(outputs: Any, **mode: Any) -> dict[str, Any]:
    return dict.fromkeys(outputs, mode)


@requirement("/conf/core/job-creation-sync-document", "A document of results is JSON by results.yaml.")
@requirement("/conf/core/job-results-async-document", "So are the results of an asynchronous job.")
@requirement("/conf/core/job-results", "GET of /jobs/{jobID}/results gives the results of a job that succeeded.")
def test_document(api: Server) -> None:
    for said in _both(api, "join", {"texts": ["a", "b"]}, response="document"):
        assert (said.status, said.media_type) == (200, "application/json")
        assert said.json == {"text": "a+b", "count": 2}


@requirement("/conf/core/job-creation-sync-raw-value-one", "One raw output by value is the whole body.")
@requirement("/conf/core/job-results-async-raw-value-one", "So is that of an asynchronous job.")
def test_raw_one(api: Server) -> None:
    given = {"complexInput": {"value": FEATURE, "mediaType": "application/geo+json"}}
    wanted = {"complexOutput": {"format": {"mediaType": "application/geo+json"}}}
    for said in _both(api, ECHO, given, outputs=wanted, response="raw"):
        assert (said.status, said.media_type, said.json) == (200, "application/geo+json", FEATURE)


@requirement("/conf/core/job-creation-sync-raw-value-multi", "Several raw outputs by value are multipart/related.")
@requirement("/conf/core/job-results-async-raw-value-multi", "So are those of an asynchronous job.")
def test_raw_several(api: Server) -> None:
    for said in _both(api, "join", {"texts": ["a", "b"]}, response="raw"):
        assert (said.status, said.media_type) == (200, "multipart/related")
        assert {name: body for name, (_, body) in said.parts.items()} == {"text": b"a+b", "count": b"2"}


@requirement("/conf/core/job-creation-sync-raw-ref", "Raw outputs by reference are 204 with a Link for each.")
@requirement("/conf/core/job-results-async-raw-ref", "So are those of an asynchronous job.")
def test_raw_by_reference(api: Server) -> None:
    wanted = {"text": BY_REFERENCE, "count": BY_REFERENCE}
    for said in _both(api, "join", {"texts": ["a", "b"]}, outputs=wanted):
        assert (said.status, said.body) == (204, b"")
        links = [link for link in said.headers.get_list("Link") if "item" in link]  # type: ignore[attr-defined]
        bodies = [api.get(link.partition(">")[0][1:]).body for link in links]
        assert bodies == [b"a+b", b"2"]


@requirement("/conf/core/job-creation-sync-raw-mixed-multi", "Raw outputs of both kinds are parts, some without body.")
@requirement("/conf/core/job-results-async-raw-mixed-multi", "So are those of an asynchronous job.")
def test_raw_mixed(api: Server) -> None:
    for said in _both(api, "join", {"texts": ["a", "b"]}, outputs={"text": BY_VALUE, "count": BY_REFERENCE}):
        assert (said.status, said.media_type) == (200, "multipart/related")
        head, body = said.parts["count"]
        assert (said.parts["text"][1], body) == (b"a+b", b"")
        assert api.get(head["Content-Location"]).body == b"2"


@requirement("/conf/core/job-results-sync", "A synchronous answer links to its job (rel=monitor).")
def test_results_sync(api: Server) -> None:
    link = api.execute(ECHO, {"literalInput": "a"}).headers.get("Link")
    assert 'rel="monitor"' in link
    assert api.get(link.partition(">")[0][1:]).json["status"] == "successful"


@requirement("/conf/core/job-results-exception-results-not-ready", "Results asked for too early are 404, of that type.")
def test_results_not_ready(api: Server) -> None:
    job = api.start(ECHO, {"pause": 60})
    assert api.get(f"{job}/results").problem == (404, f"{STANDARD}/result-not-ready", None)
    assert is_page(api.get(f"{job}/results", Accept="text/html"))
    api.open(job, "DELETE")


@requirement("/conf/core/job-results-failed", "Results of an unknown job are 404, of the standard's type.")
def test_results_of_no_job(api: Server) -> None:
    assert api.get("/jobs/none/results").problem == (404, f"{STANDARD}/no-such-job", None)
    assert is_page(api.get("/jobs/none/results", Accept="text/html"))


@requirement("/conf/core/job-results-failed", "Results of a job that failed tell why, with a type and status for that.")
def test_results_of_a_failure(api: Server) -> None:
    job = api.start("misbehave", {"how": "error"})
    assert api.ended(job).json["status"] == "failed"
    said = api.get(f"{job}/results")
    assert said.code == (400, "InvalidParameterValue", "how")
    assert said.json["type"].endswith("InvalidParameterValue")
    assert is_page(api.get(f"{job}/results", Accept="text/html"))


# ------------------------------------------------------------------------------------------------------------- status


@requirement("/conf/core/job-op", "GET of /jobs/{jobID} is answered.")
@requirement("/conf/core/job-success", "The status is valid in each of its forms.")
def test_status(api: Server, done: str) -> None:
    said = api.get(done)
    assert (said.status, said.json["status"], said.json["type"]) == (200, "successful", "process")
    assert is_page(api.get(done, Accept="text/html"))


@requirement("/conf/core/job-exception-no-such-job", "An unknown job is 404, of the standard's type.")
def test_no_such_job(api: Server) -> None:
    assert api.get("/jobs/none").problem == (404, f"{STANDARD}/no-such-job", None)
    assert is_page(api.get("/jobs/none", Accept="text/html"))


# ------------------------------------------------------------------------------------------------------------ dismiss


@requirement("/conf/dismiss/job-dismiss-op", "DELETE of a job dismisses it.")
@requirement("/conf/dismiss/job-dismiss-success", "The answer to a dismissal is 200 with the status dismissed.")
def test_dismiss(api: Server) -> None:
    job = api.start(ECHO, {"pause": 600})
    said = api.open(job, "DELETE")
    assert (said.status, said.json["status"]) == (200, "dismissed")
    assert api.get(job).json["status"] == "dismissed"
    assert is_page(api.open(api.start(ECHO, {"pause": 600}), "DELETE", {"Accept": "text/html"}))


# ----------------------------------------------------------------------------------------------------------- callback


@requirement("/conf/callback/job-callback", "A subscriber is sent the results of its job.")
def test_callback(api: Server, remote: Website) -> None:
    remote.pages["/told"] = page(b"thanks")
    subscriber = {"successUri": remote.url("/told")}
    api.start("join", {"texts": ["a", "b"]}, subscriber=subscriber)
    until(lambda: remote.asked, "the subscriber is told")
    assert validate_json(json.loads(remote.asked[0].body), "results.yaml") == {"text": "a+b", "count": 2}


# ------------------------------------------------------------------------------------------------------------ job list


@pytest.fixture(scope="module")
def several(api: Server, done: str) -> list[str]:
    """Jobs of several processes and outcomes, the oldest first: their identifiers."""
    succeeded = api.run("join", {"texts": ["a"]}).removesuffix("/results")
    failed = api.start("misbehave", {"how": "error"})
    paused = api.run(ECHO, {"pause": 2}).removesuffix("/results")
    api.ended(failed)
    return [path.rpartition("/")[2] for path in (done, succeeded, failed, paused)]


def _listed(api: Server, query: str) -> list[dict[str, Any]]:
    said = api.get(f"/jobs?limit=1000&{query}")
    assert said.status == 200, said.body
    return list(said.json["jobs"])


@requirement("/conf/job-list/job-list-op", "GET of /jobs is answered.")
@requirement("/conf/job-list/job-list-success", "The list of jobs is valid in each of its forms.")
def test_job_list(api: Server, several: list[str]) -> None:
    assert {job["jobID"] for job in _listed(api, "")} >= set(several)
    assert is_page(api.get("/jobs?f=html"))


@requirement("/conf/job-list/links", "The list of jobs links to itself and to its other forms.")
def test_job_list_links(api: Server) -> None:
    assert {"self", "alternate"} <= api.get("/jobs").rels()


@requirement("/conf/job-list/limit-definition", "limit of the job list is defined as the standard has it.")
def test_job_list_limit_definition(api: Server) -> None:
    schema = parameter(api, "/jobs", "limit")["schema"]
    assert schema == {"type": "integer", "minimum": 1, "maximum": 10000, "default": 10}


@requirement("/conf/job-list/limit-response", "The list of jobs has no more entries than limit says.")
def test_job_list_limit(api: Server, several: list[str]) -> None:
    assert len(api.get("/jobs?limit=2").json["jobs"]) == 2


def _is_list(api: Server, name: str, kind: str) -> bool:
    schema = parameter(api, "/jobs", name)["schema"]
    return bool(schema["type"] == "array" and schema["items"]["type"] == kind)


@requirement("/conf/job-list/type-definition", "type is defined as a list of strings.")
def test_type_definition(api: Server) -> None:
    assert _is_list(api, "type", "string")


@requirement("/conf/job-list/type-response", "type selects jobs by their type.")
def test_type(api: Server, several: list[str]) -> None:
    assert {job["type"] for job in _listed(api, "type=process")} == {"process"}
    assert _listed(api, "type=other") == []


@requirement("/conf/job-list/processID-definition", "processID is defined as a list of strings.")
def test_process_id_definition(api: Server) -> None:
    assert _is_list(api, "processID", "string")


@requirement("/conf/job-list/processID-mandatory", "Every job of the list says its process.")
def test_process_id_mandatory(api: Server, several: list[str]) -> None:
    assert all(job["processID"] for job in _listed(api, ""))


@requirement("/conf/job-list/processID-response", "processID selects jobs by their process.")
def test_process_id(api: Server, several: list[str]) -> None:
    assert {job["processID"] for job in _listed(api, "processID=join,misbehave")} == {"join", "misbehave"}


@requirement("/conf/job-list/status-definition", "status is defined as a list of strings.")
def test_status_definition(api: Server) -> None:
    assert _is_list(api, "status", "string")


@requirement("/conf/job-list/status-response", "status selects jobs by their status.")
def test_status_filter(api: Server, several: list[str]) -> None:
    assert {job["status"] for job in _listed(api, "status=failed,successful")} == {"failed", "successful"}
    assert {job["status"] for job in _listed(api, "status=failed")} == {"failed"}


@requirement("/conf/job-list/datetime-definition", "datetime is defined as a string.")
def test_datetime_definition(api: Server) -> None:
    assert parameter(api, "/jobs", "datetime")["schema"] == {"type": "string"}


@requirement("/conf/job-list/datetime-response", "datetime selects jobs by when they were created.")
def test_datetime(api: Server, several: list[str]) -> None:
    first, *_, last = (api.get(f"/jobs/{job}").json["created"] for job in several)
    assert several[0] in {job["jobID"] for job in _listed(api, f"datetime={first}")}
    between = _listed(api, f"datetime={first}/{last}")
    assert {job["jobID"] for job in between} >= set(several)
    assert all(first <= job["created"] <= last for job in between)
    assert all(job["created"] <= first for job in _listed(api, f"datetime=../{first}"))
    assert all(job["created"] >= last for job in _listed(api, f"datetime={last}/"))


@requirement("/conf/job-list/duration-definition", "minDuration and maxDuration are defined as lists of integers.")
def test_duration_definition(api: Server) -> None:
    assert _is_list(api, "minDuration", "integer") and _is_list(api, "maxDuration", "integer")


def _seconds(job: dict[str, Any]) -> float:
    started, finished = (datetime.fromisoformat(job[name]) for name in ("started", "finished"))
    return (finished - started).total_seconds()


@requirement("/conf/job-list/duration-response", "minDuration and maxDuration select jobs by how long they ran.")
def test_duration(api: Server, several: list[str]) -> None:
    ended = "status=successful,failed"
    long, short = _listed(api, f"minDuration=2&{ended}"), _listed(api, f"maxDuration=1&{ended}")
    # Times are shown to the millisecond, cut off.
    assert several[3] in {job["jobID"] for job in long} and all(_seconds(job) >= 1.998 for job in long)
    assert short and all(_seconds(job) <= 1.002 for job in short)
    assert all(1.998 <= _seconds(job) <= 60.002 for job in _listed(api, f"minDuration=2&maxDuration=60&{ended}"))
