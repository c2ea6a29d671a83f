"""PyWPS processes as they are: described, pickled and run without a line of theirs being touched.

An author's module holds ``pywps.Process`` classes, instances of them, or a ``pywps.Service``. A class is made again on
the node by calling it; an instance travels as it is, with whatever its constructor was given, by dill. Either takes
PyWPS's configuration along, as it was on the server once the module was imported.

Node half: Python 3.9, standard library, dill and pywps 4.5 or newer. It is imported only where an author's module has
imported pywps.
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

import pywps.configuration
from pywps import Process, Service

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import Value
from wps_hpc.processes.description import DescriptionError, Resources
from wps_hpc.processes.pywps_description import describe
from wps_hpc.processes.pywps_inputs import check_inputs
from wps_hpc.processes.pywps_run import LOADING, Configuration, configure, run, snapshot
from wps_hpc.processes.run import Job, RunFolders


class PywpsProcess:
    """A ``pywps.Process`` that can be described, pickled and run (see Runnable).

    ``made_by`` is the class that it is an instance of, where calling that class is how it came about.
    """

    def __init__(self, process: Any, configuration: Configuration, made_by: Optional[type] = None) -> None:
        self.process = process
        self.configuration = configuration
        self.made_by = made_by
        self.description = describe(process)

    def __eq__(self, other: object) -> bool:
        """The same process, though it was found in two places."""
        return isinstance(other, PywpsProcess) and self._origin is other._origin

    def __hash__(self) -> int:
        """As ``__eq__``."""
        return hash(id(self._origin))

    @property
    def _origin(self) -> Any:
        return self.made_by or self.process

    def __repr__(self) -> str:
        """For people."""
        return f"<PyWPS process {self.description.identifier}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call: of the class where one made it, else with the instance."""
        configuration = {section: dict(options) for section, options in self.configuration.items()}
        return _revived, (pywps.__version__, configuration, self.made_by, None if self.made_by else self.process)

    def resources_for(self, request: RequestRecord, job: JobFolder) -> Resources:
        """What the process states; PyWPS's own converters and validators look at the inputs first. See Runnable."""
        check_inputs(self.process, request, job)
        return self.description.resources

    def run(self, request: RequestRecord, job: Job, folders: RunFolders) -> Mapping[str, tuple[Value, ...]]:
        """Run a copy of the process, as PyWPS does; see Runnable for what this gives and raises."""
        configure(self.configuration, job.workdir, folders.outputs, job.outputs_url)
        return run(copy.deepcopy(self.process), request, job, folders)


def _revived(
    version: str, configuration: Configuration, made_by: Optional[type], process: Optional[Process]
) -> PywpsProcess:
    """A process from its pickle, on the node."""
    if _minor(version) != _minor(pywps.__version__):
        print(f"joblauncher: pywps {pywps.__version__} here, {version} on the server", file=sys.stderr)
    return PywpsProcess(made_by() if made_by else process, configuration, made_by)


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def load_configuration(files: Sequence[Path]) -> None:
    """Have PyWPS read these configuration files, for all processes that are made from now on.

    Also by way of ``$PYWPS_CFG``, so that a module which loads its own does not lose them.
    """
    with LOADING:
        os.environ["PYWPS_CFG"] = str(files[-1])
        pywps.configuration.load_configuration([str(file) for file in files])


# --- what a module holds ---------------------------------------------------------------------------------------------


def adapted(item: object) -> PywpsProcess:
    """A process class or instance as something that can be run; raises DescriptionError."""
    if _is_a(item, Process):
        return _described(item)
    if _is_a(item, type) and issubclass(item, Process):  # type: ignore[arg-type]
        return _described(_made(item), item)  # type: ignore[arg-type]
    raise DescriptionError(f"{type(item).__name__} is not a process")


def _described(process: Any, made_by: Optional[type] = None) -> PywpsProcess:
    try:
        return PywpsProcess(process, snapshot(), made_by)
    except DescriptionError:
        raise
    except Exception as error:  # PyWPS takes anything for metadata, translations and the like
        raise DescriptionError(f"it cannot be described: {type(error).__name__}: {error}") from error


def _made(kind: Any) -> Any:
    try:
        return kind()
    except (Exception, SystemExit) as error:  # an author's constructor may raise anything
        raise DescriptionError(f"{kind.__name__}() raises {type(error).__name__}: {error}") from error


def found_in(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Name and object of what a module offers: the processes of its services, else its instances and classes.

    Of the classes those count that are the module's own (or, of a package, of its modules) and can be called without
    arguments; not those that only others are made from: with a leading underscore, or with an instance at hand.
    """
    attributes = vars(module)
    services = {name: item for name, item in attributes.items() if _is_a(item, Service)}
    if services:
        every = (
            (f"{name}.processes[{key!r}]", item)
            for name, one in services.items()
            for key, item in one.processes.items()
        )
    else:
        every = ((name, item) for name, item in attributes.items() if _is_a(item, Process))
    unique = {id(item): (name, item) for name, item in every}
    yield from unique.values()
    if not services:
        yield from _classes(module, {type(item) for _, item in unique.values()})


def _is_a(item: object, kind: type) -> bool:
    """As ``isinstance``, but that nothing is asked of the item: a proxy need not know its class yet."""
    return issubclass(type(item), kind)


def _classes(module: ModuleType, instantiated: set[type]) -> Iterator[tuple[str, object]]:
    for name, item in vars(module).items():
        if not (_is_a(item, type) and issubclass(item, Process)) or name.startswith("_"):
            continue
        own = item.__module__ == module.__name__ or item.__module__.startswith(f"{module.__name__}.")
        if own and item.__name__ == name and item not in instantiated and _callable_bare(item):
            yield name, item


def _callable_bare(kind: type) -> bool:
    try:
        inspect.signature(kind).bind()
    except (TypeError, ValueError):
        return False
    return not inspect.isabstract(kind)
