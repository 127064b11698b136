"""The fleet: who has what, how far behind, and what blocks it, from the workers and from the brokers.

    workers.py   asks each worker; one that does not answer is a row, too
    brokers.py   asks the brokers: committed offsets, ends, members, how old the oldest unfinished record is
    view.py      both in one picture, pure

Neither is enough alone: a worker that hangs does not answer, and a broker does not know what a worker waits for.
"""
