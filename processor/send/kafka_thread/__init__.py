"""The Kafka thread of a sending role: it polls, writes and commits, and never does HTTP.

role.py          the loop
assignments.py   the partitions that are ours
takeover.py      from assigned to open: the committed map, the holds
catch_up.py      Hako's: what is there is read before anything is sent
brake.py         what is full is not read until it is half empty
standing.py      how the partitions stand, for other threads
intake.py        from an outbox record to an entry, or why not
beginnings.py    from where a partition is read on, by what is on record and what stands in the cluster
witness.py       holds made anew from the open letters, where their topic was lost
offsets.py       which offsets are finished, and the note in the commit that survives a restart
effects.py       what an ending leaves on Kafka before its offset is finished
written.py       the form of those records
commits.py       what the group is told, and the claim to the slots of the quota
"""
