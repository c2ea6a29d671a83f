"""``joblauncher --digest SHA256 --folder PATH [--restarts N] [--notified]``: run one attempt of one job, once.

Exit codes are those of ``joblauncher.formats.records``; whatever can be told stands in the attempt's ``status.xml``.
"""

from __future__ import annotations

import argparse
import errno
import platform
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Optional

from joblauncher import verdict
from joblauncher.attempt import AlreadyClaimed, Attempt, Progress, claim, finish, former_runs, has_succeeded, prepare
from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.records import (
    EXIT_CLAIMED,
    EXIT_FAILED,
    EXIT_NOT_WRITTEN,
    EXIT_REFUSED,
    EXIT_SUCCEEDED,
    Failure,
    ResultRecord,
)
from joblauncher.formats.status import FAILED, SUCCEEDED, StatusHead
from joblauncher.formats.values import ValueFormatError, Values, values_from_json
from joblauncher.inside import Pipes, live
from joblauncher.outputs import BadOutput, check_outputs
from joblauncher.standard_error import tell
from joblauncher.supervise import Interrupted, Signals, Supervision
from joblauncher.verify import Checked, OpenedJob, Refused, check, open_job
from joblauncher.version import VERSION

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHA256 = re.compile("[0-9a-fA-F]{64}")
_COUNT = re.compile("[0-9]{1,6}")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the launcher with ``argv`` (without the program's name; default: the command line's); returns its exit code.

    Runs in a process of its own, single-threaded: it takes over signal handlers, and becomes a child subreaper.
    """
    try:
        options = _PARSER.parse_args(argv)
    except SystemExit as asked:
        return asked.code if isinstance(asked.code, int) else 0
    signals = Signals(options.notified)
    try:
        job = open_job(options.folder, options.digest)
        number = job.manifest.submission + options.restarts
        if options.restarts and any(map(has_succeeded, former_runs(job, number))):
            return _say(EXIT_CLAIMED, "the job has succeeded before")
        reach(Failpoint.LAUNCH_BEFORE_CLAIM)
        attempt = claim(job, number)
    except Refused as refusal:
        return _say(EXIT_REFUSED, f"refused: {refusal.detail}")
    except AlreadyClaimed:
        return _say(EXIT_CLAIMED, "another launcher has claimed this attempt")
    except OSError as error:
        return _say(EXIT_NOT_WRITTEN, f"the attempt cannot be written: {error}")
    reach(Failpoint.LAUNCH_AFTER_CLAIM)
    return _Run(job, attempt, signals).attend()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="joblauncher", description="Run one attempt of a wps-hpc job.")
    parser.add_argument("--digest", required=True, type=_digest, help="SHA-256 of the folder's manifest.json")
    parser.add_argument("--folder", required=True, help="the job folder")
    parser.add_argument("--restarts", default=0, type=_count, help="how often the scheduler has restarted the job")
    notified = "the scheduler announces an end by USR2, a stop by USR1 (Grid Engine's -notify)"
    parser.add_argument("--notified", action="store_true", help=notified)
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise argparse.ArgumentTypeError("a SHA-256 has 64 hexadecimal digits")
    return text


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise argparse.ArgumentTypeError("not a count")
    return int(text)


#: Made once, also for all the forks of a warm process.
_PARSER = _parser()


def _say(code: int, text: str) -> int:
    tell(text)
    return code


#: What a client is told of a run that the cluster interrupted and that is not started again.
_NEVER_AGAIN = "The cluster interrupted the job, and its process does not allow a run to be started again."
_NOT_AGAIN = "The cluster interrupted the job {} times; it is not started once more."


class _Run:
    """A claimed attempt, until its final status."""

    def __init__(self, job: OpenedJob, attempt: Attempt, signals: Signals) -> None:
        self._job = job
        self._attempt = attempt
        self._signals = signals
        self._limits = job.manifest.limits
        head = StatusHead(job.manifest.job, job.manifest.process)
        self._progress = Progress(attempt, head)
        self._rusage: Mapping[str, float] = {}

    def attend(self) -> int:
        """Check, run and record; returns the exit code."""
        refused = False
        outputs: Values = {}
        try:
            prepare(self._attempt)
            self._progress.write()
            failure = self._interrupted_too_often()
            if failure is None:
                failure, outputs = self._run(self._checked())
        except Refused as refusal:
            refused = True
            failure = Failure(refusal.cause, refusal.text, detail=refusal.detail)
        except Interrupted:
            failure = Failure("cancelled", "The job was cancelled before its process was started.")
        except OSError as error:
            failure = _cannot_start(error)
        except Exception as error:
            # A defect of the launcher: the job ends truthfully all the same.
            tell(traceback.format_exc())
            failure = Failure("internal error", "The job could not be run.", detail=repr(error)[:500])
        if failure is not None:
            tell(f"{failure.cause}: {failure.detail or failure.text}")
        return self._record(failure, outputs, refused)

    def _interrupted_too_often(self) -> Optional[Failure]:
        runs, most = len(former_runs(self._job, self._attempt.number)), self._limits.max_restarts
        if runs <= most:
            return None
        return Failure("interrupted", _NEVER_AGAIN if most == 0 else _NOT_AGAIN.format(runs))

    def _checked(self) -> Checked:
        with self._signals.interrupting():
            return check(self._job)

    def _run(self, checked: Checked) -> tuple[Optional[Failure], Values]:
        supervision = Supervision(self._attempt.folder, self._limits, self._signals, self._progress)

        def start(pipes: Pipes) -> NoReturn:
            told_of_ends = self._signals.notified
            live(self._job.manifest, checked, self._job.folder, self._attempt.folder, pipes, told_of_ends)

        try:
            ending = supervision.run(start)
        finally:
            supervision.close()
        self._rusage = {"cpu_s": ending.cpu_s, "max_rss_mb": ending.peak_mb, "wall_s": ending.wall_s}
        failure = verdict.judge(ending, self._limits)
        if failure is not None or ending.outcome is None:
            return failure, {}
        return self._outputs(ending.outcome["outputs"])

    def _outputs(self, told: Any) -> tuple[Optional[Failure], Values]:
        try:
            return None, check_outputs(self._attempt.folder.path, values_from_json(told))
        except BadOutput as bad:
            return bad.failure, {}
        except ValueFormatError as error:
            text = "The process returned something that is no set of outputs."
            return Failure("bad output", text, detail=repr(error)[:500]), {}

    def _record(self, failure: Optional[Failure], outputs: Values, refused: bool) -> int:
        reach(Failpoint.LAUNCH_PROCESS_DONE)
        record = ResultRecord(
            state=SUCCEEDED if failure is None else FAILED,
            started=self._attempt.began,
            finished=max(time.time(), self._attempt.began),
            host=platform.node(),
            outputs=outputs,
            failure=failure,
            rusage=self._rusage,
            signals=tuple(self._signals.names),
        )
        written = finish(self._attempt, self._progress.head, record)
        if written is None:
            return _say(EXIT_NOT_WRITTEN, "the outcome cannot be written")
        if refused:
            return EXIT_REFUSED
        return EXIT_SUCCEEDED if written.failure is None else EXIT_FAILED


def _cannot_start(error: OSError) -> Failure:
    if error.errno in _FULL:
        text = "The disk of the job folder is full."
        return Failure("disk full", text, code="NotEnoughStorage", detail=str(error))
    return Failure("could not start", "The process could not be started on the node.", detail=str(error))


if __name__ == "__main__":
    sys.exit(main())
