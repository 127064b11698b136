"""Kafka: the only importers of confluent-kafka beside the sandbox.

client.py        settings, errors and records, between librdkafka's form and ours
consumer.py      a group member: poll, assign, revoke, pause
commits.py       the committed offsets of a group, and a commit that is verified
recovery.py      decides when a complaint of a consumer is over
producer.py      records out, acknowledged; batches that fit their topics
transaction.py   records and offsets in one transaction; ends the transaction of a dead worker
barrier.py       hides new records from readers for some seconds
reader.py        partitions read without a group: restores, commands
scan.py          the records of many partitions, in bounded parts
looks.py         short looks into topics: newest books, newest source records, records not taken yet
admin.py         topics, their settings and identities
changes.py       changes by commands: a group's offsets, deleted records
membership.py    the time until which a member still has its partitions
groups.py        the members of a group
predecessors.py  dead workers that may have left a transaction open
properties.py    checks settings for librdkafka
rights.py        the rights of this user
topics.py        the topics of a role, watched while it runs
trim.py          deletes rekeyed records that transform has taken
throttle.py      the delays by the brokers' quotas
broker_clock.py  the difference between this machine's clock and the brokers'
versions.py      the requests that a broker supports
"""
