"""The server's settings: one TOML file, one typed object; every option has a default that works on a
laptop.

An unknown key is an error that names the nearest known one. ``wps-hpc init`` writes these fields, with
their descriptions as comments.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class ConfigError(Exception):
    """The configuration cannot be used; the text names file, key and remedy."""


def is_loopback(host: str) -> bool:
    """Whether only this host's own users reach an address or name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """A table of the configuration file: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """Where the server listens and what it calls itself."""

    host: str = Field("127.0.0.1", description="Address to bind. Loopback by default: put a proxy in front to publish.")
    port: int = Field(8095, ge=0, le=65535, description="TCP port.")
    public_url: str | None = Field(
        None,
        description="The address that clients use; default: http://host:port.",
        examples=["https://wps.example.org"],
    )
    web_processes: int = Field(2, ge=1, description="Web server processes.")
    web_threads: int = Field(8, ge=1, description="Threads of each web process.")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="Networks of proxies whose REMOTE_USER header (X-Remote-User) is believed."
    )
    header_timeout: float = Field(10.0, gt=0, description="Seconds within which a request's head must have arrived.")
    body_timeout: float = Field(30.0, gt=0, description="Seconds within which a request's body must have arrived.")
    keepalive_seconds: int = Field(5, ge=0, description="An idle connection is closed after so many seconds.")
    graceful_seconds: float = Field(
        30.0,
        gt=0,
        description="When the server stops, requests under way get so long to finish; jobs go on anyway.",
    )
    allow_origin: str | None = Field(
        None,
        description="Web pages of which origin may call the service ('*': any); sets the CORS headers.",
        examples=["https://maps.example.org"],
    )
    languages: tuple[str, ...] = Field(("en-US",), min_length=1, description="Languages offered, the default first.")

    @property
    def base_url(self) -> str:
        """The public address without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def outputs_url(self, job_id: str) -> str:
        """The address below which the output files of a job are found, without a trailing slash."""
        return f"{self.base_url}/outputs/{job_id}"

    @property
    def published(self) -> bool:
        """Whether others than the users of this host reach the service: it is bound to more than loopback, or says
        that clients call it by another name."""
        return not (is_loopback(self.host) and is_loopback(urlsplit(self.base_url).hostname or ""))

    @property
    def job_control(self) -> bool:
        """Whether clients may list and steer jobs: on a published service only where a proxy says who is asking."""
        return bool(self.trusted_proxies) or not self.published


class ServiceMetadata(Section):
    """What capabilities documents say about the service and its provider."""

    title: str = Field("wps-hpc", description="Title of the service.")
    abstract: str = Field("Processes that run on this site's cluster.", description="One paragraph about the service.")
    keywords: tuple[str, ...] = Field(("WPS", "HPC"), description="Keywords.")
    fees: str = Field("NONE", description="Fees.")
    access_constraints: str = Field("NONE", description="Access constraints.")
    provider_name: str = Field("unnamed provider", description="The organisation that runs the service.")
    provider_url: str | None = Field(None, description="Its web site.", examples=["https://www.example.org"])
    contact_name: str | None = Field(None, description="A person to ask.", examples=["Ada Operator"])
    contact_position: str | None = Field(None, description="That person's position.", examples=["Operator"])
    contact_phone: str | None = Field(None, description="Telephone.", examples=["+49 30 901820"])
    contact_email: str | None = Field(None, description="Mail address.", examples=["wps@example.org"])
    address: str | None = Field(None, description="Street address.", examples=["1 Example Street"])
    city: str | None = Field(None, description="City.", examples=["Exampleton"])
    region: str | None = Field(None, description="Administrative area.", examples=["Exampleshire"])
    postal_code: str | None = Field(None, description="Postal code.", examples=["12345"])
    country: str | None = Field(None, description="Country.", examples=["Germany"])


class Storage(Section):
    """Where job folders lie; shared with the nodes when there is a cluster."""

    root: Path = Field(Path("wps-hpc-data"), description="Root of job folders, launcher and trash.")
    runtime: Path | None = Field(
        None,
        description="Folder on this host for sockets and pid files; default: <root>/run.",
        examples=["/run/wps-hpc"],
    )
    keep_days: float = Field(7.0, gt=0, description="Days that a finished job and its outputs stay.")
    trash_hours: float = Field(24.0, gt=0, description="Hours that an expired job's files stay in the trash.")
    min_free_bytes: int = Field(
        50_000_000, ge=0, description="New jobs are refused while the file system of root has less room than this."
    )

    @property
    def run(self) -> Path:
        """The folder for sockets and pid files."""
        return self.runtime or self.root / "run"


class Database(Section):
    """Where jobs are recorded."""

    url: str | None = Field(
        None,
        description="SQLAlchemy URL; default: SQLite at <storage.root>/jobs.sqlite.",
        examples=["postgresql+psycopg://wps@localhost/wps"],
    )
    lease_seconds: float = Field(10.0, gt=0, description="A worker that is silent for so long is replaced.")


class Limits(Section):
    """How much at once, and how long."""

    parallel: int = Field(4, ge=0, description="Jobs that run, or wait at a scheduler, at the same time.")
    queued: int = Field(1000, ge=0, description="Accepted jobs that wait for a place.")
    sync_seconds: float = Field(15.0, gt=0, description="A synchronous call is dismissed after so many seconds.")
    grace_seconds: float = Field(
        0.5, ge=0, description="An asynchronous call waits so long for its job, to answer it as finished."
    )
    request_bytes: int = Field(64_000_000, gt=0, description="Largest request body.")
    input_bytes: int = Field(256_000_000, gt=0, description="Largest single complex input.")
    # As Base64 this stays below the ten million characters that clients built on libxml2 read in one piece.
    embed_bytes: int = Field(
        7_000_000, gt=0, description="Outputs larger than this come as references, never within a document."
    )
    log_bytes: int = Field(10_000_000, gt=0, description="What is kept of a job's standard output and error, each.")
    walltime_seconds: int = Field(3600, gt=0, description="Walltime of a process that states none.")
    max_walltime_seconds: int = Field(86_400, gt=0, description="No process or request gets more.")
    queue_seconds: int | None = Field(
        None, gt=0, description="A job that waits in a scheduler's queue for longer is dismissed.", examples=[604_800]
    )
    max_cores: int | None = Field(None, gt=0, description="No process or request gets more cores.", examples=[64])
    max_memory_mb: int | None = Field(
        None, gt=0, description="No process or request gets more memory, in MiB.", examples=[256_000]
    )
    memory_mb: int | None = Field(
        None, gt=0, description="Memory of a local job whose process states none, in MiB.", examples=[2048]
    )
    result_bytes: int = Field(
        10_000_000_000,
        gt=0,
        description="Largest results of a job, all outputs together, that are fetched from a cluster (staging sftp).",
    )


class Inputs(Section):
    """What inputs by reference may point at."""

    schemes: tuple[Literal["http", "https", "file"], ...] = Field(("http", "https"), description="Allowed schemes.")
    hosts: tuple[str, ...] = Field(
        ("*",),
        description="Allowed host names; '*.example.org' allows subdomains, '*' any with a public address.",
    )
    private_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="Loopback, private and link-local networks that are allowed all the same."
    )
    folders: tuple[Path, ...] = Field((), description="Folders below which file: inputs are allowed.")
    _closed: tuple[Path, ...] = PrivateAttr(())
    timeout_seconds: float = Field(60.0, gt=0, description="Longest silence of a remote host.")
    total_seconds: float = Field(600.0, gt=0, description="Longest time for fetching one input.")
    redirects: int = Field(5, ge=0, description="Redirects that are followed; each is checked.")
    parallel: int = Field(8, ge=1, description="Inputs fetched at the same time.")

    @property
    def closed(self) -> tuple[Path, ...]:
        """Files and folders of the server's own that are no inputs, though they lie below one of ``folders``."""
        return self._closed

    def closing(self, *paths: Path) -> Inputs:
        """A copy to which these are closed."""
        made = self.model_copy()
        made._closed = paths
        return made


class Callbacks(Section):
    """Where clients may have the server tell of their jobs (subscriber of OGC API - Processes); off unless hosts are
    listed."""

    hosts: tuple[str, ...] = Field(
        (),
        description="Hosts that may be called back; '*.example.org' allows subdomains, '*' any with a public address.",
    )
    schemes: tuple[Literal["http", "https"], ...] = Field(("https",), description="Allowed schemes.")
    private_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="Loopback, private and link-local networks that may be called back all the same."
    )
    timeout_seconds: float = Field(15.0, gt=0, description="Longest time for one try.")
    attempts: int = Field(10, ge=1, description="Tries before a callback is given up.")
    retry_seconds: float = Field(
        10.0, gt=0, description="Pause before the second try; each further one is twice as long, up to an hour."
    )


class Processes(Section):
    """Where processes come from."""

    modules: tuple[str, ...] = Field((), description="Importable modules that define processes.")
    folders: tuple[Path, ...] = Field((), description="Watched folders with one Python file per group of processes.")
    watch_seconds: float = Field(2.0, gt=0, description="How often the folders are looked at.")
    pywps_config: tuple[Path, ...] = Field(
        (), description="PyWPS configuration files, for PyWPS processes that read their own options there."
    )


#: A name or list of names as batch systems write them; nothing that a shell or a directive could misread.
OptionValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:,;*&|!()\[\]@+=/-]+$")]
#: What a site may not set, because the server's own promises hang on it; by scheduler.
RESERVED_OPTIONS: Mapping[str, frozenset[str]] = {
    "slurm": frozenset(
        {
            *("array", "batch", "chdir", "clusters", "error", "export", "export-file", "get-user-env", "gid", "help"),
            *("ignore-pbs", "input", "job-name", "kill-on-bad-exit", "no-requeue", "open-mode", "output", "parsable"),
            *("quiet", "requeue", "signal", "test-only", "uid", "usage", "verbose", "version", "wait", "wrap"),
        }
    ),
    "torque": frozenset("acCdDefFhIjJkNoPrStTuvVwxXz"),
    "openpbs": frozenset("acCefGhIjJkNorRSuvVXz"),
    "gridengine": frozenset(
        {
            *(
                "@",
                "a",
                "b",
                "C",
                "clear",
                "ckpt",
                "cwd",
                "e",
                "f",
                "h",
                "help",
                "hold_jid",
                "hold_jid_ad",
                "i",
                "inherit",
            ),
            *(
                "j",
                "N",
                "noshell",
                "notify",
                "now",
                "o",
                "pty",
                "r",
                "S",
                "shell",
                "sync",
                "t",
                "tc",
                "terse",
                "v",
                "V",
            ),
            *("verbose", "verify", "wd", "xd"),
        }
    ),
}
#: How an option is called: by a long name, or by what stands behind one hyphen.
_OPTION_NAMES: Mapping[str, re.Pattern[str]] = {"slurm": re.compile(r"[a-z][a-z0-9-]*")}
_SHORT_NAME = re.compile(r"[A-Za-z][A-Za-z_]{0,15}")
#: Which schedulers an option is for; what is not here is for all. A local cluster ignores them all.
OPTIONS_OF: Mapping[str, tuple[str, ...]] = {
    "partition": ("slurm",),
    "qos": ("slurm",),
    "reservation": ("slurm",),
    "constraint": ("slurm",),
    "licences": ("slurm",),
    "gres": ("slurm",),
    "slurm_cluster": ("slurm",),
    "max_restarts": ("slurm",),
    "account": ("slurm", "gridengine", "torque", "openpbs"),
    "queues": ("slurm", "gridengine", "torque", "openpbs"),
    "options": ("slurm", "gridengine", "torque", "openpbs"),
    "queue": ("gridengine", "torque", "openpbs"),
    "project": ("gridengine", "openpbs"),
    "memory_spare_mb": ("gridengine", "torque", "openpbs"),
    "parallel_environment": ("gridengine",),
    "memory_resource": ("gridengine",),
    "gpu_resource": ("gridengine",),
    "drmaa_library": ("gridengine",),
}


class Queue(Section):
    """A queue (in Slurm: a partition) with its limits, of which a job takes the smallest that fits."""

    name: OptionValue = Field(description="Its name at the scheduler.")
    qos: OptionValue | None = Field(None, description="Slurm: quality of service, where it is not the cluster's.")
    max_walltime_seconds: int | None = Field(None, gt=0, description="The longest walltime it gives.")
    max_memory_mb: int | None = Field(None, gt=0, description="The most memory that it gives one job, in MiB.")
    max_cores: int | None = Field(None, gt=0, description="The most cores that it gives one job.")
    max_nodes: int | None = Field(None, gt=0, description="The most nodes that it gives one job.")
    max_gpus: int | None = Field(None, ge=0, description="The most GPUs that it gives one job.")
    max_input_mb: int | None = Field(
        None, ge=0, description="The most input files, together, of a job that it takes, in MiB."
    )


def is_reserved(scheduler: str, name: str) -> bool:
    """Whether an option is the server's own to set. Slurm takes any beginning of a long name for the whole."""
    reserved = RESERVED_OPTIONS.get(scheduler, frozenset())
    return name in reserved or (scheduler == "slurm" and any(own.startswith(name) for own in reserved))


#: The name of an environment variable, as any shell and container runtime takes it.
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Bind(Section):
    """A folder or file of the node that jobs in containers see."""

    source: Path = Field(description="Its path on the node.")
    target: Path | None = Field(None, description="Its path in the container; default: the same.")
    writable: bool = Field(False, description="Jobs may change it.")


class Container(Section):
    """The container that each job runs in; none without this table. A job sees its own folder, its inputs and what
    ``binds`` lists, and has no network."""

    runtime: Literal["apptainer", "singularity", "podman", "docker", "none"] = Field(
        "apptainer", description="What runs containers; podman and docker only where the scheduler is local."
    )
    command: str | None = Field(
        None,
        description="The runtime's command, if it is not called as the runtime is or not on the PATH of the nodes.",
        examples=["/opt/apptainer/bin/apptainer"],
    )
    image: str = Field(
        "",
        description="The image of every process that names none: a file or folder, by its path on the nodes; for "
        "podman and docker a name. It has Python 3.9 or newer, unless inside is commands.",
        examples=["/shared/images/wps.sif"],
    )
    images: tuple[str, ...] = Field(
        (),
        description="Images that processes may name: paths or names, in which * and ? stand for anything but a /.",
        examples=[["/shared/images/*.sif"]],
    )
    signed_by: Path | None = Field(
        None,
        description="A public key (PEM) on the nodes: images that were not signed with its private half are not run.",
        examples=["/etc/wps-hpc/images.pem"],
    )
    inside: Literal["launcher", "commands"] = Field(
        "launcher",
        description="What runs in the container: the launcher with the process, or only the commands that processes "
        "start with Job.command; then the image need not have Python.",
    )
    python: str = Field("python3", description="Python in the image.")
    binds: tuple[Bind | Path, ...] = Field(
        (),
        description="What else of a node jobs see, read-only: paths, or tables with source, target and writable.",
        examples=[["/data/dem"]],
    )
    network: Literal["none", "host"] = Field(
        "none", description="Processes that ask for the network get: none (they are not offered), or the node's own."
    )
    gpus: Literal["nvidia", "amd"] = Field("nvidia", description="What GPUs are, for jobs that ask for some.")
    env: dict[VariableName, str] = Field(default_factory=dict, description="Environment variables in the container.")
    pass_env: tuple[VariableName, ...] = Field(
        (), description="Variables of the node that jobs get as well, beside those that say which GPUs are theirs."
    )
    options: tuple[str, ...] = Field((), description="More options of the runtime, a word each.")

    @model_validator(mode="after")
    def _has_an_image(self) -> Self:
        if self.runtime != "none" and not self.image:
            raise ValueError(f"runtime {self.runtime} needs an image")
        return self

    @model_validator(mode="after")
    def _can_be_said(self) -> Self:
        files = self.runtime in ("apptainer", "singularity")
        for image in (self.image, *self.images) if files else ():
            if not Path(image).is_absolute():
                raise ValueError(
                    f"the image {image!r} is no absolute path, and images are not fetched by {self.runtime}"
                )
        if self.signed_by is not None and not files:
            raise ValueError(f"signed_by is an option of apptainer, not of {self.runtime}")
        relative = [str(path) for path in (self.signed_by, *_bound(self.binds)) if path and not path.is_absolute()]
        if relative:
            raise ValueError(f"not absolute paths on the nodes: {', '.join(relative)}")
        return self


def _bound(binds: Iterable[Bind | Path]) -> Iterator[Path | None]:
    for bind in binds:
        yield from (bind.source, bind.target) if isinstance(bind, Bind) else (bind,)


def _port_exists(hop: str) -> str:
    port = re.search(r":([0-9]+)$", hop)
    if port is not None and not 0 < int(port[1]) < 65536:
        raise ValueError(f"there is no port {port[1]}")
    return hop


#: ``[user@]host[:port]``, as ssh reads it, an IPv6 address in brackets; none that begins with a hyphen, which would be
#: an option.
JumpHost = Annotated[
    str,
    StringConstraints(pattern=r"^(?:\w[\w.-]*@)?(?:\w[\w.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$"),
    AfterValidator(_port_exists),
]
#: A path where ``~`` is the server's home folder.
HomePath = Annotated[Path, AfterValidator(Path.expanduser)]


def _not_root(account: str) -> str:
    if account == "root":
        raise ValueError("no owner's jobs may run as root")
    return account


class Ssh(Section):
    """The connection to a login node."""

    host: Annotated[str, StringConstraints(pattern=r"^(?:\w|::)[\w.:-]*$")] = Field(
        description="The login node: its name or address; with ssh_openssh, a Host of ssh's own configuration as well.",
        examples=["login.hpc.example.org"],
    )
    port: int | None = Field(None, ge=1, le=65535, description="Its port; default: ssh's own.", examples=[22])
    user: Annotated[str, StringConstraints(pattern=r"^\w[\w.@\\-]*$")] | None = Field(
        None, description="The account there, which the jobs run as; default: ssh's own.", examples=["wps"]
    )
    identity_files: tuple[HomePath, ...] = Field(
        (), description="Private keys; default: those of the server's account in ~/.ssh."
    )
    certificate_files: tuple[HomePath, ...] = Field(
        (), description="User certificates, beside those that lie next to a key as KEY-cert.pub."
    )
    agent: bool = Field(True, description="Keys of the ssh-agent at SSH_AUTH_SOCK are offered as well.")
    known_hosts: tuple[HomePath, ...] = Field(
        (), description="Files with the host keys that are trusted; default: ~/.ssh/known_hosts and the system's."
    )
    host_key_policy: Literal["reject", "accept-new"] = Field(
        "reject",
        description="What becomes of a host whose key is not known: accept-new notes it in the first of known_hosts. "
        "A key that differs from a known one is never accepted.",
    )
    proxy_jump: tuple[JumpHost, ...] = Field(
        (), description="Hosts to go through, in this order, as [user@]host[:port]; the same keys open them."
    )
    keepalive_seconds: int = Field(15, ge=1, description="An idle connection gives a sign of life so often.")
    connect_seconds: float = Field(
        15.0, gt=0, description="Longest time until a connection is open, and until a command begins on it."
    )
    max_channels: int = Field(
        8, ge=1, description="Commands on one connection at the same time; less than the login node's MaxSessions."
    )
    login_shell: bool = Field(
        False,
        description="Commands are started by a login shell, for a PATH that only the profile sets. Slower; better is a "
        "PATH in command_environment.",
    )
    config: HomePath | None = Field(
        None, description="ssh_openssh: ssh's configuration, instead of ~/.ssh/config.", examples=["/etc/wps-hpc/ssh"]
    )
    control_path: HomePath | None = Field(
        None,
        description="ssh_openssh: the socket of a connection that somebody else opened (a person, with a second "
        "factor) and that is used instead of one of the server's own.",
        examples=["/run/wps-hpc/hpc.sock"],
    )


#: A user as the proxy names it, and an account of a cluster; root would be anybody's.
OwnerName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
AccountName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.@-]{0,99}$"), AfterValidator(_not_root)]
#: What stands in the root of a cluster for the account that a connection is opened as.
ACCOUNT_MARK = "{account}"


class Cluster(Section):
    """One place where jobs run."""

    scheduler: Literal["local", "slurm", "gridengine", "torque", "openpbs"] = Field(
        "local", description="The batch system; openpbs is PBS Pro too."
    )
    transport: Literal["local", "ssh_paramiko", "ssh_openssh"] = Field(
        "local",
        description="How the scheduler's commands get there: local (this is a submit host), ssh_paramiko (or ssh; "
        "needs the extra ssh) or ssh_openssh (the system's ssh).",
    )
    ssh: Ssh | None = None
    root: Annotated[str, StringConstraints(pattern=r"^/[^\x00-\x1f\x7f]*$")] | None = Field(
        None,
        description="The path of storage.root on the nodes and the login node; default: the same as here.",
        examples=["/scratch/wps-hpc"],
    )
    staging: Literal["shared", "sftp"] = Field(
        "shared",
        description="How job folders get to the nodes: shared (a file system that both sides see) or sftp (sent and "
        "fetched over the transport, which is one of the ssh_ ones).",
    )
    cleanup: Literal["fetched", "purged"] = Field(
        "fetched",
        description="With staging sftp: when a job's folder on the cluster is removed: once its results are here, or "
        "when the job is purged.",
    )
    accounts: dict[OwnerName, AccountName] = Field(
        default_factory=dict,
        description="With staging sftp: the account of the cluster that each owner's jobs run under, as the server's "
        "proxy names owners. Others may run nothing there. root then has {account} in it.",
        examples=[{"ada@example.org": "ada"}],
    )
    python: str | None = Field(
        None,
        description="Python that runs the launcher; default: the server's own.",
        examples=["/usr/bin/python3"],
    )
    environment: dict[VariableName, str] = Field(default_factory=dict, description="Environment variables of the jobs.")
    container: Container | None = None
    template: Path | None = Field(
        None,
        description="The site's own batch script template; default: the one for the scheduler.",
        examples=["/etc/wps-hpc/local.sh.j2"],
    )
    command_environment: dict[VariableName, str] = Field(
        default_factory=dict,
        description="Environment variables of the scheduler's commands, such as SLURM_CONF or a PATH of their own.",
    )
    queues: tuple[Queue, ...] = Field(
        (),
        description="Queues with their limits, as tables [[clusters.NAME.queues]]; a job takes the smallest that fits.",
    )
    partition: OptionValue | None = Field(
        None, description="Slurm: the partition, where no queues are described.", examples=["batch"]
    )
    queue: OptionValue | None = Field(
        None,
        description="Grid Engine, TORQUE, OpenPBS: the queue, where no queues are described.",
        examples=["long.q"],
    )
    account: OptionValue | None = Field(
        None, description="All but local: the account to charge, or to note.", examples=["geo"]
    )
    project: OptionValue | None = Field(None, description="Grid Engine, OpenPBS: the project.", examples=["wps"])
    qos: OptionValue | None = Field(None, description="Slurm: the quality of service.", examples=["normal"])
    reservation: OptionValue | None = Field(None, description="Slurm: a reservation.", examples=["wps"])
    constraint: OptionValue | None = Field(None, description="Slurm: node features.", examples=["avx2"])
    licences: OptionValue | None = Field(None, description="Slurm: licences.", examples=["solver:1"])
    gres: OptionValue | None = Field(None, description="Slurm: generic resources of each node.", examples=["scratch:1"])
    slurm_cluster: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")] | None = Field(
        None, description="Slurm: the cluster to send commands to, where several are known.", examples=["hpc2"]
    )
    parallel_environment: OptionValue | None = Field(
        None,
        description="Grid Engine: the parallel environment of jobs with more than one core, all on one host.",
        examples=["smp"],
    )
    memory_resource: OptionValue = Field(
        "h_vmem",
        description="Grid Engine: the resource that is asked for as memory, for each slot; '-': none.",
    )
    gpu_resource: OptionValue = Field(
        "gpu", description="Grid Engine: the resource that is asked for as GPUs, as many as the job needs."
    )
    drmaa_library: Path | None = Field(
        None,
        description="Grid Engine: a DRMAA library to submit, ask and control with, instead of the commands; needs the "
        "extra drmaa.",
        examples=["/usr/lib/gridengine-drmaa/lib/libdrmaa.so.1.0"],
    )
    memory_spare_mb: int | None = Field(
        None,
        ge=0,
        description="All but Slurm and local: MiB that are asked for beyond what the process needs, for launcher and "
        "container; default: 2048 for Grid Engine, whose h_vmem counts address space, else 256.",
        examples=[256],
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="More options of sbatch by their long names, or of qsub by their letters; where there is no "
        "value, an empty one.",
    )
    query_seconds: float = Field(2.0, gt=0, description="Least time between two queries of the scheduler.")
    command_seconds: float = Field(30.0, gt=0, description="Longest time for one scheduler command.")
    lost_seconds: float = Field(
        30.0, gt=0, description="How long a vanished job may be silent before it counts as lost."
    )
    max_restarts: int = Field(
        2,
        ge=0,
        description="How often a run that the cluster interrupted is started again, if its process allows that.",
    )

    def paths(self) -> dict[str, Path | None]:
        """The options that name files, which may be relative."""
        return {"template": self.template, "drmaa_library": self.drmaa_library}

    @field_validator("options")
    @classmethod
    def _options_can_be_said(cls, options: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        scheduler = info.data.get("scheduler")
        scheduler = "slurm" if scheduler in (None, "local") else scheduler
        for name, value in options.items():
            shown = f"--{name}={value!r}" if scheduler in _OPTION_NAMES else f"-{name} {value!r}"
            if is_reserved(scheduler, name):
                raise ValueError(f"{shown.split('=')[0].split(' ')[0]} is the server's own to set")
            if not _can_be_said(scheduler, name, value):
                raise ValueError(f"{shown} cannot stand in a batch script")
        return options

    @field_validator("transport", mode="before")
    @classmethod
    def _ssh_is_paramiko(cls, transport: object) -> object:
        return "ssh_paramiko" if transport == "ssh" else transport

    @model_validator(mode="after")
    def _transport_fits(self) -> Self:
        if self.transport == "local":
            return self
        if self.ssh is None:
            raise ValueError(f"transport {self.transport} needs a table ssh with the host")
        if self.scheduler == "local" or self.drmaa_library is not None:
            what = "the scheduler local" if self.scheduler == "local" else "drmaa_library"
            raise ValueError(f"{what} works on this host only, not by transport {self.transport}")
        return self

    @model_validator(mode="after")
    def _container_fits(self) -> Self:
        here_only = self.container is not None and self.container.runtime in ("podman", "docker")
        if self.container is not None and here_only and self.scheduler != "local":
            raise ValueError(f"container.runtime {self.container.runtime} is for the scheduler local, on one machine")
        return self

    @model_validator(mode="after")
    def _staging_fits(self) -> Self:
        """Other accounts cannot see the server's 0700 folders, so their jobs always travel."""
        if self.staging == "shared":
            if self.accounts:
                raise ValueError('accounts needs staging = "sftp": other accounts cannot read shared job folders')
            return self
        if self.transport == "local":
            raise ValueError('staging sftp needs transport = "ssh_paramiko" or "ssh_openssh"')
        if self.root is None:
            raise ValueError("staging sftp needs root, the folder on the cluster that job folders go to")
        if bool(self.accounts) != (ACCOUNT_MARK in self.root):
            raise ValueError(
                f"root must have {ACCOUNT_MARK} in it where accounts maps owners, so that each has a folder of its own"
                if self.accounts
                else f"{ACCOUNT_MARK} in root stands for the accounts of a table accounts, and there is none"
            )
        return self

    def under(self, account: str | None) -> Self:
        """These settings for one account of the cluster; None: the one that the server itself uses there."""
        if account is None or self.ssh is None:
            return self
        root = self.root and self.root.replace(ACCOUNT_MARK, account)
        return self.model_copy(update={"ssh": self.ssh.model_copy(update={"user": account}), "root": root})

    def sends_to(self, account: str | None) -> str:
        """The folder on the cluster that job folders of an account are sent to; empty where both sides see them."""
        return "" if self.staging == "shared" else (self.under(account).root or "").rstrip("/")

    @model_validator(mode="after")
    def _options_are_of_the_scheduler(self) -> Self:
        for name in sorted(self.model_fields_set & OPTIONS_OF.keys()):
            if self.scheduler not in ("local", *OPTIONS_OF[name]):
                raise ValueError(f"{name} is an option of {', '.join(OPTIONS_OF[name])}, not of {self.scheduler}")
        return self


def _can_be_said(scheduler: str, name: str, value: str) -> bool:
    """Whether a batch script's directive can say that option: only Slurm's quotes anything."""
    if not _OPTION_NAMES.get(scheduler, _SHORT_NAME).fullmatch(name) or not value.isprintable() or "\\" in value:
        return False
    return scheduler == "slurm" or not re.search(r"[\s\"'#]", value)


class Logging(Section):
    """What is logged, and where."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level.")
    file: Path | None = Field(None, description="Log file; default: standard error.", examples=["/var/log/wps-hpc.log"])
    stderr_lines: int = Field(
        10, ge=0, description="So many lines of the standard error of a job that has failed are logged."
    )
    stderr_to_clients: bool = Field(
        False, description="Clients are told these lines, too. They may show paths and names of the site."
    )


class Settings(Section):
    """The whole configuration."""

    server: Server = Server()
    metadata: ServiceMetadata = ServiceMetadata()
    storage: Storage = Storage()
    database: Database = Database()
    limits: Limits = Limits()
    inputs: Inputs = Inputs()
    callbacks: Callbacks = Callbacks()
    processes: Processes = Processes()
    clusters: dict[str, Cluster] = Field(default_factory=lambda: {"local": Cluster()}, min_length=1)
    default_cluster: str = Field("local", description="The cluster of a process that names none.")
    logging: Logging = Logging()

    @field_validator("clusters")
    @classmethod
    def _has_local(cls, clusters: dict[str, Cluster]) -> dict[str, Cluster]:
        return {"local": Cluster(), **clusters}

    @model_validator(mode="after")
    def _default_cluster_exists(self) -> Self:
        if self.default_cluster not in self.clusters:
            raise ValueError(f"default_cluster {self.default_cluster!r} is none of {', '.join(sorted(self.clusters))}")
        return self

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the job database."""
        return self.database.url or f"sqlite:///{self.storage.root / 'jobs.sqlite'}"


def load_settings(path: Path | None) -> Settings:
    """The settings in a TOML file (None: all defaults). Relative paths count from the file's own folder.

    Raises ConfigError with file, key and a suggestion.
    """
    if path is None:
        return absolute(Settings(), Path.cwd())
    try:
        with path.open("rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    settings = absolute(parse_settings(content, str(path)), path.resolve().parent)
    _check_root(settings, path)
    return settings


def _check_root(settings: Settings, path: Path) -> None:
    """Refuse a root that a scheduler would not take literally. It is known only once it is absolute."""
    for name, cluster in settings.clusters.items():
        root = cluster.root or str(settings.storage.root)
        if cluster.scheduler == "gridengine" and "$" in root:
            option = "storage.root" if cluster.root is None else f"clusters.{name}.root"
            text = f"{option} must hold no «$»: Grid Engine takes it for a variable"
            raise ConfigError(f"{path}: {text} (cluster {name}): {root}")


def parse_settings(content: Mapping[str, Any], origin: str = "configuration") -> Settings:
    """Settings from parsed TOML; raises ConfigError that lists every problem, one a line."""
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {line}" for line in _problems(error))) from error


def _problems(error: ValidationError) -> Iterator[str]:
    for entry in error.errors():
        key = ".".join(str(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            yield f"unknown key {key}{_suggestion(entry['loc'])}"
        else:
            yield f"{key}: {entry['msg']}"


def _suggestion(location: tuple[int | str, ...]) -> str:
    known = _fields_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(sorted(known))}"


#: Tables of which a configuration may have several, or none.
_TABLES_BY_NAME: Mapping[int | str, type[BaseModel]] = {
    "clusters": Cluster,
    "queues": Queue,
    "container": Container,
    "ssh": Ssh,
}


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Settings
    for part in location:
        if part in _TABLES_BY_NAME:
            model = _TABLES_BY_NAME[str(part)]
        elif str(part) in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return list(model.model_fields)


def absolute(settings: Settings, base: Path) -> Settings:
    """The settings with every relative path counted from ``base``, and what is the server's own closed to inputs."""
    storage, processes, logging = settings.storage, settings.processes, settings.logging
    changes: dict[str, Any] = {
        "storage": storage.model_copy(
            update={"root": base / storage.root, "runtime": storage.runtime and base / storage.runtime}
        ),
        "database": settings.database.model_copy(update={"url": _absolute_sqlite(settings.database.url, base)}),
        "processes": processes.model_copy(
            update={
                name: tuple(base / path for path in getattr(processes, name)) for name in ("folders", "pywps_config")
            }
        ),
        "inputs": settings.inputs.model_copy(
            update={"folders": tuple(base / folder for folder in settings.inputs.folders)}
        ).closing(*(base / path for path in (storage.root, storage.run, *processes.pywps_config))),
        "clusters": {
            name: cluster.model_copy(
                update={name: path and base / path for name, path in cluster.paths().items()}
                | {"ssh": cluster.ssh and _absolute_ssh(cluster.ssh, base)}
            )
            for name, cluster in settings.clusters.items()
        },
        "logging": logging.model_copy(update={"file": logging.file and base / logging.file}),
    }
    return settings.model_copy(update=changes)


def _absolute_ssh(ssh: Ssh, base: Path) -> Ssh:
    several = ("identity_files", "certificate_files", "known_hosts")
    changes: dict[str, Any] = {name: tuple(base / path for path in getattr(ssh, name)) for name in several}
    changes |= {name: path and base / path for name in ("config", "control_path") for path in [getattr(ssh, name)]}
    return ssh.model_copy(update=changes)


def _absolute_sqlite(url: str | None, base: Path) -> str | None:
    relative = re.fullmatch(r"(sqlite(?:\+\w+)?:///)([^/:].*)", url or "")
    return f"{relative[1]}{base / relative[2]}" if relative else url


def find_config(named: Path | None) -> Path | None:
    """The configuration file to use: ``named``, else ``$WPS_HPC_CONFIG``, else ``./wps-hpc.toml``.

    None means all defaults. A file that is named but missing is for ``load_settings`` to report.
    """
    if named is not None:
        return named
    if variable := os.environ.get("WPS_HPC_CONFIG"):
        return Path(variable)
    here = Path("wps-hpc.toml")
    return here if here.is_file() else None


def render_template(values: Mapping[str, Any] | None = None) -> str:
    """A commented configuration file: every option with its description and its default, commented out.

    ``values`` (dotted key to value) are written as set. Raises ConfigError when one of them is not an
    option, or is not acceptable.
    """
    given = dict(values or {})
    parse_settings(nested(given), "given values")
    lines = [
        "# Configuration of wps-hpc. Every option is here with its default (or an example), commented out.",
        "",
    ]
    lines += _option_lines("", {"default_cluster": Settings.model_fields["default_cluster"]}, given)
    for name, model in _sections(given).items():
        lines += [*_comment(model.__doc__ or ""), f"[{name}]", ""]
        lines += _option_lines(f"{name}.", model.model_fields, given)
    return "\n".join(lines)


def _sections(given: Iterable[str]) -> dict[str, type[BaseModel]]:
    """Every table of the file with its model, in the order of the fields; one for each cluster that is ``given``."""
    clusters = {".".join(key.split(".")[:2]) for key in given if key.startswith("clusters.")}
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    sections = {n: kind for n, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}
    return {**sections, "clusters.local": Cluster, **dict.fromkeys(sorted(clusters), Cluster)}


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys as the tables that a file would have."""
    content: dict[str, Any] = {}
    for key, value in values.items():
        *tables, name = key.split(".")
        table = content
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return content


def _option_lines(prefix: str, fields: Mapping[str, FieldInfo], given: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        if name in _TABLES_BY_NAME and field.default is None:
            within = _TABLES_BY_NAME[name].model_fields
            yield from _option_lines(prefix, {f"{name}.{option}": each for option, each in within.items()}, given)
            continue
        yield from _comment(field.description or "")
        if (key := prefix + name) in given:
            yield f"{name} = {_toml(given[key])}"
        else:
            yield f"#{name} = {_toml(_shown_value(field))}"
        yield ""


def _shown_value(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return field.examples[0] if default in (None, "", PydanticUndefined) and field.examples else default


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)
