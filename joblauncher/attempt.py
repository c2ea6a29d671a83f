"""One attempt's folder: claimed once, written by one launcher, ended by its final status."""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Optional

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats import status
from joblauncher.formats.atomic import write_atomic
from joblauncher.formats.folder import AttemptFolder
from joblauncher.formats.records import ClaimRecord, Failure, RecordError, ResultRecord, dump
from joblauncher.kernel import boot_id
from joblauncher.standard_error import tell
from joblauncher.verify import OpenedJob, Refused

#: Written at claim time and freed at the end, so that a full disk can still be told.
RESERVE_BYTES = 64 << 10
_RESERVE = ".reserve"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class AlreadyClaimed(Exception):
    """Another launcher runs, or ran, this attempt."""


@dataclass(frozen=True)
class Attempt:
    """A claimed attempt: this launcher is the only one that writes here. ``began`` is in Unix seconds."""

    folder: AttemptFolder
    number: int
    began: float


def claim(job: OpenedJob, number: int) -> Attempt:
    """Make attempt ``number`` this launcher's own, by creating its ``claim`` with O_EXCL.

    Raises AlreadyClaimed (nothing was touched), Refused (a link, or a folder of another user's, stands in its place)
    or OSError (the folder cannot be written).
    """
    attempts = _directory(job.descriptor, "attempts")
    folder = _directory(attempts, str(number))
    began = time.time()
    try:
        _create_claim(folder, ClaimRecord(platform.node(), boot_id(), os.getpid(), began))
    finally:
        os.close(folder)
        os.close(attempts)
    return Attempt(job.folder.attempt(number), number, began)


def _create_claim(folder: int, record: ClaimRecord) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open("claim", flags, 0o600, dir_fd=folder)
    except FileExistsError as error:
        raise AlreadyClaimed from error
    # Without fsync: a power cut that loses the claim ends the process as well.
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(dump(record))


def _directory(parent: int, name: str) -> int:
    """Open a directory of this user's below ``parent``, made if it is not there."""
    # The batch script makes an attempt's folder as well, for its ``exit`` file.
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise Refused(f"{name}: {error.strerror}") from error
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise Refused(f"{name} belongs to another user")
    return descriptor


def former_runs(job: OpenedJob, number: int) -> list[AttemptFolder]:
    """The attempts of this submission that were claimed before attempt ``number``; raises OSError.

    The scheduler's own count has also those restarts after which no launcher was reached.
    """
    numbers = (int(path.name) for path in job.folder.attempts.iterdir() if path.name.isdecimal())
    former = (job.folder.attempt(n) for n in numbers if job.manifest.submission <= n < number)
    return [attempt for attempt in former if attempt.claim.exists()]


def has_succeeded(attempt: AttemptFolder) -> bool:
    """Whether an attempt was committed as a success; one that cannot be read was not."""
    try:
        return status.read_status(attempt.status).state == status.SUCCEEDED
    except (OSError, RecordError):
        return False


def prepare(attempt: Attempt) -> None:
    """Make the process's folders and set space aside for the final files; raises OSError."""
    attempt.folder.work.mkdir(mode=0o700)
    attempt.folder.outputs.mkdir(mode=0o700)
    write_atomic(attempt.folder.path / _RESERVE, bytes(RESERVE_BYTES), durable=False)


def finish(attempt: Attempt, head: status.StatusHead, record: ResultRecord) -> Optional[ResultRecord]:
    """Write ``result.json``, then the final ``status.xml``; return what was committed, None if nothing could be.

    Where the disk is too full for the record, it says that instead.
    """
    (attempt.folder.path / _RESERVE).unlink(missing_ok=True)
    for candidate in (record, _too_full(record)):
        try:
            _commit(attempt, head, candidate)
        except OSError as error:
            tell(f"{attempt.folder.path}: {error}")
        else:
            return candidate
    return None


def _too_full(record: ResultRecord) -> ResultRecord:
    """A smaller record of the same run: a success that cannot be written is a failure, a failure stays what it is."""
    failure = record.failure or Failure(
        "disk full", "The outputs could not be recorded: the disk of the job folder is full.", code="NotEnoughStorage"
    )
    return replace(record, state=status.FAILED, outputs={}, failure=failure)


def _commit(attempt: Attempt, head: status.StatusHead, record: ResultRecord) -> None:
    write_atomic(attempt.folder.result, dump(record))
    reach(Failpoint.LAUNCH_RESULT_WRITTEN)
    write_atomic(attempt.folder.status, _document(head, record))
    reach(Failpoint.LAUNCH_STATUS_WRITTEN)


def _document(head: status.StatusHead, record: ResultRecord) -> bytes:
    if record.failure is not None:
        return status.failed(head, record.failure, record.finished)
    return status.succeeded(head, "The process has succeeded.", record.outputs, record.finished)


class Progress:
    """Writes progress to ``status.xml``: percent never goes back, the message is never empty, the disk is spared."""

    #: Seconds between two writes.
    INTERVAL = 0.5

    def __init__(self, attempt: Attempt, head: status.StatusHead) -> None:
        self._attempt = attempt
        self.head = head
        self._percent = 0
        self._message = "The process has started."
        self._pending = True
        self._written = float("-inf")
        self._complained = False

    def note(self, percent: int, message: str) -> None:
        """Take in a report of the process; it is written when ``due``."""
        line = status.one_line(message, 500) or self._message
        percent = max(self._percent, min(max(percent, 0), 99))
        if (percent, line) != (self._percent, self._message):
            self._percent, self._message, self._pending = percent, line, True

    def describe(self, version: str, title: str) -> None:
        """Take in what the loaded process calls itself."""
        self.head = replace(self.head, version=version, title=title)

    @property
    def due(self) -> Optional[float]:
        """When the next write is due, on the monotonic clock; None when there is nothing to write."""
        return self._written + self.INTERVAL if self._pending else None

    def write(self) -> None:
        """Write now. A full disk is no reason to stop the process: the report waits for the next write."""
        self._written = time.monotonic()
        document = status.started(self.head, self._percent, self._message, time.time())
        try:
            write_atomic(self._attempt.folder.status, document, durable=False)
        except OSError as error:
            self._complain(error)
        else:
            self._pending = False

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            tell(f"progress not written: {error}")
        self._complained = True
