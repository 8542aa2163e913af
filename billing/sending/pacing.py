"""When the next call may leave: AWS's quota of calls a second, kept by spacing calls evenly, per Region.

AWS counts with a bucket that holds one second's calls. No more than those leave within any second, also where
one process ends and the next begins.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass

_SECOND = 1.005  # a call may reach AWS a little sooner after it left than the one before it did
_AHEAD = 0.45  # seconds: what leaves within them is claimed in one go
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class Slot:
    """When a call may leave; once it left, when it did."""

    at: float
    after: Slot | None  # the one as many calls before it as AWS takes in a second


class Pace:
    """Slots are given out by one thread; the calls that have one wait for it in their own."""

    def __init__(self, per_second: float | None) -> None:
        self._interval = 1 / per_second if per_second else 0.0
        self._next: dict[str, float] = {}  # of each Region: when its next call may leave
        self._last: dict[str, deque[Slot]] = {}  # of each Region: the calls of the last second
        self._in_a_second = max(1, int(per_second or 0))
        self._resume_at = 0.0
        self.throttles = 0  # since AWS last answered; those that came during one pause count once

    def open_slots(self, region: str, *, most: int) -> int:
        """How many calls of the Region may be made ready now, at most ``most``."""
        now = time.monotonic()
        if now < self._resume_at:
            return 0
        if not self._interval:
            return most
        ahead = now + _AHEAD - max(self._next.get(region, now), now)
        return min(most, int(ahead / self._interval) + 1) if ahead >= 0 else 0

    def closed_regions(self) -> list[str]:
        return [region for region in self._next if not self.open_slots(region, most=1)]

    @property
    def pause_left(self) -> float:
        """Seconds; also for the threads, whose calls were made ready before AWS wanted fewer."""
        return max(0.0, self._resume_at - time.monotonic())

    @property
    def is_paused(self) -> bool:
        return self.pause_left > 0

    def opens_in(self) -> float | None:
        """Seconds until a slot opens that is closed now; None when none is."""
        now = time.monotonic()
        if now < self._resume_at:
            return self._resume_at - now
        return min((self._next[region] - _AHEAD - now for region in self.closed_regions()), default=None)

    def reserve(self, region: str) -> Slot:
        """The slot of the next call, as an instant of time.monotonic."""
        at = max(self._next.get(region, 0.0), time.monotonic())
        if not self._interval:
            return Slot(at, None)
        self._next[region] = at + self._interval
        last = self._last.setdefault(region, deque(maxlen=self._in_a_second))
        slot = Slot(at, last[0] if len(last) == self._in_a_second else None)
        last.append(slot)
        # What is behind it is done with: a run's calls must not all be remembered.
        if slot.after is not None:
            slot.after.after = None
        return slot

    def wait_for(self, slot: Slot) -> None:
        """Sleep until the slot. One that leaves late makes only that wait which AWS would count with it."""
        before = slot.after  # read once: the other thread lets go of it
        earliest = slot.at if before is None else max(slot.at, before.at + _SECOND)
        time.sleep(max(0.0, earliest - time.monotonic()))
        slot.at = time.monotonic()

    def throttled(self) -> None:
        """AWS wants fewer calls: pause, longer each time, and not in step with who else was throttled."""
        if not self.is_paused:
            self.throttles += 1
            longest = min(_LONGEST_PAUSE, 2.0 ** (self.throttles - 1))
            self._resume_at = time.monotonic() + longest * random.uniform(0.5, 1.0)

    def answered(self) -> None:
        self.throttles = 0

    def finish(self) -> None:
        """Wait until another process may call, whose calls know nothing of these."""
        left = max((slots[-1].at for slots in self._last.values()), default=0.0)
        time.sleep(max(0.0, left + 1.5 * self._interval - time.monotonic()))
