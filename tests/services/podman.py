"""docker-slurm-cluster/ as a newcomer starts it, by podman and podman-compose, with an image store of the tests' own.

No registry is asked. The base image, which a newcomer gets from one, is made here from the mirror of Debian that this
host uses, with this host's own ways to packages (certificates, apt's and pip's settings). The store is kept, so that
only what has changed is built again; delete `tests/.docker-cluster` to renew all of it.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.schemas import ROOT
from tests.services import require
from tests.services.postgres import free_port

CLUSTER = ROOT / "docker-slurm-cluster"
STORE = ROOT / "tests" / ".docker-cluster"
#: What podman keeps while it runs, with a short path, for there are sockets in it. Always the same for one store, which
#: remembers it.
RUN = Path("/run") / f"wps-hpc-tests-{zlib.crc32(bytes(STORE)):08x}"
HOW = "install Debian's packages for it (make services) and run the tests as root"
PROGRAMS = ("podman", "runc", "mmdebstrap")
#: The settings of apt that say how it reaches its mirror.
APT_SETTINGS = re.compile(r"^Acquire::(https?|Retries|Check-)")
#: The settings of pip that say how it reaches its index; those that name local files mean nothing in an image.
PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "cert", "timeout")
#: Without systemd and with whatever control groups there are; no limit that this host's root could not set; nothing in
#: common with this host's own podman, not even locks.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{run}/tmp"
[network]
network_config_dir = "{store}/networks"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{store}/graph"
runroot = "{run}/storage"
"""
#: What Debian's images leave out, and that they start no daemons when a package is installed.
SLIM = (
    *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "info", "locale", "man")),
    "--dpkgopt=force-unsafe-io",
    r"""--customize-hook=printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" """,
    '--customize-hook=chmod 755 "$1/usr/sbin/policy-rc.d"',
)


@dataclass(frozen=True)
class DockerCluster:
    """The cluster of docker-slurm-cluster/, started or not. ``ports`` are those of the server and of sshd."""

    ports: Mapping[str, int]

    @property
    def url(self) -> str:
        """The address of the WPS server."""
        return f"http://127.0.0.1:{self.ports['wps']}"

    def environment(self) -> dict[str, str]:
        """What podman and the scripts of the folder get."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "CONTAINERS_CONF": str(STORE / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(STORE / "storage.conf"),
            "COMPOSE": "podman-compose",
            "WPS_PORT": str(self.ports["wps"]),
            "SSH_PORT": str(self.ports["ssh"]),
        }

    def run(self, *command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder; a failure carries what it said."""
        done = subprocess.run(
            command,
            cwd=CLUSTER,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command}: {done.returncode}\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
        )
        return done

    def inside(self, service: str, *command: str, account: str = "wps", check: bool = True) -> str:
        """Run a command in the container of a service and return what it printed."""
        words = ("exec", "-T", "--user", account, service, *command)
        return self.run("podman-compose", *words, check=check).stdout

    def make_base(self) -> None:
        """Make the base image of the Dockerfile, under its name, if it is not in the store."""
        name = base_image()
        if self.run("podman", "image", "exists", name, check=False).returncode == 0:
            return
        with tempfile.TemporaryDirectory(dir=STORE) as folder:
            root = Path(folder) / "root.tar"
            self.run("mmdebstrap", *_base_options(Path(folder), name, root), timeout=600)
            self.run("podman", "import", "--quiet", str(root), name, timeout=300)

    def close(self) -> None:
        """End everything that was started, and forget what it has written; images stay."""
        self.run("podman-compose", "down", "--volumes", "--timeout", "5", check=False)
        self.run("podman", "rm", "--all", "--force", "--volumes", check=False)
        self.run("podman", "image", "prune", "--force", check=False)
        for mount in (STORE / "graph" / "overlay", STORE / "graph"):
            if mount.is_mount():
                subprocess.run(["umount", "--lazy", str(mount)], check=False)
        shutil.rmtree(RUN, ignore_errors=True)


def base_image() -> str:
    """The name of the image that the Dockerfile begins with."""
    found = re.search(r"^ARG BASE=(\S+)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def told(language: str) -> list[str]:
    """The examples of the folder's README that are written in ``language``; commands have none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (CLUSTER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def is_installed() -> bool:
    """Whether this machine can run the cluster."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


@contextmanager
def running_docker_cluster() -> Iterator[DockerCluster]:
    """The cluster within the block, with its base image made; nothing is started yet."""
    require("podman with runc and mmdebstrap", is_installed(), HOW)
    STORE.mkdir(exist_ok=True)
    _write_settings()
    cluster = DockerCluster({name: free_port() for name in ("wps", "ssh")})
    try:
        cluster.make_base()
        yield cluster
    finally:
        cluster.close()


def _write_settings() -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    (STORE / "containers.conf").write_text(CONTAINERS_CONF.format(store=STORE, run=RUN, files=files))
    (STORE / "storage.conf").write_text(STORAGE_CONF.format(store=STORE, run=RUN))


def _base_options(folder: Path, image: str, target: Path) -> list[str]:
    """mmdebstrap's arguments for the Debian release that an image's name tells."""
    found = re.search(r"debian:(\w+)-", image)
    assert found is not None, image
    suite, mirror = found[1], _mirror()
    (folder / "99host").write_text(_apt_settings())
    (folder / "pip.conf").write_text(_pip_settings())
    return [
        "--quiet",
        "--variant=minbase",
        "--include=ca-certificates",
        *SLIM,
        f"--customize-hook=copy-in {folder}/99host /etc/apt/apt.conf.d",
        f"--customize-hook=copy-in {folder}/pip.conf /etc",
        "--customize-hook=copy-in /usr/local/share/ca-certificates /usr/local/share",
        '--customize-hook=chroot "$1" update-ca-certificates',
        suite,
        str(target),
        f"deb {mirror} {suite} main",
        f"deb {mirror} {suite}-updates main",
    ]


def _mirror() -> str:
    """Where this host gets Debian from: as its apt is configured, unless DEBIAN_MIRROR says otherwise."""
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    said = _said("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted).split()
    assert said, "apt knows no mirror of Debian here; name one: DEBIAN_MIRROR=http://…/debian/"
    return said[0]


def _apt_settings() -> str:
    lines = [line for line in _said("apt-config", "dump").splitlines() if APT_SETTINGS.match(line)]
    return "\n".join([*lines, 'Acquire::Languages "none";', ""])


def _pip_settings() -> str:
    """This host's settings of pip as one file; later ones, such as the environment's, prevail, as in pip."""
    found = re.findall(r"^\S+\.([\w-]+)='(.*)'$", _said(sys.executable, "-m", "pip", "config", "list"), re.MULTILINE)
    kept = {name: value for name, value in found if name in PIP_SETTINGS and "file://" not in value}
    return "\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items()), ""])


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
