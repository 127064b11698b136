"""hakuna-processor: order events from Kafka to Hakuna, exactly once up to the outbox and in order to the API.

The tour, in the order in which an order travels:

    records.py        the nouns: Record, OrderEvent, Order, OutboxEntry
    transform/        consume → merge by time → decode → apply to the state → outbox (`transformer.py`: the loop)
    hakuna/           what Hakuna wants to be told and what it answers
    send/             lanes, offsets, pace, retries (`sender.py`: the loop)
    hako/, stock/     the same for Hako: what it wants and answers; the newest value of each object, in arrays
    dead_letters/     the letter, the flood guard, the holds
    edges/            Kafka, Avro, HTTP, RocksDB, metrics: the only importers of their libraries
    runtime.py        what is made of what, and how a process begins and ends
    cli/              one thin module a command
    sandbox/          stand-ins for the APIs, an order generator, a broker: for the demo and local work

Beside them: config.py (settings), topics.py (TOPICS), errors.py (what is done about what), interfaces.py (the seams).
"""
