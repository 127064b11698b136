"""The state as a whole: moved to other partitions, written again, set back. Each is one command, with the role stopped.

books.py     what the commands write into the changelog's books, pure
grow.py      `topics grow`: more partitions, and everything with a key goes to where its key is then
rebuild.py   `rebuild-changelog`: the changelog, written again from the stores of a volume
steps.py     the commands, step by step, on a cluster
writing.py   records in transactions of bounded size
"""
