"""Seats are bought: who comes into a workspace takes one, and of two who want the last one, one gets it."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction

from accounts import invitations
from accounts.models import Invitation, Membership
from accounts.organizations import NoSeat, places_taken
from billing import gates
from billing.grants import Grant, Quota, Reason
from tests.billing.arriving import at_once
from tests.billing.ledger import BEGIN, NOON, entitle, make_agreement


@pytest.fixture
def seats(catalog, acme):
    """Let acme buy so many; again to change how many."""
    agreement = make_agreement(catalog, acme, "reports-team")

    def buy(count, *, since=BEGIN):
        agreement.entitlements.filter(valid_to=None).update(valid_to=since)
        entitle(agreement, count, key="seats", since=since)

    return buy


def invite(organization, by, name):
    return invitations.invite(organization, email=f"{name}@acme.example", role="member", by=by, now=NOON)


def slowly_taken(organization, *, now):
    """Slow enough that another, who did not wait for the lock, would count the same."""
    taken = places_taken(organization, now=now)
    time.sleep(0.2)
    return taken


def test_an_invitation_takes_a_seat_and_its_acceptance_no_further_one(seats, acme, acme_admin, make_user):
    seats(2)
    _, token = invite(acme, acme_admin, "eve")

    invitations.accept(token, user=make_user("eve@acme.example"), now=NOON)

    assert gates.quota(acme, "seats", now=NOON) == Quota(2, 2)
    with pytest.raises(NoSeat) as refusal:
        invite(acme, acme_admin, "tom")
    assert str(refusal.value) == (
        "All 2 are taken. Remove a member or an invitation first, or add seats in AWS Marketplace, under "
        "Manage subscriptions."
    )


def test_a_seat_that_is_given_up_is_free_for_another(seats, acme, acme_admin):
    seats(2)
    invitation, _ = invite(acme, acme_admin, "eve")
    invitations.revoke(invitation, by=acme_admin, now=NOON)

    assert invite(acme, acme_admin, "tom")


def test_fewer_seats_than_members_put_nobody_out_and_let_nobody_in(
    seats, acme, acme_admin, acme_member, make_user
):
    seats(3)
    eve = make_user("eve@acme.example")
    _, token = invite(acme, acme_admin, "eve")
    seats(1, since=NOON)

    with pytest.raises(NoSeat, match=r"^All 1 are taken\."):
        invite(acme, acme_admin, "tom")
    with pytest.raises(NoSeat):
        invitations.accept(token, user=eve, now=NOON)
    assert acme.memberships.count() == 2
    assert Invitation.objects.pending(NOON).count() == 1

    seats(3, since=NOON + timedelta(hours=1))
    assert invitations.accept(token, user=eve, now=NOON)


def test_a_product_that_sells_no_seats_takes_everybody(catalog, acme, acme_admin):
    make_agreement(catalog, acme, "reports-payg")

    for name in ("eve", "tom", "kim"):
        invite(acme, acme_admin, name)


def test_a_kit_without_seats_takes_everybody(acme, acme_admin, settings):
    settings.FEATURES = {name: rule for name, rule in settings.FEATURES.items() if name != "seats"}

    assert invite(acme, acme_admin, "eve")


@pytest.mark.parametrize(
    ("bought", "reason"),
    [
        (None, "Your organization has no subscription yet."),
        ({"activated_at": None}, "AWS has not confirmed your purchase yet"),
        ({"ended_at": NOON - timedelta(hours=3)}, "Your subscription has ended."),
    ],
)
def test_without_a_subscription_nobody_is_added_and_the_reason_is_said(
    catalog, acme, acme_admin, bought, reason
):
    if bought is not None:
        make_agreement(catalog, acme, "reports-team", **bought)

    with pytest.raises(NoSeat) as refusal:
        invite(acme, acme_admin, "eve")
    assert str(refusal.value).startswith(reason)


@pytest.fixture
def take(acme):
    """Reserve a seat and sit down on it, in one transaction; answers the grant."""

    @transaction.atomic
    def make(user, *, then=lambda: None):
        grant = gates.reserve(acme, "seats", now=NOON)
        if grant:
            Membership.objects.create(organization=acme, user=user, role="member")
        then()
        return grant

    return make


@pytest.mark.postgresql  # SQLite lets one writer in at a time
@pytest.mark.django_db(transaction=True)
def test_of_two_who_want_the_last_seat_one_gets_it(seats, take, acme, make_user, settings):
    settings.FEATURES = {"seats": settings.FEATURES["seats"] | {"count": f"{__name__}.slowly_taken"}}
    seats(2)
    eve, tom = make_user("eve@acme.example"), make_user("tom@acme.example")

    grants = at_once(lambda: take(eve), lambda: take(tom))

    assert {grant.code for grant in grants} == {Reason.INCLUDED, Reason.QUOTA}
    assert places_taken(acme, now=NOON) == 2


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_seat_whose_first_taker_fails_goes_to_the_second(seats, take, acme, acme_admin, make_user):
    seats(2)
    eve, tom = make_user("eve@acme.example"), make_user("tom@acme.example")
    taken = threading.Event()

    def fail():
        taken.set()
        time.sleep(0.2)  # the other waits for the lock
        raise RuntimeError("something else went wrong")

    def follow():
        assert taken.wait(timeout=10)
        return take(tom)

    first, second = at_once(lambda: take(eve, then=fail), follow)

    assert isinstance(first, RuntimeError)
    assert second == Grant(Reason.INCLUDED, 2)
    assert set(acme.members.all()) == {acme_admin, tom}
