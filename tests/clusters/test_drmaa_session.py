"""The process that has a DRMAA session, with a session that is none: it hangs, crashes, and is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters.site import until
from wps_hpc.clusters.transports.base import Command, Completed, NoSuchProgram, TransportError
from wps_hpc.clusters.transports.drmaa import (
    ACCOUNT,
    DRMAA,
    NO_REQUEST,
    NO_SESSION,
    STATES,
    SUBMIT,
    DrmaaTransport,
    Job,
    Living,
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
        if told == "away": raise Exception("code 2: nobody answers any more")
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
    shown = tmp_path / "shown"
    shown.write_text(json.dumps({"17": TOKEN}))
    living = Living(
        Command(("cat", str(shown))),
        lambda completed: json.loads(completed.stdout) if completed.exit_code == 0 else None,
    )
    return DrmaaTransport(tmp_path / "libdrmaa.so", {"PYTHONPATH": str(tmp_path)}, living)


def account(transport: DrmaaTransport, timeout: float = 30) -> Completed:
    """Ask accounting, by a command that just succeeds."""
    return transport.run(Command((DRMAA, ACCOUNT, "echo", "asked"), Job.dump_all([Job("17", TOKEN)])), timeout)


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


def test_a_session_that_cannot_be_opened_has_no_word_on_any_job(transport: DrmaaTransport, told: Path) -> None:
    """Not even that it knows of none: what a session does not show is taken for ended."""
    told.write_text("away")
    completed = transport.run(Command((DRMAA, STATES)), 30)
    assert completed.exit_code == NO_SESSION and "nobody answers" in completed.stderr
    transport.close()


@pytest.mark.parametrize("opened", [False, True])
def test_accounting_says_nothing_of_jobs_that_the_session_could_not_be_told_of(
    transport: DrmaaTransport, told: Path, opened: bool
) -> None:
    """Accounting is a file, which is silent on a job that runs, master or not."""
    if opened:
        states(transport)
    told.write_text("away")
    with pytest.raises(TransportError, match="nobody answers"):
        account(transport)
    transport.close()


def test_accounting_says_nothing_when_nobody_says_which_jobs_live(transport: DrmaaTransport, tmp_path: Path) -> None:
    """Nor when there is no command for it: «no accounting» is another thing."""
    (tmp_path / "shown").unlink()
    with pytest.raises(TransportError, match="which jobs live"):
        account(transport)
    transport.living = replace(transport.living, command=Command(("/no/such/qstat",)))
    with pytest.raises(TransportError) as failed:
        account(transport)
    assert not isinstance(failed.value, NoSuchProgram)
    transport.close()


def test_a_job_of_somebody_else_with_the_same_id_is_not_taken_for_ours(
    transport: DrmaaTransport, tmp_path: Path
) -> None:
    (tmp_path / "shown").write_text(json.dumps({"17": "w" * 15}))
    assert account(transport).stdout == "asked\n"
    assert states(transport) == []
    transport.close()


def test_accounting_is_not_asked_when_the_session_hangs_on_the_way(transport: DrmaaTransport, told: Path) -> None:
    told.write_text("hang")
    with pytest.raises(TransportError):
        account(transport, timeout=2.0)
    transport.close()


def test_a_process_that_reads_nothing_is_not_waited_for_longer_than_one_that_answers_nothing(
    transport: DrmaaTransport,
) -> None:
    """A request may be larger than a pipe."""
    states(transport)
    helper = transport._helper
    assert helper is not None
    os.kill(helper.pid, signal.SIGSTOP)
    guard = threading.Timer(30, helper.kill)
    guard.start()
    with pytest.raises(TransportError, match="in time"):
        transport.run(Command((DRMAA, SUBMIT), Template(TOKEN, "/job.sh", "/", 300_000 * "x").dump()), 2)
    guard.cancel()
    assert states(transport) == []
    transport.close()


def test_a_request_larger_than_a_pipe_arrives(transport: DrmaaTransport) -> None:
    completed = transport.run(Command((DRMAA, 300_000 * "x")), 30)
    assert completed.exit_code == NO_REQUEST
    transport.close()


def test_nothing_in_the_folder_that_the_server_was_started_in_is_loaded(
    transport: DrmaaTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path / "here")
    assert states(transport) == []
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
