"""Jobs through either server: when their steps happened, what they cost, and what is told of their ends."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import gridengine_servers
import psutil
from gridengine_servers import BEGAN, QUEUE
from operations import UnexpectedAnswer, accepted, look
from servers import Server, ServerError
from slurm_jobs import patiently

from tests.services.gridengine import GridEngine

#: Nothing that is waited for takes longer, in seconds.
PATIENCE = 180.0
#: A job that is not told to have ended so many seconds after its process has, never will be.
UNTOLD_AFTER = 20.0
SUCCEEDED, FAILED, NEVER = "ProcessSucceeded", "ProcessFailed", "never"
_SHEPHERD = "sge_shepherd"
_CPU = re.compile(r"^ru_[us]time +([\d.]+)", re.MULTILINE)
#: What is always there, so that a process need not wait for it.
_THERE = "/"
#: Between two looks at all jobs, in seconds.
_PAUSE = 0.5


@dataclass(frozen=True)
class Steps:
    """When the steps of one job happened, in Unix seconds; ``seen`` is None if its success was never told."""

    sent: float
    accepted: float
    script: float
    process: float
    seen: float | None

    @property
    def accept(self) -> float:
        """Seconds until the Execute is answered."""
        return self.accepted - self.sent

    @property
    def start(self) -> float:
        """Seconds from the Execute to the job's first command."""
        return self.script - self.sent

    @property
    def launch(self) -> float:
        """Seconds from the job's first command to the process."""
        return self.process - self.script

    @property
    def success(self) -> float | None:
        """Seconds from the Execute until a client sees the success."""
        return None if self.seen is None else self.seen - self.sent


@dataclass(frozen=True)
class NodeCost:
    """What a job takes of its node: seconds of CPU, and MB in all its processes while the author's runs."""

    cpu: float
    memory: float


@dataclass(frozen=True)
class Burst:
    """Executes by several clients: answers a second, jobs a second at Grid Engine, and how many were refused."""

    answers: float
    jobs: float
    refused: int


@dataclass(frozen=True)
class Ends:
    """What was told of jobs that end in one way: how many there were, how many of each word; and which is right."""

    title: str
    right: str
    jobs: int
    told: Mapping[str, int]

    @property
    def rightly(self) -> int:
        """Of how many the right end was told."""
        return self.told.get(self.right, 0)


@dataclass(frozen=True)
class Mix:
    """Jobs sent together: how many in all, and of them those that are deleted and that run over their time limit."""

    jobs: int
    deleted: int
    late: int


#: How jobs of a mix end, and the word for it.
FATES: Mapping[str, tuple[str, str]] = {
    "plain": ("end by themselves", SUCCEEDED),
    "deleted": ("killed by qdel", FAILED),
    "late": ("over the time limit", FAILED),
}


@dataclass(frozen=True)
class Terms:
    """What holds for both sides: the walltime of jobs, the time to tell their ends in, and how many clients may come.

    Times are in seconds.
    """

    limit: int
    patience: float
    clients: int


@dataclass
class Side:
    """One of the servers; ``folder`` has the marks of its jobs.

    ``watched`` says whether it asks Grid Engine what became of its jobs, which PyWPS does not.
    """

    server: Server
    folder: Path
    grid: GridEngine
    terms: Terms
    watched: bool
    jobs: int = 0
    never: Path = field(init=False)

    def __post_init__(self) -> None:
        self.never = self.folder / "never"

    def timed(self) -> Steps:
        """One job that does nothing."""
        name = self._new_name("timed")
        sent = time.time()
        location = self._send(name)
        answered = time.time()
        process, _ = self._wait_for_mark(name)
        seen = time.time() if self._ended(location) == SUCCEEDED else None
        script = float((self.folder / BEGAN).read_text().split()[-1])
        return Steps(sent, answered, script, process, seen)

    def cost(self) -> NodeCost:
        """One job that is looked at while its process waits."""
        name = self._new_name("cost")
        go = self.folder / f"{name}.go"
        location = self._send(name, go)
        _, pid = self._wait_for_mark(name)
        tree = job_processes(pid)
        memory = sum(process.memory_full_info().pss for process in tree) / 1e6
        number = tree[0].environ()["JOB_ID"]
        go.touch()
        self._ended(location)
        return NodeCost(self._accounted(number), memory)

    def burst(self, count: int, clients: int) -> Burst:
        """So many Executes while the queue starts nothing; their jobs are deleted again."""
        names = [self._new_name("burst") for _ in range(count)]
        with self._closed(), ThreadPoolExecutor(clients) as pool:
            began = time.perf_counter()
            answers = list(pool.map(self._tried, names))
            answered = time.perf_counter()
            locations = [location for location in answers if location]
            wait_until(lambda: self._at_grid_engine() >= len(locations), "all jobs are at Grid Engine")
            submitted = time.perf_counter()
            self.grid.run("qdel", "-u", "root", check=False)
        if self.watched:
            self._told(locations)  # so that nobody is busy with them when the next ones come
        right = len(locations)
        return Burst(right / (answered - began), right / (submitted - began), count - right)

    def mixed(self, mix: Mix) -> list[Ends]:
        """Jobs that end in several ways."""
        fates = {self._new_name("mixed"): fate for fate in fates_of(mix)}
        living = {name for name, fate in fates.items() if fate == "deleted"}
        locations: dict[str, str] = {}
        for name, fate in fates.items():
            locations[name] = self._send(name, Path(_THERE) if fate == "plain" else self.never)
            self._delete_what_runs(living)
        wait_until(self._at_grid_engine, "the first job is at Grid Engine")
        wait_until(lambda: self._are_over(living), "all jobs have ended")
        words = self._told(list(locations.values()))
        return tally(fates, {name: words.get(location, NEVER) for name, location in locations.items()})

    def _new_name(self, kind: str) -> str:
        self.jobs += 1
        return f"{kind}-{self.jobs}"

    def _send(self, name: str, until: Path = Path(_THERE)) -> str:
        inputs = {"mark": str(self.folder / name), "until": str(until), "limit": str(self.terms.limit)}
        return accepted(self.server, "wait", inputs)

    def _tried(self, name: str) -> str | None:
        try:
            return self._send(name)
        except (ServerError, UnexpectedAnswer):
            return None

    def _mark(self, name: str) -> tuple[float, int] | None:
        return read_mark(self.folder / name)

    def _wait_for_mark(self, name: str) -> tuple[float, int]:
        wait_until(lambda: self._mark(name) is not None, f"the process of {name} starts")
        return self._mark(name) or (0.0, 0)

    def _ended(self, location: str) -> str:
        """How a job ended whose process has just started, or been let go."""
        words: dict[str, str] = {}
        deadline = time.monotonic() + UNTOLD_AFTER
        while not words and time.monotonic() < deadline:
            patiently(lambda: words.update(look([location], 1)) or words)
        return words.get(location, NEVER)

    def _told(self, locations: Sequence[str]) -> dict[str, str]:
        """How jobs have ended that Grid Engine no longer has, as far as it is told in time."""
        words: dict[str, str] = {}
        deadline = time.monotonic() + self.terms.patience
        while len(words) < len(locations) and time.monotonic() < deadline:
            waiting = [location for location in locations if location not in words]
            words.update(look(waiting, len(waiting)))
            time.sleep(_PAUSE)
        return words

    def _are_over(self, to_delete: set[str]) -> bool:
        """Whether Grid Engine has no job any more, after one more look at those that are to be deleted."""
        self._delete_what_runs(to_delete)
        return not self._at_grid_engine()

    def _delete_what_runs(self, names: set[str]) -> None:
        """Delete those whose process has started, and take them out of the names."""
        for name in [*names]:
            if mark := self._mark(name):
                names.remove(name)
                with suppress(psutil.NoSuchProcess):  # on a slow machine the time limit may come first
                    self.grid.run("qdel", job_processes(mark[1])[0].environ()["JOB_ID"])

    def _at_grid_engine(self) -> int:
        return self.grid.run("qstat", "-xml", "-u", "root").stdout.count("<JB_job_number>")

    def _accounted(self, number: str) -> float:
        """Seconds of CPU that Grid Engine has on record."""
        wait_until(lambda: self._cpu_times(number), f"job {number} is accounted for")
        return sum(map(float, self._cpu_times(number)))

    def _cpu_times(self, number: str) -> list[str]:
        """User's and system's; none before there is a record."""
        return _CPU.findall(self.grid.run("qacct", "-j", number, check=False).stdout)

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """The queue takes jobs, and starts none."""
        self.grid.run("qmod", "-d", QUEUE)
        try:
            yield
        finally:
            self.grid.run("qmod", "-e", QUEUE)


@contextmanager
def both(grid: GridEngine, terms: Terms) -> Iterator[tuple[Side, Side]]:
    """This server and PyWPS."""
    with tempfile.TemporaryDirectory(prefix="wps-bench-") as name, ExitStack() as stack:
        folders = [Path(name) / side for side in ("ours", "theirs")]
        for folder in folders:
            folder.mkdir()
        first = stack.enter_context(gridengine_servers.ours(grid, folders[0]))
        second = stack.enter_context(gridengine_servers.pywps(grid, folders[1], terms.limit, terms.clients))
        stack.callback(_end_all, grid)
        yield Side(first, folders[0], grid, terms, watched=True), Side(second, folders[1], grid, terms, watched=False)


def _end_all(grid: GridEngine) -> None:
    grid.run("qdel", "-u", "root", check=False)


def fates_of(mix: Mix) -> list[str]:
    """The fate of each job of a mix: those that are deleted, and are late, evenly among the others."""
    counts = {"deleted": mix.deleted, "late": mix.late, "plain": mix.jobs - mix.deleted - mix.late}
    placed = [((2 * n + 1) / count, fate) for fate, count in counts.items() for n in range(count)]
    return [fate for _, fate in sorted(placed)]


def tally(fates: Mapping[str, str], told: Mapping[str, str]) -> list[Ends]:
    """What was told of each fate, from the fate of each job and the word on it."""
    words = {fate: Counter(told[name] for name, own in fates.items() if own == fate) for fate in FATES}
    return [
        Ends(title, right, words[fate].total(), dict(words[fate]))
        for fate, (title, right) in FATES.items()
        if words[fate]
    ]


def read_mark(path: Path) -> tuple[float, int] | None:
    """When a process started, and its id; None before it has said so."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    if not text.endswith("\n"):
        return None
    began, pid = text.split()
    return float(began), int(pid)


def job_processes(pid: int) -> list[psutil.Process]:
    """All processes of the job of which this is one, the one that Grid Engine's shepherd has started first."""
    line = [psutil.Process(pid), *psutil.Process(pid).parents()]
    names = [process.name() for process in line]
    script = line[names.index(_SHEPHERD) - 1]
    return [script, *script.children(recursive=True)]


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait patiently; raises RuntimeError when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not patiently(condition):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not in {PATIENCE:g} s: {what}")
