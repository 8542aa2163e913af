"""Which part of a long list a page shows, and the links to the parts before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from billing.simulator.web import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """``first`` and ``last`` count from 1, for people; an address is empty where there is no such part."""

    total: int
    first: int
    last: int
    previous_url: str
    next_url: str

    def of(self, rows: Sequence[T]) -> Sequence[T]:
        return rows[self.first - 1 : self.last]


def part(request: Request, total: int, *, size: int) -> Part:
    """The part that ?page= asks for, or the nearest there is."""
    pages = max(1, -(-total // size))
    asked = request.query.get("page", "1")
    number = min(max(int(asked), 1), pages) if asked.isdecimal() and len(asked) < 10 else 1

    def url(other: int) -> str:
        if not 1 <= other <= pages:
            return ""
        return "?" + urlencode({**request.query, "page": str(other)})

    first = (number - 1) * size + 1
    return Part(
        total, min(first, max(total, 1)), min(total, first + size - 1), url(number - 1), url(number + 1)
    )
