"""A real Kafka that asks who is there: one node with an authoriser, and a listener for each way in.

    anybody      no TLS, no password; whoever comes in here may do everything (the test's own door)
    password     no TLS, SASL/PLAIN
    scram        TLS, SASL/SCRAM-SHA-512: what most clusters want
    tls          TLS that wants a certificate of the client's too: mutual TLS

Behind all but the first is `worker`, who may do what was granted, which is nothing at first.

    with secured_kafka() as kafka:
        kafka.grant(ResourceType.TOPIC, "orders.", AclOperation.READ)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but it does not say so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.support.certificates import Authority, Issued
from tests.support.children import ChildProcess, free_ports, own_directory, wait_until
from tests.support.jars import java, kafka_class_path
from tests.support.kafka import (
    ONE_NODE_SETTINGS,
    START_SECONDS_MAX,
    answers,
    as_properties,
    format_storage,
    new_cluster_id,
    short_lived_jvm,
)  # fmt: skip

USER = "worker"
PASSWORD = "not-a-secret"


@dataclass(frozen=True)
class SecuredKafka:
    """The doors, as `host:port`; who vouches for the broker, and what it vouches for of ours."""

    anybody: str
    password: str
    scram: str
    tls: str
    authority: Authority
    client: Issued

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
        wanted = AclBindingFilter(
            kind, prefix, ResourcePatternType.PREFIXED, f"User:{USER}", "*", AclOperation.ANY, AclPermissionType.ALLOW
        )
        wait_until(  # the controller has them at once, the broker a moment later
            lambda: set(operations) <= {acl.operation for acl in admin.describe_acls(wanted).result(timeout=30)},
            what="rights that were granted",
            timeout_s=30,
        )


@contextmanager
def secured_kafka() -> Iterator[SecuredKafka]:
    """Raises `Unavailable` where this machine cannot have one."""
    ports = free_ports(5)
    jvm, class_path = java(), kafka_class_path()
    with own_directory("secured-kafka") as directory:
        authority = Authority(directory)
        anybody, password, scram, tls = (f"127.0.0.1:{port}" for port in ports[:4])
        kafka = SecuredKafka(anybody, password, scram, tls, authority, authority.issue(USER))
        properties = directory / "server.properties"
        properties.write_text(_properties(kafka, ports[4], directory))
        command = [jvm, *short_lived_jvm(), "-cp", class_path]
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        format_storage(command, properties, new_cluster_id(), "-S", scram)
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
    doors = {"ANYBODY": kafka.anybody, "PASSWORD": kafka.password, "SCRAM": kafka.scram, "TLS": kafka.tls}
    protocols = "ANYBODY:PLAINTEXT,PASSWORD:SASL_PLAINTEXT,SCRAM:SASL_SSL,TLS:SSL,CONTROLLER:PLAINTEXT"
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    keystore = directory / "broker.pem"
    keystore.write_text(kafka.authority.issue("broker").both)
    settings = ONE_NODE_SETTINGS | {
        "listeners": ",".join([*(f"{name}://{door}" for name, door in doors.items()), controller]),
        "listener.security.protocol.map": protocols,
        "inter.broker.listener.name": "ANYBODY",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(directory / "data"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "listener.name.password.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.password.plain.sasl.jaas.config": f'{plain} user_{USER}="{PASSWORD}";',
        "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.tls.ssl.client.auth": "required",
        "listener.name.tls.ssl.principal.mapping.rules": "RULE:^CN=([^,]*).*$/$1/",
        "listener.name.tls.ssl.truststore.type": "PEM",
        "listener.name.tls.ssl.truststore.location": str(kafka.authority.ca),
    }
    for door in ("scram", "tls"):
        settings[f"listener.name.{door}.ssl.keystore.type"] = "PEM"
        settings[f"listener.name.{door}.ssl.keystore.location"] = str(keystore)
    return as_properties(settings)
