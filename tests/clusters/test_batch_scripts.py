"""What /bin/sh makes of the batch scripts of Grid Engine and the PBS family, with a Python command for a launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.site import until
from wps_hpc.clusters.cluster import SCHEDULERS, TEMPLATES
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.clusters.scripts import ScriptError, load_template, render_script
from wps_hpc.config import Cluster
from wps_hpc.processes.description import Resources

NAMES = ("gridengine", "torque", "openpbs")
TOKEN = "w" * 15


def render(scheduler: str, folder: str, code: str = "pass") -> str:
    """The delivered script of a job in that folder."""
    settings = Cluster.model_validate({"scheduler": scheduler})
    order = JobOrder(TOKEN, "job", "", folder, (sys.executable, "-c", code), 1, Resources(walltime_s=60))
    template = load_template(TEMPLATES.get(scheduler, scheduler))
    return render_script(template, order, {}, SCHEDULERS[scheduler](settings).directives(order))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job folder with the worst of names."""
    made = tmp_path / "a b'c$(id)#"
    made.mkdir()
    return made


def started(scheduler: str, folder: Path, code: str) -> subprocess.Popen[str]:
    """The script as a node runs it: in the job's folder (Grid Engine), in another one (PBS)."""
    process = subprocess.Popen(
        ["/bin/sh"],
        env={"PATH": os.environ["PATH"]},
        cwd=folder if scheduler == "gridengine" else "/",
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(render(scheduler, str(folder), code))
    process.stdin.close()
    return process


def ending(folder: Path) -> tuple[object, object]:
    """Exit code and signal in the exit file of the attempt."""
    record = json.loads((folder / "attempts" / "1" / "exit").read_text())
    return record["exit_code"], record["signal"]


@pytest.mark.parametrize("scheduler", NAMES)
@pytest.mark.parametrize(
    ("code", "exit_code", "noted"),
    [
        ("print('said')", 0, (0, None)),
        ("import sys; sys.exit(3)", 3, (3, None)),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9, (None, 9)),
    ],
)
def test_the_script_notes_how_the_launcher_ended(
    folder: Path, scheduler: str, code: str, exit_code: int, noted: tuple[object, object]
) -> None:
    """Wherever it is started, and what is printed goes to the log in the job folder."""
    assert started(scheduler, folder, code).wait(60) == exit_code
    assert ending(folder) == noted
    assert ("said" in code) == ("said" in (folder / "batch.log").read_text())


@pytest.mark.parametrize("scheduler", [*NAMES, "slurm", "local"])
def test_an_exit_code_beyond_all_signals_is_none(folder: Path, scheduler: str) -> None:
    """255, with which Apptainer ends when it cannot start a container."""
    assert started(scheduler, folder, "import sys; sys.exit(255)").wait(60) == 255
    assert ending(folder) == (255, None)


PLANTS = """
import os, pathlib
attempt = pathlib.Path({attempt!r})
attempt.mkdir(parents=True)
(attempt / "exit").symlink_to({target!r})
(attempt / ".exit").symlink_to({target!r})
for name in range(os.getppid() - 50, os.getppid() + 50):
    (attempt / f".exit.{{name}}.tmp").symlink_to({target!r})
"""


@pytest.mark.parametrize("scheduler", [*NAMES, "slurm", "local"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_no_link_that_a_job_left_is_followed(folder: Path, tmp_path: Path, scheduler: str, kind: str) -> None:
    """A job in a container can write only into its attempt, and the script runs outside."""
    target = tmp_path / "mine"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
    code = PLANTS.format(attempt=str(folder / "attempts" / "1"), target=str(target))
    assert started(scheduler, folder, code).wait(60) == 0
    assert target.read_text() == "mine" if kind == "file" else not list(target.iterdir())
    assert ending(folder) == (0, None)


@pytest.mark.parametrize("scheduler", NAMES)
def test_a_launcher_that_finds_another_one_leaves_no_note(folder: Path, scheduler: str) -> None:
    assert started(scheduler, folder, "import sys; sys.exit(75)").wait(60) == 75
    assert not (folder / "attempts").exists()


@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_that_are_orders_to_grid_engine_are_not_given(folder: Path, code: int) -> None:
    """99: run the job again; 100: keep it in the error state."""
    assert started("gridengine", folder, f"import sys; sys.exit({code})").wait(60) == 1
    assert ending(folder) == (code, None)


HEARS = """
import pathlib, signal, sys
heard = []
for name in ("SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGTERM"):
    signal.signal(getattr(signal, name), lambda number, _: heard.append(number))
pathlib.Path({ready!r}).touch()
while signal.SIGTERM not in heard:
    signal.pause()
sys.exit(7 if "--notified" in sys.argv else 8)
"""


@pytest.mark.parametrize(
    ("scheduler", "number", "code"),
    [
        ("gridengine", signal.SIGUSR2, 7),
        ("gridengine", signal.SIGTERM, 7),
        ("torque", signal.SIGTERM, 8),
        ("openpbs", signal.SIGTERM, 8),
    ],
)
def test_an_order_to_end_that_only_the_script_gets_reaches_the_launcher(
    folder: Path, scheduler: str, number: signal.Signals, code: int
) -> None:
    ready = folder / "ready"
    process = started(scheduler, folder, HEARS.format(ready=str(ready)))
    until(ready.exists, "the launcher listens")
    process.send_signal(number)
    assert process.wait(60) == code
    assert ending(folder) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGXCPU])
def test_a_warning_to_the_whole_group_kills_neither_script_nor_a_launcher_that_does_not_listen_yet(
    folder: Path, number: signal.Signals
) -> None:
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    process = started("gridengine", folder, f"open({str(fifo)!r}).read()")
    with fifo.open("w"):  # the launcher runs, and has no handler of its own
        os.killpg(process.pid, number)
    assert process.wait(60) == 0
    assert ending(folder) == (0, None)


@pytest.mark.parametrize("scheduler", ["torque", "openpbs"])
def test_a_folder_that_is_not_there_ends_the_job_before_anything_runs(tmp_path: Path, scheduler: str) -> None:
    folder = tmp_path / "gone"
    ran = tmp_path / "ran"
    code = f"import pathlib; pathlib.Path({str(ran)!r}).touch()"
    assert started(scheduler, folder, code).wait(60) not in (0, None)
    assert not ran.exists() and not folder.exists()


@pytest.mark.parametrize("value", ["a b", 'a"b', "a'b", "a#b", "a\\b", "a\nb", "a`b`", "ä"])
def test_what_no_directive_can_say_makes_no_script(value: str) -> None:
    order = JobOrder(TOKEN, "job", "", "/jobs/x", ("python",), 1)
    with pytest.raises(ScriptError, match="no directive can say"):
        render_script(load_template("torque"), order, {}, {"A": value})
