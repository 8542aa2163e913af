"""The invoice as a page: totals, usage over time as a chart, and the lines, a part of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode

from billing.simulator.chart import chart
from billing.simulator.forms import Field
from billing.simulator.invoice import plain
from billing.simulator.paging import part
from billing.simulator.records import Agreement, BilledRecord
from billing.simulator.render import instant, page, url
from billing.simulator.shapes import Json
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
    regions: set[str] = field(default_factory=set)


def invoice(state: State, request: Request) -> Response:
    agreement_id = request.query.get("agreement", "").strip()
    dimension = request.query.get("dimension", "").strip()
    with state.lock:
        everything = list(state.billed.data.values())
        agreements = dict(state.agreements.data)
        titles = {code: product.title for code, product in state.products.items()}
        prices = _prices(state)
        dimensions = sorted(
            {
                key
                for product in state.products.values()
                for key in product.dimensions
                if product.dimensions[key].kind == "metered"
            }
        )
    chosen = (
        [
            record
            for record in everything
            if agreement_id in ("", record.agreement_id) and dimension in ("", record.key[3])
        ]
        if agreement_id or dimension
        else everything
    )
    survey = _survey(chosen, agreements)
    totals = [_total(names, total, agreements, titles, prices) for names, total in survey.sums.items()]
    totals.sort(key=lambda total: (total["title"], total["account"], total["dimension"]))
    shown = part(request, len(chosen), size=LINES_SHOWN)
    # Newest accepted first, without turning a million lines round.
    first, last = len(chosen) - shown.last, len(chosen) - shown.first + 1
    lines = list(reversed(chosen[max(first, 0) : max(last, 0)]))
    shown_totals = part(request, len(totals), size=TOTALS_SHOWN)
    charted = max(survey.by_hour, key=lambda name: len(survey.by_hour[name]), default="")
    context = {
        "is_empty": not everything,
        "is_filtered": bool(agreement_id or dimension),
        "filters": _filters(agreement_id, dimension, agreements, titles, dimensions),
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
        "lines": [
            _line(
                record,
                agreements,
                titles,
                _is_billed_twice(state, record, agreements[record.agreement_id], survey.regions),
            )
            for record in lines
        ],
        "part": shown,
    }
    return page(state, "invoice", context)


def usage_of(state: State, agreement_id: str) -> list[Json]:
    """What one agreement was billed for, by dimension."""
    records = [record for record in state.billed.data.values() if record.agreement_id == agreement_id]
    agreements = {agreement_id: state.agreements[agreement_id]}
    sums = _survey(records, agreements).sums
    return [
        _total(names, total, agreements, {}, _prices(state)) for names, total in sorted(sums.items(), key=str)
    ]


def _survey(records: Sequence[BilledRecord], agreements: dict[str, Agreement]) -> _Survey:
    found = _Survey()
    for record in records:
        region, _, _, dimension, hour = record.key
        found.regions.add(region)
        total = found.sums.get((record.agreement_id, dimension))
        if total is None:
            total = found.sums[record.agreement_id, dimension] = _Sum()
        total.quantity += record.quantity
        total.records += 1
        if _is_trial(agreements[record.agreement_id], hour):
            total.on_trial += record.quantity
        hours = found.by_hour.setdefault(dimension, {})
        hours[hour] = hours.get(hour, Decimal(0)) + record.quantity
    return found


def _is_trial(agreement: Agreement, hour: datetime) -> bool:
    return agreement.trial_ends_at is not None and hour < agreement.trial_ends_at


def _prices(state: State) -> dict[tuple[str, str], Decimal]:
    return {
        (product.code, dimension.key): dimension.price
        for product in state.products.values()
        for dimension in product.dimensions.values()
    }


def _is_billed_twice(state: State, record: BilledRecord, agreement: Agreement, regions: set[str]) -> bool:
    """Whether the same usage was also billed under license or product code, or from another Region."""
    _, _, account, dimension, hour = record.key
    names = {record.key[1], agreement.license_arn or record.key[1], agreement.product_code}
    found = [
        state.billed.data.get((region, name, account, dimension, hour))
        for region in regions
        for name in names
    ]
    return sum(other is not None and other.agreement_id == record.agreement_id for other in found) > 1


def _total(
    names: tuple[str, str],
    total: _Sum,
    agreements: dict[str, Agreement],
    titles: dict[str, str],
    prices: dict[tuple[str, str], Decimal],
) -> Json:
    agreement_id, dimension = names
    agreement = agreements[agreement_id]
    price = prices.get((agreement.product_code, dimension), Decimal(0))
    due = (total.quantity - total.on_trial) * price
    return {
        "title": titles.get(agreement.product_code, agreement.product_code),
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


def _line(
    record: BilledRecord, agreements: dict[str, Agreement], titles: dict[str, str], billed_twice: bool
) -> Json:
    agreement = agreements[record.agreement_id]
    region, under, _, dimension, hour = record.key
    return {
        "hour": instant(hour),
        "region": region,
        "under": "license" if under == agreement.license_arn else "product code",
        "title": titles.get(agreement.product_code, agreement.product_code),
        "account": agreement.aws_account_id,
        "agreement_id": record.agreement_id,
        "url": url("subscriptions", record.agreement_id),
        "dimension": dimension,
        "quantity": plain(record.quantity),
        "is_trial": _is_trial(agreement, hour),
        "billed_twice": billed_twice,
        "allocations": [
            {
                "quantity": plain(share),
                "tags": ", ".join(f"{key}={value}" for key, value in tags) or "untagged",
            }
            for share, tags in record.allocations[:ALLOCATIONS_SHOWN]
        ],
        "allocations_left": max(0, len(record.allocations) - ALLOCATIONS_SHOWN),
    }


def _filters(
    agreement_id: str,
    dimension: str,
    agreements: dict[str, Agreement],
    titles: dict[str, str],
    dimensions: list[str],
) -> list[Field]:
    """The newest purchases to choose from; one chosen by its link is offered too, however old."""
    ids = list(reversed(agreements))[:CHOICES_OFFERED]
    if agreement_id and agreement_id not in ids:
        ids.append(agreement_id)
    if dimension and dimension not in dimensions:
        dimensions = [*dimensions, dimension]
    return [
        Field(
            "agreement",
            "Purchase",
            agreement_id,
            kind="select",
            options=(("", "All"), *((known, _named(known, agreements, titles)) for known in ids)),
        ),
        Field(
            "dimension",
            "Dimension",
            dimension,
            kind="select",
            options=(("", "All"), *((name, name) for name in dimensions)),
        ),
    ]


def _named(agreement_id: str, agreements: dict[str, Agreement], titles: dict[str, str]) -> str:
    agreement = agreements.get(agreement_id)
    if agreement is None:
        return agreement_id
    title = titles.get(agreement.product_code, agreement.product_code)
    return f"{title}, {agreement.aws_account_id}, …{agreement_id[-6:]}"
