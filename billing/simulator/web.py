"""A request and a response, just enough of HTTP for a WSGI app without a framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

LARGEST_BODY = 4 * 1024 * 1024
MOST_FIELDS = 1000

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class BodyTooLarge(Exception):
    """Nobody sends AWS this much in one request."""

    def __init__(self, request: Request) -> None:
        super().__init__("The request body is too large")
        self.request = request


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    host: str
    body: bytes
    environ: Environ = field(repr=False)

    @classmethod
    def read(cls, environ: Environ) -> Request:
        """Raises BodyTooLarge, which carries the request without its body."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > LARGEST_BODY:
            raise BodyTooLarge(cls.read({**environ, "CONTENT_LENGTH": "0"}))
        # WSGI hands paths over as Latin-1; the browser sent UTF-8.
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace") or "/"
        return cls(
            method=environ["REQUEST_METHOD"],
            path=path,
            host=environ.get("HTTP_HOST") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}",
            body=environ["wsgi.input"].read(length) if length else b"",
            environ=environ,
        )

    def header(self, name: str) -> str:
        value: str = self.environ.get("HTTP_" + name.upper().replace("-", "_"), "")
        return value

    @property
    def form(self) -> dict[str, str]:
        return _pairs(self.body.decode("utf-8", "replace"))

    @property
    def query(self) -> dict[str, str]:
        return _pairs(self.environ.get("QUERY_STRING", ""))


def _pairs(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        return {}


@dataclass(frozen=True, slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    dropped: bool = False
    """The work was done, but the connection breaks before the answer gets through."""

    def send(self, start_response: StartResponse) -> Iterable[bytes]:
        if self.dropped:
            # Waitress closes the connection, without a byte of answer, when an app fails with an OSError.
            raise ConnectionAbortedError("dropped on purpose")
        status = f"{self.status} {HTTPStatus(self.status).phrase}"
        start_response(status, [*self.headers, ("Content-Length", str(len(self.body)))])
        return [self.body]


def json_response(content: object, *, status: int = 200) -> Response:
    body = json.dumps(content).encode()
    return Response(status, body, (("Content-Type", "application/json"), ("Cache-Control", "no-store")))


def redirect(location: str) -> Response:
    return Response(303, b"", (("Location", location),))
