"""The composition root: builds edges, wires roles, handles signals.

process.py     a process's life: start, signals, drain, exit code
roles.py       one thread a role: waits for what is not there, turns the loop, watches its progress
start.py       what a role asks of the cluster and the registry before it begins: also whether the state is whole
transform.py   what the transform role is made of
surveying.py   a thread that looks at what the producers write, beside transform
rekey.py       what the rekey role is made of
sending.py     what send and hako are made of
"""
