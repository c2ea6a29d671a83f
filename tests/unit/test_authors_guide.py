"""Every Python block of the author's guide is a file of its own: it is loaded as one, and its process is called."""

import json
import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import FileValue
from wps_hpc import BoundingBox, ComplexInput, FunctionProcess, Job, ProcessError, Quantity, Resources
from wps_hpc.processes.description import NestedInputs

GUIDE = Path(__file__).parents[2] / "docs" / "authors-guide.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def load(block: str, name: str) -> FunctionProcess:
    """The one process of a block."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(block, str(GUIDE), "exec"), vars(module))
    (found,) = [value for value in vars(module).values() if isinstance(value, FunctionProcess)]
    return found


@pytest.fixture(scope="module")
def snippets() -> Iterator[dict[str, FunctionProcess]]:
    """All processes of the guide, by identifier."""
    names = [f"authors_guide_{number}" for number in range(len(BLOCKS))]
    found = [load(block, name) for block, name in zip(BLOCKS, names, strict=True)]
    yield {process.description.identifier: process for process in found}
    for name in names:
        del sys.modules[name]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run in its own working directory; reports and time warnings are kept in nothing."""
    monkeypatch.chdir(tmp_path)
    return Job(
        id="1",
        workdir=tmp_path,
        resources=Resources(),
        logger=logging.getLogger("guide"),
        language="en-US",
        report=lambda percent, message: None,
        on_time_warning=lambda call: None,
    )


def test_the_guide_has_a_block_for_each_subject(snippets: dict[str, FunctionProcess]) -> None:
    assert list(snippets) == ["reverse", "literals", "kinds", "summarise", "count_bytes", "primes", "sort_lines"]


def test_every_block_says_everything_to_people(snippets: dict[str, FunctionProcess]) -> None:
    for process in snippets.values():
        description = process.description
        assert description.title != description.identifier
        assert description.abstract
        for item in (*description.inputs, *description.outputs):
            assert item.abstract, f"{description.identifier}: {item.identifier}"


def test_first_process(snippets: dict[str, FunctionProcess]) -> None:
    assert snippets["reverse"](text="abc") == "cba"


def test_literals(snippets: dict[str, FunctionProcess]) -> None:
    said = snippets["literals"](name="x", heights=[1.0, 2.0], tolerance=Quantity(3.0, "ft"))
    assert said == "x [1.0, 2.0] linear 0.5 0 None 3.0 ft"
    occurs = {item.identifier: (item.min_occurs, item.max_occurs) for item in snippets["literals"].description.inputs}
    assert occurs["heights"] == (1, 10)
    assert occurs["since"] == (0, 1)


def test_kinds(snippets: dict[str, FunctionProcess], tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    picture = ComplexInput(tmp_path / "picture.png", "image/png")
    said = snippets["kinds"](table=table, settings={"a": 1}, picture=picture, region=BoundingBox((1, 2), (3, 4)))
    assert said == "2 lines, 1 settings, image/png, from (1, 2) to (3, 4), nobody"
    sender = snippets["kinds"].description.input("sender")
    assert sender is not None
    assert isinstance(sender.data, NestedInputs)


@pytest.mark.parametrize(("mime_type", "suffix"), [("text/csv", ".csv"), ("application/json", ".json")])
def test_several_outputs(snippets: dict[str, FunctionProcess], job: Job, mime_type: str, suffix: str) -> None:
    job = Job(**{**vars(job), "wanted": {"table": WantedOutput("table", mime_type)}})
    summary: Any = snippets["summarise"](numbers=[1.0, 200.0], job=job)
    assert (summary.mean, summary.largest, summary.table.suffix) == (100.5, 200.0, suffix)
    assert [output.identifier for output in snippets["summarise"].description.outputs] == ["mean", "largest", "table"]
    if suffix == ".json":
        assert json.loads(summary.table.read_text()) == [[1, 1], [200, 40000]]
    else:
        assert summary.table.read_text().split() == ["1.0,1.0", "200.0,40000.0"]


def test_resources_of_the_inputs(snippets: dict[str, FunctionProcess], tmp_path: Path) -> None:
    (tmp_path / "raster.tif").write_bytes(b"x" * 2**21)
    given = {"raster": (FileValue("raster.tif", "image/tiff"),)}
    needed = snippets["count_bytes"].resources_for(RequestRecord("count_bytes", given), JobFolder(tmp_path))
    assert needed == Resources(cores=1, memory_mb=256 + 8)


def test_progress_and_time_warning(snippets: dict[str, FunctionProcess], job: Job) -> None:
    told: list[float] = []
    warnings: list[Any] = []
    watched = Job(
        **{**vars(job), "report": lambda percent, message: told.append(percent), "on_time_warning": warnings.append}
    )
    found = snippets["primes"](below=3000, job=watched).read_text().split()
    assert found[:5] == ["2", "3", "5", "7", "11"]
    assert len(found) == 430
    assert told == pytest.approx([100 / 3, 200 / 3])
    assert len(warnings) == 1


def test_an_error_that_the_client_reads(snippets: dict[str, FunctionProcess], job: Job) -> None:
    with pytest.raises(ProcessError, match="at least 3") as caught:
        snippets["primes"](below=2, job=job)
    assert (caught.value.code, caught.value.locator) == ("InvalidParameterValue", "below")


@pytest.mark.parametrize(("unique", "lines"), [(False, ["a", "b", "b"]), (True, ["a", "b"])])
def test_a_command_line(
    snippets: dict[str, FunctionProcess], job: Job, tmp_path: Path, unique: bool, lines: list[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("b\na\nb\n")
    assert snippets["sort_lines"](text=text, unique=unique).read_text().split() == lines
