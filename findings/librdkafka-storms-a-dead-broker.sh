#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka): an AdminClient's request for a broker that refuses connections is a storm of connections.
# While the request waits, librdkafka tries thousands of times a second, whatever reconnect.backoff.ms says.
#   list_offsets of a partition whose leader is gone         some thousand connections a second, most of a core
#   the same with enable.sparse.connections=false            a few a second
#   a consumer that reads the partition                      a few a second
# Each failed try is a change of the broker's state, each change wakes the request, and the request asks for a connection "now",
# which sets the time of the next try to zero (rd_kafka_broker_get_async, RD_KAFKA_OP_CONNECT). Consumers and producers wait.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
cat > "$place/cluster.py" <<'PYTHON'
"""librdkafka's own mock cluster of three brokers; one whose port comes on stdin is gone, the others stay."""
import os
import socket

import confluent_kafka as ck

cluster = ck.Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "-", "log_level": 0})
cluster.produce("t", b"x")  # makes the topic
assert cluster.flush(20) == 0
brokers = cluster.list_topics(timeout=20).brokers.values()
print(",".join(f"{broker.host}:{broker.port}" for broker in brokers), flush=True)
port = int(input())
deaf = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        one = socket.socket(fileno=os.dup(fd))
        mine = one.family == socket.AF_INET and one.getsockname()[1] == port
        if mine and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            os.dup2(deaf.fileno(), fd)  # the listener is closed, and its number stays taken
        elif mine:
            one.shutdown(socket.SHUT_RDWR)
        one.close()
    except OSError:
        pass
print("gone", flush=True)
input()
PYTHON
cat > "$place/ask.py" <<'PYTHON'
import json
import subprocess
import sys
import time

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, OffsetSpec

place = sys.argv[1]


def a_second(kind, sparse):
    """How many connections a second one client tries to a broker that is gone."""
    cluster = subprocess.Popen(
        [sys.executable, f"{place}/cluster.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    servers = cluster.stdout.readline().strip()
    tries = [0, 0]

    def stats(text):
        brokers = [one for one in json.loads(text)["brokers"].values() if one["nodeid"] == leader]
        tries[:] = tries[-1], max((one["connects"] for one in brokers), default=0)

    settings = {
        "bootstrap.servers": servers, "log_level": 0, "statistics.interval.ms": 1000, "stats_cb": stats,
        "enable.sparse.connections": sparse,
    }
    client = ck.Consumer({**settings, "group.id": "g"}) if kind == "consumer" else AdminClient(settings)
    metadata = client.list_topics("t", timeout=20)
    leader = metadata.topics["t"].partitions[0].leader
    port = metadata.brokers[leader].port
    cluster.stdin.write(f"{port}\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "gone\n"
    if kind == "consumer":
        client.assign([ck.TopicPartition("t", 0, 0)])
    else:
        client.list_offsets({ck.TopicPartition("t", 0): OffsetSpec.latest()}, request_timeout=8)
    until = time.time() + 6
    while time.time() < until:
        client.poll(0.1)
    cluster.kill()
    return tries[1] - tries[0]


asked, dense, read = a_second("admin", True), a_second("admin", False), a_second("consumer", True)
print(f"librdkafka {ck.libversion()[0]}: list_offsets {asked}, not sparse {dense}, a consumer {read} connections in one second")
assert asked > 500, asked
assert dense < 50 and read < 50, (dense, read)
PYTHON
"$place/venv/bin/python" "$place/ask.py" "$place"
echo "seen as described"
