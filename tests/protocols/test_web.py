"""The WSGI application: routes, methods, downloads, owners, and what happens when something goes wrong."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest

from joblauncher.formats.values import FileValue
from tests.protocols.conftest import CheckedClient, complex_xml, document_xml, execute_xml, literal_xml, settings_with
from tests.protocols.site import Site
from wps_hpc.app import create_app
from wps_hpc.jobs.database import StoreBusy, StoreFull
from wps_hpc.protocols.downloads import SHOWN


def test_the_front_page_names_the_addresses(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(), site.backend, {"/health": health}))
    text = client.open("/").body.decode()
    assert "https://wps.example.org/site/wps?service=WPS&request=GetCapabilities" in text
    assert "https://wps.example.org/site/health" in text


def health(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Another author's application."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Content-Type-Options", "nosniff")])
    return [environ["REQUEST_METHOD"].encode()]


def test_mounted_applications_get_whole_requests(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(), site.backend, {"/health": health}))
    assert client.open("/health", method="PUT").body == b"PUT"
    assert client.open("/health/more").status == 404


@pytest.mark.parametrize("path", ["/nothing", "/wpsx", "/wps/x", "/outputs", "/outputs/", "/favicon.ico"])
def test_unknown_paths(client: CheckedClient, path: str) -> None:
    assert client.open(path).exception == (404, "NoApplicableCode", None)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/wps", "PUT", "GET, POST, HEAD, OPTIONS"),
        ("/wps", "DELETE", "GET, POST, HEAD, OPTIONS"),
        ("/wps/status/x.xml", "POST", "GET, HEAD, OPTIONS"),
        ("/outputs/x/y", "DELETE", "GET, HEAD, OPTIONS"),
    ],
)
def test_other_methods(client: CheckedClient, path: str, method: str, allowed: str) -> None:
    answer = client.open(path, method=method)
    assert answer.exception == (405, "OperationNotSupported", None)
    assert answer.response.headers["Allow"] == allowed


def test_head_is_get_without_the_body(client: CheckedClient) -> None:
    query = "service=WPS&request=GetCapabilities"
    whole = client.open("/wps", query_string=query)
    head = client.open("/wps", query_string=query, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.response.headers["Content-Length"] == str(len(whole.body))


def test_options(client: CheckedClient) -> None:
    answer = client.open("/wps", method="OPTIONS")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.response.headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert "Access-Control-Allow-Origin" not in answer.response.headers


def test_cors_when_configured(site: Site) -> None:
    client = CheckedClient(create_app(settings_with(server={"allow_origin": "*"}), site.backend))
    assert client.kvp("").response.headers["Access-Control-Allow-Origin"] == "*"
    asked = client.open("/wps", method="OPTIONS").response.headers
    assert asked["Access-Control-Allow-Methods"] == "GET, POST, HEAD"
    assert output(client, site, "x", "text/plain").response.headers["Access-Control-Allow-Origin"] == "*"


def test_forwarded_headers_change_no_address(client: CheckedClient) -> None:
    headers = {"X-Forwarded-Host": "evil.example.com", "X-Forwarded-Proto": "gopher", "Host": "evil.example.com"}
    answer = client.open("/wps", query_string="service=WPS&request=GetCapabilities", headers=headers)
    assert b"evil" not in answer.body


@pytest.mark.parametrize(
    ("proxies", "address", "owner"),
    [
        ([], "127.0.0.1", None),
        (["127.0.0.0/8"], "127.0.0.1", "ann"),
        (["127.0.0.0/8", "2001:db8::/32"], "2001:db8::1", "ann"),
        (["127.0.0.0/8"], "192.0.2.1", None),
        (["127.0.0.0/8"], "", None),
        (["127.0.0.0/8"], "unix:", None),
    ],
)
def test_owner_is_believed_of_listed_proxies_alone(
    site: Site, proxies: list[str], address: str, owner: str | None
) -> None:
    client = CheckedClient(create_app(settings_with(server={"trusted_proxies": proxies}), site.backend))
    client.post(
        execute_xml("echo", literal_xml("text", "x")),
        headers={"X-Remote-User": "ann"},
        environ_overrides={"REMOTE_ADDR": address, "REMOTE_USER": "mallory"},
    )
    assert site.received.owner == owner


# Defects


def test_an_unexpected_error_becomes_a_report_with_an_incident(
    client: CheckedClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = client.post(execute_xml("broken"))
    assert answer.exception == (500, "NoApplicableCode", None)
    text = answer.text("ows:Exception/ows:ExceptionText")
    assert b"0000" not in answer.body
    assert b"Traceback" not in answer.body
    incident = next(word for word in text.replace(";", " ").split() if len(word) == 12 and word.isalnum())
    assert f"incident {incident}" in caplog.text
    assert "the secret of the server room" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreBusy("locked"), (503, "ServerBusy", None)),
        (StoreFull("disk full"), (507, "NotEnoughStorage", None)),
    ],
)
def test_a_database_that_cannot_be_used(
    client: CheckedClient, site: Site, error: Exception, expected: tuple[int, str, None]
) -> None:
    def fail(*_: Any) -> Any:
        raise error

    site.execute = fail  # type: ignore[method-assign]
    assert client.post(execute_xml("echo", literal_xml("text", "x"))).exception == expected


# Downloads


def output(client: CheckedClient, site: Site, content: str, mime: str, **kwargs: Any) -> Any:
    """The complex output of an echo, fetched from its address."""
    form = document_xml('complex asReference="true"')
    answer = client.post(execute_xml("echo", complex_xml(content, f'mimeType="{mime}"'), form))
    href = answer.find(".//wps:Reference").get("href", "")
    return client.open(href.removeprefix("https://wps.example.org/site"), **kwargs)


def test_downloads_are_sent_whole_with_length_and_type(client: CheckedClient, site: Site) -> None:
    answer = output(client, site, "a,b", "text/csv")
    assert (answer.status, answer.body) == (200, b"a,b")
    head = answer.response.headers
    assert head["Content-Length"] == "3"
    assert head["Content-Type"] == "text/csv"
    assert head["Content-Disposition"] == "inline; filename=complex.csv"
    assert "sandbox" in head["Content-Security-Policy"]


@pytest.mark.parametrize("mime", ["text/html", "text/xml"])
def test_active_types_are_attachments(client: CheckedClient, site: Site, mime: str) -> None:
    content = "<html><script>alert(1)</script></html>"
    head = output(client, site, content, mime).response.headers
    assert head["Content-Disposition"].startswith("attachment;")
    assert head["Content-Type"] == mime


def test_raw_data_is_as_harmless_as_a_download(client: CheckedClient) -> None:
    form = '<wps:RawDataOutput mimeType="text/html"><ows:Identifier>complex</ows:Identifier></wps:RawDataOutput>'
    answer = client.post(execute_xml("echo", complex_xml("<b>x</b>", 'mimeType="text/html"'), form))
    assert answer.response.headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in answer.response.headers["Content-Security-Policy"]
    assert answer.response.headers["Cache-Control"] == "no-store"


def test_no_type_that_can_carry_scripts_is_shown_in_place() -> None:
    active = {"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml", "application/pdf"}
    assert not SHOWN & active
    assert "text/javascript" not in SHOWN


@pytest.mark.parametrize(
    ("mime", "sent"),
    [
        ("image/svg+xml", "image/svg+xml"),
        ("text/plain\r\nSet-Cookie: a=b", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8"),
        ("text/plain; x=\r\ny", "text/plain"),
    ],
)
def test_types_that_a_node_made_up_do_no_harm(client: CheckedClient, site: Site, mime: str, sent: str) -> None:
    output(client, site, "x", "text/plain")
    job = site.latest
    site.made[job.id] = {"complex": (FileValue("outputs/complex.txt", mime),)}
    answer = client.open(f"/outputs/{job.id}/complex.txt")
    assert answer.status == 200
    assert answer.response.headers["Content-Type"] == sent
    assert "Set-Cookie" not in answer.response.headers


def test_a_type_with_its_character_set(client: CheckedClient, site: Site) -> None:
    assert output(client, site, "ü", "text/plain").response.headers["Content-Type"] == "text/plain; charset=UTF-8"


def test_ranges(client: CheckedClient, site: Site) -> None:
    answer = output(client, site, "0123456789", "text/plain", headers={"Range": "bytes=2-4"})
    assert (answer.status, answer.body) == (206, b"234")
    assert answer.response.headers["Content-Range"] == "bytes 2-4/10"
    beyond = output(client, site, "0123", "text/plain", headers={"Range": "bytes=9-"})
    assert beyond.exception == (416, "NoApplicableCode", None)


def test_unchanged_files_are_not_sent_again(client: CheckedClient, site: Site) -> None:
    first = output(client, site, "x", "text/plain")
    again = client.open(
        f"/outputs/{site.latest.id}/complex.txt", headers={"If-None-Match": first.response.headers["ETag"]}
    )
    assert (again.status, again.body) == (304, b"")


def test_head_of_a_download(client: CheckedClient, site: Site) -> None:
    answer = output(client, site, "12345", "text/plain", method="HEAD")
    assert (answer.body, answer.response.headers["Content-Length"]) == (b"", "5")


@pytest.mark.parametrize(
    "name", ["complex.csv", "../secret", "..%2Fsecret", "/etc/passwd", "status.xml", "a%00b", "%ff"]
)
def test_only_declared_files_can_be_had(client: CheckedClient, site: Site, name: str) -> None:
    output(client, site, "x", "text/plain")
    (site.folder / site.latest.id / "secret").write_text("s3cret")
    answer = client.open(f"/outputs/{site.latest.id}/{name}")
    assert answer.exception == (404, "NoApplicableCode", None)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Straße;#?.txt", "filename*=UTF-8''Stra%C3%9Fe%3B%23%3F.txt"),
        ('quo"te.txt', 'filename="quo\\"te.txt"'),
        ("new\r\nSet-Cookie: a=b", 'filename="new__Set-Cookie: a=b"'),
    ],
)
def test_names_with_folders_and_any_characters(client: CheckedClient, site: Site, name: str, shown: str) -> None:
    output(client, site, "x", "text/plain")
    job = site.latest
    folder = site.folder / job.id / "outputs" / "tiles 1"
    folder.mkdir()
    (folder / name).write_text("found")
    site.made[job.id] = {"complex": (FileValue(f"outputs/tiles 1/{name}", "text/plain", size=5),)}
    object.__setattr__(site.requests[job.id], "store", True)
    site.change(job.id)
    href = client.open(f"/wps/status/{job.id}.xml").find(".//wps:Reference").get("href", "")
    answer = client.open(href.removeprefix("https://wps.example.org/site"))
    assert answer.body == b"found"
    assert shown in answer.response.headers["Content-Disposition"]
    assert "Set-Cookie" not in answer.response.headers


def test_files_of_other_jobs_unknown_jobs_and_expired_files(client: CheckedClient, site: Site) -> None:
    output(client, site, "x", "text/plain")
    job = site.latest
    (site.folder / job.id / "outputs" / "complex.txt").unlink()
    assert client.open(f"/outputs/{job.id}/complex.txt").status == 404
    assert client.open("/outputs/00000000-0000-4000-8000-000000000000/complex.txt").status == 404
    assert client.open("/outputs/nonsense/complex.txt").status == 404


def test_outputs_of_an_unfinished_job(client: CheckedClient, site: Site) -> None:
    attributes = 'storeExecuteResponse="true" status="true"'
    client.post(execute_xml("slow", form=document_xml("text", attributes=attributes)))
    assert client.open(f"/outputs/{site.latest.id}/text.txt").status == 404
