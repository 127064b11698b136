"""send: the outbox to the API, in order per order ID, as fast as the API allows and never faster.

Two threads meet in a hand-over. The Kafka thread never does HTTP, the event loop never calls Kafka, and neither wing
imports the other.

    kafka_thread/ (`role.py`)                   event_loop/ (`sender.py`)
    poll ─► decode (`intake.py`)    ─entries─►  lanes ─► take ─► pace ─► post ─► judge ─► finish
    commit ◄─ offsets ◄─ acknowledged ◄─ receipts, dead letters, holds ◄─endings─┘

What both share:

    settings.py      the settings of both threads
    destination.py   what the sender must know about an API (Hakuna's two, Hako's)
    pending.py       an entry that is being sent, and how it can end
    handover.py      where the two threads meet, and how they take turns
    meter.py         what both measure
"""
