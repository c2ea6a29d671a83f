"""PyWPS processes: what a module offers of them, how they travel, and what is read of their attributes."""

from __future__ import annotations

import errno
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pywps
import pywps.configuration
from pywps import FORMATS, BoundingBoxInput, ComplexInput, Format, LiteralInput, LiteralOutput, Process, Service
from pywps.inout.literaltypes import AllowedValue
from pywps.validator.mode import MODE

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import FileValue, LiteralValue
from tests.pywps_processes.made import greeter, power
from tests.pywps_processes.Shadowed import Shadowed
from wps_hpc import Container, ProcessError, Resources
from wps_hpc.processes import payload
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.processes.description import AllowedRange, DescriptionError, LiteralData
from wps_hpc.processes.payload import PROTOCOL
from wps_hpc.processes.pywps_process import PywpsProcess, adapted, found_in

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def configuration() -> Iterator[None]:
    """PyWPS's one configuration, put back after the test."""
    before = pywps.configuration.CONFIG
    pywps.configuration.load_configuration([])
    yield
    pywps.configuration.CONFIG = before


def simple(identifier: str = "simple", **more: Any) -> Process:
    """A process without more than it must have."""
    return Process(handle, identifier, identifier, outputs=[LiteralOutput("out", "Out")], **more)


def handle(request: Any, response: Any) -> None:
    """A handler that does nothing."""


def module_with(**attributes: Any) -> ModuleType:
    module = ModuleType("authors")
    for value in attributes.values():
        if isinstance(value, type) and value is not Process:
            value.__module__ = "authors"
    vars(module).update(attributes)
    return module


def names(module: ModuleType) -> list[str]:
    return [name for name, _ in found_in(module)]


def made(kind: str, bases: tuple[type, ...] = (Process,), **attributes: Any) -> Any:
    def __init__(self: Any) -> None:
        Process.__init__(self, handle, kind.lower(), kind, outputs=[LiteralOutput("out", "Out")])

    return type(kind, bases, {"__init__": __init__, **attributes})


# --- what a module offers --------------------------------------------------------------------------------------------


def test_classes_of_the_module_itself() -> None:
    assert names(module_with(One=made("One"), Process=Process)) == ["One"], "what is only imported is not offered"


def test_a_class_that_needs_arguments_is_none() -> None:
    class Needs(Process):
        def __init__(self, word: str) -> None:
            super().__init__(handle, word, word, outputs=[LiteralOutput("out", "Out")])

    module = module_with(Needs=Needs, one=Needs("one"), two=Needs("two"))
    assert names(module) == ["one", "two"]


def test_a_class_with_an_instance_at_hand_is_not_offered_twice() -> None:
    One = made("One")
    assert names(module_with(One=One, one=One(), again=None)) == ["one"]


def test_private_and_abstract_classes_are_not_offered() -> None:
    assert names(module_with(_Base=made("_Base"), One=made("One"))) == ["One"]


def test_a_service_offers_its_processes() -> None:
    One = made("One")
    found = dict(found_in(module_with(One=One, application=Service([One(), simple("two")]))))
    assert list(found) == ["application.processes['one']", "application.processes['two']"]


def test_lazy_objects_are_left_alone(tmp_path: Path) -> None:
    """What cannot say yet of which class it is (a proxy, say) is no process, and no reason not to look at the rest."""
    (tmp_path / "lazy.py").write_text(
        "from tests.unit.test_pywps_process import SHOWN as shown\n"
        "class Lazy:\n"
        "    @property\n"
        "    def __class__(self):\n"
        "        raise RuntimeError('not yet')\n"
        "lazy = Lazy()\n"
    )
    catalogue = Catalogue([], [tmp_path])
    catalogue.reload()
    assert [entry.description.identifier for entry in catalogue.entries()] == ["shown"]


def test_a_module_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "centre"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wsgi.py").write_text(
        "from pywps import Service\nfrom tests.pywps_processes.made import greeter, power\n"
        "application = Service([greeter('moin', 'Moin'), power(4)()])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    catalogue = Catalogue(["centre.wsgi"], [])
    catalogue.reload()
    assert catalogue.problems == {}
    assert [entry.description.identifier for entry in catalogue.entries()] == ["moin", "power_4"]


def test_a_file_in_a_watched_folder_travels_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(
        "from pywps import LiteralOutput, Process\n"
        "class Hello(Process):\n"
        "    def __init__(self):\n"
        "        super().__init__(self.handle, 'hello', 'Hello', outputs=[LiteralOutput('out', 'Out')])\n"
        "    def handle(self, request, response):\n"
        "        response.outputs['out'].data = 'hello'\n"
    )
    catalogue = Catalogue([], [tmp_path])
    catalogue.reload()
    assert catalogue.problems == {}
    entry = catalogue.get("hello")
    assert entry is not None
    assert (entry.loads, entry.module, entry.source) == (
        "source",
        "wps_hpc_source_hello",
        (tmp_path / "hello.py").read_bytes(),
    )


def test_what_cannot_be_offered_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from pywps import LiteralOutput, Process\n"
        "out = LiteralOutput('out', 'Out')\n"
        "none = Process(print, 'none', 'None')\n"
        "blank = Process(print, 'a blank', 'Blank', outputs=[out])\n"
        "class Breaks(Process):\n"
        "    def __init__(self):\n"
        "        raise RuntimeError('no licence')\n"
        "class Leaves(Process):\n"
        "    def __init__(self):\n"
        "        raise SystemExit(3)\n"
    )
    catalogue = Catalogue([], [tmp_path])
    catalogue.reload()
    (problem,) = catalogue.problems.values()
    assert "none: none: a process has at least one output" in problem
    assert "'a blank' is not an identifier" in problem
    assert "Breaks: Breaks() raises RuntimeError: no licence" in problem
    assert "Leaves: Leaves() raises SystemExit: 3" in problem


def test_a_process_that_is_made_wrongly_does_not_take_the_others_along(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        "from pywps import LiteralOutput, Process\n"
        "good = Process(print, 'good', 'Good', outputs=[LiteralOutput('out', 'Out')])\n"
        "words = Process(print, 'words', 'Words', outputs=[LiteralOutput('out', 'Out')], metadata=['no Metadata'])\n"
        "lost = Process(print, 'lost', 'Lost', outputs=[LiteralOutput('out', 'Out')], translations={'fr': None})\n"
    )
    catalogue = Catalogue([], [tmp_path])
    catalogue.reload()
    assert [entry.description.identifier for entry in catalogue.entries()] == ["good"]
    (problem,) = catalogue.problems.values()
    assert "words: it cannot be described: AttributeError" in problem
    assert "lost: it cannot be described: AttributeError" in problem


def test_a_process_that_two_modules_show_is_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text("from tests.unit.test_pywps_process import SHOWN as shown\n")
    catalogue = Catalogue([], [tmp_path])
    catalogue.reload()
    assert catalogue.problems == {}
    assert [entry.description.identifier for entry in catalogue.entries()] == ["shown"]


SHOWN = simple("shown")


def test_a_configuration_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYWPS_CFG", "")
    config = tmp_path / "pywps.cfg"
    config.write_text("no section = 1\n")
    catalogue = Catalogue([], [], [config])
    catalogue.reload()
    (problem,) = catalogue.problems.values()
    assert "PyWPS cannot be configured: MissingSectionHeaderError" in problem


def test_catalogues_of_several_threads_load_one_configuration_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The web side and the worker in one process (``wps-hpc run``): PyWPS builds its configuration in place."""
    monkeypatch.setenv("PYWPS_CFG", "")
    config = tmp_path / "pywps.cfg"
    config.write_text("[centre]\nmotto = festina lente\n")
    (tmp_path / "here.py").write_text("from tests.unit.test_pywps_process import SHOWN as shown\n")

    def load(_: int) -> dict[str, str]:
        catalogue = Catalogue([], [tmp_path], [config])
        catalogue.reload()
        entry: Any = catalogue.get("shown")
        assert dict(catalogue.problems) == {}
        return dict(entry.runnable.configuration["centre"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(load, range(40))) == [{"motto": "festina lente"}] * 40


# --- how they travel -------------------------------------------------------------------------------------------------

RUN = """
import sys, uuid, logging
from pathlib import Path
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import LiteralValue
from wps_hpc.processes import payload
from wps_hpc.processes.description import Resources
from wps_hpc.processes.run import Job, RunFolders

folder = Path(sys.argv[1])
process = payload.load((folder / "payload").read_bytes(), loads=sys.argv[2], module=None, source=None)
(folder / "work").mkdir(); (folder / "outputs").mkdir()
identifier = process.description.identifier
name, text = sys.argv[3:]
request = RequestRecord(identifier, {name: (LiteralValue(text, process.description.input(name).data.data_type),)})
job = Job(str(uuid.uuid4()), folder / "work", Resources(), logging.getLogger(), "en-US", lambda *_: None, print)
outputs = process.run(request, job, RunFolders(JobFolder(folder), folder / "work", folder / "outputs"))
print(*(value.text for values in outputs.values() for value in values))
"""


def run_elsewhere(process: Process | type[Process], folder: Path, name: str, text: str) -> tuple[str, str]:
    """How the payload loads, and what a run in a fresh interpreter prints."""
    content, loads, _ = payload.dump(adapted(process))
    (folder / "payload").write_bytes(content)
    command = [sys.executable, "-c", RUN, str(folder), loads, name, text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return loads, done.stdout.strip()


def test_a_class_travels_by_its_name(tmp_path: Path) -> None:
    content, loads, _ = payload.dump(adapted(Shadowed))
    assert loads == "reference"
    assert b"_create_code" not in content
    assert run_elsewhere(Shadowed, tmp_path, "number", "21") == ("reference", "42")


def test_an_instance_travels_with_what_it_was_made_of(tmp_path: Path) -> None:
    assert run_elsewhere(greeter("moin", "Moin"), tmp_path, "name", "Ada") == ("value", "Moin Ada")


def test_a_class_that_no_name_leads_to(tmp_path: Path) -> None:
    assert run_elsewhere(power(3)(), tmp_path, "number", "2") == ("value", "8.0")


def test_pywps_itself_never_travels() -> None:
    """Its package hides modules behind classes of the same name, which dill takes for lost and copies."""
    for process in (greeter("moin", "Moin"), power(3)(), Shadowed()):
        content, _, _ = payload.dump(adapted(process))
        assert b"PyWPS Request accepted" not in content
        assert b"get_request_parser" not in content
        assert len(content) < 6000


def test_no_handler_of_an_input_loses_its_owner() -> None:
    """PyWPS's inputs hold weak references to themselves; a default sits in one of them."""
    process = Process(
        handle,
        "defaults",
        "Defaults",
        inputs=[LiteralInput("number", "Number", data_type="integer", default=5, min_occurs=0)],
        outputs=[LiteralOutput("out", "Out")],
    )
    content, loads, module = payload.dump(adapted(process))
    loaded: Any = payload.load(content, loads=loads, module=module, source=None)
    (source,) = loaded.process.inputs
    assert source._iohandler._ref() is source
    assert source.data == 5


def test_the_configuration_travels_along_and_wins(tmp_path: Path) -> None:
    """A module that makes a Service when it is imported replaces the configuration of its whole process."""
    config = tmp_path / "pywps.cfg"
    config.write_text("[centre]\nmotto = festina lente\n[logging]\nformat = %(message)s\n")
    pywps.configuration.load_configuration([str(config)])
    process = adapted(simple())
    pywps.configuration.load_configuration([])
    (tmp_path / "work").mkdir()
    from wps_hpc.processes.pywps_run import configure

    configure(process.configuration, tmp_path / "work", tmp_path / "outputs", "https://example.org/outputs/1")
    value = pywps.configuration.get_config_value
    assert value("centre", "motto") == "festina lente"
    assert value("server", "workdir") == str(tmp_path / "work")
    assert value("server", "outputurl") == "https://example.org/outputs/1"
    assert value("logging", "database") == "sqlite:///:memory:"
    assert "PATH" not in {name.upper() for options in process.configuration.values() for name in options} - {"PATH"}


def test_no_payload_has_the_password_of_pywps_database(tmp_path: Path) -> None:
    """Job folders are the job's own account's, and nothing of PyWPS opens that database there."""
    config = tmp_path / "pywps.cfg"
    config.write_text("[logging]\ndatabase = postgresql://wps:s3cr3t@db/wps\nlevel = INFO\n[centre]\nmotto = festina\n")
    pywps.configuration.load_configuration([str(config)])
    content, _, _ = payload.dump(adapted(simple()))
    assert b"s3cr3t" not in content
    assert b"festina" in content


def test_another_release_on_the_node_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, loads, module = payload.dump(adapted(Shadowed))
    monkeypatch.setattr(pywps, "__version__", "4.2.0")
    payload.load(content, loads=loads, module=module, source=None)
    assert "pywps 4.2.0 here" in capsys.readouterr().err


def test_the_protocol_is_what_every_node_reads() -> None:
    content, _, _ = payload.dump(adapted(simple()))
    assert content[:2] == bytes([0x80, PROTOCOL])


# --- what is read of them --------------------------------------------------------------------------------------------


def literal(**more: Any) -> LiteralData:
    """The data of a literal input."""
    process = adapted(
        Process(handle, "p", "P", inputs=[LiteralInput("i", "I", **more)], outputs=[LiteralOutput("o", "O")])
    )
    data = process.description.inputs[0].data
    assert isinstance(data, LiteralData)
    return data


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, 2.5], ("1", "2.5")),
        ([(1, 5)], (AllowedRange("1", "5"),)),
        ([(0, 0.5, 2)], (AllowedRange("0", "2", spacing="0.5"),)),
        (AllowedValue(minval=0, maxval=0), (AllowedRange("0", "0"),)),
        (AllowedValue(minval=1, maxval=2, range_closure="open"), (AllowedRange("1", "2", "open"),)),
    ],
)
def test_allowed_values(given: Any, expected: Any) -> None:
    assert literal(data_type="float", allowed_values=given).allowed == expected


def test_a_mode_of_none_leaves_values_unchecked() -> None:
    assert literal(data_type="integer", allowed_values=[1], mode=MODE.NONE, default=2).advisory
    assert not literal(data_type="integer", allowed_values=[1]).advisory


@pytest.mark.parametrize(
    ("data_type", "default", "text"),
    [
        ("boolean", False, "false"),
        ("boolean", "yes", "true"),
        ("integer", 0, "0"),
        ("anyURI", "https://example.org/a", "https://example.org/a"),
        ("anyURI", "https://example.org/a b", "https://example.org/a%20b"),
        ("dateTime", "2020-01-01 12:00", "2020-01-01T12:00:00"),
        ("string", "", ""),
    ],
)
def test_defaults_in_the_form_of_their_type(data_type: str, default: Any, text: str) -> None:
    assert literal(data_type=data_type, default=default).default == text


def test_unbounded_and_other_numbers_of_times() -> None:
    inputs = [LiteralInput("one", "One", max_occurs=None), ComplexInput("two", "Two", [FORMATS.JSON], min_occurs="0")]
    described = adapted(simple(inputs=inputs)).description.inputs
    assert [(item.min_occurs, item.max_occurs) for item in described] == [(1, None), (0, 1)]


def test_the_default_format_comes_first() -> None:
    given = ComplexInput("in", "In", [FORMATS.JSON, FORMATS.XML], data_format=FORMATS.XML)
    data: Any = adapted(simple(inputs=[given])).description.inputs[0].data
    assert [item.mime_type for item in data.formats] == ["application/xml", "application/json"]


def test_bounding_boxes_keep_their_systems() -> None:
    data: Any = (
        adapted(simple(inputs=[BoundingBoxInput("box", "Box", crss=["EPSG:3857", "EPSG:4326"])]))
        .description.inputs[0]
        .data
    )
    assert data.crss == ("EPSG:3857", "EPSG:4326")


def test_attributes_that_pywps_does_not_know() -> None:
    process: Any = simple()
    process.resources, process.sync, process.restartable = Resources(cores=4), "cluster", True
    process.container = Container("/images/a.sif")
    found = adapted(process).description
    assert (found.resources, found.sync, found.restartable) == (Resources(cores=4), "cluster", True)
    assert found.container == Container("/images/a.sif")


def test_a_default_outside_of_the_allowed_names_the_input() -> None:
    broken = LiteralInput("i", "I", data_type="integer", allowed_values=[1])
    broken.allowed_values[0].value = "many"
    with pytest.raises(DescriptionError, match="input 'i': 'many' is not an integer"):
        adapted(simple(inputs=[broken]))


# --- validators ------------------------------------------------------------------------------------------------------


def test_validators_are_asked_before_the_job_is_accepted(tmp_path: Path) -> None:
    process = adapted(simple(inputs=[ComplexInput("json", "JSON", [FORMATS.JSON], mode=MODE.STRICT)]))
    job = JobFolder(tmp_path)
    (tmp_path / "a.json").write_text("[1, 2")
    request = RequestRecord("simple", {"json": (FileValue("a.json", "application/json"),)})
    with pytest.raises(ProcessError, match="Input 'json'") as caught:
        process.resources_for(request, job)
    assert (caught.value.code, caught.value.locator) == ("InvalidParameterValue", "json")
    (tmp_path / "a.json").write_text("[1, 2]")
    assert process.resources_for(request, job) == Resources()


def test_converters_are_asked_too(tmp_path: Path) -> None:
    process = adapted(simple(inputs=[LiteralInput("address", "Address", data_type="anyURI")]))
    request = RequestRecord("simple", {"address": (LiteralValue("nowhere", "anyURI"),)})
    with pytest.raises(ProcessError, match="anyURI"):
        process.resources_for(request, JobFolder(tmp_path))


def _raises(error: BaseException) -> Process:
    def validate(item: Any, mode: int) -> bool:
        raise error

    text = Format("text/plain", validate=validate)
    return simple(inputs=[ComplexInput("text", "Text", [text], mode=MODE.SIMPLE)])


@pytest.mark.parametrize("error", [KeyError("a"), OSError("/srv/secret"), RecursionError(), SystemExit(4)])
def test_a_validator_that_raises_whatever_refuses_the_input(tmp_path: Path, error: BaseException) -> None:
    """What a client sends must neither end the server nor show it what only the operator may read."""
    (tmp_path / "a.txt").write_text("a")
    request = RequestRecord("simple", {"text": (FileValue("a.txt", "text/plain"),)})
    with pytest.raises(ProcessError, match="Input 'text': it is not") as caught:
        adapted(_raises(error)).resources_for(request, JobFolder(tmp_path))
    assert (caught.value.code, caught.value.locator) == ("InvalidParameterValue", "text")
    assert "secret" not in caught.value.text


def test_deep_json_is_refused(tmp_path: Path) -> None:
    process = adapted(simple(inputs=[ComplexInput("json", "JSON", [FORMATS.JSON], mode=MODE.STRICT)]))
    (tmp_path / "a.json").write_text("[" * 100_000)
    request = RequestRecord("simple", {"json": (FileValue("a.json", "application/json"),)})
    with pytest.raises(ProcessError, match="Input 'json'"):
        process.resources_for(request, JobFolder(tmp_path))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), MemoryError()])
def test_a_server_without_room_is_not_the_inputs_fault(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "a.txt").write_text("a")
    request = RequestRecord("simple", {"text": (FileValue("a.txt", "text/plain"),)})
    with pytest.raises(type(error)):
        adapted(_raises(error)).resources_for(request, JobFolder(tmp_path))


def test_a_process_is_equal_to_itself_alone() -> None:
    one, two = simple(), simple()
    assert adapted(one) == adapted(one)
    assert adapted(one) != adapted(two)
    assert len({adapted(one), adapted(one), adapted(two)}) == 2
    assert isinstance(adapted(one), PywpsProcess)
    assert uuid.UUID(int=0) != adapted(one)
