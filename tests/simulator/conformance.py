"""Holds every answer the simulator gives in these tests against botocore's own service model."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import cbor2

_JSON_KINDS = {"integer": int, "double": (int, float), "boolean": bool, "timestamp": (int, float)}
# cbor2 reads tag 1, and nothing else, as an instant.
_CBOR_KINDS = {"integer": int, "double": float, "boolean": bool, "timestamp": datetime}


def conforms(http_response: Any, model: Any, **_: Any) -> None:
    """An ``after-call`` handler: the raw answer, not what a parser made of it, fits the output shape."""
    speaks_cbor = http_response.headers["Content-Type"] == "application/cbor"
    if speaks_cbor:
        assert http_response.headers["smithy-protocol"] == "rpc-v2-cbor"
        content, kinds = cbor2.loads(http_response.content), _CBOR_KINDS
    else:
        version = model.service_model.metadata["jsonVersion"]
        assert http_response.headers["Content-Type"] == f"application/x-amz-json-{version}"
        content, kinds = json.loads(http_response.content), _JSON_KINDS
    if http_response.status_code == 200:
        if model.output_shape is None:
            assert content == {}
        else:
            _check(content, model.output_shape, model.name, kinds)
    else:
        _check_error(content, model, http_response.status_code)
    assert re.fullmatch(r"[0-9a-f-]{36}", http_response.headers["x-amzn-RequestId"])


def _check_error(content: Any, model: Any, status: int) -> None:
    code = content["__type"].partition("#")[2]
    shapes = {shape.name: shape for shape in model.error_shapes}
    assert isinstance(content["message"], str)
    if code in shapes:
        assert status == status_of(shapes[code])
        # The models write either case; AWS answers in lower case.
        members = {name.lower(): shape for name, shape in shapes[code].members.items()}
        assert {name.lower() for name in content} - {"__type", "message"} <= members.keys()


def status_of(error_shape: Any) -> int:
    """The status the model sets; without one, AWS JSON answers 400, and 500 for what is AWS's own fault."""
    status: int | None = error_shape.metadata.get("error", {}).get("httpStatusCode")
    return status or (500 if error_shape.name == "InternalServiceErrorException" else 400)


def _check(value: Any, shape: Any, path: str, kinds: Any) -> None:
    rules = shape.metadata
    if shape.type_name == "structure":
        assert not value.keys() - shape.members.keys(), path
        assert not set(shape.required_members) - value.keys(), path
        for name, member in value.items():
            _check(member, shape.members[name], f"{path}.{name}", kinds)
    elif shape.type_name == "list":
        assert rules.get("min", 0) <= len(value) <= rules.get("max", len(value)), path
        for member in value:
            _check(member, shape.member, path, kinds)
    elif shape.type_name == "map":
        for key, member in value.items():
            _check(key, shape.key, path, kinds)
            _check(member, shape.value, path, kinds)
    elif shape.type_name == "string":
        assert rules.get("min", 0) <= len(value) <= rules.get("max", len(value)), path
        assert value in rules.get("enum", [value]), path
        assert re.fullmatch(rules.get("pattern", r"[\s\S]*"), value), path
    else:
        assert isinstance(value, kinds[shape.type_name]), path
        assert shape.type_name == "boolean" or not isinstance(value, bool), path
