"""A real sshd of this test session's own, on the loopback: its own host key, its own keys for each account.

It runs in the foreground as a child of the tests, so that it can be stopped, continued and killed. Nothing below /etc
or in an account's home folder is touched.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.services import require
from tests.services.postgres import free_port

HOW = "install openssh-server, or unpack Debian's package of it (make services)"
#: Where install.sh unpacks it: installed, it would start a daemon on port 22.
UNPACKED = Path("/usr/local/lib/wps-hpc-tests/openssh-server")
#: Two accounts of ordinary people, who may log in and have a home folder; other ones in each session of tests.
PEOPLE = (f"wpsanna{os.getpid()}", f"wpsbert{os.getpid()}")
PATIENCE = 60.0
#: Where useradd and its like are.
ADMINISTRATION = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/keys/%u
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
PrintLastLog no
MaxStartups 100
PermitUserEnvironment no
Subsystem sftp {sftp}
{more}
"""
#: Makes bash believe that it was started by a shell, so that it leaves .bashrc alone: that of who runs the tests may do
#: anything, and takes its time.
NO_BASHRC = "SetEnv SHLVL=1"


@dataclass
class Sshd:
    """A login node on the loopback. ``more`` are lines of its configuration, read when it starts; with ``bashrc`` a
    bash reads that file, as it does on Debian."""

    folder: Path
    program: Path
    port: int
    more: str = ""
    bashrc: bool = False
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def host(self) -> str:
        """What clients connect to."""
        return "127.0.0.1"

    @property
    def known_hosts(self) -> Path:
        """A file that has its host key, as it is now."""
        path = self.folder / "known_hosts"
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        path.write_text(f"[{self.host}]:{self.port} {key}\n")
        return path

    @property
    def account(self) -> str:
        """The account of the tests themselves."""
        return pwd.getpwuid(os.geteuid()).pw_name

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text()

    def key(self, account: str | None = None) -> Path:
        """A private key that opens an account, the tests' own by default; made at the first call."""
        name = account or self.account
        path = self.folder / f"id_{name}"
        if not path.exists():
            keygen("-t", "ed25519", "-C", name, "-f", str(path))
            authorized = self.folder / "keys" / name
            authorized.write_bytes(path.with_suffix(".pub").read_bytes())
            authorized.chmod(0o644)
        return path

    def renew_host_key(self) -> None:
        """Give it another identity, which shows at its next start."""
        for path in self.folder.glob("host_key*"):
            path.unlink()
        keygen("-t", "ed25519", "-f", str(self.folder / "host_key"))

    def start(self) -> None:
        """Start it; returns once it listens."""
        more = self.more if self.bashrc else f"{NO_BASHRC}\n{self.more}"
        text = CONFIG.format(port=self.port, folder=self.folder, sftp=_sftp_server(self.program), more=more)
        (self.folder / "sshd_config").write_text(text)
        with (self.folder / "log").open("ab") as log:
            before = len(self.log)
            self._process = subprocess.Popen(
                [str(self.program), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath},
            )
        deadline = time.monotonic() + PATIENCE
        while "Server listening on" not in self.log[before:]:
            assert self._process.poll() is None and time.monotonic() < deadline, f"sshd did not start: {self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and every connection, as a crash of the host would."""
        processes = [*self.connections(), *([self._process.pid] if self._process else ())]
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE)
            self._process = None

    def connections(self) -> list[int]:
        """The processes that serve connections: for each a monitor, and a child of the account's own."""
        return [process.pid for process in self._descendants() if _name(process) == "sshd"]

    def shells(self) -> list[int]:
        """The processes of commands, and what they have started."""
        return [process.pid for process in self._descendants() if _name(process) not in ("sshd", "")]

    def _descendants(self) -> list[psutil.Process]:
        return [] if self._process is None else psutil.Process(self._process.pid).children(recursive=True)

    def cut(self) -> None:
        """End every connection; new ones are welcome. What was started over them runs on."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextmanager
    def frozen(self, *, also_new: bool = False) -> Iterator[None]:
        """Let every present connection hang within the block; ``also_new``: nobody answers who connects anew either."""
        pids = [*([self._process.pid] if also_new and self._process else ()), *self.connections()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def keygen(*arguments: str) -> None:
    """Make a key without a passphrase, or sign one."""
    subprocess.run(["ssh-keygen", "-q", "-N", "", *arguments], check=True, capture_output=True, timeout=PATIENCE)


def sign(authority: Path, public: Path, *options: str) -> Path:
    """A certificate for a public key by a private key; ``options`` as ``ssh-keygen`` has them."""
    words = ["ssh-keygen", "-q", "-s", str(authority), "-I", "tests", *options, str(public)]
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE)
    return public.with_name(f"{public.stem}-cert.pub")


def find_program() -> Path | None:
    """sshd, installed or unpacked; it wants to be called by its full path."""
    found = (Path("/usr/sbin/sshd"), UNPACKED / "usr/sbin/sshd")
    return next((path for path in found if path.is_file()), None) if shutil.which("ssh-keygen") else None


def _sftp_server(program: Path) -> Path:
    return program.parents[1] / "lib" / "openssh" / "sftp-server"


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def make_account(*options: str) -> None:
    """Make an account, unless it is there; its name comes last."""
    try:
        pwd.getpwnam(options[-1])
    except KeyError:
        subprocess.run(["useradd", *options], env=ADMINISTRATION, check=True)


def _end_processes(account: int) -> None:
    for process in psutil.process_iter(["uids"]):
        if process.info["uids"] is not None and process.info["uids"].real == account:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _prepare_host() -> None:
    """What sshd wants of a host where it was never installed: a folder and an account to lock its first half in."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        make_account("--system", "--no-create-home", "--home-dir", "/run/sshd", "--shell", "/usr/sbin/nologin", "sshd")


@contextmanager
def running_sshd(program: Path, more: str = "") -> Iterator[Sshd]:
    """An sshd within the block; ``more`` are lines of its configuration."""
    _prepare_host()
    # Not below pytest's own folder: sshd reads the keys as the account that logs in.
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-sshd-"))
    folder.chmod(0o755)
    (folder / "keys").mkdir(mode=0o755)
    keygen("-t", "ed25519", "-f", str(folder / "host_key"))
    sshd = Sshd(folder, program, free_port(), more)
    try:
        sshd.start()
        yield sshd
    finally:
        sshd.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """A login node that answers; a test that breaks something puts it right again."""
    program = find_program()
    require("sshd", program, HOW)
    assert program is not None
    with running_sshd(program) as running:
        yield running


@pytest.fixture(scope="session")
def people() -> Iterator[Sequence[str]]:
    """Two real accounts with home folders and an ordinary shell, gone after the session with all that is theirs."""
    require(
        "useradd", os.geteuid() == 0 and shutil.which("useradd", path=ADMINISTRATION["PATH"]), "run the tests as root"
    )
    for name in PEOPLE:
        # "!", which useradd writes by default, is a lock that sshd heeds even for keys.
        make_account("--create-home", "--shell", "/bin/bash", "--password", "*", name)
    yield PEOPLE
    for name in PEOPLE:
        _end_processes(pwd.getpwnam(name).pw_uid)
        subprocess.run(["userdel", "--remove", "--force", name], env=ADMINISTRATION, check=True, capture_output=True)
