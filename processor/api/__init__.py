"""api: what Hakuna and Hako have in common: how a key is sent, and what an answer means.

credentials.py   the header in which an API's key is sent
verdicts.py      what an answer means: delivered, retry later, rejected, doubted, key refused
advice.py        when to ask again, by the headers of rate limiters
bodies.py        reads the body of a refusal, in any form and encoding
"""
