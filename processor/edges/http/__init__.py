"""HTTP, out: a lean client for one host over httptools, and httpx where it is asked for.

choice.py       which of the two serves a URL
tls.py          whose certificates are trusted, and the one that we show
proxies.py      which proxy a request goes through, and how it is asked
exchange.py     the one door of both: a request out, a receiver told how it ended
httpx_client.py httpx's own client by that door
pool.py         the lean client: connections to one host, shared by requests
connection.py   one connection: bytes out, events in, limits
request.py      a request's bytes, from a template that is made once
"""
