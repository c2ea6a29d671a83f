"""Job folders on their way to a cluster that shares no filesystem with the server: before each submission.

Nothing of it is recorded: a job that is being sent still waits for its place, and what has arrived is found by size and
digest when it is sent again, by the next worker perhaps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from joblauncher.failpoints import Failpoint, reach
from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import Manifest, load
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.clusters.transports.base import Stopped

#: Job folders that are sent at the same time, for each cluster and account.
SENT_AT_ONCE = 4


class NotThere(Exception):
    """A job's folder could not be sent; the text is the operator's."""


@dataclass
class _Sending:
    order: JobOrder
    stop: threading.Event
    future: Future[None]


@dataclass
class Sender:
    """Sends the job folders of one cluster and account; for one dispatcher, whose thread calls its methods.

    ``launcher`` goes there as well, once. ``wake`` is called, from another thread, when a folder has arrived or has
    not.
    """

    depot: Depot
    launcher: Path
    wake: Callable[[], None] = lambda: None
    _under_way: dict[str, _Sending] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(SENT_AT_ONCE, "send"))

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._under_way

    def begin(self, job_id: str, folder: JobFolder, order: JobOrder) -> None:
        """Send the folder of a job, which is complete and stays as it is until ``arrived`` gives its order back.

        After ``stop``, that is left to the next worker.
        """
        if self._stopped.is_set():
            return
        stop = threading.Event()
        future = self._pool.submit(self._send, folder, stop)
        self._under_way[job_id] = _Sending(order, stop, future)
        future.add_done_callback(lambda _: self.wake())

    def arrived(self, job_id: str) -> JobOrder | None:
        """The order of a job that was begun, once its folder is there; None as long as it is not.

        Raises NotThere, once, when it could not be sent.
        """
        sending = self._under_way[job_id]
        # In this order: what ends after the stop may have ended by it, which is no fault of the cluster.
        if not sending.future.done() or self._stopped.is_set():
            return None
        error = sending.future.exception()
        if error is None:
            return sending.order
        del self._under_way[job_id]
        raise NotThere(str(error)) from error

    def done_with(self, job_id: str) -> None:
        """The job has been submitted, or will never be."""
        sending = self._under_way.pop(job_id, None)
        if sending is not None:
            sending.stop.set()

    def forget_all_but(self, waiting: Collection[str]) -> None:
        """Jobs that were dismissed or held meanwhile are not sent any further."""
        for job_id in self._under_way.keys() - set(waiting):
            self.done_with(job_id)

    def stop(self) -> None:
        """Let what is under way end early, and begin nothing any more; callable from every thread."""
        self._stopped.set()

    def close(self) -> None:
        """End what is under way, when the dispatcher has had its last round."""
        self.stop()
        self.forget_all_but(())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, folder: JobFolder, stop: threading.Event) -> None:
        def stopped() -> bool:
            return stop.is_set() or self._stopped.is_set()

        if stopped():
            raise Stopped
        manifest = load(Manifest, folder.manifest.read_bytes())
        self.depot.send_launcher(self.launcher)
        self.depot.send(folder, manifest.files, stopped)
        reach(Failpoint.SENT)
