"""Kafka in an image that takes what `apache/kafka-native` takes, made of parts that are here anyway.

That image cannot be had where no registry of images is; what it runs can: `kafka.docker.KafkaDockerWrapper`, which
makes `KAFKA_A_B` in the environment the broker's `a.b`, stands among Kafka's own jars. So `tests/support/kafka.py`
starts a container of it exactly as `make test` starts Docker's.
"""

import shutil
from pathlib import Path

from tests.deploy.containers import BASE, Engine
from tests.support.children import own_directory
from tests.support.jars import kafka_class_path

KAFKA_IMAGE = "localhost/kafka:test"

# As that image's own script goes: a second start finds its storage formatted, and that is well. The last `exec` makes
# the JVM the container's first process, which is the one that a stop asks to end.
START = r"""#!/bin/sh
export JAVA_TOOL_OPTIONS="-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
said=$(java kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker \
    --mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1) \
    || case $said in *"already formatted"*) ;; *) echo "$said"; exit 1 ;; esac
exec java -Xmx512m -Dlog4j2.configurationFile=/opt/kafka/config/log4j2.yaml \
    kafka.Kafka /opt/kafka/config/server.properties
"""
# As the other's, which says what its controller does.
LOG4J = """Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: "[%d] %p %m (%c)%n"
  Loggers:
    Root:
      level: "INFO"
      AppenderRef:
        - ref: STDOUT
"""
DOCKERFILE = f"""FROM {BASE}
COPY *.jar /opt/kafka/libs/
RUN install -d /opt/kafka/config /etc/kafka/docker /mnt/shared/config
ENV CLASSPATH=/opt/kafka/libs/*
ENV CLUSTER_ID=5L6g3nShT-eMCtK--X86sw
COPY log4j2.yaml /etc/kafka/docker/log4j2.yaml
COPY start /start
EXPOSE 9092
ENTRYPOINT ["/start"]
"""


def build_kafka_image(containers: Engine) -> None:
    """KAFKA_IMAGE, from BASE. Raises Unavailable where Kafka's jars are not to be had."""
    jars = Path(kafka_class_path()).parent
    with own_directory("kafka-image") as context:
        for jar in jars.glob("*.jar"):
            shutil.copyfile(jar, context / jar.name)
        (context / "start").write_text(START)
        (context / "start").chmod(0o755)
        (context / "log4j2.yaml").write_text(LOG4J)
        (context / "Dockerfile").write_text(DOCKERFILE)
        containers.built(context / "Dockerfile", KAFKA_IMAGE, {}, context)
