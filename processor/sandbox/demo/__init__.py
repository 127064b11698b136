"""The demo: a broker, a shop, both stand-ins and the real roles, and a judge of what came of it.

broker.py      a Kafka inside this process
workers.py     the real roles, in processes of their own
watch.py       what they say of themselves in /metrics
demo.py        the demo's run
judgement.py   compares what came with what should have
live.py        shows it
"""
