"""The stand-ins for Hakuna, Hako and a schema registry, on loopback.

script.py          the behaviour of a stand-in: latency, quota, faults, refusals
conduct.py         decides what becomes of one request, from the script and the clock
record.py          the requests that a stand-in has seen, in bounded memory
loopback.py        an ASGI application that listens on a loopback port, in a thread of its own
gateway.py         a gateway before an API, which answers in its place
stand_in.py        the path of one request through a stand-in, for every API
hakuna_api.py      Hakuna: paths and headers
hakuna_events.py   checks the body of an event
hakuna_feed.py     checks an order of the feed
hako_api.py        Hako: arrays, verbs, three tables
registry.py        a schema registry in memory
"""
