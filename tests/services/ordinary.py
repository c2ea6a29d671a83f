"""Running programs of this project as an account without any privilege, as a site does.

The tests run as root, and Python may lie where nobody else can go (root's home). So that account gets a view of the
file system of its own, in which the folders on the way are open and hold nothing but what is needed.
"""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.services.slurm import ORDINARY, SEARCHED, _as_account, _make_ordinary_account

ROOT = Path(__file__).parents[2]
#: Subordinate numbers of the account, with which podman makes its containers: first, and how many.
SUBORDINATE = (1_200_000_000, 65_536)


def make_account() -> None:
    """The account, with the right to make containers of podman's kind."""
    _make_ordinary_account()
    first, count = SUBORDINATE
    for file, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        if not Path(file).exists() or f"{ORDINARY}:" not in Path(file).read_text():
            numbers = f"{first}-{first + count - 1}"
            subprocess.run(["usermod", option, numbers, ORDINARY], env={"PATH": SEARCHED}, check=True)


def entrance() -> tuple[str, ...]:
    """The words before a command that run it as that account."""
    script = "\n".join(("set -e", *_opening(), 'exec "$@"'))
    return ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "open", *_as_account(ORDINARY))


def run(*command: str, environment: dict[str, str] | None = None, timeout: float = 120) -> str:
    """What a command says, run as that account; fails when the command does."""
    done = subprocess.run(
        (*entrance(), *command), env=environment or clean(), capture_output=True, text=True, timeout=timeout, cwd="/"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean() -> dict[str, str]:
    """An environment for that account."""
    return {"PATH": SEARCHED, "HOME": "/nonexistent", "LANG": "C.UTF-8", "USER": ORDINARY}


def _opening() -> Iterator[str]:
    """Shell commands that open the way to this Python and the project, within a view of the file system."""
    needed = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    blocked = sorted({folder for path in needed for folder in path.parents if not _open(folder)})
    first = [folder for folder in blocked if not any(other in folder.parents for other in blocked)]
    for folder in first:
        yield from _opened(folder, [path for path in sorted(needed) if folder in path.parents])


def _opened(folder: Path, needed: Sequence[Path]) -> Iterator[str]:
    """Put an empty folder there which has just the needed ones, of those that do not lie within another."""
    outermost = [path for path in needed if not any(other in path.parents for other in needed)]
    quoted = shlex.quote(str(folder))
    yield f"exec 9<{quoted}"
    yield f"mount -t tmpfs -o mode=755 none {quoted}"
    for path in outermost:
        place, inside = shlex.quote(str(path)), shlex.quote(str(path.relative_to(folder)))
        yield f"mkdir -p {place} && mount --no-canonicalize --bind /proc/self/fd/9/{inside} {place}"
    yield "exec 9<&-"


def _open(folder: Path) -> bool:
    return folder.stat().st_mode & 0o005 == 0o005
