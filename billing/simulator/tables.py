"""What the simulator remembers, by key. A value is never changed in place: a change is a new value.

So a journal needs to know no more than which keys were written or deleted since it last looked.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(MutableMapping[K, V], Generic[K, V]):
    """A dict that, once watched, remembers which keys were written or deleted."""

    def __init__(self) -> None:
        self.data: dict[K, V] = {}
        self._touched: dict[K, bool] | None = None

    def watch(self) -> None:
        """From now on, remember. Nothing is remembered before, so an unwatched table costs nothing."""
        self._touched = {}

    @property
    def touched(self) -> dict[K, bool]:
        """The keys written or deleted since ``forget_touched``: True for those that were deleted meanwhile.

        A key that was deleted may have been written again. They come in an order in which writing them again
        gives a table of the same order.
        """
        return self._touched or {}

    def forget_touched(self) -> None:
        if self._touched:
            self._touched = {}

    def __getitem__(self, key: K) -> V:
        return self.data[key]

    def __setitem__(self, key: K, value: V) -> None:
        touched = self._touched
        if touched is not None:
            if key in self.data:
                touched.setdefault(key, False)
            else:
                # Behind what was touched before, as it now is in the table.
                touched[key] = touched.pop(key, False)
        self.data[key] = value

    def __delitem__(self, key: K) -> None:
        del self.data[key]
        if self._touched is not None:
            self._touched[key] = True

    def clear(self) -> None:
        # popitem(), by which a mapping clears itself, looks past all deleted keys for each.
        for key in list(self.data):
            del self[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        return key in self.data
