"""A small real job, sent to a cluster's scheduler to see whether jobs run there, and as what.

It takes the way of every other job (packed, submitted, claimed, verified, run, read back), but stands in
no database, so that it can be sent beside a worker at any time.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from joblauncher.build import install_launcher
from joblauncher.formats.folder import JobFolder, job_path
from joblauncher.formats.values import LiteralValue
from wps_hpc.clusters import containers
from wps_hpc.clusters.cluster import Cluster
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, JobOrder, Known, Phase, Refused, Submitted, Unknown
from wps_hpc.config import Settings
from wps_hpc.jobs.beneath import Untrusted
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.pack import Packer, PackFailed
from wps_hpc.jobs.request import ExecuteRequest
from wps_hpc.jobs.requestjson import to_json
from wps_hpc.jobs.trusted import Left, read_attempt, read_end
from wps_hpc.processes.catalogue import Catalogue, Entry

PROCESS = "wps-hpc-probe"
#: Pause between two looks at the probe's attempt, in seconds.
LOOK_EVERY = 0.2
#: So much is read of what the container's runtime said, in bytes.
LOG_BYTES = 16_000
#: How many times the settling time of the scheduler's files are waited for after it calls the probe ended.
PATIENCE = 3.0


class ProbeFailed(Exception):
    """The probe did not come back; the text says how far it came and what was seen."""


@dataclass(frozen=True)
class ProbeReport:
    """What the probe found on its node.

    ``clock_ahead`` is by how many seconds the node's clock is at least ahead of this host's (negative:
    behind; 0 when it may be right). ``seconds`` is how long the probe took from submission to result. ``mounts`` are
    the places where files of the node are seen, ``interfaces`` those of the network; ``runtime`` is what the
    container's runtime calls itself.
    """

    host: str
    user: str
    uid: int
    python: str
    executable: str
    folder: str
    clock_ahead: float
    seconds: float
    mounts: Sequence[str] = ()
    interfaces: Sequence[str] = ()
    runtime: str = ""


def send_probe(settings: Settings, cluster: Cluster, timeout: float) -> ProbeReport:
    """Run a probe on ``cluster`` and wait for it, at most ``timeout`` seconds.

    Raises ProbeFailed and OSError.
    """
    catalogue = Catalogue((), (Path(__file__).parent,))
    catalogue.reload()
    entry = catalogue.get(PROCESS)
    if entry is None:
        raise ProbeFailed(f"the probe's own process cannot be loaded: {dict(catalogue.problems)}")
    packer = Packer(settings, catalogue, install_launcher(settings.storage.root), tells=True)
    job = _new_job(cluster, entry)
    folder = JobFolder(job_path(settings.storage.root, job.id))
    folder.inputs.mkdir(mode=0o700, parents=True)
    folder.path.chmod(0o700)
    try:
        order = packer.pack(job, _REQUEST, cluster)
        return _Probe(cluster, order, folder, entry, time.monotonic() + timeout).run()
    except PackFailed as error:
        raise ProbeFailed(f"the probe cannot be prepared: {error.failure.text} {error.failure.detail}") from error
    finally:
        shutil.rmtree(folder.path, ignore_errors=True)


#: The shell's exit codes for a command that cannot be run, or is not there.
_NO_SUCH_PROGRAM = (126, 127)
_REQUEST = ExecuteRequest(PROCESS, "probe", resources={"walltime_s": 300})


def _new_job(cluster: Cluster, entry: Entry) -> Job:
    return Job(
        id=str(uuid.uuid4()),
        process=PROCESS,
        process_version=entry.description.version,
        protocol="probe",
        mode="async",
        state=JobState.ACCEPTED,
        message="",
        percent=0,
        created=time.time(),
        request=to_json(_REQUEST),
        cluster=cluster.name,
        staged=True,
    )


@dataclass(frozen=True)
class _Probe:
    """One probe under way; ``deadline`` is on the monotonic clock."""

    cluster: Cluster
    order: JobOrder
    folder: JobFolder
    entry: Entry
    deadline: float

    def run(self) -> ProbeReport:
        """Submit, wait and read."""
        before = time.time()
        known = Known(self.order.token, self._submitted(), before)
        try:
            left = self._finished(known)
        except BaseException:
            self.cluster.control(Control.CANCEL, known)
            raise
        self.cluster.forget([known])
        found = _report(left, before, time.time())
        return replace(found, runtime=found.runtime or self._runtime())

    def _runtime(self) -> str:
        """What the runtime of the launcher's container calls itself."""
        log = self.folder.attempt(self.order.submission).container_log
        try:
            return read_end(self.folder, log, LOG_BYTES).decode(errors="replace").partition("\n")[0]
        except Untrusted:
            return ""

    def _submitted(self) -> str:
        outcome = self.cluster.submit(self.order)
        if isinstance(outcome, Submitted):
            return outcome.scheduler_id
        if isinstance(outcome, Refused | Unknown):
            raise ProbeFailed(f"the scheduler did not take the probe: {outcome.why}")
        raise AssertionError(outcome)

    def _finished(self, known: Known) -> Left:
        ended: float | None = None
        settle = PATIENCE * self.cluster.scheduler.settle_seconds
        while True:
            left = read_attempt(self.folder, self.order.submission, self.entry.description)
            if left.state in ("succeeded", "failed"):
                return left
            word, over = self._word(known)
            ended = (ended or time.monotonic()) if over else None
            if ended is not None and time.monotonic() - ended > settle:
                if left.container is not None and not left.claimed:
                    raise ProbeFailed(f"{containers.explained(left.container)} It said: {left.container.strip()}")
                raise ProbeFailed(
                    f"the scheduler calls the probe {word}, but in its folder: {left.described()}{self._hint(left)}"
                )
            if time.monotonic() > self.deadline:
                raise ProbeFailed(f"the probe did not end in time; the scheduler calls it {word}; {left.described()}")
            time.sleep(LOOK_EVERY if ended else max(LOOK_EVERY, self.cluster.settings.query_seconds / 4))

    def _hint(self, left: Left) -> str:
        if left.exit is None or left.exit.exit_code not in _NO_SUCH_PROGRAM:
            return ""
        name = self.cluster.name
        return f"; the node cannot run {self.cluster.python}: let clusters.{name}.python name a Python that is there"

    def _word(self, known: Known) -> tuple[str, bool]:
        """What the scheduler calls the probe, and whether it has ended."""
        answer = self.cluster.query()
        if isinstance(answer, CouldNotAsk):
            return f"nothing at all ({answer.why})", False
        word = answer.get(known.scheduler_id or "")
        if word is None:
            return "unknown", True
        return word.word + (f" ({word.reason})" if word.reason else ""), word.phase is Phase.ENDED


def _report(left: Left, before: float, after: float) -> ProbeReport:
    if left.state != "succeeded" or left.result is None:
        failure = "" if left.failure is None else f": {left.failure.text} {left.failure.detail}".rstrip()
        raise ProbeFailed(f"the probe failed on its node{failure}")
    values = [value for outputs in left.result.outputs.values() for value in outputs]
    if len(values) != 1 or not isinstance(values[0], LiteralValue):
        raise ProbeFailed("the probe's result is not what it should be")
    try:
        told = json.loads(values[0].text)
        ahead = _ahead(float(told.pop("time")), before, after)
        return ProbeReport(**told, clock_ahead=ahead, seconds=after - before)
    except (ValueError, TypeError, KeyError) as error:
        raise ProbeFailed(f"the probe's result is not what it should be: {error}") from error


def _ahead(there: float, before: float, after: float) -> float:
    """How far a clock is off that showed ``there`` at some moment between ``before`` and ``after``."""
    return there - min(max(there, before), after)
