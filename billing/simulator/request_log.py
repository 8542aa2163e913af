"""What SDKs sent and got: a bounded ring, newest last, with registration tokens masked."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.simulator.aws.protocols import Protocol
from billing.simulator.errors import AwsError

KEPT = 500
LARGEST_PAYLOAD = 64 * 1024
LARGEST_LOG = 16 * 1024 * 1024
DEEPEST_SHOWN = 50
_LINE_BYTES = 1024
"""About what a line costs besides its payloads."""
# Names of secrets, however an erring caller spells them; the token of a page is none.
_SECRET, _NO_SECRET = "token", "nexttoken"


Payload = bytes | int
"""A payload, or how many bytes the one had that was too large to keep."""


@dataclass(slots=True)
class _Line:
    """Payloads stay as they were sent, which is small and quick; they are read when somebody looks."""

    facts: dict[str, Any]
    protocol: Protocol
    sent: Payload
    answered: Payload
    idle: bool

    @property
    def size(self) -> int:
        return _LINE_BYTES + sum(len(kept) for kept in (self.sent, self.answered) if isinstance(kept, bytes))


class RequestLog:
    """Used under the state's lock."""

    def __init__(self) -> None:
        self._lines: deque[_Line] = deque()
        self._bytes = 0

    def add(
        self,
        facts: Mapping[str, Any],
        *,
        protocol: Protocol,
        sent: bytes,
        answered: bytes,
        idle: bool = False,
    ) -> None:
        """Remember a call; ``idle`` ones (a poll that found nothing) join the same poll before them."""
        line = _Line(
            {**facts, "protocol": protocol.name, "times": 1},
            protocol,
            _kept(sent),
            _kept(answered),
            idle,
        )
        if idle and self._join(line):
            return
        self._lines.append(line)
        self._bytes += line.size
        while len(self._lines) > KEPT or self._bytes > LARGEST_LOG:
            self._bytes -= self._lines.popleft().size

    def _join(self, line: _Line) -> bool:
        for earlier in reversed(self._lines):
            if not earlier.idle:
                return False
            if earlier.sent == line.sent and earlier.facts["region"] == line.facts["region"]:
                earlier.facts["times"] += 1
                earlier.facts["last_at"] = line.facts["at"]
                return True
        return False

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [
            {
                **line.facts,
                "request": _shown(line.protocol, line.sent),
                "response": _shown(line.protocol, line.answered),
            }
            for line in self._lines
        ]


def _kept(payload: bytes) -> Payload:
    return payload if len(payload) <= LARGEST_PAYLOAD else len(payload)


def _shown(protocol: Protocol, payload: Payload) -> Any:
    if isinstance(payload, int):
        return f"({payload} bytes, not kept)"
    if not payload:
        return {}
    try:
        return _masked(protocol.read(payload))
    except AwsError:
        # It may hold a token where no mask would find it.
        return f"({len(payload)} bytes that are not {protocol.name})"


def _masked(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST_SHOWN:
        return "(nested too deeply to show)"
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, list):
        return [_masked(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: f"(masked, {len(str(item))} characters)" if _is_secret(key) else _masked(item, depth + 1)
        for key, item in value.items()
    }


def _is_secret(key: str) -> bool:
    name = key.lower()
    return _SECRET in name and name != _NO_SECRET
