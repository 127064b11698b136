"""What goes wrong on the first day: a secret that was not made, a wrong key, a missing topic, a full volume.

The worker says which and what to do, in `/readyz` or its log, and in what its alert looks at, and goes on by itself
where it can.
"""

import json
from pathlib import Path

import httpx
import orjson
import pytest

from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.deploy.manifests import built, containers, settings
from tests.deploy.promql import metric_names
from tests.deploy.test_prometheus import ALERTS
from tests.deploy.tools import DEPLOY, run, tool
from tests.support.children import Unavailable, wait_until
from tests.support.installation import Installation
from tests.support.processes import PROGRAM, Worker
from tests.support.topics import TopicSpace
from tests.unit.sandbox.apis.reference import PLACED

pytestmark = [pytest.mark.slow]

SAID_SECONDS_MAX = 60.0
MOUNTED = 'mount -t tmpfs -o size=24m none "$PROCESSOR_STATE_DIR" && exec "$@"'
"""For a shell in a mount namespace of its own: nobody but its worker sees the volume."""


def reasons(worker: Worker) -> str:
    """What `/readyz` has against it; empty while it does not answer yet, or when it is ready."""
    try:
        return "\n".join(worker.get("/readyz").json()["reasons"])
    except httpx.TransportError:
        return ""


def says(worker: Worker, *words: str) -> None:
    """Waits until `/readyz` and the log name all of these."""
    wait_until(
        lambda: all(word in reasons(worker) and word in worker.log.read_text() for word in words),
        what=f"{words} in /readyz and the log",
        timeout_s=SAID_SECONDS_MAX,
        child=worker.child,
    )


def shown(worker: Worker, alert: str) -> dict[str, float]:
    """The series of `/metrics` that an alert's expression looks at."""
    looked_at = metric_names(ALERTS[alert]["expr"])
    lines = [line for line in worker.get("/metrics").text.splitlines() if not line.startswith("#")]
    series = dict(line.rsplit(" ", 1) for line in lines if line.split("{")[0] in looked_at)
    return {name: float(value) for name, value in series.items()}


@pytest.mark.timeout(180)
def test_a_manifest_without_its_secret_waits_for_it_and_a_wrong_key_holds_everything(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The base's own environment of send. Then the secret is made with a wrong key, then with the right one: no
    restart, no dead letter."""
    installation = Installation(topic_space, schema_registry)
    base = built(DEPLOY / "kubernetes/base")
    (send,) = (one for one in containers(base) if one.workload == "send")
    environment = settings(base) | send.environment
    key_file = tmp_path / "secret" / Path(environment["HAKUNA_API_KEY_FILE"]).name
    headers = [("entry-id", b"e-1"), ("entry-type", b"order_placed"), ("source", b"a/0/0"), ("occurred-at", b"1")]
    installation.write(Topic.OUTBOX, b"ord-123", orjson.dumps(PLACED), headers=[*headers])
    installation.flush()
    hakuna = StandIn(HakunaApi())
    with Loopback(hakuna) as api:
        given = {"HAKUNA_API_KEY_FILE": str(key_file), "HAKUNA_BASE_URL": api.url}
        worker = start_worker(
            *send.spec["args"], environment=environment | installation.environment | given, await_ready=False
        )
        says(worker, "HAKUNA_API_KEY_FILE", str(key_file), "No such file", "the secret that is mounted there")
        assert worker.get("/livez").is_success, "a restart would not bring the secret"
        assert shown(worker, "ProcessorRoleAbsent") == {}, "with a partition, the alert would keep quiet"

        key_file.parent.mkdir()
        key_file.write_text("sk_of_somebody_else")
        says(worker, "the key is refused")
        wait_until(
            lambda: shown(worker, "ProcessorKeyRefused") == {'processor_key_refused{destination="hakuna"}': 1.0},
            what="the alert's series",
            timeout_s=SAID_SECONDS_MAX,
        )
        assert "replace it, it is read again every second" in reasons(worker)
        assert "sk_of_somebody_else" not in worker.log.read_text()

        key_file.write_text(SANDBOX_KEY)
        worker.wait_ready(SAID_SECONDS_MAX)
        wait_until(lambda: bool(hakuna.record.subjects()), what="the entry", timeout_s=SAID_SECONDS_MAX)
        assert worker.terminate() == 0
    assert [record.key() for record in topic_space.records(Topic.DELIVERIES)] == [b"ord-123"]
    assert topic_space.records(Topic.HAKUNA_DEAD_LETTERS) == []


@pytest.mark.timeout(120)
def test_a_missing_topic_is_named_and_waited_for(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    installation = Installation(topic_space, schema_registry)
    lost = topic_space.name(Topic.CHANGELOG)
    topic_space.admin.delete_topics([lost])[lost].result(30)
    worker = start_worker(
        "run", "--role", "transform", environment=installation.environment, name="transform", await_ready=False
    )
    says(worker, f"topics are missing: {lost}", "hakuna-processor topics create")
    assert worker.get("/livez").is_success
    assert shown(worker, "ProcessorRoleAbsent") == {}
    topic_space.create(Topic.CHANGELOG, config={"cleanup.policy": "compact"})
    worker.wait_ready(SAID_SECONDS_MAX)
    wait_until(
        lambda: bool(shown(worker, "ProcessorRoleAbsent")), what="the alert's series", timeout_s=SAID_SECONDS_MAX
    )


@pytest.fixture
def small_volume(tmp_path: Path) -> tuple[str, ...]:
    """A program whose PROCESSOR_STATE_DIR is a small volume."""
    namespace = (tool("unshare", "apt install util-linux"), "--user", "--map-root-user", "--mount")
    tried = run([*namespace, "sh", "-c", MOUNTED.replace("$PROCESSOR_STATE_DIR", str(tmp_path)), "sh", "true"])
    if tried.returncode != 0:
        raise Unavailable(f"this kernel lets nobody have a mount namespace: {tried.stderr}")
    return (*namespace, "sh", "-c", MOUNTED, "sh", *PROGRAM)


def fill(path: Path) -> None:
    """Writes until the system refuses."""
    with path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65_536))


@pytest.mark.timeout(180)
def test_a_full_volume_ends_the_worker_with_its_remedy_and_nothing_is_lost(
    topic_space: TopicSpace, schema_registry: str, tmp_path: Path, small_volume: tuple[str, ...]
) -> None:
    """Exit code 1, so that the orchestrator restarts it and the crash loop rings; on a larger volume it goes on."""
    installation = Installation(topic_space, schema_registry)
    state = tmp_path / "state"
    state.mkdir()
    settings_ = installation.environment | {"PROCESSOR_STATE_DIR": str(state)}
    arguments = ("run", "--role", "transform")
    with Worker(*arguments, environment=settings_, directory=tmp_path / "full", program=small_volume) as worker:
        with pytest.raises(OSError, match="No space left"):
            fill(Path(f"/proc/{worker.pid}/root{state}/filler"))
        written = installation.play(shop(Shop(orders=500, rate=1000, bad_share=0, seed=4, start_ms=1_700_000_000_000)))
        assert worker.wait(SAID_SECONDS_MAX) == 1
        failed = [line for line in worker.log.read_text().splitlines() if '"role failed"' in line]
    why = json.loads(failed[-1])["why"]
    assert "No space left on device" in why
    assert "the volume is full: enlarge it, or share the partitions out to more workers" in why
    with Worker(*arguments, environment=settings_, directory=tmp_path / "larger") as worker:
        wait_until(
            lambda: sum(one["lag"] for one in worker.get("/status").json()["partitions"]) == 0,
            what="all records",
            timeout_s=SAID_SECONDS_MAX,
        )
        assert worker.terminate() == 0
    told = {record.key() for record in topic_space.records(Topic.OUTBOX)}
    assert {step.key for step in written if step.topic is Topic.PLACED} <= told
