"""When AWS takes a record: clock hours in UTC, and the instant from which one is refused.

Sources: botocore on BatchMeterUsage (24 hours; the previous month until 06:00 UTC on the 1st),
Seller Guide "Managing SaaS subscription events" (the hour after License Deprovisioned).
"""

from datetime import UTC, datetime, timedelta

from billing.aws.limits import METERING_WINDOW, MONTH_END_GRACE

HOUR = timedelta(hours=1)


def hour_of(instant: datetime) -> datetime:
    """The first instant of the clock hour, in UTC: AWS's dedupe key."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def month_of(instant: datetime) -> datetime:
    """The first instant of the calendar month, in UTC."""
    return hour_of(instant).replace(day=1, hour=0)


def accepted_until(hour: datetime, *, closes_at: datetime | None) -> datetime:
    """The instant from which AWS refuses a record of ``hour``; ``closes_at`` ends the whole agreement."""
    next_month = month_of(month_of(hour) + timedelta(days=32))
    deadline = min(hour + METERING_WINDOW, next_month + MONTH_END_GRACE)
    return min(deadline, closes_at) if closes_at else deadline
