"""A record's figures and frozen form, recomputed from its events and the entitlement timeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from billing.models import AuditEvent, MarketplaceEvent, MeteringRecord
from billing.reconciliation import split
from billing.reconciliation.allowance import Pools
from billing.reconciliation.breach import Breach
from billing.reconciliation.exact import millionths, plain
from billing.reconciliation.reading import Account, Tags

_HOUR = timedelta(hours=1)
_WINDOW = timedelta(hours=24)
_MONTH_END = timedelta(hours=6)  # last month's usage, until 06:00 UTC on the 1st
_UNSETTLED = ("due", "in_doubt", "waiting", "held")

Tagged = dict[Tags, int]


def check(account: Account) -> Iterator[Breach]:
    tagged: dict[int, Tagged] = defaultdict(lambda: defaultdict(int))
    for uses in account.uses:
        if uses.record is not None:
            tagged[uses.record][uses.tags] += uses.millionths
    yield from _misplaced(account)
    yield from _archived(account)
    archived = {record.pk for records in account.archived_records().values() for record in records}
    pools = Pools(account)
    for record in account.records:
        if record.hour not in account.span:
            pools.draw(record, millionths(record.included))  # not asked for: believed
            continue
        is_gone = record.state == "void" or record.pk in archived
        used = millionths(record.used) if is_gone else sum(tagged[record.pk].values())
        yield from _amounts(account, record, used)
        yield from _covered(account, record, used, pools)
        yield from _frozen(account, record)
        if record.state == "void":
            if tagged[record.pk]:
                yield account.breach("used", record, "it is void, and still has events", expected="no events")
            continue
        if record.pk in archived:
            continue  # verify_archive asks the tags of its file
        wrong = split.wrong(record.wire_allocations, tagged[record.pk], millionths(record.quantity))
        if wrong:
            yield account.breach("allocations", record, wrong)


def _archived(account: Account) -> Iterator[Breach]:
    """What left of a day is what its records say that was used."""
    names = {record.dimension_id: record.dimension.key for record in account.records}
    left: dict[tuple[int, date], int] = defaultdict(int)
    for one in account.archived:
        if one.disposition == "billable" and account.span.has_whole(one.day):
            left[one.dimension, one.day] += one.millionths
    records = account.archived_records()
    for (dimension, day), amount in left.items():
        used = sum(millionths(record.used) for record in records[dimension, day])
        if used != amount:
            yield Breach(
                "archived",
                f"of {day} {plain(amount)} used are archived, its records without uses say {plain(used)}",
                agreement=account.agreement.pk,
                dimension=names.get(dimension, f"#{dimension}"),
                expected=plain(amount),
                found=plain(used),
            )


def _misplaced(account: Account) -> Iterator[Breach]:
    records = {record.pk: record for record in account.records}
    for uses in account.uses:
        if uses.record is None:
            continue
        record = records.get(uses.record)
        if record is None:
            yield Breach(
                "misplaced_event",
                f"{plain(uses.millionths)} used stand in a record of another agreement",
                agreement=account.agreement.pk,
                record=uses.record,
                found=plain(uses.millionths),
            )
        elif record.dimension_id != uses.dimension:
            text = f"{plain(uses.millionths)} used of another dimension stand in it"
            yield account.breach("misplaced_event", record, text, found=plain(uses.millionths))
        elif uses.disposition != "billable":
            text = f"{plain(uses.millionths)} used that are {uses.disposition} stand in it"
            yield account.breach("misplaced_event", record, text, found=plain(uses.millionths))


def _amounts(account: Account, record: MeteringRecord, used: int) -> Iterator[Breach]:
    has = {name: millionths(getattr(record, name)) for name in ("used", "included", "quantity")}
    if has["used"] != used:
        yield account.breach(
            "used",
            record,
            f"its events add up to {plain(used)}, it says {plain(has['used'])}",
            expected=plain(used),
            found=plain(has["used"]),
        )
    billed = has["used"] - has["included"]
    if has["quantity"] != billed or min(has.values()) < 0:
        yield account.breach(
            "quantity",
            record,
            f"{plain(billed)} are beyond what is covered, it bills {plain(has['quantity'])}",
            expected=plain(billed),
            found=plain(has["quantity"]),
        )


def _covered(account: Account, record: MeteringRecord, used: int, pools: Pools) -> Iterator[Breach]:
    """Check the covered part, and draw what is right on the allowance."""
    told, expected = millionths(record.included), pools.included(record, used)
    is_known = told not in expected and told in pools.included_as_known(record, used)
    right = told if told in expected or is_known else expected[0]
    if told != right or is_known:
        if is_known:
            why = ", as the timeline was when it closed: it stays so"
        elif told in pools.included_if_told(record, used):
            why = ", as follows from a wrong one before it"
        else:
            why = ""
        yield account.breach(
            "included",
            record,
            f"{plain(expected[0])} are covered by the timeline of today, it says {plain(told)}{why}",
            expected=plain(expected[0]),
            found=plain(told),
            is_information=is_known,
        )
    pools.draw(record, right)


def _frozen(account: Account, record: MeteringRecord) -> Iterator[Breach]:
    text = plain(millionths(record.quantity))
    if record.wire_quantity != text:
        yield account.breach(
            "wire",
            record,
            f"AWS is told {record.wire_quantity}, the quantity is {text}",
            expected=text,
            found=record.wire_quantity,
        )
    started = account.agreement.activated_at
    at = max(record.hour, started) if started is not None else record.hour
    if record.wire_timestamp != at:
        # The hour is what counts; where in it the purchase began may be told later.
        same_hour = record.hour <= record.wire_timestamp < record.hour + _HOUR
        yield account.breach(
            "wire",
            record,
            f"AWS is told {record.wire_timestamp.isoformat()}, the hour's first metered instant is "
            f"{at.isoformat()}",
            expected=at.isoformat(),
            found=record.wire_timestamp.isoformat(),
            is_information=same_hour and _heard_since(account, record),
        )
    yield from _identity(account, record)
    yield from _deadline(account, record)


def _identity(account: Account, record: MeteringRecord) -> Iterator[Breach]:
    agreement, customer = account.agreement, account.agreement.customer
    columns = (
        record.wire_license_arn,
        record.wire_product_code,
        record.wire_account_id,
        record.wire_customer_identifier,
    )
    license_form = (agreement.license_arn, None, customer.aws_account_id, None)
    # The account may have become known after the hour was closed under the older id.
    legacy_forms = (
        (None, agreement.product.code, customer.aws_account_id, None),
        (None, agreement.product.code, None, customer.customer_identifier),
    )
    if agreement.identity == "license" and columns == license_form:
        return
    may_be_legacy = agreement.identity == "legacy" or _switched_since(account, record)
    if columns in legacy_forms and may_be_legacy:
        return
    forms = (license_form,) if agreement.identity == "license" else legacy_forms
    yield account.breach(
        "identity",
        record,
        "it is frozen under another identity than its agreement's",
        expected=" or ".join(_words(form) for form in forms),
        found=_words(columns),
    )


def _deadline(account: Account, record: MeteringRecord) -> Iterator[Breach]:
    hour = record.hour.astimezone(UTC)
    first = hour.replace(day=1, hour=0)
    next_month = (first + timedelta(days=32)).replace(day=1)
    window = min(hour + _WINDOW, next_month + _MONTH_END)
    closes_at = account.agreement.metering_closes_at
    by = min(window, closes_at) if closes_at is not None else window
    # What is settled keeps the deadline that it was settled under.
    if record.submit_by == by or (record.state not in _UNSETTLED and record.submit_by <= window):
        return
    yield account.breach(
        "deadline",
        record,
        f"AWS takes it until {by.isoformat()}, it says {record.submit_by.isoformat()}",
        expected=by.isoformat(),
        found=record.submit_by.isoformat(),
    )


def _heard_since(account: Account, record: MeteringRecord) -> bool:
    """Whether AWS told something of the purchase after the hour was closed."""
    events = MarketplaceEvent.objects.filter(agreement=account.agreement, state="applied")
    return events.filter(received_at__gte=record.closed_at).exists()


def _switched_since(account: Account, record: MeteringRecord) -> bool:
    links = AuditEvent.objects.filter(
        stream=f"agreement:{account.agreement.pk}", action="switched_to_license"
    )
    return links.filter(occurred_at__gte=_minute(record.closed_at)).exists()


def _minute(instant: datetime) -> datetime:
    # Two processes' clocks: which of two things came first is not told by seconds.
    return instant - timedelta(minutes=1)


def _words(columns: tuple[str | None, ...]) -> str:
    return "/".join(column or "-" for column in columns)
