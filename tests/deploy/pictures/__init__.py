"""Draws the dashboards as a picture each; see `__main__`."""
