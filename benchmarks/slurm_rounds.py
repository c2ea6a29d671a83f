"""What one round of the watcher costs, with jobs that a real Slurm holds and a real database has."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from tests.clusters.site import Site
from tests.clusters.systems import SlurmSystem
from tests.services.slurm import Slurm
from wps_hpc.clusters.cluster import Cluster, build_clusters
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.clusters.transports.local import LocalTransport
from wps_hpc.config import Limits
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.lastwords import LastWords
from wps_hpc.jobs.lease import Lease
from wps_hpc.jobs.pack import new_token
from wps_hpc.jobs.watch import Watcher

#: Calls of sbatch at the same time.
_SUBMITTERS = 4
_ROOMY = Limits(parallel=1_000_000, queued=1_000_000)
_LEASE_SECONDS = 7200.0


@dataclass(frozen=True)
class Cost:
    """What something took: seconds of the clock, of this process's CPU, and of its children's."""

    wall: float
    own_cpu: float
    child_cpu: float

    @property
    def cpu(self) -> float:
        """Seconds of CPU in all."""
        return self.own_cpu + self.child_cpu


@dataclass(frozen=True)
class RoundCost:
    """One round with so many jobs: how many commands it runs and what it costs, beside a squeue alone; medians.

    ``first``: the first round of a worker, which reads what every job has left. ``load``: the machine's, before.
    """

    jobs: int
    commands: float
    round: Cost
    squeue: Cost
    first: Cost
    load: float

    @property
    def ratio(self) -> float:
        """How many times the CPU of a squeue alone."""
        return self.round.cpu / self.squeue.cpu


class Counting(LocalTransport):
    """Counts the commands that it runs."""

    def __init__(self) -> None:
        self.commands = 0

    def run(self, command: Command, timeout: float) -> Completed:
        """See ``Transport.run``."""
        self.commands += 1
        return super().run(command, timeout)


@dataclass
class Crowd:
    """Held jobs at Slurm, and their rows in a database that only this process works on."""

    slurm: Slurm
    site: Site
    cluster: Cluster
    transport: Counting
    epoch: int
    size: int = 0

    def grow(self, size: int) -> None:
        """So many jobs in all."""
        sample = replace(self.site.mark(f"never-run-{size}"), staged=True)
        tokens = [new_token() for _ in range(size - self.size)]
        with ThreadPoolExecutor(_SUBMITTERS) as pool:
            for token, number in zip(tokens, pool.map(self._held, tokens), strict=True):
                self._record(replace(sample, id=str(uuid.uuid4())), token, number)
        self.size = size

    def cost(self, rounds: int) -> RoundCost:
        """What a round costs now. Raises RuntimeError when the watcher does not see all of them held."""
        load = os.getloadavg()[0]
        root = self.site.settings.storage.root
        last_words = LastWords(root, self.site.settings.logging)
        watcher = Watcher(self.cluster, root, self.site.store, self.epoch, lambda _: None, last_words)
        first = measured(watcher.round)
        counted = self.site.store.count_by_state()
        if counted.get(JobState.HELD) != self.size:
            raise RuntimeError(f"{self.size} jobs should be held, and are {dict(counted)}")
        self.transport.commands = 0
        each = [self._next(watcher) for _ in range(rounds)]
        commands = self.transport.commands / rounds
        alone = [measured(self._squeue) for _ in range(rounds)]
        return RoundCost(self.size, commands, median_cost(each), median_cost(alone), first, load)

    def _held(self, token: str) -> str:
        options = ("--parsable", "--hold", f"--job-name={token}", "--output=/dev/null", "--chdir=/", "--partition=long")
        return self.slurm.run("sbatch", *options, stdin="#!/bin/sh\n").stdout.strip()

    def _record(self, job: Job, token: str, number: str) -> None:
        store = self.site.store
        store.add_job(job, limits=_ROOMY)
        submission = store.add_submission([job.id], token, job.cluster, self.epoch)
        store.submitted(job.id, submission.id, number, self.epoch)

    def _next(self, watcher: Watcher) -> Cost:
        time.sleep(self.cluster.settings.query_seconds)
        return measured(watcher.round)

    def _squeue(self) -> None:
        LocalTransport().run(self.cluster.scheduler.query_command(), self.cluster.settings.command_seconds)


@contextmanager
def crowd(slurm: Slurm) -> Iterator[Crowd]:
    """Nobody is in it yet. The site has no worker: its jobs are followed by this process."""
    site = SlurmSystem(slurm).make_site(command_seconds=60.0)
    try:
        transport = Counting()
        cluster = replace(build_clusters(site.settings)["hpc"], transport=transport)
        epoch = Lease(site.store, "benchmark", _LEASE_SECONDS).acquire()
        if epoch is None:
            raise RuntimeError("somebody else has the lease of a new database")
        yield Crowd(slurm, site, cluster, transport, epoch)
    finally:
        slurm.run("scancel", "--user=root", "--state=PENDING", check=False)
        site.close()
        shutil.rmtree(site.folder)


def measured(action: Callable[[], object]) -> Cost:
    """What an action costs; its child processes must have ended when it returns."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    action()
    wall = time.perf_counter() - began
    own_cpu = _cpu(resource.getrusage(resource.RUSAGE_SELF)) - _cpu(own)
    return Cost(wall, own_cpu, _cpu(resource.getrusage(resource.RUSAGE_CHILDREN)) - _cpu(children))


def median_cost(costs: Sequence[Cost]) -> Cost:
    """The median of each part."""
    return Cost(*(statistics.median(getattr(cost, part.name) for cost in costs) for part in fields(Cost)))


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime
