"""The usage page's figures are those AWS bills, and they tie out: by hour, by day and by month."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from billing import metering, reconciliation, tenures, usage
from billing.aws.window import HOUR, hour_of
from billing.models import MeteringRecord, UsageEvent
from billing.usage_page import report as usage_report
from billing.usage_page.choice import choose
from billing.usage_page.export import lines
from billing.usage_page.periods import Grain
from billing.usage_page.sums import meters_of
from tests.billing.ledger import BEGIN, NOON, REGION, entitle, make_agreement, make_record, use

NOW = NOON + timedelta(minutes=20)
SEOUL = ZoneInfo("Asia/Seoul")


def report_of(organization, *, now=NOW, zone=UTC, **asked):
    held = tenures.read(organization)
    meters = meters_of(held)
    choice = choose(asked, meters, now=now, zone=zone)
    assert choice.complaints == []
    return usage_report.read(choice, meters, held, now=now, zone=zone)


def parts_of(figures):
    return figures.included + figures.billed + figures.waiting + figures.checked + figures.not_billed


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def flex(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    return agreement


def test_usage_shows_in_its_hour_before_and_after_it_closes(payg, acme):
    use(payg, 7, at=NOON - timedelta(minutes=30))
    before = report_of(acme, by="hour")
    metering.close_hours(region=REGION, now=NOON)
    after = report_of(acme, by="hour")

    for report, state in ((before, "open"), (after, "due")):
        used = {place.start: figures for place, figures in report.places if figures.used}
        assert {hour: each.by_state for hour, each in used.items()} == {NOON - HOUR: {state: 7}}
        assert report.total.used == 7


def test_late_usage_shows_in_the_hour_in_which_aws_bills_it_and_says_so(payg, acme):
    use(payg, 7, at=NOON - 3 * HOUR)
    metering.close_hours(region=REGION, now=NOON - 2 * HOUR)
    use(payg, 5, at=NOON - 3 * HOUR, now=NOON)

    waiting = report_of(acme, by="hour")
    assert (waiting.total.late, waiting.total.moved) == (5, 0)
    metering.close_hours(region=REGION, now=NOON)

    report = report_of(acme, by="hour")
    used = {place.start: (figures.used, figures.moved) for place, figures in report.places if figures.used}
    assert used == {NOON - 3 * HOUR: (7, 0), NOON - 2 * HOUR: (5, 5)}
    assert (report.total.late, report.total.used) == (0, 12)


def test_usage_of_the_hour_before_is_not_late_yet(payg, acme):
    use(payg, 7, at=NOON - timedelta(minutes=1))
    assert report_of(acme).total.late == 0
    assert report_of(acme, now=NOW + HOUR).total.late == 7


def test_every_state_has_its_words(payg, acme):
    states = [each for each in MeteringRecord.State.values if each != "not_due"]
    for number, state in enumerate(states, start=1):
        make_record(payg, NOON - number * HOUR, 2**number, state=state)
    dispositions = [each for each in UsageEvent.Disposition.values if each != "billable"]
    for number, disposition in enumerate(dispositions):
        event = use(payg, 2 ** (20 + number))
        UsageEvent.objects.filter(pk=event.pk).update(disposition=disposition)
    use(payg, 2**30, at=NOON, now=NOW)

    report = report_of(acme, by="hour")

    told = report.waiting + report.checked + report.not_billed
    assert all(str(line.label) and str(line.why) for line in told)
    assert sum(line.quantity for line in report.waiting) == report.total.waiting
    assert sum(line.quantity for line in report.checked) == report.total.checked
    assert sum(line.quantity for line in report.not_billed) == report.total.not_billed
    assert parts_of(report.total) == report.total.used
    not_void = sum(2**number for number, state in enumerate(states, start=1) if state != "void")
    assert report.total.used == not_void + sum(2**number for number in range(20, 24)) + 2**30


def test_a_void_record_s_usage_is_counted_once(payg, acme):
    use(payg, 7)
    metering.close_hours(region=REGION, now=NOON)
    MeteringRecord.objects.update(state="void")
    UsageEvent.objects.update(metering_record=None)
    UsageEvent.objects.update(disposition="too_late")

    total = report_of(acme).total

    assert (total.used, total.not_billed, total.by_state) == (7, 7, {"too_late": 7})


def test_days_are_the_reader_s_and_months_are_aws_s(payg, acme):
    make_record(payg, NOON.replace(day=22, hour=16), 5, state="accepted")  # the 23rd in Seoul

    by_day = report_of(acme, zone=SEOUL, by="day")
    assert [place.key.day for place, figures in by_day.places if figures.used] == [23]
    assert [place.key.day for place, figures in report_of(acme, by="day").places if figures.used] == [22]

    make_record(payg, NOON.replace(month=10, day=31, hour=16), 3, state="accepted")  # November in Seoul
    by_month = report_of(acme, zone=SEOUL, by="month")
    assert {place.key.month: figures.used for place, figures in by_month.places if figures.used} == {
        10: 3,
        11: 5,
    }


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul", "Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happened_every_period_ties_out_with_the_ledger(catalog, acme, flex, payg, zone, seed):
    """Recorded, cancelled, late, outside, closed at odd times and settled in every way."""
    _live(random.Random(seed), acme, [flex, payg])
    now, zone = NOON + timedelta(hours=30, minutes=20), ZoneInfo(zone)
    breaches = [each for each in reconciliation.verify() if each.kind == "equation"]
    assert breaches == []
    for dimension, expected in _by_hour().items():
        for period in ("24h", "7d", "31d", "12m", "2026-11"):
            _ties_out(acme, dimension, expected, period, now=now, zone=zone)


def _ties_out(acme, dimension, expected, period, *, now, zone):
    by_hour = None
    for grain in Grain:
        held = tenures.read(acme)
        meters = meters_of(held)
        asked = {"dimension": str(dimension), "period": period, "by": grain.value}
        choice = choose(asked, meters, now=now, zone=zone)
        if choice.complaints:
            continue
        report = usage_report.read(choice, meters, held, now=now, zone=zone)
        assert parts_of(report.total) == report.total.used
        for place, figures in report.places:
            assert parts_of(figures) == figures.used
            told = sum(
                (each for hour, each in expected.items() if place.start <= hour < place.end), Decimal(0)
            )
            assert figures.used == told
        within = [each for hour, each in expected.items() if choice.period.start <= hour < choice.period.end]
        assert report.total.used == sum(within, Decimal(0))
        assert by_hour in (None, report.total.by_state)
        by_hour = report.total.by_state


def _by_hour():
    """From the events alone: by dimension and the hour in which each counts."""
    sums = defaultdict(lambda: defaultdict(Decimal))
    for event in UsageEvent.objects.select_related("metering_record"):
        record = event.metering_record
        hour = record.hour if record else hour_of(event.occurred_at)
        sums[event.dimension_id][hour] += event.quantity
    return sums


def _live(chance, acme, agreements):
    now = NOON - timedelta(hours=20)
    keys = []
    for number in range(60):
        now += timedelta(minutes=chance.randrange(50))
        agreement = chance.choice(agreements)
        at = now - timedelta(minutes=chance.choice([0, 0, 0, 90, 700, 1700]))
        keys.append(f"k{number}")
        use(agreement, Decimal(chance.randrange(1, 40_000_000)).scaleb(-6), at=max(at, BEGIN - HOUR), now=now,
            key=keys[-1], tags=chance.choice([None, {"team": "ml"}, {"team": "art"}]))  # fmt: skip
        if chance.random() < 0.1:
            try:
                usage.cancel(acme, chance.choice(keys), reason="r", now=now)
            except usage.AlreadyMetered:
                pass
        if chance.random() < 0.3:
            metering.close_hours(region=REGION, now=now)
    states = [
        "due",
        "in_doubt",
        "waiting",
        "accepted",
        "conflict",
        "parked",
        "held",
        "expired",
        "written_off",
    ]
    for record in MeteringRecord.objects.exclude(state="not_due"):
        MeteringRecord.objects.filter(pk=record.pk).update(state=chance.choice(states))


def test_purchases_are_told_together_or_each_alone(catalog, acme, payg):
    other = make_agreement(catalog, acme)
    make_record(payg, NOON - HOUR, 5)
    make_record(other, NOON - HOUR, 3)

    assert report_of(acme).total.used == 8
    assert report_of(acme, agreement=str(other.pk)).total.used == 3


def test_every_dimension_s_period_is_told_beside_the_chosen_one(acme, payg, flex):
    make_record(payg, NOON - HOUR, 5)
    make_record(flex, NOON - HOUR, 3)

    told = {meter.product: figures.used for meter, figures in report_of(acme).meters}

    assert told == {"Acme Reports Flex": 3, "Acme Reports Pay As You Go": 5}


def test_tags_are_those_of_aws_s_bill(acme, payg):
    use(payg, 30, tags={"team": "ml"})
    use(payg, 12, tags={"team": "art", "project": "x"})
    use(payg, "0.5")
    metering.close_hours(region=REGION, now=NOON)
    use(payg, 99, tags={"team": "open"}, at=NOON, now=NOW)
    make_record(payg, NOON - 5 * HOUR, 8, state="accepted")

    tags = report_of(acme).tags

    told = [(dict(share.tags), share.billed, share.sending) for share in tags.shown]
    assert told == [
        ({"team": "ml"}, 0, 30),
        ({"project": "x", "team": "art"}, 0, 12),
        ({}, 8, Decimal("0.5")),
    ]
    assert tags.others is None


def test_tags_of_what_aws_never_bills_are_left_out(acme, payg):
    use(payg, 30, tags={"team": "ml"})
    metering.close_hours(region=REGION, now=NOON)
    MeteringRecord.objects.update(state="written_off")

    assert report_of(acme).tags is None


def test_more_tags_than_a_page_shows_are_summed(acme, payg):
    for number in range(60):
        use(payg, 1 + number, tags={"team": f"t{number}"})
    metering.close_hours(region=REGION, now=NOON)

    tags = report_of(acme).tags

    assert (len(tags.shown), tags.others_count, tags.others.sending) == (50, 10, sum(range(1, 11)))


def test_overage_is_shared_among_tags_as_it_was_frozen(acme, flex):
    use(flex, 90, tags={"team": "ml"})
    use(flex, 60, tags={"team": "art"})
    metering.close_hours(region=REGION, now=NOON)

    assert {share.tags[0][1]: share.sending for share in report_of(acme).tags.shown} == {"ml": 30, "art": 20}


def test_what_is_over_and_settled_is_final(acme, payg):
    record = make_record(payg, NOON.replace(month=10), 5)
    assert not report_of(acme, period="2026-10").is_final
    MeteringRecord.objects.filter(pk=record.pk).update(state="accepted")
    assert report_of(acme, period="2026-10").is_final
    assert not report_of(acme).is_final


@pytest.mark.parametrize(
    ("state", "is_final"),
    [
        ("accepted", True), ("not_due", True), ("written_off", True), ("expired", True), ("due", False),
        ("in_doubt", False), ("waiting", False), ("held", False), ("parked", False), ("conflict", False),
    ],
)  # fmt: skip
def test_what_aws_or_a_person_has_yet_to_settle_is_not_final(acme, payg, state, is_final):
    included = {"used": 5, "included": 5} if state == "not_due" else {}
    make_record(payg, NOON.replace(month=10), 0 if included else 5, state=state, **included)

    report = report_of(acme, period="2026-10")
    [line] = [line for line in lines(report) if ",5," in line]

    assert report.is_final is is_final
    assert line.endswith(f",{'yes' if is_final else 'no'}\r\n")


@pytest.mark.parametrize(
    ("hour", "now", "is_over"),
    [
        (NOON, NOON + 24 * HOUR - timedelta(seconds=1), False),  # AWS takes usage of it for a day
        (NOON, NOON + 24 * HOUR, True),
        (NOON.replace(month=10, day=31), NOON.replace(day=1, hour=5), False),  # until the month is settled
        (NOON.replace(month=10, day=31), NOON.replace(day=1, hour=6), True),
    ],
)
def test_an_hour_is_over_when_aws_takes_nothing_of_it(acme, payg, hour, now, is_over):
    report = report_of(acme, by="hour", period="31d", now=now)
    assert {place.start: place.is_over for place, _ in report.places}[hour] is is_over


def test_what_is_being_checked_stands_apart(acme, payg):
    make_record(payg, NOON - HOUR, 5, state="conflict")
    make_record(payg, NOON - 2 * HOUR, 3, state="parked")
    make_record(payg, NOON - 3 * HOUR, 2, state="expired")

    report = report_of(acme)

    assert (report.total.checked, report.total.not_billed) == (8, 2)
    assert [str(line.label) for line in report.checked] == ["AWS has another figure", "Not accepted by AWS"]
    assert [str(line.label) for line in report.not_billed] == ["Not confirmed in time"]


def test_csv_is_exact_in_utc_and_has_the_hours_without_usage(acme, payg):
    make_record(payg, NOON - HOUR, "9999999999.999999", state="accepted")
    use(payg, "0.000001", at=NOON, now=NOW)

    text = list(lines(report_of(acme, zone=SEOUL, by="hour")))

    assert len(text) == 25
    assert text[0].startswith("from,until,product,dimension,unit,used,")
    assert text[-2] == (
        "2026-11-23T11:00:00Z,2026-11-23T12:00:00Z,Acme Reports Pay As You Go,pages,pages,"
        "9999999999.999999,0,9999999999.999999,0,0,0,0,no\r\n"
    )
    assert text[-1].endswith("pages,0.000001,0,0,0,0.000001,0,0,no\r\n")
    assert text[1].endswith("pages,0,0,0,0,0,0,0,no\r\n")
    assert list(lines(report_of(acme, zone=SEOUL, by="hour", period="7d")))[1].endswith(",0,0,yes\r\n")


@pytest.mark.parametrize("title", ['=HYPERLINK("x")', "+1", "-1", "@SUM(1)", "\t=1", '"; DROP'])
def test_csv_holds_no_formula(acme, payg, title):
    payg.product.title = title
    payg.product.save()

    line = list(lines(report_of(acme, by="hour")))[1]

    assert not any(cell.strip('"').lstrip().startswith(("=", "+", "-", "@")) for cell in line.split(","))


def test_the_same_now_for_everybody(acme, payg):
    """What is asked a moment later has moved on: nothing reads a clock of its own."""
    use(payg, 5, at=NOON, now=NOW)
    assert report_of(acme, by="hour").total.used == 5
    assert report_of(acme, by="hour", now=timezone.now().replace(year=2031)).total.used == 0
