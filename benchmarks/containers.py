"""What a container adds to the start of a job: every runtime that is here beside a bare launcher.

`make bench-containers`, as root; what is measured runs as an account without privileges. A start is from the command
line that a batch script has, with all its isolation, to the launcher's first answer (``--version``), by which time it
has imported all of itself; and the end of the container.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from report import machine, number, table

from joblauncher.build import build_pyz
from tests.services import containers, ordinary
from wps_hpc import config
from wps_hpc.clusters.containers import Places, entry
from wps_hpc.processes import description
from wps_hpc.processes.description import Resources

RUNS = 15


def main() -> None:
    """Prepare, measure as that account, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--measure", help="what is prepared, as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(json.loads(options.measure), options.runs)))
        return
    print(f"# Start of a launcher\n\n{machine()}\n")
    with prepared() as found:
        command = (sys.executable, __file__, "--runs", str(options.runs), "--measure", json.dumps(found))
        said = ordinary.run(
            *command, environment={**ordinary.clean(), "PYTHONPATH": str(containers.ROOT)}, timeout=1200
        )
    print(shown(json.loads(said.splitlines()[-1])))


@contextmanager
def prepared() -> Iterator[dict[str, object]]:
    """A job folder, the launcher, and the images of the runtimes that are here."""
    ordinary.make_account()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wps-hpc-bench-")))
        (folder / "attempts").mkdir()
        for path in (folder, folder / "attempts"):
            shutil.chown(path, ordinary.ORDINARY, ordinary.ORDINARY)
        build_pyz(folder / "joblauncher.pyz")
        ways: dict[str, object] = {}
        if containers.runs_apptainer():
            images = stack.enter_context(containers.public_images())
            ways |= apptainer_ways(images, folder)
        if containers.runs_podman():
            image, variables = stack.enter_context(containers.own_podman())
            ways["podman, an imported image"] = {"runtime": "podman", "image": image, "variables": variables}
        yield {"folder": str(folder), "ways": ways}


def apptainer_ways(images: Path, folder: Path) -> dict[str, object]:
    """The same image as a file, signed, and as a folder."""
    image, key = images / "examples.sif", folder / "key"
    for command in (
        ("openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-out", f"{key}.pem"),
        ("openssl", "pkey", "-in", f"{key}.pem", "-pubout", "-out", f"{key}.pub"),
        ("cp", str(image), str(images / "signed.sif")),
        ("apptainer", "--silent", "sign", "--key", f"{key}.pem", str(images / "signed.sif")),
        ("chmod", "-R", "a+rX", str(images), f"{key}.pub"),
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # As that account: root would need all of root's capabilities.
    ordinary.run("apptainer", "--silent", "build", "--sandbox", str(folder / "image"), str(image), timeout=600)
    return {
        "Apptainer, an image file": {"image": str(image)},
        "Apptainer, an image file whose signature is checked": {
            "image": str(images / "signed.sif"),
            "signed_by": f"{key}.pub",
        },
        "Apptainer, an image that is a folder": {"image": str(folder / "image")},
    }


def measured(found: Mapping[str, object], runs: int) -> dict[str, list[float]]:
    """Milliseconds of each start, in turns, by the way."""
    folder = Path(str(found["folder"]))
    launcher = (str(folder / "joblauncher.pyz"), "--version")
    commands = {"a bare launcher": ((sys.executable, *launcher), {})}
    ways = found["ways"]
    assert isinstance(ways, dict)
    for name, own in ways.items():
        variables = own.pop("variables", {})
        settings = config.Cluster(container=config.Container(**own))
        places = Places(str(folder), str(folder / "attempts"), launcher[0])
        made = entry(settings, description.Container(), places, Resources())
        assert made is not None
        commands[name] = ((*made.entered("1"), "python3", *launcher), variables)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for number_of_run in range(runs + 1):
        for name, (command, variables) in commands.items():
            taken = timed(command, variables)
            if number_of_run:  # the first one fills caches
                times[name].append(taken)
    return times


def timed(command: tuple[str, ...], variables: Mapping[str, str]) -> float:
    """Milliseconds from start to end of a command."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - begun)


def shown(times: Mapping[str, list[float]]) -> str:
    """The table of medians, and how many times the bare launcher's each is."""
    bare = statistics.median(times["a bare launcher"])
    lines = [("", "median", "least", "greatest", "times bare")]
    for name, values in times.items():
        median = statistics.median(values)
        figures = (median, min(values), max(values))
        lines.append((name, *(number(value, "ms") for value in figures), number(median / bare, "×")))
    return table(lines)


if __name__ == "__main__":
    main()
