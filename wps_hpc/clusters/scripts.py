"""Batch scripts: one Jinja2 template for each scheduler, which a site may replace by its own.

A template can print numbers and what its filters have quoted; anything else is an error, so that no text ever reaches a
shell as it is. Filters: ``quote`` (one word), ``argv`` (a command line), and what stands in a directive: ``option``
(#SBATCH) or ``flag`` (#PBS and #$).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template, TemplateError

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import EXIT_CLAIMED, SCHEMA
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.config import ConfigError

#: What can stand in a directive: Slurm drops backslashes even within quotes, and a line ends where it ends.
_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*")
_FLAG_NAME = re.compile(r"[A-Za-z][A-Za-z_]{0,15}")
#: Neither PBS nor Grid Engine takes quotes off; a parallel environment has a number behind it.
_FLAG_VALUE = re.compile(r"[!-~]*(?: [0-9]+)?")
_NOT_IN_OPTIONS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TEMPLATES = "wps_hpc.batch_templates"


class ScriptError(Exception):
    """A template cannot be rendered; the text says where and why."""


class _Quoted(str):
    """Text that is safe in a shell script."""


def load_template(scheduler: str, own: Path | None = None) -> Template:
    """The site's ``own`` template, or the one that comes with ``scheduler``; raises ConfigError."""
    name = str(own or f"batch_templates/{scheduler}.sh.j2")
    try:
        text = own.read_text() if own else (resources.files(_TEMPLATES) / f"{scheduler}.sh.j2").read_text()
        return _ENVIRONMENT.from_string(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"batch template {name}: {error}") from error
    except TemplateError as error:
        raise ConfigError(f"batch template {name}: {type(error).__name__}: {error}") from error


def render_script(
    template: Template,
    order: JobOrder,
    environment: Mapping[str, str],
    directives: Mapping[str, str] | None = None,
    withheld: Sequence[str] = (),
) -> str:
    """The batch script of an order; raises ScriptError.

    A template sees ``order``, ``directives`` (the scheduler's options), ``environment`` (the cluster's variables),
    ``withheld`` (variables that only the scheduler's commands may have, of which a job may get theirs), ``attempts``
    (the folder of attempts), ``exit_name`` (the exit file within an attempt), ``exit_claimed`` (the exit code after
    which there is nothing to note) and ``schema`` (the exit file's).
    """
    folder = JobFolder(Path(order.folder))
    try:
        return template.render(
            order=order,
            directives=directives or {},
            environment=environment,
            withheld=withheld,
            attempts=str(folder.attempts),
            exit_name=folder.attempt(1).exit.name,
            exit_claimed=EXIT_CLAIMED,
            schema=SCHEMA,
        )
    except TemplateError as error:
        raise ScriptError(f"batch template: {type(error).__name__}: {error}") from error


def _quote(value: object) -> _Quoted:
    return _Quoted(shlex.quote(str(value)))


def _argv(words: Iterable[str]) -> _Quoted:
    return _Quoted(shlex.join(words))


def _option(name: str, value: str) -> _Quoted:
    """``--name=value`` as a batch system reads it; the filter's subject is the name."""
    if not _OPTION_NAME.fullmatch(name) or _NOT_IN_OPTIONS.search(value):
        raise TemplateError(f"no directive can say --{name}={value!r}")
    return _Quoted(f"--{name}={shlex.quote(value)}" if value else f"--{name}")


def _flag(name: str, value: str) -> _Quoted:
    """``-name value`` as a batch system reads it; the filter's subject is the name."""
    if not _FLAG_NAME.fullmatch(name) or not _FLAG_VALUE.fullmatch(value) or set(value) & set("\"'#\\`"):
        raise TemplateError(f"no directive can say -{name} {value!r}")
    return _Quoted(f"-{name} {value}".rstrip())


def _printable(value: object) -> object:
    if isinstance(value, (_Quoted, int, float)):
        return value
    raise TemplateError(f"{value!r:.80} is printed without the filter quote or argv")


def _environment() -> Environment:
    made = Environment(
        undefined=StrictUndefined, finalize=_printable, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(quote=_quote, argv=_argv, option=_option, flag=_flag)
    return made


_ENVIRONMENT = _environment()
