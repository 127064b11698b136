"""What the demo, local work and our tests need around the processor: both APIs, a registry, a broker, a shop.

Nothing here runs in production, and nothing of the data path imports it. The stand-ins do not import the code
that makes the requests either: a checker that shares code with what it checks agrees with its mistakes.

Reading order:

    script.py       what a stand-in is told to do: latency, quota, faults, refusals
    conduct.py      decides what befalls one request, from the script and the clock
    record.py       what a stand-in has seen, for whoever asks afterwards
    idempotency.py  the same key, the same answer
    stand_in.py     the path of one request through a stand-in, whatever API it speaks
    loopback.py     an ASGI application listening on a loopback port, in a thread of its own
    hakuna_api.py   Hakuna: headers and paths; hakuna_events.py and hakuna_feed.py judge the bodies
    hako_api.py     Hako: arrays, verbs, three tables
    registry.py     a schema registry in memory
    orders.py       histories of orders, good ones and bad ones, each record with what must become of it
    mistakes.py     the ways in which a history can go wrong
    writer.py       encodes and produces them
    broker.py       a Kafka in this process, for the demo
    demo.py         the demo's run; watch.py what it sees, live.py what it shows
"""
