"""What the operator's guide and the security page say of options, causes and metrics is what the code has."""

import re
import tomllib

import pytest
from pydantic import BaseModel

from joblauncher.formats.records import CAUSES
from tests.schemas import ROOT
from wps_hpc.config import Cluster, Settings, parse_settings

GUIDE = (ROOT / "docs" / "operators-guide.md").read_text()
SECURITY = (ROOT / "docs" / "security.md").read_text()
FROM_PYWPS = (ROOT / "docs" / "from-pywps.md").read_text()
README = (ROOT / "README.md").read_text()


def options() -> set[str]:
    """Every option by its dotted name."""
    sections: dict[str, type[BaseModel]] = {"clusters": Cluster}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections[name] = field.annotation
    return {f"{name}.{option}" for name, section in sections.items() for option in section.model_fields}


def test_every_option_that_is_named_exists() -> None:
    sections = "|".join({option.partition(".")[0] for option in options()})
    named = set(re.findall(rf"`((?:{sections})\.\w+)`", GUIDE + SECURITY + FROM_PYWPS))
    assert len(named) > 15
    assert named <= options()


def test_every_cause_of_failure_is_explained_once() -> None:
    table = GUIDE.partition("### Why a job failed")[2].partition("\n## ")[0]
    assert re.findall(r"^\| ([a-z ]+) \| (?!means)", table, re.MULTILINE) == list(CAUSES)


@pytest.mark.parametrize("block", re.findall(r"^```toml\n(.*?)^```", GUIDE + FROM_PYWPS, re.DOTALL | re.MULTILINE))
def test_every_configuration_that_is_shown_is_valid(block: str) -> None:
    parse_settings(tomllib.loads(block))


@pytest.mark.parametrize("page", ["README.md", "docs/operators-guide.md", "docs/from-pywps.md", "docs/security.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{page}: {target}"
