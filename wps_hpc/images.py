"""An image for the site's processes, made of what this host has: no registry, no network, no privilege.

It holds this Python, what the processes import, programs that they start, and the shared libraries of all these; not
the server. Its launcher comes from outside. A program's own data has to be named, and what a process imports only while
it runs.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from wps_hpc.clusters import containers
from wps_hpc.config import Container, Processes

log = logging.getLogger(__name__)

#: Where Python lies in the image.
PYTHON = Path("opt/python")
#: Of the standard library, what no job needs; other packages are chosen one by one.
_NOT_TAKEN = ("site-packages", "dist-packages", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "config-*")
#: What a shell command in a process may count on.
PROGRAMS = ("sh", "cat", "env", "ls")
_FOLDERS = ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var/tmp")
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    # The runtime puts the node's own in their places.
    "etc/hosts": "",
    "etc/resolv.conf": "",
    "etc/localtime": "",
}
#: A library in what ldd prints: «name => path (address)», or the loader's «path (address)».
_LIBRARY = re.compile(r"(?m)^\s+(?:\S+ => )?(/\S+) \(0x")
#: Prints what loading the processes has imported; run apart, so that nothing counts that this program needs itself.
_IMPORTED = """
import json, sys
from pathlib import Path
from wps_hpc.processes.catalogue import Catalogue
modules, folders, configs = json.load(sys.stdin)
catalogue = Catalogue(modules, [Path(name) for name in folders], [Path(name) for name in configs])
catalogue.reload()
print(json.dumps([sorted(sys.modules), dict(catalogue.problems)]))
"""


class ImageError(Exception):
    """The image cannot be made; the text says why and what to do."""


@dataclass(frozen=True)
class Contents:
    """What goes into an image, beside Python itself: modules that define processes, installed distributions by name
    (with what these require), programs by name or path, and any other files and folders, which keep their paths."""

    processes: Processes
    distributions: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()


def examples() -> Contents:
    """The examples that come with the server, with GDAL's program where this host has it."""
    package = importlib.util.find_spec("wps_hpc.examples")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "demo"))
    gdal = shutil.which("gdal_contour") is not None
    data = [Path("/usr/share", name) for name in ("gdal", "proj")] if gdal else []
    return Contents(
        Processes(modules=tuple(f"wps_hpc.examples.{name}" for name in names)),
        # They import these only where they use them.
        distributions=tuple(_applicable(metadata.requires("wps-hpc") or (), "examples")),
        programs=("gdal_contour",) if gdal else (),
        paths=tuple(path for path in data if path.is_dir()),
    )


def build(contents: Contents, settings: Container, target: str) -> None:
    """Make an image and give it to a runtime as ``target``: a file for Apptainer, a name for podman and docker.

    Raises ImageError.
    """
    with _gathered(contents) as folder:
        runtime, program = containers.RUNTIMES[settings.runtime], containers.command(settings)
        try:
            done = subprocess.run(
                runtime.build(program, folder, target),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            raise ImageError(f"{program} cannot be run: {error.strerror}") from error
        if done.returncode != 0:
            raise ImageError(f"{program} could not make the image: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def _gathered(contents: Contents) -> Iterator[Path]:
    """A folder with all that goes into the image, as long as the block lasts; raises ImageError."""
    try:
        with tempfile.TemporaryDirectory(prefix="wps-hpc-image-") as temporary:
            tree = Tree(Path(temporary, "root"))
            tree.fill(contents)
            yield tree.folder
    except OSError as error:
        raise ImageError(f"the image's files could not be gathered: {error}") from error


@dataclass
class Tree:
    """The file system of an image as it grows beneath ``folder``. ``programs`` are files whose libraries it needs."""

    folder: Path
    programs: list[Path] = field(default_factory=list)

    def fill(self, contents: Contents) -> None:
        """Copy everything."""
        self._lay_out()
        self._copy_python()
        imported = loaded(contents.processes)
        for name in closure((*distributions_of(imported), *contents.distributions)):
            self._copy_distribution(name)
        for name in _own_modules(contents.processes):
            self._copy_module(name)
        for name in (*PROGRAMS, *contents.programs):
            self._copy_program(name)
        for path in contents.paths:
            self._copy(path, self.folder / path.relative_to("/"))
        self._copy_libraries()

    @property
    def packages(self) -> Path:
        """Where Python in the image looks for packages."""
        return self.folder / PYTHON / "lib" / _python_name() / "site-packages"

    def _lay_out(self) -> None:
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        for name in ("tmp", "var/tmp"):
            (self.folder / name).chmod(0o1777)
        for name in _MERGED:
            if Path("/", name).is_symlink() or Path("/usr", name).is_dir():
                (self.folder / "usr" / name).mkdir(exist_ok=True)
                (self.folder / name).symlink_to(Path("usr", name))
        for name, text in _FILES.items():
            (self.folder / name).write_text(text)

    def _copy_python(self) -> None:
        library = self.folder / PYTHON / "lib" / _python_name()
        self._copy(Path(sysconfig.get_path("stdlib")), library, _NOT_TAKEN)
        # Debian's Python looks for packages under another name.
        self.packages.mkdir()
        (library / "dist-packages").symlink_to("site-packages")
        program = self.folder / PYTHON / "bin" / _python_name()
        self._copy(Path(sys.executable).resolve(), program)
        for link in (program.with_name("python3"), self.folder / "usr" / "bin" / "python3"):
            link.symlink_to(os.path.relpath(program, link.parent))

    def _copy_distribution(self, name: str) -> None:
        found = metadata.distribution(name)
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            # What lies elsewhere are commands for people.
            if ".." not in file.parts and source.is_file():
                self._copy(source, self.packages / file)

    def _copy_module(self, name: str) -> None:
        """A module, or a whole package, at its place; of the packages that it lies in, only their own first file."""
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImageError(f"the module {name} does not lie in a file")
        place = self.packages.joinpath(*name.split("."))
        if spec.submodule_search_locations:
            self._copy(Path(spec.origin).parent, place)
        else:
            self._copy(Path(spec.origin), place.with_name(Path(spec.origin).name))
        if parent := name.rpartition(".")[0]:
            self._copy_parent(parent)

    def _copy_parent(self, name: str) -> None:
        spec = importlib.util.find_spec(name)
        place = self.packages.joinpath(*name.split("."), "__init__.py")
        if spec is not None and spec.origin is not None and not place.exists():
            self._copy(Path(spec.origin), place)
        if parent := name.rpartition(".")[0]:
            self._copy_parent(parent)

    def _copy_program(self, name: str) -> None:
        found = shutil.which(name)
        if found is None:
            raise ImageError(f"there is no program {name} on this host")
        place = Path("usr", "bin", Path(found).name) if "/" not in name else Path(name).relative_to("/")
        self._copy(Path(found).resolve(), self.folder / place)

    def _copy(self, source: Path, target: Path, without: Collection[str] = ()) -> None:
        """Copy a file or folder, times too, so that what was compiled stays valid; readable for everybody."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns(*without)
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        else:
            shutil.copy2(source, target)
        for path in (target, *target.rglob("*")) if target.is_dir() else (target,):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        self.programs += (path for path in _files(source, without) if _is_program(path))

    def _copy_libraries(self) -> None:
        """The shared libraries of all programs; those that lie among what was copied are there already."""
        inside = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
        for path in sorted(libraries(self.programs)):
            target = self.folder / path.relative_to("/")
            if not any(path.is_relative_to(folder) for folder in inside) and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path.resolve(), target)
                target.chmod(0o755)


def loaded(processes: Processes) -> list[str]:
    """The names of all modules that are there once the processes are; ImageError for one that cannot be loaded."""
    wanted = [list(processes.modules), *([str(path) for path in paths] for paths in _listed(processes))]
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED], input=json.dumps(wanted), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ImageError(f"the processes cannot be loaded: {done.stderr.strip()}")
    names, problems = json.loads(done.stdout.splitlines()[-1])
    if problems:
        text = "; ".join(f"{origin}: {problem}" for origin, problem in problems.items())
        raise ImageError(f"not every process can be loaded: {text}")
    return list(names)


def _listed(processes: Processes) -> Iterator[tuple[Path, ...]]:
    yield processes.folders
    yield processes.pywps_config


def distributions_of(modules: Iterable[str]) -> list[str]:
    """The installed distributions that modules belong to, but for the server's own."""
    owners = metadata.packages_distributions()
    tops = {name.partition(".")[0] for name in modules}
    return sorted({owner for top in tops for owner in owners.get(top, ())} - {"wps-hpc"})


def closure(names: Iterable[str]) -> list[str]:
    """Distributions with all that they require here; one that is named and not installed is an ImageError."""
    found: dict[str, None] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if _normal(name) in found:
            continue
        try:
            required = metadata.requires(name)
        except metadata.PackageNotFoundError as error:
            raise ImageError(f"{name} is not installed here: pip install {name}") from error
        found[_normal(name)] = None
        pending += _applicable(required or ())
    return list(found)


def _applicable(required: Iterable[str], extra: str = "") -> Iterator[str]:
    """The names of requirements that hold here: those of an extra alone, else those without any."""
    for text in required:
        requirement = Requirement(text)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if always != bool(extra) and (always or requirement.marker.evaluate({"extra": extra})):  # type: ignore[union-attr]
            yield requirement.name


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _own_modules(processes: Processes) -> Iterator[str]:
    """The processes' modules that no distribution brings along: the server's examples, and what lies on PYTHONPATH."""
    owners = metadata.packages_distributions()
    for name in processes.modules:
        if set(owners.get(name.partition(".")[0], ())) <= {"wps-hpc"}:
            yield name


def libraries(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs and libraries are linked with, as the loader finds them here."""
    files = sorted({str(path) for path in programs})
    found: set[Path] = set()
    for start in range(0, len(files), 200):
        # It complains of what is linked statically, and goes on.
        said = subprocess.run(["ldd", *files[start : start + 200]], capture_output=True, text=True, check=False).stdout
        found |= {Path(path) for path in _LIBRARY.findall(said)}
    return found


def _files(path: Path, without: Collection[str]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, names, files in os.walk(path):
        ignored = shutil.ignore_patterns(*without)(folder, names)
        names[:] = [name for name in names if name not in ignored]
        yield from (Path(folder, name) for name in files)


def _is_program(path: Path) -> bool:
    if path.is_symlink() and not path.exists():
        return False
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _python_name() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"
