"""Who is told what, when, once, and in words that are true."""

from __future__ import annotations

import json
import re
from email import message_from_bytes, policy

import pytest
from django.conf import settings
from django.core import mail
from django.utils import translation

from accounts.models import Membership
from billing import clock, effects, registration
from billing.aws.types import AgreementDetails
from billing.mailing import delivery
from billing.mailing.letters import Situation, administrators
from billing.mails import LETTERS
from billing.models import (
    Agreement,
    Effect,
    MarketplaceCustomer,
    MeteringRecord,
    Product,
    Registration,
    UsageEvent,
)
from tests.billing.ledger import (
    BEGIN,
    NOON,
    ScriptedAws,
    entitle,
    granted,
    make_agreement,
    make_record,
    use,
)
from tests.billing.notices import ARN, created, deprovisioned, ended, iso, license_updated, sns
from tests.billing.stage import DAY, HOUR, MINUTE, SECOND, take

BUYER, SELLER = "ada@acme.example", "support@acme.example"
# And to the seller; those to persons are told of in tests of their own.
TO_A_WORKSPACE = [name for name, letter in LETTERS.items() if letter.people is administrators]
OTHER = ARN.replace("0123", "9999")


class Aws(ScriptedAws):
    """AWS with a contract of 100 pages, and nothing to describe unless told."""

    def __init__(self, *readings, details=None):
        super().__init__(entitlements=readings or [[granted("included_pages", 100)]])
        self.details = details

    def describe_agreement(self, agreement_id):
        return self.details


AWS = Aws()


def run(now, aws=AWS):
    """Do what is due, as a worker would; returns to whom what was said, oldest first."""
    mail.outbox.clear()
    effects.run_due(aws, now=now)
    return [(letter.to[0], letter.subject) for letter in mail.outbox]


def told(body, **agreement):
    """The event, with more to say of the agreement."""
    event = json.loads(body)
    event["detail"]["agreement"] |= agreement
    return json.dumps(event)


def outcomes(agreement, name):
    """What became of the letters of that name, by what tells one from the next."""
    rows = agreement.effects.filter(kind="mail", cause__startswith=f"{name}:").order_by("pk")
    return {row.cause.partition(":")[2]: (row.state, row.outcome) for row in rows}


def unconfirmed(catalog, **fields):
    """A purchase whose buyer came before its License Updated."""
    ids = {"license_arn": ARN, "license_id": ARN.rpartition(":")[2], "agreement_id": "agmt-1"}
    return make_agreement(
        catalog, None, "reports-flex", activated_at=None, entitlements_read_at=None, **ids, **fields
    )


def claim(agreement, acme, by, *, now):
    arrival = Registration.objects.create(
        digest=f"{agreement.pk:064}", agreement=agreement, expires_at=now + HOUR, created_at=now
    )
    return registration.claim(arrival, by=by, organization=acme, now=now)


@pytest.fixture
def flex(catalog, acme, acme_admin):
    """A contract that is active since noon and was claimed a minute later; all of that is told."""
    take(license_updated(NOON))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON + MINUTE)
    run(NOON + MINUTE)
    return agreement


@pytest.fixture
def payg(catalog, acme, acme_admin):
    take(license_updated(NOON, product="reports-payg"))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON + MINUTE)
    run(NOON + MINUTE)
    return agreement


@pytest.fixture
def classic(catalog, acme):
    """A legacy purchase, confirmed at noon; that is told."""
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    tell(agreement, "subscribe-success", NOON)
    run(NOON)
    return agreement


def tell(agreement, action, at):
    """SNS says so, in an instant."""
    take(sns(action, at, customer=agreement.customer.customer_identifier), now=at)
    agreement.refresh_from_db()


# --- To whom


def test_each_letter_goes_to_those_it_is_for_each_alone(
    catalog, acme, acme_admin, acme_member, outsider, make_user, settings
):
    settings.SELLER_EMAILS = ["sales@seller.example", "ops@seller.example"]
    people = {
        "cleo@acme.example": {},
        "unproven@acme.example": {"verified": False},
        "left@acme.example": {"is_active": False},
    }
    for email, fields in people.items():
        user = make_user(email, **fields)
        Membership.objects.create(organization=acme, user=user, role=Membership.Role.ADMIN)
    acme_admin.emailaddress_set.create(email="ada@home.example", verified=True, primary=False)
    agreement = make_agreement(catalog, acme, "reports-flex", ended_at=NOON)
    for name in TO_A_WORKSPACE:
        letters = written(name, agreement)
        to_seller = name.startswith("seller")
        readers = settings.SELLER_EMAILS if to_seller else [BUYER, "cleo@acme.example"]
        assert [letter.to for letter in letters] == [[reader] for reader in readers], name
        answers_to = [] if to_seller else ["support@acme.example"]
        assert [letter.reply_to for letter in letters] == [answers_to] * 2


def test_without_addresses_of_its_own_the_seller_is_told_at_the_support_address(catalog, acme, settings):
    settings.SELLER_EMAILS, settings.SUPPORT_EMAIL = [], "help@seller.example"
    assert written("seller_new", make_agreement(catalog, acme))[0].to == ["help@seller.example"]


def test_where_there_is_nobody_to_tell_that_is_recorded(flex, acme_admin):
    acme_admin.emailaddress_set.update(verified=False)
    take(ended(NOON + HOUR), now=NOON + HOUR)
    assert [reader for reader, _ in run(NOON + HOUR + 10 * MINUTE)] == [SELLER]
    assert outcomes(flex, "buyer_ending") == {"1": ("skipped", "there is nobody to tell")}


# --- What, and when


def test_a_buyer_who_came_before_aws_confirmed_is_welcomed_and_then_told(catalog, acme, acme_admin):
    agreement = unconfirmed(catalog, created_at=NOON - MINUTE)
    claim(agreement, acme, acme_admin, now=NOON - MINUTE)
    assert run(NOON - MINUTE) == [(BUYER, "Welcome to Acme Reports Flex: your purchase is set up")]
    assert "AWS is confirming your purchase" in mail.outbox[0].body
    take(license_updated(NOON))
    assert run(NOON) == [
        (SELLER, "New purchase: Acme Reports Flex (Acme)"),
        (BUYER, "Your subscription to Acme Reports Flex is active"),
    ]


def test_a_buyer_who_came_afterwards_reads_in_the_welcome_that_all_is_ready(catalog, acme, acme_admin):
    take(license_updated(NOON))
    assert run(NOON) == [(SELLER, "New purchase: Acme Reports Flex")]
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON + HOUR)
    assert run(NOON + HOUR) == [(BUYER, "Welcome to Acme Reports Flex: your purchase is set up")]
    assert "everything you bought is ready to use" in mail.outbox[0].body
    told_by_welcome = "the welcome, which is about to be sent, says so"
    assert outcomes(agreement, "buyer_activated") == {"1": ("skipped", told_by_welcome)}


def test_a_welcome_that_went_out_before_aws_confirmed_keeps_its_promise(catalog, acme, acme_admin):
    agreement = unconfirmed(catalog, created_at=NOON)
    claim(agreement, acme, acme_admin, now=NOON + HOUR)
    # One worker has the welcome in hand and has read that it is pending; then the event comes to another.
    welcome = Effect.objects.filter(cause="buyer_welcome:")
    welcome.update(attempts=1, due_at=NOON + 2 * HOUR)
    take(license_updated(NOON), now=NOON + HOUR)
    assert (BUYER, "Your subscription to Acme Reports Flex is active") in run(NOON + HOUR)


def test_an_end_is_told_when_why_is_known_and_its_close_when_aws_takes_no_more(payg):
    take(ended(NOON + HOUR), deprovisioned(NOON + HOUR + 31 * SECOND), now=NOON + HOUR + MINUTE)
    assert run(NOON + HOUR + 10 * MINUTE - SECOND) == []
    assert run(NOON + HOUR + 10 * MINUTE) == [
        (SELLER, "Ended: Acme Reports Pay As You Go (Acme)"),
        (BUYER, "Your subscription to Acme Reports Pay As You Go has ended"),
    ]
    clock.advance(now=NOON + 2 * HOUR + 31 * SECOND)
    assert run(NOON + 2 * HOUR + 31 * SECOND) == [
        (BUYER, "Your subscription to Acme Reports Pay As You Go is closed")
    ]
    assert run(NOON + 9 * DAY) == []


def test_a_failed_payment_is_told_the_buyer(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    tell(agreement, "subscribe-fail", NOON)
    assert run(NOON + 9 * MINUTE) == []  # it may have been paid since
    assert run(NOON + 10 * MINUTE) == [
        (BUYER, "AWS could not complete your purchase of Acme Reports Classic")
    ]


def test_the_seller_is_told_after_a_day_of_a_purchase_that_nobody_claimed(catalog):
    take(license_updated(NOON))
    run(NOON)
    assert run(NOON + DAY - SECOND) == []
    assert run(NOON + DAY) == [(SELLER, "Bought, never registered: Acme Reports Flex")]


def test_the_seller_is_told_what_changed_and_not_what_was_bought_first(flex):
    assert outcomes(flex, "seller_changed") == {}
    take(license_updated(NOON + HOUR), now=NOON + HOUR)
    assert run(NOON + HOUR) == []  # the reading found nothing new
    take(license_updated(NOON + 2 * HOUR), now=NOON + 2 * HOUR)
    aws = Aws([granted("included_pages", 250, expires_at=NOON + 400 * DAY), granted("support", True)])
    assert run(NOON + 2 * HOUR, aws) == [(SELLER, "Entitlements changed: Acme Reports Flex (Acme)")]
    assert "- included_pages: 250 (until 28 December 2027)\n- support: True\n" in mail.outbox[0].body


def test_a_renewal_is_told_as_one_to_both_sides(flex):
    take(ended(NOON + HOUR, status="RENEWED"), now=NOON + HOUR)
    renewal = {"intent": "RENEW", "previousAgreementId": "agmt-1"}
    take(
        told(created(NOON + HOUR, agreement_id="agmt-2"), **renewal),
        license_updated(NOON + HOUR + MINUTE, arn=OTHER, agreement_id="agmt-2"),
        deprovisioned(NOON + HOUR + MINUTE),
        now=NOON + HOUR + MINUTE,
    )
    assert sorted(run(NOON + HOUR + MINUTE)) == [
        (BUYER, "Your subscription to Acme Reports Flex continues"),
        (SELLER, "Renewed or replaced: Acme Reports Flex (Acme)"),
    ]
    clock.advance(now=NOON + 3 * HOUR)
    assert run(NOON + 25 * HOUR) == []
    continued = ("skipped", "another agreement continues it")
    for name in ("buyer_ending", "buyer_ended", "seller_ended"):
        assert outcomes(flex, name) == {"1": continued}


def test_a_subscription_that_is_taken_up_again_ends_once_more_and_that_is_told_once_more(classic):
    for start in (HOUR, 5 * HOUR):
        tell(classic, "unsubscribe-pending", NOON + start)
        assert (BUYER, "Your subscription to Acme Reports Classic has ended") in run(NOON + start + HOUR / 6)
        tell(classic, "subscribe-success", NOON + start + HOUR / 2)
        assert run(NOON + start + HOUR / 2) == [
            (BUYER, "Your subscription to Acme Reports Classic is active again")
        ]
    tell(classic, "unsubscribe-pending", NOON + 9 * HOUR)
    for _ in range(2):
        take(sns("unsubscribe-pending", NOON + 9 * HOUR, customer=classic.customer.customer_identifier))
    readers = [reader for reader, _ in run(NOON + 10 * HOUR)]
    assert sorted(readers) == [BUYER, SELLER]
    assert list(outcomes(classic, "buyer_ending")) == ["1", "2", "3"]


# --- Once


def test_repeated_and_doubled_events_and_runs_tell_nothing_twice(flex, acme, acme_admin):
    bodies = [
        license_updated(NOON, source_id="1"),
        told(created(NOON, source_id="2"), endTime=iso(NOON + 400 * DAY)),
        ended(NOON + HOUR, source_id="3"),
        deprovisioned(NOON + HOUR, source_id="4"),
    ]
    subjects = []
    for now in (NOON + 2 * HOUR, NOON + 3 * HOUR, NOON + 4 * HOUR):
        take(*bodies, *bodies, now=now)
        clock.advance(now=now)
        registration.claim(flex.registrations.get(), by=acme_admin, organization=acme, now=now)
        subjects += run(now) + run(now) + run(now + MINUTE)
    assert subjects == [
        (SELLER, "Ended: Acme Reports Flex (Acme)"),
        (BUYER, "Your subscription to Acme Reports Flex is closed"),
    ]
    assert run(NOON + 500 * DAY) == []


# --- Overtaken by the facts


def superseded(agreement, name):
    return {which: why for which, (state, why) in outcomes(agreement, name).items() if state == "skipped"}


def test_what_was_activated_and_has_ended_by_now_is_not_told_to_be_active(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    tell(agreement, "subscribe-success", NOON)
    tell(agreement, "unsubscribe-pending", NOON + MINUTE)
    assert run(NOON + MINUTE) == [(SELLER, "New purchase: Acme Reports Classic (Acme)")]
    assert superseded(agreement, "buyer_activated") == {"1": "the agreement is ending by now"}


def test_an_ending_that_was_called_off_is_not_told(classic):
    tell(classic, "unsubscribe-pending", NOON + HOUR)
    tell(classic, "subscribe-success", NOON + HOUR + MINUTE)
    assert run(NOON + HOUR + 10 * MINUTE) == [
        (BUYER, "Your subscription to Acme Reports Classic is active again")
    ]
    called_off = {"1": "the ending was called off"}
    assert superseded(classic, "buyer_ending") == superseded(classic, "seller_ended") == called_off


def test_of_two_turns_only_the_last_is_told(classic):
    for start in (HOUR, 2 * HOUR):
        tell(classic, "unsubscribe-pending", NOON + start)
        tell(classic, "subscribe-success", NOON + start + MINUTE)
    tell(classic, "unsubscribe-pending", NOON + 3 * HOUR)
    assert run(NOON + 3 * HOUR + 10 * MINUTE) == [
        (SELLER, "Ended: Acme Reports Classic (Acme)"),
        (BUYER, "Your subscription to Acme Reports Classic has ended"),
    ]
    assert list(superseded(classic, "buyer_ending")) == ["1", "2"]
    assert superseded(classic, "buyer_activated") == {
        "2": "it was activated again since",
        "3": "the agreement is ending by now",
    }


def test_an_end_that_was_taken_back_is_not_told(flex):
    """AWS listed no entitlements for an hour, and said no word."""
    take(license_updated(NOON + HOUR), now=NOON + HOUR)
    run(NOON + HOUR, Aws([]))
    clock.advance(now=NOON + 3 * HOUR)
    flex.refresh_from_db()
    assert (flex.status, flex.end_reason) == ("ended", "GONE")
    take(license_updated(NOON + 4 * HOUR), now=NOON + 4 * HOUR)
    assert run(NOON + 4 * HOUR) == [(BUYER, "Your subscription to Acme Reports Flex is active again")]
    assert superseded(flex, "buyer_ended") == {"1": "it was activated again since"}
    assert superseded(flex, "buyer_ending") == {"1": "the ending was called off"}
    assert superseded(flex, "seller_ended") == {"1": "the ending was called off"}


def test_an_ending_that_nobody_could_tell_in_time_is_told_as_the_end(classic):
    tell(classic, "unsubscribe-pending", NOON + HOUR)
    tell(classic, "unsubscribe-success", NOON + 2 * HOUR)
    assert run(NOON + 2 * HOUR) == [
        (SELLER, "Ended: Acme Reports Classic (Acme)"),
        (BUYER, "Your subscription to Acme Reports Classic is closed"),
    ]
    assert superseded(classic, "buyer_ending") == {"1": "the agreement is ended by now"}


def test_a_payment_that_failed_and_then_succeeded_is_told_as_what_it_came_to(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-classic", activated_at=None, created_at=NOON)
    tell(agreement, "subscribe-fail", NOON)
    tell(agreement, "subscribe-success", NOON + SECOND)
    assert (BUYER, "Your subscription to Acme Reports Classic is active") in run(NOON + HOUR)
    assert superseded(agreement, "buyer_failed") == {"0": "the agreement is active by now"}


def test_a_purchase_that_is_ending_when_it_is_claimed_is_not_welcomed(catalog, acme, acme_admin):
    take(license_updated(NOON), ended(NOON + HOUR), now=NOON + HOUR)
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON + HOUR)
    assert (BUYER, "Your subscription to Acme Reports Flex has ended") in run(NOON + HOUR + 10 * MINUTE)
    assert superseded(agreement, "buyer_welcome") == {"": "the agreement is ending by now"}


@pytest.mark.parametrize(
    ("bodies", "why"),
    [
        ([ended(NOON + HOUR)], "the agreement is ending by now"),
        ([ended(NOON + HOUR, status="RENEWED")], "another agreement continues it"),
    ],
)
def test_nobody_is_missed_where_there_is_nothing_to_register_for(catalog, bodies, why):
    take(license_updated(NOON), *bodies, now=NOON + HOUR)
    run(NOON + 25 * HOUR)
    assert superseded(Agreement.objects.get(), "seller_never_registered") == {"": why}


def test_a_purchase_that_was_claimed_is_not_told_to_be_never_registered(flex):
    assert run(NOON + DAY) == []
    assert superseded(flex, "seller_never_registered") == {"": "the buyer has registered"}


def test_of_changes_close_together_the_last_tells_what_is_in_force(flex):
    for hour, pages in ((1, 200), (2, 300)):
        take(license_updated(NOON + hour * HOUR), now=NOON + hour * HOUR)
        # The mail server is slower than AWS.
        effects._take_turn(
            Effect.objects.filter(state="due", kind="sync_entitlements"),
            Aws([granted("included_pages", pages)]),
            now=NOON + hour * HOUR,
            began=0,
        )
    assert len(run(NOON + 2 * HOUR)) == 1
    assert "included_pages: 300" in mail.outbox[0].body
    assert list(superseded(flex, "seller_changed").values()) == ["a later change tells what is in force"]


# --- Before a trial or a contract ends


def expiring(*, days, **agreement):
    """Aws's word that the contract of noon runs for so many days."""
    return told(created(NOON), endTime=iso(NOON + days * DAY), **agreement)


TERM = NOON + 40 * DAY
EXPIRES = "Your contract for Acme Reports Flex runs out in {} days"


def test_a_contract_is_reminded_of_30_and_7_days_before(flex):
    take(expiring(days=40))
    assert run(TERM - 30 * DAY - SECOND) == []
    assert run(TERM - 30 * DAY) == [(BUYER, EXPIRES.format(30))]
    assert "until 2 January 2027, 12:00 UTC. Unless it is set to renew automatically" in mail.outbox[0].body
    take(expiring(days=40), license_updated(TERM - 20 * DAY))
    assert run(TERM - 7 * DAY - SECOND) == []
    assert run(TERM - 7 * DAY + HOUR) == [(BUYER, EXPIRES.format(7))]
    assert run(TERM + DAY) == []


def test_of_a_term_shorter_than_that_nobody_is_told_on_its_first_day(catalog, acme, acme_admin):
    take(license_updated(NOON), expiring(days=20))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON + 14 * DAY)
    assert [reader for reader, _ in run(NOON + 14 * DAY)] == [SELLER, BUYER]
    assert "Welcome" in mail.outbox[1].subject
    assert outcomes(agreement, "buyer_contract_expires") == {}


def test_a_term_that_was_moved_is_reminded_of_at_its_new_date(flex):
    take(expiring(days=40))
    amended = created(NOON + DAY).replace("Agreement Created", "Agreement Amended")
    take(told(amended, endTime=iso(TERM + 10 * DAY)), now=NOON + DAY)
    assert run(TERM - 30 * DAY) == []
    assert run(TERM - 20 * DAY) == [(BUYER, EXPIRES.format(30))]
    run(TERM)
    moved = [f"{days} {TERM.isoformat()}" for days in (30, 7)]
    assert superseded(flex, "buyer_contract_expires") == dict.fromkeys(moved, "the date has changed")


def test_a_reminder_that_the_next_one_overtook_is_not_sent(flex):
    take(expiring(days=40))
    assert run(TERM - 7 * DAY) == [(BUYER, EXPIRES.format(7))]
    assert list(superseded(flex, "buyer_contract_expires").values()) == ["the next reminder is due"]


def test_a_late_reminder_says_how_many_days_are_left(flex):
    take(expiring(days=40))
    assert run(TERM - 12 * DAY + HOUR) == [(BUYER, EXPIRES.format(12))]


@pytest.mark.parametrize(
    ("bodies", "at", "why"),
    [
        ([expiring(days=40, autoRenewalEnabled=True)], TERM - 30 * DAY, "it renews by itself"),
        ([expiring(days=40), ended(TERM - 30 * DAY)], TERM - 30 * DAY, "the agreement is ending by now"),
        (
            [expiring(days=40), ended(TERM - 30 * DAY, status="RENEWED")],
            TERM - 30 * DAY,
            "another agreement continues it",
        ),
        ([expiring(days=40)], TERM, "the date has passed"),
    ],
)
def test_a_reminder_of_what_does_not_come_is_not_sent(flex, bodies, at, why):
    take(*bodies, now=at)
    assert not [subject for _, subject in run(at) if "runs out" in subject]
    assert superseded(flex, "buyer_contract_expires")[f"30 {TERM.isoformat()}"] == why


def test_where_renewal_was_turned_off_the_text_says_so(flex):
    take(expiring(days=40, autoRenewalEnabled=False))
    run(TERM - 30 * DAY)
    assert "It does not renew automatically: access through it ends then." in mail.outbox[0].body


def test_where_no_event_tells_the_end_the_entitlements_do(catalog, acme, acme_admin):
    take(license_updated(NOON))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON)
    run(NOON, Aws([granted("included_pages", 100, expires_at=TERM), granted("seats", 3, expires_at=NOON)]))
    assert run(TERM - 30 * DAY) == [(BUYER, EXPIRES.format(30))]
    assert list(outcomes(agreement, "buyer_contract_expires")) == [
        f"{days} {TERM.isoformat()}" for days in (30, 7)
    ]


def test_what_the_entitlements_tell_of_a_later_expiry_is_reminded_of_then(flex):
    for day, expiry in ((1, TERM), (2, TERM + 10 * DAY)):
        take(license_updated(NOON + day * DAY), now=NOON + day * DAY)
        run(NOON + day * DAY, Aws([granted("included_pages", 100, expires_at=expiry)]))
    assert run(TERM - 30 * DAY) == []
    assert run(TERM - 20 * DAY) == [(BUYER, EXPIRES.format(30))]


def described(*, trial, ends=None):
    return Aws(details=AgreementDetails("ACTIVE", "agmt-1", NOON, ends, trial))


TRIAL = "Your free trial of Acme Reports Flex ends {}"


@pytest.fixture
def on_trial(catalog, acme, acme_admin):
    """A contract that begins with 14 days of trial, as DescribeAgreement says, and converts."""
    take(license_updated(NOON))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON)
    run(NOON, described(trial=NOON + 14 * DAY))
    return agreement


def test_a_trial_is_reminded_of_7_days_and_one_day_before(on_trial):
    assert run(NOON + 7 * DAY - SECOND) == []
    assert run(NOON + 7 * DAY) == [(BUYER, TRIAL.format("in 7 days"))]
    assert "ends on 7 December 2026, 12:00 UTC." in mail.outbox[0].body
    assert run(NOON + 13 * DAY) == [(BUYER, TRIAL.format("within a day"))]
    assert run(NOON + 15 * DAY) == []


def test_a_trial_whose_date_moved_is_reminded_of_at_its_new_date(on_trial):
    amended = created(NOON + DAY).replace("Agreement Created", "Agreement Amended")
    take(amended, now=NOON + DAY)
    run(NOON + DAY, described(trial=NOON + 20 * DAY))
    assert run(NOON + 12 * DAY) == []
    assert run(NOON + 13 * DAY) == [(BUYER, TRIAL.format("in 7 days"))]
    assert set(superseded(on_trial, "buyer_trial_ends").values()) == {"the date has changed"}


def test_a_contract_that_is_but_a_trial_is_reminded_of_as_a_trial(catalog, acme, acme_admin):
    end = NOON + 14 * DAY
    take(license_updated(NOON))
    agreement = claim(Agreement.objects.get(), acme, acme_admin, now=NOON)
    run(NOON, described(trial=end, ends=end + SECOND))
    assert run(end - 7 * DAY + SECOND) == [(BUYER, TRIAL.format("in 7 days"))]
    assert list(superseded(agreement, "buyer_contract_expires").values()) == [
        "it is a free trial: its own reminder tells"
    ]


# --- In what language


def test_each_reader_is_written_to_in_their_own_language_and_the_seller_in_the_site_s(flex, acme, make_user):
    cleo = make_user("cleo@acme.example", language="ko")
    dan = make_user("dan@acme.example", language="xx")  # which the site spoke once
    for user in (cleo, dan):
        Membership.objects.create(organization=acme, user=user, role=Membership.Role.ADMIN)
    take(ended(NOON + HOUR), now=NOON + HOUR)

    with translation.override("ko"):  # of the worker, which must not matter
        run(NOON + HOUR + 10 * MINUTE)

    english = "Your subscription to Acme Reports Flex has ended"
    told_in = {letter.to[0]: (letter.subject == english) for letter in mail.outbox if letter.to != [SELLER]}
    assert told_in == {BUYER: True, cleo.email: False, dan.email: True}
    [korean] = [letter for letter in mail.outbox if letter.to == [cleo.email]]
    assert 'lang="ko"' in korean.alternatives[0][0]
    assert "2026년 11월 23일 13:00 UTC" in korean.body
    assert "Ended: Acme Reports Flex (Acme)" in [letter.subject for letter in mail.outbox]
    assert len({letter.extra_headers["Message-ID"] for letter in mail.outbox}) == 4


def test_every_letter_goes_out_in_html_too(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex", ended_at=NOON)
    for name in TO_A_WORKSPACE:
        for letter in written(name, agreement):
            [(html, kind)] = letter.alternatives
            assert kind == "text/html"
            assert "Acme Reports Flex" in html
            assert 'class="button"' in html


# --- In what words


def written(name, agreement, *, which="1", at=NOON, now=NOON, check=True):
    """The letter as it is sent, whether or not the facts have overtaken it."""
    if name in ("buyer_trial_ends", "buyer_contract_expires"):
        which = f"7 {(at + 7 * DAY).isoformat()}"
    elif name == "seller_changed":
        which = at.isoformat()
    effect = Effect.objects.create(agreement=agreement, kind="mail", cause=f"{name}:{which}", caused_at=at)
    mail.outbox.clear()
    delivery.send(Situation(effect, now))
    for letter in mail.outbox if check else ():
        assert_is_complete(letter)
    return mail.outbox[:]


def assert_is_complete(letter):
    text = letter.body
    assert text.startswith("Hello!\n\n")
    assert text.endswith(".\n")
    assert "\n-- \nAcme Reports\n" in text
    assert letter.subject.strip()
    for odd in ("None", "{{", "{%", "&#", "&amp;", "&lt;", "&quot;", "\n\n\n", "  \n", "on  UTC", ". ."):
        assert odd not in f"{letter.subject}\n{text}", (odd, text)
    assert "\n" not in letter.subject
    for url in re.findall(r"\S*://\S*", text):
        assert url.startswith(("http://testserver/", "https://console.aws.", "https://aws.amazon.com/")), url
    assert not re.search(r"(?<!:)\n\s*\w+://", text), "what leads where is said before each link"


def ending(catalog, acme, product="reports-flex", **fields):
    return make_agreement(
        catalog, acme, product, **{"ended_at": NOON, "closes_at": NOON + HOUR, "end_reason": "", **fields}
    )


WHY = {
    "CANCELLED": ("It was cancelled in AWS Marketplace.", "status at AWS: CANCELLED."),
    "UNSUBSCRIBED": ("It was cancelled in AWS Marketplace.", "AWS reported that the buyer unsubscribed."),
    "EXPIRED": ("Its term was over, and it was not renewed.", "status at AWS: EXPIRED."),
    "TERMINATED": ("AWS ended it. If you do not know why", "status at AWS: TERMINATED."),
    "GONE": ("AWS lists no entitlements for it any more.", "has sent no event that says why."),
    "": ("", "AWS has not said why."),
    "SUPERSEDED": ("", "status at AWS: SUPERSEDED."),
}


def test_an_end_says_why_where_that_is_known(catalog, acme):
    for reason, (buyer_reads, seller_reads) in WHY.items():
        agreement = ending(catalog, acme, end_reason=reason)
        for name, says in (
            ("buyer_ending", "ended on 23 November 2026, 12:00 UTC."),
            ("buyer_ended", "which ended on 23 November 2026, 12:00 UTC, is now closed."),
        ):
            assert f"{says} {buyer_reads}".rstrip() in written(name, agreement)[0].body
        assert seller_reads in written("seller_ended", agreement)[0].body


def test_only_what_is_metered_has_a_last_usage(catalog, acme):
    metered, seats = ending(catalog, acme), ending(catalog, acme, "reports-team")
    assert "The last usage before the end is being reported" in written("buyer_ending", metered)[0].body
    assert "takes it until 23 November 2026, 13:00 UTC." in written("seller_ended", metered)[0].body
    for name in ("buyer_ending", "buyer_ended", "seller_ended"):
        assert "usage" not in written(name, seats)[0].body


def test_the_close_claims_no_usage_to_be_reported_that_aws_did_not_take(catalog, acme):
    clean = ending(catalog, acme, "reports-payg", status="ended")
    make_record(clean, NOON - HOUR, state="accepted")
    make_record(clean, NOON - 2 * HOUR, 0, state="not_due")
    assert "All usage that AWS bills has been reported" in written("buyer_ended", clean)[0].body
    assert "accepted by AWS" not in written("seller_ended", clean)[0].body
    for state in set(MeteringRecord.State) - {"accepted", "not_due", "void"}:
        agreement = ending(catalog, acme, "reports-payg", status="ended")
        make_record(agreement, NOON - HOUR, state="accepted")
        make_record(agreement, NOON - 2 * HOUR, state=state)
        text = written("buyer_ended", agreement)[0].body
        assert "All usage" not in text, state
        assert "See what AWS has accepted, and what it has not:" in text
        assert "Not all of its usage has been accepted" in written("seller_ended", agreement)[0].body


def test_usage_that_is_in_no_record_counts_too(catalog, acme):
    for disposition in UsageEvent.Disposition:
        agreement = ending(catalog, acme, "reports-payg")
        UsageEvent.objects.filter(pk=use(agreement).pk).update(disposition=disposition)
        is_missed = disposition in ("billable", "too_late", "written_off")
        assert ("All usage" not in written("buyer_ended", agreement)[0].body) is is_missed


def test_a_purchase_that_came_to_nothing_says_what_to_do(catalog, acme):
    for reason in ("", "TERMINATED", "CANCELLED", "UNSUBSCRIBED"):
        agreement = make_agreement(catalog, acme, activated_at=None, status="failed", end_reason=reason)
        [letter] = written("buyer_failed", agreement, which="0")
        if reason in ("CANCELLED", "UNSUBSCRIBED"):
            assert letter.subject == "Your purchase of Acme Reports Pay As You Go was cancelled"
            assert "before it became active" in letter.body
        else:
            assert letter.subject.startswith("AWS could not complete your purchase of")
            assert "Most often the payment method is the reason." in letter.body
        assert settings.MARKETPLACE_LISTING_URL in letter.body


def test_a_trial_is_told_as_far_as_it_is_known(catalog, acme):
    unknown, later, before = {}, {"trial_ends_at": NOON + DAY}, {"trial_ends_at": NOON - DAY}
    for is_trial, date, reads in (
        (False, unknown, "ready to use.\n"),
        (True, unknown, "It begins with a free trial. AWS Marketplace shows"),
        (True, later, "It begins with a free trial, which ends on 24 November 2026, 12:00 UTC.\n"),
        (True, before, "ready to use.\n"),
    ):
        agreement = make_agreement(catalog, acme, "reports-flex", free_trial=is_trial, **date)
        for name, which in (("buyer_welcome", ""), ("buyer_activated", "1")):
            assert reads in written(name, agreement, which=which)[0].body
        assert "trial" not in written("buyer_activated", agreement, which="2")[0].body
        is_told = "It begins with a free trial" in written("seller_new", agreement)[0].body
        assert is_told is ("free trial" in reads)


def test_what_continues_another_is_not_called_new_even_before_it_is_linked(catalog, acme):
    for fields in ({"intent": "RENEW"}, {"intent": "REPLACE"}, {"initial_agreement_id": "agmt-0"}):
        agreement = make_agreement(catalog, acme, "reports-flex", **fields)
        assert written("buyer_activated", agreement)[0].subject.endswith("continues")
        assert written("seller_new", agreement)[0].subject == "Renewed or replaced: Acme Reports Flex (Acme)"
        assert "continues an earlier purchase" in written("seller_never_registered", agreement)[0].body


def test_a_purchase_that_nobody_claimed_says_how_far_its_buyer_came(catalog, acme):
    agreement = make_agreement(catalog, None, "reports-flex", activated_at=None)
    text = written("seller_never_registered", agreement)[0].body
    assert "the buyer has not come to your registration page. AWS has not confirmed the purchase yet." in text
    assert "Workspace: none yet\n" in text
    Registration.objects.create(digest="0" * 64, agreement=agreement, expires_at=NOON)
    Agreement.objects.filter(pk=agreement.pk).update(status="active", activated_at=BEGIN)
    agreement.refresh_from_db()
    text = written("seller_never_registered", agreement, which="2")[0].body
    assert "came to your registration page more than a day ago, and did not finish." in text
    assert "they may be paying for what they cannot use" in text


def test_the_seller_gets_every_id_and_the_buyer_none_but_the_masked_account(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex", account="123456789012", offer_id="offer-7")
    [letter] = written("seller_new", agreement)
    for known in ("123456789012", agreement.agreement_id, agreement.license_id, "offer-7"):
        assert known in letter.body
    assert f"http://testserver/admin/billing/agreement/{agreement.pk}/change/" in letter.body
    [letter] = written("buyer_welcome", agreement, which="")
    assert "AWS account •••• •••• 9012." in letter.body
    for unusable in ("123456789012", agreement.agreement_id, agreement.license_id):
        assert unusable not in letter.body


def test_ids_that_aws_has_not_told_leave_no_gaps(catalog, acme):
    agreement = Agreement.objects.create(
        product=catalog["reports-classic"],
        customer=MarketplaceCustomer.objects.create(customer_identifier="cust-x"),
        organization=acme,
        identity="legacy",
        status="active",
        activated_at=NOON,
    )
    text = written("seller_new", agreement)[0].body
    assert "Customer identifier: cust-x\nWorkspace: Acme\nAll about this purchase:\n" in text
    assert "AWS account" not in written("buyer_welcome", agreement, which="")[0].body


def test_an_entitlement_that_is_no_more_is_told_as_nothing(catalog, acme):
    agreement = make_agreement(catalog, acme, "reports-flex")
    assert "In force now:\n\n- nothing\n\nAWS account" in written("seller_changed", agreement)[0].body
    entitle(agreement, 5)
    assert "- included_pages: 5\n\nAWS account" in written("seller_changed", agreement, at=BEGIN)[0].body


def test_names_can_neither_break_a_header_nor_a_text(catalog, acme, settings):
    settings.SITE_URL = "https://app.seller.example"
    Product.objects.update(title="O'Neil & <Sons>\r\nBcc: thief@x.example\u2028{{ x }}")
    acme.name = "Acme\n\nPay here: 'now' & <b>\x85now</b>"
    acme.save()
    agreement = ending({"reports-flex": Product.objects.get(code="reports-flex")}, acme)
    for name in TO_A_WORKSPACE:
        written(name, agreement, check=False)
        raw = message_from_bytes(mail.outbox[0].message().as_bytes(), policy=policy.default)
        assert "O'Neil & <Sons> Bcc: thief@x.example {{ x }}" in raw["Subject"]
        assert raw["Bcc"] is None
        assert raw.get_all("To") == [BUYER if name.startswith("buyer") else SELLER]
        text = raw.get_body(("plain",)).get_content()
        html = raw.get_body(("html",)).get_content()
        assert "&lt;Sons&gt;" in html
        assert "<Sons>" not in html
        for odd in ("\nPay here", "\nBcc", "&amp;", "&#", "&lt;"):
            assert odd not in text, name
        assert set(re.findall(r"\w+://[^/\s]+", text)) <= {
            "https://app.seller.example",
            "https://console.aws.amazon.com",
            "https://aws.amazon.com",
        }


def test_instants_are_utc_whatever_the_sites_own_time_zone(catalog, acme, settings):
    settings.TIME_ZONE = "America/Lima"
    assert "ended on 23 November 2026, 12:00 UTC." in written("buyer_ending", ending(catalog, acme))[0].body
