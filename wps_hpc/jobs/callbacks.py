"""Delivering callbacks: POST to where a client said it wants to hear of its job (18-062r2 §12).

A callback makes this server connect to a place of the client's choice, like an input by reference, and is judged by
the same rules: schemes, hosts and addresses, against a list of its own that is empty unless the operator fills it.
Redirects are not followed, and nothing that the other side says is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, fields

from joblauncher.failpoints import Failpoint, reach
from wps_hpc.config import Callbacks, Inputs
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.jobs import addresses
from wps_hpc.jobs.fetch import NotSent, Posting, post
from wps_hpc.jobs.outbox import Callback, Outbox
from wps_hpc.jobs.request import Subscriber

log = logging.getLogger(__name__)

#: Callbacks that are under way at the same time: hosts that do not answer keep a few others waiting, not all.
AT_ONCE = 16
#: The longest pause between two tries, in seconds.
LONGEST_PAUSE = 3600.0

#: Makes what is told of a job: None when there is nothing to tell any more, for the job is gone.
Render = Callable[[Callback], "Posting | None"]


def rules(settings: Callbacks) -> Inputs:
    """Where callbacks may go, in the terms in which inputs by reference are judged."""
    return Inputs(
        schemes=settings.schemes,
        hosts=settings.hosts,
        private_networks=settings.private_networks,
        timeout_seconds=settings.timeout_seconds,
        total_seconds=settings.timeout_seconds,
        redirects=0,
    )


def check_subscriber(subscriber: Subscriber | None, settings: Callbacks) -> None:
    """Refuse now what would not be delivered later, as far as that can be told without the network.

    Raises InvalidParameterValue with the locator ``subscriber``.
    """
    if subscriber is None:
        return
    if not settings.hosts:
        raise InvalidParameterValue("This server does not call back; leave subscriber out.", "subscriber")
    for entry in fields(subscriber):
        uri = getattr(subscriber, entry.name)
        if uri is not None:
            _check(uri, settings)


def _check(uri: str, settings: Callbacks) -> None:
    try:
        addresses.client_url(uri, rules(settings))
    except addresses.Forbidden as error:
        text = f"This server does not call back to {addresses.printable(uri)[:200]}: {error.text}"
        raise InvalidParameterValue(text, "subscriber") from error


@dataclass
class Deliverer:
    """Works the outbox off, in the worker's own loop; the posting itself runs in ``pool``.

    ``wake`` is called when something has been posted or not.
    """

    settings: Callbacks
    outbox: Outbox
    render: Render
    pool: Executor
    wake: Callable[[], None]
    clock: Callable[[], float] = time.time
    _under_way: dict[int, tuple[Callback, Future[bool]]] = field(default_factory=dict)
    _closed: bool = False

    def round(self) -> float | None:
        """Take in what has been tried, begin what is due; the seconds until something is due next. Raises LeaseLost."""
        for callback, future in list(self._under_way.values()):
            if future.done():
                self._settle(callback, future)
        for callback in self.outbox.due(self.clock(), AT_ONCE + len(self._under_way)):
            if callback.id not in self._under_way and len(self._under_way) < AT_ONCE:
                self._begin(callback)
        due = self.outbox.next_due()
        return None if due is None or self._under_way else max(0.05, due - self.clock())

    def close(self) -> None:
        """Let what is under way end early; it is tried again by the next worker."""
        self._closed = True

    def _begin(self, callback: Callback) -> None:
        future = self.pool.submit(self._deliver, callback)
        self._under_way[callback.id] = (callback, future)
        future.add_done_callback(lambda _: self.wake())

    def _deliver(self, callback: Callback) -> bool:
        """Whether there is nothing more to do; runs in the pool. Raises NotSent."""
        posting = self.render(callback)
        if posting is not None:
            post(posting, rules(self.settings), lambda: self._closed)
            reach(Failpoint.CALLBACK_SENT)
        return True

    def _settle(self, callback: Callback, future: Future[bool]) -> None:
        problem = future.exception()
        if problem is None:
            log.info("job %s: told its subscriber (%s)", callback.job_id, callback.kind)
            self.outbox.done(callback)
        elif not self._closed:
            self._again(callback, problem)
        del self._under_way[callback.id]

    def _again(self, callback: Callback, problem: BaseException) -> None:
        tried = callback.attempts + 1
        where = addresses.printable(callback.uri)
        if not isinstance(problem, NotSent):
            log.error("job %s: a callback broke off", callback.job_id, exc_info=problem)
        if tried >= self.settings.attempts:
            log.error("job %s: %s cannot be told, after %d tries: %s", callback.job_id, where, tried, problem)
            self.outbox.done(callback)
            return
        pause = min(LONGEST_PAUSE, self.settings.retry_seconds * 2.0 ** min(tried - 1, 30))
        log.warning("job %s: %s could not be told: %s; again in %.0f s", callback.job_id, where, problem, pause)
        self.outbox.later(callback, self.clock() + pause)
