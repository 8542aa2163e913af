"""Somebody closes their account at the moment at which a purchase, a colleague or a link takes them in.

Each way in waits for the closing, or the closing for it: never is there a workspace whose only owner is
closed, nor a closed person with a seat, and nobody waits in a ring.
"""

from __future__ import annotations

import threading

import pytest
from django.db import connections
from django.utils import timezone

from accounts import closing, invitations, locks, organizations
from accounts.models import Membership, Organization, User
from billing import registration
from billing.models import Agreement, JoinRequest, Registration
from billing.onboarding import joining
from tests.billing.arriving import at_once
from tests.billing.ledger import make_agreement

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

NOW = timezone.now()
ACCOUNT = "210987654321"


@pytest.fixture
def eve(make_user):
    return make_user("eve@x.example")


@pytest.fixture
def free_seats(settings):
    settings.FEATURES = {name: value for name, value in settings.FEATURES.items() if name != "seats"}


def arrival_of(catalog, user, *, account=None, code="reports-flex"):
    agreement = make_agreement(catalog, None, code, **({"account": account} if account else {}))
    return Registration.objects.create(
        digest=f"digest-{Registration.objects.count()}", agreement=agreement, expires_at=NOW, user=user
    )


def assert_nobody_closed_is_in():
    assert not Membership.objects.exclude(user__closed_at=None).exists()
    owned = Membership.objects.filter(role="owner").values("organization")
    assert not Organization.objects.filter(closed_at=None).exclude(pk__in=owned).exists()
    assert not Agreement.objects.exclude(status="ended").exclude(organization__closed_at=None).exists()


class Meanwhile:
    """Begins something in another thread in the middle of something else, and waits for it a little."""

    def __init__(self, monkeypatch, module, name, act, *, before=False):
        self.answer = None
        self.waited = None
        real = getattr(module, name)

        def hook(*args, **kwargs):
            monkeypatch.setattr(module, name, real)
            answer = None if before else real(*args, **kwargs)
            self.begin(act)
            return real(*args, **kwargs) if before else answer

        monkeypatch.setattr(module, name, hook)

    def begin(self, act):
        def run():
            try:
                self.answer = act()
            except Exception as error:
                self.answer = error
            finally:
                connections.close_all()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        self.thread.join(1)
        self.waited = self.thread.is_alive()

    def end(self):
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.answer


WAYS_IN = {
    "a new workspace for a purchase": (
        lambda eve, given: registration.claim(given["arrival"], by=eve, new_name="Eve's", now=NOW),
        registration.ClaimRefused,
    ),
    "a new workspace": (
        lambda eve, given: organizations.start(name="Eve's", owner=eve, now=NOW),
        organizations.AccountClosed,
    ),
    "an invitation": (
        lambda eve, given: invitations.accept(given["token"], user=eve, now=NOW),
        organizations.AccountClosed,
    ),
    "an answer": (
        lambda eve, given: joining.answer(given["asked"], approve=True, by=given["owner"], now=NOW),
        None,
    ),
    "a request": (
        lambda eve, given: joining.ask(given["second"], user=eve, now=NOW),
        organizations.AccountClosed,
    ),
}


@pytest.fixture
def given(catalog, free_seats, acme, acme_admin, eve):
    make_agreement(catalog, acme, "reports-payg", account=ACCOUNT)
    joins = arrival_of(catalog, eve, account=ACCOUNT)
    _, token = invitations.invite(acme, email=eve.email, role="admin", by=acme_admin, now=NOW)
    return {
        "arrival": arrival_of(catalog, eve),
        "second": arrival_of(catalog, eve, account=ACCOUNT, code="reports-team"),
        "asked": joining.ask(joins, user=eve, now=NOW),
        "token": token,
        "owner": acme_admin,
    }


@pytest.mark.parametrize("way", WAYS_IN)
def test_who_is_closing_their_account_comes_in_nowhere(monkeypatch, given, acme, eve, way):
    act, refusal = WAYS_IN[way]
    as_loaded_before = User.objects.get(pk=eve.pk)
    meanwhile = Meanwhile(
        monkeypatch, closing, "_end_invitations", lambda: act(as_loaded_before, given), before=True
    )

    closing.close_account(eve, now=NOW)

    answer = meanwhile.end()
    assert meanwhile.waited
    if refusal:
        assert type(answer) is refusal
    else:
        assert isinstance(answer, JoinRequest)
        assert answer.is_approved is False
    assert_nobody_closed_is_in()
    assert not JoinRequest.objects.filter(user=eve, is_approved=None).exists()
    assert not Agreement.objects.filter(registrations=given["arrival"]).exclude(organization=None).exists()


@pytest.mark.parametrize("way", ["a new workspace for a purchase", "a new workspace", "an invitation"])
def test_who_comes_in_closes_their_account_knowing_of_it(monkeypatch, given, acme, eve, way):
    """Where it is a purchase, the account stays: AWS goes on billing the workspace that is theirs alone."""
    act, _refusal = WAYS_IN[way]
    meanwhile = Meanwhile(
        monkeypatch,
        locks,
        "people",
        lambda: closing.close_account(User.objects.get(pk=eve.pk), now=NOW),
    )

    act(User.objects.get(pk=eve.pk), given)

    answer = meanwhile.end()
    assert meanwhile.waited
    eve.refresh_from_db()
    if way == "a new workspace for a purchase":
        assert type(answer) is closing.WorkspacesFirst
        assert eve.closed_at is None
    else:
        assert answer is None
        assert eve.closed_at is not None
    assert_nobody_closed_is_in()


def test_whose_role_is_taken_meanwhile_attaches_no_purchase(
    monkeypatch, catalog, acme, acme_admin, make_user
):
    eve = make_user("eve@acme.example")
    place = acme.memberships.create(user=eve, role="admin")
    arrival = arrival_of(catalog, eve)
    demote = Meanwhile(
        monkeypatch,
        locks,
        "people",
        lambda: organizations.change_role(place, role="member", by=acme_admin, now=NOW),
        before=True,
    )

    with pytest.raises(registration.ClaimRefused):
        registration.claim(arrival, by=eve, organization=acme, now=NOW)

    assert demote.end().role == "member"
    assert Agreement.objects.get(registrations=arrival).organization is None


def test_two_who_answer_for_each_other_and_close_at_once_never_wait_in_a_ring(
    catalog, free_seats, acme, acme_admin, make_user
):
    """Ada answers Bob in her workspace and he her in his, and both close their accounts, all at once."""
    for turn in range(5):
        ada, bob = make_user(f"ada{turn}@x.example"), make_user(f"bob{turn}@x.example")
        asked = {}
        for one, other, account in ((ada, bob, f"11111111111{turn}"), (bob, ada, f"22222222222{turn}")):
            own = organizations.create(name=f"{one} {turn}", owner=one)
            own.memberships.create(user=acme_admin, role="owner")
            make_agreement(catalog, own, "reports-payg", account=account)
            asked[one] = joining.ask(arrival_of(catalog, other, account=account), user=other, now=NOW)

        answers = at_once(
            lambda: joining.answer(asked[ada], approve=True, by=ada, now=NOW),  # noqa: B023
            lambda: joining.answer(asked[bob], approve=True, by=bob, now=NOW),  # noqa: B023
            lambda: closing.close_account(ada, now=NOW),  # noqa: B023
            lambda: closing.close_account(bob, now=NOW),  # noqa: B023
        )

        for answer in answers:
            assert not isinstance(answer, Exception) or isinstance(answer, organizations.RuleBroken), answer
        assert_nobody_closed_is_in()


def test_who_close_what_they_share_at_once_never_wait_in_a_ring(
    catalog, free_seats, acme, acme_admin, make_user
):
    """Four people, each alone in two workspaces and invited and asking everywhere, go at once."""
    people = [make_user(f"p{n}@x.example") for n in range(4)]
    owned = {}
    for n, person in enumerate(people):
        owned[person] = [organizations.create(name=f"W{n} {k}", owner=person) for k in range(2)]
        ended = {"ended_at": NOW, "status": "ended"}
        agreement = make_agreement(
            catalog, owned[person][0], "reports-payg", account=f"33333333333{n}", **ended
        )
        for other in people:
            Registration.objects.create(
                digest=f"{n}-{other.pk}", agreement=agreement, expires_at=NOW, user=other, answers={"a": 1}
            )
    for person in people:
        for other in people:
            if other is person:
                continue
            for organization in owned[other]:
                invitations.invite(organization, email=person.email, role="member", by=other, now=NOW)
                JoinRequest.objects.create(
                    registration=Registration.objects.filter(user=person).first(),
                    organization=organization,
                    user=person,
                )

    answers = at_once(
        *[lambda person=person: closing.close_account(person, now=NOW) for person in people],
        *[
            lambda person=person: closing.close_organization(owned[person][1], by=person, now=NOW)
            for person in people
        ],
    )

    for answer in answers:
        assert answer is None or isinstance(answer, organizations.NotAllowed), answer
    assert not User.objects.filter(pk__in=[person.pk for person in people], closed_at=None).exists()
    assert not JoinRequest.objects.filter(is_approved=None).exists()
    assert_nobody_closed_is_in()
