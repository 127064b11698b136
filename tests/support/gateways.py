"""Real servers that stand before an API: nginx, HAProxy and Node's middlewares, on loopback, each with the upstream
that it needs. Raises `Unavailable` where a program is not on the machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.children import ChildProcess, Unavailable, free_ports, own_directory, wait_until
from tests.support.jars import cached

START_S_MAX = 30.0
MIDDLEWARES = (
    "express@5.1.0", "express-rate-limit@8.7.5", "fastify@5.6.1", "@fastify/rate-limit@11.2.0", "koa@3.0.1",
    "koa-ratelimit@6.0.0",
)  # fmt: skip
INSTALL_S_MAX = 300.0

_NGINX = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1;
events {{}}
http {{
  access_log off; keepalive_timeout 75s 3s; default_type application/json;
  limit_req_zone $server_port zone=z:1m rate=1r/m;
  ssl_certificate {certificate}; ssl_certificate_key {key};
  server {{ listen 127.0.0.1:{tls} ssl; return 200 '{{}}'; }}
  server {{
    listen 127.0.0.1:{mutual} ssl; ssl_client_certificate {ca}; ssl_verify_client on;
    return 200 '{{}}';
  }}
  server {{
    listen 127.0.0.1:{plain}; client_max_body_size 1k;
    location /nowhere {{ return 404; }}
    location /moved {{ return 302 https://login.example/; }}
    location /page {{ default_type text/html; return 200 '<html><head><title>Sign in</title></head></html>'; }}
    location /dead {{ proxy_pass http://127.0.0.1:1; }}
    location /accepted {{ proxy_pass http://127.0.0.1:{upstream}; }}
    location /unasked {{ proxy_pass http://127.0.0.1:{upstream}; proxy_set_header Accept-Encoding gzip; }}
  }}
  server {{
    listen 127.0.0.1:{limited};
    location / {{ limit_req zone=z; proxy_pass http://127.0.0.1:{upstream}/accepted; }}
  }}
  server {{
    listen 127.0.0.1:{counted}; limit_req_status 429;
    location / {{ limit_req zone=z; proxy_pass http://127.0.0.1:{upstream}/accepted; }}
  }}
  server {{
    listen 127.0.0.1:{upstream}; gzip on; gzip_min_length 1; gzip_types application/json;
    gzip_proxied any; gzip_http_version 1.0;
    location /accepted {{ return 201 '{{"event_id": "evt-1"}}'; }}
    location /unasked {{
      return 404 '{{"error": {{"error_code": "location_unsupported", "validation_errors": ["no"]}}}}';
    }}
  }}
}}
"""
NGINX_PORTS = ("tls", "mutual", "plain", "limited", "counted", "upstream")

_HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
frontend f
  bind 127.0.0.1:{front}
  stick-table type ip size 10 expire 60s store http_req_rate(60s)
  http-request deny if {{ path /denied }}
  http-request deny deny_status 429 if {{ path /counted }}
  http-request reject if {{ path /rejected }}
  default_backend dead
backend dead
  server s 127.0.0.1:1
"""

_NODE = """
const ports = process.argv.slice(2).map(Number);
const express = require('express');
const { rateLimit } = require('express-rate-limit');
const answer = (_request, response) => response.status(201).json({ event_id: 'evt-1' });
const limited = (port, options) => {
  const app = express();
  app.use(rateLimit({ windowMs: 60000, limit: 1, ...options }));
  app.post('/events', answer);
  app.listen(port, '127.0.0.1');
};
limited(ports[0], {});
limited(ports[1], { standardHeaders: 'draft-8', legacyHeaders: false });
const fastify = require('fastify')();
fastify.register(require('@fastify/rate-limit'), { max: 1, timeWindow: 60000, ban: 1 }).then(() => {
  fastify.post('/events', async (_request, reply) => reply.code(201).send({ event_id: 'evt-1' }));
  fastify.listen({ port: ports[2], host: '127.0.0.1' });
});
const Koa = require('koa');
const koa = new Koa();
koa.use(require('koa-ratelimit')({ driver: 'memory', db: new Map(), duration: 60000, max: 1 }));
koa.use(async context => { context.status = 201; context.body = { event_id: 'evt-1' }; });
koa.listen(ports[3], '127.0.0.1');
"""
NODE_PORTS = ("express", "express_draft_8", "fastify", "koa")


@contextmanager
def nginx() -> Iterator[dict[str, int]]:
    """Ports by what stands there."""
    program = _found("nginx", "/usr/sbin")
    with own_directory("nginx") as directory:
        authority = Authority(directory)
        issued = authority.issue("nginx")
        ports = dict(zip(NGINX_PORTS, free_ports(len(NGINX_PORTS)), strict=True))
        config = directory / "nginx.conf"
        config.write_text(_NGINX.format(certificate=issued.certificate, key=issued.key, ca=authority.ca, **ports))
        with _running([program, "-p", str(directory), "-e", "stderr", "-c", str(config)], directory, ports):
            yield ports


@contextmanager
def haproxy() -> Iterator[dict[str, int]]:
    program = _found("haproxy", "/usr/sbin")
    with own_directory("haproxy") as directory:
        ports = {"front": free_ports(1)[0]}
        config = directory / "haproxy.cfg"
        config.write_text(_HAPROXY.format(**ports))
        with _running([program, "-db", "-f", str(config)], directory, ports):
            yield ports


@contextmanager
def node() -> Iterator[dict[str, int]]:
    program, npm = _found("node"), _found("npm")

    def fetch(into: Path) -> None:
        line = [npm, "install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", *MIDDLEWARES]
        done = subprocess.run(line, cwd=into, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False)
        if done.returncode != 0:
            raise Unavailable(f"npm cannot install the middlewares: {done.stderr.strip()[-300:]}")

    modules = cached("node-middlewares-1", fetch)
    with own_directory("node") as directory:
        ports = dict(zip(NODE_PORTS, free_ports(len(NODE_PORTS)), strict=True))
        script = modules / "middlewares.js"
        script.write_text(_NODE)
        with _running([program, str(script), *map(str, ports.values())], directory, ports):
            yield ports


def _found(program: str, *also: str) -> str:
    found = shutil.which(program) or next((f"{at}/{program}" for at in also if Path(at, program).exists()), None)
    if found is None:
        raise Unavailable(f"{program} is not installed")
    return found


@contextmanager
def _running(command: list[str], directory: Path, ports: dict[str, int]) -> Iterator[None]:
    child = ChildProcess(command, log=directory / "server.log", cwd=directory)
    try:
        wait_until(lambda: all(map(_listens, ports.values())), what=command[0], timeout_s=START_S_MAX, child=child)
        yield
    finally:
        child.kill()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
