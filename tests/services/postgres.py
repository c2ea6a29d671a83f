"""A real PostgreSQL of this test session's own, and a fresh database for each test that asks."""

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.services import require

HOW = "install Debian's package postgresql (make services)"
# Nothing here has to survive a power cut.
SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL data folder with its programs; runs as `account`, or as who runs the tests if None."""

    programs: Path
    folder: Path
    account: str | None

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs; a failure carries what it said."""
        # Its output goes to a file: the server inherits it, and would keep a pipe open for ever.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [str(self.programs / program), "-D", str(self.folder / "data"), *arguments],
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=120,
                check=False,
                **self._identity(),
            )
            said.seek(0)
            if done.returncode:
                raise RuntimeError(f"{program} exited with {done.returncode}: {said.read().decode()}")

    def start(self, port: int) -> None:
        """Start on the loopback interface and a Unix socket in the folder; return once it answers."""
        settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(self.folder)}
        options = shlex.join(["-h", "127.0.0.1", *(f"-c{key}={value}" for key, value in settings.items())])
        log = str(self.folder / "log")
        self.run("pg_ctl", "-l", log, "-w", "-t", "60", "-o", options, "start")

    def _identity(self) -> dict[str, object]:
        """Arguments for subprocess: PostgreSQL refuses to run as root."""
        if self.account is None:
            return {}
        return {"user": self.account, "group": pwd.getpwnam(self.account).pw_gid, "extra_groups": []}


def find_programs() -> Path | None:
    """Return the folder with initdb, pg_ctl and postgres, or None; Debian keeps it off the PATH."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    if found := shutil.which("pg_config"):
        said = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False).stdout
        candidates.append(Path(said.strip()))
    needed = ("initdb", "pg_ctl", "postgres")
    return next((c for c in candidates if all((c / name).is_file() for name in needed)), None)


def server_account() -> str | None:
    """Return the account to run the server as: `postgres` for root, else None (oneself)."""
    return "postgres" if os.geteuid() == 0 else None


def free_port() -> int:
    """Return a TCP port that is free on the loopback interface now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_on_free_port(cluster: Cluster) -> int:
    """Start the server and return its port; somebody else may take a free port first, so try again."""
    for attempt in range(3):
        port = free_port()
        try:
            cluster.start(port)
            return port
        except RuntimeError as failure:
            if attempt == 2:
                log = cluster.folder / "log"
                failure.add_note(log.read_text() if log.exists() else "it wrote no log")
                raise
    raise AssertionError("unreachable")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a PostgreSQL server's own database, `postgres`; use `postgres_database`."""
    programs = find_programs()
    require("PostgreSQL", programs, HOW)
    assert programs is not None
    # Not below pytest's own folder: that is closed to the account which the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="wps-hpc-postgres-"))
    cluster = Cluster(programs, folder, server_account())
    if cluster.account:
        shutil.chown(folder, cluster.account)
    try:
        cluster.run("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        port = start_on_free_port(cluster)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(RuntimeError):  # it never started, or a test killed it
            cluster.run("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of this test's own, dropped after it."""
    name = f"test_{uuid.uuid4().hex}"
    server = postgres_url.replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield postgres_url.removesuffix("postgres") + name
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
