"""Asking to join the workspace of one's AWS account: asked by who came with a purchase, answered once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.test import Client
from django.utils import timezone

from accounts import organizations
from accounts.models import Membership, Organization
from accounts.organizations import NoSeat, NotAllowed
from billing import audit, effects, registration
from billing.accounts_adapter import BillingAccountsAdapter
from billing.models import Agreement, AuditEvent, Effect, JoinRequest, Registration
from billing.onboarding import joining
from tests.billing.arriving import WELCOME, at_once, references
from tests.billing.ledger import NOON, ScriptedAws, make_agreement
from tests.billing.stage import DAY, HOUR, MINUTE
from tests.billing.test_claiming import arrive, browser_of, text

ASK = "/marketplace/ask/"
REQUESTS = "/o/acme/requests/"
AWS = ScriptedAws()


class Full(BillingAccountsAdapter):
    def may_add_member(self, organization, *, now):
        return "All 5 are taken."


class NoServer(BaseEmailBackend):
    def send_messages(self, messages):
        raise ConnectionRefusedError("nobody is there")


@pytest.fixture
def household(catalog, acme) -> Agreement:
    """acme has a purchase of the AWS account already."""
    return make_agreement(catalog, acme, "reports-payg", account="210987654321")


@pytest.fixture
def arrival(catalog, household) -> Registration:
    """Somebody came with another purchase of that account. It is nobody's yet."""
    agreement = make_agreement(catalog, None, "reports-flex", account="210987654321")
    return Registration.objects.create(digest="1" * 64, agreement=agreement, expires_at=NOON + HOUR)


@pytest.fixture
def grace(make_user):
    return make_user("grace@acme.example", name="Grace")


@pytest.fixture
def asked(arrival, grace) -> JoinRequest:
    return joining.ask(arrival, user=grace, now=NOON)


def answer(request, by, *, approve=True, now=NOON + MINUTE):
    return joining.answer(request, approve=approve, by=by, now=now)


def role(organization, user):
    return organization.memberships.filter(user=user).values_list("role", flat=True).first()


def run(now=NOON + HOUR):
    mail.outbox.clear()
    effects.run_due(AWS, now=now)
    return {letter.to[0]: letter for letter in mail.outbox}


def actions(agreement):
    links = AuditEvent.objects.filter(stream=agreement.audit_stream, action__startswith="join_")
    return [(link.action, link.actor, link.data) for link in links.order_by("sequence")]


# --- Asking


def test_a_stranger_asks_the_workspace_of_the_aws_account(asked, arrival, acme, grace):
    assert (asked.organization, asked.user, asked.registration) == (acme, grace, arrival)
    assert (asked.is_approved, asked.answered_at, asked.answered_by) == (None, None, None)
    assert role(acme, grace) is None
    assert Agreement.objects.get(pk=arrival.agreement_id).organization is None
    assert Registration.objects.get(pk=arrival.pk).user == grace, "It is found again in another browser."
    ids = {"request": asked.pk, "organization": acme.pk}
    assert actions(arrival.agreement) == [("join_requested", f"user:{grace.pk}", ids)]
    assert list(audit.verify()) == []


def test_asking_again_while_it_is_open_is_the_same_request(asked, arrival, grace):
    assert joining.ask(arrival, user=grace, now=NOON + DAY) == asked

    assert Effect.objects.filter(cause__startswith="buyer_join_requested").count() == 1
    assert len(actions(arrival.agreement)) == 1


def test_with_another_purchase_of_the_account_it_is_the_same_request(asked, catalog, grace):
    agreement = make_agreement(catalog, None, "reports-team", account="210987654321")
    second = Registration.objects.create(digest="2" * 64, agreement=agreement, expires_at=NOON)

    assert joining.ask(second, user=grace, now=NOON) == asked


def test_who_has_the_purchase_itself_is_asked_first(arrival, outsider, grace):
    other = outsider.organizations.get()
    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=other)

    assert joining.ask(arrival, user=grace, now=NOON).organization == other


def test_a_plain_member_asks_for_the_purchase_to_be_attached(arrival, acme, acme_member):
    assert joining.ask(arrival, user=acme_member, now=NOON).organization == acme


def test_who_may_attach_it_needs_to_ask_nobody(arrival, acme_admin):
    with pytest.raises(joining.AttachItYourself):
        joining.ask(arrival, user=acme_admin, now=NOON)


@pytest.mark.parametrize("who", ["acme_admin", "acme_member"])
def test_where_all_is_done_there_is_nothing_to_ask(arrival, acme, request, who):
    user = request.getfixturevalue(who)
    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=acme)

    with pytest.raises(joining.NothingToAsk):
        joining.ask(arrival, user=user, now=NOON)


def test_an_account_without_a_workspace_has_nobody_to_ask(catalog, grace):
    agreement = make_agreement(catalog, None, "reports-flex")
    arrival = Registration.objects.create(digest="3" * 64, agreement=agreement, expires_at=NOON)

    with pytest.raises(joining.NobodyToAsk):
        joining.ask(arrival, user=grace, now=NOON)


def test_a_closed_workspace_is_not_asked_and_not_offered(arrival, acme, grace):
    Organization.objects.filter(pk=acme.pk).update(closed_at=NOON)

    with pytest.raises(joining.NobodyToAsk):
        joining.ask(arrival, user=grace, now=NOON)
    assert "already has a workspace" not in text(browser_of(grace, arrival).get(WELCOME))


def test_an_unverified_address_cannot_ask(arrival, make_user):
    with pytest.raises(registration.Unverified):
        joining.ask(arrival, user=make_user("new@acme.example", verified=False), now=NOON)


@pytest.mark.parametrize("status", ["failed", "ended"])
def test_with_a_purchase_that_is_over_nobody_asks(arrival, grace, status):
    Agreement.objects.filter(pk=arrival.agreement_id).update(status=status)

    with pytest.raises(registration.PurchaseOver):
        joining.ask(arrival, user=grace, now=NOON)


def test_who_was_refused_may_ask_again_after_a_week(asked, arrival, acme_admin, grace):
    answer(asked, acme_admin, approve=False)

    with pytest.raises(joining.RefusedBefore):
        joining.ask(arrival, user=grace, now=NOON + 6 * DAY)
    assert joining.ask(arrival, user=grace, now=NOON + 8 * DAY) != asked


@pytest.mark.django_db(transaction=True)
def test_asked_twice_at_once_it_is_one_request(arrival, grace):
    answers = at_once(*[lambda: joining.ask(arrival, user=grace, now=NOON)] * 2)

    assert answers[0] == answers[1]
    assert JoinRequest.objects.count() == 1


# --- Answering


@pytest.mark.parametrize("by", ["owner", "admin"])
def test_approved_the_person_is_a_member_and_the_purchase_the_workspaces(
    asked, arrival, acme, acme_admin, acme_member, grace, by
):
    if by == "admin":
        acme.memberships.filter(user=acme_member).update(role=Membership.Role.ADMIN)
    person = acme_admin if by == "owner" else acme_member

    answered = answer(asked, person)

    assert (answered.is_approved, answered.answered_by) == (True, person)
    assert role(acme, grace) == Membership.Role.MEMBER
    assert Agreement.objects.get(pk=arrival.agreement_id).organization == acme
    ids = {"request": asked.pk, "organization": acme.pk, "approved": True}
    assert actions(arrival.agreement)[1] == ("join_answered", f"user:{person.pk}", ids)


def test_refused_nothing_changes_and_a_second_answer_changes_nothing(asked, arrival, acme, acme_admin, grace):
    answer(asked, acme_admin, approve=False)
    again = answer(asked, acme_admin, approve=True, now=NOON + HOUR)

    assert (again.is_approved, again.answered_at) == (False, NOON + MINUTE)
    assert role(acme, grace) is None
    assert Agreement.objects.get(pk=arrival.agreement_id).organization is None
    assert len(actions(arrival.agreement)) == 2


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("who", ["acme_member", "outsider", "grace"])
def test_nobody_else_answers(asked, request, who, approve):
    with pytest.raises(NotAllowed):
        answer(asked, request.getfixturevalue(who), approve=approve)
    asked.refresh_from_db()
    assert asked.is_approved is None


def test_without_a_seat_it_stays_open_and_the_sentence_says_so(asked, acme, acme_admin, grace, settings):
    settings.ACCOUNTS_ADAPTER = "tests.billing.test_joining.Full"

    with pytest.raises(NoSeat, match="All 5 are taken"):
        answer(asked, acme_admin)

    asked.refresh_from_db()
    assert asked.is_approved is None
    assert role(acme, grace) is None
    assert Agreement.objects.filter(organization=None).count() == 1
    assert answer(asked, acme_admin, approve=False).is_approved is False


def test_a_plain_members_purchase_is_attached_and_takes_no_seat(
    arrival, acme, acme_admin, acme_member, settings
):
    settings.ACCOUNTS_ADAPTER = "tests.billing.test_joining.Full"
    asked = joining.ask(arrival, user=acme_member, now=NOON)

    answer(asked, acme_admin)

    assert Agreement.objects.get(pk=arrival.agreement_id).organization == acme
    assert role(acme, acme_member) == Membership.Role.MEMBER


def test_who_became_an_admin_meanwhile_stays_one(asked, acme, acme_admin, grace):
    acme.memberships.create(user=grace, role=Membership.Role.ADMIN)

    answer(asked, acme_admin)

    assert role(acme, grace) == Membership.Role.ADMIN


def test_a_purchase_that_went_elsewhere_meanwhile_stays_there(
    asked, arrival, outsider, acme, acme_admin, grace
):
    other = outsider.organizations.get()
    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=other)

    answer(asked, acme_admin)

    assert role(acme, grace) == Membership.Role.MEMBER
    assert Agreement.objects.get(pk=arrival.agreement_id).organization == other


def test_a_purchase_that_failed_meanwhile_is_left_alone(asked, arrival, acme, acme_admin, grace):
    Agreement.objects.filter(pk=arrival.agreement_id).update(status="failed")

    answer(asked, acme_admin)

    assert role(acme, grace) == Membership.Role.MEMBER
    assert Agreement.objects.get(pk=arrival.agreement_id).organization is None


def test_a_request_that_nothing_is_left_of_asks_nobody_any_more(asked, arrival, acme, grace):
    acme.memberships.create(user=grace, role=Membership.Role.MEMBER)
    assert list(joining.open_to(acme)) == [asked], "The purchase is still to be attached."

    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=acme)

    assert list(joining.open_to(acme)) == []
    assert list(joining.open_of(grace)) == []


@pytest.mark.django_db(transaction=True)
def test_of_two_who_answer_at_once_one_decides(asked, acme, acme_admin, acme_member, grace):
    acme.memberships.filter(user=acme_member).update(role=Membership.Role.ADMIN)

    answers = at_once(
        lambda: answer(asked, acme_admin, approve=True), lambda: answer(asked, acme_member, approve=False)
    )

    assert answers[0].is_approved == answers[1].is_approved
    assert AuditEvent.objects.filter(action="join_answered").count() == 1
    assert (role(acme, grace) is not None) == answers[0].is_approved


# --- Mails


def test_the_owners_are_told_who_asks_and_nobody_else(asked, acme, acme_admin, acme_member, make_user):
    admin = make_user("cleo@acme.example")
    acme.memberships.create(user=admin, role=Membership.Role.ADMIN)

    letters = run()

    letter = letters[acme_admin.email]
    assert letter.subject == "grace@acme.example asks to join Acme"
    assert "Grace (grace@acme.example) asks to join your workspace “Acme”." in letter.body
    assert "a purchase of Acme Reports Flex" in letter.body
    assert f"http://testserver{REQUESTS}" in letter.body
    assert "210987654321" not in letter.body
    assert not {admin.email, acme_member.email, "grace@acme.example"} & set(letters)
    assert run() == {}


@pytest.mark.parametrize("approve", [True, False])
def test_who_asked_is_told_the_answer(asked, acme_admin, approve):
    answer(asked, acme_admin, approve=approve)

    letters = run()

    assert "asks to join" not in str([letter.subject for letter in letters.values()])
    letter = letters["grace@acme.example"]
    if approve:
        assert letter.subject == "You are a member of Acme now"
        assert "http://testserver/o/acme/" in letter.body
    else:
        assert "has refused" in letter.body
        assert "Acme”" not in letter.body
        assert "/o/acme/" not in letter.body


def test_names_in_those_mails_are_text_on_one_line(asked, acme, acme_admin, grace):
    grace.name = "Grace\r\nBcc: thief@x.example <b>"
    grace.save()
    Organization.objects.filter(pk=acme.pk).update(name="عربي 🎉\n<script>")

    letter = run()[acme_admin.email]

    assert "\n" not in letter.subject
    assert "Grace Bcc: thief@x.example <b> (grace@acme.example)" in letter.body
    assert "عربي 🎉 <script>" in letter.body
    assert "<script>" not in letter.alternatives[0][0]


def test_an_answer_that_came_first_is_not_asked_for(asked, acme_admin):
    answer(asked, acme_admin)
    run()

    [effect] = Effect.objects.filter(cause=f"buyer_join_requested:{asked.pk}")
    assert (effect.state, effect.outcome) == ("skipped", "it was answered by then")


def test_a_mail_server_that_is_down_loses_no_request(asked, acme_admin, settings):
    settings.EMAIL_BACKEND = "tests.billing.test_joining.NoServer"
    run()
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert acme_admin.email in run(NOON + 2 * HOUR)


# --- The welcome page


def press(client, reference=None):
    return client.post(ASK, {"registration": reference or references(client.get(WELCOME))[0]})


def test_one_click_asks_and_the_page_says_so_on_every_device(arrival, grace):
    client = browser_of(grace, arrival)
    assert "Ask to join the workspace" in text(client.get(WELCOME))

    response = press(client)

    assert response["Location"] == WELCOME
    for browser in (client, browser_of(grace)):
        page = text(browser.get(WELCOME))
        assert "You have asked." in page
        assert "Ask to join the workspace" not in page
        assert "Set it up in another workspace instead" in page
    assert browser_of(grace).get("/home/")["Location"] == WELCOME


def test_pressed_twice_it_is_one_request(arrival, grace):
    client = browser_of(grace, arrival)
    reference = references(client.get(WELCOME))[0]

    assert [press(client, reference)["Location"] for _ in range(2)] == [WELCOME] * 2
    assert JoinRequest.objects.count() == 1


def test_who_asked_for_a_purchase_that_is_in_use_finds_the_request_on_another_device(
    arrival, outsider, make_user
):
    Agreement.objects.filter(pk=arrival.agreement_id).update(organization=outsider.organizations.get())
    late = make_user("late@x.example")
    client = browser_of(late, arrival)
    assert "This purchase is already in use" in text(client.get(WELCOME))
    press(client)

    elsewhere = browser_of(late)
    assert elsewhere.get("/home/")["Location"] == WELCOME
    assert "Your request is with the owners" in text(elsewhere.get(WELCOME))


def test_a_refusal_is_said_on_the_page(arrival, grace, acme_admin):
    asked = joining.ask(arrival, user=grace, now=timezone.now())
    joining.answer(asked, approve=False, by=acme_admin, now=timezone.now())

    client = browser_of(grace, arrival)
    page = text(client.get(WELCOME))
    assert "Your request was refused" in page
    assert "Ask to join the workspace" not in page
    press(client)
    assert "refused a short while ago" in text(client.get(WELCOME))


def test_a_role_that_changed_meanwhile_is_answered_in_words(arrival, acme, grace):
    client = browser_of(grace, arrival)
    reference = references(client.get(WELCOME))[0]
    acme.memberships.create(user=grace, role=Membership.Role.OWNER)

    press(client, reference)

    assert "You may attach this purchase to the workspace yourself" in text(client.get(WELCOME))


def test_asking_takes_a_post_a_csrf_token_a_sign_in_and_ones_own_purchase(arrival, grace, outsider):
    reference = references(browser_of(grace, arrival).get(WELCOME))[0]
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(grace)

    assert press(forger, reference).status_code == 403
    assert browser_of(grace).get(ASK)["Location"] == WELCOME
    assert press(browser_of(), reference)["Location"].startswith("/accounts/login/")
    for tampered in (reference, "garbage", "1", " "):
        assert press(browser_of(outsider), tampered)["Location"] == WELCOME
    assert not JoinRequest.objects.exists()


def test_an_unverified_person_is_sent_to_confirm(arrival, make_user):
    user = make_user("new@acme.example", verified=False)

    assert press(browser_of(user, arrival))["Location"] == "/accounts/email/"
    EmailAddress.objects.update(verified=True)
    assert press(browser_of(user, arrival))["Location"] == WELCOME
    assert JoinRequest.objects.count() == 1


def test_nobody_can_flood_the_owners(arrival, grace):
    client = browser_of(grace, arrival)
    reference = references(client.get(WELCOME))[0]
    statuses = [press(client, reference).status_code for _ in range(11)]

    assert statuses == [302] * 10 + [429]
    assert client.get(ASK)["Location"] == WELCOME


# --- The page of those who answer


def test_an_administrator_is_told_on_every_page_and_answers(client, asked, acme, acme_admin, grace):
    client.force_login(acme_admin)
    overview = text(client.get("/o/acme/"))
    assert "1 person asks to join this workspace." in overview
    assert f'href="{REQUESTS}"' in overview

    page = text(client.get(REQUESTS))
    for words in ("Grace", "grace@acme.example", "Acme Reports Flex", "•••• •••• 4321"):
        assert words in page
    assert "asks to join this workspace" not in page, "The page itself says so."
    response = client.post(f"{REQUESTS}{asked.pk}/", {"answer": "approve"})

    assert response["Location"] == REQUESTS
    page = text(client.get(REQUESTS))
    assert "Grace is a member of the workspace now." in page
    assert "Nobody is waiting" in page
    assert "Approved" in page
    assert role(acme, grace) == Membership.Role.MEMBER
    assert "asks to join" not in text(client.get("/o/acme/"))


def test_pressed_twice_the_second_is_told_and_changes_nothing(client, asked, acme, acme_admin, grace):
    client.force_login(acme_admin)
    client.post(f"{REQUESTS}{asked.pk}/", {"answer": "refuse"})
    assert "The request was refused." in text(client.get(REQUESTS))

    client.post(f"{REQUESTS}{asked.pk}/", {"answer": "approve"})

    assert "answered already" in text(client.get(REQUESTS))
    assert role(acme, grace) is None


@pytest.mark.parametrize("method", ["get", "post"])
def test_outsiders_find_no_requests_and_members_may_not_see_them(
    client, asked, acme_member, outsider, grace, method
):
    for url in (REQUESTS, f"{REQUESTS}{asked.pk}/"):
        if method == "get" and url != REQUESTS:
            continue
        for user, status in ((outsider, 404), (grace, 404), (acme_member, 403)):
            client.force_login(user)
            assert getattr(client, method)(url, {"answer": "approve"}).status_code == status, url
        client.logout()
        assert getattr(client, method)(url)["Location"].startswith("/accounts/login/")
    asked.refresh_from_db()
    assert asked.is_approved is None


def test_a_member_is_not_told_of_requests(client, asked, acme_member):
    client.force_login(acme_member)

    assert "asks to join" not in text(client.get("/o/acme/"))


def test_another_workspaces_request_cannot_be_answered_from_ones_own(client, asked, outsider):
    client.force_login(outsider)

    assert client.post(f"/o/other/requests/{asked.pk}/", {"answer": "approve"}).status_code == 404
    asked.refresh_from_db()
    assert asked.is_approved is None


@pytest.mark.parametrize("said", [{}, {"answer": ""}, {"answer": "Approve"}, {"answer": "yes"}])
def test_only_the_two_buttons_answer(client, asked, acme_admin, said):
    client.force_login(acme_admin)
    client.post(f"{REQUESTS}{asked.pk}/", said)

    asked.refresh_from_db()
    assert asked.is_approved is None
    assert client.get(f"{REQUESTS}{asked.pk}/").status_code == 405
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(acme_admin)
    assert forger.post(f"{REQUESTS}{asked.pk}/", {"answer": "approve"}).status_code == 403


def test_without_a_seat_the_page_says_why(client, asked, acme_admin, settings):
    settings.ACCOUNTS_ADAPTER = "tests.billing.test_joining.Full"
    client.force_login(acme_admin)
    client.post(f"{REQUESTS}{asked.pk}/", {"answer": "approve"})

    page = text(client.get(REQUESTS))
    assert "All 5 are taken" in page
    assert "Approve</button>" in page


def test_what_people_call_themselves_is_text(client, asked, acme_admin, grace):
    grace.name = "<img src=x onerror=alert(1)> عربي 🎉" + "W" * 100
    grace.save()
    client.force_login(acme_admin)

    page = text(client.get(REQUESTS))

    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "عربي 🎉" in page


def test_the_page_of_many_requests_takes_ten_queries_at_most(
    client, asked, arrival, acme, acme_admin, make_user, catalog, django_assert_max_num_queries
):
    for number in range(50):
        make_agreement(catalog, acme, "reports-payg", account="210987654321")
        user = make_user(f"user-{number}@acme.example")
        answered = (
            {"is_approved": False, "answered_at": NOON, "answered_by": acme_admin} if number % 2 else {}
        )
        JoinRequest.objects.create(registration=arrival, organization=acme, user=user, **answered)
        acme.memberships.create(user=make_user(f"member-{number}@acme.example"), role="member")
    client.force_login(acme_admin)

    with django_assert_max_num_queries(10):
        page = text(client.get(REQUESTS))
    assert page.count("Approve</button>") == 26


def test_operators_see_who_asked(client, asked, operator):
    client.force_login(operator)

    assert ">Grace</a>" in text(client.get("/admin/billing/joinrequest/"))
    assert client.get(f"/admin/billing/joinrequest/{asked.pk}/change/").status_code == 200
    assert "asks to join the workspace" in text(
        client.get(f"/admin/billing/agreement/{asked.registration.agreement_id}/change/")
    )


def test_from_the_landing_to_the_membership(aws, purchase, acme, acme_admin, grace):
    account = purchase("reports-payg").customer.aws_account_id
    arrival = arrive(aws, aws.buy("reports-flex", aws_account_id=account))
    press(browser_of(grace, arrival))
    now = timezone.now()
    effects.run_due(aws.marketplace, now=now + timedelta(seconds=1))
    assert any(letter.subject.startswith("grace@acme.example asks") for letter in mail.outbox)

    browser_of(acme_admin).post(f"{REQUESTS}{JoinRequest.objects.get().pk}/", {"answer": "approve"})

    assert acme.agreements.count() == 2
    assert organizations.role_of(grace, acme) == Membership.Role.MEMBER
    assert "This purchase belongs to your workspace Acme" in text(browser_of(grace, arrival).get(WELCOME))
