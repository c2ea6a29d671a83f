"""The demonstration as a newcomer starts it: a real server, real Executes, and what it says when it cannot."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from wps_hpc.config import load_settings
from wps_hpc.examples import demo

#: Seconds that a whole demonstration may take on a busy machine.
PATIENCE = 240.0


def start(folder: Path, *options: str, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
    """The demonstration in a folder, with no terminal unless given one."""
    return subprocess.Popen(
        [sys.executable, "-m", "wps_hpc.examples.demo", *options],
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def listens(port: int) -> bool:
    """Whether anybody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_about(folder: Path) -> list[str]:
    """The command lines, of any process of this machine, that name the folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            found.append(" ".join(process.cmdline()))
    return [line for line in found if str(folder) in line]


def test_once_on_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        said, errors = start(tmp_path, "--once", "--port", str(first)).communicate(timeout=PATIENCE)
    assert "the demonstration failed" not in errors, errors
    assert re.search(r"A1\s*│\s*12,960\s*│\s*360\s*│\s*906\s*│\s*560\.8\s*│\s*106\.6", said), said
    assert re.search(r"outside\s*│\s*0\s*│\s*–\s*│\s*–\s*│\s*–\s*│\s*–", said)
    assert "10 borders in the Alps" in said
    addresses = re.findall(r"http://127\.0\.0\.1:(\d+)/\S+", said)
    assert len(addresses) == 5
    ports = {int(port) for port in addresses}
    assert first not in ports
    assert len(ports) == 1
    assert not listens(ports.pop())
    assert processes_about(tmp_path) == []
    assert re.search(r"started: step \d+ of 12", errors), errors


def test_ended_by_a_signal_leaves_no_server(tmp_path: Path) -> None:
    process = start(tmp_path, "--port", "0")
    configuration = tmp_path / "wps-hpc-demo" / "wps-hpc.toml"
    try:
        port = wait_for_server(configuration, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not listens(port)
    assert processes_about(tmp_path) == []


def test_with_a_terminal_it_stays_until_ctrl_c(tmp_path: Path) -> None:
    terminal, stdin = os.openpty()
    process = start(tmp_path, "--port", "0", stdin=stdin)
    said = ""
    try:
        assert process.stdout is not None
        while "Ctrl-C stops it" not in said and (line := process.stdout.readline()):
            said += line
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()
        os.close(terminal)
        os.close(stdin)
    assert (process.returncode, errors.count("failed")) == (0, 0), (said, rest, errors)
    assert "run hello name=you" in said
    assert processes_about(tmp_path) == []
    (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)/", said))
    assert not listens(int(port))


def wait_for_server(configuration: Path, process: "subprocess.Popen[str]") -> int:
    """The port on which the demonstration's server listens, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if configuration.exists() and configuration.stat().st_size:
            port = int(tomllib.loads(configuration.read_text())["server"]["port"])
            if listens(port):
                return port
        time.sleep(0.02)
    raise AssertionError(process.communicate() if process.poll() is not None else "the server did not come")


def test_a_second_demonstration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with demo.locked(demo.Place(tmp_path / "wps-hpc-demo")):
        process = start(tmp_path, "--once")
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "another demonstration is running" in errors


def test_a_server_that_does_not_start_is_shown_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = "import sys; print('no [way] in'); sys.exit(5)"
    monkeypatch.setattr(demo, "COMMAND_LINE", (sys.executable, "-c", program))
    former = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            demo.main(["--once", "--port", "0", "--folder", str(tmp_path / "demo")], standalone_mode=False)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert left.value.code == 1
    errors = capsys.readouterr().err
    assert "the server ended with exit code 5" in errors
    assert "no [way] in" in errors


def test_a_server_that_is_never_healthy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TIME_TO_START", 0.1)
    monkeypatch.setattr(demo, "POLL_SECONDS", 0.01)
    sick = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(503, text="the disk is full")))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        with pytest.raises(demo.DemoError, match="it last said: the disk is full"):
            demo.wait_until_healthy(sick, "http://127.0.0.1:1", server)
        server.kill()


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NEEDED", ("json", "no_such_library"))
    with pytest.raises(demo.DemoError, match=r"not installed: no_such_library.*pip install 'wps-hpc\[examples\]'"):
        demo.check_libraries()


def test_the_first_port_is_taken_when_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert demo.free_port(port) not in (port, 0)
    assert demo.free_port(port) == port


def test_the_configuration_is_one_that_the_server_takes(tmp_path: Path) -> None:
    place = demo.Place(tmp_path / "demo")
    demo.prepare(place, 8123)
    settings = load_settings(place.configuration)
    assert settings.server.port == 8123
    assert settings.storage.root == place.folder / "data"
    assert settings.processes.folders == (place.processes,)
    assert "wps_hpc.examples.zonal_statistics" in settings.processes.modules
    assert "wps_hpc.examples.misbehave" not in settings.processes.modules
