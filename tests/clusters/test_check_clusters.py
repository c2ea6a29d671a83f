"""``wps-hpc check`` on clusters that do not work: each fault in words that say what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.site import stop_spooler
from wps_hpc.cli.check import PROBLEM, check_clusters
from wps_hpc.config import Settings, parse_settings

MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path) -> Iterator[MakeSettings]:
    """Settings with one local cluster that is configured as given; its spooler is stopped after the test."""
    settings = parse_settings({"storage": {"root": str(tmp_path / "data")}})

    def made(**cluster: Any) -> Settings:
        return parse_settings({"storage": {"root": str(tmp_path / "data")}, "clusters": {"local": cluster}})

    yield made
    stop_spooler(settings)


def problem(settings: Settings) -> str:
    """The one problem that the probe finds."""
    (finding,) = check_clusters(settings, 30.0)
    assert finding.level == PROBLEM
    return finding.text


def test_a_python_that_is_not_there(make_settings: MakeSettings) -> None:
    text = problem(make_settings(python="/usr/bin/no-python"))
    assert "cannot run /usr/bin/no-python: let clusters.local.python name a Python that is there" in text


def test_a_template_that_cannot_be_rendered(make_settings: MakeSettings, tmp_path: Path) -> None:
    own = tmp_path / "own.sh.j2"
    own.write_text("{{ no_such_name }}")
    assert "fault in the server's batch template" in problem(make_settings(template=str(own)))


def test_a_spooler_that_cannot_start(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "data" / "run" / "start.lock").mkdir(parents=True)
    (tmp_path / "data" / "run").chmod(0o700)
    assert "the spooler cannot be started" in problem(make_settings())
