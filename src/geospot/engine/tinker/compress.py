"""Requests on the wire as small as their pictures: JSON bodies compressed where the server says that it reads them.

The SDK sends sample requests as JSON with pictures in base64, a third larger than they are. Training requests it
compresses by itself, if the server wishes.
"""

import httpx
import zstandard

_LEAST_BYTES = 4096


class CompressingTransport(httpx.AsyncBaseTransport):
    """Compresses large JSON bodies with zstd on their way to another transport."""

    def __init__(self, inner: httpx.AsyncBaseTransport):
        self._inner = inner
        self._compressor = zstandard.ZstdCompressor(level=1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; one whose body is large JSON goes out as zstd."""
        is_json = request.headers.get("content-type", "").startswith("application/json")
        if is_json and "content-encoding" not in request.headers:
            body = await request.aread()
            if len(body) >= _LEAST_BYTES:
                packed = self._compressor.compress(body)
                headers = httpx.Headers(request.headers)
                headers["content-encoding"], headers["content-length"] = "zstd", str(len(packed))
                request = httpx.Request(
                    request.method, request.url, headers=headers, content=packed, extensions=request.extensions
                )
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._inner.aclose()


def compressing_client() -> httpx.AsyncClient:
    """An HTTP client for the SDK, its own transport with compression in front."""
    from tinker._base_client import DEFAULT_TIMEOUT, _default_pyqwest_transport

    transport = CompressingTransport(_default_pyqwest_transport())
    return httpx.AsyncClient(transport=transport, timeout=DEFAULT_TIMEOUT)
