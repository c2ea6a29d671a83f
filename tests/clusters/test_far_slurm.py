"""Real jobs on a real Slurm behind a real login node, by folders that travel: crashes, cuts, and two real accounts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from joblauncher.failpoints import Failpoint
from joblauncher.formats.values import FileValue
from tests.clusters.far_slurm import FarSlurm, execute, there
from tests.clusters.hpc import scheduler_id, token
from tests.clusters.login import Proxy, proxied
from tests.clusters.site import Site, until
from tests.services import require
from tests.services.slurm import ACCOUNT, Slurm
from tests.services.sshd import Sshd
from wps_hpc.cli.check import OK, check_cluster, check_clusters
from wps_hpc.clusters.cluster import build_cluster
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.results import Results

pytestmark = pytest.mark.cluster
#: Crashes of the worker, of which each is at another stage of a job that travels.
POINTS = (
    Failpoint.SEND_HALF,
    Failpoint.SENT,
    Failpoint.SUBMIT_AFTER_COMMAND,
    Failpoint.FETCH_PIECE,
    Failpoint.FETCH_ARRIVED,
)


@pytest.fixture
def far() -> Iterator[Path]:
    """A folder for job folders, which the server does not know as its own."""
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-far-"))
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


def account_of(site: Site, job: Job) -> list[str]:
    """Who ran a job, and where, as its result says."""
    job = site.job(job.id)
    results = Results(site.settings)
    (value,) = results.outputs(job)["account"]
    assert isinstance(value, FileValue)
    with results.open(job, value) as stream:
        return stream.readline().decode().split()


def succeeded(site: Site, job: Job) -> None:
    """Wait for a success."""
    ended = site.ended(job.id, 120)
    assert ended.state is JobState.SUCCEEDED, ended


# --- crashes and cuts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["ssh_paramiko", pytest.param("ssh_openssh", marks=pytest.mark.slow)])
def test_jobs_survive_a_crash_of_the_worker_at_every_stage(
    slurm_cluster: Slurm, sshd: Sshd, far: Path, transport: str
) -> None:
    """Each worker takes up what the one before has left. Each job runs once, and ends with its result."""
    system = FarSlurm(slurm_cluster, sshd, str(far), transport=transport)
    site = system.make_site()
    marked: list[Job] = []
    told: list[Job] = []
    try:
        for point in POINTS:
            marked.append(site.mark(point.value))
            told.append(execute(site, None, "who", kilobytes=100))
            worker = site.start_worker(point)
            until(lambda worker=worker: worker.poll() is not None, f"the worker dies at {point}", 120)
            assert site.marker(point).exists()
        site.start_worker()
        for job in (*marked, *told):
            succeeded(site, job)
        assert {account_of(site, job)[0] for job in told} == {sshd.account}
        names = [token(site, job) for job in marked]
        until(lambda: all(system.accounted(name) for name in names), "accounting has them all")
        assert [len(system.accounted(name)) for name in names] == [1] * len(POINTS)
        assert site.runs() == {point.value for point in POINTS}
        until(lambda: not list(far.glob("jobs/*/*")), "the job folders on the cluster are gone")
        assert len(list(far.glob("launcher/*/*"))) == 1
    finally:
        system.leave(site)


def test_a_login_node_that_goes_away_while_jobs_run_and_end(slurm_cluster: Slurm, sshd: Sshd, far: Path) -> None:
    """Nothing is concluded from it: what ended meanwhile is told, with its result, when it is back."""
    system = FarSlurm(slurm_cluster, sshd, str(far))
    site = system.make_site()
    go = site.folder / "go"
    try:
        site.start_worker()
        ends, runs = (execute(site, None, "who", until=str(path)) for path in (go, site.folder / "go too"))
        for job in (ends, runs):
            site.in_state(job.id, JobState.RUNNING)
        until(lambda: site.job(runs.id).percent == 50, "its progress is fetched")
        sshd.cut()
        until(lambda: "the dots begin" in log(site, runs), "its log is fetched")
        sshd.stop()
        try:
            until(lambda: site.job(ends.id).stale_since, "it is told that nobody answers")
            go.touch()
            ended = there(site, ends, far) / "attempts" / "1" / "result.json"
            until(ended.exists, "it ends")
            assert not site.job(ends.id).final
        finally:
            sshd.start()
        succeeded(site, ends)
        assert account_of(site, ends)[0] == sshd.account
        assert site.job(runs.id).state is JobState.RUNNING
        (site.folder / "go too").touch()
        succeeded(site, runs)
    finally:
        system.leave(site)


def log(site: Site, job: Job) -> str:
    """What is here of a job's standard output."""
    return Results(site.settings).log(site.job(job.id), "stdout", 10_000).decode()


def cut_in_the_middle(site: Site, proxy: Proxy, job: Job, size: int) -> None:
    """Lose the connection once half of a result has come."""
    part = site.job_folder(job).staging
    until(lambda: part.is_dir() and any(path.stat().st_size for path in part.iterdir()), "the result begins to come")
    proxy.lose_after(size // 2)


def test_a_connection_that_is_cut_in_the_middle_of_a_result(
    slurm_cluster: Slurm, sshd: Sshd, far: Path, tmp_path: Path
) -> None:
    """What has come is not fetched again, and the result is whole."""
    kilobytes = 40_000
    with proxied(sshd) as proxy:
        known = [str(proxy.known_hosts(sshd, tmp_path))]
        system = FarSlurm(slurm_cluster, sshd, str(far), port=proxy.port, known_hosts=known)
        site = system.make_site()
        try:
            site.start_worker()
            job = execute(site, None, "who", kilobytes=kilobytes)
            site.in_state(job.id, JobState.RUNNING)
            cut_in_the_middle(site, proxy, job, 20_000_000)
            succeeded(site, job)
            assert account_of(site, job)[0] == sshd.account
            assert (
                "cannot be fetched" in (site.folder / "worker.log").read_text()
                or "do not come" in (site.folder / "worker.log").read_text()
            )
        finally:
            system.leave(site)


def test_a_disk_of_the_cluster_that_is_full(slurm_cluster: Slurm, sshd: Sshd, far: Path) -> None:
    """A job waits as long as its folder cannot be sent, and goes on when there is room."""
    require("a small tmpfs", os.geteuid() == 0, "run the tests as root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(far)], check=True)
    system = FarSlurm(slurm_cluster, sshd, str(far))
    site = system.make_site()
    try:
        filler = far / "filler"
        filler.write_bytes(bytes((2 << 20) - 100_000))
        site.start_worker()
        job = execute(site, None, "who")
        until(lambda: site.job(job.id).message.startswith("Its files cannot be sent"), "it is told")
        assert "No space left on device" in (site.folder / "worker.log").read_text()
        assert site.job(job.id).state is JobState.ACCEPTED
        filler.unlink()
        succeeded(site, job)
    finally:
        system.leave(site)


# --- accounts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owners(slurm_cluster: Slurm, sshd: Sshd, people: Sequence[str]) -> Iterator[tuple[FarSlurm, Site]]:
    """A site whose owners anna and bert have an account each at the cluster."""
    users = ",".join(people)
    slurm_cluster.run("sacctmgr", "-i", "add", "user", users, f"Account={ACCOUNT}")
    table = dict(zip(("anna", "bert"), people, strict=True))
    system = FarSlurm(slurm_cluster, sshd, "/home/{account}/wps", accounts=table)
    site = system.make_site()
    site.start_worker()
    yield system, site
    system.leave(site)


def as_account(account: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody else."""
    entry = pwd.getpwnam(account)
    words = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--", *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")


def test_each_owners_jobs_run_under_that_owners_account(
    owners: tuple[FarSlurm, Site], slurm_cluster: Slurm, people: Sequence[str]
) -> None:
    """And neither account can read what is the other's, while the job runs and when its folder is still there."""
    _, site = owners
    go = Path(tempfile.mkdtemp(prefix="wps-hpc-go-"))
    go.chmod(0o755)
    try:
        jobs = [execute(site, owner, "who", kilobytes=10, until=str(go / "now")) for owner in ("anna", "bert")]
        for job, account in zip(jobs, people, strict=True):
            until(lambda job=job: site.job(job.id).percent == 50, "it runs")
            shown = slurm_cluster.run("squeue", "-h", "-j", scheduler_id(site, job), "-o", "%u").stdout.strip()
            assert shown == account == site.job(job.id).account
        for job, account, other in zip(jobs, people, reversed(people), strict=True):
            folder = there(site, job, Path(f"/home/{account}/wps"))
            names = [
                folder,
                folder / "manifest.json",
                folder / "attempts" / "1" / "status.xml",
                folder / "request.json",
            ]
            for name in names:
                assert as_account(account, "ls", "-l", str(name)).returncode == 0, name
                assert "Permission denied" in as_account(other, "cat", str(name)).stderr, name
            assert {path.owner() for path in folder.rglob("*")} == {account}
            # Within it Slurm writes its log as the login node's umask has it.
            assert not folder.stat().st_mode & 0o077
        (go / "now").touch()
        for job, account in zip(jobs, people, strict=True):
            succeeded(site, job)
            name, workdir = account_of(site, job)
            assert name == account and workdir.startswith(f"/home/{account}/wps/jobs/")
            until(lambda job=job, a=account: not there(site, job, Path(f"/home/{a}/wps")).exists(), "it is removed")
    finally:
        shutil.rmtree(go)


def test_there_is_one_connection_for_each_account(
    owners: tuple[FarSlurm, Site], sshd: Sshd, people: Sequence[str]
) -> None:
    _, site = owners
    for job in [execute(site, owner, "who") for owner in ("anna", "bert") * 2]:
        succeeded(site, job)
    served = [psutil.Process(pid).username() for pid in sshd.connections()]
    assert {name: served.count(name) for name in people} == dict.fromkeys(people, 1)


def test_an_account_dismisses_its_job(owners: tuple[FarSlurm, Site]) -> None:
    system, site = owners
    job = execute(site, "anna", "who", until="/nowhere")
    site.in_state(job.id, JobState.RUNNING)
    name = token(site, job)
    site.intake.dismiss(job.id, "anna")
    assert site.ended(job.id).state is JobState.DISMISSED
    until(lambda: not system.still_has(name), "Slurm has let go of it")


def test_a_job_that_closes_its_folder_hides_no_other_of_its_account(
    owners: tuple[FarSlurm, Site], people: Sequence[str]
) -> None:
    _, site = owners
    closed = execute(site, "anna", "who", until="/nowhere")
    until(lambda: site.job(closed.id).percent == 50, "it runs")
    attempts = there(site, closed, Path(f"/home/{people[0]}/wps")) / "attempts"
    attempts.chmod(0)
    try:
        succeeded(site, execute(site, "anna", "who"))
    finally:
        attempts.chmod(0o700)
    site.intake.dismiss(closed.id, "anna")
    assert site.ended(closed.id).state is JobState.DISMISSED


def test_an_account_that_cannot_be_opened_keeps_no_other_waiting(
    owners: tuple[FarSlurm, Site], sshd: Sshd, people: Sequence[str]
) -> None:
    _, site = owners
    authorized = sshd.folder / "keys" / people[0]
    away = authorized.rename(authorized.with_suffix(".away"))
    try:
        sshd.cut()
        shut_out = execute(site, "anna", "who")
        succeeded(site, execute(site, "bert", "who"))
        until(lambda: site.job(shut_out.id).message.startswith("Its files cannot be sent"), "it is told")
    finally:
        away.rename(authorized)
    succeeded(site, shut_out)


def test_check_sends_a_probe_as_each_account(owners: tuple[FarSlurm, Site], people: Sequence[str]) -> None:
    _, site = owners

    def left() -> set[Path]:
        return {path for name in people for path in Path("/home", name).glob("wps/jobs/*/*")}

    before = left()
    findings = [finding for finding in check_clusters(site.settings, 60) if "cluster hpc" in finding.text]
    told = [finding.text for finding in findings if finding.level == OK and "a probe job ran" in finding.text]
    assert [any(f"account {name}: a probe job ran" in text for text in told) for name in people] == [True, True], (
        findings
    )
    assert all(f"as {name} " in text for name, text in zip(people, told, strict=True)), told
    assert left() <= before, "and leaves nothing"


def test_what_is_over_goes_at_accounts_without_jobs(owners: tuple[FarSlurm, Site], people: Sequence[str]) -> None:
    """A purge or a crash has left it, and nobody's job leads there."""
    _, site = owners
    until(lambda: not site.store.places(), "no job is anywhere")
    left = [Path(f"/home/{name}/wps/jobs/12/12345678-1234-1234-1234-123456789012") for name in people]
    for name, folder in zip(people, left, strict=True):
        assert as_account(name, "mkdir", "-p", str(folder)).returncode == 0
        assert as_account(name, "touch", "-d", "3 days ago", str(folder)).returncode == 0
    site.kill_worker()
    site.start_worker()
    until(lambda: not any(folder.exists() for folder in left), "it is removed")


def test_the_servers_own_storage_is_refused_as_the_clusters(slurm_cluster: Slurm, sshd: Sshd, far: Path) -> None:
    """``check`` says so in a sentence, and no job is lost by it."""
    (link := far / "link").symlink_to(far / "target")
    system = FarSlurm(slurm_cluster, sshd, str(link))
    site = system.make_site()
    try:
        site.settings.storage.root.mkdir(exist_ok=True)
        (far / "target").symlink_to(site.settings.storage.root)
        cluster = build_cluster(site.settings, "hpc", None)
        problems = [finding.text for finding in check_cluster(site.settings, cluster, 30) if finding.level != OK]
        cluster.close()
        assert any("is the server's own storage.root" in text for text in problems), problems
    finally:
        system.leave(site)
