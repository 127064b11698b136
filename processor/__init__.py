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

    config/          settings
    topics.py        TOPICS, and what `topics create` will do
    errors.py        what is done about what; a problem and its remedy
    interfaces.py    the seams
    sources/         what the shops write: keys, partitioners, times; several topics merged into one sequence
    api/             what both APIs have in common: how a key is sent, what an answer means, when to come back
    watch.py         progress, and how long none is fine
    moments.py       times as a person writes them
    __main__.py      `python -m processor`
"""
