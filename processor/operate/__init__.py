"""What commands do; each package has the name of its command.

check/       finds everything that would keep a worker from working
status/      which worker has which partition, how far behind it is, and what blocks it
order/       the timeline of one order
replay/      the `dead-letters` commands
schemas.py   what `schemas register` will do
erase.py     deletes an order, and says what is left of it
state/       moves the state, or writes it again: `topics grow`, `rebuild-changelog`
recover.py   after a disaster: sets a group back, sends snapshots again. Each is one command, by hand, with its role
             stopped; the procedures are in deploy/RUNBOOK.md
"""
