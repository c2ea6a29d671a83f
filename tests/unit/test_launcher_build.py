"""joblauncher.pyz: what is in it, that it is always the same, and how it is installed and pruned."""

import ast
import configparser
import hashlib
import os
import subprocess
import sys
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from joblauncher.build import DIGEST, NAME, NODE_HALF, build_pyz, install_launcher, prune_launchers
from joblauncher.version import VERSION

ROOT = Path(__file__).parents[2]
#: Modules of ``processes`` that the server alone has.
SERVER_HALF = {"processes/catalogue.py"}
#: What node modules may import beside the standard library and each other; pywps in its one adapter.
FOREIGN = {"dill"}


def test_every_module_of_the_node_half_is_in_the_tree() -> None:
    in_tree = {f"processes/{file.name}" for file in (ROOT / "wps_hpc" / "processes").glob("*.py")}
    adapters = {name for name in in_tree if "pywps" in name}
    assert set(NODE_HALF) - adapters == in_tree - SERVER_HALF - adapters | {"__init__.py"}


def imported(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def node_files() -> list[Path]:
    """Every source file of the zipapp that is the project's own."""
    return [*(ROOT / "joblauncher").rglob("*.py"), *(ROOT / "wps_hpc" / name for name in NODE_HALF)]


@pytest.mark.parametrize("file", node_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_node_half_imports_nothing_of_the_server(file: Path) -> None:
    own = {str(file.relative_to(ROOT).with_suffix("")).replace("/", ".") for file in node_files()}
    packages = {name.removesuffix(".__init__") for name in own}
    # Reached only where a server calls it.
    packages |= {"wps_hpc.pywps_wsgi"} if file.name == "__init__.py" else set()
    allowed_tops = set(sys.stdlib_module_names) | FOREIGN | ({"pywps"} if "pywps" in file.name else set())
    for name in imported(file):
        if name.split(".")[0] in ("wps_hpc", "joblauncher"):
            assert name in packages or name.rpartition(".")[0] in packages, name
        else:
            assert name.split(".")[0] in allowed_tops, name


def test_the_linter_knows_the_node_half() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["per-file-target-version"]
    assert {f"wps_hpc/{name}" for name in NODE_HALF} | {"joblauncher/**"} <= set(configured)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built launcher."""
    target = tmp_path_factory.mktemp("built") / NAME
    build_pyz(target)
    return target


def test_it_has_the_node_half_and_dill_and_nothing_else(built: Path) -> None:
    names = set(zipfile.ZipFile(built).namelist())
    own = {str(file.relative_to(ROOT)) for file in node_files()}
    assert own | {"__main__.py", "joblauncher/VERSION", "dill/__init__.py"} <= names
    rest = {name for name in names - own if not name.startswith("dill/")}
    assert rest == {"__main__.py", "joblauncher/VERSION", *(f"{name}c" for name in own)}
    assert not any("/tests/" in name for name in names)


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    digest = build_pyz(tmp_path / "again.pyz")
    assert digest == hashlib.sha256(built.read_bytes()).hexdigest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.pyz"]
    assert (tmp_path / "again.pyz").stat().st_mode & 0o777 == 0o444


def test_another_process_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Whatever order its sets have, and whatever it has imported."""
    code = "import sys, decimal, sqlite3, xml.dom; from joblauncher.build import *; build_pyz(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / NAME)], env=environment, cwd=ROOT, check=True)
    assert (tmp_path / NAME).read_bytes() == built.read_bytes()


def test_this_python_compiles_nothing_of_it_and_another_one_passes_that_over(built: Path, python39: Path) -> None:
    look = "import joblauncher.attempt as module; print(module.claim.__code__.co_filename)"
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {look}"
    for python, found in ((sys.executable, NAME), (str(python39), str(built))):
        command = [python, "-I", "-c", code, str(built)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == f"{found}/joblauncher/attempt.py"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblauncher.build.NODE_HALF", ("no_such_module.py",))
    with pytest.raises(FileNotFoundError):
        build_pyz(tmp_path / NAME)
    assert list(tmp_path.iterdir()) == []


def test_it_knows_its_version_without_the_package(built: Path, python39: Path) -> None:
    command = [str(python39), "-I", str(built), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg")
    assert done.stdout.strip() == VERSION == options["metadata"]["version"]


def test_it_is_installed_once_read_only_under_its_hash(tmp_path: Path) -> None:
    path = install_launcher(tmp_path)
    assert path.parent.parent == tmp_path / "launcher" and path.parent.name.startswith(f"{VERSION}-")
    assert (path.parent / DIGEST).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o777 == 0o444
    assert path.parent.stat().st_mode & 0o777 == 0o555
    before = path.stat()
    assert install_launcher(tmp_path) == path
    assert path.stat() == before
    assert list(path.parent.parent.iterdir()) == [path.parent]


def test_servers_that_install_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(install_launcher, [tmp_path] * 16))
    (path,) = paths
    assert list(path.parent.parent.iterdir()) == [path.parent]
    assert path.parent.stat().st_mode & 0o777 == 0o555


@pytest.mark.parametrize("damage", ["torn", "missing", "no digest"])
def test_a_damaged_launcher_is_put_right(tmp_path: Path, damage: str) -> None:
    path = install_launcher(tmp_path)
    content = path.read_bytes()
    path.parent.chmod(0o700)
    if damage == "no digest":
        (path.parent / DIGEST).unlink()
    else:
        path.unlink()
    if damage == "torn":
        path.write_bytes(content[:100])
    assert install_launcher(tmp_path) == path
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o444


def test_only_unused_launchers_are_pruned(tmp_path: Path) -> None:
    current = install_launcher(tmp_path)
    used, unused, building = (tmp_path / "launcher" / name for name in ("0.0.1-aaaa", "0.0.2-bbbb", ".building"))
    for folder in (used, unused, building):
        folder.mkdir()
        (folder / NAME).touch()
        folder.chmod(0o555)
    assert prune_launchers(tmp_path, {current, used / NAME}) == [unused]
    assert current.exists() and used.exists() and building.exists() and not unused.exists()
    assert os.access(current, os.R_OK)


def test_pruning_where_nothing_was_installed_is_fine(tmp_path: Path) -> None:
    assert prune_launchers(tmp_path, set()) == []
