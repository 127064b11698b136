"""The edges: the only importers of the Kafka client, fastavro, the HTTP client and prometheus_client."""
