"""How the client of the control API speaks to it. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, cast
from urllib.parse import quote

Json = dict[str, Any]


class ControlError(Exception):
    """The simulator refused; the text says why."""


class Connection:
    """Sends to addresses under ``url``/_simulator/; each raises ControlError when refused."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        # Environment proxies must not get between a test and its loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Json:
        return cast(Json, json.loads(self.receive("GET", path)))

    def post(self, *path: str, body: Json | None = None) -> Json:
        """Each part of ``path`` is quoted: a name with a slash in it stays one name."""
        address = "/".join(quote(part, safe="") for part in path)
        return cast(Json, json.loads(self.receive("POST", address, body or {})))

    def receive(self, method: str, path: str, body: Json | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/_simulator/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return cast(bytes, response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(json.load(error)["error"]) from None
