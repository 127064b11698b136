"""Starts, watches and ends the real parts that tests and benchmarks run on: Kafka, the registry, our own
workers."""
