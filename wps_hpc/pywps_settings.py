"""A PyWPS configuration in our terms: what is carried over, and what an operator should know of the rest.

PyWPS itself is not needed for this. Values are read as PyWPS reads them: later files win, ``%(NAME)s`` and ``$NAME``
come from the environment.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wps_hpc.config import ConfigError, is_loopback, is_reserved, nested, parse_settings

#: What stands for «no limit», which PyWPS writes as -1.
UNLIMITED = 1_000_000
#: The cluster that a scheduler of PyWPS becomes.
CLUSTER = "hpc"


@dataclass
class Carried:
    """Options by their dotted names, and notes: a sentence for each thing that was not carried over as it was."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def carry(files: Sequence[Path]) -> Carried:
    """Everything that PyWPS configuration files say, in our options; raises ConfigError for a file that is none."""
    parser = _read(files)
    carried = Carried({"processes.pywps_config": [str(file.resolve()) for file in files]})
    for section in parser.sections():
        readers = _READERS.get(section)
        if readers is None:
            note = f"[{section}] stays in {files[-1].name}, where the processes read it"
            carried.notes.append(note)
            continue
        for option in _own(parser, section):
            _carry_option(carried, section, option, _value(parser, section, option), readers)
    _leave_out_misfits(carried)
    carried.notes.append(
        "a synchronous call, but no other, is dismissed after limits.sync_seconds; PyWPS has no such limit"
    )
    return carried


def _read(files: Sequence[Path]) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(os.environ, interpolation=_Environment())
    for file in files:
        try:
            parser.read_string(file.read_text(encoding="utf-8"), str(file))
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}") from error
        except (configparser.Error, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: not a PyWPS configuration: {error}") from error
    return parser


class _Environment(configparser.BasicInterpolation):
    """As PyWPS from 4.6: ``$NAME`` is expanded, too."""

    def before_get(self, parser: Any, section: str, option: str, value: str, defaults: Any) -> str:
        """The value with all variables in place."""
        return os.path.expandvars(super().before_get(parser, section, option, value, defaults))


def _own(parser: configparser.ConfigParser, section: str) -> list[str]:
    """The options that stand in the section; the environment shows through in every one."""
    sections: Mapping[str, Mapping[str, str]] = parser._sections  # type: ignore[attr-defined]
    return list(sections[section])


def _value(parser: configparser.ConfigParser, section: str, option: str) -> str:
    try:
        return parser.get(section, option).strip()
    except configparser.InterpolationError:
        # The format of log lines is full of percent signs.
        return parser.get(section, option, raw=True).strip()


#: Reads one option; says what it becomes by changing what is carried.
Reader = Callable[[Carried, str], None]


def _carry_option(carried: Carried, section: str, option: str, value: str, readers: Mapping[str, Reader]) -> None:
    reader = readers.get(option)
    if reader is None:
        carried.notes.append(f"[{section}] {option} is not an option of PyWPS that is known here")
    elif reader is not _silent and section in ("server", "logging") and (unset := _UNSET.search(value)):
        carried.notes.append(f"[{section}] {option} = {value} is not taken over: {unset[0]} is not set here")
    elif value:
        try:
            reader(carried, value)
        except ValueError as error:
            carried.notes.append(f"[{section}] {option} = {value} cannot be read ({error}); the default stays")


def _leave_out_misfits(carried: Carried) -> None:
    """Keep what our configuration can hold; one value that it refuses must not lose the others."""
    # What the others may need comes first.
    first = (f"clusters.{CLUSTER}.scheduler", "default_cluster")
    kept: dict[str, Any] = {}
    for key in sorted(carried.values, key=lambda key: first.index(key) if key in first else len(first)):
        value = carried.values[key]
        try:
            parse_settings(nested({**kept, key: value}), "it")
            kept[key] = value
        except ConfigError as error:
            carried.notes.append(f"{value!r} cannot be {key}: {error}")
    carried.values = kept


# --- how options become others ---------------------------------------------------------------------------------------


def _to(key: str, convert: Callable[[str], Any] = str) -> Reader:
    def read(carried: Carried, value: str) -> None:
        carried.values[key] = convert(value)

    return read


def _note(text: str, unless: Sequence[str] = ()) -> Reader:
    """Not carried over; said only where the value is another than PyWPS's own default."""

    def read(carried: Carried, value: str) -> None:
        if value.lower() not in unless:
            carried.notes.append(text.format(value=value))

    return read


def _silent(carried: Carried, value: str) -> None:
    """Carried by something else, or the same here anyway."""


def _absolute(path: str) -> str:
    """PyWPS takes relative paths from the current folder, our configuration from its own."""
    return str(Path(path).absolute())


def _words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def _count(key: str) -> Reader:
    def read(carried: Carried, value: str) -> None:
        number = int(value)
        carried.values[key] = UNLIMITED if number < 0 else number

    return read


#: A variable of the environment that was not there.
_UNSET = re.compile(r"\$(?:\{\w+\}|\w+)")
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)\s*(g|m|k|)b?")
_UNITS = {"g": 1 << 30, "m": 1 << 20, "k": 1 << 10, "": 1 << 20}


def _size(key: str) -> Reader:
    """Megabytes unless another unit is named; 0 is «no limit»."""

    def read(carried: Carried, value: str) -> None:
        found = _SIZE.fullmatch(value.lower())
        if found is None:
            raise ValueError("not a size")
        number = int(float(found[1]) * (1 if value.lower().endswith("b") and not found[2] else _UNITS[found[2]]))
        if number:
            carried.values[key] = number
        else:
            carried.notes.append(f"a size without a limit: {key} keeps its default")

    return read


def _url(carried: Carried, value: str) -> None:
    public = value.rstrip("/")
    parts = urlsplit(public)
    if parts.port and is_loopback(parts.hostname or ""):
        # Nobody stands before it; a proxy's port would be the proxy's own.
        carried.values["server.port"] = parts.port
    if parts.path.endswith("/wps"):
        carried.values["server.public_url"] = public.removesuffix("/wps")
        return
    carried.values["server.public_url"] = public
    carried.notes.append(f"clients find the service at {public}/wps, no longer at {value}")


def _folders(carried: Carried, value: str) -> None:
    folders = [_absolute(part.strip()) for part in value.split(os.pathsep) if part.strip()]
    carried.values["inputs.folders"] = folders
    carried.values["inputs.schemes"] = ["http", "https", "file"]
    if os.path.sep in folders:
        carried.notes.append(
            "allowedinputpaths = /: clients may have every file that the server can read, but those of the jobs; name "
            "the folders with data in inputs.folders"
        )


_LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARN": "WARNING", "WARNING": "WARNING", "ERROR": "ERROR"}


def _level(carried: Carried, value: str) -> None:
    carried.values["logging.level"] = _LEVELS.get(value.upper(), "ERROR")


def _database(carried: Carried, value: str) -> None:
    if ":memory:" not in value:
        carried.notes.append(
            f"[logging] database = {_without_password(value)}: PyWPS's log of requests is not taken over; jobs are "
            "recorded in a database of our own (database.url)"
        )


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//…@", url)


def _storage(carried: Carried, value: str) -> None:
    """Outputs and working directories lie in one folder here: beside PyWPS's outputs, which nodes see as well."""
    outputs = _absolute(value)
    carried.values["storage.root"] = f"{outputs}/wps-hpc"
    carried.notes.append(
        f"jobs with their working directories and outputs lie in {outputs}/wps-hpc (storage.root); clients get "
        "outputs from the server itself, at <public_url>/outputs/, so that no other web server need publish them"
    )


# --- modes and schedulers --------------------------------------------------------------------------------------------


def _mode(carried: Carried, value: str) -> None:
    mode = value.lower()
    if mode == "scheduler":
        carried.values["default_cluster"] = CLUSTER
        carried.values.setdefault(f"clusters.{CLUSTER}.scheduler", "slurm")
        carried.notes.append(
            "mode = scheduler: jobs go to Slurm by its own commands, without DRMAA; clusters.hpc.scheduler names others"
        )
    elif mode == "docker":
        carried.notes.append(
            "mode = docker: jobs are run as local processes; a container for each is to be had by a table "
            "clusters.local.container, with an image that need not have this server in it"
        )
    elif mode not in ("default", "multiprocessing"):
        raise ValueError("no such mode")


#: sbatch's option -> its long name.
_SHORT = {
    "-A": "account",
    "-C": "constraint",
    "-D": "chdir",
    "-G": "gpus",
    "-J": "job-name",
    "-L": "licenses",
    "-M": "clusters",
    "-N": "nodes",
    "-c": "cpus-per-task",
    "-d": "dependency",
    "-e": "error",
    "-n": "ntasks",
    "-o": "output",
    "-p": "partition",
    "-q": "qos",
    "-t": "time",
    "-w": "nodelist",
    "-x": "exclude",
}
#: Those without an argument.
_SHORT_FLAGS = {"-H": "hold", "-O": "overcommit", "-Q": "quiet", "-s": "oversubscribe", "-v": "verbose"}
#: What would keep every job of the site from running.
_NEVER = frozenset({"dependency", "hold"})
#: Long name -> the option of a cluster.
_SLURM = {
    "account": "account",
    "constraint": "constraint",
    "gres": "gres",
    "licenses": "licences",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
}
#: What belongs to a process here, not to all of them.
_OF_PROCESSES = {
    "cpus-per-task": "cores",
    "nodes": "nodes",
    "ntasks": "tasks",
}


def _native(carried: Carried, value: str) -> None:
    """DRMAA's native specification: options of sbatch, or of another scheduler's submit command."""
    words = list(_native_options(shlex.split(value)))
    if not all(name for name, _ in words):
        carried.notes.append(
            f"drmaa_native_specification = {value}: not options of sbatch; say them again as options of the cluster"
        )
        return
    for name, argument in words:
        try:
            _native_option(carried, str(name), argument)
        except ValueError as error:
            carried.notes.append(f"--{name}={argument} cannot be read ({error}); the default stays")


def _native_options(words: list[str]) -> Iterator[tuple[str | None, str]]:
    """Long name (None: not sbatch's) and argument of each option."""
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, argument = word[2:].partition("=")
            if not equals and words and not words[0].startswith("-"):
                argument = words.pop(0)
            yield name, argument
        elif word in _SHORT_FLAGS:
            yield _SHORT_FLAGS[word], ""
        elif word[:2] in _SHORT and (len(word) > 2 or words):
            yield _SHORT[word[:2]], word[2:].lstrip("=") or words.pop(0)
        else:
            yield None, word


def _native_option(carried: Carried, name: str, argument: str) -> None:
    if name in _SLURM:
        carried.values[f"clusters.{CLUSTER}.{_SLURM[name]}"] = argument
    elif name == "time":
        carried.values["limits.walltime_seconds"] = _seconds(argument)
    elif name == "mem":
        carried.values["limits.memory_mb"] = _megabytes(argument)
    elif name in _OF_PROCESSES:
        carried.notes.append(
            f"--{name}={argument}: what a job needs is said by its process ({_OF_PROCESSES[name]} of its Resources)"
        )
    elif name in _NEVER or is_reserved("slurm", name):
        carried.notes.append(f"--{name} is the server's own to set, and left out")
    else:
        carried.values.setdefault(f"clusters.{CLUSTER}.options", {})[name] = argument


def _seconds(text: str) -> int:
    """sbatch's time: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _megabytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]+)([KMGT]?)B?", text.upper())
    if found is None:
        raise ValueError("not an amount of memory")
    return max(1, int(int(found[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1 << 20}[found[2]]))


# --- the tables ------------------------------------------------------------------------------------------------------

_METADATA: Mapping[str, Reader] = {
    "identification_title": _to("metadata.title"),
    "identification_abstract": _to("metadata.abstract"),
    "identification_keywords": _to("metadata.keywords", _words),
    "identification_keywords_type": _note("the type of the keywords ({value}) is not said", ["theme"]),
    "identification_fees": _to("metadata.fees"),
    "identification_accessconstraints": _to("metadata.access_constraints"),
    "provider_name": _to("metadata.provider_name"),
    "provider_url": _to("metadata.provider_url"),
    "contact_name": _to("metadata.contact_name"),
    "contact_position": _to("metadata.contact_position"),
    "contact_address": _to("metadata.address"),
    "contact_city": _to("metadata.city"),
    "contact_stateorprovince": _to("metadata.region"),
    "contact_postalcode": _to("metadata.postal_code"),
    "contact_country": _to("metadata.country"),
    "contact_phone": _to("metadata.contact_phone"),
    "contact_fax": _note("the fax number {value} is left out (PyWPS never wrote it either)", ["+xx-xxx-xxx-xxxx"]),
    "contact_email": _to("metadata.contact_email"),
    "contact_url": _note("the contact's address {value} is left out", ["contact url"]),
    "contact_hours": _note("hours of service ({value}) are left out", ["hours of service"]),
    "contact_instructions": _note(
        "contact instructions ({value}) are left out", ["during hours of service.  off on weekends."]
    ),
    "contact_role": _note("the contact's role ({value}) is left out", ["pointofcontact"]),
}
_SERVER: Mapping[str, Reader] = {
    "url": _url,
    "language": _to("server.languages", _words),
    "encoding": _note("documents are written in UTF-8, not in {value}", ["utf-8", "utf8"]),
    "maxprocesses": _count("limits.queued"),
    "parallelprocesses": _count("limits.parallel"),
    "maxsingleinputsize": _size("limits.input_bytes"),
    "maxrequestsize": _size("limits.request_bytes"),
    "allowedinputpaths": _folders,
    "outputpath": _storage,
    "outputurl": _silent,
    "workdir": _silent,
    "temp_path": _silent,
    "processes_path": _note("processes_path = {value} has no effect; put it on the PYTHONPATH of server and nodes"),
    "sethomedir": _silent,
    "cleantempdir": _note(
        "working directories are always deleted, together with their jobs (storage.keep_days)", ["true"]
    ),
    "storagetype": _note("storagetype = {value}: outputs are kept in files and served from there", ["file"]),
    "storage_copy_function": _silent,
    "default_mimetype": _note("answers are XML, never {value} unasked for", ["text/xml"]),
    "json_indent": _silent,
    "detachprocessing": _silent,
}
_PROCESSING: Mapping[str, Reader] = {
    "mode": _mode,
    "path": _silent,
    "drmaa_native_specification": _native,
}
_LOGGING: Mapping[str, Reader] = {
    "level": _level,
    "file": _to("logging.file", _absolute),
    "database": _database,
    "prefix": _silent,
    "schema": _silent,
    "format": _note("lines of the log have a format of their own"),
}
_GRASS: Mapping[str, Reader] = {"gisbase": _silent}
_S3 = dict.fromkeys(
    ("bucket", "prefix", "public", "encrypt", "region"), _note("S3 ({value}): outputs are kept in files", ["false"])
)

_READERS: Mapping[str, Mapping[str, Reader]] = {
    "metadata:main": _METADATA,
    "server": _SERVER,
    "processing": _PROCESSING,
    "logging": _LOGGING,
    "grass": _GRASS,
    "s3": _S3,
}
