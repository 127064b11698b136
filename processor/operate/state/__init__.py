"""The state as a whole, moved to other partitions or written again. Each is one command, with the role stopped.

grow.py      `topics grow`: more partitions, and every record with a key goes to the new partition of its key
rebuild.py   `rebuild-changelog`: the changelog, written again from the stores of a volume
steps.py     the commands, step by step, on a cluster; the books that they write
writing.py   records in transactions of bounded size
"""
