"""Figures, not tests: each is run by hand and prints a table."""
