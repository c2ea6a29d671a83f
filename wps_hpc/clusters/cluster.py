"""A named cluster: the scheduler that knows the dialect, the transport that carries it, and the batch script.

What dispatch and watch call. Whatever goes wrong on the way is an answer here (``Unknown``, ``CouldNotAsk``), never an
exception.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from jinja2 import Template

from joblauncher.formats.records import Container
from wps_hpc import config
from wps_hpc.clusters import containers, scripts
from wps_hpc.clusters.connections import open_ssh
from wps_hpc.clusters.depot import Depot
from wps_hpc.clusters.environment import CARRIED, clean_environment, withheld
from wps_hpc.clusters.schedulers.base import (
    Control,
    ControlOutcome,
    CouldNotAsk,
    Explains,
    JobOrder,
    JobWord,
    Known,
    QueryAnswer,
    Refused,
    Scheduler,
    SubmitOutcome,
    Unknown,
)
from wps_hpc.clusters.schedulers.drmaa_session import DrmaaScheduler
from wps_hpc.clusters.schedulers.gridengine import GridEngineScheduler
from wps_hpc.clusters.schedulers.local import LocalScheduler
from wps_hpc.clusters.schedulers.openpbs import OpenPbsScheduler
from wps_hpc.clusters.schedulers.slurm import SlurmScheduler
from wps_hpc.clusters.schedulers.torque import TorqueScheduler
from wps_hpc.clusters.transports.base import (
    ChangeFeed,
    Command,
    Completed,
    FileTransport,
    NoSuchProgram,
    Transport,
    TransportError,
)
from wps_hpc.clusters.transports.drmaa import DrmaaTransport
from wps_hpc.clusters.transports.embedded import EmbeddedTransport
from wps_hpc.clusters.transports.local import LocalTransport
from wps_hpc.config import ConfigError
from wps_hpc.processes import description
from wps_hpc.processes.description import Resources

log = logging.getLogger(__name__)

_UNREACHABLE = "The scheduler cannot be reached at the moment."
#: Accounting is asked for so many jobs by one command: more names do not fit into an argument.
ACCOUNTED_AT_ONCE = 1000
#: After a feed of changes could not be opened, so long no other try. Seconds.
_FEED_PAUSE = 5.0

#: Schedulers whose jobs get the variables CARRIED from their script.
CARRIED_BY_SCRIPT = frozenset({"gridengine", "torque", "openpbs"})

Answer = TypeVar("Answer")
#: Whether jobs that have not ended lie in a folder (the second word) of a cluster (the first), which were sent there.
Inhabited = Callable[[str, str], bool]


@dataclass
class _News:
    """A transport's feed of changes, kept open, for one reader that queries and waits in turns."""

    transport: Transport
    timeout: float
    _feed: ChangeFeed | None = None
    _not_before: float = 0.0
    _offered: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def open(self) -> bool:
        return self._feed is not None

    def taken(self) -> None:
        """A query begins: what was new until now is in its answer."""
        with self._lock:
            self._offered = False
            self._drain()

    def descriptor(self) -> int | None:
        """What to wait for; see ``Cluster.changes``."""
        with self._lock:
            if self._offered:
                # It was offered before and no query followed: the reader did not care, and must not be woken for ever.
                self._drain()
            self._offered = True
            if self._feed is None and time.monotonic() >= self._not_before:
                self._open()
            return None if self._feed is None else self._feed.fileno()

    def close(self) -> None:
        """Let go of the feed."""
        with self._lock:
            if self._feed is not None:
                self._feed.close()
                self._feed = None

    def _open(self) -> None:
        self._feed = self.transport.changes(self.timeout)
        if self._feed is None:
            self._not_before = time.monotonic() + _FEED_PAUSE

    def _drain(self) -> None:
        if self._feed is not None and not self._feed.news():
            self._feed.close()
            self._feed = None


@dataclass(frozen=True)
class Cluster:
    """One place where jobs run. Safe for several threads; ``query`` and ``changes`` belong together, to one watcher."""

    name: str
    settings: config.Cluster
    scheduler: Scheduler
    transport: Transport
    template: Template
    _news: _News
    #: What ``storage.root`` is here.
    storage: Path = Path("/")
    #: The account that jobs run under; None: the one that the server itself has there.
    account: str | None = None
    #: Where job folders lie there, when nothing is shared.
    depot: Depot | None = None

    @property
    def python(self) -> str:
        """The Python that runs the launcher on this cluster."""
        return self.settings.python or sys.executable

    @property
    def sent_to(self) -> str:
        """The folder on the cluster that job folders are sent to; empty where both sides see the server's."""
        return "" if self.depot is None else self.depot.root

    def looks_at(self, sent_to: str | None) -> bool:
        """Whether a job's folder that was sent there (None: nowhere yet, or nobody noted it) is where this looks."""
        return sent_to in (None, self.sent_to)

    @property
    def warm(self) -> bool:
        """Jobs may be started by the spooler's fork: on the server's own Python, by no script of the site's own."""
        return self.settings.scheduler == "local" and not (self.settings.python or self.settings.template)

    def entry(
        self, wish: description.Container, places: containers.Places, needed: Resources, *, tell: bool = False
    ) -> Container | None:
        """How a job gets into its container on this cluster, see ``containers.entry``; raises NotAllowed."""
        return containers.entry(self.settings, wish, places, needed, tell=tell)

    def started(self, container: Container | None, number: int, launcher: tuple[str, ...]) -> tuple[str, ...]:
        """The command that runs the launcher of submission ``number``: in its container, where that is for it.

        ``launcher`` is its file and options; Python comes before it.
        """
        own = containers.configured(self.settings)
        if own is None or container is None or container.commands:
            return (self.python, *launcher)
        # What a scheduler counts itself, its script adds.
        return (*container.entered(f"{number}+"), own.python, *launcher)

    def there(self, path: Path) -> str:
        """A path below ``storage.root`` as the nodes and the login node see it."""
        root = self.settings.root
        return str(path if root is None else Path(root, path.relative_to(self.storage)))

    def render_script(self, order: JobOrder) -> str:
        """The batch script of an order (whose own ``script`` is not looked at); raises ScriptError and NoQueueFits."""
        directives = self.scheduler.directives(order)
        environment = {**self._carried(), **self.settings.environment}
        return scripts.render_script(
            self.template, order, environment, directives, withheld(self.settings.command_environment)
        )

    def _carried(self) -> Mapping[str, str]:
        """What the script sets because the scheduler carries no variables to the job, or only in a mangled form.

        Nothing where the submit host is another one: what is set here is not meant for there.
        """
        if self.settings.scheduler not in CARRIED_BY_SCRIPT or self.settings.transport != "local":
            return {}
        return {name: os.environ[name] for name in CARRIED if name in os.environ}

    def submit(self, order: JobOrder) -> SubmitOutcome:
        """Submit an order, once. What certainly did not reach the scheduler is a transient refusal."""
        try:
            completed = self._run(self.scheduler.submit_command(order))
        except TransportError as error:
            log.warning("job %s: submission %s: %s", order.job_id, order.token, error)
            return Unknown(str(error)) if error.may_have_run else Refused(str(error), _UNREACHABLE, transient=True)
        return self.scheduler.read_submit(completed)

    def lookup(self, known: Known) -> str | CouldNotAsk | None:
        """The scheduler id of a submission's token; None when the scheduler certainly does not know it.

        What the scheduler itself does not know, its accounting may: a job that has run and was forgotten.
        """
        command = self.scheduler.lookup_command(known)
        found = self._asked(command, lambda completed: self.scheduler.read_lookup(completed, known))
        if found is not None:
            return found
        accounted = self.accounting([known])
        if isinstance(accounted, CouldNotAsk):
            return accounted
        return next((key for key, word in accounted.items() if word.token == known.token), None)

    def query(self) -> QueryAnswer:
        """The words on all jobs that the scheduler shows, by scheduler id."""
        self._news.taken()
        answer = self._asked(self.scheduler.query_command(), self.scheduler.read_query)
        return answer if isinstance(answer, CouldNotAsk) else self._explained(answer)

    def _explained(self, answer: Mapping[str, JobWord]) -> QueryAnswer:
        """The answer of a query with the reasons that only a second question brings; without them if that fails."""
        scheduler = self.scheduler
        command = scheduler.explain_command(answer) if isinstance(scheduler, Explains) else None
        if command is None or not isinstance(scheduler, Explains):
            return answer
        try:
            return scheduler.read_explained(self._run(command), answer)
        except TransportError as error:
            log.warning("cluster %s: %s", self.name, error)
            return answer

    def accounting(self, known: Sequence[Known]) -> QueryAnswer:
        """The words of accounting on these jobs, by scheduler id; empty where there is no accounting."""
        words: dict[str, JobWord] = {}
        for start in range(0, len(known), ACCOUNTED_AT_ONCE):
            answer = self._accounted(known[start : start + ACCOUNTED_AT_ONCE])
            if isinstance(answer, CouldNotAsk):
                return answer
            words |= answer
        return words

    def _accounted(self, known: Sequence[Known]) -> QueryAnswer:
        command = self.scheduler.accounting_command(known)
        if command is None:
            return {}
        try:
            return self.scheduler.read_accounting(self._run(command), known)
        except NoSuchProgram as error:
            log.debug("cluster %s has no accounting: %s", self.name, error)
            return {}
        except TransportError as error:
            return CouldNotAsk(str(error))

    def control(self, action: Control, known: Known) -> ControlOutcome:
        """Ask ``action`` for one job."""
        try:
            completed = self._run(self.scheduler.control_command(action, known))
        except TransportError as error:
            return ControlOutcome(done=False, why=str(error))
        return self.scheduler.read_control(action, completed)

    def forget(self, known: Sequence[Known]) -> None:
        """Let the scheduler drop what it remembers of purged jobs. A failure is logged: it forgets by itself later."""
        command = self.scheduler.forget_command(known)
        if command is None or not known:
            return
        try:
            self._run(command)
        except TransportError as error:
            log.warning("cluster %s: %s", self.name, error)

    def changes(self) -> int | None:
        """A descriptor that is readable when a job has ended since the last query began; None where there is none.

        For one reader that queries and waits in turns and asks again before each wait. It never has to be read from.
        """
        return self._news.descriptor()

    @property
    def tells_changes(self) -> bool:
        """Its transport tells when jobs end, so a query is made for news and not to find out whether there are any."""
        return self._news.open

    def close(self) -> None:
        """Let go of connections; the scheduler and its jobs stay."""
        self._news.close()
        self.transport.close()

    def _run(self, command: Command) -> Completed:
        return self.transport.run(command, self.settings.command_seconds)

    def _asked(self, command: Command, read: Callable[[Completed], Answer]) -> Answer | CouldNotAsk:
        try:
            return read(self._run(command))
        except TransportError as error:
            return CouldNotAsk(str(error))


#: What a scheduler's name in the configuration stands for.
SCHEDULERS: Mapping[str, Callable[[config.Cluster], Scheduler]] = {
    "local": lambda settings: LocalScheduler(clean_environment(settings.environment)),
    "slurm": SlurmScheduler,
    "gridengine": GridEngineScheduler,
    "torque": TorqueScheduler,
    "openpbs": OpenPbsScheduler,
}
#: Whose template a scheduler uses that has none of its own.
TEMPLATES: Mapping[str, str] = {"openpbs": "torque"}
#: How its commands travel where the scheduler is on this host.
TRANSPORTS: Mapping[str, Callable[[config.Storage], Transport]] = {
    "local": lambda storage: EmbeddedTransport(storage.run),
    "slurm": lambda _: LocalTransport(),
    "gridengine": lambda _: LocalTransport(),
    "torque": lambda _: LocalTransport(),
    "openpbs": lambda _: LocalTransport(),
}


def _nowhere(cluster: str, root: str) -> bool:
    return False


def build_clusters(
    settings: config.Settings, identity: str = "", inhabited: Inhabited = _nowhere
) -> Mapping[str, Cluster]:
    """Every configured cluster by its name; runs nothing yet. Raises ConfigError for a template that cannot be used.

    ``identity`` is the server's, by which it knows its own folders there; empty: whose they are is not asked.
    ``inhabited`` is what the database says. All local clusters share the one spooler of this host and storage.
    """
    return {name: _build(name, own, settings.storage, identity, inhabited) for name, own in settings.clusters.items()}


def build_cluster(
    settings: config.Settings,
    name: str,
    account: str | None,
    identity: str = "",
    inhabited: Inhabited = _nowhere,
) -> Cluster:
    """One cluster as an account of it sees it (None: the server's own, where there is no table of accounts), with a
    connection of its own; see ``build_clusters``. Raises ConfigError."""
    own = settings.clusters[name]
    if account is not None and not own.accounts:
        raise ConfigError(f"clusters.{name} has no accounts, so nothing runs there as {account}")
    if account is None and own.accounts:
        raise ConfigError(f"clusters.{name} has accounts, so nothing runs there as the server's own")
    return _build(name, own.under(account), settings.storage, identity, inhabited, account)


def _build(
    name: str,
    own: config.Cluster,
    storage: config.Storage,
    identity: str,
    inhabited: Inhabited,
    account: str | None = None,
) -> Cluster:
    transport, scheduler = TRANSPORTS[own.scheduler](storage), SCHEDULERS[own.scheduler](own)
    if own.drmaa_library is not None and isinstance(scheduler, GridEngineScheduler):
        scheduler = DrmaaScheduler(scheduler)
        transport = DrmaaTransport(own.drmaa_library, own.command_environment, scheduler.living())
    elif own.transport != "local":
        transport = open_ssh(own)
    return Cluster(
        name=name,
        settings=own,
        scheduler=scheduler,
        transport=transport,
        template=scripts.load_template(TEMPLATES.get(own.scheduler, own.scheduler), own.template),
        _news=_News(transport, own.command_seconds),
        storage=storage.root,
        account=account,
        depot=_depot(own, transport, storage, identity, partial(inhabited, name)),
    )


def _depot(
    own: config.Cluster, transport: Transport, storage: config.Storage, identity: str, inhabited: Callable[[str], bool]
) -> Depot | None:
    """Where job folders lie, on a cluster that they are sent to."""
    if own.staging == "shared" or own.root is None or not isinstance(transport, FileTransport):
        return None
    root = own.sends_to(None)
    return Depot(transport, storage.root, root, own.command_seconds, identity, partial(inhabited, root))
