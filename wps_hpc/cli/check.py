"""``wps-hpc check``: what is wrong with the installation, in plain words, one line a finding."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click
from sqlalchemy.engine import make_url

from wps_hpc.cli.main import EXIT_FAILED, Chosen
from wps_hpc.clusters.cluster import Cluster, build_cluster, build_clusters
from wps_hpc.clusters.containers import configured, judge
from wps_hpc.clusters.transports.base import Command, TransportError
from wps_hpc.clusters.transports.ssh import SshTransport
from wps_hpc.config import ConfigError, Settings, is_loopback
from wps_hpc.health import LOW_SPACE, read_report
from wps_hpc.jobs.places import astray, inhabited
from wps_hpc.jobs.store import Store, StoreError, open_store
from wps_hpc.probe import ProbeFailed, ProbeReport, send_probe
from wps_hpc.processes.catalogue import Catalogue

#: File systems that several hosts may share; SQLite's locks cannot be trusted on them.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre", "gpfs", "beegfs"),
        *("panfs", "orangefs", "pvfs2", "wekafs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.beegfs"),
    }
)
#: A node's clock that is off by more seconds makes times that clients see hard to believe.
CLOCK_TOLERANCE = 2.0
#: Times before this version was made tell that a clock was never set.
EARLIEST_TIME = 1_767_225_600.0

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line: ``level`` is ok, note (works, but read it) or problem (has to be put right)."""

    level: str
    text: str


T = TypeVar("T")
Check = Callable[[Settings], Iterable[Finding]]


@click.command()
@click.option("--timeout", default=120.0, show_default=True, help="How long a probe job may wait and run, in seconds.")
@click.option("--no-probe", is_flag=True, help="Send no probe jobs to the clusters.")
@click.pass_obj
def check(chosen: Chosen, timeout: float, no_probe: bool) -> int:
    """Say what is wrong with configuration, folders, database, processes, schedulers and nodes.

    Sends a small probe job through each cluster's scheduler. Exit code 1 when there is a problem.
    """
    settings = chosen.quiet_settings()
    findings = print_all(_findings(chosen, settings, None if no_probe else timeout))
    problems = sum(finding.level == PROBLEM for finding in findings)
    click.echo(f"{problems} problem{'' if problems == 1 else 's'}" if problems else "everything is in order")
    return EXIT_FAILED if problems else 0


def print_all(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it is made; returns them all."""
    seen = []
    for finding in findings:
        # Some of it was said by other hosts: it stays one line, and gives the terminal no orders.
        shown = "".join(letter if letter.isprintable() else " " for letter in finding.text)
        click.echo(f"{finding.level:8}{shown}")
        seen.append(finding)
    return seen


def _findings(chosen: Chosen, settings: Settings, probe_timeout: float | None) -> Iterator[Finding]:
    yield Finding(OK, f"configuration: {chosen.config or 'none found; all defaults hold'}")
    for examine in CHECKS:
        yield from examine(settings)
    if probe_timeout is not None:
        yield from check_clusters(settings, probe_timeout)


def check_address(settings: Settings) -> Iterator[Finding]:
    """Where the server listens, and what it calls itself."""
    server = settings.server
    parts = urlsplit(server.base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        yield Finding(PROBLEM, f"server.public_url {server.public_url} is not of the form https://host[/path]")
    elif server.public_url is None and not is_loopback(server.host):
        yield Finding(
            PROBLEM,
            f"server.public_url is not set: clients would be sent to {server.base_url}; say what they call this server",
        )
    else:
        yield Finding(OK, f"clients reach the service at {server.base_url}/wps")
    if not server.job_control:
        yield Finding(
            NOTE,
            f"the server listens on {server.host} and no proxy says who is asking at {server.base_url}: everybody may "
            "run processes; job list and job control stay off",
        )


def check_folders(settings: Settings) -> Iterator[Finding]:
    """Storage and run-time folder: there, ours, closed to others, writable, with room."""
    for name, folder in (("storage.root", settings.storage.root), ("storage.runtime", settings.storage.run)):
        yield from check_private_folder(name, folder)
    if settings.storage.root.is_dir():
        yield from check_space(settings.storage.root)
    for folder in settings.inputs.folders:
        if not folder.is_dir():
            yield Finding(PROBLEM, f"inputs.folders: {folder} is not a folder; file: inputs below it will be refused")


def check_private_folder(name: str, folder: Path) -> Iterator[Finding]:
    """Whether a folder is this account's alone and can be written; makes it when it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"check")
    except OSError as error:
        yield Finding(PROBLEM, f"{name} {folder} cannot be written: {error.strerror}; give it to this account")
        return
    if found.st_uid != os.geteuid():
        yield Finding(PROBLEM, f"{name} {folder} belongs to account {found.st_uid}, not to this one ({os.geteuid()})")
    elif stat.S_IMODE(found.st_mode) & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):o}"
        yield Finding(PROBLEM, f"{name} {folder} can be written by other accounts (mode {mode}): chmod 700 {folder}")
    else:
        yield Finding(OK, f"{name} {folder} can be written")


def check_space(root: Path) -> Iterator[Finding]:
    """Whether the storage has room."""
    free = shutil.disk_usage(root).free
    level = PROBLEM if free < LOW_SPACE else OK
    yield Finding(level, f"{free / 1e9:.1f} GB free below {root}" + (": too little" if level == PROBLEM else ""))


def check_database(settings: Settings) -> Iterator[Finding]:
    """Whether the job database is of a kind and in a place that works, answers, and has this version's tables."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        kind = file_system(Path(url.database))
        if kind in NETWORK_FILE_SYSTEMS:
            yield Finding(
                PROBLEM,
                f"SQLite on a network file system ({kind}): {url.database} will break; let database.url name "
                "a file on a local disk, or PostgreSQL",
            )
            return
    shown = url.render_as_string(hide_password=True)
    try:
        store = open_store(settings)
        store.upgrade()
        store.count_by_state()
        store.close()
    except (StoreError, ValueError, OSError, ImportError) as error:
        yield Finding(PROBLEM, f"the job database {shown} cannot be used: {error}")
    else:
        yield Finding(OK, f"the job database {shown} answers and its tables are up to date")


def file_system(path: Path, mounts: str | None = None) -> str:
    """The kind of file system that ``path`` is, or will be, on, as ``/proc/mounts`` names it.

    ``mounts`` is the text of that file; default: this host's.
    """
    text = Path("/proc/mounts").read_text() if mounts is None else mounts
    wanted = Path(os.path.realpath(path))
    best, kind = -1, "unknown"
    for line in text.splitlines():
        _, point, found, *_ = line.split(" ")
        mount = Path(point.encode().decode("unicode_escape"))
        if wanted.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), found
    return kind


def check_processes(settings: Settings) -> Iterator[Finding]:
    """Whether every process can be loaded, and whether there is one."""
    catalogue = Catalogue.of(settings.processes, judge(settings))
    catalogue.reload()
    for origin, problem in catalogue.problems.items():
        yield Finding(PROBLEM, f"processes: {origin}: {problem}")
    offered = len(catalogue.entries())
    if offered:
        yield Finding(OK, f"{offered} processes are on offer")
    elif not catalogue.problems:
        yield Finding(NOTE, "no process is on offer; name modules or folders under [processes]")


def check_containers(settings: Settings) -> Iterator[Finding]:
    """Whether some jobs run in a container and others of the same processes in none."""
    contained = [name for name, cluster in settings.clusters.items() if configured(cluster)]
    if contained and "local" not in contained:
        yield Finding(
            NOTE,
            f"jobs on {', '.join(contained)} run in containers, those on local do not: synchronous calls of processes "
            'with sync="local" run there (clusters.local.container)',
        )


def check_clock(settings: Settings) -> Iterator[Finding]:
    """Whether this host's clock was ever set."""
    if time.time() < EARLIEST_TIME:
        yield Finding(PROBLEM, f"this host's clock says {time.ctime()}: set it")


def check_owners(settings: Settings) -> Iterator[Finding]:
    """Whether owners can be known, and cannot go round their accounts, where a cluster maps them to accounts."""
    for name, cluster in settings.clusters.items():
        if cluster.accounts and not settings.server.trusted_proxies:
            yield Finding(
                PROBLEM,
                f"clusters.{name}.accounts maps owners to accounts, but nobody says who is asking: all jobs are "
                "refused; set server.trusted_proxies",
            )
        elif cluster.accounts:
            yield Finding(OK, f"cluster {name}: {len(cluster.accounts)} owners have accounts there")


def check_places(settings: Settings) -> Iterator[Finding]:
    """Whether every job is where it can be looked after: the configuration may have changed since it went there."""
    for where, count in (_asked(settings, Store.whereabouts) or {}).items():
        why = astray(settings.clusters, where)
        if why is not None:
            yield Finding(PROBLEM, why.told(count))


def _asked(settings: Settings, question: Callable[[Store], T]) -> T | None:
    """What the job database says; None when it cannot be asked, of which there is a line already."""
    try:
        with closing(open_store(settings)) as store:
            return question(store)
    except (StoreError, ValueError, OSError, ImportError):
        return None


def check_worker(settings: Settings) -> Iterator[Finding]:
    """Whether a worker is at work. None need be: the server may just not be running."""
    report = read_report(settings)
    age = None if report is None else time.time() - report.round_at
    if report is None or age is None or age > 60:
        yield Finding(NOTE, "no worker is at work now; accepted jobs wait for one")
        return
    yield Finding(OK, f"a worker is at work (process {report.pid}, epoch {report.epoch})")
    for name, rounds in report.clusters.items():
        if rounds.failed_at is not None and (rounds.last_ok or 0.0) < rounds.failed_at:
            yield Finding(PROBLEM, f"cluster {name}: the scheduler does not answer the worker: {rounds.last_error}")


CHECKS: tuple[Check, ...] = (
    check_clock,
    check_address,
    check_folders,
    check_database,
    check_processes,
    check_containers,
    check_owners,
    check_places,
    check_worker,
)


def check_clusters(settings: Settings, timeout: float) -> Iterator[Finding]:
    """Send a probe through each cluster's scheduler."""
    identity = _asked(settings, Store.identity) or ""
    try:
        clusters = build_clusters(settings, identity, partial(_inhabited, settings))
    except ConfigError as error:
        yield Finding(PROBLEM, str(error))
        return
    for cluster in clusters.values():
        for seen in _as_accounts(settings, cluster, identity):
            try:
                login = list(check_login(seen))
                yield from login
                if not any(finding.level == PROBLEM for finding in login):
                    yield from check_cluster(settings, seen, timeout)
            finally:
                seen.close()


def _inhabited(settings: Settings, cluster: str, root: str) -> bool:
    return bool(_asked(settings, lambda store: inhabited(store, cluster, root)))


def _as_accounts(settings: Settings, cluster: Cluster, identity: str) -> Iterator[Cluster]:
    """The cluster as each account of its table sees it; one without a table as the server does."""
    accounts = sorted(set(cluster.settings.accounts.values()))
    lived = partial(_inhabited, settings)
    seen = (build_cluster(settings, cluster.name, account, identity, lived) for account in accounts)
    yield from seen if accounts else [cluster]


def check_login(cluster: Cluster) -> Iterator[Finding]:
    """Whether a cluster's login node lets this server in, and what it is like; nothing where there is none."""
    transport, seconds = cluster.transport, cluster.settings.command_seconds
    if not isinstance(transport, SshTransport):
        return
    try:
        noise = transport.noise(seconds)
        account = transport.run(Command(("id", "-un")), seconds).stdout.strip()
        seen = cluster.depot is not None or sees_root(cluster, transport)
    except (TransportError, OSError) as error:
        yield Finding(PROBLEM, f"cluster {cluster.name}: {error}")
        return
    yield Finding(OK, f"cluster {cluster.name}: the login node {transport.where} lets this server in as {account}")
    if noise:
        text = f"the account's login files print something before every command ({noise.splitlines()[0]!r:.80})"
        yield Finding(NOTE, f"cluster {cluster.name}: {text}: that is cut off, but it takes time")
    if not seen:
        there = cluster.there(cluster.storage)
        text = f"{there} on the login node is not {cluster.storage} here: set clusters.{cluster.name}.root"
        yield Finding(NOTE, f"cluster {cluster.name}: {text}, unless the nodes see it all the same")


def sees_root(cluster: Cluster, transport: SshTransport) -> bool:
    """Whether a file in ``storage.root`` is there under the path that the cluster is told. Raises TransportError."""
    with tempfile.NamedTemporaryFile(dir=cluster.storage, prefix=".check-") as mark:
        found = transport.read_many([cluster.there(Path(mark.name))], 1, cluster.settings.command_seconds)
        return bool(found)


def check_cluster(settings: Settings, cluster: Cluster, timeout: float) -> Iterator[Finding]:
    """Whether a job runs on a cluster, and what its node is like."""
    name = cluster.name + (f", account {cluster.account}" if cluster.account else "")
    try:
        report = send_probe(settings, cluster, timeout)
    except (ProbeFailed, OSError) as error:
        yield Finding(PROBLEM, f"cluster {name}: {error}")
        return
    yield Finding(
        OK,
        f"cluster {name}: a probe job ran in {report.seconds:.1f} s on {report.host} as {report.user} "
        f"({report.uid}) with Python {report.python} ({report.executable}) and wrote to {report.folder}",
    )
    if cluster.account is not None and report.user not in (cluster.account, "unknown"):
        yield Finding(PROBLEM, f"cluster {name}: jobs run as {report.user}")
    yield from check_node(name, report, shared=cluster.depot is None)
    yield from check_container(cluster, report)


def check_container(cluster: Cluster, report: ProbeReport) -> Iterator[Finding]:
    """What a probe found of the container that it ran in, if there is to be one."""
    own = configured(cluster.settings)
    if own is None:
        return
    inside = "in a container" if own.inside == "launcher" else "commands run in a container"
    mounts = ", ".join(dict.fromkeys(report.mounts)) or "nothing of the node"
    interfaces = [name for name in report.interfaces if name != "lo"]
    network = f"the network interfaces {', '.join(interfaces)}" if interfaces else "no network"
    text = f"{inside} of {report.runtime or own.runtime}, image {own.image}: it sees {mounts}, and has {network}"
    yield Finding(OK if not interfaces else NOTE, f"cluster {cluster.name}: {text}")


def check_node(name: str, report: ProbeReport, *, shared: bool = True) -> Iterator[Finding]:
    """What a probe's findings mean for other jobs; ``shared``: they run as the server, on folders of its own."""
    version = tuple(int(part) for part in report.python.split(".")[:2])
    if version != sys.version_info[:2]:
        here = ".".join(map(str, sys.version_info[:2]))
        yield Finding(
            NOTE,
            f"cluster {name}: Python {report.python} there, {here} here: processes made at run time (closures) "
            "cannot run there; those from modules and folders can",
        )
    if shared and report.uid != os.geteuid():
        yield Finding(PROBLEM, f"cluster {name}: jobs run as account {report.uid}, the server as {os.geteuid()}")
    if abs(report.clock_ahead) > CLOCK_TOLERANCE:
        word = "ahead of" if report.clock_ahead > 0 else "behind"
        yield Finding(
            PROBLEM, f"cluster {name}: the node's clock is {abs(report.clock_ahead):.0f} s {word} this host's: set both"
        )
