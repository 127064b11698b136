"""The fleet: which worker has which partition, how far behind it is, and what blocks it.

    workers.py   asks each worker; a silent one is a row, too
    brokers.py   asks the brokers: committed offsets, ends, members, age of the oldest unfinished record
    view.py      both in one picture, pure

Both are needed: a worker that hangs does not answer, and a broker does not know what a worker waits for.
"""
