"""What goes into an image of the site's processes, and what cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from wps_hpc import images
from wps_hpc.config import Container, Processes
from wps_hpc.images import Contents, ImageError


def test_a_distribution_comes_with_what_it_requires_here() -> None:
    """SQLAlchemy has requirements, and extras that nobody asked for."""
    found = images.closure(["SQLAlchemy"])
    assert {"sqlalchemy", "typing-extensions"} <= set(found) and "psycopg2" not in found


def test_a_distribution_that_is_not_installed_is_named() -> None:
    with pytest.raises(ImageError, match="pip install no-such-distribution"):
        images.closure(["no-such-distribution"])


def test_the_examples_bring_what_they_import_only_while_they_run() -> None:
    contents = images.examples()
    assert {"numpy", "shapely", "rasterio", "netCDF4", "pyproj"} == set(contents.distributions)
    assert "wps_hpc.examples.buffer" in contents.processes.modules
    assert "wps_hpc.examples.demo" not in contents.processes.modules


def test_what_processes_import_when_they_are_loaded_is_found(tmp_path: Path) -> None:
    """But not the server itself, which no job needs."""
    source = "import lxml.etree\nfrom wps_hpc import process\n@process()\ndef p() -> str:\n    'P.'\n    return ''\n"
    (tmp_path / "one.py").write_text(source)
    found = images.distributions_of(images.loaded(Processes(folders=(tmp_path,))))
    assert "lxml" in found and "dill" in found
    assert not {"wps-hpc", "SQLAlchemy", "pydantic"} & set(found)


def test_a_process_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(ImageError, match=r"broken\.py.*no_such_module"):
        images.loaded(Processes(folders=(tmp_path,)))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no program no-such-program on this host"):
        images.Tree(tmp_path / "root").fill(Contents(Processes(), programs=("no-such-program",)))


def test_libraries_are_those_that_the_loader_finds() -> None:
    assert any(path.name.startswith("libc.") for path in images.libraries([Path("/bin/sh")]))


def test_a_runtime_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.Tree, "fill", lambda self, contents: self.folder.mkdir())
    settings = Container(image="/x", command="/nowhere/apptainer")
    with pytest.raises(ImageError, match="/nowhere/apptainer cannot be run"):
        images.build(Contents(Processes()), settings, str(tmp_path / "x.sif"))


def test_what_a_runtime_says_against_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.Tree, "fill", lambda self, contents: self.folder.mkdir())
    program = tmp_path / "apptainer"
    program.write_text("#!/bin/sh\necho 'no room' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ImageError, match="could not make the image: no room"):
        images.build(Contents(Processes()), Container(image="/x", command=str(program)), str(tmp_path / "x.sif"))
