"""The process that has the DRMAA session: a line of JSON for each request, a line for each answer.

The only one that loads DRMAA, and with it the batch system's library. It opens its session with the first request, ends
with its standard input, and tells errors by DRMAA's own numbers.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wps_hpc.clusters.transports.drmaa import CONTROL, LEARN, NO_REQUEST, NO_SESSION, STATES, SUBMIT

_FINISHED = ("done", "failed")
#: An error that python-drmaa has no class for comes as a text with its number.
_NUMBER = re.compile(r"code (\d+):")
_INTERNAL = 1


class NoSession(Exception):
    """The library cannot be loaded, or the batch system does not answer."""


class Session:
    """One session and the jobs that it is asked about, by id with their tokens."""

    def __init__(self) -> None:
        self._jobs: dict[str, str] = {}
        self._opened: Any = None
        self._library: Any = None

    def submit(self, words: Sequence[str], given: str) -> str:
        """Submit a job; its id."""
        wanted = json.loads(given)
        session = self._session()
        template = session.createJobTemplate()
        try:
            template.remoteCommand = wanted["script"]
            template.workingDirectory = wanted["folder"]
            template.jobName = wanted["token"]
            template.nativeSpecification = wanted["native"]
            number = str(session.runJob(template))
        finally:
            session.deleteJobTemplate(template)
        self._jobs[number] = wanted["token"]
        return number

    def states(self, words: Sequence[str], given: str) -> str:
        """The state of every known job that still lives, as JSON."""
        states = {number: self._state(number) for number in list(self._jobs)}
        living = [(number, state) for number, state in states.items() if state not in (None, *_FINISHED)]
        answer = [{"id": number, "token": self._jobs[number], "state": state} for number, state in living]
        for number, state in states.items():
            if state in (None, *_FINISHED):
                self._let_go(number)
        return json.dumps(answer)

    def learn(self, words: Sequence[str], given: str) -> str:
        """Take in jobs that some earlier process has submitted, as far as they live."""
        for job in json.loads(given):
            if self._state(job["id"]) not in (None, *_FINISHED):
                self._jobs[job["id"]] = job["token"]
        return ""

    def control(self, words: Sequence[str], given: str) -> str:
        """Hold, release, suspend, resume or terminate one job."""
        action, number = words
        self._session().control(number, action)
        return ""

    def _session(self) -> Any:
        if self._opened is None:
            try:
                import drmaa

                opened = drmaa.Session()
                opened.initialize()
            except Exception as error:
                # Of many kinds: no package, no library, a library that does not load, nobody who answers.
                raise NoSession(f"{type(error).__name__}: {error}") from error
            self._library, self._opened = drmaa, opened
        return self._opened

    def _state(self, number: str) -> str | None:
        session = self._session()
        try:
            return str(session.jobStatus(number))
        except self._library.errors.InvalidJobException:
            return None

    def _let_go(self, number: str) -> None:
        """The library keeps what it knows of a finished job until it is waited for; its word is not needed."""
        del self._jobs[number]
        try:
            self._opened.wait(number, self._library.Session.TIMEOUT_NO_WAIT)
        except Exception as error:
            # Whatever it is, of another session's job say: nothing hangs on it.
            print(f"job {number}: {error}", file=sys.stderr)


def answered(session: Session, line: str) -> Mapping[str, Any]:
    """The answer to one request."""
    requests: Mapping[str, Callable[[Sequence[str], str], str]] = {
        SUBMIT: session.submit,
        STATES: session.states,
        LEARN: session.learn,
        CONTROL: session.control,
    }
    try:
        request = json.loads(line)
        return _answer(0, requests[request["kind"]](request["words"], request["given"]))
    except NoSession as error:
        return _answer(NO_SESSION, error=str(error))
    except Exception as error:
        # Among them classes of a package that may not be there.
        return _answer(_number(error), error=f"{type(error).__name__}: {error}")


def _answer(exit_code: int, text: str = "", error: str = "") -> Mapping[str, Any]:
    return {"exit_code": exit_code, "stdout": text, "stderr": error}


def _number(error: Exception) -> int:
    found = _NUMBER.search(str(error))
    if found:
        return int(found[1])
    return NO_REQUEST if isinstance(error, (LookupError, ValueError, TypeError)) else _INTERNAL


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # Libraries print what they like.
    os.dup2(2, 1)
    session = Session()
    for line in sys.stdin:
        answers.write(json.dumps(answered(session, line)) + "\n")
        answers.flush()
    # To leave a session in order takes seconds, and forever when the batch system is away.
    os._exit(0)


if __name__ == "__main__":
    main()
