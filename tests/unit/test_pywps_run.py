"""One run of a PyWPS process: what its handler sees of the inputs, and what becomes of the outputs that it leaves."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import pywps.configuration
from pywps import (
    FORMATS,
    UOM,
    BoundingBoxInput,
    ComplexInput,
    ComplexOutput,
    Format,
    LiteralInput,
    LiteralOutput,
    Process,
)
from pywps.inout.outputs import MetaFile, MetaLink4

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, Value
from wps_hpc import Resources
from wps_hpc.processes.pywps_process import adapted
from wps_hpc.processes.run import Job, OutputError, RunFolders

ADDRESS = "https://example.org/outputs/1"
TEXT = Format("text/plain", extension=".txt")

Handler = Callable[[Any, Any], None]


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyWPS's one configuration, put back after the test; a working directory."""
    before = pywps.configuration.CONFIG
    pywps.configuration.load_configuration([])
    for name in ("work", "outputs"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    pywps.configuration.CONFIG = before


def ran(folder: Path, handler: Handler, *items: Any, given: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """The outputs of a handler, by identifier; ``items`` are its inputs and outputs."""
    outputs = [item for item in items if type(item).__name__.endswith("Output")]
    process = Process(handler, "one", "One", inputs=[item for item in items if item not in outputs], outputs=outputs)
    request = RequestRecord("one", {name: (value,) for name, value in (given or {}).items()})
    work = folder / "work"
    job = Job(
        str(uuid.uuid4()),
        work,
        Resources(),
        logging.getLogger(),
        "en-US",
        lambda *_: None,
        lambda _: None,
        outputs_url=ADDRESS,
    )
    found = adapted(process).run(request, job, RunFolders(JobFolder(folder), work, folder / "outputs"))
    return {name: value for name, (value,) in found.items()}


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["metre", "feet"])
def test_a_unit_is_text_and_a_unit(tmp_path: Path, unit: str) -> None:
    """PyWPS has text for a unit that the client named, and its own object for the default one, which no text equals."""

    def handler(request: Any, response: Any) -> None:
        uom = request.inputs["length"][0].uom
        said = [uom, uom == unit, uom.uom, uom.json["uom"], uom == UOM(unit), json.dumps({"unit": uom})]
        response.outputs["said"].data = json.dumps(said)

    length = LiteralInput("length", "Length", data_type="float", uoms=["metre", "feet"])
    given = {"length": LiteralValue("2", "float", unit)}
    said: Any = ran(tmp_path, handler, length, LiteralOutput("said", "Said"), given=given)["said"]
    assert json.loads(said.text) == [unit, True, unit, unit, True, json.dumps({"unit": unit})]


@pytest.mark.parametrize(
    ("crs", "seen"),
    [
        ("EPSG:3857", "urn:ogc:def:crs:EPSG::3857"),
        ("epsg:4326", "urn:ogc:def:crs:EPSG::4326"),
        ("urn:ogc:def:crs:EPSG::3857", "urn:ogc:def:crs:EPSG::3857"),
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84"),
        ("", "urn:ogc:def:crs:EPSG::4326"),
    ],
)
def test_reference_systems_are_urns_as_pywps_has_them(tmp_path: Path, crs: str, seen: str) -> None:
    def handler(request: Any, response: Any) -> None:
        response.outputs["said"].data = request.inputs["box"][0].crs

    box = BoundingBoxInput("box", "Box", crss=["epsg:4326", "epsg:3857"])
    given = {"box": BoundingBoxValue((1.0, 2.0), (3.0, 4.0), crs)}
    said: Any = ran(tmp_path, handler, box, LiteralOutput("said", "Said"), given=given)["said"]
    assert said.text == seen


def test_a_long_name_at_an_address_is_shortened(tmp_path: Path) -> None:
    """It is the client's: a file system that takes no name so long is not to fail the job."""

    def handler(request: Any, response: Any) -> None:
        response.outputs["said"].data = Path(request.inputs["text"][0].file).read_text()

    (tmp_path / "in.txt").write_text("here")
    given = {"text": FileValue("in.txt", "text/plain", href=f"https://example.org/{'ü' * 300}.txt")}
    said: Any = ran(tmp_path, handler, ComplexInput("text", "Text", [TEXT]), LiteralOutput("said", "S"), given=given)
    assert said["said"].text == "here"


# --- outputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "data", "text"),
    [
        (TEXT, 42, "42"),
        (TEXT, ["a", "b"], "['a', 'b']"),
        (TEXT, date(2020, 1, 2), "2020-01-02"),
        (TEXT, Path("/a/b"), "/a/b"),
        (FORMATS.JSON, {"a": [1, None, True]}, '{"a": [1, null, true]}'),
        (FORMATS.GEOJSON, [1, 2], "[1, 2]"),
    ],
)
def test_data_of_any_kind_is_written_as_pywps_writes_it(tmp_path: Path, form: Format, data: Any, text: str) -> None:
    def handler(request: Any, response: Any) -> None:
        response.outputs["out"].data = data

    value: Any = ran(tmp_path, handler, ComplexOutput("out", "Out", [form]))["out"]
    assert (tmp_path / value.path).read_text() == text


def test_what_json_cannot_say_is_told(tmp_path: Path) -> None:
    def handler(request: Any, response: Any) -> None:
        response.outputs["out"].data = {"a": Path()}

    with pytest.raises(OutputError, match="output 'out': TypeError"):
        ran(tmp_path, handler, ComplexOutput("out", "Out", [FORMATS.JSON]))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("https://example.org/a?b=c#d", "https://example.org/a?b=c#d"),
        ("https://example.org/a b/ü%20<c>", "https://example.org/a%20b/%C3%BC%20%3Cc%3E"),
    ],
)
def test_addresses_are_escaped(tmp_path: Path, data: str, text: str) -> None:
    """XML Schema part 2 §3.2.17: blanks and the like in an anyURI are escaped by who uses it as one."""

    def handler(request: Any, response: Any) -> None:
        response.outputs["out"].data = data

    value: Any = ran(tmp_path, handler, LiteralOutput("out", "Out", data_type="anyURI"))["out"]
    assert value.text == text


def test_no_output_takes_the_name_of_another(tmp_path: Path) -> None:
    def handler(request: Any, response: Any) -> None:
        for identifier, folder, name in (("a", "1", "x.txt"), ("b", "2", "c-x.txt"), ("c", "3", "x.txt")):
            path = Path(folder, name)
            path.parent.mkdir()
            path.write_text(identifier)
            response.outputs[identifier].file = str(path)

    found: Any = ran(tmp_path, handler, *(ComplexOutput(name, name, [TEXT]) for name in "abc"))
    assert [(tmp_path / found[name].path).read_text() for name in "abc"] == ["a", "b", "c"]


def test_an_address_of_a_file_is_one_of_the_jobs_own(tmp_path: Path) -> None:
    """Handlers pass on addresses that clients send; PyWPS downloads them, which it cannot do with a file's."""
    secret, own, shared = tmp_path / "secret.txt", tmp_path / "work" / "own.txt", tmp_path / "shared.txt"
    for path in (secret, own, shared):
        path.write_text(path.stem)

    def handler(request: Any, response: Any) -> None:
        response.outputs["out"].url = request.inputs["address"][0].data

    def run(path: Path) -> str:
        given = {
            "address": LiteralValue(path.as_uri(), "string"),
            "text": FileValue(str(shared), "text/plain", shared=True, size=6),
        }
        items = (LiteralInput("address", "A", data_type="string"), ComplexInput("text", "Text", [TEXT]))
        value: Any = ran(tmp_path, handler, *items, ComplexOutput("out", "Out", [TEXT]), given=given)["out"]
        return (tmp_path / value.path).read_text()

    assert run(own) == "own"
    assert run(shared) == "shared"
    (tmp_path / "work" / "link.txt").symlink_to(secret)
    for path in (secret, tmp_path / "work" / ".." / "secret.txt", tmp_path / "work" / "link.txt"):
        with pytest.raises(OutputError, match="output 'out'"):
            run(path)


# --- files behind a document -----------------------------------------------------------------------------------------


def linked(folder: Path, prepare: Callable[[Any, MetaFile], None], **more: Any) -> FileValue:
    """A metalink with one file, which ``prepare`` sets."""

    def handler(request: Any, response: Any) -> None:
        file = MetaFile("one", "One file", fmt=TEXT)
        prepare(request, file)
        link = MetaLink4("some", "Some files", workdir=str(folder / "work"), files=[file])
        response.outputs["links"].data = link.xml

    inputs = [ComplexInput("text", "Text", [TEXT], min_occurs=0)]
    found: Any = ran(folder, handler, *inputs, ComplexOutput("links", "Links", [FORMATS.META4]), **more)["links"]
    assert isinstance(found, FileValue)
    return found


def test_files_behind_a_document_may_have_any_name(tmp_path: Path) -> None:
    def prepare(request: Any, file: MetaFile) -> None:
        path = Path("a & b <ü>.txt")
        path.write_text("here")
        file.file = str(path)

    (part,) = linked(tmp_path, prepare).parts
    assert (tmp_path / part.path).read_text() == "here"


def test_a_clients_own_file_behind_a_document(tmp_path: Path) -> None:
    """It is a link in the working directory, and PyWPS's storage keeps links as links."""
    shared = tmp_path / "shared.txt"
    shared.write_text("shared")

    def prepare(request: Any, file: MetaFile) -> None:
        file.file = request.inputs["text"][0].file

    given = {"text": FileValue(str(shared), "text/plain", shared=True, size=6)}
    (part,) = linked(tmp_path, prepare, given=given).parts
    path = tmp_path / part.path
    assert (path.read_text(), path.is_symlink()) == ("shared", False)


def test_a_link_out_of_the_job_behind_a_document_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")

    def prepare(request: Any, file: MetaFile) -> None:
        Path("link.txt").symlink_to(secret)
        file.file = str(Path("link.txt"))

    with pytest.raises(OutputError, match=r"output 'links'.* link\.txt leads out of the job's folder"):
        linked(tmp_path, prepare)


def test_a_folder_that_the_handler_itself_filled(tmp_path: Path) -> None:
    """Some authors do what PyWPS's storage does by themselves: by ``outputpath`` and ``outputurl``."""

    def handler(request: Any, response: Any) -> None:
        value = pywps.configuration.get_config_value
        folder = Path(value("server", "outputpath"), "plots", "deep")
        folder.mkdir(parents=True)
        (folder / "plot.txt").write_text("here")
        (folder.parent / "nowhere").symlink_to("nothing")
        response.outputs["page"].data = f"<a href='{value('server', 'outputurl')}/plots/deep/plot.txt'/>"

    page: Any = ran(tmp_path, handler, ComplexOutput("page", "Page", [Format("text/html")]))["page"]
    assert [part.path for part in page.parts] == ["outputs/plots/deep/plot.txt"]
