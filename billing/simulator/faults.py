"""Accidents to order: what should go wrong with which operation, or with the next events, and how often."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from billing.simulator.errors import Refused
from billing.simulator.tables import Table

EVENTS = "events"
"""The ``operation`` of a fault that strikes what AWS sends, not what it answers."""
EVENT_KINDS = ("delay", "double", "reorder", "lose")
CALL_KINDS = (
    "throttle",
    "internal_error",
    "error",
    "unprocessed",
    "drop_after_accept",
    "latency",
    "empty",
    "empty_page",
)
KINDS = (*CALL_KINDS, *EVENT_KINDS)
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
    "GetCallerIdentity",
    "AssumeRole",
    "DescribeRule",
    "ListTargetsByRule",
)
_ONLY_FOR = {
    "unprocessed": "BatchMeterUsage",
    "empty": "GetEntitlements",
    "empty_page": "GetEntitlements",
    **dict.fromkeys(EVENT_KINDS, EVENTS),
}
_MESSAGES = {
    "AccessDeniedException": "User is not authorized to perform this operation because no identity-based"
    " policy allows it.",
    "UnrecognizedClientException": "The security token included in the request is invalid.",
    "InvalidSignatureException": "The request signature we calculated does not match the signature you"
    " provided. Check your AWS Secret Access Key and signing method.",
    "ExpiredTokenException": "The security token included in the request is expired",
    "ServiceUnavailableException": "Service is temporarily unavailable.",
}
_CODE = re.compile(r"[A-Za-z][A-Za-z.]{0,99}")
LONGEST_LATENCY = 60
LONGEST_DELAY = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    operation: str
    kind: str
    count: int | None
    """Calls or events still to spoil; None until cleared."""
    seconds: float = 1.0
    """Of latency in real time; of an event's delay in simulated time."""
    share: float = 1.0
    code: str = "AccessDeniedException"
    message: str = ""
    status: int | None = None
    """None: the one the service's model gives the code."""

    @property
    def text(self) -> str:
        return self.message or _MESSAGES.get(self.code, f"{self.code}, as was ordered of the simulator.")


class Faults:
    """Those in force, in the order they were asked for. Used under the state's lock."""

    def __init__(self, table: Table[int, Fault]) -> None:
        self._table = table

    @property
    def pending(self) -> list[Fault]:
        return list(self._table.values())

    def add(self, body: Mapping[str, Any]) -> Fault:
        fault = _read(body, number=max(self._table, default=0) + 1)
        self._table[fault.number] = fault
        return fault

    def clear(self) -> None:
        for number in list(self._table):
            del self._table[number]

    def take(self, operation: str) -> tuple[float, Fault | None]:
        """Seconds of latency, and the one other fault, that spoil this call."""
        if not self._table:
            return 0.0, None
        slow = self._take((operation, "*"), kinds=("latency",))
        other = self._take((operation, "*"), kinds=tuple(kind for kind in CALL_KINDS if kind != "latency"))
        return (slow.seconds if slow else 0.0), other

    def take_for_event(self) -> Fault | None:
        return self._take((EVENTS,), kinds=EVENT_KINDS) if self._table else None

    def _take(self, operations: tuple[str, ...], *, kinds: tuple[str, ...]) -> Fault | None:
        for fault in self._table.values():
            if fault.operation in operations and fault.kind in kinds:
                if fault.count == 1:
                    del self._table[fault.number]
                elif fault.count is not None:
                    self._table[fault.number] = replace(fault, count=fault.count - 1)
                return fault
        return None


def _read(body: Mapping[str, Any], *, number: int) -> Fault:
    kind = body.get("fault")
    if kind not in KINDS:
        raise Refused(f"fault must be one of {', '.join(KINDS)}")
    operation = body.get("operation", EVENTS if kind in EVENT_KINDS else "*")
    if operation not in (*OPERATIONS, EVENTS, "*"):
        raise Refused(f"operation must be one of {', '.join(OPERATIONS)}, {EVENTS} or *")
    if operation != _ONLY_FOR.get(kind, operation):
        raise Refused(f"{kind} happens to {_ONLY_FOR[kind]} only")
    if operation == EVENTS and kind not in EVENT_KINDS:
        raise Refused(f"To events happens one of {', '.join(EVENT_KINDS)}")
    count = body.get("count", 1)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise Refused("count is a number from 1 up, or null until the faults are cleared")
    longest = LONGEST_DELAY if operation == EVENTS else LONGEST_LATENCY
    return Fault(
        number=number,
        operation=operation,
        kind=kind,
        count=count,
        seconds=_number(body, "seconds", longest),
        share=_number(body, "share", 1),
        **_refusal(body),
    )


def _refusal(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a fault of kind "error" answers: any code, for those no rule of ours raises."""
    given = {name: body[name] for name in ("code", "message", "status") if body.get(name) is not None}
    if not _CODE.fullmatch(str(given.get("code", "A"))):
        raise Refused("code is the name of an AWS error, such as AccessDeniedException")
    if not isinstance(given.get("message", ""), str):
        raise Refused("message is a text")
    status = given.get("status", 400)
    if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
        raise Refused("status is an HTTP status from 400 to 599")
    return given


def _number(body: Mapping[str, Any], name: str, highest: float) -> float:
    value = body.get(name, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise Refused(f"{name} is a number from 0 to {highest}")
    return float(value)
