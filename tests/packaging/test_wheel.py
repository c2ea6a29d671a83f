"""What a user gets from the built wheel, in an environment that has never seen the source tree."""

import configparser
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs")


def configured_packages() -> dict[str, Path]:
    """Return package -> folder in the tree, as setup.cfg has it."""
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    moved = dict(line.split(" = ") for line in options["options"]["package_dir"].split("\n") if line)
    names = options["options"]["packages"].split()
    return {name: ROOT / moved.get(name, name.replace(".", "/")) for name in names}


def source_files(folder: Path) -> set[Path]:
    """Return the files beneath a folder, relative to it; without what Python or a file manager left there."""
    files = {file.relative_to(folder) for file in folder.rglob("*") if file.is_file()}
    return {file for file in files if not any(p == "__pycache__" or p.startswith(".") for p in file.parts)}


@dataclass(frozen=True)
class Installed:
    """The wheel, installed by itself in a clean environment."""

    wheel: Path
    environment: Path

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the environment away from the source tree; return what it printed."""
        done = subprocess.run(
            [str(self.environment / "bin" / program), *arguments],
            cwd=self.environment,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def run_python(*arguments: str | Path) -> None:
    """Run the tests' own Python; a failure shows all that it said."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build an sdist and from it a wheel, as a release would, and install it."""
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because the build writes into its tree and would take up what an older one left there.
    shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    run_python("-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "tree")
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    run_python("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    # The dependencies are the tests' own. A path in a .pth file does not have its own .pth files read,
    # so the editable install of the source tree stays out.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(wheel, environment)


def test_every_package_in_the_tree_is_listed() -> None:
    packages = configured_packages()
    tops = {name: folder for name, folder in packages.items() if "." not in name or folder.parent == ROOT}
    in_tree = {
        ".".join([top, *file.parent.parts])
        for top, folder in tops.items()
        for file in source_files(folder)
        if file.suffix == ".py"
    }
    assert in_tree == set(packages)


def test_every_package_is_a_regular_one() -> None:
    # An editable install does not find a moved package without it.
    assert [name for name, folder in configured_packages().items() if not (folder / "__init__.py").exists()] == []


def test_the_wheel_has_every_file_of_every_package(installed: Installed) -> None:
    contents = set(zipfile.ZipFile(installed.wheel).namelist())
    expected = {
        f"{package.replace('.', '/')}/{file}"
        for package, folder in configured_packages().items()
        for file in source_files(folder)
    }
    assert expected - contents == set()


def test_the_wheel_has_nothing_else(installed: Installed) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(installed.wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"wps_hpc", "joblauncher"}


@pytest.mark.parametrize(
    ("package", "resource"),
    [
        ("wps_hpc.batch_templates", "*.sh.j2"),
        ("wps_hpc.examples", "data/*"),
        ("wps_hpc.jobs.migrations", "env.py"),
        ("wps_hpc.jobs.migrations", "versions/*.py"),
    ],
)
def test_assets_are_found_where_it_is_installed(installed: Installed, package: str, resource: str) -> None:
    program = """
        import sys
        from importlib.resources import as_file, files
        with as_file(files(sys.argv[1])) as folder:
            print(*folder.glob(sys.argv[2]), sep="\\n")
    """
    found = installed.run("python", "-c", textwrap.dedent(program), package, resource).split()
    assert found
    assert all(Path(file).is_relative_to(installed.environment) for file in found)


@pytest.mark.parametrize("script", ["wps-hpc", "joblauncher"])
def test_command_is_installed(installed: Installed, script: str) -> None:
    assert script in installed.run(script, "--help")
