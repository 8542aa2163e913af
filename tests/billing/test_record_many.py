"""Many uses at once say and store what one at a time would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from datetime import timezone as zone
from decimal import Decimal

import pytest
from django.db import transaction

from billing import usage
from billing.models import Agreement, UsageEvent
from billing.recording import many
from billing.spool import Spool
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, make_agreement

NOW = NOON + timedelta(minutes=30)


@pytest.fixture(params=[1, 3, many.CHUNK], autouse=True)
def _chunks(request, monkeypatch):
    """What comes in one chunk or in many makes no difference."""
    monkeypatch.setattr(many, "CHUNK", request.param)


@pytest.fixture
def payg(catalog, acme) -> Agreement:
    return make_agreement(catalog, acme)


@pytest.fixture
def use(acme):
    def make(key="a", quantity=1, **more):
        return {"organization": acme, "dimension": "pages", "quantity": quantity, "key": key, **more}

    return make


def record_many(*rows, now=NOW, **options) -> usage.Report:
    return usage.record_many(rows, now=now, **options)


def reasons(report: usage.Report) -> list[tuple[int, str]]:
    return [(refusal.number, refusal.reason) for refusal in report.refused]


def stored() -> dict[str, UsageEvent]:
    return {event.key: event for event in UsageEvent.objects.all()}


def test_uses_are_stored_as_they_were_told(payg, acme, use):
    at = NOW - timedelta(minutes=40)
    seoul = at.astimezone(zone(timedelta(hours=9)))
    key = "tab\tnew\nline\r back\\slash \\N größe"
    report = record_many(
        use("plain", 3),
        use(key, "0.000001", tags={"team": "ml", "a b": "+-=._:/@"}, occurred_at=seoul),
        usage.Use(acme.pk, "pages", Decimal("9999999999.999999"), "by ids", None, at, payg.pk),
    )

    assert report.accepted == {"billable": 3}
    assert (len(report.known), len(report.refused)) == (0, 0)
    events = stored()
    assert {key: event.quantity for key, event in events.items()} == {
        "plain": 3, key: Decimal("0.000001"), "by ids": Decimal("9999999999.999999"),
    }  # fmt: skip
    assert events[key].tags == {"team": "ml", "a b": "+-=._:/@"}
    assert [events[name].occurred_at for name in ("plain", key, "by ids")] == [NOW, at, at]
    for event in events.values():
        assert (event.organization, event.agreement, event.dimension.key) == (acme, payg, "pages")
        assert (event.recorded_at, event.metering_record) == (NOW, None)


def test_nothing_comes_of_nothing(payg):
    report = record_many()
    assert (report.accepted, list(report.known), list(report.refused)) == ({}, [], [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": -1}, {"quantity": 0.5}, {"quantity": True}, {"quantity": "NaN"}, {"quantity": "1e400"},
        {"quantity": "1.00000000000000000000000000000000001"}, {"quantity": None}, {"quantity": [1]},
        {"quantity": 10**10}, {"quantity": "9999999999.9999991"}, {"quantity": Decimal("1e999999")},
        {"dimension": "sheets"}, {"dimension": ""}, {"dimension": None}, {"dimension": ["pages"]},
        {"dimension": "p\x00"}, {"dimension": "\ud800"}, {"dimension": "p" * 256},
        {"key": ""}, {"key": "k" * 201}, {"key": "a\x00b"}, {"key": 7}, {"key": None}, {"key": "\ud800"},
        {"tags": {"team": ""}}, {"tags": {"team": 5}}, {"tags": {"team": ["ml"]}}, {"tags": {5: "ml"}},
        {"tags": {"team": "ml\n"}}, {"tags": {str(n): "x" for n in range(6)}}, {"tags": "team=ml"},
        {"occurred_at": "2026-11-23T12:00:00Z"}, {"occurred_at": datetime(2026, 11, 23)},  # noqa: DTZ001
        {"occurred_at": NOW + timedelta(minutes=5, microseconds=1)},
        {"occurred_at": datetime(1, 1, 1, tzinfo=zone(timedelta(hours=14)))},
        {"occurred_at": datetime(2015, 12, 31, tzinfo=UTC)},
    ],
)  # fmt: skip
def test_a_refused_use_fails_no_other_and_says_what_record_says(payg, acme, use, wrong):
    row = {**use("bad"), **wrong}
    values = dict(row)
    organization, dimension, quantity = (values.pop(name) for name in list(row)[:3])
    with pytest.raises(usage.UsageRefused) as said:
        usage.record(organization, dimension, quantity, now=NOW, **values)

    report = record_many(use("1"), row, use("2"))

    assert set(stored()) == {"1", "2"}
    [refusal] = report.refused
    assert (refusal.number, refusal.row, refusal.reason) == (2, row, str(said.value))


@pytest.mark.parametrize(
    "row",
    [
        None, 7, "text", (), {}, {"key": "a"},
        {"organization": 1, "dimension": "pages", "quantity": 1, "key": "a", "colour": "red"},
        {"organization": None, "dimension": "pages", "quantity": 1, "key": "a"},
        {"organization": "acme", "dimension": "pages", "quantity": 1, "key": "a"},
        {"organization": 2**70, "dimension": "pages", "quantity": 1, "key": "a"},
        {"organization": 987654, "dimension": "pages", "quantity": 1, "key": "a"},
        {"organization": 1, "dimension": "pages", "quantity": 1, "key": "a", 5: 6},
    ],
)  # fmt: skip
def test_a_row_that_is_no_use_is_refused(payg, use, row):
    report = record_many(row, use("good"))

    assert set(stored()) == {"good"}
    assert [refusal.number for refusal in report.refused] == [1]


def test_a_row_that_cannot_be_kept_is_told_by_its_text(payg, use):
    report = record_many(lambda: None)
    [refusal] = report.refused
    assert refusal.row.startswith("<function")


def test_agreements_are_chosen_as_record_chooses(catalog, acme, outsider, use):
    old = make_agreement(catalog, acme, ended_at=NOW - timedelta(hours=2), status="ended")
    new = make_agreement(catalog, acme, activated_at=NOW - timedelta(hours=2))
    flex = make_agreement(catalog, acme, "reports-flex", activated_at=NOW - timedelta(minutes=10))
    theirs = make_agreement(catalog, outsider.organizations.get())

    report = record_many(
        use("before", occurred_at=NOW - timedelta(hours=2, seconds=1)),
        use("after", occurred_at=NOW - timedelta(hours=2)),
        use("given", agreement=flex),
        use("ambiguous"),
        use("theirs", agreement=theirs),
        use("entitled", agreement=flex, dimension="included_pages"),
        use("other", agreement=flex.pk, dimension="sheets"),
        use("outside", agreement=old),
        use("late", occurred_at=NOW - timedelta(hours=25), agreement=old),
    )

    events = stored()
    assert {key: event.agreement for key, event in events.items()} == {
        "before": old, "after": new, "given": flex, "outside": old, "late": old,
    }  # fmt: skip
    assert {key: event.disposition for key, event in events.items() if event.disposition != "billable"} == {
        "outside": "outside_agreement", "late": "too_late",
    }  # fmt: skip
    assert report.accepted == {"billable": 3, "outside_agreement": 1, "too_late": 1}
    assert dict(reasons(report)) == {
        4: "agreement: 2 active agreements have the dimension 'pages'; say which one.",
        5: "agreement: belongs to another organization.",
        6: "dimension: 'included_pages' is bought ahead, not metered.",
        7: "dimension: Reports Flex has no dimension 'sheets'. Names are case-sensitive.".replace(
            "Reports Flex", str(flex.product)
        ),
    }


def test_usage_is_too_late_once_the_agreements_metering_is_closed(catalog, acme, use):
    make_agreement(catalog, acme, status="ended", ended_at=NOW - timedelta(hours=1), closes_at=NOW)
    row = use("a", occurred_at=NOW - timedelta(minutes=61))
    record_many(row, now=NOW - timedelta(microseconds=1))
    record_many({**row, "key": "b"})

    assert {key: event.disposition for key, event in stored().items()} == {"a": "billable", "b": "too_late"}


def test_the_same_again_is_known_and_other_content_is_refused(payg, acme, use):
    first = usage.record(acme, "pages", "3.50", key="a", tags={"x": "1", "y": "2"}, now=NOW)

    report = record_many(
        use("a", Decimal("3.5"), tags={"y": "2", "x": "1"}),
        use("a", "3.5", tags={"y": "2", "x": "1"}, occurred_at=NOW),
        use("a", 3.5),
        use("a", 4, tags={"x": "1", "y": "2"}),
        use("a", "3.5"),
        use("a", "3.5", tags={"x": "1", "y": "2"}, occurred_at=NOW - timedelta(seconds=1)),
        use("a", "3.5", tags={"x": "1", "y": "2"}, dimension="sheets"),
        use("b"),
        now=NOW + timedelta(days=3),
    )  # fmt: skip

    assert stored()["a"] == first
    assert list(report.known) == [(1, acme.pk, "a"), (2, acme.pk, "a")]
    assert [number for number, _ in reasons(report)] == [3, 4, 5, 6, 7]
    assert [reason.startswith("The key 'a' was used before") for _, reason in reasons(report)][1:] == [
        True
    ] * 4
    assert set(stored()) == {"a", "b"}


def test_of_one_key_told_twice_in_a_call_the_first_counts(payg, acme, use):
    report = record_many(
        use("a", 3), use("b"), use("a", "3.0"), use("a", 4), use("a", 3, occurred_at=NOW), use("c"),
        use("a", 3, dimension="sheets"),
    )  # fmt: skip

    assert {key: event.quantity for key, event in stored().items()} == {"a": 3, "b": 1, "c": 1}
    assert [each.number for each in report.known] == [3, 5]
    assert [number for number, _ in reasons(report)] == [4, 7]
    assert report.accepted == {"billable": 3}


def test_a_refused_use_does_not_take_the_key(payg, use):
    report = record_many(use("a", dimension="sheets"), use("a", -1), use("a", 5))

    assert stored()["a"].quantity == 5
    assert [number for number, _ in reasons(report)] == [1, 2]
    assert "no product that" in reasons(report)[0][1]


def test_what_is_known_stays_known_after_the_purchase_moved_away(catalog, acme, outsider, use):
    agreement = make_agreement(catalog, acme)
    record_many(use("a", 3))
    Agreement.objects.filter(pk=agreement.pk).update(organization=outsider.organizations.get())

    report = record_many(use("a", 3), use("b", 3))

    assert [each.key for each in report.known] == ["a"]
    assert [number for number, _ in reasons(report)] == [2]


def test_two_organizations_may_use_the_same_key(catalog, payg, outsider, use):
    other = outsider.organizations.get()
    make_agreement(catalog, other)

    report = record_many(use("a", 3), use("a", 5, organization=other), use("a", 3))

    assert report.accepted == {"billable": 2}
    assert len(report.known) == 1


def test_rows_that_break_off_store_nothing(payg, use):
    def rows():
        yield use("a")
        yield use("b")
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        usage.record_many(rows(), now=NOW)

    assert not UsageEvent.objects.exists()


def test_rows_may_be_read_from_the_database_meanwhile(payg, acme, use):
    def rows():
        for number in range(7):
            yield use(str(number), UsageEvent.objects.count() + 1)

    assert usage.record_many(rows(), now=NOW).accepted == {"billable": 7}


def test_uses_are_part_of_the_callers_transaction(payg, use):
    with transaction.atomic():
        record_many(use("a"))
        record_many(use("a"), use("b"))
        transaction.set_rollback(True)

    assert not UsageEvent.objects.exists()


def test_the_report_can_be_read_more_than_once(payg, use):
    record_many(use("a"))
    report = record_many(use("a"), None, use("a"), None)

    for _ in range(2):
        assert [each.number for each in report.known] == [1, 3]
        assert [each.number for each in report.refused] == [2, 4]
    pairs = zip(report.refused, report.refused, strict=True)  # and twice at once
    assert all(one == other for one, other in pairs)


def test_a_dry_run_tells_the_same_and_stores_nothing(payg, use):
    record_many(use("known"))
    rows = [use("known"), use("known", 2), use("new"), use("bad", -1), use("none", dimension="sheets")]

    told, done = record_many(*rows, dry_run=True), record_many(*rows)

    assert told.accepted == done.accepted == {"billable": 1}
    assert (list(told.known), list(told.refused)) == (list(done.known), list(done.refused))
    assert set(stored()) == {"known", "new"}
    record_many(use("dry"), dry_run=True)
    assert "dry" not in stored()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_with_the_same_uses_store_each_once(payg, use):
    def call():
        return record_many(*(use(str(number)) for number in range(50)))

    reports = at_once(call, call)

    assert UsageEvent.objects.count() == 50
    assert sum(report.accepted["billable"] for report in reports) == 50
    assert sum(len(report.known) for report in reports) == 50


def test_a_spool_outgrows_memory_and_loses_nothing(monkeypatch):
    monkeypatch.setattr("billing.spool._IN_MEMORY", 1000)
    spool: Spool[int] = Spool()
    for number in range(5000):
        spool.append(number)
        if number == 2500:
            assert next(iter(spool)) == 0  # reading does not disturb writing
    assert list(spool) == list(range(5000))
