"""The invoice as a page: totals, usage over time as a chart, and the lines, a part of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode

from billing.simulator.aws.shapes import Json
from billing.simulator.invoice import Books, is_on_trial, plain
from billing.simulator.pages.chart import chart
from billing.simulator.pages.forms import Field
from billing.simulator.pages.paging import part
from billing.simulator.pages.render import instant, page, url
from billing.simulator.records import BilledRecord
from billing.simulator.state import State
from billing.simulator.web import Request, Response

LINES_SHOWN = 50
TOTALS_SHOWN = 100
ALLOCATIONS_SHOWN = 5
CHOICES_OFFERED = 200


@dataclass(slots=True)
class _Sum:
    quantity: Decimal = Decimal(0)
    on_trial: Decimal = Decimal(0)
    records: int = 0


@dataclass(slots=True)
class _Survey:
    """What one pass over the chosen records finds."""

    sums: dict[tuple[str, str], _Sum] = field(default_factory=dict)
    by_hour: dict[str, dict[datetime, Decimal]] = field(default_factory=dict)


def invoice(state: State, request: Request) -> Response:
    agreement_id = request.query.get("agreement", "").strip()
    dimension = request.query.get("dimension", "").strip()
    books = Books(state)
    chosen = books.records
    if agreement_id or dimension:
        chosen = [
            record
            for record in books.records
            if agreement_id in ("", record.agreement_id) and dimension in ("", record.key[3])
        ]
    survey = _survey(books, chosen)
    totals = [_total(books, names, total) for names, total in survey.sums.items()]
    totals.sort(key=lambda total: (total["title"], total["account"], total["dimension"]))
    shown = part(request, len(chosen), size=LINES_SHOWN)
    # Newest accepted first, without turning a million lines round.
    first, last = len(chosen) - shown.last, len(chosen) - shown.first + 1
    lines = list(reversed(chosen[max(first, 0) : max(last, 0)]))
    shown_totals = part(request, len(totals), size=TOTALS_SHOWN)
    charted = max(survey.by_hour, key=lambda name: len(survey.by_hour[name]), default="")
    context = {
        "is_empty": not books.records,
        "is_filtered": bool(agreement_id or dimension),
        "filters": _filters(books, agreement_id, dimension),
        "totals": totals[:TOTALS_SHOWN],
        "total_count": shown_totals.total,
        "is_cut": len(totals) > TOTALS_SHOWN,
        "sum": format(sum((total["due"] for total in totals), Decimal(0)), ".2f"),
        "chart": chart(survey.by_hour.get(charted, {})),
        "charted": charted,
        "charts": [
            {"name": name, "url": "?" + urlencode({**request.query, "dimension": name})}
            for name in sorted(survey.by_hour)
            if name != charted
        ],
        "lines": [_line(books, record) for record in lines],
        "part": shown,
    }
    return page(state, "invoice", context)


def usage_of(state: State, agreement_id: str) -> list[Json]:
    """What one agreement was billed for, by dimension."""
    books = Books(state)
    survey = _survey(books, [record for record in books.records if record.agreement_id == agreement_id])
    return [_total(books, names, total) for names, total in sorted(survey.sums.items(), key=str)]


def _survey(books: Books, records: Sequence[BilledRecord]) -> _Survey:
    found = _Survey()
    for record in records:
        _, _, _, dimension, hour = record.key
        total = found.sums.get((record.agreement_id, dimension))
        if total is None:
            total = found.sums[record.agreement_id, dimension] = _Sum()
        total.quantity += record.quantity
        total.records += 1
        if is_on_trial(books.agreements[record.agreement_id], hour):
            total.on_trial += record.quantity
        hours = found.by_hour.setdefault(dimension, {})
        hours[hour] = hours.get(hour, Decimal(0)) + record.quantity
    return found


def _total(books: Books, names: tuple[str, str], total: _Sum) -> Json:
    agreement_id, dimension = names
    agreement = books.agreements[agreement_id]
    due = (total.quantity - total.on_trial) * books.price(agreement, dimension)
    return {
        "title": books.products[agreement.product_code].title,
        "account": agreement.aws_account_id,
        "agreement_id": agreement_id,
        "url": url("subscriptions", agreement_id),
        "lines_url": "/invoice?" + urlencode({"agreement": agreement_id, "dimension": dimension}),
        "dimension": dimension,
        "records": total.records,
        "quantity": plain(total.quantity),
        "on_trial": plain(total.on_trial) if total.on_trial else "",
        "amount": format(due, ".2f"),
        "due": due,
    }


def _line(books: Books, record: BilledRecord) -> Json:
    agreement = books.agreements[record.agreement_id]
    region, under, _, dimension, hour = record.key
    return {
        "hour": instant(hour),
        "region": region,
        "under": "license" if under == agreement.license_arn else "product code",
        "title": books.products[agreement.product_code].title,
        "account": agreement.aws_account_id,
        "agreement_id": record.agreement_id,
        "url": url("subscriptions", record.agreement_id),
        "dimension": dimension,
        "quantity": plain(record.quantity),
        "is_trial": is_on_trial(agreement, hour),
        "billed_twice": books.billings(record) > 1,
        "allocations": [
            {
                "quantity": plain(share),
                "tags": ", ".join(f"{key}={value}" for key, value in tags) or "untagged",
            }
            for share, tags in record.allocations[:ALLOCATIONS_SHOWN]
        ],
        "allocations_left": max(0, len(record.allocations) - ALLOCATIONS_SHOWN),
    }


def _filters(books: Books, agreement_id: str, dimension: str) -> list[Field]:
    """The newest purchases to choose from; one chosen by its link is offered too, however old."""
    ids = list(reversed(books.agreements))[:CHOICES_OFFERED]
    if agreement_id and agreement_id not in ids:
        ids.append(agreement_id)
    offered = [each for product in books.products.values() for each in product.dimensions.values()]
    dimensions = sorted({each.key for each in offered if each.kind == "metered"})
    if dimension and dimension not in dimensions:
        dimensions.append(dimension)
    return [
        Field(
            "agreement",
            "Purchase",
            agreement_id,
            kind="select",
            options=(("", "All"), *((known, _named(books, known)) for known in ids)),
        ),
        Field(
            "dimension",
            "Dimension",
            dimension,
            kind="select",
            options=(("", "All"), *((name, name) for name in dimensions)),
        ),
    ]


def _named(books: Books, agreement_id: str) -> str:
    agreement = books.agreements.get(agreement_id)
    if agreement is None:
        return agreement_id
    title = books.products[agreement.product_code].title
    return f"{title}, {agreement.aws_account_id}, …{agreement_id[-6:]}"
