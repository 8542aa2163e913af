"""AWS's request quotas (facts page §3.3 and §1.3): so many calls a second for each operation and Region.

Counted in real time by a token bucket of one second's calls, whatever the simulated clock does: the sender's
pacing is what they are for.
"""

from __future__ import annotations

PER_SECOND = {"BatchMeterUsage": 10, "GetEntitlements": 20}


class Quotas:
    """Used under the state's lock. Moments are those of a monotonic clock."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def admits(self, operation: str, region: str, *, moment: float) -> bool:
        """Take one call from the operation's bucket; False when it is empty."""
        rate = PER_SECOND.get(operation)
        if rate is None:
            return True
        calls, seen_at = self._buckets.get((operation, region), (float(rate), moment))
        calls = min(float(rate), calls + (moment - seen_at) * rate)
        admitted = calls >= 1
        self._buckets[operation, region] = (calls - 1 if admitted else calls, moment)
        return admitted
