"""docker-slurm-cluster/ for real: built, started and tried by its own script, and then broken on purpose.

Base image, image and start took five minutes on two busy cores; what is built is kept
(tests/services/podman.py).
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import paramiko
import pytest

from tests.clusters.site import until
from tests.schemas import ROOT
from tests.services.podman import CLUSTER, DockerCluster, running_docker_cluster, told
from tests.services.postgres import free_port
from wps_hpc.client import ExecuteStatus, GivenInput, WpsClient, execute_document

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

#: Slurm notices a node that is gone after its SlurmdTimeout, on a machine that does much else.
PATIENCE = 180.0
#: What an image needs of its own that takes everything else from the node.
BUILD_IMAGE = """
set -eu
cd "$(mktemp -d)"
mkdir -p root/dev root/proc root/sys root/tmp root/etc root/usr root/home
for name in bin sbin lib lib64; do ln -s usr/$name root/$name; done
cp /etc/passwd /etc/group root/etc/
touch root/etc/hosts root/etc/resolv.conf root/etc/localtime
apptainer --silent build image.sif root
apptainer --silent exec --containall --bind /usr image.sif /usr/bin/python3 -c '
import os
print("inside", os.getuid(), os.path.basename(os.environ["APPTAINER_CONTAINER"]), os.path.exists("/opt"))'
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[DockerCluster]:
    """The cluster, not started yet: the first test does that, as a newcomer would."""
    with running_docker_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def tried(cluster: DockerCluster) -> subprocess.CompletedProcess[str]:
    """What `try.sh` did, which has built and started everything."""
    return cluster.run("./try.sh", check=False, timeout=1200)


@pytest.fixture(scope="module")
def started(cluster: DockerCluster, tried: subprocess.CompletedProcess[str]) -> DockerCluster:
    """The cluster, up."""
    assert tried.returncode == 0, tried.stdout[-5000:] + tried.stderr[-5000:]
    return cluster


@pytest.fixture
def client(started: DockerCluster) -> Iterator[WpsClient]:
    """A WPS client of the published address."""
    with WpsClient(f"{started.url}/wps", httpx.Client(timeout=30)) as made:
        yield made


def begin(client: WpsClient, seconds: int) -> str:
    """Ask for a job on a node; returns the address of its status."""
    given = [GivenInput("seconds", text=str(seconds))]
    status = client.execute(execute_document(client.describe("node"), given, asynchronous=True))
    assert status.location is not None, status
    return status.location


def end(client: WpsClient, location: str) -> ExecuteStatus:
    """The status of a job that has ended."""
    until(lambda: client.status(location).finished, "it has ended", PATIENCE)
    return client.status(location)


def running_on(cluster: DockerCluster) -> str:
    """The node of the one job that runs, or nothing."""
    return cluster.inside("login", "squeue", "--noheader", "--states=RUNNING", "--format=%N").strip()


def test_try_shows_the_job_in_the_queue_and_its_result(tried: subprocess.CompletedProcess[str]) -> None:
    assert tried.returncode == 0, tried.stdout[-5000:] + tried.stderr[-5000:]
    queued = re.search(r"job (\d+) of wps: RUNNING on (c[12]),", tried.stdout)
    assert queued is not None, tried.stdout
    job, node = queued.groups()
    assert re.search(rf"node {node}, account wps, Slurm job {job}, apptainer version \d", tried.stdout), tried.stdout


def test_only_loopback_reaches_it(started: DockerCluster) -> None:
    containers = json.loads(started.run("podman", "ps", "--format", "json").stdout)
    published = {
        (port["host_ip"], port["host_port"], port["container_port"])
        for container in containers
        for port in container["Ports"] or ()
    }
    assert published == {("127.0.0.1", started.ports["wps"], 8095), ("127.0.0.1", started.ports["ssh"], 22)}


def test_no_key_and_no_database_is_in_the_image(started: DockerCluster) -> None:
    search = (
        "grep -rlE 'PRIVATE KEY' /etc /root /home /opt/wps-hpc --include='*key*' --exclude='*.py' --exclude='*.pyc'; "
        "find /etc/munge /etc/ssh/keys /var/lib/mysql /var/lib/postgresql /shared -mindepth 1 2>/dev/null; "
        "echo that is all"
    )
    image = ("podman", "run", "--rm", "--network=none", "--entrypoint=bash", "wps-hpc-cluster", "-c", search)
    assert started.run(*image).stdout == "that is all\n"


def test_an_ordinary_account_runs_apptainer_images_on_the_nodes(started: DockerCluster) -> None:
    for node in ("c1", "c2"):
        said = started.inside("login", "srun", f"--nodelist={node}", "sh", "-c", BUILD_IMAGE)
        assert said.splitlines()[-1] == "inside 1000 image.sif False"


def test_the_login_node_takes_the_key_that_it_has_made_and_submits(started: DockerCluster) -> None:
    text = started.inside("login", "cat", "/etc/ssh/keys/wps", account="root")
    with paramiko.SSHClient() as ssh:
        ssh.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        key = paramiko.Ed25519Key.from_private_key(io.StringIO(text))
        options = {"look_for_keys": False, "allow_agent": False, "timeout": 30}
        ssh.connect("127.0.0.1", started.ports["ssh"], "wps", pkey=key, **options)
        _, out, _ = ssh.exec_command("sbatch --wait --output=said --wrap 'id -un; hostname' && cat said", timeout=60)
        said = out.read().decode().split()
        assert out.channel.recv_exit_status() == 0
        assert said[-2] == "wps" and said[-1] in ("c1", "c2")
        with ssh.open_sftp() as sftp:
            assert "said" in sftp.listdir()
        with pytest.raises(paramiko.AuthenticationException):
            ssh.connect("127.0.0.1", started.ports["ssh"], "root", pkey=key, **options)


@pytest.fixture(scope="module")
def home(started: DockerCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of somebody on this machine who has done what README.md tells for a server outside."""
    home = tmp_path_factory.mktemp("home")
    (commands,) = (text for text in told("") if "wps-hpc-cluster.hosts" in text)
    up, _, rest = commands.partition("\n")
    assert up == "COMPOSE_PROFILES=cluster docker compose up --detach"  # done, with more
    here = rest.replace("docker compose", "podman-compose").replace("2222", str(started.ports["ssh"]))
    nodes = started.run("bash", "-euc", f"export HOME={home}\n{here}").stdout
    assert "c[1-2]" in nodes
    return home


def run_from_outside(cluster: DockerCluster, home: Path, *tables: str) -> str:
    """What ``wps-hpc run node`` says with the configuration of README.md, which is ``tables``."""
    own = f'folders = ["{CLUSTER / "processes"}"]\n\n[server]\nport = {free_port()}\n\n[clusters.slurm]\n'
    text = "\n".join(tables).replace("[clusters.slurm]\n", own).replace("2222", str(cluster.ports["ssh"]))
    (home / "wps-hpc.toml").write_text(text)
    command = (sys.executable, "-m", "wps_hpc.cli", "--config", str(home / "wps-hpc.toml"), "run", "node", "seconds=1")
    done = subprocess.run(
        command, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_server_outside_sends_its_jobs_over_ssh(started: DockerCluster, home: Path) -> None:
    said = run_from_outside(started, home, told("toml")[0])
    assert re.search(r"node c[12], account wps, Slurm job \d+, apptainer version \d", said), said
    assert (home / ".ssh" / "wps-hpc-cluster").stat().st_mode & 0o077 == 0


def test_its_jobs_run_in_an_image_that_a_node_has_made(started: DockerCluster, home: Path) -> None:
    (command,) = (text for text in told("") if "image build" in text)
    started.run(*command.replace("docker compose exec", "podman-compose exec -T").split(), timeout=300)
    said = run_from_outside(started, home, *told("toml"))
    assert re.search(r"node c[12], account wps, image /shared/home/wps/examples.sif", said), said


def test_a_real_example_runs_on_real_data(client: WpsClient) -> None:
    """The libraries of the examples are there for the jobs, too."""
    borders = (ROOT / "examples" / "data" / "alpine_borders.geojson").read_bytes()
    given = [GivenInput("features", content=borders), GivenInput("distance", text="1000")]
    status = client.execute(execute_document(client.describe("buffer"), given, asynchronous=True))
    assert status.location is not None
    ended = end(client, status.location)
    assert ended.failure is None, ended
    assert httpx.get(ended.outputs[0].href or "").json()["features"]


def test_a_client_is_told_of_a_node_that_was_killed_and_the_node_comes_back(
    client: WpsClient, started: DockerCluster
) -> None:
    location = begin(client, 240)
    until(lambda: running_on(started), "it runs", PATIENCE)
    until(lambda: client.status(location).percent > 0, "it has made progress", PATIENCE)
    node = running_on(started)
    started.run("podman", "kill", node)
    try:
        ended = end(client, location)
        assert ended.state == "ProcessFailed"
        assert "compute node failed" in str(ended.failure)
        (job,) = re.findall(r"[0-9a-f-]{36}", location)
        assert "NODE_FAIL" in started.inside("wps", "wps-hpc", "jobs", "show", job)
    finally:
        started.run("podman", "start", node)
    until(
        lambda: started.inside("login", "sinfo", "-h", "-n", node, "-o", "%T").split()[0] == "idle",
        "it is back",
        PATIENCE,
    )
    assert node in started.inside("login", "srun", f"--nodelist={node}", "hostname")


@pytest.mark.slow
def test_all_of_it_comes_back_after_it_was_taken_down(client: WpsClient, started: DockerCluster) -> None:
    """Keys, databases and results are in volumes, which `down` leaves alone."""
    location = begin(client, 0)
    before = end(client, location)
    assert before.state == "ProcessSucceeded"
    started.run("podman-compose", "down", "--timeout", "10")
    again = started.run("./try.sh", timeout=600)
    assert "Slurm job" in again.stdout
    assert client.status(location).outputs == before.outputs
