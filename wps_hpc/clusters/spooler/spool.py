"""The spool folder: one durable record for each job, so that a new spooler knows what the old one did.

``<storage.run>/``::

    spooler.sock  spooler.lock  spooler.log  start.lock
    jobs/<token>.json    the record
    jobs/<token>.sh      the batch script as submitted, for a job that is started by the shell
    jobs/<token>.log     what launcher or script said outside of its attempt's own logs; gone when empty
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from joblauncher.formats.atomic import write_atomic
from wps_hpc.clusters.spooler.proc import Identity

SCHEMA = 1
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,14}")


class Word(StrEnum):
    """The native states of a local job."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"
    CANCELLED = "cancelled"
    NEVER_STARTED = "never started"
    ENDED_UNSEEN = "ended unseen"
    HOST_RESTARTED = "host restarted"


class SpoolError(Exception):
    """A record cannot be read; the text says which."""


@dataclass(frozen=True)
class JobRecord:
    """What the spooler knows of one job. Times are Unix seconds.

    ``boot``, ``pid`` and ``start_ticks`` identify the leader; a record without a pid is of a job that never ran,
    because a leader starts only after its pid has been recorded. ``grace`` is what a cancelled job has, in seconds.
    ``ended`` and ``word`` come together, at the end.
    """

    token: str
    id: str
    job_id: str
    folder: str
    submission: int
    warm: bool
    boot: str
    accepted: float
    pid: int | None = None
    start_ticks: int | None = None
    cancelled: float | None = None
    grace: float = 0.0
    ended: float | None = None
    word: Word | None = None
    exit_code: int | None = None
    signal: int | None = None

    @property
    def leader(self) -> Identity | None:
        """Who the leader is, or was; None when there never was one."""
        if self.pid is None or self.start_ticks is None:
            return None
        return Identity(self.boot, self.pid, self.start_ticks)


def is_token(value: object) -> bool:
    """Whether a value can name a job: at most 15 letters, digits and underscores, a letter first."""
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


@dataclass(frozen=True)
class Spool:
    """The spool folder, by its path (``storage.run``)."""

    run: Path

    @property
    def socket(self) -> Path:
        """Where the spooler listens."""
        return self.run / "spooler.sock"

    @property
    def lock(self) -> Path:
        """Held by the one spooler of this folder for as long as it lives; holds its pid."""
        return self.run / "spooler.lock"

    @property
    def log(self) -> Path:
        """What the spooler itself has to say."""
        return self.run / "spooler.log"

    @property
    def start_lock(self) -> Path:
        """Held by who is starting a spooler."""
        return self.run / "start.lock"

    @property
    def jobs(self) -> Path:
        """The folder of records."""
        return self.run / "jobs"

    def record(self, token: str) -> Path:
        """The record of a job."""
        return self.jobs / f"{token}.json"

    def script(self, token: str) -> Path:
        """The batch script of a job."""
        return self.jobs / f"{token}.sh"

    def said(self, token: str) -> Path:
        """The log of a job's leader."""
        return self.jobs / f"{token}.log"

    def create(self, record: JobRecord) -> bool:
        """Write a new record, durably and whole; False when the token already has one."""
        draft = self.jobs / f".{record.token}.{os.getpid()}.new"
        write_atomic(draft, _dump(record))
        try:
            # Unlike rename, link never replaces: the record appears whole, and once.
            os.link(draft, self.record(record.token))
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        _sync_folder(self.jobs)
        return True

    def save(self, record: JobRecord, *, durable: bool = True) -> None:
        """Replace a record. What a reboot ends anyway need not be ``durable``."""
        write_atomic(self.record(record.token), _dump(record), durable=durable)

    def remove(self, token: str) -> None:
        """Forget a job: its record, script and log."""
        for path in (self.said(token), self.script(token), self.record(token)):
            path.unlink(missing_ok=True)

    def drop_empty_log(self, token: str) -> None:
        """Remove a job's log when nothing was said."""
        with contextlib.suppress(FileNotFoundError):
            if self.said(token).stat().st_size == 0:
                self.said(token).unlink()

    def load_all(self) -> Iterator[JobRecord | SpoolError]:
        """Every record, in no order; a SpoolError for each that cannot be read."""
        for path in self.jobs.glob("*.json"):
            try:
                yield _load(path.read_bytes())
            except (ValueError, TypeError, KeyError, OSError) as error:
                yield SpoolError(f"{path}: {error}")


def _dump(record: JobRecord) -> str:
    return json.dumps({"schema": SCHEMA, **asdict(record)})


def _load(content: bytes) -> JobRecord:
    body = json.loads(content)
    if body.pop("schema") != SCHEMA:
        raise ValueError(f"not written for schema {SCHEMA}")
    word = body.pop("word")
    return JobRecord(**body, word=None if word is None else Word(word))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
