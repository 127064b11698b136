"""HTTP to what runs on this machine."""

from typing import Final

import httpx

# `httpx.get` reads the authorities that the system trusts for each request, which is 30 ms of CPU, also where nobody
# listens yet. A connection is not kept: who listens may have been killed and started again.
LOOPBACK: Final = httpx.Client(verify=False, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
