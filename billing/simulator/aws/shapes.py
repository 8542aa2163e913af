"""Shape validation: types, required members, bounds, patterns and enums, checked as AWS's servers do.

SDKs enforce only part of a service model (facts page §1.1), so the server must enforce all of it. A wrong
JSON type answers ``SerializationException``; a broken bound answers ``ValidationException`` naming every
offending member. Parsing returns a clean copy: nulls and members the model does not know are dropped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from billing.simulator.errors import AwsError, ShapeViolation

Json = dict[str, Any]


class Shape(Protocol):
    def parse(self, value: Any, path: str, problems: list[str]) -> Any: ...


def _wrong_type(path: str, wanted: str) -> AwsError:
    return AwsError("SerializationException", f"Expected {wanted} at {path or 'the top level'}")


def _problem(value: object, path: str, rule: str) -> str:
    text = str(value)
    shown = text if len(text) <= 200 else text[:200] + "..."
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: Member must {rule}"


@dataclass(frozen=True)
class Text:
    min: int = 0
    max: int | None = None
    pattern: re.Pattern[str] | None = None
    enum: frozenset[str] | None = None

    def parse(self, value: Any, path: str, problems: list[str]) -> str:
        if not isinstance(value, str):
            raise _wrong_type(path, "a string")
        if len(value) < self.min:
            problems.append(_problem(value, path, f"have length greater than or equal to {self.min}"))
        if self.max is not None and len(value) > self.max:
            problems.append(_problem(value, path, f"have length less than or equal to {self.max}"))
        if self.pattern is not None and not self.pattern.fullmatch(value):
            problems.append(
                _problem(value, path, f"satisfy regular expression pattern: {self.pattern.pattern}")
            )
        if self.enum is not None and value not in self.enum:
            problems.append(
                _problem(value, path, f"satisfy enum value set: [{', '.join(sorted(self.enum))}]")
            )
        return value


@dataclass(frozen=True)
class OneOf:
    """A name from a list, where another name has an error of its own."""

    names: frozenset[str]
    code: str

    def parse(self, value: Any, path: str, problems: list[str]) -> str:
        if not isinstance(value, str):
            raise _wrong_type(path, "a string")
        if value not in self.names:
            raise AwsError(self.code, f"Unknown Attribute {value[:200]}.")
        return value


@dataclass(frozen=True)
class Whole:
    min: int | None = None
    max: int | None = None

    def parse(self, value: Any, path: str, problems: list[str]) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(path, "an integer")
        if self.min is not None and value < self.min:
            problems.append(_problem(value, path, f"have value greater than or equal to {self.min}"))
        if self.max is not None and value > self.max:
            problems.append(_problem(value, path, f"have value less than or equal to {self.max}"))
        return value


@dataclass(frozen=True)
class Timestamp:
    """Epoch seconds as a JSON number; returned as it came, so that an echo is the caller's own value."""

    def parse(self, value: Any, path: str, problems: list[str]) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
            raise _wrong_type(path, "a timestamp in epoch seconds")
        return value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False  # an integer no timestamp of AWS can hold


@dataclass(frozen=True)
class ListOf:
    member: Shape
    min: int = 0
    max: int | None = None

    def parse(self, value: Any, path: str, problems: list[str]) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong_type(path, "a list")
        if len(value) < self.min:
            problems.append(
                _problem(f"{len(value)} members", path, f"have length greater than or equal to {self.min}")
            )
        if self.max is not None and len(value) > self.max:
            # Walking an oversized list to find more problems would let one request buy a lot of CPU.
            problems.append(
                _problem(f"{len(value)} members", path, f"have length less than or equal to {self.max}")
            )
            return []
        return [self.member.parse(item, f"{path}.{i}.member", problems) for i, item in enumerate(value, 1)]


@dataclass(frozen=True)
class MapOf:
    key: Text
    value: Shape

    def parse(self, value: Any, path: str, problems: list[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(path, "a map")
        return {
            self.key.parse(key, path, problems): self.value.parse(item, f"{path}.{key}", problems)
            for key, item in value.items()
            if item is not None
        }


@dataclass(frozen=True)
class Structure:
    members: Mapping[str, Shape]
    required: tuple[str, ...] = ()

    def parse(self, value: Any, path: str, problems: list[str]) -> Json:
        if not isinstance(value, dict):
            raise _wrong_type(path, "a structure")
        prefix = f"{path}." if path else ""
        for name in self.required:
            if value.get(name) is None:
                problems.append(_problem("null", prefix + _camel(name), "not be null"))
        return {
            name: shape.parse(value[name], prefix + _camel(name), problems)
            for name, shape in self.members.items()
            if value.get(name) is not None
        }


@cache
def _camel(name: str) -> str:
    return name[0].lower() + name[1:]


def parse(shape: Structure, value: Any) -> Json:
    """Return the clean copy of ``value``, or raise one error for everything wrong with its shape."""
    problems: list[str] = []
    clean = shape.parse(value, "", problems)
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise ShapeViolation(f"{len(problems)} validation error{plural} detected: {'; '.join(problems[:10])}")
    return clean
