"""Warm jobs: the real launcher, in a fork of the spooler, runs real job folders."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from joblauncher import failpoints
from joblauncher.failpoints import Failpoint
from joblauncher.formats.records import ExitRecord, load
from tests.clusters.spooling import Site, known, new_mark, process_state, running, running_site, wait_for
from tests.folders import MadeJob, Recipe, make_job
from wps_hpc.clusters.schedulers.base import Control, Phase
from wps_hpc.clusters.spooler.spool import Word


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A storage root with a spooler."""
    with running_site(tmp_path) as made:
        yield made


def started(site: Site, token: str, body: str) -> MadeJob:
    """Submit a job whose process has the given body, to be started warm."""
    site.folder(token).parent.mkdir(parents=True, exist_ok=True)
    job = make_job(site.folder(token), Recipe(body=body))
    launcher = ("/no/such/python", "/no/such/joblauncher.pyz", *job.arguments)
    site.start(site.order(token, *launcher, warm=True))
    return job


def test_a_warm_job_succeeds(site: Site) -> None:
    """Neither a Python nor a launcher was started for it: those of the order do not even exist."""
    job = started(site, "w1", "print('hello'); return {}")
    assert site.ended("w1").word == Word.COMPLETED
    assert job.status().state == "succeeded"
    assert job.stdout == "hello\n"
    assert load(ExitRecord, job.attempt().exit.read_bytes()) == ExitRecord(0, None, os.uname().nodename)
    assert not site.spool.said("w1").exists(), "nothing was said, nothing is kept"


def test_warm_jobs_know_nothing_of_each_other(site: Site) -> None:
    """Each has the environment of its order, its own random numbers, and a module namespace of its own."""
    body = "import random; sys.modules['left'] = 1; print(os.environ['WPS_HPC_TOKEN'], random.random()); return {}"
    jobs = {token: started(site, token, "assert 'left' not in sys.modules; " + body) for token in ("w1", "w2")}
    said = [site.ended(token).word == Word.COMPLETED and job.stdout.split() for token, job in jobs.items()]
    assert all(said)
    (one, first), (two, second) = (words for words in said if words)
    assert (one, two) == ("w1", "w2")
    assert first != second


def test_an_author_s_module_is_never_in_the_spooler(site: Site) -> None:
    """What a process imports ends with its job."""
    started(site, "w1", "import xml.dom.minidom; return {}")
    assert site.ended("w1").word == Word.COMPLETED
    job = started(site, "w2", "import sys; assert 'xml.dom.minidom' not in sys.modules; return {}")
    assert site.ended("w2").word == Word.COMPLETED, job.stderr


def test_a_process_that_crashes_does_not_take_the_spooler_along(site: Site) -> None:
    """A segmentation fault is the job's own."""
    pid = site.pid()
    job = started(site, "w1", "ctypes.string_at(0)")
    assert site.ended("w1").word == Word.FAILED
    assert job.status().state == "failed"
    assert site.pid() == pid


def test_a_warm_job_is_cancelled_with_its_tree(site: Site) -> None:
    """The launcher passes the TERM on, cleans up, and says who ended it."""
    mark = new_mark()
    body = f"subprocess.Popen(['setsid', 'sleep', 'infinity', '{mark}']); Path('up').touch(); time.sleep(1000)"
    job = started(site, "w1", body)
    wait_for(lambda: (job.attempt().work / "up").exists() and running(mark), "the process to be up")
    assert site.cluster.control(Control.CANCEL, known("w1")).done
    word = site.ended("w1")
    assert (word.word, word.cause) == (Word.CANCELLED, "cancelled")
    assert running(mark) == []


def test_a_launcher_that_is_killed_leaves_nothing(site: Site) -> None:
    """kill -9 of the launcher: the spooler writes how it ended, and nothing of the job goes on."""
    mark = new_mark()
    body = f"subprocess.Popen(['setsid', 'sleep', 'infinity', '{mark}']); Path('up').touch(); time.sleep(1000)"
    job = started(site, "w1", body)
    wait_for(lambda: (job.attempt().work / "up").exists() and running(mark), "the process to be up")
    leader = site.record("w1").pid
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    word = site.ended("w1")
    assert (word.word, word.signal) == (Word.KILLED, 9)
    assert load(ExitRecord, job.attempt().exit.read_bytes()).signal == 9
    assert running(mark) == []


def test_a_warm_job_outlives_its_spooler(site: Site) -> None:
    """Its leader belongs to nobody then; it finishes, and the next spooler finds what it left."""
    job = started(site, "w1", "Path('up').touch()\nwhile not Path('go').exists(): time.sleep(0.01)\nreturn {}")
    work = job.attempt().work
    wait_for(lambda: (work / "up").exists(), "the process to be up")
    site.kill_spooler()
    assert site.word("w1").phase is Phase.RUNNING
    (work / "go").touch()
    assert site.ended("w1").word == Word.ENDED_UNSEEN
    assert job.status().state == "succeeded"


def test_a_failpoint_reaches_the_launcher(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that the fault matrix can kill it there."""
    monkeypatch.setenv(failpoints.VARIABLE, f"{Failpoint.LAUNCH_AFTER_CLAIM.value}:{tmp_path / 'marker'}")
    with running_site(tmp_path / "other") as other:
        job = started(other, "w1", "return {}")
        assert other.ended("w1").signal == 9
        assert job.attempt().claim.exists()


def test_a_suspended_warm_job_stands_still_and_goes_on(site: Site) -> None:
    """Launcher, and all that it watches."""
    job = started(site, "w1", "Path('up').touch()\nwhile not Path('go').exists(): time.sleep(0.01)\nreturn {}")
    wait_for(lambda: (job.attempt().work / "up").exists(), "the process to be up")
    leader = site.record("w1").pid
    assert leader is not None
    site.cluster.control(Control.SUSPEND, known("w1"))
    wait_for(lambda: process_state(leader) == "T", "the launcher to stand still")
    (job.attempt().work / "go").touch()
    assert site.word("w1").phase is Phase.SUSPENDED
    site.cluster.control(Control.RESUME, known("w1"))
    assert site.ended("w1").word == Word.COMPLETED


def test_modules_beside_the_server_are_found_by_pythonpath(tmp_path: Path) -> None:
    """What the server imports by PYTHONPATH, or the cluster's own, a warm job imports too."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "beside_the_server.py").write_text("VALUE = 42\n")
    with running_site(tmp_path / "site", environment={"PYTHONPATH": str(tmp_path / "theirs")}) as site:
        job = started(site, "w1", "import beside_the_server; print(beside_the_server.VALUE); return {}")
        assert site.ended("w1").word == Word.COMPLETED, job.stderr
        assert job.stdout == "42\n"
