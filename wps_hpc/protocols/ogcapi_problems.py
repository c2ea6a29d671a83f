"""What went wrong, as OGC API - Processes tells it: problem details (RFC 7807) with the type URIs of 18-062r2.

The standard names three types. Whatever else this server knows of a problem has a type of its own, which leads to the
page that explains it; ``code`` and ``locator`` are the exceptionCode and locator that a WPS client would get.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from wps_hpc.errors import (
    BY_CODE,
    MethodNotAllowed,
    NoApplicableCode,
    NoSuchJob,
    NoSuchProcess,
    ResultNotReady,
    ServiceError,
)
from wps_hpc.jobs.job import Job, JobState

_STANDARD = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0"


class JobDismissed(ServiceError):
    """The results of a job that was dismissed were asked for."""

    http_status = 410


_PLAIN = "about:blank"
#: The types of the standard, and the one for what HTTP's status says completely (RFC 7807 §4.2).
_TYPES: Mapping[type[ServiceError], str] = {
    NoSuchProcess: f"{_STANDARD}/no-such-process",
    NoSuchJob: f"{_STANDARD}/no-such-job",
    ResultNotReady: f"{_STANDARD}/result-not-ready",
    MethodNotAllowed: _PLAIN,
}
#: HTTP statuses that this standard has and WPS has not.
_STATUSES: Mapping[type[ServiceError], int] = {NoSuchProcess: 404, NoSuchJob: 404, ResultNotReady: 404}

#: What each exceptionCode means, in a few words: the title of a problem.
TITLES: Mapping[str, str] = {
    "FileSizeExceeded": "A body or an input is too large",
    "InvalidParameterValue": "Something has a value that is not accepted here",
    "MissingParameterValue": "Something that is needed was not given",
    "NotEnoughStorage": "The server has no room for this",
    "OperationNotSupported": "The server cannot do this",
    "OptionNotSupported": "The server does not have this option",
    "ServerBusy": "No place is free now",
    "StorageNotSupported": "The process cannot run or answer this way",
}


def problem(error: ServiceError, base: str) -> dict[str, Any]:
    """The problem details (exception.yaml). ``base`` is the public address of the server."""
    kind = _TYPES.get(type(error))
    titled = TITLES.get(error.code) if kind is None else None
    status = _STATUSES.get(type(error), error.http_status)
    details: dict[str, Any] = {
        "type": kind or (f"{base}/api#{error.code}" if titled else _PLAIN),
        "title": titled or HTTPStatus(status).phrase,
        "status": status,
        "detail": error.text,
        "code": error.code,
    }
    if error.locator is not None:
        details["locator"] = error.locator
    return details


def failure(job: Job) -> ServiceError:
    """Why a job that ended has no results: what a request for them is answered with (18-062r2 §7.13.4)."""
    if job.state is JobState.DISMISSED:
        return JobDismissed(f"The job was dismissed by {job.cancelled_by or 'its owner'}; it has no results.")
    if job.failure is None:
        return NoApplicableCode(job.message or "The job has failed.")
    kind = BY_CODE.get(job.failure.code, NoApplicableCode)
    return kind(job.failure.text or "The job has failed.", job.failure.locator)
