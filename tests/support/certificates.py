"""An authority of a test's own, and what it vouches for: PEM, as brokers and librdkafka take it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def both(self) -> str:
        """One file's text with the two, as a broker's keystore wants it."""
        return self.key.read_text() + self.certificate.read_text()


class Authority:
    """Signs certificates with a key that nobody else has; `ca` is the file that makes others trust them."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._signing = trustme.CA()
        self.ca = directory / f"{name}.pem"
        self._signing.cert_pem.write_to_path(self.ca)

    def issue(self, common_name: str) -> Issued:
        """For a server on loopback, or a client that is called so."""
        issued = Issued(self._directory / f"{common_name}.crt", self._directory / f"{common_name}.key")
        made = self._signing.issue_cert("127.0.0.1", common_name=common_name)
        made.cert_chain_pems[0].write_to_path(issued.certificate)
        key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
        pkcs8 = serialization.PrivateFormat.PKCS8  # Java reads no other
        issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption()))
        return issued


def demanding(issued: Issued, *authorities: Authority) -> ssl.SSLContext:
    """A server that wants a client's certificate, of one of these authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    for authority in authorities:
        context.load_verify_locations(authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
