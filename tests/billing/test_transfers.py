"""A purchase moves to another workspace: access at once, usage never, both told."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization
from billing import effects, gates, metering, moved_quotas, submission, succession, transfers, usage
from billing.decision_rules import Refused
from billing.models import Agreement, Effect, MeteringRecord, UsageEvent
from tests.billing.arriving import at_once
from tests.billing.ledger import NOON, REGION, ScriptedAws, entitle, make_agreement, use
from tests.billing.repairing import trail

NOW = NOON + timedelta(minutes=5)


@pytest.fixture
def globex(outsider):
    return Organization.objects.get(memberships__user=outsider)


@pytest.fixture
def payg(catalog, acme):
    return make_agreement(catalog, acme)


@pytest.fixture
def move(acme_admin):
    def make(agreement, to, *, now=NOW, seen=None):
        return transfers.transfer(agreement.pk, to=to, by=acme_admin, reason="wrong one", now=now, seen=seen)

    return make


def allows(organization, feature="reports"):
    return bool(gates.allows(Organization.objects.get(pk=organization.pk), feature, now=NOW))


def test_access_moves_at_once_and_the_trail_says_who_and_why(payg, acme, globex, move, acme_admin):
    assert move(payg, globex) is True

    assert (allows(acme), allows(globex)) == (False, True)
    assert trail(payg) == [
        (
            f"user:{acme_admin.pk}",
            "transferred",
            {"reason": "wrong one", "organization": globex.pk, "before": acme.pk},
        )
    ]


def test_moving_it_twice_is_moving_it_once(payg, globex, move):
    assert [move(payg, globex), move(payg, globex)] == [True, False]
    assert len(trail(payg)) == 1
    assert Effect.objects.filter(kind="mail").count() == 2


def test_what_was_used_stays_with_the_old_workspace_and_is_billed_once(payg, acme, globex, move):
    event = use(payg, 5)
    move(payg, globex)
    payg.refresh_from_db()
    later = use(payg, 2, at=NOW)

    metering.close_hours(region=REGION, now=NOW + timedelta(hours=1))
    submission.submit_due(ScriptedAws(), now=NOW + timedelta(hours=1))

    event.refresh_from_db()
    assert (event.organization, later.organization) == (acme, globex)
    assert sorted(MeteringRecord.objects.values_list("state", "quantity")) == [
        ("accepted", 2),
        ("accepted", 5),
    ]
    with pytest.raises(usage.UsageRefused):
        usage.record(acme, "pages", 1, key="late", agreement=payg, occurred_at=NOW, now=NOW)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"activated_at": None}, "not confirmed"),
        ({"ended_at": NOON}, "no access left"),
        ({"status": "ended", "ended_at": NOON}, "no access left"),
        ({"status": "failed"}, "no access left"),
    ],
)
def test_what_is_not_active_is_not_moved(catalog, acme, globex, move, fields, words):
    agreement = make_agreement(catalog, acme, **fields)
    with pytest.raises(Refused, match=words):
        move(agreement, globex)
    agreement.refresh_from_db()
    assert agreement.organization == acme
    assert trail(agreement) == []


def test_what_nobody_claimed_is_the_buyers_to_claim(catalog, globex, move):
    with pytest.raises(Refused, match="Set up your account"):
        move(make_agreement(catalog, None), globex)


def test_nothing_moves_to_a_closed_workspace_however_late_it_was_closed(payg, globex, move):
    Organization.objects.filter(pk=globex.pk).update(closed_at=NOW)
    with pytest.raises(Refused, match="closed"):
        move(payg, globex)  # globex was loaded while it was open


def test_what_somebody_else_has_moved_meanwhile_is_left_there(payg, acme, globex, move, make_user):
    third = organizations.create(name="Third", owner=make_user("t@third.example"))
    move(payg, third)
    with pytest.raises(Refused, match="Somebody else"):
        move(payg, globex, seen=str(acme.pk))
    payg.refresh_from_db()
    assert payg.organization == third


def test_its_renewal_moves_with_it_and_what_is_over_stays(catalog, acme, globex, move):
    first = make_agreement(catalog, acme, status="ended", ended_at=NOON)
    middle = make_agreement(catalog, acme, previous=first)
    last = make_agreement(catalog, acme, activated_at=None, previous=middle)

    move(middle, globex)

    assert [
        each.organization
        for each in Agreement.objects.filter(pk__in=[first.pk, middle.pk, last.pk]).order_by("pk")
    ] == [acme, globex, globex]
    assert [action for _, action, _ in trail(last)] == ["transferred"]


def test_a_renewal_that_comes_later_inherits_the_new_workspace(catalog, acme, globex, move, payg):
    move(payg, globex)
    Agreement.objects.filter(pk=payg.pk).update(end_reason="RENEWED")
    payg.refresh_from_db()
    new = make_agreement(
        catalog, None, account=payg.customer.aws_account_id, intent="RENEW",
        previous_agreement_id=payg.agreement_id,
    )  # fmt: skip
    succession.link(new, now=NOW)
    new.refresh_from_db()
    assert new.organization == globex


def test_both_workspaces_are_told_without_the_others_name(payg, acme, globex, move, acme_admin, outsider):
    acme.name = globex.name = ""
    Organization.objects.filter(pk=acme.pk).update(name="Azure Kites")
    Organization.objects.filter(pk=globex.pk).update(name="Green Geese <b>")
    now = timezone.now()
    move(payg, globex, now=now)

    effects.run_due(ScriptedAws(), now=now)

    told = {letter.to[0]: letter for letter in mail.outbox}
    assert set(told) == {acme_admin.email, outsider.email}
    away, here = told[acme_admin.email], told[outsider.email]
    assert "was moved to another workspace" in away.subject
    assert "“Azure Kites”" in away.body
    assert "Geese" not in away.body
    assert "Your workspace now has a subscription" in here.subject
    assert "“Green Geese <b>”" in here.body
    assert "<b>”" not in here.alternatives[0][0]
    assert "Kites" not in here.body
    assert payg.customer.aws_account_id not in away.body + here.body


def test_who_has_it_back_by_then_is_not_told_that_it_went(payg, acme, globex, move):
    now = timezone.now()
    move(payg, globex, now=now)
    move(payg, acme, now=now + timedelta(seconds=1))
    effects.run_due(ScriptedAws(), now=now + timedelta(seconds=1))
    outcomes = dict(Effect.objects.filter(kind="mail").values_list("cause", "state"))
    assert sorted((cause.partition(":")[0], state) for cause, state in outcomes.items()) == [
        ("buyer_moved_away", "done"),
        ("buyer_moved_away", "skipped"),
        ("buyer_moved_in", "done"),
        ("buyer_moved_in", "skipped"),
    ]


def test_quotas_that_would_not_fit_are_told_of_and_refuse_nothing(catalog, acme, globex, move, make_user):
    team = make_agreement(catalog, acme, "reports-team")
    entitle(team, 1, key="seats")
    for number in range(2):
        organizations.Membership.objects.create(
            organization=globex, user=make_user(f"m{number}@globex.example"), role="member"
        )
    [of_target, of_old] = moved_quotas.sentences([team], to=globex, now=NOW)
    assert "would have 1 of “seats” and uses 3" in of_target
    assert "would have 0 of “seats” and uses 1" in of_old
    assert move(team, globex) is True


def test_a_purchase_without_quotas_says_nothing_of_them(payg, globex):
    assert moved_quotas.sentences([payg], to=globex, now=NOW) == []


@pytest.mark.django_db(transaction=True)
def test_of_two_who_move_it_at_once_one_does(payg, acme, globex, move, make_user):
    third = organizations.create(name="Third", owner=make_user("t@third.example"))
    answers = at_once(*(lambda to=to: move(payg, to, seen=str(acme.pk)) for to in (globex, third)))
    assert sorted(type(answer).__name__ for answer in answers) == ["Refused", "bool"]
    payg.refresh_from_db()
    assert payg.organization in (globex, third)
    assert len(trail(payg)) == 1


@pytest.mark.django_db(transaction=True)
def test_usage_that_comes_while_it_moves_goes_to_one_of_the_two(payg, acme, globex, move):
    def record(number):
        return usage.record(acme, "pages", 1, key=f"k{number}", agreement=payg, occurred_at=NOW, now=NOW)

    answers = at_once(*(lambda n=n: record(n) for n in range(3)), lambda: move(payg, globex))
    stored = [answer for answer in answers if isinstance(answer, UsageEvent)]
    assert all(isinstance(answer, UsageEvent | usage.UsageRefused | bool) for answer in answers), answers
    assert UsageEvent.objects.count() == len(stored)
    assert {event.organization_id for event in UsageEvent.objects.all()} <= {acme.pk}
