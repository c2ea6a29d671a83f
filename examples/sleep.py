"""A process that takes as long as it is told, to see progress, queues and cancelling. Plain Python."""

from __future__ import annotations

import time
from typing import Annotated

from wps_hpc import Cancelled, Job, Resources, inputs, outputs, process


def _needs(seconds: float) -> Resources:
    """A minute more than it sleeps."""
    return Resources(cores=1, memory_mb=64, walltime_s=int(seconds) + 60)


@process(
    version="1.0.0",
    keywords=["test", "progress"],
    resources=_needs,
)
def sleep(
    seconds: Annotated[float, inputs.literal(title="Duration", uom="s", minimum=0.0, maximum=86_400.0)] = 10.0,
    steps: Annotated[int, inputs.literal(title="Steps", minimum=1, maximum=100_000)] = 10,
    *,
    job: Job,
) -> Annotated[float, outputs.literal(identifier="slept", title="Time slept", uom="s")]:
    """Sleep, with progress.

    Sleeps for a while in steps and tells its progress after each. When the job is cancelled it says in its log how far
    it came, and stops at once.

    Args:
        seconds: How long to sleep in all.
        steps: In how many steps.

    Returns:
        How long it was by the clock.
    """
    started = time.monotonic()
    done = 0
    try:
        for done in range(1, steps + 1):
            time.sleep(seconds / steps)
            job.progress(100 * done / steps, f"step {done} of {steps}")
    except Cancelled:
        job.logger.info("cancelled in step %d of %d, after %.1f s", done, steps, time.monotonic() - started)
        raise
    return time.monotonic() - started
