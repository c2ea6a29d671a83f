"""docker-slurm-cluster/: what can be seen of it without starting it, and its `try.sh` with commands that are none."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.schemas import ROOT
from tests.services.podman import told
from tests.services.slurm import SLURM_CONF
from wps_hpc.config import parse_settings

FOLDER = ROOT / "docker-slurm-cluster"
COMPOSE = FOLDER / "compose.yaml"
CLUSTER = {"slurmdbd", "slurmctld", "c1", "c2", "login"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the compose file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def judge(path: Path) -> subprocess.CompletedProcess[str]:
    """Hold a file against the Compose Specification's own schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_compose_file_is_valid() -> None:
    done = judge(COMPOSE)
    assert done.returncode == 0, done.stdout


def test_a_compose_file_that_is_wrong_is_seen(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("cap_add:", "capp_add:", 1))
    assert "capp_add" in judge(tmp_path / "compose.yaml").stdout


def test_profiles(services: dict[str, Any]) -> None:
    """The cluster alone, or all of it, which is what `docker compose up` starts."""
    assert {name for name, service in services.items() if "cluster" in service["profiles"]} == CLUSTER
    assert all("full" in service["profiles"] for service in services.values())
    assert services.keys() == CLUSTER | {"postgres", "wps"}
    assert "COMPOSE_PROFILES=full" in (FOLDER / ".env").read_text().splitlines()


def test_nothing_is_published_beyond_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 2 and all(port.startswith("127.0.0.1:") for port in published)


def test_only_the_nodes_get_more_than_an_ordinary_container(services: dict[str, Any]) -> None:
    """And nobody all of it."""
    more = {"cap_add", "devices", "security_opt", "privileged", "pid", "ipc", "network_mode", "userns_mode"}
    given = {name: more & service.keys() for name, service in services.items() if more & service.keys()}
    assert given == {name: {"cap_add", "devices", "security_opt"} for name in ("c1", "c2")}
    for name in given:
        assert services[name]["cap_add"] == ["SYS_ADMIN"] and services[name]["devices"] == ["/dev/fuse"]
        assert not any("seccomp" in option for option in services[name]["security_opt"])


def test_secrets_are_where_they_are_used_and_never_on_a_node(services: dict[str, Any]) -> None:
    """What jobs can reach of volumes: /shared, which is theirs, and munge's, which its own account alone can read."""
    mounted = {name: {volume.split(":")[0] for volume in service["volumes"]} for name, service in services.items()}
    has = {volume: {name for name in mounted if volume in mounted[name]} for volume in ("ssh", "password", "postgres")}
    assert has == {"ssh": {"login"}, "password": {"postgres", "wps"}, "postgres": {"postgres"}}
    assert mounted["c1"] == mounted["c2"] and len(mounted["c1"]) == 2


def test_every_service_says_how_it_is(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["healthcheck"]["test"] == ["CMD", "cluster", "healthy", *service["command"]]


def test_the_image_is_built_once(services: dict[str, Any]) -> None:
    """Everything else takes it as it is, and asks no registry for it."""
    assert [name for name, service in services.items() if "build" in service] == ["slurmdbd"]
    assert {service["image"] for service in services.values()} == {"wps-hpc-cluster"}
    assert all(service.get("pull_policy") == "never" for service in services.values() if "build" not in service)


def test_the_base_image_is_a_dated_one() -> None:
    assert re.search(r"^ARG BASE=docker\.io/library/debian:[a-z]+-20\d{6}-slim$", dockerfile(), re.MULTILINE)


def dockerfile() -> str:
    """Its text."""
    return (FOLDER / "Dockerfile").read_text()


def pins() -> dict[str, str]:
    """The versions of Python packages in the image, by canonical name."""
    lines = (line for line in (FOLDER / "requirements.txt").read_text().splitlines() if not line.startswith("#"))
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def canonical(name: str) -> str:
    """A package's name in the one spelling that all have in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_all_that_the_server_and_the_examples_need_is_pinned() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    wanted = [parser["options"]["install_requires"]]
    wanted += [parser["options.extras_require"][extra] for extra in ("postgres", "examples")]
    lines = [line for text in wanted for line in text.splitlines() if line and not line.startswith("#")]
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(pins()[canonical(requirement.name)]), requirement


def slurm_keys(text: str) -> set[str]:
    """The options that a slurm.conf sets, but for those that may come more than once."""
    names = {line.partition("=")[0].lower() for line in text.splitlines() if line and not line.startswith("#")}
    return {name for name in names if not name.startswith(("nodename", "partitionname", "include"))}


@pytest.mark.parametrize("text", [SLURM_CONF, (FOLDER / "slurm.conf").read_text()], ids=["tests", "containers"])
def test_where_and_how_are_said_in_one_place_each(text: str) -> None:
    """What the clusters have in common is said by slurm-common.conf, and by none of them again."""
    common = (FOLDER / "slurm-common.conf").read_text()
    assert len(slurm_keys(common)) > 15
    assert not slurm_keys(text) & slurm_keys(common)
    assert "partitionname" not in text.lower()


def test_slurm_knows_the_hosts_by_the_names_of_the_services(services: dict[str, Any]) -> None:
    conf = (FOLDER / "slurm.conf").read_text()
    assert (
        "NodeName=c[1-2] " in conf
        and "SlurmctldHost=slurmctld\n" in conf
        and "AccountingStorageHost=slurmdbd\n" in conf
    )
    assert all(service["hostname"] == name for name, service in services.items())
    # So does a person: `docker kill c1`.
    assert [services[name]["container_name"] for name in ("c1", "c2")] == ["c1", "c2"]


def test_the_servers_configuration_is_valid() -> None:
    settings = parse_settings(tomllib.loads((FOLDER / "wps-hpc.toml").read_text()))
    assert settings.clusters[settings.default_cluster].scheduler == "slurm"


def test_what_is_told_for_a_server_outside_is_valid(services: dict[str, Any]) -> None:
    """With an image for its jobs, which is told for itself."""
    settings = parse_settings(tomllib.loads("\n".join(told("toml"))))
    cluster = settings.clusters[settings.default_cluster]
    assert (cluster.scheduler, cluster.transport, cluster.staging) == ("slurm", "ssh_paramiko", "sftp")
    assert cluster.container is not None and cluster.container.runtime == "apptainer"
    assert settings.processes.modules
    assert cluster.ssh is not None and cluster.ssh.user == "wps"
    assert services["login"]["ports"] == [f"{cluster.ssh.host}:${{SSH_PORT:-{cluster.ssh.port}}}:22"]
    # No file of somebody else's: neither a key of the person's own nor the hosts that they know.
    assert cluster.ssh.identity_files == (Path("~/.ssh/wps-hpc-cluster").expanduser(),)
    assert cluster.ssh.known_hosts == (Path("~/.ssh/wps-hpc-cluster.hosts").expanduser(),)
    assert f'python = "{cluster.python}"' in (FOLDER / "wps-hpc.toml").read_text()


def test_a_nodes_fuse_is_opened_for_ordinary_accounts_where_root_may_do_that(tmp_path: Path) -> None:
    """Without a root of the host's own (rootless podman) /dev/fuse is the host's: as it is, it has to do."""
    (tmp_path / "chmod").write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 1\n")
    (tmp_path / "chmod").chmod(0o755)
    assert part_of_the_entry_point("open_fuse; echo goes on", tmp_path).splitlines()[-1:] == ["goes on"]


def part_of_the_entry_point(command: str, programs: Path) -> str:
    """What a command says that uses the functions of entrypoint.sh, which starts nothing itself."""
    text = f"source <(sed '/^role=/,$d' {FOLDER / 'entrypoint.sh'}); {command}"
    given = {"PATH": f"{programs}:/usr/bin:/bin", "HOSTNAME": "c1"}
    done = subprocess.run(["/bin/bash", "-c", text], env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_node_has_one_address_for_slurm_on_a_network_that_has_two_kinds_of_them(tmp_path: Path) -> None:
    answers = {"hostname": "echo fd00::5 10.89.0.5", "getent": 'printf "10.89.0.5 %s c1\\n" STREAM DGRAM RAW'}
    for name, text in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    assert part_of_the_entry_point("own_address", tmp_path) == "10.89.0.5\n"


STATUS = "http://127.0.0.1:1/wps/status/1.xml"
#: Answers of a server, in turns: to the Execute, and to each look at the status.
ACCEPTED = f'<wps:ExecuteResponse statusLocation="{STATUS}"><wps:ProcessAccepted>'
SUCCEEDED = '<wps:ProcessSucceeded><wps:LiteralData dataType="string">node c7</wps:LiteralData>'
FAILED = "<wps:ProcessFailed><ows:ExceptionText>no luck</ows:ExceptionText>"


def run_try(folder: Path, answer: str, *, healthy: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `try.sh` with a compose command and a client that only say what they are told to.

    The queue shows the job once, beside one from before, and is empty when it is asked again.
    """
    health = 0 if healthy else 1
    queue = f'mkdir "{folder}/asked" && echo "job 4 RUNNING on c6" && echo "job 5 RUNNING on c7"'
    commands = {
        "compose": f'case "$*" in *healthy*) exit {health} ;; *%T*) {queue} ;; *squeue*) echo "4" ;; esac',
        "curl": f"case \"$*\" in *.xml*) echo '{answer}' ;; *) echo '{ACCEPTED}' ;; esac",
        "docker": "exit 1",
        "podman": "exit 1",
    }
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    given = {"PATH": f"{folder}:/usr/bin:/bin", "COMPOSE": "compose", "PATIENCE": "1", **environment}
    return subprocess.run(
        ["/bin/bash", str(FOLDER / "try.sh")], env=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_try_shows_queue_and_result(tmp_path: Path) -> None:
    done = run_try(tmp_path, SUCCEEDED)
    assert done.returncode == 0, done.stderr
    assert "job 5 RUNNING on c7" in done.stdout and "  node c7\n" in done.stdout
    assert "job 4" not in done.stdout, "that is somebody else's"


@pytest.mark.parametrize(
    ("answer", "healthy", "said"),
    [
        (FAILED, True, "no luck"),
        ("<wps:ProcessSucceeded>", True, "no result"),
        ("<wps:ProcessStarted>", True, "the job's end: not there after 1 s"),
        (SUCCEEDED, False, "slurmdbd: not there after 1 s"),
    ],
)
def test_try_fails_when_anything_does(tmp_path: Path, answer: str, healthy: bool, said: str) -> None:
    done = run_try(tmp_path, answer, healthy=healthy)
    assert done.returncode == 1 and said in done.stderr


@pytest.mark.skipif(os.path.exists("/usr/bin/podman-compose"), reason="this host has podman-compose where all look")  # noqa: PTH110
def test_try_says_so_where_there_is_nothing_to_start_containers_with(tmp_path: Path) -> None:
    done = run_try(tmp_path, SUCCEEDED, COMPOSE="")
    assert done.returncode == 1 and "neither docker compose nor podman-compose" in done.stderr
