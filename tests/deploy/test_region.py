"""The runbook "A region is lost", rehearsed with a real MirrorMaker 2 between two real clusters, there and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processor.config import Role
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.topics import CONFIG, NEEDED, Topic
from tests.chaos.test_cluster_changes_send import PARTITIONS, Shop, began
from tests.conftest import StartWorker
from tests.deploy.test_runbook import TEXT
from tests.support.children import wait_until
from tests.support.kafka import KafkaBroker
from tests.support.mirror_maker import SETTINGS, MirrorMaker
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.slow]

GROUP = "hakuna-processor.send"
MIRRORED_S_MAX = 180.0


def test_the_runbook_says_what_is_rehearsed() -> None:
    told = TEXT.split("### A region is lost")[1].split("\n### ")[0]
    assert {name for name, value in SETTINGS.items() if f"{name} = {value}" in told} == set(SETTINGS)


@pytest.mark.timeout(590)
def test_what_was_not_sent_in_one_region_is_sent_in_the_other_and_back_again(
    topic_space: TopicSpace, kafka_broker: KafkaBroker, start_worker: StartWorker, tmp_path: Path
) -> None:
    """One order is stuck, so that what is finished beyond it stands in the commit's metadata, which MirrorMaker copies
    word for word; and each entry has its transaction, so that offsets differ.

    MirrorMaker runs before the first of these entries, as before a region is lost. Of what is there when it starts it
    notes some pairs of offsets only: where the oldest of a partition is beyond the group's offset, that has no
    translation for as long as the group stands there. And it copies a commit again when the offset moves, not when the
    metadata change: so what is waited for is a commit that moves on, from a slow entry to the stuck one."""
    here, there = topic_space, TopicSpace(kafka_broker.bootstrap_servers)
    there.prefix = here.prefix
    for topic in (*NEEDED[Role.SEND], Topic.RESOLUTIONS):
        here.create(topic, partitions=PARTITIONS, config=CONFIG[topic])
    shop = Shop(here, transactional=True)
    with shop.api() as url:
        worker = _started(start_worker, here, url, "here")
        other = shop.write(1, partition=1)
        shop.sent(other)
        with mirrored(here, there, tmp_path / "there") as copied:
            wait_until(lambda: _offset(there, 1) > 0, what="an offset over there", timeout_s=MIRRORED_S_MAX)
            shop.broken |= {"slow", "stuck"}
            (slow,) = shop.write(1, order="slow", partition=0)
            stuck = shop.write(1, order="stuck", partition=0)
            shop.sent(shop.write(12, partition=0))
            wait_until(lambda: "done=" in _metadata(here), what="a map in the metadata", timeout_s=60)
            shop.broken.remove("slow")
            wait_until(lambda: shop.asked[slow] == 1, what="the slow entry", timeout_s=60)
            wait_until(lambda: "done=" in _metadata(there), what="a map over there", timeout_s=MIRRORED_S_MAX)
            copied()
        worker.kill()
        shop.broken.clear()

        shop.space = there
        shop.look_again()
        later = shop.write(4, partition=0)
        worker = _started(start_worker, there, url, "there")
        wait_until(lambda: all(shop.asked[key] for key in stuck + later), what="all of it there", timeout_s=90)
        assert "other_cluster" in began(worker)
        ends = there.end_offsets(Topic.OUTBOX)
        wait_until(lambda: _offset(there, 0) == ends[0], what="a commit behind the last marker", timeout_s=30)
        assert worker.terminate() == 0

        # Back: into a cluster that is made anew.
        here.delete()
        with mirrored(there, here, tmp_path / "back") as copied:
            copied()
            ends = here.end_offsets(Topic.OUTBOX)
            # The first offset that arrives is that of a place on the way.
            wait_until(
                lambda: all(_offset(here, partition) == end for partition, end in ends.items()),
                what="offsets back here",
                timeout_s=MIRRORED_S_MAX,
            )
        shop.space = here
        shop.look_again()
        last = shop.write(3, partition=0)
        asked = sum(shop.asked.values())
        worker = _started(start_worker, here, url, "back")
        wait_until(lambda: set(last) <= set(shop.asked), what="all of it back here", timeout_s=90)
        assert worker.terminate() == 0
        assert sum(shop.asked.values()) - asked == len(last), "nothing once more"


def _started(start_worker: StartWorker, space: TopicSpace, url: str, name: str) -> Worker:
    environment = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY}
    return start_worker("run", "--role", "send", environment=environment, name=name, await_ready=False)


def _metadata(space: TopicSpace) -> str:
    """What the group's commit of partition 0 says beside its offset."""
    committed = space.committed(GROUP, Topic.OUTBOX).get((Topic.OUTBOX, 0))
    return "" if committed is None else committed.metadata or ""


def _offset(space: TopicSpace, partition: int) -> int:
    """The group's; negative where it has none."""
    committed = space.committed(GROUP, Topic.OUTBOX).get((Topic.OUTBOX, partition))
    return -1 if committed is None else committed.offset


@contextmanager
def mirrored(source: TopicSpace, target: TopicSpace, directory: Path) -> Iterator[Callable[[], None]]:
    """Mirrors meanwhile. Gives what waits until the outbox of the one is that of the other."""
    maker = MirrorMaker(
        source=source.bootstrap_servers, target=target.bootstrap_servers, prefix=source.prefix, directory=directory
    )

    def copied() -> None:
        wanted = len(source.records(Topic.OUTBOX))

        def there() -> bool:
            try:
                return len(target.records(Topic.OUTBOX)) == wanted
            except Exception:  # the topic is not there yet
                return False

        wait_until(there, what=f"{wanted} records over there", timeout_s=MIRRORED_S_MAX)

    with maker:
        try:
            yield copied
        except BaseException:
            sys.stderr.write(maker.log.read_text(errors="replace")[-6000:])
            raise
