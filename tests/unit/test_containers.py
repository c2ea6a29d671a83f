"""Containers: the words of each runtime, what a process may ask for, and what is told of one that did not start."""

from __future__ import annotations

import csv
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblauncher.formats.records import Container, Manifest, dump, load
from wps_hpc import config
from wps_hpc.clusters.cluster import build_clusters
from wps_hpc.clusters.containers import (
    EXPLANATIONS,
    NotAllowed,
    Places,
    configured,
    entry,
    explained,
    judge,
    not_started,
    refusal,
)
from wps_hpc.config import Cluster, ConfigError, Settings, Storage, parse_settings
from wps_hpc.processes import description
from wps_hpc.processes.catalogue import Catalogue
from wps_hpc.processes.description import ProcessDescription, Resources

IMAGE = "/images/wps.sif"
PLACES = Places("/d/jobs/ab/x", "/d/jobs/ab/x/attempts", "/d/launcher/1/joblauncher.pyz", ("/data/a,b.tif",))
NASTY = "a,b $(id) 'c' \"d\""


def cluster(**own: Any) -> Cluster:
    """A local cluster with containers."""
    return Cluster.model_validate({"container": {"image": IMAGE, **own}})


def words(settings: Cluster, wish: description.Container = description.Container(), **needed: int) -> list[str]:  # noqa: B008
    """The words by which a job gets into its container, from behind the shell's text on."""
    made = entry(settings, wish, PLACES, Resources(**needed))
    assert made is not None and made.argv[:2] == ("/bin/sh", "-c") and made.argv[3] == "container"
    return list(made.argv[4:])


def mounts(said: list[str]) -> list[list[str]]:
    """The fields of every mount, as comma-separated values are read."""
    given = [said[place + 1] for place, word in enumerate(said) if word == "--mount"]
    return [row for text in given if text != "@attempt" for row in csv.reader([text])]


def test_apptainer_gets_all_of_its_isolation() -> None:
    said = words(cluster())
    assert said[:4] == ["APPTAINER", "apptainer", "", IMAGE]
    options = said[said.index("--") + 1 :]
    assert options[:2] == ["--quiet", "exec"]
    for option in ("--containall", "--cleanenv", "--no-home", "--no-eval"):
        assert option in options
    assert options[options.index("--network") + 1] == "none"
    assert options[options.index("--pwd") + 1] == "@here"


def test_what_is_mounted_and_how() -> None:
    """Each job's own, and what the site lists; the attempt comes last, into the folder that is read-only."""
    binds = ["/data/dem", {"source": "/scratch", "target": "/tmp", "writable": True}]
    said = words(cluster(binds=binds))
    read_only = [PLACES.launcher, *PLACES.shared, PLACES.folder]
    assert mounts(said) == [
        ["type=bind", "source=/data/dem", "destination=/data/dem", "ro"],
        ["type=bind", "source=/scratch", "destination=/tmp"],
        *(["type=bind", f"source={path}", f"destination={path}", "ro"] for path in read_only),
    ]
    assert [word for word in said if word in ("--mount", "@attempt")][-2:] == ["--mount", "@attempt"]


@pytest.mark.parametrize("attempts", ["/d/x/attempts", '/d/a,b "c" d/attempts'])
def test_the_pieces_of_the_attempts_mount_make_one(attempts: str) -> None:
    made = entry(cluster(), description.Container(), replace(PLACES, attempts=attempts), Resources())
    assert made is not None
    before, between, behind = made.argv[10:13]
    (row,) = csv.reader([f"{before}7{between}7{behind}"])
    assert row == ["type=bind", f"source={attempts}/7", f"destination={attempts}/7"]


def test_variables_are_taken_in_as_they_are_written() -> None:
    """The container's own win over the cluster's; what is for the runtime itself is not a job's."""
    settings = Cluster.model_validate(
        {
            "environment": {"A": "1", "B": NASTY, "APPTAINER_BIND": "/"},
            "container": {"image": IMAGE, "env": {"A": "2"}, "pass_env": ["SLURM_CPUS_PER_TASK"]},
        }
    )
    said = words(settings)
    variables = said[said.index('"') + 1 : said.index("--")]
    assert [word for word in variables if "=" in word] == ["A=2", f"B={NASTY}"]
    assert {"SLURM_CPUS_PER_TASK", "CUDA_VISIBLE_DEVICES", "LANG"} <= set(variables)


@pytest.mark.parametrize(("gpus", "option"), [("nvidia", "--nv"), ("amd", "--rocm")])
def test_gpus_are_for_jobs_that_ask_for_some(gpus: str, option: str) -> None:
    assert option in words(cluster(gpus=gpus), gpus=1)
    assert option not in words(cluster(gpus=gpus)) + words(cluster(gpus=gpus), gpus=0)


def test_the_network_is_for_who_asks_where_the_site_gives_it() -> None:
    wish = description.Container(network=True)
    assert "none" in words(cluster(network="host"))
    assert "--network" not in words(cluster(network="host"), wish)
    with pytest.raises(NotAllowed, match="asks for the network"):
        words(cluster(), wish)


@pytest.mark.parametrize("runtime", ["podman", "docker"])
def test_one_container_for_each_job_as_the_servers_account(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    monkeypatch.setattr("os.getegid", lambda: 1002)
    said = words(cluster(runtime=runtime, image="localhost/wps:1", env={"B": NASTY}), gpus=1)
    assert said[:4] == ["", runtime, "", "localhost/wps:1"]
    options = said[said.index("--") + 1 :]
    for name, value in (("--user", "1001:1002"), ("--network", "none"), ("--pull", "never"), ("--cap-drop", "all")):
        assert options[options.index(name) + 1] == value
    assert {"--rm", "--read-only", f"B={NASTY}"} <= set(options)
    assert ("keep-id" in options) == (runtime == "podman")
    assert ("--gpus" in options) == (runtime == "docker")
    assert ["type=bind", f"source={PLACES.folder}", f"target={PLACES.folder}", "readonly"] in mounts(said)


def test_singularity_takes_variables_under_its_own_name() -> None:
    assert words(cluster(runtime="singularity", command="/opt/s/bin/singularity"))[:2] == [
        "SINGULARITY",
        "/opt/s/bin/singularity",
    ]


def test_a_cluster_without_containers_has_none() -> None:
    for settings in (Cluster(), cluster(runtime="none")):
        assert configured(settings) is None
        assert entry(settings, description.Container(), PLACES, Resources()) is None


# --- the command line ------------------------------------------------------------------------------------------------


def run(tmp_path: Path, settings: Cluster, number: str, *command: str, cwd: Path | None = None) -> list[str]:
    """The words that a runtime gets, one a line, and its variables."""
    program = tmp_path / "runtime"
    program.write_text(
        '#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done >"$SAID"\nenv | grep ENV_ >>"$SAID"\nexit 7\n'
    )
    program.chmod(0o755)
    own = settings.container
    assert own is not None
    settings = settings.model_copy(update={"container": own.model_copy(update={"command": str(program)})})
    attempts = tmp_path / "attempts"
    attempts.mkdir(exist_ok=True)
    made = entry(settings, description.Container(), replace(PLACES, attempts=str(attempts)), Resources())
    assert made is not None
    variables = {
        "PATH": "/usr/bin:/bin",
        "SAID": str(tmp_path / "said"),
        "APPTAINER_BIND": "/",
        "SINGULARITYENV_X": "1",
    }
    given = {**variables, "CUDA_VISIBLE_DEVICES": "0,1", "LANG": "C"}
    done = subprocess.run([*made.entered(number), *command], env=given, cwd=cwd or "/", check=False)
    assert done.returncode == 7
    return (tmp_path / "said").read_text().splitlines()


def test_the_shell_puts_in_what_only_the_node_knows(tmp_path: Path) -> None:
    """The attempt's number with the restarts, the GPUs; and takes away what is in the environment for somebody else."""
    said = run(tmp_path, cluster(env={"B": "a,b $(id)"}), "3+", "python3", "pyz", "--digest", "x", "--restarts", "2")
    attempt = tmp_path / "attempts" / "5"
    assert said[said.index("--pwd") + 1] == str(attempt)
    assert f'type=bind,"source={attempt}","destination={attempt}"' in said
    assert said[said.index(IMAGE) :][:4] == [IMAGE, "python3", "pyz", "--digest"]
    assert {"APPTAINERENV_CUDA_VISIBLE_DEVICES=0,1", "APPTAINERENV_B=a,b $(id)", "APPTAINERENV_LANG=C"} <= set(said)
    assert "SINGULARITYENV_X=1" not in said
    assert (tmp_path / "attempts" / "5.container" / "log").exists()


def test_a_command_of_the_process_stays_where_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its words are nobody's business, whatever they look like."""
    work = tmp_path / "attempts" / "4" / "work"
    work.mkdir(parents=True)
    said = run(tmp_path, cluster(), "4", "sort", "--", "@attempt", "@here", "--restarts", "9", "A=b", cwd=work)
    assert said[said.index("--pwd") + 1] == str(work)
    assert said[said.index(IMAGE) :][:7] == [IMAGE, "sort", "--", "@attempt", "@here", "--restarts", "9"]
    assert not (tmp_path / "attempts" / "4.container" / "log").exists()


def test_a_storage_behind_a_link_is_known_by_where_it_leads(tmp_path: Path) -> None:
    """A shell that starts there knows its directory without the links on the way."""
    real = tmp_path / "real"
    deeper = real / "attempts" / "4" / "work" / "deeper"
    deeper.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(real)
    said = run(link, cluster(), "4", "sort", cwd=deeper)
    assert said[said.index("--pwd") + 1] == str(link / "attempts" / "4" / "work" / "deeper")
    assert not (real / "attempts" / "4.container" / "log").exists()


@pytest.mark.parametrize("restarts", ["1+1", "x[$(touch {})]", ""])
def test_restarts_are_a_number_or_nothing(tmp_path: Path, restarts: str) -> None:
    """Some shells would run what stands in arithmetic."""
    trap = tmp_path / "trap"
    said = run(tmp_path, cluster(), "3+", "python3", "--restarts", restarts.format(trap))
    assert said[said.index("--pwd") + 1] == str(tmp_path / "attempts" / "3") and not trap.exists()


def test_the_text_is_shell_for_every_shell() -> None:
    made = entry(cluster(), description.Container(), PLACES, Resources())
    assert made is not None
    for shell in ("/bin/sh", "/bin/bash"):
        subprocess.run([shell, "-n", "-c", made.argv[2]], check=True)


def test_the_launcher_of_a_contained_job_is_started_by_the_batch_script(tmp_path: Path) -> None:
    """Its Python is the image's; of a job whose commands alone are contained, the cluster's."""
    own = {"local": cluster(python="python3.13"), "hpc": cluster(inside="commands").model_copy(update={"python": "/p"})}
    built = build_clusters(Settings(storage=Storage(root=tmp_path), clusters=own))
    made = entry(own["local"], description.Container(), PLACES, Resources())
    assert made is not None and not made.commands
    argv = built["local"].started(made, 3, ("pyz", "--digest", "x"))
    assert argv[-4:] == ("python3.13", "pyz", "--digest", "x") and "3+" in argv
    assert shlex.split(shlex.join(argv)) == list(argv)
    inner = entry(own["hpc"], description.Container(), PLACES, Resources())
    assert inner is not None and inner.commands
    assert built["hpc"].started(inner, 3, ("pyz",)) == ("/p", "pyz")


def test_the_manifest_carries_it() -> None:
    made = Container(("a", "@number", "b\n'"), commands=True)
    manifest = Manifest("j", 1, "p", "source", "m", "3.13", "1", "1", "now", (), container=made)
    assert load(Manifest, dump(manifest)) == manifest
    assert made.entered("7") == ("a", "7", "b\n'")


# --- what may be asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (IMAGE, True),
        ("/images/geo/a.sif", True),
        ("/images/geo/deeper/a.sif", False),
        ("/images/geo/../../etc/a.sif", False),
        ("/images/geo/a.img", False),
        ("docker://evil/image", False),
        ("/images/geo/./a.sif", False),
        ("/images//geo/a.sif", False),
    ],
)
def test_a_process_may_name_what_the_site_lists(image: str, allowed: bool) -> None:
    why = refusal(cluster(images=["/images/geo/*.sif"]), description.Container(image))
    assert (why is None) == allowed and (allowed or image in str(why))


@pytest.mark.parametrize("image", ["--privileged", "-v=/etc:/e", ""])
def test_an_option_is_no_image_whatever_the_site_lists(image: str) -> None:
    own = cluster(runtime="podman", image="x", images=["*", "*/*"])
    assert "which container.images does not list" in str(refusal(own, description.Container(image)))


def process(**own: Any) -> ProcessDescription:
    """A process with wishes."""
    return ProcessDescription("p", **own)


def test_a_process_is_judged_by_every_cluster_that_its_jobs_may_go_to() -> None:
    """Synchronous calls beside the server are on the local one."""
    settings = Settings(clusters={"local": Cluster(), "hpc": cluster()}, default_cluster="hpc")
    judged = judge(settings)
    assert judged(process()) is None
    wish = description.Container(IMAGE)
    assert judged(process(sync="cluster", container=wish)) is None
    assert "clusters.local" in str(judged(process(container=wish)))
    assert "has no containers" in str(judged(process(container=description.Container(commands=True))))


def test_what_cannot_be_offered_is_a_problem_that_names_it(tmp_path: Path) -> None:
    source = "from wps_hpc import process\n@process(container='/other.sif')\ndef p() -> str:\n    'P.'\n    return ''\n"
    (tmp_path / "one.py").write_text(source)
    catalogue = Catalogue((), (tmp_path,), judge=judge(Settings(clusters={"local": cluster()})))
    catalogue.reload()
    assert catalogue.entries() == ()
    (problem,) = catalogue.problems.values()
    assert problem.startswith("process 'p' cannot be offered: it asks for the image /other.sif")


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"runtime": "apptainer"}, "needs an image"),
        ({"image": "wps.sif"}, "no absolute path"),
        ({"image": IMAGE, "images": ["*.sif"]}, "no absolute path"),
        ({"image": IMAGE, "binds": ["data"]}, "not absolute paths"),
        ({"image": IMAGE, "binds": [{"source": "/a", "target": "b"}]}, "not absolute paths"),
        ({"image": IMAGE, "env": {"A B": "c"}}, "env"),
        ({"image": IMAGE, "imagse": []}, "did you mean image"),
        ({"runtime": "podman", "image": "x", "signed_by": "/k"}, "signed_by is an option of apptainer"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_server_starts(own: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_settings({"clusters": {"local": {"container": own}}})


@pytest.mark.parametrize("runtime", ["podman", "docker"])
def test_podman_is_for_one_machine(runtime: str) -> None:
    own = {"scheduler": "slurm", "container": {"runtime": runtime, "image": "x"}}
    with pytest.raises(ConfigError, match="for the scheduler local"):
        parse_settings({"clusters": {"hpc": own}})


def test_every_option_of_a_container_stands_in_a_new_configuration() -> None:
    text = config.render_template({"clusters.hpc.scheduler": "slurm", "clusters.hpc.container.image": IMAGE})
    assert f'container.image = "{IMAGE}"' in text.partition("[clusters.hpc]")[2]
    for name in config.Container.model_fields:
        assert f"#container.{name} = " in text


# --- what went wrong -------------------------------------------------------------------------------------------------

#: Said by Apptainer 1.4.5, podman 4.3.1 and dash, and words of what is told.
SAID = {
    "FATAL:   While checking container encryption: could not open image /x.sif: failed to retrieve path for "
    "/x.sif: lstat /x.sif: no such file or directory": "image is not there",
    "FATAL:   While checking container encryption: could not open image /x.sif: /x.sif is not readable by the "
    "current user, check permissions": "image cannot be read by this account",
    "FATAL:   While checking container encryption: could not open image /a/x.sif: failed to retrieve path for "
    "/a/x.sif: lstat /a/x.sif: permission denied": "image cannot be read by this account",
    "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited with "
    "error: squashfuse_ll exited: Something went wrong trying to read the squashfs image.": "damaged, or none",
    "FATAL:   While checking container encryption: could not open image /x.sif: image format not recognized": "damaged",
    "WARNING: skipping mount of /y: stat /y: no such file or directory\nFATAL:   container creation failed: mount "
    "hook function failure: mount /y->/x error: while mounting /y: mount source /y doesn't exist": "a folder or file",
    'FATAL:   "python3": executable file not found in $PATH': "lacks the launcher's Python",
    "FATAL:   container creation failed: image driver mount failure: image driver squashfuse_ll instance exited with "
    "error: squashfuse_ll exited: fuse: failed to open /dev/fuse: Permission denied": "mount an image",
    "FATAL:   container creation failed: mount hook function failure: mount /s/dev->/dev error: while mounting "
    "/s/dev: destination /dev doesn't exist in container": "lacks a folder",
    "runtime/cgo: pthread_create failed: Resource temporarily unavailable": "address space",
    "fatal error: failed to reserve page summary memory": "address space",
    "ERROR: Requesting capability set 0x000001ffffffffff while permitted capability set is 0x000001fffeffffff": "capab",
    "FATAL:   Failed to verify container: integrity: signature not found for object group 1": "not signed",
    "FATAL:   Failed to load key material: open /k.pub: no such file or directory": "the key",
    "ERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, check "
    "/proc/sys/user/max_user_namespaces": "make containers",
    "container: 87: exec: apptainer: not found": "runtime is not there",
    "container: 87: exec: /opt/apptainer: Permission denied": "runtime is not there",
    "Error: localhost/none:1: image not known": "image is not there",
    "Error: statfs /nonex: no such file or directory": "a folder or file",
    "Error: something new": "or its launcher did not run",
}


@pytest.mark.parametrize("said", SAID)
def test_what_a_runtime_says_becomes_a_sentence_without_paths(said: str) -> None:
    told = explained(said)
    assert SAID[said] in told and "/" not in told and told.endswith(".")


def test_every_explanation_has_been_heard() -> None:
    told = {explained(said) for said in SAID}
    assert [reason for _, reason in EXPLANATIONS if not any(reason in sentence for sentence in told)] == []


def test_the_operator_gets_the_words_themselves() -> None:
    failure = not_started("FATAL: no\n", 255, None, "scheduler: FAILED")
    assert (failure.cause, failure.exit_code) == ("could not start", 255)
    assert failure.detail == "scheduler: FAILED; the container's runtime: FATAL: no"
