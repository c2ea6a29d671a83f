"""``wps-hpc processes``: what is on offer, and what could not be loaded."""

from __future__ import annotations

import json

import click

from wps_hpc.cli.main import EXIT_FAILED, Chosen
from wps_hpc.cli.text import columns


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def processes(chosen: Chosen, as_json: bool) -> int:
    """List the processes that the configuration offers. Exit code 1 when one could not be loaded."""
    settings = chosen.quiet_settings()
    from wps_hpc.clusters.containers import judge
    from wps_hpc.processes.catalogue import Catalogue

    catalogue = Catalogue.of(settings.processes, judge(settings))
    catalogue.reload()
    descriptions = [entry.description for entry in catalogue.entries()]
    problems = dict(catalogue.problems)
    if as_json:
        offered = [{"identifier": d.identifier, "title": d.title, "version": d.version} for d in descriptions]
        click.echo(json.dumps({"processes": offered, "problems": problems}, indent=2))
    else:
        for line in columns((d.identifier, d.version, d.title) for d in descriptions):
            click.echo(line)
        for origin, problem in problems.items():
            click.echo(f"{origin}: {problem}", err=True)
    return EXIT_FAILED if problems else 0
