"""The timeline of one order, or of one SKU: everything that the topics say of it, as a person would tell it.

Reading order:

    windows.py       which parts of the topics are read for it, pure
    gather.py        reads them
    waits.py         why what waits of it waits
    story.py         what each record was, what became of it and why, pure
    lines.py         a happening in one line for a table, pure
    sku.py           the same of one SKU
"""
