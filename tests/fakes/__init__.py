"""Fakes of what lies outside: each passes the same contract suite as the real thing (`tests/contracts`)."""
