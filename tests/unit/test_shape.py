"""What a node wrote of a bounding box is compared with the description by what it means."""

import pytest

from joblauncher.formats.values import BoundingBoxValue, LinkValue
from wps_hpc.jobs.shape import Misfit, check_outputs
from wps_hpc.processes.description import BoundingBoxData, ComplexData, Format, Output

DESCRIBED = (Output("box", data=BoundingBoxData(("urn:ogc:def:crs:OGC:1.3:CRS84",))),)


def check(crs: str) -> None:
    check_outputs({"box": (BoundingBoxValue((1.0, 2.0), (3.0, 4.0), crs),)}, DESCRIBED, ())


@pytest.mark.parametrize("crs", ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", "OGC:CRS84", "CRS:84"])
def test_another_spelling_of_a_reference_system_is_the_same(crs: str) -> None:
    check(crs)


def test_another_reference_system_is_none_of_the_process() -> None:
    with pytest.raises(Misfit, match="EPSG:4326"):
        check("EPSG:4326")


def check_link(href: str) -> None:
    described = Output("far", data=ComplexData((Format("text/csv"),)))
    check_outputs({"far": (LinkValue(href, "text/csv"),)}, [described], ())


@pytest.mark.parametrize("href", ["https://a.example/b", "ftp://a.example/é", "HTTP://[::1]:8080/"])
def test_addresses_of_outputs_elsewhere(href: str) -> None:
    check_link(href)


@pytest.mark.parametrize(
    "href", ["javascript:alert(1)", "file:///etc/passwd", "http://", "http:///x", "http://[bad/", "http://a:99999/"]
)
def test_nobody_is_sent_to_what_is_no_address(href: str) -> None:
    with pytest.raises(Misfit, match="lead"):
        check_link(href)
