"""Whole millionths, in which everything is compared."""

from __future__ import annotations

from decimal import Decimal


def millionths(amount: Decimal) -> int:
    return int(amount.scaleb(6).to_integral_exact())


def plain(amount: int) -> str:
    """As AWS gets it: digits, at most six decimals, no exponent, no trailing zeros."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 1_000_000)
    return f"{sign}{whole}" + (f".{rest:06}".rstrip("0") if rest else "")
