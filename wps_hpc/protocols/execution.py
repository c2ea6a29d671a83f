"""A job with all that a document about it needs, and its raw file output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from joblauncher.formats.values import FileValue, LinkValue, LiteralValue, Value
from wps_hpc.jobs.job import Job
from wps_hpc.jobs.request import ExecuteRequest, OutputWish, Transmission
from wps_hpc.processes.description import LiteralData, NestedOutputs, Output, ProcessDescription
from wps_hpc.protocols.answer import NO_STORE, Answer, FileAnswer
from wps_hpc.protocols.embedding import OpenFile
from wps_hpc.protocols.links import Addresses, elsewhere, output_name


@dataclass(frozen=True)
class Execution:
    """A job with all that its document needs. ``outputs`` is None until the job has succeeded.

    ``process`` is None when the process is no longer on offer. Complex outputs larger than ``embed_bytes`` come as
    references even where the client wants them within the document: a document of gigabytes helps nobody.
    """

    job: Job
    request: ExecuteRequest
    process: ProcessDescription | None
    outputs: Mapping[str, tuple[Value, ...]] | None
    lineage: bytes | None
    addresses: Addresses
    open: OpenFile
    embed_bytes: int

    def wanted(self) -> Iterator[tuple[OutputWish | None, str, Value]]:
        """The outputs to write, in the order in which they were asked for; all, as described, when none was named."""
        outputs = self.outputs or {}
        described = [output.identifier for output in self.process.outputs] if self.process else []
        wishes: Mapping[str, OutputWish | None] = {
            wish.wanted.identifier: wish for wish in self.request.outputs
        } or dict.fromkeys([*described, *outputs])
        for identifier, wish in wishes.items():
            for value in outputs.get(identifier, ()):
                yield wish, identifier, value

    def raw_file(self, value: FileValue, *, as_base64: bool) -> FileAnswer:
        """The bare file of an output, in Base64 only if the client asked for that."""
        headers = (*NO_STORE, ("Content-Transfer-Encoding", "base64")) if as_base64 else NO_STORE
        stream, name = self.open(value), output_name(value)
        return FileAnswer(stream, name, value.mime_type, headers=headers, as_base64=as_base64)


def goes_by_reference(value: FileValue, wish: OutputWish | None) -> bool:
    """Whether a file is given by its address: as the client said, else as the process wants it."""
    said = wish.transmission if wish else None
    return bool(value.by_reference) if said is None else said is Transmission.REFERENCE


def raw_link(value: LinkValue) -> Answer:
    """The bare value of an output that lies elsewhere: the client is sent there (RFC 9110 §15.4.4)."""
    return Answer(b"", "text/plain; charset=utf-8", 303, (*NO_STORE, ("Location", elsewhere(value))))


def with_unit_reference(value: LiteralValue, process: ProcessDescription | None) -> LiteralValue:
    """The literal with its unit by URI where the process describes one: a name means something to people alone."""
    references = dict(_unit_references(process.outputs if process else ()))
    return value if value.uom not in references else replace(value, uom=references[value.uom])


def _unit_references(outputs: Sequence[Output]) -> Iterator[tuple[str, str]]:
    for output in outputs:
        if isinstance(output.data, LiteralData):
            yield from output.data.uom_references
        elif isinstance(output.data, NestedOutputs):
            yield from _unit_references(output.data.outputs)
