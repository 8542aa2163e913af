"""A long list a page at a time, without counting it: one query, however long the list is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import models
from django.http import HttpRequest

Row = TypeVar("Row", bound=models.Model)

_LAST = 10_000  # a number in an address must not make the database skip millions of rows


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """Some of the rows, and the queries that lead to the pages before and after: '' where there is none."""

    rows: Sequence[Row]
    previous: str
    next: str


def slice_of(rows: models.QuerySet[Row], request: HttpRequest, *, name: str, size: int) -> Slice[Row]:
    """The page that the parameter ``name`` asks for; the first if it asks for none that can be."""
    asked = request.GET.get(name, "")
    number = min(int(asked), _LAST) if asked.isdecimal() and asked.isascii() and len(asked) < 9 else 1
    number = max(number, 1)
    found = list(rows[(number - 1) * size : number * size + 1])
    previous = _query(request, name, number - 1) if number > 1 else ""
    following = _query(request, name, number + 1) if len(found) > size else ""
    return Slice(found[:size], previous, following)


def _query(request: HttpRequest, name: str, number: int) -> str:
    query = request.GET.copy()
    query[name] = str(number)
    return f"?{query.urlencode()}"
