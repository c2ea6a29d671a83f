"""Every command of the README and of the guides runs as it stands, in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.schemas import ROOT
from tests.services import require
from tests.services.postgres import free_port

DEFAULT_PORT = "8095"
#: `curl` need not be installed where the tests run; the server may take a moment until it answers.
PREAMBLE = """
set -euxo pipefail
wps-hpc() { "$PYTHON" -m wps_hpc.cli "$@"; }
python3() { "$PYTHON" "$@"; }
curl() {
  "$PYTHON" -c 'import httpx, sys; a = httpx.get(sys.argv[-1]); print(a.text); sys.exit(a.is_error)' "$@"
}
answers() {
  for _ in $(seq 300); do
    if curl "http://127.0.0.1:$PORT/health" 2>&1 | grep -q '"round_age_seconds"'; then return; fi
    sleep 0.1
  done
  return 1
}
"""


def blocks(document: str, kind: str) -> list[str]:
    """The fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


def script(document: str, port: int) -> str:
    """All commands of a document as one script, on a port that is free."""
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    assert len(commands) == len(lines), "a console block holds commands and nothing else"
    text = "\n".join(commands).replace(DEFAULT_PORT, str(port))
    text = text.replace("wps-hpc init", f"wps-hpc init --set server.port={port}")
    return PREAMBLE + text.replace("wps-hpc serve &", "wps-hpc serve &\nanswers") + "\n"


def end(folder: Path) -> None:
    """End every process that a script left behind in its folder."""
    left = [process for process in psutil.process_iter() if _works_in(process, folder)]
    for process in left:
        process.terminate()
    for process in psutil.wait_procs(left, timeout=20)[1]:
        process.kill()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder) in (process.cwd(), *process.cmdline()) or any(
            str(folder) in argument for argument in process.cmdline()
        )
    except psutil.Error:
        return False


#: Document -> where its blocks go before its commands run: the first one of each kind.
DOCUMENTS = {
    "README.md": {"python": "processes/hello.py"},
    "docs/operators-guide.md": {"python": "processes/hello.py"},
    "docs/from-pywps.md": {"python": "centre.py", "ini": "pywps.cfg"},
}

#: Document -> the programs that its commands use.
PROGRAMS = {"docs/operators-guide.md": ("apptainer", "gdal_contour")}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_run_as_they_stand(document: str, tmp_path: Path) -> None:
    """What needs a system of somebody else's, such as a login node, is no console block."""
    for program in PROGRAMS.get(document, ()):
        require(program, shutil.which(program), "install Debian's packages for it (make services)")
    port = free_port()
    (tmp_path / "processes").mkdir()
    for kind, name in DOCUMENTS[document].items():
        (tmp_path / name).write_text(blocks(document, kind)[0].replace(DEFAULT_PORT, str(port)))
    environment = {**os.environ, "PYTHON": sys.executable, "PORT": str(port), "PYTHONPATH": str(ROOT)}
    environment.pop("WPS_HPC_CONFIG", None)
    commands = script(document, port).replace("mkdir processes", "mkdir -p processes")
    with (tmp_path / "said").open("w+") as said:
        try:
            done = subprocess.run(
                ["bash", "-c", commands], cwd=tmp_path, env=environment, stdout=said, stderr=said, timeout=180
            )
        finally:
            end(tmp_path)
        said.seek(0)
        text = said.read()
    assert done.returncode == 0, text
    assert "Hello Ada" in text
