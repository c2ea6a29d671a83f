"""Contour lines of an elevation model, by GDAL's command ``gdal_contour``: GeoTIFF in, GeoJSON out.

An example of a process that is a command line: the program runs as a child, its output goes to the job's log as it
comes, its progress becomes the job's, and it ends with the job. Plain Python, apart from ``gdal_contour`` itself
(Debian's package gdal-bin).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

from wps_hpc import Job, ProcessError, Resources, formats, inputs, outputs, process

PROGRAM = "gdal_contour"
#: How a TIFF or BigTIFF file begins, in either byte order.
TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: GDAL's progress, «0...10...20...», grows within one line.
PERCENT = re.compile(rb"(\d+)(?=\.\.\.)")
#: Seconds that the program has to end by itself when the job is cancelled.
TIME_TO_STOP = 5.0
#: How much of the program's last words goes into an error.
LAST_WORDS = 400


@process(
    version="1.0.0",
    keywords=["elevation", "contours", "GDAL", "GeoTIFF"],
    resources=Resources(cores=1, memory_mb=1024, walltime_s=1800),
    sync="local",
)
def contours(
    elevation: Annotated[Path, inputs.complex(formats.GEOTIFF, formats.TIFF, title="Elevation", maximum_megabytes=200)],
    interval: Annotated[float, inputs.literal(title="Interval", uom="m", allowed=[inputs.between(1.0, 1000.0)])] = 50.0,
    band: Annotated[int, inputs.literal(title="Band", data_type="positiveInteger")] = 1,
    *,
    job: Job,
) -> Annotated[
    Path,
    outputs.complex(
        formats.GEOJSON,
        identifier="lines",
        title="Contour lines",
        abstract="Lines of equal height in longitude and latitude on WGS 84; the property elev is the height.",
    ),
]:
    """Contour lines.

    Draws lines of equal height of an elevation model, by the command gdal_contour.

    Args:
        elevation: A GeoTIFF with a reference system, its values in metres.
        interval: The difference in height from one line to the next; there is a line at each multiple of it.
        band: The band of the raster, from 1.
    """
    check_tiff(elevation)
    result = Path("contours.geojson")
    # In an image without Python it is the command alone that runs inside.
    program = find_program() if not job.entered else PROGRAM
    run_program(job.command(*contour_command(program, elevation, band, interval, result)), job)
    return result


def contour_command(program: str, elevation: Path, band: int, interval: float, result: Path) -> list[str]:
    """The command as a list: no shell reads it, so no value in it can be taken for anything but a value."""
    options = ["-f", "GeoJSON", "-lco", "RFC7946=YES", "-b", str(band), "-i", repr(interval), "-a", "elev"]
    return [program, *options, str(elevation), str(result)]


def find_program() -> str:
    """The path of gdal_contour; raises ProcessError where it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise ProcessError(
            "gdal_contour is not installed where this process runs; ask the operator of the service for it "
            "(Debian and Ubuntu: the package gdal-bin)"
        )
    return program


def check_tiff(elevation: Path) -> None:
    """Raise ProcessError unless the file is a TIFF: other GDAL formats are lists of further files to open."""
    with elevation.open("rb") as stream:
        if stream.read(4) not in TIFF_BEGINNINGS:
            raise ProcessError("elevation is not a GeoTIFF", "InvalidParameterValue", "elevation")


def run_program(command: list[str], job: Job) -> None:
    """Run the program to its end, its output in the job's log; raises ProcessError with its last words if it fails."""
    job.logger.info("running %s", " ".join(command))
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = follow(program, job)
    finally:
        stop(program)
    if program.returncode != 0:
        words = said.decode("utf-8", "replace").strip()[-LAST_WORDS:]
        raise ProcessError(f"gdal_contour ended with {program.returncode}: {words}")


def follow(program: subprocess.Popen[bytes], job: Job) -> bytes:
    """Copy the program's output to the log as it comes, and its percentages to the job; return its last words."""
    assert program.stdout is not None
    said = b""
    while True:
        chunk = os.read(program.stdout.fileno(), 65536)
        if not chunk:
            program.wait()
            return said
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        said = (said + chunk)[-10 * LAST_WORDS :]
        for percent in PERCENT.findall(said)[-1:]:
            job.progress(float(percent), "drawing contour lines")


def stop(program: subprocess.Popen[bytes]) -> None:
    """Leave no child behind: TERM, and KILL for one that does not listen. Nothing happens to one that has ended."""
    if program.poll() is None:
        program.terminate()
    try:
        program.wait(TIME_TO_STOP)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
    if program.stdout is not None:
        program.stdout.close()
