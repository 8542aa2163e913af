"""Accidents to order: what should go wrong with which operation, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.simulator.errors import Refused

KINDS = ("throttle", "internal_error", "unprocessed", "drop_after_accept", "latency", "empty")
_ONLY_FOR = {"unprocessed": "BatchMeterUsage", "empty": "GetEntitlements"}
OPERATIONS = (
    "ResolveCustomer",
    "BatchMeterUsage",
    "GetEntitlements",
    "DescribeAgreement",
    "GetQueueUrl",
    "GetQueueAttributes",
    "ReceiveMessage",
    "DeleteMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
)


@dataclass(slots=True)
class Fault:
    operation: str
    kind: str
    count: int | None
    """Calls still to spoil; None until cleared."""
    seconds: float = 1.0
    share: float = 1.0


class Faults:
    """Used under the state's lock."""

    def __init__(self) -> None:
        self.pending: list[Fault] = []

    def add(self, body: Mapping[str, Any]) -> Fault:
        fault = _read(body)
        self.pending.append(fault)
        return fault

    def clear(self) -> None:
        self.pending.clear()

    def take(self, operation: str) -> tuple[float, Fault | None]:
        """Seconds of latency, and the one other fault, that spoil this call."""
        slow = self._take(operation, latency=True)
        other = self._take(operation, latency=False)
        return (slow.seconds if slow else 0.0), other

    def _take(self, operation: str, *, latency: bool) -> Fault | None:
        for fault in self.pending:
            if fault.operation in (operation, "*") and (fault.kind == "latency") == latency:
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count == 0:
                        self.pending.remove(fault)
                return fault
        return None


def _read(body: Mapping[str, Any]) -> Fault:
    operation, kind = body.get("operation", "*"), body.get("fault")
    if operation not in (*OPERATIONS, "*"):
        raise Refused(f"operation must be one of {', '.join(OPERATIONS)} or *")
    if kind not in KINDS:
        raise Refused(f"fault must be one of {', '.join(KINDS)}")
    if operation != _ONLY_FOR.get(kind, operation):
        raise Refused(f"{kind} happens to {_ONLY_FOR[kind]} only")
    count = body.get("count", 1)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise Refused("count is a number from 1 up, or null until the faults are cleared")
    seconds, share = body.get("seconds", 1.0), body.get("share", 1.0)
    if not _is_number(seconds) or not 0 <= seconds <= 60:
        raise Refused("seconds is a number from 0 to 60")
    if not _is_number(share) or not 0 <= share <= 1:
        raise Refused("share is a number from 0 to 1")
    return Fault(operation=operation, kind=kind, count=count, seconds=float(seconds), share=float(share))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
