"""hako: what Hako wants and answers, and the gathering of changes into arrays.

Hako's API, pure and without a word of Kafka's:

    changes.py       the change of one object: an item, a warehouse, the level of an item in a warehouse
    answers.py       what an answer means: the shared verdicts, and what a refusal means for the verb
    destination.py   paths, bodies, credentials

The role's own part of sending, beside the parts in `processor/send/` that every destination shares:

    catalog.items, catalog.warehouses, inventory.levels
        ─► intake.py     a record as a change, or why it is none
        ─► (send: each topic is read to its end before anything goes)
        ─► gathering.py  the newest change of each object, in arrays, in the order in which Hako can take them;
                         whose turn it is (`kinds.py`), and levels that name unknown objects (`parked.py`)
        ─► (send: quota, requests, verdicts, retries, splitting, dead letters, commits)
        ─► sent.py       the last accepted change of each object: the compacted topic `hako.sent`, read after a move
"""
