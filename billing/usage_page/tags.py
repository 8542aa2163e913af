"""The cost allocation tags that a buyer finds on their AWS bill, and how much of it each set takes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from billing.figures import SENDING, Figures, State
from billing.models import MeteringRecord
from billing.tenures import Tenures
from billing.usage_page.periods import Period

# AWS puts this before a seller's tag where the buyer sees it.
AWS_PREFIX = "aws:marketplace:isv:"
SHOWN = 50

Tags = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Share:
    """Of one set of tags; without tags, all that carries none."""

    tags: Tags
    billed: Decimal = Decimal(0)
    sending: Decimal = Decimal(0)

    def add(self, state: str, quantity: Decimal) -> None:
        if state == State.ACCEPTED:
            self.billed += quantity
        else:
            self.sending += quantity


@dataclass(frozen=True, slots=True)
class Shares:
    """The largest sets first, what carries no tags last. ``others`` is the sum of what is not shown."""

    shown: list[Share]
    others: Share | None
    others_count: int


def shares(
    agreements: Collection[int], tenures: Tenures, dimension: int, period: Period, total: Figures
) -> Shares | None:
    """How ``total``, as far as it is reported, is shared. None: nothing of it carries tags."""
    records = MeteringRecord.objects.filter(
        tenures.in_hours(),
        agreement__in=agreements,
        dimension=dimension,
        hour__gte=period.start,
        hour__lt=period.end,
        state__in=(State.ACCEPTED, *SENDING),
    ).exclude(wire_allocations="")
    sums: dict[Tags, Share] = {}
    for frozen, state in records.order_by().values_list("wire_allocations", "state").iterator():
        for part in json.loads(frozen):
            tags = tuple(sorted(part["tags"].items()))
            sums.setdefault(tags, Share(tags)).add(state, Decimal(part["quantity"]))
    sums.pop((), None)
    if not sums:
        return None
    largest = sorted(sums.values(), key=lambda each: (-each.billed - each.sending, each.tags))
    shown, rest = largest[:SHOWN], largest[SHOWN:]
    untagged = Share(
        (),
        total.billed - sum(each.billed for each in largest),
        total.sending - sum(each.sending for each in largest),
    )
    if untagged.billed or untagged.sending:
        shown.append(untagged)
    return Shares(shown, _together(rest) if rest else None, len(rest))


def _together(rest: Collection[Share]) -> Share:
    return Share(
        (), sum((each.billed for each in rest), Decimal(0)), sum((each.sending for each in rest), Decimal(0))
    )
