"""``wps-hpc init``: a commented configuration file to begin with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from joblauncher.formats.atomic import write_atomic
from wps_hpc.config import render_template
from wps_hpc.pywps_settings import Carried, carry


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="wps-hpc.toml")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Set an option, such as server.port=9000.")
@click.option(
    "--from-pywps",
    "pywps",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="PYWPS.CFG",
    help="Take over what a PyWPS configuration says, and say what could not be.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(file: Path, given: tuple[str, ...], pywps: tuple[Path, ...], force: bool) -> None:
    """Write a configuration FILE with every option, its description and its default, commented out."""
    carried = carry(pywps) if pywps else Carried()
    text = render_template({**carried.values, **_values(given)})
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force overwrites it")
    write_atomic(file.resolve(), text, mode=0o640)
    for note in carried.notes:
        click.echo(f"note: {note}")
    click.echo(f"wrote {file}; «wps-hpc -c {file} check» says whether it works")


def _values(given: Iterable[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not equals:
            raise click.UsageError(f"--set {item}: not of the form KEY=VALUE")
        values[key.strip()] = _toml_value(text)
    return values


def _toml_value(text: str) -> Any:
    """A TOML value; what is not TOML is taken as a string, so that quotes may be left out."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
