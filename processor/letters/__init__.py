"""Letters: what both the data path and the commands know of records that were refused.

letter.py        the dead letter: its headers, reasons and stages
families.py      the headers that other tools write on theirs
holds.py         orders that wait behind a refused entry
by_epoch.py      what is known by key in each assignment, on disk
resolutions.py   which letters need nobody any more, and why
seldom.py        says once a minute what happens often
flood.py         stops a role before it makes dead letters of everything
masking.py       what of a customer's data may be shown
patch.py         a letter's content, edited by a merge patch
"""
