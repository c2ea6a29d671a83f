"""What WPS 2.0 calls errors (OGC 14-065r2 tables 34, 43, 46 and 49; OWS Common 2.0, 06-121r9 §8)."""

from __future__ import annotations

from collections.abc import Mapping

from wps_hpc.errors import (
    BY_CODE,
    DataNotAccessible,
    ExecutionFailed,
    FileSizeExceeded,
    ModeNotSupported,
    NoApplicableCode,
    NoSuchFormat,
    NoSuchInput,
    NoSuchJob,
    NoSuchOutput,
    NoSuchProcess,
    NotEnoughStorage,
    ResultNotReady,
    ServerBusy,
    ServiceError,
    StorageNotSupported,
    TooManyInputs,
    TooManyOutputs,
    WrongInputData,
)
from wps_hpc.jobs.job import Job
from wps_hpc.protocols.ows import Dialect
from wps_hpc.protocols.xml import OWS2

#: exceptionCode and HTTP status of every error that WPS 2.0 has a word for; the others keep those of OWS Common. What
#: is no fault of the request and in no table is InternalServerError, as table 43 wants it.
CODES: Mapping[type[ServiceError], tuple[str, int]] = {
    NoSuchProcess: ("NoSuchProcess", 400),
    ModeNotSupported: ("NoSuchMode", 400),
    NoSuchInput: ("NoSuchInput", 400),
    NoSuchOutput: ("NoSuchOutput", 400),
    DataNotAccessible: ("DataNotAccessible", 400),
    FileSizeExceeded: ("SizeExceeded", 400),
    TooManyInputs: ("TooManyInputs", 400),
    TooManyOutputs: ("TooManyOutputs", 400),
    ServerBusy: ("ServerBusy", 503),
    StorageNotSupported: ("StorageNotSupported", 400),
    NoSuchFormat: ("NoSuchFormat", 400),
    WrongInputData: ("WrongInputData", 400),
    NoApplicableCode: ("InternalServerError", 500),
    ExecutionFailed: ("InternalServerError", 500),
    NotEnoughStorage: ("InternalServerError", 500),
    NoSuchJob: ("NoSuchJob", 400),
    ResultNotReady: ("ResultNotReady", 400),
}

OWS_2_0 = Dialect(OWS2, "2.0.0", CODES)

#: What an error becomes that a job failed with, by its exceptionCode and else by its cause.
_BY_CODE: Mapping[str, type[ServiceError]] = {
    **{code: kind for code, kind in BY_CODE.items() if code != NoApplicableCode.code},
    "InvalidParameterValue": WrongInputData,
}
_BY_CAUSE: Mapping[str, type[ServiceError]] = {"input not available": DataNotAccessible}


def failure_of(job: Job) -> ServiceError:
    """The error to report for a job that has failed (14-065r2 §9.8.3, §9.10.3)."""
    failure = job.failure
    if failure is None:
        return ExecutionFailed(job.message or "The job has failed.")
    kind = _BY_CODE.get(failure.code, ExecutionFailed)
    if kind is not FileSizeExceeded:
        kind = _BY_CAUSE.get(failure.cause, kind)
    return kind(failure.text or "The job has failed.", failure.locator)
