from datetime import UTC, datetime

import pytest
from allauth.account.models import EmailAddress
from django.db import IntegrityError

from accounts import invitations, organizations
from accounts.invitations import InvitationRevoked
from accounts.models import Membership, Organization, User
from accounts.organizations import (
    AccountClosed,
    LastOwner,
    NotAllowed,
    NotMember,
    OwnerAlready,
    RuleBroken,
)
from tests.billing.arriving import at_once

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def test_whoever_creates_an_organization_owns_it(acme, acme_admin):
    membership = acme.memberships.get()

    assert membership.user == acme_admin
    assert membership.role == Membership.Role.OWNER
    assert membership.is_administrator
    assert acme.slug == "acme"


def test_two_organizations_of_the_same_name_get_two_addresses(acme, outsider):
    other = organizations.create(name="Acme", owner=outsider)

    assert other.name == "Acme"
    assert other.slug.startswith("acme-")


@pytest.mark.parametrize("word", ["new", "Admin", "settings"])
def test_a_name_that_reads_like_a_page_of_ours_gets_another_address(acme_admin, word):
    organization = organizations.create(name=word, owner=acme_admin)

    assert organization.slug.startswith(f"{word.lower()}-")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Größe & Söhne", "groe-sohne"),
        ("株式会社", "team"),
        ("🚀🚀", "team"),
        ("A" * 120, "a" * 50),
        ("- -", "team"),
    ],
)
def test_every_name_gets_an_address(acme_admin, name, slug):
    organization = organizations.create(name=name, owner=acme_admin)

    assert organization.slug == slug
    assert organization.name == name


def test_an_error_that_another_address_would_not_cure_is_raised(acme_admin):
    with pytest.raises(IntegrityError):
        organizations.create(name=None, owner=acme_admin)

    assert not Organization.objects.exclude(name="Acme").exists()


def roles_of(organization):
    return dict(organization.memberships.values_list("user__email", "role"))


def remove(membership, by):
    organizations.remove(membership, by=by, now=NOW)


@pytest.mark.parametrize(
    ("by", "of", "allowed"),
    [
        ("owner", "owner", True),
        ("owner", "admin", True),
        ("owner", "member", True),
        ("admin", "owner", False),
        ("admin", "admin", False),
        ("admin", "member", True),
        ("member", "owner", False),
        ("member", "admin", False),
        ("member", "member", False),
    ],
)
def test_who_may_remove_whom(acme, make_member, by, of, allowed):
    remover = make_member(by, "by@acme.example").user
    membership = make_member(of, "of@acme.example")

    if allowed:
        remove(membership, by=remover)
        remove(membership, by=remover)
    else:
        with pytest.raises(NotAllowed):
            remove(membership, by=remover)

    assert ("of@acme.example" in roles_of(acme)) != allowed


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
def test_everybody_may_leave(acme, make_member, role):
    membership = make_member(role, "eve@acme.example")

    remove(membership, by=membership.user)
    remove(membership, by=membership.user)

    assert list(roles_of(acme)) == ["ada@acme.example"]


def test_the_last_owner_stays(acme, acme_admin, make_member):
    make_member("admin", "eve@acme.example")
    ownership = acme.memberships.get(user=acme_admin)

    with pytest.raises(LastOwner, match="always has an owner"):
        remove(ownership, by=acme_admin)
    with pytest.raises(LastOwner):
        organizations.change_role(ownership, role="admin", by=acme_admin, now=NOW)

    assert roles_of(acme)["ada@acme.example"] == "owner"


def test_an_owner_hands_over_and_leaves(acme, acme_admin, acme_member):
    ownership = acme.memberships.get(user=acme_admin)
    heir = organizations.change_role(
        acme.memberships.get(user=acme_member), role="owner", by=acme_admin, now=NOW
    )

    remove(ownership, by=acme_admin)

    assert heir.role == "owner"
    assert roles_of(acme) == {"bob@acme.example": "owner"}


@pytest.mark.parametrize("to", ["owner", "admin", "member"])
@pytest.mark.parametrize("of", ["owner", "admin", "member"])
def test_owners_give_every_role(acme, acme_admin, make_member, of, to):
    membership = make_member(of, "eve@acme.example")

    changed = organizations.change_role(membership, role=to, by=acme_admin, now=NOW)

    assert changed.role == to
    assert roles_of(acme)["eve@acme.example"] == to


@pytest.mark.parametrize("by", ["admin", "member"])
@pytest.mark.parametrize("to", ["owner", "admin", "member"])
@pytest.mark.parametrize("of", ["oneself", "owner", "admin", "member"])
def test_an_admin_cannot_promote_nor_anybody_but_an_owner(acme, make_member, by, of, to):
    actor = make_member(by, "by@acme.example")
    target = actor if of == "oneself" else make_member(of, "of@acme.example")
    before = roles_of(acme)

    with pytest.raises(NotAllowed):
        organizations.change_role(target, role=to, by=actor.user, now=NOW)

    assert roles_of(acme) == before


def test_outsiders_change_nothing_though_they_own_something_else(acme, acme_member, outsider):
    membership = acme.memberships.get(user=acme_member)

    with pytest.raises(NotAllowed):
        organizations.change_role(membership, role="admin", by=outsider, now=NOW)
    with pytest.raises(NotAllowed):
        remove(membership, by=outsider)


def test_roles_are_those_in_the_database(acme, make_member):
    actor = make_member("owner", "eve@acme.example")
    target = make_member("member", "tom@acme.example")
    Membership.objects.filter(pk=actor.pk).update(role="member")
    Membership.objects.filter(pk=target.pk).update(role="owner")

    with pytest.raises(NotAllowed):
        organizations.change_role(target, role="admin", by=actor.user, now=NOW)
    Membership.objects.filter(pk=actor.pk).update(role="admin")
    with pytest.raises(NotAllowed):
        remove(target, by=actor.user)


def test_who_is_gone_gets_no_role(acme, acme_admin, acme_member):
    membership = acme.memberships.get(user=acme_member)
    Membership.objects.filter(pk=membership.pk).delete()

    with pytest.raises(NotMember) as refused:
        organizations.change_role(membership, role="admin", by=acme_admin, now=NOW)

    assert isinstance(refused.value, RuleBroken)
    assert acme_member.email not in roles_of(acme)


def test_no_open_invitation_leads_back_in(acme, acme_admin, acme_member):
    for address in ("bob@home.example", "eve@acme.example"):
        invitations.invite(acme, email=address, role="member", by=acme_admin, now=NOW)
    EmailAddress.objects.create(user=acme_member, email="bob@home.example", verified=True)
    EmailAddress.objects.create(user=acme_member, email="eve@acme.example", verified=False)

    remove(acme.memberships.get(user=acme_member), by=acme_admin)

    assert [invitation.email for invitation in acme.invitations.open()] == ["eve@acme.example"], (
        "An address that somebody only claims is not theirs to lose an invitation of."
    )


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_leave_or_step_down_at_once_one_stays(acme, make_member):
    first = acme.memberships.get()
    second = make_member("owner", "eve@acme.example")

    answers = at_once(
        lambda: organizations.change_role(first, role="member", by=second.user, now=NOW),
        lambda: organizations.change_role(second, role="member", by=first.user, now=NOW),
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["Membership", "NotAllowed"]
    assert sorted(roles_of(acme).values()) == ["member", "owner"]
    acme.memberships.update(role="owner")

    answers = at_once(*[lambda who=who: remove(who, by=who.user) for who in (first, second)])

    assert sorted(type(answer).__name__ for answer in answers) == ["LastOwner", "NoneType"]
    assert list(roles_of(acme).values()) == ["owner"]


def test_who_hands_over_to_an_owner_is_told_so_and_nobody_changes(acme, acme_admin, make_member):
    heir = make_member("member", "eve@acme.example")
    admin = make_member("admin", "tom@acme.example").user
    member = make_member("member", "pat@acme.example").user
    organizations.hand_over(heir, by=acme_admin, now=NOW)
    before = roles_of(acme)

    for person in (acme_admin, admin):  # pressed twice; not theirs to do at all
        with pytest.raises(OwnerAlready):
            organizations.hand_over(heir, by=person, now=NOW)
    with pytest.raises(NotAllowed):
        organizations.hand_over(heir, by=member, now=NOW)

    assert roles_of(acme) == before


# --- The invitations of who goes


@pytest.fixture
def mallory(make_member):
    return make_member("owner", "mallory@acme.example")


@pytest.fixture
def accomplices(acme, mallory, make_user):
    """Two whom Mallory has invited before: one as an admin, one as a member."""
    sent = {}
    for role in ("admin", "member"):
        email = f"{role}@evil.example"
        _, token = invitations.invite(acme, email=email, role=role, by=mallory.user, now=NOW)
        sent[role] = (token, make_user(email))
    return sent


def who_comes_in(accomplices):
    came = []
    for role, (token, user) in accomplices.items():
        try:
            came.append(invitations.accept(token, user=user, now=NOW).role)
        except InvitationRevoked:
            assert role not in came
    return came


@pytest.mark.parametrize("by", ["another", "oneself"])
def test_who_is_gone_has_left_no_way_back_in(acme, acme_admin, mallory, accomplices, by):
    invitations.invite(acme, email="tom@acme.example", role="admin", by=acme_admin, now=NOW)

    remove(mallory, by=acme_admin if by == "another" else mallory.user)

    assert who_comes_in(accomplices) == []
    assert [each.email for each in acme.invitations.open()] == ["tom@acme.example"]


@pytest.mark.parametrize(
    ("role", "left"), [("owner", ["admin", "member"]), ("admin", ["member"]), ("member", [])]
)
def test_with_a_lesser_role_ends_what_it_does_not_allow(acme, acme_admin, mallory, accomplices, role, left):
    organizations.change_role(mallory, role=role, by=acme_admin, now=NOW)

    assert sorted(each.role for each in acme.invitations.open()) == left
    assert who_comes_in(accomplices) == left


def test_who_hands_over_keeps_only_the_invitations_of_an_admin(acme, acme_member, mallory, accomplices):
    organizations.hand_over(acme.memberships.get(user=acme_member), by=mallory.user, now=NOW)

    assert who_comes_in(accomplices) == ["member"]


@pytest.mark.parametrize(("role", "left"), [("admin", ["member"]), ("member", []), (None, [])])
def test_an_invitation_is_as_good_as_the_role_of_who_sent_it(acme, mallory, accomplices, role, left):
    """Also one that is older than the rule that ends it."""
    mine = Membership.objects.filter(pk=mallory.pk)
    mine.update(role=role) if role else mine.delete()

    assert who_comes_in(accomplices) == left


def test_whose_invitation_another_renewed_does_not_end_it(acme, acme_admin, mallory, accomplices):
    invitations.invite(acme, email="admin@evil.example", role="admin", by=acme_admin, now=NOW)

    remove(mallory, by=acme_admin)

    assert [each.email for each in acme.invitations.open()] == ["admin@evil.example"]


# --- Who has closed their account


def test_nothing_takes_in_who_has_closed_their_account(acme, acme_admin, make_user):
    eve = make_user("eve@acme.example")
    _, token = invitations.invite(acme, email=eve.email, role="member", by=acme_admin, now=NOW)
    as_loaded_before = User.objects.get(pk=eve.pk)
    User.objects.filter(pk=eve.pk).update(closed_at=NOW)

    for attempt in (
        lambda: organizations.create(name="Eve's", owner=as_loaded_before),
        lambda: organizations.start(name="Eve's", owner=as_loaded_before, now=NOW),
        lambda: organizations.admit(as_loaded_before, into=acme, role="member", by=acme_admin, now=NOW),
        lambda: invitations.accept(token, user=as_loaded_before, now=NOW),
    ):
        with pytest.raises(AccountClosed):
            attempt()

    assert not eve.memberships.exists()
    assert Organization.objects.count() == 1
