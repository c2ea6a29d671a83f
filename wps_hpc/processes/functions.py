"""``@process``: an ordinary, type-annotated function with a docstring becomes a process.

Plain types mean literals (float: double, int: integer, bool, str, date, time, datetime, timedelta or Duration, Literal,
Enum, Quantity for a value with its unit); ``Annotated[type, inputs.…]`` says more; Optional or a default makes an input
optional, List repeats it; a dataclass, NamedTuple or TypedDict nests. A parameter annotated ``Job`` gets the run. The
return annotation gives the output ``result``, or, as a NamedTuple, dataclass or TypedDict, several outputs. Title,
abstract and the texts of inputs and outputs come from the docstring.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional, Union

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import Value
from wps_hpc.processes import checks, conversion, docstrings, signature
from wps_hpc.processes.declarations import Links, Translations, words
from wps_hpc.processes.description import Container, DescriptionError, Input, Output, ProcessDescription, Resources
from wps_hpc.processes.run import Job, RunFolders
from wps_hpc.processes.signature import Signature

#: A process that leaves all resources to the cluster's defaults.
NO_WISHES = Resources()
#: A process that runs in whatever container the cluster has.
ANY_CONTAINER = Container()


class FunctionProcess:
    """A described function. Calling it calls the plain function; ``run`` is what the launcher calls (see Runnable)."""

    def __init__(
        self,
        function: Callable[..., Any],
        description: ProcessDescription,
        bound: Signature,
        needs: Optional[Callable[..., Resources]] = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.description = description
        self.bound = bound
        self.needs = needs

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The function itself, as in a unit test."""
        return self.function(*arguments, **named)

    def __repr__(self) -> str:
        """For people."""
        return f"<process {self.description.identifier}>"

    def __reduce__(self) -> Union[str, tuple[Any, ...]]:
        """Pickle by name where the name leads to this very object, else what it was made of."""
        if _found(self.function.__module__, self.function.__qualname__) is self:
            return str(self.function.__qualname__)
        return FunctionProcess, (self.function, self.description, self.bound)

    def resources_for(self, request: RequestRecord, job: JobFolder) -> Resources:
        """What a run with these inputs needs: as stated, or as the author's function says; see Runnable."""
        if self.needs is None:
            return self.description.resources
        names = inspect.signature(self.needs).parameters
        asked = [slot for slot in self.bound.parameters if slot.name in names]
        given = conversion.arguments(asked, request.inputs, job)
        own = {name: None for name, parameter in names.items() if parameter.default is inspect.Parameter.empty}
        found = self.needs(**{**own, **given})
        if not isinstance(found, Resources):
            raise TypeError(f"{self.needs.__qualname__} returned {type(found).__name__} instead of Resources")
        return found

    def run(self, request: RequestRecord, job: Job, folders: RunFolders) -> Mapping[str, tuple[Value, ...]]:
        """Call the function with a request's inputs; see Runnable for what this gives and raises."""
        wanted = conversion.wanted_outputs(self.description, request)
        arguments = conversion.arguments(self.bound.parameters, request.inputs, folders.job)
        if self.bound.job_parameter is not None:
            arguments[self.bound.job_parameter] = replace(job, wanted=wanted)
        result = self.function(**arguments)
        to = conversion.Destination(folders, wanted)
        return conversion.results(self.bound.results, result, self.bound.result_type, to)


def process(
    *,
    identifier: str = "",
    title: str = "",
    abstract: str = "",
    version: str = "1.0.0",
    keywords: Sequence[str] = (),
    metadata: Links = (),
    translations: Translations = (),
    profiles: Sequence[str] = (),
    resources: Union[Resources, Callable[..., Resources]] = NO_WISHES,
    sync: str = "local",
    store_supported: bool = True,
    status_supported: bool = True,
    restartable: bool = False,
    container: Union[Container, str] = ANY_CONTAINER,
) -> Callable[[Callable[..., Any]], FunctionProcess]:
    """The decorator. ``identifier`` is the function's name unless given; ``title`` and ``abstract`` the docstring's.

    ``resources`` is what a job needs: Resources, or a function of some of the inputs (its parameters are named like the
    process's own and get the same values; None for one that was not given) that returns them. ``sync`` is where a
    synchronous call runs: "local", "cluster" or "refused". ``restartable`` says that a run which the cluster
    interrupted (a node failed, a more important job came) may be started again from the beginning. ``container`` is
    what it wants of its container (see Container), or just its image. Raises DescriptionError, naming function and
    parameter, when decorating something that no standard can express.
    """

    def decorate(function: Callable[..., Any]) -> FunctionProcess:
        _must_be_plain(function)
        doc = docstrings.parse(function.__doc__)
        name = identifier or function.__name__
        said = words(name, title or doc.title or name, abstract or doc.abstract, keywords, metadata, translations)
        bound = signature.read(function, doc)
        description = ProcessDescription(
            **vars(said),
            version=version,
            inputs=_inputs(bound),
            outputs=_outputs(bound),
            profiles=tuple(profiles),
            store_supported=store_supported,
            status_supported=status_supported,
            sync=sync,
            resources=resources if isinstance(resources, Resources) else NO_WISHES,
            restartable=restartable,
            container=Container(container) if isinstance(container, str) else container,
        )
        _check(function, description)
        return FunctionProcess(function, description, bound, _needs(function, resources, bound))

    return decorate


def _needs(
    function: Callable[..., Any], resources: Union[Resources, Callable[..., Resources]], bound: Signature
) -> Optional[Callable[..., Resources]]:
    if isinstance(resources, Resources):
        return None
    known = {slot.name for slot in bound.parameters}
    unknown = [name for name in inspect.signature(resources).parameters if name not in known]
    if unknown:
        text = f"{function.__qualname__}: resources ask for {', '.join(unknown)}, which the process does not take"
        raise DescriptionError(text)
    return resources


def _found(module: str, qualname: str) -> Any:
    if module == "__main__":
        # Another program's main module is another one.
        return None
    try:
        return functools.reduce(getattr, qualname.split("."), sys.modules.get(module))
    except AttributeError:
        return None


def _must_be_plain(function: Callable[..., Any]) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function):
        raise DescriptionError(f"{name}: @process is for functions")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise DescriptionError(
            f"{name}: a process is a plain function that returns its outputs, no coroutine or generator"
        )


def _check(function: Callable[..., Any], description: ProcessDescription) -> None:
    try:
        checks.check(description)
    except DescriptionError as error:
        raise DescriptionError(f"{function.__qualname__}: {error}") from error


def _inputs(bound: Signature) -> tuple[Input, ...]:
    return tuple(slot.item for slot in bound.parameters if isinstance(slot.item, Input))


def _outputs(bound: Signature) -> tuple[Output, ...]:
    return tuple(slot.item for slot in bound.results if isinstance(slot.item, Output))
