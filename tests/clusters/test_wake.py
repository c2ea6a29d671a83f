"""Bells: who wakes whom, on one host and across hosts, and that ringing never waits or fails."""

import logging
import select
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from wps_hpc.jobs.database import Database
from wps_hpc.jobs.wake import Bell, Listener

LONG = 20.0
MakeBell = Callable[..., Bell]


@pytest.fixture
def make_bell(tmp_path: Path) -> Iterator[MakeBell]:
    """Make bells that are closed after the test."""
    made: list[Bell] = []

    def make(folder: Path = tmp_path / "run", database: Database | None = None) -> Bell:
        made.append(Bell(folder, database))
        return made[-1]

    yield make
    for bell in made:
        bell.close()


@pytest.fixture
def database(postgres_database: str) -> Iterator[Database]:
    """A real PostgreSQL that two hosts share."""
    opened = Database(postgres_database)
    yield opened
    opened.close()


def heard(listener: Listener, wanted: set[str]) -> bool:
    """Wait until these ids were rung for."""
    deadline = time.monotonic() + LONG
    got: set[str] = set()
    while not wanted <= got and time.monotonic() < deadline:
        got |= listener.wait(deadline - time.monotonic()) or set()
    return wanted <= got


def test_a_job_wakes_those_who_wait_for_it(make_bell: MakeBell) -> None:
    bell = make_bell()
    with bell.job_listener("a") as first, bell.job_listener("a") as second, bell.job_listener("b") as other:
        bell.ring({"a", "c"})
        assert first.wait(LONG) == {"a", "c"}
        assert heard(second, {"a"})
        assert other.wait(0) is None


def test_workers_are_woken_with_or_without_a_job(make_bell: MakeBell) -> None:
    bell = make_bell()
    with bell.worker_listener() as worker, bell.job_listener("a") as waiting:
        bell.ring_worker()
        assert worker.wait(LONG) == set()
        bell.ring_worker({"a"})
        bell.ring_worker({"b"})
        assert heard(worker, {"a", "b"})
        assert waiting.wait(0) is None


def test_silence_lasts_as_long_as_asked_for(make_bell: MakeBell) -> None:
    with make_bell().worker_listener() as worker:
        before = time.monotonic()
        assert worker.wait(0.05) is None
        assert time.monotonic() - before >= 0.04
        assert worker.wait(-1) is None


def test_many_jobs_at_once(make_bell: MakeBell) -> None:
    bell = make_bell()
    ids = {f"{number:036}" for number in range(350)}
    with bell.worker_listener() as worker:
        bell.ring_worker(ids)
        assert heard(worker, ids)


def test_it_can_be_selected_on(make_bell: MakeBell) -> None:
    bell = make_bell()
    with bell.worker_listener() as worker:
        assert select.select([worker], [], [], 0)[0] == []
        bell.ring_worker()
        assert select.select([worker], [], [], LONG)[0] == [worker]


def test_ringing_for_nobody_is_nothing(make_bell: MakeBell) -> None:
    make_bell().ring({"a"})
    make_bell().ring_worker({"a"})


def test_a_listener_that_does_not_listen_keeps_nobody_waiting(make_bell: MakeBell) -> None:
    bell = make_bell()
    with bell.worker_listener() as worker:
        before = time.monotonic()
        for _ in range(3000):
            bell.ring_worker({"a"})
        assert time.monotonic() - before < LONG
        assert worker.wait(LONG) == {"a"}
        assert worker.wait(0) is None


def test_sockets_of_dead_processes_are_cleared_away(make_bell: MakeBell, tmp_path: Path) -> None:
    bell = make_bell()
    code = (
        "import os, pathlib, signal, sys\n"
        "from wps_hpc.jobs.wake import Bell\n"
        "listener = Bell(pathlib.Path(sys.argv[1])).worker_listener()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], timeout=60, check=False)
    assert killed.returncode == -9
    assert len(list((tmp_path / "run").iterdir())) == 1
    bell.ring_worker()
    assert list((tmp_path / "run").iterdir()) == []


def test_a_closed_listener_leaves_nothing(make_bell: MakeBell, tmp_path: Path) -> None:
    with make_bell().worker_listener():
        assert len(list((tmp_path / "run").iterdir())) == 1
    assert list((tmp_path / "run").iterdir()) == []


def test_a_path_may_be_longer_than_a_sockets_name(make_bell: MakeBell, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    with make_bell(deep).worker_listener() as worker:
        make_bell(deep).ring_worker({"a"})
        assert worker.wait(LONG) == {"a"}


def test_the_folder_is_the_servers_own(make_bell: MakeBell, tmp_path: Path) -> None:
    make_bell()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_strangers_files_in_the_folder_are_left_alone(make_bell: MakeBell, tmp_path: Path) -> None:
    bell = make_bell()
    (tmp_path / "run" / "worker.1.bell").write_text("not a socket")
    (tmp_path / "run" / "server.pid").write_text("1")
    with bell.worker_listener() as worker:
        bell.ring_worker({"a"})
        assert worker.wait(LONG) == {"a"}
    assert (tmp_path / "run" / "server.pid").exists()


def test_a_lost_folder_fails_nobody(make_bell: MakeBell, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bell = Bell(tmp_path / "gone")
    bell.close()
    with caplog.at_level(logging.WARNING):
        bell.ring_worker({"a"})
    assert "nobody on this host is woken" in caplog.text


def test_bells_cross_processes(make_bell: MakeBell, tmp_path: Path) -> None:
    bell = make_bell()
    code = (
        "import pathlib, sys\n"
        "from wps_hpc.jobs.wake import Bell\n"
        "with Bell(pathlib.Path(sys.argv[1])).job_listener('a') as listener:\n"
        "    print('listening', flush=True)\n"
        "    print(listener.wait(30), flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        bell.ring({"a"})
        assert process.stdout.readline() == "{'a'}\n"


@pytest.mark.cluster
class TestSeveralHosts:
    """Two bells with folders of their own are two hosts that share a database."""

    def test_a_ring_is_heard_on_the_other_host(self, make_bell: MakeBell, database: Database, tmp_path: Path) -> None:
        here, there = make_bell(tmp_path / "here", database), make_bell(tmp_path / "there", database)
        with there.job_listener("a") as waiting, there.worker_listener() as worker:
            here.ring({"a"})
            assert heard(waiting, {"a"})
            here.ring_worker({f"{number:036}" for number in range(150)})
            assert heard(worker, {f"{number:036}" for number in range(150)})

    def test_it_is_heard_again_after_the_server_restarted(
        self, make_bell: MakeBell, database: Database, tmp_path: Path
    ) -> None:
        here, there = make_bell(tmp_path / "here", database), make_bell(tmp_path / "there", database)
        with there.worker_listener() as worker:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            database.write(lambda connection: connection.execute(text(cut)).all())
            deadline = time.monotonic() + LONG
            while not (worker.wait(0.2) or set()):
                assert time.monotonic() < deadline
                here.ring_worker({"a"})

    def test_a_database_that_is_away_fails_nobody(self, make_bell: MakeBell, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            away = Database(f"postgresql://nobody@127.0.0.1:{unused.getsockname()[1]}/none", busy_seconds=0.1)
            with caplog.at_level(logging.WARNING):
                make_bell(database=away).ring({"a"})
        assert "other hosts are not woken" in caplog.text


def test_a_waiting_thread_wakes_at_once(make_bell: MakeBell) -> None:
    """A few milliseconds, not a polling interval; the median of many, as this machine has other things to do."""
    bell = make_bell()
    delays: list[float] = []
    with bell.job_listener("a") as listener:
        for _ in range(21):
            rung: list[float] = []
            ready = threading.Event()

            def ring(rung: list[float] = rung, ready: threading.Event = ready) -> None:
                ready.wait(LONG)
                rung.append(time.monotonic())
                bell.ring({"a"})

            thread = threading.Thread(target=ring)
            thread.start()
            ready.set()
            assert listener.wait(LONG) == {"a"}
            delays.append(time.monotonic() - rung[0])
            thread.join()
    assert sorted(delays)[10] < 0.05


def test_a_folder_that_was_removed_is_made_again(make_bell: MakeBell, tmp_path: Path) -> None:
    """By a cleaner of temporary files, say: synchronous calls must go on being answered."""
    folder = tmp_path / "run"
    bell, other = make_bell(), make_bell()
    shutil.rmtree(folder)
    with bell.job_listener("a") as listener:
        other.ring({"a"})
        assert listener.wait(LONG) == {"a"}


def test_a_listener_whose_folder_was_removed_says_so(make_bell: MakeBell, tmp_path: Path) -> None:
    """So that a worker makes another one."""
    with make_bell().worker_listener() as listener:
        assert not listener.deaf
        shutil.rmtree(tmp_path / "run")
        assert listener.deaf
