"""ExecuteResponse documents of WPS 1.0.0 (OGC 05-007r7 §10.3, wpsExecute_response.xsd): a job as its client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lxml import etree

from joblauncher.formats.values import BoundingBoxValue, FileValue, LinkValue, LiteralValue
from wps_hpc.jobs.job import STATE_WORDS, Job, JobState
from wps_hpc.jobs.request import ExecuteRequest, OutputWish
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.embedding import embed, embeddable, is_base64
from wps_hpc.protocols.execution import Execution, goes_by_reference, with_unit_reference
from wps_hpc.protocols.links import elsewhere
from wps_hpc.protocols.ows import OWS_1_1
from wps_hpc.protocols.wps1_describe import add_brief, add_words, data_type_reference
from wps_hpc.protocols.wps1_lineage import add_bounding_box, add_lineage
from wps_hpc.protocols.wps1_request import VERSION
from wps_hpc.protocols.xml import LANG, OWS, WPS, add, clean, root, to_bytes

#: What a client reads when the job has no message of its own; the element must never be empty.
_SENTENCES: Mapping[JobState, str] = {
    JobState.ACCEPTED: "The job is accepted and waits for its turn.",
    JobState.STAGING: "The inputs are being fetched.",
    JobState.SUBMITTING: "The job is being handed to the batch system.",
    JobState.QUEUED: "The job waits in the queue of the batch system.",
    JobState.HELD: "The job is held.",
    JobState.RUNNING: "The job is running.",
    JobState.SUSPENDED: "The job is suspended.",
    JobState.SUCCEEDED: "The job has finished.",
    JobState.FAILED: "The job has failed.",
    JobState.DISMISSED: "The job was dismissed.",
}

#: What a stored response says until its job has ended when the client did not ask for status.
_SILENT = "The job is accepted. Its result will be here; how far it is shows only with status=true."


def execute_response(execution: Execution) -> bytes:
    """The whole document."""
    job, request = execution.job, execution.request
    attributes = {
        "service": "WPS",
        "version": VERSION,
        LANG: request.language,
        "serviceInstance": execution.addresses.service_instance,
    }
    if request.store:
        attributes["statusLocation"] = execution.addresses.status(job)
    document = root(f"{{{WPS}}}ExecuteResponse", attributes)
    _add_process(document, execution)
    _add_status(document, job, request)
    if execution.lineage is not None:
        add_lineage(document, execution.lineage)
    if execution.outputs:
        _add_outputs(document, execution)
    return to_bytes(document)


def _add_process(document: etree._Element, execution: Execution) -> None:
    process = execution.process or ProcessDescription(
        identifier=execution.job.process, version=execution.job.process_version
    )
    add_brief(add(document, f"{{{WPS}}}Process"), process, execution.request.language)


# ----------------------------------------------------------------------------------------------------------- status


def _add_status(document: etree._Element, job: Job, request: ExecuteRequest) -> None:
    if not job.final and request.store and not request.status:
        # «If status is false then the Status element shall not be updated until the process completes» (table 50).
        status = add(document, f"{{{WPS}}}Status", None, creationTime=_utc(job.created))
        add(status, f"{{{WPS}}}ProcessAccepted", _SILENT)
        return
    word = STATE_WORDS[job.state][0]
    status = add(document, f"{{{WPS}}}Status", None, creationTime=creation_time(job))
    element = add(status, f"{{{WPS}}}{word}")
    if word == "ProcessFailed":
        _add_failure(element, job, request.language)
        return
    element.text = message(job)
    if word in ("ProcessStarted", "ProcessPaused"):
        element.set("percentCompleted", str(min(99, max(0, int(job.percent)))))


def creation_time(job: Job) -> str:
    """When the process finished; until then, the time of this document (table 55), in UTC."""
    finished = job.finished if job.final else None
    return _utc(time.time() if finished is None else finished)


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def message(job: Job) -> str:
    """The sentence that a client shows its user: the job's own, and why it waits; never empty."""
    sentence = job.message.strip() or _SENTENCES[job.state]
    if job.reason and not job.final and job.reason not in sentence:
        sentence = f"{sentence} ({job.reason})"
    if job.stale_since is not None and not job.final:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.stale_since))
        sentence = f"{sentence} [The batch system has not answered since {since} UTC.]"
    return clean(sentence)


def _add_failure(element: etree._Element, job: Job, language: str) -> None:
    failure = job.failure
    if job.state is JobState.DISMISSED or failure is None:
        by = f"The job was dismissed by {job.cancelled_by}." if job.cancelled_by else message(job)
        OWS_1_1.add_report(element, "NoApplicableCode", by, None, language)
    else:
        OWS_1_1.add_report(
            element, failure.code, failure.text or _SENTENCES[JobState.FAILED], failure.locator, language
        )


# ---------------------------------------------------------------------------------------------------------- outputs


def _add_outputs(document: etree._Element, execution: Execution) -> None:
    parent = add(document, f"{{{WPS}}}ProcessOutputs")
    for wish, identifier, value in execution.wanted():
        if type(value) not in _WRITERS:
            continue  # 1.0.0 has no nested outputs
        element = add(parent, f"{{{WPS}}}Output")
        _add_output_words(element, wish, identifier, execution)
        _WRITERS[type(value)](element, value, wish, execution)
    if not len(parent):
        document.remove(parent)


def _add_output_words(element: etree._Element, wish: OutputWish | None, identifier: str, execution: Execution) -> None:
    """Identifier, Title, Abstract and Metadata; the client's own title and abstract where it gave them (table 51)."""
    described = execution.process.output(identifier) if execution.process else None
    if described is None:
        add(element, f"{{{OWS}}}Identifier", identifier)
        add(element, f"{{{OWS}}}Title", identifier)
    else:
        add_words(element, described, execution.request.language)
    for name, text in (("Title", wish and wish.title), ("Abstract", wish and wish.abstract)):
        if text:
            _replace_text(element, name, text)


def _replace_text(element: etree._Element, name: str, text: str) -> None:
    found = element.find(f"{{{OWS}}}{name}")
    if found is None:
        found = etree.Element(f"{{{OWS}}}{name}")
        element.insert(2, found)
    found.text = clean(text)


def _add_literal(element: etree._Element, value: LiteralValue, wish: OutputWish | None, execution: Execution) -> None:
    reference = data_type_reference(value.data_type)
    uom = with_unit_reference(value, execution.process).uom
    data = add(element, f"{{{WPS}}}Data")
    add(data, f"{{{WPS}}}LiteralData", value.text, dataType=reference, uom=uom)


def _add_box(element: etree._Element, value: BoundingBoxValue, wish: OutputWish | None, execution: Execution) -> None:
    add_bounding_box(add(element, f"{{{WPS}}}Data"), value)


def _add_file(element: etree._Element, value: FileValue, wish: OutputWish | None, execution: Execution) -> None:
    by_reference = goes_by_reference(value, wish)
    if not by_reference and (content := embeddable(value, execution.open, execution.embed_bytes)) is not None:
        data = add(element, f"{{{WPS}}}Data")
        inner = add(data, f"{{{WPS}}}ComplexData", None, mimeType=value.mime_type, schema=value.schema)
        embed(inner, value, content, as_base64=wish is not None and is_base64(wish.wanted.encoding))
        return
    _add_reference(element, execution.addresses.output(execution.job, value), value)


def _add_link(element: etree._Element, value: LinkValue, wish: OutputWish | None, execution: Execution) -> None:
    _add_reference(element, elsewhere(value), value)


def _add_reference(element: etree._Element, href: str, value: FileValue | LinkValue) -> None:
    add(
        element,
        f"{{{WPS}}}Reference",
        None,
        href=href,
        mimeType=value.mime_type,
        encoding=None if is_base64(value.encoding) else value.encoding,
        schema=value.schema,
    )


_WRITERS: Mapping[type, Callable[..., None]] = {
    LiteralValue: _add_literal,
    BoundingBoxValue: _add_box,
    FileValue: _add_file,
    LinkValue: _add_link,
}
