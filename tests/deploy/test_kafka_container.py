"""`make test` with Docker, for real: the tests of `tests/support/kafka.py` with its broker in a container.

The same tests run with Kafka's jars elsewhere. Here they are another pytest, since Docker's client and testcontainers
read the environment when they are first imported; it has no Java, so that nothing but a container can be its broker.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.containers import Engine
from tests.deploy.kafka_image import KAFKA_IMAGE, build_kafka_image
from tests.support.children import REPOSITORY
from tests.support.kafka import BOOTSTRAP_VARIABLE, IMAGE_VARIABLE

pytestmark = [pytest.mark.image, pytest.mark.slow]

SUPPORT = "tests/integration/test_support.py"
TESTS = ("test_a_killed_broker_comes_back_on_its_port_with_its_data_and_leaves_nothing_at_the_end",)
SECONDS_MAX = 500.0


@pytest.mark.timeout(600)
def test_a_broker_in_a_container_is_what_one_of_jars_is(containers_with_base: Engine, tmp_path: Path) -> None:
    """Starts, takes a transaction, gives it back, is killed and stopped, comes back on its port with its data, and is
    gone at the end."""
    build_kafka_image(containers_with_base)
    with containers_with_base.docker_socket() as url:
        (tmp_path / "empty").mkdir()
        environment = os.environ | {
            "CI": "true",  # a skip is no success
            "PATH": str(tmp_path / "empty"),
            "DOCKER_HOST": url,
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
            "TC_HOST": "127.0.0.1",
            "TESTCONTAINERS_RYUK_DISABLED": "true",
            IMAGE_VARIABLE: KAFKA_IMAGE,
        }
        environment.pop(BOOTSTRAP_VARIABLE, None)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(f"{SUPPORT}::{name}" for name in TESTS)],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{len(TESTS)} passed" in done.stdout
    assert containers_with_base.podman("ps", "--all", "--quiet") == "", "no container is left"
