"""EventBridge's event patterns, as far as rules for AWS Marketplace use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class UnknownOperator(Exception):
    """The pattern says something that is not judged here."""


def matches(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether EventBridge's rule of this pattern takes the event. Raises UnknownOperator."""
    # All of it is read first: an unknown operator is not hidden by a member that does not match anyway.
    judged = [_member(wanted, event.get(name), name in event) for name, wanted in pattern.items()]
    return all(judged)


def _member(wanted: Any, value: Any, is_there: bool) -> bool:
    if isinstance(wanted, Mapping):
        return matches(wanted, value if isinstance(value, Mapping) else {})
    if not isinstance(wanted, list):
        raise UnknownOperator(f"{wanted!r} is no list")
    # Of a list in the event, one that matches is enough.
    values = value if isinstance(value, list) else [value]
    judged = [_one(choice, one, is_there) for choice in wanted for one in values or [None]]
    return any(judged)


def _one(choice: Any, value: Any, is_there: bool) -> bool:
    if not isinstance(choice, Mapping):
        return is_there and type(choice) is type(value) and bool(choice == value)
    if len(choice) != 1:
        raise UnknownOperator(f"{dict(choice)!r} is not one operator")
    ((name, operand),) = choice.items()
    if name == "exists":
        return is_there is bool(operand)
    if name not in _OPERATORS or not isinstance(operand, str | list):
        raise UnknownOperator(f"{name!r} is not judged here")
    return is_there and isinstance(value, str) and _OPERATORS[name](value, operand)


def _anything_but(value: str, operand: Any) -> bool:
    return value not in (operand if isinstance(operand, list) else [operand])


def _text(test: Callable[[str, str], bool]) -> Callable[[str, Any], bool]:
    def judged(value: str, operand: Any) -> bool:
        if not isinstance(operand, str):
            raise UnknownOperator(f"{operand!r} is no text")
        return test(value, operand)

    return judged


_OPERATORS: dict[str, Callable[[str, Any], bool]] = {
    "prefix": _text(str.startswith),
    "suffix": _text(str.endswith),
    "equals-ignore-case": _text(lambda value, operand: value.casefold() == operand.casefold()),
    "anything-but": _anything_but,
}
