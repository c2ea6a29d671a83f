"""Jobs in an image on a cluster that shares no folder with the server: a real Slurm, sshd and Apptainer.

The jobs run under an account of the cluster, which is another one than the server's.
"""

from __future__ import annotations

import itertools
import json
import pwd
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from joblauncher.formats.values import FileValue, LiteralValue
from tests.clusters.far_slurm import FarSlurm, execute
from tests.clusters.site import Site, until
from tests.services.slurm import ACCOUNT, Slurm
from tests.services.sshd import Sshd
from wps_hpc.cli.check import OK, PROBLEM, Finding, check_cluster
from wps_hpc.clusters.cluster import build_cluster
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.request import Reference
from wps_hpc.jobs.results import Results

pytestmark = pytest.mark.cluster

OWNER = "anna"
#: Job folders of these tests, in the account's home folder; each site, being another server, has its own.
ROOT = "/home/{{account}}/contained/{number}"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def account(slurm_cluster: Slurm, people: Sequence[str]) -> str:
    """The account of the jobs, which Slurm knows."""
    slurm_cluster.run("sacctmgr", "-i", "add", "user", people[0], f"Account={ACCOUNT}")
    return people[0]


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """A folder of the cluster that all jobs see; in ``scratch`` everybody may write."""
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-cluster-data-"))
    folder.chmod(0o755)
    (folder / "letters").write_text("of the cluster")
    (folder / "scratch").mkdir()
    (folder / "scratch").chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


Opened = Callable[..., AbstractContextManager[Site]]


@pytest.fixture(scope="module")
def opened(slurm_cluster: Slurm, sshd: Sshd, account: str) -> Opened:
    """What opens a site for the length of a block; the lines that it is given are those of the container's table."""
    numbers = itertools.count()

    @contextmanager
    def site(*lines: str) -> Iterator[Site]:
        system = FarSlurm(slurm_cluster, sshd, ROOT.format(number=next(numbers)), accounts={OWNER: account})
        made = system.make_site(more="\n".join(("[clusters.hpc.container]", *lines)))
        try:
            made.start_worker()
            yield made
        finally:
            system.leave(made)

    return site


@pytest.fixture(scope="module")
def contained(opened: Opened, images: Path, data: Path) -> Iterator[Site]:
    """A site whose jobs run in the image of the examples, and see a folder of the cluster."""
    binds = f'binds = ["{data}", {{ source = "{data}/scratch", writable = true }}]'
    with opened(f'image = "{images}/examples.sif"', binds) as site:
        yield site


def succeeded(site: Site, job: Job) -> Job:
    """The job once it has succeeded."""
    ended = site.ended(job.id, PATIENCE)
    assert ended.state is JobState.SUCCEEDED, ended
    return ended


def text(site: Site, job: Job) -> str:
    """The one output of a job that has succeeded: a literal, or what the file has that was fetched."""
    results = Results(site.settings)
    ended = succeeded(site, job)
    ((value,),) = results.outputs(ended).values()
    if isinstance(value, LiteralValue):
        return value.text
    assert isinstance(value, FileValue)
    with results.open(ended, value) as stream:
        return stream.read().decode()


def checked(site: Site, account: str) -> Sequence[Finding]:
    """What ``check`` says of a probe as that account."""
    cluster = build_cluster(site.settings, "hpc", account)
    try:
        return list(check_cluster(site.settings, cluster, PATIENCE))
    finally:
        cluster.close()


def test_an_input_goes_into_the_image_and_result_and_log_come_back(contained: Site, account: str) -> None:
    given = contained.folder / "of the server, alone.txt"
    given.write_text("four")
    reference = Reference(f"file://{given}".replace(" ", "%20"), "text/plain")
    job = execute(contained, OWNER, "turned", text=reference)
    assert text(contained, job) == "ruof"
    log = Results(contained.settings).log(contained.job(job.id), "stdout", 1_000)
    assert log.decode() == "4 letters have come\n"
    assert contained.job(job.id).account == account
    until(lambda: not contained.folder_there(job).path.exists(), "its folder on the cluster is removed")


def test_a_job_sees_the_folders_of_the_cluster_and_no_other(contained: Site, account: str, data: Path) -> None:
    """What is bound is what was sent, under the path that it has there."""
    secret = contained.folder / "secret"
    secret.write_text("the server's")
    looks = {"outside": str(secret), "home": f"/home/{account}", "port": 1, "shared": str(data / "letters")}
    job = execute(contained, OWNER, "look", **looks)
    told = json.loads(text(contained, job))
    assert told["outside"].startswith("FileNotFoundError")
    assert told["home"] == "['contained']" and told["other jobs"] == str([job.id])
    assert told["where"] == str(contained.folder_there(job).attempt(1).work) and told["work"] == "written"
    assert told["account"] == str(pwd.getpwnam(account).pw_uid)
    assert told["shared"] == "of the cluster" and told["interfaces"] == "['lo']"
    for name in ("manifest", "folder", "launcher"):
        assert "Read-only file system" in told[name], name
    here = str(contained.settings.storage.root)
    assert here not in contained.job_folder(job).script.read_text() and here not in str(told["environment"])


def test_a_job_that_fails_in_the_image_tells_why(contained: Site) -> None:
    raises, eats = (execute(contained, OWNER, "end", how=how) for how in ("raise", "exit"))
    assert "this cannot be done" in contained.ended(raises.id, PATIENCE).message
    failure = contained.ended(eats.id, PATIENCE).failure
    assert failure is not None and (failure.cause, failure.exit_code) == ("exit code", 3)


def test_a_job_in_the_image_that_is_dismissed_cleans_up(contained: Site, data: Path) -> None:
    """In a folder of the cluster that it may write to."""
    here = data / "scratch" / "here"
    job = execute(contained, OWNER, "end", how="clean", started=str(here))
    until(here.exists, "the process runs", PATIENCE)
    contained.intake.dismiss(job.id, OWNER)
    assert contained.ended(job.id, PATIENCE).state is JobState.DISMISSED
    until(here.with_suffix(".cleaned").exists, "it has cleaned up")
    until(lambda: contained.job(job.id).scheduler_gone, "the batch system has let go of it")


def test_check_says_what_the_image_is_like(contained: Site, account: str) -> None:
    (told,) = (finding for finding in checked(contained, account) if "in a container" in finding.text)
    assert told.level == OK and "apptainer version 1" in told.text and "no network" in told.text
    assert re.search(rf"/home/{account}/contained/\d+/jobs/", told.text), told
    assert str(contained.settings.storage.root) not in told.text


def test_an_image_that_is_not_on_the_cluster_is_explained(opened: Opened, account: str) -> None:
    """To the client in a sentence; what the runtime said on the node is the operator's, and ``check`` says both."""
    with opened('image = "/nowhere/gone.sif"') as site:
        ended = site.ended(execute(site, OWNER, "who").id, PATIENCE)
        failure = ended.failure
        assert ended.state is JobState.FAILED and failure is not None and failure.cause == "could not start"
        assert "its image is not there on the node" in ended.message and "/nowhere" not in ended.message
        assert "could not open image /nowhere/gone.sif" in failure.detail, failure
        (problem,) = checked(site, account)
        assert problem.level == PROBLEM and "its image is not there on the node" in problem.text
        assert "could not open image /nowhere/gone.sif" in problem.text


def test_only_the_commands_of_a_process_run_in_the_image(opened: Opened, images: Path, account: str) -> None:
    """The launcher runs outside, by the node's own Python."""
    with opened(f'image = "{images}/examples.sif"', 'inside = "commands"') as site:
        job = execute(site, OWNER, "run_command", script="pwd; ls /home; exit 5")
        said = text(site, job)
        assert said.splitlines() == [f"5: {site.folder_there(job).attempt(1).work}", account], said
