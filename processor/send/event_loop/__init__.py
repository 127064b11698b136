"""The event loop of a sending role: it takes, paces, posts, judges and finishes, and never calls Kafka.

sender.py     the loop
lanes.py      one FIFO per order ID; the parcels that are ready, that wait, that are split
gatherer.py   what hands parcels to the loop: lanes, or Hako's gathering
gate.py       what holds a whole destination: its pause, its breaker, its key, its limit
breaker.py    closed, open, half open: for an outage, a refused key, answers that are not the API's
limit.py      without a quota: how many requests at once
pace.py       the quota, by slots of partitions, over any number of workers; what replays may take of it
outcomes.py   what an answer means for the destination, and what becomes of its entries
standing.py   how the destination stands, for other threads
retries.py    what becomes of a request that was not taken: another attempt, or the end of it
poison.py     what one entry alone is answered while others pass
endpoint.py   the seam to HTTP
"""
