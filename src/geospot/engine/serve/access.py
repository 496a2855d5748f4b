"""Who may talk to a server of ours: the name it is called by, the page that calls, the key. Needs starlette alone."""

import hmac
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


def check_page(request: Request, hosts: tuple[str, ...] | None) -> Response | None:
    """The refusal of a request that a web page makes which found the port, by its own name or by one it was given."""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if hosts is not None and name.lower() not in hosts:
        return JSONResponse({"detail": f"Host {host!r}: this server is {' or '.join(hosts)}"}, status_code=403)
    if request.headers.get("origin", f"http://{host}").partition("://")[2] != host:  # no client of the SDK sends it
        return JSONResponse({"detail": "pages of other servers are not served"}, status_code=403)
    return None


def same_key(given: str, key: str) -> bool:
    """Whether a key is the right one, in a time that does not tell how much of it is."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())
