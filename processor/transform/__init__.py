"""transform: what the shops say of their orders → what the APIs are told of them.

    orders.*  ──►  the state of each order  ──►  outbox
                        │                          └ orders.dead-letters, for what is refused
                        └ changelog

One thread, one transaction a batch. In the order in which an event travels:

transformer.py     the loop: poll, take, write and commit in one transaction
plan.py            what the loop is told, what it has of the outside, why it may stand still
partitions.py      which partition numbers are here, and how each gets its state back
beginnings.py      where each source is read from
book.py            what is finished of each source, kept beside the state
taking.py          which records the next transaction takes
batch.py           what becomes of each record
decode.py          the structs that an event is read into
keyed_state.py     the orders of one partition: staged, committed, restored
order_state.py     what is kept of an order, and its bytes
order_state_1.py   the bytes of the version before
rules.py           what an event does to its order
placed.py          the same of an order that is placed
unheard.py         the same of an order that is not told of
units.py           what may still move, and what moves with it
transitions.py     what the rules are asked with, and what they answer
outbox.py          the record that send will read
whereabouts.py     whether orders' events are where their orders are
observing.py       what others see of the loop
meter.py           what the role measures
"""
