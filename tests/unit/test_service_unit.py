"""The systemd unit: what must stand in it so that jobs outlive the server."""

import configparser
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from tests.services import require


@pytest.fixture
def unit_text() -> str:
    """The unit as it is installed with the package."""
    return (resources.files("wps_hpc.assets") / "wps-hpc.service").read_text()


@pytest.fixture
def service(unit_text: str) -> configparser.SectionProxy:
    """Its service section."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit_text)
    return parser["Service"]


def test_stopping_the_server_does_not_stop_jobs(service: configparser.SectionProxy) -> None:
    """Neither a restart, nor one job's memory, nor a private /tmp takes the others along."""
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["Delegate"] == "yes"
    assert not {"PrivateTmp", "ProtectHome", "ProtectControlGroups", "RestrictNamespaces"} & set(service)


def test_systemd_reads_the_unit(unit_text: str, tmp_path: Path) -> None:
    """No option is misspelt; account and program are replaced by some that exist here."""
    probe = subprocess.run(["/bin/sh", "-c", "command -v systemd-analyze"], capture_output=True, check=False)
    require("systemd-analyze", probe.stdout, "install Debian's package systemd")
    here = unit_text.replace("/opt/wps-hpc/bin/wps-hpc", "/bin/true").replace("=wps\n", "=root\n")
    (tmp_path / "wps-hpc.service").write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "wps-hpc.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "wps-hpc.service" in done.stderr) == (0, False), done.stderr
