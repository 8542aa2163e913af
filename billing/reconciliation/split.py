"""Allocations to tags, checked against the events' own tags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.reading import Tags

_MOST_SETS = 2500
_LARGE = 200_000  # bytes from which tag sets may have been folded into the untagged one
_WRAPPING = len('{"AllocatedUsageQuantityAsDecimal": "", "Tags": []}, ')
_WRAPPED_TAG = len('{"Key": "", "Value": ""}, ')


def wrong(frozen: str, tagged: Mapping[Tags, int], quantity: int) -> str:
    """What is wrong with the frozen allocations; '' if nothing is."""
    if not quantity or set(tagged) <= {()}:
        return f"it needs none and has {frozen[:80]}" if frozen else ""
    try:
        parts = [
            (tuple(sorted(part["tags"].items())), millionths(Decimal(part["quantity"])))
            for part in json.loads(frozen or "[]")
        ]
    except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation):
        return "its allocations cannot be read"
    shares = dict(parts)
    if len(shares) != len(parts) or len(parts) > _MOST_SETS:
        return f"{len(parts)} allocations have {len(shares)} different sets of tags (AWS takes {_MOST_SETS})"
    if sum(shares.values()) != quantity:
        return f"they add up to {plain(sum(shares.values()))}, not to {plain(quantity)}"
    expected = _expected(tagged, quantity)
    missing = expected.keys() - shares.keys() - {()}
    if missing and not (len(expected) > _MOST_SETS or _size(expected) > _LARGE):
        return f"{len(missing)} sets of tags are missing"
    for tags in sorted(shares):
        # The untagged rest of a folded one is right, because all others and the sum are.
        if tags == () and missing:
            continue
        if shares[tags] != expected.get(tags):
            share = plain(expected.get(tags, 0))
            return f"{dict(tags)} should have {share}, not {plain(shares[tags])}"
    return ""


def _expected(tagged: Mapping[Tags, int], quantity: int) -> dict[Tags, int]:
    """In proportion to use, rounded down; the rest to the largest fractions, then in the order of tags."""
    used = sum(tagged.values())
    if not used:
        return {}
    shares = {tags: amount * quantity // used for tags, amount in tagged.items()}
    left = quantity - sum(shares.values())
    by_fraction = sorted(tagged, key=lambda tags: (-(tagged[tags] * quantity % used), tags))
    for tags in by_fraction[:left]:
        shares[tags] += 1
    return {tags: share for tags, share in shares.items() if share}


def _size(shares: Mapping[Tags, int]) -> int:
    """About how long AWS's request is with all of them."""
    return sum(
        _WRAPPING + len(plain(share)) + sum(_WRAPPED_TAG + len(key) + len(value) for key, value in tags)
        for tags, share in shares.items()
    )
