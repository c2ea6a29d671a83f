"""``wps-hpc init --from-pywps``: what a PyWPS configuration becomes, and what is said of the rest."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wps_hpc.cli.init import init
from wps_hpc.config import ConfigError, nested, parse_settings
from wps_hpc.pywps_settings import UNLIMITED, Carried, carry

FULL = """
[metadata:main]
identification_title = Emu
identification_abstract = Processes for tests
identification_keywords = PyWPS, WPS,OGC
identification_keywords_type = discipline
identification_fees = 5 €
identification_accessconstraints = none
provider_name = A centre
provider_url = https://example.org/
contact_name = Lovelace, Ada
contact_position = Operator
contact_address = 1 Street
contact_city = Town
contact_stateorprovince = Shire
contact_postalcode = 12345
contact_country = Land
contact_phone = +44 1
contact_fax = +44 2
contact_email = ada@example.org
contact_hours = Hours of Service

[server]
url = https://wps.example.org/wps
language = en-US,fr-CA
maxprocesses = 50
parallelprocesses = -1
maxsingleinputsize = 100mb
maxrequestsize = 2gb
allowedinputpaths = /data/a:/data/b
outputpath = /shared/outputs
outputurl = https://wps.example.org/outputs
workdir = /shared/work
cleantempdir = false
storagetype = s3

[processing]
mode = scheduler
path = /opt/bin
drmaa_native_specification = -p long --account=geo -t 2:30:00 --mem=4G --exclusive --output=/dev/null -c 4

[logging]
level = WARN
file = /var/log/pywps.log
database = postgresql://pywps:secret@db/pywps

[centre]
motto = festina lente
"""


def carried(folder: Path, text: str) -> Carried:
    path = folder / "pywps.cfg"
    path.write_text(text)
    return carry([path])


def test_everything_that_has_a_place(tmp_path: Path) -> None:
    found = carried(tmp_path, FULL).values
    settings = parse_settings(nested(found))
    said = settings.metadata
    assert (said.title, said.keywords, said.fees) == ("Emu", ("PyWPS", "WPS", "OGC"), "5 €")
    assert (said.address, said.region, said.postal_code) == ("1 Street", "Shire", "12345")
    assert (settings.server.public_url, settings.server.languages) == ("https://wps.example.org", ("en-US", "fr-CA"))
    limits = settings.limits
    assert (limits.parallel, limits.queued) == (UNLIMITED, 50)
    assert (limits.input_bytes, limits.request_bytes) == (100 * 2**20, 2 * 2**30)
    assert (limits.walltime_seconds, limits.memory_mb) == (9000, 4096)
    assert [str(folder) for folder in settings.inputs.folders] == ["/data/a", "/data/b"]
    assert "file" in settings.inputs.schemes
    assert str(settings.storage.root) == "/shared/outputs/wps-hpc"
    assert (settings.logging.level, str(settings.logging.file)) == ("WARNING", "/var/log/pywps.log")
    assert settings.processes.pywps_config == (tmp_path / "pywps.cfg",)


def test_a_scheduler_becomes_a_cluster(tmp_path: Path) -> None:
    settings = parse_settings(nested(carried(tmp_path, FULL).values))
    cluster = settings.clusters[settings.default_cluster]
    assert (cluster.scheduler, cluster.partition, cluster.account) == ("slurm", "long", "geo")
    assert cluster.options == {"exclusive": ""}


def test_what_is_not_carried_over_is_said(tmp_path: Path) -> None:
    notes = "\n".join(carried(tmp_path, FULL).notes)
    for words in (
        "discipline",
        "+44 2",
        "working directories are always deleted",
        "storagetype = s3",
        "without DRMAA",
        "--output is the server's own",
        "--cpus-per-task=4",
        "[centre] stays in pywps.cfg",
        "PyWPS's log of requests",
        "limits.sync_seconds",
    ):
        assert words in notes
    assert "secret" not in notes
    assert "hours of service" not in notes.lower(), "PyWPS's own defaults are no loss"


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("[server]\nmaxprocesses = many", "[server] maxprocesses = many cannot be read"),
        ("[server]\nmaxsingleinputsize = big", "cannot be read (not a size)"),
        ("[server]\nmaxsingleinputsize = 0", "without a limit"),
        ("[server]\nnonsense = 1", "[server] nonsense is not an option of PyWPS"),
        ("[server]\nurl = https://example.org/geo", "https://example.org/geo/wps"),
        ("[processing]\nmode = docker", "clusters.local.container"),
        ("[processing]\ndrmaa_native_specification = -l h_rt=60 -pe smp 4", "not options of sbatch"),
    ],
)
def test_notes(tmp_path: Path, line: str, note: str) -> None:
    found = carried(tmp_path, f"{line}\n")
    assert any(note in entry for entry in found.notes), found.notes
    parse_settings(nested(found.values))


def test_short_options_that_are_not_taken_do_not_lose_the_others(tmp_path: Path) -> None:
    found = carried(
        tmp_path,
        "[processing]\nmode = scheduler\ndrmaa_native_specification = -o /dev/null -J pywps -H -p long -t 1:00:00\n",
    )
    assert found.values["clusters.hpc.partition"] == "long"
    assert found.values["limits.walltime_seconds"] == 3600
    for name in ("--output", "--job-name", "--hold"):
        assert any(f"{name} is the server's own to set" in note for note in found.notes), found.notes
    assert "clusters.hpc.options" not in found.values


@pytest.mark.parametrize("specification", ["-t UNLIMITED -p long", '-A "two words" -p long', "--mem=lots -p long"])
def test_what_cannot_be_read_or_is_refused_does_not_lose_the_others(tmp_path: Path, specification: str) -> None:
    found = carried(tmp_path, f"[processing]\nmode = scheduler\ndrmaa_native_specification = {specification}\n")
    settings = parse_settings(nested(found.values))
    assert settings.clusters["hpc"].partition == "long"
    assert any("cannot be" in note for note in found.notes), found.notes


def test_the_port_of_a_server_on_this_host(tmp_path: Path) -> None:
    """What is published from elsewhere has a proxy, whose port says nothing of ours."""
    for url, port in (("http://localhost:5000/wps", 5000), ("http://example.org:5000/wps", None)):
        assert carried(tmp_path, f"[server]\nurl = {url}\n").values.get("server.port") == port


def test_a_variable_that_is_not_set_makes_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CENTRE_DATA", raising=False)
    found = carried(tmp_path, "[server]\noutputpath = ${CENTRE_DATA}/outputs\nparallelprocesses = 3\n")
    assert "storage.root" not in found.values
    assert found.values["limits.parallel"] == 3
    assert any("outputpath" in note and "CENTRE_DATA" in note for note in found.notes), found.notes


def test_paths_count_from_where_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyWPS takes relative ones from the current folder, our configuration from its own."""
    monkeypatch.chdir(tmp_path)
    found = carried(tmp_path, "[server]\noutputpath = outputs\nallowedinputpaths = data\n[logging]\nfile = a.log\n")
    assert found.values["storage.root"] == str(tmp_path / "outputs" / "wps-hpc")
    assert found.values["inputs.folders"] == [str(tmp_path / "data")]
    assert found.values["logging.file"] == str(tmp_path / "a.log")


def test_all_files_of_the_host_as_inputs_are_told(tmp_path: Path) -> None:
    found = carried(tmp_path, "[server]\nallowedinputpaths = /\n")
    assert any("every file that the server can read" in note for note in found.notes), found.notes


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 5400), ("1:30", 90), ("1:00:00", 3600), ("2-12", 216_000), ("1-00:30", 88_200)]
)
def test_times_of_sbatch(tmp_path: Path, text: str, seconds: int) -> None:
    found = carried(tmp_path, f"[processing]\ndrmaa_native_specification = --time {text}\n")
    assert found.values["limits.walltime_seconds"] == seconds


def test_the_environment_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPS_TEST_HOST", "wps.example.org")
    found = carried(
        tmp_path, "[server]\nurl = https://$WPS_TEST_HOST/wps\n[metadata:main]\nprovider_name = %(WPS_TEST_HOST)s\n"
    )
    assert found.values["server.public_url"] == "https://wps.example.org"
    assert found.values["metadata.provider_name"] == "wps.example.org"


def test_later_files_win(tmp_path: Path) -> None:
    for name, number in (("a.cfg", 1), ("b.cfg", 2)):
        (tmp_path / name).write_text(f"[server]\nparallelprocesses = {number}\n")
    assert carry([tmp_path / "a.cfg", tmp_path / "b.cfg"]).values["limits.parallel"] == 2


@pytest.mark.parametrize("text", ["no section = 1\n", "[server\n"])
def test_what_is_no_configuration_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="not a PyWPS configuration"):
        carried(tmp_path, text)


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "pywps.cfg").write_text(FULL)
    target = tmp_path / "wps-hpc.toml"
    modules = 'processes.modules=["centre.processes"]'
    arguments = [
        str(target),
        "--from-pywps",
        str(tmp_path / "pywps.cfg"),
        "--set",
        modules,
        "--set",
        "server.port=9000",
    ]
    done = CliRunner().invoke(init, arguments)
    assert done.exit_code == 0, done.output
    assert "note: mode = scheduler" in done.output
    content: dict[str, Any] = tomllib.loads(target.read_text())
    settings = parse_settings(content)
    assert (settings.server.port, settings.processes.modules) == (9000, ("centre.processes",))
    assert settings.clusters["hpc"].partition == "long"
    assert settings.metadata.title == "Emu"
