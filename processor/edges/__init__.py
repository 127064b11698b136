"""The edges: the only importers of the Kafka client, fastavro, the HTTP client and prometheus_client.

kafka/             groups, transactions, readers, topics
http/              requests out
avro.py            Avro of the source topics, straight to values of ours
avro_schema.py     a schema as a tree, with names made whole
avro_plan.py       how values of a writer's schema are read with ours: the one judge of whether they can be
avro_steps.py      the steps of a plan, and what is said of it
avro_reader.py     a reader for one plan, as generated Python
avro_wire.py       which schema a value was written with
avro_letters.py    a dead letter's value, edited and written again in the schema that it was written with
registry.py        writer schemas, as the workers ask for them
registry_http.py   one request of it
rocks.py           one RocksDB a partition, in a directory that one process has claimed
metrics.py         every metric, declared once, and the meters that feed them
traces.py          OpenTelemetry spans, for those who ask for them
health.py          /metrics, /livez, /readyz, /status
logs.py            logs, one line an event
keys.py            an API key from the settings, or from a file that changes
clock.py           the real clock
"""
