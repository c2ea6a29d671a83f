"""Where an input by reference may point: schemes, hosts, addresses, folders, and which headers go along.

A reference makes this server connect to a place of the client's choice (server-side request forgery), so
every rule is fail-closed: a host must match a pattern, and an address must be public or in a listed
network. Any port is allowed; a site that wants fewer says so in its firewall.

What can be decided without asking anybody is decided by ``check_reference`` before a job is accepted; names
are resolved, and their addresses judged, at the moment of connecting (``permitted_addresses``), once, so
that the address that was judged is the one that is used.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from socket import SOCK_STREAM, getaddrinfo
from urllib.parse import unquote_to_bytes, urlsplit

import httpx

from joblauncher.formats.records import SharedFile
from wps_hpc.config import Inputs
from wps_hpc.errors import DataNotAccessible
from wps_hpc.jobs.request import Reference

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: A longer URL is refused; servers rarely take more.
LONGEST_URL = 8192

#: What is not the public internet: the IANA registries of special-purpose addresses, and multicast. Written
#: out because ``ipaddress.is_global`` differs between Python releases and calls multicast global.
SPECIAL_NETWORKS: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), word)
    for network, word in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignment"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "protocol assignment"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")

#: Headers that belong to the connection or to this server, never to a client: RFC 9110 §7.6.1 (hop by hop),
#: framing, routing, and those that would change what an answer is (a part, an encoding, nothing at all).
FORBIDDEN_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "max-forwards",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-http-method-override",
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
#: A host whose last label looks like a number is an IPv4 address in one of the spellings of ``inet_aton``.
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?")
_METHODS = ("GET", "POST")


class Forbidden(Exception):
    """A place that the configuration does not allow: a sentence for the client, ``detail`` for the log."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.detail = detail


def check_reference(reference: Reference, inputs: Inputs, locator: str) -> None:
    """Refuse a reference that can never be fetched here: what is decidable without the network.

    Called when a request is validated, before its job is accepted. Raises DataNotAccessible with
    ``locator``.
    """
    try:
        _check_method(reference)
        _check_headers(reference.headers)
        for href in (reference.href, reference.body_href):
            if href is not None:
                _check_href(href, inputs)
        if is_file(reference.href) and _is_more_than_get(reference):
            raise Forbidden("A file: reference takes no method, headers or body.")
    except Forbidden as error:
        raise DataNotAccessible(error.text, locator) from error


def is_file(href: str) -> bool:
    """The reference is a ``file:`` URL."""
    return href[:5].lower() == "file:"


def _is_more_than_get(reference: Reference) -> bool:
    return bool(reference.headers or posts(reference))


def posts(reference: Reference) -> bool:
    """The reference is fetched by POST: it says so, or it has a body."""
    return reference.method == "POST" or reference.body is not None or reference.body_href is not None


def _check_method(reference: Reference) -> None:
    if reference.method not in _METHODS:
        raise Forbidden("A reference is fetched by GET or POST only.")
    if reference.body is not None and reference.body_href is not None:
        raise Forbidden("A reference has either a body or a reference to one, not both.")


def _check_headers(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise Forbidden("A header of the reference is not valid HTTP.")
        if name.lower() in FORBIDDEN_HEADERS:
            raise Forbidden(f"The header {name} cannot be chosen by a client.")


def _check_href(href: str, inputs: Inputs) -> None:
    if is_file(href):
        local_file(href, inputs)
    else:
        client_url(href, inputs)


def client_url(href: str, inputs: Inputs) -> httpx.URL:
    """A client's http(s) URL, parsed once; raises Forbidden. The parsed object is what is connected to."""
    if len(href) > LONGEST_URL:
        raise Forbidden(f"The reference is longer than {LONGEST_URL} characters.")
    if "#" in href:
        raise Forbidden("A reference to fetch cannot have a fragment (#…).")
    return checked_url(_parsed(href), inputs)


def redirect_url(here: httpx.URL, location: str, inputs: Inputs) -> httpx.URL:
    """Where a redirect leads, judged like a client's URL; a fragment is dropped. Raises Forbidden."""
    try:
        there = here.join(location).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise Forbidden("The remote server redirects to something that is not a URL.") from error
    if there.scheme not in ("http", "https"):
        raise Forbidden("The remote server redirects to something other than http or https.")
    return checked_url(there, inputs)


def _parsed(href: str) -> httpx.URL:
    try:
        return httpx.URL(href)
    except (httpx.InvalidURL, ValueError) as error:
        raise Forbidden("The reference is not a URL that can be read.") from error


def checked_url(url: httpx.URL, inputs: Inputs) -> httpx.URL:
    """``url`` itself when scheme, host name and, for a literal, address are allowed; raises Forbidden."""
    if url.scheme not in inputs.schemes:
        allowed = ", ".join(inputs.schemes)
        raise Forbidden(f"References of this kind are not fetched here; allowed are: {allowed}.")
    if url.userinfo:
        raise Forbidden("A reference cannot carry a user name or password in its URL.")
    if url.port is not None and not 1 <= url.port <= 65535:
        raise Forbidden("The reference's port is not a port number.")
    _check_host(_host(url), inputs)
    return url


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower()


def _check_host(host: str, inputs: Inputs) -> None:
    literal = _literal(host)
    if not _matches(host, inputs.hosts):
        raise Forbidden("The reference's host is not one that inputs are fetched from here.")
    if literal is not None:
        _check_address(literal, inputs.private_networks)


def _literal(host: str) -> Address | None:
    """The address that ``host`` spells, None for a name; raises Forbidden for odd spellings of either."""
    if ":" in host or _ENDS_IN_NUMBER.fullmatch(host):
        try:
            return ip_address(host)
        except ValueError as error:
            raise Forbidden("The reference's host is not a well-formed address.") from error
    if not _HOST_NAME.fullmatch(host):
        raise Forbidden("The reference has no well-formed host name.")
    return None


def _matches(host: str, patterns: Iterable[str]) -> bool:
    name = host.removesuffix(".")
    return any(_matches_one(name, pattern) for pattern in patterns)


def _matches_one(name: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith("." + _ascii(pattern[2:]))
    return name == _ascii(pattern)


@lru_cache
def _ascii(host: str) -> str:
    literal = f"[{host}]" if ":" in host else host
    return _host(httpx.URL(f"http://{literal}")).removesuffix(".")


def permitted_addresses(host: str, port: int, inputs: Inputs) -> tuple[Address, ...]:
    """The addresses of ``host`` that may be connected to, in the resolver's order.

    Asks the resolver once; the caller connects to what this returns and never to the name. Raises Forbidden
    when there is an answer but none is allowed, OSError when there is no answer. The resolver's own time
    limit applies.
    """
    answers = dict.fromkeys(_resolve(host, port))
    refusals = []
    permitted = []
    for address in answers:
        try:
            _check_address(address, inputs.private_networks)
            permitted.append(address)
        except Forbidden as refusal:
            refusals.append(refusal)
    if not permitted:
        raise refusals[0]
    return tuple(permitted)


def _resolve(host: str, port: int) -> tuple[Address, ...]:
    answers = getaddrinfo(host, port, type=SOCK_STREAM)
    if not answers:
        raise OSError(f"no address for {host}")
    return tuple(ip_address(answer[4][0]) for answer in answers)


def _check_address(address: Address, allowed: Iterable[Network]) -> None:
    """Raise Forbidden unless ``address`` is public or listed.

    A listed IPv6 transition network (NAT64, say) opens that way, not what lies behind it: the IPv4 address
    inside is judged as well.
    """
    networks = tuple(allowed)
    kind = _special_kind(address)
    if kind is not None and not _listed(address, networks):
        raise Forbidden(
            "The reference's host has an address that inputs are not fetched from here.",
            f"{address} is {kind}",
        )
    inner = _embedded(address)
    if inner is not None:
        _check_address(inner, networks)


def _listed(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _special_kind(address: Address) -> str | None:
    for network, word in SPECIAL_NETWORKS:
        if address.version == network.version and address in network:
            return word
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return "not global unicast"
    return None


def _embedded(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def local_file(href: str, inputs: Inputs) -> SharedFile:
    """The regular file that a ``file:`` URL names, by its real path and size in bytes; raises Forbidden.

    Symbolic links are resolved first; then the path must lie below one of the listed folders, component by
    component (``/data/public-secret`` is not below ``/data/public``), and not among what is the server's
    own (job folders, say). What lies elsewhere is never said to exist or not.
    """
    if "file" not in inputs.schemes:
        raise Forbidden("file: references are not allowed here.")
    path = Path(os.path.realpath(_file_path(href)))
    if not _is_below(path, inputs.folders) or _is_below(path, inputs.closed):
        raise Forbidden("The file is not below a folder that this server reads inputs from.")
    return SharedFile(str(path), _regular_size(path))


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(os.path.realpath(folder)) for folder in folders)


def _file_path(href: str) -> Path:
    try:
        parts = urlsplit(href)
        text = unquote_to_bytes(parts.path).decode("utf-8")
    except ValueError as error:
        raise Forbidden("The file: reference is not a URL that can be read.") from error
    if parts.netloc not in ("", "localhost") or parts.query or "#" in href or "\0" in text or "?" in href:
        raise Forbidden("A file: reference has a path and nothing else: file:///folder/name.")
    if not text.startswith("/"):
        raise Forbidden("A file: reference needs an absolute path: file:///folder/name.")
    return Path(text)


def _regular_size(path: Path) -> int:
    try:
        found = path.lstat()
        readable = os.access(path, os.R_OK)
    except OSError as error:
        raise Forbidden("The file does not exist, or cannot be read by this server.", str(error)) from error
    if not stat.S_ISREG(found.st_mode) or not readable:
        raise Forbidden("The file is not a regular file that this server can read.")
    return found.st_size


_SECRET_NAME = re.compile(r"token|key|secret|sig|pass|pwd|auth|cred|session|ticket|code|jwt|sas|^(st|se|sp|sv)$", re.I)
_LONGEST_SHOWN_VALUE = 64


def printable(href: str) -> str:
    """A URL for the log: no user information, and no query value that may be a secret."""
    try:
        url = httpx.URL(href)
        shown = [(name, _shown(name, value)) for name, value in url.params.multi_items()]
        netloc = url.netloc.decode("ascii", "replace")
    except (httpx.InvalidURL, ValueError):
        return "(unreadable URL)"
    query = "?" + "&".join(f"{name}={value}" for name, value in shown) if shown else ""
    return f"{url.scheme}://{netloc}{url.path}{query}".encode("unicode_escape").decode("ascii")


def _shown(name: str, value: str) -> str:
    return "***" if _SECRET_NAME.search(name) or len(value) > _LONGEST_SHOWN_VALUE else value
