"""A cluster's queues with their limits, and which one a job goes to: the smallest that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from wps_hpc.config import Queue
from wps_hpc.processes.description import Resources


class NoQueueFits(Exception):
    """No queue gives a job what it needs; the text is a sentence for the client, ``resource`` what there is not."""

    def __init__(self, text: str, resource: str) -> None:
        super().__init__(text)
        self.resource = resource


#: A queue's limit, the resource that it limits, and what to call that.
_LIMITS: tuple[tuple[str, str, str], ...] = (
    ("max_walltime_seconds", "walltime_s", "{} s of walltime"),
    ("max_memory_mb", "memory_mb", "{} MiB of memory"),
    ("max_cores", "cores", "{} cores"),
    ("max_nodes", "nodes", "{} nodes"),
    ("max_gpus", "gpus", "{} GPUs"),
    ("max_input_mb", "input_mb", "{} MiB of input files"),
)


def choose_queue(queues: Sequence[Queue], needed: Resources, input_mb: int = 0) -> Queue | None:
    """The smallest queue that gives what is ``needed`` and takes so much input; None where none are described.

    Smaller is: less walltime, then less memory, then fewer cores, nodes and GPUs, then less input; of equal ones the
    first. A limit that a queue does not name it does not have, and what a job does not name fits anywhere. Raises
    NoQueueFits, also for GPUs that cannot be shared out.
    """
    _share_gpus(needed)
    if not queues:
        return None
    wanted = {**vars(needed), "cores": needed.slots, "input_mb": input_mb or None}
    fitting = [queue for queue in queues if all(_fits(queue, limit, wanted[name]) for limit, name, _ in _LIMITS)]
    if not fitting:
        raise NoQueueFits(f"No queue of this service gives a job {_described(wanted)}.", _hopeless(queues, wanted))
    return min(fitting, key=_size)


def _share_gpus(needed: Resources) -> None:
    """Batch systems count GPUs by node: rounded up, a job would get more of them than it was granted."""
    gpus, nodes = needed.gpus or 0, needed.nodes or 1
    if gpus % nodes:
        raise NoQueueFits(f"{gpus} GPUs cannot be shared out evenly over {nodes} nodes.", "gpus")


def _fits(queue: Queue, limit: str, amount: int | None) -> bool:
    return (amount or 0) <= _limit(queue, limit)


def _hopeless(queues: Sequence[Queue], wanted: Mapping[str, int | None]) -> str:
    """The first resource of which no queue gives enough; where each queue lacks something else, «resources»."""
    lacking = (name for limit, name, _ in _LIMITS if not any(_fits(queue, limit, wanted[name]) for queue in queues))
    return next(lacking, "resources")


def _size(queue: Queue) -> tuple[float, ...]:
    return tuple(_limit(queue, limit) for limit, _, _ in _LIMITS)


def _limit(queue: Queue, name: str) -> float:
    value: int | None = getattr(queue, name)
    return math.inf if value is None else value


def _described(wanted: Mapping[str, int | None]) -> str:
    words = [text.format(value) for _, name, text in _LIMITS if (value := wanted[name]) is not None]
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)
