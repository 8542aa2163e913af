"""What was bought ahead begins anew with each term, also where a contract renews under the same agreement."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import catalog as catalogs
from billing import decisions, effects, metering, reconciliation, registration, submission, terms
from billing.aws.errors import error_for
from billing.aws.window import HOUR
from billing.models import Agreement, Dimension, Entitlement, MeteringRecord, UsageEvent
from tests.billing.ledger import BEGIN, NOON, REGION, ScriptedAws, make_agreement, use
from tests.journeys.crashes import assert_billed_once

NOW = NOON + timedelta(minutes=5)
MINUTE = timedelta(minutes=1)
YEAR = timedelta(days=365)
# The renewal falls into the hour that began two hours ago.
RENEWED = NOON - HOUR - 20 * MINUTE
FIRST = NOON + timedelta(days=30)  # when the first term expires
SECOND = FIRST + YEAR


def close(now=NOW):
    return metering.close_hours(region=REGION, now=now)


def row(agreement, value, expires_at, *, since=BEGIN, until=None, key="included_pages"):
    return Entitlement.objects.create(
        agreement=agreement, dimension_key=key, integer_value=value, expires_at=expires_at,
        valid_from=since, valid_to=until,
    )  # fmt: skip


def renew(agreement, *, at=RENEWED, expires_at=SECOND, value=100, gap=timedelta(0)):
    """AWS told of another expiry: the current row ends, and another begins."""
    agreement.entitlements.filter(valid_to=None).update(valid_to=at - gap)
    return row(agreement, value, expires_at, since=at)


def drawn(agreement, *columns):
    columns = columns or ("included", "quantity")
    return list(agreement.metering_records.order_by("hour", "dimension__key").values_list(*columns))


@pytest.fixture
def flex(catalog, acme):
    """A contract in its first term, with 100 pages."""
    agreement = make_agreement(catalog, acme, "reports-flex")
    row(agreement, 100, FIRST)
    return agreement


@pytest.fixture
def exports(flex):
    pages = flex.product.dimensions.get(key="pages")
    return Dimension.objects.create(
        product=flex.product, key="exports", label="Exports", kind="metered", included_by=pages.included_by
    )


def no_breach():
    return [found.text for found in reconciliation.findings()] == []


# --- When one begins


def timeline(*rows):
    """Rows of (hours after noon, expiry in days after noon or None)."""
    return [
        Entitlement(
            valid_from=NOON + hours * HOUR,
            expires_at=None if days is None else NOON + timedelta(days=days),
            integer_value=100,
        )
        for hours, days in rows
    ]


@pytest.mark.parametrize(
    ("rows", "began"),
    [
        ([], []),
        ([(0, 1)], []),
        ([(0, 1), (1, 1)], []),
        ([(0, 1), (1, 9)], [1]),
        ([(1, 9), (0, 1)], [1]),
        ([(0, 9), (1, 1)], []),
        ([(0, 9), (1, 1), (2, 5)], [2]),
        ([(0, 1), (1, 9), (2, 9), (3, 17)], [1, 3]),
        ([(0, None), (1, None)], []),
        ([(0, None), (1, 1)], []),
        ([(0, 1), (1, None)], []),
        ([(0, 1), (1, None), (2, 1)], []),
        ([(0, 1), (1, None), (2, 9)], [2]),
    ],
)
def test_a_term_begins_with_a_later_expiry_and_with_nothing_else(rows, began):
    assert list(terms.beginnings(timeline(*rows))) == [NOON + hours * HOUR for hours in began]


def test_the_hour_in_which_a_term_begins_belongs_to_it_wholly():
    rows = timeline((0, 1), (5.7, 9), (8, 17))
    assert terms.term_began(rows, NOON + 5 * HOUR - timedelta(microseconds=1)) is None
    for hours in (5, 5.1, 5.9, 7.9):
        assert terms.term_began(rows, NOON + hours * HOUR) == NOON + 5 * HOUR
    assert terms.term_began(rows, NOON + 8 * HOUR) == NOON + 8 * HOUR
    assert terms.term_began([], NOON) is None


def test_of_two_terms_that_begin_in_one_hour_the_second_has_it():
    rows = timeline((0, 1), (5.2, 9), (5.7, 17))
    assert {hour: begins.expires_at for hour, begins in terms.beginnings(rows).items()} == {
        NOON + 5 * HOUR: NOON + timedelta(days=17)
    }


# --- What is drawn in it


def test_the_second_year_has_its_whole_allowance(flex):
    use(flex, 130, at=NOON - 4 * HOUR)
    close()
    renew(flex)
    use(flex, 70, at=NOON - HOUR)
    close()
    use(flex, 70, at=NOON)
    close(NOW + HOUR)
    assert drawn(flex) == [(100, 30), (70, 0), (30, 40)]
    assert no_breach()


def test_a_term_that_begins_among_hours_closed_together_is_fresh_from_its_hour_on(flex):
    renew(flex)
    for hours in (4, 3, 2, 1):
        use(flex, 70, at=NOON - hours * HOUR)
    assert close() == 4
    assert drawn(flex) == [(70, 0), (30, 40), (70, 0), (30, 40)]
    assert no_breach()


def test_the_hour_of_the_renewal_draws_on_the_new_term(flex):
    use(flex, 100, at=NOON - 3 * HOUR)
    close()
    renew(flex)
    use(flex, 10, at=RENEWED - 30 * MINUTE)
    use(flex, 20, at=RENEWED + 10 * MINUTE)
    close()
    assert drawn(flex, "hour", "included", "quantity")[1:] == [(NOON - 2 * HOUR, 30, 0)]
    assert no_breach()


def test_what_a_closed_hour_of_the_new_term_drew_counts_in_it(flex):
    renew(flex)
    use(flex, 60, at=NOON - 2 * HOUR)
    close()
    use(flex, 60, at=NOON - HOUR, now=NOW)
    close()
    assert drawn(flex) == [(60, 0), (40, 20)]
    assert no_breach()


def test_the_third_year_is_fresh_too(flex):
    use(flex, 100, at=NOON - 6 * HOUR)
    renew(flex, at=NOON - 5 * HOUR)
    use(flex, 90, at=NOON - 4 * HOUR)
    renew(flex, at=NOON - 3 * HOUR, expires_at=SECOND + YEAR, value=80)
    use(flex, 50, at=NOON - 2 * HOUR)
    close()
    use(flex, 50, at=NOON - HOUR, now=NOW)
    use(flex, 50, at=NOON - 5 * HOUR, now=NOW)
    close()
    assert drawn(flex) == [(100, 0), (10, 40), (90, 0), (50, 0), (30, 20)]
    assert no_breach()


def test_two_renewals_in_one_hour_are_one_new_term(flex):
    use(flex, 100, at=NOON - 3 * HOUR)
    close()
    renew(flex, at=NOON - HOUR + 10 * MINUTE)
    renew(flex, at=NOON - HOUR + 20 * MINUTE, expires_at=SECOND + YEAR)
    use(flex, 60, at=NOON - HOUR)
    close()
    use(flex, 60, at=NOON)
    close(NOW + HOUR)
    assert drawn(flex) == [(100, 0), (60, 0), (40, 20)]
    assert no_breach()


@pytest.mark.parametrize(
    ("expires_at", "value", "left"),
    [
        (FIRST, 150, 50),  # an upgrade in the middle of the term
        (FIRST, 40, 0),
        (FIRST - timedelta(days=9), 100, 0),
        (None, 100, 0),
        (SECOND, 100, 100),
    ],
)
def test_only_a_later_expiry_begins_anew(flex, expires_at, value, left):
    use(flex, 130, at=NOON - 3 * HOUR)
    close()
    renew(flex, expires_at=expires_at, value=value)
    use(flex, 200)
    close()
    assert drawn(flex) == [(100, 30), (left, 200 - left)]
    assert no_breach()


@pytest.mark.parametrize(("expires_at", "left"), [(FIRST, 0), (SECOND, 100)])
def test_after_a_gap_the_expiry_decides(flex, expires_at, left):
    use(flex, 100, at=NOON - 8 * HOUR)
    close()
    renew(flex, gap=3 * HOUR, expires_at=expires_at)
    use(flex, 5, at=NOON - 3 * HOUR)  # nothing was in force
    use(flex, 130)
    close()
    assert drawn(flex) == [(100, 0), (0, 5), (left, 130 - left)]
    assert no_breach()


def test_dimensions_that_share_a_pool_share_its_terms(flex, exports):
    use(flex, 60, at=NOON - 4 * HOUR)
    use(flex, 60, at=NOON - 3 * HOUR, dimension=exports.key)
    renew(flex)
    use(flex, 60, at=NOON - 2 * HOUR, dimension=exports.key)
    use(flex, 60, at=NOON - HOUR)
    close()
    use(flex, 60, at=NOON)
    close(NOW + HOUR)
    assert drawn(flex) == [(60, 0), (40, 20), (60, 0), (40, 20), (0, 60)]
    assert no_breach()


def test_a_renewal_of_another_pool_begins_nothing(flex, exports):
    exports.included_by = Dimension.objects.create(
        product=flex.product, key="included_exports", label="Included exports", kind="entitled"
    )
    exports.save(update_fields=["included_by"])
    row(flex, 100, FIRST, key="included_exports", until=RENEWED)
    row(flex, 100, SECOND, key="included_exports", since=RENEWED)
    use(flex, 60, at=NOON - 3 * HOUR)
    use(flex, 40, at=NOON - 2 * HOUR)
    use(flex, 60, at=NOON - 3 * HOUR, dimension=exports.key)
    close()
    use(flex, 60, now=NOW)
    use(flex, 60, now=NOW, dimension=exports.key)
    close()
    assert drawn(flex) == [(60, 0), (60, 0), (40, 0), (60, 0), (0, 60)]
    assert no_breach()


def test_a_monthly_allowance_does_not_begin_anew_with_the_term(flex, exports):
    Dimension.objects.filter(pk=exports.pk).update(allowance_period="month")
    use(flex, 60, at=NOON - 3 * HOUR)
    use(flex, 30, at=NOON - 3 * HOUR, dimension=exports.key)
    renew(flex)
    use(flex, 30, at=NOON - HOUR, dimension=exports.key)
    use(flex, 95, at=NOON - HOUR)
    close()
    # This month 60 + 30 + 10, this term 10 + 90.
    assert drawn(flex, "dimension__key", "included", "quantity") == [
        ("exports", 30, 0), ("pages", 60, 0), ("exports", 10, 20), ("pages", 90, 5),
    ]  # fmt: skip
    assert no_breach()


def test_a_void_record_gives_its_allowance_back_to_its_own_term(flex, acme_admin):
    use(flex, 40, at=NOON - 5 * HOUR)
    use(flex, 120, at=NOON - 4 * HOUR)
    renew(flex)
    use(flex, 80, at=NOON - HOUR)
    close()
    submission.submit_due(ScriptedAws(error_for("InvalidTagException", "no")), now=NOW)
    parked = MeteringRecord.objects.get(state="parked")
    assert (parked.hour, parked.included) == (NOON - 4 * HOUR, 60)
    decisions.void([parked], by=acme_admin, reason="tags", now=NOW + MINUTE)
    use(flex, 70, at=NOON - 3 * HOUR, now=NOW + 2 * MINUTE)
    use(flex, 70, at=NOON, now=NOW)
    close(NOW + HOUR)
    assert drawn(flex, "state", "included", "quantity") == [
        ("not_due", 40, 0), ("void", 60, 60), ("due", 60, 10), ("not_due", 80, 0), ("due", 20, 50),
    ]  # fmt: skip
    assert no_breach()


def test_late_usage_draws_on_the_term_of_the_hour_that_takes_it(flex):
    use(flex, 10, at=NOON - 3 * HOUR)
    use(flex, 90, at=NOON - 4 * HOUR)
    close()
    renew(flex)
    late = use(flex, 50, at=NOON - 3 * HOUR, now=NOW)  # its hour is closed, and the next is the new term's
    early = use(flex, 50, at=NOON - 5 * HOUR, now=NOW)  # its hour is still free, and the old term is spent
    close()
    assert drawn(flex) == [(0, 50), (90, 0), (10, 0), (50, 0)]
    taken_by = {event.pk: event.metering_record.hour for event in UsageEvent.objects.all()}
    assert (taken_by[early.pk], taken_by[late.pk]) == (NOON - 5 * HOUR, NOON - 2 * HOUR)
    assert no_breach()


def test_each_agreement_has_its_own_terms_and_one_more_query_tells_all(catalog, acme):
    agreements = [make_agreement(catalog, acme, "reports-flex") for _ in range(6)]
    for agreement in agreements:
        row(agreement, 100, FIRST)
        for hours in (9, 8, 7, 6):
            use(agreement, 30, at=NOON - hours * HOUR)  # draws 30, 30, 30 and 10
    close()

    def selects(now):
        with CaptureQueriesContext(connection) as queries:
            close(now)
        return len([query for query in queries if query["sql"].startswith("SELECT")])

    for agreement in agreements:
        use(agreement, 50, at=NOON - 2 * HOUR)
    usual = selects(NOW)
    for number, agreement in enumerate(agreements[1:]):
        renew(agreement, at=NOON - (9 - number) * HOUR)
        use(agreement, 200, at=NOON - HOUR, now=NOW)
    assert selects(NOW) == usual + 1
    assert [drawn(agreement)[-1][0] for agreement in agreements] == [0, 0, 30, 60, 90, 100]


# --- Over the simulator

VINTAGE = {
    "code": "reports-vintage",
    "product_id": "prod-acmevintage01",
    "title": "Acme Reports Vintage",
    "summary": "A listing from before June 2026 with a yearly allowance.",
    "pricing": "contract_with_consumption",
    "identity": "legacy",
    "dimensions": [
        {"key": "included_pages", "label": "Included pages", "kind": "entitled", "default_quantity": 100},
        {"key": "pages", "label": "Report pages", "kind": "metered", "included_by": "included_pages"},
    ],
}


@pytest.mark.parametrize("by_itself", [False, True])
def test_a_legacy_contract_that_renews_in_place_is_not_overbilled(aws, acme, acme_admin, by_itself):
    catalogs.load({"products": [VINTAGE]})
    aws.control.add_product(VINTAGE)
    begin = NOON + 20 * MINUTE

    def live(now):
        aws.control.freeze(now)
        aws.deliver(now=now)
        effects.run_due(aws.marketplace, now=now)
        close(now)
        submission.submit_due(aws.marketplace, now=now)

    aws.control.freeze(begin)
    bought = aws.buy("reports-vintage", auto_renew=by_itself)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=begin)
    registration.claim(arrival, by=acme_admin, organization=acme, now=begin)
    live(begin + MINUTE)
    agreement = Agreement.objects.get()
    use(agreement, 130, at=begin + 5 * MINUTE)
    live(begin + HOUR)

    renewed = begin + (YEAR if by_itself else timedelta(days=100))
    use(agreement, 20, at=renewed - 2 * HOUR)
    live(renewed - HOUR)
    use(agreement, 40, at=renewed - 10 * MINUTE)
    aws.control.freeze(renewed)
    if not by_itself:
        aws.control.renew(bought.agreement_id)
    live(renewed + MINUTE)
    use(agreement, 50, at=renewed + 30 * MINUTE)
    use(agreement, 50, at=renewed + HOUR)
    live(renewed + 2 * HOUR)

    assert Agreement.objects.get() == agreement
    assert agreement.entitlements.count() == 2
    # The hour of the renewal is the new year's.
    assert drawn(agreement) == [(100, 30), (0, 20), (90, 0), (10, 40)]
    assert aws.billed() == "90"
    assert_billed_once(aws)
