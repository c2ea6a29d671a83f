"""wps-hpc: OGC web processing on the cluster that a centre already has.

Process authors import from here: ``process`` and the types that annotate inputs and outputs.
"""

import pkgutil
from collections.abc import Sequence
from typing import Any

# On a node this package comes out of the launcher's archive; what is installed there beside it (the examples) has the
# rest. What the archive has, comes first.
__path__ = pkgutil.extend_path(__path__, __name__)

from joblauncher.formats.values import BoundingBoxValue as BoundingBox
from wps_hpc.processes import formats, inputs, outputs
from wps_hpc.processes.description import Container, DescriptionError, Format, Metadata, Resources, Translation
from wps_hpc.processes.functions import FunctionProcess, process
from wps_hpc.processes.literals import Duration
from wps_hpc.processes.run import Cancelled, Job, ProcessError
from wps_hpc.processes.values import ComplexInput, ComplexOutput, Quantity


def pywps_service(processes: Sequence[Any] = (), cfgfiles: Any = None) -> Any:
    """A WSGI application in the place of ``pywps.Service(processes, cfgfiles)``; server half.

    ``processes`` are PyWPS's own, or of any other kind. ``cfgfiles`` are PyWPS configuration files (default:
    ``$PYWPS_CFG``), from which as much is taken over as ``wps-hpc init --from-pywps`` does, or a ``wps-hpc.toml``,
    which has clusters. Without a configured ``outputpath`` everything lies in a temporary folder and ends with the
    program. ``close()`` ends it earlier. Raises ConfigError.
    """
    from wps_hpc.pywps_wsgi import service

    return service(processes, cfgfiles)


__all__ = [
    "BoundingBox",
    "Cancelled",
    "ComplexInput",
    "ComplexOutput",
    "Container",
    "DescriptionError",
    "Duration",
    "Format",
    "FunctionProcess",
    "Job",
    "Metadata",
    "ProcessError",
    "Quantity",
    "Resources",
    "Translation",
    "formats",
    "inputs",
    "outputs",
    "process",
    "pywps_service",
]
