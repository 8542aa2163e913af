"""What SDKs sent and got: a bounded ring, newest last, with registration tokens masked."""

from __future__ import annotations

from collections import deque
from typing import Any

KEPT = 500
_MASKED = frozenset({"RegistrationToken"})
LARGEST_PAYLOAD = 64 * 1024


class RequestLog:
    """Used under the state's lock."""

    def __init__(self) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def add(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)

    @property
    def entries(self) -> list[dict[str, Any]]:
        return list(self._entries)


def mask(payload: object) -> object:
    """The payload without what must not be shown."""
    if isinstance(payload, dict):
        return {key: _hide(value) if key in _MASKED else value for key, value in payload.items()}
    return payload


def _hide(secret: object) -> str:
    return f"(masked, {len(str(secret))} characters)"
