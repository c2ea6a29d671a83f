"""The neutral description of a process: what it takes, what it gives, what it needs.

One frozen tree serves every protocol (WPS 1.0.0, WPS 2.0, OGC API - Processes) and every origin of a process (a Python
function, a PyWPS class, a command-line program). Nothing here knows XML, JSON or HTTP.

Node half: Python 3.9, standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional, Union

#: WPS literal types, by the name that stands in a description (OGC 05-007r7 §9.3.1, XML Schema part 2 datatypes,
#: and OWS's own ``scale`` and ``angle``).
LITERAL_TYPES = (
    "boolean",
    "integer",
    "nonNegativeInteger",
    "positiveInteger",
    "float",
    "double",
    "string",
    "date",
    "time",
    "dateTime",
    "duration",
    "anyURI",
    "scale",
    "angle",
)

#: How the ends of an allowed range count (OWS Common 1.1, 06-121r3 §10.8.2 ``rangeClosure``).
RANGE_CLOSURES = ("closed", "open", "open-closed", "closed-open")

#: Where a synchronous call of the process runs: beside the server, on the process's cluster, or not at all.
SYNC_PLACES = ("local", "cluster", "refused")


class DescriptionError(ValueError):
    """A process describes itself in a way that no standard can express; the text says which part and why."""


@dataclass(frozen=True)
class Metadata:
    """A link to more about a process, an input or an output (``ows:Metadata``)."""

    title: str
    href: str = ""
    role: str = ""


@dataclass(frozen=True)
class Translation:
    """Title and abstract in another language (an RFC 4646 tag such as ``fr-CA``)."""

    language: str
    title: str = ""
    abstract: str = ""


@dataclass(frozen=True)
class Described:
    """What every described thing carries: an identifier, and words for people."""

    identifier: str
    title: str = ""
    abstract: str = ""
    keywords: tuple[str, ...] = ()
    metadata: tuple[Metadata, ...] = ()
    translations: tuple[Translation, ...] = ()

    def words(self, language: str) -> tuple[str, str]:
        """Title and abstract in ``language`` where translated (exact tag, then primary subtag), else as written."""
        wanted = language.lower()
        for candidate in (wanted, wanted.split("-")[0]):
            for entry in self.translations:
                if candidate in (entry.language.lower(), entry.language.lower().split("-")[0]):
                    return entry.title or self.title or self.identifier, entry.abstract or self.abstract
        return self.title or self.identifier, self.abstract


@dataclass(frozen=True)
class Format:
    """A complex format: MIME type, encoding (``base64`` or a character set) and schema, as WPS names them.

    ``extension`` (with its dot) names files of this format in a job folder and in downloads.
    """

    mime_type: str
    encoding: Optional[str] = None
    schema: Optional[str] = None
    extension: str = ""


@dataclass(frozen=True)
class AllowedRange:
    """Values between two bounds, as canonical literal text; ``None`` leaves that end open-ended."""

    minimum: Optional[str] = None
    maximum: Optional[str] = None
    closure: str = "closed"
    spacing: Optional[str] = None


@dataclass(frozen=True)
class LiteralData:
    """One literal value. ``default`` and ``allowed`` hold canonical literal text; empty ``allowed`` means any value.

    ``uoms`` lists the supported units, the default one first; ``uom_references`` has (unit, URI) where a unit has one.
    An ``advisory`` list of allowed values is shown to clients, and other values are taken all the same.
    """

    data_type: str = "string"
    allowed: tuple[Union[str, AllowedRange], ...] = ()
    values_reference: Optional[str] = None
    default: Optional[str] = None
    uoms: tuple[str, ...] = ()
    uom_references: tuple[tuple[str, str], ...] = ()
    advisory: bool = False


@dataclass(frozen=True)
class ComplexData:
    """A document or file in one of ``formats`` (the default one first); ``maximum_megabytes`` limits one input."""

    formats: tuple[Format, ...]
    maximum_megabytes: Optional[float] = None


@dataclass(frozen=True)
class BoundingBoxData:
    """A bounding box in one of ``crss`` (URIs, the default one first)."""

    crss: tuple[str, ...] = ("urn:ogc:def:crs:OGC:1.3:CRS84",)


@dataclass(frozen=True)
class NestedInputs:
    """Inputs within an input (WPS 2.0, 14-065r2 §7.2); WPS 1.0.0 cannot offer a process that requires one."""

    inputs: tuple[Input, ...]


@dataclass(frozen=True)
class NestedOutputs:
    """Outputs within an output (WPS 2.0, 14-065r2 §7.2)."""

    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class Input(Described):
    """An input; ``max_occurs`` of ``None`` means unbounded."""

    data: Union[LiteralData, ComplexData, BoundingBoxData, NestedInputs] = field(default_factory=LiteralData)
    min_occurs: int = 1
    max_occurs: Optional[int] = 1


@dataclass(frozen=True)
class Output(Described):
    """An output. An author whose output may be missing says so with ``optional``."""

    data: Union[LiteralData, ComplexData, BoundingBoxData, NestedOutputs] = field(default_factory=LiteralData)
    optional: bool = False


@dataclass(frozen=True)
class Resources:
    """What a job needs. ``None`` leaves it to the cluster's default.

    ``cores``, ``tasks``, ``nodes`` and ``gpus`` are counts, ``memory_mb`` is MiB, all for the whole job; ``walltime_s``
    is seconds. ``tasks`` is for processes that start parallel programs (with srun or mpirun): the cores are shared out
    among them.
    """

    cores: Optional[int] = None
    memory_mb: Optional[int] = None
    walltime_s: Optional[int] = None
    gpus: Optional[int] = None
    nodes: Optional[int] = None
    tasks: Optional[int] = None

    @property
    def slots(self) -> Optional[int]:
        """The cores that a scheduler is asked for: as many for each task, or for each node, and at least one."""
        among = self.tasks or self.nodes or 1
        if self.cores is None:
            return self.tasks
        return among * math.ceil(self.cores / among)


@dataclass(frozen=True)
class Container:
    """What a process wants of the container that it runs in; the site says which of it may be had.

    ``image`` is its own image (None: the cluster's). ``network`` asks for the node's network, which a container is kept
    from otherwise. ``commands``: the image need not have Python; the process runs outside, and what it starts with
    ``Job.command`` inside (None: as the cluster has it).
    """

    image: Optional[str] = None
    network: bool = False
    commands: Optional[bool] = None


@dataclass(frozen=True)
class ProcessDescription(Described):
    """A whole process as clients see it, with what the server needs to run it.

    A ``restartable`` process may be run again from the start when the cluster interrupted its run: a node failed, or a
    more important job came.
    """

    version: str = "1.0.0"
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    profiles: tuple[str, ...] = ()
    store_supported: bool = True
    status_supported: bool = True
    sync: str = "local"
    resources: Resources = Resources()
    restartable: bool = False
    container: Container = Container()

    def input(self, identifier: str) -> Optional[Input]:
        """The input of that identifier, or None."""
        return _named(self.inputs).get(identifier)  # type: ignore[return-value]

    def output(self, identifier: str) -> Optional[Output]:
        """The output of that identifier, or None."""
        return _named(self.outputs).get(identifier)  # type: ignore[return-value]


def _named(items: tuple[Described, ...]) -> Mapping[str, Described]:
    return {item.identifier: item for item in items}
