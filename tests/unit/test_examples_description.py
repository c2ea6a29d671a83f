"""What clients see of the example processes, and that they can be described where their libraries are not."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from wps_hpc import FunctionProcess
from wps_hpc.examples import demo
from wps_hpc.processes.description import BoundingBoxData, ComplexData, LiteralData, ProcessDescription

MODULES = ("buffer", "contours", "echo", "hello", "misbehave", "sleep", "time_mean", "zonal_statistics")
PLAIN = ("contours", "echo", "hello", "misbehave", "sleep")
HEAVY = ("numpy", "shapely", "pyproj", "rasterio", "netCDF4")
FOLDER = Path(demo.__file__).parent


def processes_of(name: str) -> list[FunctionProcess]:
    """The processes of an example module."""
    module = importlib.import_module(f"wps_hpc.examples.{name}")
    return [value for value in vars(module).values() if isinstance(value, FunctionProcess)]


EVERY = [process.description for name in MODULES for process in processes_of(name)]


def description_of(identifier: str) -> ProcessDescription:
    """The description of one example."""
    (found,) = [description for description in EVERY if description.identifier == identifier]
    return found


def test_every_module_in_the_folder_is_among_the_examples() -> None:
    in_folder = {file.stem for file in FOLDER.glob("*.py")} - {"__init__", "demo"}
    assert in_folder == set(MODULES)


def test_identifiers() -> None:
    assert sorted(description.identifier for description in EVERY) == [
        "buffer",
        "contours",
        "echo",
        "hello",
        "misbehave",
        "org.n52.javaps.test.EchoProcess",
        "sleep",
        "time_mean",
        "zonal_statistics",
    ]


@pytest.mark.parametrize("description", EVERY, ids=lambda description: description.identifier)
def test_everything_has_words_for_people(description: ProcessDescription) -> None:
    assert description.title != description.identifier
    assert len(description.abstract) > 40
    assert description.keywords
    for item in (*description.inputs, *description.outputs):
        assert item.title, item.identifier
        assert item.abstract.endswith("."), item.identifier
        assert item.abstract != item.title


@pytest.mark.parametrize("description", EVERY, ids=lambda description: description.identifier)
def test_every_complex_part_has_formats_and_every_complex_input_a_limit(description: ProcessDescription) -> None:
    for item in (*description.inputs, *description.outputs):
        if isinstance(item.data, ComplexData):
            assert all("/" in entry.mime_type and entry.extension.startswith(".") for entry in item.data.formats)
            assert len({entry.mime_type for entry in item.data.formats}) == len(item.data.formats)
    limits = [item.data.maximum_megabytes for item in description.inputs if isinstance(item.data, ComplexData)]
    assert all(limits)


@pytest.mark.parametrize("name", MODULES)
def test_described_without_the_libraries_that_it_runs_with(name: str) -> None:
    """A server describes processes whose libraries only the nodes have."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys({HEAVY!r}))
import wps_hpc.examples.{name}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_pickled_by_name(name: str) -> None:
    for process in processes_of(name):
        assert process.__reduce__() == process.function.__name__


def test_echo_has_every_kind_of_input_under_the_names_of_the_wps_2_suite() -> None:
    for identifier in ("echo", "org.n52.javaps.test.EchoProcess"):
        description = description_of(identifier)
        kinds = {item.identifier: type(item.data) for item in description.inputs}
        assert kinds["literalInput"] is LiteralData
        assert kinds["complexInput"] is ComplexData
        assert kinds["boundingboxInput"] is BoundingBoxData
        for name in ("literalOutput", "complexOutput", "boundingboxOutput"):
            assert description.output(name) is not None
        assert all(item.min_occurs == 0 for item in description.inputs)


def test_echo_has_what_the_ogc_api_suite_asks_for() -> None:
    echo = description_of("echo")
    first = echo.inputs[0].identifier
    assert echo.output(first) is not None
    pause = echo.input("pause")
    assert pause is not None
    assert isinstance(pause.data, LiteralData)
    assert pause.data.data_type == "integer"


def test_distance_is_in_metres_with_a_default() -> None:
    distance = description_of("buffer").input("distance")
    assert distance is not None
    assert isinstance(distance.data, LiteralData)
    assert (distance.data.uoms, distance.min_occurs) == (("m",), 0)
    assert float(distance.data.default or "nan") == 1000


def test_interval_has_a_range() -> None:
    interval = description_of("contours").input("interval")
    assert interval is not None
    assert isinstance(interval.data, LiteralData)
    (allowed,) = interval.data.allowed
    assert not isinstance(allowed, str)
    assert [float(bound or "nan") for bound in (allowed.minimum, allowed.maximum)] == [1, 1000]


def test_zonal_statistics_comes_as_geojson_or_csv() -> None:
    output = description_of("zonal_statistics").output("statistics")
    assert output is not None
    assert isinstance(output.data, ComplexData)
    assert [entry.mime_type for entry in output.data.formats] == ["application/geo+json", "text/csv"]


def test_the_demonstration_offers_all_but_misbehave() -> None:
    assert set(demo.MODULES) == set(MODULES) - {"misbehave"}
