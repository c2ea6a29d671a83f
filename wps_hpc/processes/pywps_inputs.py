"""The inputs of a PyWPS process for one run: real PyWPS objects, made of what the server checked and fetched.

PyWPS's own converters and validators see every value, in the mode that the process asks for.

Node half: Python 3.9, standard library and pywps 4.5 or newer.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from pywps.app.Service import Service
from pywps.app.WPSRequest import WPSRequest
from pywps.exceptions import NoApplicableCode
from pywps.inout.basic import UOM, BasicComplex, BasicLiteral, UrlHandler
from pywps.validator.base import emptyvalidator
from pywps.validator.mode import MODE

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import RequestRecord, WantedOutput
from joblauncher.formats.values import FileValue, Value
from wps_hpc.processes import formats
from wps_hpc.processes.pywps_description import neutral_format
from wps_hpc.processes.run import ProcessError

log = logging.getLogger(__name__)

#: A disk or quota that is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Longest stem and suffix of the name of an input's file, in bytes; file systems take 255 together.
_STEM, _SUFFIX = 180, 40
_EPSG = re.compile(r"epsg:([0-9]+)", re.IGNORECASE)


def check_inputs(process: Any, request: RequestRecord, job: JobFolder) -> None:
    """Have PyWPS's converters and validators look at the inputs; raises ProcessError as the client should read it.

    This is the server, and what it is sent makes authors' code raise anything (deep JSON a RecursionError): a refusal
    like any other, unless it is memory or the disk that is at an end.
    """
    for source in process.inputs:
        try:
            _check(source, request.inputs.get(source.identifier, ()), job)
        except (ProcessError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            locator = source.identifier
            log.warning("the validator of input %s of %s gave up", locator, request.identifier, exc_info=True)
            text = f"Input '{locator}': it is not what its validator can read ({type(error).__name__})."
            raise ProcessError(text, "InvalidParameterValue", locator) from error


def _check(source: Any, values: tuple[Value, ...], job: JobFolder) -> None:
    if not isinstance(source, BasicComplex):
        _made(source, _simple, values)
    elif _validates(source):
        for value in values:
            _made(source, _checked, value, job)


def _validates(source: Any) -> bool:
    return source.valid_mode != MODE.NONE and source.validator not in (None, emptyvalidator)


def _checked(source: Any, value: Any, job: JobFolder) -> None:
    item = _cloned(source, value)
    item.file = str(_path(value, job))


def _made(source: Any, make: Callable[..., Any], *arguments: Any) -> Any:
    """What ``make`` makes of an input; raises ProcessError with the input as locator where PyWPS does not take it."""
    try:
        return make(source, *arguments)
    except NoApplicableCode as error:
        code, locator = error.name, source.identifier
        raise ProcessError(f"Input '{locator}': {error.description}", code, locator) from error
    except (ValueError, TypeError, ArithmeticError) as error:
        text = f"Input '{source.identifier}': {error}"
        raise ProcessError(text, "InvalidParameterValue", source.identifier) from error


def parsed_request(process: Any, record: RequestRecord, job: JobFolder) -> Any:
    """A WPSRequest as PyWPS's own parsers leave it, but for the HTTP request, which has long been answered."""
    request = WPSRequest()
    request.check_and_set_version("1.0.0")
    request.operation = "execute"
    request.identifier = record.identifier
    request.language = record.language
    request.store_execute = request.status = "true"
    request.lineage = "false"
    request.raw = False
    request.inputs = _inputs(process, record, job)
    request.outputs = {item.identifier: _as_parsed(item) for item in record.outputs}
    return request


def _as_parsed(item: WantedOutput) -> Mapping[str, Optional[str]]:
    return {
        item.identifier: "",
        "mimetype": item.mime_type,
        "encoding": item.encoding or "",
        "schema": item.schema or "",
        "uom": item.uom or "",
        "asReference": "true" if item.by_reference else "false",
    }


def _inputs(process: Any, record: RequestRecord, job: JobFolder) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for source in process.inputs:
        values = record.inputs.get(source.identifier, ())
        made = _made(source, _occurrences, values, job)
        if made:
            found[source.identifier] = made
    return found


def _occurrences(source: Any, values: tuple[Value, ...], job: JobFolder) -> Any:
    if not values:
        return _default(source)
    if isinstance(source, BasicComplex):
        return deque((_complex(source, value, job) for value in values), maxlen=source.max_occurs)
    return _simple(source, values)


def _default(source: Any) -> Any:
    """As ``Service._parse_and_execute`` has it: a list, where the others are deques."""
    if source._default is None:
        return None
    if not source.data_set and isinstance(source, BasicComplex):
        source._set_default_value()
    return [source.clone()]


def _simple(source: Any, values: tuple[Value, ...]) -> Any:
    """Literals and bounding boxes are made by PyWPS itself, from what its parsers would have read."""
    if not values:
        return None
    if isinstance(source, BasicLiteral):
        return Service.create_literal_inputs(None, source, [_literal_as_parsed(source, value) for value in values])
    return Service.create_bbox_inputs(None, source, [_box_as_parsed(source, value) for value in values])


class _Unit(str):
    """A unit as the text that PyWPS has for one that the client named, but with all of the UOM that it has for the
    default: the server fills that one in, and handlers are written for the one, the other or both."""

    declared: UOM

    @property
    def uom(self) -> str:
        """The text."""
        return str(self)

    @property
    def reference(self) -> Any:
        """The URI of the unit, if any."""
        return self.declared.reference

    @property
    def json(self) -> Any:
        """As of a UOM."""
        return self.declared.json


def _unit(source: Any, text: Optional[str]) -> Optional[_Unit]:
    if not text:
        return None
    unit = _Unit(text)
    unit.declared = next((item for item in source.uoms if str(item.uom) == text), UOM(text))
    return unit


def _literal_as_parsed(source: Any, value: Any) -> Mapping[str, Optional[str]]:
    return {
        "identifier": source.identifier,
        "data": value.text,
        "uom": _unit(source, value.uom),
        "datatype": "",
    }


def _box_as_parsed(source: Any, value: Any) -> Mapping[str, Any]:
    return {
        "identifier": source.identifier,
        "data": [*value.lower, *value.upper],
        "crs": _urn(str(value.crs or source.crss[0])),
        "dimensions": len(value.lower),
    }


def _urn(crs: str) -> str:
    """A reference system in the form that PyWPS makes of every one that it reads."""
    code = _EPSG.fullmatch(crs)
    return f"urn:ogc:def:crs:EPSG::{code[1]}" if code else crs


class _Fetched(UrlHandler):  # type: ignore[misc]
    """An input by reference that the server has fetched: PyWPS's own handler, with nothing left to download."""

    def __init__(self, href: str, owner: Any, path: str) -> None:
        super().__init__(href, owner)
        self._file = path

    @property
    def size(self) -> int:
        """Of the file; PyWPS would ask the remote server."""
        return Path(self._file).stat().st_size


def _complex(source: Any, value: Any, job: JobFolder) -> Any:
    item = _cloned(source, value)
    path = _path(value, job)
    if value.shared:
        item.file = str(_within(item, path, value.href or path.as_uri(), linked=True))
    elif value.href is not None:
        item._iohandler = _Fetched(value.href, item, str(_within(item, path, value.href)))
        item._check_valid()
    else:
        item.data = _content(path, value)
    return item


def _cloned(source: Any, value: FileValue) -> Any:
    item = source.clone()
    item.data_format = format_of(source, value)
    item.method = "GET"
    item.inpt = {
        "identifier": source.identifier,
        "mimeType": value.mime_type,
        "encoding": value.encoding or "",
        "schema": value.schema or "",
        "method": "GET",
    }
    if value.href is not None:
        item.inpt["href"] = value.href
    return item


def format_of(item: Any, wanted: Any) -> Any:
    """The PyWPS format of an input or output that a value has, or that a client wants; its default for none."""
    neutral = {id(one): neutral_format(one) for one in item.supported_formats}
    found = formats.matching(tuple(neutral.values()), wanted.mime_type, wanted.encoding, wanted.schema)
    for one in item.supported_formats:
        plain = neutral[id(one)]
        if found is not None and (plain.mime_type, plain.schema) == (found.mime_type, found.schema):
            return one
    return item.data_format


def _path(value: FileValue, job: JobFolder) -> Path:
    return Path(value.path) if value.shared else job.path / value.path


def _content(path: Path, value: FileValue) -> Any:
    """Inline content as PyWPS's parser gives it: bytes from Base64, else text."""
    content = path.read_bytes()
    encoding = (value.encoding or "").lower()
    if encoding == "base64":
        return content
    try:
        return content.decode(formats.character_set(encoding) or "utf-8")
    except UnicodeDecodeError:
        return content


def _within(item: Any, path: Path, href: str, *, linked: bool = False) -> Path:
    """The file under the name that it has at its address, in the working directory: where handlers look for it."""
    name = PurePosixPath(urlsplit(href).path).name.strip()
    plain = PurePosixPath(name if name not in ("", ".", "..") and "\0" not in name else "input")
    stem, suffix = _cut(plain.stem, _STEM), _cut(plain.suffix or item.extension, _SUFFIX)
    target, number = Path(item.workdir, stem + suffix), 0
    while os.path.lexists(target):
        number += 1
        target = target.with_name(f"{stem}_{number}{suffix}")
    if linked:
        target.symlink_to(path)
    else:
        shutil.copyfile(path, target)
    return target


def _cut(text: str, length: int) -> str:
    return text.encode(errors="replace")[:length].decode(errors="ignore")
