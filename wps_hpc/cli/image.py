"""``wps-hpc image build``: an image of the configuration's processes, from what this host has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from wps_hpc.cli.main import EXIT_FAILED, Chosen
from wps_hpc.config import ConfigError, Container, Settings


@click.group()
def image() -> None:
    """Make images for the site's processes."""


@image.command()
@click.argument("target")
@click.option("--cluster", help="The cluster whose container runtime makes it; default: default_cluster.")
@click.option("--examples", is_flag=True, help="Of the examples, instead of the configuration's processes.")
@click.option("--with", "distributions", multiple=True, metavar="NAME", help="An installed distribution more.")
@click.option("--program", "programs", multiple=True, metavar="NAME", help="A program that processes start.")
@click.option(
    "--path", "paths", multiple=True, type=click.Path(exists=True, path_type=Path), help="A file or folder more."
)
@click.pass_obj
def build(
    chosen: Chosen,
    target: str,
    cluster: str | None,
    examples: bool,
    distributions: tuple[str, ...],
    programs: tuple[str, ...],
    paths: tuple[Path, ...],
) -> int:
    """Make the image TARGET: a file for Apptainer, a name for podman and docker.

    It holds this Python, what the processes import, and the programs that they start with their libraries; no network,
    registry or privilege is needed. Distributions that are imported only while a process runs have to be named.
    """
    from wps_hpc import images

    settings = chosen.quiet_settings()
    contents = images.examples() if examples else images.Contents(settings.processes)
    contents = replace(
        contents,
        distributions=(*contents.distributions, *distributions),
        programs=(*contents.programs, *programs),
        paths=(*contents.paths, *(path.absolute() for path in paths)),
    )
    try:
        images.build(contents, _runtime(settings, cluster or settings.default_cluster), target)
    except images.ImageError as error:
        click.echo(str(error), err=True)
        return EXIT_FAILED
    click.echo(f"made {target}")
    return 0


def _runtime(settings: Settings, cluster: str) -> Container:
    """The cluster's container settings; Apptainer where it has none yet. Raises ConfigError."""
    if cluster not in settings.clusters:
        raise ConfigError(f"there is no cluster {cluster!r}")
    own = settings.clusters[cluster].container
    return Container(image="/none") if own is None or own.runtime == "none" else own
