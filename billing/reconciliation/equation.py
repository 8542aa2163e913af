"""Recorded = Σ included + Σ quantity by state + open + each other disposition, of each dimension."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from billing.reconciliation.breach import Breach
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.reading import Account


def check(account: Account) -> Iterator[Breach]:
    recorded: dict[int, int] = defaultdict(int)
    parts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    names: dict[int, str] = {}
    for uses in account.uses:
        recorded[uses.dimension] += uses.millionths
        if uses.record is None:
            part = "open" if uses.disposition == "billable" else uses.disposition.replace("_", " ")
            parts[uses.dimension][part] += uses.millionths
    torn = set()  # records of days that are not asked for as a whole: what is archived of those is no sum
    for one in account.archived:
        if account.span.has_whole(one.day):
            recorded[one.dimension] += one.millionths
            if one.disposition != "billable":
                parts[one.dimension][one.disposition.replace("_", " ")] += one.millionths
    for (_, day), records in account.archived_records().items():
        if not account.span.has_whole(day):
            torn |= {record.pk for record in records}
    for record in account.checked():
        if record.state == "void" or record.pk in torn:
            continue  # the events of a void one are back among the others
        names[record.dimension_id] = record.dimension.key
        parts[record.dimension_id]["included"] += millionths(record.included)
        parts[record.dimension_id][f"billed {record.state}"] += millionths(record.quantity)
    for dimension in recorded.keys() | parts.keys():
        total = sum(parts[dimension].values())
        if recorded[dimension] != total:
            summands = ", ".join(f"{name} {plain(part)}" for name, part in sorted(parts[dimension].items()))
            yield Breach(
                "equation",
                f"{plain(recorded[dimension])} were recorded, but the parts are {plain(total)}: {summands}",
                agreement=account.agreement.pk,
                dimension=names.get(dimension, f"#{dimension}"),
                expected=plain(recorded[dimension]),
                found=plain(total),
            )
