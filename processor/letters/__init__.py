"""letters: refused records, as both the data path and the commands know them.

letter.py        the dead letter: its headers, reasons and stages
families.py      the headers that other tools write on theirs
holds.py         orders that wait behind a refused entry
by_epoch.py      values by key and assignment, on disk
resolutions.py   which letters are no longer open, and why
seldom.py        logs a frequent event once a minute
flood.py         stops a role before it makes dead letters of everything
masking.py       shows content without a customer's data
patch.py         edits a letter's content by a merge patch
"""
