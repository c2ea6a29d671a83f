"""What the real sbatch makes of the batch script's directives, and what /bin/sh makes of the rest. No Slurm has to run:
``sbatch -v`` prints the options that it has understood before it looks for a controller."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clusters.site import until
from tests.services import require
from wps_hpc.clusters.environment import withheld
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.scripts import ScriptError, load_template, render_script
from wps_hpc.config import Cluster
from wps_hpc.processes.description import Resources

STUB = "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nAuthType=auth/none\nMessageTimeout=2\n"
TOKEN = "w" * 15
ORDER = JobOrder(TOKEN, "job", "", "/jobs/x", (sys.executable, "-c", "pass"), 1, Resources(walltime_s=7200))
#: The last directive: whatever a value did to the ones before it, this one must still be there.
LAST = {"nice": "77"}


def render(order: JobOrder, **cluster: object) -> str:
    """The delivered script of an order on a cluster with these settings."""
    settings = Cluster.model_validate({"scheduler": "slurm", **cluster})
    directives = {**SlurmScheduler(settings).directives(order), **LAST}
    own = withheld(settings.command_environment)
    return render_script(load_template("slurm"), order, settings.environment, directives, own)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a cluster that is not there."""
    require("sbatch", shutil.which("sbatch"), "install Debian's package slurm-client (make services)")
    path = tmp_path_factory.mktemp("slurm") / "slurm.conf"
    path.write_text(STUB)
    return path


def understood(stub: Path, script: str) -> dict[str, str]:
    """The options that sbatch has understood, by its own names for them."""
    done = subprocess.run(
        ["sbatch", "-v", "--parsable"],
        input=script,
        env={"SLURM_CONF": str(stub), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Unable to contact slurm controller" in done.stderr, done.stderr
    lines = (line.removeprefix("sbatch: ").partition(" : ") for line in done.stderr.splitlines() if " : " in line)
    return {name.strip(): value.removeprefix(" ") for name, _, value in lines}


@pytest.mark.cluster
def test_every_directive_arrives(stub: Path) -> None:
    order = replace(ORDER, resources=Resources(cores=3, memory_mb=500, walltime_s=7200, nodes=2))
    said = understood(stub, render(order, partition="long", account="geo", qos="fast", constraint="a|b"))
    expected = {"job-name": TOKEN, "output": "/jobs/x/batch.log", "chdir": "/jobs/x", "open-mode": "a", "nice": "77"}
    expected |= {"partition": "long", "account": "geo", "qos": "fast", "constraint": "a|b", "nodes": "2"}
    expected |= {"cpus-per-task": "2", "mem": "250", "time": "02:00:00"}
    assert said.items() >= expected.items()


#: Everything that a path can have but for what no directive can say (see the next tests).
PATHS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\\/"), min_size=1)
HOSTILE = [
    "a b",
    "a'b",
    'a"b',
    "a#b",
    "# b",
    "$HOME",
    "$(id)",
    "`id`",
    "a;b",
    "a&b",
    "a|b",
    "~",
    "*",
    "%j",
    "ä€",
    "a  b",
    "-x",
]


@pytest.mark.cluster
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_arrive_as_they_are(stub: Path, name: str) -> None:
    """In a path and in a site's own option: nothing is cut, expanded, or taken for an option of its own."""
    said = understood(stub, render(replace(ORDER, folder=f"/jobs/{name}/x"), options={"comment": name}))
    assert (said["chdir"], said["nice"], said["comment"]) == (f"/jobs/{name}/x", "77", name)
    assert said["output"] == f"/jobs/{name.replace('%', '%%')}/x/batch.log"


@pytest.mark.cluster
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS)
def test_any_path_arrives_as_it_is(stub: Path, name: str) -> None:
    said = understood(stub, render(replace(ORDER, folder=f"/jobs/{name}/x")))
    assert (said["chdir"], said["nice"]) == (f"/jobs/{name}/x", "77")


@pytest.mark.parametrize("name", ["a\nb", "a\n#SBATCH --uid=0\nrm -rf /", "a\rb", "a\\b", "a\0b", "a\u2028b"])
def test_what_no_directive_can_say_makes_no_script(name: str) -> None:
    """A line break would begin another directive, and sbatch drops backslashes even within quotes."""
    with pytest.raises(ScriptError, match="no directive can say"):
        render(replace(ORDER, folder=f"/jobs/{name}"))


def test_directives_come_first_and_the_script_is_shell() -> None:
    """sbatch stops reading at the first command, without a word."""
    script = render(ORDER, environment={"NASTY": "a b'c\"$(id)`\n"})
    lines = script.splitlines()
    assert lines[0] == "#!/bin/sh" and script.startswith("#!/bin/sh\n#SBATCH ")
    first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any("#SBATCH" in line for line in lines[first_command:] if line.startswith("#SBATCH"))
    checked = subprocess.run(["/bin/sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_what_sbatch_alone_was_given_is_taken_from_the_job() -> None:
    """Its own PATH and Slurm's variables are the job's, too."""
    own = {"SECRET": "x", "KEPT": "x", "PATH": "/x", "SLURM_CONF": "/x"}
    script = render(ORDER, command_environment=own, environment={"KEPT": "y"})
    done = subprocess.run(
        ["/bin/sh"],
        input=script.partition("restarts=")[0] + "\nexec env\n",
        env={**own, "SLURM_JWT": "x", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["KEPT"] == "y" and found["SLURM_CONF"] == "/x" and found["PATH"]
    assert not found.keys() & {"SECRET", "SLURM_JWT"}


def started(tmp_path: Path, code: str, *, contained: bool = False, **environment: str) -> subprocess.Popen[str]:
    """The script as a node would run it, with a Python command for a launcher."""
    launcher = (sys.executable, "-c", code)
    script = render(replace(ORDER, folder=str(tmp_path), launcher=launcher, contained=contained))
    environment = {"PATH": os.environ["PATH"], "SLURMD_NODENAME": "n7", **environment}
    process = subprocess.Popen(["/bin/sh"], env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(script)
    process.stdin.close()
    return process


def ending(tmp_path: Path, attempt: int = 1) -> dict[str, object]:
    """The exit file of an attempt."""
    return dict(json.loads((tmp_path / "attempts" / str(attempt) / "exit").read_text()))


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("pass", {"exit_code": 0, "signal": None}),
        ("import sys; sys.exit(3)", {"exit_code": 3, "signal": None}),
        ("import os; os.kill(os.getpid(), 9)", {"exit_code": None, "signal": 9}),
    ],
)
def test_the_script_notes_how_the_launcher_ended(tmp_path: Path, code: str, ended: dict[str, object]) -> None:
    process = started(tmp_path, code)
    assert process.wait(60) == (ended["exit_code"] if ended["signal"] is None else 128 + 9)
    assert ending(tmp_path) == {"schema": 1, "host": "n7", **ended}


def test_a_run_after_a_requeue_is_the_next_attempt_and_the_launcher_is_told(tmp_path: Path) -> None:
    code = "import sys; sys.exit(sys.argv[1:] != ['--restarts', '2'])"
    assert started(tmp_path, code, SLURM_RESTART_COUNT="2").wait(60) == 0
    assert ending(tmp_path, 3)["exit_code"] == 0


def test_a_launcher_that_finds_another_one_leaves_no_note(tmp_path: Path) -> None:
    assert started(tmp_path, "import sys; sys.exit(75)").wait(60) == 75
    assert not (tmp_path / "attempts").exists()


HEARS = """
import signal, sys, pathlib
heard = []
for name in ("SIGUSR1", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda number, _: heard.append(number))
pathlib.Path("{ready}").touch()
while signal.SIGTERM not in heard:
    signal.pause()
pathlib.Path("{heard}").write_text(str([int(number) for number in heard]))
sys.exit({code})
"""


@pytest.mark.parametrize("code", [0, 1])
def test_both_signals_reach_the_launcher_and_its_exit_code_is_the_scripts(tmp_path: Path, code: int) -> None:
    """After a time warning the script ends with 0 only if the launcher has succeeded all the same."""
    ready, heard = tmp_path / "ready", tmp_path / "heard"
    process = started(tmp_path, HEARS.format(ready=ready, heard=heard, code=code))
    until(ready.exists, "the launcher listens")
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == code
    assert json.loads(heard.read_text())[-1] == signal.SIGTERM
    assert ending(tmp_path)["exit_code"] == code


def test_a_warning_that_comes_too_early_kills_nobody(tmp_path: Path) -> None:
    """Slurm allows itself to warn a minute early: of a short job, that is at its start."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = started(tmp_path, f"open({str(fifo)!r}).read()")
    with fifo.open("w"):  # the launcher runs, and has no handler of its own
        process.send_signal(signal.SIGUSR1)
    assert process.wait(60) == 0


LATE = """
import pathlib, signal, time
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
pathlib.Path("{begun}").touch()
open("{fifo}").read()
heard = []
signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
pathlib.Path("{attempt}/claim").touch()
while not heard:
    time.sleep(0.02)
"""


def test_a_warning_waits_until_the_launcher_in_a_container_listens(tmp_path: Path) -> None:
    """The container's runtime does not pass on that a signal is ignored: it would end whatever runs first."""
    fifo, begun, attempt = tmp_path / "fifo", tmp_path / "begun", tmp_path / "attempts" / "1"
    os.mkfifo(fifo)
    attempt.mkdir(parents=True)
    process = started(tmp_path, LATE.format(begun=begun, fifo=fifo, attempt=attempt), contained=True)
    until(begun.exists, "the launcher's container runs")
    process.send_signal(signal.SIGUSR1)
    fifo.write_text("go on")
    assert process.wait(60) == 0
    assert ending(tmp_path)["exit_code"] == 0


def test_a_container_that_does_not_start_keeps_nobody_waiting(tmp_path: Path) -> None:
    assert started(tmp_path, "import sys; sys.exit(255)", contained=True).wait(60) == 255
    assert ending(tmp_path)["exit_code"] == 255
