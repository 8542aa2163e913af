"""A list that may outgrow memory: appended to, then read as often as wanted, from a temporary file."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_IN_MEMORY = 1_000_000  # bytes, before it becomes a file


class Spool(Generic[Item]):
    """The file is nameless: nobody else reads it, and it is gone with this object."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._length = 0
        weakref.finalize(self, self._file.close)

    def append(self, item: Item) -> None:
        pickled = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._file.seek(0, os.SEEK_END)
        self._file.write(pickled)
        self._length += 1

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        place = 0
        for _ in range(self._length):
            self._file.seek(place)  # somebody else may be reading as well
            item: Item = pickle.load(self._file)
            place = self._file.tell()
            yield item


def can_be_kept(item: object) -> bool:
    try:
        pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError):
        return False
    return True
