"""The query parameter ``resources``: what a client wishes for its job, by each protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.protocols import wps2
from tests.protocols.conftest import CheckedClient, execute_xml
from tests.protocols.ogcapi import Api
from tests.protocols.site import Site
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.protocols.caller import Caller, read_wishes

CODE = "InvalidParameterValue"
Refusal = tuple[int, str, str | None]


def by_kvp(site: Site, wishes: str) -> Refusal | None:
    query = f"service=WPS&version=1.0.0&request=Execute&identifier=echo&datainputs=text=a&Resources={wishes}"
    answer = CheckedClient(Api(site).application).kvp(query)
    return answer.exception if answer.status >= 400 else None


def by_first_post(site: Site, wishes: str) -> Refusal | None:
    answer = CheckedClient(Api(site).application).post(execute_xml("echo"), query_string=f"resources={wishes}")
    return answer.exception if answer.status >= 400 else None


def by_second_post(site: Site, wishes: str) -> Refusal | None:
    document = wps2.execute_xml("echo", wps2.literal_xml("text", "a"), wps2.output_xml("text", 'transmission="value"'))
    answer = CheckedClient(Api(site).application).post(document, query_string=f"resources={wishes}")
    return answer.exception2 if answer.status >= 400 else None


def by_ogcapi(site: Site, wishes: str) -> Refusal | None:
    path = f"/processes/echo/execution?resources={wishes}"
    answer = Api(site).open(path, "POST", json={"inputs": {"text": ["a"]}})
    return answer.code if answer.status >= 400 else None


PROTOCOLS: Mapping[str, Callable[[Site, str], Refusal | None]] = {
    "1.0.0 KVP": by_kvp,
    "1.0.0 XML": by_first_post,
    "2.0 XML": by_second_post,
    "OGC API": by_ogcapi,
}


@pytest.mark.parametrize("execute", PROTOCOLS.values(), ids=PROTOCOLS.keys())
@pytest.mark.parametrize("wishes", ["walltime_s=60,cores=1", "walltime_s%3D60%2Ccores%3D1"])
def test_wishes_reach_the_job(site: Site, execute: Callable[[Site, str], Refusal | None], wishes: str) -> None:
    assert execute(site, wishes) is None
    (request,) = site.requests.values()
    assert request.resources == {"walltime_s": 60, "cores": 1}


@pytest.mark.parametrize("execute", PROTOCOLS.values(), ids=PROTOCOLS.keys())
@pytest.mark.parametrize(
    ("wishes", "locator"),
    [
        ("cores", "resources"),
        ("cores=many", "resources"),
        ("cores=1;rm", "resources"),
        ("cores=1,cores=2", "resources"),
        ("cores=-1", "resources"),
        ("cores=%00", "resources"),
        ("colour=1", "colour"),
        ("cores=0", "cores"),
        ("walltime_s=999999999", "walltime_s"),
        ("nodes=2", "nodes"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(
    site: Site, execute: Callable[[Site, str], Refusal | None], wishes: str, locator: str
) -> None:
    refused = execute(site, wishes)
    assert refused is not None and (refused[0], refused[1], refused[2]) == (400, CODE, locator)
    assert not site.jobs


def test_an_empty_list_wishes_nothing() -> None:
    assert read_wishes(None) == read_wishes("") == read_wishes(" , ") == {}
    assert Caller.of("a=b&RESOURCES=cores=2&resources=nodes=1", None).resources() == {"cores": 2, "nodes": 1}


def test_a_very_long_number_is_no_wish() -> None:
    with pytest.raises(InvalidParameterValue):
        read_wishes("cores=" + "9" * 5000)
