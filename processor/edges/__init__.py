"""The edges: the only importers of the Kafka client, fastavro, the HTTP client and prometheus_client.

kafka/             groups, transactions, readers, topics
http/              requests out
avro.py            decodes the Avro of the source topics into our own values
avro_schema.py     a schema as a tree, with full names
avro_plan.py       decides whether and how values of a writer's schema are read with ours
avro_steps.py      the steps and the findings of a plan
avro_reader.py     a reader for one plan, as generated Python
avro_wire.py       the schema ID of a value
avro_letters.py    edits the value of a dead letter and encodes it again in its own schema
registry.py        the schema registry
rocks.py           one RocksDB a partition, in a directory that one process has claimed
metrics.py         every metric, declared once, and the meters that feed them
traces.py          OpenTelemetry spans, if they are turned on
health.py          /metrics, /livez, /readyz, /status
logs.py            logs, one line an event
keys.py            an API key from the settings, or from a file that changes
clock.py           the real clock
"""
