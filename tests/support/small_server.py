"""A server of the standard library's on a free loopback port, for a test that says what it answers.

with serving(handler) as url: …              any handler
with serving(posts(answer)) as url: …        answer(headers, body) gives a status and what becomes JSON
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Quiet(BaseHTTPRequestHandler):
    """A handler that writes no log."""

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def received(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def log_message(self, format: str, *args: Any) -> None:
        return


def posts(answer: Callable[[Message, bytes], tuple[int, object]]) -> type[Quiet]:
    """Answers each POST, on connections that are kept."""

    class Posts(Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            status, said = answer(self.headers, self.received())
            self.answer(status, "application/json", json.dumps(said).encode())

    return Posts


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Its URL, without a path."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(5)
