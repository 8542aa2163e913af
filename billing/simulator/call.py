"""What an operation knows about the call it answers, beyond the request itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    region: str
    base_url: str
    """Scheme and host as the SDK addressed them; queue URLs are built on it."""
    unprocessed_share: float
    """The share of a batch that a fault leaves unprocessed."""
    gone: Callable[[], bool]
    """True once the server stops or the client hung up: whoever waits gives up."""
