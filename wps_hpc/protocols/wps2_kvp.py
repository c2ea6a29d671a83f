"""WPS 2.0 by HTTP GET: key-value pairs (OGC 14-065r2 §10.2, 12.2.2). Execute has none there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wps_hpc.errors import OperationNotSupported
from wps_hpc.protocols.ows import Query, check_service, check_version
from wps_hpc.protocols.wps2_request import VERSION, Operation
from wps_hpc.protocols.wps_request import (
    DescribeProcess,
    GetCapabilities,
    JobRequest,
    capabilities_of_query,
    identifiers_of_query,
)


def read_kvp(query: Query) -> Operation:
    """The operation that a GET asks for; raises the ServiceErrors of OWS Common for anything that is none."""
    check_service(query.get("service"))
    name = query.required("request")
    if name.lower() == "execute":
        raise OperationNotSupported("WPS 2.0 has no Execute by key-value pairs; send it as XML, by POST.", "Execute")
    reader = _READERS.get(name.lower())
    if reader is None:
        raise OperationNotSupported(
            f"The operation {name[:80]!r} is unknown; WPS 2.0 has {', '.join(OPERATIONS)}.", name[:80]
        )
    return reader(query)


def _get_capabilities(query: Query) -> GetCapabilities:
    return capabilities_of_query(query)


def _describe_process(query: Query) -> DescribeProcess:
    check_version(query.get("version"), VERSION)
    return DescribeProcess(identifiers_of_query(query), query.get("lang"))


def _job_request(query: Query) -> JobRequest:
    check_version(query.get("version"), VERSION)
    return JobRequest(JOB_REQUESTS[query.required("request").lower()], query.required("JobID"))


#: Operations on a job by their name in lower case. Pause and Resume are this server's own.
JOB_REQUESTS = {name.lower(): name for name in ("GetStatus", "GetResult", "Dismiss", "Pause", "Resume")}
OPERATIONS = ("GetCapabilities", "DescribeProcess", "Execute", *JOB_REQUESTS.values())

_READERS: Mapping[str, Callable[[Query], Operation]] = {
    "getcapabilities": _get_capabilities,
    "describeprocess": _describe_process,
    **dict.fromkeys(JOB_REQUESTS, _job_request),
}
