"""The scheduled reading: what no event told of is found, and nothing is lost to half an answer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from billing import audit, clock, customers, entitlements, reconciliation, registration, timeline, walk
from billing.aws.errors import MarketplaceUnavailable
from billing.models import (
    Agreement,
    AuditEvent,
    Effect,
    Entitlement,
    MarketplaceCustomer,
    MarketplaceEvent,
    Product,
)
from tests.billing.ledger import (
    BEGIN,
    NOON,
    ScriptedAws,
    bought_agreement,
    granted,
    license_arn,
    make_agreement,
)
from tests.billing.notices import ARN, ended, license_updated, sns
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, Stage, of, take

NEXT_YEAR = NOON + timedelta(days=365)
DRIFT = entitlements.DRIFT


@pytest.fixture
def flex(catalog):
    """The product; AWS lists its rows as ``listed`` says."""
    return catalog["reports-flex"]


@pytest.fixture
def stage(aws, acme_admin):
    return Stage(aws, acme_admin)


def pages(agreement, value=100, *, key="included_pages", **fields):
    """The row as AWS lists it under the agreement's license."""
    return granted(
        key,
        value,
        **{
            "license_arn": agreement.license_arn,
            "aws_account_id": agreement.customer.aws_account_id,
            "expires_at": NEXT_YEAR,
            **fields,
        },
    )


def contracts(catalog, acme, count, *, values=100):
    """Active contracts of one row each, read at BEGIN."""
    made = [make_agreement(catalog, acme, "reports-flex") for _ in range(count)]
    Entitlement.objects.bulk_create(
        Entitlement(
            agreement=agreement,
            dimension_key="included_pages",
            integer_value=values,
            expires_at=NEXT_YEAR,
            valid_from=BEGIN,
        )
        for agreement in made
    )
    return made


def current(agreement):
    return {row.dimension_key: row.value for row in agreement.entitlements.current()}


def calls(aws):
    return len(aws.control.requests("GetEntitlements"))


# --- As few calls as AWS allows


@pytest.mark.parametrize(("rows", "expected"), [(0, 1), (1, 1), (25, 1), (26, 2), (60, 3)])
def test_n_rows_of_a_product_are_read_25_a_call(aws, catalog, rows, expected):
    aws.control.freeze(NOON)
    make_agreement(catalog, None, "reports-flex", activated_at=None, entitlements_read_at=None)
    for _ in range(rows):
        aws.buy("reports-flex", started_at=BEGIN)
    assert walk.walk(catalog["reports-flex"], aws.marketplace, now=NOON)
    assert calls(aws) == expected


def test_a_product_of_which_nothing_was_bought_is_not_asked_for(aws, catalog):
    aws.buy("reports-flex", started_at=BEGIN)
    walk.sync_all(aws.marketplace, now=NOON)
    assert calls(aws) == 0


def test_a_subscription_has_nothing_to_read(aws, catalog, acme):
    make_agreement(catalog, acme, "reports-payg")
    walk.sync_all(aws.marketplace, now=NOON)
    assert calls(aws) == 0


def test_sixty_unchanged_contracts_cost_no_queries_of_their_own(
    catalog, acme, flex, django_assert_max_num_queries
):
    made = contracts(catalog, acme, 60)
    aws = ScriptedAws(listed=[pages(agreement) for agreement in made])
    with django_assert_max_num_queries(15):
        walk.sync_all(aws, now=NOON)
    assert set(Agreement.objects.values_list("entitlements_read_at", flat=True)) == {NOON}
    assert not aws.filters
    assert not AuditEvent.objects.filter(stream__startswith="agreement:").exists()


# --- Pages that are none


def test_an_empty_page_with_a_token_goes_on(aws, catalog, acme):
    aws.control.freeze(NOON)
    agreement = bought_agreement(aws, catalog, acme, "reports-flex")
    aws.control.fault("GetEntitlements", "empty_page")
    assert walk.walk(agreement.product, aws.marketplace, now=NOON)
    assert current(agreement) == {"included_pages": 100}
    assert calls(aws) == 2


def test_a_bare_answer_is_no_rows_and_is_asked_for_again_before_it_counts(aws, catalog, acme):
    aws.control.freeze(NOON)
    made = [bought_agreement(aws, catalog, acme, "reports-flex") for _ in range(5)]
    assert walk.walk(made[0].product, aws.marketplace, now=NOON)
    aws.control.fault("GetEntitlements", "empty")
    assert not walk.walk(made[0].product, aws.marketplace, now=NOON + HOUR)
    assert [current(agreement) for agreement in made] == [{"included_pages": 100}] * 5


@pytest.mark.parametrize("fault", ["throttle", "internal_error"])
def test_nothing_is_applied_when_a_page_fails(aws, catalog, acme, fault):
    aws.control.freeze(NOON)
    agreement = bought_agreement(aws, catalog, acme, "reports-flex")
    aws.control.fault("GetEntitlements", fault, count=None)
    with pytest.raises(MarketplaceUnavailable):
        walk.walk(agreement.product, aws.marketplace, now=NOON)
    agreement.refresh_from_db()
    assert agreement.entitlements_read_at == BEGIN
    assert not agreement.entitlements.exists()


def test_nothing_is_applied_when_a_page_fails_in_the_middle(catalog, acme, flex):
    changed, gone, *others = contracts(catalog, acme, 12)
    fault = MarketplaceUnavailable("ThrottlingException", "slow down")
    aws = ScriptedAws(listed=[pages(changed, 200), *map(pages, others), fault])
    with pytest.raises(MarketplaceUnavailable):
        walk.walk(flex, aws, now=NOON)
    assert (current(changed), current(gone)) == ({"included_pages": 100}, {"included_pages": 100})
    assert set(Agreement.objects.values_list("entitlements_read_at", flat=True)) == {BEGIN}


# --- What is gone


def test_what_the_walk_misses_is_looked_at_again_and_kept_if_it_is_there(catalog, acme, flex):
    missed, *others = contracts(catalog, acme, 6)
    aws = ScriptedAws(listed=map(pages, others), entitlements=[[pages(missed)]])
    assert walk.walk(flex, aws, now=NOON)
    assert [of.license_arn for of in aws.filters] == [missed.license_arn]
    assert current(missed) == {"included_pages": 100}
    missed.refresh_from_db()
    assert (missed.status, missed.entitlements_read_at) == ("active", NOON)


def told_contracts(count):
    """As ``contracts``, made and activated by events."""
    for number in range(count):
        arn = f"{ARN[:-2]}{number:02}"
        take(
            license_updated(BEGIN, arn=arn, agreement_id=f"agmt-{number}", account=f"{number:012}"), now=BEGIN
        )
    made = list(Agreement.objects.order_by("pk"))
    for agreement in made:
        entitlements.sync(agreement, marketplace=ScriptedAws(entitlements=[[pages(agreement)]]), now=BEGIN)
    Effect.objects.update(state="done")
    return made


def test_what_is_gone_after_another_look_ends_the_contract(catalog):
    gone, *others = told_contracts(6)
    aws = ScriptedAws(listed=map(pages, others), entitlements=[[]])
    assert walk.walk(gone.product, aws, now=NOON)
    assert len(aws.filters) == 2  # and that look is believed only if it says so twice
    gone.refresh_from_db()
    assert (gone.status, gone.end_reason, gone.ended_at) == ("ending", "GONE", NOON)
    assert gone.access_until == NOON + 10 * MINUTE
    assert current(gone) == {"included_pages": 100}  # until the grace is over
    assert set(Agreement.objects.exclude(pk=gone.pk).values_list("status", flat=True)) == {"active"}


def test_another_look_that_fails_takes_nothing_away_and_keeps_no_other_from_being_read(
    catalog, acme, flex, caplog
):
    broken, odd, *others = contracts(catalog, acme, 10)
    aws = ScriptedAws(listed=map(pages, others))

    def fails(of):
        if of.license_arn == odd.license_arn:
            raise KeyError("odd")
        raise MarketplaceUnavailable("NoAnswer", "ReadTimeoutError")

    aws.get_entitlements = fails
    assert walk.walk(flex, aws, now=NOON)
    assert current(broken) == current(odd) == {"included_pages": 100}
    assert f"Entitlements of agreement {broken.pk}: NoAnswer" in caplog.text
    assert f"Entitlements of agreement {odd.pk} could not be synced" in caplog.text
    read = Agreement.objects.filter(pk__in=[each.pk for each in others])
    assert set(read.values_list("entitlements_read_at", flat=True)) == {NOON}


@pytest.mark.parametrize(("count", "gone"), [(5, 1), (15, 3), (35, 7), (60, 12)])
def test_a_walk_that_loses_a_fifth_is_believed_and_one_that_loses_more_is_not(
    catalog, acme, flex, caplog, count, gone
):
    made = contracts(catalog, acme, count)
    lost, changed, *others = made[gone:] + made[:gone]
    unknown = ScriptedAws(listed=[pages(changed, 200), *map(pages, others[: count - gone - 2])])
    assert not walk.walk(flex, unknown, now=NOON)
    assert not unknown.filters
    assert set(Agreement.objects.values_list("entitlements_read_at", flat=True)) == {BEGIN}
    assert {row.value for row in Entitlement.objects.current()} == {100}
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert f"{gone + 1} fewer than the {count} in force" in error.getMessage()

    known = ScriptedAws(
        listed=[pages(lost), pages(changed, 200), *map(pages, others[: count - gone - 2])],
        entitlements=[[granted("included_pages", 100, expires_at=NEXT_YEAR)]],
    )
    assert walk.walk(flex, known, now=NOON)
    assert len(known.filters) == gone
    assert current(changed) == {"included_pages": 200}


def test_what_ran_out_is_neither_in_force_nor_lost(catalog, acme, flex):
    """The contract of a small seller expires: it is looked at again, and nobody is alarmed."""
    over, other = contracts(catalog, acme, 2)
    late = NEXT_YEAR + SECOND
    entitlements.sync(
        other, marketplace=ScriptedAws(entitlements=[[pages(other, expires_at=late + DAY)]]), now=NOON
    )
    aws = ScriptedAws(listed=[pages(other, expires_at=late + DAY)], entitlements=[[pages(over)]])
    assert walk.walk(flex, aws, now=late)
    assert [of.license_arn for of in aws.filters] == [over.license_arn]


# --- Drift


def test_what_no_event_told_of_is_recorded_as_drift(catalog, acme, flex, caplog):
    agreement, other = contracts(catalog, acme, 2)
    assert walk.walk(flex, ScriptedAws(listed=[pages(agreement, 150), pages(other)]), now=NOON)
    old, new = agreement.entitlements.order_by("valid_from")
    assert (new.value, new.valid_from, new.opened_because) == (150, NOON, DRIFT)
    assert (old.valid_to, old.closed_because) == (NOON, DRIFT)
    link = AuditEvent.objects.get(action="entitlements_changed")
    assert link.stream == agreement.audit_stream
    assert link.data == {"because": DRIFT, "changes": {"included_pages": "changed"}, "drift": True}
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == f"Agreement {agreement.pk}: {DRIFT}: included_pages"
    assert Effect.objects.filter(agreement=agreement, cause__startswith="seller_changed").exists()
    assert list(audit.verify()) == []


def test_an_announced_change_that_was_not_read_yet_is_no_drift(catalog, caplog):
    take(license_updated(BEGIN), now=BEGIN)
    agreement = Agreement.objects.get()
    entitlements.sync(agreement, marketplace=ScriptedAws(entitlements=[[pages(agreement)]]), now=BEGIN)
    Effect.objects.update(state="done")
    take(license_updated(NOON - 20 * MINUTE, source_id="upgrade"), now=NOON)
    assert walk.walk(agreement.product, ScriptedAws(listed=[pages(agreement, 150)]), now=NOON)
    row = agreement.entitlements.get(valid_to=None)
    assert (row.value, row.valid_from, row.opened_because) == (150, NOON - 20 * MINUTE, "eventbridge:upgrade")
    link = AuditEvent.objects.filter(action="entitlements_changed").order_by("sequence").last()
    assert "drift" not in link.data
    assert "drift" not in caplog.text


# --- Older and newer readings


def test_a_newer_reading_that_came_meanwhile_is_not_overwritten(catalog, acme, flex):
    newer, gone, unchanged, *others = contracts(catalog, acme, 10)

    class Slow(ScriptedAws):
        def list_entitlements(self, product_code):
            yield pages(newer, 150)
            for agreement in (newer, gone, unchanged):
                now_listed = ScriptedAws(entitlements=[[pages(agreement, 999)]])
                entitlements.sync(agreement, marketplace=now_listed, now=NOON + MINUTE)
            yield from map(pages, [unchanged, *others])

    assert walk.walk(flex, Slow(entitlements=[[]]), now=NOON)
    for agreement in (newer, gone, unchanged):
        agreement.refresh_from_db()
        assert current(agreement) == {"included_pages": 999}
        assert (agreement.status, agreement.entitlements_read_at) == ("active", NOON + MINUTE)
    others[0].refresh_from_db()
    assert others[0].entitlements_read_at == NOON


# --- Whose rows


def test_a_license_gets_its_own_rows_only(catalog, acme, flex):
    account = "123456789012"
    one, two = (make_agreement(catalog, acme, "reports-flex", account=account) for _ in range(2))
    foreign = make_agreement(catalog, None, "reports-flex")
    listed = [
        pages(two, 20),
        pages(one, 10),
        pages(foreign, 30),
        # The same account's, of a license that nobody has told of, and of none at all.
        pages(one, 40, license_arn=ARN),
        pages(one, 50, license_arn=None),
    ]
    assert walk.walk(flex, ScriptedAws(listed=listed), now=NOON)
    assert [current(each)["included_pages"] for each in (one, two, foreign)] == [10, 20, 30]


def test_a_license_printed_without_its_prefix_is_the_same_one(catalog, acme, flex):
    agreement = make_agreement(catalog, acme, "reports-flex")
    row = pages(agreement, license_arn=agreement.license_arn.removeprefix("arn:"))
    assert walk.walk(flex, ScriptedAws(listed=[row]), now=NOON)
    assert current(agreement) == {"included_pages": 100}


@pytest.fixture
def classic(catalog):
    """The legacy listing, as a contract."""
    Product.objects.filter(code="reports-classic").update(pricing=Product.Pricing.CONTRACT)
    return Product.objects.get(code="reports-classic")


ACCOUNT, IDENTIFIER = {"aws_account_id": "123456789012"}, {"customer_identifier": "cust1"}


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (ACCOUNT, ACCOUNT),
        (ACCOUNT, ACCOUNT | IDENTIFIER),
        (IDENTIFIER, IDENTIFIER),
        # Made known by SNS; its buyer never came.
        (IDENTIFIER, ACCOUNT | IDENTIFIER),
        (ACCOUNT | IDENTIFIER, ACCOUNT),
        (ACCOUNT | IDENTIFIER, IDENTIFIER),
        (ACCOUNT | IDENTIFIER, ACCOUNT | IDENTIFIER),
    ],
)
def test_a_legacy_purchase_is_known_by_account_or_identifier(classic, known, told):
    agreement = Agreement.objects.create(
        product=classic,
        customer=MarketplaceCustomer.objects.create(**known),
        identity="legacy",
        status="active",
        activated_at=BEGIN,
        entitlements_read_at=BEGIN,
    )
    assert walk.walk(classic, ScriptedAws(listed=[granted("included_pages", 7, **told)]), now=NOON)
    assert current(agreement) == {"included_pages": 7}


def test_a_legacy_purchase_that_has_a_license_is_known_by_it(catalog, acme, classic):
    agreement = make_agreement(
        catalog, acme, "reports-classic", license_arn=ARN, license_id=ARN.rpartition(":")[2]
    )
    other = pages(agreement, 9, license_arn=ARN.replace("0123", "9999"))
    listed = [other, pages(agreement, 7), pages(agreement, 8, license_arn=None)]
    assert walk.walk(classic, ScriptedAws(listed=listed), now=NOON)
    assert current(agreement) == {"included_pages": 7}


# --- What only the walk tells


def test_a_contract_of_which_no_license_event_comes_becomes_active_by_the_walk(stage, aws, acme, acme_admin):
    aws.control.switch(contract_license_updated=False)
    bought = aws.buy("reports-flex")
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=stage.now)
    registration.claim(arrival, by=acme_admin, organization=acme, now=stage.now)
    aws.control.advance(MINUTE)
    aws.deliver(now=stage.now + MINUTE)
    assert of(bought).status == "pending"
    assert not stage.allows(acme)
    walk.sync_all(aws.marketplace, now=stage.now + MINUTE)
    agreement = of(bought)
    assert (agreement.status, agreement.activated_at) == ("active", stage.now + MINUTE)
    row = agreement.entitlements.get()
    assert (row.value, row.valid_to) == (100, None)
    assert stage.allows(acme)
    assert MarketplaceEvent.objects.get(channel="reading").kind == "Entitlements found"
    assert list(audit.verify()) == []


def test_a_contract_that_was_thought_gone_goes_on_when_it_is_listed_again(stage, aws, acme):
    agreement = stage.buy(acme)
    stage.pass_time(11 * MINUTE)  # no reading is owed any more
    aws.control.fault("GetEntitlements", "empty", count=2)
    entitlements.sync(agreement, marketplace=aws.marketplace, now=stage.now + SECOND)
    stage.pass_time(11 * MINUTE)
    agreement.refresh_from_db()
    assert (agreement.status, current(agreement), bool(stage.allows(acme))) == ("ending", {}, False)
    gone_at = agreement.ended_at
    walk.sync_all(aws.marketplace, now=stage.now)
    agreement.refresh_from_db()
    assert (agreement.status, agreement.ended_at, agreement.metering_closes_at) == ("active", None, None)
    assert stage.allows(acme)
    # It had not ended: what was bought was in force all the time.
    assert entitlements.entitlement_at(agreement, "included_pages", gone_at + MINUTE).value == 100
    stage.pass_time(HOUR)
    agreement.refresh_from_db()
    assert agreement.status == "active"
    assert list(reconciliation.verify()) == list(audit.verify()) == []


def test_a_contract_whose_window_closed_goes_on_too(catalog):
    gone, *others = told_contracts(6)
    walk.walk(gone.product, ScriptedAws(listed=map(pages, others), entitlements=[[]]), now=NOON)
    entitlements.revoke(gone.pk, now=NOON + HOUR)
    clock.advance(now=NOON + HOUR)
    gone.refresh_from_db()
    assert (gone.status, current(gone)) == ("ended", {})
    walk.walk(gone.product, ScriptedAws(listed=[pages(gone), *map(pages, others)]), now=NOON + DAY)
    gone.refresh_from_db()
    assert (gone.status, gone.ended_at, current(gone)) == ("active", None, {"included_pages": 100})


def test_what_aws_ended_is_not_taken_back_by_a_list(catalog):
    gone, *others = told_contracts(6)
    take(ended(NOON, agreement_id="agmt-0"), now=NOON)
    walk.walk(gone.product, ScriptedAws(listed=[pages(gone), *map(pages, others)]), now=NOON + HOUR)
    gone.refresh_from_db()
    assert (gone.status, gone.end_reason) == ("ending", "CANCELLED")


def test_a_list_that_still_has_what_ran_out_ends_the_contract(catalog):
    """Facts page, case 24: the walk reads it before the clock has it read."""
    over, *others = made = told_contracts(6)
    listed = [*map(pages, others), pages(over, expires_at=NOON)]
    walk.walk(over.product, ScriptedAws(listed=listed), now=NOON - MINUTE)
    for later in (MINUTE, HOUR, 2 * HOUR):
        assert walk.walk(over.product, ScriptedAws(listed=listed, entitlements=[[]]), now=NOON + later)
        clock.advance(now=NOON + later)
        over.refresh_from_db()
        assert (over.status, over.ended_at) == ("ending" if later < HOUR else "ended", NOON)
        entitlements.revoke(over.pk, now=NOON + later + 10 * MINUTE)
        assert current(over) == {}
    assert over.entitlements.count() == 2
    assert {current(each)["included_pages"] for each in made[1:]} == {100}
    assert list(audit.verify()) == []


# --- Trouble


def test_one_products_trouble_keeps_no_other_from_being_walked(catalog, acme, caplog):
    team, flex = make_agreement(catalog, acme, "reports-team"), make_agreement(catalog, acme, "reports-flex")
    Product.objects.filter(code="reports-classic").update(pricing=Product.Pricing.CONTRACT)
    classic = make_agreement(catalog, acme, "reports-classic")

    class Partly(ScriptedAws):
        def list_entitlements(self, product_code):
            if product_code == "reports-flex":
                raise MarketplaceUnavailable("NoAnswer", "ReadTimeoutError")
            if product_code == "reports-team":
                raise KeyError("odd")
            return iter([granted("seats", 5, aws_account_id=classic.customer.aws_account_id)])

    walk.sync_all(Partly(), now=NOON)
    read = dict(Agreement.objects.values_list("pk", "entitlements_read_at"))
    assert read == {team.pk: BEGIN, flex.pk: BEGIN, classic.pk: NOON}
    assert "Entitlements of reports-flex: NoAnswer" in caplog.text
    assert "Entitlements of reports-team could not be walked through" in caplog.text


def test_a_refusal_that_no_waiting_mends_alarms_people(aws, catalog, acme, caplog):
    make_agreement(catalog, acme, "reports-flex")
    aws.control.fault("GetEntitlements", "error", code="AccessDeniedException")
    walk.sync_all(aws.marketplace, now=NOON)
    (error,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "reports-flex: AccessDeniedException. Allow" in error.getMessage()


def test_one_agreements_trouble_keeps_no_other_from_being_read(catalog, acme, flex, caplog, monkeypatch):
    broken, changed, unchanged = contracts(catalog, acme, 3)
    replace = timeline.replace

    def fails(agreement, *arguments, **options):
        if agreement == broken:
            raise IntegrityError("odd")
        return replace(agreement, *arguments, **options)

    monkeypatch.setattr(timeline, "replace", fails)
    aws = ScriptedAws(listed=[pages(broken, 1), pages(changed, 2), pages(unchanged)])
    assert walk.walk(flex, aws, now=NOON)
    assert [current(each)["included_pages"] for each in (broken, changed, unchanged)] == [100, 2, 100]
    read = list(Agreement.objects.order_by("pk").values_list("entitlements_read_at", flat=True))
    assert read == [BEGIN, NOON, NOON]
    assert f"Entitlements of agreement {broken.pk} could not be applied" in caplog.text


@pytest.fixture
def bought_twice(classic):
    """A legacy contract that ran out without a word, and the one of which its buyer has come to tell."""
    row = granted("included_pages", 5, customer_identifier="twice", expires_at=NOON)
    take(sns("subscribe-success", BEGIN, customer="twice"), now=BEGIN)
    first = Agreement.objects.get()
    entitlements.sync(first, marketplace=ScriptedAws(entitlements=[[row]]), now=BEGIN)
    entitlements.sync(first, marketplace=ScriptedAws(entitlements=[[]]), now=NOON)
    clock.advance(now=NOON + HOUR)
    with transaction.atomic():
        second = customers.get_agreement(
            product=classic, customer=first.customer, license_arn=None, agreement_id=None,
            now=NOON + 2 * HOUR, by="aws",
        )  # fmt: skip
    return first, second


def both(first, second):
    return [Agreement.objects.values_list("status", "end_reason").get(pk=each.pk) for each in (first, second)]


def test_a_legacy_purchase_that_was_bought_again_takes_nothing_from_the_new_one(
    catalog, classic, bought_twice
):
    """AWS names a legacy customer, not a purchase: what it lists belongs to the one that is live."""
    others = [make_agreement(catalog, None, "reports-classic") for _ in range(2)]
    listed = [granted("included_pages", 8, customer_identifier="twice", expires_at=NEXT_YEAR)]
    listed += [granted("included_pages", 1, aws_account_id=each.customer.aws_account_id) for each in others]
    for later in (3 * HOUR, 4 * HOUR):
        assert walk.walk(classic, ScriptedAws(listed=listed), now=NOON + later)
    assert both(*bought_twice) == [("ended", "GONE"), ("active", "")]
    assert [current(each)["included_pages"] for each in (bought_twice[1], *others)] == [8, 1, 1]


def test_a_subscription_after_a_contract_that_ran_out_is_of_the_purchase_whose_buyer_came(bought_twice):
    take(sns("subscribe-success", NOON + 2 * HOUR, customer="twice"), now=NOON + 2 * HOUR)
    take(sns("entitlement-updated", NOON + 3 * HOUR, customer="twice"), now=NOON + 3 * HOUR)
    assert both(*bought_twice) == [("ended", "GONE"), ("active", "")]
    take(sns("unsubscribe-pending", NOON + 4 * HOUR, customer="twice"), now=NOON + 4 * HOUR)
    assert both(*bought_twice) == [("ended", "GONE"), ("ending", "UNSUBSCRIBED")]
    assert set(MarketplaceEvent.objects.values_list("state", flat=True)) == {"applied"}


def test_a_legacy_purchase_whose_rows_name_a_license_that_nobody_told_is_not_lost(catalog, acme):
    Product.objects.filter(code="reports-classic").update(pricing="contract")
    classic = make_agreement(catalog, acme, "reports-classic", entitlements_read_at=None)
    classic.product.refresh_from_db()
    account = classic.customer.aws_account_id
    row = granted("included_pages", 7, aws_account_id=account, license_arn=license_arn("9" * 32))
    assert entitlements.sync(classic, marketplace=ScriptedAws(entitlements=[[row]]), now=NOON)
    assert walk.walk(classic.product, ScriptedAws(listed=[row]), now=NOON + timedelta(hours=1))
    assert classic.entitlements.current().get().value == 7
