"""The embedded batch system with real processes: it starts each job once, follows it, and leaves nothing behind."""

import os
import select
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import EXIT_CLAIMED, ExitRecord, load
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
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, Phase, Refused
from wps_hpc.clusters.spooler.spool import Word
from wps_hpc.clusters.transports.base import Command
from wps_hpc.clusters.transports.embedded import EmbeddedTransport

#: Shell code that goes on for ever and takes signals in between.
WAIT = "while :; do sleep 0.01; done"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A storage root with a spooler."""
    with running_site(tmp_path) as made:
        yield made


def test_a_job_runs_and_its_end_is_told(site: Site) -> None:
    """From submission to the exit file."""
    scheduler_id = site.start(site.shell("w1", "echo ran > out; exit 3"))
    word = site.ended("w1")
    assert (word.word, word.cause, word.exit_code, word.token) == (Word.FAILED, "exit code", 3, "w1")
    assert site.cluster.lookup(known("w1")) == scheduler_id
    assert site.written("w1", "out") == "ran\n"
    left = JobFolder(site.folder("w1")).attempt(1).exit.read_bytes()
    assert load(ExitRecord, left) == ExitRecord(3, None, os.uname().nodename)


def test_a_token_is_started_once_however_often_it_is_submitted(site: Site) -> None:
    """Twenty submissions at the same time, and one more afterwards: one id, one run."""
    order = site.shell("w1", "echo ran >> runs")
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: site.start(order), range(20)))
    assert len(ids) == 1
    assert site.ended("w1").word == Word.COMPLETED
    assert {site.start(order)} == ids
    assert site.written("w1", "runs") == "ran\n"


def test_fifty_jobs_each_run_once(site: Site) -> None:
    """Many jobs at the same time, one query for all."""
    tokens = [f"w{number}" for number in range(50)]
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda token: site.start(site.shell(token, "echo ran >> runs")), tokens))
    assert len(set(ids)) == 50
    wait_for(lambda: _phases(site) == {Phase.ENDED}, "the end of fifty jobs")
    answer = site.cluster.query()
    assert not isinstance(answer, CouldNotAsk)
    assert {answer[key].word for key in ids} == {Word.COMPLETED}
    assert {site.written(token, "runs") for token in tokens} == {"ran\n"}
    assert site.ping()["jobs"] == 0


def _phases(site: Site) -> set[Phase]:
    answer = site.cluster.query()
    assert not isinstance(answer, CouldNotAsk)
    return {word.phase for word in answer.values()}


def test_what_a_job_leaves_running_is_killed(site: Site) -> None:
    """In the background, in sessions of their own, orphaned on purpose, with an empty environment: all are found."""
    mark = new_mark()
    sleeping = sleeper(mark)
    site.start(
        site.shell("w1", f"{sleeping} & (setsid {sleeping} &) ; (env -i setsid /bin/{sleeping} &) ; echo up > up")
    )
    assert site.written("w1", "up")
    assert site.ended("w1").word == Word.COMPLETED
    assert running(mark) == []


def test_cancel_asks_the_launcher_and_takes_the_whole_tree(site: Site) -> None:
    """TERM reaches the launcher, which may clean up; what it leaves is killed."""
    mark = new_mark()
    sleeping = sleeper(mark)
    code = f"trap 'echo cleaned > cleaned; exit 1' TERM; (setsid {sleeping} &) ; echo up > up; {WAIT}"
    site.start(site.shell("w1", code))
    site.written("w1", "up")
    assert site.cluster.control(Control.CANCEL, known("w1")).done
    word = site.ended("w1")
    assert (word.word, word.cause) == (Word.CANCELLED, "cancelled")
    assert site.written("w1", "cleaned") == "cleaned\n"
    assert running(mark) == []


def test_cancel_kills_what_does_not_listen(tmp_path: Path) -> None:
    """After the grace the leader and everything below it are killed, setsid and double fork or not."""
    mark = new_mark()
    sleeping = sleeper(mark)
    with running_site(tmp_path, grace=0.2) as site:
        tree = f"(setsid {sleeping} &) ; (setsid sh -c '{sleeping} & {sleeping}' &)"
        inner = f"trap '' TERM; {tree}; echo up > up; {sleeping}"
        # The script's own shell listens to TERM and passes it on; this one does not.
        site.start(replace(site.shell("w1", inner), script=f"cd {site.folder('w1')}; {inner}"))
        site.written("w1", "up")
        wait_for(lambda: len(running(mark)) >= 4, "the whole tree")
        assert site.cluster.control(Control.CANCEL, known("w1")).done
        assert site.cluster.control(Control.CANCEL, known("w1")).done, "a repeated cancel is taken as well"
        assert site.ended("w1").word == Word.CANCELLED
        assert running(mark) == []


def test_a_success_that_came_before_the_cancel_took_effect_counts(site: Site) -> None:
    """A launcher that ends with 0 has finished its job, cancelled or not."""
    code = f"trap 'exit 0' TERM; echo up > up; {WAIT}"
    site.start(site.shell("w1", code))
    site.written("w1", "up")
    site.cluster.control(Control.CANCEL, known("w1"))
    word = site.ended("w1")
    assert (word.word, word.cause) == (Word.COMPLETED, None)


def test_suspend_stops_every_process_and_resume_lets_them_go_on(site: Site) -> None:
    """The tree stands still, also the part in another session, and says so."""
    mark = new_mark()
    site.start(site.shell("w1", f"(setsid sh -c '{looping('far')}' {mark} &) ; {looping('near')}"))
    site.written("w1", "near")
    site.written("w1", "far")
    assert site.cluster.control(Control.SUSPEND, known("w1")).done
    assert site.word("w1").phase is Phase.SUSPENDED
    leader = site.record("w1").pid
    assert leader is not None
    tree = [leader, *running(mark)]
    wait_for(lambda: {process_state(pid) for pid in tree} == {"T"}, "a tree that stands still")
    sizes = _sizes(site)
    assert site.cluster.control(Control.RESUME, known("w1")).done
    wait_for(lambda: all(now > before for now, before in zip(_sizes(site), sizes, strict=True)), "both to go on")
    assert site.word("w1").phase is Phase.RUNNING


def test_a_suspended_job_can_be_cancelled(site: Site) -> None:
    """TERM comes through although every process stands still."""
    site.start(site.shell("w1", looping("near")))
    site.written("w1", "near")
    site.cluster.control(Control.SUSPEND, known("w1"))
    site.cluster.control(Control.CANCEL, known("w1"))
    assert site.ended("w1").word == Word.CANCELLED


def _sizes(site: Site) -> list[int]:
    return [(site.folder("w1") / name).stat().st_size for name in ("near", "far")]


@pytest.mark.parametrize("action", [Control.HOLD, Control.RELEASE])
def test_hold_and_release_are_refused_in_words(site: Site, action: Control) -> None:
    """A local job starts at once, so there is nothing to hold."""
    site.start(site.shell("w1", looping("near")))
    outcome = site.cluster.control(action, known("w1"))
    assert not outcome.done and not outcome.gone
    assert f"cannot be told to {action}" in outcome.why


def test_control_of_a_job_that_is_gone_says_so(site: Site) -> None:
    """Ended, or never heard of."""
    site.start(site.shell("w1", "exit 0"))
    site.ended("w1")
    for token in ("w1", "w2"):
        outcome = site.cluster.control(Control.CANCEL, known(token))
        assert outcome.gone and not outcome.done and token in outcome.why


def test_a_leader_that_is_killed_is_reported_with_its_signal(site: Site) -> None:
    """kill -9 of the leader: its word, and nothing of its tree left."""
    mark = new_mark()
    site.start(site.shell("w1", f"(setsid {sleeper(mark)} &) ; echo up > up; {sleeper(mark)}"))
    site.written("w1", "up")
    leader = site.record("w1").pid
    assert leader is not None
    os.kill(leader, signal.SIGKILL)
    word = site.ended("w1")
    assert (word.word, word.cause, word.signal, word.exit_code) == (Word.KILLED, "signal", 9, None)
    assert "signal 9" in (word.reason or "")
    assert running(mark) == []


def test_an_exit_code_beyond_all_signals_is_none(site: Site) -> None:
    """255, with which Apptainer ends when it cannot start a container."""
    site.start(site.shell("w1", "exit 255"))
    word = site.ended("w1")
    assert (word.word, word.exit_code, word.signal) == (Word.FAILED, 255, None)


def test_a_launcher_killed_below_the_shell_is_reported_with_its_signal(site: Site) -> None:
    """The shell turns a signal into 128 + its number; the exit file and the word turn it back."""
    site.start(site.shell("w1", "kill -KILL $$"))
    assert site.ended("w1").signal == 9
    left = JobFolder(site.folder("w1")).attempt(1).exit.read_bytes()
    assert load(ExitRecord, left).signal == 9


def test_the_exit_file_of_a_claimed_attempt_is_left_alone(site: Site) -> None:
    """A launcher that found the attempt taken notes nothing in it."""
    site.start(site.shell("w1", f"exit {EXIT_CLAIMED}"))
    assert site.ended("w1").exit_code == EXIT_CLAIMED
    assert not JobFolder(site.folder("w1")).attempt(1).path.exists()


def test_time_warnings_reach_the_launcher(site: Site) -> None:
    """USR1 to the leader is passed on by the script."""
    code = f"trap 'echo warned > warned; exit 0' USR1; echo up > up; {WAIT}"
    site.start(site.shell("w1", code))
    site.written("w1", "up")
    leader = site.record("w1").pid
    assert leader is not None
    os.kill(leader, signal.SIGUSR1)
    assert site.ended("w1").word == Word.COMPLETED
    assert site.written("w1", "warned") == "warned\n"


def test_a_job_gets_a_listed_environment_and_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the server has in its environment stays there; the cluster's own variables and the token come."""
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with running_site(tmp_path, environment={"OMP_NUM_THREADS": "2", "QUOTED": "it's $HOME"}) as site:
        site.start(site.shell("w1", "env > environment"))
        site.ended("w1")
        lines = site.written("w1", "environment").splitlines()
        daemon = (Path("/proc") / str(site.pid()) / "environ").read_text()
    assert {"OMP_NUM_THREADS=2", "QUOTED=it's $HOME", "WPS_HPC_TOKEN=w1"} <= set(lines)
    assert {line.split("=")[0] for line in lines} >= {"PATH", "HOME", "LANG"}
    assert not [line for line in lines if line.startswith(("DATABASE_PASSWORD", "SLURM_"))]
    assert "secret" not in daemon


def test_a_job_has_no_descriptors_of_the_spooler(site: Site) -> None:
    """Standard streams only: nothing listens, nothing is kept open by a job that lives on."""
    site.start(site.shell("w1", "ls -l /proc/$$/fd > fds"))
    site.ended("w1")
    descriptors = [line.split(" -> ")[1] for line in site.written("w1", "fds").splitlines() if " -> " in line]
    assert not [target for target in descriptors if target.startswith(("socket:", "anon_inode:", "pipe:"))]
    assert site.start(site.shell("w2", "exit 0"))


def test_a_submission_without_a_folder_is_refused_for_good(site: Site) -> None:
    """Nothing was started, and no other try would help."""
    order = site.shell("w1", "exit 0")
    outcome = site.cluster.submit(replace(order, folder=str(site.root / "nowhere")))
    assert isinstance(outcome, Refused) and not outcome.transient
    assert "nowhere" in outcome.why and "nowhere" not in outcome.client_text
    assert site.cluster.lookup(known("w1")) is None


@pytest.mark.parametrize("token", ["../w1", "1w", "w" * 16, "w-1", ""])
def test_a_token_that_could_name_another_file_is_refused(site: Site, token: str) -> None:
    """Tokens name files in the spool folder."""
    outcome = site.cluster.submit(replace(site.shell("w1", "exit 0"), token=token))
    assert isinstance(outcome, Refused) and not outcome.transient


def test_a_record_that_cannot_be_written_refuses_the_job_for_now(site: Site) -> None:
    """Without a record nothing is started; the next try may work."""
    order = site.shell("w1", "echo ran > ran")
    site.pid()
    site.spool.jobs.rename(site.spool.run / "away")
    outcome = site.cluster.submit(order)
    assert isinstance(outcome, Refused) and outcome.transient
    (site.spool.run / "away").rename(site.spool.jobs)
    assert not (site.folder("w1") / "ran").exists()
    site.start(order)
    assert site.ended("w1").word == Word.COMPLETED


def test_the_end_of_a_job_is_announced(site: Site) -> None:
    """The feed becomes readable when a job ends, is quiet once asked, and ends with the spooler."""
    feed = site.transport.changes(10)
    assert feed is not None
    assert _readable(feed.fileno(), 0) is False
    site.start(site.shell("w1", "exit 0"))
    assert _readable(feed.fileno(), 30)
    site.ended("w1")
    assert feed.news()
    assert _readable(feed.fileno(), 0) is False
    site.kill_spooler()
    assert _readable(feed.fileno(), 30)
    assert not feed.news()
    feed.close()


def test_the_cluster_keeps_a_feed_open_and_quiet(site: Site) -> None:
    """Readable after a job's end until a query, or until offered again; renewed when it broke."""
    descriptor = _descriptor(site)
    assert not _readable(descriptor, 0)
    site.start(site.shell("w1", "exit 0"))
    assert _readable(descriptor, 30), "the end is news"
    assert not _readable(_descriptor(site), 0), "offered again without a query: no news any more"
    site.cluster.query()
    site.start(site.shell("w2", "exit 0"))
    assert _readable(_descriptor(site), 30), "offered after the query: whatever came since is news"
    site.cluster.query()
    assert not _readable(_descriptor(site), 0), "the query has told it"
    descriptor = _descriptor(site)
    site.kill_spooler()
    assert _readable(descriptor, 30), "the feed broke"
    site.cluster.query()
    site.start(site.shell("w3", "while ! test -e go; do sleep 0.01; done"))
    assert not _readable(_descriptor(site), 0)
    (site.folder("w3") / "go").touch()
    assert _readable(_descriptor(site), 30), "the new feed works"


def _descriptor(site: Site) -> int:
    descriptor = site.cluster.changes()
    assert descriptor is not None
    return descriptor


def _readable(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def test_ended_jobs_leave_the_list_but_not_the_accounting(site: Site) -> None:
    """As with any batch system: the list is short, the accounting remembers, until the server has it forgotten."""
    site.start(site.shell("w1", "exit 0"))
    site.ended("w1")
    site.transport.stop(10)
    site.spool.save(replace(site.record("w1"), ended=time.time() - 1000))
    site.start(site.shell("w2", "exit 0"))
    site.ended("w2")
    answer = site.cluster.query()
    assert not isinstance(answer, CouldNotAsk) and {word.token for word in answer.values()} == {"w2"}
    assert site.word("w1").word == Word.COMPLETED
    site.cluster.forget([known("w1"), known("w3")])
    assert site.cluster.lookup(known("w1")) is None
    assert not list(site.spool.jobs.glob("w1*"))


def test_a_running_job_is_not_forgotten(site: Site) -> None:
    """Only what has ended can be."""
    site.start(site.shell("w1", looping("near")))
    site.cluster.forget([known("w1")])
    assert site.word("w1").phase is Phase.RUNNING


def test_records_of_long_ago_are_dropped(site: Site) -> None:
    """After a week nobody asks any more."""
    site.start(site.shell("w1", "exit 0"))
    site.ended("w1")
    site.transport.stop(10)
    site.spool.save(replace(site.record("w1"), ended=time.time() - 8 * 86_400))
    site.pid()
    wait_for(lambda: not site.spool.record("w1").exists(), "the record to go")
    assert site.cluster.lookup(known("w1")) is None


def test_shutdown_waits_for_no_job_but_refuses_while_one_runs(site: Site) -> None:
    """Stopping the spooler never costs a job its end."""
    site.start(site.shell("w1", "while ! test -e go; do sleep 0.01; done"))
    assert not site.transport.stop(10)
    assert site.ping()["jobs"] == 1
    (site.folder("w1") / "go").touch()
    site.ended("w1")
    assert site.transport.stop(10)
    assert not site.spool.socket.exists()
    assert site.transport.stop(10), "no spooler is left, and none is started"


def test_a_spooler_nobody_can_reach_ends(site: Site) -> None:
    """Without its socket it would only keep the next one from starting."""
    pid = site.pid()
    site.spool.socket.unlink()
    assert site.pid() != pid
    wait_for(lambda: process_state(pid) in ("", "Z"), "the old spooler's end")


@pytest.mark.parametrize(
    ("argv", "exit_code"),
    [((), 64), (("destroy",), 64), (("control", "cancel"), 64), (("control", "cancel", "w1", "--grace"), 64)],
)
def test_commands_that_are_none_are_refused(site: Site, argv: tuple[str, ...], exit_code: int) -> None:
    """With an exit code and a sentence."""
    site.start(site.shell("w1", looping("near")))
    completed = site.transport.run(Command(argv), 10)
    assert completed.exit_code == exit_code and completed.stderr
    assert site.word("w1").phase is Phase.RUNNING


def test_many_transports_at_once_start_one_spooler(tmp_path: Path) -> None:
    """Whoever comes first starts it, all talk to the same."""
    with running_site(tmp_path) as site, ThreadPoolExecutor(8) as pool:
        transports = [EmbeddedTransport(site.spool.run) for _ in range(8)]
        answers = list(pool.map(lambda transport: transport.run(Command(("ping",)), 30).stdout, transports))
        assert len(set(answers)) == 1
        assert site.log().count("spooler starts") == 1


def test_a_storage_root_with_a_long_name_works(tmp_path: Path) -> None:
    """A socket's address has room for 107 bytes; the path of the folder may be longer."""
    root = tmp_path / ("long" * 40) / ("longer" * 20)
    with running_site(root) as site:
        assert len(str(site.spool.socket)) > 250
        site.start(site.shell("w1", "exit 0"))
        assert site.ended("w1").word == Word.COMPLETED
