"""A real Kafka that asks who is there: one node with an authoriser, and a listener for each way of getting it wrong.

anybody      no TLS, no password; whoever comes in here may do everything (the test's own door)
password     no TLS, SASL/PLAIN; `worker` may do what it was granted, which is nothing at first
tls          TLS with a certificate that nobody knows

with SecuredKafka() as kafka:
    kafka.grant("worker", ResourceType.TOPIC, "orders.", AclOperation.READ)
"""

from __future__ import annotations

import base64
import datetime
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but it does not say so
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.children import ChildProcess, free_ports, own_directory, wait_until
from tests.support.jars import java, kafka_class_path
from tests.support.kafka import ONE_NODE_SETTINGS, SHORT_LIVED_JVM, START_SECONDS_MAX, answers

USER = "worker"
PASSWORD = "not-a-secret"


@dataclass(frozen=True)
class SecuredKafka:
    """The three doors, as `host:port`."""

    anybody: str
    password: str
    tls: str

    @property
    def credentials(self) -> dict[str, str]:
        """What a worker's environment needs to come in by the door with the password."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.password,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISM": "PLAIN",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": PASSWORD,
        }

    def grant(self, kind: ResourceType, prefix: str, *operations: AclOperation) -> None:
        admin = AdminClient({"bootstrap.servers": self.anybody, "log_level": 3})
        bindings = [
            AclBinding(
                kind, prefix, ResourcePatternType.PREFIXED, f"User:{USER}", "*", operation, AclPermissionType.ALLOW
            )
            for operation in operations
        ]
        for future in admin.create_acls(bindings).values():
            future.result(timeout=30)


@contextmanager
def secured_kafka() -> Iterator[SecuredKafka]:
    """Raises `Unavailable` where this machine cannot have one."""
    ports = free_ports(4)
    kafka = SecuredKafka(*(f"127.0.0.1:{port}" for port in ports[:3]))
    jvm, class_path = java(), kafka_class_path()
    with own_directory("secured-kafka") as directory:
        properties = directory / "server.properties"
        properties.write_text(_properties(kafka, ports[3], directory))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = [jvm, *SHORT_LIVED_JVM, "-cp", class_path]
        subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", f"-t={cluster_id}", "-c", str(properties)],
            check=True,
            capture_output=True,
            timeout=START_SECONDS_MAX,
        )
        child = ChildProcess(
            [*command, "-Dlog4j2.level=WARN", "kafka.Kafka", str(properties)],
            log=directory / "broker.log",
            cwd=directory,
        )
        try:
            wait_until(lambda: answers(kafka.anybody), what="Kafka", timeout_s=START_SECONDS_MAX, child=child)
            yield kafka
        finally:
            child.kill()


def _properties(kafka: SecuredKafka, controller_port: int, directory: Path) -> str:
    controller = f"CONTROLLER://127.0.0.1:{controller_port}"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    keystore = directory / "broker.pem"
    keystore.write_text(_certificate())
    settings = ONE_NODE_SETTINGS | {
        "listeners": f"ANYBODY://{kafka.anybody},PASSWORD://{kafka.password},TLS://{kafka.tls},{controller}",
        "listener.security.protocol.map": "ANYBODY:PLAINTEXT,PASSWORD:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "ANYBODY",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(directory / "data"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.password.plain.sasl.jaas.config": f'{plain} user_{USER}="{PASSWORD}";',
        "listener.name.tls.ssl.keystore.type": "PEM",
        "listener.name.tls.ssl.keystore.location": str(keystore),
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _certificate() -> str:
    """A key and a certificate that it signed itself, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()
