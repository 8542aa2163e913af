"""Splitting a record's quantity over the buyer's tags, exact to the millionth.

AWS refuses a record whose allocations do not add up to its quantity (InvalidUsageAllocationsException).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from billing.aws import wire
from billing.aws.limits import MAX_ALLOCATIONS

MAX_BYTES = 250_000  # of the allocations in the request: with its other members one record stays below 256 kB
Tags = tuple[tuple[str, str], ...]

_UNTAGGED: Tags = ()


class Allocated(NamedTuple):
    json: str  # the frozen text, '' for none
    folded: int  # tag sets that did not fit and were added to the untagged quantity


def allocate(usage: Iterable[tuple[Mapping[str, str], Decimal]], *, quantity: Decimal) -> Allocated:
    """Share ``quantity`` (at most the sum of ``usage``) over the tag sets in proportion to their use.

    Shares are rounded down to millionths; what is left over goes to the largest fractions, ties in the order
    of the tags. Untagged usage only, or nothing to bill, needs no allocations at all.
    """
    used: dict[Tags, int] = defaultdict(int)
    for tags, amount in usage:
        used[tuple(sorted(tags.items()))] += _millionths(amount)
    if quantity == 0 or set(used) <= {_UNTAGGED}:
        return Allocated("", 0)
    shares = _shares(used, _millionths(quantity))
    kept = min(len(shares), MAX_ALLOCATIONS)
    while True:
        folded = _folded(shares, kept)
        text = _json(folded)
        if wire.allocations_size(text) <= MAX_BYTES:
            return Allocated(text, len(shares.keys() - folded.keys()))
        kept = kept * 9 // 10


def _shares(used: dict[Tags, int], total: int) -> dict[Tags, int]:
    whole = sum(used.values())
    shares: dict[Tags, int] = {}
    fractions: list[tuple[int, Tags]] = []
    for tags in sorted(used):
        shares[tags], rest = divmod(used[tags] * total, whole)
        fractions.append((-rest, tags))
    left = total - sum(shares.values())
    for _, tags in sorted(fractions)[:left]:
        shares[tags] += 1
    return {tags: share for tags, share in shares.items() if share}


def _folded(shares: dict[Tags, int], kept: int) -> dict[Tags, int]:
    """The ``kept`` largest sets; the rest is added to the untagged one, which counts as one of them."""
    if kept >= len(shares):
        return shares
    largest = sorted((tags for tags in shares if tags), key=lambda tags: (-shares[tags], tags))[: kept - 1]
    folded = {tags: shares[tags] for tags in largest}
    folded[_UNTAGGED] = sum(shares.values()) - sum(folded.values())
    return folded


def _json(shares: dict[Tags, int]) -> str:
    return wire.allocations_json((Decimal(shares[tags]).scaleb(-6), dict(tags)) for tags in sorted(shares))


def _millionths(amount: Decimal) -> int:
    return int(amount.scaleb(6))
