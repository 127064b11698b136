"""Replay: what the `dead-letters` commands do with letters.

selection.py    which letters a command is about
reading.py      reads partitions
noted.py        the runs that a replay writes down; which letters are resolved
listing.py      counts by topic, reason, code and age
sources.py      source records by their place; letters completed from them
rekeying.py     the order ID of a letter, and where its order lives
contents.py     the value that is sent for a letter: as it was, rebuilt or patched
survey.py       what a command is to do; which letters are open, and which of them were erased
arrange.py      what is done about each letter of one order
database.py     the tables of a plan
plan.py         what will be sent, in what order, within which budget
rebuild.py      an entry made again from today's state
copies.py       the record that goes back on its way
making.py       all records that are written for one letter
release.py      releases an order once its letters were sent
campaign.py     one replay from start to end: the canary, then the rest
replay.py       sends, and follows what became of each letter
place.py        the one command at a time, its transactions and its clients
purge.py        deletes resolved letters
"""
