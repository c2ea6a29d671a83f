"""The command line, run as it is used: real processes, a temporary configuration, the embedded scheduler."""

import http.server
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest

from tests.services.postgres import free_port

PROCESSES = Path(__file__).parent / "cli_processes"
T = TypeVar("T")


@dataclass
class Cli:
    """The command line with a configuration in a folder of its own."""

    folder: Path
    port: int
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "wps-hpc.toml"

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit code; no traceback is ever shown."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def command(self, *arguments: str) -> list[str]:
        """The command line of a command."""
        return [sys.executable, "-m", "wps_hpc.cli", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on; it is ended with the test."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.running.append(process)
        return process

    def serve(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the server; returns once it answers and, unless told otherwise, its worker is at work."""
        process = self.start("serve", *arguments)
        ready = {"ok"} if "--no-worker" not in arguments else {"ok", "degraded"}
        wait_for(lambda: self.health()["status"] in ready)
        return process

    def health(self) -> dict[str, dict[str, object]]:
        """What /health says."""
        answer: dict[str, dict[str, object]] = httpx.get(f"{self.url}/health").json()
        return answer

    def jobs(self) -> list[dict[str, object]]:
        """All jobs, the newest first."""
        listed: list[dict[str, object]] = json.loads(self("jobs", "list", "--json").stdout)
        return listed

    def close(self) -> None:
        """End what is running, and the scheduler's own processes."""
        for process in self.running:
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
        for process in psutil.process_iter(["pid", "cmdline"]):
            if str(self.folder) in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid():
                process.kill()


def wait_for(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """What `condition` says as soon as that is true; a server that does not answer yet counts as false."""
    deadline = time.monotonic() + seconds
    while True:
        said: object
        try:
            if said := condition():
                return said
        except (httpx.HTTPError, ValueError) as error:
            said = error
        assert time.monotonic() < deadline, f"still {said!r} after {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """A configuration made by `init`, with the processes of these tests."""
    monkeypatch.delenv("WPS_HPC_CONFIG", raising=False)
    made = Cli(tmp_path, free_port())
    options = (f"server.port={made.port}", f"processes.folders=['{PROCESSES}']", "server.web_processes=1")
    made("init", *(part for option in options for part in ("--set", option)))
    yield made
    made.close()


# --- init, usage, configuration --------------------------------------------------------------------------------------


def test_init_writes_a_configuration_once(cli: Cli) -> None:
    before = cli.config.read_text()
    refused = cli("init", code=2)
    assert "wps-hpc.toml exists already; --force overwrites it" in refused.stderr
    assert cli.config.read_text() == before
    cli("init", "--force")
    assert "#port = 8095" in cli.config.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("init", "x.toml", "--set", "server.prot=1"), "unknown key server.prot; did you mean port?"),
        (("init", "x.toml", "--set", "server.port"), "--set server.port: not of the form KEY=VALUE"),
        (("-c", "missing.toml", "processes"), "missing.toml: No such file or directory"),
        (("fly",), "No such command 'fly'"),
        (("jobs", "list", "--state", "asleep"), "'asleep' is not one of"),
    ],
)
def test_wrong_usage_and_configuration_end_with_2_and_a_sentence(
    cli: Cli, arguments: tuple[str, ...], said: str
) -> None:
    assert said in cli(*arguments, code=2).stderr


def test_a_wrong_option_is_named_with_the_file_and_the_right_one(cli: Cli) -> None:
    cli.config.write_text("[limits]\nparalel = 3\n")
    for command in (("check",), ("serve",), ("worker",), ("processes",), ("jobs", "list"), ("purge",), ("run", "x")):
        said = cli(*command, code=2).stderr
        assert said == "wps-hpc: wps-hpc.toml: unknown key limits.paralel; did you mean parallel?\n"


def test_debug_shows_where_an_error_came_from(cli: Cli) -> None:
    done = subprocess.run(
        cli.command("--debug", "-c", "missing.toml", "processes"), cwd=cli.folder, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_every_command_has_help(cli: Cli) -> None:
    listed = re.findall(r"^  (\w+)  ", cli("--help").stdout, re.MULTILINE)
    assert set(listed) >= {"init", "check", "serve", "worker", "processes", "run", "jobs", "purge"}
    for command in listed:
        assert "Usage: wps-hpc" in cli(command, "--help").stdout
    assert cli("--version").stdout.startswith("wps-hpc, version ")


# --- processes, check ------------------------------------------------------------------------------------------------


def test_processes_lists_what_is_on_offer(cli: Cli) -> None:
    assert re.search(r"^hello +1\.0\.0 +Greet$", cli("processes").stdout, re.MULTILINE)
    offered = json.loads(cli("processes", "--json").stdout)
    assert {entry["identifier"] for entry in offered["processes"]} == {"hello", "refuse", "wait", "turn", "width"}
    assert offered["problems"] == {}


def test_a_process_that_cannot_be_loaded_is_told_and_the_others_stay(cli: Cli) -> None:
    broken = cli.folder / "broken"
    broken.mkdir()
    (broken / "bad.py").write_text("this is not Python")
    cli("init", "--force", "--set", f"processes.folders=['{PROCESSES}', 'broken']")
    listed = cli("processes", code=1)
    assert "hello" in listed.stdout
    assert "bad.py" in listed.stderr
    checked = cli("check", "--no-probe", code=1)
    assert re.search(r"^problem +processes: .*bad\.py: ", checked.stdout, re.MULTILINE)
    assert "1 problem\n" in checked.stdout


def test_check_finds_everything_in_order_and_tells_about_the_node(cli: Cli) -> None:
    said = cli("check").stdout
    assert "problem" not in said
    assert "everything is in order" in said
    assert re.search(rf"cluster local: a probe job ran in .* with Python {sys.version.split()[0]} ", said)
    assert f"({os.getuid()})" in said
    assert list((cli.folder / "wps-hpc-data" / "jobs").glob("*/*")) == []


def test_check_says_that_a_python_is_missing_on_the_node(cli: Cli) -> None:
    template = cli.config.read_text()
    cli.config.write_text(template.replace('#python = "/usr/bin/python3"', 'python = "/nowhere/python3"'))
    said = cli("check", "--timeout", "20", code=1).stdout
    assert re.search(r"^problem +cluster local: .*probe", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("server.public_url=ftp://x",), "server.public_url ftp://x is not of the form"),
        (("server.host=0.0.0.0",), "server.public_url is not set"),
        (("inputs.folders=['nowhere']",), "is not a folder; file: inputs below it will be refused"),
        (("storage.root=/proc/nowhere",), "storage.root /proc/nowhere cannot be written"),
        (("database.url=postgresql+psycopg://nobody@127.0.0.1:1/x",), "cannot be used: "),
        (("database.url=mysql://nobody@127.0.0.1:1/x",), "jobs are kept in SQLite or PostgreSQL"),
    ],
)
def test_check_tells_what_is_wrong_in_plain_words(cli: Cli, options: tuple[str, ...], said: str) -> None:
    cli("init", "--force", *(part for option in options for part in ("--set", option)))
    checked = cli("check", "--no-probe", code=1)
    assert re.search(rf"^problem +.*{re.escape(said)}", checked.stdout, re.MULTILINE), checked.stdout


def test_check_refuses_a_storage_that_others_may_write(cli: Cli) -> None:
    (cli.folder / "wps-hpc-data").mkdir()
    (cli.folder / "wps-hpc-data").chmod(0o777)
    said = cli("check", "--no-probe", code=1).stdout
    assert f"can be written by other accounts (mode 777): chmod 700 {cli.folder}/wps-hpc-data" in said


def test_a_server_for_everybody_is_worth_a_note(cli: Cli) -> None:
    cli("init", "--force", "--set", "server.host=0.0.0.0", "--set", "server.public_url=https://wps.example.org")
    said = cli("check", "--no-probe").stdout
    assert re.search(r"^note +the server listens on 0\.0\.0\.0 and no proxy", said, re.MULTILINE)


# --- run without a server --------------------------------------------------------------------------------------------


def test_run_needs_no_server(cli: Cli) -> None:
    done = cli("run", "hello", "name=Ada", "times=2")
    assert done.stdout == "result = Hello Ada, Hello Ada\n"
    assert "succeeded" in done.stderr
    assert [job["state"] for job in cli.jobs()] == ["succeeded"]


def test_run_tells_why_a_process_failed(cli: Cli) -> None:
    done = cli("run", "refuse", "why=rain", code=1)
    assert "wps-hpc: refuse failed: refused because of rain" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hello",), "input name is missing"),
        (("hello", "name"), "name: not of the form NAME=VALUE"),
        (("hello", "name=A", "name=B"), "input name is given 2 times, not 1 at most"),
        (("hello", "nam=A"), "hello has no input nam; it has: name, times"),
        (("turn", "text=@nowhere.txt"), "input text: cannot read nowhere.txt: No such file or directory"),
        (("width", "box=1,2,3"), "input box: '1,2,3' is not a bounding box"),
    ],
)
def test_run_refuses_values_that_the_process_does_not_take(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    assert said in cli("run", *arguments, code=2).stderr
    assert cli.jobs() == []


def test_run_says_what_the_server_says_of_a_wrong_value(cli: Cli) -> None:
    assert "times" in cli("run", "hello", "name=A", "times=many", code=1).stderr
    assert "nonsense" in cli("run", "nonsense", code=1).stderr


def test_run_against_nothing_says_so(cli: Cli) -> None:
    said = cli("run", "hello", "name=A", "--url", f"{cli.url}/wps", code=1).stderr
    assert said.startswith(f"wps-hpc: no answer from {cli.url}/wps")


# --- run against a server --------------------------------------------------------------------------------------------


def test_run_drives_the_configurations_own_server(cli: Cli) -> None:
    cli.serve()
    assert cli("run", "hello", "name=Ada").stdout == "result = Hello Ada\n"
    assert cli("run", "--sync", "hello", "name=Ada").stdout == "result = Hello Ada\n"
    assert cli("run", "width", "box=1,2,4.5,3").stdout == "result = 3.5\n"
    assert {job["mode"] for job in cli.jobs()} == {"async", "sync"}
    assert cli.health()["worker"]["epoch"] == 1


def test_run_takes_files_and_saves_outputs(cli: Cli) -> None:
    cli.serve()
    (cli.folder / "text.txt").write_text("größer")
    done = cli("run", "turn", "text=@text.txt", "--output", "out")
    assert done.stdout == "turned = out/turned.txt\n"
    assert (cli.folder / "out" / "turned.txt").read_text() == "reßörg"
    assert cli("run", "--sync", "turn", "text=abc").stdout == "turned = cba\n"
    address = cli("run", "turn", "text=@@abc").stdout.removeprefix("turned = ").strip()
    assert httpx.get(address).text == "cba@"


def test_run_sends_an_address_as_a_reference(cli: Cli) -> None:
    folder = cli.folder

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

    (folder / "remote.txt").write_text("far away")
    cli("init", "--force", "--set", f"processes.folders=['{PROCESSES}']", "--set", f"server.port={cli.port}",
        "--set", "inputs.private_networks=['127.0.0.0/8']")  # fmt: skip
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = cli("run", "turn", f"text=http://127.0.0.1:{server.server_port}/remote.txt", "--sync")
        server.shutdown()
    assert done.stdout == "turned = yawa raf\n"


def test_run_shows_progress_while_the_job_runs(cli: Cli) -> None:
    cli.serve()
    gate = cli.folder / "gate"
    running = cli.start("run", "wait", f"path={gate}")
    wait_for(lambda: "waiting for the file (40 %)" in (cli.folder / "log").read_text())
    gate.touch()
    assert running.wait(60) == 0
    assert running.stdout is not None
    assert running.stdout.read() == f"result = {gate}\n"


# --- jobs ------------------------------------------------------------------------------------------------------------


def start_waiting_job(cli: Cli, gate: Path) -> str:
    """Start a job that runs until `gate` exists; returns its id once it runs."""
    cli.start("run", "wait", f"path={gate}")
    wait_for(lambda: any(job["state"] == "running" for job in cli.jobs()))
    return str(next(job["id"] for job in cli.jobs() if job["state"] == "running"))


def test_jobs_show_and_log(cli: Cli) -> None:
    cli("run", "hello", "name=Ada")
    cli("run", "refuse", "why=rain", code=1)
    failed, succeeded = (str(job["id"]) for job in cli.jobs())
    shown = cli("jobs", "show", failed).stdout
    assert re.search(r"^failure\.text +refused because of rain$", shown, re.MULTILINE)
    assert re.search(rf"^folder +{cli.folder}/wps-hpc-data/jobs/{failed[:2]}/{failed}$", shown, re.MULTILINE)
    assert re.search(r"^scheduler_id +\S+", shown, re.MULTILINE)
    assert json.loads(cli("jobs", "show", succeeded, "--json").stdout)["state"] == "succeeded"
    assert "greeting Ada" in cli("jobs", "log", succeeded, "--stream", "stdout").stdout
    both = cli("jobs", "log", succeeded).stdout
    assert both.index("greeting Ada") < both.index("==> stderr <==") < both.index("this went to stderr")
    assert [line.split()[1] for line in cli("jobs", "list").stdout.splitlines()] == ["STATE", "failed", "succeeded"]
    assert cli("jobs", "list", "--state", "failed", "--process", "hello").stdout.count("\n") == 1


def test_jobs_cancel_ends_a_running_job(cli: Cli) -> None:
    cli.serve()
    job_id = start_waiting_job(cli, cli.folder / "gate")
    assert cli("jobs", "cancel", "--wait", job_id).stdout == f"{job_id} dismissed\n"
    assert "dismissed by" in str(cli.jobs()[0]["message"])
    refused = cli("jobs", "cancel", job_id, code=1)
    assert f"cannot cancel {job_id}: it has been dismissed" in refused.stderr


def test_jobs_hold_and_release_a_waiting_job(cli: Cli) -> None:
    cli.config.write_text(cli.config.read_text().replace("#parallel = 4", "parallel = 1"))
    cli.serve()
    gate = cli.folder / "gate"
    start_waiting_job(cli, gate)
    second = cli.start("run", "hello", "name=Ada")
    waiting = str(wait_for(lambda: [job for job in cli.jobs() if job["state"] == "accepted"])[0]["id"])
    cli("jobs", "hold", waiting)
    wait_for(lambda: json.loads(cli("jobs", "show", waiting, "--json").stdout)["state"] == "held")
    gate.touch()
    wait_for(lambda: "succeeded" in [job["state"] for job in cli.jobs()])
    assert json.loads(cli("jobs", "show", waiting, "--json").stdout)["state"] == "held"
    cli("jobs", "release", waiting)
    assert second.wait(60) == 0


@pytest.mark.parametrize("command", ["show", "log", "cancel", "hold", "release"])
def test_a_job_that_is_not_there_is_a_sentence(cli: Cli, command: str) -> None:
    job_id = "00000000-0000-4000-8000-000000000000"
    assert cli("jobs", command, job_id, code=1).stderr == f"Error: there is no job {job_id}\n"


def test_purge_takes_what_has_expired(cli: Cli) -> None:
    cli("run", "hello", "name=Ada")
    assert cli("purge", "--dry-run").stdout == "0 jobs would be removed\n"
    with closing(sqlite3.connect(cli.folder / "wps-hpc-data" / "jobs.sqlite")) as database, database:
        database.execute("UPDATE jobs SET expires = 1")
    job_id = str(cli.jobs()[0]["id"])
    assert job_id in cli("purge", "--dry-run").stdout
    assert len(cli.jobs()) == 1
    assert "jobs removed: 1\n" in cli("purge").stdout
    assert cli.jobs() == []
    assert not (cli.folder / "wps-hpc-data" / "jobs" / job_id[:2] / job_id).exists()


# --- serve and worker ------------------------------------------------------------------------------------------------


def test_a_running_job_survives_the_servers_restart(cli: Cli) -> None:
    first = cli.serve()
    gate = cli.folder / "gate"
    job_id = start_waiting_job(cli, gate)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    cli.serve()
    gate.touch()
    wait_for(lambda: json.loads(cli("jobs", "show", job_id, "--json").stdout)["state"] == "succeeded")


def test_a_server_without_a_worker_accepts_and_a_worker_of_its_own_runs(cli: Cli) -> None:
    cli.serve("--no-worker")
    assert cli.health()["status"] == "degraded"
    waiting = cli.start("run", "hello", "name=Ada")
    wait_for(lambda: [job for job in cli.jobs() if job["state"] == "accepted"])
    worker = cli.start("worker")
    assert waiting.wait(60) == 0
    wait_for(lambda: cli.health()["worker"]["status"] == "ok")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0


def test_a_port_that_is_taken_is_a_sentence(cli: Cli) -> None:
    cli.serve()
    said = cli("serve", code=2).stderr
    assert f"wps-hpc: cannot listen on 127.0.0.1:{cli.port}: Address already in use\n" in said


def test_a_process_dropped_into_a_folder_is_served_without_a_restart(cli: Cli) -> None:
    folder = cli.folder / "dropped"
    folder.mkdir()
    cli("init", "--force", "--set", f"server.port={cli.port}", "--set", "processes.folders=['dropped']",
        "--set", "processes.watch_seconds=0.1")  # fmt: skip
    cli.serve()
    assert cli.health()["processes"]["offered"] == 0
    (folder / "hello.py").write_bytes((PROCESSES / "hello.py").read_bytes())
    wait_for(lambda: cli.health()["processes"]["offered"] == 5)
    assert cli("run", "hello", "name=Ada").stdout == "result = Hello Ada\n"


def test_metrics_count_jobs_and_their_time_in_each_state(cli: Cli) -> None:
    cli.serve()
    cli("run", "hello", "name=Ada")
    cli("run", "refuse", "why=rain", code=1)
    answer = httpx.get(f"{cli.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = dict(re.findall(r"^([^#\s]\S*) (\S+)$", answer.text, re.MULTILINE))
    assert values['wps_hpc_jobs{process="hello",state="succeeded"}'] == "1.0"
    assert values['wps_hpc_jobs_finished_total{outcome="failed",process="refuse"}'] == "1.0"
    assert float(values['wps_hpc_state_seconds_sum{process="hello",state="running"}']) >= 0.0
    assert values['wps_hpc_state_seconds_count{process="hello",state="accepted"}'] == "1.0"
    assert float(values['wps_hpc_scheduler_queries_total{cluster="local"}']) >= 1
    assert values["wps_hpc_database_up"] == "1.0"
