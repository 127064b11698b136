"""Hako: what it wants and what it answers. Pure, and without a word of Kafka's.

changes.py       one object as it shall be: an item, a warehouse, the level of an item in a warehouse
answers.py       what an answer means: the shared verdicts, and what a refusal means for the verb
destination.py   paths, bodies, credentials
"""
