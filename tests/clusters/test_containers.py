"""Jobs in containers by the local scheduler; the server and its jobs are an account without privileges."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.ordinary import OrdinarySite, ordinary_site
from tests.clusters.site import until
from wps_hpc.jobs.job import Job, JobState

pytestmark = pytest.mark.cluster

DATA = Path(__file__).parents[2] / "examples" / "data"
EXAMPLES = tuple(
    f"wps_hpc.examples.{name}" for name in ("hello", "echo", "buffer", "contours", "time_mean", "zonal_statistics")
)
#: What an environment must not bring into a container, and what must come as it is.
EVIL = {
    "APPTAINER_BIND": "/etc/hostname:/mnt/leak",
    "APPTAINERENV_LEAK": "1",
    "SINGULARITY_BINDPATH": "/etc/hostname:/mnt/leak",
    "SINGULARITYENV_LEAK": "1",
}
OWN = {"OWN": "a,b $(touch /tmp/x) 'c' \"d\" `e` \\"}


def contained(
    image: Path | str, *lines: str, runtime: str = "apptainer", environment: Mapping[str, str] | None = None
) -> str:
    """The tables of a cluster whose jobs run in that image."""
    variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in (environment or {}).items())
    table = ("[clusters.local.container]", f'runtime = "{runtime}"', f'image = "{image}"', *lines)
    return "\n".join((f"environment = {{ {variables} }}", *table))


@dataclass
class Seen:
    """What a job saw, and what was there to be seen."""

    told: Mapping[str, Any]
    site: OrdinarySite
    job: Job
    secret: str
    accepted: list[object] = field(default_factory=list)


def looked(site: OrdinarySite) -> Iterator[Seen]:
    """A job that has looked around, and a job folder beside its own."""
    other = site.execute("look", outside="/", home="/", port=1)
    site.ended(other.id)
    secret, shared = site.folder / "secret", site.folder / "shared.txt"
    for path, text in ((secret, "nobody's business"), (shared, "everybody's")):
        path.write_text(text)
        path.chmod(0o644)
    home = site.folder / "home"
    home.mkdir(mode=0o755)
    (home / "letter").touch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        job = site.execute("look", outside=str(secret), home=str(home), port=port)
        yield Seen(json.loads(site.result(job)), site, job, secret.read_text())


@pytest.fixture(scope="module")
def apptainer(images: Path) -> Iterator[OrdinarySite]:
    """A site whose local jobs run in the image of the examples."""
    table = contained(images / "examples.sif", "env = " + _inline(OWN), environment=EVIL)
    with ordinary_site(local=table, modules=EXAMPLES) as site:
        yield site


def _inline(values: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in values.items()) + " }"


@pytest.fixture(scope="module")
def by_podman(podman: tuple[str, dict[str, str]]) -> Iterator[OrdinarySite]:
    """A site whose local jobs run in containers of podman."""
    image, variables = podman
    table = contained(image, "env = " + _inline(OWN), runtime="podman", environment=variables)
    with ordinary_site(local=table) as site:
        yield site


@pytest.fixture(scope="module", params=["apptainer", "by_podman"])
def site(request: pytest.FixtureRequest) -> OrdinarySite:
    """A site with each of the runtimes."""
    found: OrdinarySite = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def seen(site: OrdinarySite) -> Iterator[Seen]:
    """What a job sees."""
    yield from looked(site)


def test_a_job_sees_no_file_but_its_own(seen: Seen) -> None:
    assert seen.told["outside"].startswith("FileNotFoundError") and seen.secret not in str(seen.told)
    assert seen.told["other jobs"] == str([seen.job.id])


def test_a_job_does_not_see_the_home_of_who_submitted_it(seen: Seen) -> None:
    assert seen.told["home"].startswith("FileNotFoundError")


@pytest.mark.parametrize("name", ["manifest", "folder", "sibling", "launcher"])
def test_a_job_cannot_write_what_the_launcher_reads(seen: Seen, name: str) -> None:
    assert "Read-only file system" in seen.told[name] or "Permission denied" in seen.told[name]
    assert not (seen.site.job_folder(seen.job).path / "more").exists()


def test_a_job_writes_into_its_attempt_as_its_own_account(seen: Seen) -> None:
    mine = seen.site.job_folder(seen.job).attempt(1).work / "mine"
    assert seen.told["work"] == "written" and seen.told["where"] == str(mine.parent)
    assert seen.told["account"] == str(mine.stat().st_uid) != "0"


def test_a_job_does_not_see_the_environment_of_who_submitted_it(seen: Seen) -> None:
    """What the site sets in a container arrives as it was written, commas and all."""
    environment = seen.told["environment"]
    assert "LEAK" not in environment and environment["OWN"] == OWN["OWN"]
    assert "leak" not in str(environment.get("APPTAINER_BIND")) and "USER" not in environment


def test_a_job_sees_no_process_but_its_own(seen: Seen) -> None:
    others = [line for line in seen.told["processes"] if "joblauncher" not in line and "appinit" not in line]
    assert others == [] and 1 <= len(seen.told["processes"]) <= 4


def test_a_job_has_no_network(seen: Seen) -> None:
    assert seen.told["network"].startswith("ConnectionRefused") and seen.told["interfaces"] == "['lo']"


def test_an_input_that_stays_where_it_is_can_be_read(site: OrdinarySite) -> None:
    given = site.folder / "text of mine, with a comma.txt"
    given.write_text("four")
    given.chmod(0o644)
    text = {"href": f"file://{given}".replace(" ", "%20"), "type": "text/plain"}
    assert site.result(site.execute("count_characters", text=text)) == 4


# --- how jobs end ----------------------------------------------------------------------------------------------------


def test_a_time_limit_warns_the_process_and_lets_it_clean_up(site: OrdinarySite) -> None:
    job = site.execute("end", how="clean", started="here", resources="resources=walltime_s=4")
    ended = site.ended(job.id)
    work = site.job_folder(ended).attempt(1).work
    assert ended.state is JobState.FAILED and ended.failure is not None and ended.failure.cause == "time limit"
    assert (work / "here.warned").exists() and (work / "here.cleaned").exists()


def test_a_job_that_is_dismissed_cleans_up(site: OrdinarySite) -> None:
    job = site.execute("end", how="clean", started="here")
    work = site.job_folder(job).attempt(1).work
    until((work / "here").exists, "the process runs")
    site.intake.dismiss(job.id, "the test")
    assert site.ended(job.id).state is JobState.DISMISSED
    assert (work / "here.cleaned").exists()


@pytest.mark.parametrize("how", ["eat", "child eats"])
def test_too_much_memory_is_told(site: OrdinarySite, how: str) -> None:
    ended = site.ended(site.execute("end", how=how).id)
    assert ended.failure is not None and ended.failure.cause == "out of memory", (ended, site.said(ended))


def test_a_container_that_is_killed_as_a_whole_is_told(site: OrdinarySite) -> None:
    """Nobody inside is left to say anything."""
    job = site.execute("end", how="sleep", started="here")
    until((site.job_folder(job).attempt(1).work / "here").exists, "the process runs")
    for pid in site.inside(job):
        os.kill(pid, signal.SIGKILL)
    ended = site.ended(job.id)
    assert ended.failure is not None and ended.failure.cause == "signal", (ended, site.said(ended))
    assert ended.failure.signal == 9


def test_a_runtime_that_is_killed_leaves_nothing_behind(site: OrdinarySite) -> None:
    """Whoever started the container is gone at once, and passes nothing on."""
    job = site.execute("end", how="sleep", started="here")
    until((site.job_folder(job).attempt(1).work / "here").exists, "the process runs")
    os.kill(_starter(site, job), signal.SIGKILL)
    ended = site.ended(job.id)
    assert ended.state is JobState.FAILED and ended.failure is not None
    assert (ended.failure.cause, ended.failure.signal) == ("signal", 9), (ended, site.said(ended))
    until(lambda: not site.inside(job) and not site.outside(job), "nothing of the job is left")


def _starter(site: OrdinarySite, job: Job) -> int:
    """The process of the runtime that the batch script waits for: Apptainer gives itself a name, podman none."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in site.outside(job)}
    (found,) = (pid for pid, line in lines.items() if b"runtime parent" in line or line.startswith(b"podman\0"))
    return found


# --- the examples ----------------------------------------------------------------------------------------------------


def by_address(name: str, mime_type: str) -> dict[str, str]:
    """A sample as an input that stays where it is."""
    return {"href": f"file://{{folder}}/{name}", "type": mime_type}


RUNS: Mapping[str, Mapping[str, Any]] = {
    "hello": {"name": "Ada"},
    "buffer": {"features": by_address("alpine_borders.geojson", "application/geo+json"), "distance": 10000},
    "contours": {"elevation": by_address("jacksboro_dem.tif", "image/tiff; application=geotiff"), "interval": 100},
    "zonal_statistics": {
        "raster": by_address("jacksboro_dem.tif", "image/tiff; application=geotiff"),
        "zones": by_address("jacksboro_zones.geojson", "application/geo+json"),
    },
    "time_mean": {"series": by_address("pacific_winds.nc", "application/x-netcdf"), "variable": "uwnd"},
}


def filled(value: Any, folder: Path) -> Any:
    """Inputs whose samples lie in that folder."""
    if isinstance(value, Mapping):
        return {name: filled(part, folder) for name, part in value.items()}
    return value.format(folder=folder) if isinstance(value, str) else value


def run_examples(site: OrdinarySite) -> Mapping[str, Mapping[str, Any]]:
    """The results of all examples, submitted together; their samples are inputs that stay where they are."""
    for path in DATA.iterdir():
        copy = site.folder / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o644)
    jobs = {name: site.execute(name, **filled(inputs, site.folder)) for name, inputs in RUNS.items()}
    return {name: site.results(job) for name, job in jobs.items()}


def check_examples(results: Mapping[str, Mapping[str, Any]]) -> None:
    """That they are what they should be."""
    assert "Ada" in str(results["hello"])
    assert set(results) == set(RUNS) and all(results.values())
    assert len(results["zonal_statistics"]["statistics"]["value"]["features"]) > 3


def test_the_examples_succeed_in_the_image_that_was_made_for_them(apptainer: OrdinarySite) -> None:
    check_examples(run_examples(apptainer))
