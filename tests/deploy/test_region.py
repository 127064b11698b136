"""The runbook "A region is lost", rehearsed with a real MirrorMaker 2 between two real clusters, there and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
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
    word for word; and each entry has its transaction, so that offsets differ."""
    here, there = topic_space, TopicSpace(kafka_broker.bootstrap_servers)
    there.prefix = here.prefix
    for topic in (*NEEDED[Role.SEND], Topic.RESOLUTIONS):
        here.create(topic, partitions=PARTITIONS, config=CONFIG[topic])
    shop = Shop(here, transactional=True)
    with shop.api() as url:
        worker = _started(start_worker, here, url, "here")
        shop.broken.add("stuck")
        stuck = shop.write(1, order="stuck", partition=0)
        first = shop.write(12, partition=0)
        shop.sent(first)
        wait_until(lambda: "done=" in _metadata(here), what="a map in the metadata", timeout_s=60)
        with mirrored(here, there, tmp_path / "there"):
            wait_until(lambda: "done=" in _metadata(there), what="offsets over there", timeout_s=MIRRORED_S_MAX)
        worker.kill()
        shop.broken.clear()

        shop.space = there
        shop.look_again()
        later = shop.write(4, partition=0)
        worker = _started(start_worker, there, url, "there")
        wait_until(lambda: set(stuck + later) <= set(shop.asked), what="all of it there", timeout_s=90)
        assert "other_cluster" in began(worker)
        assert worker.terminate() == 0
        ends = there.end_offsets(Topic.OUTBOX)
        assert there.committed(GROUP, Topic.OUTBOX)[Topic.OUTBOX, 0].offset == ends[0]

        # Back: into a cluster that is made anew.
        here.delete()
        with mirrored(there, here, tmp_path / "back"):
            wait_until(lambda: bool(_metadata(here)), what="offsets back here", timeout_s=MIRRORED_S_MAX)
        shop.space = here
        shop.look_again()
        last = shop.write(3, partition=0)
        asked = sum(shop.asked.values())
        worker = _started(start_worker, here, url, "back")
        wait_until(lambda: set(last) <= set(shop.asked), what="all of it back here", timeout_s=90)
        assert worker.terminate() == 0
        assert sum(shop.asked.values()) - asked <= len(last) + len(later), "not everything once more"


def _started(start_worker: StartWorker, space: TopicSpace, url: str, name: str) -> Worker:
    environment = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY}
    return start_worker("run", "--role", "send", environment=environment, name=name, await_ready=False)


def _metadata(space: TopicSpace) -> str:
    """What the group's commit of partition 0 says beside its offset."""
    committed = space.committed(GROUP, Topic.OUTBOX).get((Topic.OUTBOX, 0))
    return "" if committed is None else committed.metadata or ""


@contextmanager
def mirrored(source: TopicSpace, target: TopicSpace, directory: Path) -> Iterator[None]:
    """Runs until the outbox of the one is that of the other, and what the caller waits for is there."""
    maker = MirrorMaker(
        source=source.bootstrap_servers, target=target.bootstrap_servers, prefix=source.prefix, directory=directory
    )
    wanted = len(source.records(Topic.OUTBOX))
    with maker:

        def copied() -> bool:
            try:
                return len(target.records(Topic.OUTBOX)) == wanted
            except Exception:  # the topic is not there yet
                return False

        try:
            wait_until(copied, what=f"{wanted} records over there", timeout_s=MIRRORED_S_MAX)
            yield
        except BaseException:
            sys.stderr.write(maker.log.read_text(errors="replace")[-6000:])
            raise
