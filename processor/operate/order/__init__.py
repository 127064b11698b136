"""The timeline of one order, or of one SKU: everything that the topics say of it, in the order of time.

Reading order:

    windows.py       which parts of the topics are read, pure
    gather.py        reads them
    waits.py         why its records wait
    story.py         each record with its outcome and the reason, pure
    lines.py         a happening in one line for a table, pure
    sku.py           the same of one SKU
"""
