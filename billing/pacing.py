"""When the next call may leave: AWS's quota of calls a second, kept by spacing calls evenly, per Region.

AWS counts with a bucket that holds one second's calls. Evenly spaced calls never empty it, also where one
process ends and the next begins.
"""

from __future__ import annotations

import random
import threading
import time

# Calls reach AWS a little sooner or later than they leave: no eleventh may fall into the second of ten.
_SLACK = 1.01
_LATENESS = 0.009  # seconds by which a call may leave late without its followers waiting for it
_AHEAD = 0.25  # seconds: what leaves within them is claimed in one go
_LONGEST_PAUSE = 30.0


class Pace:
    """Slots are given out by one thread; the calls that have one wait for it in their own."""

    def __init__(self, per_second: float | None) -> None:
        self._interval = _SLACK / per_second if per_second else 0.0
        self._next: dict[str, float] = {}  # of each Region: when its next call may leave
        self._resume_at = 0.0
        self._lock = threading.Lock()
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
    def is_paused(self) -> bool:
        return time.monotonic() < self._resume_at

    def opens_in(self) -> float | None:
        """Seconds until a slot opens that is closed now; None when none is."""
        now = time.monotonic()
        if now < self._resume_at:
            return self._resume_at - now
        return min((self._next[region] - _AHEAD - now for region in self.closed_regions()), default=None)

    def reserve(self, region: str) -> float:
        """The instant (of time.monotonic) at which the next call may leave."""
        with self._lock:
            slot = max(self._next.get(region, 0.0), time.monotonic())
            if self._interval:
                self._next[region] = slot + self._interval
            return slot

    def wait_for(self, region: str, slot: float) -> None:
        """Sleep until the slot. A call that leaves late moves those behind it."""
        time.sleep(max(0.0, slot - time.monotonic()))
        if self._interval:
            with self._lock:
                late = time.monotonic() - slot - _LATENESS
                if late > 0:
                    self._next[region] += late

    def throttled(self) -> None:
        """AWS wants fewer calls: pause, longer each time, and not in step with who else was throttled."""
        if not self.is_paused:
            self.throttles += 1
            longest = min(_LONGEST_PAUSE, 2.0 ** (self.throttles - 1))
            self._resume_at = time.monotonic() + longest * random.uniform(0.5, 1.0)

    def answered(self) -> None:
        self.throttles = 0

    def finish(self) -> None:
        """Wait until another process may call."""
        time.sleep(max(0.0, max(self._next.values(), default=0.0) - time.monotonic()))
