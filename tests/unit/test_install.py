"""tests/services/install.sh, with commands that are none: nothing is installed here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "services" / "install.sh"
#: Nothing is there (``bash`` runs the proofs), and of the packages one cannot be had.
COMMANDS = {"bash": "exit 1", "apt-get": 'echo "$@" >>"$0.asked"; case "$*" in *munge*) exit 100 ;; esac'}


def install(folder: Path, user: int, *packages: str) -> subprocess.CompletedProcess[str]:
    """Run the script as if by that user."""
    for name, text in {**COMMANDS, "id": f"echo {user}"}.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(
        ["/bin/bash", str(SCRIPT), *packages], env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_right_to_install_the_way_is_named_that_works(tmp_path: Path) -> None:
    """Packages that are only unpacked here would keep each other away, installed."""
    done = install(tmp_path, 1000, "gridengine", "slurm-wlm-torque")
    assert done.returncode == 0 and "make services" in done.stdout
    assert "apt-get install" not in done.stdout and not (tmp_path / "apt-get.asked").exists()


@pytest.mark.parametrize("packages", [("munge", "mariadb-server"), ("mariadb-server", "munge")])
def test_a_package_that_cannot_be_had_is_named_and_the_others_are_installed(
    tmp_path: Path, packages: tuple[str, ...]
) -> None:
    done = install(tmp_path, 0, *packages)
    assert done.returncode == 0 and "munge" in done.stderr and "mariadb-server" not in done.stderr
    asked = (tmp_path / "apt-get.asked").read_text()
    assert "recommends mariadb-server" in asked and "munge mariadb-server" not in asked
