"""``wps-hpc serve`` and ``wps-hpc worker``: the long-running commands."""

from __future__ import annotations

import click

from wps_hpc.cli.main import Chosen


@click.command()
@click.option("--no-worker", is_flag=True, help="Only answer requests; a worker runs elsewhere.")
@click.pass_obj
def serve(chosen: Chosen, no_worker: bool) -> int:
    """Serve until SIGTERM: the web server and the worker. Jobs under way go on when it stops."""
    settings = chosen.settings()
    from wps_hpc import serve as serving

    return serving.serve(settings, worker=not no_worker)


@click.command()
@click.pass_obj
def worker(chosen: Chosen) -> int:
    """Run jobs until SIGTERM, without a web server.

    A second worker waits, and takes over when the first is gone.
    """
    settings = chosen.settings()
    from wps_hpc import serve as serving

    return serving.run_worker(settings)
