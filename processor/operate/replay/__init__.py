"""Replay: what the `dead-letters` commands do with letters.

selection.py    which letters a command is about
reading.py      reads letters and resolutions
offset_set.py   offsets, as ranges
noted.py        what a replay writes down of itself; which letters are resolved
listing.py      counts by topic, reason, code and age
sources.py      source records by their place; letters completed from them
rekeying.py     the order ID of a letter, and where its order lives
contents.py     a letter's value, decoded, patched
survey.py       which letters are open, in the order of their orders
erasures.py     letters of erased orders stay
arrange.py      what is done about each letter of one order
database.py     the tables of a plan
plan.py         what will be sent, in what order, within which budget
rebuild.py      an entry made again from today's state
copies.py       the record that goes back on its way
making.py       all records that are written for one letter
release.py      an order let go once its letters are sent
campaign.py     one replay from start to end: the canary, then the rest
replay.py       sends, and follows what became of each letter
place.py        the one replay of a topic at a time
purge.py        deletes what is resolved
"""
