"""transform: from the events of the shops to the requests to the APIs.

    orders.*  ──►  the state of each order  ──►  outbox
                        │                          └ orders.dead-letters, for what is refused
                        └ changelog

One thread, one transaction a batch. In the order in which an event travels:

transformer.py     the loop: poll, take, write and commit in one transaction
plan.py            the loop's settings, edges and metrics
partitions.py      the partition numbers of this worker, and how each restores its state
beginnings.py      the offset at which each source begins
book.py            how far each source is finished, kept beside the state
taking.py          which records the next transaction takes
batch.py           decides how each record ends
keyed_state.py     the orders of one partition: staged, committed, restored
order_state.py     the state of an order, and its bytes
rules.py           what an event does to its order
placed.py          the same for an order that is placed
unheard.py         the same for an order that Hakuna does not get
units.py           the units that may still move, and those that move with them
transitions.py     the arguments and results of the rules
outbox.py          the record that send will read
whereabouts.py     whether an order's events are in its partition
observing.py       lag, status and progress of the loop
"""
