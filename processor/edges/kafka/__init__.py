"""Kafka: the only importers of confluent-kafka beside the sandbox.

client.py        settings, errors and records, between librdkafka's words and ours
consumer.py      a group member: poll, assign, revoke, pause
commits.py       what a group has committed, and a commit that is known to stand
recovery.py      when a complaint of a consumer ends
producer.py      records out, acknowledged
transaction.py   records and offsets in one transaction; what a dead worker left open is aborted
barrier.py       readers kept from what comes after a place, for some seconds
reader.py        partitions read without a group: restores, commands
scan.py          the records of many partitions, in bounded parts
survey.py        the newest records of each source topic: their keys, partitions and timestamps
admin.py         topics, their settings and identities
books.py         the newest book of changelog partitions
changes.py       what commands change: a group's offsets, records deleted
membership.py    until when a member may believe in its partitions
groups.py        who is in a group
left.py          what a group has not taken of partitions that are not ours
predecessors.py  workers that are gone and may have left a transaction open
properties.py    which of its settings librdkafka takes
rights.py        what this user is allowed
sightings.py     which topics stand under our names, for a role that goes on whatever happens to them
trim.py          rekeyed records that transform has taken, deleted
throttle.py      what the brokers' quotas cost a role's clients
sources.py       the topics of transform, what they become while it runs
retention.py     for how long topics keep a record, looked at while running
topology.py      partition counts and topic identities, watched while running
broker_clock.py  how far this machine's clock is from the brokers'
versions.py      which requests a broker knows
"""
