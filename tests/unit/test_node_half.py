"""The node half stands alone: it imports nothing of the server half, and runs on Python 3.9 with dill alone."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import dill

from joblauncher.build import NODE_HALF, build_pyz

ROOT = Path(__file__).parents[2]
#: Modules in rooms of the node half that are the server's own.
SERVER_MODULES = {"wps_hpc.processes.catalogue"}
#: What the server half imports, and the node half must not. psutil is the embedded scheduler's.
SERVER_ROOMS = (
    "wps_hpc.jobs",
    "wps_hpc.protocols",
    "wps_hpc.clusters",
    "wps_hpc.web",
    "wps_hpc.config",
    "wps_hpc.errors",
)
#: The one adapter of PyWPS, an extra: imported where an author's module has imported pywps, and nowhere else.
PYWPS_MODULES = {f"wps_hpc.processes.pywps_{part}" for part in ("description", "inputs", "outputs", "process", "run")}
SERVER_LIBRARIES = ("werkzeug", "lxml", "sqlalchemy", "alembic", "pydantic", "jinja2", "httpx", "filelock", "psutil")

IMPORT_ALL = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def modules_of(package: str) -> set[str]:
    """Dotted names of all modules of a package in the tree."""
    files = (ROOT / package).rglob("*.py")
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__") for name in names if not name.endswith("__main__")}


def node_half() -> set[str]:
    """Every module of the node half."""
    processes = modules_of("wps_hpc/processes") - SERVER_MODULES
    return modules_of("joblauncher") | processes | {"wps_hpc"}


def imported_by(python: Path | str, *path: Path) -> set[str]:
    """What ``sys.modules`` holds after importing the whole node half."""
    done = subprocess.run(
        [python, "-W", "error", "-c", IMPORT_ALL, json.dumps(sorted(node_half() - PYWPS_MODULES))],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=path[0],
        env={"PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_the_node_half_never_imports_the_server_half(tmp_path: Path) -> None:
    found = imported_by(sys.executable, tmp_path, ROOT)
    assert {"joblauncher.formats.records", "wps_hpc.processes.functions"} <= found
    foreign = {name for name in found if name.startswith(SERVER_ROOMS) or name.partition(".")[0] in SERVER_LIBRARIES}
    assert foreign == set()
    assert not found & (SERVER_MODULES | PYWPS_MODULES)
    assert "pywps" not in found


def test_the_node_half_runs_on_python_39_with_dill_alone(tmp_path: Path, python39: Path) -> None:
    (tmp_path / "dill").symlink_to(Path(dill.__file__).parent)
    found = imported_by(python39, tmp_path, ROOT)
    assert node_half() - PYWPS_MODULES <= found


def test_the_launchers_archive_finds_what_a_node_has_installed_beside(tmp_path: Path, python39: Path) -> None:
    build_pyz(tmp_path / "joblauncher.pyz")
    installed = tmp_path / "site" / "wps_hpc"
    (installed / "examples").mkdir(parents=True)
    (installed / "__init__.py").write_text("raise ImportError('the archive comes first')")
    (installed / "examples" / "__init__.py").write_text("")
    (installed / "examples" / "hello.py").write_bytes((ROOT / "examples" / "hello.py").read_bytes())
    program = "import wps_hpc.examples.hello as it; print(it.hello.description.identifier, it.process.__module__)"
    done = subprocess.run(
        [python39, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path / 'joblauncher.pyz'}:{installed.parent}"},
    )
    assert done.stdout.split() == ["hello", "wps_hpc.processes.functions"], done.stderr


def test_the_linter_knows_the_node_half() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["per-file-target-version"]
    files = {f"{name.replace('.', '/')}.py" for name in modules_of("wps_hpc/processes") - SERVER_MODULES}
    files -= {"wps_hpc/processes.py"}
    assert {name for name in files if settings.get(name) != "py39"} == set()
    assert {name for name in settings if "*" not in name and not (ROOT / name).is_file()} == set()


def test_the_launcher_takes_the_whole_node_half_along() -> None:
    taken = {"wps_hpc/" + name for name in NODE_HALF}
    wanted = {name for name in node_half() if name.startswith("wps_hpc.processes.")}
    assert {f"{name.replace('.', '/')}.py" for name in wanted} <= taken
