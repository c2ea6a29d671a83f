"""What a node left in an attempt, read as hostile input and believed only as far as it was checked.

``status.xml`` is the word that counts; ``result.json`` is the record behind it. A success is one only when both are
whole, every output file is there in the size that was recorded, and the outputs are those that the process describes.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from joblauncher.formats import status as status_file
from joblauncher.formats.folder import AttemptFolder, JobFolder
from joblauncher.formats.records import (
    CAUSES,
    ExitRecord,
    Failure,
    RecordError,
    RequestRecord,
    ResultRecord,
    load,
)
from joblauncher.formats.status import StatusRecord, parse_status
from joblauncher.formats.values import FileValue
from wps_hpc.jobs import shape
from wps_hpc.jobs.beneath import Content, Missing, Untrusted, folder_beneath, open_beneath, open_in, read_in
from wps_hpc.processes.description import ProcessDescription

log = logging.getLogger(__name__)

#: No result record is larger, in bytes: large values belong into files.
RESULT_LIMIT = 32_000_000
EXIT_LIMIT = 64_000
REQUEST_LIMIT = 64_000_000
#: So much is read of the end of what a container's runtime said, in bytes.
SAID_LIMIT = 16_000
#: Longest text for a client, and for the operator, in characters.
TEXT_LIMIT = status_file.TEXT_LIMIT
DETAIL_LIMIT = 64_000
_EXCEPTION_CODE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_R = TypeVar("_R", ResultRecord, ExitRecord, RequestRecord)


@dataclass(frozen=True)
class Left:
    """What an attempt holds. ``state`` is none, running, succeeded, failed or unreadable (``why`` says why).

    ``percent`` and ``message`` are those of status.xml; ``failure`` is set when ``state`` is failed; ``result`` when
    result.json could be read; ``exit`` once the launcher was seen to end; ``claimed`` once a launcher took the attempt.
    ``container`` is the end of what the container's runtime said of an attempt without a status, None where there is
    nothing such. ``seen_at`` is when status.xml was last written, Unix seconds on the file server's clock.
    """

    state: str = "none"
    percent: int = 0
    message: str = ""
    failure: Failure | None = None
    result: ResultRecord | None = None
    exit: ExitRecord | None = None
    claimed: bool = False
    container: str | None = None
    seen_at: float | None = None
    why: str = ""

    def described(self) -> str:
        """What was seen, in words for the operator."""
        words = [_STATE_WORDS[self.state]]
        if self.why:
            words.append(self.why)
        if self.state == "none":
            words.append("claimed by a launcher" if self.claimed else "not claimed by any launcher")
        if self.exit is not None:
            words.append(f"the launcher ended on {self.exit.host} ({_ending(self.exit)})")
        return "; ".join(words)


_STATE_WORDS: Mapping[str, str] = {
    "none": "no status was written",
    "running": "the status says running",
    "succeeded": "the status says succeeded",
    "failed": "the status says failed",
    "unreadable": "the status cannot be read",
}


def _ending(record: ExitRecord) -> str:
    return f"signal {record.signal}" if record.signal is not None else f"exit code {record.exit_code}"


def read_attempt(folder: JobFolder, attempt: int, description: ProcessDescription | None = None) -> Left:
    """What attempt ``attempt`` (from 1) of a job left; never raises for anything that a node can do.

    A reported success whose record or outputs do not hold becomes a failure with the cause "bad output". Without
    ``description`` (a process that is no longer on offer) outputs are checked for being whole, not for being those
    described.
    """
    paths = folder.attempt(attempt)
    try:
        with folder_beneath(folder.path, _inside(folder, paths)) as opened:
            return _read(opened, folder, paths, description)
    except Missing:
        return Left()
    except Untrusted as error:
        return Left(state="unreadable", why=str(error))


def attempts(folder: JobFolder, most: int) -> list[int]:
    """The numbers, up to ``most``, of the attempts that there are; never raises for anything that a node can do."""
    try:
        with folder_beneath(folder.path, folder.attempts.name) as opened:
            names = os.listdir(opened)  # noqa: PTH208 (a descriptor)
    except (Untrusted, OSError):
        return []
    return [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10 and int(name) <= most]


def is_claimed(folder: JobFolder, attempt: int) -> bool:
    """Whether a launcher took that attempt, as far as can be seen; never raises for anything that a node can do."""
    paths = folder.attempt(attempt)
    try:
        with folder_beneath(folder.path, _inside(folder, paths)) as opened:
            return _exists(opened, paths.claim.name)
    except Untrusted:
        return False


def _inside(folder: JobFolder, paths: AttemptFolder) -> str:
    return paths.path.relative_to(folder.path).as_posix()


def _read(opened: int, folder: JobFolder, paths: AttemptFolder, description: ProcessDescription | None) -> Left:
    so_far = Left(exit=_exit(opened, paths), claimed=_exists(opened, paths.claim.name))
    try:
        content = read_in(opened, paths.status.name, status_file.SIZE_LIMIT)
        status = parse_status(content.data)
    except Missing:
        return so_far if so_far.exit is None else replace(so_far, container=_container(folder, paths))
    except (Untrusted, RecordError) as error:
        return replace(so_far, state="unreadable", why=str(error))
    so_far = replace(so_far, message=shape.clean(status.message, TEXT_LIMIT), seen_at=content.modified)
    if status.state == status_file.STARTED:
        return replace(so_far, state="running", percent=status.percent)
    if status.state == status_file.FAILED:
        return _failed(so_far, opened, paths, status)
    return _succeeded(so_far, opened, folder, paths, description)


def _exists(opened: int, name: str) -> bool:
    try:
        os.close(open_in(opened, name))
    except Untrusted:
        return False
    return True


def _exit(opened: int, paths: AttemptFolder) -> ExitRecord | None:
    try:
        record = _record(ExitRecord, read_in(opened, paths.exit.name, EXIT_LIMIT))
    except Missing:
        return None
    except Untrusted as error:
        log.warning("%s: %s", paths.path, error)
        return None
    return replace(record, host=shape.clean(record.host, 255))


def _container(folder: JobFolder, paths: AttemptFolder) -> str | None:
    try:
        return shape.clean(read_end(folder, paths.container_log, SAID_LIMIT).decode(errors="replace"), SAID_LIMIT)
    except Untrusted:
        return None


def _record(kind: type[_R], content: Content) -> _R:
    """A record whose every field has the type it should have; raises Untrusted."""
    try:
        record = load(kind, content.data)
    except (RecordError, RecursionError) as error:
        raise Untrusted(f"{kind.__name__}: {str(error)[:500]}") from error
    if not shape.conforms(record, kind):
        raise Untrusted(f"{kind.__name__}: a field is not of its type")
    return record


def _failed(so_far: Left, opened: int, paths: AttemptFolder, status: StatusRecord) -> Left:
    told = Failure("process error", status.text or status.message, status.code or "", status.locator)
    result = None
    try:
        result = _record(ResultRecord, read_in(opened, paths.result.name, RESULT_LIMIT))
    except Untrusted as error:
        told = replace(told, detail=f"no record of the failure: {error}")
    failure = told if result is None or result.failure is None else result.failure
    return replace(so_far, state="failed", failure=_presentable(failure), result=result)


def _presentable(failure: Failure) -> Failure:
    """A failure as any document can carry it."""
    return replace(
        failure,
        cause=failure.cause if failure.cause in CAUSES else "process error",
        text=shape.clean(failure.text, TEXT_LIMIT) or "The process failed without saying why.",
        code=failure.code if _EXCEPTION_CODE.fullmatch(failure.code) else "NoApplicableCode",
        locator=None if failure.locator is None else shape.clean(failure.locator, 200),
        detail=shape.clean(failure.detail, DETAIL_LIMIT),
    )


def _succeeded(
    so_far: Left, opened: int, folder: JobFolder, paths: AttemptFolder, description: ProcessDescription | None
) -> Left:
    try:
        result = _success(opened, paths)
        for _, value in shape.files(result.outputs):
            os.close(_open_output(folder, paths, value))
        shape.check_texts(result.outputs)
        if description is not None:
            shape.check_outputs(result.outputs, description.outputs, _wanted(folder))
    except Untrusted as error:
        return _bad_output(so_far, "The job's results are not as it recorded them, and cannot be used.", str(error))
    except shape.Misfit as error:
        return _bad_output(so_far, str(error))
    return replace(so_far, state="succeeded", percent=100, result=result)


def _bad_output(so_far: Left, text: str, detail: str = "") -> Left:
    failure = Failure("bad output", shape.clean(text, TEXT_LIMIT), detail=shape.clean(detail, DETAIL_LIMIT))
    return replace(so_far, state="failed", failure=failure)


def _success(opened: int, paths: AttemptFolder) -> ResultRecord:
    result = _record(ResultRecord, read_in(opened, paths.result.name, RESULT_LIMIT))
    if result.state != "succeeded" or result.failure is not None:
        raise Untrusted(f"{paths.result.name}: does not record a success")
    return result


def read_result(folder: JobFolder, attempt: int) -> tuple[ResultRecord, int]:
    """The record of a success that was believed before, and its size in bytes; raises Untrusted."""
    paths = folder.attempt(attempt)
    with folder_beneath(folder.path, _inside(folder, paths)) as opened:
        content = read_in(opened, paths.result.name, RESULT_LIMIT)
    return _record(ResultRecord, content), len(content.data)


def open_output(folder: JobFolder, attempt: int, value: FileValue) -> int:
    """A descriptor of an output file, in the size that was recorded; raises Untrusted."""
    return _open_output(folder, folder.attempt(attempt), value)


def read_end(folder: JobFolder, path: Path, limit: int) -> bytes:
    """The last ``limit`` bytes of a file in a job's folder; raises Untrusted (Missing when there is none)."""
    descriptor = open_beneath(folder.path, path.relative_to(folder.path).as_posix())
    with os.fdopen(descriptor, "rb") as opened:
        opened.seek(max(0, os.fstat(descriptor).st_size - limit))
        return opened.read(limit)


def _open_output(folder: JobFolder, paths: AttemptFolder, value: FileValue) -> int:
    outputs = f"{paths.outputs.name}/"
    if value.shared or not value.path.startswith(outputs):
        raise Untrusted(f"{value.path[:200]!r}: not beneath {outputs}")
    descriptor = open_beneath(folder.path, f"{_inside(folder, paths)}/{value.path}")
    size = os.fstat(descriptor).st_size
    if size != value.size:
        os.close(descriptor)
        raise Untrusted(f"{value.path[:200]!r}: {size} bytes, recorded were {value.size}")
    return descriptor


def _wanted(folder: JobFolder) -> Collection[str]:
    """The outputs that the process was asked for (empty: all), as the launcher had it."""
    with folder_beneath(folder.path, "") as opened:
        record = _record(RequestRecord, read_in(opened, folder.request.name, REQUEST_LIMIT))
    return {wanted.identifier for wanted in record.outputs}
