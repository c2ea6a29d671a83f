"""@process: what a signature says of a process, and how values reach the function and come back."""

from __future__ import annotations

import enum
import json
import logging
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, List, Literal, NamedTuple, Optional, Tuple, TypedDict  # noqa: UP035

import pytest

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, NestedValue, Value
from wps_hpc import (
    BoundingBox,
    ComplexInput,
    ComplexOutput,
    DescriptionError,
    Duration,
    Job,
    Metadata,
    ProcessError,
    Quantity,
    Resources,
    Translation,
    formats,
    inputs,
    outputs,
    process,
)
from wps_hpc.processes.description import (
    AllowedRange,
    BoundingBoxData,
    ComplexData,
    Input,
    LiteralData,
    NestedInputs,
    NestedOutputs,
)
from wps_hpc.processes.functions import FunctionProcess
from wps_hpc.processes.run import OutputError, RunFolders


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Period(enum.Enum):
    DAY = timedelta(days=1)
    WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Point:
    """A place.

    Attributes:
        x: Eastward.
    """

    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


class Line(TypedDict):
    start: Point
    name: str | None


class Statistics(NamedTuple):
    """What was found."""

    mean: Annotated[float, outputs.literal(uom=["K"], abstract="The mean.")]
    count: int
    histogram: Annotated[Path | None, outputs.complex(formats.CSV, identifier="hist")] = None


@dataclass
class Corner:
    x: float
    y: float


@dataclass
class Place:
    where: Corner
    box: BoundingBox


@process(
    title="Buffer",
    version="1.2.0",
    keywords=["vector"],
    metadata=[("Manual", "https://example.org/manual")],
    translations={"fr": ("Tampon", "Un tampon.")},
    resources=Resources(cores=1, memory_mb=512, walltime_s=600),
    sync="cluster",
)
def buffer(
    features: Annotated[Path, inputs.complex(formats.GEOJSON, maximum_megabytes=20)],
    distance: Annotated[float, inputs.literal(uom="m", minimum=0, closure="open", title="How far")] = 1000.0,
    job: Job = None,  # type: ignore[assignment]
) -> Annotated[Path, outputs.complex(formats.GEOJSON, formats.KML)]:
    """Not the title.

    The abstract.

    Args:
        features: What to buffer.

    Returns:
        Buffered features.
    """
    result = job.workdir / "result.geojson"
    result.write_text(f"{features.read_text()} {distance}")
    return result


# --- running one -----------------------------------------------------------------------------------------------------


class Run:
    """A job folder in which functions run."""

    def __init__(self, path: Path) -> None:
        attempt = JobFolder(path).attempt(1)
        self.folders = RunFolders(JobFolder(path), attempt.work, attempt.outputs)
        self.path = path
        for folder in (attempt.work, attempt.outputs, path / "inputs"):
            folder.mkdir(parents=True)
        self.job = Job("1", attempt.work, Resources(), logging.getLogger("test"), "en", _ignore, _ignore)

    def file(self, content: str | bytes, **fields: Any) -> FileValue:
        """An input file in the job folder."""
        (self.path / "inputs" / "0").write_bytes(content.encode() if isinstance(content, str) else content)
        return FileValue("inputs/0", **{"mime_type": "application/geo+json", **fields})

    def __call__(self, runnable: FunctionProcess, *wanted: WantedOutput, **given: Value | tuple[Value, ...]) -> Any:
        every = {name: value if isinstance(value, tuple) else (value,) for name, value in given.items()}
        request = RequestRecord(runnable.description.identifier, every, wanted)
        return runnable.run(request, self.job, self.folders)

    def read(self, value: Value) -> str:
        """The content of an output file."""
        assert isinstance(value, FileValue)
        assert value.path.startswith("outputs/")
        written = self.folders.outputs.parent / value.path
        assert value.size == written.stat().st_size
        return written.read_text("utf-8")


def _ignore(*_: object) -> None:
    """Reports and warnings of these runs go nowhere."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "job")


def described(annotation: Any, default: Any = ...) -> Input:
    """The input that a parameter with that annotation becomes."""

    def function(x):  # type: ignore[no-untyped-def]
        """Title."""

    function.__annotations__ = {"x": annotation, "return": str}
    function.__defaults__ = None if default is ... else (default,)
    return process()(function).description.inputs[0]


def text(value: str, data_type: str = "string", uom: str | None = None) -> LiteralValue:
    return LiteralValue(value, data_type, uom)


# --- descriptions ----------------------------------------------------------------------------------------------------


def test_words_come_from_decorator_then_docstring() -> None:
    found = buffer.description
    assert (found.identifier, found.title, found.abstract, found.version) == (
        "buffer",
        "Buffer",
        "The abstract.",
        "1.2.0",
    )
    assert found.keywords == ("vector",)
    assert found.metadata == (Metadata("Manual", "https://example.org/manual"),)
    assert found.translations == (Translation("fr", "Tampon", "Un tampon."),)
    assert (found.sync, found.resources.memory_mb) == ("cluster", 512)


def test_inputs_and_outputs_of_a_function() -> None:
    features, distance = buffer.description.inputs
    assert features.data == ComplexData((formats.GEOJSON,), 20)
    assert (features.title, features.abstract, features.min_occurs) == ("features", "What to buffer.", 1)
    assert distance.data == LiteralData("double", (AllowedRange("0.0", None, "open"),), None, "1000.0", ("m",))
    assert (distance.title, distance.min_occurs, distance.max_occurs) == ("How far", 0, 1)
    (result,) = buffer.description.outputs
    assert (result.identifier, result.abstract) == ("result", "Buffered features.")
    assert result.data == ComplexData((formats.GEOJSON, formats.KML))


@pytest.mark.parametrize(
    ("annotation", "data_type"),
    [
        (bool, "boolean"),
        (int, "integer"),
        (float, "double"),
        (str, "string"),
        (date, "date"),
        (time, "time"),
        (datetime, "dateTime"),
        (timedelta, "duration"),
        (Duration, "duration"),
        (Quantity, "double"),
        (Literal[1, 2], "integer"),
        (Colour, "string"),
        (Period, "duration"),
        (Annotated[int, inputs.literal(data_type="positiveInteger")], "positiveInteger"),
        (Annotated[float, inputs.literal(data_type="angle")], "angle"),
        (Annotated[str, inputs.literal(data_type="anyURI")], "anyURI"),
        (Annotated[str, inputs.literal(data_type="dateTime")], "dateTime"),
    ],
)
def test_literal_types(annotation: Any, data_type: str) -> None:
    found = described(annotation)
    assert isinstance(found.data, LiteralData)
    assert found.data.data_type == data_type


@pytest.mark.parametrize(
    ("annotation", "default", "occurs"),
    [
        (int, ..., (1, 1)),
        (int, 5, (0, 1)),
        (int | None, ..., (0, 1)),
        (int | None, None, (0, 1)),
        (list[int], ..., (1, None)),
        (list[int], (), (0, None)),
        (tuple[int, ...], ..., (1, None)),
        (list[int] | None, ..., (0, None)),
        (list[Annotated[int, inputs.literal(max_occurs=3)]], ..., (1, 3)),
        (Annotated[list[int], inputs.literal(min_occurs=2, max_occurs="unbounded")], ..., (2, None)),
        (Annotated[Path | None, inputs.complex(formats.JSON)], ..., (0, 1)),
        (Optional[Annotated[Path, inputs.complex(formats.JSON)]], ..., (0, 1)),  # noqa: UP045
        (Optional[List[int]], ..., (0, None)),  # noqa: UP006, UP045
        (Tuple[int, ...], ..., (1, None)),  # noqa: UP006
        (Sequence[int], ..., (1, None)),
        (Annotated[list[Path], inputs.complex(formats.JSON)], ..., (1, None)),
        (Annotated[list, inputs.complex(formats.JSON)], ..., (1, 1)),
        (BoundingBox, ..., (1, 1)),
    ],
)
def test_occurrences(annotation: Any, default: Any, occurs: tuple[int, int | None]) -> None:
    found = described(annotation, default)
    assert (found.min_occurs, found.max_occurs) == occurs


def test_allowed_values_in_all_spellings() -> None:
    wish = inputs.literal(
        allowed=["2024-01-01", date(2024, 2, 1), inputs.between(None, date(2020, 1, 1), "open", "P1D")]
    )
    found = described(Annotated[date, wish]).data
    assert isinstance(found, LiteralData)
    assert found.allowed == ("2024-01-01", "2024-02-01", AllowedRange(None, "2020-01-01", "open", "P1D"))
    pairs = described(Annotated[int, inputs.literal(allowed=[(1, 5), (10, 2, 20)])]).data
    assert isinstance(pairs, LiteralData)
    assert pairs.allowed == (AllowedRange("1", "5"), AllowedRange("10", "20", spacing="2"))
    assert described(Literal["b", "a"]).data == LiteralData("string", ("b", "a"))
    assert described(Colour, Colour.GREEN).data == LiteralData("string", ("red", "green"), None, "green")


def test_bounding_boxes_and_nested_inputs() -> None:
    assert described(BoundingBox).data == BoundingBoxData((inputs.CRS84,))
    assert described(Annotated[BoundingBox, inputs.bounding_box("EPSG:4326", "EPSG:3857")]).data == BoundingBoxData(
        ("EPSG:4326", "EPSG:3857")
    )
    nested = described(Annotated[list[Line], inputs.nested(title="Lines")])
    assert (nested.title, nested.max_occurs) == ("Lines", None)
    assert isinstance(nested.data, NestedInputs)
    start, name = nested.data.inputs
    assert (start.identifier, name.identifier, name.min_occurs) == ("start", "name", 0)
    assert isinstance(start.data, NestedInputs)
    x, y, tags = start.data.inputs
    assert (x.abstract, x.min_occurs, y.data, tags.max_occurs) == (
        "Eastward.",
        1,
        LiteralData("double", default="0.0"),
        None,
    )


def test_several_outputs() -> None:
    @process(identifier="org.example.stats")
    def stats() -> Statistics:
        """Count.

        Returns:
            count: How many.
        """
        return Statistics(1.5, 3)

    assert stats.description.identifier == "org.example.stats"
    mean, count, histogram = stats.description.outputs
    assert (mean.abstract, mean.data) == ("The mean.", LiteralData("double", uoms=("K",)))
    assert (count.abstract, count.optional) == ("How many.", False)
    assert (histogram.identifier, histogram.optional) == ("hist", True)


def test_nested_outputs() -> None:
    @process()
    def find() -> Place:
        """Find."""
        raise NotImplementedError

    where, box = find.description.outputs
    assert isinstance(where.data, NestedOutputs)
    assert [item.identifier for item in where.data.outputs] == ["x", "y"]
    assert isinstance(box.data, BoundingBoxData)


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (Path, ..., "formats"),
        (dict, ..., "formats"),
        (complex, ..., "complex is not a type"),
        (int | str, ..., "not a type"),
        (list, ..., "formats"),
        (list[list[int]], ..., "formats"),
        (Literal["a", 1], ..., "one type"),
        (int, "five", "'five'"),
        (int, 1.5, "1.5"),
        (Annotated[int, inputs.literal(minimum=1)], 0, "default '0'"),
        (Annotated[int, inputs.literal(data_type="double")], ..., "cannot hold"),
        (Annotated[float, inputs.literal(data_type="real")], ..., "'real'"),
        (Annotated[float, inputs.literal(minimum="low")], ..., "'low'"),
        (Annotated[float, inputs.literal(minimum=2, maximum=1)], ..., "empty"),
        (Annotated[float, inputs.literal(minimum=0, closure="half")], ..., "closure"),
        (Annotated[float, inputs.literal(uom=["m", "km"])], ..., "Quantity"),
        (Annotated[Path, inputs.literal()], ..., "literal type"),
        (Annotated[Path, inputs.complex()], ..., "format"),
        (Annotated[float, inputs.complex(formats.JSON)], ..., "float"),
        (Annotated[float, inputs.bounding_box()], ..., "BoundingBox"),
        (Annotated[float, inputs.nested()], ..., "fields"),
        (Annotated[int, inputs.literal(max_occurs=2)], ..., "List"),
        (Annotated[list[int], inputs.literal(max_occurs="many")], ..., "many"),
        (Annotated[list[int], inputs.literal(min_occurs=3, max_occurs=2)], ..., "from 3 to 2"),
        (Annotated[int, inputs.literal(identifier="a b")], ..., "'a b'"),
        ("Nowhere", ..., "Nowhere"),
    ],
)
def test_what_cannot_be_described_is_refused_by_name(annotation: Any, default: Any, words: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        described(annotation, default)
    assert words in str(caught.value)
    assert "function" in str(caught.value)
    assert "'x'" in str(caught.value) or "x" in str(caught.value).split() or words in ("Nowhere", "'a b'")


def _no_output() -> None:
    """Nothing."""


def _unsaid():  # type: ignore[no-untyped-def]
    """Nothing."""


def _starred(*values: int) -> int:
    return len(values)


def _bare(x) -> int:  # type: ignore[no-untyped-def]
    return int(x)


def _list_of_numbers() -> list[int]:
    return []


def _twice(a: int, b: Annotated[int, inputs.literal(identifier="a")]) -> int:
    return a + b


async def _later() -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_no_output, "at least one output"),
        (_unsaid, "at least one output"),
        (_starred, "'values'"),
        (_bare, "'x'"),
        (_list_of_numbers, "return"),
        (_twice, "twice"),
        (_later, "coroutine"),
    ],
)
def test_functions_that_are_no_process(function: Any, words: str) -> None:
    with pytest.raises(DescriptionError, match=words) as caught:
        process()(function)
    assert function.__name__ in str(caught.value)


def test_options_are_checked() -> None:
    def function(x: int) -> int:
        return x

    with pytest.raises(DescriptionError, match="sync"):
        process(sync="sometimes")(function)
    with pytest.raises(DescriptionError, match="identifier"):
        process(identifier="no/slash")(function)
    with pytest.raises(DescriptionError, match="functions"):
        process()(Point)


# --- arguments -------------------------------------------------------------------------------------------------------


def test_a_process_is_still_the_function() -> None:
    @process()
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    assert double(4) == double(x=4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_a_whole_run(run: Run) -> None:
    found = run(buffer, features=run.file("{}"), distance=text("5", "double"))
    (result,) = found["result"]
    assert result == FileValue("outputs/result.geojson", "application/geo+json", size=6)
    assert run.read(result) == "{} 5.0"


def arrives(run: Run, annotation: Any, *values: Value, default: Any = ...) -> Any:
    """What a parameter with that annotation is called with."""
    seen = []

    def function(x):  # type: ignore[no-untyped-def]
        """Title."""
        seen.append(x)
        return "done"

    function.__annotations__ = {"x": annotation, "return": str}
    function.__defaults__ = None if default is ... else (default,)
    made = process()(function)
    assert run(made, **({"x": values} if values else {})) == {"result": (text("done"),)}
    return seen[0]


@pytest.mark.parametrize(
    ("annotation", "sent", "expected"),
    [
        (bool, "1", True),
        (int, "5", 5),
        (float, "5", 5.0),
        (str, " as is ", " as is "),
        (datetime, "2024-01-01T00:00:00", datetime(2024, 1, 1)),
        (timedelta, "PT36H", timedelta(hours=36)),
        (Duration, "P1M", Duration(months=1)),
        (Colour, "red", Colour.RED),
        (Period, "P7D", Period.WEEK),
        (Literal[1, 2], "2", 2),
        (Quantity, "5", Quantity(5.0)),
        (Annotated[str, inputs.literal(data_type="dateTime")], "2024-01-01 00:00:00", "2024-01-01T00:00:00"),
    ],
)
def test_literals_arrive_in_python_types(run: Run, annotation: Any, sent: str, expected: object) -> None:
    found = arrives(run, annotation, text(sent))
    assert found == expected
    assert type(found) is type(expected)


def test_a_quantity_has_its_unit(run: Run) -> None:
    annotation = Annotated[Quantity, inputs.literal(uom=["m", "km"])]
    assert arrives(run, annotation, text("5", "double", "km")) == Quantity(5.0, "km")
    assert arrives(run, annotation, text("5", "double")) == Quantity(5.0, "m")


def test_lists_and_absent_inputs(run: Run) -> None:
    assert arrives(run, list[int], text("1"), text("2")) == [1, 2]
    assert arrives(run, list[int] | None) == []
    assert arrives(run, int | None) is None
    assert arrives(run, int, default=7) == 7


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (bytes, b'{"a": "\xc3\xa9"}'),
        (str, '{"a": "é"}'),
        (dict, {"a": "é"}),
        (dict[str, str], {"a": "é"}),
        (Any, {"a": "é"}),
    ],
)
def test_complex_inputs_arrive_as_asked(run: Run, kind: Any, expected: object) -> None:
    value = run.file('{"a": "é"}')
    assert arrives(run, Annotated[kind, inputs.complex(formats.GEOJSON)], value) == expected


def test_complex_inputs_as_files(run: Run, tmp_path: Path) -> None:
    value = run.file("é".encode("latin-1"), encoding="latin-1", schema="s")
    path = arrives(run, Annotated[Path, inputs.complex(formats.CSV)], value)
    assert path == run.path / "inputs" / "0"
    given = arrives(run, Annotated[ComplexInput, inputs.complex(formats.CSV)], value)
    assert given == ComplexInput(path, "application/geo+json", "latin-1", "s")
    assert (given.read_text(), given.read_bytes()) == ("é", b"\xe9")
    shared = FileValue(str(tmp_path / "big.nc"), "application/x-netcdf", shared=True)
    assert arrives(run, Annotated[Path, inputs.complex(formats.NETCDF)], shared) == tmp_path / "big.nc"


def test_boxes_and_nested_values_arrive(run: Run) -> None:
    box = BoundingBoxValue((1.0, 2.0), (3.0, 4.0))
    assert arrives(run, BoundingBox, box) == BoundingBox((1.0, 2.0), (3.0, 4.0), inputs.CRS84)
    assert arrives(run, BoundingBox, replace(box, crs="EPSG:4326")).crs == "EPSG:4326"
    point = NestedValue({"x": (text("1"),), "tags": (text("a"), text("b"))})
    assert arrives(run, Point, point) == Point(1.0, 0.0, ["a", "b"])
    line = NestedValue({"start": (point,)})
    assert arrives(run, Line, line) == {"start": Point(1.0, 0.0, ["a", "b"]), "name": None}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, text("five")),
        (timedelta, text("P1M")),
        (int, BoundingBoxValue((0.0,), (1.0,))),
        (BoundingBox, text("0,0,1,1")),
        (Annotated[Path, inputs.complex(formats.JSON)], text("{}")),
    ],
)
def test_what_does_not_fit_is_the_clients_to_read(run: Run, annotation: Any, value: Value) -> None:
    with pytest.raises(ProcessError) as caught:
        arrives(run, annotation, value)
    assert (caught.value.code, caught.value.locator) == ("InvalidParameterValue", "x")


@pytest.mark.parametrize(("kind", "content"), [(dict, "{"), (str, b"\xff\xfe\xff")])
def test_unreadable_content_is_the_clients_to_read(run: Run, kind: Any, content: str | bytes) -> None:
    with pytest.raises(ProcessError) as caught:
        arrives(run, Annotated[kind, inputs.complex(formats.JSON)], run.file(content))
    assert caught.value.locator == "x"


def test_two_values_for_one(run: Run) -> None:
    with pytest.raises(ProcessError, match="more than once"):
        arrives(run, int, text("1"), text("2"))


# --- results ---------------------------------------------------------------------------------------------------------


def returns(run: Run, annotation: Any, value: Any, *wanted: WantedOutput) -> Value:
    """The output value that a returned one becomes."""

    def function():  # type: ignore[no-untyped-def]
        """Title."""
        return value

    function.__annotations__ = {"return": annotation}
    (found,) = run(process()(function), *wanted)["result"]
    return found  # type: ignore[no-any-return]


FILE = Annotated[Path, outputs.complex(formats.GEOJSON)]
CHOICE = Annotated[object, outputs.complex(formats.GEOJSON, formats.KML, formats.PNG)]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, 1, text("1.0", "double")),
        (bool, False, text("false", "boolean")),
        (timedelta, timedelta(hours=25), text("P1DT1H", "duration")),
        (Colour, Colour.RED, text("red")),
        (Quantity, Quantity(2.5, "m"), text("2.5", "double", "m")),
        (Annotated[float, outputs.literal(uom=["m", "km"])], 2.5, text("2.5", "double", "m")),
        (Annotated[float, outputs.literal(data_type="angle")], 2.5, text("2.5", "angle")),
        (datetime, "2024-01-01 00:00:00", text("2024-01-01T00:00:00", "dateTime")),
        (BoundingBox, BoundingBox((0, 0), (1, 1)), BoundingBoxValue((0.0, 0.0), (1.0, 1.0), inputs.CRS84)),
    ],
)
def test_small_results(run: Run, annotation: Any, value: object, expected: Value) -> None:
    assert returns(run, annotation, value) == expected


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "many"),
        (int, 1.5),
        (float, None),
        (Annotated[int, outputs.literal(data_type="positiveInteger")], 0),
        (BoundingBox, (0, 0, 1, 1)),
        (BoundingBox, BoundingBox((0, 0), (1, 1, 1))),
        (FILE, Path("missing.geojson")),
        (FILE, Path()),
        (FILE, {"a": float("nan")}),
        (FILE, object()),
        (FILE, ComplexOutput(b"", "image/png")),
    ],
)
def test_results_that_cannot_be(run: Run, annotation: Any, value: object) -> None:
    with pytest.raises(OutputError, match="output 'result'"):
        returns(run, annotation, value)


@pytest.mark.parametrize(
    ("value", "content"),
    [(b"{}", "{}"), ("é\r\n", "é\r\n"), ({"a": ["é", 1]}, '{"a": ["é", 1]}'), ([], "[]"), (ComplexOutput("x"), "x")],
)
def test_content_becomes_a_file(run: Run, value: object, content: str) -> None:
    found = returns(run, FILE, value)
    assert isinstance(found, FileValue)
    assert (found.path, found.mime_type) == ("outputs/result.geojson", "application/geo+json")
    assert (run.folders.outputs / "result.geojson").read_bytes().decode() == content


def test_files_of_the_run_are_linked_others_copied(run: Run, tmp_path: Path) -> None:
    own, foreign = run.folders.work / "own.txt", tmp_path / "foreign.geojson"
    for path in (own, foreign):
        path.write_text(path.name)
    assert run.read(returns(run, FILE, own)) == "own.txt"
    assert (run.folders.outputs / "result.geojson").samefile(own)
    (run.folders.outputs / "result.geojson").unlink()
    assert run.read(returns(run, FILE, foreign)) == "foreign.geojson"
    assert not (run.folders.outputs / "result.geojson").samefile(foreign)


def test_relative_paths_and_links_within_the_run_are_followed(run: Run) -> None:
    (run.folders.work / "real").mkdir()
    (run.folders.work / "real" / "file").write_text("own")
    (run.folders.work / "folder").symlink_to("real")
    (run.folders.work / "link.geojson").symlink_to(run.folders.work / "folder" / "file")
    for path in (Path("link.geojson"), Path("folder/file"), Path("folder/../real/file")):
        assert run.read(returns(run, FILE, path)) == "own"
        assert not (run.folders.outputs / "result.geojson").is_symlink()
        (run.folders.outputs / "result.geojson").unlink()
    (run.folders.work / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop"):
        returns(run, FILE, Path("loop"))


@pytest.mark.parametrize(
    "returned",
    [
        "link",
        "second",
        "relative",
        "folder/secret",
        "folder/deep/../secret",
        "real/up/secret",
        "../outputs/link",
        "../work/link",
        "{work}/link",
        "{alias}/link",
        "/proc/self/cwd/link",
    ],
)
def test_links_that_leave_the_run_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returned: str
) -> None:
    """A client's archive, unpacked by an honest process, would get it any file of the account."""
    work, elsewhere = run.folders.work, tmp_path / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "secret").write_text("secret")
    (work / "real").mkdir()
    (work / "link").symlink_to(elsewhere / "secret")
    (work / "second").symlink_to("link")
    (work / "relative").symlink_to(os.path.relpath(elsewhere / "secret", work))
    (work / "folder").symlink_to(elsewhere)
    (work / "real" / "up").symlink_to(elsewhere)
    (run.folders.outputs / "link").symlink_to(elsewhere / "secret")
    (tmp_path / "alias").symlink_to(work)
    monkeypatch.chdir(work)
    path = returned.format(work=work, alias=tmp_path / "alias")
    with pytest.raises(OutputError, match=r"output 'result': .* symbolic link .* out of"):
        returns(run, FILE, Path(path))
    assert not (run.folders.outputs / "result.geojson").exists()


def test_a_path_elsewhere_that_the_author_names_may_have_links(run: Run, tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "shared.geojson").write_text("shared")
    (tmp_path / "current").symlink_to("v2")
    up = os.path.relpath(tmp_path / "current", run.folders.work)
    for path in (tmp_path / "current" / "shared.geojson", Path(up, "shared.geojson")):
        assert run.read(returns(run, FILE, path)) == "shared"


def test_a_file_system_without_hard_links(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    own = run.folders.work / "own"
    own.write_text("own")
    assert run.read(returns(run, FILE, own)) == "own"


def test_a_file_written_in_place_stays(run: Run) -> None:
    target = run.folders.outputs / "result.geojson"
    target.write_text("in place")
    assert run.read(returns(run, FILE, target)) == "in place"


def test_the_format_is_the_authors_then_the_suffixs_then_the_clients(run: Run) -> None:
    kml, png = formats.KML.mime_type, formats.PNG.mime_type
    wants_kml = WantedOutput("result", kml)

    def mime(value: object, *wanted: WantedOutput) -> tuple[str, str]:
        found = returns(run, CHOICE, value, *wanted)
        assert isinstance(found, FileValue)
        return found.mime_type, Path(found.path).suffix

    drawing = run.folders.work / "drawing.png"
    drawing.write_bytes(b"png")
    assert mime("x") == ("application/geo+json", ".geojson")
    assert mime("x", wants_kml) == (kml, ".kml")
    assert mime(drawing, wants_kml) == (png, ".png")
    assert mime(ComplexOutput("x", formats.GEOJSON.mime_type), wants_kml) == ("application/geo+json", ".geojson")


def test_the_author_sees_what_is_wanted(run: Run) -> None:
    seen: list[Any] = []

    @process()
    def several(job: Job) -> Statistics:
        """Several."""
        seen.append(job.wanted)
        return Statistics(1.0, 2, None)

    everything = run(several)
    assert everything == {"mean": (text("1.0", "double", "K"),), "count": (text("2", "integer"),)}
    assert seen[-1]["hist"] == WantedOutput("hist", "text/csv")
    assert seen[-1]["mean"].uom == "K"
    assert run(several, WantedOutput("count")) == {"count": (text("2", "integer"),)}
    assert set(seen[-1]) == {"count"}
    with pytest.raises(ProcessError) as caught:
        run(several, WantedOutput("hist", "image/png"))
    assert caught.value.locator == "hist"


def test_an_output_that_nobody_wants_is_not_asked_for(run: Run) -> None:
    @process()
    def partial() -> Statistics:
        """Leaves out."""
        return Statistics(None, 2)  # type: ignore[arg-type]

    assert set(run(partial, WantedOutput("count"))) == {"count"}
    with pytest.raises(OutputError, match="'mean'"):
        run(partial)


def test_nested_results(run: Run) -> None:
    @dataclass
    class Inner:
        data: Annotated[dict, outputs.complex(formats.JSON)]  # type: ignore[type-arg]
        size: int

    def nest():  # type: ignore[no-untyped-def]
        """Nest."""
        return Inner({"a": 1}, 3)

    Inner.__annotations__ = {"data": Annotated[dict, outputs.complex(formats.JSON)], "size": int}
    nest.__annotations__ = {"return": Annotated[Inner, outputs.nested()]}
    (found,) = run(process()(nest))["result"]
    assert isinstance(found, NestedValue)
    assert found.values["size"] == (text("3", "integer"),)
    (data,) = found.values["data"]
    assert isinstance(data, FileValue)
    assert data.path == "outputs/result.data.json"
    assert json.loads(run.read(data)) == {"a": 1}


def test_a_result_of_another_shape(run: Run) -> None:
    @process()
    def wrong() -> Statistics:
        """Wrong."""
        return 5  # type: ignore[return-value]

    with pytest.raises(OutputError, match="int"):
        run(wrong)


def test_an_identifier_cannot_leave_the_outputs_folder(run: Run) -> None:
    annotation = Annotated[str, outputs.complex(formats.TEXT, identifier="a:b..c")]

    def function():  # type: ignore[no-untyped-def]
        """Title."""
        return "x"

    function.__annotations__ = {"return": annotation}
    (found,) = run(process()(function))["a:b..c"]
    assert found.path == "outputs/a_b..c.txt"


def test_a_process_pickles_by_name_where_its_name_leads_to_it() -> None:
    content = pickle.dumps(buffer)
    assert len(content) < 100
    assert pickle.loads(content) is buffer
