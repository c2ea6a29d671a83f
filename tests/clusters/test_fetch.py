"""Inputs by reference against a real web site on loopback that lies, dribbles, redirects and hangs."""

from __future__ import annotations

import gzip
import logging
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.services.website import Reply, Website, page, redirect, website
from wps_hpc.config import Inputs
from wps_hpc.errors import (
    FileSizeExceeded,
    InvalidParameterValue,
    NoApplicableCode,
    NotEnoughStorage,
    ServiceError,
)
from wps_hpc.jobs import addresses, fetch
from wps_hpc.jobs.fetch import FetchCancelled, Fetched, Terms
from wps_hpc.jobs.request import Reference

BODY = b'{"type": "FeatureCollection", "features": []}'
LIMIT = 1_000_000


@pytest.fixture
def site() -> Iterator[Website]:
    with website() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Website]:
    """A second origin, on another loopback address."""
    with website(host="127.0.0.2") as running:
        yield running


def terms(limit: int = LIMIT, **changes: object) -> Terms:
    """Terms under which 127.0.0.0/8 may be fetched from, with short times."""
    given = {"private_networks": ["127.0.0.0/8"], "timeout_seconds": 5, "total_seconds": 20, **changes}
    return Terms(Inputs.model_validate(given), limit, "layer")


def get(url: str, folder: Path, under: Terms | None = None, **rest: object) -> Fetched:
    """Fetch into ``folder/document`` with nothing else left behind, whatever happens."""
    target = folder / "document"
    try:
        found = fetch.fetch(Reference(url, **rest), target, folder / "document.part", under or terms())  # type: ignore[arg-type]
    except BaseException:
        assert list(folder.iterdir()) == []
        raise
    assert list(folder.iterdir()) == [target]
    return found


def names_of(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let the resolver give one list of addresses after the other (the last for ever); returns what it was asked."""
    asked: list[str] = []

    def resolver(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(addresses, "getaddrinfo", resolver)
    return asked


def test_a_document_lands_whole_with_its_type(site: Website, tmp_path: Path) -> None:
    site.pages["/a.json"] = page(BODY, "Content-Type: Application/Geo+JSON; charset=utf-8")
    found = get(site.url("/a.json?x=1&y=%20"), tmp_path)
    assert found == Fetched(tmp_path / "document", len(BODY), "application/geo+json")
    assert found.path.read_bytes() == BODY
    assert found.path.stat().st_mode & 0o777 == 0o600
    (asked,) = site.asked
    assert (asked.method, asked.target, asked.body) == ("GET", "/a.json?x=1&y=%20", b"")
    assert asked.headers["host"] == f"127.0.0.1:{site.port}"
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("given", ["", "nonsense", "text/<script>", "a/" + "b" * 300])
def test_a_reply_without_a_proper_type_has_none(site: Website, tmp_path: Path, given: str) -> None:
    site.pages["/a"] = page(BODY, f"Content-Type: {given}")
    assert get(site.url("/a"), tmp_path).mime_type is None


def test_an_empty_document_is_a_document(site: Website, tmp_path: Path) -> None:
    site.pages["/empty"] = page(b"")
    assert get(site.url("/empty"), tmp_path).size == 0


def test_a_chunked_document_is_put_together(site: Website, tmp_path: Path) -> None:
    site.pages["/c"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert get(site.url("/c"), tmp_path).path.read_bytes() == b"abcde"


def test_loopback_is_refused_unless_listed_and_nothing_is_sent_there(site: Website, tmp_path: Path) -> None:
    site.pages["/a"] = page(BODY)
    with pytest.raises(InvalidParameterValue) as caught:
        get(site.url("/a"), tmp_path, terms(private_networks=[]))
    assert caught.value.locator == "layer"
    assert site.asked == []


def test_the_address_that_was_judged_is_the_one_that_is_used(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/a"] = page(BODY)
    # The second answer would lead to a forbidden place; nobody may ask a second time.
    asked = names_of(monkeypatch, ["10.9.9.9", "127.0.0.1"], ["169.254.169.254"])
    assert get(site.url("/a", "data.example.org"), tmp_path).size == len(BODY)
    assert asked == ["data.example.org"]
    assert site.asked[0].headers["host"] == f"data.example.org:{site.port}"


def test_a_name_that_flips_to_a_forbidden_address_between_redirects_is_refused(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/a"] = redirect("/b")
    site.pages["/b"] = page(BODY)
    names_of(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    with pytest.raises(InvalidParameterValue):
        get(site.url("/a", "data.example.org"), tmp_path)
    assert [asked.target for asked in site.asked] == ["/a"]


def test_the_next_address_is_tried_when_one_does_not_answer(
    site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.pages["/a"] = page(BODY)
    names_of(monkeypatch, ["127.0.0.77", "127.0.0.1"])
    assert get(site.url("/a", "data.example.org"), tmp_path).size == len(BODY)


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/secret",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://0x7f.1/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://user:password@127.0.0.1/",
        "http://not-listed.example.org/",
        "http://[",
    ],
)
def test_redirects_to_forbidden_places_are_refused(site: Website, tmp_path: Path, location: str) -> None:
    site.pages["/a"] = redirect(location)
    under = terms(hosts=["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"], schemes=["http", "file"], folders=["/"])
    with pytest.raises(InvalidParameterValue):
        get(site.url("/a"), tmp_path, under)
    assert len(site.asked) == 1


def test_redirects_end(site: Website, tmp_path: Path) -> None:
    site.pages["/loop"] = redirect("/loop")
    with pytest.raises(NoApplicableCode, match="redirects more than 3 times"):
        get(site.url("/loop"), tmp_path, terms(redirects=3))
    assert len(site.asked) == 4


def test_a_redirect_without_a_place_is_an_error(site: Website, tmp_path: Path) -> None:
    site.pages["/a"] = page(b"", status="302 Found")
    with pytest.raises(NoApplicableCode, match="302"):
        get(site.url("/a"), tmp_path)


def test_secret_headers_stay_with_their_origin(site: Website, other: Website, tmp_path: Path) -> None:
    site.pages["/a"] = redirect("/b", 307)
    site.pages["/b"] = redirect(other.url("/c"), 307)
    other.pages["/c"] = redirect(site.url("/d"), 307)
    site.pages["/d"] = page(BODY)
    headers = (("Authorization", "Bearer abc"), ("Content-Type", "text/x"), ("User-Agent", "mine"))
    get(site.url("/a"), tmp_path, headers=headers, body=b"query", method="POST")
    first, second, last = site.asked
    (away,) = other.asked
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer abc"
    assert first.headers["user-agent"] == "mine"
    for asked in (away, last):
        assert "authorization" not in asked.headers and asked.headers["user-agent"].startswith("wps-hpc/")
        assert (asked.method, asked.body, asked.headers["content-type"]) == ("POST", b"query", "text/x")
    assert away.headers["host"] == f"127.0.0.2:{other.port}"


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirected_post_becomes_a_get(site: Website, tmp_path: Path, status: int) -> None:
    site.pages["/a"] = redirect("/b", status)
    site.pages["/b"] = page(BODY)
    get(site.url("/a"), tmp_path, body=b"query")
    assert [(asked.method, asked.body) for asked in site.asked] == [("POST", b"query"), ("GET", b"")]
    assert "content-type" not in site.asked[1].headers and "content-length" not in site.asked[1].headers


@pytest.mark.parametrize(
    ("body", "kind"), [(b"\n<GetFeature/>", "application/xml"), (b"\x00\x01", "application/octet-stream"), (b"", "")]
)
def test_a_body_is_posted(site: Website, tmp_path: Path, body: bytes, kind: str) -> None:
    site.pages["/wfs"] = page(BODY)
    get(site.url("/wfs"), tmp_path, method="POST", body=body)
    (asked,) = site.asked
    assert (asked.method, asked.body) == ("POST", body)
    assert asked.headers["content-type"] == (kind or "application/octet-stream")
    assert asked.headers["content-length"] == str(len(body))


def test_a_body_by_reference_is_fetched_first_without_the_headers(site: Website, tmp_path: Path) -> None:
    query = b"<Query/>" * 30_000
    site.pages["/query"] = page(query)
    site.pages["/wfs"] = redirect("/wfs2", 308)
    site.pages["/wfs2"] = page(BODY)
    get(site.url("/wfs"), tmp_path, body_href=site.url("/query"), headers=(("X-Key", "abc"),))
    first, posted, again = site.asked
    assert (first.method, first.target) == ("GET", "/query") and "x-key" not in first.headers
    assert posted.body == again.body == query and posted.headers["x-key"] == "abc"
    assert posted.headers["content-type"] == "application/xml"


def test_a_body_by_reference_obeys_the_same_rules(site: Website, tmp_path: Path) -> None:
    site.pages["/big"] = page(b"x" * 2000)
    with pytest.raises(FileSizeExceeded):
        get(site.url("/wfs"), tmp_path, terms(limit=1000), body_href=site.url("/big"))
    with pytest.raises(InvalidParameterValue):
        get(site.url("/wfs"), tmp_path, body_href="http://10.0.0.1/")
    with pytest.raises(InvalidParameterValue):
        get(site.url("/wfs"), tmp_path, body_href="file:///etc/passwd")


def test_a_body_may_lie_in_a_listed_folder(site: Website, tmp_path: Path) -> None:
    for name in ("shared", "job"):
        (tmp_path / name).mkdir()
    (tmp_path / "shared/query.xml").write_bytes(b"<Query/>")
    site.pages["/wfs"] = page(BODY)
    under = terms(schemes=["http", "file"], folders=[str(tmp_path / "shared")])
    get(site.url("/wfs"), tmp_path / "job", under, body_href=f"file://{tmp_path}/shared/query.xml")
    assert site.asked[0].body == b"<Query/>"
    assert (tmp_path / "shared/query.xml").read_bytes() == b"<Query/>"


def endless(head: bytes, piece: bytes = b"x" * 65536) -> Callable[[Reply], None]:
    def answer(reply: Reply) -> None:
        more = reply.send(head)
        while more:
            more = reply.send(piece)

    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
def test_an_endless_body_is_cut_off(site: Website, tmp_path: Path, head: bytes) -> None:
    site.pages["/endless"] = endless(head)
    with pytest.raises(FileSizeExceeded, match="layer is larger than 1000000 bytes") as caught:
        get(site.url("/endless"), tmp_path)
    assert caught.value.locator == "layer"
    assert site.hung_up.wait(10)


def test_a_length_that_is_too_large_is_not_even_read(site: Website, tmp_path: Path) -> None:
    def answer(reply: Reply) -> None:
        reply.send(page(b"", length=LIMIT + 1))
        reply.wait_for_hang_up()

    site.pages["/big"] = answer
    with pytest.raises(FileSizeExceeded):
        get(site.url("/big"), tmp_path)
    assert site.hung_up.wait(10)


def test_the_limit_itself_is_allowed(site: Website, tmp_path: Path) -> None:
    site.pages["/big"] = page(b"x" * 1000)
    assert get(site.url("/big"), tmp_path, terms(limit=1000)).size == 1000
    with pytest.raises(FileSizeExceeded):
        (tmp_path / "document").unlink()
        get(site.url("/big"), tmp_path, terms(limit=999))


@pytest.mark.parametrize(
    "answer",
    [
        page(BODY, length=len(BODY) + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
    ],
)
def test_truncated_and_malformed_answers_are_errors(site: Website, tmp_path: Path, answer: bytes) -> None:
    site.pages["/bad"] = answer
    with pytest.raises(NoApplicableCode, match="The document for the input layer"):
        get(site.url("/bad"), tmp_path)


def test_more_than_the_length_says_is_not_read(site: Website, tmp_path: Path) -> None:
    site.pages["/more"] = page(b"abcdef", length=3)
    assert get(site.url("/more"), tmp_path).path.read_bytes() == b"abc"


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops", "204 No Content", "206 Partial Content", "304 Same"])
def test_http_errors_give_the_status_and_never_the_remote_body(site: Website, tmp_path: Path, status: str) -> None:
    site.pages["/a"] = page(b"internal secrets", status=status)
    with pytest.raises(NoApplicableCode, match=status.split()[0]) as caught:
        get(site.url("/a"), tmp_path)
    assert "secret" not in caught.value.text and "127.0.0.1" not in caught.value.text


def test_gzip_that_nobody_asked_for_is_unpacked(site: Website, tmp_path: Path) -> None:
    packed = gzip.compress(BODY) + gzip.compress(BODY)
    site.pages["/a"] = page(packed, "Content-Encoding: x-gzip")
    assert get(site.url("/a"), tmp_path).path.read_bytes() == BODY + BODY


def test_a_gzip_bomb_is_counted_as_it_unpacks(site: Website, tmp_path: Path) -> None:
    site.pages["/bomb"] = page(gzip.compress(bytes(200_000_000)), "Content-Encoding: gzip")
    with pytest.raises(FileSizeExceeded):
        get(site.url("/bomb"), tmp_path)


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(BODY, mtime=0)[:-3], "gzip"),
        (gzip.compress(BODY, mtime=0) + b"garbage", "gzip"),
        (BODY, "gzip"),
        (zlib.compress(BODY), "deflate"),
        (b"x", "br"),
        (gzip.compress(gzip.compress(BODY, mtime=0), mtime=0), "gzip, gzip"),
    ],
)
def test_damaged_or_other_encodings_are_errors(site: Website, tmp_path: Path, body: bytes, coding: str) -> None:
    site.pages["/a"] = page(body, f"Content-Encoding: {coding}")
    with pytest.raises(NoApplicableCode):
        get(site.url("/a"), tmp_path)


def silence(head: bytes) -> Callable[[Reply], None]:
    def answer(reply: Reply) -> None:
        reply.send(head)
        reply.wait_for_hang_up()

    return answer


def dribble(head: bytes, piece: bytes) -> Callable[[Reply], None]:
    """Never silent for long, never finished."""

    def answer(reply: Reply) -> None:
        more = reply.send(head)
        while more and not reply.left.wait(0.05):
            more = reply.send(piece)

    return answer


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", page(b"abc", length=10)])
def test_silence_is_not_waited_for(site: Website, tmp_path: Path, head: bytes) -> None:
    site.pages["/quiet"] = silence(head)
    began = time.monotonic()
    with pytest.raises(NoApplicableCode, match="fell silent"):
        get(site.url("/quiet"), tmp_path, terms(timeout_seconds=0.6))
    assert 0.5 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (page(b"", length=100_000), b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_a_dribble_ends_at_the_deadline(site: Website, tmp_path: Path, head: bytes, piece: bytes) -> None:
    site.pages["/slow"] = dribble(head, piece)
    began = time.monotonic()
    with pytest.raises(NoApplicableCode, match="within 1 seconds"):
        get(site.url("/slow"), tmp_path, terms(total_seconds=1))
    assert time.monotonic() - began < 6


def test_a_cancelled_job_stops_waiting(site: Website, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def answer(reply: Reply) -> None:
        reply.send(page(b"abc", length=10))
        cancelled.set()
        reply.wait_for_hang_up()

    site.pages["/a"] = answer
    base = terms(timeout_seconds=60, total_seconds=60)
    began = time.monotonic()
    with pytest.raises(FetchCancelled):
        get(site.url("/a"), tmp_path, Terms(base.inputs, base.limit, base.locator, cancelled.is_set))
    assert time.monotonic() - began < 10
    assert site.hung_up.wait(10)


def test_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(NoApplicableCode, match="cannot be reached") as caught:
            get(url, tmp_path)
    assert caught.value.locator == "layer"


def test_a_name_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolver(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(addresses, "getaddrinfo", resolver)
    with pytest.raises(NoApplicableCode, match="no address"):
        get("http://nowhere.example.org/", tmp_path)


def test_proxies_of_the_environment_are_ignored(
    site: Website, other: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, other.url("/"))
    site.pages["/a"] = page(BODY)
    get(site.url("/a"), tmp_path)
    assert len(site.asked) == 1 and other.asked == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Website]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("data.example.org").configure_cert(context)
    with website(context) as running:
        yield running


def trusting(authority: trustme.CA, **changes: object) -> Terms:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    base = terms(**changes)  # type: ignore[arg-type]
    return Terms(base.inputs, base.limit, base.locator, tls=context)


def test_https_checks_the_certificate_against_the_name_not_the_address(
    secure: Website, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_of(monkeypatch, ["127.0.0.1"])
    secure.pages["/a"] = page(BODY)
    assert get(secure.url("/a", "data.example.org"), tmp_path, trusting(authority)).size == len(BODY)
    (tmp_path / "document").unlink()
    with pytest.raises(NoApplicableCode, match="certificate is not valid"):
        get(secure.url("/a", "other.example.org"), tmp_path, trusting(authority))
    with pytest.raises(NoApplicableCode, match="certificate is not valid"):
        get(secure.url("/a", "data.example.org"), tmp_path)


def test_silence_over_https(
    secure: Website, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_of(monkeypatch, ["127.0.0.1"])
    secure.pages["/a"] = silence(page(b"abc", length=10))
    with pytest.raises(NoApplicableCode, match="fell silent"):
        get(secure.url("/a", "data.example.org"), tmp_path, trusting(authority, timeout_seconds=0.6))


def test_a_slow_https_answer_arrives_whole_over_several_waits(
    secure: Website, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(reply: Reply) -> None:
        reply.send(page(b"a" * 5, length=15))
        reply.left.wait(2.5 * fetch.SLICE)
        reply.send(b"b" * 10)

    names_of(monkeypatch, ["127.0.0.1"])
    secure.pages["/a"] = answer
    assert get(secure.url("/a", "data.example.org"), tmp_path, trusting(authority)).size == 15


def test_a_tls_handshake_that_hangs_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        with pytest.raises(NoApplicableCode):
            get(f"https://127.0.0.1:{mute.getsockname()[1]}/", tmp_path, terms(timeout_seconds=0.5))
        assert time.monotonic() - began < 5


def test_nothing_secret_is_logged(site: Website, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    site.pages["/a"] = page(BODY)
    get(site.url("/a?token=opensesame&layer=rivers"), tmp_path, headers=(("X-Key", "swordfish"),), body=b"hush")
    (tmp_path / "document").unlink()
    with pytest.raises(ServiceError):
        get(site.url("/none?token=opensesame"), tmp_path, headers=(("X-Key", "swordfish"),))
    for secret in ("opensesame", "swordfish", "hush"):
        assert secret not in caplog.text
    assert "layer=rivers" in caplog.text


def test_a_full_disk_is_said(site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages["/a"] = page(BODY)
    missing = tmp_path / "missing"
    with pytest.raises(NotEnoughStorage) as caught:
        fetch.fetch(Reference(site.url("/a")), tmp_path / "document", missing / "part", terms())
    assert caught.value.locator == "layer"


def test_a_link_in_place_of_the_growing_file_is_not_written_through(site: Website, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "job").mkdir()
    (tmp_path / "job/document.part").symlink_to(victim)
    site.pages["/a"] = page(BODY)
    assert get(site.url("/a"), tmp_path / "job").size == len(BODY)
    assert victim.read_text() == "mine"


def test_shared_files_are_described_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    under = terms(schemes=["file"], folders=[str(tmp_path)])
    assert fetch.shared_file(Reference(f"file://{tmp_path}/a"), under).size == 5
    with pytest.raises(InvalidParameterValue):
        fetch.shared_file(Reference("file:///etc/passwd"), under)
    with pytest.raises(FileSizeExceeded):
        fetch.shared_file(Reference(f"file://{tmp_path}/a"), Terms(under.inputs, 4, "layer"))
