"""What was bought, as a timeline: usage of yesterday is measured against yesterday's allowance."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from billing import audit, effects, entitlements, reconciliation, registration
from billing import catalog as catalogs
from billing.models import Agreement, AuditEvent, Effect
from tests.billing.ledger import BEGIN, NOON, ScriptedAws, entitle, granted, license_arn, make_agreement
from tests.billing.notices import deprovisioned, ended, license_updated
from tests.billing.stage import SECOND, Stage, of, take

MINUTE = timedelta(minutes=1)


@pytest.fixture
def flex(catalog, acme):
    return make_agreement(catalog, acme, "reports-flex")


def sync(agreement, *readings, now=NOON, **options):
    aws = ScriptedAws(entitlements=readings or [[]])
    applied = entitlements.sync(agreement, marketplace=aws, now=now, **options)
    return applied, aws


def timeline(agreement, key="included_pages"):
    rows = agreement.entitlements.filter(dimension_key=key).order_by("valid_from")
    return [(row.value, row.valid_from, row.valid_to) for row in rows]


def pages(value, **fields):
    return granted("included_pages", value, **fields)


# --- The timeline


def test_what_is_new_opens_a_row(flex):
    expires_at = NOON + timedelta(days=365)
    applied, _ = sync(flex, [pages(100, expires_at=expires_at)], because="event 1")
    assert applied
    row = flex.entitlements.get()
    assert (row.value, row.valid_from, row.valid_to) == (100, NOON, None)
    assert (row.expires_at, row.opened_because, row.closed_because) == (expires_at, "event 1", "")
    flex.refresh_from_db()
    assert flex.entitlements_read_at == NOON
    link = AuditEvent.objects.get(action="entitlements_changed")
    assert link.data == {"because": "event 1", "changes": {"included_pages": "opened"}}
    assert list(audit.verify()) == []


def test_the_same_again_changes_nothing(flex):
    sync(flex, [pages(100)])
    sync(flex, [pages(100)], now=NOON + MINUTE)
    assert timeline(flex) == [(100, NOON, None)]
    assert AuditEvent.objects.filter(action="entitlements_changed").count() == 1


def test_a_changed_value_closes_one_row_and_opens_the_next(flex):
    sync(flex, [pages(5)])
    sync(flex, [pages(8)], now=NOON + MINUTE, because="upgrade")
    assert timeline(flex) == [(5, NOON, NOON + MINUTE), (8, NOON + MINUTE, None)]
    assert flex.entitlements.get(valid_to=None).opened_because == "upgrade"
    assert flex.entitlements.exclude(valid_to=None).get().closed_because == "upgrade"


def test_a_changed_expiry_is_a_change_too(flex):
    sync(flex, [pages(5, expires_at=NOON + timedelta(days=1))])
    sync(flex, [pages(5, expires_at=NOON + timedelta(days=366))], now=NOON + MINUTE)
    assert len(timeline(flex)) == 2


def test_an_upgrade_counts_from_its_event_not_from_when_it_was_read(flex):
    entitle(flex, 5)
    upgraded_at = NOON - 20 * MINUTE
    sync(flex, [pages(8)], since=upgraded_at)
    assert timeline(flex) == [(5, BEGIN, upgraded_at), (8, upgraded_at, None)]
    found = entitlements.entitlement_at(flex, "included_pages", upgraded_at - MINUTE)
    assert found is not None
    assert found.value == 5
    assert entitlements.entitlement_at(flex, "included_pages", upgraded_at).value == 8
    assert entitlements.entitlement_at(flex, "included_pages", BEGIN - MINUTE) is None
    assert entitlements.entitlement_at(flex, "seats", NOON) is None


def test_an_event_older_than_the_row_it_changes_cannot_reach_into_it(flex):
    entitle(flex, 5, since=NOON - 10 * MINUTE)
    sync(flex, [pages(8)], since=NOON - 20 * MINUTE)
    assert timeline(flex) == [(5, NOON - 10 * MINUTE, NOON), (8, NOON, None)]


def test_an_event_of_the_future_counts_from_now(flex):
    sync(flex, [pages(8)], since=NOON + MINUTE)
    assert timeline(flex) == [(8, NOON, None)]


def test_what_comes_back_begins_after_what_was(flex):
    entitle(flex, 5, until=NOON - 10 * MINUTE)
    sync(flex, [pages(5)], since=NOON - 20 * MINUTE)
    assert timeline(flex) == [(5, BEGIN, NOON - 10 * MINUTE), (5, NOON - 10 * MINUTE, None)]


def test_the_first_reading_counts_from_the_activation_however_late_it_is(catalog, acme):
    late = make_agreement(catalog, acme, "reports-flex", entitlements_read_at=None)
    sync(late, [pages(100)])
    assert timeline(late) == [(100, BEGIN, None)]


def test_a_scheduled_reading_that_finds_an_announced_change_counts_it_from_the_event(flex):
    entitle(flex, 5)
    for minutes in (20, 10):
        Effect.objects.create(
            agreement=flex, kind="sync_entitlements", cause=f"e{minutes}", caused_at=NOON - minutes * MINUTE
        )
    Effect.objects.create(
        agreement=flex, kind="sync_entitlements", cause="done", caused_at=NOON - 60 * MINUTE, state="done"
    )
    sync(flex, [pages(8)])
    assert timeline(flex)[-1] == (8, NOON - 20 * MINUTE, None)


# --- Kinds of value


@pytest.mark.parametrize(
    ("value", "column", "quantity", "grants"),
    [
        (7, "integer_value", Decimal(7), True),
        (0, "integer_value", Decimal(0), False),
        (0.1, "double_value", Decimal("0.1"), True),
        (0.0, "double_value", Decimal(0), False),
        (True, "boolean_value", Decimal(1), True),
        (False, "boolean_value", Decimal(0), False),
        ("gold", "string_value", Decimal(0), True),
        ("", "string_value", Decimal(0), False),
    ],
)
def test_each_kind_of_value_is_kept_as_it_is(flex, value, column, quantity, grants):
    sync(flex, [pages(value)])
    row = flex.entitlements.get()
    assert getattr(row, column) == value
    assert (type(row.value), row.value) == (type(value), value)
    assert (row.quantity, row.grants) == (quantity, grants)
    sync(flex, [pages(value)], now=NOON + MINUTE)
    assert flex.entitlements.count() == 1


def test_true_and_one_are_not_the_same_value(flex):
    sync(flex, [pages(1)])
    sync(flex, [pages(True)], now=NOON + MINUTE)
    assert [value for value, _, _ in timeline(flex)] == [1, True]


def test_a_row_without_a_value_cannot_be_read():
    with pytest.raises(AssertionError):
        _ = entitlements.Entitlement(dimension_key="x").value


# --- Disappearing


def test_nothing_is_taken_away_unless_aws_says_so_twice(flex):
    entitle(flex, 100)
    applied, aws = sync(flex, [], [pages(100)])
    assert applied
    assert len(aws.filters) == 2
    assert timeline(flex) == [(100, BEGIN, None)]


def test_what_is_gone_twice_is_closed(flex):
    entitle(flex, 100)
    sync(flex, [], [], because="scheduled sync")
    assert timeline(flex) == [(100, BEGIN, NOON)]
    assert AuditEvent.objects.get(action="entitlements_changed").data["changes"] == {
        "included_pages": "closed"
    }


def test_an_empty_answer_for_an_agreement_without_rows_needs_no_second_look(flex):
    applied, aws = sync(flex, [])
    assert applied
    assert len(aws.filters) == 1
    flex.refresh_from_db()
    assert flex.entitlements_read_at == NOON


def test_an_empty_answer_over_the_wire_needs_a_second_look(aws, purchase):
    agreement = purchase("reports-flex")
    effects.run_due(aws.marketplace, now=NOON + timedelta(days=9999))
    aws.control.fault("GetEntitlements", "empty")
    entitlements.sync(agreement, marketplace=aws.marketplace, now=NOON + timedelta(days=10000))
    assert agreement.entitlements.current().count() == 1


# --- Older readings


def test_a_reading_that_began_before_the_last_applied_one_is_dropped(flex):
    sync(flex, [pages(8)])
    applied, _ = sync(flex, [pages(5)], now=NOON - MINUTE)
    assert not applied
    applied, _ = sync(flex, [pages(5)])
    assert not applied
    assert timeline(flex) == [(8, NOON, None)]


def test_a_slow_reading_that_a_newer_one_overtook_is_dropped(flex):
    class Slow(ScriptedAws):
        def get_entitlements(self, of):
            sync(flex, [pages(8)], now=NOON + MINUTE)
            return [pages(5)]

    assert not entitlements.sync(flex, marketplace=Slow(), now=NOON)
    assert timeline(flex) == [(8, NOON + MINUTE, None)]


# --- Whose


def test_a_license_is_asked_for_by_its_arn(flex):
    _, aws = sync(flex, [])
    (of,) = aws.filters
    assert (of.license_arn, of.aws_account_id, of.product_code) == (flex.license_arn, None, "reports-flex")


def test_a_license_whose_whole_arn_is_unknown_is_picked_from_its_accounts_rows(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex", license_arn=None, license_id=f"l-{'7' * 32}")
    mine, another = license_arn("7" * 32), license_arn("8" * 32)
    rows = [pages(1, license_arn=mine), granted("seats", 2, license_arn=another), granted("other", 3)]
    _, aws = sync(agreement, rows)
    assert aws.filters[0].aws_account_id == agreement.customer.aws_account_id
    assert [(row.dimension_key, row.value) for row in agreement.entitlements.all()] == [("included_pages", 1)]


def test_a_legacy_customer_is_asked_for_by_account_or_identifier(catalog, acme):
    classic = make_agreement(catalog, acme, "reports-classic")
    _, aws = sync(classic, [pages(3)])
    (of,) = aws.filters
    assert (of.license_arn, of.aws_account_id) == (None, classic.customer.aws_account_id)
    assert of.customer_identifier == classic.customer.customer_identifier
    assert timeline(classic) == [(3, NOON, None)]


def test_a_legacy_purchase_that_got_a_license_is_not_given_the_rows_of_another(catalog, acme):
    classic = make_agreement(
        catalog, acme, "reports-classic", license_arn=license_arn(7), license_id=f"l-{7:032}"
    )
    rows = [pages(3, license_arn=license_arn(7)), pages(9, license_arn=license_arn(8))]
    sync(classic, rows)
    assert timeline(classic) == [(3, NOON, None)]


def test_a_legacy_purchase_takes_the_rows_of_a_license_of_which_nobody_has_told(catalog, acme):
    """The listing has moved to licenses, and License Updated is on its way."""
    classic = make_agreement(catalog, acme, "reports-classic")
    second = make_agreement(catalog, acme, "reports-flex", account=classic.customer.aws_account_id)
    sync(classic, [pages(9, license_arn=second.license_arn), pages(3, license_arn=license_arn(7))])
    assert timeline(classic) == [(3, NOON, None)]


# --- After the end


def bought(**options):
    """A contract that AWS's events have made active."""
    take(license_updated(BEGIN, **options), now=BEGIN)
    agreement = Agreement.objects.get()
    sync(agreement, [pages(5)], now=BEGIN)
    Effect.objects.update(state="done")
    return agreement


def test_what_was_in_force_at_the_end_is_not_taken_away_by_a_reading(catalog):
    agreement = bought()
    take(deprovisioned(NOON), now=NOON)
    sync(agreement, [], [], now=NOON + MINUTE)
    assert timeline(agreement) == [(5, BEGIN, None)]
    assert entitlements.revoke(agreement.pk, now=NOON + 10 * MINUTE) == ""
    assert timeline(agreement) == [(5, BEGIN, NOON)]


def test_an_upgrade_before_the_end_that_is_read_after_it_counts_in_the_last_hour(catalog):
    agreement = bought()
    take(license_updated(NOON - MINUTE), deprovisioned(NOON), now=NOON)
    sync(agreement, [pages(8)], now=NOON + MINUTE, since=NOON - MINUTE)
    assert timeline(agreement) == [(5, BEGIN, NOON - MINUTE), (8, NOON - MINUTE, None)]


def test_nothing_begins_after_the_end(catalog):
    agreement = bought()
    take(ended(NOON), now=NOON)
    entitlements.revoke(agreement.pk, now=NOON)
    for now in (NOON + MINUTE, NOON + 9 * MINUTE):
        sync(agreement, [pages(8), granted("seats", 1)], now=now)
    assert timeline(agreement) == [(5, BEGIN, NOON)]
    assert not agreement.entitlements.current().exists()
    assert AuditEvent.objects.filter(action="entitlements_changed").count() == 2


def test_what_is_read_for_the_first_time_after_access_is_over_is_closed_with_it(catalog):
    take(license_updated(BEGIN), ended(NOON), now=NOON)
    agreement = Agreement.objects.get()
    entitlements.revoke(agreement.pk, now=NOON)
    sync(agreement, [pages(8)], now=NOON + MINUTE)
    assert timeline(agreement) == [(8, BEGIN, NOON)]
    assert list(audit.verify()) == []


def test_access_is_not_revoked_while_it_goes_on_or_when_the_ending_was_called_off(catalog):
    agreement = bought()
    assert entitlements.revoke(agreement.pk, now=NOON) == "the ending was called off"
    take(deprovisioned(NOON), now=NOON)
    assert entitlements.revoke(agreement.pk, now=NOON + 9 * MINUTE) == "access goes on"
    assert timeline(agreement) == [(5, BEGIN, None)]


# --- Facts page, cases 20 to 26 (24 is in test_clock.py)


@pytest.fixture
def stage(aws, acme_admin):
    return Stage(aws, acme_admin)


def test_20_a_bare_answer_is_no_entitlement(stage, aws, acme):
    purchase = aws.buy("reports-flex", license_updated_after=3600)
    arrival = registration.arrive(aws.marketplace, token=purchase.token, free_trial_hint=False, now=stage.now)
    assert entitlements.sync(arrival.agreement, marketplace=aws.marketplace, now=stage.now)
    assert (of(purchase).status, of(purchase).entitlements.count()) == ("pending", 0)


def put_on_sale(aws, **values):
    """A contract on each of these; answers its product code."""
    product = {
        "code": "many", "product_id": "prod-many", "title": "Many", "pricing": "contract",
        "identity": "license",
        "dimensions": [
            {
                "key": key, "label": key, "kind": "entitled",
                "value_type": KINDS[type(value)], "default_quantity": value,
            }
            for key, value in values.items()
        ],
    }  # fmt: skip
    catalogs.load({"products": [product]})
    return aws.control.add_product(product)


KINDS = {int: "integer", float: "double", bool: "boolean", str: "string"}


def current(agreement):
    return {row.dimension_key: row.value for row in agreement.entitlements.current()}


def test_21_26_entitlements_are_all_read_an_empty_page_in_between(stage, aws, acme):
    sold = {f"feature_{number:02}": number + 1 for number in range(26)}
    code = put_on_sale(aws, **sold)
    aws.control.fault("GetEntitlements", "empty_page")
    assert current(stage.buy(acme, code)) == sold
    assert len(aws.control.requests("GetEntitlements")) == 3


def test_22_aws_is_never_asked_by_both_names_of_a_customer(stage, aws, acme, catalog):
    agreement = stage.buy(acme, "reports-classic")
    assert None not in (agreement.customer.aws_account_id, agreement.customer.customer_identifier)
    entitlements.sync(agreement, marketplace=aws.marketplace, now=stage.now)
    asked = aws.control.requests("GetEntitlements")[-1]["request"]["Filter"]
    assert list(asked) == ["CUSTOMER_AWS_ACCOUNT_ID"]


def test_23_of_two_licenses_each_has_its_own_values(stage, aws, acme):
    one, two = (
        stage.buy(acme, aws_account_id="123456789012", quantities={"included_pages": pages})
        for pages in (10, 20)
    )
    assert [timeline(each)[0][0] for each in (one, two)] == [10, 20]
    assert stage.allows(acme).limit == 30


def test_25_each_kind_of_value_is_read_off_the_wire(stage, aws, acme):
    sold = {"seats": 7, "ratio": 0.5, "sso": True, "tier": "gold"}
    assert current(stage.buy(acme, put_on_sale(aws, **sold))) == sold


def test_26_an_upgrade_counts_from_its_event(stage, aws, acme):
    agreement = stage.buy(acme, "reports-team")
    assert stage.allows(acme, "seats").limit == 5
    aws.control.amend(agreement.agreement_id, {"seats": 8})
    stage.pass_time(4 * SECOND)  # Amended was told, and nothing is listed yet
    stage.pass_time(MINUTE)
    assert stage.allows(acme, "seats").limit == 8
    assert timeline(agreement, "seats")[-1] == (8, NOON + 15 * SECOND, None)
    assert list(reconciliation.verify()) == list(audit.verify()) == []
