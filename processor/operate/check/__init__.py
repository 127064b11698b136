"""Preflight: finds everything that would keep a worker from working, each problem with its remedy.

Reading order:

    findings.py   what a finding is
    check.py      the settings, and all checks side by side
    cluster.py    brokers, topics, groups, rights, state, producers
    rights.py     the rights that each role needs, and how kafka-acls.sh and Strimzi grant them, pure
    doors.py      what listens at an address if no broker answers
    places.py     the state directory; the registry, and whether its schemas can be read
    api.py        an API, its key and its clock

Nothing here writes a record, commits an offset or leaves a file. A finding says so if something cannot be known without
that.
"""
