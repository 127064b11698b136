"""rekey: writes orders of any key, partitioner and partition count to the topics that transform reads.

    orders.* (as the shops write them) ──► rekey ──► hakuna.rekeyed.orders.*  (key: the order ID; murmur2) ──► transform
                                             │ ▲
                                             │ └── hakuna.rekeyed-events  which events were written: a repeat is dropped
                                             └──► orders.dead-letters     an erasure whose key names no order

A role of its own, off unless `PROCESSOR_REKEY=on`. In the order in which a record travels:

rekeyer.py   the loop: poll, decide, write and commit in one transaction
decide.py    what a record becomes: written under its order ID, written as it is, refused, or dropped as a repeat
erasures.py  when an erasure may be written: not while another worker is behind it
events.py    the events that were written already: in memory, and in a topic that all workers read
beginnings.py  where each source is read from, and the log that its commits count in
"""
