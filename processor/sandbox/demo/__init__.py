"""The demo: a broker, a shop, both stand-ins and the real roles, and a check of every outcome.

workers.py     the real roles, in processes of their own
watch.py       reads /metrics and /readyz of the workers
demo.py        runs the demo, on a Kafka inside this process
judgement.py   compares the outcomes with the expected ones
live.py        draws the progress and the summary
"""
