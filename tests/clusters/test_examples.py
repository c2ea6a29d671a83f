"""Each example runs as a job does, through the launcher, on real data; its results are the reference numbers."""

import csv
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dill
import netCDF4
import numpy
import pytest
import rasterio
import shapely
from pyproj import Geod
from shapely.geometry import shape

from joblauncher.build import build_pyz
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.records import (
    EXIT_FAILED,
    EXIT_SUCCEEDED,
    Failure,
    Limits,
    ListedFile,
    Manifest,
    RequestRecord,
    ResultRecord,
    WantedOutput,
    dump,
    load,
)
from joblauncher.formats.values import BoundingBoxValue, FileValue, LiteralValue, Value
from wps_hpc.processes.catalogue import Catalogue, Entry

EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = EXAMPLES / "data"
CRS84 = "urn:ogc:def:crs:OGC:1.3:CRS84"
GEOD = Geod(ellps="WGS84")
#: Seconds that any example may take here.
PATIENCE = 120.0
#: examples/data/README.md: zone, cells, min, max, mean, std.
ZONES = """
A1 12960 360 906 560.766 106.611
A2 12960 400 932 585.700 82.728
A3 12960 303 846 514.517 117.021
B1 12960 365 970 559.886 116.521
B2 12960 310 996 618.543 184.201
B3 12960 295 615 368.429 40.102
C1 12960 385 986 611.830 131.017
C2 12960 320 1076 704.388 170.454
C3 12960 236 817 356.116 87.470
high-1 14082 647 1076 828.674 87.767
high-2 3124 665 986 798.879 68.118
edge 6120 244 455 348.270 42.481
"""


@dataclass(frozen=True)
class Given:
    """A document for a complex input."""

    content: bytes
    mime_type: str


@dataclass(frozen=True)
class Launched:
    """A finished attempt: its record, and where its files are."""

    folder: JobFolder
    exit_code: int
    record: ResultRecord

    def literal(self, identifier: str) -> str:
        """The text of a literal output."""
        (value,) = self.record.outputs[identifier]
        assert isinstance(value, LiteralValue)
        return value.text

    def file(self, identifier: str) -> Path:
        """The file of a complex output."""
        (value,) = self.record.outputs[identifier]
        assert isinstance(value, FileValue)
        return self.folder.attempt(1).path / value.path

    def json(self, identifier: str) -> Any:
        """A complex output as JSON."""
        return json.loads(self.file(identifier).read_bytes())

    @property
    def log(self) -> str:
        """What the process printed and logged."""
        attempt = self.folder.attempt(1)
        return attempt.stdout.read_text() + attempt.stderr.read_text()

    @property
    def failure(self) -> Failure:
        """Why it failed."""
        assert self.record.failure is not None, self.record
        return self.record.failure


@dataclass
class Launcher:
    """Makes job folders below ``root`` and runs ``command`` on them, as a batch script would.

    ``catalogue`` has the examples as files of a watched folder, so that their source travels with the job.
    """

    root: Path
    command: tuple[str, ...]
    catalogue: Catalogue
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def start(
        self, identifier: str, inputs: dict[str, Any], wanted: tuple[WantedOutput, ...] = ()
    ) -> tuple[JobFolder, "subprocess.Popen[str]"]:
        """A job folder, and the launcher that has begun to run it."""
        entry = self.catalogue.get(identifier)
        assert entry is not None, self.catalogue.problems
        folder = JobFolder(job_path(self.root, str(uuid.uuid4())))
        folder.inputs.mkdir(parents=True, mode=0o700)
        folder.path.chmod(0o700)
        digest = complete(folder, entry, inputs, wanted)
        command = [*self.command, "--digest", digest, "--folder", str(folder.path)]
        return folder, subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            cwd="/",
        )

    def finish(self, folder: JobFolder, process: "subprocess.Popen[str]") -> Launched:
        """Wait for the launcher and read what it wrote."""
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        result = folder.attempt(1).result
        assert result.exists(), f"exit code {process.returncode}: {said}"
        return Launched(folder, process.returncode, load(ResultRecord, result.read_bytes()))

    def run(self, identifier: str, *wanted: WantedOutput, **inputs: Any) -> Launched:
        """Run an example that succeeds; inputs are text, bounding boxes, files of the sample data, or Given."""
        done = self.finish(*self.start(identifier, inputs, wanted))
        assert done.exit_code == EXIT_SUCCEEDED, (done.record, done.log)
        return done

    def fail(self, identifier: str, **inputs: Any) -> Launched:
        """Run an example that fails."""
        done = self.finish(*self.start(identifier, inputs))
        assert done.exit_code == EXIT_FAILED, done.record
        return done


def complete(folder: JobFolder, entry: Entry, inputs: dict[str, Any], wanted: tuple[WantedOutput, ...]) -> str:
    """Write all that the launcher reads, and return the manifest's digest."""
    values = {name: (value_of(folder, name, item),) for name, item in inputs.items()}
    request = RequestRecord(entry.description.identifier, values, wanted)
    folder.payload.write_bytes(entry.payload)
    folder.request.write_bytes(dump(request))
    assert entry.source is not None
    folder.source.mkdir()
    (folder.source / f"{entry.module}.py").write_bytes(entry.source)
    listed = tuple(listed_file(folder, path) for path in sorted(folder.path.rglob("*")) if path.is_file())
    manifest = Manifest(
        job=folder.path.name,
        submission=1,
        process=entry.description.identifier,
        loads=entry.loads,
        module=entry.module,
        python=platform.python_version(),
        dill=dill.__version__,
        wps_hpc=version("wps-hpc"),
        created="2026-01-01T00:00:00Z",
        files=listed,
        limits=Limits(walltime_s=PATIENCE, memory_mb=2048),
    )
    content = dump(manifest)
    folder.manifest.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def listed_file(folder: JobFolder, path: Path) -> ListedFile:
    """A file as the manifest lists it."""
    content = path.read_bytes()
    return ListedFile(str(path.relative_to(folder.path)), len(content), hashlib.sha256(content).hexdigest())


def value_of(folder: JobFolder, name: str, item: Any) -> Value:
    """An input as the server records it; documents are written into the job folder."""
    if isinstance(item, BoundingBoxValue):
        return item
    if isinstance(item, Given):
        path = folder.inputs / f"{name}-1"
        path.write_bytes(item.content)
        return FileValue(str(path.relative_to(folder.path)), item.mime_type, size=len(item.content))
    return LiteralValue(str(item))


def sample(name: str) -> Given:
    """A file of the sample data, with its format."""
    mime_types = {".geojson": "application/geo+json", ".tif": "image/tiff", ".nc": "application/x-netcdf"}
    return Given((DATA / name).read_bytes(), mime_types[Path(name).suffix])


def features(*members: Any) -> Given:
    """A feature collection."""
    content = {"type": "FeatureCollection", "features": list(members)}
    return Given(json.dumps(content).encode(), "application/geo+json")


def feature(kind: str, coordinates: Any, **properties: Any) -> dict[str, Any]:
    """A feature."""
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def named(content: Any) -> dict[str, Any]:
    """The geometries of a feature collection by name."""
    return {member["properties"]["name"]: shape(member["geometry"]) for member in content["features"]}


def square_kilometres(geometry: Any) -> float:
    """The area on the ellipsoid."""
    return abs(float(GEOD.geometry_area_perimeter(geometry)[0])) / 1e6


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The examples as they are when the folder is watched."""
    found = Catalogue([], [EXAMPLES])
    found.reload()
    return found


@pytest.fixture
def launcher(tmp_path: Path, catalogue: Catalogue) -> Launcher:
    """The launcher on this Python, where the libraries of the examples are installed."""
    return Launcher(tmp_path, (sys.executable, "-m", "joblauncher"), catalogue)


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher as one file."""
    target = tmp_path_factory.mktemp("launcher") / "joblauncher.pyz"
    build_pyz(target)
    return target


@pytest.fixture
def bare(tmp_path: Path, catalogue: Catalogue, pyz: Path, python39: Path) -> Launcher:
    """The launcher on a node that has Python 3.9 and nothing else."""
    environment = {"PATH": os.environ["PATH"]}
    return Launcher(tmp_path, (str(python39), "-I", str(pyz)), catalogue, environment)


class TestBuffer:
    """``buffer``: areas by data/README.md, in km2 on the ellipsoid."""

    def test_borders(self, launcher: Launcher) -> None:
        done = launcher.run("buffer", features=sample("alpine_borders.geojson"), distance=10000)
        areas = named(done.json("buffered"))
        assert len(areas) == 10
        assert square_kilometres(areas["France - Switzerland"]) == pytest.approx(6623.16, abs=0.01)
        assert square_kilometres(areas["Austria - Germany"]) == pytest.approx(9737.97, abs=0.01)

    def test_discs_have_one_size_everywhere(self, launcher: Launcher) -> None:
        discs = named(launcher.run("buffer", features=sample("cities.geojson"), distance=50000).json("buffered"))
        assert len(discs) == 243
        for name in ("Vienna", "Nairobi", "Reykjavík"):
            assert square_kilometres(discs[name]) == pytest.approx(7841.33, abs=0.01)
        assert all(disc.is_valid and disc.exterior.is_ccw for disc in discs.values())

    def test_polygons_keep_order_and_properties(self, launcher: Launcher) -> None:
        everything = json.loads((DATA / "countries.geojson").read_bytes())["features"]
        wanted = [member for member in everything if member["properties"]["name"] in ("Switzerland", "Luxembourg")]
        content = launcher.run("buffer", features=features(*wanted), distance=10000).json("buffered")
        assert [member["properties"] for member in content["features"]] == [member["properties"] for member in wanted]
        assert square_kilometres(named(content)["Switzerland"]) == pytest.approx(56584.60, abs=0.01)
        assert square_kilometres(named(content)["Luxembourg"]) == pytest.approx(4727.90, abs=0.01)

    def test_cut_at_longitude_180(self, launcher: Launcher) -> None:
        discs = named(launcher.run("buffer", features=sample("cities.geojson"), distance=200000).json("buffered"))
        assert discs["Suva"].geom_type == "MultiPolygon"
        assert discs["Suva"].is_valid
        assert discs["Suva"].bounds[0] == -180
        assert discs["Suva"].bounds[2] == 180
        assert square_kilometres(discs["Suva"]) == pytest.approx(square_kilometres(discs["Nairobi"]), rel=1e-5)

    def test_no_geometry_stays_none_and_the_default_is_a_kilometre(self, launcher: Launcher) -> None:
        none = {"type": "Feature", "properties": None, "geometry": None}
        done = launcher.run("buffer", features=features(none, feature("Point", [16.37, 48.21], name="Vienna")))
        first, second = done.json("buffered")["features"]
        assert first["geometry"] is None
        assert square_kilometres(shape(second["geometry"])) == pytest.approx(3.1365, abs=0.001)

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (Given(b"not json", "application/geo+json"), "not JSON"),
            (Given(b"[1]", "application/geo+json"), "not GeoJSON"),
            (Given(b'{"type": "FeatureCollection"}', "application/geo+json"), "no list of features"),
            (features(feature("Point", [600000, 5340000], name="Bern")), "(Bern) has coordinates outside"),
            (features(feature("Polygon", "nonsense")), "feature 1 has a geometry that cannot be read"),
            (features(feature("Point", [0, 89.995])), "reaches over a pole"),
            (features(feature("LineString", [[-60, 0], [60, 0]])), "cut it into pieces"),
            (
                Given(b'{"type":"Point","crs":{"properties":{"name":"EPSG:2056"}}}', "application/geo+json"),
                "EPSG:2056; send longitude and latitude",
            ),
        ],
    )
    def test_bad_features(self, launcher: Launcher, given: Given, says: str) -> None:
        failure = launcher.fail("buffer", features=given).failure
        assert (failure.cause, failure.code, failure.locator) == ("process error", "InvalidParameterValue", "features")
        assert says in failure.text


class TestZonalStatistics:
    """``zonal_statistics`` over the elevation model of Jacksboro."""

    def test_reference_numbers(self, launcher: Launcher) -> None:
        done = launcher.run(
            "zonal_statistics", raster=sample("jacksboro_dem.tif"), zones=sample("jacksboro_zones.geojson")
        )
        rows = {member["properties"]["zone"]: member["properties"] for member in done.json("statistics")["features"]}
        for line in ZONES.strip().splitlines():
            zone, *numbers = line.split()
            found = [rows[zone][name] for name in ("count", "min", "max", "mean", "std")]
            assert found == pytest.approx([float(number) for number in numbers], abs=0.0005), zone
        assert rows["outside"]["count"] == 0
        assert {rows["outside"][name] for name in ("min", "max", "mean", "std")} == {None}
        assert rows["A1"]["label"] == "north row, west column"

    def test_as_csv(self, launcher: Launcher) -> None:
        done = launcher.run(
            "zonal_statistics",
            WantedOutput("statistics", "text/csv"),
            raster=sample("jacksboro_dem.tif"),
            zones=sample("jacksboro_zones.geojson"),
        )
        with done.file("statistics").open(newline="") as stream:
            rows = {row["zone"]: row for row in csv.DictReader(stream)}
        assert len(rows) == 13
        assert rows["C2"]["count"] == "12960"
        assert float(rows["C2"]["mean"]) == pytest.approx(704.388, abs=0.0005)
        assert rows["outside"]["count"] == "0"
        assert rows["outside"]["mean"] == ""

    def test_all_touched_counts_more(self, launcher: Launcher) -> None:
        done = launcher.run(
            "zonal_statistics",
            raster=sample("jacksboro_dem.tif"),
            zones=sample("jacksboro_zones.geojson"),
            all_touched="true",
        )
        rows = {member["properties"]["zone"]: member["properties"] for member in done.json("statistics")["features"]}
        assert rows["A1"]["count"] > 12960
        assert rows["high-1"]["count"] > 14082

    def test_band_nodata_and_another_reference_system(self, launcher: Launcher, tmp_path: Path) -> None:
        """Four cells of a kilometre in UTM zone 32, the second band 1 2 / nodata NaN."""
        path = tmp_path / "two_bands.tif"
        transform = rasterio.transform.from_origin(500_000, 5_000_000, 1000, 1000)
        with rasterio.open(
            path, "w", "GTiff", 2, 2, 2, crs="EPSG:32632", transform=transform, dtype="float32", nodata=-1
        ) as raster:
            raster.write(numpy.full((2, 2), 7, dtype="float32"), 1)
            raster.write(numpy.array([[1, 2], [-1, numpy.nan]], dtype="float32"), 2)
        around = feature("Polygon", [[[8.9, 45.0], [9.1, 45.0], [9.1, 45.3], [8.9, 45.3], [8.9, 45.0]]], name="all")
        done = launcher.run(
            "zonal_statistics", raster=Given(path.read_bytes(), "image/tiff"), zones=features(around), band=2
        )
        (member,) = done.json("statistics")["features"]
        assert member["properties"] == {"name": "all", "count": 2, "min": 1, "max": 2, "mean": 1.5, "std": 0.5}

    @pytest.mark.parametrize(
        ("raster", "zones", "band", "locator", "says"),
        [
            ("<VRTDataset/>", None, 1, "raster", "not a GeoTIFF"),
            ("II*\0broken", None, 1, "raster", "cannot be read"),
            (None, None, 2, "band", "no band 2; it has 1"),
            (None, "{", 1, "zones", "not JSON"),
            (None, "{}", 1, "zones", "not a GeoJSON feature collection"),
            (None, '{"features": [{"geometry": {"type": "Point"}}]}', 1, "zones", "must be polygons"),
            (None, '{"features": [{"geometry": {"type": "Polygon", "coordinates": []}}]}', 1, "zones", "zone 1"),
        ],
    )
    def test_bad_inputs(
        self, launcher: Launcher, raster: str | None, zones: str | None, band: int, locator: str, says: str
    ) -> None:
        dem = sample("jacksboro_dem.tif") if raster is None else Given(raster.encode(), "image/tiff")
        areas = sample("jacksboro_zones.geojson") if zones is None else Given(zones.encode(), "application/geo+json")
        failure = launcher.fail("zonal_statistics", raster=dem, zones=areas, band=band).failure
        assert (failure.cause, failure.code, failure.locator) == ("process error", "InvalidParameterValue", locator)
        assert says in failure.text


class TestContours:
    """``contours``: plain Python, so also as on a bare node."""

    @pytest.mark.parametrize("node", ["launcher", "bare"])
    def test_levels(self, node: str, request: pytest.FixtureRequest) -> None:
        launcher: Launcher = request.getfixturevalue(node)
        done = launcher.run("contours", elevation=sample("jacksboro_dem.tif"))
        lines = done.json("lines")["features"]
        assert sorted({line["properties"]["elev"] for line in lines}) == list(range(250, 1051, 50))
        bounds = shapely.total_bounds([shape(line["geometry"]) for line in lines])
        assert bounds == pytest.approx([-84.41375, 36.1595833, -84.0779167, 36.44625], abs=0.001)

    def test_interval_and_log(self, launcher: Launcher) -> None:
        done = launcher.run("contours", elevation=sample("jacksboro_dem.tif"), interval=200)
        assert {line["properties"]["elev"] for line in done.json("lines")["features"]} == {400, 600, 800, 1000}
        assert "gdal_contour -f GeoJSON" in done.log
        assert "0...10...20" in done.log

    def test_a_missing_program_is_named(self, bare: Launcher) -> None:
        bare.environment = {"PATH": str(bare.root)}
        failure = bare.fail("contours", elevation=sample("jacksboro_dem.tif")).failure
        assert failure.cause == "process error"
        assert "gdal_contour is not installed" in failure.text
        assert "gdal-bin" in failure.text

    @pytest.mark.parametrize(
        ("content", "says"),
        [(b"<OGRVRTDataSource/>", "not a GeoTIFF"), (b"II*\0broken", "gdal_contour ended with")],
    )
    def test_bad_elevation(self, launcher: Launcher, content: bytes, says: str) -> None:
        failure = launcher.fail("contours", elevation=Given(content, "image/tiff")).failure
        assert failure.cause == "process error"
        assert says in failure.text

    def test_cancelling_ends_the_program(self, launcher: Launcher) -> None:
        """The stand-in for gdal_contour says that it has begun, stays, and notes the TERM that it gets."""
        marker = launcher.root / "terminated"
        program = launcher.root / "bin" / "gdal_contour"
        program.parent.mkdir()
        program.write_text(STUBBORN.format(python=sys.executable, marker=str(marker)))
        program.chmod(0o755)
        launcher.environment["PATH"] = f"{program.parent}:{launcher.environment['PATH']}"
        folder, process = launcher.start("contours", {"elevation": sample("jacksboro_dem.tif")})
        wait_for(lambda: "0...10" in read(folder.attempt(1).stdout), process)
        process.send_signal(signal.SIGTERM)
        done = launcher.finish(folder, process)
        assert done.failure.cause == "cancelled"
        assert marker.read_text() == "told to stop"


#: A program that runs until it is told to stop.
STUBBORN = """\
#!{python}
import pathlib, signal, sys

def stop(number, frame):
    pathlib.Path({marker!r}).write_text("told to stop")
    sys.exit(1)

signal.signal(signal.SIGTERM, stop)
print("0...10...", flush=True)
while True:
    signal.pause()
"""


class TestTimeMean:
    """``time_mean`` of the winds over the tropical Pacific."""

    @pytest.mark.parametrize(
        ("variable", "minimum", "maximum", "mean", "at_190_east"),
        [("uwnd", -6.6980, 1.9794, -3.5477, -3.2333), ("vwnd", -3.4835, 4.7274, 0.2430, 0.1192)],
    )
    def test_whole_series(
        self, launcher: Launcher, variable: str, minimum: float, maximum: float, mean: float, at_190_east: float
    ) -> None:
        done = launcher.run("time_mean", series=sample("pacific_winds.nc"), variable=variable)
        numbers = [float(done.literal(name)) for name in ("minimum", "maximum", "mean")]
        assert numbers == pytest.approx([minimum, maximum, mean], abs=0.00005)
        assert done.literal("steps") == "132"
        with netCDF4.Dataset(done.file("field")) as field:
            assert cell(field, variable, 0, 190) == pytest.approx(at_190_east, abs=0.00005)

    @pytest.mark.parametrize(("year", "expected"), [(1982, -2.0058), (1983, -2.0209), (1988, -5.5158)])
    def test_single_years(self, launcher: Launcher, year: int, expected: float) -> None:
        done = launcher.run(
            "time_mean",
            series=sample("pacific_winds.nc"),
            variable="uwnd",
            start=f"{year}-01-01T00:00:00Z",
            end=f"{year + 1}-01-01T01:00:00+01:00",
        )
        assert done.literal("steps") == "12"
        with netCDF4.Dataset(done.file("field")) as field:
            assert cell(field, "uwnd", 0, 190) == pytest.approx(expected, abs=0.00005)

    def test_the_file_follows_cf(self, launcher: Launcher) -> None:
        done = launcher.run("time_mean", series=sample("pacific_winds.nc"), variable="uwnd")
        with netCDF4.Dataset(done.file("field")) as field, netCDF4.Dataset(DATA / "pacific_winds.nc") as series:
            assert field.Conventions == "CF-1.8"
            assert field["uwnd"].dimensions == ("lat", "lon")
            assert field["uwnd"].cell_methods == "time: mean"
            assert field["uwnd"].standard_name == "eastward_wind"
            assert field["uwnd"].units == "m s-1"
            assert field["time"].units == series["time"].units
            bounds = field[field["time"].bounds][:]
            assert list(bounds) == [series["time"][0], series["time"][-1]]
            assert field["time"][...] == bounds.mean()

    @pytest.mark.parametrize(
        ("west", "east", "columns"),
        [(-170, -160, [190, 192.5, 195, 197.5, 200]), (177, -178, [177.5, 180]), (-180, 180, None)],
    )
    def test_regions(self, launcher: Launcher, west: float, east: float, columns: list[float] | None) -> None:
        region = BoundingBoxValue((west, -1), (east, 3), CRS84)
        done = launcher.run("time_mean", series=sample("pacific_winds.nc"), variable="uwnd", region=region)
        with netCDF4.Dataset(done.file("field")) as field:
            assert list(field["lat"][:]) == [0, 2.5]
            found = sorted(field["lon"][:] % 360)
            assert found == (columns if columns is not None else list(numpy.arange(150, 281, 2.5)))

    @pytest.mark.parametrize(
        ("changed", "locator", "says"),
        [
            ({"series": Given(b"not netcdf", "application/x-netcdf")}, "series", "is not a NetCDF file"),
            ({"variable": "tos"}, "variable", "'tos' is not in the series"),
            ({"start": "2020-01-01T00:00:00Z"}, "start", "132 steps from 1982-01-16"),
            ({"region": BoundingBoxValue((10, 40), (20, 50), CRS84)}, "region", "holds no cell"),
        ],
    )
    def test_bad_inputs(self, launcher: Launcher, changed: dict[str, Any], locator: str, says: str) -> None:
        inputs = {"series": sample("pacific_winds.nc"), "variable": "uwnd", **changed}
        failure = launcher.fail("time_mean", **inputs).failure
        assert (failure.cause, failure.code, failure.locator) == ("process error", "InvalidParameterValue", locator)
        assert says in failure.text


def cell(field: Any, variable: str, latitude: float, longitude: float) -> float:
    """The value at a place of the grid."""
    row = list(field["lat"][:]).index(latitude)
    return float(field[variable][row, list(field["lon"][:]).index(longitude)])


@pytest.mark.parametrize("node", ["launcher", "bare"])
class TestPlainPython:
    """Examples that need nothing but Python: here, and on a node that has nothing else."""

    @pytest.fixture
    def on(self, node: str, request: pytest.FixtureRequest) -> Launcher:
        """The launcher of that node."""
        chosen: Launcher = request.getfixturevalue(node)
        return chosen

    def test_hello(self, on: Launcher) -> None:
        assert on.run("hello", name="Frédéric").literal("greeting") == "Hello, Frédéric!"
        assert on.run("hello").literal("greeting") == "Hello, world!"

    @pytest.mark.parametrize("identifier", ["echo", "org.n52.javaps.test.EchoProcess"])
    def test_echo(self, on: Launcher, identifier: str) -> None:
        picture = b"\x89PNG\r\n\x1a\n not really"
        box = BoundingBoxValue((46.5, 8.25), (47.0, 9.75), "urn:ogc:def:crs:EPSG::4326")
        done = on.run(
            identifier,
            literalInput=" <a> & é ",
            complexInput=Given(picture, "image/png"),
            boundingboxInput=box,
        )
        assert done.literal("literalOutput") == " <a> & é "
        assert done.file("complexOutput").read_bytes() == picture
        (document,) = done.record.outputs["complexOutput"]
        assert isinstance(document, FileValue)
        assert document.mime_type == "image/png"
        assert done.record.outputs["boundingboxOutput"] == (box,)
        again = done.record.outputs.get("literalInput")
        assert (again is None) == (identifier != "echo")

    def test_echo_of_nothing_is_nothing(self, on: Launcher) -> None:
        assert on.run("echo").record.outputs == {}

    def test_echo_gives_what_is_wanted_after_its_pause(self, on: Launcher) -> None:
        done = on.run("echo", WantedOutput("literalInput"), literalInput="x", pause=1)
        assert list(done.record.outputs) == ["literalInput"]
        assert done.record.finished - done.record.started >= 1

    def test_sleep(self, on: Launcher) -> None:
        done = on.run("sleep", seconds=0.2, steps=4)
        assert 0.2 <= float(done.literal("slept")) < 10

    def test_sleep_is_cancelled(self, on: Launcher) -> None:
        folder, process = on.start("sleep", {"seconds": 3600, "steps": 100_000})
        wait_for(lambda: "step " in read(folder.attempt(1).status), process)
        process.send_signal(signal.SIGTERM)
        done = on.finish(folder, process)
        assert done.failure.cause == "cancelled"
        assert "cancelled in step" in done.log

    @pytest.mark.parametrize(
        ("how", "cause", "says"),
        [
            ("error", "process error", "the sentence that the process has for its client"),
            ("exception", "process error", "ZeroDivisionError"),
            ("exit", "exit code", "3"),
            ("vanish", "exit code", "4"),
            ("segfault", "signal", "SIGSEGV"),
        ],
    )
    def test_misbehave(self, on: Launcher, how: str, cause: str, says: str) -> None:
        failure = on.fail("misbehave", how=how).failure
        assert failure.cause == cause
        assert says in failure.text

    def test_more_memory_than_allowed(self, on: Launcher) -> None:
        failure = on.fail("misbehave", how="memory").failure
        assert failure.cause == "out of memory"


def read(path: Path) -> str:
    """The text of a file that may not be there yet."""
    return path.read_text() if path.exists() else ""


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    """Wait until ``condition()`` holds while the process runs."""
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
