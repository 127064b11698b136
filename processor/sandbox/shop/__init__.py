"""A shop: orders and stock with a history, written to Kafka.

history.py    the history of one order, step by step, and the expected outcome of each step
mistakes.py   the ways in which a history can go wrong
orders.py     a shop: many histories, interleaved in time
stock.py      items, warehouses and levels
writer.py     encodes their records and produces them
"""
