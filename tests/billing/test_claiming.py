"""Whose the purchase becomes: by a confirmation, of a verified person, once."""

from __future__ import annotations

from threading import Thread

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.signals import user_logged_in
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts import organizations
from accounts.models import Membership, Organization, User
from billing import customers, registration
from billing.models import Agreement, AuditEvent, Registration
from billing.onboarding import households, visitors
from tests.billing.arriving import (
    CLAIM,
    WELCOME,
    at_once,
    confirm,
    land,
    mailed_code,
    references,
    sign_in,
    sign_up,
)
from tests.plugin import PASSWORD


@pytest.fixture(autouse=True)
def rate_limits_start_afresh():
    cache.clear()


@pytest.fixture
def arrival(aws) -> Registration:
    return arrive(aws, aws.buy())


def arrive(aws, bought) -> Registration:
    return registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=timezone.now())


def browser_of(user: User | None = None, *arrivals: Registration) -> Client:
    """A browser in which ``user`` is signed in and the arrivals' cookies lie."""
    client = Client()
    if user is not None:
        client.force_login(user)
    for arrival in arrivals:
        response = client.get("/").__class__()
        visitors.remember(response, arrival, secure=False)
        client.cookies.update(response.cookies)
    return client


def text(response) -> str:
    return response.content.decode()


# --- The whole way, as a browser goes it -------------------------------------------------------------------


def test_a_new_person_lands_signs_up_confirms_and_is_in_the_new_workspace(aws, client):
    land(client, aws.buy().token)
    welcome = text(client.get(WELCOME))
    assert 'action="/accounts/signup/"' in welcome
    assert f'name="next" value="{WELCOME}"' in welcome
    assert f"/accounts/login/?next={WELCOME}" in welcome
    assert "/marketplace/claim/" not in welcome, "Nothing can be claimed before sign-in."

    assert sign_up(client, "new@acme.example")["Location"] == WELCOME
    response = confirm(client, name="Acme")

    acme = Organization.objects.get()
    assert response["Location"] == "/o/acme/getting-ready/"
    page = client.get(response["Location"])
    assert page.status_code == 200
    assert "Your purchase is set up." in text(page)
    agreement = Agreement.objects.get()
    assert agreement.organization == acme
    assert agreement.claimed_at is not None
    assert acme.memberships.get().role == Membership.Role.OWNER
    assert Registration.objects.get().user.email == "new@acme.example"
    assert "marketplace_arrival_" not in str([c for c in client.cookies.values() if c.value])


def test_a_known_person_signs_in_and_confirms(aws, client, acme, acme_admin):
    land(client, aws.buy().token)

    assert sign_in(client, acme_admin.email, next=WELCOME)["Location"] == WELCOME
    response = confirm(client, organization=acme.pk)

    assert client.get(response["Location"]).status_code == 200
    assert response["Location"] == "/o/acme/getting-ready/"
    assert Agreement.objects.get().organization == acme


def test_a_signed_in_person_confirms_at_once(aws, acme, acme_admin):
    arrival = arrive(aws, aws.buy())
    client = browser_of(acme_admin, arrival)

    assert confirm(client, organization=acme.pk)["Location"] == "/o/acme/getting-ready/"

    audited = AuditEvent.objects.get(action="claimed")
    assert audited.actor == f"user:{acme_admin.pk}"
    assert audited.data == {"organization": acme.pk}


def test_two_purchases_are_confirmed_one_after_the_other(aws, acme, acme_admin):
    client = browser_of(
        acme_admin, arrive(aws, aws.buy("reports-flex")), arrive(aws, aws.buy("reports-payg"))
    )
    first, second = references(client.get(WELCOME))

    confirm(client, organization=acme.pk, reference=first)
    assert len(references(client.get(WELCOME))) == 1
    confirm(client, organization="new", name="Other team", reference=second)

    assert Agreement.objects.filter(organization=acme).count() == 1
    assert Agreement.objects.get(organization__name="Other team").product.code == "reports-flex"


def test_sign_in_leads_to_the_purchase_that_waits_and_later_to_the_workspace(aws, client, acme, acme_admin):
    land(client, aws.buy().token)
    sign_in(client, acme_admin.email)
    assert client.get("/home/")["Location"] == WELCOME

    confirm(client, organization=acme.pk)

    assert client.get("/home/")["Location"] == "/o/acme/"


def test_setting_up_again_after_the_claim_leads_to_the_workspace(aws, client, acme, acme_admin):
    bought = aws.buy()
    registration.claim(arrive(aws, bought), by=acme_admin, organization=acme, now=timezone.now())

    land(client, aws.control.token(bought.agreement_id))
    sign_in(client, acme_admin.email, next=WELCOME)

    assert "This purchase belongs to your workspace Acme" in text(client.get(WELCOME))
    assert client.get("/home/")["Location"] == "/o/acme/"
    assert browser_of(acme_admin).get("/home/")["Location"] == "/o/acme/", "Nor for ever after."


def test_a_remembered_purchase_does_not_keep_a_person_from_their_workspace(aws, client, acme, acme_admin):
    land(client, aws.buy().token)
    sign_in(client, acme_admin.email)
    assert client.get("/home/")["Location"] == WELCOME, "This browser came for it."

    elsewhere = browser_of(acme_admin)
    assert elsewhere.get("/home/")["Location"] == "/o/acme/"
    page = text(elsewhere.get("/o/acme/"))
    assert "A purchase is waiting to be set up" in page
    assert f'href="{WELCOME}"' in page

    confirm(elsewhere, organization=acme.pk)
    assert "A purchase is waiting" not in text(elsewhere.get("/o/acme/"))


def test_a_member_sees_that_their_purchase_waits_and_nobody_elses(arrival, acme, acme_admin, acme_member):
    Registration.objects.update(user=acme_member)

    assert "A purchase is waiting to be set up" in text(browser_of(acme_member).get("/o/acme/"))
    assert "A purchase is waiting" not in text(browser_of(acme_admin).get("/o/acme/"))


@pytest.mark.parametrize("status", ["failed", "ended"])
def test_what_failed_or_ended_leads_nobody_away_from_home(arrival, acme, acme_admin, status):
    Registration.objects.update(user=acme_admin)
    finish(status)

    client = browser_of(acme_admin, arrival)
    assert client.get("/home/")["Location"] == "/o/acme/"
    assert "A purchase is waiting" not in text(client.get("/o/acme/"))


# --- Not mine, failed, ended -------------------------------------------------------------------------------

DISMISS = "/marketplace/dismiss/"


def finish(status):
    now = timezone.now()
    Agreement.objects.update(status=status, activated_at=now if status == "ended" else None)


def test_not_mine_forgets_the_purchase_here_and_for_the_person_and_nothing_else(
    aws, client, acme, acme_admin, outsider
):
    bought = aws.buy()
    land(client, bought.token)
    land(client, aws.control.token(bought.agreement_id))  # "Set up your account" chosen twice
    land(client, aws.buy("reports-payg").token)
    sign_in(client, acme_admin.email)
    flex = Registration.objects.filter(agreement__product__code="reports-flex")
    theirs = Registration.objects.create(
        digest="0" * 64, agreement=flex[0].agreement, expires_at=timezone.now(), user=outsider
    )
    audited = AuditEvent.objects.count()
    page = client.get(WELCOME)
    assert "Not mine" in text(page)
    [reference] = [
        arrival.registration_id for arrival in page.context["arrivals"] if "Flex" in arrival.bought.product
    ]

    response = client.post(DISMISS, {"registration": reference})

    assert response["Location"] == "/home/"
    assert [arrival.bought.product for arrival in client.get(WELCOME).context["arrivals"]] == [
        Agreement.objects.get(product__code="reports-payg").product.title
    ]
    assert set(flex.values_list("user", flat=True)) == {None, outsider.pk}
    theirs.refresh_from_db()
    assert theirs.user == outsider
    assert browser_of(acme_admin).get("/home/")["Location"] == "/o/acme/"
    assert AuditEvent.objects.count() == audited
    assert Agreement.objects.filter(organization=None).count() == 2


def test_not_mine_takes_a_csrf_token_a_post_and_ones_own_purchase(arrival, acme_admin, outsider):
    Registration.objects.update(user=acme_admin)
    reference = references(browser_of(acme_admin).get(WELCOME))[0]
    forger = Client(enforce_csrf_checks=True)
    forger.force_login(acme_admin)

    assert forger.post(DISMISS, {"registration": reference}).status_code == 403
    assert browser_of(acme_admin).get(DISMISS)["Location"] == WELCOME
    assert browser_of().post(DISMISS, {"registration": reference})["Location"].startswith("/accounts/login/")
    for text_ in (reference, "garbage", ""):
        assert browser_of(outsider).post(DISMISS, {"registration": text_})["Location"] == "/home/"
    assert Registration.objects.get().user == acme_admin


def test_who_claimed_a_purchase_stays_known_as_its_claimer(arrival, acme, acme_admin):
    client = browser_of(acme_admin, arrival)
    reference = references(client.get(WELCOME))[0]
    confirm(client, organization=acme.pk, reference=reference)

    client.post(DISMISS, {"registration": reference})

    assert Registration.objects.get().user == acme_admin


@pytest.mark.parametrize(
    ("status", "words"),
    [("failed", "AWS could not complete this purchase"), ("ended", "This purchase has ended")],
)
@pytest.mark.parametrize("signed_in", [False, True])
def test_a_purchase_that_failed_or_ended_says_so_and_asks_for_nothing(
    arrival, acme_admin, status, words, signed_in
):
    finish(status)
    client = browser_of(acme_admin if signed_in else None, arrival)

    page = text(client.get(WELCOME))

    assert words in page
    assert ("payment method" in page) == (status == "failed")
    for wrong in (
        "Thank you",
        "has arrived",
        "Being confirmed",
        "What happens next",
        CLAIM,
        "Who will use it",
    ):
        assert wrong not in page, wrong


@pytest.mark.parametrize("status", ["failed", "ended"])
def test_a_purchase_that_failed_or_ended_cannot_be_claimed(arrival, acme, acme_admin, status):
    client = browser_of(acme_admin, arrival)
    reference = references(client.get(WELCOME))[0]
    finish(status)

    response = confirm(client, organization=acme.pk, reference=reference)

    assert response["Location"] == WELCOME
    assert "failed or has ended" in text(client.get(WELCOME))
    assert Agreement.objects.get().organization is None
    with pytest.raises(registration.ClaimRefused):
        registration.claim(arrival, by=acme_admin, new_name="Another", now=timezone.now())
    assert Organization.objects.count() == 1


# --- What is remembered ------------------------------------------------------------------------------------


def test_the_purchase_is_remembered_for_who_signed_in_also_in_another_browser(aws, client, acme_admin):
    land(client, aws.buy().token)
    sign_in(client, acme_admin.email)

    elsewhere = browser_of(acme_admin)
    assert elsewhere.get("/home/")["Location"] == WELCOME
    assert len(references(elsewhere.get(WELCOME))) == 1
    assert confirm(elsewhere, name="Later")["Location"] == "/o/later/getting-ready/"


def test_a_purchase_that_came_to_a_workspace_in_another_way_waits_for_nobody(arrival, acme, acme_admin):
    Registration.objects.update(user=acme_admin)
    Agreement.objects.update(organization=acme)  # as a renewal inherits it

    client = browser_of(acme_admin)
    assert client.get("/home/")["Location"] == "/o/acme/"
    assert "No purchase is waiting here" in text(client.get(WELCOME))


def test_it_is_remembered_only_once_the_mailed_code_is_typed(aws, client):
    land(client, aws.buy().token)

    client.post("/accounts/signup/", {"email": "new@acme.example", "password1": PASSWORD})
    assert Registration.objects.get().user is None
    client.post("/accounts/confirm-email/", {"code": mailed_code()})

    assert Registration.objects.get().user == User.objects.get(email="new@acme.example")


def test_what_is_remembered_for_one_is_not_taken_by_the_next_to_sign_in(aws, client, acme_admin, outsider):
    land(client, aws.buy().token)
    sign_in(client, acme_admin.email)
    client.post("/accounts/logout/")
    sign_in(client, outsider.email)

    assert Registration.objects.get().user == acme_admin


def test_remembering_binds_nothing(aws, client, acme_admin):
    land(client, aws.buy().token)
    sign_in(client, acme_admin.email)

    agreement = Agreement.objects.get()
    assert (agreement.organization, agreement.claimed_at) == (None, None)


def test_a_sign_in_without_a_purchase_remembers_nothing(arrival, acme_admin, rf):
    user_logged_in.send(sender=User, request=rf.get("/"), user=acme_admin)

    assert Registration.objects.get().user is None


def test_a_purchase_opens_sign_up_where_it_is_closed(aws, client, settings):
    settings.SIGNUP_WITHOUT_PURCHASE = False
    assert 'name="password1"' not in text(client.get("/accounts/signup/"))

    land(client, aws.buy().token)

    assert 'name="password1"' in text(client.get("/accounts/signup/"))
    assert sign_up(client, "new@acme.example")["Location"] == WELCOME


def test_a_forged_cookie_opens_no_sign_up(client, db, settings):
    settings.SIGNUP_WITHOUT_PURCHASE = False
    client.cookies["marketplace_arrival_1"] = "1"

    assert 'name="password1"' not in text(client.get("/accounts/signup/"))


# --- What binds nothing ------------------------------------------------------------------------------------


def test_a_token_posted_through_a_signed_in_strangers_browser_binds_nothing(aws, outsider):
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(outsider)
    response = land(Client(), aws.buy().token)  # the form of the attacker's page: no session with it
    stranger.cookies.update(response.cookies)

    page = stranger.get(WELCOME)
    forged = stranger.post(
        CLAIM, {"registration": references(page)[0], "organization": "new", "name": "Trap"}
    )

    assert forged.status_code == 403
    assert Agreement.objects.get().organization is None
    assert Organization.objects.count() == 1
    # It is kept in mind for them as for who signs in with it, and is anybody's to claim who can confirm it.
    assert Registration.objects.get().user == outsider


def test_looking_at_the_welcome_page_binds_nothing(arrival, acme_admin):
    browser_of(acme_admin, arrival).get(WELCOME)
    browser_of(acme_admin, arrival).get(CLAIM)

    assert Agreement.objects.get().organization is None


def test_an_unverified_address_cannot_claim(arrival, make_user):
    user = make_user("new@acme.example", verified=False)
    client = browser_of(user, arrival)

    response = confirm(client, name="Acme")

    assert response["Location"] == "/accounts/email/"
    assert "Confirm your e-mail address first" in text(client.get(response["Location"]))
    assert not Organization.objects.exists()
    EmailAddress.objects.update(verified=True)
    assert confirm(client, name="Acme")["Location"] == "/o/acme/getting-ready/"


def test_a_member_who_is_no_admin_cannot_attach(arrival, acme, acme_member):
    client = browser_of(acme_member, arrival)
    assert f'value="{acme.pk}"' not in text(client.get(WELCOME))

    response = confirm(client, organization=acme.pk)

    assert response.status_code == 422
    assert Agreement.objects.get().organization is None
    with pytest.raises(registration.ClaimRefused):
        registration.claim(arrival, by=acme_member, organization=acme, now=timezone.now())


def test_who_lost_the_role_while_the_form_was_open_is_told(arrival, acme, acme_admin, monkeypatch):
    client = browser_of(acme_admin, arrival)
    reference = references(client.get(WELCOME))[0]
    original = registration.claim

    def demoted_meanwhile(*args, **kwargs):
        Membership.objects.update(role=Membership.Role.MEMBER)
        return original(*args, **kwargs)

    monkeypatch.setattr(registration, "claim", demoted_meanwhile)
    response = confirm(client, organization=acme.pk, reference=reference)

    assert response["Location"] == WELCOME
    assert "Ask an owner or admin" in text(client.get(WELCOME))
    assert Agreement.objects.get().organization is None


@pytest.mark.parametrize("organization", ["other", "999999", "", "new' OR 1=1"])
def test_an_organization_of_somebody_else_is_refused(arrival, acme_admin, outsider, organization):
    if organization == "other":
        organization = str(outsider.organizations.get().pk)

    response = confirm(browser_of(acme_admin, arrival), organization=organization)

    assert response.status_code == 422
    assert Agreement.objects.get().organization is None


def test_a_new_workspace_needs_a_name_and_the_form_says_so(arrival, acme_admin):
    client = browser_of(acme_admin, arrival)

    for name in ("", "   ", "a" * 121, "a\x00b"):
        response = confirm(client, name=name)
        assert response.status_code == 422, name
        assert references(response), "The form is there to be corrected."
    assert "Give the new workspace a name" in text(confirm(client, name=""))
    assert Organization.objects.count() == 0


def test_the_reference_of_another_browsers_arrival_is_refused(aws, arrival, acme_admin, outsider):
    theirs = browser_of(acme_admin, arrival)
    reference = references(theirs.get(WELCOME))[0]
    stranger = browser_of(outsider)

    response = confirm(stranger, name="Stolen", reference=reference)

    assert response["Location"] == WELCOME
    assert "not waiting for you" in text(stranger.get(WELCOME))
    assert Agreement.objects.get().organization is None


@pytest.mark.parametrize("reference", ["1", "garbage", "MQ:1abcde:signature"])
def test_a_reference_that_we_did_not_sign_is_refused(arrival, acme_admin, reference):
    response = confirm(browser_of(acme_admin, arrival), name="Acme", reference=reference)

    assert response["Location"] == WELCOME
    assert Agreement.objects.get().organization is None


def test_a_session_that_ended_meanwhile_leads_back_to_the_purchase(arrival, acme_admin):
    client = browser_of(None, arrival)

    response = client.post(CLAIM, {"registration": "x"})
    assert response["Location"] == f"/accounts/login/?next={WELCOME}"

    assert sign_in(client, acme_admin.email, next=WELCOME)["Location"] == WELCOME
    page = client.get(CLAIM, follow=True)
    assert page.redirect_chain == [(WELCOME, 302)]
    assert "not waiting for you" not in text(page)


# --- Once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remembered", [False, True])
def test_pressing_the_button_twice_makes_one_workspace(arrival, acme_admin, remembered):
    if remembered:
        Registration.objects.update(user=acme_admin)
        client = browser_of(acme_admin)
    else:
        client = browser_of(acme_admin, arrival)
    reference = references(client.get(WELCOME))[0]

    responses = [confirm(client, name="Acme", reference=reference) for _ in range(2)]

    assert [response["Location"] for response in responses] == ["/o/acme/getting-ready/"] * 2
    assert Organization.objects.count() == 1
    assert AuditEvent.objects.filter(action="claimed").count() == 1


@pytest.mark.parametrize("is_own_click", [False, True])
def test_a_new_workspace_is_not_a_colleague_s(arrival, acme, acme_admin, acme_member, is_own_click):
    mine = arrival
    if is_own_click:  # both clicked at AWS, and are remembered each with their own arrival
        mine = Registration.objects.create(
            digest="2" * 64, agreement=arrival.agreement, expires_at=arrival.expires_at, user=acme_member
        )
    registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())

    with pytest.raises(registration.AlreadyClaimed):
        registration.claim(mine, by=acme_member, new_name="Mine", now=timezone.now())

    assert Organization.objects.count() == 1
    if is_own_click:
        mine.refresh_from_db()
        assert (mine.claimed_at, mine.user) == (None, acme_member)


def test_who_was_removed_since_is_not_led_back(arrival, acme, acme_admin, make_user):
    other = make_user("other@acme.example")
    acme.memberships.create(user=other, role="owner")
    registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())
    acme.memberships.filter(user=acme_admin).delete()

    with pytest.raises(registration.AlreadyClaimed):
        registration.claim(arrival, by=acme_admin, new_name="Mine", now=timezone.now())


def test_claiming_again_for_the_same_organization_changes_nothing(arrival, acme, acme_admin):
    first = registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())
    again = registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())

    assert again.claimed_at == first.claimed_at


def test_the_second_claimer_gets_a_clear_page(arrival, acme, acme_admin, outsider):
    second = browser_of(outsider, arrival)
    reference = references(second.get(WELCOME))[0]
    registration.claim(arrival, by=acme_admin, organization=acme, now=timezone.now())

    response = confirm(second, organization=outsider.organizations.get().pk, reference=reference)
    page = text(second.get(response["Location"]))

    assert "Somebody else was faster" in page
    assert "This purchase is already in use" in page
    assert "a••@a•••.example" in page
    assert "Acme<" not in page
    assert "/o/acme/" not in page
    assert "ada@acme.example" not in page
    assert CLAIM not in page
    assert "Ask to join the workspace" in page
    assert Agreement.objects.get().organization == acme


def test_who_only_remembers_a_purchase_that_went_elsewhere_is_told_too(arrival, acme, acme_admin, outsider):
    Registration.objects.update(user=outsider)
    client = browser_of(outsider)
    reference = references(client.get(WELCOME))[0]
    other = Registration.objects.create(
        digest="0" * 64, agreement=arrival.agreement, expires_at=timezone.now(), user=acme_admin
    )
    registration.claim(other, by=acme_admin, organization=acme, now=timezone.now())

    response = confirm(client, name="Mine", reference=reference)

    assert "Somebody else was faster" in text(client.get(response["Location"]))
    assert client.get("/home/")["Location"] == "/o/other/"


@pytest.mark.django_db(transaction=True)
def test_of_two_who_claim_at_once_exactly_one_wins(aws, make_user):
    arrival = arrive(aws, aws.buy())
    people = [make_user(f"{name}@x.example") for name in ("ada", "bob")]
    targets = [organizations.create(name=str(person.pk), owner=person) for person in people]

    answers = at_once(
        *[
            lambda person=person, target=target: registration.claim(
                arrival, by=person, organization=target, now=timezone.now()
            )
            for person, target in zip(people, targets, strict=True)
        ]
    )

    [winner] = [answer for answer in answers if isinstance(answer, Agreement)]
    [loser] = [answer for answer in answers if isinstance(answer, Exception)]
    assert isinstance(loser, registration.AlreadyClaimed)
    assert Agreement.objects.get().organization == winner.organization
    assert AuditEvent.objects.filter(action="claimed").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_claim_waits_for_whoever_has_the_agreement_in_hand(aws, acme, make_user):
    arrival, bob = arrive(aws, aws.buy()), make_user("bob@x.example")
    target = organizations.create(name="Second", owner=bob)
    answer: list[object] = []
    waiting = Thread(
        target=lambda: answer.extend(
            at_once(lambda: registration.claim(arrival, by=bob, organization=target, now=timezone.now()))
        )
    )

    with transaction.atomic():
        first = customers.lock(arrival.agreement_id)
        waiting.start()
        waiting.join(timeout=0.5)
        assert waiting.is_alive()
        first.organization = acme
        first.save(update_fields=["organization"])
    waiting.join(timeout=20)

    assert isinstance(answer[0], registration.AlreadyClaimed)
    assert Agreement.objects.get().organization == acme


@pytest.mark.django_db(transaction=True)
def test_the_button_pressed_twice_at_once_makes_one_workspace(aws, make_user):
    arrival, ada = arrive(aws, aws.buy()), make_user("ada@x.example")

    answers = at_once(*[lambda: registration.claim(arrival, by=ada, new_name="Acme", now=timezone.now())] * 2)

    assert [answer.organization.slug for answer in answers] == ["acme", "acme"]
    assert Organization.objects.count() == 1


# --- A household: the AWS account has a workspace already ---------------------------------------------------


@pytest.fixture
def second_purchase(aws, purchase) -> Registration:
    """Of the AWS account whose first purchase is acme's."""
    account = purchase("reports-payg").customer.aws_account_id
    return arrive(aws, aws.buy("reports-flex", aws_account_id=account))


def test_a_member_is_offered_the_accounts_workspace_first(second_purchase, acme, acme_admin):
    organizations.create(name="AAA comes first by name", owner=acme_admin)

    page = text(browser_of(acme_admin, second_purchase).get(WELCOME))

    [checked] = [line for line in page.split("<input") if "checked" in line]
    assert f'value="{acme.pk}"' in checked
    assert "already has a workspace" not in page


def test_a_stranger_is_told_whom_to_ask_and_nothing_more(second_purchase, acme, outsider):
    page = text(browser_of(outsider, second_purchase).get(WELCOME))

    assert "Your AWS account already has a workspace here" in page
    assert "Its owner is a••@a•••.example" in page
    assert "Ask to join the workspace" in page
    for secret in ("ada@acme.example", "Ada", ">Acme<", "/o/acme/", f'value="{acme.pk}"'):
        assert secret not in page, secret


def test_a_stranger_may_still_set_up_a_workspace_of_their_own(second_purchase, outsider):
    response = confirm(browser_of(outsider, second_purchase), organization="new", name="Separate")

    assert response["Location"] == "/o/separate/getting-ready/"


def test_a_member_who_cannot_attach_is_told_whom_to_ask(second_purchase, acme_member):
    page = text(browser_of(acme_member, second_purchase).get(WELCOME))

    assert "Your AWS account’s other purchases are in Acme." in page
    assert "An owner is a••@a•••.example" in page
    assert "Ask the owners to attach it" in page


def test_before_sign_in_nothing_is_said_about_the_workspace(second_purchase, acme, acme_admin):
    client = browser_of(None, second_purchase)
    unclaimed = client.get(WELCOME)
    registration.claim(second_purchase, by=acme_admin, organization=acme, now=timezone.now())
    claimed = client.get(WELCOME)

    assert "already has a workspace" not in text(unclaimed)
    assert "already in use" in text(claimed)
    for page in (unclaimed, claimed):
        assert [arrival.ask for arrival in page.context["arrivals"]] == [""]
        assert "a••@" not in text(page)


def test_without_an_owner_there_is_nobody_to_name(second_purchase, acme, outsider):
    acme.memberships.all().delete()

    page = text(browser_of(outsider, second_purchase).get(WELCOME))

    assert "a••@" not in page
    assert references(browser_of(outsider, second_purchase).get(WELCOME))


@pytest.mark.parametrize(
    ("address", "masked"), [("ada@acme.example", "a••@a•••.example"), ("x@sub.acme.co.uk", "x••@s•••.uk")]
)
def test_a_masked_address_shows_two_letters_and_the_ending(address, masked):
    assert households.masked_address(address) == masked


@pytest.mark.parametrize(
    "name",
    [
        "\u200b\u2060", "Acme\nOfficial", "Acme\x07 Support", "Acme\u2028line", "\u202eemca", "a\x00b",
        "https://evil.example/", "x" * 121, "x" * 10_000, "   ",
    ],
)  # fmt: skip
def test_a_new_workspace_has_a_name_by_the_same_rules_as_everywhere(arrival, outsider, name):
    client = browser_of(outsider, arrival)
    before = Organization.objects.count()

    response = confirm(client, name=name)

    assert response.status_code == 422
    assert 'aria-invalid="true"' in text(response)
    assert (Organization.objects.count(), Agreement.objects.get().organization) == (before, None)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("  Globex   Research ", "Globex Research"), ("شركة 🚀", "شركة 🚀"), ("<b>株式会社", "<b>株式会社")],
)
def test_a_name_in_any_letters_is_kept_without_surplus_spaces(arrival, outsider, name, kept):
    confirm(browser_of(outsider, arrival), name=name)

    assert Agreement.objects.get().organization.name == kept
