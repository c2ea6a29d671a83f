"""The two servers before one Grid Engine: this one by its command line, PyWPS in its scheduler mode by DRMAA."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import HERE, QUEUED, Server, Shape, pywps_server, this_server
from slurm_jobs import NOTE, noting

from tests.services.gridengine import GridEngine

QUEUE = "long.q"
#: Every job notes here when it starts, as the first thing.
BEGAN = "began"
_OUR_SHAPE = Shape(2, 8, QUEUED)
#: Room for a library with thread-local variables that is loaded late, by Debian's library of DRMAA.
_LOADABLE = {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=2048"}
#: The package has such a command, which does not find the process; this project has one of the same name.
_LAUNCHER = """\
#!/bin/sh
{note}
exec {python} -c '
import sys
sys.path.insert(0, "{processes}")
from pywps.processing.job import launcher
launcher()
' "$@"
"""
_CLUSTER = """\
[clusters.grid]
scheduler = "gridengine"
queue = "{queue}"
template = "{template}"
# Those that bursts leave are soon over and done with.
lost_seconds = 5.0
command_environment = {{ {variables} }}
"""


@contextmanager
def ours(grid: GridEngine, folder: Path) -> Iterator[Server]:
    """This server, with its own batch template but for the note."""
    template = folder / "gridengine.sh.j2"
    template.write_text(noting((HERE.parent / "batch_templates/gridengine.sh.j2").read_text(), folder / BEGAN))
    environment = {**grid.variables(), "PATH": grid.environment()["PATH"]}
    variables = ", ".join(f'{name} = "{value}"' for name, value in environment.items())
    tables = _CLUSTER.format(queue=QUEUE, template=template, variables=variables)
    processes = HERE / "grid_processes"
    with this_server(folder, _OUR_SHAPE, processes=processes, head='default_cluster = "grid"', tables=tables) as server:
        yield server


@contextmanager
def pywps(grid: GridEngine, folder: Path, limit: int, clients: int) -> Iterator[Server]:
    """PyWPS; ``limit`` is the walltime of all its jobs, in seconds.

    It opens a session of DRMAA for each submission, and a process can have one: of two threads one would be refused.
    """
    programs = folder / "bin"
    programs.mkdir()
    launcher = programs / "joblauncher"
    launcher.write_text(_LAUNCHER.format(note=NOTE.format(folder / BEGAN), python=sys.executable, processes=HERE))
    launcher.chmod(0o755)
    processing = f"mode = scheduler\npath = {programs}\ndrmaa_native_specification = -q {QUEUE} -l h_rt={limit}"
    library = grid.programs.parent / "gridengine-drmaa/lib/libdrmaa.so.1.0"
    environment = {**grid.variables(), **_LOADABLE, "DRMAA_LIBRARY_PATH": str(library)}
    shape = Shape(clients, 1, -1)
    with pywps_server(folder, shape, app="wait", processing=processing, environment=environment) as server:
        yield server
