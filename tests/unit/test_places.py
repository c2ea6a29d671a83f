"""Where jobs are, and whether the configuration of today still has that place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.far_settings import FAR, MAPPED
from wps_hpc.clusters.cluster import build_cluster
from wps_hpc.config import Cluster, ConfigError, Settings, parse_settings
from wps_hpc.jobs.job import Whereabouts
from wps_hpc.jobs.places import astray

SHARED: dict[str, Any] = {"scheduler": "slurm", "root": "/mnt/wps"}


def settings(own: dict[str, Any]) -> Settings:
    return parse_settings({"clusters": {"hpc": own}})


@pytest.mark.parametrize(
    ("own", "account", "sent_to"),
    [
        (FAR, None, "/scratch/wps"),
        (FAR | {"root": "/scratch/wps/"}, None, "/scratch/wps"),
        (FAR, None, None),
        (MAPPED, "ada", "/home/ada/wps"),
        # Of an owner who was taken out of the table: the account is there all the same.
        (MAPPED, "carl", "/home/carl/wps"),
        (SHARED, None, ""),
        (SHARED | {"root": "/another"}, None, ""),
        (SHARED, None, None),
    ],
)
def test_jobs_that_are_where_the_configuration_says(own: dict[str, Any], account: str | None, sent_to: str) -> None:
    assert astray(settings(own).clusters, Whereabouts("hpc", account, sent_to)) is None


@pytest.mark.parametrize(
    ("own", "account", "sent_to", "setting"),
    [
        (FAR, "ada", "/home/ada/wps", "clusters.hpc.accounts was taken out"),
        (FAR, "ada", None, "clusters.hpc.accounts was taken out"),
        (SHARED, "ada", "/home/ada/wps", "clusters.hpc.accounts was taken out"),
        (MAPPED, None, "/scratch/wps", "clusters.hpc.accounts was added"),
        (MAPPED, None, None, "clusters.hpc.accounts was added"),
        (FAR, None, "/old", "clusters.hpc.root is /scratch/wps now, and there are jobs whose folders were sent"),
        (MAPPED, "ada", "/elsewhere/ada", "clusters.hpc.root is /home/ada/wps now"),
        (FAR, None, "", "clusters.hpc.staging is sftp now"),
        (SHARED, None, "/scratch/wps", "clusters.hpc.staging is shared now"),
    ],
)
def test_jobs_that_are_where_nobody_looks_after_them(
    own: dict[str, Any], account: str | None, sent_to: str, setting: str
) -> None:
    why = astray(settings(own).clusters, Whereabouts("hpc", account, sent_to))
    assert why is not None and why.setting.startswith(setting)
    assert why.told(3).endswith(": 3 jobs stay as they are; set it back until they have ended, or cancel them")
    assert "/" not in why.reason, "clients are told no paths"


def test_a_cluster_that_is_no_longer_configured() -> None:
    why = astray({"another": Cluster()}, Whereabouts("hpc", None, None))
    assert why is not None and why.told(1).startswith("clusters.hpc is no longer configured: 1 job stays as it is;")


@pytest.mark.parametrize(("own", "account", "said"), [(FAR, "ada", "no accounts"), (MAPPED, None, "has accounts")])
def test_a_cluster_is_not_opened_as_another_account_than_the_jobs(
    own: dict[str, Any], account: str | None, said: str
) -> None:
    """With another account's answer, or in another account's folder, every job there would be lost."""
    with pytest.raises(ConfigError, match=said):
        build_cluster(settings(own), "hpc", account)


@pytest.mark.parametrize(("own", "account"), [(FAR, None), (MAPPED, "ada")])
def test_whether_jobs_lie_in_a_folder_is_asked_for_that_folder(own: dict[str, Any], account: str | None) -> None:
    root = "/scratch/wps" if account is None else f"/home/{account}/wps"
    lived = {("hpc", root)}
    made = build_cluster(settings(own), "hpc", account, inhabited=lambda *where: where in lived)
    assert made.depot is not None and made.depot.inhabited()
    lived.clear()
    assert not made.depot.inhabited()
