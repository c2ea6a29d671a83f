"""Images for the tests, each made once and kept, and the programs that run them."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.services import ordinary, require

ROOT = Path(__file__).parents[2]
#: Kept from one run of the tests to the next; a name holds what the image was made of.
KEPT = ROOT / "tests" / ".images"
HOW = "install Debian's packages for it (make services) and run the tests as root"
#: What an image is made of beside installed packages.
SOURCES = ("wps_hpc/images.py", "wps_hpc/clusters/containers.py", "examples/*.py")

PODMAN_IMAGE = "localhost/wps:1"
CONTAINERS_CONF = """
[containers]
# The defaults are above what this host lets an account have.
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
# crun wants one version of control groups, and the journal may not be there.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
rootless_storage_path = "{folder}/graph"
runroot = "{folder}/run"
"""


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(target: Path, *options: str) -> None:
    """Make an image by the project's own command."""
    KEPT.mkdir(exist_ok=True)
    draft = target.with_suffix(f".{os.getpid()}.tmp")
    command = [sys.executable, "-m", "wps_hpc.cli", "image", "build", *options, str(draft)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    for old in KEPT.glob(f"{target.name.partition('-')[0]}-*.sif"):
        old.unlink()
    draft.rename(target)


def _public(kept: Path, folder: Path) -> Path:
    """A copy where every account can read it."""
    copy = folder / f"{kept.name.partition('-')[0]}.sif"
    shutil.copyfile(kept, copy)
    copy.chmod(0o755)
    return copy


def runs_apptainer() -> bool:
    """Whether an ordinary account can run images here."""
    return (
        os.geteuid() == 0
        and shutil.which("apptainer") is not None
        and Path("/dev/fuse").stat().st_mode & 0o006 == 0o006
    )


@contextmanager
def public_images() -> Iterator[Path]:
    """A folder that every account can read, with ``examples.sif``: Python, the examples, and what they need."""
    ordinary.make_account()
    kept = KEPT / f"examples-{_fingerprint()}.sif"
    if not kept.exists():
        _build(kept, "--examples")
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-images-"))
    folder.chmod(0o755)
    try:
        _public(kept, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def images() -> Iterator[Path]:
    """A folder of images that every account can read; see public_images."""
    require("Apptainer", runs_apptainer(), HOW)
    with public_images() as folder:
        yield folder


@pytest.fixture(scope="session")
def bare_image(images: Path) -> Path:
    """An image with a shell and no Python."""
    tree = images / "tree"
    for name in (
        "dev",
        "proc",
        "sys",
        "tmp",
        "run",
        "var/tmp",
        "etc",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "home",
        "root",
    ):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf", "localtime"):
        (tree / "etc" / name).touch()
    for program in ("sh", "cat", "env", "ls", "id"):
        shutil.copy2(Path(shutil.which(program) or "").resolve(), tree / "usr" / "bin" / program)
    linked = subprocess.run(["ldd", *(tree / "usr/bin").iterdir()], capture_output=True, text=True, check=True).stdout
    for path in {word for word in linked.split() if word.startswith("/lib")}:
        (tree / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(path).resolve(), tree / path[1:])
    image = images / "bare.sif"
    subprocess.run(["apptainer", "--quiet", "build", str(image), str(tree)], check=True)
    shutil.rmtree(tree)
    return image


def runs_podman() -> bool:
    """Whether an ordinary account can have containers of podman's here."""
    return os.geteuid() == 0 and all(shutil.which(name) for name in ("podman", "runc", "newuidmap"))


@contextmanager
def own_podman() -> Iterator[tuple[str, dict[str, str]]]:
    """An image that podman has for the ordinary account, by its name, and the variables that the program needs."""
    ordinary.make_account()
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-podman-"))
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
    (folder / "wps-hpc.toml").write_text(f'[clusters.local.container]\nruntime = "podman"\nimage = "{PODMAN_IMAGE}"\n')
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, ordinary.ORDINARY, ordinary.ORDINARY)
    variables = {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "XDG_RUNTIME_DIR": str(folder),
        "HOME": str(folder),
    }
    environment = {**ordinary.clean(), **variables}
    try:
        build = ("--config", str(folder / "wps-hpc.toml"), "image", "build", PODMAN_IMAGE)
        ordinary.run(sys.executable, "-m", "wps_hpc.cli", *build, environment=environment)
        yield PODMAN_IMAGE, variables
    finally:
        ordinary.run("podman", "system", "reset", "--force", environment=environment)
        # The keeper of the account's user namespace stays otherwise.
        ordinary.run("podman", "system", "migrate", environment=environment)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def podman() -> Iterator[tuple[str, dict[str, str]]]:
    """An image of podman's, and the variables that the program needs; see own_podman."""
    require("podman", runs_podman(), HOW)
    with own_podman() as found:
        yield found
