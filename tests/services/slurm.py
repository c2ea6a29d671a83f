"""A real Slurm of this test session's own: controller, accounting with MariaDB, three nodes, all on the loopback.

Every daemon runs in the foreground as a child of the tests, so that each can be stopped, continued and killed.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.postgres import free_port

HOW = "install Debian's packages for it (make services) and run the tests as root"
#: Debian keeps daemons off an ordinary PATH.
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch", "squeue", "sacct", "scontrol", "scancel")
#: Their control groups are named after them, and two clusters on one host must not share any.
NODES = tuple(f"n{os.getpid()}-{number}" for number in (1, 2, 3))
CLUSTER = "wpstest"
ACCOUNT = "wpsacct"
#: An account without any privilege in Slurm.
ORDINARY = "wpsjobs"
#: Daemons start in a second or two; not so on a machine that does much else.
PATIENCE = 90.0
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory/cgroup.procs")

#: What this cluster has in common with the one in containers: scheduling, accounting, preemption, partitions.
COMMON_CONF = ROOT / "docker-slurm-cluster" / "slurm-common.conf"
#: Where things are in this one.
SLURM_CONF = """
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType={proctrack}
TaskPlugin={task}
MinJobAge={min_job_age}
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge/socket
{extra}
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 SocketsPerBoard=1 "
    "CoresPerSocket=4 ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN\n"
)
CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
"""
SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
CommunicationParameters=NoInAddrAny
SlurmUser=slurm
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
CommitDelay=1
"""
DATABASE = """
create database slurm_acct;
create user slurm@localhost identified by 'slurm';
grant all on slurm_acct.* to slurm@localhost
"""
#: Nothing here has to survive a power cut.
MARIADB_OPTIONS = (
    "--skip-networking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=64M",
    "--innodb-lock-wait-timeout=900",
    "--innodb-snapshot-isolation=OFF",
    "--skip-log-bin",
)


@dataclass
class Slurm:
    """A cluster beneath ``folder``. ``daemons`` are its processes by name; nodes are those of NODES.

    ``entrance``: the words before a command that bring it to where the cluster's programs are, if that is not here.
    ``extra``: more lines of slurm.conf.
    """

    folder: Path
    ports: Mapping[str, int]
    min_job_age: int = 300
    entrance: tuple[str, ...] = ()
    extra: str = ""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        """Its slurm.conf: all that a client needs to know."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def memory_is_enforced(self) -> bool:
        """Whether this machine lets Slurm enforce memory by control groups (version 1)."""
        return not self.entrance and os.access(MEMORY_CGROUP, os.W_OK)

    def start(self) -> None:
        """Bring all of it up; returns once every node is idle."""
        self._make_folders()
        self._write_configuration()
        self._start_munge()
        self._start_database()
        self.start_slurmdbd()
        self._make_accounts()
        self.start_slurmctld()
        for node in NODES:
            self.start_node(node)
        self.wait_idle()

    def start_slurmdbd(self) -> None:
        """Start accounting; returns once it answers."""
        environment = {"MYSQL_UNIX_PORT": str(self.folder / "db" / "socket")}
        self._spawn("slurmdbd", "slurmdbd", "-D", account="slurm", environment=environment)
        _await("slurmdbd", lambda: _listens(self.ports["dbd"]))

    def start_slurmctld(self) -> None:
        """Start the controller; returns once it answers."""
        self._spawn("slurmctld", "slurmctld", "-D", "-i", account="slurm")
        _await("slurmctld", lambda: self.run("scontrol", "ping", check=False).returncode == 0)

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        self._spawn(node, "slurmd", "-D", "-N", node)

    def stop(self, daemon: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon; returns once it is gone."""
        process = self.daemons.pop(daemon)
        if process.poll() is None:
            process.send_signal(how)
        process.wait(PATIENCE)

    def kill_node(self, node: str) -> None:
        """Take a node away as a power cut does: its daemon, and all that it has started."""
        self.stop(node, signal.SIGKILL)
        for pid in self._step_daemons(node):
            _kill_tree(pid)

    def cut_off_node(self, node: str) -> None:
        """Let the controller lose a node on which all jobs run on."""
        self.stop(node, signal.SIGKILL)
        for pid in self._step_daemons(node):
            os.kill(pid, signal.SIGKILL)

    def save_state(self) -> Path:
        """A copy of what the controller has saved of its jobs."""
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / "state"
        shutil.copytree(self.folder / "state", copy, ignore=shutil.ignore_patterns("*.new"))
        return copy

    def crash_back_to(self, state: Path) -> None:
        """Kill the controller, and start it with what it had saved then, as if it had not saved anything since."""
        self.stop("slurmctld", signal.SIGKILL)
        shutil.rmtree(self.folder / "state")
        shutil.copytree(state, self.folder / "state")
        for path in [self.folder / "state", *(self.folder / "state").rglob("*")]:
            shutil.chown(path, "slurm", "slurm")
        self.start_slurmctld()

    def resume_nodes(self) -> None:
        """Let nodes that the controller has taken out of service take jobs again."""
        self.run("scontrol", "update", f"NodeName={','.join(NODES)}", "State=RESUME", check=False)
        self.wait_idle()

    def wait_idle(self) -> None:
        """Wait until every node can take jobs."""
        _await("idle nodes", lambda: self._node_states() == dict.fromkeys(NODES, "idle"))

    def run(
        self, *command: str, stdin: str = "", account: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands, as root or as ``account``."""
        return subprocess.run(
            self._entered(command, account),
            input=stdin,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
            cwd="/",
        )

    def environment(self) -> dict[str, str]:
        """What a client's command needs."""
        return {"SLURM_CONF": str(self.conf), "PATH": SEARCHED, "HOME": "/", "LANG": "C.UTF-8", "TZ": "UTC"}

    def reconfigure(self, *, min_job_age: int) -> None:
        """Let the controller forget ended jobs after so many seconds."""
        self.min_job_age = min_job_age
        self._write_configuration()
        self.run("scontrol", "reconfigure")

    def accounted(self, token: str) -> list[list[str]]:
        """Every record of jobs of that name that accounting has: id, state and exit code, requeued runs too."""
        said = self.run(
            "sacct", "-n", "-P", "-X", "-D", "-a", "-S", "now-1days", f"--name={token}", "-o", "JobIDRaw,State,ExitCode"
        )
        return [line.split("|") for line in said.stdout.splitlines()]

    def close(self) -> None:
        """End everything that was started, and what its jobs left."""
        for process in self.daemons.values():
            process.send_signal(signal.SIGCONT)  # a test may have failed while it was stopped
        if "slurmctld" in self.daemons and self.daemons["slurmctld"].poll() is None:
            self.run("scancel", "--full", "--signal=KILL", "--user=root", check=False)
        for daemon in reversed(list(self.daemons)):
            self.stop(daemon, signal.SIGKILL if daemon in NODES else signal.SIGTERM)
        for pid in self._step_daemons(""):
            _kill_tree(pid)
        for node in NODES:
            _remove_control_groups(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make_folders(self) -> None:
        self.folder.chmod(0o755)
        owners = {"etc": "root", "log": "slurm", "run": "slurm", "state": "slurm", "spool": "root"}
        for name, owner in {**owners, "munge": "munge", "db": "mysql"}.items():
            (self.folder / name).mkdir(mode=0o755)
            shutil.chown(self.folder / name, owner, owner)
        for node in NODES:
            (self.folder / "spool" / node).mkdir(mode=0o755)

    def _write_configuration(self) -> None:
        values = {
            "cluster": CLUSTER,
            "host": socket.gethostname().partition(".")[0],
            "folder": self.folder,
            "min_job_age": self.min_job_age,
            "proctrack": "proctrack/cgroup" if self.memory_is_enforced else "proctrack/linuxproc",
            "extra": self.extra,
            "task": "task/cgroup" if self.memory_is_enforced else "task/none",
            "ctld_port": self.ports["ctld"],
            "dbd_port": self.ports["dbd"],
        }
        nodes = "".join(NODE.format(name=node, host=values["host"], port=self.ports[node]) for node in NODES)
        # A copy: the daemons may run in another root (slurm_releases.py).
        shutil.copy(COMMON_CONF, self.conf.parent)
        self.conf.write_text(f"{SLURM_CONF.format(**values)}{nodes}Include {COMMON_CONF.name}\n")
        cgroup = CGROUP_CONF if self.memory_is_enforced else "CgroupPlugin=disabled\n"
        self.conf.with_name("cgroup.conf").write_text(cgroup)
        dbd = self.conf.with_name("slurmdbd.conf")
        dbd.touch(0o600)
        dbd.write_text(SLURMDBD_CONF.format(**values))
        shutil.chown(dbd, "slurm", "slurm")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
        files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid"}
        files |= {"log-file": folder / "log", "seed-file": folder / "seed"}
        options = (f"--{name}={path}" for name, path in files.items())
        self._spawn("munged", "munged", "--foreground", "--num-threads=2", *options, account="munge")
        _await("munged", (folder / "socket").exists)

    def _start_database(self) -> None:
        folder = self.folder / "db"
        data, socket_path = f"--datadir={folder / 'data'}", f"--socket={folder / 'socket'}"
        # Two servers that are installed at a time give their temporary tables the same names.
        temporary = f"--tmpdir={folder}"
        self._install_database(data, temporary)
        pid_file = f"--pid-file={folder / 'pid'}"
        self._spawn(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            data,
            temporary,
            socket_path,
            pid_file,
            *MARIADB_OPTIONS,
            account="mysql",
        )
        client = ("--no-defaults", "-uroot", socket_path)
        _await("mariadbd", lambda: self.run("mariadb-admin", *client, "ping", check=False).returncode == 0)
        self.run("mariadb", *client, stdin=DATABASE)

    def _install_database(self, data: str, temporary: str) -> None:
        options = (temporary, "--user=mysql", "--auth-root-authentication-method=socket", "--skip-test-db")
        done = self.run("mariadb-install-db", "--no-defaults", data, *options, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _make_accounts(self) -> None:
        for words in (
            ("add", "cluster", CLUSTER),
            ("add", "account", ACCOUNT, f"Cluster={CLUSTER}"),
            ("add", "user", f"{ORDINARY},root", f"Account={ACCOUNT}"),
        ):
            self.run("sacctmgr", "-i", *words, check=False)

    def _spawn(
        self, name: str, *command: str, account: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        with (self.folder / "log" / f"{name}.said").open("ab") as said:
            self.daemons[name] = subprocess.Popen(
                self._entered(command, account),
                env={**self.environment(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                start_new_session=True,
            )

    def _entered(self, command: Sequence[str], account: str | None) -> list[str]:
        """A command line as ``account`` (root for None), at the cluster; none of its words forks on the way."""
        return [*self.entrance, *_as_account(account), *command]

    def _node_states(self) -> dict[str, str]:
        said = self.run("sinfo", "-h", "-N", "-p", "long", "-o", "%N %T", check=False).stdout
        return dict(line.split() for line in said.splitlines())

    def _step_daemons(self, node: str) -> list[int]:
        """Step daemons of a node (of any, when empty), which write to its log.

        Their environment does not tell: since 24.11 their title stands in its place.
        """
        log = f"{self.folder}/log/slurmd.{node}{'.' if node else ''}"
        found = (pid for pid in _pids() if _read(pid, "comm").strip() == b"slurmstepd")
        return [pid for pid in found if any(log in path for path in _open_files(pid))]


def _open_files(pid: int) -> list[str]:
    """The paths of a process's open files; of one in another root, as they are seen from here."""
    paths = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):  # closed meanwhile
            paths.append(str(link.readlink()))
    return paths


def _children(pid: int) -> list[int]:
    tasks = (path.name for path in Path(f"/proc/{pid}/task").glob("*"))
    return [int(child) for task in tasks for child in _read(pid, f"task/{task}/children").split()]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all that descend from it."""
    try:
        os.kill(pid, signal.SIGSTOP)
        for child in _children(pid):
            _kill_tree(child)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_control_groups(node: str) -> None:
    for group in Path("/sys/fs/cgroup").glob(f"*/slurm_{node}"):
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            _remove_folder(folder)
        _remove_folder(group)


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # something in it still ends


def _as_account(account: str | None) -> tuple[str, ...]:
    if account is None:
        return ()
    entry = pwd.getpwnam(account)
    return ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not there after {PATIENCE:g} s"
        time.sleep(0.05)


def is_installed() -> bool:
    """Whether this machine can run a Slurm of the tests' own."""
    return os.geteuid() == 0 and all(shutil.which(name, path=SEARCHED) for name in PROGRAMS)


def _make_ordinary_account() -> None:
    try:
        pwd.getpwnam(ORDINARY)
    except KeyError:
        command: Sequence[str] = ("useradd", "--system", "--no-create-home", "--shell", "/bin/sh", ORDINARY)
        subprocess.run(command, env={"PATH": SEARCHED}, check=True)


@contextmanager
def running_slurm(entrance: tuple[str, ...] = (), extra: str = "") -> Iterator[Slurm]:
    """A Slurm within the block, whose nodes are idle at its beginning."""
    _make_ordinary_account()
    # Not below pytest's own folder: that is closed to the accounts which the daemons run as.
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-slurm-"))
    ports = {name: free_port() for name in ("ctld", "dbd", *NODES)}
    cluster = Slurm(folder, ports, entrance=entrance, extra=extra)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Slurm]:
    """A Slurm that answers and whose nodes are idle; a test that breaks something puts it right again."""
    require("Slurm", is_installed(), HOW)
    with running_slurm() as cluster:
        yield cluster
