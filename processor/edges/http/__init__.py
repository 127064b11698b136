"""HTTP, out: a lean client for one host over httptools, and httpx where something stands between.

choice.py       which of the two serves a URL
tls.py          whose certificates are trusted, and the one that we show
proxies.py      which proxy a request goes through, and a tunnel through it
pool.py         the lean client: connections to one host, shared by requests
connection.py   one connection: bytes out, events in, limits
request.py      a request's bytes, from a template that is made once
"""
