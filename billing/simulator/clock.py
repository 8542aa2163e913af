"""The simulated clock: real time plus an offset, faster or slower than life, or frozen.

Everything AWS decides by time reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

LATEST = datetime(2999, 12, 31, tzinfo=UTC)
"""A clock that runs fast for long enough comes to stand here, before years that no format can write."""


@dataclass(frozen=True, slots=True)
class Setting:
    """At real time ``set_at`` it was simulated time ``stood_at``, and ran on at ``speed`` unless frozen."""

    set_at: datetime
    stood_at: datetime
    speed: float = 1.0
    frozen: bool = False


class Clock:
    """Starts ``offset`` ahead of real time and runs until frozen."""

    def __init__(self, offset: timedelta = timedelta(), *, speed: float = 1.0) -> None:
        real = self.real_now()
        self.setting = Setting(set_at=real, stood_at=real + offset, speed=speed)

    def now(self) -> datetime:
        setting = self.setting
        if setting.frozen:
            return setting.stood_at
        try:
            return min(setting.stood_at + (self.real_now() - setting.set_at) * setting.speed, LATEST)
        except OverflowError:
            return LATEST

    @property
    def frozen(self) -> bool:
        return self.setting.frozen

    @property
    def speed(self) -> float:
        return self.setting.speed

    @property
    def offset(self) -> timedelta:
        return self.now() - self.real_now()

    @staticmethod
    def real_now() -> datetime:
        return datetime.now(UTC)

    def set(self, now: datetime) -> None:
        """Jump to ``now``, forwards or backwards; a frozen clock stays frozen there."""
        self.setting = replace(self.setting, set_at=self.real_now(), stood_at=now)

    def advance(self, by: timedelta) -> None:
        self.set(self.now() + by)

    def freeze(self) -> None:
        self.setting = replace(self.setting, stood_at=self.now(), frozen=True)

    def resume(self) -> None:
        """Run on from where the clock was frozen."""
        if self.frozen:
            self.setting = replace(self.setting, set_at=self.real_now(), frozen=False)

    def run_at(self, speed: float) -> None:
        """From now on, ``speed`` simulated seconds pass in a real one."""
        self.set(self.now())
        self.setting = replace(self.setting, speed=speed)

    def real_seconds_until(self, moment: datetime) -> float | None:
        """How long a caller would have to wait for ``moment``; None when a frozen clock never gets there."""
        remaining = (moment - self.now()).total_seconds()
        if remaining > 0 and self.frozen:
            return None
        return max(0.0, remaining / self.speed)


def whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def iso(moment: datetime) -> str:
    """The form AWS prints in events: UTC, whole seconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def parse_iso(text: str) -> datetime:
    """Read an ISO 8601 instant. One without a zone is refused: a guess would bill the wrong hour."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone: write 2026-11-23T10:00:00Z")
    return moment.astimezone(UTC)


def epoch(moment: datetime) -> int | float:
    """AWS JSON's timestamp: epoch seconds, a fraction only when there is one."""
    seconds = moment.timestamp()
    return int(seconds) if seconds.is_integer() else seconds
