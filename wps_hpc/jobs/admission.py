"""Whether one more job may come in: the limits on jobs that run and on jobs that wait."""

from __future__ import annotations

from dataclasses import dataclass

from wps_hpc.config import Limits
from wps_hpc.errors import PARALLEL_LIMIT_TEXT, ServerBusy
from wps_hpc.jobs.request import Mode


@dataclass(frozen=True)
class Load:
    """How many jobs there are: at a scheduler, waiting for a place (or for their inputs), and parked.

    A parked job waits for a client's release, or was withdrawn before it was submitted: it needs no place.
    """

    running: int = 0
    waiting: int = 0
    parked: int = 0

    def free(self, limits: Limits) -> int:
        """How many more jobs may be given to a scheduler now."""
        return max(0, limits.parallel - self.running)


def check_admission(load: Load, mode: Mode, limits: Limits) -> None:
    """Raise ServerBusy unless one more job may come in.

    A synchronous call must find a place at once, one that no job before it is going to take. An asynchronous one may
    wait: for it ``limits.queued`` places stand behind those that are free to run.
    """
    admitted = _may_wait(load, limits) if mode is not Mode.SYNC else load.waiting < load.free(limits)
    if not admitted:
        raise ServerBusy(PARALLEL_LIMIT_TEXT)


def _may_wait(load: Load, limits: Limits) -> bool:
    return load.waiting + load.parked < limits.queued + load.free(limits)
