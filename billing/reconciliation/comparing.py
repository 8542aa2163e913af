"""What AWS billed against what it had accepted, by purchase, dimension and day: why they differ.

AWS tells days, so days are compared, also where a report tells hours. A full join has no portable SQL: both
sides are laid in one heap and added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from django.db import connection

from billing.models import Dimension, MeteringRecord, UsageReport, UsageReportLine
from billing.reconciliation.months import Group, Month, Scope


@dataclass(frozen=True, slots=True)
class Variance:
    """In millionths. billed - accepted = the sum of the four ways to differ."""

    accepted: int = 0
    billed: int = 0
    not_reported: int = 0  # days that AWS has not told yet: less than nothing
    missing: int = 0  # accepted, and not billed
    extra: int = 0  # billed, and not accepted
    other: int = 0  # another quantity than was accepted

    @property
    def difference(self) -> int:
        return self.billed - self.accepted

    @property
    def unexplained(self) -> int:
        return self.difference - self.not_reported

    @property
    def differs(self) -> bool:
        """Even where what is missing and what is too much are equal."""
        return bool(self.missing or self.extra or self.other)

    def __add__(self, other: Variance) -> Variance:
        return Variance(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True, slots=True)
class Told:
    """Until which day of a month AWS's reports tell of each dimension's product."""

    until: Mapping[int, date]
    newest: UsageReport | None

    @property
    def is_any(self) -> bool:
        return bool(self.until)


def told(month: Month, dimensions: Iterable[Dimension]) -> Told:
    """Of ``dimensions`` (with their products): a report tells from the month's first day to its last one."""
    first, last = month.start.date(), month.days[-1]
    reports = UsageReport.objects.filter(last_day__gte=first, first_day__lte=last).order_by("-pk")
    by_code: dict[str, date] = {}
    newest = None
    for report in reports:
        newest = newest or report
        for code, *days in report.covers:
            since, end = map(date.fromisoformat, days)
            if since <= last and end >= first:
                by_code[code] = max(min(end, last), by_code.get(code, first))
    until: dict[int, date] = {}
    for each in dimensions:
        days = [by_code[name] for name in (each.product.code, each.product.product_id) if name in by_code]
        if days:
            until[each.pk] = max(days)
    return Told(until, newest)


def compare(scope: Scope, until: Mapping[int, date], *by: str) -> dict[Group, Variance]:
    """The variance by ``agreement``, ``dimension`` and ``day``. Agreement None: no purchase of ours."""
    columns = {"agreement": "agreement_id", "dimension": "dimension_id", "day": "day"}
    group = ", ".join(columns[name] for name in by)
    heap, parameters = _heap(scope)
    is_told, told_parameters = _is_told(until)
    sql = f"""
        WITH heap AS ({heap}),
        unit AS (
            SELECT agreement_id, dimension_id, day, SUM(accepted) AS accepted, SUM(billed) AS billed
            FROM heap GROUP BY agreement_id, dimension_id, day
        ),
        explained AS (SELECT *, {is_told} AS is_told FROM unit)
        SELECT {f"{group}," if group else ""} SUM(accepted), SUM(billed),
            SUM(CASE WHEN is_told = 0 THEN billed - accepted ELSE 0 END),
            SUM(CASE WHEN is_told = 1 AND billed = 0 THEN -accepted ELSE 0 END),
            SUM(CASE WHEN is_told = 1 AND accepted = 0 THEN billed ELSE 0 END),
            SUM(CASE WHEN is_told = 1 AND billed <> 0 AND accepted <> 0 THEN billed - accepted ELSE 0 END)
        FROM explained {f"GROUP BY {group}" if group else ""}"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [*parameters, *told_parameters])
        rows = cursor.fetchall()
    return {
        tuple(_value(name, value) for name, value in zip(by, row, strict=False)): Variance(
            *(int(amount or 0) for amount in row[len(by) :])
        )
        for row in rows
    }


def _heap(scope: Scope) -> tuple[str, list[Any]]:
    record, line = MeteringRecord._meta.db_table, UsageReportLine._meta.db_table
    is_postgresql = connection.vendor == "postgresql"
    day = "(hour AT TIME ZONE 'UTC')::date" if is_postgresql else "substr(hour, 1, 10)"
    ours, parameters = _where(scope)
    adapt = connection.ops.adapt_datetimefield_value
    adapt_day = connection.ops.adapt_datefield_value
    bounds = [adapt(scope.since), adapt(scope.until)]
    days = [adapt_day(scope.since.date()), adapt_day(scope.until.date())]
    heap = f"""
        SELECT agreement_id, dimension_id, {day} AS day, quantity AS accepted, 0 AS billed
        FROM {record} WHERE state = 'accepted' AND hour >= %s AND hour < %s {ours}
        UNION ALL
        SELECT agreement_id, dimension_id, day, 0, quantity
        FROM {line} WHERE replaced_by_id IS NULL AND dimension_id IS NOT NULL
            AND day >= %s AND day < %s {ours}"""
    return heap, [*bounds, *parameters, *days, *parameters]


def _where(scope: Scope) -> tuple[str, list[Any]]:
    clauses, parameters = [], []
    if scope.agreement is not None:
        clauses.append("AND agreement_id = %s")
        parameters.append(scope.agreement)
    if scope.among is not None:
        clauses.append(f"AND agreement_id IN ({', '.join(['%s'] * len(scope.among)) or 'NULL'})")
        parameters += scope.among
    if scope.dimension is not None:
        clauses.append("AND dimension_id = %s")
        parameters.append(scope.dimension)
    elif scope.product is not None:
        of_it = f"SELECT id FROM {Dimension._meta.db_table} WHERE product_id = %s"
        clauses.append(f"AND dimension_id IN ({of_it})")
        parameters.append(scope.product)
    return " ".join(clauses), parameters


def _is_told(until: Mapping[int, date]) -> tuple[str, list[Any]]:
    if not until:
        return "0", []
    day = "%s::date" if connection.vendor == "postgresql" else "%s"
    cases = " ".join(f"WHEN dimension_id = %s AND day <= {day} THEN 1" for _ in until)
    adapt = connection.ops.adapt_datefield_value
    return f"CASE {cases} ELSE 0 END", [
        value for dimension, last in until.items() for value in (dimension, adapt(last))
    ]


def _value(name: str, value: Any) -> Any:
    """SQLite has texts for days."""
    return date.fromisoformat(value) if name == "day" and isinstance(value, str) else value
