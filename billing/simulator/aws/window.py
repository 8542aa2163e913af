"""Which instants usage may be metered for (facts page §3.1), and the hours they lie in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from billing.simulator.errors import AwsError
from billing.simulator.switches import Switches

WINDOW = timedelta(hours=24)
MONTH_END_HOUR = 6


def instant_of(seconds: int | float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise out_of_bounds("not an instant of any calendar") from None


# A day has few hours and a million records: those of one hour share one object.
@lru_cache(maxsize=256)
def _shared(hour: datetime) -> datetime:
    return hour


def hour_of(timestamp: datetime) -> datetime:
    return _shared(timestamp.replace(minute=0, second=0, microsecond=0))


def check_window(timestamp: datetime, *, now: datetime, switches: Switches) -> None:
    """Refuse what is ahead of AWS's clock, 24 hours old, or of a billing month that has closed."""
    if timestamp > now + timedelta(seconds=switches.future_tolerance_seconds):
        raise out_of_bounds("in the future")
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    is_grace = now < month.replace(hour=MONTH_END_HOUR)
    if timestamp < month and not is_grace:
        raise out_of_bounds("in a billing month that is closed")
    measured_from = now.replace(minute=0, second=0, microsecond=0) if switches.window_from_hour_start else now
    if measured_from - timestamp < WINDOW:
        return
    last_month = (month - timedelta(days=1)).replace(day=1)
    if switches.month_end_grace_extends_window and is_grace and last_month <= timestamp < month:
        return
    raise out_of_bounds("24 hours old or older")


def out_of_bounds(reason: str) -> AwsError:
    return AwsError("TimestampOutOfBoundsException", f"The timestamp is {reason}.")
