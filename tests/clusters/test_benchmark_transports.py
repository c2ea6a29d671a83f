"""The benchmark of transports does not rot: a short run of it."""

import os
import re
import subprocess
import sys

import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.sshd import HOW, find_program


@pytest.mark.cluster
def test_a_short_run_measures_every_transport() -> None:
    require("sshd", find_program(), HOW)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "transports.py"), "--rounds", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\| (\w+) +\| +[\d.]+ ms \|", done.stdout, re.MULTILINE) == [
        "local",
        "ssh_paramiko",
        "ssh_openssh",
    ]
