"""``wps-hpc init``: a commented configuration file to begin with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from joblauncher.formats.atomic import write_atomic
from wps_hpc.config import render_template


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="wps-hpc.toml")
@click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="Set an option, such as server.port=9000.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(file: Path, given: tuple[str, ...], force: bool) -> None:
    """Write a configuration FILE with every option, its description and its default, commented out."""
    text = render_template(_values(given))
    if file.exists() and not force:
        raise click.UsageError(f"{file} exists already; --force overwrites it")
    write_atomic(file.resolve(), text, mode=0o640)
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
