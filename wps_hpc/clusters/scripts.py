"""Batch scripts: one Jinja2 template for each scheduler, which a site may replace by its own.

A template can print numbers and what its filters have quoted; anything else is an error, so that no text ever reaches a
shell as it is. Filters: ``quote`` (one word) and ``argv`` (a command line).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template, TemplateError

from joblauncher.formats.folder import JobFolder
from joblauncher.formats.records import EXIT_CLAIMED, SCHEMA
from wps_hpc.clusters.schedulers.base import JobOrder
from wps_hpc.config import ConfigError

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


def render_script(template: Template, order: JobOrder, environment: Mapping[str, str]) -> str:
    """The batch script of an order; raises ScriptError.

    A template sees ``order``, ``environment`` (the cluster's variables), ``attempts`` (the folder of attempts),
    ``exit_name`` (the exit file within an attempt), ``exit_claimed`` (the exit code after which there is nothing to
    note) and ``schema`` (the exit file's).
    """
    folder = JobFolder(Path(order.folder))
    try:
        return template.render(
            order=order,
            environment=environment,
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


def _printable(value: object) -> object:
    if isinstance(value, (_Quoted, int, float)):
        return value
    raise TemplateError(f"{value!r:.80} is printed without the filter quote or argv")


def _environment() -> Environment:
    made = Environment(
        undefined=StrictUndefined, finalize=_printable, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(quote=_quote, argv=_argv)
    return made


_ENVIRONMENT = _environment()
