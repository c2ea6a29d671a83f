"""The configuration: reading, refusing, and the file that `init` writes."""

import re
from pathlib import Path

import pytest

from wps_hpc.config import (
    ConfigError,
    Settings,
    find_config,
    load_settings,
    parse_settings,
    render_template,
)


def write(folder: Path, text: str) -> Path:
    """Write a configuration file and return its path."""
    path = folder / "site.toml"
    path.write_text(text)
    return path


def test_without_a_file_all_defaults_hold_and_paths_count_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None)
    assert settings.storage.root == tmp_path / "wps-hpc-data"
    assert settings.storage.run == tmp_path / "wps-hpc-data" / "run"
    assert settings.database_url == f"sqlite:///{tmp_path}/wps-hpc-data/jobs.sqlite"
    assert settings.server.base_url == "http://127.0.0.1:8095"
    assert list(settings.clusters) == ["local"]


def test_relative_paths_count_from_the_files_own_folder(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        storage = { root = "data", runtime = "run" }
        database.url = "sqlite:///jobs.db"
        logging.file = "server.log"
        processes.folders = ["procs", "/opt/procs"]
        inputs.folders = ["shared"]
        clusters.local.template = "own.sh.j2"
        """,
    )
    settings = load_settings(path)
    assert settings.storage.root == tmp_path / "data"
    assert settings.storage.run == tmp_path / "run"
    assert settings.database_url == f"sqlite:///{tmp_path}/jobs.db"
    assert settings.logging.file == tmp_path / "server.log"
    assert settings.processes.folders == (tmp_path / "procs", Path("/opt/procs"))
    assert settings.inputs.folders == (tmp_path / "shared",)
    assert settings.clusters["local"].template == tmp_path / "own.sh.j2"


@pytest.mark.parametrize("url", ["sqlite:////var/lib/jobs.db", "postgresql+psycopg://wps@db/wps", "sqlite:///:memory:"])
def test_other_database_urls_are_left_alone(tmp_path: Path, url: str) -> None:
    assert load_settings(write(tmp_path, f'database.url = "{url}"')).database_url == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server.prot = 80", "unknown key server.prot; did you mean port?"),
        ("[limit]\nparallel = 1", "unknown key limit; did you mean limits?"),
        ("[clusters.big]\nscheduller = 'local'", "unknown key clusters.big.scheduller; did you mean scheduler?"),
        ("server.xyzzy = 1", "unknown key server.xyzzy; known here: "),
        ("server.port = 70000", "server.port: Input should be less than or equal to 65535"),
        ("default_cluster = 'moon'", "default_cluster 'moon' is none of local"),
        (
            "storage.root = '/jobs/$x'\n[clusters.hpc]\nscheduler = 'gridengine'",
            "storage.root must hold no «$»: Grid Engine takes it for a variable (cluster hpc)",
        ),
        ("server.trusted_proxies = ['nowhere']", "server.trusted_proxies.0"),
        ("port 80", "not valid TOML"),
        ("[clusters.hpc]\npartition = 'a b'", "clusters.hpc.partition: String should match pattern"),
        ("[clusters.hpc]\naccount = 'a\\\\b'", "clusters.hpc.account: String should match pattern"),
        ("[clusters.hpc]\noptions = { job-name = 'x' }", "--job-name is the server's own to set"),
        ("[clusters.hpc]\nscheduler = 'gridengine'\noptions = { N = 'x' }", "-N is the server's own to set"),
        ("[clusters.hpc]\nscheduler = 'torque'\noptions = { N = 'x' }", "-N is the server's own to set"),
        ("[clusters.hpc]\nscheduler = 'torque'\noptions = { l = 'a b' }", "-l 'a b' cannot stand in a batch script"),
        ("[clusters.hpc]\nscheduler = 'torque'\nqos = 'fast'", "qos is an option of slurm, not of torque"),
        ("[clusters.hpc]\nscheduler = 'torque'\nproject = 'x'", "project is an option of gridengine, openpbs, not of"),
        (
            "[clusters.hpc]\nscheduler = 'slurm'\nqueue = 'x'",
            "queue is an option of gridengine, torque, openpbs, not of",
        ),
        ("[clusters.hpc]\nscheduler = 'gridengine'\nparallel_environment = 'a b'", "String should match pattern"),
        ("[clusters.local]\nenvironment = { 'A-B' = '1' }", "String should match pattern"),
        ("[clusters.hpc]\nscheduler = 'slurm'\ncommand_environment = { 'A=B' = '1' }", "String should match pattern"),
        ('[clusters.hpc]\noptions = { comment = "a\\nb" }', "cannot stand in a batch script"),
        ("[clusters.hpc]\noptions = { 'x y' = '1' }", "cannot stand in a batch script"),
        (
            "[[clusters.hpc.queues]]\nname = 'short'\nmax_wall = 1",
            "unknown key clusters.hpc.queues.0.max_wall; known here: max_cores",
        ),
        ("[[clusters.hpc.queues]]\nmax_cores = 1", "clusters.hpc.queues.0.name: Field required"),
        ("[clusters.hpc]\nscheduler = 'slurm'\ntransport = 'ssh'", "transport ssh_paramiko needs a table ssh"),
        ("[clusters.hpc.ssh]\nhost = 'a'\nhots = 1", "unknown key clusters.hpc.ssh.hots; did you mean host?"),
        ("[clusters.hpc.ssh]\nhost = '-oProxyCommand=x'", "clusters.hpc.ssh.host: String should match pattern"),
        ("[clusters.hpc.ssh]\nhost = 'a'\nproxy_jump = ['-x']", "clusters.hpc.ssh.proxy_jump.0: String should match"),
        (
            "[clusters.hpc.ssh]\nhost = 'a'\nproxy_jump = ['a', 'b:c']",
            "clusters.hpc.ssh.proxy_jump.1: String should match",
        ),
        ("[clusters.hpc.ssh]\nhost = 'a'\nproxy_jump = ['2001:db8::1']", "proxy_jump.0: String should match"),
        ("[clusters.hpc.ssh]\nhost = 'a'\nproxy_jump = ['b:99999']", "there is no port 99999"),
        ("[clusters.hpc]\nroot = 'shared'", "clusters.hpc.root: String should match pattern"),
        (
            "[clusters.hpc]\ntransport = 'ssh_openssh'\nssh.host = 'a'",
            "the scheduler local works on this host only, not by transport ssh_openssh",
        ),
        (
            "[clusters.hpc]\nscheduler = 'gridengine'\ndrmaa_library = 'x'\ntransport = 'ssh'\nssh.host = 'a'",
            "drmaa_library works on this host only",
        ),
        (
            "[clusters.hpc]\nscheduler = 'gridengine'\nroot = '/jobs/$x'",
            "clusters.hpc.root must hold no «$»: Grid Engine takes it for a variable",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_the_key_and_a_remedy(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        load_settings(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings({"server": {"port": -1}, "limits": {"queued": "many"}})
    assert len(str(refused.value).splitlines()) == 2


def test_a_file_that_is_named_but_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_settings(tmp_path / "nowhere.toml")


def test_the_named_file_comes_before_the_variable_and_that_before_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WPS_HPC_CONFIG", raising=False)
    assert find_config(None) is None
    (tmp_path / "wps-hpc.toml").touch()
    assert find_config(None) == Path("wps-hpc.toml")
    monkeypatch.setenv("WPS_HPC_CONFIG", "/etc/wps.toml")
    assert find_config(None) == Path("/etc/wps.toml")
    assert find_config(Path("mine.toml")) == Path("mine.toml")


def uncommented(template: str) -> str:
    """The template with every option switched on."""
    return re.sub(r"^#(?=[\w.]+ = )", "", template, flags=re.MULTILINE)


def test_the_template_says_nothing_until_something_is_uncommented(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, render_template())) == load_settings(write(tmp_path, ""))


def test_every_option_of_the_template_can_be_uncommented_as_it_stands(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, uncommented(render_template())))
    assert settings.server.public_url == "https://wps.example.org"
    assert settings.clusters["local"].python == "/usr/bin/python3"
    assert settings.limits == Settings().limits.model_copy(
        update={"memory_mb": 2048, "max_cores": 64, "max_memory_mb": 256_000, "queue_seconds": 604_800}
    )


def test_the_template_has_every_option_with_its_description() -> None:
    template = render_template()
    for name, field in Settings.model_fields.items():
        if name in ("clusters", "default_cluster"):
            continue
        assert f"[{name}]" in template
        for option, inner in field.annotation.model_fields.items():  # type: ignore[union-attr]
            assert f"#{option} = " in template, f"{name}.{option}"
            assert inner.description, f"{name}.{option} has no description"


def test_given_values_are_set_in_the_template(tmp_path: Path) -> None:
    given = {"server.port": 9000, "processes.folders": ["p"], "default_cluster": "local", "metadata.title": 'A "b"\\'}
    settings = load_settings(write(tmp_path, render_template(given)))
    assert (settings.server.port, settings.metadata.title) == (9000, 'A "b"\\')
    assert settings.processes.folders == (tmp_path / "p",)


@pytest.mark.parametrize("given", [{"server.prot": 1}, {"server.port": "x"}, {"nonsense": 1}])
def test_values_that_are_no_options_make_no_template(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="given values: "):
        render_template(given)


def test_a_relative_root_counts_from_a_folder_that_grid_engine_can_be_told(tmp_path: Path) -> None:
    folder = tmp_path / "of $x"
    folder.mkdir()
    with pytest.raises(ConfigError, match="Grid Engine takes it for a variable"):
        load_settings(write(folder, "storage.root = 'jobs'\n[clusters.hpc]\nscheduler = 'gridengine'"))
    assert load_settings(write(folder, "storage.root = 'jobs'")).storage.root == folder / "jobs"


def test_a_slurm_cluster_with_queues(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        default_cluster = "hpc"
        [clusters.hpc]
        scheduler = "slurm"
        account = "geo"
        constraint = "[rack1|rack2]&avx2"
        options = { exclusive = "", comment = "wps & more" }
        command_environment = { SLURM_CONF = "/etc/slurm/slurm.conf" }
        [[clusters.hpc.queues]]
        name = "short"
        max_walltime_seconds = 3600
        [[clusters.hpc.queues]]
        name = "long"
        """,
    )
    cluster = load_settings(path).clusters["hpc"]
    assert (cluster.scheduler, cluster.account, cluster.constraint) == ("slurm", "geo", "[rack1|rack2]&avx2")
    assert cluster.options == {"exclusive": "", "comment": "wps & more"}
    assert [(queue.name, queue.max_walltime_seconds) for queue in cluster.queues] == [("short", 3600), ("long", None)]


FAR = {
    "scheduler": "slurm",
    "transport": "ssh_openssh",
    "ssh": {"host": "login", "user": "wps"},
    "staging": "sftp",
    "root": "/scratch/wps",
}
MAPPED = {**FAR, "root": "/home/{account}/wps", "accounts": {"ada@example.org": "ada"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"staging": "shared", "accounts": {"ada": "ada"}}, "other accounts cannot read shared job folders"),
        ({"transport": "local"}, "staging sftp needs transport"),
        ({"root": None}, "staging sftp needs root"),
        ({"accounts": {"ada": "ada"}}, "each has a folder of its own"),
        ({"root": "/home/{account}"}, "there is none"),
        ({**MAPPED, "accounts": {"ada": "root"}}, "as root"),
        ({**MAPPED, "accounts": {"ada": "-oProxyCommand=x"}}, "should match pattern"),
        ({**MAPPED, "accounts": {"ada": "../bob"}}, "should match pattern"),
        ({**MAPPED, "accounts": {"": "ada"}}, "at least 1 character"),
    ],
)
def test_staging_and_accounts_that_cannot_work_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_settings({"clusters": {"hpc": {**FAR, **changes}}})


def test_each_account_has_a_connection_and_a_folder_of_its_own() -> None:
    cluster = parse_settings({"clusters": {"hpc": MAPPED}}).clusters["hpc"]
    ada = cluster.under("ada")
    assert ada.ssh is not None
    assert (ada.ssh.user, ada.ssh.host, ada.root) == ("ada", "login", "/home/ada/wps")
    assert cluster.under(None) == cluster


def test_a_cluster_behind_a_login_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ssh`` is paramiko; files count from the configuration's own folder, or from the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write(
        tmp_path,
        """
        [clusters.hpc]
        scheduler = "slurm"
        transport = "ssh"
        root = "/scratch/wps"
        [clusters.hpc.ssh]
        host = "login.example.org"
        identity_files = ["keys/id", "~/.ssh/id"]
        known_hosts = ["known_hosts"]
        proxy_jump = ["me@gate.example.org:2222", "[::1]:22", "inner"]
        """,
    )
    cluster = load_settings(path).clusters["hpc"]
    assert (cluster.transport, cluster.root) == ("ssh_paramiko", "/scratch/wps")
    assert cluster.ssh is not None
    assert cluster.ssh.identity_files == (tmp_path / "keys" / "id", tmp_path / "home" / ".ssh" / "id")
    assert cluster.ssh.known_hosts == (tmp_path / "known_hosts",)


def test_the_connection_of_a_cluster_is_set_in_the_template(tmp_path: Path) -> None:
    given = {
        "clusters.hpc.scheduler": "slurm",
        "clusters.hpc.transport": "ssh_openssh",
        "clusters.hpc.ssh.host": "login.example.org",
    }
    cluster = load_settings(write(tmp_path, render_template(given))).clusters["hpc"]
    assert cluster.ssh is not None and cluster.ssh.host == "login.example.org"
