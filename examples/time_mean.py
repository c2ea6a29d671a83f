"""The mean over time of a NetCDF series: a field, and its mean, smallest and largest value as literals.

Reads a few steps at a time, so a series larger than the job's memory is no trouble. Needs netCDF4 and numpy where the
job runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Optional

from wps_hpc import BoundingBox, Job, ProcessError, Resources, formats, inputs, outputs, process

#: Values that are held in memory at once.
CHUNK_VALUES = 8_000_000
#: What CF says of coordinate variables: units, and names for files that lack them.
LATITUDE_UNITS = ("degrees_north", "degree_north", "degree_N", "degrees_N")
LONGITUDE_UNITS = ("degrees_east", "degree_east", "degree_E", "degrees_E")


@dataclass(frozen=True)
class TimeMean:
    """What the process gives; each field is an output."""

    field: Annotated[
        Path,
        outputs.complex(formats.NETCDF, title="Mean field", abstract="A CF file with the mean of each cell."),
    ]
    mean: Annotated[
        float,
        outputs.literal(
            title="Mean", abstract="Of the mean field, each cell weighted by its area (cosine of latitude)."
        ),
    ]
    minimum: Annotated[float, outputs.literal(title="Minimum", abstract="The least value of the mean field.")]
    maximum: Annotated[float, outputs.literal(title="Maximum", abstract="The greatest value of the mean field.")]
    steps: Annotated[int, outputs.literal(title="Steps", abstract="How many steps of the series were averaged.")]


@process(
    version="1.0.0",
    keywords=["NetCDF", "CF", "time series", "climate"],
    resources=Resources(cores=1, memory_mb=1024, walltime_s=1800),
    sync="local",
)
def time_mean(
    series: Annotated[Path, inputs.complex(formats.NETCDF, title="Series", maximum_megabytes=1000)],
    variable: Annotated[str, inputs.literal(title="Variable")],
    start: Annotated[Optional[datetime], inputs.literal(title="Start")] = None,
    end: Annotated[Optional[datetime], inputs.literal(title="End")] = None,
    region: Annotated[Optional[BoundingBox], inputs.bounding_box(title="Region")] = None,
    *,
    job: Job,
) -> TimeMean:
    """Mean over time.

    Averages a variable over time in each cell of a grid of latitudes and longitudes. Missing values do not count. All
    steps weigh the same.

    Args:
        series: A NetCDF file after the CF conventions, the variable over time, latitude and longitude.
        variable: The variable's name in the file.
        start: The first moment that counts; without a zone it is in UTC. The series' first step when left out.
        end: The last moment that counts. The series' last step when left out.
        region: Cells whose centre lies outside are left out. Longitudes may count from -180 or from 0; a region across
            longitude 180 has a western edge that is greater than its eastern one.
    """
    with open_series(series) as dataset:
        averaged = averaged_variable(dataset, variable)
        selection = select(dataset, averaged, start, end, region)
        field = mean_over_time(averaged, selection, job)
        result = Path("time_mean.nc")
        write_field(dataset, averaged, selection, field, result)
        latitudes = dataset.variables[selection.dimensions[1]][:][selection.rows]
        mean = mean_of_area(field, latitudes)
    return TimeMean(result, mean, float(field.min()), float(field.max()), int(selection.steps.size))


@dataclass(frozen=True)
class Selection:
    """Which part of a variable is averaged: indices along time, latitude and longitude, and those dimensions' names."""

    dimensions: tuple[str, str, str]
    steps: Any
    rows: Any
    columns: Any


def open_series(path: Path) -> Any:
    """The NetCDF file as an open dataset; raises ProcessError when it is not one."""
    import netCDF4

    try:
        return netCDF4.Dataset(str(path.resolve()), "r")
    except OSError as error:
        raise refusal("series", f"is not a NetCDF file that can be read: {error}") from error


def averaged_variable(dataset: Any, name: str) -> Any:
    """The variable of that name; raises ProcessError unless it has the dimensions time, latitude and longitude."""
    usable = [found for found, entry in dataset.variables.items() if entry.ndim == 3 and entry.dtype.kind in "iuf"]
    if name not in usable:
        raise refusal(
            "variable",
            f"{name!r} is not in the series over time, latitude, longitude; there: {', '.join(usable)}",
        )
    return dataset.variables[name]


def select(
    dataset: Any,
    variable: Any,
    start: Optional[datetime],
    end: Optional[datetime],
    region: Optional[BoundingBox],
) -> Selection:
    """The steps, rows and columns that were asked for; raises ProcessError when nothing is left."""
    time, latitude, longitude = (dataset.variables.get(name) for name in variable.dimensions)
    if time is None or " since " not in getattr(time, "units", ""):
        raise refusal("series", f"has no CF time coordinate for the first dimension of {variable.name}")
    if getattr(latitude, "units", "") not in LATITUDE_UNITS or getattr(longitude, "units", "") not in LONGITUDE_UNITS:
        raise refusal("series", f"has no latitudes and longitudes for the last two dimensions of {variable.name}")
    rows, columns = cells_within(latitude[:], longitude[:], region)
    return Selection(variable.dimensions, steps_between(time, start, end), rows, columns)


def steps_between(time: Any, start: Optional[datetime], end: Optional[datetime]) -> Any:
    """Indices of the steps from ``start`` to ``end``, both included, in the series' own calendar."""
    import numpy

    values = numpy.ma.filled(time[:].astype("float64"), numpy.nan)
    chosen = numpy.isfinite(values)
    if start is not None:
        chosen &= values >= on_axis(start, time, "start")
    if end is not None:
        chosen &= values <= on_axis(end, time, "end")
    if not chosen.any():
        raise refusal("start", "and end leave no step of the series; it has " + span(time, values))
    return numpy.flatnonzero(chosen)


def on_axis(moment: datetime, time: Any, locator: str) -> float:
    """A moment as a number on the series' time axis. A moment without a zone is in UTC, like the axis."""
    import netCDF4

    naive = moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment
    try:
        return float(netCDF4.date2num(naive, time.units, getattr(time, "calendar", "standard")))
    except ValueError as error:
        raise refusal(locator, f"is no moment of the series' calendar: {error}") from error


def span(time: Any, values: Any) -> str:
    """From when to when a time axis goes, in words."""
    import netCDF4
    import numpy

    calendar = getattr(time, "calendar", "standard")
    first, last = (netCDF4.num2date(end, time.units, calendar) for end in (numpy.nanmin(values), numpy.nanmax(values)))
    return f"{values.size} steps from {first} to {last}"


def cells_within(latitudes: Any, longitudes: Any, region: Optional[BoundingBox]) -> tuple[Any, Any]:
    """Indices of the rows and columns whose centres lie in the region; one that crosses longitude 180 has its western
    edge east of its eastern one. Longitudes of the series may count from -180 or from 0."""
    import numpy

    if region is None:
        return numpy.arange(latitudes.size), numpy.arange(longitudes.size)
    (west, south), (east, north) = region.lower, region.upper
    width = 360.0 if east - west >= 360 else (east - west) % 360
    rows = numpy.flatnonzero((latitudes >= south) & (latitudes <= north))
    offsets = (longitudes - west) % 360
    columns = numpy.flatnonzero(offsets <= width)
    if not rows.size or not columns.size:
        raise refusal("region", "holds no cell of the series")
    return rows, columns[numpy.argsort(offsets[columns], kind="stable")]


def mean_over_time(variable: Any, selection: Selection, job: Job) -> Any:
    """The mean of each cell over the chosen steps as a masked array (latitude, longitude); a cell without any value is
    masked."""
    import numpy

    shape = (selection.rows.size, selection.columns.size)
    total, count = numpy.zeros(shape), numpy.zeros(shape, dtype="int64")
    done = 0
    for steps in chunks(selection.steps, max(1, CHUNK_VALUES // (variable.shape[1] * variable.shape[2]))):
        values = numpy.ma.masked_invalid(variable[steps][:, selection.rows][:, :, selection.columns])
        total += numpy.ma.filled(values.astype("float64").sum(axis=0), 0.0)
        count += values.count(axis=0)
        done += len(steps)
        job.progress(100 * done / selection.steps.size, f"step {done} of {selection.steps.size}")
    if not count.any():
        raise refusal("variable", f"{variable.name!r} has no value in that time and region")
    return numpy.ma.masked_array(total / numpy.maximum(count, 1), mask=count == 0)


def chunks(indices: Any, length: int) -> Iterator[Any]:
    """The indices in pieces of at most ``length``."""
    for first in range(0, len(indices), length):
        yield indices[first : first + length]


def mean_of_area(field: Any, latitudes: Any) -> float:
    """The mean of the cells, each weighted by its area: the cosine of its latitude."""
    import numpy

    weights = numpy.cos(numpy.radians(numpy.asarray(latitudes, dtype="float64")))
    return float(numpy.ma.average(field, weights=numpy.broadcast_to(weights[:, None], field.shape)))


def write_field(dataset: Any, variable: Any, selection: Selection, field: Any, result: Path) -> None:
    """A CF file with the mean field, its latitudes and longitudes, and the time that it stands for."""
    import netCDF4

    with netCDF4.Dataset(str(result), "w", format="NETCDF4_CLASSIC") as target:
        target.setncatts({"Conventions": "CF-1.8", "title": f"time mean of {variable.name}"})
        if hasattr(dataset, "source"):
            target.source = dataset.source
        time, latitude, longitude = selection.dimensions
        write_time(target, dataset.variables[time], selection.steps)
        write_axis(target, dataset.variables[latitude], selection.rows)
        write_axis(target, dataset.variables[longitude], selection.columns)
        written = target.createVariable(
            variable.name,
            "f8",
            (latitude, longitude),
            zlib=True,
            shuffle=True,
            fill_value=netCDF4.default_fillvals["f8"],
        )
        kept = {
            name: variable.getncattr(name)
            for name in ("standard_name", "long_name", "units")
            if name in variable.ncattrs()
        }
        written.setncatts({**kept, "cell_methods": averaged_methods(variable, time), "coordinates": time})
        written[:] = field


def averaged_methods(variable: Any, time: str) -> str:
    """CF cell methods with the mean over time said once, last (CF 1.8 §7.3)."""
    method = f"{time}: mean"
    former = str(getattr(variable, "cell_methods", "")).strip()
    return former if former.endswith(method) else f"{former} {method}".strip()


def write_axis(target: Any, axis: Any, indices: Any) -> None:
    """One axis with its attributes. Columns that cross its end go on past 360, so that it stays monotonic."""
    import numpy

    values = numpy.asarray(axis[:], dtype="float64")[indices]
    turns = numpy.diff(values) < 0
    if getattr(axis, "units", "") in LONGITUDE_UNITS and turns.any() and not turns.all():
        values = values[0] + (values - values[0]) % 360
    target.createDimension(axis.dimensions[0], values.size)
    written = target.createVariable(axis.name, "f8", axis.dimensions)
    written.setncatts({name: axis.getncattr(name) for name in axis.ncattrs() if name not in ("_FillValue", "bounds")})
    written[:] = values


def write_time(target: Any, axis: Any, steps: Any) -> None:
    """The middle of the averaged steps as a scalar coordinate, the first and last one as its bounds (CF 1.8 §7.1)."""
    import numpy

    values = numpy.asarray(axis[:], dtype="float64")[steps]
    target.createDimension("nv", 2)
    written = target.createVariable(axis.name, "f8")
    written.setncatts({"standard_name": "time", "units": axis.units, "bounds": f"{axis.name}_bnds"})
    written.calendar = getattr(axis, "calendar", "standard")
    bounds = target.createVariable(f"{axis.name}_bnds", "f8", ("nv",))
    bounds[:] = [values.min(), values.max()]
    written[...] = (values.min() + values.max()) / 2


def refusal(locator: str, text: str) -> ProcessError:
    """The error that tells the client what is wrong with one of its inputs."""
    return ProcessError(f"{locator} {text}", "InvalidParameterValue", locator)
