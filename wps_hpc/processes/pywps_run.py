"""One run of a ``pywps.Process``: the handler called with a real PyWPS request and response.

Nothing here opens PyWPS's database, renders a document or writes a status file: progress goes to the launcher, outputs
to the job's outputs folder. PyWPS has one configuration for the whole process, and so has a job: ``configure`` sets it
for this run.

Node half: Python 3.9, standard library and pywps 4.5 or newer.
"""

from __future__ import annotations

import configparser
import os
import sys
import threading
import traceback
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pywps.configuration
from pywps.app.exceptions import ProcessError as PywpsProcessError
from pywps.app.Service import Service
from pywps.exceptions import NoApplicableCode
from pywps.inout.basic import BasicComplex
from pywps.response.execute import ExecuteResponse
from pywps.response.status import WPS_STATUS

from joblauncher.formats.records import RequestRecord
from joblauncher.formats.values import Value
from wps_hpc.processes.pywps_inputs import FULL, format_of, parsed_request
from wps_hpc.processes.pywps_outputs import output_values
from wps_hpc.processes.run import Job, OutputError, ProcessError, RunFolders

#: Section -> option -> value of PyWPS's configuration, as it was on the server.
Configuration = Mapping[str, Mapping[str, str]]

#: PyWPS builds its one configuration in place: who looks at it must not see half of one. The web side and the worker
#: may be threads of one process.
LOADING = threading.RLock()
#: What a client is told of an exception that was not meant for it (PyWPS's own words).
NOT_TOLD = "Process failed, please check server error log"


def run(process: Any, request: RequestRecord, job: Job, folders: RunFolders) -> Mapping[str, tuple[Value, ...]]:
    """Run the handler once; see Runnable for what this gives and raises."""
    _settle(process, job)
    asked = parsed_request(process, request, folders.job)
    _choose_formats(process, request)
    if hasattr(process, "_set_grass"):
        process._set_grass(asked)
    response = _Response(asked, process, job)
    response._update_status(WPS_STATUS.STARTED, "PyWPS Process started", 0)
    _handle(process, asked, response)
    if response.status == WPS_STATUS.FAILED:
        raise ProcessError(str(response.message))
    wanted = {item.identifier for item in request.outputs}
    made = [output for output in response.outputs.values() if not wanted or output.identifier in wanted]
    return output_values(made, job, folders, request)


def _settle(process: Any, job: Job) -> None:
    """What PyWPS does to its copy of a process before an Execute."""
    try:
        process._set_uuid(uuid.UUID(job.id))
    except ValueError:
        process._set_uuid(job.id)
    process.set_workdir(str(job.workdir))
    process.async_ = True
    process.service = None
    if pywps.configuration.get_config_value("server", "sethomedir") is True:
        os.environ["HOME"] = str(job.workdir)
    Service._set_grass(None)


# --- configuration ---------------------------------------------------------------------------------------------------


def snapshot() -> Configuration:
    """PyWPS's configuration as it is now (its files are looked for if nobody did), without the environment and what a
    run replaces: the password of a database has no business in a payload."""
    with LOADING:
        if not pywps.configuration.CONFIG:
            pywps.configuration.load_configuration()
        config = pywps.configuration.CONFIG
    return {
        section: {
            option: _value(config, section, option)
            for option in _own(config, section)
            if option not in _REPLACED.get(section, ())
        }
        for section in config
        if section != config.default_section
    }


def _own(config: Any, section: str) -> list[str]:
    # The environment is among the defaults, and every section shows it.
    return list(config._sections[section])


def _value(config: configparser.ConfigParser, section: str, option: str) -> str:
    try:
        return config.get(section, option)
    except configparser.Error:
        # A log format is full of what looks like interpolation.
        return config.get(section, option, raw=True)


def _own_options(workdir: Path, outputs: Path, outputs_url: str) -> Configuration:
    return {
        "server": {
            "workdir": str(workdir),
            "outputpath": str(outputs),
            "outputurl": outputs_url or outputs.as_uri(),
            "storagetype": "file",
            "storage_copy_function": "link",
            "cleantempdir": "false",
        },
        "processing": {"mode": "default"},
        "logging": {"file": "", "database": "sqlite:///:memory:"},
    }


#: Section -> options that ``configure`` sets for each run.
_REPLACED = {section: frozenset(options) for section, options in _own_options(Path(), Path("/"), "").items()}


def configure(given: Configuration, workdir: Path, outputs: Path, outputs_url: str) -> None:
    """Give this process the server's configuration, with this run's folders and addresses in it.

    Called once everything is loaded: a module that makes a ``Service`` when it is imported replaces it.
    """
    own = _own_options(workdir, outputs, outputs_url)
    config = configparser.ConfigParser(os.environ, interpolation=None)
    for source in (given, own):
        for section, options in source.items():
            if not config.has_section(section):
                config.add_section(section)
            for option, value in options.items():
                config.set(section, option, value)
    pywps.configuration.CONFIG = config


# --- the handler -----------------------------------------------------------------------------------------------------


def _choose_formats(process: Any, request: RequestRecord) -> None:
    """As ``Process.setup_outputs_from_wps_request``, for formats that the server has checked."""
    wanted = {item.identifier: item for item in request.outputs}
    for output in process.outputs:
        item = wanted.get(output.identifier)
        if item is None:
            continue
        output.as_reference = bool(item.by_reference)
        if isinstance(output, BasicComplex) and item.mime_type:
            output.data_format = format_of(output, item)


class _Response(ExecuteResponse):  # type: ignore[misc]
    """PyWPS's response, whose status goes to the launcher instead of PyWPS's database and files."""

    def __init__(self, request: Any, process: Any, job: Job) -> None:
        super().__init__(request, process.uuid, process=process)
        self._job = job

    def _update_status(self, status: int, message: str, status_percentage: Any, clean: bool = True) -> None:
        self.status, self.message, self.status_percentage = status, message, status_percentage
        if status not in (WPS_STATUS.SUCCEEDED, WPS_STATUS.FAILED):
            self._job.progress(float(status_percentage or 0), str(message))


def _handle(process: Any, request: Any, response: Any) -> None:
    """Call the handler; what it raises becomes what PyWPS tells the client."""
    try:
        process.handler(request, response)
    except (ProcessError, OutputError, MemoryError):
        raise
    except PywpsProcessError as error:
        raise ProcessError(f"Process error: {error}") from error
    except NoApplicableCode as error:
        # PyWPS loses code and locator here; they are the author's word to the client (OGC 05-007r7 table 62).
        _print(error)
        raise ProcessError(str(error.description), error.name, error.locator or None) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        _print(error)
        raise ProcessError(_told(error)) from error


def _print(error: BaseException) -> None:
    traceback.print_exception(type(error), error, error.__traceback__)
    sys.stderr.flush()


def _told(error: Exception) -> str:
    """PyWPS tells where it happened when it logs at DEBUG, which is its default, and else nothing."""
    if pywps.configuration.get_config_value("logging", "level") != "DEBUG":
        return NOT_TOLD
    frames = traceback.extract_tb(error.__traceback__)[1:]
    frame = next((frame for frame in frames if frame.name == "_handler"), frames[0] if frames else None)
    if frame is None:
        return f"Process error: {error}"
    name = Path(frame.filename).name
    return f"Process error: method={name}.{frame.name}, line={frame.lineno}, msg={error}"
