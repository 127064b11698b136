"""Preflight: everything that would keep a worker from working, found at once, each with what to do about it.

Reading order:

    findings.py   what is found
    check.py      all of it, side by side
    options.py    the settings, and as much of them as can be used where some are wrong
    cluster.py    brokers, topics, groups and what this user may do with them
    producers.py  what the newest records say of who writes them
    state.py      the state in the changelog, replicas, sizes
    rights.py     what each role needs to be allowed, pure
    granting.py   rights and topics in the words of kafka-acls.sh and of Strimzi, pure
    doors.py      what stands behind an address where no broker answers
    places.py     the state directory; the registry, and whether what is registered there can be read
    api.py        the API, its key and its clock

Nothing here writes a record, commits an offset or leaves a file. What cannot be known without doing so is said not to
be known.
"""
