"""Renewals and replacements: another agreement under another license, and the buyer does not notice."""

from __future__ import annotations

from itertools import permutations

import pytest
from django.db import transaction

from accounts import organizations
from billing import (
    audit,
    decisions,
    effects,
    flags,
    metering,
    readings,
    reconciliation,
    registration,
    submission,
    succession,
    usage,
)
from billing.aws.client import BotoMarketplace
from billing.aws.types import AgreementDetails, Connection
from billing.models import Agreement, AuditEvent, Effect, MarketplaceCustomer, UsageEvent
from tests.billing.arriving import at_once
from tests.billing.ledger import BEGIN, NOON, REGION, ScriptedAws, granted
from tests.billing.notices import created, deprovisioned, ended, license_updated
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, Stage, of, take

ACCOUNT = "123456789012"


@pytest.fixture
def stage(aws, acme_admin):
    return Stage(aws, acme_admin)


@pytest.fixture
def describing(aws, settings):
    """The seller may call DescribeAgreement."""
    aws.marketplace = BotoMarketplace(Connection(**{**settings.MARKETPLACE, "describe_agreements": True}))


@pytest.fixture
def other(acme_admin):
    """A second workspace of the same person."""
    return organizations.create(name="Other half", owner=acme_admin)


def actions(agreement):
    links = AuditEvent.objects.filter(stream=agreement.audit_stream).order_by("sequence")
    of_succession = links.filter(action__in=["continues", "continued", "inherited"])
    return [(link.action, link.data) for link in of_succession]


def is_proved():
    return list(reconciliation.verify()) == list(audit.verify()) == []


def flag_of(agreement):
    agreement.refresh_from_db()
    return agreement.flag_reason


def times_flagged(agreement, reason):
    links = AuditEvent.objects.filter(stream=agreement.audit_stream, action="flagged", data__reason=reason)
    return links.count()


def links_of(agreement):
    return agreement.effects.filter(kind="link_renewal")


# --- Over the simulator


@pytest.mark.parametrize("what", ["renew", "replace"])
def test_what_continues_a_purchase_inherits_its_organization(stage, aws, acme, what):
    old = stage.buy(acme)
    stage.pass_time(30 * DAY)
    bought = getattr(aws.control, what)(old.agreement_id, {"included_pages": 250})
    stage.pass_time(MINUTE)
    old.refresh_from_db()
    new = of(bought)
    assert (new.previous, new.organization, new.claimed_at) == (old, acme, stage.now)
    assert new.previous_agreement_id == (old.agreement_id if what == "renew" else None)
    assert (new.status, old.status) == ("active", "ending")
    assert old.end_reason == {"renew": "RENEWED", "replace": "REPLACED"}[what]
    assert actions(old) == [("continued", {"agreement": new.pk})]
    assert actions(new) == [
        ("continues", {"agreement": old.pk}),
        ("inherited", {"organization": acme.pk, "agreement": old.pk}),
    ]
    assert stage.allows(acme).limit == 250
    # What is left of the old one's grace ends without a word.
    stage.pass_time(25 * HOUR)
    assert not old.entitlements.current().exists()
    assert (flag_of(old), flag_of(new)) == ("", "")
    assert stage.allows(acme).code == "included"
    assert is_proved()


def test_a_contract_that_renews_by_itself_at_its_end_goes_on(stage, aws, acme):
    aws.control.time(contract_term=DAY.total_seconds())
    first = stage.buy(acme, auto_renew=True)
    for _ in range(2):
        stage.pass_time(DAY)
        stage.pass_time(MINUTE)
        assert stage.allows(acme).limit == 100
    chain = list(Agreement.objects.order_by("activated_at"))
    assert [each.previous for each in chain] == [None, first, chain[1]]
    assert {each.organization for each in chain} == {acme}
    assert [each.status for each in chain] == ["ended", "ending", "active"]
    assert set(Agreement.objects.values_list("flag_reason", flat=True)) == {""}
    assert is_proved()


class Feed:
    """What AWS tells, step by step; usage all the while, and somebody who asks for access at any moment."""

    def __init__(self, stage, organization):
        self.stage, self.organization, self.used = stage, organization, 0
        stage.aws.marketplace = Watched(stage.aws.marketplace, self.look)

    def step(self, *, delivered):
        """Five seconds on."""
        stage = self.stage
        stage.now += 5 * SECOND
        stage.aws.control.freeze(stage.now)
        self.look()
        if delivered:
            stage.aws.deliver(now=stage.now)
            self.look()
        stage.work(delivered=False)
        self.look()
        self.used += 1
        usage.record(self.organization, "pages", 1, key=f"u{self.used}", now=stage.now)

    def look(self):
        grant = self.stage.allows(self.organization)
        assert (bool(grant), grant.limit) == (True, 10), (self.stage.now, grant)


class Watched:
    """AWS; while it is asked for entitlements, access is looked at."""

    def __init__(self, marketplace, look):
        self._marketplace, self._look = marketplace, look

    def __getattr__(self, name):
        return getattr(self._marketplace, name)

    def get_entitlements(self, of):
        self._look()
        return self._marketplace.get_entitlements(of)


@pytest.mark.parametrize(
    ("by_itself", "held_back", "reordered"),
    [(False, 0, 3), (False, 120, 0), (True, 60, 2)],
)
def test_access_does_not_blink_and_every_use_is_billed(stage, aws, acme, by_itself, held_back, reordered):
    """``held_back``: seconds until AWS's messages come; ``reordered``: how many are overtaken."""
    aws.control.time(contract_term=DAY.total_seconds())
    old = stage.buy(acme, quantities={"included_pages": 10}, auto_renew=by_itself)
    stage.pass_time(NOON + DAY - 15 * SECOND - stage.now)
    feed = Feed(stage, acme)
    for _ in range(2):
        feed.step(delivered=True)
    if reordered:
        aws.control.fault("events", "reorder", count=reordered)
    if not by_itself:
        aws.control.renew(old.agreement_id)
    for seconds in range(0, held_back + 45, 5):
        feed.step(delivered=seconds >= held_back)
    new = Agreement.objects.exclude(pk=old.pk).get()
    old.refresh_from_db()
    assert (new.status, new.previous, old.status) == ("active", old, "ending")

    for minutes in (10, 65):
        stage.pass_time(minutes * MINUTE)
        metering.close_hours(region=REGION, now=stage.now)
        submission.submit_due(aws.marketplace, now=stage.now)
    assert set(UsageEvent.objects.values_list("disposition", flat=True)) == {"billable"}
    figures = [(row.used, row.included) for each in (old, new) for row in each.metering_records.all()]
    assert sum(used for used, _ in figures) == feed.used
    billed = sum(int(row["quantity"]) for row in aws.control.invoice()["totals"])
    assert billed == feed.used - sum(included for _, included in figures)
    assert all(included <= 10 for _, included in figures)
    assert is_proved()


def test_the_old_one_counts_until_the_entitlements_of_the_new_one_are_known(stage, aws, acme):
    old = stage.buy(acme, quantities={"included_pages": 10})
    stage.pass_time(11 * MINUTE)
    bought = aws.control.renew(old.agreement_id, {"included_pages": 20})
    aws.control.fault("GetEntitlements", "error", code="AccessDeniedException", count=None)
    for _ in range(4):
        stage.pass_time(30 * SECOND)
        assert stage.allows(acme).limit == 10
    assert of(bought).previous == old
    aws.control.clear_faults()
    stage.pass_time(10 * MINUTE)
    assert stage.allows(acme).limit == 20


# --- Several that may be meant


def two_purchases(stage, *owners):
    return [stage.buy(owner, aws_account_id=ACCOUNT) for owner in owners]


def test_two_that_are_replaced_at_once_are_left_to_a_person_unless_aws_describes_them(
    stage, aws, acme, other, settings
):
    olds = two_purchases(stage, acme, other)
    news = [aws.control.replace(old.agreement_id) for old in olds]
    stage.pass_time(MINUTE)
    # AWS takes usage of the old ones for an hour: a person is asked at once, and it is looked for as before.
    for each in (*olds, *map(of, news)):
        assert flag_of(each) == flags.UNCLEAR_SUCCESSION
    stage.pass_time(23 * HOUR)
    for bought in news:
        assert (of(bought).previous, of(bought).organization) == (None, None)
    assert stage.allows(acme)
    assert {link.state for link in Effect.objects.filter(kind="link_renewal")} == {"due"}
    stage.pass_time(2 * HOUR)
    for each in (*olds, *map(of, news)):
        assert flag_of(each) == flags.UNCLEAR_SUCCESSION
        assert times_flagged(each, flags.UNCLEAR_SUCCESSION) == 1
        assert (of(news[0]).organization, of(news[1]).organization) == (None, None)
    assert {link.state for link in Effect.objects.filter(kind="link_renewal")} == {"skipped"}

    # The seller permits DescribeAgreement at last.
    describing = BotoMarketplace(Connection(**{**settings.MARKETPLACE, "describe_agreements": True}))
    for each in Agreement.objects.all():
        readings.described(each, describing.describe_agreement(each.agreement_id), now=stage.now)
    link_all(stage.now)
    for old, bought in zip(olds, news, strict=True):
        assert (of(bought).previous, of(bought).organization) == (old, old.organization)
        assert (flag_of(old), flag_of(of(bought))) == ("", "")
    assert is_proved()


def test_where_aws_describes_the_chain_each_goes_to_its_own(describing, stage, aws, acme, other):
    olds = two_purchases(stage, acme, other)
    news = [aws.control.replace(old.agreement_id) for old in reversed(olds)]
    stage.pass_time(MINUTE)
    stage.pass_time(MINUTE)
    for old, bought in zip(reversed(olds), news, strict=True):
        assert (of(bought).previous, of(bought).organization) == (old, old.organization)
        assert of(bought).initial_agreement_id == old.agreement_id
    # Nobody was asked meanwhile what AWS was about to tell.
    assert not AuditEvent.objects.filter(action="flagged").exists()
    assert is_proved()


def test_who_has_taken_the_flag_away_is_not_asked_at_each_look(stage, aws, acme, other, acme_admin):
    olds = two_purchases(stage, acme, other)
    bought = [aws.control.replace(old.agreement_id) for old in olds][0]
    stage.pass_time(MINUTE)
    flags.settle(of(bought).pk, by=acme_admin, reason="seen", now=stage.now)
    for _ in range(3):
        stage.pass_time(6 * MINUTE)
    assert flag_of(of(bought)) == ""
    # Once more when it is not looked for any longer.
    stage.pass_time(24 * HOUR)
    assert flag_of(of(bought)) == flags.UNCLEAR_SUCCESSION
    assert times_flagged(of(bought), flags.UNCLEAR_SUCCESSION) == 2


def test_a_person_who_links_within_the_hour_loses_no_usage(stage, aws, acme, other, acme_admin):
    olds = two_purchases(stage, acme, other)
    news = [aws.control.replace(old.agreement_id) for old in olds]
    stage.pass_time(MINUTE)
    assert flag_of(of(news[0])) == flags.UNCLEAR_SUCCESSION
    stage.pass_time(30 * MINUTE)
    before = usage.record(acme, "pages", 3, key="before", now=stage.now)
    succession.link_by_hand(of(news[0]).pk, old=olds[0], by=acme_admin, reason="told", now=stage.now)
    assert (flag_of(olds[0]), flag_of(of(news[0]))) == ("", "")
    metering.close_last_hours(region=REGION, now=stage.now)
    stage.pass_time(5 * HOUR)
    after = usage.record(acme, "pages", 5, key="after", now=stage.now)
    before.refresh_from_db()
    assert before.metering_record.agreement == olds[0]
    assert (after.agreement, after.disposition) == (of(news[0]), "billable")
    assert is_proved()


def test_what_was_used_before_a_later_link_is_billed_on_the_renewal_under_another_key(
    stage, aws, acme, other, acme_admin
):
    """docs/lifecycle.md, "too late for AWS": a use stays where it was written, so it is written once more."""
    olds = two_purchases(stage, acme, other)
    news = [aws.control.replace(old.agreement_id) for old in olds]
    stage.pass_time(MINUTE)
    stage.pass_time(2 * HOUR)
    old, new = olds[0], of(news[0])
    late = usage.record(acme, "pages", 105, key="k1", now=stage.now)
    assert (late.agreement, late.disposition) == (old, "too_late")
    stage.pass_time(4 * HOUR)
    succession.link_by_hand(new.pk, old=old, by=acme_admin, reason="told", now=stage.now)
    stage.pass_time(SECOND)
    decide = {"by": acme_admin, "reason": "billed on the renewal", "now": stage.now}
    assert decisions.bill_late_usage([late], **decide).refused

    again = usage.record(
        acme,
        "pages",
        105,
        key="k1 on the renewal",
        occurred_at=late.occurred_at,
        agreement=new,
        now=stage.now,
    )
    assert (again.agreement, again.disposition) == (new, "billable")
    assert decisions.write_off_usage([late], **decide).done == [late.pk]
    assert usage.record(acme, "pages", 105, key="k1", now=stage.now) == late
    metering.close_hours(region=REGION, now=stage.now)
    submission.submit_due(aws.marketplace, now=stage.now)
    assert aws.control.invoice()["totals"][0]["quantity"] == "5"
    assert is_proved()


# --- In whatever order it is told

NEW_ARN = f"arn:aws:license-manager::294406891311:license:l-{'9' * 32}"
RENEWAL = NOON + DAY
RENEWS = {"intent": "RENEW", "previousAgreementId": "agmt-1"}
NEW = {"agreement_id": "agmt-2", "arn": NEW_ARN}

OLD_ACTIVE = license_updated(BEGIN)
NEW_CREATED = created(RENEWAL + 2 * SECOND, agreement_id="agmt-2", facts=RENEWS)
NEW_ACTIVE = license_updated(RENEWAL + 5 * SECOND, **NEW)
OLD_ENDED = ended(RENEWAL + 2 * SECOND, status="RENEWED")
OLD_GONE = deprovisioned(RENEWAL + 30 * SECOND)
STORY = {
    "old": OLD_ACTIVE, "created": NEW_CREATED, "new": NEW_ACTIVE, "ended": OLD_ENDED, "gone": OLD_GONE,
}  # fmt: skip


def link_all(now):
    for each in Agreement.objects.order_by("pk"):
        succession.link(each, now=now)


def give(agreement_id, organization):
    Agreement.objects.filter(agreement_id=agreement_id, organization=None).update(organization=organization)


def test_the_two_find_each_other_in_whatever_order_they_are_told_of(catalog, acme):
    for order in list(permutations(STORY))[::17]:
        with transaction.atomic():
            for number, name in enumerate(order):
                now = RENEWAL + number * MINUTE
                take(STORY[name], now=now)
                give("agmt-1", acme)
                link_all(now)
            new = Agreement.objects.get(agreement_id="agmt-2")
            old = Agreement.objects.get(agreement_id="agmt-1")
            assert (new.previous, new.organization) == (old, acme), order
            assert (new.status, old.status, old.end_reason) == ("active", "ending", "RENEWED"), order
            assert old.access_until == old.ended_at + DAY, order
            assert list(audit.verify()) == [], order
            transaction.set_rollback(True)


def test_where_the_end_is_told_first_access_goes_on_until_the_successor_is_there(catalog, acme):
    take(OLD_ACTIVE, now=BEGIN)
    give("agmt-1", acme)
    aws = ScriptedAws(entitlements=[[granted("included_pages", 5)]])
    effects.run_due(aws, now=BEGIN)
    take(OLD_ENDED, OLD_GONE, now=RENEWAL + MINUTE)
    for hours in range(1, 24):
        effects.run_due(aws, now=RENEWAL + hours * HOUR)
        assert Agreement.objects.get().gives_access_at(RENEWAL + hours * HOUR)
    take(NEW_CREATED, NEW_ACTIVE, now=RENEWAL + 23 * HOUR)
    effects.run_due(aws, now=RENEWAL + 23 * HOUR)
    new = Agreement.objects.get(agreement_id="agmt-2")
    assert (new.organization, new.status) == (acme, "active")


def test_linking_twice_changes_nothing(catalog, acme):
    take(*STORY.values(), now=RENEWAL + MINUTE)
    give("agmt-1", acme)
    link_all(RENEWAL + MINUTE)
    links = AuditEvent.objects.count()
    rows = list(Agreement.objects.order_by("pk").values())
    for _ in range(2):
        link_all(RENEWAL + 2 * MINUTE)
    assert AuditEvent.objects.count() == links
    assert list(Agreement.objects.order_by("pk").values()) == rows


def test_an_agreement_that_nobody_knows_of_is_not_made_up(catalog, acme):
    take(NEW_CREATED, NEW_ACTIVE, now=RENEWAL)
    new = Agreement.objects.get()
    unclear = succession.link(new, now=RENEWAL)
    assert (unclear.several, "not known" in unclear.why) == (False, True)
    for hours in (0, 12, 25):
        effects.run_due(ScriptedAws(entitlements=[[]]), now=RENEWAL + hours * HOUR)
    assert links_of(new).get().state == "skipped"
    assert flag_of(new) == ""
    # It is heard of at last, when it says that it was renewed.
    take(OLD_ACTIVE, OLD_ENDED, now=RENEWAL + 30 * HOUR)
    effects.run_due(ScriptedAws(entitlements=[[]]), now=RENEWAL + 30 * HOUR)
    new.refresh_from_db()
    assert new.previous.agreement_id == "agmt-1"


def test_another_sellers_or_buyers_agreement_is_no_successor(catalog, acme):
    replaces = {"facts": {"intent": "REPLACE"}}
    take(OLD_ACTIVE, ended(RENEWAL, status="REPLACED"), now=RENEWAL)
    take(created(RENEWAL, agreement_id="agmt-3", **replaces), now=RENEWAL)
    take(license_updated(RENEWAL, agreement_id="agmt-3", arn=NEW_ARN, account="333333333333"), now=RENEWAL)
    third = NEW_ARN.replace("99", "88")
    take(created(RENEWAL, agreement_id="agmt-4", **replaces), now=RENEWAL)
    take(license_updated(RENEWAL, agreement_id="agmt-4", arn=third, product="reports-team"), now=RENEWAL)
    link_all(RENEWAL + DAY)
    assert Agreement.objects.count() == 3
    assert not Agreement.objects.exclude(previous=None).exists()


# --- Two workspaces of one buyer


def replaced(number, *, at=RENEWAL):
    """What is told of a purchase: its beginning, its end, and both events of what replaces it."""
    arn, new_arn = (f"{NEW_ARN[:-2]}{number}{side}" for side in "12")
    old, new = f"agmt-{number}", f"agmt-{number}-next"
    return (
        license_updated(BEGIN, agreement_id=old, arn=arn),
        ended(at, agreement_id=old, status="REPLACED"),
        [
            created(at, agreement_id=new, facts={"intent": "REPLACE"}),
            license_updated(at + 5 * SECOND, agreement_id=new, arn=new_arn),
        ],
    )


def test_what_aws_says_is_of_another_chain_is_no_successor(catalog, acme, other):
    (first, first_ended, _), (second, _, second_next) = map(replaced, (1, 2))
    take(first, second, now=BEGIN)
    for name, organization in (("agmt-1", acme), ("agmt-2", other)):
        give(name, organization)
        describe(name, chain=name, now=BEGIN + HOUR)
    take(first_ended, *second_next, now=RENEWAL)
    describe("agmt-2-next", chain="agmt-2", now=RENEWAL + MINUTE)
    link_all(RENEWAL + 11 * MINUTE)
    new = Agreement.objects.get(agreement_id="agmt-2-next")
    assert (new.previous, new.organization) == (None, None)


def describe(name, *, chain, now):
    details = AgreementDetails("ACTIVE", chain, None, None, None)
    readings.described(Agreement.objects.get(agreement_id=name), details, now=now)


def test_a_renewal_whose_successor_never_comes_is_flagged_although_its_license_stays(catalog, acme):
    take(license_updated(BEGIN), ended(RENEWAL, status="RENEWED"), now=RENEWAL)
    agreement = Agreement.objects.get()
    for now in (RENEWAL, RENEWAL + DAY + MINUTE):
        effects.run_due(ScriptedAws(entitlements=[[granted("included_pages", 1)]]), now=now)
    agreement.refresh_from_db()
    assert (agreement.status, agreement.flag_reason) == ("active", flags.NO_SUCCESSOR)


def test_a_guess_never_opens_a_workspace_to_another(catalog, acme, other):
    """Of two that are replaced at once, one's end and the other's successor are heard of first."""
    (first, first_ended, first_next), (second, second_ended, second_next) = map(replaced, (1, 2))
    take(first, second, now=BEGIN)
    give("agmt-1", acme)
    give("agmt-2", other)
    take(first_ended, *second_next, now=RENEWAL + MINUTE)
    link_all(RENEWAL + MINUTE)
    assert Agreement.objects.get(agreement_id="agmt-2-next").organization is None
    take(second_ended, *first_next, now=RENEWAL + 2 * MINUTE)
    link_all(RENEWAL + DAY)
    for name in ("agmt-1-next", "agmt-2-next"):
        assert Agreement.objects.get(agreement_id=name).organization is None


@pytest.mark.parametrize("ours", [True, False])
def test_of_two_purchases_the_one_that_was_replaced_is_continued(catalog, acme, other, ours):
    (replaced_one, its_end, successor), (staying, _, _) = map(replaced, (1, 2))
    take(replaced_one, staying, now=BEGIN)
    give("agmt-1", acme)
    give("agmt-2", acme if ours else other)
    take(its_end, *successor, now=RENEWAL)
    for minutes, linked in ((1, ours), (9, ours), (10, True)):
        # Where the other is another workspace's, its own replacement might be on its way.
        link_all(RENEWAL + minutes * MINUTE)
        new = Agreement.objects.get(agreement_id="agmt-1-next")
        assert (new.organization, new.previous_id is not None) == (acme if linked else None, linked)
    assert new.previous.agreement_id == "agmt-1"
    assert Agreement.objects.get(agreement_id="agmt-2").status == "active"


def test_within_one_workspace_which_of_them_does_not_matter(catalog, acme):
    (first, first_ended, first_next), (second, second_ended, second_next) = map(replaced, (1, 2))
    take(first, second, now=BEGIN)
    for name in ("agmt-1", "agmt-2"):
        give(name, acme)
    take(first_ended, *second_next, now=RENEWAL + MINUTE)
    link_all(RENEWAL + MINUTE)
    take(second_ended, *first_next, now=RENEWAL + 2 * MINUTE)
    link_all(RENEWAL + 2 * MINUTE)
    assert set(Agreement.objects.values_list("organization", flat=True)) == {acme.pk}
    assert Agreement.objects.exclude(previous=None).count() == 2


def test_a_successor_that_another_organization_claimed_is_left_alone(stage, aws, acme, other, acme_admin):
    old = stage.buy(acme)
    bought = aws.control.renew(old.agreement_id)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=stage.now)
    registration.claim(arrival, by=acme_admin, organization=other, now=stage.now)
    stage.pass_time(MINUTE)
    new = of(bought)
    assert (new.previous, new.organization) == (old, other)
    assert "inherited" not in dict(actions(new))
    assert stage.allows(other)
    for _ in range(2):
        link_all(stage.now)
    assert of(bought).organization == other
    assert stage.allows(acme).code == "grace"  # for the rest of its day
    stage.pass_time(25 * HOUR)
    assert not stage.allows(acme)
    assert flag_of(old) == ""


def test_the_buyer_of_a_renewal_that_was_inherited_finds_it_set_up(stage, aws, acme, acme_admin):
    old = stage.buy(acme)
    bought = aws.control.renew(old.agreement_id)
    stage.pass_time(MINUTE)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=stage.now)
    assert registration.claim(arrival, by=acme_admin, organization=acme, now=stage.now) == of(bought)


# --- Claimed only after the renewal came


def test_a_purchase_that_is_claimed_after_its_renewal_takes_the_renewal_along(stage, aws, acme, acme_admin):
    old = stage.buy(None)
    bought = aws.control.renew(old.agreement_id)
    stage.pass_time(MINUTE)
    assert (of(bought).previous, of(bought).organization) == (old, None)
    arrival = old.registrations.get()
    registration.claim(arrival, by=acme_admin, organization=acme, now=stage.now)
    assert links_of(of(bought)).get(cause="the one before was claimed").state == "due"
    stage.pass_time(SECOND)
    assert of(bought).organization == acme
    assert stage.allows(acme).code == "included"
    assert is_proved()


def test_the_whole_chain_goes_along_however_long_it_is(stage, aws, acme, acme_admin):
    first = stage.buy(None)
    names = [first.agreement_id]
    for _ in range(3):
        names.append(aws.control.renew(names[-1]).agreement_id)
        stage.pass_time(MINUTE)
    chain = [Agreement.objects.get(agreement_id=name) for name in names]
    assert [each.previous for each in chain] == [None, *chain[:-1]]
    registration.claim(first.registrations.get(), by=acme_admin, organization=acme, now=stage.now)
    for _ in range(3):
        stage.pass_time(SECOND)
    assert set(Agreement.objects.values_list("organization", flat=True)) == {acme.pk}
    assert stage.allows(acme).limit == 100
    assert is_proved()


def test_three_replacements_in_a_row_are_one_chain(describing, stage, aws, acme):
    first = stage.buy(acme)
    names = [first.agreement_id]
    for _ in range(2):
        stage.pass_time(2 * HOUR, delivered=False)
        names.append(aws.control.replace(names[-1]).agreement_id)
    for _ in range(4):  # all of it is told at once, and each finds the one before and after it
        stage.pass_time(MINUTE)
    chain = [Agreement.objects.get(agreement_id=name) for name in names]
    assert [each.previous for each in chain] == [None, *chain[:-1]]
    assert {each.organization for each in chain} == {acme}
    assert stage.allows(acme).limit == 100


# --- None comes


def test_without_a_successor_access_ends_after_a_day_and_a_person_is_told(catalog, acme):
    take(OLD_ACTIVE, now=BEGIN)
    give("agmt-1", acme)
    aws = ScriptedAws(entitlements=[[granted("included_pages", 5)]])
    effects.run_due(aws, now=BEGIN)
    take(OLD_ENDED, OLD_GONE, now=RENEWAL + MINUTE)
    old = Agreement.objects.get()
    effects.run_due(aws, now=old.access_until - SECOND)
    assert (flag_of(old), old.entitlements.current().count()) == ("", 1)
    effects.run_due(aws, now=old.access_until)
    assert (flag_of(old), old.entitlements.current().count()) == (flags.NO_SUCCESSOR, 0)

    take(NEW_CREATED, NEW_ACTIVE, now=RENEWAL + 40 * HOUR)
    effects.run_due(aws, now=RENEWAL + 40 * HOUR)
    assert flag_of(old) == ""
    new = Agreement.objects.get(agreement_id="agmt-2")
    assert (new.organization, flag_of(new)) == (acme, "")
    assert list(audit.verify()) == []


def test_a_successor_that_is_known_but_not_paid_for_a_day_lowers_the_flag_when_it_is(catalog, acme):
    take(OLD_ACTIVE, now=BEGIN)
    give("agmt-1", acme)
    customer = MarketplaceCustomer.objects.get()
    aws = ScriptedAws(entitlements=[[granted("included_pages", 5)]])
    effects.run_due(aws, now=BEGIN)
    # Its buyer was faster than its license.
    Agreement.objects.create(
        product=catalog["reports-flex"], customer=customer, identity="license", license_arn=NEW_ARN,
        license_id=NEW_ARN.rpartition(":")[2], agreement_id="agmt-2", created_at=RENEWAL,
    )  # fmt: skip
    take(NEW_CREATED, OLD_ENDED, OLD_GONE, now=RENEWAL + MINUTE)
    effects.run_due(aws, now=RENEWAL + MINUTE)
    old, new = Agreement.objects.order_by("pk")
    assert (new.previous, new.organization, new.status) == (old, acme, "pending")
    effects.run_due(aws, now=RENEWAL + 25 * HOUR)
    assert flag_of(old) == flags.NO_SUCCESSOR
    take(NEW_ACTIVE, now=RENEWAL + 30 * HOUR)
    effects.run_due(aws, now=RENEWAL + 30 * HOUR)
    assert flag_of(old) == ""


def test_the_flag_of_another_reason_stays_when_the_successor_comes(catalog, acme):
    take(OLD_ACTIVE, now=BEGIN)
    old = Agreement.objects.get()
    with transaction.atomic():
        flags.raise_flag(old, flags.NOT_SUBSCRIBED, at=BEGIN)
    take(NEW_CREATED, NEW_ACTIVE, OLD_ENDED, now=RENEWAL)
    link_all(RENEWAL)
    assert flag_of(old) == flags.NOT_SUBSCRIBED


# --- Two at once


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_two_that_link_at_once_do_not_wait_for_each_other_in_a_ring(catalog, acme):
    take(*STORY.values(), now=RENEWAL + MINUTE)
    give("agmt-1", acme)
    old, new = Agreement.objects.order_by("activated_at")
    answers = at_once(
        *(lambda each=each: succession.link(each, now=RENEWAL + MINUTE) for each in (old, new, old, new))
    )
    assert answers == [None] * 4
    new.refresh_from_db()
    assert (new.previous, new.organization) == (old, acme)
    assert len(actions(old)) == 1
    assert len(actions(new)) == 2
    assert list(audit.verify()) == []
