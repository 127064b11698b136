"""Mutations of the pure modules: each is changed in a thousand small ways, and its unit tests have to notice.

    python -m tests.mutation placements pace       some minutes each; all of them without a name

A mutant that survives is a test that is missing, code that is not needed, or a change that changes nothing (a message's
letters, a bound that no value meets): `tests/README.md` has the scores, and what the survivors are.
"""
