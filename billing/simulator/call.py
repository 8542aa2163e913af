"""What an operation knows about the call it answers, beyond the request itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Call:
    region: str = "us-east-1"
    base_url: str = ""
    """Scheme and host as the SDK addressed them; queue URLs are built on it."""
    unprocessed_share: float = 0.0
    """The share of a batch that a fault leaves unprocessed."""
    gone: Callable[[], bool] = _never
    """True once the server stops or the client hung up: whoever waits gives up."""
