"""What Hakuna and Hako have in common as APIs: how a key is sent, and what an answer means.

credentials.py   the header in which an API's key is sent
verdicts.py      what an answer means: delivered, retry later, rejected, doubted, key refused
advice.py        when to come back, in the words of rate limiters
bodies.py        what the body of a refusal says, whatever its shape and encoding
"""
