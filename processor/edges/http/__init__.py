"""HTTP, out: a lean client for one host over httptools, and httpx's client as a setting.

tls.py          the trusted authorities, and our own certificate
proxies.py      the proxy of a request, and how it is asked
exchange.py     the interface of both clients: a request out, a receiver for its end
httpx_client.py httpx's own client behind that interface
pool.py         the lean client: connections to one host, shared by requests
connection.py   one connection: bytes out, events in, limits
request.py      a request's bytes, from a template that is made once
"""
