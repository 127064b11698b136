"""The soak: everything at once, for as long as is asked for, and checkers that know nothing of what was done.

make soak                                  20 minutes, of a seed that it prints
python -m tests.soak --minutes 60 --seed 7 --only kill,broker

__main__.py      the command: a world, its disturbances, the calm at the end, the checkers, the report
cluster.py       three brokers that are killed and restarted one by one
world.py         topics, APIs, two workers a role, what they are told; how much memory and files they hold
writing.py       what shops write meanwhile: late, twice, bad, giant, by three families of producers
journal.py       each request as the API saw it: when it came, when it was over
blows.py         the disturbances, each a generator that says when it goes on
checks.py        the promises, each a pure function over records
report.py        JSON, and a page with pictures
test_*.py        faults that are planted must be found, without a cluster
"""
