"""What a proxy costs: send's rate and CPU through each kind, beside the same entries without it.

    python -m tests.benchmarks proxies

An API and a proxy as cheap as Python makes them, each a process on this machine; the proxy does no more than to pass
bytes on. Rounds of the two ways take turns, and the best of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast

import uvloop

from tests.benchmarks.measured import Run, run_workers
from tests.benchmarks.send import Answering, fill
from tests.support.certificates import Authority, Issued
from tests.support.kafka import KafkaBroker
from tests.support.topics import TopicSpace

ORDERS: Final = 1_000
KINDS: Final = (("https", "http"), ("https", "https"), ("http", "http"), ("http", "https"))
"""The API's scheme and the proxy's."""


class _Passing(asyncio.Protocol):
    """What comes goes to the other side."""

    def __init__(self, to: asyncio.Transport) -> None:
        self._to = to

    def data_received(self, data: bytes) -> None:
        self._to.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._to.close()


class _Asked(asyncio.Protocol):
    """A proxy's side of a connection. Mutable: `_head` until it knows where to, then `_to`."""

    def __init__(self) -> None:
        self._head = b""
        self._to: asyncio.Transport | None = None
        self._work: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._to is not None:
            self._to.write(data)
            return
        self._head += data
        if self._work is None and b"\r\n\r\n" in self._head:
            self._work = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        method, target, _ = self._head.split(b" ", 2)
        host, port = target.removeprefix(b"http://").split(b"/")[0].decode().split(":")
        loop = asyncio.get_running_loop()
        to, _ = await loop.create_connection(partial(_Passing, self._transport), host, int(port))
        if method == b"CONNECT":
            self._transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            to.write(self._head)
        self._to = to

    def connection_lost(self, error: Exception | None) -> None:
        if self._to is not None:
            self._to.close()


async def _serve(what: Callable[[], asyncio.Protocol], certificate: str, key: str) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(what, "127.0.0.1", 0, backlog=4096, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def _child(what: str, issued: Issued | None) -> Iterator[int]:
    files = [] if issued is None else [str(issued.certificate), str(issued.key)]
    command = [sys.executable, "-m", "tests.benchmarks.proxies", "--serve", what, *files]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            yield int(child.stdout.readline())
        finally:
            child.terminate()


def main(arguments: list[str] | None = None) -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options.add_argument("--entries", type=int, default=30_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args(arguments)
    if chosen.serve:
        what, certificate, key = (*chosen.serve, "", "")[:3]
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_serve(_Asked if what == "proxy" else partial(Answering, 0.0), certificate, key))
        return
    print(f"proxies, {chosen.entries:,} entries of {ORDERS:,} orders, the best of {chosen.rounds}", flush=True)
    with tempfile.TemporaryDirectory() as directory, KafkaBroker() as broker:
        authority = Authority(Path(directory))
        issued = authority.issue("127.0.0.1")
        for api, kind in KINDS:
            with (
                _child("api", issued if api == "https" else None) as port,
                _child("proxy", issued if kind == "https" else None) as at,
            ):
                way = {"HAKUNA_BASE_URL": f"{api}://127.0.0.1:{port}", "HAKUNA_CA_FILE": str(authority.ca)}
                through = {f"{api.upper()}_PROXY": f"{kind}://127.0.0.1:{at}"}
                direct, proxied = [], []
                for _ in range(chosen.rounds):
                    direct.append(_sent(broker, chosen.entries, way))
                    proxied.append(_sent(broker, chosen.entries, way | through))
            without, ours = (max(runs, key=lambda run: run.rate) for runs in (direct, proxied))
            print(without.line(f"{api} direct"), flush=True)
            print(f"{ours.line(f'by {kind}')}  {ours.rate / without.rate:.0%} of the rate", flush=True)


def _sent(broker: KafkaBroker, entries: int, settings: dict[str, str]) -> Run:
    space = TopicSpace(broker.bootstrap_servers)
    fill(space, entries, ORDERS)
    found = run_workers("send", space.environment | {"HAKUNA_API_KEY": "sk_test_bench"} | settings, entries)
    space.delete()
    return found


if __name__ == "__main__":
    main()
