"""The process that has a DRMAA session, with a session that is none: it hangs, crashes, and is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.clusters.site import until
from wps_hpc.clusters.transports.base import Command, Completed, TransportError
from wps_hpc.clusters.transports.drmaa import (
    ACCOUNT,
    DRMAA,
    NO_REQUEST,
    NO_SESSION,
    STATES,
    SUBMIT,
    DrmaaTransport,
    Job,
    Template,
)

TOKEN = "wrun00000000000"

#: A package by the name of drmaa: its session says what a file says, and may hang or crash.
FAKE = """
import os, pathlib, time
TOLD = pathlib.Path({told!r})
class errors:
    class InvalidJobException(Exception): pass
class Session:
    TIMEOUT_NO_WAIT = 0
    def initialize(self):
        print("libraries print what they like")
        if TOLD.read_text() == "away": raise RuntimeError("code 2: nobody answers")
    def jobStatus(self, number):
        told = TOLD.read_text()
        if told == "hang": time.sleep(600)
        if told == "crash": os.abort()
        if told == "gone": raise errors.InvalidJobException("code 18: gone")
        return told
    def wait(self, number, timeout): raise Exception("code 24: no usage information")
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What the session that is none says."""
    path = tmp_path / "told"
    (tmp_path / "drmaa.py").write_text(FAKE.format(told=str(path)))
    path.write_text("running")
    return path


@pytest.fixture
def transport(tmp_path: Path, told: Path) -> DrmaaTransport:
    """A transport with that session; it is closed by the test's end, as its process ends with its input."""
    return DrmaaTransport(tmp_path / "libdrmaa.so", {"PYTHONPATH": str(tmp_path)})


def account(transport: DrmaaTransport) -> Completed:
    """Ask accounting, by a command that just succeeds."""
    return transport.run(Command((DRMAA, ACCOUNT, "echo", "asked"), Job.dump_all([Job("17", TOKEN)])), 30)


def states(transport: DrmaaTransport, timeout: float = 30) -> list[dict[str, str]]:
    """What the session says."""
    completed = transport.run(Command((DRMAA, STATES)), timeout)
    assert completed.exit_code == 0, completed
    return list(json.loads(completed.stdout))


def test_the_session_learns_of_jobs_on_the_way_to_accounting(transport: DrmaaTransport, told: Path) -> None:
    """And forgets those that it calls finished."""
    assert states(transport) == []
    assert account(transport).stdout == "asked\n"
    assert states(transport) == [{"id": "17", "token": TOKEN, "state": "running"}]
    told.write_text("done")
    assert states(transport) == []
    told.write_text("running")
    assert states(transport) == []
    transport.close()


@pytest.mark.parametrize("how", ["hang", "crash"])
def test_a_library_that_hangs_or_crashes_takes_nobody_along(transport: DrmaaTransport, told: Path, how: str) -> None:
    account(transport)
    told.write_text(how)
    with pytest.raises(TransportError) as failed:
        states(transport, timeout=2.0)
    assert failed.value.may_have_run
    told.write_text("running")
    assert states(transport) == []
    account(transport)
    assert len(states(transport)) == 1
    transport.close()


def test_a_batch_system_that_does_not_answer_is_no_session(transport: DrmaaTransport, told: Path) -> None:
    told.write_text("away")
    completed = transport.run(Command((DRMAA, SUBMIT), Template(TOKEN, "/job.sh", "/", "-b n").dump()), 30)
    assert completed.exit_code == NO_SESSION and "nobody answers" in completed.stderr
    told.write_text("gone")
    assert account(transport).stdout == "asked\n" and states(transport) == []
    assert transport.run(Command((DRMAA, "shout")), 30).exit_code == NO_REQUEST
    transport.close()


def test_its_process_ends_with_the_worker(transport: DrmaaTransport) -> None:
    states(transport)
    helper = transport._helper
    assert helper is not None and helper.stdin is not None
    helper.stdin.close()
    until(lambda: helper.poll() is not None, "it ends with its input")
    assert helper.returncode == 0
    transport.close()


def test_a_process_that_was_killed_is_started_again(transport: DrmaaTransport) -> None:
    states(transport)
    helper = transport._helper
    assert helper is not None
    os.kill(helper.pid, signal.SIGKILL)
    helper.wait()
    assert states(transport) == []
    transport.close()
