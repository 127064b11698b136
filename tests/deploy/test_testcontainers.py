"""The tests' own way with a container engine: testcontainers, on podman's Docker socket, with a Kafka in an image.

The image is made here, from the machine's Java and Kafka's jars: one from a registry is not to be had everywhere.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.containers import BASE, Engine
from tests.support.children import REPOSITORY
from tests.support.jars import java, kafka_class_path

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.kafka]

IMAGE = "localhost/kafka"
RUN_SECONDS_MAX = 200.0
TRIED = "read_committed or topic_space or by_accident"

DOCKERFILE = f"""
FROM {BASE}
COPY java /opt/java
COPY jars /opt/kafka
COPY start.sh /start.sh
EXPOSE 9092
ENTRYPOINT ["sh", "/start.sh"]
"""
# As Kafka's own image has it: KAFKA_A_B is the broker's a.b.
START = """
set -e
env | sed -n 's/^KAFKA_//p' | while IFS='=' read -r name value; do
    echo "$(echo "$name" | tr 'A-Z_' 'a-z.')=$value"
done > /tmp/server.properties
echo log.dirs=/tmp/data >> /tmp/server.properties
run="/opt/java/bin/java -Xmx512m -cp /opt/kafka/*"
$run kafka.tools.StorageTool format --ignore-formatted -t AAAAAAAAAAAAAAAAAAAAAA -c /tmp/server.properties
exec $run kafka.Kafka /tmp/server.properties
"""


def kafka_image(containers: Engine, directory: Path) -> None:
    shutil.copytree(Path(java()).resolve().parent.parent, directory / "java", ignore_dangling_symlinks=True)
    shutil.copytree(Path(kafka_class_path()).parent, directory / "jars")
    (directory / "start.sh").write_text(START)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    containers.built(directory / "Dockerfile", IMAGE, {}, context=directory)


@pytest.mark.timeout(400)
def test_the_broker_tests_pass_on_a_container(containers: Engine, tmp_path: Path) -> None:
    kafka_image(containers, tmp_path)
    with containers.docker_socket() as socket:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:cacheprovider",
                "tests/integration/test_support.py",
                "-k",
                TRIED,
            ],
            cwd=REPOSITORY,
            env=environment | dict(socket) | {"TEST_KAFKA_IMAGE": IMAGE},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS_MAX,
        )
        ran = containers.podman("events", "--stream=false", "--filter=event=start", "--format={{.Image}}")
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"\b[3-9] passed", done.stdout), done.stdout[-500:]
    assert IMAGE in ran, "the broker ran in a container"
