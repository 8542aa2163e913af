"""Who comes in by an invitation, who may invite them, and for whom there is a place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from allauth.account.models import EmailAddress

from accounts import invitations, organizations
from accounts.invitations import (
    InvitationExpired,
    InvitationForAnother,
    InvitationRefused,
    InvitationRevoked,
    InvitationUnknown,
    InvitationUsed,
)
from accounts.models import Invitation, Membership
from accounts.organizations import AlreadyMember, NoSeat, NotAllowed, places_taken
from tests.billing.arriving import at_once

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
WEEK = timedelta(days=7)
MOMENT = timedelta(microseconds=1)
Role = Membership.Role


@pytest.fixture
def two_places(settings):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.TwoPlaces"


@pytest.fixture
def eve(make_user):
    return make_user("eve@acme.example", name="Eve")


def invite(organization, by, email="eve@acme.example", role="member", now=NOW):
    return invitations.invite(organization, email=email, role=role, by=by, now=now)


def accept(token, user, now=NOW):
    return invitations.accept(token, user=user, now=now)


def test_an_invited_person_becomes_a_member(acme, acme_admin, eve):
    invitation, token = invite(acme, acme_admin, role="admin")
    later = NOW + timedelta(hours=1)

    membership = accept(token, eve, now=later)

    assert (membership.organization, membership.user) == (acme, eve)
    assert (membership.role, membership.created_at) == ("admin", later)
    invitation.refresh_from_db()
    assert (invitation.accepted_at, invitation.accepted_by) == (later, eve)
    assert (invitation.invited_by, invitation.created_at) == (acme_admin, NOW)


def test_the_secret_of_the_link_is_stored_nowhere(acme, acme_admin):
    _, token = invite(acme, acme_admin)

    row = Invitation.objects.values().get()

    assert len(token) >= 32
    assert not any(token in str(value) for value in row.values())
    assert token != invite(acme, acme_admin, email="tom@acme.example")[1]


@pytest.mark.parametrize("address", ["Eve@Acme.Example", " eve@acme.example "])
def test_an_address_is_invited_whatever_its_case(acme, acme_admin, eve, address):
    invitation, token = invite(acme, acme_admin, email=address)

    assert invitation.email == "eve@acme.example"
    assert accept(token, eve).user == eve


def test_an_account_has_its_address_whatever_its_case(acme, acme_admin, eve):
    EmailAddress.objects.filter(user=eve).update(email="EVE@acme.example")
    _, token = invite(acme, acme_admin)

    assert accept(token, eve).user == eve


def test_a_further_address_of_the_account_will_do(acme, acme_admin, eve):
    EmailAddress.objects.create(user=eve, email="eve@home.example", verified=True)
    _, token = invite(acme, acme_admin, email="eve@home.example")

    assert accept(token, eve).user == eve


def test_only_the_owner_of_the_address_may_accept(acme, acme_admin, eve, outsider):
    _, token = invite(acme, acme_admin)

    with pytest.raises(InvitationForAnother):
        accept(token, outsider)

    assert not acme.memberships.filter(user=outsider).exists()
    assert accept(token, eve).user == eve


def test_an_address_that_nobody_proved_opens_nothing(acme, acme_admin, outsider):
    EmailAddress.objects.create(user=outsider, email="eve@acme.example", verified=False)
    _, token = invite(acme, acme_admin)

    with pytest.raises(InvitationForAnother):
        accept(token, outsider)


@pytest.mark.parametrize(
    "address", ["mike@gmaıl.com", "mıke@gmail.com", "mi\u212ae@gmail.com", "mike@gmail.cοm"]
)
def test_an_address_that_only_looks_like_the_invited_one_opens_nothing(acme, acme_admin, make_user, address):
    """PostgreSQL's UPPER makes an I of a dotless one, too."""
    _, token = invite(acme, acme_admin, email="mike@gmail.com")
    lookalike = make_user("charlie@x.example")
    EmailAddress.objects.filter(user=lookalike).update(email=address)

    with pytest.raises(InvitationForAnother):
        accept(token, lookalike)


def test_who_only_looks_like_a_member_may_be_invited(acme, acme_admin, make_member):
    make_member("member", "mike@gmaıl.com")

    assert invite(acme, acme_admin, email="mike@gmail.com")[0].role == Role.MEMBER


@pytest.mark.parametrize("became", ["accepted", "revoked", "expired"])
def test_others_do_not_learn_what_became_of_an_invitation(acme, acme_admin, eve, outsider, became):
    invitation, token = invite(acme, acme_admin)
    if became == "accepted":
        accept(token, eve)
    elif became == "revoked":
        invitations.revoke(invitation, by=acme_admin, now=NOW)

    with pytest.raises(InvitationForAnother) as refused:
        accept(token, outsider, now=NOW + 2 * WEEK)

    assert "eve@" not in str(refused.value)


def test_accepting_twice_is_accepting_once(acme, acme_admin, eve):
    _, token = invite(acme, acme_admin)
    first = accept(token, eve)

    again = accept(token, eve, now=NOW + 2 * WEEK)

    assert again == first
    assert Invitation.objects.get().accepted_at == NOW


def test_whoever_accepted_stays_in_though_the_address_changed(acme, acme_admin, eve):
    _, token = invite(acme, acme_admin)
    first = accept(token, eve)
    EmailAddress.objects.filter(user=eve).update(email="eve@married.example")

    assert accept(token, eve) == first


def test_the_link_of_a_member_who_was_removed_does_not_lead_back_in(acme, acme_admin, eve):
    _, token = invite(acme, acme_admin)
    organizations.remove(accept(token, eve), by=acme_admin, now=NOW)

    with pytest.raises(InvitationUsed):
        accept(token, eve)


def test_the_next_owner_of_an_address_does_not_come_in_by_an_old_link(acme, acme_admin, eve, outsider):
    _, token = invite(acme, acme_admin)
    accept(token, eve)
    EmailAddress.objects.filter(user=eve).delete()
    EmailAddress.objects.create(user=outsider, email="eve@acme.example", verified=True)

    with pytest.raises(InvitationUsed):
        accept(token, outsider)


def test_an_invitation_is_good_for_seven_days(acme, acme_admin, eve):
    _, token = invite(acme, acme_admin)

    with pytest.raises(InvitationExpired):
        accept(token, eve, now=NOW + WEEK)
    assert accept(token, eve, now=NOW + WEEK - MOMENT).user == eve


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["", "made-up", "\x00", "é" * 500])
def test_a_link_that_was_never_sent_is_unknown(eve, token):
    with pytest.raises(InvitationUnknown):
        accept(token, eve)


def test_a_revoked_invitation_is_over(acme, acme_admin, eve):
    invitation, token = invite(acme, acme_admin)
    invitations.revoke(invitation, by=acme_admin, now=NOW)
    invitations.revoke(invitation, by=acme_admin, now=NOW + WEEK)

    with pytest.raises(InvitationRevoked):
        accept(token, eve)

    invitation.refresh_from_db()
    assert invitation.revoked_at == NOW
    assert places_taken(acme, now=NOW) == 1
    assert accept(invite(acme, acme_admin)[1], eve).user == eve


def test_what_is_accepted_is_not_revoked(acme, acme_admin, eve):
    invitation, token = invite(acme, acme_admin)
    accept(token, eve)

    with pytest.raises(InvitationUsed):
        invitations.revoke(invitation, by=acme_admin, now=NOW)


def test_inviting_again_renews(acme, acme_admin, make_member, eve):
    first, old = invite(acme, acme_admin)
    owner = make_member("owner", "olga@acme.example").user

    second, new = invite(acme, owner, email="EVE@acme.example", role="admin", now=NOW + timedelta(days=6))

    assert second.pk == first.pk
    assert (second.role, second.invited_by, second.created_at) == ("admin", owner, NOW)
    with pytest.raises(InvitationUnknown):
        accept(old, eve)
    assert accept(new, eve, now=NOW + timedelta(days=12)).role == "admin"


def test_what_expired_can_be_renewed(acme, acme_admin, eve):
    first, _ = invite(acme, acme_admin)

    second, token = invite(acme, acme_admin, now=NOW + 2 * WEEK)

    assert second.pk == first.pk
    assert accept(token, eve, now=NOW + 3 * WEEK - MOMENT).user == eve


@pytest.mark.parametrize("address", ["Bob@acme.example", "bob@home.example"])
def test_a_member_is_not_invited_by_any_address_of_theirs(acme, acme_admin, acme_member, address):
    EmailAddress.objects.create(user=acme_member, email="bob@home.example", verified=True)

    with pytest.raises(AlreadyMember, match="member"):
        invite(acme, acme_admin, email=address)


def test_an_address_that_a_member_only_claims_can_be_invited(acme, acme_admin, acme_member):
    EmailAddress.objects.create(user=acme_member, email="eve@acme.example", verified=False)

    assert invite(acme, acme_admin)[0].email == "eve@acme.example"


def test_people_are_in_several_organizations(acme, acme_admin, outsider):
    other = outsider.organizations.get()

    assert accept(invite(acme, acme_admin, email=outsider.email)[1], outsider).organization == acme
    assert invite(other, outsider, email=acme_admin.email)[0].organization == other
    assert outsider.memberships.count() == 2


def test_a_member_who_accepts_a_further_invitation_keeps_role_and_place(
    settings, acme, acme_admin, acme_member
):
    invitation, token = invite(acme, acme_admin, email="bob@home.example", role="admin")
    EmailAddress.objects.create(user=acme_member, email="bob@home.example", verified=True)
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.OnePlace"

    membership = accept(token, acme_member)

    assert membership == acme.memberships.get(user=acme_member)
    assert membership.role == "member"
    assert places_taken(acme, now=NOW) == 2
    invitation.refresh_from_db()
    assert invitation.accepted_by == acme_member


@pytest.mark.parametrize(
    ("by", "role", "allowed"),
    [
        ("owner", "admin", True),
        ("owner", "member", True),
        ("owner", "owner", False),
        ("admin", "member", True),
        ("admin", "admin", False),
        ("admin", "owner", False),
        ("member", "member", False),
    ],
)
def test_who_may_invite_whom_and_take_it_back(acme, acme_admin, make_member, by, role, allowed):
    inviter = make_member(by, "by@acme.example").user
    if allowed:
        invitation, _ = invite(acme, inviter, role=role)
        invitations.revoke(invitation, by=inviter, now=NOW)
        return
    with pytest.raises(NotAllowed):
        invite(acme, inviter, role=role)
    if role == "owner":
        return
    invitation, _ = invite(acme, acme_admin, role=role)
    with pytest.raises(NotAllowed):
        invitations.revoke(invitation, by=inviter, now=NOW)
    with pytest.raises(NotAllowed):
        invite(acme, inviter, role="member")  # it would renew what an owner decided
    invitation.refresh_from_db()
    assert (invitation.role, invitation.revoked_at) == (role, None)


def test_outsiders_invite_nobody_and_take_nothing_back(acme, acme_admin, outsider):
    with pytest.raises(NotAllowed):
        invite(acme, outsider, email=acme_admin.email)
    invitation, _ = invite(acme, acme_admin)
    with pytest.raises(NotAllowed):
        invitations.revoke(invitation, by=outsider, now=NOW)


def test_the_inviters_role_is_the_one_in_the_database(acme, make_member):
    inviter = make_member("admin", "by@acme.example")
    Membership.objects.filter(pk=inviter.pk).update(role="member")

    assert inviter.is_administrator
    with pytest.raises(NotAllowed):
        invite(acme, inviter.user)


def test_places_are_members_and_pending_invitations(
    acme, acme_admin, acme_member, eve, outsider, django_assert_num_queries
):
    accept(invite(acme, acme_admin)[1], eve)
    invite(acme, acme_admin, email="tom@acme.example")
    invite(acme, acme_admin, email="tom@acme.example")
    invite(acme, acme_admin, email="old@acme.example", now=NOW - WEEK)
    revoked, _ = invite(acme, acme_admin, email="revoked@acme.example")
    invitations.revoke(revoked, by=acme_admin, now=NOW)
    invite(outsider.organizations.get(), outsider, email="tom@acme.example")

    with django_assert_num_queries(1):
        assert places_taken(acme, now=NOW) == 4
    assert places_taken(acme, now=NOW + WEEK - MOMENT) == 4
    assert places_taken(acme, now=NOW + WEEK) == 3


def test_without_a_free_place_nobody_is_invited(two_places, acme, acme_admin, acme_member):
    with pytest.raises(NoSeat) as refused:
        invite(acme, acme_admin)

    assert str(refused.value) == "All 2 places are taken. Buy more."
    assert not acme.invitations.exists()


def test_the_place_of_an_invitation_is_its_persons(two_places, acme, acme_admin, eve):
    _, token = invite(acme, acme_admin)
    with pytest.raises(NoSeat):
        invite(acme, acme_admin, email="tom@acme.example")

    assert accept(token, eve).user == eve
    assert accept(token, eve).user == eve
    assert places_taken(acme, now=NOW) == 2


def test_renewing_takes_no_second_place(two_places, acme, acme_admin):
    invite(acme, acme_admin)

    invite(acme, acme_admin)

    assert places_taken(acme, now=NOW) == 2


def test_renewing_what_expired_takes_a_place_again(two_places, acme, acme_admin):
    invite(acme, acme_admin)
    invite(acme, acme_admin, email="tom@acme.example", now=NOW + WEEK)

    with pytest.raises(NoSeat):
        invite(acme, acme_admin, now=NOW + WEEK)

    assert acme.invitations.get(email="eve@acme.example").expires_at == NOW + WEEK


def test_when_the_place_is_gone_the_invitation_stays_good(settings, two_places, acme, acme_admin, eve):
    invitation, token = invite(acme, acme_admin)
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.OnePlace"

    with pytest.raises(NoSeat, match="All 1 places are taken"):
        accept(token, eve)

    invitation.refresh_from_db()
    assert (invitation.accepted_at, invitation.accepted_by) == (None, None)
    assert not acme.memberships.filter(user=eve).exists()
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.TwoPlaces"
    assert accept(token, eve).user == eve


def test_a_place_that_was_left_is_free(two_places, acme, acme_admin, acme_member):
    organizations.remove(acme.memberships.get(user=acme_member), by=acme_member, now=NOW)

    assert invite(acme, acme_admin)[0].role == Role.MEMBER


@pytest.mark.parametrize(
    "refusal", [InvitationForAnother, InvitationUsed, InvitationRevoked, InvitationExpired, InvitationUnknown]
)
def test_every_refusal_is_a_sentence_for_people(refusal):
    assert issubclass(refusal, InvitationRefused)
    assert str(refusal()).startswith("This invitation ")
    assert str(refusal()).endswith(".")


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_are_invited_to_the_last_place_one_gets_it(settings, acme, acme_admin):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.SlowTwoPlaces"

    answers = at_once(
        lambda: invite(acme, acme_admin, email="eve@acme.example"),
        lambda: invite(acme, acme_admin, email="tom@acme.example"),
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["NoSeat", "tuple"]
    assert places_taken(acme, now=NOW) == 2


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_link_pressed_twice_at_once_makes_one_member(settings, acme, acme_admin, eve):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.places.SlowTwoPlaces"
    _, token = invite(acme, acme_admin)

    first, second = at_once(*[lambda: accept(token, eve)] * 2)

    assert first == second == acme.memberships.get(user=eve)
