"""Well-known complex formats, and how a format that a client names is found among those that a process takes.

MIME types are those that PyWPS uses, so that its clients find them. ``encoding`` says how a value travels within a
document (``base64`` for what is not text); a file on disk always holds the plain bytes.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from encodings import aliases
from typing import Optional

from wps_hpc.processes.description import Format

GEOJSON = Format("application/geo+json", extension=".geojson")
JSON = Format("application/json", extension=".json")
GML = Format("application/gml+xml", extension=".gml")
GML2 = Format("text/xml; subtype=gml/2.1.2", None, "http://schemas.opengis.net/gml/2.1.2/feature.xsd", ".gml")
GML3 = Format("text/xml; subtype=gml/3.1.1", None, "http://schemas.opengis.net/gml/3.1.1/base/gml.xsd", ".gml")
GPX = Format("application/gpx+xml", extension=".gpx")
KML = Format("application/vnd.google-earth.kml+xml", extension=".kml")
KMZ = Format("application/vnd.google-earth.kmz", "base64", extension=".kmz")
#: A shapefile's parts in one zip archive.
SHAPEFILE = Format("application/x-zipped-shp", "base64", extension=".zip")
GEOPACKAGE = Format("application/geopackage+sqlite3", "base64", extension=".gpkg")
GEOTIFF = Format("image/tiff; subtype=geotiff", "base64", extension=".tiff")
TIFF = Format("image/tiff", "base64", extension=".tiff")
NETCDF = Format("application/x-netcdf", "base64", extension=".nc")
NCML = Format("application/ncML+xml", extension=".ncml")
HDF5 = Format("application/x-hdf5", "base64", extension=".h5")
GRIB = Format("application/x-grib", "base64", extension=".grib")
GRIB2 = Format("application/x-grib2", "base64", extension=".grib2")
DODS = Format("application/x-ogc-dods", extension=".nc")
LAS = Format("application/vnd.las", "base64", extension=".las")
LAZ = Format("application/vnd.laszip", "base64", extension=".laz")
CSV = Format("text/csv", extension=".csv")
TEXT = Format("text/plain", extension=".txt")
HTML = Format("text/html", extension=".html")
XML = Format("application/xml", extension=".xml")
SVG = Format("image/svg+xml", extension=".svg")
PNG = Format("image/png", "base64", extension=".png")
JPEG = Format("image/jpeg", "base64", extension=".jpg")
GIF = Format("image/gif", "base64", extension=".gif")
PDF = Format("application/pdf", "base64", extension=".pdf")
ZIP = Format("application/zip", "base64", extension=".zip")
GZIP = Format("application/gzip", "base64", extension=".gz")
TAR = Format("application/x-tar", "base64", extension=".tar")
METALINK = Format("application/metalink+xml; version=3.0", extension=".metalink")
META4 = Format("application/metalink+xml; version=4.0", extension=".meta4")
WMS = Format("application/x-ogc-wms", extension=".xml")
WFS = Format("application/x-ogc-wfs", extension=".xml")
WCS = Format("application/x-ogc-wcs", extension=".xml")
#: Bytes of no particular kind.
BINARY = Format("application/octet-stream", "base64", extension=".bin")

#: All of the above by name.
WELL_KNOWN: Mapping[str, Format] = {name: item for name, item in globals().items() if isinstance(item, Format)}

#: Other names under which clients know a type.
ALIASES: Mapping[str, str] = {
    "application/vnd.geo+json": "application/geo+json",
    "text/json": "application/json",
    "image/jpg": "image/jpeg",
    "image/geotiff": "image/tiff; subtype=geotiff",
    "application/netcdf": "application/x-netcdf",
    "application/x-zip-compressed": "application/zip",
    "text/xml": "application/xml",
    "application/vdn.las": "application/vnd.las",
    "application/vdn.laszip": "application/vnd.laszip",
}

#: What Python calls an encoding but is no character set; UTF-7 is one that hides markup from whoever looks for it.
_NO_CHARACTER_SETS = frozenset(
    ["base64_codec", "bz2_codec", "hex_codec", "mbcs", "quopri_codec", "rot_13", "utf_7", "uu_codec", "zlib_codec"]
)
_CHARACTER_SETS = frozenset({*aliases.aliases.values(), "koi8_u", "utf_8_sig"} - _NO_CHARACTER_SETS)
_SEPARATORS = re.compile("[^a-z0-9]+")

#: Types that are text although their names do not say so.
_TEXT_SUBTYPES = frozenset({"json", "xml", "x-ogc-wms", "x-ogc-wfs", "x-ogc-wcs", "x-ogc-dods"})
_EXTENSION_OF_SUFFIX: Mapping[str, str] = {"json": ".json", "xml": ".xml", "zip": ".zip", "gzip": ".gz"}


def split_mime(mime_type: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Type and parameters in one spelling: lower case, aliases resolved, ``charset`` (an encoding) left out."""
    essence, *rest = (part.strip().lower() for part in mime_type.split(";"))
    essence, *known = (part.strip() for part in ALIASES.get(essence, essence).split(";"))
    pairs = (part.partition("=") for part in (*known, *rest) if part)
    return essence, frozenset(
        (name.strip(), value.strip(' "')) for name, _, value in pairs if name.strip() != "charset"
    )


def same_mime(one: str, other: str) -> bool:
    """Whether two MIME types name the same format: equal, or equal but for parameters that only one of them gives."""
    (essence, parameters), (other_essence, other_parameters) = split_mime(one), split_mime(other)
    return essence == other_essence and (parameters == other_parameters or not parameters or not other_parameters)


def is_text(mime_type: str) -> bool:
    """Whether files of that type are text, so that they may stand within a document as they are."""
    essence = split_mime(mime_type)[0]
    subtype = essence.partition("/")[2]
    return essence.startswith("text/") or subtype in _TEXT_SUBTYPES or subtype.endswith(("+json", "+xml"))


def character_set(name: str) -> Optional[str]:
    """Python's codec for the character set of that name, or None when there is none.

    Python's own look-up must never see a client's word: it keeps every unknown name for good, and some of its codecs
    take quadratic time (punycode, idna) or are no character sets.
    """
    plain = _SEPARATORS.sub("_", name[:40].lower()).strip("_")
    codec = aliases.aliases.get(plain, plain)
    return codec if codec in _CHARACTER_SETS else None


def extension_for(mime_type: str) -> str:
    """The file extension (with its dot) of a MIME type; ``.bin`` for what nobody knows."""
    wanted = split_mime(mime_type)
    known = [item for item in WELL_KNOWN.values() if split_mime(item.mime_type)[0] == wanted[0]]
    for item in known:
        if split_mime(item.mime_type)[1] == wanted[1]:
            return item.extension
    return known[0].extension if known else _extension_by_suffix(wanted[0])


def _extension_by_suffix(essence: str) -> str:
    suffix = essence.rpartition("+")[2] if "+" in essence else essence.rpartition("/")[2]
    return _EXTENSION_OF_SUFFIX.get(suffix, ".txt" if essence.startswith("text/") else ".bin")


def matching(
    formats: Sequence[Format],
    mime_type: Optional[str] = None,
    encoding: Optional[str] = None,
    schema: Optional[str] = None,
) -> Optional[Format]:
    """The format among ``formats`` (the default one first) that a client means, or None when the process has none such.

    What the client leaves out is the default's (OGC 05-007r7 §9.3.1 table 23, §10.2.2 table 48): its MIME type, and of
    the formats with that type the first. MIME types are compared without regard to case and ``charset``. An encoding
    that differs from the described one only by being base64 for binary content, or a character set for text, is
    granted; the result then carries it.
    """
    wanted = mime_type or formats[0].mime_type
    exact = [item for item in formats if split_mime(item.mime_type) == split_mime(wanted)]
    related = [item for item in formats if item not in exact and same_mime(item.mime_type, wanted)]
    for item in (*exact, *related):
        if not schema or schema == item.schema:
            granted = _with_encoding(item, encoding)
            if granted is not None:
                return granted
    return None


def _with_encoding(item: Format, encoding: Optional[str]) -> Optional[Format]:
    wanted = (encoding or "").lower()
    if not wanted or wanted == (item.encoding or "").lower():
        return item
    if item.encoding is None and (wanted == "base64") != is_text(item.mime_type):
        return replace(item, encoding=encoding)
    return None
