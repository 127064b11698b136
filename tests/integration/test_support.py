"""The real parts that other tests stand on are real, come back after a kill -9, and leave nothing behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.conftest import StartWorker, whatever_can_be_had
from tests.support import lock
from tests.support.children import REPOSITORY, ChildProcess, StartFailed, Unavailable, own_directory, wait_until
from tests.support.kafka import KafkaBroker, answers
from tests.support.lending import Lender, borrowed
from tests.support.loopback import LOOPBACK
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

# The three paths of a worker that `Worker` uses, in a program that starts in no time.
STAND_IN = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ.get(self.path[1:], "").encode())
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PROCESSOR_METRICS_PORT"])), Answer).serve_forever()
"""


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def transactional_producer(space: TopicSpace, name: str) -> Producer:
    producer = Producer(
        {"bootstrap.servers": space.bootstrap_servers, "transactional.id": space.prefix + name, "log_level": 3}
    )
    producer.init_transactions(30)
    return producer


def test_read_committed_sees_what_was_committed_and_not_what_was_aborted(topic_space: TopicSpace) -> None:
    topic_space.create("a", partitions=2)
    producer = transactional_producer(topic_space, "writer")

    producer.begin_transaction()
    for number in range(10):
        producer.produce(topic_space.name("a"), key=b"k", value=b"%d" % number, partition=number % 2)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic_space.name("a"), value=b"aborted", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)

    committed = [record.value() for record in topic_space.records("a")]
    assert committed == [b"0", b"2", b"4", b"6", b"8", b"1", b"3", b"5", b"7", b"9"]
    everything = [record.value() for record in topic_space.records("a", isolation="read_uncommitted")]
    assert b"aborted" in everything
    assert topic_space.end_offsets("a") == {0: 8, 1: 6}  # two markers in the first partition, one in the second


def test_a_broker_does_not_make_topics_by_accident(topic_space: TopicSpace) -> None:
    assert topic_space.name("nobody-made-this") not in topic_space.admin.list_topics(timeout=10).topics
    producer = Producer(
        {"bootstrap.servers": topic_space.bootstrap_servers, "message.timeout.ms": 1_000, "log_level": 3}
    )
    producer.produce(topic_space.name("nobody-made-this"), value=b"x")
    producer.flush(10)
    assert topic_space.name("nobody-made-this") not in topic_space.admin.list_topics(timeout=10).topics


def test_a_topic_space_takes_only_its_own_topics_and_groups_with_it(kafka: str) -> None:
    mine, other = TopicSpace(kafka), TopicSpace(kafka)
    mine.create("a")
    other.create("a")
    try:
        mine.delete()
        topics = other.admin.list_topics(timeout=10).topics
        assert mine.name("a") not in topics
        assert other.name("a") in topics
    finally:
        other.delete()


@pytest.mark.chaos
@pytest.mark.slow
def test_a_killed_broker_comes_back_on_its_port_with_its_data_and_leaves_nothing_at_the_end(
    kafka_broker: KafkaBroker,
) -> None:
    broker = kafka_broker
    space = TopicSpace(broker.bootstrap_servers)
    space.create("a")
    producer = transactional_producer(space, "writer")
    producer.begin_transaction()
    producer.produce(space.name("a"), value=b"kept")
    producer.commit_transaction(30)  # returns before its markers are written: the kill comes in between

    first_pid = broker.pid
    broker.kill()
    assert not process_exists(first_pid)
    assert not answers(broker.bootstrap_servers)
    broker.start()
    assert [record.value() for record in space.records("a")] == [b"kept"]

    broker.stop()
    assert not answers(broker.bootstrap_servers)
    broker.start()
    assert [record.value() for record in space.records("a")] == [b"kept"]

    last_pid = broker.pid
    broker.close()
    assert not process_exists(last_pid)
    assert not answers(broker.bootstrap_servers)


def avro(*fields: dict[str, object]) -> dict[str, str]:
    return {"schema": json.dumps({"type": "record", "name": "Thing", "fields": list(fields)})}


def test_the_registry_gives_a_schema_back_by_its_id_and_refuses_an_incompatible_one(schema_registry: str) -> None:
    name: dict[str, object] = {"name": "name", "type": "string"}
    subject = f"{schema_registry}/subjects/test-support-{os.getpid()}-value/versions"

    registered = LOOPBACK.post(subject, json=avro(name))
    assert registered.status_code == 200
    fetched = LOOPBACK.get(f"{schema_registry}/schemas/ids/{registered.json()['id']}").json()
    assert json.loads(fetched["schema"]) == json.loads(avro(name)["schema"])

    compatible = avro(name, {"name": "size", "type": "int", "default": 0})
    assert LOOPBACK.post(subject, json=compatible).status_code == 200
    incompatible = avro(name, {"name": "colour", "type": "string"})  # no default: old data cannot be read with it
    assert LOOPBACK.post(subject, json=incompatible).status_code == 409

    unknown = LOOPBACK.get(f"{schema_registry}/schemas/ids/987654321")
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, 40403)


def test_a_part_is_started_when_it_is_asked_for_is_the_same_for_all_and_ends_with_its_lender() -> None:
    events: list[str] = []

    @contextmanager
    def part() -> Iterator[str]:
        events.append("started")
        yield "127.0.0.1:9092"
        events.append("ended")

    def missing() -> AbstractContextManager[str]:
        raise Unavailable("no Java: install one")

    lender = Lender({"kafka": part, "unwanted": part, "missing": missing})
    assert events == []
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(lambda _: borrowed(lender.address, "kafka"), range(8))) == {"127.0.0.1:9092"}
    for _ in range(2):
        with pytest.raises(Unavailable, match="no Java: install one"):
            borrowed(lender.address, "missing")
    assert events == ["started"]
    lender.close()
    assert events == ["started", "ended"]


def test_a_part_that_cannot_be_had_is_a_skip_and_in_ci_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    for ci, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome, match="no Java: install one"), whatever_can_be_had():
            raise Unavailable("no Java: install one")


def stand_in(tmp_path: Path, **environment: str) -> Worker:
    return Worker(environment=environment, directory=tmp_path / "w", program=(sys.executable, "-c", STAND_IN))


def test_a_worker_is_ready_when_its_context_begins_and_gone_when_it_ends(tmp_path: Path) -> None:
    with stand_in(tmp_path) as worker:
        assert worker.get("/PROCESSOR_STATE_DIR").text == str(tmp_path / "w" / "state")
        assert os.getsid(worker.pid) == worker.pid, "a signal to the test run must not reach it"
        assert "listening" in worker.log_tail()
    assert not process_exists(worker.pid)


def test_a_worker_hears_its_own_settings_and_not_the_developers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAKUNA_API_KEY", "the developer's")
    with stand_in(tmp_path, HAKUNA_API="feed") as worker:
        assert worker.get("/HAKUNA_API").text == "feed"
        assert worker.get("/HAKUNA_API_KEY").text == ""


def test_terminate_gives_the_exit_code_of_a_drain_and_kill_that_of_a_crash(tmp_path: Path) -> None:
    with stand_in(tmp_path) as worker:
        assert worker.terminate(timeout_s=10) == 0
    with stand_in(tmp_path) as worker:
        assert worker.kill() == -9
        assert worker.kill() == -9, "a second kill finds nothing and signals nobody"


def test_a_worker_that_ends_before_it_is_ready_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    program = (sys.executable, "-c", "import sys; sys.exit('cannot go on')")
    broken = Worker(environment={}, directory=tmp_path, program=program)
    with pytest.raises(StartFailed, match="cannot go on"), broken:
        pass


def test_the_processor_itself_is_what_start_worker_starts(start_worker: StartWorker) -> None:
    worker = start_worker("--help", environment={}, await_ready=False)
    assert worker.wait(timeout_s=30) == 0, worker.log_tail()
    assert "Usage:" in worker.log_tail()


def test_a_run_that_is_itself_killed_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    """kill -9 of the run, the one end that no `finally` sees: the reaper's pipe closes and it cleans up."""
    run = """
import sys, time
from pathlib import Path
from tests.support.children import ChildProcess, own_directory
with own_directory("doomed") as directory:
    child = ChildProcess([sys.executable, "-c", "import time; time.sleep(600)"], log=directory / "log")
    print(child.pid, directory, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", run], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            pid, directory = process.stdout.readline().split()
        finally:
            process.kill()
    wait_until(lambda: not process_exists(int(pid)), what="The end of the child", timeout_s=10)
    wait_until(lambda: not Path(directory).exists(), what="The end of its directory", timeout_s=10)


def test_an_own_directory_is_gone_after_its_context() -> None:
    with own_directory("test") as directory:
        (directory / "file").write_text("x")
        child = ChildProcess(["true"], log=directory / "log")
        assert child.wait(10) == 0
    assert not directory.exists()


def test_the_locks_were_made_from_the_dependencies_in_pyproject() -> None:
    assert lock.stale() == [], "run: make lock"


def test_no_lock_names_a_host() -> None:
    assert [path.name for path in lock.LOCKS if "://" in path.read_text()] == []
