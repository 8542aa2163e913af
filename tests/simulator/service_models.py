"""botocore's service models told in words, rule by rule, and as valid and invalid requests."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.session

from tests.simulator.conformance import status_of

SERVED = {
    "meteringmarketplace": ("ResolveCustomer", "BatchMeterUsage"),
    "marketplace-entitlement": ("GetEntitlements",),
    "marketplace-agreement": ("DescribeAgreement",),
    "sqs": (
        "GetQueueUrl",
        "GetQueueAttributes",
        "ReceiveMessage",
        "DeleteMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibility",
    ),
}
# Of each pattern: a character to make texts of any length with (or whole texts), and texts it refuses.
PATTERNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "": ("x", ()),
    r"[\s\S]*": ("é", ()),
    r"[\s\S]+": ("\n", ("",)),
    r"\S+": ("x", ("", "a b", "a\n")),
    r"[A-Za-z0-9_/-]+": ("-", ("", "a b", "ü", "a\n")),
    r"^[-a-zA-Z0-9/=:_.@]*$": ("@", ("a b", "a,b", "a\n")),
    r"^[0-9]+$": ("1", ("12a", "-1", "1 ", "1\n")),
    r"^(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?$": (
        "",
        ("01", ".5", "1.", "1e3", "-1", "0.1234567", "99999999999", "1\n", "١"),
    ),
    r"^[a-zA-Z0-9+ -=._:\/@]+$": ("=", ("{", "a\\b", "é")),
    r"^arn:aws[a-zA-Z-]*:[A-Za-z0-9][A-Za-z0-9_/.-]{0,62}:[A-Za-z0-9_/.-]{0,63}:[A-Za-z0-9_/.-]{0,63}"
    r":[A-Za-z0-9][A-Za-z0-9:_/+=,@.-]{0,1023}$": (
        "",
        ("", "x", "arn:aws", "arn:aws:license-manager::1:", "arn:aws:lm::1:" + "l" * 1025, "arn:aws:l:::x\n"),
    ),
}
_WHOLE_TEXTS = {1: "0", 17: "9999999999.999999", 18: "9999999999.9999990"}


@dataclass(frozen=True)
class Case:
    """A request, and whether its shape is refused: ``fault`` is "type", "rule" or None."""

    label: str
    path: str
    request: dict[str, Any]
    fault: str | None


@cache
def model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


def rules(service: str) -> Iterator[str]:
    """Everything the model says about what is served, one line each."""
    told = model(service)
    for protocol in told.metadata["protocols"]:
        yield f"{service} speaks {protocol}"
    for name in told.operation_names:
        yield f"{service} has {name}"
    for name in SERVED[service]:
        operation = told.operation_model(name)
        for line in _rules(operation.input_shape):
            yield f"{service} {name} takes {line}"
        if operation.output_shape is not None:
            for line in _rules(operation.output_shape):
                yield f"{service} {name} answers {line}"
        for shape in operation.error_shapes:
            yield f"{service} {name} refuses with {status_of(shape)} {shape.name}"


def _rules(shape: Any, path: str = "", *, required: bool = False) -> Iterator[str]:
    bounds = " ".join(
        f"{rule} {shape.metadata[rule]}"
        for rule in ("min", "max", "pattern", "enum")
        if rule in shape.metadata
    )
    if path:
        yield f"{path}: {'required ' if required else ''}{shape.type_name} {bounds}".rstrip()
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            yield from _rules(member, f"{path}.{name}".lstrip("."), required=name in shape.required_members)
    elif shape.type_name == "list":
        yield from _rules(shape.member, f"{path}[]")
    elif shape.type_name == "map":
        yield from _rules(shape.key, f"{path} key")
        yield from _rules(shape.value, f"{path} value")


def cases(shape: Any, base: dict[str, Any]) -> Iterator[Case]:
    """``base``, a valid request, with one member at a time replaced by each kind of good and bad value."""

    def replaced(steps: tuple[str | int, ...], value: Any) -> Any:
        if not steps:
            return value
        request = copy.deepcopy(base)
        inner: Any = request
        for step in steps[:-1]:
            inner = inner[step]
        inner[steps[-1]] = value
        return request

    def walk(shape: Any, steps: tuple[str | int, ...], value: Any) -> Iterator[Case]:
        path = ".".join("[]" if isinstance(step, int) else step for step in steps).replace(".[]", "[]")
        for label, bad in _wrong_types(shape):
            yield Case(label, path, replaced(steps, bad), "type")
        for label, other, fault in _values(shape, value):
            yield Case(label, path, replaced(steps, other), fault)
        if shape.type_name == "structure":
            for name, member in shape.members.items():
                inner = value[name] if name in value else _example(member, f"{path}.{name}")
                yield from walk(member, (*steps, name), inner)
        elif shape.type_name == "list":
            yield from walk(shape.member, (*steps, 0), value[0])
        elif shape.type_name == "map":
            (key,) = value
            yield from walk(shape.value, (*steps, key), value[key])

    yield from walk(shape, (), base)


def _example(shape: Any, path: str) -> Any:
    assert shape.type_name in ("string", "integer"), f"The valid request to start from lacks {path}"
    return shape.metadata.get("enum", ["x"])[0] if shape.type_name == "string" else 1


def _wrong_types(shape: Any) -> list[tuple[str, Any]]:
    wrong: dict[str, list[Any]] = {
        "structure": [1, "x", [], True],
        "list": [1, "x", {}, True],
        "map": [1, "x", [], True],
        "string": [1, 1.5, [], {}, True],
        "integer": ["1", 1.5, [], {}, True],
        "timestamp": ["1", "2026-11-23T12:00:00Z", [], {}, True],
    }
    return [(f"is {value!r}, no {shape.type_name}", value) for value in wrong[shape.type_name]]


def _values(shape: Any, value: Any) -> Iterator[tuple[str, Any, str | None]]:
    bounds = shape.metadata
    low, high = bounds.get("min"), bounds.get("max")
    if shape.type_name == "structure":
        yield "has a member nobody knows", {**value, "Surprise": {"a": [1]}}, None
        for name in shape.required_members:
            yield f"lacks {name}", {key: item for key, item in value.items() if key != name}, "rule"
            yield f"has null as {name}", {**value, name: None}, "rule"
        for name in set(shape.members) - set(shape.required_members):
            yield f"has null as {name}", {**value, name: None}, None
    elif shape.type_name == "list":
        if low:
            yield "is shorter than the least", value[:1] * (low - 1), "rule"
        if high:
            yield "is as long as can be", value[:1] * high, None
            yield "is longer than the most", value[:1] * (high + 1), "rule"
    elif shape.type_name == "map":
        item = next(iter(value.values()))
        for key in shape.key.metadata["enum"]:
            yield f"has {key}", {key: item}, None
        yield "has a key nobody knows", {"SURPRISE": item}, "rule"
    elif shape.type_name == "string":
        yield from _texts(bounds, low, high)
    elif shape.type_name == "integer":
        if low is not None:
            yield "is the least", low, None
            yield "is below the least", low - 1, "rule"
        if high is not None:
            yield "is the most", high, None
            yield "is above the most", high + 1, "rule"
    else:
        yield "is whole", 1, None
        yield "has a fraction", 1.5, None


def _texts(bounds: Any, low: int | None, high: int | None) -> Iterator[tuple[str, Any, str | None]]:
    if "enum" in bounds:
        for name in bounds["enum"]:
            yield f"is {name}", name, None
        yield "is a name nobody knows", "Surprise", "rule"
        return
    pattern = bounds.get("pattern", "")
    assert pattern in PATTERNS, (
        f"The models have a new pattern, {pattern}: write down what it takes and refuses"
    )
    letter, refused = PATTERNS[pattern]

    def text(length: int) -> str:
        return letter * length if letter else _WHOLE_TEXTS[length]

    if low:
        yield "is as short as can be", text(low), None
        yield "is too short", text(low - 1) if letter else "", "rule"
    if high:
        yield "is as long as can be", text(high), None
        yield "is too long", text(high + 1), "rule"
    for bad in refused:
        yield f"is {bad!r:.30}", bad, "rule"
