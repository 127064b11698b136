"""send: the outbox to the API, in order per order ID, as fast as the API allows and never faster.

Two threads meet in a hand-over. The Kafka thread never does HTTP, the event loop never calls Kafka.

    Kafka thread (`role.py`)                    event loop (`sender.py`)
    poll ─► decode (`outgoing.py`)  ─entries─►  lanes ─► take ─► pace ─► post ─► judge ─► finish
    commit ◄─ offsets ◄─ acknowledged ◄─ receipts, dead letters, holds ◄─endings─┘

Reading order:

    settings.py      what the role is told
    destination.py   what an API must say of itself to be sent to (Hakuna's two, Hako's)
    pending.py       an entry on its way, the parcels it travels in, and how it can end
    lanes.py         one FIFO per order ID; the parcels that are ready, that wait, that are split
    offsets.py       which offsets are finished, and how that survives a restart
    pace.py          the quota, by slots of partitions, over any number of workers
    limit.py         without a quota: how many requests at once
    breaker.py       closed, open, half open: for a destination that is down, and for a key that is refused
    poison.py        5xx on one entry while others pass
    backoff.py       how long an entry waits by our own judgement
    gate.py          what holds a whole destination: its pause, its breaker, its key, its limit
    endpoint.py      the seam to HTTP
    replay_share.py  what replays may take of it: live traffic goes first
    handover.py      where the two threads meet
    sender.py        the loop
    meter.py         what both tell whoever measures
    outgoing.py      from an outbox record to an entry, or why not
    assignments.py   the partitions that are ours
    takeover.py      from assigned to open: the committed map, the holds
    catch_up.py      Hako's: what is there is read before anything is sent
    effects.py       what an ending leaves on Kafka before its offset is finished (`written.py`: its form)
    commits.py       what the group is told, and the claim to the slots of the quota (`note.py`: its form)
    role.py          the Kafka thread
"""
