"""``wps-hpc``: what every command shares, and how errors are told.

Exit codes: 0 for success; 1 when what was asked for failed (a process, a check, an unreachable server or
database); 2 for wrong usage or configuration. An error is a sentence on standard error; ``--debug`` adds
where it came from.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from wps_hpc import logs
from wps_hpc.config import ConfigError, Settings, find_config, load_settings

#: Command to the module that has it, loaded when the command is used: ``init`` need not wait for lxml and SQLAlchemy.
COMMANDS = {
    "init": "wps_hpc.cli.init",
    "check": "wps_hpc.cli.check",
    "serve": "wps_hpc.cli.serving",
    "worker": "wps_hpc.cli.serving",
    "processes": "wps_hpc.cli.processes",
    "run": "wps_hpc.cli.run",
    "jobs": "wps_hpc.cli.jobs",
    "purge": "wps_hpc.cli.purge",
    "image": "wps_hpc.cli.image",
}

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Chosen:
    """What stands before the command: the configuration file (None: none was found), and ``--debug``."""

    config: Path | None
    debug: bool

    def settings(self) -> Settings:
        """The settings, with logging set up by them; raises ConfigError."""
        settings = load_settings(self.config)
        if self.debug:
            settings = settings.model_copy(update={"logging": settings.logging.model_copy(update={"level": "DEBUG"})})
        logs.configure(settings.logging)
        return settings

    def quiet_settings(self) -> Settings:
        """The settings for a command whose words go to a person:

        only warnings are logged, to standard error.
        """
        settings = load_settings(self.config)
        level = "DEBUG" if self.debug else "WARNING"
        logs.configure(settings.logging.model_copy(update={"level": level, "file": None}))
        return settings


class LazyGroup(click.Group):
    """Finds commands in ``COMMANDS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wps-hpc", prog_name="wps-hpc")
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file; default: $WPS_HPC_CONFIG, else ./wps-hpc.toml, else all defaults.",
)
@click.option("--debug", is_flag=True, help="Log everything, and show where an error came from.")
@click.pass_context
def group(context: click.Context, config: Path | None, debug: bool) -> None:
    """A WPS server whose Execute runs on the batch cluster that the site already has."""
    context.obj = Chosen(find_config(config), debug)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; the console script ``wps-hpc``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_code(given))


def _exit_code(arguments: list[str]) -> int:
    try:
        code = group.main(arguments, prog_name="wps-hpc", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        click.echo(f"wps-hpc: {_sentence(error)}", err=True)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    """What a person is told of an error; a defect of this program says so."""
    # Imported when something has gone wrong: they would double the time that a small command takes.
    from wps_hpc.client import ClientError, ServiceFailure
    from wps_hpc.jobs.store import StoreError

    if isinstance(error, ConfigError | ClientError | ServiceFailure | StoreError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"
