"""Batch scripts: nothing unquoted gets in, and a site may bring its own."""

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.environment import clean_environment
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.clusters.scripts import ScriptError, load_template, render_script
from wps_hpc.config import Cluster, ConfigError, Settings, Storage

NASTY = "a b'c\"d`e`$(f)\\;\n|&>#"
ORDER = JobOrder("w1", "job", "", "/jobs/x y'z", ("python", "launcher", "--folder", NASTY), 3)


def own(tmp_path: Path, text: str) -> Path:
    """A site's own template."""
    file = tmp_path / "own.sh.j2"
    file.write_text(text)
    return file


def test_the_delivered_script_is_shell_and_quotes_everything() -> None:
    """With the worst of paths, arguments and values, the shell still reads it as it was meant."""
    script = render_script(load_template("local"), ORDER, {"NASTY": NASTY})
    checked = subprocess.run(["/bin/sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert script.startswith("#!/bin/sh\n")
    assert shlex.quote(NASTY) in script
    assert f"{shlex.quote('/jobs/x y' + chr(39) + 'z/attempts')}/3" in script


def test_text_that_no_filter_has_quoted_is_an_error(tmp_path: Path) -> None:
    """A forgotten filter shows at the first job, not at the first nasty name."""
    with pytest.raises(ScriptError, match="without the filter"):
        render_script(load_template("local", own(tmp_path, "cd {{ order.folder }}")), ORDER, {})


def test_a_name_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Not an empty string in a shell script."""
    with pytest.raises(ScriptError, match="wall_time"):
        render_script(load_template("local", own(tmp_path, "{{ order.wall_time | quote }}")), ORDER, {})


def test_numbers_may_be_printed_as_they_are(tmp_path: Path) -> None:
    """The submission number, say."""
    assert render_script(load_template("local", own(tmp_path, "n={{ order.submission }}\n")), ORDER, {}) == "n=3\n"


@pytest.mark.parametrize("text", ["{{ order", "{% if %}", "{{ order.token | shout }}"])
def test_a_template_that_is_none_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    """Found when the server starts; the message names the file."""
    with pytest.raises(ConfigError, match=r"own\.sh\.j2"):
        load_template("local", own(tmp_path, text))


def test_a_missing_template_is_a_configuration_error(tmp_path: Path) -> None:
    """With its path."""
    with pytest.raises(ConfigError, match="missing"):
        load_template("local", tmp_path / "missing")


def test_a_cluster_with_its_own_script_or_python_is_not_started_warm(tmp_path: Path) -> None:
    """The fork would run neither."""
    clusters = {
        "local": Cluster(),
        "script": Cluster(template=own(tmp_path, "exec {{ order.launcher | argv }}\n")),
        "python": Cluster(python="/usr/bin/python3"),
    }
    built = build_clusters(Settings(storage=Storage(root=tmp_path), clusters=clusters))
    assert {name: cluster.warm for name, cluster in built.items()} == {"local": True, "script": False, "python": False}
    assert built["python"].python == "/usr/bin/python3"
    order = replace(ORDER, launcher=("a b", "--c"))
    assert built["script"].render_script(order) == "exec 'a b' --c\n"


def test_the_environment_is_a_list_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not listed stays, what is listed comes, the cluster's own wins, and there is always a PATH."""
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("TZ", "Europe/Vienna")
    monkeypatch.delenv("PATH")
    environment = clean_environment({"TZ": "UTC", "OWN": "1"})
    assert environment["TZ"] == "UTC" and environment["OWN"] == "1" and environment["PATH"]
    assert "SECRET" not in environment
