"""The form by which a buyer buys: its fields, and what was ordered with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.simulator.catalog import Dimension, Product, Value
from billing.simulator.errors import Refused
from billing.simulator.lifecycle import purchases
from billing.simulator.pages.forms import Field, instant, number
from billing.simulator.state import State

ADVANCED = (
    "started_at",
    "private_offer",
    "channel_partner",
    "auto_renew",
    "payment_fails",
    "identity",
)
"""The fields few purchases need."""
_BUYERS_OFFERED = 100
_ACCOUNT = (
    ("inputmode", "numeric"),
    ("pattern", " *[0-9]{12} *"),
    ("maxlength", "20"),
    ("title", "12 digits"),
)
_CONTROLS: dict[str, tuple[Any, tuple[tuple[str, str], ...]]] = {
    "integer": ("number", (("min", "0"), ("step", "1"), ("required", ""))),
    "double": ("number", (("min", "0"), ("step", "any"), ("required", ""))),
    "boolean": ("checkbox", ()),
    "string": ("text", ()),
}


def purchase_fields(state: State, product: Product) -> list[Field]:
    """The empty form. A new buyer is offered each time; those who bought before can be chosen."""
    accounts = list(dict.fromkeys(a.aws_account_id for a in reversed(state.agreements.data.values())))
    days = f"{state.timings.free_trial.days}"
    fields = quantity_fields(product)
    fields.append(
        Field(
            "aws_account_id",
            "Buyer AWS account",
            purchases.random_account_id(),
            about="12 digits, any you like."
            + (" The same account may buy several times." if product.identity == "license" else ""),
            attributes=_ACCOUNT,
        )
    )
    if accounts:
        known = tuple((account, account) for account in accounts[:_BUYERS_OFFERED])
        fields.append(
            Field(
                "known_account",
                "Or a buyer who bought before",
                kind="select",
                options=(("", "no, the account above"), *known),
            )
        )
    fields += [
        Field("free_trial", "As a free trial", kind="checkbox"),
        Field(
            "trial_days",
            "Days of free trial",
            days,
            kind="number",
            about="7 to 90. Counts only when the box above is ticked.",
            attributes=(("min", "7"), ("max", "90"), ("step", "1")),
        ),
        Field(
            "started_at",
            "Starts at (UTC)",
            kind="datetime-local",
            about="Empty: now. In the past: it runs since then. In the future: nothing happens until then.",
        ),
        Field("private_offer", "A private offer", kind="checkbox", about="Agreed on with this buyer alone."),
        Field(
            "channel_partner",
            "Channel partner's AWS account",
            about="12 digits. A partner sells it for you; you hear as the manufacturer. Empty: you sell it.",
            attributes=_ACCOUNT,
        ),
    ]
    if product.is_contract:
        fields.append(
            Field(
                "auto_renew",
                "Renew automatically",
                kind="checkbox",
                about="At the end of the term, for another one.",
            )
        )
    fields += [
        Field(
            "payment_fails",
            "The payment will fail",
            kind="checkbox",
            about="The buyer arrives at your page all the same, and the license never becomes active.",
        ),
        Field(
            "identity",
            "Integration",
            kind="select",
            options=(
                ("", f"as the listing ({product.identity})"),
                ("license", "license: known by license ARN, told by EventBridge"),
                ("legacy", "legacy: known by product code and customer identifier, told by SNS"),
            ),
            about="What a product listed before June 2026 and one listed after look like to your app.",
        ),
    ]
    return fields


def quantity_fields(product: Product, current: Mapping[str, Value] | None = None) -> list[Field]:
    """One field for each dimension that is bought, filled with what is ``current`` or usual."""
    sold = product.entitled if product.is_contract else []
    return [
        _quantity(dimension, (current or {}).get(dimension.key, dimension.default_quantity))
        for dimension in sold
    ]


def read_quantities(product: Product, form: Mapping[str, str]) -> tuple[dict[str, Value], dict[str, str]]:
    """What was typed, and by field what is wrong with it."""
    quantities: dict[str, Value] = {}
    errors: dict[str, str] = {}
    for dimension in product.entitled if product.is_contract else []:
        name = f"quantity-{dimension.key}"
        # An unticked box is not sent at all; it still means "no".
        try:
            quantities[dimension.key] = dimension.read(form.get(name, ""))
        except Refused:
            errors[name] = _EXPECTED[dimension.value_type]
    return quantities, errors


def _quantity(dimension: Dimension, value: Value) -> Field:
    kind, attributes = _CONTROLS[dimension.value_type]
    unit = f" ({dimension.unit})" if dimension.unit and dimension.unit not in dimension.label.lower() else ""
    return Field(
        f"quantity-{dimension.key}",
        f"{dimension.label}{unit}",
        ("on" if value else "") if isinstance(value, bool) else str(value),
        kind=kind,
        attributes=attributes,
    )


def fields_by_refusal(product: Product) -> dict[str, str]:
    """From what a refusal begins with to the field it is about."""
    dimensions = {dimension.key: f"quantity-{dimension.key}" for dimension in product.entitled}
    plain = {
        name: name for name in ("aws_account_id", "channel_partner", "started_at", "identity", "auto_renew")
    }
    return {**dimensions, **plain, "free_trial": "trial_days", "private_offer": "private_offer"}


def read_order(product: Product, form: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What was ordered, and what is wrong with it by field."""
    quantities, errors = read_quantities(product, form)
    account = form.get("known_account", "") or form.get("aws_account_id", "").strip()
    partner = form.get("channel_partner", "").strip()
    for name, digits in (("aws_account_id", account), ("channel_partner", partner)):
        if digits and not (len(digits) == 12 and digits.isascii() and digits.isdigit()):
            errors[name] = "An AWS account id has 12 digits."
    trial: bool | int = False
    if "free_trial" in form:
        trial = _trial_days(form.get("trial_days", ""), errors)
    order = {
        "aws_account_id": account or None,
        "quantities": quantities,
        "free_trial": trial,
        "started_at": _start(form.get("started_at", ""), errors),
        "identity": form.get("identity") or None,
        "private_offer": "private_offer" in form,
        "channel_partner": partner or None,
        "auto_renew": "auto_renew" in form,
        "payment_fails": "payment_fails" in form,
    }
    if order["identity"] not in (None, "license", "legacy"):
        errors["identity"] = "Choose license or legacy."
    return order, errors


_EXPECTED = {
    "integer": "Type a whole number, not below zero.",
    "double": "Type a number, not below zero.",
    "boolean": "Tick it or leave it.",
    "string": "Type a text.",
}


def _trial_days(typed: str, errors: dict[str, str]) -> bool | int:
    try:
        days = number(typed)
    except Refused:
        days = 0
    if days is None:
        return True
    if not isinstance(days, int) or not 7 <= days <= 90:
        errors["trial_days"] = "A free trial lasts 7 to 90 days."
        return False
    return days


def _start(typed: str, errors: dict[str, str]) -> datetime | None:
    try:
        return instant(typed)
    except Refused as refusal:
        errors["started_at"] = str(refusal)
        return None
