"""Quantities of a usage record and how they are split by tags (facts page §1.4 and §3.5)."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from sys import intern
from typing import Any

from billing.simulator.aws.bounds import TAG, TAG_KEY_LENGTH, TAG_VALUE_LENGTH, TAGS_PER_ALLOCATION
from billing.simulator.aws.shapes import Json
from billing.simulator.errors import AwsError

_QUANTITIES = ("AllocatedUsageQuantity", "AllocatedUsageQuantityAsDecimal")

Tags = tuple[tuple[str, str], ...]
Allocations = tuple[tuple[Decimal, Tags], ...]


# Records of equal quantity share one number: most of a million are of few values.
@lru_cache(maxsize=4096)
def _number(quantity: str | int) -> Decimal:
    return Decimal(quantity)


def quantity_of(record: Json) -> Decimal:
    """Compared and summed by value; nothing given means 0."""
    return _number(record.get("QuantityAsDecimal") or record.get("Quantity") or 0)


def check_allocations(record: Json, quantity: Decimal) -> Allocations:
    """The record's allocations, or the refusal they deserve."""
    if "UsageAllocations" not in record:
        return ()
    in_decimals = "QuantityAsDecimal" in record
    allocations = tuple(
        _read(allocation, in_decimals=in_decimals) for allocation in record["UsageAllocations"]
    )
    if sum((share for share, _ in allocations), Decimal(0)) != quantity:
        raise _invalid("The sum of the allocated quantities is not the usage quantity.")
    if len({tags for _, tags in allocations}) != len(allocations):
        raise _invalid("Two allocations carry the same tags.")
    return allocations


def _read(allocation: Json, *, in_decimals: bool) -> tuple[Decimal, Tags]:
    given = [name for name in _QUANTITIES if name in allocation]
    if len(given) != 1:
        raise _invalid("An allocation has exactly one quantity.")
    if given != [_QUANTITIES[in_decimals]]:
        raise _invalid("The allocations do not use the same type of quantity as the usage.")
    quantity: str | int = allocation[given[0]]
    return _number(quantity), _tags(allocation.get("Tags", []))


def _tags(tags: list[dict[str, Any]]) -> Tags:
    if len(tags) > TAGS_PER_ALLOCATION:
        raise AwsError("InvalidTagException", f"An allocation has at most {TAGS_PER_ALLOCATION} tags.")
    for tag in tags:
        _check_text(tag["Key"], longest=TAG_KEY_LENGTH)
        _check_text(tag["Value"], longest=TAG_VALUE_LENGTH)
    return tuple(sorted((intern(tag["Key"]), intern(tag["Value"])) for tag in tags))


def _check_text(text: str, *, longest: int) -> None:
    if len(text) > longest or not TAG.fullmatch(text):
        raise AwsError(
            "InvalidTagException", "A tag is empty, too long, or has a character that is not allowed."
        )


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidUsageAllocationsException", message)
