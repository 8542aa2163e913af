"""What is still to come, by when it falls due and by the agreement it concerns."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime

from billing.simulator.records import Scheduled
from billing.simulator.tables import Table


class Schedule:
    """An order over the table of scheduled events; used under the state's lock."""

    def __init__(self, table: Table[int, Scheduled], *, numbered_from: int = 1) -> None:
        self._table = table
        self._next_number = max((*table, numbered_from - 1)) + 1
        self._due = [(event.due, event.number) for event in table.values()]
        heapq.heapify(self._due)
        self._of_agreement: dict[str, set[int]] = {}
        for event in table.values():
            self._of_agreement.setdefault(event.agreement_id, set()).add(event.number)

    def new_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    def add(self, event: Scheduled) -> None:
        self._table[event.number] = event
        self._of_agreement.setdefault(event.agreement_id, set()).add(event.number)
        heapq.heappush(self._due, (event.due, event.number))

    def forget(self, agreement_id: str, which: Callable[[Scheduled], bool]) -> bool:
        """Take an agreement's events off that were overtaken before they fell due; True if any were."""
        numbers = sorted(self._of_agreement.get(agreement_id, ()))
        found = [event for event in map(self._table.__getitem__, numbers) if which(event)]
        for event in found:
            self._remove(event)
        return bool(found)

    def take_due(self, now: datetime) -> Iterator[Scheduled]:
        """What fell due by ``now``, in order, with what is added meanwhile; each is off when yielded."""
        while (event := self.next()) is not None and event.due <= now:
            heapq.heappop(self._due)
            self._remove(event)
            yield event

    def next(self) -> Scheduled | None:
        while self._due:
            event = self._table.get(self._due[0][1])
            if event is not None:
                return event
            heapq.heappop(self._due)  # forgotten since
        return None

    @property
    def in_order(self) -> list[Scheduled]:
        return sorted(self._table.values(), key=lambda event: (event.due, event.number))

    def _remove(self, event: Scheduled) -> None:
        del self._table[event.number]
        numbers = self._of_agreement[event.agreement_id]
        numbers.remove(event.number)
        if not numbers:
            del self._of_agreement[event.agreement_id]
