"""The body of an execute request (18-062r2 §7.11.2, execute.yaml) as the neutral request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from joblauncher.formats.records import WantedOutput
from wps_hpc.errors import BadRequest, InvalidParameterValue
from wps_hpc.jobs.request import ExecuteRequest, Mode, OutputWish, Subscriber, Transmission
from wps_hpc.processes.description import ProcessDescription
from wps_hpc.protocols.caller import PARAMETER, read_wishes
from wps_hpc.protocols.ogcapi_body import read_json
from wps_hpc.protocols.ogcapi_describe import runs_async, runs_sync
from wps_hpc.protocols.ogcapi_http import Request, check_json, prefers_async
from wps_hpc.protocols.ogcapi_values import read_inputs

PROTOCOL = "ogcapi"
#: What ``response`` may be, and whether that is raw.
_RESPONSES = {"raw": True, "document": False}


def read_execute(request: Request, process: ProcessDescription, language: str) -> ExecuteRequest:
    """The request. Raises UnsupportedBody, BadRequest, FileSizeExceeded, and InvalidParameterValue with the member, the
    input or the output as locator."""
    check_json(request)
    body = read_json(request.read())
    if not isinstance(body, dict):
        raise BadRequest('The body must be an object, such as {"inputs": {}}.')
    return ExecuteRequest(
        process=process.identifier,
        protocol=PROTOCOL,
        inputs=read_inputs(process.inputs, body.get("inputs", {})),
        outputs=tuple(_wishes(process, body.get("outputs", {}))),
        mode=_mode(process, wants_async=prefers_async(request)),
        raw=_is_raw(body.get("response", "raw")),
        language=language,
        owner=request.owner,
        resources=read_wishes(request.parameters.get(PARAMETER)),
        subscriber=_subscriber(body.get("subscriber")),
    )


def _mode(process: ProcessDescription, *, wants_async: bool) -> Mode:
    """Asynchronous where the client prefers it and the process can, or where the process can do nothing else (18-062r2
    §7.11.2.3, req. 20 and 21)."""
    possible = runs_async(process)
    return Mode.ASYNC if possible and (wants_async or not runs_sync(process)) else Mode.SYNC


def _is_raw(response: Any) -> bool:
    if not isinstance(response, str) or response not in _RESPONSES:
        raise InvalidParameterValue(f"response must be one of {', '.join(_RESPONSES)}.", "response")
    return _RESPONSES[response]


#: The occasions of subscriber.yaml, and what they are called here.
_OCCASIONS = {"successUri": "success", "inProgressUri": "in_progress", "failedUri": "failed"}


def _subscriber(given: Any) -> Subscriber | None:
    """Where the client wants to be told of the job (18-062r2 §12); whether it may, is the jobs room's to say."""
    if given is None:
        return None
    if not isinstance(given, dict) or not isinstance(given.get("successUri"), str):
        raise InvalidParameterValue("subscriber must be an object with at least a successUri.", "subscriber")
    wanted = {ours: given.get(name) for name, ours in _OCCASIONS.items()}
    if not all(uri is None or isinstance(uri, str) for uri in wanted.values()):
        raise InvalidParameterValue("Each URI of the subscriber must be a string.", "subscriber")
    return Subscriber(**wanted)


# -------------------------------------------------------------------------------------------------------------- outputs


def _wishes(process: ProcessDescription, outputs: Any) -> Iterator[OutputWish]:
    """The outputs asked for; none named means all (18-062r2 req. 23)."""
    if not isinstance(outputs, dict):
        raise InvalidParameterValue("outputs must be an object: from identifiers to what is wanted.", "outputs")
    for identifier, wanted in outputs.items():
        if process.output(identifier) is None:
            known = ", ".join(output.identifier for output in process.outputs)
            raise InvalidParameterValue(f"There is no output {identifier[:80]!r}; there are {known}.", identifier[:80])
        yield _wish(identifier, wanted)


def _wish(identifier: str, wanted: Any) -> OutputWish:
    """One output (output.yaml)."""
    if not isinstance(wanted, dict):
        raise InvalidParameterValue(f"What is wanted of the output {identifier} must be an object.", identifier)
    form = wanted.get("format", {})
    if not isinstance(form, dict):
        raise InvalidParameterValue(f"The format of the output {identifier} must be an object.", identifier)
    return OutputWish(
        WantedOutput(
            identifier,
            mime_type=_text(form, "mediaType", identifier),
            encoding=_text(form, "encoding", identifier),
            schema=None if isinstance(form.get("schema"), dict) else _text(form, "schema", identifier),
            uom=_text(wanted, "uom", identifier),
        ),
        _transmission(wanted["transmissionMode"], identifier) if "transmissionMode" in wanted else None,
    )


def _transmission(mode: Any, identifier: str) -> Transmission:
    if not isinstance(mode, str) or mode not in set(Transmission):
        words = ", ".join(Transmission)
        raise InvalidParameterValue(f"transmissionMode of the output {identifier} must be one of {words}.", identifier)
    return Transmission(mode)


def _text(wanted: Mapping[str, Any], name: str, identifier: str) -> str | None:
    found = wanted.get(name)
    if found is not None and not isinstance(found, str):
        raise InvalidParameterValue(f"{name} of the output {identifier} must be a string.", identifier)
    return found or None
