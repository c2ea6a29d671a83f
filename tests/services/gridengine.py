"""A real Grid Engine of this test session's own: master and execution daemon, two queues, all on the loopback.

Both daemons run in the foreground as children of the tests, so that each can be stopped, continued and killed. Neither
an installed Grid Engine nor its configuration is touched: the packages' files are used where they lie.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.services import require
from tests.services.postgres import free_port

HOW = "unpack Debian's packages for it (make services) and run the tests as root"
#: Where the packages' programs are, installed or unpacked by install.sh: the libraries' place is compiled in.
FOLDER = Path("/usr/lib/gridengine")
PROGRAMS = ("sge_qmaster", "sge_execd", "sge_shepherd", "qsub", "qstat", "qacct", "qdel", "qconf", "libspoolc.so")
#: An account without any privilege in Grid Engine; its number must not be below ``min_uid``.
ORDINARY = "wpsjobs"
#: The account that the daemons run as where they need not be root, and the first manager.
ADMIN = "sgeadmin"
CELL = "default"
#: The name of a parallel environment that keeps a job on one host.
PE = "smp"
#: Seconds between the announcement of an end and the end.
NOTICE = 12
PATIENCE = 90.0

#: Daemons bind to every address, and there is no option for that.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

int bind(int descriptor, const struct sockaddr *wanted, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    struct sockaddr_in loopback;
    if (wanted == NULL || wanted->sa_family != AF_INET)
        return next(descriptor, wanted, length);
    memcpy(&loopback, wanted, sizeof loopback);
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return next(descriptor, (const struct sockaddr *)&loopback, sizeof loopback);
}
"""
BOOTSTRAP = """
admin_user              {admin}
default_domain          none
ignore_fqdn             false
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {folder}/cell/{cell}/common;{folder}/spool/qmaster
binary_path             {programs}
qmaster_spool_dir       {folder}/spool/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
#: What differs from the packages' default configuration.
GLOBAL = {
    "execd_spool_dir": "{folder}/spool/execd",
    "mailer": "/bin/true",
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:05",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:15 accounting_flush_time=00:00:00",
    "finished_jobs": "100",
}
SCHEDULING = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
HOST = {
    "hostname": "{host}",
    "load_scaling": "NONE",
    "complex_values": "slots=12",
    "user_lists": "NONE",
    "xuser_lists": "NONE",
    "projects": "NONE",
    "xprojects": "NONE",
    "usage_scaling": "NONE",
    "report_variables": "NONE",
}
PARALLEL = {
    "pe_name": PE,
    "slots": "999",
    "user_lists": "NONE",
    "xuser_lists": "NONE",
    "start_proc_args": "/bin/true",
    "stop_proc_args": "/bin/true",
    "allocation_rule": "$pe_slots",
    "control_slaves": "FALSE",
    "job_is_first_task": "TRUE",
    "urgency_slots": "min",
    "accounting_summary": "FALSE",
    "qsort_args": "NONE",
}
#: Without load thresholds: a machine that runs tests is busy.
QUEUE = {
    "hostlist": "{host}",
    "slots": "12",
    "pe_list": PE,
    "load_thresholds": "NONE",
    "shell": "/bin/sh",
    "tmpdir": "/tmp",
    "notify": f"00:00:{NOTICE:02}",
    "rerun": "FALSE",
}
QUEUES: Mapping[str, Mapping[str, str]] = {"short.q": {"h_rt": "00:15:00"}, "long.q": {"h_rt": "INFINITY"}}


@dataclass
class GridEngine:
    """A cluster beneath ``folder``, of programs that lie in ``programs``. ``daemons`` are its processes by name."""

    folder: Path
    programs: Path
    ports: Mapping[str, int]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def common(self) -> Path:
        """The folder that all of the cluster's hosts read."""
        return self.folder / "cell" / CELL / "common"

    @property
    def accounting(self) -> Path:
        """The accounting file."""
        return self.common / "accounting"

    def start(self) -> None:
        """Bring all of it up; returns once jobs can run."""
        self._make_folders()
        self._write_cell()
        self.start_qmaster()
        self._configure()
        self.start_execd()

    def start_qmaster(self) -> None:
        """Start the master; returns once it answers."""
        self._spawn("qmaster", "sge_qmaster")
        _await("qmaster", lambda: self.run("qconf", "-sh", check=False).returncode == 0)

    def start_execd(self) -> None:
        """Start the execution daemon; returns once the queues know their host."""
        self._spawn("execd", "sge_execd")
        _await("execd", self._reports)

    def restart_execd(self) -> None:
        """After its master was killed, an execution daemon may report no end any more; a new one does. Jobs go on."""
        self.stop("execd", signal.SIGKILL)
        self.start_execd()

    def stop(self, daemon: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon; returns once it is gone."""
        process = self.daemons.pop(daemon)
        if process.poll() is None:
            process.send_signal(how)
        process.wait(PATIENCE)

    def run(
        self, *command: str, stdin: str = "", account: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Grid Engine's commands, as root or as ``account``."""
        return subprocess.run(
            command,
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
            cwd="/",
            **_identity(account),  # type: ignore[call-overload]
        )

    def environment(self) -> dict[str, str]:
        """What a client's command needs."""
        return {
            **self.variables(),
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
            "HOME": "/",
            "LANG": "C.UTF-8",
            "TZ": "UTC",
        }

    def variables(self) -> dict[str, str]:
        """Which cluster it is."""
        return {
            "SGE_ROOT": str(self.folder / "cell"),
            "SGE_CELL": CELL,
            "SGE_QMASTER_PORT": str(self.ports["qmaster"]),
            "SGE_EXECD_PORT": str(self.ports["execd"]),
        }

    def accounted(self, token: str) -> list[str]:
        """The exit status of every record of jobs of that name that accounting has."""
        said = self.run("qacct", "-j", token, check=False).stdout
        return re.findall(r"^exit_status +(\d+)", said, re.MULTILINE)

    def close(self) -> None:
        """End everything that was started, and what its jobs left."""
        for process in self.daemons.values():
            process.send_signal(signal.SIGCONT)  # a test may have failed while it was stopped
        if "qmaster" in self.daemons and self.daemons["qmaster"].poll() is None:
            self.run("qdel", "-f", "-u", "*", check=False)
        for daemon in reversed(list(self.daemons)):
            self.stop(daemon, signal.SIGKILL)
        for pid in self._shepherds():
            _kill_tree(pid)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_folders(self) -> None:
        self.folder.chmod(0o755)
        for name in ("cell", f"cell/{CELL}", f"cell/{CELL}/common", "spool", "spool/qmaster", "spool/execd", "made"):
            (self.folder / name).mkdir(mode=0o755)
            shutil.chown(self.folder / name, ADMIN, ADMIN)
        (self.folder / "spool/qmaster/job_scripts").mkdir(mode=0o755)
        shutil.chown(self.folder / "spool/qmaster/job_scripts", ADMIN, ADMIN)

    def _write_cell(self) -> None:
        values = {"admin": ADMIN, "folder": self.folder, "cell": CELL, "programs": self.programs}
        (self.common / "bootstrap").write_text(BOOTSTRAP.lstrip().format(**values))
        (self.common / "act_qmaster").write_text(f"{_host()}\n")
        # Where a host's own name is its loopback address, that is called localhost.
        (self.common / "host_aliases").write_text(f"{_host()} localhost\n")
        for path in self.common.iterdir():
            shutil.chown(path, ADMIN, ADMIN)
        share = self.programs.parent.parent / "share" / "gridengine"
        configuration = _replaced((share / "default-configuration").read_text(), self._values(GLOBAL))
        written = self.folder / "made" / "global"
        written.write_text(configuration)
        method = ("classic", "libspoolc", f"{self.common};{self.folder}/spool/qmaster")
        for command in (
            ("spoolinit", *method, "init"),
            ("spooldefaults.bin", "configuration", str(written)),
            ("spooldefaults.bin", "complexes", str(share / "util/resources/centry")),
            ("spooldefaults.bin", "usersets", str(share / "util/resources/usersets")),
            ("spooldefaults.bin", "managers", ADMIN, "root"),
        ):
            self._as_admin(*command)

    def _as_admin(self, *command: str) -> None:
        done = subprocess.run(
            command,
            env={**self.environment(), "LD_LIBRARY_PATH": str(self.programs)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            **_identity(ADMIN),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def _configure(self) -> None:
        host = _host()
        for words in (("-ah", host), ("-as", host)):
            self.run("qconf", *words, account=ADMIN, check=False)
        self._given("-Ae", HOST)
        self._given("-Ap", PARALLEL)
        self._changed(("-ssconf",), "-Msconf", SCHEDULING)
        for name, own in QUEUES.items():
            self._changed(("-sq",), "-Aq", {"qname": name, **QUEUE, **own})

    def _given(self, option: str, values: Mapping[str, str]) -> None:
        text = "".join(f"{name} {value}\n" for name, value in self._values(values).items())
        self._told(option, text)

    def _changed(self, shown: Sequence[str], option: str, values: Mapping[str, str]) -> None:
        self._told(option, _replaced(self.run("qconf", *shown).stdout, self._values(values)))

    def _told(self, option: str, text: str) -> None:
        path = self.folder / "made" / option.lstrip("-")
        path.write_text(text)
        done = self.run("qconf", option, str(path), check=False)
        assert done.returncode == 0 and "error" not in done.stderr, f"{option}: {done.stdout}{done.stderr}"

    def _values(self, values: Mapping[str, str]) -> dict[str, str]:
        return {name: value.format(host=_host(), folder=self.folder) for name, value in values.items()}

    def _spawn(self, name: str, program: str) -> None:
        shim = self.folder / "made" / "loopback.so"
        if not shim.exists():
            source = shim.with_suffix(".c")
            source.write_text(SHIM)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
        # What a daemon has, its jobs inherit.
        environment = {**self.variables(), "PATH": "/usr/bin:/bin", "SGE_ND": "1", "LD_PRELOAD": str(shim)}
        with (self.folder / "made" / f"{name}.said").open("ab") as said:
            self.daemons[name] = subprocess.Popen(
                [str(self.programs / program)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
            )

    def _reports(self) -> bool:
        """Whether every queue has heard of its host: what it has not heard of has no architecture."""
        rows = [line.split() for line in self.run("qstat", "-f", check=False).stdout.splitlines() if ".q@" in line]
        return len(rows) == len(QUEUES) and all(len(row) == 5 and row[4] != "-NA-" for row in rows)

    def _shepherds(self) -> list[int]:
        """Processes that look after jobs, by the cluster in their environment."""
        pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        return [
            pid
            for pid in pids
            if _read(pid, "comm").strip() == b"sge_shepherd" and str(self.folder).encode() in _read(pid, "environ")
        ]


def _host() -> str:
    return socket.gethostname()


def _replaced(text: str, values: Mapping[str, str]) -> str:
    """A configuration with other values; every name must be there."""
    text = re.sub(r"\\\n\s*", "", text)
    for name, value in values.items():
        text, count = re.subn(rf"^{name}[ \t].*$", f"{name} {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    return text


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all that descend from it."""
    try:
        os.kill(pid, signal.SIGSTOP)
        for child in _read(pid, f"task/{pid}/children").split():
            _kill_tree(int(child))
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _identity(account: str | None) -> dict[str, object]:
    if account is None:
        return {}
    return {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []}


def _await(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not there after {PATIENCE:g} s"
        time.sleep(0.05)


def find_programs() -> Path | None:
    """The folder of Grid Engine's programs, and None where they cannot be used."""
    there = all((FOLDER / name).exists() for name in PROGRAMS)
    return FOLDER.resolve() if there and os.geteuid() == 0 and shutil.which("cc") else None


def _make_account(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        command = ("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/sh", name)
        subprocess.run(command, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, check=True)


@contextmanager
def running_grid_engine(programs: Path) -> Iterator[GridEngine]:
    """A Grid Engine within the block, whose queues take jobs."""
    for account in (ADMIN, ORDINARY):
        _make_account(account)
    # Not below pytest's own folder: that is closed to the accounts which the daemons run as.
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-gridengine-"))
    cluster = GridEngine(folder, programs, {name: free_port() for name in ("qmaster", "execd")})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def grid_engine() -> Iterator[GridEngine]:
    """A Grid Engine whose queues take jobs; a test that breaks something puts it right again."""
    programs = find_programs()
    require("Grid Engine", programs, HOW)
    assert programs is not None
    with running_grid_engine(programs) as cluster:
        yield cluster
