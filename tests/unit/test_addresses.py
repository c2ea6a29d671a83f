"""What a reference may point at, decided without the network."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wps_hpc.config import Inputs, load_settings
from wps_hpc.errors import InvalidParameterValue
from wps_hpc.jobs import addresses
from wps_hpc.jobs.addresses import Forbidden, check_reference, client_url, local_file, permitted_addresses
from wps_hpc.jobs.request import Reference

ANYWHERE = Inputs()


def inputs(**changes: object) -> Inputs:
    return Inputs.model_validate(changes)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Make the resolver give these addresses; returns the names that it is asked for."""
    asked: list[str] = []

    def resolver(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port)) for answer in answers]

    monkeypatch.setattr(addresses, "getaddrinfo", resolver)
    return asked


@pytest.mark.parametrize(
    "href",
    [
        "http://example.org/data.json",
        "https://example.org:8443/a/b?service=WFS&request=GetFeature",
        "HTTPS://EXAMPLE.ORG/",
        "http://8.8.8.8/x",
        "http://[2606:4700::1111]/x",
        "http://example.org./x",
        "http://bücher.example/x",
        "http://under_score.example.org/x",
    ],
)
def test_public_places_are_allowed(href: str) -> None:
    check_reference(Reference(href), ANYWHERE, "layer")


@pytest.mark.parametrize(
    "href",
    [
        "http://127.0.0.1/",
        "http://127.8.9.10/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://172.31.255.255/",
        "http://192.168.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://192.0.2.1/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::7f00:1]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://[64:ff9b:1::1]/",
        "http://[2002:7f00:1::]/",
        "http://[2002:808:808::1]/",
        "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[4000::1]/",
    ],
)
def test_addresses_that_are_not_public_are_refused_before_the_job_is_accepted(href: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        check_reference(Reference(href), ANYWHERE, "layer")
    assert caught.value.locator == "layer"


@pytest.mark.parametrize(
    "href",
    [
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://1.2.3.4.5/",
        "http://８.８.８.８x.0x/",
        "http://example.0x1f/",
        "http://[::1%25lo]/",
        "http://user:password@example.org/",
        "http://user@example.org/",
        "http://example.org@127.0.0.1/",
        "http://example.org/#top",
        "http:///path",
        "http://",
        "http://-x.example.org/",
        "http://exa mple.org/",
        "http://example.org:99999/",
        "http://example.org\\@127.0.0.1/",
        "http://example..org/",
        "gopher://example.org/",
        "ftp://example.org/x",
        "data:text/plain,x",
        "//example.org/x",
        "example.org/x",
        "",
        " file:///etc/passwd",
        "http://example.org/\n",
        "http://example.org/" + "x" * 9000,
    ],
)
def test_odd_urls_are_refused(href: str) -> None:
    with pytest.raises(InvalidParameterValue):
        check_reference(Reference(href), ANYWHERE, "layer")
    with pytest.raises(InvalidParameterValue):
        check_reference(Reference("http://example.org/", body_href=href or "x"), ANYWHERE, "layer")


def test_schemes_that_are_not_listed_are_refused() -> None:
    with pytest.raises(InvalidParameterValue, match="allowed are: https"):
        check_reference(Reference("http://example.org/"), inputs(schemes=["https"]), "layer")


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("*", "anything.example", True),
        ("data.example.org", "data.example.org", True),
        ("Data.Example.org", "data.example.ORG", True),
        ("data.example.org", "data.example.org.", True),
        ("data.example.org", "evil-data.example.org", False),
        ("data.example.org", "data.example.org.evil.com", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("*.bücher.example", "a.xn--bcher-kva.example", True),
        ("8.8.8.8", "8.8.8.8", True),
        ("8.8.8.8", "8.8.4.4", False),
        ("2606:4700::1111", "[2606:4700::1111]", True),
    ],
)
def test_host_patterns(pattern: str, host: str, allowed: bool) -> None:
    if allowed:
        client_url(f"http://{host}/x", inputs(hosts=[pattern]))
    else:
        with pytest.raises(Forbidden):
            client_url(f"http://{host}/x", inputs(hosts=[pattern]))


def test_a_listed_network_is_allowed_and_its_neighbour_is_not() -> None:
    listed = inputs(private_networks=["10.1.0.0/16", "fd12::/16"])
    client_url("http://10.1.2.3/", listed)
    client_url("http://[fd12::1]/", listed)
    for href in ("http://10.2.0.1/", "http://[fd13::1]/", "http://[::ffff:10.1.2.3]/"):
        with pytest.raises(Forbidden):
            client_url(href, listed)


def test_a_listed_transition_network_does_not_open_what_lies_behind_it() -> None:
    nat64 = inputs(private_networks=["64:ff9b::/96", "::ffff:0:0/96", "2002::/16"])
    client_url("http://[64:ff9b::8.8.8.8]/", nat64)
    client_url("http://[2002:808:808::1]/", nat64)
    for href in ("http://[64:ff9b::10.0.0.1]/", "http://[::ffff:127.0.0.1]/", "http://[2002:7f00:1::]/"):
        with pytest.raises(Forbidden):
            client_url(href, nat64)


@given(st.ip_addresses())
def test_an_address_is_refused_whenever_python_calls_it_not_global(address: object) -> None:
    found = ip_address(str(address))
    if found.is_multicast or not found.is_global:
        assert addresses._special_kind(found) is not None


@pytest.mark.parametrize(("network", "word"), addresses.SPECIAL_NETWORKS)
def test_both_ends_of_every_special_network_are_refused(network: object, word: str) -> None:
    block = ip_network(str(network))
    for address in (block[0], block[-1]):
        with pytest.raises(Forbidden) as caught:
            addresses._check_address(address, ())
        assert str(address) in caught.value.detail and str(address) not in caught.value.text


def test_every_answer_of_the_resolver_is_judged_and_only_permitted_ones_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answering(monkeypatch, "10.0.0.1", "8.8.8.8", "127.0.0.1", "8.8.8.8", "1.1.1.1")
    found = permitted_addresses("data.example.org", 443, ANYWHERE)
    assert [str(address) for address in found] == ["8.8.8.8", "1.1.1.1"]
    assert asked == ["data.example.org"]


def test_a_name_with_private_addresses_only_is_refused_without_saying_which(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, "192.168.3.4", "::1")
    with pytest.raises(Forbidden) as caught:
        permitted_addresses("intranet.example.org", 80, ANYWHERE)
    assert "192.168" not in caught.value.text
    assert caught.value.detail == "192.168.3.4 is private"


def test_a_name_without_an_answer_is_not_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    with pytest.raises(OSError, match="no address"):
        permitted_addresses("nowhere.example.org", 80, ANYWHERE)


def test_a_redirect_is_judged_like_a_first_url() -> None:
    here = httpx.URL("https://example.org/a/b")
    assert str(addresses.redirect_url(here, "../c?x=1#part", ANYWHERE)) == "https://example.org/c?x=1"
    assert str(addresses.redirect_url(here, "//other.example/c", ANYWHERE)) == "https://other.example/c"
    for location in (
        "http://127.0.0.1/",
        "file:///etc/passwd",
        "http://a:b@example.org/",
        "http://[",
        "//0x7f.1/",
    ):
        with pytest.raises(Forbidden):
            addresses.redirect_url(here, location, inputs(schemes=["http", "https", "file"], folders=["/"]))


@pytest.mark.parametrize(
    "reference",
    [
        Reference("http://example.org/", method="PUT"),
        Reference("http://example.org/", body=b"x", body_href="http://example.org/y"),
        Reference("http://example.org/", headers=(("Host", "internal"),)),
        Reference("http://example.org/", headers=(("transfer-ENCODING", "chunked"),)),
        Reference("http://example.org/", headers=(("Content-Length", "3"),)),
        Reference("http://example.org/", headers=(("Connection", "X-Api-Key"),)),
        Reference("http://example.org/", headers=(("X-A", "1\r\nHost: internal"),)),
        Reference("http://example.org/", headers=(("X A", "1"),)),
        Reference("http://example.org/", headers=(("", "1"),)),
        Reference("http://example.org/", headers=(("X-A", "snow ☃"),)),
    ],
)
def test_methods_bodies_and_headers_that_are_not_a_clients_to_choose(reference: Reference) -> None:
    with pytest.raises(InvalidParameterValue):
        check_reference(reference, ANYWHERE, "layer")


def test_ordinary_headers_are_allowed() -> None:
    headers = (
        ("Authorization", "Bearer x"),
        ("X-Api-Key", "é"),
        ("Content-Type", "text/xml"),
        ("Accept", "a/b"),
    )
    check_reference(Reference("http://example.org/", headers=headers, method="POST"), ANYWHERE, "layer")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """``public/`` with a file, and things beside it that are nobody's business."""
    for folder in ("public/sub", "public-secret"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "public/a b.txt").write_text("hello")
    (tmp_path / "public/sub/ü.txt").write_text("hi")
    (tmp_path / "public-secret/key").write_text("secret")
    return tmp_path


def offering(data: Path) -> Inputs:
    return inputs(schemes=["file"], folders=[str(data / "public")])


def test_files_below_a_listed_folder_stay_where_they_are(data: Path) -> None:
    found = local_file(f"file://{data}/public/a%20b.txt", offering(data))
    assert (found.path, found.size) == (str(data / "public/a b.txt"), 5)
    assert local_file(f"file://localhost{data}/public/sub/%C3%BC.txt", offering(data)).size == 2
    assert local_file(f"FILE:{data}/public/sub/../a%20b.txt", offering(data)).size == 5


def test_a_listed_folder_may_itself_be_a_link(data: Path) -> None:
    (data / "link").symlink_to(data / "public")
    found = local_file(f"file://{data}/link/a%20b.txt", inputs(schemes=["file"], folders=[str(data / "link")]))
    assert found.path == str(data / "public/a b.txt")


@pytest.mark.parametrize(
    "path",
    ["public-secret/key", "public/../public-secret/key", "public/%2e%2e/public-secret/key", "public/no"],
)
def test_prefixes_and_parents_do_not_lead_out_of_a_folder(data: Path, path: str) -> None:
    with pytest.raises(Forbidden):
        local_file(f"file://{data}/{path}", offering(data))


def test_links_do_not_lead_out_of_a_folder_and_say_nothing_of_what_is_there(data: Path) -> None:
    (data / "public/to-file").symlink_to(data / "public-secret/key")
    (data / "public/to-folder").symlink_to(data / "public-secret")
    (data / "public/to-nothing").symlink_to(data / "public-secret/nothing")
    texts = set()
    for name in ("to-file", "to-folder/key", "to-nothing"):
        with pytest.raises(Forbidden) as caught:
            local_file(f"file://{data}/public/{name}", offering(data))
        texts.add(caught.value.text)
    assert texts == {"The file is not below a folder that this server reads inputs from."}


def test_what_is_the_servers_own_is_no_input(tmp_path: Path) -> None:
    """A PyWPS configuration that is taken over may say «/»: with it came the job database and everybody's results."""
    (tmp_path / "wps-hpc.toml").write_text(
        '[storage]\nroot = "data"\n[processes]\npywps_config = ["pywps.cfg"]\n'
        f'[inputs]\nschemes = ["file"]\nfolders = ["{tmp_path}"]\n'
    )
    (tmp_path / "data").mkdir()
    for name in ("data/jobs.sqlite", "pywps.cfg", "data.txt"):
        (tmp_path / name).write_text("here")
    (tmp_path / "link").symlink_to("data/jobs.sqlite")
    settings = load_settings(tmp_path / "wps-hpc.toml")
    for name in ("data/jobs.sqlite", "pywps.cfg", "link"):
        with pytest.raises(Forbidden, match="not below a folder"):
            local_file(f"file://{tmp_path}/{name}", settings.inputs)
    assert local_file(f"file://{tmp_path}/data.txt", settings.inputs).size == 4


def test_only_regular_files_are_inputs(data: Path) -> None:
    os.mkfifo(data / "public/pipe")
    for name in ("pipe", "sub", ""):
        with pytest.raises(Forbidden):
            local_file(f"file://{data}/public/{name}", offering(data))


@pytest.mark.parametrize(
    "href",
    [
        "file:relative",
        "file://otherhost/etc/passwd",
        "file:///etc/passwd?x",
        "file:///etc/passwd?",
        "file:///etc/passwd#",
        "file:///etc/pass%00wd",
        "file:///etc/%ff",
        "file://[/x",
        "file:",
    ],
)
def test_malformed_file_urls_are_refused(href: str) -> None:
    with pytest.raises(Forbidden):
        local_file(href, inputs(schemes=["file"], folders=["/"]))


def test_files_are_refused_unless_the_scheme_is_listed(data: Path) -> None:
    with pytest.raises(InvalidParameterValue, match="not allowed"):
        check_reference(Reference(f"file://{data}/public/a%20b.txt"), inputs(folders=[str(data)]), "layer")


def test_a_file_takes_no_headers_or_body(data: Path) -> None:
    href = f"file://{data}/public/a%20b.txt"
    check_reference(Reference(href), offering(data), "layer")
    for reference in (
        Reference(href, headers=(("A", "b"),)),
        Reference(href, body=b""),
        Reference(href, method="POST"),
    ):
        with pytest.raises(InvalidParameterValue):
            check_reference(reference, offering(data), "layer")


def test_the_log_shows_no_secrets() -> None:
    shown = addresses.printable(
        "https://me:word@example.org/a?service=WFS&access_token=abc&X-Amz-Signature=def&blob=" + "z" * 80 + "#x"
    )
    assert shown == "https://example.org/a?service=WFS&access_token=***&X-Amz-Signature=***&blob=***"
    assert addresses.printable("http://example.org:x/") == "(unreadable URL)"
    assert "\n" not in addresses.printable("http://example.org/%0Ax")


def test_a_reference_keeps_its_secrets_out_of_its_own_repr() -> None:
    reference = Reference("http://example.org/", headers=(("Authorization", "Bearer abc"),), body=b"hush")
    assert "abc" not in repr(reference) and "hush" not in repr(reference)
