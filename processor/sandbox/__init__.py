"""What the demo, local work and our tests need around the processor: both APIs, a registry, a broker, a shop.

Nothing here runs in production, and nothing of the data path imports it. The stand-ins do not import the code
that makes the requests either: a checker that shares code with what it checks agrees with its mistakes.

Reading order:

    script.py       what a stand-in is told to do: latency, quota, faults, refusals
    conduct.py      decides what befalls one request, from the script and the clock
    record.py       what a stand-in has seen, for whoever asks afterwards; recent.py bounds its memory
    idempotency.py  the same key, the same answer
    loopback.py     an ASGI application listening on a loopback port, in a thread of its own
    stand_in.py     the path of one request through a stand-in, whatever API it speaks

    hakuna_api.py   Hakuna: paths and headers; hakuna_events.py and hakuna_feed.py judge the bodies, in the words of
                    hakuna_told.py
    hako_api.py     Hako: arrays, verbs, three tables
    registry.py     a schema registry in memory

    history.py      the history of one order, step by step, and what must become of each step
    mistakes.py     the ways in which a history can go wrong
    orders.py       a shop: many histories, interleaved in time
    writer.py       encodes their records and produces them

    simulation.py   stand-ins and a shop, as a command
    broker.py       a Kafka in this process; cluster.py: that, or a prefix on a real one
    workers.py      the real roles, in processes of their own; leash.py ends them with the demo
    watch.py        what they say of themselves in /metrics
    demo.py         the demo's run; judgement.py compares what came with what should have; live.py shows it
"""
