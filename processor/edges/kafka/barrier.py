"""KafkaBarrier: hides new records from readers of committed records, for some seconds.

    put ─► one record a partition in a transaction that stays open ─► nothing behind it is read ─► lift: aborted, gone

Kafka shows a read_committed reader nothing past the oldest open transaction of a partition. A replay uses this to
release an order's hold with no record of the order in between (`processor/operate/replay/release.py`). The record
itself is never readable. If the process dies in between, the broker ends the transaction at its timeout: 4 to 14 s.

Owned by the replay's thread.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.client import Complaints, KafkaSettings, LibraryLog, error_of, new_producer
from processor.edges.kafka.producer import Delivery
from processor.edges.kafka.transaction import ABORT_S_MAX, OPEN_S_MAX, dropped, transactional, until, why
from processor.errors import BrokerOutage
from processor.records import TopicPartition

PUT_S_MAX: Final = 2.0
_HEADERS: Final = [("barrier", b"a replay takes a hold off; this is never committed")]


class KafkaBarrier:
    """See the module. Mutable: `_client` once it is opened; None again after any error."""

    def __init__(self, settings: KafkaSettings, *, transactional_id: str, client_id: str) -> None:
        self._log = structlog.get_logger()
        self._complaints = Complaints(self._log)
        self._transactional_id = transactional_id
        self._config = transactional(settings, transactional_id, client_id)
        self._client: ck.Producer | None = None

    def put(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the barrier's offset in each partition. Raises `BrokerOutage`: then there is no barrier."""
        client = self._opened()
        places: dict[TopicPartition, int] = {}
        try:
            client.begin_transaction()
            for where in partitions:
                self._produce(client, where, places)
            deadline_s = time.monotonic() + PUT_S_MAX
            while len(places) < len(partitions) and time.monotonic() < deadline_s:
                client.poll(0.01)
        except KafkaException as refused:
            self._discard()
            raise BrokerOutage(why("barrier", error_of(refused), self._complaints)) from refused
        if len(places) < len(partitions):
            self._discard()
            raise BrokerOutage("the barrier was not acknowledged")
        return places

    def lift(self) -> None:
        """Lets readers go on."""
        if self._client is None:
            return
        error = until(time.monotonic() + ABORT_S_MAX, self._client.abort_transaction)
        if error is not None:
            self._log.warning("kafka.barrier_left_open", code=error.name(), detail=error.str())
            self._discard()

    def close(self) -> None:
        self._discard()

    def _opened(self) -> ck.Producer:
        if self._client is None:
            self._complaints = Complaints(self._log)
            self._client = new_producer(self._config, self._complaints.on_error, LibraryLog(self._log))
            error = until(time.monotonic() + OPEN_S_MAX, self._client.init_transactions)
            if error is not None:
                self._discard()
                raise BrokerOutage(why(f"transactional ID {self._transactional_id}", error, self._complaints))
        return self._client

    def _produce(self, client: ck.Producer, where: TopicPartition, places: dict[TopicPartition, int]) -> None:
        def answered(error: KafkaError | None, message: Delivery) -> None:
            if error is None:
                places[where] = message.offset()

        client.produce(
            where.topic,
            None,
            None,
            where.partition,
            headers=list(_HEADERS),
            on_delivery=cast("ck.cimpl.DeliveryCallback", answered),
        )

    def _discard(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            dropped(client)
