"""Other Python interpreters: a compute node's need not be the server's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services import require


def find_python(version: str) -> Path | None:
    """Return an interpreter of exactly this minor version that runs, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    if found := shutil.which(f"python{version}"):
        candidates.append(Path(found))
    return next((python for python in candidates if _runs_as(python, version)), None)


def _runs_as(python: Path, version: str) -> bool:
    """Whether it really runs: a name on the PATH may be a version manager's stub."""
    command = [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return said.strip() == version


@pytest.fixture(scope="session")
def python39() -> Path:
    """An interpreter of Python 3.9, the oldest that the node half runs on, with nothing installed."""
    python = find_python("3.9")
    require("Python 3.9", python, "install it (for example: pyenv install 3.9), or put python3.9 on the PATH")
    assert python is not None
    return python
