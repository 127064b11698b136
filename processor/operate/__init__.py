"""What commands do, each package named for its command.

check/       everything that would keep a worker from working, found at once
status/      who has what, how far behind, and what blocks it
order/       the timeline of one order
replay/      the `dead-letters` commands
schemas.py   what `schemas register` will do
erase.py     an order forgotten, and what of it is left
state/       the state moved, or written again: `topics grow`, `rebuild-changelog`
recover.py   after a disaster: a group set back, snapshots sent again. Each is one command, by hand, with the role
             that it concerns stopped; the procedures are in deploy/RUNBOOK.md
"""
