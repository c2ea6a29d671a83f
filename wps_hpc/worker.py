"""The worker: composition root of the job side. It stages, dispatches, watches and purges while it holds the lease.

One worker is active at a time; others wait for the lease. Each kind of work is a loop of its own in a thread, so that a
scheduler that hangs for thirty seconds keeps nobody else waiting. A loop that fails goes on after a pause; a lost lease
ends them all, and the worker queues up for the lease again.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from joblauncher.build import install_launcher
from wps_hpc.clusters.cluster import Cluster, build_cluster, build_clusters
from wps_hpc.clusters.containers import judge
from wps_hpc.config import ConfigError, Settings
from wps_hpc.health import ClusterRounds, WorkerReport
from wps_hpc.jobs.callbacks import AT_ONCE, Deliverer
from wps_hpc.jobs.desk import Desk
from wps_hpc.jobs.dispatch import Dispatcher
from wps_hpc.jobs.job import Whereabouts
from wps_hpc.jobs.lastwords import LastWords
from wps_hpc.jobs.lease import Lease, LeaseLost
from wps_hpc.jobs.mirror import Mirror
from wps_hpc.jobs.outbox import Outbox
from wps_hpc.jobs.pack import Packer
from wps_hpc.jobs.places import astray, inhabited
from wps_hpc.jobs.purge import Purger
from wps_hpc.jobs.results import Results
from wps_hpc.jobs.sending import Sender
from wps_hpc.jobs.staging import Stager
from wps_hpc.jobs.store import Store, StoreError, open_store
from wps_hpc.jobs.sweep import Sweeper, Swept
from wps_hpc.jobs.visits import Visits
from wps_hpc.jobs.wake import Bell, Listener
from wps_hpc.jobs.watch import Watcher
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.ogcapi_callbacks import CallbackDocuments

log = logging.getLogger(__name__)

#: Pause after a round that failed, in seconds.
PAUSE_AFTER_FAILURE = 1.0
#: Jobs that are staged at the same time.
STAGED_AT_ONCE = 32
#: Seconds between two purges.
PURGE_EVERY = 600.0
#: The loops hand the interpreter on after so many seconds: their work is short, and somebody waits for it.
SWITCH = 0.0005
#: Seconds between two reports for ``/health`` and ``/metrics``.
REPORT_EVERY = 2.0
#: An account of which no job is left keeps its connection for so long, in seconds.
LINGER = 600.0
#: A place that could not be used is tried again after so long, in seconds.
MAN_AGAIN = 60.0
#: Loops that keep their own time.
_UNHURRIED = ("purge", "catalogue", "callbacks", "sweep")
#: The longest a loop sleeps: the database is looked at so often even when nobody rings.
FALLBACK = 2.0


class Loop(threading.Thread):
    """Runs ``work`` again and again: when woken, when a file descriptor of its own becomes readable, or when due.

    ``work`` gets the job ids it was woken for and returns the seconds after which it wants to run again at the latest
    (None: no wish).
    """

    def __init__(
        self,
        name: str,
        work: Callable[[set[str]], float | None],
        failed: Callable[[LeaseLost], None],
        longest: float = FALLBACK,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._longest = longest
        self._failed = failed
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._lock = threading.Lock()
        self._poked: set[str] = set()
        self._stopped = False
        #: When the last round ended well, in Unix seconds; at first, when the loop was made.
        self.round_at = time.time()
        #: Another descriptor that wakes the loop, asked for before each wait.
        self.changes: Callable[[], int | None] = lambda: None

    def wake(self, job_ids: set[str] | frozenset[str] = frozenset()) -> None:
        """Run soon; callable from every thread, never blocks."""
        with self._lock:
            self._poked |= job_ids
        try:
            self._far.send(b"!")
        except BlockingIOError:
            return  # the loop is about to wake up anyway

    def stop(self) -> None:
        """End after the current round."""
        self._stopped = True
        self.wake()

    def run(self) -> None:
        """The thread: rounds and waits until stopped or until the lease is lost."""
        while not self._stopped:
            self._turn()

    def _turn(self) -> None:
        try:
            self._wait(self._round())
        except LeaseLost as lost:
            self._stopped = True
            self._failed(lost)
        except Exception:
            # Whatever it was, the jobs still have to be looked after; the log has the traceback.
            log.exception("%s: a round failed", self.name)
            self._rest(PAUSE_AFTER_FAILURE, None)

    def _round(self) -> float:
        with self._lock:
            poked, self._poked = self._poked, set()
        due = self._work(poked)
        self.round_at = time.time()
        return self._longest if due is None else min(due, self._longest)

    def _wait(self, seconds: float) -> None:
        self._rest(seconds, self.changes())

    def _rest(self, seconds: float, extra: int | None) -> None:
        descriptors = [self._near.fileno()] + ([] if extra is None else [extra])
        if not self._stopped:
            select.select(descriptors, [], [], seconds)
        try:
            self._near.recv(4096)
        except BlockingIOError:
            return


#: A cluster, and the account there that jobs run under (None: the server's own).
Place = tuple[str, str | None]


@dataclass
class Crew:
    """The loops that look after the jobs of one place, and what they work with."""

    cluster: Cluster
    watcher: Watcher
    watching: Loop
    dispatching: Loop
    sweeping: Loop | None
    mirror: Mirror | None
    sender: Sender | None
    idle_since: float | None = None

    @property
    def loops(self) -> list[Loop]:
        """All of them."""
        return [self.watching, self.dispatching, *([] if self.sweeping is None else [self.sweeping])]

    def stop(self) -> None:
        """Let the loops end after their current rounds, and early what goes on in the background."""
        for part in (self.mirror, self.sender):
            if part is not None:
                part.stop()
        for loop in self.loops:
            loop.stop()

    def let_go(self) -> None:
        """End what goes on in the background, after the loops' last rounds; jobs are not concerned."""
        for part in (self.mirror, self.sender):
            if part is not None:
                part.close()


@dataclass
class Shift:
    """One worker's time with the lease: its loops, from the first round to the last."""

    settings: Settings
    store: Store
    catalogue: Catalogue
    clusters: Mapping[str, Cluster]
    bell: Bell
    holder: str
    epoch: int
    over: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.time)
    loops: list[Loop] = field(default_factory=list)
    crews: dict[Place, Crew] = field(default_factory=dict)
    #: What cannot be used: why, and when that was tried, on the steady clock. Replaced, as another loop looks at it.
    _unmanned: Mapping[Place, tuple[str, float]] = field(default_factory=dict)
    _manning: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STAGED_AT_ONCE, "stage"))
    _callback_pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE, "callback"))

    def begin(self) -> None:
        """Start all loops."""
        launcher = install_launcher(self.settings.storage.root)
        self._packer = Packer(self.settings, self.catalogue, launcher)
        self._free_places = threading.Lock()
        self._desk = self._desk_loop()
        self._deliverer = self._callback_loop()
        for name, cluster in self.clusters.items():
            if not cluster.settings.accounts:
                self.crews[name, None] = self._crew(cluster)
        if any(cluster.settings.staging == "sftp" for cluster in self.clusters.values()):
            self._add("accounts", lambda _: self._man_places())
        if any(cluster.settings.accounts for cluster in self.clusters.values()):
            visits = Visits(
                self.settings.clusters, self.store, self._sweep_account, self.crews.__contains__, lambda: self._ended
            )
            self._add("sweep accounts", lambda _: visits.round(), PURGE_EVERY)
        purger = Purger(self.settings, self.store, launcher)
        self._add("purge", lambda _: self._purge(purger), PURGE_EVERY)
        self._add("catalogue", lambda _: self._reload(), self.settings.processes.watch_seconds)
        for loop in self.loops:
            loop.start()

    def end(self) -> None:
        """Stop all loops and wait for their current rounds."""
        with self._manning:
            # A crew that came after this would go on for ever.
            self._ended = True
        self._desk.close()
        self._deliverer.close()
        for crew in list(self.crews.values()):
            crew.stop()
        for loop in self.loops:
            loop.stop()
        for loop in self.loops:
            loop.join(self.settings.database.lease_seconds)
        for crew in list(self.crews.values()):
            crew.let_go()
            if crew.cluster.account is not None:
                crew.cluster.close()
        self._stager.close()
        for pool in (self._pool, self._callback_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def wake(self, job_ids: set[str] | frozenset[str] = frozenset()) -> None:
        """A client did something: let every loop look that deals with jobs.

        A ring for no job in particular is for new ones, which nobody watches yet.
        """
        for loop in self.loops:
            if not loop.name.startswith(_UNHURRIED) and (job_ids or not loop.name.startswith("watch")):
                loop.wake(job_ids)

    def report(self) -> None:
        """Leave word of how each cluster's rounds go, for ``/health`` and ``/metrics``."""
        crews = list(self.crews.items())
        # Of several accounts the one that cannot ask.
        crews.sort(key=lambda entry: entry[1].watcher.queries.away)
        clusters = {name: _rounds(crew.watcher) for (name, _), crew in crews}
        # The slowest of them counts: one that hangs or fails must not be hidden by the others, nor by this thread.
        round_at = min((crew.watching.round_at for _, crew in crews), default=time.time())
        report = WorkerReport(os.getpid(), self.holder, self.epoch, self.started, round_at, clusters)
        try:
            report.save(self.settings)
        except OSError as error:
            log.warning("the worker's report cannot be written: %s", error)

    def _desk_loop(self) -> Desk:
        self._stager = Stager(self.settings, self._description)
        desk = Desk(
            self.settings.storage.root,
            self.store,
            self._stager,
            self._pool,
            STAGED_AT_ONCE,
            self.epoch,
            self._places_wanted,
            lambda: loop.wake(),
            self.settings.clusters,
            self.settings.limits.queue_seconds,
            unmanned=lambda: self._unmanned,
        )
        desk.recover()
        loop = self._add("desk", lambda _: desk.round())
        return desk

    def _callback_loop(self) -> Deliverer:
        documents = CallbackDocuments(self.settings, self.catalogue, self.store.get, Results(self.settings))
        outbox = Outbox(self.store.database, self.epoch)
        deliverer = Deliverer(
            self.settings.callbacks, outbox, documents.posting, self._callback_pool, lambda: loop.wake()
        )
        loop = self._add("callbacks", lambda _: deliverer.round())
        self._telling = loop
        return deliverer

    def _crew(self, cluster: Cluster) -> Crew:
        """The loops of one place, which have yet to be started."""

        def submitted(job_id: str) -> None:
            watching.wake()

        root, name = self.settings.storage.root, cluster.name + (f" ({cluster.account})" if cluster.account else "")
        last_words = LastWords(root, self.settings.logging)
        watcher = Watcher(cluster, root, self.store, self.epoch, self._places_wanted, last_words, self._description)
        dispatcher = Dispatcher(
            cluster, self.settings.limits, self.store, self._packer, self.epoch, submitted, self._free_places
        )
        watching = self._add(f"watch {name}", watcher.round)
        watching.changes = cluster.changes
        dispatching = self._add(f"dispatch {name}", lambda _: dispatcher.round())
        sweeping = None
        if cluster.depot is not None:
            settle = cluster.scheduler.settle_seconds
            watcher.mirror = Mirror(cluster.depot, self.settings, settle, watching.wake)
            dispatcher.sender = Sender(cluster.depot, self._packer.launcher, dispatching.wake)
            sweeper = Sweeper(cluster, self.store, self._packer.launcher, started=self.started)
            sweeping = self._add(f"sweep {name}", lambda _: self._sweep(sweeper), PURGE_EVERY)
        return Crew(cluster, watcher, watching, dispatching, sweeping, watcher.mirror, dispatcher.sender)

    def _sweep(self, sweeper: Sweeper) -> None:
        sweeper.round()

    def _sweep_account(self, place: tuple[str, str]) -> Swept:
        """Sweep at an account that nobody looks after, over a connection for this alone; raises TransportError."""
        cluster = build_cluster(self.settings, *place, self.store.identity(), partial(inhabited, self.store))
        try:
            return Sweeper(cluster, self.store, self._packer.launcher, started=self.started).sweep()
        finally:
            cluster.close()

    def _man_places(self) -> None:
        """Look after the jobs of every account that has some, over a connection of its own; let go of idle ones."""
        wanted = {place for place in self.store.places() if self._is_there(place)}
        now = time.monotonic()
        self._unmanned = {place: tried for place, tried in self._unmanned.items() if place in wanted}
        for place in wanted - self.crews.keys():
            if place not in self._unmanned or now - self._unmanned[place][1] >= MAN_AGAIN:
                self._man(place)
        for place, crew in list(self.crews.items()):
            idle = place not in wanted and bool(self.clusters[place[0]].settings.accounts)
            crew.idle_since = (crew.idle_since or now) if idle else None
            if crew.idle_since is not None and now - crew.idle_since > LINGER:
                self._dismiss(place, crew)

    def _is_there(self, place: Place) -> bool:
        """Whether the configuration, which may have changed since there were jobs, still has that place."""
        return astray(self.settings.clusters, Whereabouts(*place, sent_to=None)) is None

    def _man(self, place: Place) -> None:
        name, account = place
        try:
            cluster = build_cluster(self.settings, name, account, self.store.identity(), partial(inhabited, self.store))
        except ConfigError as error:
            self._leave_unmanned(place, str(error))
            return
        self._unmanned = {other: tried for other, tried in self._unmanned.items() if other != place}
        with self._manning:
            if self._ended:
                cluster.close()
                return
            log.info("cluster %s: jobs of account %s", name, account)
            self.crews[place] = crew = self._crew(cluster)
            for loop in crew.loops:
                loop.start()

    def _leave_unmanned(self, place: Place, why: str) -> None:
        """The jobs there stay as they are until the place can be used: it is tried again."""
        before, _ = self._unmanned.get(place, ("", 0.0))
        if why != before:
            log.error("%s; the jobs there stay as they are", why)
        self._unmanned = {**self._unmanned, place: (why, time.monotonic())}

    def _dismiss(self, place: Place, crew: Crew) -> None:
        crew.stop()
        for loop in crew.loops:
            loop.join(crew.cluster.settings.command_seconds)
        crew.let_go()
        crew.cluster.close()
        self.loops = [loop for loop in self.loops if loop not in crew.loops]
        del self.crews[place]

    def _add(self, name: str, work: Callable[[set[str]], float | None], longest: float = FALLBACK) -> Loop:
        loop = Loop(name, work, self._lost, longest)
        self.loops = [*self.loops, loop]
        return loop

    def _places_wanted(self, job_id: str) -> None:
        """A job is ready to be submitted, or has left a place free: tell those who wait for it, the dispatchers, and
        the loop that tells subscribers."""
        self.bell.ring({job_id})
        for loop in (*(crew.dispatching for crew in list(self.crews.values())), self._telling):
            loop.wake()

    def _description(self, process: str) -> ProcessDescription | None:
        entry = self.catalogue.get(process)
        return None if entry is None else entry.description

    def _lost(self, lost: LeaseLost) -> None:
        log.error("%s", lost)
        self.over.set()

    def _purge(self, purger: Purger) -> None:
        purger.round()

    def _reload(self) -> None:
        if self.catalogue.reload():
            log.info("the catalogue has changed: %d processes", len(self.catalogue.entries()))


def _rounds(watcher: Watcher) -> ClusterRounds:
    seen = watcher.queries
    return ClusterRounds(seen.answered_at, seen.failed_at, seen.error, seen.asked, seen.failed)


@dataclass
class Worker:
    """Waits for the lease, works while it has it, and starts over when it is lost.

    ``catalogue`` is the processes that it can run, by default the configuration's.
    """

    settings: Settings
    catalogue: Catalogue | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set. Jobs that run are left alone; the next worker finds them."""
        store = open_store(self.settings)
        store.upgrade()
        bell = Bell(self.settings.storage.run, store.database)
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        lease = Lease(store, holder, self.settings.database.lease_seconds)
        try:
            while not stop.is_set():
                self._one_shift(store, bell, lease, stop)
        finally:
            bell.close()
            store.close()

    def _one_shift(self, store: Store, bell: Bell, lease: Lease, stop: threading.Event) -> None:
        """Acquire the lease, or wait a little; work until it is lost or the worker is stopped."""
        try:
            epoch = lease.acquire()
            if epoch is None:
                stop.wait(lease.seconds / 4)
                return
            log.info("active worker, epoch %d", epoch)
            clusters = build_clusters(self.settings, store.identity(), partial(inhabited, store))
            shift = Shift(self.settings, store, self._catalogue(), clusters, bell, lease.holder, epoch)
            self._work(shift, lease, stop)
        except (StoreError, LeaseLost) as error:
            log.error("%s", error)
            stop.wait(PAUSE_AFTER_FAILURE)

    def _catalogue(self) -> Catalogue:
        catalogue = self.catalogue or Catalogue.of(self.settings.processes, judge(self.settings))
        catalogue.reload()
        return catalogue

    def _work(self, shift: Shift, lease: Lease, stop: threading.Event) -> None:
        shift.begin()
        try:
            while not stop.is_set() and not shift.over.is_set():
                with shift.bell.worker_listener() as listener:
                    self._attend(shift, lease, stop, listener)
        finally:
            shift.end()
            for cluster in shift.clusters.values():
                cluster.close()
        lease.release()

    def _attend(self, shift: Shift, lease: Lease, stop: threading.Event, listener: Listener) -> None:
        """The main thread's part, while the bell can be heard: hear it, keep the lease, leave word."""
        renewed = reported = 0.0
        while not stop.is_set() and not shift.over.is_set() and not listener.deaf:
            rung = listener.wait(min(1.0, lease.seconds / 6))
            if rung is not None:
                shift.wake(rung)
            now = time.monotonic()
            if now - renewed >= lease.seconds / 3:
                lease.renew()
                renewed = now
            if now - reported >= REPORT_EVERY:
                shift.report()
                reported = now


def main(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit code."""
    sys.setswitchinterval(SWITCH)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    Worker(settings).run(stop)
    return 0
