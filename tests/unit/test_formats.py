"""Well-known formats, and which described format a client means."""

import pytest
from pywps import FORMATS

from wps_hpc.processes import formats
from wps_hpc.processes.description import Format

UTF8_CSV = Format("text/csv", "utf-8", extension=".csv")
GML_A = Format("text/xml; subtype=gml/3.1.1", schema="http://example.org/a.xsd", extension=".gml")
GML_B = Format("text/xml; subtype=gml/3.1.1", schema="http://example.org/b.xsd", extension=".gml")


def test_every_well_known_format_has_a_type_and_an_extension() -> None:
    assert len(formats.WELL_KNOWN) > 30
    for name, item in formats.WELL_KNOWN.items():
        assert item.mime_type.count("/") >= 1, name
        assert item.extension.startswith("."), name
        assert (item.encoding == "base64") != formats.is_text(item.mime_type), name


def test_types_are_those_of_pywps() -> None:
    pywps = FORMATS
    for name in (
        "GEOJSON",
        "JSON",
        "GML",
        "GPX",
        "KML",
        "KMZ",
        "GEOTIFF",
        "NETCDF",
        "NCML",
        "TEXT",
        "ZIP",
        "XML",
        "CSV",
    ):
        ours, theirs = formats.WELL_KNOWN[name], getattr(pywps, name)
        assert (ours.mime_type, ours.encoding or "") == (theirs.mime_type, theirs.encoding)
        assert ours.extension == theirs.extension
    assert formats.SHAPEFILE.mime_type == pywps.SHP.mime_type


@pytest.mark.parametrize(
    ("described", "asked", "expected"),
    [
        # what is left out is the default's
        ([formats.GEOJSON, formats.KML], (None, None, None), formats.GEOJSON),
        ([formats.GEOJSON, formats.KML], ("", "", ""), formats.GEOJSON),
        ([formats.GEOJSON, formats.KML], ("application/vnd.google-earth.kml+xml",), formats.KML),
        ([formats.GEOTIFF, formats.TEXT], (None, "base64"), formats.GEOTIFF),
        ([GML_A, GML_B], (None, None, "http://example.org/b.xsd"), GML_B),
        ([GML_A, GML_B], ("text/xml; subtype=gml/3.1.1",), GML_A),
        # spelling
        ([formats.GEOJSON], ("Application/GEO+JSON; charset=UTF-8",), formats.GEOJSON),
        ([formats.GEOTIFF], ("image/tiff;subtype=GeoTIFF",), formats.GEOTIFF),
        ([formats.GEOTIFF], ('image/tiff; subtype="geotiff"',), formats.GEOTIFF),
        ([formats.GEOJSON], ("application/vnd.geo+json",), formats.GEOJSON),
        ([formats.XML], ("text/xml",), formats.XML),
        # parameters that only one side gives
        ([formats.GEOTIFF], ("image/tiff",), formats.GEOTIFF),
        ([formats.TIFF], ("image/tiff; subtype=geotiff",), formats.TIFF),
        ([formats.GEOTIFF, formats.TIFF], ("image/tiff",), formats.TIFF),
        # encodings
        ([formats.PNG], (None, "BASE64"), formats.PNG),
        ([Format("image/png")], (None, "base64"), Format("image/png", "base64")),
        ([formats.CSV], (None, "utf-8"), Format("text/csv", "utf-8", extension=".csv")),
        ([UTF8_CSV], (None, "UTF-8"), UTF8_CSV),
        ([formats.CSV, formats.ZIP], ("application/zip", "base64"), formats.ZIP),
        # not offered
        ([formats.GEOJSON], ("application/json",), None),
        ([formats.GML2], ("text/xml; subtype=gml/3.1.1",), None),
        ([formats.GEOJSON], (None, None, "http://example.org/other.xsd"), None),
        ([formats.GEOJSON], (None, "base64"), None),
        ([UTF8_CSV], (None, "latin-1"), None),
        ([formats.PNG], (None, "utf-8"), None),
        ([formats.GEOJSON], ("nonsense",), None),
        ([formats.GEOJSON], ("; ;",), None),
    ],
)
def test_matching(described: list[Format], asked: tuple[str | None, ...], expected: Format | None) -> None:
    assert formats.matching(described, *asked) == expected


@pytest.mark.parametrize(
    ("mime_type", "extension"),
    [
        ("application/geo+json", ".geojson"),
        ("image/tiff; subtype=geotiff", ".tiff"),
        ("text/xml; subtype=gml/3.1.1", ".gml"),
        ("text/xml", ".xml"),
        ("IMAGE/JPG", ".jpg"),
        ("application/x-netcdf; version=4", ".nc"),
        ("application/problem+json", ".json"),
        ("application/anything+xml", ".xml"),
        ("text/troff", ".txt"),
        ("application/x-unheard-of", ".bin"),
        ("", ".bin"),
    ],
)
def test_extension_for(mime_type: str, extension: str) -> None:
    assert formats.extension_for(mime_type) == extension


@pytest.mark.parametrize(
    ("mime_type", "text"),
    [("text/csv", True), ("application/json", True), ("image/svg+xml", True), ("image/png", False), ("", False)],
)
def test_is_text(mime_type: str, text: bool) -> None:
    assert formats.is_text(mime_type) is text


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("UTF-8", "utf_8"),
        ("utf8", "utf_8"),
        ("ISO-8859-1", "latin_1"),
        ("latin1", "latin_1"),
        ("ISO_8859-15", "iso8859_15"),
        ("windows-1252", "cp1252"),
        ("US-ASCII", "ascii"),
        ("UTF-16LE", "utf_16_le"),
        ("Shift_JIS", "shift_jis"),
        ("KOI8-U", "koi8_u"),
    ],
)
def test_character_sets_by_their_usual_names(name: str, codec: str) -> None:
    assert formats.character_set(name) == codec
    assert "a".encode(codec).decode(codec) == "a"


@pytest.mark.parametrize(
    "name", ["", "base64", "punycode", "idna", "utf-7", "rot13", "zlib", "os", "../os", "x" * 10**6]
)
def test_what_is_no_character_set(name: str) -> None:
    assert formats.character_set(name) is None
