"""Containers that do not start, images that are not allowed, and what is told of them; with the real Apptainer."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.ordinary import OrdinarySite, ordinary_site
from tests.clusters.test_containers import contained
from tests.services import ordinary
from wps_hpc import config
from wps_hpc.clusters.containers import Places, entry, explained
from wps_hpc.jobs.job import JobState
from wps_hpc.processes import description
from wps_hpc.processes.description import Resources

pytestmark = pytest.mark.cluster


@pytest.fixture
def folder() -> Iterator[Path]:
    """A job folder of the ordinary account's, with blanks, commas and quotes in its path."""
    made = Path(tempfile.mkdtemp(prefix='wps-hpc-a b,c"d-'))
    (made / "attempts").mkdir()
    (made / "pyz").touch()
    (made / "shared, too").write_text("shared")
    for path in (made, *made.rglob("*")):
        shutil.chown(path, ordinary.ORDINARY, ordinary.ORDINARY)
    yield made
    shutil.rmtree(made)


def started(folder: Path, image: Path | str, *words: str, limit: str = "unlimited", **own: Any) -> tuple[int, str]:
    """Exit code of a command in a container, and what was said on the way."""
    settings = config.Cluster(container=config.Container(image=str(image), **own))
    places = Places(str(folder), str(folder / "attempts"), str(folder / "pyz"), (str(folder / "shared, too"),))
    made = entry(settings, description.Container(), places, Resources(), tell=True)
    assert made is not None
    command = (*made.entered("1+"), *words, "--restarts", "2")
    shell = ("/bin/sh", "-c", f'ulimit -v {limit}; exec "$@"', "limited")
    done = subprocess.run([*ordinary.entrance(), *shell, *command], env=ordinary.clean(), cwd="/", check=False)
    log = folder / "attempts" / "3.container" / "log"
    return done.returncode, log.read_text() if log.exists() else ""


def test_every_path_is_taken_as_it_is(folder: Path, images: Path) -> None:
    """The attempt is that of the scheduler's count of restarts, and the only thing that can be written."""
    script = f"cat '{folder}/shared, too' && echo mine >mine && ! touch ../4 && ! touch '{folder}/x'"
    code, said = started(folder, images / "examples.sif", "/bin/sh", "-c", script)
    assert code == 0, said
    assert (folder / "attempts" / "3" / "mine").read_text() == "mine\n" and "shared" in said
    assert said.startswith("apptainer version")


@pytest.mark.parametrize("ended", [7, 75, 255 - 1])
def test_exit_codes_come_through(folder: Path, images: Path, ended: int) -> None:
    assert started(folder, images / "examples.sif", "/bin/sh", "-c", f"exit {ended}")[0] == ended


PLANTS = """
import pathlib
for folder in (pathlib.Path("."), *pathlib.Path("..").glob("3.*"), pathlib.Path(".container")):
    for name in ("apptainer", "squashfuse_ll", "mounts", "fusermount3", "env", "sed"):
        try:
            folder.mkdir(exist_ok=True)
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_text('#!/bin/sh\\n: >"${0%/attempts/*}/escaped"\\n')
            (folder / name).chmod(0o755)
        except OSError as error:
            print(folder, error)
log = pathlib.Path("container.log")
log.is_symlink() or log.exists() or log.symlink_to("../../escaped")
"""


def test_a_job_leaves_no_program_that_is_run_outside_and_no_link_that_is_followed(folder: Path, images: Path) -> None:
    """Another container of the same attempt starts when a process has several commands, or a job comes twice."""
    for _ in range(2):
        _, said = started(folder, images / "examples.sif", "python3", "-c", PLANTS)
    assert "Read-only file system" in said and (folder / "attempts" / "3" / "apptainer").exists()
    assert not (folder / "escaped").exists(), said


def made(kind: str, images: Path) -> Path:
    """An image that cannot be used, in one of several ways."""
    path = images / f"{kind}.sif"
    if kind == "damaged" and not path.exists():
        with (images / "examples.sif").open("rb") as whole:
            path.write_bytes(whole.read(1 << 20))
        path.chmod(0o755)
    if kind == "none":
        path.write_text("this is no image\n")
    if kind == "closed":
        path.write_bytes((images / "bare.sif").read_bytes())
        path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("missing", "no such file or directory", "its image is not there on the node"),
        ("closed", "not readable by the current user", "its image cannot be read by this account"),
        ("damaged", "squashfs image", "it is damaged, or none"),
        ("none", "image format not recognized", "it is damaged, or none"),
        ("bare", "executable file not found", "its image lacks the launcher's Python"),
    ],
)
def test_an_image_that_cannot_be_used(
    folder: Path, images: Path, bare_image: Path, kind: str, words: str, told: str
) -> None:
    code, said = started(folder, made(kind, images), "python3")
    assert code == 255 and words in said and told in explained(said)


def test_a_bind_that_is_not_there(folder: Path, images: Path) -> None:
    code, said = started(folder, images / "examples.sif", "true", binds=("/nowhere/at/all",))
    assert code == 255 and "/nowhere/at/all" in said
    assert explained(said).endswith("a folder or file that it needs is not there on the node.")
    assert "/nowhere" not in explained(said)


def test_a_runtime_that_is_not_there(folder: Path, images: Path) -> None:
    code, said = started(folder, images / "examples.sif", "true", command="/nowhere/apptainer")
    assert code == 127 and "its runtime is not there on the node" in explained(said)


@pytest.mark.parametrize("kilobytes", ["400000", "800000"])
def test_too_little_address_space(folder: Path, images: Path, kilobytes: str) -> None:
    """What Grid Engine's h_vmem does: Go reserves more than it uses."""
    code, said = started(folder, images / "examples.sif", "true", limit=kilobytes)
    assert code != 0 and "its runtime got too little memory or address space" in explained(said), said


def test_a_network_of_its_own_takes_root(folder: Path, images: Path) -> None:
    """So what a process that asks for the network can be given is the node's."""
    code, said = started(folder, images / "examples.sif", "true", options=("--network", "bridge"))
    assert code == 255 and "network requires root" in said


@pytest.fixture(scope="module")
def keys(images: Path) -> Path:
    """A folder with a pair of keys, and an image that was signed with it."""
    run = {"check": True, "capture_output": True}
    private, public = images / "key.pem", images / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", str(private)], **run)  # type: ignore[call-overload]
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], **run)  # type: ignore[call-overload]
    signed = images / "signed.sif"
    shutil.copyfile(images / "examples.sif", signed)
    subprocess.run(["apptainer", "sign", "--key", str(private), str(signed)], **run)  # type: ignore[call-overload]
    signed.chmod(0o755)
    public.chmod(0o644)
    return images


def test_an_image_that_was_signed_with_the_sites_key_runs(folder: Path, keys: Path) -> None:
    assert started(folder, keys / "signed.sif", "/bin/sh", "-c", "exit 0", signed_by=keys / "key.pub")[0] == 0


@pytest.mark.parametrize("how", ["never", "elsewhere", "changed"])
def test_an_image_that_was_not_signed_so_does_not_run(folder: Path, keys: Path, how: str) -> None:
    image, key = keys / "signed.sif", keys / "key.pub"
    if how == "never":
        image = keys / "examples.sif"
    if how == "changed":
        image = keys / "changed.sif"
        content = bytearray((keys / "signed.sif").read_bytes())
        content[len(content) // 2] ^= 1
        image.write_bytes(content)
        image.chmod(0o755)
    if how == "elsewhere":
        key = keys / "nobodys.pub"
    code, said = started(folder, image, "/bin/sh", "-c", "exit 0", signed_by=key)
    words = (
        "the key that its image's signature" if how == "elsewhere" else "its image is not signed as the site demands"
    )
    assert code == 255 and words in explained(said), said


# --- whole jobs ------------------------------------------------------------------------------------------------------

OWN = """
from wps_hpc import Container, Job, process
{processes}
"""
PROCESS = """
@process(identifier="{name}", version="1.0.0", container=Container({wish}))
def {name}(job: Job) -> str:
    import subprocess
    done = subprocess.run(job.command("/bin/sh", "-c", "ls /usr/bin; cat /proc/self/comm; exit 5"), capture_output=True)
    return f"{{done.returncode}}: {{done.stdout.decode()}}"
"""


@pytest.fixture(scope="module")
def site(images: Path, bare_image: Path) -> Iterator[OrdinarySite]:
    """A site with processes that ask for images of their own, some of which cannot be had."""
    made("closed", images)
    wishes = {
        "missing": f'"{images}/gone.sif"',
        "closed": f'"{images}/closed.sif"',
        "bare": f'"{bare_image}"',
        "commands": f'"{bare_image}", commands=True',
        "elsewhere": '"/tmp/elsewhere.sif"',
        "climbs": f'"{images}/../x/bare.sif"',
        "network": "network=True",
    }
    own = OWN.format(processes="".join(PROCESS.format(name=name, wish=wish) for name, wish in wishes.items()))
    table = contained(images / "examples.sif", f'images = ["{images}/*.sif"]')
    with ordinary_site(local=table, own=own) as opened:
        yield opened


@pytest.mark.parametrize(
    ("process", "told", "words"),
    [
        ("missing", "its image is not there on the node", "no such file or directory"),
        ("closed", "its image cannot be read by this account", "is not readable by the current user"),
        ("bare", "its image lacks the launcher's Python", "executable file not found in $PATH"),
    ],
)
def test_a_container_that_does_not_start_is_told_to_both(
    site: OrdinarySite, process: str, told: str, words: str
) -> None:
    """The client reads which it is, and no path of the site's; the operator Apptainer's own words."""
    ended = site.ended(site.execute(process).id)
    failure = ended.failure
    assert ended.state is JobState.FAILED and failure is not None and failure.cause == "could not start"
    assert told in ended.message and "/tmp" not in ended.message and "exit code 255" in failure.detail
    assert words in failure.detail and words in (site.folder / "worker.log").read_text()


def test_of_an_image_without_python_only_the_command_runs_inside(site: OrdinarySite) -> None:
    """The image's few programs are there, and the command's exit code comes back."""
    said = site.result(site.execute("commands"))
    assert said.startswith("5: ") and said.split()[1:] == ["cat", "env", "id", "ls", "sh", "cat"]


@pytest.mark.parametrize(
    ("process", "why"),
    [
        ("elsewhere", "it asks for the image /tmp/elsewhere.sif, which container.images does not list"),
        ("climbs", "which container.images does not list"),
        ("network", "it asks for the network"),
    ],
)
def test_what_the_site_does_not_allow_is_not_offered(site: OrdinarySite, process: str, why: str) -> None:
    code, said = site.check("--no-probe")
    assert code == 1 and f"process '{process}' cannot be offered: " in said and why in said
    with pytest.raises(AssertionError, match="404"):
        site.execute(process)


def test_check_says_what_the_container_is_like(site: OrdinarySite) -> None:
    _, said = site.check()
    line = next(line for line in said.splitlines() if "in a container" in line)
    assert "apptainer version 1" in line and "no network" in line and "examples.sif" in line
