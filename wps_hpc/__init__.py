"""wps-hpc: OGC web processing on the cluster that a centre already has.

Process authors import from here: ``process`` and the types that annotate inputs and outputs.
"""

import pkgutil

# On a node this package comes out of the launcher's archive; what is installed there beside it (the examples) has the
# rest. What the archive has, comes first.
__path__ = pkgutil.extend_path(__path__, __name__)

from joblauncher.formats.values import BoundingBoxValue as BoundingBox
from wps_hpc.processes import formats, inputs, outputs
from wps_hpc.processes.description import DescriptionError, Format, Metadata, Resources, Translation
from wps_hpc.processes.functions import FunctionProcess, process
from wps_hpc.processes.literals import Duration
from wps_hpc.processes.run import Cancelled, Job, ProcessError
from wps_hpc.processes.values import ComplexInput, ComplexOutput, Quantity

__all__ = [
    "BoundingBox",
    "Cancelled",
    "ComplexInput",
    "ComplexOutput",
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
]
