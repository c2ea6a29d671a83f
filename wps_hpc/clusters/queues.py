"""A cluster's queues with their limits, and which one a job goes to: the smallest that fits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wps_hpc.config import Queue
from wps_hpc.processes.description import Resources


class NoQueueFits(Exception):
    """No queue gives a job what it needs; the text is a sentence for the client."""


#: A queue's limit, the resource that it limits, and what to call that.
_LIMITS: tuple[tuple[str, str, str], ...] = (
    ("max_walltime_seconds", "walltime_s", "{} s of walltime"),
    ("max_memory_mb", "memory_mb", "{} MiB of memory"),
    ("max_cores", "cores", "{} cores"),
    ("max_nodes", "nodes", "{} nodes"),
    ("max_gpus", "gpus", "{} GPUs"),
)


def choose_queue(queues: Sequence[Queue], needed: Resources) -> Queue | None:
    """The smallest queue that gives what is ``needed``; None where the cluster describes no queues.

    Smaller is: less walltime, then less memory, then fewer cores, nodes and GPUs; of equal ones the first. A limit that
    a queue does not name it does not have, and what a job does not name fits anywhere. Raises NoQueueFits.
    """
    if not queues:
        return None
    fitting = [queue for queue in queues if _fits(queue, needed)]
    if not fitting:
        raise NoQueueFits(f"No queue of this service gives a job {_described(needed)}.")
    return min(fitting, key=_size)


def _fits(queue: Queue, needed: Resources) -> bool:
    return all((getattr(needed, resource) or 0) <= _limit(queue, limit) for limit, resource, _ in _LIMITS)


def _size(queue: Queue) -> tuple[float, ...]:
    return tuple(_limit(queue, limit) for limit, _, _ in _LIMITS)


def _limit(queue: Queue, name: str) -> float:
    value: int | None = getattr(queue, name)
    return math.inf if value is None else value


def _described(needed: Resources) -> str:
    words = [text.format(value) for _, resource, text in _LIMITS if (value := getattr(needed, resource)) is not None]
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)
