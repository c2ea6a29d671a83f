"""What `wps-hpc check` concludes, from recorded mounts, folders and probes."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wps_hpc.cli import check
from wps_hpc.cli.check import PROBLEM, Finding, check_node, check_private_folder, file_system, print_all
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.transports.base import Completed
from wps_hpc.clusters.transports.ssh_openssh import OpenSshTransport
from wps_hpc.config import parse_settings
from wps_hpc.probe import ProbeReport, _ahead

MOUNTS = r"""sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
server:/export /srv/shared nfs4 rw 0 0
/dev/sdb1 /srv/shared/local\040disk xfs rw 0 0
beegfs_nodev /scratch beegfs rw 0 0
me@host: /home/me/remote fuse.sshfs rw 0 0
tmpfs /srv/shared tmpfs rw 0 0
"""

HERE = ProbeReport(
    host="node1",
    user="wps",
    uid=os.geteuid(),
    python=".".join(map(str, sys.version_info[:3])),
    executable="/usr/bin/python3",
    folder="/data/jobs/1",
    clock_ahead=0.0,
    seconds=1.0,
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/x", "ext4"),
        ("/srv/shared/local disk/jobs.sqlite", "xfs"),
        ("/scratch", "beegfs"),
        ("/scratchy", "ext4"),
        ("/home/me/remote/deep/down", "fuse.sshfs"),
        # Mounted over: the later line is what one sees.
        ("/srv/shared/jobs.sqlite", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_that_need_not_exist(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_the_file_system_of_this_host_is_found() -> None:
    assert file_system(Path("/proc/self/status")) == "proc"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "lustre", "gpfs", "beegfs", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "file_system", lambda path: kind)
    settings = parse_settings({"storage": {"root": str(tmp_path / "data")}})
    (finding,) = check.check_database(settings)
    assert finding.level == PROBLEM
    assert f"SQLite on a network file system ({kind})" in finding.text
    assert not (tmp_path / "data").exists()


def test_a_private_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert list(check_private_folder("storage.root", folder)) == [
        Finding("ok", f"storage.root {folder} can be written")
    ]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_place_of_a_folder_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = check_private_folder("storage.root", tmp_path / "file")
    assert finding.level == PROBLEM


def test_a_node_like_this_host_is_nothing_to_mention() -> None:
    assert list(check_node("c", HERE)) == []


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({"python": "3.9.2"}, "note", "Python 3.9.2 there"),
        ({"uid": os.geteuid() + 1}, PROBLEM, f"jobs run as account {os.geteuid() + 1}"),
        ({"clock_ahead": 61.0}, PROBLEM, "clock is 61 s ahead of this host's"),
        ({"clock_ahead": -3600.0}, PROBLEM, "clock is 3600 s behind this host's"),
    ],
)
def test_a_node_that_differs_is_told(changes: dict[str, object], level: str, said: str) -> None:
    (finding,) = check_node("c", replace(HERE, **changes))  # type: ignore[arg-type]
    assert finding.level == level
    assert said in finding.text


@pytest.mark.parametrize(("there", "ahead"), [(105.0, 0.0), (100.0, 0.0), (110.0, 0.0), (115.0, 5.0), (90.0, -10.0)])
def test_a_clock_is_off_only_by_what_is_certain(there: float, ahead: float) -> None:
    assert _ahead(there, 100.0, 110.0) == ahead


@pytest.mark.parametrize(
    ("server", "level"),
    [
        ({"host": "::1"}, "ok"),
        ({"host": "localhost"}, "ok"),
        ({"host": "10.0.0.1", "public_url": "https://x.org", "trusted_proxies": ["10.0.0.2/32"]}, "ok"),
        ({"host": "10.0.0.1", "public_url": "https://x.org"}, "note"),
        ({"host": "10.0.0.1"}, PROBLEM),
        ({"public_url": "x.org"}, PROBLEM),
        ({"public_url": "https://x.org/?a=b"}, PROBLEM),
    ],
)
def test_addresses_are_judged(server: dict[str, object], level: str) -> None:
    levels = {finding.level for finding in check.check_address(parse_settings({"server": server}))}
    assert level in levels
    assert (PROBLEM in levels) == (level == PROBLEM)


def test_a_clock_that_was_never_set_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(check.check_clock(parse_settings({}))) == []
    monkeypatch.setattr("time.time", lambda: 0.0)
    (finding,) = check.check_clock(parse_settings({}))
    assert finding.level == PROBLEM


def test_a_file_that_is_no_database_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_text("garbage, " * 100)
    (finding,) = check.check_database(parse_settings({"storage": {"root": str(tmp_path)}}))
    assert finding.level == check.PROBLEM
    assert "is damaged, or is none" in finding.text


@pytest.mark.parametrize(("local", "noted"), [({}, True), ({"container": {"image": "/i.sif"}}, False)])
def test_jobs_that_run_outside_of_containers_all_the_same_are_noted(local: dict[str, object], noted: bool) -> None:
    settings = parse_settings({"clusters": {"local": local, "hpc": {"container": {"image": "/i.sif"}}}})
    found = list(check.check_containers(settings))
    assert [finding.level for finding in found] == ([check.NOTE] if noted else [])


def test_where_nothing_is_contained_nothing_is_said() -> None:
    assert list(check.check_containers(parse_settings({}))) == []


def test_a_finding_is_one_line_whatever_another_host_said(capsys: pytest.CaptureFixture[str]) -> None:
    print_all([Finding(PROBLEM, "it said \x1b[2J: two\nlines")])
    assert capsys.readouterr().out == "problem it said  [2J: two lines\n"


@pytest.mark.parametrize(
    ("own", "noted"),
    [({"staging": "sftp", "root": "/scratch/wps"}, False), ({"root": "/scratch/wps"}, True), ({}, True)],
)
def test_whether_the_login_node_sees_the_storage_matters_only_where_it_is_shared(
    own: dict[str, object], noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"scheduler": "slurm", "transport": "ssh_openssh", "ssh": {"host": "login"}, **own}
    cluster = build_clusters(parse_settings({"storage": {"root": str(tmp_path)}, "clusters": {"hpc": given}}))["hpc"]
    monkeypatch.setattr(OpenSshTransport, "noise", lambda *_: "")
    monkeypatch.setattr(OpenSshTransport, "run", lambda *_: Completed(0, "wps\n", ""))
    monkeypatch.setattr(OpenSshTransport, "read_many", lambda *_: {})
    said = [finding for finding in check.check_login(cluster) if "storage" in finding.text or "root" in finding.text]
    assert [finding.level for finding in said] == [check.NOTE] * noted
