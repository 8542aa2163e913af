"""What an operation knows about the call it answers, beyond the request itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    region: str
    access_key: str
    base_url: str
    """Scheme and host as the SDK addressed them; queue URLs are built on it."""
    unprocessed_share: float
    """The share of a batch that a fault leaves unprocessed."""
    empty_page: bool
    """True when a fault wants a page without entitlements, whose token goes on where the call stood."""
    gone: Callable[[], bool]
    """True once the server stops or the client hung up: whoever waits gives up."""
