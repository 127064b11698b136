"""The edges: the only importers of the Kafka client, fastavro, the HTTP client and prometheus_client.

kafka/             groups, transactions, readers, topics
http/              requests out
avro.py            Avro in Confluent's wire format, by the writer's schema and ours
avro_compat.py     whether what producers write can be read with our schema
avro_letters.py    a dead letter's value, edited and written again in the schema that it was written with
registry.py        writer schemas, as the workers ask for them
registry_http.py   the registry, as the commands ask it
rocks.py           one RocksDB a partition, in a directory that one process has claimed
metrics.py         every metric, declared once, and the meters that feed them
traces.py          OpenTelemetry spans, for those who ask for them
health.py          /metrics, /livez, /readyz, /status
logs.py            logs, one line an event
keys.py            an API key from the settings, or from a file that changes
clock.py           the real clock
"""
