"""The supervisor and the web server as processes: what dies is started again, what stops stops cleanly, and slow
clients keep nobody else waiting."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from tests.schemas import ROOT
from tests.services.postgres import free_port
from wps_hpc.config import ConfigError, parse_settings
from wps_hpc.serve import BACK_OFF, Child, WebServer, describe_end, listen

T = TypeVar("T")


@dataclass
class Site:
    """A running toy site: its process, its address and its folder."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def worker(self) -> int:
        """The pid of the worker that started last."""
        return int(wait_for(lambda: (self.folder / "worker").read_text().split())[-1])

    def workers(self) -> list[str]:
        """The pids of all workers so far."""
        return (self.folder / "worker").read_text().split()

    def arbiter(self) -> psutil.Process:
        """gunicorn's own process: the child that has children."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.pid != self.worker())

    def connect(self) -> socket.socket:
        """A fresh connection."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), timeout=30)


def wait_for(condition: Callable[[], T], seconds: float = 30.0) -> T:
    """What `condition` says as soon as that is true; files that are not there yet count as false."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if said := condition():
                return said
        except FileNotFoundError as missing:
            said = missing
        assert time.monotonic() < deadline, f"still {said!r} after {seconds} s"
        time.sleep(0.02)


@contextmanager
def site(folder: Path, options: str = "", *, web_processes: int = 1) -> Iterator[Site]:
    """A toy site for the duration."""
    config = folder / "site.toml"
    config.write_text(
        f"server.port = 0\nserver.web_processes = {web_processes}\nserver.graceful_seconds = 3\n{options}"
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.clusters.toy_site", str(config), str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url, (folder / "log").read_text()
    try:
        yield Site(process, url, folder)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_it_serves_and_a_sigterm_ends_everything_cleanly(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        assert httpx.get(running.url).status_code == 200
        family = psutil.Process(running.process.pid).children(recursive=True)
        worker = running.worker()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert (tmp_path / "worker-stopped").exists()
        assert worker in [process.pid for process in family]
        assert psutil.wait_procs(family, timeout=10)[1] == []


def test_a_request_under_way_is_answered_before_the_server_stops(tmp_path: Path) -> None:
    with site(tmp_path) as running, running.connect() as connection:
        begun = tmp_path / "begun"
        connection.sendall(f"GET /slow{begun} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait_for(begun.exists)
        running.process.send_signal(signal.SIGTERM)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        assert running.process.wait(20) == 0


def test_a_killed_worker_is_started_again_while_requests_are_answered(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        first = running.worker()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(running.workers()) == 2)
        assert running.worker() != first
        assert httpx.get(running.url).status_code == 200
        assert "worker ended unexpectedly (killed by SIGKILL)" in (tmp_path / "log").read_text()


def test_a_killed_web_server_is_started_again_and_no_connection_is_refused(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        httpx.get(running.url)
        before = running.worker()
        old = running.arbiter()
        web = old.children()
        old.kill()
        assert httpx.get(running.url, timeout=30).status_code == 200
        assert running.arbiter().pid != old.pid
        assert running.worker() == before
        assert psutil.wait_procs(web, timeout=20)[1] == []


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with site(tmp_path) as running:
        httpx.get(running.url)
        running.worker()
        family = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        assert len(family) == 3
        assert psutil.wait_procs(family, timeout=20)[1] == []


def test_a_worker_that_keeps_dying_is_started_ever_later(tmp_path: Path) -> None:
    (tmp_path / "die-at-start").touch()
    with site(tmp_path) as running:
        said = wait_for(lambda: "starts again in 1 s" in (tmp_path / "log").read_text())
        assert said
        assert httpx.get(running.url).status_code == 200
        (tmp_path / "die-at-start").unlink()
        assert running.worker()


def test_an_application_that_cannot_be_loaded_ends_the_server_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with site(tmp_path) as running:
        assert running.process.wait(20) == 1
        assert "the application cannot be loaded" in (tmp_path / "log").read_text()


def test_web_processes_wait_for_the_database_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "busy").touch()
    with site(tmp_path, "server.web_threads = 2") as running:
        waiting = "waiting for the job database: the job database does not answer"
        wait_for(lambda: (tmp_path / "log").read_text().count(waiting) >= 2)
        (tmp_path / "busy").unlink()
        assert httpx.get(running.url, timeout=30).status_code == 200
        assert "Traceback" not in (tmp_path / "log").read_text()
        assert "ended unexpectedly" not in (tmp_path / "log").read_text()


def test_a_server_that_waits_for_its_database_stops_when_told(tmp_path: Path) -> None:
    (tmp_path / "busy").touch()
    with site(tmp_path) as running:
        wait_for(lambda: "waiting for the job database" in (tmp_path / "log").read_text())
        family = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert psutil.wait_procs(family, timeout=10)[1] == []


def test_web_processes_that_find_the_database_damaged_end_the_server_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "damaged").touch()
    with site(tmp_path, web_processes=4) as running:
        assert running.process.wait(20) == 1
        log = (tmp_path / "log").read_text()
        assert "the web server cannot start: the job database is damaged" in log
        assert "Traceback" not in log


def test_web_processes_that_fail_together_end_the_server_as_one_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """gunicorn stops because of the first; that it then meets the second escapes from its main loop."""

    def meets_the_second(arbiter: Arbiter) -> None:
        raise HaltServer("Worker failed to boot.", 3)

    monkeypatch.setattr(Arbiter, "run", meets_the_second)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit) as left:
        WebServer(parse_settings({}), listener, lambda: None).run()  # type: ignore[arg-type, return-value]
    assert left.value.code == 3
    assert "Worker failed to boot." in caplog.text


def real_site(folder: Path, url: str, port: int = 0) -> Path:
    """The configuration of a real server in `folder`."""
    config = folder / "wps-hpc.toml"
    config.write_text(f'server.port = {port}\nserver.graceful_seconds = 3\ndatabase.url = "{url}"\n')
    return config


def command(config: Path, *words: str) -> list[str]:
    """A command line of the real program."""
    return [sys.executable, "-m", "wps_hpc.cli", "--config", str(config), *words]


@pytest.mark.parametrize("words", ["serve", "worker"])
def test_a_damaged_database_ends_the_program_with_one_sentence(tmp_path: Path, words: str) -> None:
    config = real_site(tmp_path, f"sqlite:///{tmp_path}/jobs.sqlite")
    (tmp_path / "jobs.sqlite").write_bytes(b"no database at all" * 1000)
    ended = subprocess.run(command(config, words), capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stderr == "wps-hpc: the job database is damaged, or is none: file is not a database\n"


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path: Path, postgres_url: str) -> None:
    name, port = f"late_{uuid.uuid4().hex}", free_port()
    config = real_site(tmp_path, postgres_url.removesuffix("postgres") + name, port)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(config, "serve"), cwd=ROOT, stderr=log, text=True)
    server = psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True)
    try:
        wait_for(lambda: (tmp_path / "log").read_text().count("waiting for the job database: ") >= 5, 60)
        server.execute(f"CREATE DATABASE {name}")
        wait_for(lambda: "active worker" in (tmp_path / "log").read_text(), 60)
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        server.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "ended unexpectedly" not in (tmp_path / "log").read_text()


def test_clients_that_never_finish_their_head_keep_nobody_waiting(tmp_path: Path) -> None:
    with site(tmp_path, "server.web_threads = 2\nserver.header_timeout = 1.0") as running:
        slow = [running.connect() for _ in range(6)]
        begun = time.monotonic()
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert httpx.get(running.url, timeout=20).status_code == 200
        assert time.monotonic() - begun < 10
        assert [connection.recv(100) for connection in slow] == [b""] * 6
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"])
def test_very_many_connections_without_a_whole_head_take_no_thread(tmp_path: Path, sent: bytes) -> None:
    with site(tmp_path, "server.web_threads = 2\nserver.header_timeout = 20.0") as running:
        silent = [running.connect() for _ in range(100)]
        for connection in silent:
            connection.sendall(sent)
        begun = time.monotonic()
        assert httpx.get(running.url, timeout=20).status_code == 200
        assert time.monotonic() - begun < 4
        for connection in silent:
            connection.close()


def test_a_head_in_pieces_is_a_request_all_the_same(tmp_path: Path) -> None:
    with site(tmp_path, "server.keepalive_seconds = 0") as running, running.connect() as connection:
        for piece in (b"POST / HTTP/1.1\r\nHo", b"st: x\r\nContent-Length: 5\r\n", b"\r", b"\n12", b"345"):
            connection.sendall(piece)
            time.sleep(0.3)
        assert answered_with(connection, b" 5")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: x\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"<script>alert(1)</script>\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xff\r\n\r\n", 400),
    ],
    ids=["line", "header", "headers", "hosts", "lengths", "coding", "markup", "tls"],
)
def test_what_is_not_http_is_answered_with_a_report(tmp_path: Path, request_: bytes, status: int) -> None:
    with site(tmp_path) as running, running.connect() as connection:
        connection.sendall(request_)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"ows:ExceptionReport" in body
        assert b"script" not in body
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_clients_that_do_not_close_their_side_keep_nobody_waiting(tmp_path: Path) -> None:
    with site(tmp_path, "server.web_threads = 2") as running:
        lazy = [running.connect() for _ in range(6)]
        for connection in lazy:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        begun = time.monotonic()
        assert httpx.get(running.url, timeout=20).status_code == 200
        assert time.monotonic() - begun < 1.5
        for connection in lazy:
            wait_for(lambda: connection.recv(1000) == b"")  # noqa: B023
            connection.close()


def test_a_head_that_trickles_in_has_the_same_limit_as_one_that_stops(tmp_path: Path) -> None:
    with site(tmp_path, "server.header_timeout = 1.0") as running, running.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        begun = time.monotonic()
        connection.settimeout(0.1)
        while time.monotonic() < begun + 15:
            try:
                connection.sendall(b"x")
                assert connection.recv(100) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 0.9 < time.monotonic() - begun < 5


def test_a_body_that_does_not_arrive_is_a_timeout_for_the_application(tmp_path: Path) -> None:
    with site(tmp_path, "server.body_timeout = 1.0") as running, running.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\npart")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


def received(connection: socket.socket) -> bytes:
    """All that is sent until the server closes its side."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answered_with(connection: socket.socket, end: bytes) -> bool:
    """Receive until what came ends so, or nothing more comes."""
    said = b""
    while not said.endswith(end) and (more := connection.recv(65536)):
        said += more
    return said.endswith(end)


PART_OF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<w"


def test_very_many_slow_bodies_keep_nobody_waiting(tmp_path: Path) -> None:
    with site(tmp_path, "server.web_threads = 8\nserver.body_timeout = 20.0") as running:
        slow = [running.connect() for _ in range(50)]
        for connection in slow:
            connection.sendall(PART_OF_A_BODY)
        begun = time.monotonic()
        assert httpx.post(running.url, content=b"x" * 1000, timeout=30).status_code == 200
        assert time.monotonic() - begun < 8
        turned_away = [connection for connection in slow if is_answered(connection, begun + 10)]
        assert len(turned_away) == 46
        for connection in turned_away:
            head, _, body = received(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 10\r\n" in head + b"\r\n"
            assert b"\r\nConnection: close\r\n" in head + b"\r\n"
            assert b'exceptionCode="ServerBusy"' in body
        for connection in slow:
            connection.close()


def is_answered(connection: socket.socket, deadline: float) -> bool:
    """Whether an answer begins before the deadline (monotonic seconds)."""
    return bool(select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0])


def test_a_place_for_a_slow_body_is_free_again_when_the_body_is_there(tmp_path: Path) -> None:
    """Not only when it is answered: a synchronous Execute may take long."""
    with site(tmp_path, "server.web_threads = 2\nserver.body_timeout = 20.0") as running:
        begun = tmp_path / "begun"
        for _ in range(3):
            with running.connect() as connection:
                connection.sendall(PART_OF_A_BODY)
                assert not is_answered(connection, time.monotonic() + 0.6)
                connection.sendall(b"x" * 98)
                assert answered_with(connection, b" 100")
        with running.connect() as chunked, running.connect() as other:
            chunked.sendall(b"POST /then" + str(begun).encode() + b" HTTP/1.1\r\nHost: x\r\n")
            chunked.sendall(b"Transfer-Encoding: chunked\r\n\r\n2\r\n<w\r\n")
            assert not is_answered(chunked, time.monotonic() + 0.6)
            other.sendall(PART_OF_A_BODY)
            assert b" 503 " in received(other)
            chunked.sendall(b"0\r\n\r\n")
            wait_for(begun.exists)
            with running.connect() as third:
                third.sendall(PART_OF_A_BODY)
                assert not is_answered(third, time.monotonic() + 0.6)
                assert not is_answered(chunked, time.monotonic())
                begun.unlink()
                assert answered_with(chunked, b" 2")


def test_a_slow_client_that_went_away_leaves_its_place(tmp_path: Path) -> None:
    with site(tmp_path, "server.web_threads = 2\nserver.body_timeout = 20.0") as running:
        for _ in range(3):
            with running.connect() as connection:
                connection.sendall(PART_OF_A_BODY)
                assert not is_answered(connection, time.monotonic() + 0.6)
                connection.shutdown(socket.SHUT_WR)
                assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_nobody_reads_holds_no_thread(tmp_path: Path) -> None:
    with site(tmp_path, "server.web_threads = 1\nserver.body_timeout = 20.0") as running, running.connect() as slow:
        slow.sendall(PART_OF_A_BODY.replace(b"POST / ", b"POST /unread "))
        assert answered_with(slow, b" 0")
        begun = time.monotonic()
        assert httpx.get(running.url, timeout=30).status_code == 200
        assert time.monotonic() - begun < 3


def test_a_connection_is_kept_for_another_request_and_its_limits_start_anew(tmp_path: Path) -> None:
    with site(tmp_path, "server.header_timeout = 1.0\nserver.body_timeout = 1.0") as running:
        with httpx.Client() as client:
            first = client.post(running.url, content=b"12345")
            time.sleep(1.2)
            second = client.post(running.url, content=b"x" * 3_000_000)
        assert first.text.split()[1] == "5"
        assert second.text.split()[1] == "3000000"


def test_an_address_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = parse_settings({"server": {"port": port}})
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            listen(settings)


def test_the_back_off_grows_with_each_death_and_is_forgotten_after_a_good_life() -> None:
    child = Child("worker", lambda: 0)
    waits = []
    for _ in range(len(BACK_OFF) + 2):
        child.started = time.monotonic()
        child.died(9)
        waits.append(round(child.start_at - time.monotonic(), 1))
    assert waits == [*BACK_OFF, BACK_OFF[-1], BACK_OFF[-1]]
    child.started = time.monotonic() - 3600
    child.died(9)
    assert child.start_at <= time.monotonic() + BACK_OFF[0]


@pytest.mark.parametrize(("status", "words"), [(0, "exit code 0"), (3 << 8, "exit code 3"), (9, "killed by SIGKILL")])
def test_an_end_in_words(status: int, words: str) -> None:
    assert describe_end(status) == words
