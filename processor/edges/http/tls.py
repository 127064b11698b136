"""TLS to an API: the trusted authorities, and our own certificate.

    HAKUNA_CA_FILE                                    trusts these authorities only; without it the system's, which
                                                      SSL_CERT_FILE and SSL_CERT_DIR may name; else certifi's
    HAKUNA_CLIENT_CERT_FILE, HAKUNA_CLIENT_KEY_FILE   the certificate for a gateway that asks for one (HAKO_… likewise)

Certificate and host name are always verified. Each new connection checks the files and reads changed ones again, so a
secret is renewed without a restart. If a file cannot be read then, the log says so and the last good one stays.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import certifi
import structlog

from processor.config import Settings
from processor.errors import Problem, Unusable

log = structlog.get_logger(__name__)

_Seen = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of the settings with `prefix`, HAKUNA or HAKO. The certificate's file may hold the key."""

    prefix: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.ca, self.certificate, self.key) if path is not None)


def hakuna_tls(settings: Settings) -> TlsFiles:
    paths = settings.hakuna_ca_file, settings.hakuna_client_cert_file, settings.hakuna_client_key_file
    return TlsFiles("HAKUNA", *(Path(path) if path else None for path in paths))


def hako_tls(settings: Settings) -> TlsFiles:
    paths = settings.hako_ca_file, settings.hako_client_cert_file, settings.hako_client_key_file
    return TlsFiles("HAKO", *(Path(path) if path else None for path in paths))


class Tls:
    """Makes contexts. Raises `Unusable` if the files cannot be used at the start.

    Mutable: `_context` was made of files that looked like `_seen`; `_complained` is the last complaint in the log.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        problems = tls_problems(files, os.environ)
        if problems:
            raise Unusable(problems)
        self._seen = _looks(files)
        self._context = _made(files)
        self._complained = ""

    def __call__(self) -> ssl.SSLContext:
        """Returns the context for a new connection."""
        if not self._files.all:
            return self._context
        seen = _looks(self._files)
        if seen != self._seen:
            try:
                self._context = _made(self._files)
            except OSError as wrong:  # ssl.SSLError is one; a pair may be replaced one file after the other
                self._complain(str(wrong))
            else:
                self._seen, self._complained = seen, ""
                log.info("certificates have changed", files=[str(path) for path in self._files.all])
        return self._context

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            files = [str(path) for path in self._files.all]
            log.warning("certificates cannot be read, the last ones stay", files=files, why=why)


def tls_problems(files: TlsFiles, environment: Mapping[str, str]) -> list[Problem]:
    """Returns the problems of the files, and of `SSL_CERT_FILE` and `SSL_CERT_DIR`, which OpenSSL ignores without a
    word if they do not exist."""
    problems: list[Problem] = []
    if files.ca is None:
        for name, there in (("SSL_CERT_FILE", os.path.isfile), ("SSL_CERT_DIR", _any_directory)):
            path = environment.get(name)
            if path and not there(path):
                problems.append(Problem(name, f"{path} does not exist", "correct it, or leave it out"))
    if files.key is not None and files.certificate is None:
        what = f"is set without {files.prefix}_CLIENT_CERT_FILE"
        problems.append(Problem(f"{files.prefix}_CLIENT_KEY_FILE", what, "set both, or neither"))
    if files.ca is not None:
        problems += _tried(f"{files.prefix}_CA_FILE", files.ca, TlsFiles(files.prefix, files.ca))
    if files.certificate is not None:
        pair = TlsFiles(files.prefix, None, files.certificate, files.key)
        problems += _tried(f"{files.prefix}_CLIENT_CERT_FILE", files.certificate, pair)
    return problems


def tls_context() -> ssl.SSLContext:
    """Returns a context without files of our own."""
    return _made(TlsFiles("HAKUNA"))


def _tried(name: str, path: Path, files: TlsFiles) -> list[Problem]:
    try:
        _made(files)
    except ssl.SSLError as wrong:
        why = wrong.reason or str(wrong)
        remedy = "it must be PEM, a certificate and the key that belongs to it"
        return [Problem(name, f"{path} cannot be used: {why}", remedy)]
    except OSError as wrong:
        return [Problem(name, f"{path} cannot be read: {wrong.strerror}", "put it there, readable for this user")]
    return []


def _made(files: TlsFiles) -> ssl.SSLContext:
    """Raises `OSError` if a file cannot be read or has the wrong content."""
    if files.ca is not None:
        context = ssl.create_default_context(cafile=str(files.ca))
    else:
        context = ssl.create_default_context()
        directory = ssl.get_default_verify_paths().capath or ""  # its files are read when needed and not counted
        if not context.cert_store_stats()["x509_ca"] and not (directory and os.listdir(directory)):
            context.load_verify_locations(certifi.where())
    if files.certificate is not None:
        key = None if files.key is None else str(files.key)
        context.load_cert_chain(str(files.certificate), key, password=_no_password)
    context.set_alpn_protocols(["http/1.1"])
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """Else OpenSSL would ask the terminal."""
    return ""


def _any_directory(paths: str) -> bool:
    return any(os.path.isdir(path) for path in paths.split(os.pathsep))


def _looks(files: TlsFiles) -> _Seen:
    """Returns what shows a change of the files; follows a secret's link."""
    seen: list[tuple[int, int, int] | None] = []
    for path in files.all:
        try:
            found = path.stat()
        except OSError:
            seen.append(None)
        else:
            seen.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(seen)
