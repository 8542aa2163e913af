"""The languages AWS services speak: AWS JSON 1.0 and 1.1, Smithy RPC v2 CBOR (facts page §1.1), STS's query.

Both are read into, and written from, the same JSON-like values: operations need not know which it was.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import cbor2
import msgspec

from billing.simulator.aws.shapes import Json
from billing.simulator.errors import AwsError

DEEPEST = 100
"""No shape of AWS Marketplace nests more than six deep."""
_EPOCH_TAG = 1
# Those that cbor2 would turn into objects of its own; some of them (shared references) nest without end.
_FOREIGN_TAGS = (
    0,
    2,
    3,
    4,
    5,
    25,
    28,
    29,
    30,
    35,
    36,
    37,
    52,
    54,
    100,
    256,
    258,
    260,
    261,
    1004,
    43000,
    55799,
)


@dataclass(frozen=True, slots=True)
class Protocol:
    name: str
    """As the request log shows it."""
    content_type: str
    read: Callable[[bytes], Any]
    """Raises AwsError for what cannot be read."""
    write: Callable[[Json], bytes]
    headers: tuple[tuple[str, str], ...] = ()

    def takes(self, content_type: str) -> bool:
        kind = content_type.partition(";")[0].strip().lower()
        return kind == self.content_type or (kind in _JSON_TYPES and self.content_type in _JSON_TYPES)


_JSON_TYPES = frozenset({"application/x-amz-json-1.0", "application/x-amz-json-1.1"})


def _read_json(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        raise AwsError("SerializationException", "The request body is not JSON.") from None


def _read_cbor(payload: bytes) -> Any:
    stream = io.BytesIO(payload)
    try:
        value = cbor2.load(
            stream,
            semantic_decoders=_TAGS,
            tag_hook=_refuse_tag,
            max_depth=DEEPEST,
            strict_hashable_types=True,
        )
    except (cbor2.CBORDecodeError, ValueError, RecursionError, OverflowError, MemoryError):
        raise _not_cbor() from None
    if stream.read(1):
        raise _not_cbor()
    return _plain(value)


def _not_cbor() -> AwsError:
    return AwsError("SerializationException", "The request body is not one CBOR data item AWS would send.")


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("No request of AWS Marketplace uses this tag")


def _read_instant(seconds: Any, *_: object) -> Any:
    return seconds


_TAGS: dict[int, Callable[..., Any]] = dict.fromkeys(_FOREIGN_TAGS, _refuse_tag)
_TAGS[_EPOCH_TAG] = _read_instant


def _plain(value: Any) -> Any:
    """What JSON could have said too; ``undefined`` is null, as Smithy wants it."""
    if isinstance(value, dict):
        if any(not isinstance(key, str) for key in value):
            raise _not_cbor()
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if value is cbor2.undefined:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise _not_cbor()
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    raise _not_cbor()


def _write_cbor(content: Json) -> bytes:
    return cbor2.dumps(_typed(content))


def _typed(value: Any, member: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _typed(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return TYPED_IN_CBOR[member](value) if member in TYPED_IN_CBOR else value


def _instant(seconds: float) -> cbor2.CBORTag:
    return cbor2.CBORTag(_EPOCH_TAG, seconds)


INSTANTS = ("ExpirationDate", "acceptanceTime", "startTime", "endTime", "trialEndTime")
TYPED_IN_CBOR: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(INSTANTS, _instant),
    "DoubleValue": float,
}
"""Members of answers that JSON writes as plain numbers, and CBOR by their type."""


def _read_query(payload: bytes) -> Any:
    try:
        return dict(parse_qsl(payload.decode(), max_num_fields=100))
    except ValueError:
        raise AwsError("MalformedQueryString", "The request body is not a form.") from None


def _write_query(content: Json) -> bytes:
    """XML as STS writes it; lists are not among what it answers here."""
    if "__type" in content:
        code = str(content["__type"]).rpartition("#")[2]
        content = {
            "ErrorResponse": {"Error": {"Type": "Sender", "Code": code, "Message": content["message"]}}
        }
    return _xml(content).encode()


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(member)}</{name}>" for name, member in value.items())
    return escape(str(value))


JSON_1_0 = Protocol("json 1.0", "application/x-amz-json-1.0", _read_json, msgspec.json.encode)
JSON_1_1 = Protocol("json 1.1", "application/x-amz-json-1.1", _read_json, msgspec.json.encode)
QUERY = Protocol("query", "application/x-www-form-urlencoded", _read_query, _write_query)
CBOR = Protocol(
    "cbor", "application/cbor", _read_cbor, _write_cbor, headers=(("smithy-protocol", "rpc-v2-cbor"),)
)
