"""Processes for the tests of the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

from wps_hpc import BoundingBox, Job, ProcessError, formats, inputs, outputs, process


@process(title="Greet")
def hello(name: str, times: int = 1) -> str:
    """Greet somebody.

    Returns:
        The greeting.
    """
    print(f"greeting {name}")
    print("this went to stderr", file=sys.stderr)
    return ", ".join([f"Hello {name}"] * times)


@process(title="Refuse")
def refuse(why: str) -> str:
    """Refuse, with a reason.

    Returns:
        Nothing ever.
    """
    raise ProcessError(f"refused because of {why}")


@process(title="Wait for a file")
def wait(path: str, job: Job) -> str:
    """Wait until a file exists.

    Returns:
        Its path.
    """
    job.progress(40, "waiting for the file")
    while not Path(path).exists():
        time.sleep(0.05)
    return path


@process(title="Turn a text round")
def turn(
    text: Annotated[Path, inputs.complex(formats.TEXT, formats.XML)], job: Job
) -> Annotated[Path, outputs.complex(formats.TEXT, identifier="turned")]:
    """Turn a text round.

    Returns:
        The text from its end to its beginning.
    """
    turned = job.workdir / "turned.txt"
    turned.write_text(text.read_text()[::-1])
    return turned


@process(title="Width of a box")
def width(box: BoundingBox) -> float:
    """Measure a bounding box.

    Returns:
        Its extent along the first axis.
    """
    return box.upper[0] - box.lower[0]
