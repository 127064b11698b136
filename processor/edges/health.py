"""The HTTP endpoints of a worker: `/metrics`, `/livez`, `/readyz`, `/status`.

Owned by the composition root. A small threaded server, apart from every loop, so that it answers when they do not: that
is when somebody asks. It reads what the roles publish and changes nothing.

    /livez    200 while every role's loop makes its rounds; 503 with the name of the one that does not
    /readyz   200 if every role is assigned, restored and accepted; 503 with every reason why not
    /status   JSON: role, partitions, destinations; of several roles in one process all of them, and each under `roles`
    /metrics  Prometheus text or OpenMetrics, as the Accept header asks; gzipped if it allows that
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any, ClassVar, Final, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from processor.errors import Unusable

_JSON: Final = "application/json"


class Health(Protocol):
    """What a role publishes; any thread may call it at any time."""

    def stuck(self) -> str | None:
        """Returns why the loop does not make its rounds; None while it does."""

    def unready(self) -> list[str]:
        """Returns why the role is not ready; empty if it is."""

    def status(self) -> dict[str, Any]:
        """Returns the role's object of `/status`."""


_AT_ONCE_MAX: Final = 64
"""Connections at once, each with a thread of its own: a scan of the network must not make thousands."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128  # with the default of 5, a probe beside others waits a second or three for its connection

    def server_activate(self) -> None:
        self._free = threading.BoundedSemaphore(_AT_ONCE_MAX)
        super().server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class _Quiet(WSGIRequestHandler):
    """One request a connection, at most 10 s. Probes are not logged."""

    timeout: ClassVar[float | None] = 10

    def log_message(self, format: str, *args: Any) -> None:
        return


class HealthServer:
    """Serves until `close`. Raises `Unusable` if the port is taken."""

    def __init__(self, port: int, roles: list[Health], registry: CollectorRegistry = REGISTRY) -> None:
        self._roles = roles
        self._metrics = make_wsgi_app(registry)
        try:
            self._server = make_server("0.0.0.0", port, self._answer, server_class=_Server, handler_class=_Quiet)
        except OSError as taken:
            problem = f"PROCESSOR_METRICS_PORT: {port} cannot be served on: {taken.strerror}; choose another, or 0"
            raise Unusable([problem]) from taken
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start)
                return answer
            case "/livez":
                return self._verdict(start, [why for role in self._roles if (why := role.stuck()) is not None])
            case "/readyz":
                return self._verdict(start, [why for role in self._roles for why in role.unready()])
            case "/status":
                of_roles = [role.status() for role in self._roles]
                return self._send(start, "200 OK", _JSON, json.dumps(_as_one(of_roles)).encode())
            case _:
                known = "/metrics, /livez, /readyz and /status are served here"
                return self._send(start, "404 Not Found", "text/plain; charset=utf-8", known.encode())

    def _verdict(self, start: Callable[..., Any], against: list[str]) -> Iterable[bytes]:
        status = "503 Service Unavailable" if against else "200 OK"
        body = {"ok": not against, "reasons": against}
        return self._send(start, status, _JSON, json.dumps(body).encode())

    @staticmethod
    def _send(start: Callable[..., Any], status: str, content_type: str, body: bytes) -> Iterable[bytes]:
        start(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]


def _as_one(of_roles: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the body of `/status`. A role's partitions stand in the same place, whether it runs alone or not."""
    if len(of_roles) == 1:
        return of_roles[0]
    return {
        "role": "all",
        "partitions": [partition for role in of_roles for partition in role["partitions"]],
        "destinations": [destination for role in of_roles for destination in role["destinations"]],
        "roles": of_roles,
    }
