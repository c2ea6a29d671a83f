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
from typing import Any, Callable, Union

from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import Value
from wps_hpc.processes import checks, conversion, docstrings, signature
from wps_hpc.processes.declarations import Links, Translations, words
from wps_hpc.processes.description import DescriptionError, Input, Output, ProcessDescription, Resources
from wps_hpc.processes.run import Job, RunFolders
from wps_hpc.processes.signature import Signature

#: A process that leaves all resources to the cluster's defaults.
NO_WISHES = Resources()


class FunctionProcess:
    """A described function. Calling it calls the plain function; ``run`` is what the launcher calls (see Runnable)."""

    def __init__(self, function: Callable[..., Any], description: ProcessDescription, bound: Signature) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.description = description
        self.bound = bound

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
    resources: Resources = NO_WISHES,
    sync: str = "local",
    store_supported: bool = True,
    status_supported: bool = True,
) -> Callable[[Callable[..., Any]], FunctionProcess]:
    """The decorator. ``identifier`` is the function's name unless given; ``title`` and ``abstract`` the docstring's.

    ``resources`` is what a job needs, ``sync`` where a synchronous call runs: "local", "cluster" or "refused". Raises
    DescriptionError, naming function and parameter, when decorating something that no standard can express.
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
            resources=resources,
        )
        _check(function, description)
        return FunctionProcess(function, description, bound)

    return decorate


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
