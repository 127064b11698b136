"""The stand-ins for Hakuna, Hako and a schema registry, on loopback.

script.py          what a stand-in is told to do: latency, quota, faults, refusals
conduct.py         decides what becomes of one request, from the script and the clock
record.py          what a stand-in has seen, in bounded memory
loopback.py        an ASGI application that listens on a loopback port, in a thread of its own
gateway.py         what stands before an API and answers in its place
stand_in.py        the path of one request through a stand-in, whatever API it speaks
hakuna_api.py      Hakuna: paths and headers
hakuna_events.py   judges an event's body
hakuna_feed.py     judges an order of the feed
hakuna_told.py     the words of those judgements
hako_api.py        Hako: arrays, verbs, three tables
registry.py        a schema registry in memory
"""
