"""OGC API - Processes: running processes, and their results in every way in which they can be asked for."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue
from tests.protocols.ogcapi import STANDARD, Api, local_site
from tests.protocols.site import Offer, Outputs
from wps_hpc.jobs.job import JobState
from wps_hpc.jobs.request import ExecuteRequest, InlineContent, Mode, Reference, Subscriber, Transmission
from wps_hpc.processes.description import Output, ProcessDescription

GML = "<a xmlns='urn:x'>é</a>"
FEATURE = {"type": "Feature", "properties": {"n": 1.5}, "geometry": None}
GEOJSON = "application/geo+json"
EPSG4326 = "urn:ogc:def:crs:EPSG::4326"
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
SCHEMA = "http://schemas.opengis.net/gml/3.1.1/base/gml.xsd"
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """A site of one's own."""
    return local_site(tmp_path)


# ------------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("process", "prefer", "mode"),
    [
        ("echo", "", Mode.SYNC),
        ("echo", "respond-sync", Mode.SYNC),
        ("echo", "respond-async", Mode.ASYNC),
        ("echo", "wait=10, Respond-Async;x=1", Mode.ASYNC),
        ("sync.only", "respond-async", Mode.SYNC),
        ("no.status", "respond-async", Mode.SYNC),
        ("async.only", "", Mode.ASYNC),
    ],
)
def test_modes(api: Api, process: str, prefer: str, mode: Mode) -> None:
    answer = api.execute(process, {"text": "a"}, prefer=prefer)
    assert answer.status == (201 if mode is Mode.ASYNC else 200)
    assert api.site.received.mode is mode
    applied = "respond-async" if mode is Mode.ASYNC and prefer else None
    assert answer.headers.get("Preference-Applied") == applied


def test_an_asynchronous_answer(api: Api) -> None:
    answer = api.execute("echo", {"text": "a"}, prefer="respond-async")
    address = f"http://127.0.0.1:8095/jobs/{api.site.latest.id}"
    assert (answer.status, answer.headers.get("Location")) == (201, address)
    assert answer.json["status"] == "accepted" and answer.json["jobID"] == api.site.latest.id


def test_a_job_that_ends_at_once_is_answered_as_ended(tmp_path: Path) -> None:
    api = Api(local_site(tmp_path).site, limits={"grace_seconds": 5})
    assert api.execute("echo", {"text": "a"}, prefer="respond-async").json["status"] == "successful"


def test_a_synchronous_answer_names_its_job(api: Api) -> None:
    answer = api.execute("echo", {"text": "a"})
    address = f"http://127.0.0.1:8095/jobs/{api.site.latest.id}"
    assert answer.headers.get("Link") == f'<{address}>; rel="monitor"; type="application/json"'


def test_a_synchronous_call_that_takes_too_long(tmp_path: Path) -> None:
    api = Api(local_site(tmp_path).site, limits={"sync_seconds": 0.01})
    answer = api.execute("slow")
    assert answer.problem[0] == 504 and "Prefer: respond-async" in answer.json["detail"]
    assert api.site.latest.state is JobState.DISMISSED


def test_a_process_that_fails(api: Api) -> None:
    answer = api.execute("refuses")
    assert answer.code == (500, "NoApplicableCode", "moon")
    assert "The moon is in the wrong phase" in answer.json["detail"]


# -------------------------------------------------------------------------------------------------------- raw results


def test_one_raw_literal(api: Api) -> None:
    answer = api.execute("echo", {"text": "é ☃"}, outputs={"text": {}})
    assert (answer.status, answer.headers.get("Content-Type")) == (200, "text/plain; charset=utf-8")
    assert answer.body == "é ☃".encode()


def test_one_raw_literal_as_json(api: Api) -> None:
    answer = api.execute("echo", {"number": 5}, outputs={"number": {"format": {"mediaType": "application/json"}}})
    assert (answer.media_type, answer.json) == ("application/json", 5)


def test_one_raw_document(api: Api) -> None:
    given = {"complex": {"value": FEATURE, "mediaType": GEOJSON}}
    answer = api.execute("echo", given, outputs={"complex": {"format": {"mediaType": GEOJSON}}})
    assert (answer.media_type, answer.json) == (GEOJSON, FEATURE)


def test_one_raw_box(api: Api) -> None:
    answer = api.execute("echo", {"box": {"bbox": [1, 2, 3, 4], "crs": EPSG4326}}, outputs={"box": {}})
    assert (answer.media_type, answer.json) == ("application/json", {"bbox": [1, 2, 3, 4], "crs": EPSG4326})


def test_several_raw_values_of_one_output(api: Api) -> None:
    assert api.execute("echo", {"text": ["a", "b"]}, outputs={"text": {}}).json == ["a", "b"]


def test_several_raw_outputs_are_parts(api: Api) -> None:
    given = {"text": "é", "complex": {"value": base64.b64encode(PNG).decode(), "mediaType": "image/tiff"}}
    answer = api.execute("echo", given, outputs={"complex": {}, "text": {}})
    assert answer.status == 200
    assert answer.parts["text"][1] == "é".encode()
    head, body = answer.parts["complex"]
    assert (head["Content-Type"], body) == ("image/tiff", PNG)
    assert list(answer.parts) == ["complex", "text"]


def test_all_outputs_unless_some_are_named(api: Api) -> None:
    answer = api.execute("echo", {"text": "a", "number": 5})
    assert {name: body for name, (_, body) in answer.parts.items()} == {"text": b"a", "number": b"5"}


def test_raw_outputs_by_reference(api: Api) -> None:
    wanted = {name: {"transmissionMode": "reference"} for name in ("text", "complex")}
    answer = api.execute("echo", {"text": "a", "complex": GML}, outputs=wanted)
    assert (answer.status, answer.body, answer.headers.get("Content-Length")) == (204, b"", None)
    links = answer.headers.getlist("Link")  # type: ignore[attr-defined]
    assert len(links) == 3 and all('rel="item"' in link for link in links[:2])
    for link, body in zip(links, (b"a", GML.encode()), strict=False):
        assert api.get(link.partition(">")[0].removeprefix("<http://127.0.0.1:8095")).body == body


def test_raw_outputs_of_both_kinds(api: Api) -> None:
    wanted = {"text": {"transmissionMode": "value"}, "complex": {"transmissionMode": "reference"}}
    parts = api.execute("echo", {"text": "a", "complex": GML}, outputs=wanted).parts
    head, body = parts["complex"]
    assert (body, parts["text"][1]) == (b"", b"a")
    assert api.get(head["Content-Location"].removeprefix("http://127.0.0.1:8095")).body == GML.encode()


def test_an_output_that_was_not_made(api: Api) -> None:
    assert api.execute("echo", {"text": "a"}, outputs={"number": {}}).status == 204
    assert api.execute("echo", {"text": "a"}, outputs={"number": {}}, response="document").json == {}


def test_html_that_a_job_wrote_does_not_run(api: Api) -> None:
    given = {"complex": {"value": "<script>", "mediaType": "text/html"}}
    answer = api.execute("echo", given, outputs={"complex": {"format": {"mediaType": "text/html"}}})
    assert answer.headers.get("Content-Disposition").startswith("attachment")
    assert answer.headers.get("Content-Security-Policy") == "default-src 'none'; sandbox"


# ------------------------------------------------------------------------------------------------------- the document


def document(api: Api, given: Any, **outputs: Any) -> Any:
    """The results document of an echo."""
    return api.execute("echo", given, response="document", **({"outputs": outputs} if outputs else {})).json


def test_a_document_of_everything(api: Api) -> None:
    given = {
        "text": ["a", "b"],
        "number": 5,
        "width": {"value": 2.5, "uom": "metre"},
        "complex": {"value": FEATURE, "mediaType": GEOJSON},
        "box": {"bbox": [1, 2, 3, 4]},
    }
    assert document(api, given) == {
        "text": ["a", "b"],
        "number": 5,
        "width": {"value": 2.5, "uom": "metre"},
        "complex": {"value": FEATURE, "mediaType": GEOJSON},
        "box": {"bbox": [1, 2, 3, 4], "crs": CRS84},
    }


def test_a_box_of_another_system_is_qualified(api: Api) -> None:
    box = {"bbox": [46.5, 102, 47, 103.25], "crs": EPSG4326}
    assert document(api, {"box": box}) == {"box": {"value": box}}
    assert document(api, {"box": {"value": box}}) == {"box": {"value": box}}


def test_text_and_binary_in_a_document(api: Api) -> None:
    assert document(api, {"complex": GML})["complex"]["value"] == GML
    coded = base64.b64encode(PNG).decode()
    tiff = {"value": coded, "encoding": "base64", "mediaType": "image/tiff"}
    assert document(api, {"complex": tiff}) == {"complex": tiff}


def test_references_in_a_document(api: Api) -> None:
    by_reference = {"transmissionMode": "reference"}
    found = document(api, {"text": "a", "complex": GML}, text=by_reference, complex=by_reference)
    job = api.site.latest.id
    assert found["text"]["href"] == f"http://127.0.0.1:8095/jobs/{job}/results/text"
    assert found["complex"]["href"] == f"http://127.0.0.1:8095/outputs/{job}/complex.gml"
    assert found["complex"]["type"] == "text/xml"


def test_what_is_too_large_for_a_document_is_linked_to(tmp_path: Path) -> None:
    api = Api(local_site(tmp_path).site, limits={"embed_bytes": 10})
    found = document(api, {"complex": GML})["complex"]
    assert api.get(found["href"].removeprefix("http://127.0.0.1:8095")).body == GML.encode()


DEEP = "[" * 600 + "]" * 600


@pytest.mark.parametrize(
    "content", ["[NaN]", "[1e999]", "-1e999", "nonsense", "null", '"\\ud800"', "[" * 100_000, DEEP, "9" * 5000]
)
def test_json_outputs_that_are_none(api: Api, content: str) -> None:
    given = {"complex": {"value": content, "mediaType": GEOJSON}}
    found = document(api, given)["complex"]["value"]
    assert found in (content, "\ud800")


@pytest.mark.parametrize("accept", ["application/xml", "image/png", "text/html;q=0, application/json;q=0"])
def test_a_form_that_there_is_not_is_told_before_the_job_runs(api: Api, accept: str) -> None:
    body = {"inputs": {"text": "a"}, "response": "document"}
    assert api.open("/processes/echo/execution", "POST", {"Accept": accept}, json=body).status == 406
    assert api.open("/processes/echo/execution?f=xml", "POST", json=body).code[2] == "f"
    assert not api.site.jobs


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/plain", False),
        ("image/png", False),
        ("", False),
        ("*/*", False),
        ("text/plain, text/html;q=0.5", False),
        ("application/json", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
    ],
)
def test_raw_results_come_as_they_are_unless_a_page_is_preferred(api: Api, accept: str, html: bool) -> None:
    path = api.start("echo", {"text": "a"}, outputs={"text": {}})
    api.site.run(path.rpartition("/")[2])
    answer = api.get(f"{path}/results", Accept=accept)
    assert (answer.status, answer.media_type) == (200, "text/html" if html else "text/plain")
    body = {"inputs": {"text": "a"}, "outputs": {"text": {}}}
    answer = api.open("/processes/echo/execution", "POST", {"Accept": accept}, json=body)
    assert (answer.status, answer.body) == (200, b"a")


def test_raw_results_in_a_form_by_its_name(api: Api) -> None:
    path = api.start("echo", {"text": "a"}, outputs={"text": {}})
    api.site.run(path.rpartition("/")[2])
    assert api.get(f"{path}/results?f=html", Accept="text/plain").media_type == "text/html"
    assert api.get(f"{path}/results?f=json", Accept="text/html").body == b"a"
    assert api.get(f"{path}/results?f=xml").code == (400, "InvalidParameterValue", "f")


@pytest.mark.parametrize("called", ["text/plain\r\nX-Evil: 1", "text/plain\\", 'a/b"; x="', "nonsense", "text/\u2603"])
def test_a_media_type_that_is_none_stands_in_no_head(api: Api, called: str) -> None:
    def made(request: ExecuteRequest, folder: Path) -> Outputs:
        (folder / "outputs").mkdir()
        (folder / "outputs" / "x.txt").write_bytes(b"a")
        return {"text": (FileValue("outputs/x.txt", called, None, None, 1),)}

    api.site.catalogue.offers["named"] = Offer(ProcessDescription("named", outputs=(Output("text"),)), made)
    answer = api.execute("named", outputs={"text": {"transmissionMode": "reference"}})
    assert answer.status == 204 and answer.headers.get("X-Evil") is None
    (found, _) = answer.headers.get_all("Link")
    assert re.fullmatch(r'<[^>]+>; rel="item"; type="[ -!#-\[\]-~]+/[ -!#-\[\]-~]+"; title="text"', found), found


#: Results that are objects like any other, whatever their members are called.
ORDINARY: tuple[Any, ...] = (
    {"type": "Feature", "links": [{"href": "https://example.org/a", "rel": "self"}]},
    {"href": "https://example.org/b"},
    {"href": 5, "title": None, "rel": ["x"]},
    {"href": "https://example.org/c", "title": {"en": "C"}, "rel": 1, "deeper": {"a": [1, None, True]}},
    [{"href": "javascript:alert(1)"}, {}, [], ""],
    {"title": "a title", "jobs": "none", "processes": [1], "items": {"keys": 1}},
)


@pytest.mark.parametrize("content", [*map(json.dumps, ORDINARY), "[" * 250 + '"deep"' + "]" * 250, DEEP])
def test_every_document_as_a_page(api: Api, content: str, caplog: pytest.LogCaptureFixture) -> None:
    given = {"complex": {"value": content, "mediaType": GEOJSON}}
    path = api.start("echo", given, response="document")
    api.site.run(path.rpartition("/")[2])
    page = api.get(f"{path}/results?f=html")
    assert (page.status, page.media_type, caplog.text) == (200, "text/html", "")
    for word in re.findall(r"[a-z]{3,}", content):
        assert word in page.body.decode()
    assert b'href="javascript' not in page.body
    body = {"inputs": given, "response": "document"}
    assert api.open("/processes/echo/execution", "POST", {"Accept": "text/html"}, json=body).status == 200


@pytest.mark.parametrize("name", ["title", "links", "jobs", "processes"])
def test_an_output_of_any_name_stands_on_the_page(api: Api, name: str) -> None:
    def made(request: ExecuteRequest, folder: Path) -> Outputs:
        return {name: (LiteralValue("what it is"),)}

    process = ProcessDescription("named", outputs=(Output(name),))
    api.site.catalogue.offers["named"] = Offer(process, made)
    path = api.start("named", response="document")
    api.site.run(path.rpartition("/")[2])
    page = api.get(f"{path}/results?f=html")
    assert page.status == 200 and f"<dt>{name}</dt><dd>what it is</dd>" in page.body.decode()


def test_numbers_that_json_has_not(api: Api) -> None:
    def made(request: ExecuteRequest, folder: Path) -> Outputs:
        literals = {"number": LiteralValue("9" * 5000, "integer"), "width": LiteralValue("INF", "double")}
        boxes = (BoundingBoxValue((-math.inf, 0.0), (1.0, math.nan)), BoundingBoxValue((0.0, 0.0), (1.0, 1.0), CRS84))
        return {name: (value,) for name, value in literals.items()} | {"box": boxes}

    api.site.catalogue.offers["echo"] = replace(api.site.catalogue.offers["echo"], run=made)
    found = document(api, {})
    assert (found["number"], found["width"]) == ("9" * 5000, "INF")
    assert found["box"] == [{"value": {"bbox": ["-INF", 0, 1, "NaN"]}}, {"bbox": [0, 0, 1, 1], "crs": CRS84}]


def test_a_document_as_a_page(api: Api) -> None:
    body = json.dumps({"inputs": {"text": "<a>"}, "response": "document"})
    headers = {"Accept": "text/html", "Content-Type": "application/json"}
    answer = api.open("/processes/echo/execution", "POST", headers, data=body)
    assert (answer.status, answer.media_type) == (200, "text/html")
    assert b"&lt;a&gt;" in answer.body


# ----------------------------------------------------------------------------------------------------------- callbacks


def test_a_subscriber_is_handed_on(api: Api) -> None:
    uris = {"successUri": "https://s.example/", "failedUri": "https://f.example/"}
    api.execute("echo", {"text": "a"}, subscriber=uris)
    assert api.site.received.subscriber == Subscriber("https://s.example/", None, "https://f.example/")


@pytest.mark.parametrize("given", ["x", [], {}, {"failedUri": "https://f.example/"}, {"successUri": 5}])
def test_subscribers_that_are_none(api: Api, given: Any) -> None:
    assert api.execute("echo", subscriber=given).code == (400, "InvalidParameterValue", "subscriber")


# -------------------------------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("name", "given", "values"),
    [
        ("text", "a", (LiteralValue("a"),)),
        ("text", ["a", {"value": "b"}, ""], (LiteralValue("a"), LiteralValue("b"), LiteralValue(""))),
        ("text", [], ()),
        ("number", 7, (LiteralValue("7", "integer"),)),
        ("width", 2, (LiteralValue("2.0", "double", "metre"),)),
        ("width", "INF", (LiteralValue("INF", "double", "metre"),)),
        ("width", {"value": 1.5, "uom": "metre"}, (LiteralValue("1.5", "double", "metre"),)),
        ("complex", GML, (InlineContent(GML.encode(), "text/xml", None, SCHEMA),)),
        ("complex", FEATURE, (InlineContent(b'{"type":"Feature","properties":{"n":1.5},"geometry":null}', GEOJSON),)),
        ("complex", [1, 2], (InlineContent(b"[1,2]", GEOJSON),)),
        ("complex", {"href": "http://x.example/", "type": "text/csv"}, (Reference("http://x.example/", "text/csv"),)),
        (
            "complex",
            {"value": "QUJD", "mediaType": "image/tiff"},
            (InlineContent(b"ABC", "image/tiff", "base64"),),
        ),
        (
            "complex",
            {"value": "é", "mediaType": "text/csv", "encoding": "iso-8859-1"},
            (InlineContent(b"\xe9", "text/csv", "iso-8859-1"),),
        ),
        ("box", {"bbox": [1, 2.5, 3, 4]}, (BoundingBoxValue((1.0, 2.5), (3.0, 4.0), CRS84),)),
        (
            "box",
            {"bbox": [46.5, 102, 47, 103.25], "crs": EPSG4326},
            (BoundingBoxValue((46.5, 102.0), (47.0, 103.25), EPSG4326),),
        ),
    ],
)
def test_inputs(api: Api, name: str, given: Any, values: tuple[Any, ...]) -> None:
    assert api.execute("echo", {name: given}).status in (200, 204)
    assert api.site.received.inputs.get(name, ()) == values


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("text", 5),
        ("text", None),
        ("text", True),
        ("text", [["a"]]),
        ("text", {"href": "http://x.example/"}),
        ("number", "7"),
        ("number", True),
        ("number", 1.5),
        ("number", [7]),
        ("number", 11),
        ("number", 10**400),
        ("width", "1.5"),
        ("width", "nan"),
        ("width", {"value": 1, "uom": 5}),
        ("complex", {"value": "AB", "mediaType": "image/tiff"}),
        ("complex", {"value": FEATURE, "mediaType": "text/csv"}),
        ("complex", {"value": "x", "mediaType": "image/png"}),
        ("complex", {"value": "x", "mediaType": 5}),
        ("complex", {"value": "☃", "mediaType": "text/csv", "encoding": "ascii"}),
        ("complex", {"href": 5}),
        ("complex", None),
        ("box", [1, 2, 3, 4]),
        ("box", {"bbox": [1, 2, 3]}),
        ("box", {"bbox": [1, 2, 3, "4"]}),
        ("box", {"bbox": [1, 2, 3, True]}),
        ("box", {"bbox": [10**400, 2, 3, 4]}),
        ("box", {"bbox": [1, 2, 3, 4], "crs": 4326}),
        ("nothing", 1),
    ],
)
def test_inputs_that_do_not_fit(api: Api, name: str, given: Any) -> None:
    assert api.execute("echo", {name: given}).code == (400, "InvalidParameterValue", name)


def test_a_reference_without_an_address(api: Api) -> None:
    assert api.execute("echo", {"complex": {"href": ""}}).code == (400, "MissingParameterValue", "complex")


def test_an_input_that_is_missing(api: Api) -> None:
    status, code, locator = api.execute("everything", {}).code
    assert (status, code, locator) == (400, "MissingParameterValue", "ratio")


def test_nested_inputs(api: Api) -> None:
    for given in ({"inner": "a"}, {"value": {"inner": ["a"][0]}}):
        api.execute("nested", {"outer": given}, prefer="respond-async")
        (nested,) = api.site.received.inputs["outer"]
        assert nested.values == {"inner": (LiteralValue("a"),)}  # type: ignore[union-attr]
    assert api.execute("nested", {"outer": {"other": 1}}).code == (400, "InvalidParameterValue", "other")
    assert api.execute("nested", {"outer": 5}).code == (400, "InvalidParameterValue", "outer")


def test_outputs_are_handed_on(api: Api) -> None:
    form = {"mediaType": "text/xml", "schema": SCHEMA}
    wanted = {"complex": {"format": form, "transmissionMode": "reference"}, "text": {}}
    api.execute("echo", {}, outputs=wanted)
    first, second = api.site.received.outputs
    assert first.transmission is Transmission.REFERENCE
    assert (first.wanted.mime_type, first.wanted.schema) == ("text/xml", SCHEMA)
    assert (second.wanted.identifier, second.transmission) == ("text", None)


@pytest.mark.parametrize(
    ("members", "locator"),
    [
        ({"inputs": []}, "inputs"),
        ({"inputs": 5}, "inputs"),
        ({"outputs": ["text"]}, "outputs"),
        ({"outputs": {"none": {}}}, "none"),
        ({"outputs": {"text": None}}, "text"),
        ({"outputs": {"text": {"format": "x"}}}, "text"),
        ({"outputs": {"text": {"format": {"mediaType": 5}}}}, "text"),
        ({"outputs": {"text": {"transmissionMode": "ref"}}}, "text"),
        ({"outputs": {"text": {"transmissionMode": ["value"]}}}, "text"),
        ({"outputs": {"complex": {"format": {"mediaType": "image/png"}}}}, "complex"),
        ({"response": "cooked"}, "response"),
        ({"response": ["raw"]}, "response"),
    ],
)
def test_members_that_do_not_fit(api: Api, members: Any, locator: str) -> None:
    assert api.execute("echo", **members).code == (400, "InvalidParameterValue", locator)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"inputs": {"number": ' + b"9" * 5000 + b"}}", 400),
        (b'{"inputs": {"width": NaN}}', 400),
        (b'{"inputs": {"text": "\\ud800"}}', 400),
        (b'\xff\xfe{"inputs": {}}', 400),
        (b'{"inputs": {"number": ' + b"1" * 5000 + b"}}", 400),
        (b"[" * 200_000, 400),
        (b'{"inputs": {"complex": ' + b"[" * 500_000 + b"]" * 500_000 + b"}}", 400),
        (b"[" + b"0," * 3_000_000 + b"0]", 413),
    ],
)
def test_bodies_that_are_none(api: Api, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    answer = api.open("/processes/echo/execution", "POST", headers, data=body)
    assert answer.problem[0] == status


def test_commas_in_strings_are_no_values(api: Api) -> None:
    text = ',[{"' * 1_000_000
    assert api.execute("echo", {"text": text}, outputs={"text": {}}).body.decode() == text


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "text/xml", "json"])
def test_bodies_of_other_types(api: Api, content_type: str) -> None:
    answer = api.open("/processes/echo/execution", "POST", {"Content-Type": content_type}, data=b"{}")
    assert answer.problem[0] == 415


def test_bodies_that_are_too_large(tmp_path: Path) -> None:
    api = Api(local_site(tmp_path).site, limits={"request_bytes": 100})
    assert api.execute("echo", {"text": "a" * 100}).code == (413, "FileSizeExceeded", None)


def test_what_a_bom_precedes_is_read(api: Api) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = api.open("/processes/echo/execution", "POST", headers, data=b'\xef\xbb\xbf{"inputs": {"text": "a"}}')
    assert answer.status == 200


def test_the_types_of_problems(api: Api) -> None:
    assert api.execute("echo", {"number": 99}).problem[1] == "http://127.0.0.1:8095/api#InvalidParameterValue"
    assert api.get("/jobs/none").problem[1] == f"{STANDARD}/no-such-job"
