"""Commands and files of a batch system that is installed on this very host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

from wps_hpc.clusters.environment import clean_environment
from wps_hpc.clusters.transports.base import Command, NoSuchProgram, TransportError
from wps_hpc.clusters.transports.files import CommandFiles
from wps_hpc.clusters.transports.remote import Output

#: After its command was killed, what holds on to the streams gets so long. Seconds.
_DRAIN_SECONDS = 1.0


class LocalTransport(CommandFiles):
    """Runs commands as child processes: no shell, an explicit environment, the given standard input."""

    def output(self, command: Command, timeout: float) -> Output:
        """Run ``command``; at the deadline its whole process group is killed. See ``Transport.run``."""
        try:
            process = subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment(dict(command.env)),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise NoSuchProgram(f"{command.argv[0]} did not start: {error}") from error
        except (OSError, ValueError) as error:
            raise TransportError(f"{command.argv[0]} did not start: {error}", may_have_run=False) from error
        with process:
            try:
                out, err = process.communicate(command.stdin, timeout)
            except subprocess.TimeoutExpired as error:
                _kill_group(process)
                text = f"{command.argv[0]} had not ended after {timeout:g} s"
                raise TransportError(text, may_have_run=True) from error
        return Output(process.returncode, out, err)

    def put(self, source: Path, target: str) -> None:
        """Copy a file, whole or not at all; raises TransportError."""
        copy_whole(source, Path(target))

    def get(self, source: str, target: Path) -> None:
        """Copy a file, whole or not at all; raises TransportError."""
        copy_whole(Path(source), target)

    def close(self) -> None:
        """Nothing is kept open."""


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file by way of a temporary name; on a failure ``target`` stays as it was, and TransportError is raised."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with source.open("rb") as reader, draft.open("xb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise TransportError(f"{source} could not be copied to {target}: {error}", may_have_run=False) from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    # What left the group may keep the streams open for ever: it is not waited for.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_DRAIN_SECONDS)
