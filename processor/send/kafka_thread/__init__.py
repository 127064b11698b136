"""The Kafka thread of a sending role: it polls, writes and commits, and never does HTTP.

role.py          the loop
assignments.py   the partitions that are ours
takeover.py      from assigned to open: the committed map, the holds
catch_up.py      Hako's: the topics are read to their ends before the first request
brake.py         a full partition is paused until it is half empty
standing.py      how the partitions stand, for other threads
intake.py        from an outbox record to an entry, or to the reason of a refusal
beginnings.py    the offset at which a partition begins, from its commit, its book and the cluster
witness.py       makes holds anew from the open letters after their topic was lost
offsets.py       which offsets are finished, and the note in the commit that survives a restart
effects.py       the records that an ending writes before its offset is finished
written.py       the form of those records
commits.py       the commits, and the claim to the slots of the quota
"""
