"""Files by commands: what a transport does with files when all that it can do is run a command.

No SFTP is spoken: a login file that prints something breaks that protocol, a site may have switched it off, and it can
neither list many folders at once nor hash a file there. The commands are those of every login node (sh, cat, tr, wc,
mv, mkdir, rm, xargs, base64, sha256sum, GNU find, and dd of coreutils 8.16 or newer). Names travel over standard input,
so there may be any number of them.
"""

from __future__ import annotations

import base64
import binascii
import os
import shlex
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from wps_hpc.clusters.transports.base import (
    PIECE_BYTES,
    PIECE_SECONDS,
    ChangeFeed,
    Command,
    Completed,
    Kind,
    Listed,
    NoSuchFile,
    Stopped,
    TransportError,
    Unreadable,
)
from wps_hpc.clusters.transports.remote import Output

#: So many files at most share one round trip: their names stand on a command line.
_TOGETHER = 50
_ABSENT = 44
_HASH_DIGITS = 64
_KINDS = {"f": Kind.FILE, "d": Kind.FOLDER}
#: In no language but the one that is read here.
_PLAIN = (("LC_ALL", "C"),)

_EACH = 'for p; do if [ -L "$p" ]; then echo -; elif [ -f "$p" ] && [ -r "$p" ]; then {}; else echo -; fi; done'
#: What was a file when it was looked at may be a FIFO or a link when it is opened: the one is not waited for, the other
#: not followed.
_OPEN_FILE = "dd bs=65536 iflag=nonblock,nofollow,fullblock{flags} status=none"
_SOME_OF_IT = _OPEN_FILE.format(flags=",skip_bytes,count_bytes")
_READ = _EACH.format(f'printf +; {_SOME_OF_IT} count={{most}} if="$p" | base64 | tr -d "\\n"; echo')
_HASH = _EACH.format(f'{_OPEN_FILE.format(flags="")} if="$p" | sha256sum')
_PRINT = '-printf "%H\\0%P\\0%y\\0%s\\0%T@\\0"'
_LIST = f'exec find "$@" -maxdepth {{depth}} {_PRINT}'
_LIST_ONLY = (
    f'find "$@" -maxdepth 0 {_PRINT}; top=$?; find "$@" -mindepth 1 -maxdepth {{depth}} '
    f"-regextype posix-extended -regex {{only}} {_PRINT} && exit $top"
)
_PART = (
    f'if [ -L "$1" ] || [ ! -f "$1" ] || [ ! -r "$1" ]; then exit {_ABSENT}; fi; '
    f'exec {_SOME_OF_IT} skip="$2" count="$3" if="$1"'
)
#: Each folder is opened before find goes into it.
_OPEN = 'exec find "$@" -maxdepth {depth} -type d ! -perm -u+rwx -exec chmod u+rwx {{}} ";"'
#: A job may leave folders that its own account cannot write to, or look into.
_REMOVE = (
    'rm -rf -- "$@" 2>/dev/null && exit; '
    'find "$@" -type d ! -perm -u+rwx -exec chmod u+rwx {} ";" 2>/dev/null; exec rm -rf -- "$@"'
)
#: Sizes, modes, drafts and targets; the contents follow each other on standard input, which may have been cut off.
_UNPACK = (
    'umask 077; while [ $# -gt 3 ]; do if [ "$1" -gt 0 ]; then dd bs="$1" count=1 iflag=fullblock status=none of="$3"; '
    'else : >"$3"; fi && [ "$(wc -c <"$3")" -eq "$1" ] && chmod "$2" "$3" && mv -fT -- "$3" "$4" || '
    '{ rm -f -- "$3"; exit 1; }; shift 4; done'
)
_APPEND = 'umask 077; exec cat >>"$1"'
_FINISH = 'chmod "$1" "$2" && mv -fT -- "$2" "$3"'


class CommandFiles(ABC):
    """What ``FileTransport`` promises, by commands that ``output`` runs."""

    @abstractmethod
    def output(self, command: Command, timeout: float) -> Output:
        """Run a command; see ``Transport.run``, but for the bytes."""

    def carried(self, command: Command, timeout: float) -> Output:
        """Run a command that takes as long as contents need; a transport may have it wait for others of its kind."""
        return self.output(command, timeout)

    @abstractmethod
    def close(self) -> None:
        """See ``Transport.close``."""

    def run(self, command: Command, timeout: float) -> Completed:
        """See ``Transport.run``."""
        return self.output(command, timeout).completed

    def changes(self, timeout: float) -> ChangeFeed | None:
        """None: a command line tells nothing by itself."""
        return None

    def put(self, source: Path, target: str) -> None:
        """See ``Transport.put``; a piece takes PIECE_SECONDS at most."""
        self.put_many({target: source}, PIECE_SECONDS)

    def get(self, source: str, target: Path) -> None:
        """See ``Transport.get``; a piece takes PIECE_SECONDS at most."""
        draft = target.with_name(_draft(target.name))
        try:
            with draft.open("xb") as writer:
                for piece in self._pieces(source):
                    writer.write(piece)
                writer.flush()
                os.fsync(writer.fileno())
            draft.replace(target)
        except OSError as error:
            raise TransportError(f"{source} could not be copied to {target}: {error}", may_have_run=False) from error
        finally:
            draft.unlink(missing_ok=True)

    def _pieces(self, source: str) -> Iterator[bytes]:
        offset = 0
        while piece := self.get_part(source, offset, PIECE_BYTES, PIECE_SECONDS):
            yield piece
            offset += len(piece)

    def make_folders(self, folders: Sequence[str], timeout: float) -> None:
        """See ``FileTransport.make_folders``."""
        self._for_each('umask 077; exec mkdir -p -- "$@"', folders, timeout)

    def put_many(self, files: Mapping[str, Path], timeout: float, stop: Callable[[], bool] = lambda: False) -> None:
        """See ``FileTransport.put_many``."""
        batch: dict[str, Path] = {}
        size = 0
        for target, source in files.items():
            _ask(stop)
            own = _size(source)
            if own > PIECE_BYTES:
                self._put_large(source, target, timeout, stop)
                continue
            if size + own > PIECE_BYTES or len(batch) == _TOGETHER:
                self._put_small(batch, timeout)
                batch, size = {}, 0
            batch[target] = source
            size += own
        if batch:
            self._put_small(batch, timeout)

    def _put_small(self, files: Mapping[str, Path], timeout: float) -> None:
        contents: list[bytes] = []
        words: list[str] = []
        for target, source in files.items():
            contents.append(_content(source))
            words += [str(len(contents[-1])), f"{_mode(source):o}", _draft_beside(target), target]
        command = Command(("sh", "-c", _UNPACK, "sh", *words), b"".join(contents), _PLAIN)
        self._done(command, timeout, f"put {', '.join(files)}")

    def _put_large(self, source: Path, target: str, timeout: float, stop: Callable[[], bool]) -> None:
        draft = _draft_beside(target)
        try:
            with source.open("rb") as reader:
                mode = f"{_mode(source):o}"
                while piece := reader.read(PIECE_BYTES):
                    _ask(stop)
                    self._done(Command(("sh", "-c", _APPEND, "sh", draft), piece, _PLAIN), timeout, f"put {target}")
            self._done(Command(("sh", "-c", _FINISH, "sh", mode, draft, target), b"", _PLAIN), timeout, f"put {target}")
        except OSError as error:
            raise TransportError(f"{source}: {error.strerror}", may_have_run=False) from error
        except (TransportError, Stopped):
            self._let_go(draft, timeout)
            raise

    def _let_go(self, draft: str, timeout: float) -> None:
        try:
            self.remove_trees([draft], timeout)
        except TransportError:
            return  # of an operation that has failed already; what is left is told by its name

    def list_folders(
        self, folders: Sequence[str], timeout: float, depth: int = 1, only: str | None = None
    ) -> Mapping[str, tuple[Listed, ...]]:
        """See ``FileTransport.list_folders``."""
        if not folders:
            return {}
        script = _LIST if only is None else _LIST_ONLY
        output = self._output(script.format(depth=int(depth), only=shlex.quote(f".*/{only}")), folders, timeout)
        complaints = [line for line in output.stderr.splitlines() if not line.endswith(b"No such file or directory")]
        if complaints or (output.exit_code != 0 and not output.stderr):
            raise Unreadable(str(_failed("list folders", output)))
        return _listed(output.stdout, folders)

    def open_folders(self, folders: Sequence[str], timeout: float, depth: int = 1) -> None:
        """See ``FileTransport.open_folders``."""
        if folders:
            self._output(_OPEN.format(depth=int(depth) - 1), folders, timeout)

    def read_many(self, files: Sequence[str], most: int, timeout: float) -> Mapping[str, bytes]:
        """See ``FileTransport.read_many``."""
        if not files:
            return {}
        output = _checked("read files", self._output(_READ.format(most=int(most)), files, timeout))
        if output.stderr and len(files) > 1:
            half = len(files) // 2
            first, second = (self.read_many(part, most, timeout) for part in (files[:half], files[half:]))
            return {**first, **second}
        # What cannot be read, or not to its end, looks like a shorter file; its reader has complained.
        return {} if output.stderr else _decoded(files, output.stdout.splitlines(), most)

    def get_part(self, source: str, offset: int, most: int, timeout: float) -> bytes:
        """See ``FileTransport.get_part``."""
        command = Command(("sh", "-c", _PART, "sh", source, str(offset), str(most)), b"", _PLAIN)
        output = self.carried(command, timeout)
        if output.exit_code == _ABSENT:
            raise NoSuchFile(f"{source} is not there, is no regular file, or cannot be read")
        part = _checked(f"get {source}", output).stdout
        if len(part) > most:
            raise TransportError(f"get {source}: {len(part)} bytes came, {most} were wanted", may_have_run=False)
        return part

    def checksums(self, files: Sequence[str], timeout: float) -> Mapping[str, str]:
        """See ``FileTransport.checksums``."""
        if not files:
            return {}
        output = self.carried(_for_paths(_HASH, files), timeout)
        lines = _checked("work out checksums", output).stdout.splitlines()
        return {file: line[:_HASH_DIGITS].decode(errors="replace") for file, line in _paired(files, lines)}

    def remove_trees(self, paths: Sequence[str], timeout: float) -> None:
        """See ``FileTransport.remove_trees``."""
        self._for_each(_REMOVE, paths, timeout)

    def _for_each(self, script: str, paths: Sequence[str], timeout: float) -> bytes:
        """What a script prints that has all of these paths as its arguments, in as many runs as it takes."""
        return _checked(script, self._output(script, paths, timeout)).stdout if paths else b""

    def _output(self, script: str, paths: Sequence[str], timeout: float) -> Output:
        return self.output(_for_paths(script, paths), timeout)

    def _done(self, command: Command, timeout: float, what: str) -> None:
        _checked(what, self.carried(command, timeout))


def _ask(stop: Callable[[], bool]) -> None:
    if stop():
        raise Stopped


def _for_paths(script: str, paths: Sequence[str]) -> Command:
    given = b"\0".join(os.fsencode(path) for path in paths)
    return Command(("xargs", "-0", "sh", "-c", script, "sh"), given, _PLAIN)


def _decoded(files: Sequence[str], lines: Sequence[bytes], most: int) -> Mapping[str, bytes]:
    try:
        found = {file: base64.b64decode(line[1:], validate=True) for file, line in _paired(files, lines)}
    except binascii.Error as error:
        raise TransportError(f"read files: {error}", may_have_run=False) from error
    if any(len(content) > most for content in found.values()):
        raise TransportError(f"read files: more than {most} bytes came of one", may_have_run=False)
    return found


def _paired(files: Sequence[str], lines: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """Each file with its line, without those that are not there."""
    if len(lines) != len(files):
        raise TransportError(f"{len(lines)} answers on {len(files)} files", may_have_run=False)
    return ((file, line) for file, line in zip(files, lines, strict=True) if line != b"-")


def _listed(stdout: bytes, folders: Sequence[str]) -> Mapping[str, tuple[Listed, ...]]:
    fields = [os.fsdecode(part) for part in stdout.split(b"\0")[:-1]]
    found: dict[str, list[Listed]] = {}
    try:
        for folder, path, kind, size, modified in zip(*[iter(fields)] * 5, strict=True):
            entries = found.setdefault(folder, [])
            if path:
                entries.append(Listed(path, _KINDS.get(kind, Kind.OTHER), int(size), float(modified)))
            elif kind != "d":
                del found[folder]
    except ValueError as error:
        raise TransportError(f"an unreadable listing: {error}", may_have_run=False) from error
    return {folder: tuple(found[folder]) for folder in folders if folder in found}


def _content(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise TransportError(f"{source}: {error.strerror}", may_have_run=False) from error


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise TransportError(f"{source}: {error.strerror}", may_have_run=False) from error


def _mode(source: Path) -> int:
    return 0o700 if source.stat().st_mode & 0o100 else 0o600


def _draft(name: str) -> str:
    return f".{name}.{uuid.uuid4().hex}.tmp"


def _draft_beside(target: str) -> str:
    path = PurePosixPath(target)
    return str(path.with_name(_draft(path.name)))


def _checked(what: str, output: Output) -> Output:
    if output.exit_code != 0:
        raise _failed(what, output)
    return output


def _failed(what: str, output: Output) -> TransportError:
    said = output.stderr.decode(errors="replace").strip() or f"exit code {output.exit_code}"
    return TransportError(f"{what}: {said[-500:]}", may_have_run=False)
