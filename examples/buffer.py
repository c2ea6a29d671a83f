"""Buffer vector features by a distance in metres: GeoJSON in, GeoJSON out.

A degree is not a length, so each part of a feature is buffered in its own azimuthal equidistant projection, centred on
that part, and brought back to longitude and latitude. Needs shapely and pyproj where the job runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from wps_hpc import Job, ProcessError, Resources, formats, inputs, outputs, process

#: Corners in a quarter of a circle.
QUADRANT_SEGMENTS = 16
#: Away from the centre the projection stretches across: 1 % at 1,560 km, 3.8 % at 3,000 km. Farther is refused.
FARTHEST_METRES = 3_000_000.0
#: What the older GeoJSON of 2008 may name as its reference system and still mean longitude and latitude.
LONGITUDE_LATITUDE = ("urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84", "EPSG:4326")


@process(
    version="1.0.0",
    keywords=["vector", "buffer", "GeoJSON"],
    resources=Resources(cores=1, memory_mb=512, walltime_s=600),
    sync="local",
)
def buffer(
    features: Annotated[
        Path,
        inputs.complex(
            formats.GEOJSON,
            title="Features",
            abstract="Points, lines or polygons in longitude and latitude on WGS 84 (RFC 7946).",
            maximum_megabytes=20,
        ),
    ],
    distance: Annotated[
        float,
        inputs.literal(title="Distance", abstract="How far to reach.", uom=["m"], minimum=0.1, maximum=1_000_000),
    ] = 1000.0,
    *,
    job: Job,
) -> Annotated[
    Path,
    outputs.complex(
        formats.GEOJSON,
        identifier="buffered",
        title="Buffered features",
        abstract="The same features in the same order, each with its properties and the area within the distance.",
    ),
]:
    """Buffer in metres.

    Gives every feature the area that lies within a distance of it, in metres on the ground. Each part of a feature is
    buffered in an azimuthal equidistant projection about its own centre. Distances there are right to 1 % up to 1,560
    km from the centre; a part that would reach farther than 3,000 km, or over a pole, is refused. What crosses
    longitude 180 is cut there, as RFC 7946 asks.
    """
    collection = feature_collection(read_geojson(features))
    members = collection["features"]
    for number, feature in enumerate(members):
        job.progress(100 * number / len(members), f"feature {number + 1} of {len(members)}")
        feature["geometry"] = buffered_geometry(feature.get("geometry"), distance, feature_name(feature, number))
        feature.pop("bbox", None)
    result = Path("buffered.geojson")
    result.write_text(json.dumps(collection, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return result


def read_geojson(path: Path) -> dict[str, Any]:
    """The object in a GeoJSON file; raises ProcessError when it is not one, or not in longitude and latitude."""
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise refusal(f"features is not JSON: {error}") from error
    if not isinstance(content, dict) or "type" not in content:
        raise refusal("features is JSON, but not GeoJSON: the member «type» is missing")
    name = str(((content.get("crs") or {}).get("properties") or {}).get("name", LONGITUDE_LATITUDE[0]))
    if name not in LONGITUDE_LATITUDE:
        raise refusal(f"features is in the reference system {name}; send longitude and latitude on WGS 84 (RFC 7946)")
    return content


def feature_collection(content: dict[str, Any]) -> dict[str, Any]:
    """Any GeoJSON object as a feature collection, without its ``bbox`` and ``crs``, which would no longer be true."""
    if content["type"] == "FeatureCollection":
        members = content.get("features")
        if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
            raise refusal("the feature collection has no list of features")
    elif content["type"] == "Feature":
        members = [content]
    else:
        members = [{"type": "Feature", "properties": None, "geometry": content}]
    kept = {key: part for key, part in content.items() if content["type"] == "FeatureCollection"}
    kept.update(type="FeatureCollection", features=members)
    return {key: part for key, part in kept.items() if key not in ("bbox", "crs")}


def feature_name(feature: dict[str, Any], number: int) -> str:
    """What to call a feature in a message: its name or id where it has one, and its number from 1."""
    properties = feature.get("properties") or {}
    name = properties.get("name") or feature.get("id")
    return f"feature {number + 1}" + (f" ({name})" if name else "")


def buffered_geometry(geometry: Any, distance: float, name: str) -> Any:
    """A GeoJSON geometry within ``distance`` metres of ``geometry``; None stays None (RFC 7946 §3.2)."""
    import shapely
    from shapely.geometry import mapping, shape

    if geometry is None:
        return None
    try:
        parts = list(simple_parts(shape(geometry)))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        shapely.errors.ShapelyError,
    ) as error:
        raise refusal(f"{name} has a geometry that cannot be read: {error}") from error
    if not parts:
        return None
    areas = shapely.union_all([buffered_part(part, distance, name) for part in parts])
    return mapping(counter_clockwise(shapely.set_precision(areas, 1e-7)))


def simple_parts(geometry: Any) -> Iterator[Any]:
    """The points, lines and polygons that a geometry consists of; empty ones are left out."""
    if geometry.is_empty:
        return
    members: list[Any] = list(getattr(geometry, "geoms", ()))
    if not members:
        yield geometry
    for member in members:
        yield from simple_parts(member)


def buffered_part(part: Any, distance: float, name: str) -> Any:
    """One point, line or polygon, buffered in a projection about its own centre, cut at longitude 180."""
    import numpy
    import shapely
    from pyproj import Transformer

    check_coordinates(part, name)
    longitude, latitude = part.centroid.coords[0]
    local = f"+proj=aeqd +lat_0={latitude!r} +lon_0={longitude!r} +datum=WGS84 +units=m"
    there = Transformer.from_crs("OGC:CRS84", local, always_xy=True)

    def project(direction: Any, geometry: Any) -> Any:
        return shapely.transform(
            geometry, lambda xy: numpy.column_stack(there.transform(xy[:, 0], xy[:, 1], direction=direction))
        )

    area = project("FORWARD", part).buffer(distance, quad_segs=QUADRANT_SEGMENTS)
    check_reach(area, there.transform(longitude, 90.0 if latitude >= 0 else -90.0), name)
    return cut_at_180(project("INVERSE", area), longitude)


def check_coordinates(part: Any, name: str) -> None:
    """Raise ProcessError unless every coordinate is a longitude and a latitude in degrees."""
    west, south, east, north = part.bounds
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise refusal(
            f"{name} has coordinates outside of longitude ±180 and latitude ±90; send longitude and latitude in degrees"
        )


def check_reach(area: Any, pole: Any, name: str) -> None:
    """Raise ProcessError when a projected area holds the nearer pole, or reaches too far to be true."""
    import numpy
    import shapely

    if area.intersects(shapely.Point(pole)):
        raise refusal(f"{name} reaches over a pole, where this process does not work")
    reach = float(numpy.hypot(*shapely.get_coordinates(area).T).max())
    if not reach <= FARTHEST_METRES:
        raise refusal(
            f"{name} has a part whose buffer would reach {reach / 1000:,.0f} km from its centre; distances are true "
            f"up to {FARTHEST_METRES / 1000:,.0f} km: cut it into pieces, or use a smaller distance"
        )


def cut_at_180(area: Any, centre: float) -> Any:
    """An area around longitude ``centre`` with its coordinates within ±180: what is beyond is cut off and put there."""
    import numpy
    import shapely

    def unwrapped(xy: Any) -> Any:
        return numpy.column_stack([centre + (xy[:, 0] - centre + 180.0) % 360.0 - 180.0, xy[:, 1]])

    whole = shapely.transform(area, unwrapped)
    if whole.bounds[0] >= -180 and whole.bounds[2] <= 180:
        return whole
    pieces = []
    for turn in (-360.0, 0.0, 360.0):
        piece = whole.intersection(shapely.box(-180 + turn, -90, 180 + turn, 90))
        pieces.append(shapely.transform(piece, lambda xy, by=turn: xy - [by, 0.0]))
    return shapely.union_all(pieces)


def counter_clockwise(areas: Any) -> Any:
    """Polygons with their outer rings counter-clockwise (RFC 7946 §3.1.6)."""
    from shapely import MultiPolygon
    from shapely.geometry.polygon import orient

    polygons = [orient(part) for part in simple_parts(areas) if part.geom_type == "Polygon"]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def refusal(text: str) -> ProcessError:
    """The error that tells the client what is wrong with its features."""
    return ProcessError(text, "InvalidParameterValue", "features")
