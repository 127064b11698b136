#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka): a consumer that is assigned at the end of a log and moved by seek() while the question for
# that end is under way reads on from the end half a second later. Everything in between is skipped, and nothing says so.
#   assigned at OFFSET_END, then seek(5)    [5], then the end of the log: 54 records are never read
#   assigned at 0, then seek(5)             5, 6, 7 and so on
# The answer to the question is dropped as outdated, but the question is asked again by a timer that a seek does not stop
# (rd_kafka_toppar_handle_Offset, rd_kafka_toppar_offset_retry), and then its answer is taken.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
"$place/venv/bin/python" - <<'PYTHON'
import time

import confluent_kafka as ck

# librdkafka's own mock cluster, whose answers take 0.7 s. A batch a record, and fetches of one: reading takes a while.
cluster = ck.Producer({"test.mock.num.brokers": 1, "test.mock.broker.rtt": 700, "bootstrap.servers": "-", "log_level": 0})
broker = next(iter(cluster.list_topics(timeout=20).brokers.values()))
servers = {"bootstrap.servers": f"{broker.host}:{broker.port}", "log_level": 0}
writer = ck.Producer({**servers, "batch.num.messages": 1, "max.in.flight": 1000})
for number in range(60):
    writer.produce("t", str(number), partition=0)
assert writer.flush(60) == 0


def read(start):
    """What it reads in 12 s: offsets, and where it met the end."""
    consumer = ck.Consumer(
        {**servers, "group.id": "g", "enable.auto.commit": False, "auto.offset.reset": "error",
         "enable.partition.eof": True, "fetch.message.max.bytes": 100, "queued.min.messages": 1}
    )
    consumer.list_topics("t", timeout=20)
    consumer.assign([ck.TopicPartition("t", 0, start)])
    consumer.consume(1, 0.3)
    consumer.seek(ck.TopicPartition("t", 0, 5))
    found = []
    until = time.time() + 12
    while time.time() < until:
        found += [m.offset() if m.error() is None else f"end at {m.offset()}" for m in consumer.consume(10, 0.1)]
    consumer.close()
    return found


named, numbered = read(ck.OFFSET_END), read(0)
print("librdkafka", ck.libversion()[0], "assigned at the end:", named, "at 0:", numbered)
assert 5 in named and "end at 60" in named and 10 not in named, named
assert numbered[numbered.index(5) :][:3] == [5, 6, 7], numbered
PYTHON
echo "seen as described"
