"""What happens to a login node while a job runs behind it: the job runs on, also in our books, and ``check`` says in
one sentence what is wrong.

One job runs through all of it, on a cluster that shares no folder with the server. How commands and connections fare
is in test_ssh.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clusters.far import reach
from tests.clusters.hpc import token
from tests.clusters.matrix import running
from tests.clusters.site import Site, until
from tests.clusters.staged import StagedSlurm
from tests.clusters.test_ssh import with_options
from tests.services import require
from tests.services.slurm import Slurm
from tests.services.sshd import Sshd, running_sshd
from wps_hpc.cli.check import NOTE, OK, PROBLEM, Finding, check_cluster, check_login
from wps_hpc.clusters.cluster import build_cluster
from wps_hpc.clusters.transports import ssh_words
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster

#: Slurm's commands that the server uses.
COMMANDS = ("sbatch", "squeue", "sacct", "scancel", "scontrol")
#: A connection or command that hangs is given up after so many seconds.
SECONDS = 5.0


class OwnCommands(StagedSlurm):
    """Slurm whose commands lie in a folder of these tests' own, and nowhere else on the PATH."""

    def __init__(self, slurm: Slurm) -> None:
        super().__init__(slurm)
        self.commands = Path(tempfile.mkdtemp(prefix="wps-hpc-commands-"))
        for name in COMMANDS:
            (self.commands / name).symlink_to(shutil.which(name) or name)

    def variables(self) -> dict[str, str]:
        """With that folder."""
        return {**super().variables(), "PATH": str(self.commands)}


@dataclass(frozen=True)
class Reached:
    """A login node, the system and the site behind it, a job that runs, and the file that lets it end."""

    node: Sshd
    system: OwnCommands
    site: Site
    job: Job
    go: Path


@pytest.fixture(scope="module", params=["ssh_paramiko", pytest.param("ssh_openssh", marks=pytest.mark.slow)])
def reached(request: pytest.FixtureRequest, slurm_cluster: Slurm, sshd: Sshd) -> Iterator[Reached]:
    """All of it over each of the SSH transports; the cluster's folder is a small disk."""
    require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
    with ExitStack() as stack:
        node = stack.enter_context(running_sshd(sshd.program))
        system = OwnCommands(slurm_cluster)
        stack.callback(shutil.rmtree, system.commands)
        reach(system, request.param, node, connect_seconds=SECONDS)
        site = system.make_site(command_seconds=SECONDS)
        stack.callback(system.leave, site)
        site.root_there().mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(site.root_there())], check=True)
        site.start_worker()
        job = site.mark("one", until=str(site.folder / "go"))
        yield Reached(node, system, site, running(site, job), site.folder / "go")


def checked(site: Site) -> list[Finding]:
    """What ``check`` says of the cluster, by a connection of its own."""
    site.settings.storage.root.mkdir(mode=0o700, exist_ok=True)
    cluster = build_cluster(site.settings, "hpc", None)
    try:
        login = list(check_login(cluster))
        failed = any(finding.level == PROBLEM for finding in login)
        return login if failed else [*login, *check_cluster(site.settings, cluster, 60)]
    finally:
        cluster.close()


def named(site: Site, words: str) -> None:
    """See that ``check`` finds one thing, and says what in a line."""
    (text,) = (finding.text for finding in checked(site) if finding.level == PROBLEM)
    assert words in text and "\n" not in text.strip(), text


def nobody_answers(reached: Reached) -> bool:
    """Whether that is told of the job; the worker has to be there to say so."""
    assert reached.site.workers[-1].poll() is None, "the worker has ended"
    return reached.site.job(reached.job.id).stale_since is not None


def hung(reached: Reached) -> str:
    """What the threads of a worker do that says nothing; it ends."""
    worker = reached.site.workers[-1]
    worker.send_signal(signal.SIGABRT)
    worker.wait(60)
    return (reached.site.folder / "worker.log").read_text()[-20_000:]


def answers(reached: Reached) -> None:
    """Wait until the batch system is asked again, and see that the job runs."""
    until(lambda: reached.site.job(reached.job.id).stale_since is None, "it answers again")
    assert reached.site.job(reached.job.id).state is JobState.RUNNING


# --- what happens ----------------------------------------------------------------------------------------------------


@contextmanager
def gone(reached: Reached) -> Iterator[None]:
    """sshd is killed with every connection, and started again."""
    reached.node.stop()
    try:
        yield
    finally:
        reached.node.start()


@contextmanager
def hanging(reached: Reached) -> Iterator[None]:
    """sshd and every connection are stopped: who connects is not answered."""
    with reached.node.frozen(also_new=True):
        yield


@contextmanager
def another_key(reached: Reached) -> Iterator[None]:
    """What answers has another host key."""
    node = reached.node
    kept = {path: path.read_bytes() for path in node.folder.glob("host_key*")}
    node.stop()
    node.renew_host_key()
    node.start()
    try:
        yield
    finally:
        node.stop()
        for path, content in kept.items():
            path.write_bytes(content)
        node.start()


@contextmanager
def shut_out(reached: Reached) -> Iterator[None]:
    """The server's key is not accepted any more."""
    authorized = reached.node.folder / "keys" / reached.node.account
    away = authorized.rename(authorized.with_suffix(".away"))
    reached.node.cut()
    try:
        yield
    finally:
        away.rename(authorized)


@contextmanager
def no_session(reached: Reached) -> Iterator[None]:
    """Who is let in may open no session."""
    with with_options(reached.node, "MaxSessions 0"):
        yield


@contextmanager
def no_commands(reached: Reached) -> Iterator[None]:
    """The batch system's commands are not on the PATH."""
    commands = reached.system.commands
    away = commands.rename(commands.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(commands)


#: What happens, and words of what ``check`` says of it.
FAULTS: Mapping[str, tuple[Callable[[Reached], AbstractContextManager[None]], str]] = {
    "sshd was killed": (gone, ssh_words.REFUSED),
    "sshd hangs": (hanging, ssh_words.NO_ANSWER),
    "another host key": (another_key, ssh_words.CHANGED_KEY),
    "the key is refused": (shut_out, ssh_words.NOT_LET_IN),
    "no session": (no_session, "MaxSessions"),
    "no commands": (no_commands, "no program sbatch on its PATH"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_job_runs_on_while_nobody_can_be_asked(reached: Reached, fault: str) -> None:
    happens, words = FAULTS[fault]
    with happens(reached):
        try:
            until(lambda: nobody_answers(reached), "it is told that nobody answers")
        except AssertionError as error:
            raise AssertionError(hung(reached)) from error
        named(reached.site, words)
        assert reached.site.job(reached.job.id).state is JobState.RUNNING
    answers(reached)


def test_a_job_runs_on_while_the_clusters_disk_is_full(reached: Reached) -> None:
    """Another one waits until there is room."""
    filler = reached.site.root_there() / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
    late = reached.site.mark("late")
    until(lambda: reached.site.job(late.id).message.startswith("Its files cannot be sent"), "it is told")
    named(reached.site, "No space left on device")
    assert reached.site.job(reached.job.id).state is JobState.RUNNING
    filler.unlink()
    assert reached.site.ended(late.id).state is JobState.SUCCEEDED
    answers(reached)


def test_jobs_go_by_a_login_node_that_prints_a_banner(reached: Reached) -> None:
    """Before every command, on both streams; ``check`` says that it takes time."""
    says = 'echo Welcome to HPC; echo 3 jobs are waiting; echo careful >&2; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
    with with_options(reached.node, f"ForceCommand {says}"):
        assert reached.site.ended(reached.site.mark("announced").id).state is JobState.SUCCEEDED
        levels = {finding.level: finding.text for finding in checked(reached.site)}
        assert levels.keys() == {OK, NOTE} and "Welcome to HPC" in levels[NOTE], levels
    answers(reached)


def test_a_submission_that_says_3_megabytes_on_each_stream(reached: Reached, tmp_path: Path) -> None:
    """Neither stream holds the other up, and the id is read from the last line."""
    much = "head -c 3000000 /dev/zero | tr '\\0' x"
    body = f'PATH=/usr/bin:/bin\n{much}\n{much} >&2\necho\necho >&2\nexec {{submit}} "$@"'
    site = reached.system.make_site(programs=reached.system.wrap_submit(tmp_path, body), command_seconds=30.0)
    try:
        site.start_worker()
        job = site.mark("one")
        ended = site.ended(job.id)
        assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1), ended
        assert "has no known outcome" not in (site.folder / "worker.log").read_text()
        assert len(reached.system.accounted(token(site, job))) <= 1
    finally:
        reached.system.leave(site)


def test_the_job_that_ran_through_all_of_it_ends_with_its_result(reached: Reached) -> None:
    reached.go.touch()
    ended = reached.site.ended(reached.job.id)
    assert (ended.state, ended.submission_number) == (JobState.SUCCEEDED, 1)
    until(lambda: reached.system.accounted(token(reached.site, ended)), "accounting knows of it")
    assert len(reached.system.accounted(token(reached.site, ended))) == 1
