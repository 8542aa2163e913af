"""Holds every answer the simulator gives in these tests against botocore's own service model."""

from __future__ import annotations

import json
import re
from typing import Any


def conforms(http_response: Any, model: Any, **_: Any) -> None:
    """An ``after-call`` handler: the raw JSON, not what a parser made of it, fits the output shape."""
    content = json.loads(http_response.content)
    if http_response.status_code == 200:
        if model.output_shape is None:
            assert content == {}
        else:
            _check(content, model.output_shape, model.name)
    else:
        code = content["__type"].partition("#")[2]
        shapes = {shape.name: shape for shape in model.error_shapes}
        if code in shapes:
            modelled = shapes[code].metadata.get("error", {}).get("httpStatusCode", http_response.status_code)
            assert http_response.status_code == modelled
            # The models write either case; AWS answers in lower case.
            members = {name.lower(): shape for name, shape in shapes[code].members.items()}
            assert {name.lower() for name in content} - {"__type", "message"} <= members.keys()
    assert re.fullmatch(r"[0-9a-f-]{36}", http_response.headers["x-amzn-RequestId"])


def _check(value: Any, shape: Any, path: str) -> None:
    rules = shape.metadata
    if shape.type_name == "structure":
        assert not value.keys() - shape.members.keys(), path
        assert not set(shape.required_members) - value.keys(), path
        for name, member in value.items():
            _check(member, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        assert rules.get("min", 0) <= len(value) <= rules.get("max", len(value)), path
        for member in value:
            _check(member, shape.member, path)
    elif shape.type_name == "map":
        for key, member in value.items():
            _check(key, shape.key, path)
            _check(member, shape.value, path)
    elif shape.type_name == "string":
        assert rules.get("min", 0) <= len(value) <= rules.get("max", len(value)), path
        assert value in rules.get("enum", [value]), path
        assert re.fullmatch(rules.get("pattern", r"[\s\S]*"), value), path
    else:
        kinds = {"integer": int, "double": float, "boolean": bool, "timestamp": (int, float)}
        assert isinstance(value, kinds[shape.type_name]), path
