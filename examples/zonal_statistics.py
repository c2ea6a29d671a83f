"""Statistics of a raster over polygons: a GeoTIFF and GeoJSON zones in, GeoJSON or CSV out.

The raster is read in strips, so one that is larger than the job's memory is no trouble. Needs rasterio and numpy where
the job runs.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Callable, Optional

from wps_hpc import Job, ProcessError, Resources, formats, inputs, outputs, process

#: Cells that are held in memory at once.
STRIP_CELLS = 4_000_000
#: The statistics of a zone, in the order in which they are written.
STATISTICS = ("count", "min", "max", "mean", "std")
#: How a TIFF or BigTIFF file begins, in either byte order.
TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@process(
    version="1.0.0",
    keywords=["raster", "polygons", "statistics", "GeoTIFF"],
    resources=Resources(cores=1, memory_mb=1024, walltime_s=1800),
    sync="local",
)
def zonal_statistics(
    raster: Annotated[Path, inputs.complex(formats.GEOTIFF, formats.TIFF, title="Raster", maximum_megabytes=200)],
    zones: Annotated[Path, inputs.complex(formats.GEOJSON, title="Zones", maximum_megabytes=20)],
    band: Annotated[int, inputs.literal(title="Band", data_type="positiveInteger")] = 1,
    all_touched: Annotated[bool, inputs.literal(title="All touched cells")] = False,
    *,
    job: Job,
) -> Annotated[
    Path,
    outputs.complex(
        formats.GEOJSON,
        formats.CSV,
        identifier="statistics",
        title="Zones with their statistics",
        abstract="The zones in their order with the properties count, min, max, mean and std added; without cells "
        "count is 0 and the others are null. As CSV a line for each zone, without its shape.",
    ),
]:
    """Zonal statistics.

    Counts a raster's cells in each of some polygons, and gives their least, greatest and mean value and standard
    deviation. Missing cells (nodata, NaN) do not count. The standard deviation is that of the population. Zones may
    overlap, and may reach past the raster.

    Args:
        raster: A GeoTIFF with a reference system.
        zones: Polygons in longitude and latitude on WGS 84 (RFC 7946).
        band: The band of the raster, from 1.
        all_touched: Whether every cell that a zone touches counts, or only those whose centre lies inside.
    """
    content = read_zones(zones)
    members = content["features"]
    with open_raster(raster, band) as dataset:
        for number, member in enumerate(members):
            job.progress(100 * number / len(members), f"zone {number + 1} of {len(members)}")
            moments = moments_of_zone(dataset, band, member["geometry"], all_touched, f"zone {number + 1}")
            member["properties"] = {**(member.get("properties") or {}), **moments.statistics()}
    if job.wanted["statistics"].mime_type == formats.CSV.mime_type:
        return write_csv(content)
    return write_geojson(content)


@dataclass(frozen=True)
class Moments:
    """What is kept of the cells seen so far. ``spread`` is the sum of squared differences from ``mean``."""

    count: int = 0
    smallest: float = math.inf
    largest: float = -math.inf
    mean: float = 0.0
    spread: float = 0.0

    def joined(self, other: Moments) -> Moments:
        """The moments of both sets of cells together (Chan, Golub and LeVeque 1979: no large sums to cancel out)."""
        count = self.count + other.count
        if not other.count:
            return self
        apart = other.mean - self.mean
        return Moments(
            count,
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            self.mean + apart * other.count / count,
            self.spread + other.spread + apart * apart * self.count * other.count / count,
        )

    def statistics(self) -> dict[str, Optional[float]]:
        """The statistics by name; all but the count are None for a zone without cells."""
        if not self.count:
            return {"count": 0, **dict.fromkeys(STATISTICS[1:])}
        deviation = math.sqrt(self.spread / self.count)
        return dict(zip(STATISTICS, (self.count, self.smallest, self.largest, self.mean, deviation)))


def read_zones(path: Path) -> dict[str, Any]:
    """The feature collection in a GeoJSON file; raises ProcessError when it is not one with polygons only."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
        members = content["features"]
        kinds = {str((member["geometry"] or {"type": "no geometry"})["type"]) for member in members}
    except (ValueError, RecursionError) as error:
        raise refusal("zones", f"is not JSON: {error}") from error
    except (KeyError, TypeError) as error:
        raise refusal("zones", "is not a GeoJSON feature collection") from error
    if kinds - {"Polygon", "MultiPolygon"}:
        raise refusal("zones", f"must be polygons, but there is {', '.join(sorted(kinds))}")
    content.pop("bbox", None)
    return content  # type: ignore[no-any-return]


def open_raster(path: Path, band: int) -> Any:
    """The GeoTIFF as an open dataset that has ``band`` and a reference system; raises ProcessError otherwise.

    Only TIFF is let in: other GDAL formats are lists of further files and addresses to open.
    """
    import rasterio

    with path.open("rb") as stream:
        if stream.read(4) not in TIFF_BEGINNINGS:
            raise refusal("raster", "is not a GeoTIFF")
    try:
        dataset = rasterio.open(path, driver="GTiff")
    except rasterio.RasterioIOError as error:
        raise refusal("raster", f"cannot be read: {error}") from error
    if dataset.crs is None:
        raise refusal("raster", "has no reference system, so that zones cannot be placed on it")
    if not 1 <= band <= dataset.count:
        raise ProcessError(f"raster has no band {band}; it has {dataset.count}", "InvalidParameterValue", "band")
    return dataset


def moments_of_zone(dataset: Any, band: int, geometry: Any, all_touched: bool, name: str) -> Moments:
    """The moments of the valid cells within a zone given in longitude and latitude."""
    from rasterio import Affine
    from rasterio.features import geometry_mask
    from rasterio.warp import transform_geom

    total = Moments()
    try:
        zone = in_cells(dataset.transform, transform_geom("OGC:CRS84", dataset.crs, geometry))
        for window in strips(dataset, zone):
            shifted = moved(zone, -window.col_off, -window.row_off)
            shape = (window.height, window.width)
            inside = geometry_mask([shifted], shape, Affine.identity(), all_touched=all_touched, invert=True)
            total = total.joined(moments_of(dataset.read(band, window=window, masked=True), inside))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise refusal("zones", f"has a geometry that cannot be used: {name}: {error}") from error
    return total


def in_cells(transform: Any, geometry: Any) -> Any:
    """A polygon in columns and rows of the raster, counted from its first corner.

    In cells a polygon can be moved by whole rows without rounding, so that a strip decides about a cell whose centre
    lies on the edge just as the whole raster would.
    """
    if transform.b == transform.d == 0:
        columns, rows = 1 / transform.a, 1 / transform.e
        west, north = -transform.c / transform.a, -transform.f / transform.e
        return changed(geometry, lambda x, y: (west + x * columns, north + y * rows))
    back = ~transform
    return changed(geometry, lambda x, y: (back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f))


def moved(geometry: Any, columns: int, rows: int) -> Any:
    """A polygon moved by whole cells."""
    return changed(geometry, lambda x, y: (x + columns, y + rows))


def changed(geometry: Any, change: Callable[[float, float], tuple[float, float]]) -> Any:
    """A polygon or multipolygon with every position changed; heights are dropped."""

    def each(part: Any) -> Any:
        return change(*part[:2]) if isinstance(part[0], (int, float)) else [each(inner) for inner in part]

    return {"type": geometry["type"], "coordinates": each(geometry["coordinates"])}


def strips(dataset: Any, zone: Any) -> Iterator[Any]:
    """Windows of at most STRIP_CELLS cells (one row at least) that cover a zone in cells; none when it lies outside."""
    from rasterio.features import bounds
    from rasterio.windows import Window

    left, one, right, other = bounds(zone)
    first_column, last_column = max(0, math.floor(left) - 1), min(dataset.width, math.ceil(right) + 1)
    first_row, last_row = (
        max(0, math.floor(min(one, other)) - 1),
        min(dataset.height, math.ceil(max(one, other)) + 1),
    )
    width = last_column - first_column
    if width <= 0:
        return
    rows = max(1, STRIP_CELLS // width)
    for row in range(first_row, last_row, rows):
        yield Window(first_column, row, width, min(rows, last_row - row))


def moments_of(cells: Any, inside: Any) -> Moments:
    """The moments of the cells of a masked array that are inside, present and finite."""
    import numpy

    values = cells.data[inside & ~numpy.ma.getmaskarray(cells)].astype("float64")
    values = values[numpy.isfinite(values)]
    if not values.size:
        return Moments()
    mean = float(values.mean())
    return Moments(values.size, float(values.min()), float(values.max()), mean, float(((values - mean) ** 2).sum()))


def write_geojson(content: dict[str, Any]) -> Path:
    """The zones with their statistics among their properties."""
    result = Path("statistics.geojson")
    result.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return result


def write_csv(content: dict[str, Any]) -> Path:
    """A table with a line for each zone: its properties, then its statistics; an empty field is a missing value."""
    rows: list[dict[str, Any]] = [member["properties"] for member in content["features"]]
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in STATISTICS))
    result = Path("statistics.csv")
    with result.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [*columns, *STATISTICS])
        table.writeheader()
        table.writerows(rows)
    return result


def refusal(locator: str, text: str) -> ProcessError:
    """The error that tells the client what is wrong with one of its inputs."""
    return ProcessError(f"{locator} {text}", "InvalidParameterValue", locator)
