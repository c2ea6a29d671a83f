"""A way to the tests' login node by each of the transports, and a proxy that loses connections."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.sshd import Sshd
from wps_hpc.clusters.connections import SSH_TRANSPORTS
from wps_hpc.clusters.transports.ssh import SshTransport
from wps_hpc.config import Ssh

SSH = tuple(SSH_TRANSPORTS)


def settings(sshd: Sshd, **more: Any) -> Ssh:
    """The tables ssh of a cluster behind this login node; nothing of the tests' own home folder is used."""
    nothing = sshd.folder / "ssh_config"
    nothing.touch()
    own = {
        "host": sshd.host,
        "port": sshd.port,
        "user": sshd.account,
        "identity_files": [str(sshd.key(more.get("user")))],
        "agent": False,
        "known_hosts": [str(sshd.known_hosts)],
        "config": str(nothing),
        "connect_seconds": 30.0,
    }
    return Ssh.model_validate({**own, **more})


@contextmanager
def opened(kind: str, sshd: Sshd, **more: Any) -> Iterator[SshTransport]:
    """A transport to this login node within the block."""
    transport = SSH_TRANSPORTS[kind](settings(sshd, **more))
    try:
        yield transport
    finally:
        transport.close()


class Proxy:
    """Passes TCP connections on, until it loses or forgets them."""

    def __init__(self, port: int) -> None:
        """``port`` is where it passes them on to, on the loopback."""
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._mute = threading.Event()
        self._flows = threading.Event()
        self._flows.set()
        self._left: float = math.inf
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def known_hosts(self, sshd: Sshd, folder: Path) -> Path:
        """A file with the login node's key as what is reached here."""
        path = folder / "known_hosts"
        path.write_text(sshd.known_hosts.read_text().replace(f":{sshd.port} ", f":{self.port} "))
        return path

    def lose_after(self, count: int) -> None:
        """Cut every connection once so many more bytes have passed in all."""
        self._left = count

    def lose(self) -> None:
        """Cut every connection: both ends are told."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mute(self) -> None:
        """Pass nothing on from now on, and tell nobody, as a cable that was pulled out."""
        self._mute.set()

    def heal(self) -> None:
        """New connections are passed on again; the old ones stay mute."""
        self._mute = threading.Event()

    def stall(self) -> None:
        """Keep what comes from now on, until it flows again."""
        self._flows.clear()

    def flow(self) -> None:
        """Pass on what was kept, late."""
        self._flows.set()

    def close(self) -> None:
        """Listen no more."""
        self._flows.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.lose()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            pair = (client, socket.create_connection(("127.0.0.1", self._target)))
            self._pairs.append(pair)
            thread = threading.Thread(target=self._pass_on, args=(pair, self._mute), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, pair: tuple[socket.socket, socket.socket], mute: threading.Event) -> None:
        with pair[0], pair[1], selectors.DefaultSelector() as waiting:
            for end, other in (pair, pair[::-1]):
                waiting.register(end, selectors.EVENT_READ, other)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in waiting.select():
                        part = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                        self._left -= len(part)
                        if not part or self._left < 0:
                            self._left = math.inf if part else self._left
                            return
                        self._flows.wait()
                        if not mute.is_set():
                            key.data.sendall(part)


@contextmanager
def proxied(sshd: Sshd) -> Iterator[Proxy]:
    """A proxy before a login node within the block."""
    proxy = Proxy(sshd.port)
    try:
        yield proxy
    finally:
        proxy.close()
