"""PyWPS in another release than the environment's: in a folder of its own, which comes first on the PYTHONPATH."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

from tests.schemas import ROOT
from tests.services import require

#: The oldest release that is supported; the newest one is the environment's own.
OLDEST = "4.5.2"
NEWEST = importlib.metadata.version("pywps")
FOLDERS = ROOT / "tests" / ".pywps"
#: What PyWPS needs for processes whose validators do without GDAL, on a node.
_NODE = ("dill", "humanize", "jinja2", "lxml", "python-dateutil", "requests", "SQLAlchemy", "werkzeug")


def python_path(release: str) -> str:
    """The PYTHONPATH under which that release of PyWPS is imported, and the processes of the tests."""
    return str(ROOT) if release == NEWEST else f"{_installed(release)}:{ROOT}"


def _installed(release: str) -> Path:
    folder = FOLDERS / release
    if not folder.is_dir():
        _install(Path(sys.executable), folder, "--no-deps", f"pywps=={release}")
    return folder


def _install(python: Path, folder: Path, *what: str) -> None:
    """Whole or not at all, so that the folder can be kept."""
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(partial)]
    done = subprocess.run([*command, *what], capture_output=True, text=True, timeout=600, check=False)
    require(f"PyWPS ({' '.join(what)})", done.returncode == 0, f"it cannot be installed from PyPI: {done.stderr}")
    partial.replace(folder)


def node_path(python: Path, release: str) -> str:
    """A PYTHONPATH for another interpreter, with that release and no more than a node needs of it."""
    dependencies = FOLDERS / f"node-{python.resolve().parents[1].name}"
    if not dependencies.is_dir():
        _install(python, dependencies, *_NODE)
    return f"{_installed(release)}:{dependencies}:{ROOT}"
