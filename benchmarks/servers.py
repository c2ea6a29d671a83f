"""The two servers, real ones in processes of their own: this project's and PyWPS, with the same gunicorn workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.config import load_settings

HERE = Path(__file__).parent.resolve()
#: Seconds that a server gets to start, and to stop.
TO_START, TO_STOP = 60.0, 30.0
#: Jobs that may wait for their turn: more than a round can send.
QUEUED = 100_000


class ServerError(Exception):
    """A server does not start, or does not answer as it should; the text says what it said."""


@dataclass(frozen=True)
class Shape:
    """What both servers have in common: web processes, threads of each, and jobs that run at the same time."""

    web_processes: int
    threads: int
    parallel: int


@dataclass(frozen=True)
class Server:
    """A running server on loopback."""

    name: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


def fetch(url: str, body: bytes | None = None, seconds: float = 30.0) -> bytes:
    """The body of a 200; raises ServerError for any other answer, and for none."""
    request = urllib.request.Request(url, body, {"Content-Type": "text/xml"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url}: {error}: {error.read(2000).decode(errors='replace')}") from error
    except OSError as error:
        raise ServerError(f"{url}: {error}") from error


@contextmanager
def this_server(folder: Path, shape: Shape) -> Iterator[Server]:
    """This project's server: supervisor, web processes, worker, and the embedded batch system."""
    port = _free_port()
    config = folder / "wps-hpc.toml"
    config.write_text(f"""\
[server]
port = {port}
web_processes = {shape.web_processes}
web_threads = {shape.threads}

[processes]
folders = ["{HERE / "processes"}"]

[limits]
parallel = {shape.parallel}
queued = {QUEUED}
# What is measured is how fast jobs are accepted, not how fast they end.
grace_seconds = 0

[logging]
level = "WARNING"
""")
    command = [sys.executable, "-m", "wps_hpc.cli", "--config", str(config), "serve"]
    try:
        with _running("wps-hpc", command, port, f"http://127.0.0.1:{port}/health", folder) as server:
            yield server
    finally:
        with suppress(TransportError):
            EmbeddedTransport(load_settings(config).storage.run).stop(TO_STOP)


@contextmanager
def pywps_server(folder: Path, shape: Shape) -> Iterator[Server]:
    """PyWPS under gunicorn, in its default mode: sync calls in the web process, async ones in a fork of it."""
    port = _free_port()
    config = folder / "pywps.cfg"
    for name in ("work", "outputs"):
        (folder / name).mkdir()
    config.write_text(f"""\
[server]
url = http://127.0.0.1:{port}/wps
outputurl = http://127.0.0.1:{port}/outputs
outputpath = {folder / "outputs"}
workdir = {folder / "work"}
maxprocesses = {QUEUED}
parallelprocesses = {shape.parallel}

[logging]
level = WARNING
database = sqlite:///{folder / "requests.sqlite"}
""")
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "--no-control-socket"]
    command += ["--bind", f"127.0.0.1:{port}", "--backlog", "2048", "--keep-alive", "5", "--log-level", "warning"]
    command += ["--worker-class", "gthread", "--workers", str(shape.web_processes), "--threads", str(shape.threads)]
    probe = f"http://127.0.0.1:{port}/wps?service=WPS&request=GetCapabilities"
    with _running("PyWPS", [*command, "pywps_app:app"], port, probe, folder, {"PYWPS_CFG": str(config)}) as server:
        yield server


#: How each server is started, by its name; the first is compared with the second.
SERVERS: Mapping[str, Callable[[Path, Shape], AbstractContextManager[Server]]] = {
    "wps-hpc": this_server,
    "PyWPS": pywps_server,
}


@contextmanager
def _running(
    name: str, command: list[str], port: int, probe: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    log = folder / f"{name}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        _wait_until_up(name, process, probe, log)
        yield Server(name, port)
    finally:
        _stop(process)


def _wait_until_up(name: str, process: subprocess.Popen[bytes], probe: str, log: Path) -> None:
    deadline = time.monotonic() + TO_START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            fetch(probe, seconds=5.0)
            return
        except ServerError:
            time.sleep(0.1)
    raise ServerError(f"{name} does not start:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(TO_STOP)
    # Whatever is left of its session: jobs that PyWPS forked and that hang, say.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
