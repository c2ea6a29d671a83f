"""The job process itself: load, run, tell the outcome, be gone.

Whatever the author's code does to this process, the launcher survives it. Nothing goes back by pickle: progress and
outcome are JSON lines on a pipe each.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional

import dill

from joblauncher.failpoints import VARIABLE, Failpoint, reach
from joblauncher.formats.folder import AttemptFolder, JobFolder
from joblauncher.formats.records import Failure, Manifest
from joblauncher.formats.status import one_line
from joblauncher.formats.values import values_to_json
from joblauncher.verify import Checked
from joblauncher.version import VERSION
from wps_hpc.processes import payload
from wps_hpc.processes.description import Resources
from wps_hpc.processes.run import Cancelled, Job, OutputError, ProcessError, RunFolders, Runnable

#: Longest text of a failure, in characters.
TEXT_LIMIT = 2_000
#: Longest message of a progress report, in characters: the line stays below PIPE_BUF, so that lines never mix.
_MESSAGE_LIMIT = 300
_FULL = {errno.ENOSPC, errno.EDQUOT}
#: A warning that comes again within so many seconds is the same one.
_ECHO = 1.0
_DEFAULT_SIGNALS = (signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU, signal.SIGCHLD)


@dataclass(frozen=True)
class Pipes:
    """Descriptors of the job process: where its words go."""

    progress: int
    outcome: int
    stdout: int
    stderr: int

    @property
    def all(self) -> tuple[int, int, int, int]:
        """All of them."""
        return self.progress, self.outcome, self.stdout, self.stderr


def live(
    manifest: Manifest,
    checked: Checked,
    job: JobFolder,
    attempt: AttemptFolder,
    pipes: Pipes,
    told_of_ends: bool = False,
) -> NoReturn:
    """Be the job process, from its first to its last instruction.

    ``told_of_ends``: the scheduler announces an end by SIGUSR2, to every process of the job.
    """
    code = 1
    try:
        _settle(attempt, pipes)
        signals = _Signals(told_of_ends)
        signals.take()
        code = _report(manifest, checked, job, attempt, pipes, signals)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # No exit hooks: those of a warm parent are not ours to run.
        os._exit(code)


def _settle(attempt: AttemptFolder, pipes: Pipes) -> None:
    os.umask(0o077)
    os.chdir(attempt.work)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (pipes.stdout, 1), (pipes.stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    # Line by line: what was printed before a crash must not be lost with a buffer.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(2)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )


class _Signals:
    """SIGTERM raises Cancelled once, while the process runs; SIGUSR1 calls who asked to be warned of the time limit.

    Either may come several times: from a scheduler, from the launcher, and passed on by a container's runtime.
    """

    def __init__(self, told_of_ends: bool) -> None:
        self._ends = (signal.SIGTERM, signal.SIGUSR2) if told_of_ends else (signal.SIGTERM,)
        self._warned = float("-inf")
        self.armed = True
        self._callbacks: list[Callable[[], None]] = []

    def take(self) -> None:
        """Set this process's handlers, and let through what was held back until now."""
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in self._ends:
            signal.signal(number, self._cancel)
        signal.signal(signal.SIGUSR1, self._warn)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def on_time_warning(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` in the main thread when the time limit is near."""
        self._callbacks.append(callback)

    def _cancel(self, _number: int, _frame: object) -> None:
        # Once: a scheduler that signals every process of the job must not interrupt the clean-up.
        if self.armed:
            self.armed = False
            raise Cancelled("the job was cancelled")

    def _warn(self, _number: int, _frame: object) -> None:
        now = time.monotonic()
        if now - self._warned < _ECHO:
            return
        self._warned = now
        for callback in self._callbacks:
            callback()


def _report(
    manifest: Manifest,
    checked: Checked,
    job: JobFolder,
    attempt: AttemptFolder,
    pipes: Pipes,
    signals: _Signals,
) -> int:
    """Load and run, and write the outcome; returns the exit code."""
    try:
        runnable = _load(manifest, checked, pipes.progress)
        outcome = _run(runnable, manifest, checked, job, attempt, pipes.progress, signals)
    except SystemExit as asked:
        return _exit_code(asked.code)
    except BaseException as error:
        signals.armed = False
        outcome = _outcome_of(error)
    _send(pipes.outcome, outcome)
    return 0


def _exit_code(code: object) -> int:
    if isinstance(code, str):
        print(code, file=sys.stderr)
    return 0 if code is None else code & 0xFF if isinstance(code, int) else 1


def _load(manifest: Manifest, checked: Checked, progress: int) -> Runnable:
    for warning in version_warnings(manifest, dill.__version__, VERSION):
        print(f"joblauncher: {warning}", file=sys.stderr)
    runnable = payload.load(checked.payload, loads=manifest.loads, module=manifest.module, source=checked.source)
    described = runnable.description
    _line(progress, ["loaded", described.version[:_MESSAGE_LIMIT], described.title[:_MESSAGE_LIMIT]])
    reach(Failpoint.LAUNCH_LOADED)
    os.environ.pop(VARIABLE, None)
    return runnable


def version_warnings(manifest: Manifest, dill_here: str, wps_hpc_here: str) -> list[str]:
    """What an operator should know of versions that differ between server and node."""
    warnings = []
    if _numbers(dill_here) < _numbers(manifest.dill):
        warnings.append(f"dill {dill_here} here is older than the server's {manifest.dill}")
    if wps_hpc_here != manifest.wps_hpc:
        warnings.append(f"wps-hpc {wps_hpc_here} here, {manifest.wps_hpc} on the server")
    return warnings


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _run(
    runnable: Runnable,
    manifest: Manifest,
    checked: Checked,
    job: JobFolder,
    attempt: AttemptFolder,
    progress: int,
    signals: _Signals,
) -> Mapping[str, Any]:
    given = Job(
        id=manifest.job,
        workdir=Path(attempt.work),
        resources=_resources(manifest.resources),
        logger=logging.getLogger(manifest.process),
        language=checked.request.language,
        report=_Reporter(progress).report,
        on_time_warning=signals.on_time_warning,
        outputs_url=manifest.outputs_url,
        entered=_entered(manifest, attempt),
    )
    outputs = runnable.run(checked.request, given, RunFolders(job, attempt.work, attempt.outputs))
    signals.armed = False
    return _success(outputs)


def _entered(manifest: Manifest, attempt: AttemptFolder) -> tuple[str, ...]:
    """What comes before a command of the process, so that it runs in the job's container."""
    if manifest.container is None or not manifest.container.commands:
        return ()
    return manifest.container.entered(attempt.path.name)


def _resources(stated: Mapping[str, Any]) -> Resources:
    """What the manifest states, as far as this version knows of it."""
    known = {entry.name for entry in fields(Resources)}
    return Resources(**{name: value for name, value in stated.items() if name in known})


def _success(outputs: Any) -> Mapping[str, Any]:
    try:
        written = values_to_json(outputs)
        json.dumps(written, allow_nan=False)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        text = "The process returned something that is no set of outputs."
        return {"failure": asdict(Failure("bad output", text, detail=one_line(repr(error), TEXT_LIMIT)))}
    return {"outputs": written}


class _Reporter:
    """Sends progress to the launcher, which throttles it; a report that says nothing new is not sent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last: Optional[tuple[int, str]] = None

    def report(self, percent: float, message: str) -> None:
        """``percent`` from 0 to 100 (clamped), and a short sentence."""
        # ``not >=`` also catches NaN.
        whole = 0 if not percent >= 0 else int(min(percent, 99))
        said = (whole, str(message)[:_MESSAGE_LIMIT])
        if said != self._last:
            self._last = said
            _line(self._descriptor, ["progress", *said])


def _line(descriptor: int, content: Any) -> None:
    # The launcher's end is closed only when the launcher is gone, and this process is about to follow it.
    with suppress(BrokenPipeError):
        os.write(descriptor, json.dumps(content).encode() + b"\n")


def _send(descriptor: int, outcome: Mapping[str, Any]) -> None:
    content = memoryview(json.dumps(outcome).encode() + b"\n")
    with suppress(BrokenPipeError):
        while content:
            content = content[os.write(descriptor, content) :]


def _outcome_of(error: BaseException) -> Mapping[str, Any]:
    if isinstance(error, Cancelled):
        return {"cancelled": True}
    if not isinstance(error, ProcessError):
        traceback.print_exception(type(error), error, error.__traceback__)
    return {"failure": asdict(failure_of(error))}


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of the process, or of loading it, is."""
    if isinstance(error, ProcessError):
        text = str(error.text)[:TEXT_LIMIT]
        return Failure("process error", text, code=error.code, locator=error.locator)
    if _disk_full(error):
        text = f"The disk of the job folder is full: {_said(error)}"
        return Failure("disk full", text, code="NotEnoughStorage")
    if isinstance(error, payload.PayloadError):
        text = f"The process could not be loaded on the node: {one_line(str(error), TEXT_LIMIT)}"
        return Failure("could not start", text)
    if isinstance(error, OutputError):
        return Failure("bad output", one_line(str(error), TEXT_LIMIT))
    if isinstance(error, MemoryError):
        return Failure("process error", f"The process asked for more memory than it could get: {_said(error)}")
    return Failure("process error", _said(error))


def _said(error: BaseException) -> str:
    text = one_line(str(error), TEXT_LIMIT)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _disk_full(error: Optional[BaseException]) -> bool:
    """Whether a full disk or quota stands anywhere in the chain of causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
