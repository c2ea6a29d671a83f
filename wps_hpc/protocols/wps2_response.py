"""What WPS 2.0 answers about jobs: StatusInfo, Result, and raw data (OGC 14-065r2 §9.5, 9.6, 9.8.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeAlias

from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue, NestedValue, Value
from wps_hpc.errors import ExecutionFailed, TooManyOutputs
from wps_hpc.jobs.job import STATE_WORDS, Job, JobState
from wps_hpc.jobs.request import OutputWish, Transmission
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.processes.formats import same_mime
from wps_hpc.protocols.answer import NO_STORE, XML_TYPE, Answer, FileAnswer
from wps_hpc.protocols.downloads import SAFETY
from wps_hpc.protocols.embedding import embed, embeddable, is_base64
from wps_hpc.protocols.execution import Execution, goes_by_reference, raw_link, with_unit_reference
from wps_hpc.protocols.links import PLAIN_SUFFIXES, elsewhere
from wps_hpc.protocols.wps2_values import TEXT_FORM, XML_FORM, box_element, box_text, literal_element
from wps_hpc.protocols.xml import PREFIXES2, WPS2, XLINK, add, clean, root, set_all, to_bytes

Reply: TypeAlias = Answer | FileAnswer

XML_SUFFIX, TEXT_SUFFIX = PLAIN_SUFFIXES
#: A client is asked to poll at intervals that grow with the age of the job, between these bounds in seconds.
_SOONEST, _LATEST, _SHARE = 1.0, 60.0, 0.1


# ----------------------------------------------------------------------------------------------------------- status


def status_info(job: Job, now: float, status: str | None = None) -> bytes:
    """A StatusInfo (14-065r2 table 26). ``status`` stands in for the job's own word in the answer to a Dismiss."""
    word = status or STATE_WORDS[job.state][1]
    document = root(f"{{{WPS2}}}StatusInfo", prefixes=PREFIXES2)
    parts = {
        "JobID": job.id,
        "Status": word,
        "ExpirationDate": _utc(job.expires) if job.final else None,
        "EstimatedCompletion": _utc(_estimated(job, now)),
        "NextPoll": _utc(_next_poll(job, now)) if status is None else None,
        "PercentCompleted": _percent(job) if status is None else None,
    }
    for name, text in parts.items():
        if text is not None:
            add(document, f"{{{WPS2}}}{name}", text)
    return to_bytes(document)


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _percent(job: Job) -> str | None:
    """0 when the execution has started, 100 when the job is complete; nothing before and where it says nothing."""
    if job.state is JobState.SUCCEEDED:
        return "100"
    return str(min(99, max(0, job.percent))) if job.state in (JobState.RUNNING, JobState.SUSPENDED) else None


def _estimated(job: Job, now: float) -> float | None:
    """When a running job ends if it goes on as it has gone so far."""
    if job.state is not JobState.RUNNING or job.started is None or not 0 < job.percent < 100:
        return None
    return now + max(0.0, now - job.started) * (100 - job.percent) / job.percent


def _next_poll(job: Job, now: float) -> float | None:
    if job.final:
        return None
    return now + min(_LATEST, max(_SOONEST, (now - job.created) * _SHARE))


# ----------------------------------------------------------------------------------------------------------- result


def result(execution: Execution) -> bytes:
    """A Result (14-065r2 table 27); raises ExecutionFailed when the process made none of the outputs."""
    document = root(f"{{{WPS2}}}Result", prefixes=PREFIXES2)
    add(document, f"{{{WPS2}}}JobID", execution.job.id)
    if expires := _utc(execution.job.expires):
        add(document, f"{{{WPS2}}}ExpirationDate", expires)
    empty = len(document)
    for wish, identifier, value in execution.wanted():
        _add_output(document, identifier, value, wish, execution)
    if len(document) == empty:
        raise ExecutionFailed(f"{execution.job.process} finished without any of the outputs that were asked for.")
    return to_bytes(document)


def _add_output(
    parent: etree._Element, identifier: str, value: Value, wish: OutputWish | None, execution: Execution
) -> None:
    """An Output. The schema lets a nested one hold one part, so there is one of it for each part."""
    if isinstance(value, NestedValue):
        for name, inner in ((name, inner) for name, values in value.values.items() for inner in values):
            _add_output(add(parent, f"{{{WPS2}}}Output", None, id=identifier), name, inner, wish, execution)
        return
    _WRITERS[type(value)](add(parent, f"{{{WPS2}}}Output", None, id=identifier), value, wish, execution)


def _as_text(wish: OutputWish | None) -> bool:
    """Whether a literal or bounding box is wanted as plain text; XML is the default."""
    return wish is not None and wish.wanted.mime_type is not None and same_mime(wish.wanted.mime_type, TEXT_FORM)


def _add_plain(
    element: etree._Element, value: LiteralValue | BoundingBoxValue, wish: OutputWish | None, execution: Execution
) -> None:
    """A literal or bounding box: XML or text within the document, or a reference to that."""
    identifier = element.get("id", "")
    if (
        wish is not None
        and wish.transmission is Transmission.REFERENCE
        and _is_single(execution.outputs, value, identifier)
    ):
        suffix = TEXT_SUFFIX if _as_text(wish) else XML_SUFFIX
        href = execution.addresses.plain(execution.job, identifier, suffix)
        form = TEXT_FORM if _as_text(wish) else XML_FORM
        add(element, f"{{{WPS2}}}Reference", None, **{"mimeType": form, f"{{{XLINK}}}href": href})
        return
    text, xml = _plain(value, execution.process)
    data = add(element, f"{{{WPS2}}}Data", None, mimeType=TEXT_FORM if _as_text(wish) else XML_FORM)
    if _as_text(wish):
        data.text = clean(text)
    else:
        data.append(xml)


def _is_single(outputs: Mapping[str, tuple[Value, ...]] | None, value: Value, identifier: str) -> bool:
    """Whether a value is the only one of an output of that name, so that it has an address of its own."""
    return (outputs or {}).get(identifier) == (value,)


#: Text and XML of values that are no files.
_PLAIN: Mapping[type, Callable[..., tuple[str, etree._Element]]] = {
    LiteralValue: lambda value: (value.text, literal_element(value)),
    BoundingBoxValue: lambda value: (box_text(value), box_element(value)),
}


def _plain(value: Value, process: ProcessDescription | None) -> tuple[str, etree._Element]:
    """Text and XML of a literal or bounding box, a unit by its URI where the process describes one."""
    shown = with_unit_reference(value, process) if isinstance(value, LiteralValue) else value
    return _PLAIN[type(shown)](shown)


def _add_file(element: etree._Element, value: FileValue, wish: OutputWish | None, execution: Execution) -> None:
    by_reference = goes_by_reference(value, wish)
    if not by_reference and (content := embeddable(value, execution.open, execution.embed_bytes)) is not None:
        data = add(element, f"{{{WPS2}}}Data", None, mimeType=value.mime_type, schema=value.schema)
        embed(data, value, content, as_base64=wish is not None and is_base64(wish.wanted.encoding))
        return
    _add_reference(element, execution.addresses.output(execution.job, value), value)


def _add_link(element: etree._Element, value: LinkValue, wish: OutputWish | None, execution: Execution) -> None:
    _add_reference(element, elsewhere(value), value)


def _add_reference(element: etree._Element, href: str, value: FileValue | LinkValue) -> None:
    reference = add(element, f"{{{WPS2}}}Reference", None, mimeType=value.mime_type, schema=value.schema)
    encoding = None if is_base64(value.encoding) else value.encoding
    set_all(reference, {"encoding": encoding, f"{{{XLINK}}}href": href})


_WRITERS: Mapping[type, Callable[..., None]] = {
    LiteralValue: _add_plain,
    BoundingBoxValue: _add_plain,
    FileValue: _add_file,
    LinkValue: _add_link,
}


# -------------------------------------------------------------------------------------------------------------- raw


def raw(execution: Execution) -> Reply:
    """The bare value of the one output; raises TooManyOutputs for several values, ExecutionFailed for none."""
    values = list(execution.wanted())
    if not values:
        raise ExecutionFailed(f"{execution.job.process} finished without the output that was asked for.")
    if len(values) > 1 or isinstance(values[0][2], NestedValue):
        raise TooManyOutputs("There are several values; ask for a response document.", values[0][1])
    (wish, _, value) = values[0]
    if isinstance(value, FileValue):
        return execution.raw_file(value, as_base64=wish is not None and is_base64(wish.wanted.encoding))
    if isinstance(value, LinkValue):
        return raw_link(value)
    return plain_answer(value, execution.process, as_text=_as_text(wish))


def plain_answer(value: Value, process: ProcessDescription | None, *, as_text: bool) -> Answer:
    """A literal or bounding box alone, as XML or as text."""
    text, xml = _plain(value, process)
    headers = (*NO_STORE, *SAFETY)
    if as_text:
        return Answer(text.encode(), f"{TEXT_FORM}; charset=utf-8", headers=headers)
    return Answer(to_bytes(xml), XML_TYPE, headers=headers)


def plain_output(
    outputs: Mapping[str, tuple[Value, ...]], process: ProcessDescription | None, name: str
) -> Answer | None:
    """The literal or bounding box behind the last part of an address (``Addresses.plain``), or None."""
    identifier, suffix = name[:-4], name[-4:]
    values = outputs.get(identifier, ())
    if suffix not in PLAIN_SUFFIXES or len(values) != 1 or type(values[0]) not in _PLAIN:
        return None
    return plain_answer(values[0], process, as_text=suffix == TEXT_SUFFIX)
