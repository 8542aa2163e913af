"""What the simulator remembers, by key. A value is never changed in place: a change is a new value.

So a journal needs to know no more than which keys were written since it last looked.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(UserDict[K, V], Generic[K, V]):
    """A dict that, once watched, remembers which keys were written or deleted."""

    def __init__(self) -> None:
        self._touched: set[K] | None = None
        super().__init__()

    def watch(self) -> None:
        """From now on, remember. Nothing is remembered before, so an unwatched table costs nothing."""
        self._touched = set()

    def take_touched(self) -> set[K]:
        """The keys written or deleted since the last call; those no longer in the table were deleted."""
        touched = self._touched or set()
        if self._touched is not None:
            self._touched = set()
        return touched

    def __setitem__(self, key: K, value: V) -> None:
        if self._touched is not None:
            self._touched.add(key)
        self.data[key] = value

    def __delitem__(self, key: K) -> None:
        if self._touched is not None:
            self._touched.add(key)
        del self.data[key]
