"""What the shops write: their keys, partitioners and times, and how several topics become one sequence.

keys.py         the kind of a record's key, and the order ID in it
placements.py   the partitioners of client families
survey.py       judges from a sample whether the producers of an installation agree
merge.py        the records of several topics in the order of their times
starts.py       the offset at which a source begins, and why
loop.py         the group and the transactions of a role that merges
standing.py     lag and status of the sources, how their records ended, and those that begin elsewhere
standstill.py   why a role takes nothing at the moment
"""
