"""rekey: orders of any key, partitioner and partition count, brought to where transform reads them.

    orders.* (as the shops write them) ──► rekey ──► hakuna.rekeyed.orders.*  (key: the order ID; murmur2) ──► transform
                                             │ ▲
                                             │ └── hakuna.rekeyed-events  which events were written: a repeat is refused
                                             └──► orders.dead-letters     an erasure whose key names no order

A role of its own, off unless `PROCESSOR_REKEY=on`. In the order in which a record travels:

rekeyer.py   the loop: poll, decide, write and commit in one transaction
decide.py    what a record becomes: handed on under its order ID, handed on as it is, refused, or a repeat
erasures.py  when an erasure may go on: not while another worker is behind it
events.py    which events were written already: in memory, and in a topic that all workers read
beginnings.py  where each source is read from, and what its commits say of the log that they count in
meter.py     what the role measures
"""
