"""The Job of a replay, as the manifest and the runbook have it: their command line and their settings, in a process
that has nothing else, beside a worker on a real Kafka."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.deploy.manifests import Container, built, containers, settings
from tests.deploy.test_runbook import TEXT
from tests.deploy.tools import DEPLOY
from tests.support.children import REPOSITORY, wait_until
from tests.support.json_output import printed
from tests.support.refused_shop import REFUSED, Shop
from tests.support.topics import TopicSpace

JOB = "dead-letters-replay"
SECONDS_MAX = 90.0


def ran(container: Container, arguments: list[str], given: dict[str, str], directory: Path) -> tuple[int, str, str]:
    """Exit code, standard output and the rest. `given` is what an installation sets."""
    environment = settings(built(DEPLOY / "kubernetes/base")) | container.environment | given
    alone = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-m", "processor", *arguments],
        env=alone | environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.timeout(200)
def test_the_job_says_what_it_would_do_and_the_runbooks_does_it_without_a_key(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    (container,) = [one for one in containers(built(DEPLOY / "kubernetes/base")) if one.workload == JOB]
    (found,) = re.findall(r"\.args = (\[.*?\])'", TEXT)
    of_runbook = json.loads(found)
    *of_job, selection, alone = container.spec["args"]
    assert (selection, alone) == ("--everything", "--dry-run"), "as it stands it sends nothing, whatever is open"
    assert of_runbook[: len(of_job)] == of_job, "the same command"
    assert not {selection, alone} & set(of_runbook), "for real, and of what is mended"
    hakuna = StandIn(HakunaApi(), Script(refused_countries=frozenset({REFUSED})))
    with Loopback(hakuna) as api:
        shop = Shop(topic_space, hakuna, api.url, schema_registry, 1)
        start_worker("run", environment=shop.environment)
        shop.place("ord-1")
        shop.installation.flush()
        wait_until(lambda: shop.count(Topic.HAKUNA_DEAD_LETTERS) == 1, what="its letter", timeout_s=60)
        shop.script(refused_countries=frozenset())
        given = shop.installation.environment
        code, plan, said = ran(container, container.spec["args"], given, tmp_path)
        assert code == 0, said
        assert "1 letter of 1 order will be sent again" in plan
        assert not shop.count(Topic.RESOLUTIONS)
        code, out, said = ran(container, of_runbook, given, tmp_path)
        assert code == 0, said
        (report,) = [one for one in printed("dead-letters.replay", out) if "sent" in one]
        assert (report["sent"], report["accepted"], report["left"]) == (1, 1, 0)
        assert '"run ends"' in said, "its log tells it too"
        assert shop.told("ord-1") == ["order_placed"]
