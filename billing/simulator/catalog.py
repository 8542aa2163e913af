"""Products on sale and their dimensions, as a seller lists them. Read from JSON; unknown keys are ignored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, cast

from billing.simulator.errors import Refused

Pricing = Literal["contract_with_consumption", "contract", "subscription"]
Identity = Literal["license", "legacy"]
Value = int | float | bool | str

LARGEST_QUANTITY = 2147483647
"""Of EntitlementValue.IntegerValue, a 32-bit integer."""
_CODE = re.compile(r"[-a-zA-Z0-9/=:_.@]{1,255}")
_PRICINGS = ("contract_with_consumption", "contract", "subscription")
_IDENTITIES = ("license", "legacy")
_VALUE_TYPES: dict[str, tuple[type, str]] = {
    "integer": (int, "IntegerValue"),
    "double": (float, "DoubleValue"),
    "boolean": (bool, "BooleanValue"),
    "string": (str, "StringValue"),
}


@dataclass(frozen=True, slots=True)
class Dimension:
    key: str
    label: str
    unit: str
    kind: Literal["entitled", "metered"]
    value_type: str
    default_quantity: Value
    price: Decimal

    @property
    def value_member(self) -> str:
        """The member of EntitlementValue this dimension answers with."""
        return _VALUE_TYPES[self.value_type][1]

    def read(self, value: object) -> Value:
        """``value`` as what this dimension sells; form fields arrive as text."""
        wanted = _VALUE_TYPES[self.value_type][0]
        if isinstance(value, str) and wanted is not str:
            value = _from_text(value.strip(), wanted)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted or (
            isinstance(value, int | float) and not 0 <= value <= LARGEST_QUANTITY
        ):
            raise Refused(
                f"{self.key} takes a value of type {self.value_type}, from zero to {LARGEST_QUANTITY}"
            )
        return cast(Value, value)


def _from_text(text: str, wanted: type) -> object:
    if wanted is bool:
        return {"true": True, "on": True, "1": True, "false": False, "": False, "0": False}.get(text.lower())
    try:
        return int(text) if wanted is int else float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Product:
    code: str
    product_id: str
    title: str
    summary: str
    pricing: Pricing
    identity: Identity
    fulfillment_url: str | None
    dimensions: Mapping[str, Dimension]

    @property
    def entitled(self) -> list[Dimension]:
        return [dimension for dimension in self.dimensions.values() if dimension.kind == "entitled"]

    @property
    def metered(self) -> list[Dimension]:
        return [dimension for dimension in self.dimensions.values() if dimension.kind == "metered"]

    @property
    def is_contract(self) -> bool:
        return self.pricing != "subscription"

    def read_quantities(self, wanted: Mapping[str, object]) -> dict[str, Value]:
        """What a buyer asked for, each as what its dimension sells; raises Refused."""
        sold = {dimension.key: dimension for dimension in self.entitled} if self.is_contract else {}
        if unknown := wanted.keys() - sold.keys():
            raise Refused(f"{self.code} sells no entitlement called {', '.join(sorted(unknown))}")
        return {key: sold[key].read(value) for key, value in wanted.items()}

    @property
    def default_quantities(self) -> dict[str, Value]:
        return {dimension.key: dimension.default_quantity for dimension in self.entitled if self.is_contract}


def read_product(source: object) -> Product:
    """One product of the catalog format; raises Refused with what is wrong."""
    if not isinstance(source, dict):
        raise Refused("A product is a JSON object")
    code = _text(source, "code")
    if not _CODE.fullmatch(code):
        raise Refused(f"Product code {code!r} has characters AWS does not allow, or is longer than 255")
    dimensions = source.get("dimensions", [])
    if not isinstance(dimensions, list):
        raise Refused(f"{code}: dimensions is a list")
    read = [_read_dimension(code, dimension) for dimension in dimensions]
    by_key = {dimension.key: dimension for dimension in read}
    if len(by_key) != len(read):
        raise Refused(f"{code}: a dimension key appears twice")
    return Product(
        code=code,
        product_id=_text(source, "product_id", f"prod-{code}"),
        title=_text(source, "title", code),
        summary=_text(source, "summary", ""),
        pricing=cast(Pricing, _choice(source, "pricing", _PRICINGS, "subscription")),
        identity=cast(Identity, _choice(source, "identity", _IDENTITIES, "license")),
        fulfillment_url=_text(source, "fulfillment_url", "") or None,
        dimensions=by_key,
    )


def read_catalog(path: Path) -> list[Product]:
    """The products of a catalog file; raises Refused naming the file."""
    try:
        source = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read as a catalog: {error}") from error
    if not isinstance(source, dict) or not isinstance(source.get("products"), list):
        raise Refused(f'{path} is not a catalog: it must hold {{"products": [...]}}')
    return [read_product(product) for product in source["products"]]


def _read_dimension(code: str, source: object) -> Dimension:
    if not isinstance(source, dict):
        raise Refused(f"{code}: a dimension is a JSON object")
    key = _text(source, "key")
    if not 1 <= len(key) <= 255 or re.search(r"\s", key):
        raise Refused(f"{code}: dimension key {key!r} must be 1 to 255 characters without spaces")
    value_type = _choice(source, "value_type", tuple(_VALUE_TYPES), "integer")
    try:
        price = Decimal(str(source.get("price") or "0"))
    except InvalidOperation as error:
        raise Refused(f"{code}: price of {key} is not a number") from error
    if not price.is_finite() or price < 0:
        raise Refused(f"{code}: price of {key} is not a number from zero up")
    dimension = Dimension(
        key=key,
        label=_text(source, "label", key),
        unit=_text(source, "unit", ""),
        kind=cast(
            Literal["entitled", "metered"], _choice(source, "kind", ("entitled", "metered"), "metered")
        ),
        value_type=value_type,
        default_quantity=_VALUE_TYPES[value_type][0](),
        price=price,
    )
    if (default := source.get("default_quantity")) is None:
        return dimension
    return replace(dimension, default_quantity=dimension.read(default))


def _text(source: dict[str, Any], key: str, default: str | None = None) -> str:
    value = source.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Refused(f"{key} is missing or not a text")
    return value


def _choice(source: dict[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
    value = _text(source, key, default)
    if value not in choices:
        raise Refused(f"{key} is {value!r}; it must be one of {', '.join(choices)}")
    return value
