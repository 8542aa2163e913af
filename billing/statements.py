"""A month's statement of a purchase, or of all that an organization bought: what was used and billed.

Read anew each time, as of one instant that it names: a month whose usage is settled gives the same statement
ever after, but for what AWS's reports say later.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Exists, OuterRef, Q

from accounts.models import Organization
from billing import tenures
from billing.models import Agreement, Dimension, MeteringRecord, UsageArchiveTotal, UsageEvent
from billing.reconciliation import comparing, months
from billing.reconciliation.comparing import Variance
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.months import Figures, Month, Scope
from billing.reconciliation.verification import one_instant

Tags = tuple[tuple[str, str], ...]

COLUMNS = (
    "month", "as_of", "is_final", "organization", "aws_account", "agreement_id", "license_id", "product",
    "dimension", "unit", "reported_until", "row", "day", "tags", "recorded", "included", "metered",
    "accepted", "on_the_way", "open", "set_aside", "billed",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True, slots=True)
class Sum:
    """``billed`` None: no report of AWS's tells of it yet."""

    figures: Figures
    billed: int | None

    def as_texts(self) -> dict[str, str | None]:
        one = self.figures
        return {
            "recorded": plain(one.recorded),
            "included": plain(one.included),
            "metered": plain(one.metered),
            "accepted": plain(one.accepted),
            "on_the_way": plain(one.on_the_way),
            "open": plain(one.open),
            "set_aside": plain(one.recorded - one.included - one.accepted - one.on_the_way - one.open),
            "billed": None if self.billed is None else plain(self.billed),
        }


@dataclass(frozen=True, slots=True)
class Part:
    """One dimension of one purchase. ``tags``: what is metered, by the buyer's cost allocation tags."""

    agreement: Agreement
    dimension: Dimension
    total: Sum
    days: Sequence[tuple[date, Sum]]
    tags: Sequence[tuple[Tags, int]]
    reported_until: date | None  # the last day that AWS has told of


@dataclass(frozen=True, slots=True)
class Statement:
    month: Month
    as_of: datetime
    organization: Organization | None
    agreement: Agreement | None
    parts: Sequence[Part]
    # Purchases that came or went: whose share of the month was whose stands on their own pages.
    moved: Sequence[Agreement] = ()

    @property
    def is_final(self) -> bool:
        """The month is over, and no usage of it waits for anything."""
        return (
            not self.moved
            and self.as_of >= self.month.end
            and all(part.total.figures.is_final for part in self.parts)
        )


def of_agreement(agreement: Agreement, month: Month, *, now: datetime) -> Statement:
    with one_instant():
        return Statement(month, now, agreement.organization, agreement, list(_parts([agreement], month)))


def of_organization(organization: Organization, month: Month, *, now: datetime) -> Statement:
    """Of each purchase that has usage of the month, also of those that ended.

    A purchase that was moved from or to another workspace is named, and left out: AWS bills it as one, and
    neither may see what the other used.
    """
    records = MeteringRecord.objects.filter(
        agreement=OuterRef("pk"), hour__gte=month.start, hour__lt=month.end
    )
    events = UsageEvent.objects.filter(
        agreement=OuterRef("pk"),
        metering_record=None,
        occurred_at__gte=month.start,
        occurred_at__lt=month.end,
    )
    archived = UsageArchiveTotal.objects.filter(
        agreement=OuterRef("pk"), day__gte=month.start.date(), day__lt=month.end.date()
    )
    held = tenures.read(organization)
    bought = Agreement.objects.filter(held.agreements)
    used = bought.filter(Q(Exists(records)) | Q(Exists(events)) | Q(Exists(archived)))
    agreements = list(used.select_related("product", "customer", "organization").order_by("pk"))
    told = [agreement for agreement in agreements if agreement.pk not in held.moved]
    moved = [agreement for agreement in agreements if agreement.pk in held.moved]
    with one_instant():
        return Statement(month, now, organization, None, list(_parts(told, month)) if told else [], moved)


def _parts(agreements: Sequence[Agreement], month: Month) -> Iterator[Part]:
    by_pk = {agreement.pk: agreement for agreement in agreements}
    scope = Scope(month, among=tuple(by_pk))
    dimensions = {each.pk: each for each in Dimension.objects.select_related("product")}
    told = comparing.told(month, dimensions.values())
    figures = months.read(scope, "agreement", "dimension", "day")
    billed = comparing.compare(scope, told.until, "agreement", "dimension", "day")
    tags = _tags(scope)
    names = {pk: each.key for pk, each in dimensions.items()}
    for pk, dimension in sorted(
        {key[:2] for key in (*figures, *billed)}, key=lambda key: (key[0], names[key[1]])
    ):
        of_days = [
            (day, figures.get((pk, dimension, day)), billed.get((pk, dimension, day))) for day in month.days
        ]
        total, days = _sums(of_days, told.until.get(dimension))
        of_tags = sorted(tags.get((pk, dimension), {}).items())
        yield Part(by_pk[pk], dimensions[dimension], total, days, of_tags, told.until.get(dimension))


def _sums(
    of_days: Sequence[tuple[date, Figures | None, Variance | None]], until: date | None
) -> tuple[Sum, list[tuple[date, Sum]]]:
    """Of the whole month, and of the days that have anything."""
    whole, billed, days = Figures(), 0, []
    for day, figures, variance in of_days:
        if figures is None and variance is None:
            continue
        of_day, found = figures or Figures(), variance or Variance()
        whole.add(of_day)
        billed += found.billed
        is_told = until is not None and day <= until
        days.append((day, Sum(of_day, found.billed if is_told else None)))
    return Sum(whole, None if until is None else billed), days


def _tags(scope: Scope) -> dict[tuple[int, int], dict[Tags, int]]:
    """As AWS is told them, by purchase and dimension; the empty set: what has no tags."""
    found: dict[tuple[int, int], dict[Tags, int]] = defaultdict(lambda: defaultdict(int))
    records = MeteringRecord.objects.filter(scope.rows("hour"), quantity__gt=0).exclude(state="void")
    rows = records.order_by().values_list("agreement_id", "dimension_id", "quantity", "wire_allocations")
    for agreement, dimension, quantity, allocations in rows.iterator(chunk_size=200):
        if not allocations:
            found[agreement, dimension][()] += millionths(quantity)
            continue
        for share in json.loads(allocations):
            tags = tuple(sorted(share["tags"].items()))
            found[agreement, dimension][tags] += millionths(Decimal(share["quantity"]))
    return found


def as_rows(statement: Statement) -> Iterator[dict[str, str]]:
    """A row for the total of each dimension, for each of its days, for each set of its tags."""
    for agreement in statement.moved:
        yield {**_of(agreement, statement), "organization": "", "row": "moved"}
    for part in statement.parts:
        common = {
            **_of(part.agreement, statement),
            "dimension": part.dimension.key,
            "unit": part.dimension.unit,
            "reported_until": part.reported_until.isoformat() if part.reported_until else "",
        }
        yield {**common, "row": "total", **_known(part.total.as_texts())}
        for day, of_day in part.days:
            yield {**common, "row": "day", "day": day.isoformat(), **_known(of_day.as_texts())}
        for tags, amount in part.tags:
            yield {**common, "row": "tags", "tags": tags_text(tags), "metered": plain(amount)}


def _of(agreement: Agreement, statement: Statement) -> dict[str, str]:
    return {
        "month": str(statement.month),
        "as_of": _stamp(statement.as_of),
        "is_final": "yes" if statement.is_final else "no",
        "organization": agreement.organization.name if agreement.organization else "",
        "aws_account": agreement.customer.aws_account_id or agreement.customer.customer_identifier or "",
        "agreement_id": agreement.agreement_id or "",
        "license_id": agreement.license_id or "",
        "product": agreement.product.title,
    }


def as_csv(statement: Statement) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    exact = {"recorded", "included", "metered", "accepted", "on_the_way", "open", "set_aside", "billed"}
    for row in as_rows(statement):
        yield writer.writerow(
            [row.get(name, "") if name in exact else _text(row.get(name, "")) for name in COLUMNS]
        )


def as_json(statement: Statement) -> str:
    """Quantities are texts: a JSON reader would round them."""
    told = {
        "month": str(statement.month),
        "as_of": _stamp(statement.as_of),
        "is_final": statement.is_final,
        "organization": statement.organization.name if statement.organization else None,
        "parts": [_part(part) for part in statement.parts],
        "moved": [
            {"agreement_id": each.agreement_id, "license_id": each.license_id, "product": each.product.title}
            for each in statement.moved
        ],
    }
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def _part(part: Part) -> dict[str, Any]:
    agreement = part.agreement
    return {
        "aws_account": agreement.customer.aws_account_id or agreement.customer.customer_identifier,
        "agreement_id": agreement.agreement_id,
        "license_id": agreement.license_id,
        "product": agreement.product.title,
        "dimension": part.dimension.key,
        "unit": part.dimension.unit,
        "reported_until": part.reported_until.isoformat() if part.reported_until else None,
        "total": part.total.as_texts(),
        "days": [{"day": day.isoformat(), **one.as_texts()} for day, one in part.days],
        "tags": [{"tags": dict(tags), "metered": plain(amount)} for tags, amount in part.tags],
    }


def tags_text(tags: Tags) -> str:
    return ", ".join(f"{name}: {value}" for name, value in tags)


class _Echo:
    """csv writes to it what the caller wants to have."""

    def write(self, line: str) -> str:
        return line


def _known(texts: dict[str, str | None]) -> dict[str, str]:
    return {name: text or "" for name, text in texts.items()}


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: str) -> str:
    """A spreadsheet runs what looks like a formula."""
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
