"""Requests to a DRMAA session, which lives in a process of its own, beside the commands of the same batch system.

DRMAA allows one session for each process, its libraries hang and crash, and Debian's for Grid Engine does not even load
without a setting that has to be there before Python starts. So the session's process may die at any time: it is
started again with the next request, and no job is concerned. A request that takes too long kills it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wps_hpc.clusters.environment import clean_environment
from wps_hpc.clusters.transports.base import ChangeFeed, Command, Completed, NoSuchProgram, TransportError
from wps_hpc.clusters.transports.local import LocalTransport

#: The first word of a command that is a request; the second says which. What else there is, is a command of its own.
DRMAA = "drmaa"
SUBMIT, STATES, ACCOUNT, LEARN = "submit", "states", "account", "learn"
#: Answers are numbered as DRMAA's errors are; these are ours: there is no session, there is no such request.
NO_SESSION, NO_REQUEST = 100, 101
_HELPER = "wps_hpc.clusters.transports.drmaa_helper"
#: Room for libraries with thread-local variables that are loaded late: libjemalloc, in Debian's Grid Engine.
_LOADABLE = {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=2048"}


@dataclass(frozen=True)
class Template:
    """What a submission needs: the job's name, its script and folder, and options in the batch system's own words."""

    token: str
    script: str
    folder: str
    native: str

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Job:
    """A job that the session's process is told of; ``id`` is the batch system's."""

    id: str | None
    token: str

    @staticmethod
    def dump_all(jobs: Sequence[Job]) -> bytes:
        """As JSON."""
        return json.dumps([asdict(job) for job in jobs]).encode()


@dataclass(frozen=True)
class Living:
    """A command of the batch system's own that shows the jobs which live, and what reads their tokens by id from it.

    ``read`` returns None where the command was not answered. DRMAA says of an id only that there is such a job.
    """

    command: Command
    read: Callable[[Completed], Mapping[str, str] | None]


@dataclass
class DrmaaTransport:
    """Carries requests to the session's process, one at a time, and commands to this host."""

    library: Path
    environment: Mapping[str, str]
    living: Living
    #: The interpreter of the session's process.
    python: str = sys.executable
    _local: LocalTransport = field(default_factory=LocalTransport)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _helper: subprocess.Popen[bytes] | None = None

    def run(self, command: Command, timeout: float) -> Completed:
        """See ``Transport.run``. To ask accounting is a command, once the session has learned of the same jobs."""
        if command.argv[0] != DRMAA:
            return self._local.run(command, timeout)
        kind, *words = command.argv[1:]
        if kind != ACCOUNT:
            return self._request(kind, words, command.stdin, timeout)
        deadline = time.monotonic() + timeout
        self._learn(json.loads(command.stdin), deadline)
        return self._local.run(Command(tuple(words), env=command.env), _left(deadline))

    def _learn(self, jobs: Sequence[Mapping[str, str]], deadline: float) -> None:
        """Tell the session of those jobs that live. Raises TransportError: then accounting has no word on them.

        It is silent on a job that runs, as is a session that was not told of it.
        """
        tokens = self._living(deadline)
        wanted = [job for job in jobs if tokens.get(job["id"]) == job["token"]]
        learned = self._request(LEARN, (), json.dumps(wanted).encode(), _left(deadline))
        if learned.exit_code != 0:
            raise TransportError(f"the DRMAA session cannot be told of jobs: {learned.stderr}", may_have_run=True)

    def _living(self, deadline: float) -> Mapping[str, str]:
        try:
            completed = self._local.run(self.living.command, _left(deadline))
        except NoSuchProgram as error:  # which would mean that there is no accounting
            raise TransportError(str(error), may_have_run=False) from error
        tokens = self.living.read(completed)
        if tokens is None:
            raise TransportError(f"nobody says which jobs live: {completed.stderr.strip()}", may_have_run=False)
        return tokens

    def put(self, source: Path, target: str) -> None:
        """See ``Transport.put``."""
        self._local.put(source, target)

    def get(self, source: str, target: Path) -> None:
        """See ``Transport.get``."""
        self._local.get(source, target)

    def changes(self, timeout: float) -> ChangeFeed | None:
        """None: nobody is told."""
        return None

    def close(self) -> None:
        """End the session's process; its jobs go on."""
        with self._lock:
            self._end()

    def _request(self, kind: str, words: Sequence[str], given: bytes, timeout: float) -> Completed:
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout=timeout):
            raise TransportError("the DRMAA session is busy", may_have_run=False)
        try:
            helper = self._started()
            line = json.dumps({"kind": kind, "words": list(words), "given": given.decode()})
            return _completed(self._exchange(helper, line.encode() + b"\n", deadline))
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._end()
            raise TransportError(f"the DRMAA session is lost: {error}", may_have_run=True) from error
        finally:
            self._lock.release()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._helper is None or self._helper.poll() is not None:
            self._end()
            own = {**self.environment, "DRMAA_LIBRARY_PATH": str(self.library), **_LOADABLE}
            try:
                self._helper = subprocess.Popen(
                    [self.python, "-P", "-m", _HELPER],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=clean_environment(own),
                    start_new_session=True,
                )
            except OSError as error:
                raise TransportError(f"no DRMAA session could be started: {error}", may_have_run=False) from error
            assert self._helper.stdin is not None
            # One that reads nothing must not be waited for without a limit.
            os.set_blocking(self._helper.stdin.fileno(), False)
        return self._helper

    def _exchange(self, helper: subprocess.Popen[bytes], line: bytes, deadline: float) -> Any:
        """Send a line, and wait for the one that answers it; raises OSError and ValueError."""
        assert helper.stdin is not None and helper.stdout is not None
        to, answers = helper.stdin.fileno(), helper.stdout.fileno()
        unsent = memoryview(line)
        while unsent:
            _await((), (to,), deadline)
            unsent = unsent[os.write(to, unsent) :]
        answer = b""
        while not answer.endswith(b"\n"):
            _await((answers,), (), deadline)
            part = os.read(answers, 1 << 16)
            if not part:
                raise OSError("its process has ended")
            answer += part
        return json.loads(answer)

    def _end(self) -> None:
        helper, self._helper = self._helper, None
        if helper is None:
            return
        helper.kill()
        helper.wait()
        for stream in (helper.stdin, helper.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not sent any more
                    stream.close()


def _await(readable: Sequence[int], writable: Sequence[int], deadline: float) -> None:
    """Until a descriptor is ready; raises OSError."""
    left = deadline - time.monotonic()
    if left <= 0 or not any(select.select(readable, writable, (), left)):
        raise OSError("no answer in time")


def _left(deadline: float) -> float:
    """Seconds until then; one at least, for a command that is due."""
    return max(1.0, deadline - time.monotonic())


def _completed(answer: Any) -> Completed:
    return Completed(int(answer["exit_code"]), str(answer["stdout"]), str(answer["stderr"]))
