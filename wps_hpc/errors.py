"""One exception class for each OWS exceptionCode, with its locator and HTTP status.

Codes: OGC 05-007r7 (WPS 1.0.0) table 38 and OWS Common 1.1 (06-121r3) table 25; HTTP statuses as OWS Common gives them,
for the WPS-specific ones the status that says the same. The text is a sentence that tells the client what to do;
anything for the operator goes to the log.
"""

from __future__ import annotations


class ServiceError(Exception):
    """What a client is told. Subclasses fix the code; an unexpected failure is NoApplicableCode."""

    code = "NoApplicableCode"
    http_status = 500
    #: Seconds after which a client may try again, where that makes sense.
    retry_after: int | None = None

    def __init__(self, text: str, locator: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.locator = locator


class NoApplicableCode(ServiceError):
    """Something went wrong that no other code describes."""


class BadRequest(ServiceError):
    """The request is not even readable (malformed XML, a DTD, a body that never arrived): NoApplicableCode with 400."""

    http_status = 400


class BodyTimeout(BadRequest):
    """The request's body did not arrive in time."""

    http_status = 408


class UnsupportedBody(BadRequest):
    """The request's body comes in an encoding that the service does not read."""

    http_status = 415


class AddressTooLong(BadRequest):
    """The request's address with its key-value pairs is longer than the server reads."""

    http_status = 414


class HeadersTooLarge(BadRequest):
    """The request's HTTP headers are more, or larger, than the server reads."""

    http_status = 431


class SyncTimeLimit(ServiceError):
    """A synchronous call took longer than the server waits, and its job was dismissed: NoApplicableCode with 504, since
    it is the job behind the server that did not answer in time, and a retry of the same call would fare no better."""

    http_status = 504


class NotFound(ServiceError):
    """The document asked for does not exist, or no longer: NoApplicableCode with 404."""

    http_status = 404


class RangeNotSatisfiable(ServiceError):
    """The part of a file asked for lies beyond its end."""

    http_status = 416


class MissingParameterValue(ServiceError):
    """A mandatory parameter is not there; the locator names it."""

    code = "MissingParameterValue"
    http_status = 400


class InvalidParameterValue(ServiceError):
    """A parameter has a value that the service or process does not accept; the locator names it."""

    code = "InvalidParameterValue"
    http_status = 400


# What WPS 1.0.0 calls by one code, and WPS 2.0 and OGC API - Processes tell apart. Whoever refuses a request says which
# of them it is; each protocol has its own table of what it calls them.


class NoSuchProcess(InvalidParameterValue):
    """There is no process of that identifier."""


class NoSuchInput(InvalidParameterValue):
    """The process has no input of that identifier, which is the locator."""


class NoSuchOutput(InvalidParameterValue):
    """The process has no output of that identifier, which is the locator."""


class NoSuchFormat(InvalidParameterValue):
    """The input or output does not come in that format; the locator names it."""


class NoSuchJob(InvalidParameterValue):
    """There is no job of that identifier, or no longer."""


class WrongInputData(InvalidParameterValue):
    """The value of an input is not one that the process takes; the locator names the input."""


class DataNotAccessible(InvalidParameterValue):
    """An input refers to something that this server does not fetch; the locator names the input."""


class TooManyInputs(InvalidParameterValue):
    """An input is given more often than the process takes it; the locator names the input."""


class TooManyOutputs(InvalidParameterValue):
    """More outputs are asked for than this kind of response can hold."""


class ModeNotSupported(InvalidParameterValue):
    """The process does not run in the way that the client wants to wait for it."""


class ResultNotReady(ServiceError):
    """The job has not ended yet; the locator is the job."""

    http_status = 400


class ExecutionFailed(ServiceError):
    """The job ended in a failure of its own, which no code describes."""


class Forbidden(ServiceError):
    """The client may not do this, to this job: NoApplicableCode with 403."""

    http_status = 403


class OperationNotSupported(ServiceError):
    """The operation is not one of this service; the locator names it."""

    code = "OperationNotSupported"
    http_status = 501


class MethodNotAllowed(OperationNotSupported):
    """The address exists but not for this HTTP method."""

    http_status = 405


class VersionNegotiationFailed(ServiceError):
    """None of the AcceptVersions is served; without a locator."""

    code = "VersionNegotiationFailed"
    http_status = 400


class InvalidUpdateSequence(ServiceError):
    """The client's updateSequence is newer than the service's; without a locator."""

    code = "InvalidUpdateSequence"
    http_status = 400


class OptionNotSupported(ServiceError):
    """An option of an operation is not supported."""

    code = "OptionNotSupported"
    http_status = 501


class NotEnoughStorage(ServiceError):
    """The server cannot store what the request needs."""

    code = "NotEnoughStorage"
    http_status = 507


class ServerBusy(ServiceError):
    """No place is free now; the client may try again."""

    code = "ServerBusy"
    http_status = 503
    retry_after = 10


class FileSizeExceeded(ServiceError):
    """A body or an input is larger than the service or the process accepts; the locator names the input."""

    code = "FileSizeExceeded"
    http_status = 413


class StorageNotSupported(ServiceError):
    """The process cannot store its response or run asynchronously."""

    code = "StorageNotSupported"
    http_status = 400


#: The text that PyWPS's clients know, word for word.
PARALLEL_LIMIT_TEXT = "Maximum number of parallel running processes reached. Please try later."

#: exceptionCode to class, for failures that travelled as text through the launcher or the database.
BY_CODE: dict[str, type[ServiceError]] = {
    cls.code: cls
    for cls in (
        NoApplicableCode,
        MissingParameterValue,
        InvalidParameterValue,
        OperationNotSupported,
        VersionNegotiationFailed,
        InvalidUpdateSequence,
        OptionNotSupported,
        NotEnoughStorage,
        ServerBusy,
        FileSizeExceeded,
        StorageNotSupported,
    )
}
