"""A proxy's login page, whatever is asked, from a machine whose clock is late by a day and more.

with login_page() as url: …
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from tests.support.small_server import Quiet, serving


class _Page(Quiet):
    def do_GET(self) -> None:  # noqa: N802  # the base class looks for this name
        body = b"<html>Please log in</html>"
        self.send_response_only(200)
        self.send_header("Date", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the base class looks for this name


def login_page() -> AbstractContextManager[str]:
    return serving(_Page)
