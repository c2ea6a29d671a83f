"""`make demo`: a server on this machine, real Executes on real data, and the addresses to look at.

``python -m wps_hpc.examples.demo`` writes a configuration into ``wps-hpc-demo/``, starts the server from it as anybody
would, and talks to it as any WPS 1.0.0 client would: XML over HTTP, nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
import filelock
import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wps_hpc.cli.local import ENDPOINT
from wps_hpc.cli.run import execute, progress
from wps_hpc.client import ClientError, ExecuteStatus, GivenInput, ServiceFailure, WpsClient, execute_document
from wps_hpc.clusters.transports.base import TransportError
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.config import load_settings

#: What the demonstration offers. ``misbehave`` is for operators and stays out.
MODULES = ("hello", "echo", "sleep", "buffer", "zonal_statistics", "contours", "time_mean")
#: What the Executes import on the node, by module name.
NEEDED = ("numpy", "rasterio", "shapely", "pyproj")
#: The command ``wps-hpc``, also where its script is not on the PATH.
COMMAND_LINE = (sys.executable, "-m", "wps_hpc.cli")
#: The port that is tried first; another one is taken when it is in use.
FIRST_PORT = 8095
#: Seconds for the server to be healthy, and for it to stop.
TIME_TO_START = 60.0
TIME_TO_STOP = 20.0
#: Seconds between two looks at /health.
POLL_SECONDS = 0.2
#: Seconds that one look may take.
HEALTH_SECONDS = 5.0
#: Lines of the server's log that a failure shows.
LOG_LINES = 30


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True)
class Call:
    """One Execute: a process and its inputs. A complex output is asked for by reference."""

    process: str
    inputs: tuple[GivenInput, ...]


#: The real ones are over in an instant; this one takes long enough to see its progress.
LONG = Call("sleep", (GivenInput("seconds", text="3"), GivenInput("steps", text="12")))


@dataclass(frozen=True)
class Finished:
    """Where a successful job left its status document and its output."""

    status: str
    output: str


@dataclass(frozen=True)
class Place:
    """The demonstration's folder."""

    folder: Path

    @property
    def configuration(self) -> Path:
        """The configuration that the server is started with."""
        return self.folder / "wps-hpc.toml"

    @property
    def processes(self) -> Path:
        """The watched folder: a file with processes that is put here is served at once."""
        return self.folder / "processes"

    @property
    def log(self) -> Path:
        """Everything that the server says."""
        return self.folder / "server.log"

    @property
    def lock(self) -> Path:
        """Held while a demonstration runs here: two servers must not share a storage folder."""
        return self.folder / ".lock"


def configuration(port: int) -> str:
    """The text of the configuration file; relative paths count from its own folder."""
    modules = ", ".join(f'"wps_hpc.examples.{name}"' for name in MODULES)
    return f"""\
# Written by the demonstration; `wps-hpc init` writes one with every option explained.
[server]
port = {port}

[metadata]
title = "wps-hpc demonstration"
abstract = "Example processes on this machine."

[storage]
root = "data"

[processes]
modules = [{modules}]
folders = ["processes"]
"""


def free_port(first: int) -> int:
    """``first`` when nobody listens there, else a free port of the system's choice."""
    for port in (first, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no TCP port of this machine is free")


def check_libraries() -> None:
    """Raise DemoError when the libraries of the example processes are not installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"not installed: {', '.join(missing)}. Install them with: pip install 'wps-hpc[examples]'")


def prepare(place: Place, port: int) -> None:
    """Make the folder and write the configuration for that port."""
    place.processes.mkdir(parents=True, exist_ok=True)
    place.configuration.write_text(configuration(port), encoding="utf-8")


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Have the folder for this demonstration alone; raises DemoError while another one uses it."""
    place.folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(place.lock, timeout=0):
            yield
    except filelock.Timeout:
        raise DemoError(
            f"another demonstration is running in {place.folder}; stop it, or name another --folder"
        ) from None


@contextmanager
def running_server(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """The real server as a child in a session of its own, so that Ctrl-C reaches it through us alone."""
    command = [*COMMAND_LINE, "--config", str(place.configuration), "serve"]
    with place.log.open("wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield server
    finally:
        stop(server)
        stop_spooler(place)


def stop_spooler(place: Place) -> None:
    """End the embedded batch system, too. It outlives servers, so that their jobs do; here nobody comes back for them.

    One that still has a job is left to it.
    """
    transport = EmbeddedTransport(load_settings(place.configuration).storage.run)
    with suppress(TransportError):
        transport.stop(TIME_TO_STOP)


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server: TERM, as a service supervisor would, and KILL if it does not listen."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    try:
        server.wait(TIME_TO_STOP)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_until_healthy(http: httpx.Client, base: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until /health says yes; raises DemoError when the server ends or takes too long."""
    deadline = time.monotonic() + TIME_TO_START
    said = "nothing"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"the server ended with exit code {server.returncode}")
        try:
            answer = http.get(f"{base}/health", timeout=HEALTH_SECONDS)
        except httpx.TransportError as error:
            said = str(error)
        else:
            if answer.status_code == httpx.codes.OK:
                return
            said = answer.text
        time.sleep(POLL_SECONDS)
    raise DemoError(f"the server was not healthy within {TIME_TO_START:.0f} s; it last said: {said}")


def execute_call(client: WpsClient, call: Call, console: Console) -> ExecuteStatus:
    """Send one asynchronous Execute and follow its status document to the end, with a progress bar."""
    request = execute_document(client.describe(call.process), call.inputs, asynchronous=True)
    with progress() as report:
        status = execute(client, request, report)
    if status.failure is not None:
        raise DemoError(f"{call.process} failed: {status.failure}; see {status.location}")
    console.print(f"[green]✓[/] {call.process}", highlight=False)
    return status


def finished(call: Call, status: ExecuteStatus) -> Finished:
    """Where a successful job left its documents; raises DemoError when it does not say."""
    output = next((value.href for value in status.outputs if value.href), None)
    if output is None or status.location is None:
        raise DemoError(f"{call.process} succeeded, but the status document has no reference to its output")
    return Finished(status.location, output)


def calls(data: Path) -> tuple[Call, Call]:
    """Two Executes on real data: zonal statistics over an elevation model, and buffers around the borders in the Alps.

    All inputs are sent within the request: GeoJSON as text, the GeoTIFF in base64.
    """

    def given(identifier: str, name: str) -> GivenInput:
        return GivenInput(identifier, content=(data / name).read_bytes())

    return (
        Call("zonal_statistics", (given("raster", "jacksboro_dem.tif"), given("zones", "jacksboro_zones.geojson"))),
        Call("buffer", (given("features", "alpine_borders.geojson"), GivenInput("distance", text="10000"))),
    )


def fetch_features(http: httpx.Client, address: str) -> list[dict[str, Any]]:
    """The features of a GeoJSON output; raises DemoError when it cannot be had."""
    answer = http.get(address)
    if answer.is_error:
        raise DemoError(f"{address} answered {answer.status_code}")
    return list(json.loads(answer.content)["features"])


def statistics_table(features: Sequence[dict[str, Any]]) -> Table:
    """A line for each zone: cells, smallest, largest and mean height, standard deviation."""
    table = Table(title="Elevation by zone, in metres")
    for heading, justify in (("zone", "left"), ("cells", "right"), ("min", "right"), ("max", "right")):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    table.add_column("mean", justify="right")
    table.add_column("std", justify="right")
    for feature in features:
        row = feature["properties"]
        cells = (
            f"{row['count']:,}",
            cell(row["min"], 0),
            cell(row["max"], 0),
            cell(row["mean"], 1),
            cell(row["std"], 1),
        )
        table.add_row(str(row["zone"]), *cells)
    return table


def cell(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def demonstrate(http: httpx.Client, base: str, console: Console) -> None:
    """Run the Executes and show what came out and where to look."""
    service = base + ENDPOINT
    client = WpsClient(service, http)
    with as_file(files("wps_hpc.examples") / "data") as data:
        statistics, borders = calls(data)
    execute_call(client, LONG, console)
    first = finished(statistics, execute_call(client, statistics, console))
    second = finished(borders, execute_call(client, borders, console))
    console.print(statistics_table(fetch_features(http, first.output)))
    areas = fetch_features(http, second.output)
    console.print(f"{len(areas)} borders in the Alps have an area of 10 km on either side now.\n")
    for label, address in addresses(service, first, second):
        console.print(f"[bold]{label:<15}[/] {address}", soft_wrap=True, highlight=False)


def addresses(service: str, first: Finished, second: Finished) -> tuple[tuple[str, str], ...]:
    """What to open, with labels."""
    query = f"{service}?service=WPS&version=1.0.0&request"
    return (
        ("capabilities", f"{query}=GetCapabilities"),
        ("description", f"{query}=DescribeProcess&identifier=zonal_statistics"),
        ("status document", first.status),
        ("zones", first.output),
        ("borders", second.output),
    )


def how_to_go_on(place: Place) -> str:
    """What to try next."""
    return f"""
to go on, in another terminal:
  wps-hpc --config {place.configuration} processes
  wps-hpc --config {place.configuration} run hello name=you
  wps-hpc --config {place.configuration} jobs list
a Python file with a process of your own is served at once from {place.processes}
the server's log is {place.log}
"""


def stay(server: subprocess.Popen[bytes], place: Place, console: Console) -> None:
    """Keep the server until Ctrl-C; raises DemoError when it ends by itself."""
    try:
        console.print(escape(how_to_go_on(place)), highlight=False, soft_wrap=True)
        console.print("The server keeps running; Ctrl-C stops it.")
        server.wait()
    except KeyboardInterrupt:
        console.print("stopping the server")
        return
    raise DemoError(f"the server ended with exit code {server.returncode}")


def run(place: Place, first_port: int, once: bool, console: Console) -> None:
    """The whole demonstration; raises DemoError with the reason when anything goes wrong."""
    check_libraries()
    with ExitStack() as stack:
        stack.enter_context(locked(place))
        port = free_port(first_port)
        prepare(place, port)
        base = f"http://127.0.0.1:{port}"
        console.print(f"starting a server at {base} from {place.configuration}", highlight=False, soft_wrap=True)
        server = stack.enter_context(running_server(place))
        http = stack.enter_context(httpx.Client(timeout=30.0, trust_env=False))
        try:
            wait_until_healthy(http, base, server)
            demonstrate(http, base, console)
        except (httpx.HTTPError, ClientError, ServiceFailure) as error:
            raise DemoError(f"{type(error).__name__}: {error}") from error
        if not once:
            stay(server, place, console)


def log_tail(place: Place) -> str:
    """The last lines of the server's log."""
    if not place.log.exists():
        return ""
    lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
    return "\n".join([f"the last lines of {place.log}:", *lines])


@click.command()
@click.option("--once", is_flag=True, help="Stop the server when the demonstration is over.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("wps-hpc-demo"),
    show_default=True,
    help="Where configuration, jobs and log go.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=FIRST_PORT, show_default=True, help="Tried first.")
def main(once: bool, folder: Path, port: int) -> None:
    """Start a server on this machine and run two example processes on real data."""
    place = Place(folder.absolute())
    console = Console()
    # As Ctrl-C does, so that the server is stopped, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        run(place, port, once or not sys.stdin.isatty(), console)
    except DemoError as error:
        errors = Console(stderr=True)
        errors.print(f"[red]the demonstration failed:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        errors.print(escape(log_tail(place)), soft_wrap=True, highlight=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
