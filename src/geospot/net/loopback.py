"""This machine by its own names: addresses that nobody else can reach, and the hosts that a request to them names."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # addresses to listen on, and hosts of URLs


def in_url(host: str) -> str:
    """A host as it stands in a URL and in a request's Host header: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


LOOPBACK_NAMES = tuple(in_url(host) for host in LOOPBACK)


def served_names(key: str | None) -> tuple[str, ...] | None:
    """The names that a server may be called by; None for any, where it asks for a key.

    Without one, a web page of another server could reach the port under a name of its own (DNS rebinding).
    """
    return LOOPBACK_NAMES if key is None else None
