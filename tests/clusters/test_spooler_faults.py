"""The spooler dies, is upgraded, finds strange records: jobs go on, and their ends are told truthfully."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from joblauncher import failpoints
from joblauncher.failpoints import Failpoint
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import EXIT_REFUSED, ExitRecord, load
from tests.clusters.spooling import (
    Site,
    known,
    looping,
    new_mark,
    process_state,
    running,
    running_site,
    sleeper,
    wait_for,
)
from wps_hpc.clusters.schedulers.base import Control, JobOrder, Phase, Unknown
from wps_hpc.clusters.spooler import proc
from wps_hpc.clusters.spooler.spool import JobRecord, Word

ROOT = Path(__file__).parents[2]
#: Ends with its folder at the latest: a test may leave it to nobody.
UNTIL_GO = 'while ! test -e go && test -e "$PWD"; do sleep 0.01; done'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A storage root with a spooler."""
    with running_site(tmp_path / "site") as made:
        yield made


def failing_at(monkeypatch: pytest.MonkeyPatch, point: Failpoint, marker: Path) -> None:
    """Let the next spooler die at a failpoint, once."""
    monkeypatch.setenv(failpoints.VARIABLE, f"{point.value}:{marker}")


def test_jobs_outlive_their_spooler_and_are_adopted(site: Site) -> None:
    """kill -9 in the middle: the job goes on, the next spooler follows it to its end, its exit file gives the code."""
    site.start(site.shell("w1", f"{UNTIL_GO}; exit 4"))
    before = site.pid()
    site.kill_spooler()
    assert site.word("w1").phase is Phase.RUNNING
    assert site.pid() != before
    assert "adopted" in site.log()
    (site.folder("w1") / "go").touch()
    word = site.ended("w1")
    assert (word.word, word.exit_code) == (Word.FAILED, 4)


def test_an_adopted_job_without_an_exit_file_has_ended_unseen(site: Site) -> None:
    """Its exit code is nobody's to know: the word claims neither success nor failure."""
    site.start(replace(site.shell("w1", ""), script=f"cd {site.folder('w1')}; echo up > up; {UNTIL_GO}; exit 4"))
    site.written("w1", "up")
    site.kill_spooler()
    assert site.word("w1").phase is Phase.RUNNING
    (site.folder("w1") / "go").touch()
    word = site.ended("w1")
    assert (word.word, word.cause, word.exit_code, word.signal) == (Word.ENDED_UNSEEN, None, None, None)


def test_an_adopted_tree_is_cancelled_whole(site: Site) -> None:
    """Also what the leader's death orphans, in whatever session and with whatever environment."""
    mark = new_mark()
    tree = f"{sleeper(mark)} & (setsid {sleeper(mark)} &) ; (env -i /bin/{sleeper(mark)} &)"
    site.start(site.shell("w1", f"trap '' TERM; {tree}; echo up > up; {sleeper(mark)}"))
    site.written("w1", "up")
    wait_for(lambda: len(running(mark)) == 4, "the whole tree")
    site.kill_spooler()
    fast = replace(site.cluster, scheduler=replace(site.cluster.scheduler, cancel_grace=0.1))  # type: ignore[type-var]
    assert fast.control(Control.CANCEL, known("w1")).done
    assert site.ended("w1").word == Word.CANCELLED
    assert running(mark) == []


def test_a_cancel_is_remembered_across_spoolers(site: Site) -> None:
    """The grace goes on with the next spooler; a job that does not listen is killed by that one."""
    script = f"trap '' TERM; echo up > up; {looping('near')}; while :; do :; done"
    site.start(replace(site.shell("w1", ""), script=f"cd {site.folder('w1')}; {script}"))
    site.written("w1", "up")
    patient = replace(site.cluster, scheduler=replace(site.cluster.scheduler, cancel_grace=1.0))  # type: ignore[type-var]
    patient.control(Control.CANCEL, known("w1"))
    site.kill_spooler()
    assert site.ended("w1").word == Word.CANCELLED


def test_a_suspended_job_stays_so_when_the_spooler_dies(site: Site) -> None:
    """The next spooler sees that it stands still, and can let it go on."""
    site.start(site.shell("w1", looping("near")))
    site.written("w1", "near")
    site.cluster.control(Control.SUSPEND, known("w1"))
    site.kill_spooler()
    assert site.word("w1").phase is Phase.SUSPENDED
    size = (site.folder("w1") / "near").stat().st_size
    assert site.cluster.control(Control.RESUME, known("w1")).done
    wait_for(lambda: (site.folder("w1") / "near").stat().st_size > size, "the job to go on")


def test_a_job_that_ended_while_nobody_looked(site: Site) -> None:
    """No spooler ran when it ended: the exit file tells the next one, and what it left is killed."""
    mark = new_mark()
    site.start(site.shell("w1", f"(setsid {sleeper(mark)} &) ; {UNTIL_GO}; exit 5"))
    leader = site.record("w1").pid
    assert leader is not None
    wait_for(lambda: running(mark), "the process that will be left")
    site.kill_spooler()
    (site.folder("w1") / "go").touch()
    wait_for(lambda: process_state(leader) in ("", "Z"), "the leader's end")
    assert running(mark)
    word = site.word("w1")
    assert (word.word, word.exit_code) == (Word.FAILED, 5)
    assert running(mark) == []


def test_a_forked_process_without_a_mark_in_its_environment_is_found_by_name(site: Site) -> None:
    """The leader was killed while no spooler ran; a fork of it in another session has only its name to be known by."""
    token = "wname12345abcde"
    code = "import os, sys, time\nif os.fork() == 0:\n os.setsid(); proc.set_name(sys.argv[1]); time.sleep(1000)\n"
    mark = new_mark()
    argv = [sys.executable, "-c", f"from wps_hpc.clusters.spooler import proc\n{code}", token, mark]
    site.start(site.order(token, "/usr/bin/env", "-i", f"PYTHONPATH={ROOT}", "sh", "-c", UNTIL_GO))
    site.kill_spooler()
    # Outside of the job's tree, as if the leader had forked it and gone: nothing but the name connects it.
    subprocess.run(argv, env={"PYTHONPATH": str(ROOT)}, check=True)
    leader = site.record(token).pid
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    wait_for(lambda: process_state(leader) in ("", "Z"), "the leader's end")
    wait_for(lambda: running(mark), "the process that was left")
    assert site.word(token).phase is Phase.ENDED
    assert running(mark) == []


def test_a_reused_pid_is_not_taken_for_the_job(site: Site) -> None:
    """Another process has the leader's pid by now: the job has ended, and that process is nobody's to signal."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            identity = proc.identify(stranger.pid)
            assert identity is not None
            crafted(site, "w1", pid=stranger.pid, start_ticks=identity.start_ticks - 1)
            assert site.word("w1").word == Word.ENDED_UNSEEN
            assert site.cluster.control(Control.CANCEL, known("w1")).gone
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_job_of_before_the_reboot_has_ended(site: Site) -> None:
    """Another boot id: whatever has that pid and start time now is something else."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            identity = proc.identify(stranger.pid)
            assert identity is not None
            crafted(site, "w1", boot="another boot", pid=stranger.pid, start_ticks=identity.start_ticks)
            word = site.word("w1")
            assert (word.word, word.cause) == (Word.HOST_RESTARTED, "node failure")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_job_whose_pid_was_lost_with_the_power_is_not_started_again(site: Site) -> None:
    """A record without a pid means «never started» on this boot only."""
    crafted(site, "w1", boot="another boot")
    site.start(site.shell("w1", "echo ran > ran"))
    assert site.word("w1").word == Word.HOST_RESTARTED
    assert not (site.folder("w1") / "ran").exists()


def test_an_unreadable_record_is_reported_and_its_token_stays_taken(site: Site) -> None:
    """Half a record could be of a job that runs."""
    site.spool.jobs.mkdir(parents=True, mode=0o700)
    site.spool.run.chmod(0o700)
    site.spool.record("w1").write_text('{"schema": 1, "tok')
    outcome = site.cluster.submit(site.shell("w1", "echo ran > ran"))
    assert "cannot be read" in getattr(outcome, "why", "")
    assert "unreadable record" in site.log()
    assert not (site.folder("w1") / "ran").exists()
    site.start(site.shell("w2", "exit 0"))
    assert site.ended("w2").word == Word.COMPLETED


def crafted(site: Site, token: str, **known_of_it: object) -> None:
    """A record in the spool folder, as an earlier spooler might have left it."""
    site.spool.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    site.spool.jobs.mkdir(exist_ok=True)
    folder = site.folder(token)
    folder.mkdir(parents=True, exist_ok=True)
    record = JobRecord(token, "7", "job", str(folder), 1, False, proc.boot_id(), time.time())
    site.spool.save(replace(record, **known_of_it))  # type: ignore[arg-type]


def test_death_before_the_record_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The outcome is unknown, the look-up certain: submitted again, the job runs once."""
    failing_at(monkeypatch, Failpoint.SPOOL_BEFORE_RECORD, tmp_path / "marker")
    order = site.shell("w1", "echo ran >> runs")
    assert isinstance(site.cluster.submit(order), Unknown)
    site.wait_until_gone()
    assert (tmp_path / "marker").exists()
    assert site.cluster.lookup(known("w1")) is None
    site.start(order)
    assert site.ended("w1").word == Word.COMPLETED
    assert site.written("w1", "runs") == "ran\n"


def test_death_after_the_record_is_told_as_never_started(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing ran; submitted again under the same token it keeps its id and runs, once."""
    failing_at(monkeypatch, Failpoint.SPOOL_AFTER_RECORD, tmp_path / "marker")
    order = site.shell("w1", "echo ran >> runs")
    assert isinstance(site.cluster.submit(order), Unknown)
    site.wait_until_gone()
    word = site.word("w1")
    assert (word.phase, word.word, word.cause) == (Phase.ENDED, Word.NEVER_STARTED, "could not start")
    assert not (site.folder("w1") / "runs").exists()
    assert site.start(order) == site.record("w1").id
    assert site.ended("w1").word == Word.COMPLETED
    site.start(order)
    assert site.written("w1", "runs") == "ran\n"


def test_death_after_the_start_does_not_start_it_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The job runs without its spooler; submitted again it is known."""
    failing_at(monkeypatch, Failpoint.SPOOL_AFTER_START, tmp_path / "marker")
    order = site.shell("w1", f"echo ran >> runs; {UNTIL_GO}")
    assert isinstance(site.cluster.submit(order), Unknown)
    site.wait_until_gone()
    # Until it has closed what it inherited, a new leader holds its dead spooler's socket too.
    site.written("w1", "runs")
    assert site.start(order) == site.cluster.lookup(known("w1"))
    assert site.word("w1").phase is Phase.RUNNING
    (site.folder("w1") / "go").touch()
    assert site.ended("w1").word == Word.COMPLETED
    assert site.written("w1", "runs") == "ran\n"


def test_a_warm_launcher_is_called_and_its_exit_is_written(site: Site) -> None:
    """The launcher in the fork refuses a folder without a manifest: its exit code, its words, the exit file."""
    site.start(warm_order(site))
    word = site.ended("w1")
    assert (word.word, word.exit_code) == (Word.FAILED, EXIT_REFUSED)
    left = JobFolder(site.folder("w1")).attempt(3).exit.read_bytes()
    assert load(ExitRecord, left) == ExitRecord(EXIT_REFUSED, None, os.uname().nodename)
    assert "refused" in site.spool.said("w1").read_text()


def test_a_warm_job_starts_in_milliseconds(site: Site) -> None:
    """From the submission to the recorded end of twenty launchers: far from the time that twenty Pythons take."""
    site.pid()
    began = time.monotonic()
    for number in range(20):
        site.start(replace(warm_order(site), token=f"w{number}", submission=number + 1))
    wait_for(lambda: site.ping()["jobs"] == 0, "their end")
    assert time.monotonic() - began < 2.0


def warm_order(site: Site) -> JobOrder:
    """An order for the real launcher that it refuses."""
    options = ("--digest", "0" * 64, "--folder", str(site.folder("w1")))
    return site.order("w1", "python", "joblauncher.pyz", *options, warm=True, submission=3)


@pytest.fixture
def older_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packages that the next spooler will run instead of this tree's."""
    copy = tmp_path / "older"
    for package in ("wps_hpc", "joblauncher", "batch_templates"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(copy))
    return copy


def test_an_upgraded_spooler_keeps_its_jobs(older_code: Path, tmp_path: Path) -> None:
    """It becomes the code on disk in its own place: same pid, and the jobs are still its children."""
    with running_site(tmp_path / "site") as old:
        old.start(old.shell("w1", f"{UNTIL_GO}; exit 6"))
        before = old.ping()
        with (older_code / "joblauncher" / "failpoints.py").open("a") as source:
            source.write("\n# a change\n")
        with running_site(tmp_path / "site") as new:
            after = new.ping()
            assert after["pid"] == before["pid"]
            assert after["fingerprint"] != before["fingerprint"]
            assert after["jobs"] == 1
            (new.folder("w1") / "go").touch()
            assert new.ended("w1").exit_code == 6
            assert "started as w1" in new.log() and "becoming the code on disk" in new.log()


def test_code_that_does_not_start_changes_nothing(older_code: Path, tmp_path: Path) -> None:
    """Half an upgrade: the spooler stays what it was, and serves."""
    with running_site(tmp_path / "site") as old:
        before = old.ping()
        with (older_code / "joblauncher" / "failpoints.py").open("a") as source:
            source.write("\nthis is not Python\n")
        with running_site(tmp_path / "site") as new:
            assert new.ping() == before
            assert "no upgrade" in new.log()


def test_sigterm_ends_the_spooler_and_leaves_the_jobs(site: Site) -> None:
    """As a service manager would stop it: what runs is for the next spooler."""
    site.start(site.shell("w1", f"{UNTIL_GO}; exit 0"))
    os.kill(site.pid(), signal.SIGTERM)
    site.wait_until_gone()
    assert not site.spool.socket.exists()
    assert site.word("w1").phase is Phase.RUNNING
    (site.folder("w1") / "go").touch()
    assert site.ended("w1").exit_code == 0


def test_a_spooler_that_nobody_needs_ends(site: Site) -> None:
    """No job, and no server that follows the changes: it leaves nothing running behind a demonstration or a test."""
    site.spool.run.mkdir(parents=True, mode=0o700)
    code = (
        "import sys; from wps_hpc.clusters.spooler import __main__, daemon; daemon.IDLE_SECONDS = 0.2; "
        "sys.exit(__main__.main(sys.argv[1:]))"
    )
    subprocess.run([sys.executable, "-c", code, "--run", str(site.spool.run)], check=True)
    feed = site.transport.changes(10)
    assert feed is not None
    site.start(site.shell("w1", "sleep 2.5"))
    assert site.ended("w1").word == Word.COMPLETED
    assert site.log().count("spooler starts") == 1, "job and feed have kept it"
    feed.close()
    site.wait_until_gone()
    assert not site.spool.socket.exists()
    assert site.word("w1").word == Word.COMPLETED


def test_records_stay_readable_json(site: Site) -> None:
    """For an operator with a pager, and for the next version."""
    site.start(site.shell("w1", "exit 0"))
    site.ended("w1")
    body = json.loads(site.spool.record("w1").read_text())
    assert (body["schema"], body["token"], body["word"]) == (1, "w1", "completed")
    assert site.spool.record("w1").stat().st_mode & 0o077 == 0
