"""Containers on the nodes: how the launcher, or a process's commands, are started in one; a small dialect each.

The command line that is made here is a ``/bin/sh`` with a fixed text (``batch_templates/container.sh``) and words for
it, so that it can stand in any batch script, and in the launcher's hands, alike. What only the node knows is put in
there: the number of the attempt, and what the scheduler says of GPUs.

A job sees its own folder read-only, its attempt read-write, the launcher, its inputs, and what the site lists. Every
path in a command line comes from Places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Protocol

from joblauncher import failpoints
from joblauncher.formats.records import NUMBER_WORD, Container, Failure
from wps_hpc import config
from wps_hpc.clusters.spooler.proc import TOKEN_VARIABLE
from wps_hpc.processes import description
from wps_hpc.processes.description import ProcessDescription, Resources

#: Variables of the node that every job gets: its language and time, which GPUs are its own, and by what it is known.
PASSED = (
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "OMP_NUM_THREADS", TOKEN_VARIABLE, failpoints.VARIABLE),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"),
)
#: Stand for the attempt's mount and for the current directory; see container.sh.
_ATTEMPT, _HERE = "@attempt", "@here"
_TEXT = (resources.files("wps_hpc.batch_templates") / "container.sh").read_text()


class NotAllowed(Exception):
    """A process wants something of its container that the site does not give; the text says what, for the operator."""


@dataclass(frozen=True)
class Places:
    """The paths of one job as its node sees them: its folder, that of its attempts, the launcher's file, and those
    inputs that stay where they are."""

    folder: str
    attempts: str
    launcher: str
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mount:
    """A path of the node in the container."""

    source: str
    target: str
    writable: bool = False


@dataclass(frozen=True)
class Box:
    """What one job's container is made of, whatever makes it."""

    settings: config.Container
    image: str
    mounts: tuple[Mount, ...]
    variables: tuple[str, ...]
    network: bool = False
    gpus: bool = False


class Runtime(Protocol):
    """A program that runs containers."""

    @property
    def family(self) -> str:
        """The beginning of the variables that it takes into the container; empty where options do that."""

    @property
    def target(self) -> str:
        """What it calls the place of a mount in the container."""

    @property
    def read_only(self) -> str:
        """How it says that a mount is not to be written to."""

    def options(self, box: Box) -> Iterator[str]:
        """All that comes between its name and the image; mounts are put in behind them, the attempt's last."""

    def build(self, program: str, folder: Path, target: str) -> tuple[str, ...]:
        """The command that makes the image ``target`` of what a folder holds."""


@dataclass(frozen=True)
class Apptainer:
    """Apptainer, and what it was called before. Options of Apptainer 1.1 and SingularityCE 3.10."""

    family: str = "APPTAINER"
    target: str = "destination"
    read_only: str = "ro"

    def options(self, box: Box) -> Iterator[str]:
        """See Runtime. A network with nothing but a loopback takes no privilege; a bridge would take root."""
        yield from ("--quiet", "exec", "--containall", "--cleanenv", "--no-home", "--no-eval", "--pwd", _HERE)
        if not box.network:
            yield from ("--net", "--network", "none")
        if box.gpus:
            yield {"nvidia": "--nv", "amd": "--rocm"}[box.settings.gpus]

    def build(self, program: str, folder: Path, target: str) -> tuple[str, ...]:
        """See Runtime. Zstandard packs in a fifth of the time of the default."""
        squashed = ("--mksquashfs-args", "-comp zstd -Xcompression-level 3")
        return (program, "--quiet", "build", "--force", *squashed, target, str(folder))


@dataclass(frozen=True)
class Podman:
    """Podman, and Docker with the same options: on the server's own machine, as the server's own account."""

    gpus: tuple[str, ...] = ("--device", "nvidia.com/gpu=all")
    keeps_account: bool = True
    family: str = ""
    target: str = "target"
    read_only: str = "readonly"

    def options(self, box: Box) -> Iterator[str]:
        """See Runtime."""
        yield from ("run", "--rm", "--pull", "never", "--log-driver", "none", "--entrypoint", "", "--workdir", _HERE)
        yield from ("--read-only", "--tmpfs", "/tmp", "--uts", "host", "--cap-drop", "all")
        yield from ("--security-opt", "no-new-privileges", "--security-opt", "label=disable")
        yield from ("--user", f"{os.geteuid()}:{os.getegid()}", "--network", "host" if box.network else "none")
        if self.keeps_account and os.geteuid() != 0:
            yield from ("--userns", "keep-id")
        for variable in box.variables:
            yield from ("--env", variable)
        if box.gpus:
            amd = ("--device", "/dev/kfd", "--device", "/dev/dri")
            yield from {"nvidia": self.gpus, "amd": amd}[box.settings.gpus]

    def build(self, program: str, folder: Path, target: str) -> tuple[str, ...]:
        """See Runtime."""
        script = 'tar --numeric-owner --owner 0 --group 0 -C "$2" -c . | "$1" import - "$3"'
        return ("/bin/sh", "-c", script, "build", program, str(folder), target)


#: What a runtime's name in the configuration stands for.
RUNTIMES: Mapping[str, Runtime] = {
    "apptainer": Apptainer(),
    "singularity": Apptainer("SINGULARITY"),
    "podman": Podman(),
    "docker": Podman(("--gpus", "all"), keeps_account=False),
}


def configured(settings: config.Cluster) -> config.Container | None:
    """The container of a cluster's jobs; None where they run in none."""
    container = settings.container
    return None if container is None or container.runtime == "none" else container


def command(settings: config.Container) -> str:
    """The runtime's command."""
    return settings.command or settings.runtime


def runs_commands(settings: config.Container, wish: description.Container) -> bool:
    """Whether the launcher runs outside and only what the process starts as commands inside."""
    return settings.inside == "commands" if wish.commands is None else wish.commands


def entry(
    settings: config.Cluster, wish: description.Container, places: Places, needed: Resources, *, tell: bool = False
) -> Container | None:
    """How a job's launcher, or its commands, get into its container; None where the cluster has none.

    ``tell``: the runtime's version is the first line of the attempt's container log. Raises NotAllowed.
    """
    refused = refusal(settings, wish)
    if refused:
        raise NotAllowed(refused)
    own = configured(settings)
    if own is None:
        return None
    variables = (*dict.fromkeys((*PASSED, *own.pass_env)), *_assigned(settings, own))
    image, wants_network = wish.image or own.image, wish.network and own.network == "host"
    box = Box(own, image, tuple(_mounts(own, places)), variables, wants_network, bool(needed.gpus))
    return Container((*_shell(box, places), *_words(box, tell), "--"), runs_commands(own, wish))


def _assigned(settings: config.Cluster, own: config.Container) -> Iterator[str]:
    for name, value in {**settings.environment, **own.env}.items():
        # What is for the runtime itself is no job's.
        if not name.startswith(("APPTAINER", "SINGULARITY")):
            yield f"{name}={value}"


def _shell(box: Box, places: Places) -> Iterator[str]:
    runtime = RUNTIMES[box.settings.runtime]
    key = str(box.settings.signed_by or "")
    yield from ("/bin/sh", "-c", _TEXT, "container", runtime.family, command(box.settings), key, box.image)
    yield from (places.attempts, NUMBER_WORD)
    attempts = places.attempts.replace('"', '""')
    yield from (f'type=bind,"source={attempts}/', f'","{runtime.target}={attempts}/', '"')


def _words(box: Box, tell: bool) -> Iterator[str]:
    runtime = RUNTIMES[box.settings.runtime]
    yield from ("--version",) if tell else ()
    yield from box.variables if runtime.family else ()
    yield "--"
    yield from runtime.options(box)
    for mount in box.mounts:
        yield from ("--mount", _mount(runtime, mount))
    # Behind the folder that it lies in, or that would hide it.
    yield from ("--mount", _ATTEMPT)
    yield from box.settings.options


def _mounts(own: config.Container, places: Places) -> Iterator[Mount]:
    for bind in own.binds:
        if isinstance(bind, config.Bind):
            yield Mount(str(bind.source), str(bind.target or bind.source), bind.writable)
        else:
            yield Mount(str(bind), str(bind))
    for path in (places.launcher, *places.shared, places.folder):
        yield Mount(path, path)


def _mount(runtime: Runtime, mount: Mount) -> str:
    fields = ("type=bind", f"source={mount.source}", f"{runtime.target}={mount.target}")
    return ",".join(map(_field, fields if mount.writable else (*fields, runtime.read_only)))


def _field(text: str) -> str:
    """One field of comma-separated values (RFC 4180), as all runtimes read a mount."""
    return '"' + text.replace('"', '""') + '"' if re.search('[,"\r\n]', text) else text


# --- what a process may ask for --------------------------------------------------------------------------------------


def refusal(settings: config.Cluster, wish: description.Container) -> str | None:
    """Why a process with these wishes cannot run on a cluster; None when it can."""
    own = configured(settings)
    if own is None:
        what = f"the image {wish.image}" if wish.image else "a container for its commands" if wish.commands else None
        return what and f"it asks for {what}, and the cluster has no containers (container.image)"
    if wish.image is not None and not _listed(wish.image, own):
        return f"it asks for the image {wish.image}, which container.images does not list"
    if wish.network and own.network != "host":
        return 'it asks for the network, which container.network = "none" does not give'
    return None


def _listed(image: str, own: config.Container) -> bool:
    """Whether the site lists an image. A path that climbs leads to another one than it looks like, and a word that
    begins with a dash is an option to the runtime."""
    parts = image.split("/")
    if not image or image.startswith("-") or ".." in parts or "." in parts:
        return False
    return any(_matches(parts, pattern.split("/")) for pattern in own.images) or image == own.image


def _matches(parts: list[str], patterns: list[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def judge(settings: config.Settings) -> Callable[[ProcessDescription], str | None]:
    """What says why a process cannot be offered, because it could not run where its jobs go; None when it can."""

    def judged(process: ProcessDescription) -> str | None:
        for name in _clusters_of(process, settings):
            refused = refusal(settings.clusters[name], process.container)
            if refused:
                return f"{refused}; its jobs go to clusters.{name}"
        return None

    return judged


def _clusters_of(process: ProcessDescription, settings: config.Settings) -> Iterable[str]:
    beside_the_server = ("local",) if process.sync == "local" else ()
    return dict.fromkeys((settings.default_cluster, *beside_the_server))


# --- what went wrong -------------------------------------------------------------------------------------------------

_CANNOT_START = "The job's container could not be started"
#: What runtimes and the shell say, in the order in which it counts, and what the job's client is told.
EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (r"load key material", "the key that its image's signature is checked with is not there on the node"),
    (r"integrity: |is not signed with", "its image is not signed as the site demands"),
    (r"destination .* doesn't exist in container", "its image lacks a folder that every container needs"),
    (
        r"mount source .* doesn't exist|while mounting|statfs .*no such file|bind source path does not exist",
        "a folder or file that it needs is not there on the node",
    ),
    (r"read the squashfs image|format not recognized", "its image cannot be read: it is damaged, or none"),
    (r"/dev/fuse|fusermount", "the node does not let this account mount an image"),
    (
        r"not readable by the current user|could not open image .*permission denied",
        "its image cannot be read by this account on the node",
    ),
    (
        r"could not open image .*no such file|image not known|no such image|unable to find image",
        "its image is not there on the node",
    ),
    (r'": executable file( .*)? not found', "its image lacks the launcher's Python"),
    (
        r"page summary memory|pthread_create failed|cannot allocate memory|errno=11|resource temporarily unavailable",
        "its runtime got too little memory or address space",
    ),
    (r"requesting capability set", "the account lacks a capability that its runtime asks for"),
    (r"user namespace|newuidmap", "the node does not let this account make containers"),
    (r"exec: .*(not found|permission denied)", "its runtime is not there on the node"),
)


def explained(said: str) -> str:
    """The sentence for the client of a job whose container did not start, from what the runtime said on the node."""
    for pattern, reason in EXPLANATIONS:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{_CANNOT_START}: {reason}."
    return f"{_CANNOT_START}, or its launcher did not run in it."


def not_started(said: str, exit_code: int | None, signal: int | None, seen: str) -> Failure:
    """The failure of a job whose container ended before any launcher took the attempt; ``seen`` is for the operator."""
    detail = f"{seen}; the container's runtime: {said.strip()}"
    return Failure("could not start", explained(said), exit_code=exit_code, signal=signal, detail=detail)
