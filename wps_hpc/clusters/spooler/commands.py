"""The spooler's command language, as its clients see it.

==========================  ==============================================================================
``submit``                  starts the job whose order stands in standard input; prints its id. A token that is known
                            already answers with its id and starts nothing.
``list``                    all jobs that have not ended, and those that ended in the last ten minutes
``show TOKEN…``             these jobs, as long as they are remembered: the accounting, and the look-up by token
``control ACTION TOKEN``    cancel (``--grace SECONDS``), suspend or resume a job
``forget TOKEN…``           drops what is remembered of ended jobs
``ping``                    version and pid of the spooler, and the number of its jobs
``shutdown``                ends the spooler when no job runs; ``--detach``: leaves running jobs to the next one
==========================  ==============================================================================

``list`` and ``show`` print ``{"jobs": [{"id", "token", "word", "exit_code", "signal"}, …]}``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum

from wps_hpc.clusters.spooler.jobs import Jobs, StartError
from wps_hpc.clusters.spooler.order import OrderError, read_order
from wps_hpc.clusters.spooler.spool import JobRecord
from wps_hpc.clusters.transports.base import Completed

#: ``list`` shows an ended job for so long, in seconds.
LISTED_SECONDS = 600.0


class Exit(IntEnum):
    """The exit codes of the spooler's commands (those of sysexits.h where one fits)."""

    OK = 0
    BUSY = 1
    UNKNOWN_JOB = 3
    JOB_ENDED = 4
    USAGE = 64
    BAD_ORDER = 65
    NOT_SUPPORTED = 69
    DEFECT = 70
    NOT_NOW = 75
    NOT_ALLOWED = 77


class Commands:
    """Answers commands on one set of jobs. ``stop`` is called when the spooler is to end."""

    def __init__(self, jobs: Jobs, identity: Mapping[str, object], stop: Callable[[], None]) -> None:
        self._jobs = jobs
        self._identity = identity
        self._stop = stop
        self._commands: Mapping[str, Callable[[Sequence[str], bytes], Completed]] = {
            "submit": self._submit,
            "list": self._list,
            "show": self._show,
            "control": self._control,
            "forget": self._forget,
            "ping": self._ping,
            "shutdown": self._shutdown,
        }
        self._actions: Mapping[str, Callable[[str, Sequence[str]], Completed]] = {
            "cancel": self._cancel,
            "suspend": lambda token, options: _done(lambda: self._jobs.suspend(token)),
            "resume": lambda token, options: _done(lambda: self._jobs.resume(token)),
        }

    def answer(self, argv: Sequence[str], stdin: bytes) -> Completed:
        """Carry one command out; never raises for what a client can get wrong."""
        command = self._commands.get(argv[0]) if argv else None
        if command is None:
            return _failed(Exit.USAGE, f"no such command: {' '.join(argv[:1])}")
        return command(argv[1:], stdin)

    def _submit(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        try:
            return _printed(self._jobs.submit(read_order(stdin)).id)
        except OrderError as error:
            return _failed(Exit.BAD_ORDER, str(error))
        except StartError as error:
            return _failed(Exit.NOT_NOW, str(error))

    def _list(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        return self._table(self._jobs.records(ended_since=time.time() - LISTED_SECONDS))

    def _show(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        found = (self._jobs.find(token) for token in arguments)
        return self._table(record for record in found if record is not None)

    def _control(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        if len(arguments) < 2:
            return _failed(Exit.USAGE, "control takes an action and a token")
        name, token, *options = arguments
        action = self._actions.get(name)
        if action is None:
            return _failed(
                Exit.NOT_SUPPORTED, f"a local job starts at once and is never queued: it cannot be told to {name}"
            )
        record = self._jobs.find(token)
        if record is None:
            return _failed(Exit.UNKNOWN_JOB, f"no job {token}")
        if record.ended is not None:
            return _failed(Exit.JOB_ENDED, f"job {token} has ended: {record.word}")
        return action(token, options)

    def _cancel(self, token: str, options: Sequence[str]) -> Completed:
        try:
            grace = float(dict(zip(options[::2], options[1::2], strict=True)).get("--grace", "30"))
        except ValueError:
            return _failed(Exit.USAGE, f"cancel takes --grace SECONDS, not {' '.join(options)}")
        return _done(lambda: self._jobs.cancel(token, grace))

    def _forget(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        return _done(lambda: self._jobs.forget(arguments))

    def _ping(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        return _printed(json.dumps({**self._identity, "jobs": self._jobs.running}))

    def _shutdown(self, arguments: Sequence[str], stdin: bytes) -> Completed:
        if self._jobs.running and "--detach" not in arguments:
            return _failed(Exit.BUSY, f"{self._jobs.running} jobs are running")
        return _done(self._stop)

    def _table(self, records: Iterable[JobRecord]) -> Completed:
        return _printed(json.dumps({"jobs": [self._row(record) for record in records]}))

    def _row(self, record: JobRecord) -> dict[str, object]:
        return {
            "id": record.id,
            "token": record.token,
            "word": self._jobs.word(record),
            "exit_code": record.exit_code,
            "signal": record.signal,
        }


def _done(action: Callable[[], None]) -> Completed:
    action()
    return Completed(Exit.OK, "", "")


def _printed(text: str) -> Completed:
    return Completed(Exit.OK, f"{text}\n", "")


def _failed(code: Exit, text: str) -> Completed:
    return Completed(code, "", f"{text}\n")
