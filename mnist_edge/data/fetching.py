"""Fetch a file over HTTP or HTTPS, from a server that may do anything: the time, the pace and the size are limited."""

import io
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from socket import socket
from typing import Any, Final
from urllib.request import (
    AbstractHTTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

TIMEOUT: Final = 30.0
"""Seconds within which a server must be reached, and then send each further `LEAST` bytes, headers included."""

LEAST: Final = 30_000
"""At a kilobyte a second MNIST would take three hours: a connection so slow has stalled."""

LONGEST: Final = 3600.0
"""Seconds for a file: its largest part, 562 MB, takes 45 minutes at 200 kB/s."""

_BLOCK: Final = 1 << 16

OnBytes = Callable[[str, int, int | None], None]
"""Called while a file is downloaded, with its URL, the bytes received so far, and the total if known."""


def fetch(url: str, most: int, on_bytes: OnBytes) -> Iterator[bytes]:
    """Yield what a URL holds, block by block. Redirects are followed to HTTP and HTTPS only, proxies are used.

    Args:
        url: the address.
        most: how many bytes it may have.
        on_bytes: called after each block.

    Raises:
        OSError: the server cannot be reached or refuses; the answer is too large, too slow, or ends too soon.
        HTTPException: the answer is not HTTP, or ends within a chunk.
    """
    request = Request(url, headers={"User-Agent": "mnist-edge"})  # noqa: S310  # `_opener` knows only http and https
    with _opener().open(request, timeout=TIMEOUT) as response:
        total: int | None = response.length
        if total is not None and total > most:
            raise OSError(f"{total:,} bytes, more than {most:,}")
        ends, done = time.monotonic() + LONGEST, 0
        while block := response.read1(_BLOCK):
            done += len(block)
            on_bytes(url, done, total)
            if done > most:
                raise OSError(f"more than {most:,} bytes")
            if time.monotonic() > ends:
                raise TimeoutError(f"not finished in {LONGEST:,g} s")
            yield block
        if total is not None and done != total:
            raise OSError(f"ended after {done:,} of {total:,} bytes")


def _opener() -> OpenerDirector:
    # Python's own opener would follow redirects to FTP, too.
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        _Handler(),
        HTTPRedirectHandler(),
        HTTPErrorProcessor(),
        HTTPDefaultErrorHandler(),
        UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Paced(io.RawIOBase):
    """What comes through a connection, as long as at least `LEAST` bytes come in every `TIMEOUT` seconds.

    The socket's own timeout never ends a connection that sends a byte now and then.
    """

    def __init__(self, connection: socket, raw: io.RawIOBase) -> None:
        self._connection, self._raw = connection, raw
        self._due, self._ends = LEAST, time.monotonic() + TIMEOUT

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer with what comes next; returns how many bytes, 0 at the end."""
        self._connection.settimeout(max(self._ends - time.monotonic(), 0.001))  # 0 would not wait at all
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise TimeoutError(f"fewer than {LEAST:,} bytes in {TIMEOUT:g} s") from None
        self._due -= count or 0
        if self._due <= 0:
            self._due, self._ends = LEAST, time.monotonic() + TIMEOUT
        return count

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_Paced(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Handler(AbstractHTTPHandler):
    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_Connection, request)

    def https_open(self, request: Request) -> HTTPResponse:
        return self.do_open(_SecureConnection, request)

    http_request = https_request = AbstractHTTPHandler.do_request_
