"""What WPS 2.0 calls errors: every code of the standard, with its HTTP status, and a name for every error."""

import pytest

from joblauncher.formats.records import CAUSES, Failure
from wps_hpc import errors
from wps_hpc.errors import BY_CODE, ServiceError
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.protocols.ows import OWS_1_1
from wps_hpc.protocols.wps2_errors import CODES, OWS_2_0, failure_of

#: 14-065r2 tables 34, 43, 46 and 49.
STANDARD = {
    **dict.fromkeys(
        (
            "NoSuchProcess",
            "NoSuchMode",
            "NoSuchInput",
            "NoSuchOutput",
            "DataNotAccessible",
            "SizeExceeded",
            "TooManyInputs",
            "TooManyOutputs",
            "StorageNotSupported",
            "NoSuchFormat",
            "WrongInputData",
            "NoSuchJob",
            "ResultNotReady",
        ),
        400,
    ),
    "ServerBusy": 503,
    "InternalServerError": 500,
}
#: 06-121r9 §8: what is in no table of WPS is called as OWS Common has it.
COMMON = {
    "OperationNotSupported",
    "MissingParameterValue",
    "InvalidParameterValue",
    "VersionNegotiationFailed",
    "InvalidUpdateSequence",
    "OptionNotSupported",
    "NoApplicableCode",
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]


def test_every_code_of_the_standard_is_in_the_table() -> None:
    assert dict(CODES.values()) == STANDARD


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_name_in_both_versions(kind: type[ServiceError]) -> None:
    error = kind("It is wrong.")
    code, status = OWS_2_0.called(error)
    assert STANDARD.get(code, status) == status
    assert code in {*STANDARD, *COMMON}
    assert OWS_1_1.called(error) == (kind.code, kind.http_status)
    assert kind.code in BY_CODE


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("code", [*BY_CODE, "unheard-of"])
def test_every_failure_has_a_name(cause: str, code: str) -> None:
    failure = Failure(cause, "It failed.", code, "here")
    job = Job("id", "buffer", "1", "wps2", "async", JobState.FAILED, "", 0, created=1.0, request="{}", failure=failure)
    error = failure_of(job)
    assert OWS_2_0.called(error)[0] in {*STANDARD, *COMMON}
    assert (error.text, error.locator) == ("It failed.", "here")
