"""A real Apache Kafka for tests and benchmarks: one node, KRaft, on loopback, at the broker's default
settings.

What differs from the defaults is what one node and a test need and nothing that a guarantee could lean on:
listeners, replication factors and partition counts of the internal topics, no waiting for more group
members (`group.initial.rebalance.delay.ms=0`), no topics made by accident
(`auto.create.topics.enable=false`).

    with KafkaBroker() as broker:       # in a container if an engine has the image, else from Kafka's own jars
        broker.bootstrap_servers        # stays the same
        broker.kill(); broker.start()   # SIGKILL, then again on the same port and data

A bench's broker has a JVM that compiles what is hot as well as it can; a test's, `KafkaBroker(jvm=short_lived_jvm)`,
does not live until that pays: it is up with 1.3 s of CPU where the other takes 4.5, and ten busy seconds later the
other has taken half as much again.
"""

import base64
import functools
import hashlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.children import (
    REPOSITORY,
    ChildProcess,
    StartFailed,
    Unavailable,
    free_ports,
    log_tail,
    own_directory,
    wait_until,
)
from tests.support.jars import KAFKA_VERSION, cached, java, java_version, kafka_class_path

BOOTSTRAP_VARIABLE = "TEST_KAFKA_BOOTSTRAP_SERVERS"  # a cluster that is there already: used as it is
IMAGE_VARIABLE = "TEST_KAFKA_IMAGE"
IMAGE = "apache/kafka-native:4.3.1"

START_SECONDS_MAX = 120.0  # 3 s on an idle machine; a shared one with two cores has been thirty times slower
STOP_SECONDS_MAX = 30.0

# One node cannot hold three replicas. Few partitions, because every start loads each of them.
ONE_NODE_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


LONG_LIVED_JVM = ("-Xmx1g",)
_CLASSES = "kafka.jsa"
SHORT_LIVED_JVM = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")

Jvm = Callable[[], tuple[str, ...]]
"""What a JVM is started with, once it is known that there is one."""


def long_lived_jvm() -> tuple[str, ...]:
    return LONG_LIVED_JVM


@functools.cache
def short_lived_jvm() -> tuple[str, ...]:
    """With Kafka's classes as a broker has loaded and linked them, made once and kept beside the jars; a JVM that they
    do not fit does without them. Raises Unavailable."""
    whose = hashlib.sha256(f"{java_version()} {kafka_class_path()} {SHORT_LIVED_JVM}".encode()).hexdigest()[:12]
    classes = cached(f"kafka-classes-{whose}", _write_classes) / _CLASSES
    return (*SHORT_LIVED_JVM, f"-XX:SharedArchiveFile={classes}") if classes.exists() else SHORT_LIVED_JVM


def _write_classes(into: Path) -> None:
    """A JVM writes them at its orderly end."""
    with KafkaBroker(settings={}, jvm=lambda: (*SHORT_LIVED_JVM, f"-XX:ArchiveClassesAtExit={into / _CLASSES}")) as it:
        it.stop()


_DATA_INSIDE = "/var/lib/kafka/data"

# How the controller's log says that a broker's session has ended; the record it writes then.
BROKER_FENCED = "fenced=1, inControlledShutdown"


class Vehicle(Protocol):
    """What a broker runs in. `start` returns as soon as the process exists; the same port and data every
    time."""

    bootstrap_servers: str

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pid(self) -> int: ...
    def child(self) -> ChildProcess | None: ...
    def log_tail(self) -> str: ...


class KafkaBroker:
    """One broker of our own, of the usual version or, from jars, of another or with `settings` of its own; `jvm` is for
    those from jars. `start` returns when it answers. Raises Unavailable if this machine cannot have one."""

    # Mutable: `_vehicle` is set by `__enter__` and stays; whether it runs is the vehicle's to know.

    def __init__(
        self,
        version: str = KAFKA_VERSION,
        settings: Mapping[str, str] | None = None,
        jvm: Jvm = long_lived_jvm,
        classes: Path | None = None,
    ) -> None:
        """`classes`: a directory of classes that `settings` name."""
        self._version = version
        self._classes = classes
        self._settings = settings
        self._jvm = jvm
        self._cleanup = ExitStack()
        self._vehicle: Vehicle | None = None

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._vehicle = _vehicle(undo, self._version, self._settings, self._jvm, self._classes)
            self.start()
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The end, also of its data; leaving the context does it, and twice is once. Killed, not stopped:
        there is nothing left that an orderly end would save."""
        self._cleanup.close()

    @property
    def vehicle(self) -> Vehicle:
        assert self._vehicle is not None, "use it as a context: with KafkaBroker() as broker"
        return self._vehicle

    @property
    def bootstrap_servers(self) -> str:
        return self.vehicle.bootstrap_servers

    @property
    def data(self) -> Path:
        """Where its logs lie on this machine; only one with `settings` of its own can be asked."""
        assert isinstance(self.vehicle, _JarVehicle), "a container's files are its own"
        return self.vehicle.data

    @property
    def pid(self) -> int:
        """The broker's process ID on this machine (in a container: as the host sees it)."""
        return self.vehicle.pid()

    def start(self) -> None:
        """Also after `kill` or `stop`: on the same port, with the same data."""
        self.vehicle.start()
        child = self.vehicle.child()
        try:
            wait_until(lambda: answers(self.bootstrap_servers), what="Kafka", timeout_s=START_SECONDS_MAX, child=child)
        except StartFailed as failed:
            if child is not None:
                raise
            raise StartFailed(f"{failed}\n{self.log_tail()}") from None

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.vehicle.kill()

    def stop(self) -> None:
        """SIGTERM and an orderly shutdown, as in a rolling restart; returns when the process is gone."""
        self.vehicle.stop()

    def log_tail(self) -> str:
        return self.vehicle.log_tail()


def new_cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()


def format_storage(jvm: Sequence[str], properties: Path, cluster_id: str, *more: str) -> None:
    """`jvm`: the command without a main class. Raises StartFailed."""
    tool = ("kafka.tools.StorageTool", "format", f"-t={cluster_id}", "-c", str(properties), *more)  # "=": for a dash
    done = subprocess.run([*jvm, *tool], capture_output=True, text=True, check=False, timeout=START_SECONDS_MAX)
    if done.returncode != 0:
        raise StartFailed(f"formatting Kafka's storage failed: {done.stdout}{done.stderr}")


def answers(bootstrap_servers: str) -> bool:
    """Whether a broker there answers a metadata request within a second; at once where nobody listens."""
    if not any(map(listens, bootstrap_servers.split(","))):
        return False
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "log_level": 0,  # refused connections are what is expected here
        "error_cb": lambda _error: None,
    }
    admin = AdminClient(settings)
    try:
        return len(admin.list_topics(timeout=1.0).brokers) > 0
    except KafkaException:
        return False


def listens(address: str) -> bool:
    place = urlsplit(f"//{address}")
    with suppress(OSError), socket.create_connection((place.hostname, place.port or 9092), timeout=1.0):
        return True
    return False


def _vehicle(
    cleanup: ExitStack, version: str, settings: Mapping[str, str] | None, jvm: Jvm, classes: Path | None
) -> Vehicle:
    if version == KAFKA_VERSION and settings is None and _image_is_there():
        return _ContainerVehicle(cleanup)
    return _JarVehicle(cleanup, version, settings or {}, jvm, classes)


class _JarVehicle:
    """Kafka's own jars in a JVM of ours.

    After a kill it lets the controller, which died with its broker, first notice that the broker is gone, as a
    controller that lived on would have. Without that, Kafka 4.3 loses commit markers: the restarted broker still
    stands in the metadata as leader and transaction coordinator, so it sends the markers of prepared
    transactions, is refused its registration (DUPLICATE_BROKER_REGISTRATION, for the 9 s of
    `broker.session.timeout.ms`), then registers, resigns, and calls those transactions complete with no marker
    written: `read_committed` readers wait for ever. No other setting of the broker has to differ for this.
    """

    # Mutable: `_child` is the latest process; `_registered` says that the controller still takes it for alive.

    def __init__(
        self, cleanup: ExitStack, version: str, own: Mapping[str, str], jvm: Jvm, classes: Path | None
    ) -> None:
        self._java = java()
        self._jvm = jvm()
        self._class_path = kafka_class_path(version) + ("" if classes is None else f"{os.pathsep}{classes}")
        broker_port, controller_port = free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{broker_port}"
        self._directory = cleanup.enter_context(own_directory("kafka"))
        self.data = self._directory / "data"
        self._log = self._directory / "broker.log"
        controller = f"CONTROLLER://127.0.0.1:{controller_port}"
        settings = ONE_NODE_SETTINGS | {
            "listeners": f"PLAINTEXT://{self.bootstrap_servers},{controller}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "log.dirs": str(self.data),
            **own,
        }
        self._properties = self._directory / "server.properties"
        self._properties.write_text(as_properties(settings))
        alone = {"process.roles": "controller", "listeners": controller, "broker.session.timeout.ms": "500"}
        self._controller_properties = self._directory / "controller.properties"
        self._controller_properties.write_text(as_properties(settings | alone))
        self._child: ChildProcess | None = None
        self._registered = False
        format_storage([self._java, *self._jvm, "-cp", self._class_path], self._properties, new_cluster_id())
        cleanup.callback(self.kill)

    def _command(self, main_class: str, *arguments: str, log_level: str = "WARN") -> list[str]:
        level = f"-Dlog4j2.level={log_level}"
        return [self._java, *self._jvm, level, "-cp", self._class_path, main_class, *arguments]

    def start(self) -> None:
        assert self._child is None or not self._child.running, "the broker is running already"
        if self._registered:
            self._let_the_controller_notice()
        self._child = ChildProcess(
            self._command("kafka.Kafka", str(self._properties)), log=self._log, cwd=self._directory
        )
        self._registered = True

    def _let_the_controller_notice(self) -> None:
        log = self._directory / "controller.log"
        log.unlink(missing_ok=True)
        controller = ChildProcess(
            self._command("kafka.Kafka", str(self._controller_properties), log_level="INFO"),
            log=log,
            cwd=self._directory,
        )
        try:
            wait_until(
                lambda: BROKER_FENCED in log.read_text(errors="replace"),
                what="The controller's notice of the broker's death",
                timeout_s=START_SECONDS_MAX,
                child=controller,
            )
            controller.terminate(STOP_SECONDS_MAX)
        finally:
            controller.kill()
        self._registered = False

    def stop(self) -> None:
        assert self._child is not None
        self._child.terminate(STOP_SECONDS_MAX)
        self._registered = False  # an orderly shutdown says so to the controller

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def child(self) -> ChildProcess | None:
        return self._child

    def log_tail(self) -> str:
        return log_tail(self._log)


class _ContainerVehicle:
    """The project's own image in a container. Its port on the host is bound by us, so that it outlives a
    restart, and its data lies in a volume, so that another container's controller can notice a kill, which is
    needed here as much as for the jars."""

    # Mutable: `_created` from the first start on; `_registered` as the jars have it.

    def __init__(self, cleanup: ExitStack) -> None:
        # Imported here: at import it reads Docker's configuration, which need not exist.
        from testcontainers.core.container import DockerContainer

        (port,) = free_ports(1)
        self._volume = f"hakuna-processor-kafka-{uuid.uuid4().hex[:12]}"
        container = self._container_with_data(DockerContainer(_image())).with_bind_ports(9092, port)
        self.bootstrap_servers = f"{container.get_container_host_ip()}:{port}"
        settings = ONE_NODE_SETTINGS | {
            "listeners": "PLAINTEXT://0.0.0.0:9092,INSIDE://127.0.0.1:9094,CONTROLLER://127.0.0.1:9093",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
            # A broker speaks to itself too, as a transaction's coordinator, and the host's port is not there for it:
            # without a way inside, no transaction is ever committed.
            "inter.broker.listener.name": "INSIDE",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers},INSIDE://127.0.0.1:9094",
            "controller.quorum.voters": "1@127.0.0.1:9093",
            "log.dirs": _DATA_INSIDE,
        }
        self._container = _with_settings(container, settings)
        alone = {
            name: value
            for name, value in settings.items()
            if name not in ("advertised.listeners", "inter.broker.listener.name")
        } | {
            "process.roles": "controller",
            "listeners": "CONTROLLER://127.0.0.1:9093",
            "broker.session.timeout.ms": "500",
        }
        watcher = self._container_with_data(DockerContainer(_image()))
        self._watcher = _with_settings(watcher, alone)
        self._created = False
        self._registered = False
        cleanup.callback(self._remove)

    def _container_with_data(self, container: Any) -> Any:
        """Root, whoever the image would be: a fresh volume is root's."""
        return container.with_volume_mapping(self._volume, _DATA_INSIDE, "rw").with_kwargs(user="root")

    def start(self) -> None:
        if self._registered:
            self._let_the_controller_notice()
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        self._registered = True

    def _let_the_controller_notice(self) -> None:
        self._watcher.start()
        try:
            wait_until(
                lambda: BROKER_FENCED in _logs(self._watcher),
                what="The controller's notice of the broker's death",
                timeout_s=START_SECONDS_MAX,
            )
            self._watcher.get_wrapped_container().stop(timeout=int(STOP_SECONDS_MAX))
        except StartFailed as failed:
            raise StartFailed(f"{failed}\n{_logs(self._watcher, 40)}") from None
        finally:
            self._watcher.stop(force=True, delete_volume=False)
        self._registered = False

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=int(STOP_SECONDS_MAX))
        self._registered = False

    def kill(self) -> None:
        wrapped = self._container.get_wrapped_container()
        wrapped.kill("SIGKILL")
        wrapped.wait(timeout=10)

    def _remove(self) -> None:
        if self._created:
            client = self._container.get_docker_client().client
            self._container.stop(force=True, delete_volume=True)
            client.volumes.get(self._volume).remove(force=True)

    def pid(self) -> int:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return int(wrapped.attrs["State"]["Pid"])

    def child(self) -> ChildProcess | None:
        return None

    def log_tail(self) -> str:
        if not self._created:
            return ""
        return _logs(self._container, 40)


def _with_settings(container: Any, settings: dict[str, str]) -> Any:
    for name, value in settings.items():
        container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
    return container


def _logs(container: Any, lines_max: int | str = "all") -> str:
    return str(container.get_wrapped_container().logs(tail=lines_max).decode("utf-8", errors="replace"))


def _image_is_there() -> bool:
    return _is_there(_image())


@functools.cache
def _is_there(image: str) -> bool:
    """Whether an engine answers and has the image, or can get it: the jars do as well where it cannot."""
    check = [sys.executable, "-m", "tests.support.engine", image]
    return subprocess.run(check, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0


def _image() -> str:
    return os.environ.get(IMAGE_VARIABLE) or IMAGE


def as_properties(settings: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def existing_cluster() -> str | None:
    """The bootstrap servers of a cluster that somebody else runs for us, if there is one. Raises
    Unavailable if it was named but does not answer."""
    named = os.environ.get(BOOTSTRAP_VARIABLE)
    if named and not answers(named):
        raise Unavailable(f"{BOOTSTRAP_VARIABLE}={named} does not answer")
    return named or None
