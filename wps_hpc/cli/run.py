"""``wps-hpc run``: execute a process from the command line, on this or any other WPS 1.0.0 server."""

from __future__ import annotations

import mimetypes
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from wps_hpc.cli.local import remote_client, service
from wps_hpc.cli.main import EXIT_FAILED, Chosen
from wps_hpc.cli.text import printable
from wps_hpc.client import (
    ClientError,
    ExecuteStatus,
    GivenInput,
    OutputValue,
    Parameter,
    ProcessInterface,
    WpsClient,
    execute_document,
    split_bbox,
)

#: Pauses between two looks at the status, in seconds: soon for short jobs, then seldom.
POLL_FIRST, POLL_GROWTH, POLL_LONGEST = 0.1, 1.3, 2.0
#: A server that does not answer polls is given up after so many seconds.
PATIENCE = 120.0
#: A synchronous answer may take so long, in seconds.
SYNC_SILENCE = 3600.0
#: Content up to this size is printed when it is text.
PRINTED_BYTES = 20_000

_REFERENCE = re.compile(r"(?:https?|file)://", re.IGNORECASE)
Report = Callable[[ExecuteStatus], None]


@click.command()
@click.argument("process")
@click.argument("values", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--url", help="WPS endpoint of another server; default: the configuration's own.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for complex outputs.")
@click.option("--async/--sync", "asynchronous", default=None, help="How to wait; default: async where offered.")
@click.pass_obj
def run(
    chosen: Chosen,
    process: str,
    values: tuple[str, ...],
    url: str | None,
    output: Path | None,
    asynchronous: bool | None,
) -> int:
    """Execute PROCESS and print its outputs.

    \b
    A VALUE is literal text, minx,miny,maxx,maxy[,crs] for a bounding box,
      @FILE[;type=MIME]  the content of a file,
      http://...         for a complex input: the server fetches it.
    Give a NAME several times for several values. Text that begins with @ is written @@.
    """
    with _client(chosen, url) as client:
        interface = client.describe(process)
        inputs = read_values(interface, values)
        stored = interface.store_supported and interface.status_supported if asynchronous is None else asynchronous
        with progress() as report:
            status = execute(client, execute_document(interface, inputs, asynchronous=stored), report)
        if status.failure is not None:
            click.echo(f"wps-hpc: {process} failed: {printable(str(status.failure))}", err=True)
            return EXIT_FAILED
        show_outputs(client, status.outputs, output)
    return 0


def _client(chosen: Chosen, url: str | None) -> AbstractContextManager[WpsClient]:
    settings = chosen.quiet_settings()
    return remote_client(url, SYNC_SILENCE) if url else service(settings, SYNC_SILENCE)


def read_values(interface: ProcessInterface, values: Sequence[str]) -> list[GivenInput]:
    """The inputs that ``name=value`` arguments mean.

    Raises click.UsageError for what the process does not take.
    """
    given = [_read_value(interface, item) for item in values]
    counts = Counter(value.identifier for value in given)
    for parameter in interface.inputs.values():
        _check_count(parameter, counts[parameter.identifier])
    return given


def _read_value(interface: ProcessInterface, item: str) -> GivenInput:
    name, equals, text = item.partition("=")
    if not equals:
        raise click.UsageError(f"{item}: not of the form NAME=VALUE")
    parameter = interface.inputs.get(name)
    if parameter is None:
        known = ", ".join(interface.inputs) or "none"
        raise click.UsageError(f"{interface.identifier} has no input {name}; it has: {known}")
    if text.startswith("@@"):
        return GivenInput(name, text=text[1:])
    if text.startswith("@"):
        return _file_input(parameter, text[1:])
    return _READERS[parameter.kind](parameter, text)


def _check_count(parameter: Parameter, count: int) -> None:
    if count < parameter.min_occurs:
        raise click.UsageError(f"input {parameter.identifier} is missing ({parameter.title or parameter.kind})")
    if count > parameter.max_occurs:
        raise click.UsageError(
            f"input {parameter.identifier} is given {count} times, not {parameter.max_occurs} at most"
        )


def _file_input(parameter: Parameter, text: str) -> GivenInput:
    name, _, mime_type = text.partition(";type=")
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"input {parameter.identifier}: cannot read {name}: {error.strerror}") from error
    if parameter.kind != "complex":
        return _READERS[parameter.kind](parameter, content.decode(errors="replace").strip())
    return GivenInput(parameter.identifier, content=content, mime_type=mime_type or _guessed(parameter, name))


def _guessed(parameter: Parameter, name: str) -> str | None:
    """The format that the file's name tells, if the process takes it."""
    guess = _MIME_TYPES.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0]
    return next((mime for mime in parameter.formats if mime.partition(";")[0].strip() == guess), None)


#: Formats of geodata that ``mimetypes`` does not know.
_MIME_TYPES = {
    ".geojson": "application/geo+json",
    ".gml": "application/gml+xml",
    ".nc": "application/x-netcdf",
    ".gpkg": "application/geopackage+sqlite3",
}


def _literal(parameter: Parameter, text: str) -> GivenInput:
    return GivenInput(parameter.identifier, text=text)


def _complex(parameter: Parameter, text: str) -> GivenInput:
    if _REFERENCE.match(text):
        return GivenInput(parameter.identifier, href=text, mime_type=_guessed(parameter, urlsplit(text).path))
    return GivenInput(parameter.identifier, text=text)


def _bbox(parameter: Parameter, text: str) -> GivenInput:
    try:
        split_bbox(text)
    except ValueError as error:
        raise click.UsageError(f"input {parameter.identifier}: {error}") from error
    return GivenInput(parameter.identifier, text=text)


_READERS: Mapping[str, Callable[[Parameter, str], GivenInput]] = {
    "literal": _literal,
    "complex": _complex,
    "bbox": _bbox,
}


def execute(client: WpsClient, document: bytes, report: Report) -> ExecuteStatus:
    """Send an Execute and follow its status to the end. A poll that fails is tried again for a while."""
    status = client.execute(document)
    report(status)
    pause, answered = POLL_FIRST, time.monotonic()
    while not status.finished:
        if status.location is None:
            raise ClientError("the server did not say where the job's status is")
        time.sleep(pause)
        pause = min(pause * POLL_GROWTH, POLL_LONGEST)
        try:
            status, answered = client.status(status.location), time.monotonic()
        except ClientError:
            if time.monotonic() - answered > PATIENCE:
                raise
        report(status)
    return status


@contextmanager
def progress() -> Iterator[Report]:
    """Shows a status on standard error: a progress bar on a terminal, else a line for each change."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    style = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*style, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("sending the request", total=100)
        yield lambda status: bar.update(
            task, description=describe_status(status), completed=100 if status.finished else status.percent
        )


def _lines() -> Report:
    last: list[str] = []

    def report(status: ExecuteStatus) -> None:
        line = describe_status(status)
        if status.percent and not status.finished:
            line = f"{line} ({status.percent} %)"
        if last != [line]:
            last[:] = [line]
            click.echo(line, err=True)

    return report


def describe_status(status: ExecuteStatus) -> str:
    """State and message in one line."""
    message = printable(" ".join(status.message.split()))
    word = status.state.removeprefix("Process").lower()
    return f"{word}: {message}" if message else word


def show_outputs(client: WpsClient, outputs: Sequence[OutputValue], folder: Path | None) -> None:
    """Print every output; complex ones go to ``folder`` when there is one."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for output in outputs:
        click.echo(f"{output.identifier} = {_shown(client, output, folder)}")


def _shown(client: WpsClient, output: OutputValue, folder: Path | None) -> str:
    if output.text is not None:
        return printable(output.text) + (f" {output.uom}" if output.uom else "")
    if folder is not None:
        target = folder / file_name(output)
        if output.href is not None:
            client.download(output.href, target)
        else:
            target.write_bytes(output.content or b"")
        return str(target)
    return output.href or _content(output.content or b"")


def _content(content: bytes) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(content) > PRINTED_BYTES:
        return f"({len(content)} bytes; --output FOLDER saves them)"
    return printable(text)


def file_name(output: OutputValue) -> str:
    """A file name for an output:

    its identifier without anything that a path could be made of, and an extension.
    """
    stem = re.sub(r"[^\w.-]+", "_", output.identifier).lstrip(".") or "output"
    mime_type = (output.mime_type or "").partition(";")[0].strip()
    known = {mime: suffix for suffix, mime in _MIME_TYPES.items()}
    from_address = PurePosixPath(urlsplit(output.href or "").path).suffix
    extension = known.get(mime_type) or mimetypes.guess_extension(mime_type) or from_address
    return stem + re.sub(r"[^\w.]", "", extension)
