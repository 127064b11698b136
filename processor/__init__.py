"""hakuna-processor: order events from Kafka to Hakuna, exactly once up to the outbox and in order to the API.

The tour, in the order in which an order travels:

    records.py       the nouns: Record, OrderEvent, Order, OutboxEntry
    rekey/           orders of any key and partitioner → topics that transform can read; off unless asked for
    transform/       consume → merge by time → decode → apply to the state → outbox (`transformer.py`: the loop)
    hakuna/          what Hakuna wants to be told and what it answers
    send/            the outbox to the API: `kafka_thread/` and `event_loop/`, and what both share
    hako/            the same for Hako: what it wants and answers; the newest value of each object, in arrays
    letters/         the dead letter, the flood guard, the holds: what the data path and the commands share
    operate/         what the commands do: check, status, order, replay, recover
    edges/           Kafka, Avro, HTTP, RocksDB, metrics: the only importers of their libraries
    run/             what is made of what, and how a process begins and ends
    cli/             one thin module a command
    sandbox/         stand-ins for the APIs, an order generator, a broker: for the demo and local work

Beside them:

    config.py        settings
    topics.py        TOPICS, and what `topics create` will do
    errors.py        what is done about what
    interfaces.py    the seams
    verdicts/        what an answer means, what its body says, and when a server says that it may be asked again
    credentials.py   the header in which an API's key is sent
    merge.py         source partitions become one sequence in time; sources.py: how far each of them is
    watch.py         progress, and how long none is fine
    moments.py       times as a person writes them
    entry_ids.py     what makes one request another one
    order_keys.py    what a record's key is, and the order ID in it
    producers.py     what the newest records of the source topics say of who writes them
    placements.py    in which partition the clients of each language put a key
    schemas_plan.py  what `schemas register` will do
    __main__.py      `python -m processor`
"""
