"""The rights of whoever replays, in deploy/README.md, on a broker with an authoriser: every command works with exactly
these, and without one of them says which, before anything is written."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from processor.config import load
from processor.letters.letter import Refusal, letter_headers
from processor.operate.check import rights
from processor.operate.check.rights import operator_grants
from processor.operate.replay.survey import Field, Route
from processor.records import Record, Stage
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import DEAD_LETTER_TOPICS, ORDER_TOPICS, STOCK_TOPICS, TOPICS, Topic
from tests.conftest import StartWorker
from tests.deploy.test_rights import Right, allow, documented
from tests.deploy.test_runbook import table
from tests.support.children import wait_until
from tests.support.commands import Said, ask, run
from tests.support.json_output import printed
from tests.support.refused_shop import PLACED_MS, REFUSED, Shop, fulfilled_at
from tests.support.secured_kafka import SecuredKafka
from tests.support.topics import TopicSpace

WITH_REKEY = [
    (Right(None, kind.partition(",")[0], name, operation), kind.endswith(", with rekey"))
    for kind, names, operations in table("Rights of whoever replays")
    for name in re.findall(r"`([^`]*)`", names)
    for operation in operations.split(", ")
]
"""Each right, and whether it is needed with rekey alone."""
RIGHTS = [right for right, with_rekey in WITH_REKEY if not with_rekey]
WRITTEN = (*ORDER_TOPICS, Topic.OUTBOX, Topic.HOLDS, Topic.RESOLUTIONS, *DEAD_LETTER_TOPICS)


def test_the_table_is_what_the_commands_ask_for() -> None:
    asked: dict[str, set[str]] = {}
    field = Field(
        "", Topic.RESOLUTIONS, Topic.HOLDS, Topic.DELIVERIES, Topic.CHANGELOG, Topic.OUTBOX, Route.FOREIGN, {}
    )
    targets = {Route.OUTBOX: [Topic.OUTBOX], Route.SOURCE: ORDER_TOPICS, Route.FOREIGN: STOCK_TOPICS}
    for route, letters in zip(
        Route, (Topic.HAKUNA_DEAD_LETTERS, Topic.ORDER_DEAD_LETTERS, Topic.HAKO_DEAD_LETTERS), strict=True
    ):
        field = field._replace(route=route, letters=letters)
        for wanted in (rights.to_resolve(field, targets[route]), rights.to_purge(field)):
            for topic, operations in wanted.items():
                asked.setdefault(topic, set()).update(operations)
    told: dict[str, set[str]] = {}
    for right in RIGHTS:
        if right.kind == "topic" and right.operation in ("Write", "Delete"):
            told.setdefault(right.name, set()).add(right.operation.upper())
    assert told == asked


@pytest.mark.parametrize("rekey", ["off", "on"])
def test_the_table_is_what_an_operator_is_granted(rekey: str) -> None:
    settings = load({"PROCESSOR_REKEY": rekey}, None)
    told = [right for right, with_rekey in WITH_REKEY if rekey == "on" or not with_rekey]
    kinds = {"topic": "topic", "group": "group", "transactionalId": "transactional ID"}
    granted = {
        (kinds[grant.kind], grant.name, operation)
        for grant in operator_grants(settings)
        for operation in grant.operations
    }
    assert granted == {(right.kind, right.name, right.operation) for right in told}


class Operated(NamedTuple):
    """A shop on a broker with an authoriser. Its workers come in by the door without one, the commands by TLS and
    SCRAM as somebody who may do what `allow` says."""

    shop: Shop
    kafka: SecuredKafka

    def allow(self, given: list[Right]) -> None:
        allow(self.kafka, self.shop.space.prefix, given)

    @property
    def environment(self) -> dict[str, str]:
        door = {**documented(self.kafka, "SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": self.kafka.scram}
        return self.shop.environment | door

    def command(self, *arguments: str) -> Said:
        return ask("dead-letters", *arguments, environment=self.environment)

    def done(self, *arguments: str) -> str:
        """In a process of its own."""
        said = run("dead-letters", *arguments, environment=self.environment)
        assert said.code == 0, f"{arguments}: {said.out}{said.err}"
        return said.out

    def ends(self) -> dict[str, dict[int, int]]:
        return {topic: self.shop.space.end_offsets(topic) for topic in WRITTEN}


@pytest.fixture(scope="module")
def open_shop(secured: SecuredKafka) -> Iterator[Callable[[], Operated]]:
    """Makes one in a space of its own."""
    hakuna = StandIn(HakunaApi(), Script(refused_countries=frozenset({REFUSED})))
    with Loopback(hakuna) as api, Loopback(StandIn(RegistryApi())) as registry:
        yield lambda: Operated(Shop(TopicSpace(secured.anybody), hakuna, api.url, registry.url, 1), secured)


@pytest.mark.kafka
@pytest.mark.slow
def test_every_command_works_with_exactly_these(
    open_shop: Callable[[], Operated], start_worker: StartWorker, tmp_path: Path
) -> None:
    operated = open_shop()
    operated.allow(RIGHTS)
    shop = operated.shop
    start_worker("run", environment=shop.environment)
    shop.place("ord-1")
    shop.fulfil("ord-1", 1)
    shop.place("ord-2", country="de")
    shop.installation.flush()
    shop.fulfil("ord-2", 1, "li-none")
    shop.installation.write(Topic.PLACED, b"ord-3", b"no Avro")
    shop.installation.flush()
    wait_until(lambda: shop.count(Topic.HAKUNA_DEAD_LETTERS) == 2, what="Hakuna's letters", timeout_s=60)
    wait_until(lambda: shop.count(Topic.ORDER_DEAD_LETTERS) == 2, what="transform's letters", timeout_s=60)
    shop.script(refused_countries=frozenset())
    patch = tmp_path / "patch.json"
    patch.write_text(
        json.dumps({"items": [{"line_item_id": "li-1", "quantity": 1, "fulfilled_at": PLACED_MS + 1_000}]})
    )

    assert printed("dead-letters.list", operated.command("list", "--output", "json").out)["letters"] == 4
    shown = printed("dead-letters.show", operated.done("show", "--order-id", "ord-1", "--output", "json"))
    assert shown["order_id"] == "ord-1"
    assert not shown["notes"]
    status = run("status", "--output", "json", environment=operated.environment)
    assert status.code in (0, 1), status.err
    assert "not allowed" not in status.err
    assert status.out, "every role's partitions"
    operated.done("replay", "--topic", "hakuna.dead-letters", "--rate", "100")
    operated.done("replay", "--topic", "orders.fulfilled", "--edit", str(patch), "--rate", "100")
    assert operated.command("discard", "--everything", "--reason", "a test's").code == 0
    assert operated.command("purge", "--older-than", "0s").code == 0
    assert not shop.letters()
    assert not shop.letters(Topic.ORDER_DEAD_LETTERS)
    for order_id in ("ord-1", "ord-2"):
        wait_until(lambda order_id=order_id: len(shop.told(order_id)) == 2, what=order_id, timeout_s=30)  # type: ignore[misc]  # a default is no argument of its
        assert shop.told(order_id) == ["order_placed", fulfilled_at(1)]


@pytest.mark.kafka
def test_the_topics_are_made_by_a_user_with_exactly_the_rights_for_it(secured: SecuredKafka) -> None:
    space = TopicSpace(secured.anybody)
    operations = [
        operation for _, _, row in table("Rights of whoever makes the topics") for operation in row.split(", ")
    ]
    allow(secured, space.prefix, [Right(None, "topic", one.topic, op) for one in TOPICS for op in operations])
    prefixes = {"PROCESSOR_TOPIC_PREFIX": space.prefix, "PROCESSOR_GROUP_PREFIX": space.prefix}
    door = {**documented(secured, "SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": secured.scram, **prefixes}
    made = run("topics", "create", "--partitions", "1", "--retention", "1d", environment=door)
    assert made.code == 0, made.err
    again = run("topics", "create", "--partitions", "1", "--retention", "2d", environment=door)
    assert again.code == 0, again.err
    assert "change" in again.out


class Lack(NamedTuple):
    """What is taken away, the command that needs it, and what it says. `{}` is the prefix of the installation."""

    taken: tuple[tuple[str, str], ...]
    command: tuple[str, ...]
    words: tuple[str, ...]


OF_SEND = ("replay", "--topic", "hakuna.dead-letters", "--as-sent")
OF_TRANSFORM = ("replay", "--topic", "orders.dead-letters")
DISCARD = ("discard", "--everything", "--reason", "x", "--topic", "hakuna.dead-letters")
PURGE = ("purge", "--older-than", "0s")
RESOLUTIONS = ("hakuna.dead-letter-resolutions", "Write")
LACKS = {
    "what a replay to the outbox writes": Lack(
        (("hakuna.outbox", "Write"), ("hakuna.holds", "Write"), RESOLUTIONS, ("hakuna-processor.send", "Describe")),
        OF_SEND,
        (
            "nothing was done: this user may not Write the topic {}hakuna.dead-letter-resolutions",
            "nor Write the topic {}hakuna.holds",
            "nor Write the topic {}hakuna.outbox",
            "nor Describe the group {}hakuna-processor.send;",
        ),
    ),
    "what a replay through transform writes": Lack(
        (("orders.placed", "Write"),), OF_TRANSFORM, ("may not Write the topic {}orders.placed;",)
    ),
    "what a discard writes": Lack(
        (("hakuna.holds", "Write"), RESOLUTIONS),
        DISCARD,
        ("may not Write the topic {}hakuna.dead-letter-resolutions, nor Write the topic {}hakuna.holds;",),
    ),
    "what a purge deletes": Lack(
        (("hakuna.dead-letters", "Delete"), RESOLUTIONS),
        PURGE,
        ("may not Write the topic {}hakuna.dead-letter-resolutions", "nor Delete the topic {}hakuna.dead-letters;"),
    ),
    "the place": Lack(
        (("hakuna-processor.dead-letters", "Read"),),
        OF_SEND,
        ("not allowed to ask who is in {}hakuna-processor.dead-letters (Describe)",),
    ),
    "transactions": Lack(
        (("hakuna-processor.dead-letters", "Write"),),
        OF_SEND,
        ("transactional ID {}hakuna-processor.dead-letters: ", "authorization failed"),
    ),
    "reading": Lack(
        (("hakuna.dead-letters", "Read"),),
        ("list",),
        ("{}hakuna.dead-letters/0 cannot be read past offset 0: ", ": TOPIC_AUTHORIZATION_FAILED"),
    ),
    "looking": Lack(
        (("hakuna.dead-letters", "DescribeConfigs"),),
        ("list",),
        ("not allowed to ask about the settings of {}hakuna.dead-letters (DescribeConfigs)",),
    ),
}


@pytest.fixture(scope="module")
def with_letters(open_shop: Callable[[], Operated]) -> Operated:
    """A letter of send's and one of transform's, and nobody who works; a record among the resolutions, to be read."""
    operated = open_shop()
    space = operated.shop.space
    producer = Producer({"bootstrap.servers": space.bootstrap_servers, "log_level": 0})
    for letters, origin in (("hakuna.dead-letters", "hakuna.outbox"), ("orders.dead-letters", "orders.placed")):
        record = Record(
            space.name(origin), 0, 7, PLACED_MS, b"ord-1", b"{}", [("entry-id", b"e"), ("entry-type", b"x")]
        )
        refusal = Refusal(stage=Stage.SEND, reason="http_400", message="no", group="g", failed_ms=PLACED_MS)
        producer.produce(space.name(letters), b"{}", b"ord-1", headers=letter_headers(record, refusal))  # type: ignore[arg-type]  # its stub wants a header's value to be there
    producer.produce(space.name(Topic.RESOLUTIONS), b"{}", b"something else")
    assert producer.flush(30) == 0
    return operated


@pytest.mark.kafka
@pytest.mark.parametrize("lacked", LACKS)
def test_without_one_of_them_nothing_is_done_and_it_is_named(lacked: str, with_letters: Operated) -> None:
    lack = LACKS[lacked]
    with_letters.allow([right for right in RIGHTS if (right.name, right.operation) not in lack.taken])
    before = with_letters.ends()
    said = with_letters.command(*lack.command)
    assert said.code == 1
    for words in lack.words:
        assert words.replace("{}", with_letters.shop.space.prefix) in said.err
    assert with_letters.ends() == before, "something was written"


@pytest.mark.kafka
def test_a_dry_run_says_what_would_be_refused(with_letters: Operated) -> None:
    with_letters.allow([right for right in RIGHTS if right.operation not in ("Write", "Delete")])
    prefix = with_letters.shop.space.prefix
    said = with_letters.command(*OF_SEND, "--dry-run")
    assert said.code == 0
    for topic in ("hakuna.outbox", "hakuna.holds", "hakuna.dead-letter-resolutions"):
        assert f"it would be refused: this user may not Write the topic {prefix}{topic}" in said.err
    said = with_letters.command(*PURGE, "--dry-run")
    assert f"it would be refused: this user may not Delete the topic {prefix}orders.dead-letters" in said.err
