"""One command by a login node's shell: what is sent when, and how the streams are read, however they are cut."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services import require
from wps_hpc.clusters.transports.base import Command, NoSuchProgram, TransportError
from wps_hpc.clusters.transports.remote import Exchange


def words(exchange: Exchange) -> tuple[bytes, bytes]:
    """The words that begin and end it."""
    found = re.search(r"(wps-hpc-begin-\w+) (wps-hpc-end-\w+)", exchange.line)
    assert found is not None
    return found[1].encode(), found[2].encode()


@given(
    noise=st.binary(max_size=40),
    out=st.binary(max_size=60),
    err=st.binary(max_size=60),
    code=st.integers(0, 128) | st.integers(144, 255),
    step=st.integers(1, 70),
)
def test_streams_are_read_whatever_pieces_they_come_in(
    noise: bytes, out: bytes, err: bytes, code: int, step: int
) -> None:
    exchange = Exchange(Command(("x",)), 10)
    begin, end = words(exchange)
    streams = (
        (noise + begin + b" yes\n" + out + b"\n" + end + b" %d\n" % code, exchange.took_out),
        (noise + begin + b"\n" + err + b"\n" + end + b" %d\n" % code, exchange.took_err),
    )
    for stream, took in streams:
        assert not exchange.done
        for start in range(0, len(stream), step):
            took(stream[start : start + step])
    assert exchange.done
    assert (exchange.output.exit_code, exchange.output.stdout, exchange.output.stderr) == (code, out, err)


def test_nothing_is_sent_before_it_has_begun() -> None:
    exchange = Exchange(Command(("x",), b"input"), 10)
    begin, _ = words(exchange)
    exchange.took_out(b"Welcome\n")
    assert not exchange.begun and len(exchange.unsent) == 0 and not exchange.all_sent
    exchange.took_out(begin + b" yes\n")
    assert not exchange.begun and "standard error" in exchange.silence
    exchange.took_err(begin + b"\n")
    assert exchange.begun and bytes(exchange.unsent) == begin + b" 11\ninput" and not exchange.may_have_run
    exchange.sending()
    exchange.sent(len(exchange.unsent))
    assert exchange.may_have_run and exchange.all_sent
    assert exchange.noise == "Welcome"


def test_a_program_that_is_missing_was_not_run() -> None:
    exchange = Exchange(Command(("x",)), 10)
    begin, _ = words(exchange)
    with pytest.raises(NoSuchProgram, match="command_environment"):
        exchange.took_out(begin + b" no\n")
    assert not exchange.may_have_run


def test_what_no_shell_can_be_told_is_refused() -> None:
    with pytest.raises(TransportError) as raised:
        Exchange(Command(("nul\0byte",)), 10)
    assert not raised.value.may_have_run


def ran(line: str, given: bytes) -> "subprocess.CompletedProcess[bytes]":
    """What a shell makes of it."""
    return subprocess.run(["sh", "-c", line], input=given, capture_output=True, timeout=60, check=False)


#: What no shell may read anything into. A line break is for all but csh's kin.
WORDS = (
    "a b",
    "$HOME",
    "`id`",
    "",
    "it's",
    '"',
    "\\",
    "\\\\'!",
    "!x",
    "*",
    "~",
    "-n",
    "c;id",
    "ü",
    "=ls",
    "%1",
    "%self",
)
WORDS += ("{a,b}", "^x", "#c", "a=~/x", "@x", "[a]", "?", "(x)", "<y", "x" * 40_000, *(f"job-{n}" for n in range(2000)))


@pytest.mark.parametrize("login_shell", [False, True])
@pytest.mark.parametrize("name", ["sh", "bash", "dash", "ksh", "zsh", "tcsh", "fish"])
def test_words_arrive_as_they_are_whatever_the_accounts_shell(name: str, login_shell: bool, tmp_path: Path) -> None:
    shell = shutil.which(name)
    require(name, shell, "make services")
    assert shell is not None
    exchange = Exchange(Command(("printf", "%s|", *WORDS)), 10, login_shell)
    begin, _ = words(exchange)
    environment = {**os.environ, "SHELL": shell, "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", exchange.line], input=begin + b" 60\n", capture_output=True, env=environment, check=False
    )
    exchange.took_out(done.stdout)
    exchange.took_err(done.stderr)
    assert exchange.done, done
    assert exchange.output.stdout.decode() == "".join(f"{word}|" for word in WORDS)


@pytest.mark.parametrize(("name", "file"), [("bash", ".bash_profile"), ("tcsh", ".login"), ("zsh", ".zprofile")])
def test_a_login_shell_reads_its_profile(name: str, file: str, tmp_path: Path) -> None:
    shell = shutil.which(name)
    require(name, shell, "make services")
    assert shell is not None
    (tmp_path / file).write_text("echo the profile\n")
    exchange = Exchange(Command(("true",)), 10, login_shell=True)
    begin, _ = words(exchange)
    environment = {**os.environ, "SHELL": shell, "HOME": str(tmp_path)}
    done = subprocess.run(
        [shell, "-c", exchange.line], input=begin + b" 60\n", capture_output=True, env=environment, check=False
    )
    exchange.took_out(done.stdout)
    assert "the profile" in exchange.noise


def test_without_the_word_nothing_runs() -> None:
    """As when the connection is lost before: standard input just ends."""
    done = ran(Exchange(Command(("echo", "ran")), 10).line, b"another word\n")
    assert b"ran" not in done.stdout and done.returncode != 0


def test_the_command_is_ended_there_when_nobody_waits_any_more() -> None:
    """And it is not told how: what became of it before is not known."""
    exchange = Exchange(Command(("sleep", "1000")), 10)
    begin, end = words(exchange)
    done = ran(exchange.line, begin + b" 1\n")
    assert end not in done.stdout + done.stderr and done.returncode != 0


def test_a_death_by_the_signal_of_the_deadline_before_it_is_told() -> None:
    exchange = Exchange(Command(("sh", "-c", "kill -KILL $$")), 10)
    begin, end = words(exchange)
    assert end + b" 137\n" in ran(exchange.line, begin + b" 60\n").stdout


def test_a_word_that_comes_too_late_runs_nothing() -> None:
    """As when a login node was frozen, or a line mute, for so long that its submission was given to somebody else."""
    exchange = Exchange(Command(("echo", "ran")), 10)
    begin, _ = words(exchange)
    with subprocess.Popen(["sh", "-c", exchange.line], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None and shell.stdout is not None
        assert shell.stdout.readline() == begin + b" yes\n"
        begun = time.monotonic()
        while time.monotonic() < begun + 2.1:  # the shell's clock has whole seconds
            time.sleep(0.1)
        said, _ = shell.communicate(begin + b" 2\n", timeout=60)
    assert b"ran" not in said and shell.returncode != 0


def test_the_word_is_good_for_the_time_that_is_left_when_it_is_sent() -> None:
    exchange = Exchange(Command(("x",)), -5)
    begin, _ = words(exchange)
    exchange.took_out(begin + b" yes\n")
    exchange.took_err(begin + b"\n")
    assert bytes(exchange.unsent) == begin + b" 0\n"


@pytest.mark.parametrize("begun", [False, True])
def test_a_stream_without_an_end_is_given_up(begun: bool) -> None:
    """Also when it comes in small pieces, each of which costs the same."""
    exchange = Exchange(Command(("x",)), 10)
    begin, _ = words(exchange)
    exchange.took_out(begin + b" yes\n" if begun else b"")
    exchange.sending() if begun else None
    with pytest.raises(TransportError, match="does not stop printing") as raised:
        for _ in range(2000):
            exchange.took_out(bytes(1 << 16))
    assert raised.value.may_have_run == begun
    with pytest.raises(TransportError, match="does not stop printing"):
        for _ in range(2000):
            exchange.took_err(bytes(1 << 16))


def test_an_exit_code_that_is_none_is_no_end() -> None:
    exchange = Exchange(Command(("x",)), 10)
    begin, end = words(exchange)
    exchange.took_out(begin + b" yes\n\n" + end + b" " + b"9" * 5000 + b"\n")
    assert not exchange.done


@pytest.mark.parametrize(
    ("code", "told"), [(0, 0), (128, 128), (129, -1), (143, -15), (144, 144), (153, 153), (255, 255)]
)
def test_a_death_by_a_signal_is_told_apart_from_the_exit_codes_that_commands_have(code: int, told: int) -> None:
    exchange = Exchange(Command(("x",)), 10)
    begin, end = words(exchange)
    exchange.took_out(begin + b" yes\n\n" + end + b" %d\n" % code)
    exchange.took_err(begin + b"\n\n" + end + b" %d\n" % code)
    assert exchange.output.exit_code == told
