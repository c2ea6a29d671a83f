"""What a node wrote of a bounding box is compared with the description by what it means."""

import pytest

from joblauncher.formats.values import BoundingBoxValue
from wps_hpc.jobs.shape import Misfit, check_outputs
from wps_hpc.processes.description import BoundingBoxData, Output

DESCRIBED = (Output("box", data=BoundingBoxData(("urn:ogc:def:crs:OGC:1.3:CRS84",))),)


def check(crs: str) -> None:
    check_outputs({"box": (BoundingBoxValue((1.0, 2.0), (3.0, 4.0), crs),)}, DESCRIBED, ())


@pytest.mark.parametrize("crs", ["http://www.opengis.net/def/crs/OGC/1.3/CRS84", "OGC:CRS84", "CRS:84"])
def test_another_spelling_of_a_reference_system_is_the_same(crs: str) -> None:
    check(crs)


def test_another_reference_system_is_none_of_the_process() -> None:
    with pytest.raises(Misfit, match="EPSG:4326"):
        check("EPSG:4326")
