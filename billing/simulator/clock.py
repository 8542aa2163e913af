"""The simulated clock: real time plus an offset, or frozen. Everything AWS decides by time reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Starts at real time plus ``offset`` and runs until frozen."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self._offset = offset
        self._frozen_at: datetime | None = None

    def now(self) -> datetime:
        return self._frozen_at or datetime.now(UTC) + self._offset

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    @property
    def offset(self) -> timedelta:
        return self.now() - datetime.now(UTC)

    @staticmethod
    def real_now() -> datetime:
        return datetime.now(UTC)

    def set(self, now: datetime) -> None:
        """Jump to ``now``, forwards or backwards; a frozen clock stays frozen there."""
        if self._frozen_at is not None:
            self._frozen_at = now
        else:
            self._offset = now - datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        self.set(self.now() + by)

    def freeze(self) -> None:
        self._frozen_at = self.now()

    def resume(self) -> None:
        """Run on from where the clock was frozen."""
        if self._frozen_at is not None:
            self._offset = self._frozen_at - datetime.now(UTC)
            self._frozen_at = None

    def real_seconds_until(self, moment: datetime) -> float | None:
        """How long a caller would have to wait for ``moment``; None when a frozen clock never gets there."""
        remaining = (moment - self.now()).total_seconds()
        if remaining > 0 and self.frozen:
            return None
        return max(0.0, remaining)


def whole_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def iso(moment: datetime) -> str:
    """The form AWS prints in events: UTC, whole seconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
