"""The rows of the fault matrix, on the Slurm of other Debian releases: ``make test-slurm-versions``.

These are the fault matrix and tests of ``test_slurm``, with another cluster. The server runs on the host with the
release's own commands, the jobs run in the release with its Python. There is no row on memory: control groups are off
there.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from tests.clusters.batch_system import ROWS, Row
from tests.clusters.matrix import FaultMatrix
from tests.clusters.site import until
from tests.clusters.systems import SlurmSystem
from tests.clusters.test_slurm import (
    TestRestarting,
    test_a_controller_that_was_killed_before_it_had_saved_its_jobs,
    test_a_job_that_ran_and_was_forgotten_while_nobody_looked_is_not_run_again,
    test_a_node_that_dies,
    test_accounting_that_is_down,
    test_jobs_that_slurm_forgets_at_once,
    test_resources_and_queues_reach_slurm,
)
from tests.services.slurm import ORDINARY, Slurm
from tests.services.slurm_releases import RELEASES, Release, running_release
from wps_hpc.cli.check import NOTE, OK
from wps_hpc.clusters.schedulers.base import Control, CouldNotAsk, JobWord, Known, Phase
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.schedulers.slurm_words import STATES, waiting
from wps_hpc.clusters.transports.base import Command, Completed
from wps_hpc.config import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.slurm_versions]

#: What pytest collects here beside this module's own tests.
__all__ = [
    "TestRestarting",
    "test_a_controller_that_was_killed_before_it_had_saved_its_jobs",
    "test_a_job_that_ran_and_was_forgotten_while_nobody_looked_is_not_run_again",
    "test_a_node_that_dies",
    "test_accounting_that_is_down",
    "test_jobs_that_slurm_forgets_at_once",
    "test_resources_and_queues_reach_slurm",
]


class ReleaseSystem(SlurmSystem):
    """A release's Slurm; its jobs run with the release's own Python, as a node may have any."""

    rows: ClassVar[Mapping[str, Row]] = {name: row for name, row in ROWS.items() if "memory" not in name}
    #: It may note that this is another Python.
    probed = ([OK], [OK, NOTE])
    killed = "signal"

    def __init__(self, slurm: Slurm) -> None:
        super().__init__(slurm, always='python = "/usr/bin/python3"')


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> Iterator[Release]:
    """A release's Slurm; within it the commands on the PATH are the release's."""
    with running_release(request.param) as running, pytest.MonkeyPatch.context() as patch:
        print(f"\nDebian {running.suite}: Slurm {running.version}")
        patch.setenv("PATH", str(running.programs), prepend=":")
        yield running


@pytest.fixture(scope="module")
def slurm_cluster(release: Release) -> Slurm:
    """In the place of the host's own Slurm."""
    return release.slurm


@pytest.fixture(scope="module")
def system(slurm_cluster: Slurm) -> ReleaseSystem:
    """In the place of the host's own, to the fault matrix."""
    return ReleaseSystem(slurm_cluster)


class TestFaultMatrix(FaultMatrix, without=("test_a_shared_folder_that_is_full",)):
    """All rows but the one that mounts a folder, which the release would not see."""

    of = ReleaseSystem


def test_commands_and_controller_are_those_of_the_release(release: Release) -> None:
    environment = {**os.environ, "SLURM_CONF": str(release.slurm.conf)}
    asked = subprocess.run(["sbatch", "--version"], env=environment, capture_output=True, text=True, check=True)
    assert asked.stdout.split()[1] == release.version
    configuration = release.slurm.run("scontrol", "show", "config").stdout
    assert re.search(r"^SLURM_VERSION += (\S+)$", configuration, re.MULTILINE)[1] == release.version  # type: ignore[index]


DIALECT = SlurmScheduler(Cluster(scheduler="slurm"))
LISTING = ("squeue", "sacct")
#: Reasons that no job that waits has: they say how one ended, or (the last two, of which one is of 24.11) nothing.
OF_AN_END = {"DeadLine", "JobLaunchFailure", "NonZeroExitCode", "OutOfMemory", "TimeLimit"}
OF_AN_END |= {"InvalidReason", "InvaildReason"}


def test_every_state_and_reason_that_the_release_lists_has_its_sentence(slurm_cluster: Slurm) -> None:
    listed = {command: slurm_cluster.run(command, "--helpstate").stdout.upper().split() for command in LISTING}
    assert all(states and STATES.keys() >= set(states) for states in listed.values()), listed
    reasons = set(slurm_cluster.run("sacct", "--helpreason").stdout.split())
    assert len(reasons) > 100
    assert {reason for reason in reasons - OF_AN_END if "scheduler's reason" in (waiting(reason) or "")} == set()


@dataclass(frozen=True)
class Case:
    """A job that is submitted behind the server's back, and what is read of it; ``sacct`` if that says otherwise."""

    script: str
    squeue: JobWord
    sacct: JobWord | None = None
    options: tuple[str, ...] = ()

    def word(self, command: str) -> JobWord | None:
        """What is read of that command's answer; accounting does not show what could not have started yet."""
        if command == "squeue":
            return self.squeue
        return self.sacct or (self.squeue if self.squeue.phase is Phase.ENDED else None)


def failed(cause: str, **code: int) -> JobWord:
    """The word of a job that has failed."""
    return JobWord(Phase.ENDED, "FAILED", None, cause, **code)


CASES = {
    "wcompleted00000": Case("exit 0", JobWord(Phase.ENDED, "COMPLETED", exit_code=0)),
    "wexitcode000000": Case("exit 7", failed("exit code"), failed("exit code", exit_code=7)),
    "wkilled00000000": Case("kill -9 $$", failed("signal", signal=9)),
    "wnooutput000000": Case("exit 0", failed("could not start"), options=("--output=/dev/null/out",)),
    "wcancelled00000": Case("scancel $SLURM_JOB_ID; sleep 60", JobWord(Phase.ENDED, "CANCELLED", cause="cancelled")),
    "wlater000000000": Case("exit 0", JobWord(Phase.QUEUED, "PENDING"), options=("--begin=now+1hour",)),
    "wheld0000000000": Case("exit 0", JobWord(Phase.HELD, "PENDING"), options=("--hold",)),
}


@pytest.fixture(scope="module")
def cases(slurm_cluster: Slurm) -> Iterator[None]:
    """All cases, submitted."""
    for token, case in CASES.items():
        options = ("--output=/dev/null", "--chdir=/", f"--job-name={token}", *case.options)
        slurm_cluster.run("sbatch", *options, stdin=f"#!/bin/sh\n{case.script}\n")
    yield
    for token in CASES:
        slurm_cluster.run("scancel", f"--name={token}")


def run(slurm: Slurm, command: Command | None, account: str | None = None) -> Completed:
    """Run a command of the dialect's."""
    assert command is not None
    done = slurm.run("env", *(f"{name}={value}" for name, value in command.env), *command.argv, account=account)
    return Completed(done.returncode, done.stdout, done.stderr)


def ask(slurm: Slurm, command: str) -> dict[str, JobWord]:
    """What the dialect reads of squeue's or sacct's answer about the cases, by token, without sentences."""
    known = [Known(token, None, time.time()) for token in CASES]
    if command == "squeue":
        answer = DIALECT.read_query(run(slurm, DIALECT.query_command()))
    else:
        answer = DIALECT.read_accounting(run(slurm, DIALECT.accounting_command(known)), known)
    assert not isinstance(answer, CouldNotAsk), answer
    words = {word.token or "": replace(word, reason=None, token=None, estimated_start=None) for word in answer.values()}
    return {token: words[token] for token in CASES if token in words}


@pytest.mark.usefixtures("cases")
@pytest.mark.parametrize("command", LISTING)
def test_what_the_release_prints_is_read(slurm_cluster: Slurm, command: str) -> None:
    expected = {token: word for token, case in CASES.items() if (word := case.word(command))}

    def settled() -> bool:
        words = ask(slurm_cluster, command)
        return {token: word.phase for token, word in words.items()} == {t: word.phase for t, word in expected.items()}

    until(settled, f"{command} says how they end")
    assert ask(slurm_cluster, command) == expected


def test_an_ordinary_account_may_do_all_that_the_server_asks_for(slurm_cluster: Slurm) -> None:
    """Whether it may «scontrol suspend» differs: 26.05 lets it, the others do not."""
    name, script = "wordinary000000", "#!/bin/sh\nsleep 100\n"
    options = ("--parsable", "--hold", f"--job-name={name}", "--output=/dev/null", "--chdir=/")
    submitted = slurm_cluster.run("sbatch", *options, stdin=script, account=ORDINARY)
    known = Known(name, submitted.stdout.strip(), time.time())

    def phase() -> Phase | None:
        answer = DIALECT.read_query(run(slurm_cluster, DIALECT.query_command(), ORDINARY))
        assert not isinstance(answer, CouldNotAsk), answer
        return next((word.phase for word in answer.values() if word.token == name), None)

    assert phase() is Phase.HELD
    for action, wanted in (
        (Control.RELEASE, Phase.RUNNING),
        (Control.SUSPEND, Phase.SUSPENDED),
        (Control.RESUME, Phase.RUNNING),
        (Control.CANCEL, Phase.ENDED),
    ):
        run(slurm_cluster, DIALECT.control_command(action, known), ORDINARY)
        until(lambda wanted=wanted: phase() is wanted, f"it is {wanted}")  # type: ignore[misc]
