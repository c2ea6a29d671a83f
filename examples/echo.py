"""Two processes that give back what they get, with every kind of input: literal, complex, bounding box. Plain Python.

The executable test suites of the OGC drive them. That for WPS 2.0 knows ``org.n52.javaps.test.EchoProcess`` with its
inputs and outputs by name; that for OGC API - Processes wants an echo with an output named like its first input and an
integer input ``pause``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Optional

from wps_hpc import BoundingBox, ComplexInput, ComplexOutput, Job, formats, inputs, outputs, process

#: Documents that are echoed; each comes back in the format in which it came.
FORMATS = (formats.XML, formats.GML3, formats.GEOJSON, formats.JSON, formats.TEXT, formats.PNG, formats.BINARY)
#: Reference systems of bounding boxes; corners come back in the axis order in which they came.
REFERENCE_SYSTEMS = (inputs.CRS84, "urn:ogc:def:crs:EPSG::4326", "EPSG:4326")
#: Seconds of a pause between two looks at the clock, each of which is told as progress.
STEP_SECONDS = 0.5

Literal = Annotated[
    Optional[str],
    inputs.literal(identifier="literalInput", title="Literal", abstract="Any text; comes back as literalOutput."),
]
Complex = Annotated[
    Optional[ComplexInput],
    inputs.complex(
        *FORMATS,
        identifier="complexInput",
        title="Document",
        abstract="A document or file; comes back as complexOutput.",
        maximum_megabytes=50,
    ),
]
Box = Annotated[
    Optional[BoundingBox],
    inputs.bounding_box(
        *REFERENCE_SYSTEMS,
        identifier="boundingboxInput",
        title="Bounding box",
        abstract="A bounding box; comes back as boundingboxOutput.",
    ),
]
Pause = Annotated[
    int, inputs.literal(title="Pause", abstract="Seconds to wait before the answer.", uom="s", minimum=0, maximum=3600)
]


@dataclass(frozen=True)
class Echoed:
    """What came in; an output whose input was left out is left out."""

    literal: Annotated[
        Optional[str],
        outputs.literal(identifier="literalOutput", title="Literal", abstract="literalInput, as it came."),
    ]
    complex: Annotated[
        Optional[ComplexOutput],
        outputs.complex(
            *FORMATS, identifier="complexOutput", title="Document", abstract="complexInput, in the format that it has."
        ),
    ]
    box: Annotated[
        Optional[BoundingBox],
        outputs.bounding_box(
            *REFERENCE_SYSTEMS,
            identifier="boundingboxOutput",
            title="Bounding box",
            abstract="boundingboxInput, as it came.",
        ),
    ]


@dataclass(frozen=True)
class EchoedTwice(Echoed):
    """What came in, the literal also under its own name."""

    again: Annotated[
        Optional[str],
        outputs.literal(
            identifier="literalInput", title="Literal, again", abstract="literalInput, under its own name."
        ),
    ]


@process(version="1.0.0", keywords=["test", "echo"])
def echo(
    literal: Literal = None, complex: Complex = None, box: Box = None, pause: Pause = 0, *, job: Job
) -> EchoedTwice:
    """Echo.

    Gives back what it gets, after a pause. All inputs may be left out.
    """
    return EchoedTwice(**vars(echoed(literal, complex, box, pause, job)), again=literal)


@process(identifier="org.n52.javaps.test.EchoProcess", version="1.0.0", keywords=["test", "echo"])
def echo_process(
    literal: Literal = None, complex: Complex = None, box: Box = None, pause: Pause = 0, *, job: Job
) -> Echoed:
    """Echo for the WPS 2.0 test suite.

    Gives back what it gets, with the interface that the OGC's executable test suite for WPS 2.0 expects.
    """
    return echoed(literal, complex, box, pause, job)


def echoed(
    literal: Optional[str], document: Optional[ComplexInput], box: Optional[BoundingBox], pause: int, job: Job
) -> Echoed:
    """The inputs as outputs, after a pause of so many seconds."""
    started = time.monotonic()
    while (gone := time.monotonic() - started) < pause:
        job.progress(100 * gone / pause, f"pausing, {pause - gone:.0f} s to go")
        time.sleep(min(STEP_SECONDS, pause - gone))
    given = None if document is None else ComplexOutput(document.path, document.mime_type)
    return Echoed(literal, given, box)
