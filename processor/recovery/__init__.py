"""What is done after a disaster: a group set back, snapshots sent again. Each is one command, by hand, with the role
that it concerns stopped. The procedures that they belong to are in deploy/README.md, "Disaster".
"""
