"""A rollout over a step of the state's version: workers of before beside today's, on one group and changelog.

The version before is taken from the repository's history: the last one that wrote states of version 1."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.support.children import REPOSITORY, Unavailable
from tests.support.processes import Worker
from tests.support.transform_model import difference
from tests.support.transform_site import Site, sorted_sources

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(300)]

END_S_MAX = 90.0
TOO_NEW = ("a newer version may have written it", "a key is no order ID")
"""How the version before tells of a state, and of a book, that it does not know."""


def _git(*arguments: str) -> bytes:
    asked = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, check=False)
    if asked.returncode:
        raise Unavailable(f"the version before is in the repository's history alone: {asked.stderr.decode().strip()}")
    return asked.stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as it was before states of version 2."""
    state = "processor/transform/order_state.py"
    try:
        steps = _git("log", "--format=%H", "-S_VERSION: Final = 2", "--", state).decode().split()
        if not steps:
            raise Unavailable("the version before is in the repository's history alone, of which this has a part")
        packed = _git("archive", f"{steps[-1]}^", "processor", "schemas")
    except Unavailable as reason:
        pytest.xfail(str(reason))  # no part that could be installed: a shallow clone has no version before
    directory = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        if hasattr(tarfile, "data_filter"):  # a 3.11 of before June 2023 has no filters
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(directory)
    assert "\n_VERSION: Final = 1\n" in (directory / state).read_text()
    return directory


class Rollout:
    """The workers of a site by name, as a StatefulSet has them: the same name is the same directory."""

    def __init__(self, site: Site, before: Path) -> None:
        self.site = site
        self._before = before

    def old(self, name: str) -> Worker:
        settings = {"PYTHONPATH": str(self._before), "PROCESSOR_BATCH_RECORDS_MAX": "50"}
        return self.site.worker(name, settings, await_ready=False)

    def new(self, name: str) -> Worker:
        return self.site.worker(name, {"PROCESSOR_BATCH_RECORDS_MAX": "50"}, await_ready=False)


@pytest.fixture
def rollout(kafka: str, schema_registry: str, before: Path, tmp_path: Path) -> Iterator[Rollout]:
    with Site(kafka, schema_registry, tmp_path, partitions=4) as site:
        yield Rollout(site, before)


def test_old_and_new_workers_beside_each_other_lose_and_double_nothing(rollout: Rollout) -> None:
    """Orders whose events come before, in the midst of and after it. A new worker is killed while old ones are there to
    take its partitions, which they cannot read: they end and say why, and what they leave is whole."""
    site = rollout.site
    plan = Shop(orders=1_500, rate=100, bad_share=0.0, seed=21, start_ms=int(time.time() * 1000) - 3_600_000)
    # Of what else happens to an order the version before made something else: late refunds, plans told of twice.
    steps = [step for step in shop(plan) if step.topic in (Topic.PLACED, Topic.FULFILLED) and step.value is not None]
    third = len(steps) // 3

    first, last = rollout.old("transform-0"), rollout.old("transform-1")
    first.wait_ready()
    site.installation.play(steps[:third])
    site.wait_done()

    assert last.terminate() == 0
    replaced = rollout.new("transform-1")
    replaced.wait_ready()
    taken_by = [_taken(first), _taken(replaced)]
    site.installation.play(steps[third : 2 * third])
    site.wait_done()
    assert _taken(first) > taken_by[0], "the old one has no partition any more"
    assert _taken(replaced) > taken_by[1], "the new one has no partition yet"

    replaced.kill()
    site.installation.play(steps[2 * third :])
    assert first.wait(END_S_MAX) == 1
    assert any(said in "\n".join(site.logs("transform-0")) for said in TOO_NEW)
    again = rollout.old("transform-0")  # as Kubernetes does
    assert again.wait(END_S_MAX) == 1

    rollout.new("transform-1")
    rollout.new("transform-0")
    site.wait_done()
    model, entries = site.model(), site.entries()
    assert not model.reasons
    assert not site.letters()
    got, wanted = sorted_sources(entries.values()), sorted_sources(model.entries.values())
    assert got == wanted, difference("entries", got, wanted)
    assert {order_id: [_content(body) for _, body in sent] for order_id, sent in entries.items()} == {
        order_id: [_content(body) for _, body in sent] for order_id, sent in model.entries.items()
    }


def _content(body: bytes) -> list[str]:
    """All that an entry says; the version before added what pairing adds in another sequence."""
    payload = json.loads(body)["payload"]
    items: list[object] = next((payload.pop(name) for name in list(payload) if isinstance(payload[name], list)), [])
    return [json.dumps(payload, sort_keys=True), *sorted(json.dumps(item, sort_keys=True) for item in items)]


def _taken(worker: Worker) -> int:
    """Records that a worker has finished."""
    lines = worker.get("/metrics").text.splitlines()
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("processor_records_total{")))
