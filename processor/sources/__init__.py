"""What the shops write: their keys, partitioners and times, and how several topics become one sequence.

keys.py         what a record's key is, and the order ID in it
placements.py   where each family of clients puts a key
survey.py       whether the producers of an installation agree, from a sample
merge.py        the records of several topics in the order of their times
starts.py       where a source is read from, by what is on record of it
notices.py      sources that are not simply read on, said, counted and shown
offsets.py      what the group has committed, and the way back to it
standing.py     how far a role that merges is, and how its transactions end
standstill.py   why a role takes nothing at the moment
"""
