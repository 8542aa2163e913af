"""Whose a purchase was when: after a move everything counts once, and nobody sees what others used."""

from __future__ import annotations

import json
from datetime import UTC, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization
from billing import exporting, gates, leaving, metering, retention, subscriptions, tenures, transfers, usage
from billing.aws.window import HOUR, hour_of
from billing.models import Agreement, AgreementMove, MeteringRecord, Registration, UsageArchiveTotal
from billing.tenures import Span
from billing.usage_page import report as usage_report
from billing.usage_page.choice import choose
from billing.usage_page.export import lines
from billing.usage_page.sums import meters_of
from tests.billing.ledger import BEGIN, NOON, REGION, entitle, make_agreement, make_record, use

MOVED = NOON + timedelta(minutes=20)
NOW = NOON + timedelta(hours=5, minutes=20)


@pytest.fixture
def globex(outsider):
    return Organization.objects.get(memberships__user=outsider)


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def flex(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    entitle(agreement, 100)
    return agreement


@pytest.fixture
def move(acme_admin):
    def make(agreement, to, *, at=MOVED):
        transfers.transfer(agreement.pk, to=to, by=acme_admin, reason="wrong one", now=at)
        agreement.refresh_from_db()

    return make


def report_of(organization, *, now=NOW, **asked):
    held = tenures.read(organization)
    meters = meters_of(held)
    choice = choose(asked, meters, now=now, zone=UTC)
    assert choice.complaints == []
    return usage_report.read(choice, meters, held, now=now, zone=UTC)


def used_by_hour(organization):
    report = report_of(organization, by="hour")
    return {place.start: figures.used for place, figures in report.places if figures.used}


def exported(organization):
    return {name: list(rows) for name, rows in exporting.of_organization(organization)}


# --- When


def test_each_has_it_for_its_time(payg, acme, globex, move):
    assert tenures.read(acme).moved == {}
    move(payg, globex, at=MOVED)
    move(payg, acme, at=MOVED + HOUR)

    assert tenures.read(acme).moved == {payg.pk: [Span(None, MOVED), Span(MOVED + HOUR, None)]}
    assert tenures.read(globex).moved == {payg.pk: [Span(MOVED, MOVED + HOUR)]}


def test_who_never_had_it_has_no_time(payg, globex, move, make_user):
    third = organizations.create(name="Third", owner=make_user("t@third.example"))
    move(payg, globex)
    assert tenures.read(third).moved == {}
    assert meters_of(tenures.read(third)) == []


def test_clocks_that_disagree_make_no_instant_two_workspaces(payg, acme, globex, move):
    move(payg, globex, at=MOVED + HOUR)
    move(payg, acme, at=MOVED)  # by a server whose clock is behind

    assert tenures.read(acme).moved == {payg.pk: [Span(None, MOVED + HOUR), Span(MOVED + HOUR, None)]}
    assert tenures.read(globex).moved == {payg.pk: [Span(MOVED + HOUR, MOVED + HOUR)]}


def test_its_renewal_has_a_move_of_its_own(catalog, acme, globex, move):
    first = make_agreement(catalog, acme)
    last = make_agreement(catalog, acme, activated_at=None, previous=first)
    move(first, globex)
    assert set(AgreementMove.objects.values_list("agreement", flat=True)) == {first.pk, last.pk}


# --- Usage


def test_closed_hours_count_for_who_had_the_purchase_in_them(payg, acme, globex, move):
    make_record(payg, NOON - HOUR, 5, state="accepted")
    make_record(payg, NOON, 7, state="accepted")  # of the move
    make_record(payg, NOON + HOUR, 11, state="accepted")
    move(payg, globex)

    assert used_by_hour(acme) == {NOON - HOUR: 5}
    assert used_by_hour(globex) == {NOON: 7, NOON + HOUR: 11}


def test_an_hour_in_which_it_moved_twice_counts_for_the_last(payg, acme, globex, move):
    make_record(payg, NOON, 7, state="accepted")
    move(payg, globex, at=MOVED)
    move(payg, acme, at=MOVED + timedelta(minutes=5))
    assert used_by_hour(acme) == {NOON: 7}
    assert used_by_hour(globex) == {}


def test_open_and_unbilled_usage_counts_for_who_used_it(payg, acme, globex, move):
    use(payg, 5, at=NOON)
    use(payg, 3, at=BEGIN - HOUR, now=NOON)  # outside
    use(payg, 2, at=NOON, key="back")
    usage.cancel(acme, "back", reason="r", now=NOON)
    move(payg, globex)
    use(payg, 7, at=MOVED)

    ours, theirs = (report_of(each, period="31d").total for each in (acme, globex))
    assert ours.by_state == {"open": 5, "outside_agreement": 3, "cancelled": 2}
    assert theirs.by_state == {"open": 7}


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
@pytest.mark.parametrize("back", [False, True])
def test_together_they_have_all_of_it_and_each_ties_out(payg, acme, globex, move, grain, back):
    for number in range(8):
        use(payg, 2**number, at=NOON - number * HOUR, now=NOON)
    use(payg, 1000, at=NOON - 2 * HOUR, now=NOON, key="back")
    usage.cancel(acme, "back", reason="r", now=NOON)
    metering.close_hours(region=REGION, now=NOON)
    use(payg, 5000, at=NOON - 3 * HOUR, now=MOVED)  # late: billed with a later hour
    move(payg, globex)
    use(payg, 10_000, at=MOVED + HOUR)
    if back:
        move(payg, acme, at=MOVED + 2 * HOUR)
        use(payg, 20_000, at=MOVED + 3 * HOUR)
    metering.close_hours(region=REGION, now=NOW - 2 * HOUR)
    for number, record in enumerate(MeteringRecord.objects.order_by("hour")):
        state = ("accepted", "due", "conflict", "expired")[number % 4]
        MeteringRecord.objects.filter(pk=record.pk).update(state=state)

    reports = [report_of(each, by=grain) for each in (acme, globex)]

    for report in reports:
        for of in (report.total, *(figures for _, figures in report.places)):
            assert of.used == of.included + of.billed + of.waiting + of.checked + of.not_billed
        assert sum(figures.used for _, figures in report.places) == report.total.used
    whole = 2**8 - 1 + 1000 + 5000 + 10_000 + (20_000 if back else 0)
    assert sum(report.total.used for report in reports) == whole
    assert sum(report.total.moved for report in reports) == (5000 if grain == "hour" else 0)


def test_tags_are_told_to_who_had_the_purchase(payg, acme, globex, move):
    use(payg, 5, at=NOON - HOUR, tags={"team": "acme-secret"})
    metering.close_hours(region=REGION, now=NOON)
    move(payg, globex)
    use(payg, 3, at=MOVED + HOUR, tags={"team": "geese"})
    metering.close_hours(region=REGION, now=NOW)

    assert [share.tags for share in report_of(acme).tags.shown] == [(("team", "acme-secret"),)]
    assert [share.tags for share in report_of(globex).tags.shown] == [(("team", "geese"),)]


def test_the_old_workspace_is_told_nothing_of_how_it_stands_now(payg, acme, globex, move):
    move(payg, globex)
    [meter] = meters_of(tenures.read(acme))
    [purchase] = meter.purchases
    assert purchase.status == "gone"
    assert [each.status for each in meters_of(tenures.read(globex))[0].purchases] == ["active"]


def test_what_a_workspace_has_comes_before_what_it_had(catalog, acme, globex, move):
    old, new = make_agreement(catalog, acme), make_agreement(catalog, acme)
    move(new, globex)
    assert [each.pk for each in meters_of(tenures.read(acme))[0].purchases] == [old.pk, new.pk]


def test_archived_usage_stays_with_who_used_it(payg, acme, globex, move, settings, tmp_path):
    settings.USAGE_ARCHIVE_DIR = str(tmp_path)
    for organization, quantity in ((acme, 5), (globex, 7)):
        if payg.organization != organization:
            move(payg, organization)
        use(payg, quantity, at=MOVED, key=f"k{quantity}")
        usage.cancel(organization, f"k{quantity}", reason="r", now=MOVED)
    later = NOW.replace(year=NOW.year + 3)
    before = [report_of(each, period="2026-11").total.by_state for each in (acme, globex)]
    retention.archive(now=later)

    assert UsageArchiveTotal.objects.count() == 2
    after = [report_of(each, period="2026-11", now=later).total.by_state for each in (acme, globex)]
    assert before == after == [{"cancelled": 5}, {"cancelled": 7}]
    assert [row["quantity"] for row in exported(acme)["archived_usage"]] == ["5"]


# --- The subscription page


def test_the_subscription_page_tells_the_new_workspace_s_use_and_what_is_left(flex, acme, globex, move):
    use(flex, 80, at=NOON - HOUR)
    metering.close_hours(region=REGION, now=NOON)
    use(flex, 6, at=NOON)  # open when it moves
    move(flex, globex)
    use(flex, 4, at=MOVED)

    [subscription] = subscriptions.subscriptions_of(globex, now=NOW)
    [line], [entitlement] = subscription.usage, subscription.entitlements
    assert (line.figures.used, line.figures.open, line.figures.included) == (4, 4, 0)
    assert (entitlement.used, entitlement.remaining, entitlement.elsewhere) == (90, 10, 86)
    assert gates.drawn_from("included_pages", [flex.pk], now=NOW) == 90
    assert subscriptions.subscriptions_of(acme, now=NOW) == []


def test_what_was_never_moved_has_nothing_from_elsewhere(flex, acme):
    use(flex, 80, at=NOON - HOUR)
    [subscription] = subscriptions.subscriptions_of(acme, now=NOW)
    assert subscription.entitlements[0].elsewhere == 0


def test_of_an_ended_purchase_all_of_the_own_usage_is_told(payg, acme, globex, move):
    make_record(payg, NOON - HOUR, 5, state="accepted")
    move(payg, globex)
    make_record(payg, NOON + HOUR, 3, state="accepted")
    Agreement.objects.filter(pk=payg.pk).update(status="ended", ended_at=NOW)

    [subscription] = subscriptions.subscriptions_of(globex, now=NOW)
    assert subscription.usage[0].figures.used == 3


# --- Exports and what people wrote


def arrive(agreement, number, *, at, **answers):
    return Registration.objects.create(
        digest=f"{number:064}", agreement=agreement, expires_at=at, created_at=at, answers=answers
    )


def test_the_export_holds_what_was_the_organization_s_at_that_time(payg, acme, globex, move):
    arrive(payg, 1, at=NOON, phone="acme's CTO")
    make_record(payg, NOON - HOUR, 77, state="accepted")
    use(payg, 5, at=NOON)
    move(payg, globex)
    arrive(payg, 2, at=MOVED, phone="globex's CTO")
    make_record(payg, NOON + HOUR, 3, state="accepted")

    ours, theirs = exported(acme), exported(globex)

    assert [row["answers"]["phone"] for row in ours["arrivals"]] == ["acme's CTO"]
    assert [row["answers"]["phone"] for row in theirs["arrivals"]] == ["globex's CTO"]
    assert [row["used"] for row in ours["reported_usage"]] == ["77"]
    assert [row["used"] for row in theirs["reported_usage"]] == ["3"]
    assert ([row["quantity"] for row in ours["usage"]], theirs["usage"]) == (["5"], [])
    assert (ours["purchases"], theirs["earlier_purchases"]) == ([], [])
    [earlier] = ours["earlier_purchases"]
    assert (earlier["id"], earlier["moved_away_at"]) == (payg.pk, MOVED)


def test_closing_a_workspace_forgets_what_its_own_people_wrote(payg, acme, globex, move, acme_admin):
    mine = arrive(payg, 1, at=NOON, phone="acme's CTO")
    move(payg, globex)
    theirs = arrive(payg, 2, at=MOVED, phone="globex's CTO")

    leaving.organization_closed(acme, by=acme_admin, now=NOW)

    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.answers, theirs.answers) == ({}, {"phone": "globex's CTO"})


# --- The pages


@pytest.fixture
def story(catalog, acme, globex, acme_admin):
    """A hundred used in the last hours by Acme, then a move to Globex just now."""
    now = timezone.now()
    agreement = make_agreement(catalog, acme, activated_at=now - timedelta(days=3))
    arrive(agreement, 1, at=now - HOUR, phone="acme's CTO")
    make_record(agreement, hour_of(now) - 5 * HOUR, 4242, state="accepted")
    use(agreement, 7, at=hour_of(now), now=now, tags={"team": "acme-secret"})
    transfers.transfer(agreement.pk, to=globex, by=acme_admin, reason="x", now=now)
    return agreement


def text_of(response) -> str:
    return (b"".join(response.streaming_content) if response.streaming else response.content).decode()


def test_the_new_workspace_sees_nothing_of_the_old_one(client, story, outsider, globex):
    client.force_login(outsider)
    at = f"/o/{globex.slug}"
    for url in ("/usage/", "/usage/?by=hour", "/usage/?format=csv", "/subscription/", "/export/"):
        text = text_of(client.get(f"{at}{url}"))
        for secret in ("4242", "4,242", "acme-secret", "acme's CTO", "Acme Inc"):
            assert secret not in text
    rows = [line.split(",")[5:12] for line in text_of(client.get(f"{at}/usage/?format=csv")).splitlines()[1:]]
    assert {Decimal(cell) for row in rows for cell in row} == {0}


def test_the_old_workspace_still_sees_what_it_used(client, story, acme_admin):
    client.force_login(acme_admin)
    page = text_of(client.get("/o/acme/usage/"))
    assert "4,249" in page
    assert "7" in text_of(client.get("/o/acme/usage/", {"by": "hour"}))
    assert [row["used"] for row in json.loads(text_of(client.get("/o/acme/export/")))["reported_usage"]] == [
        "4242"
    ]


def test_what_it_had_can_be_chosen_and_is_named_as_gone(client, story, catalog, acme, acme_admin):
    make_agreement(catalog, acme, activated_at=timezone.now())
    client.force_login(acme_admin)
    response = client.get("/o/acme/usage/", {"agreement": story.pk})
    assert response.context["choice"].complaints == []
    assert "in another workspace now" in text_of(response)
    assert response.context["report"].total.used == 4249


@pytest.mark.parametrize("url", ["usage/", "usage/?by=hour", "usage/?by=month", "subscription/"])
def test_many_moves_take_ten_queries_too(
    client, acme, globex, acme_admin, catalog, url, django_assert_max_num_queries
):
    now = timezone.now()
    for number in range(52):
        code = ("reports-flex", "reports-payg")[number % 2]
        agreement = make_agreement(catalog, acme, code, activated_at=now - timedelta(days=3))
        make_record(agreement, hour_of(now) - HOUR, 5, state="accepted")
        transfers.transfer(agreement.pk, to=globex, by=acme_admin, reason="x", now=now)
        if number % 3:
            transfers.transfer(agreement.pk, to=acme, by=acme_admin, reason="x", now=now)
    client.force_login(acme_admin)
    client.get(f"/o/acme/{url}")
    with django_assert_max_num_queries(10):
        assert client.get(f"/o/acme/{url}").status_code == 200


def test_csv_names_every_amount_and_they_add_up(payg, acme):
    make_record(payg, NOON - HOUR, 5, state="conflict")
    make_record(payg, NOON - 2 * HOUR, 3, state="expired")
    header, *rows = (line.strip().split(",") for line in lines(report_of(acme, by="hour")))
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        parts = header[header.index("used") + 1 : -1]
        assert Decimal(cells["used"]) == sum(Decimal(cells[name]) for name in parts)
