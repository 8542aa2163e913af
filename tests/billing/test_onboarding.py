"""The welcome page knows the situation; a fork asks its own questions; who leaves is reminded, once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from django import forms
from django.core import mail
from django.core.checks import run_checks
from django.test import Client
from django.utils import timezone

from accounts import organizations
from accounts.models import Membership, Organization
from billing import effects, registration
from billing.forms import ClaimForm, reference
from billing.mailing import delivery
from billing.mailing.letters import Situation
from billing.models import Agreement, Effect, Entitlement, JoinRequest, Registration
from billing.onboarding import joining, visitors
from tests.billing.arriving import (
    CLAIM,
    REGISTER,
    TOKEN_FIELD,
    WELCOME,
    confirm,
    land,
    references,
    sign_in,
    sign_up,
)
from tests.billing.ledger import NOON, ScriptedAws, entitle, make_agreement
from tests.billing.stage import DAY, HOUR, SECOND
from tests.billing.test_claiming import browser_of, text
from tests.plugin import PASSWORD

DISMISS = "/marketplace/dismiss/"


class AskingForm(ClaimForm):
    """As a fork asks more."""

    industry = forms.ChoiceField(choices=[("retail", "Retail"), ("other", "Something else")])
    seats_planned = forms.DecimalField(max_digits=8, decimal_places=2, help_text="Roughly.")
    goes_live = forms.DateField(required=False)
    remarks = forms.CharField(required=False, max_length=2000)


@pytest.fixture
def came(catalog) -> Registration:
    """A purchase that is nobody's yet, of an AWS account that nobody knows."""
    return arrival_of(make_agreement(catalog, None, "reports-team", entitlements_read_at=None))


def arrival_of(agreement, **fields) -> Registration:
    return Registration.objects.create(
        digest=f"{agreement.pk:064}", agreement=agreement, expires_at=timezone.now() + HOUR, **fields
    )


# --- A new buyer


def test_a_visitor_signs_up_on_the_page_itself(aws, client):
    land(client, aws.buy().token)
    page = text(client.get(WELCOME))

    assert 'action="/accounts/signup/"' in page
    assert 'type="email" name="email"' in page
    assert 'name="password1"' in page
    assert f'<input type="hidden" name="next" value="{WELCOME}">' in page
    assert f'href="/accounts/login/?next={WELCOME}"' in page
    for no_card in ("card number", "cardnumber", "cc-number", "iban", "vat"):
        assert no_card not in page.lower()
    assert "support@acme.example" in page
    assert '<html lang="en"' in page
    assert sign_up(client, "someone@gmail.com")["Location"] == WELCOME, "Free mail is accepted."
    assert "Name of the new workspace" in text(client.get(WELCOME))


def test_the_page_is_in_english_for_who_asks_for_no_other_language(came):
    client = browser_of(None, came)

    assert '<html lang="en"' in text(client.get(WELCOME, headers={"accept-language": "xx"}))


def test_what_is_wrong_with_the_sign_up_is_said_by_its_own_page_and_the_purchase_stays(aws, client):
    land(client, aws.buy().token)
    response = client.post("/accounts/signup/", {"email": "no", "password1": "1", "next": WELCOME})

    assert response.status_code == 200
    assert f'name="next" value="{WELCOME}"' in text(response)
    assert sign_up(client, "new@acme.example")["Location"] == WELCOME


@pytest.mark.parametrize("next_url", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_nobody_is_led_elsewhere_by_next(aws, client, acme_admin, next_url):
    land(client, aws.buy().token)

    assert "evil" not in client.post(
        "/accounts/login/", {"login": acme_admin.email, "password": PASSWORD, "next": next_url}
    )["Location"]  # fmt: skip


def test_where_nothing_can_be_set_up_there_is_no_sign_up_form(came):
    Agreement.objects.update(status="failed")

    page = text(browser_of(None, came).get(WELCOME))

    assert 'action="/accounts/signup/"' not in page
    assert "AWS could not complete this purchase" in page


def test_before_aws_has_told_the_page_says_so(came):
    page = text(browser_of(None, came).get(WELCOME))

    assert page.count("AWS has not told us yet") == 2  # quantities, term


def test_plan_quantities_trial_and_term_are_shown_back(came, acme_admin):
    agreement = came.agreement
    entitle(agreement, 7, key="seats")
    Entitlement.objects.create(
        agreement=agreement, dimension_key="reports", boolean_value=True, valid_from=NOON
    )
    Agreement.objects.update(free_trial=True, trial_ends_at=NOON + 14 * DAY, term_ends_at=NOON + 365 * DAY)

    for client in (browser_of(None, came), browser_of(acme_admin, came)):
        page = text(client.get(WELCOME))
        for words in (
            "Contract",
            "Seats",
            ">7 ",
            "Included",
            "Free trial until",
            "7 December 2026, 12:00 UTC",
        ):
            assert words in page, words
        assert "23 November 2027, 12:00 UTC" in page
        assert "AWS has not told us yet" not in page


def test_a_trial_that_only_the_form_spoke_of_has_no_end_yet(aws, client):
    land(client, aws.buy("reports-payg").token, **{"x-amzn-marketplace-offer-type": "free-trial"})
    page = text(client.get(WELCOME))

    assert "Free trial until" in page
    assert "AWS has not told us yet" in page
    assert "By use, on your AWS bill" in page


def test_of_a_purchase_in_use_elsewhere_nothing_but_its_name_is_shown(came, acme, acme_admin, outsider):
    entitle(came.agreement, 7, key="seats")
    registration.claim(came, by=acme_admin, organization=acme, now=NOON)

    for client in (browser_of(None, came), browser_of(outsider, came)):
        page = text(client.get(WELCOME))
        assert "Acme Reports Team" in page
        assert "Seats" not in page
        assert ">Acme<" not in page


# --- Cookies, tabs, the way back


def test_without_cookies_the_page_says_that_they_are_needed(aws):
    landed = land(Client(), aws.buy().token)
    page = text(Client().get(landed["Location"]))  # the browser kept none

    assert "No purchase is waiting here" in page
    assert "Allow cookies for this site" in page
    assert "Set up your account" in page


@pytest.mark.parametrize("token", [None, "", "garbled"])
def test_an_answer_to_aws_post_leaves_the_csrf_cookie_of_other_tabs_alone(aws, client, token):
    response = client.post(REGISTER, {} if token is None else {TOKEN_FIELD: token})

    assert response.status_code == 400
    assert not response.cookies
    assert "csrfmiddlewaretoken" not in text(response)


def test_not_even_the_answer_of_the_rate_limit_sets_a_cookie(db, client):
    for _ in range(31):
        response = client.post(REGISTER)

    assert response.status_code == 429
    assert not response.cookies


def test_the_form_of_an_open_tab_still_works_after_another_purchase_has_landed(aws, acme, acme_admin):
    tab = Client(enforce_csrf_checks=True)
    tab.force_login(acme_admin)
    land(tab, aws.buy("reports-flex").token)
    page = text(tab.get(WELCOME))
    land(tab, aws.buy("reports-payg").token)
    land(tab, "garbled")
    token = page.split('name="csrfmiddlewaretoken" value="')[1].partition('"')[0]
    [held] = [each for each in tab.get(WELCOME).context["arrivals"] if "Flex" in each.bought.product]

    response = tab.post(
        CLAIM,
        {
            "csrfmiddlewaretoken": token,
            "registration": held.registration_id,
            "organization": acme.pk,
            "name": "",
        },
    )

    assert response["Location"] == "/o/acme/getting-ready/"


def test_the_back_button_after_the_claim_leads_on(came, acme, acme_admin):
    client = browser_of(acme_admin, came)
    held = references(client.get(WELCOME))[0]
    confirm(client, organization=acme.pk, reference=held)

    again = confirm(client, organization=acme.pk, reference=held)
    new = confirm(client, organization="new", name="Another", reference=held)

    assert again["Location"] == new["Location"]
    assert Organization.objects.count() == 1
    assert client.post(DISMISS, {"registration": held})["Location"] == "/home/"
    assert Agreement.objects.get(pk=came.agreement_id).organization == acme


@pytest.mark.parametrize("tampered", ["", "1", "x:y:z", "٣", "\x00", "a" * 10_000])
def test_a_tampered_reference_opens_nothing(came, acme_admin, tampered):
    client = browser_of(acme_admin, came)
    for url in (CLAIM, "/marketplace/ask/", DISMISS):
        fields = {"registration": tampered, "organization": "new", "name": "X"}
        assert client.post(url, fields).status_code == 302

    assert Agreement.objects.get(pk=came.agreement_id).organization is None
    assert not JoinRequest.objects.exists()


def test_a_reference_of_the_cookie_is_none_of_the_form(came, acme_admin):
    """The two are signed apart: the one that a page shows opens no browser, and the other no form."""
    cookie = browser_of(None, came).cookies[f"{visitors.COOKIE_PREFIX}{came.pk}"].value
    stranger = browser_of(acme_admin)
    stranger.cookies[f"{visitors.COOKIE_PREFIX}{came.pk}"] = reference(came)

    assert "No purchase is waiting" in text(stranger.get(WELCOME))
    client = browser_of(acme_admin, came)
    assert "not waiting for you" in text(
        client.post(CLAIM, {"registration": cookie, "organization": "new", "name": "X"}, follow=True)
    )


def test_html_and_odd_names_of_a_new_workspace_are_text(came, acme_admin):
    name = "<script>alert(1)</script> عربي 🎉"
    client = browser_of(acme_admin, came)
    response = confirm(client, name=name)

    page = text(client.get(response["Location"], follow=True))
    assert "<script>alert" not in page
    assert "عربي 🎉" in page


def test_a_name_of_ten_thousand_characters_is_refused_beside_the_field(came, acme_admin):
    response = confirm(browser_of(acme_admin, came), name="a" * 10_000)

    assert response.status_code == 422
    assert "at most 120 characters" in text(response)


def test_a_member_removed_while_signed_in_cannot_take_the_purchase_there(came, acme, acme_admin, make_user):
    owner = make_user("zoe@acme.example")
    acme.memberships.create(user=owner, role=Membership.Role.OWNER)
    client = browser_of(acme_admin, came)
    held = references(client.get(WELCOME))[0]
    acme.memberships.filter(user=acme_admin).delete()

    assert confirm(client, organization=acme.pk, reference=held).status_code == 422
    assert Agreement.objects.get(pk=came.agreement_id).organization is None


def test_a_closed_workspace_is_no_choice(came, acme, acme_admin):
    Organization.objects.filter(pk=acme.pk).update(closed_at=NOON)
    client = browser_of(acme_admin, came)

    assert f'value="{acme.pk}"' not in text(client.get(WELCOME))
    assert confirm(client, organization=acme.pk).status_code == 422
    with pytest.raises(registration.ClaimRefused):
        registration.claim(came, by=acme_admin, organization=acme, now=NOON)


def test_of_several_workspaces_of_the_account_the_one_i_administer_is_offered(
    catalog, acme, outsider, acme_admin
):
    make_agreement(catalog, outsider.organizations.get(), account="210987654321", claimed_at=NOON - DAY)
    make_agreement(catalog, acme, account="210987654321", claimed_at=NOON)
    came = arrival_of(make_agreement(catalog, None, "reports-team", account="210987654321"))
    organizations.create(name="AAA", owner=acme_admin)

    page = text(browser_of(acme_admin, came).get(WELCOME))

    [checked] = [line for line in page.split("<input") if "checked" in line]
    assert f'value="{acme.pk}"' in checked
    assert "Ask to join" not in page


# --- Many at once


def test_twenty_purchases_take_ten_queries_at_most(
    client, catalog, acme, acme_admin, outsider, make_user, django_assert_max_num_queries
):
    for number in range(50):
        make_agreement(catalog, acme, claimed_at=NOON)
        for who in ("a", "b"):
            acme.memberships.create(user=make_user(f"{who}{number}@acme.example"), role="member")
    other = outsider.organizations.get()
    for number in range(10):
        make_agreement(catalog, other, account=f"21{number:010}", claimed_at=NOON)
        mine = make_agreement(catalog, None, "reports-flex", account=f"21{number:010}")
        entitle(mine, 100)
        arrival_of(mine, user=acme_admin)
        arrival_of(make_agreement(catalog, None, "reports-team", account=f"22{number:010}"), user=acme_admin)
    joining.ask(
        Registration.objects.filter(agreement__product__code="reports-flex")[0], user=acme_admin, now=NOON
    )
    client.force_login(acme_admin)

    with django_assert_max_num_queries(10):
        page = client.get(WELCOME)
    assert len(page.context["arrivals"]) == 20
    signed_out = browser_of(None, *Registration.objects.all())
    with django_assert_max_num_queries(4):
        signed_out.get(WELCOME)


# --- What a fork asks


@pytest.fixture
def asking(settings):
    settings.ONBOARDING_FORM = "tests.billing.test_onboarding.AskingForm"


def fill(client, **answers):
    held = references(client.get(WELCOME))[0]
    fields = {"registration": held, "organization": "new", "name": "Acme", "industry": "retail"}
    return client.post(CLAIM, {**fields, "seats_planned": "12.50", **answers})


def test_a_forks_questions_are_shown_checked_and_kept(asking, came, make_user, operator):
    client = browser_of(make_user("new@acme.example"), came)
    page = text(client.get(WELCOME))
    for words in ("Industry", "Something else", "Seats planned", "Roughly.", "Goes live", "Remarks"):
        assert words in page

    wrong = fill(client, seats_planned="many")
    assert wrong.status_code == 422
    assert "Enter a number" in text(wrong)
    assert not Organization.objects.exists()

    fill(client, goes_live="2026-12-01", remarks="<b>Hi</b> 🎉")

    came.refresh_from_db()
    assert came.answers == {
        "industry": "retail",
        "seats_planned": "12.50",
        "goes_live": "2026-12-01",
        "remarks": "<b>Hi</b> 🎉",
    }
    assert "&lt;b&gt;Hi&lt;/b&gt;" in console_page(came, operator)


def console_page(arrival, operator):
    client = browser_of(operator)
    return text(client.get(f"/admin/billing/registration/{arrival.pk}/change/"))


def test_each_form_of_several_has_ids_of_its_own(asking, came, catalog, acme_admin):
    another = arrival_of(make_agreement(catalog, None, "reports-flex"))
    page = text(browser_of(acme_admin, came, another).get(WELCOME))

    assert f'id="arrival-{came.pk}-industry"' in page
    assert f'id="arrival-{another.pk}-industry"' in page


def test_pressing_the_button_twice_keeps_the_first_answers(asking, came, acme_admin):
    client = browser_of(acme_admin, came)
    held = references(client.get(WELCOME))[0]
    fill(client)
    client.post(
        CLAIM,
        {
            "registration": held,
            "organization": "new",
            "name": "Acme",
            "industry": "other",
            "seats_planned": "1",
        },
    )

    came.refresh_from_db()
    assert came.answers["industry"] == "retail"


def test_the_seller_reads_the_answers(asking, came, acme_admin, acme):
    registration.claim(
        came, by=acme_admin, organization=acme, now=NOON, answers={"remarks": "Hi\n\nPay here: <b>"}
    )
    effect = Effect.objects.create(agreement=came.agreement, kind="mail", cause="seller_new:", caused_at=NOON)
    delivery.send(Situation(effect, NOON))

    [letter] = [letter for letter in mail.outbox if letter.to == ["support@acme.example"]]
    assert "What the buyer answered:\n- remarks: Hi Pay here: <b>\n" in letter.body


def test_answers_of_every_kind_become_json(came):
    class Odd(ClaimForm):
        when = forms.DateField()
        much = forms.DecimalField()
        many = forms.MultipleChoiceField(choices=[("a", "A"), ("b", "B")])
        sure = forms.BooleanField(required=False)
        whose = forms.ModelChoiceField(Organization.objects.all())

    organization = Organization.objects.create(name="Acme", slug="acme")
    said = {"when": "2026-12-01", "much": "1.50", "many": ["a", "b"], "whose": organization.pk}
    form = Odd({"registration": "x", "organization": "new", "name": "N", **said}, organizations=[])

    assert form.is_valid(), form.errors
    assert isinstance(form.cleaned_data["when"], date)
    assert isinstance(form.cleaned_data["much"], Decimal)
    assert form.answers == {
        "when": "2026-12-01",
        "much": "1.50",
        "many": ["a", "b"],
        "sure": False,
        "whose": "Acme",
    }


@pytest.mark.parametrize(
    "path", ["billing.forms.Nothing", "django.forms.Form", "billing.forms.reference", ""]
)
def test_a_form_that_cannot_ask_stops_the_start(settings, path):
    settings.ONBOARDING_FORM = path

    assert [error.id for error in run_checks() if error.id == "billing.E007"] == ["billing.E007"]


# --- The one reminder


def remembered(came, user) -> Effect:
    """``user`` signs in with the arrival in the browser."""
    client = browser_of(None, came)
    sign_in(client, user.email)
    return Effect.objects.get(cause=f"buyer_unfinished:{user.pk}")


def run(now):
    mail.outbox.clear()
    effects.run_due(ScriptedAws(), now=now)
    return [letter.to[0] for letter in mail.outbox if "is not set up yet" in letter.subject]


def test_who_signed_in_and_left_is_reminded_once_a_day_later(came, acme_admin):
    owed = remembered(came, acme_admin)

    assert owed.due_at - owed.caused_at == DAY
    assert run(owed.due_at - SECOND) == []
    assert run(owed.due_at) == [acme_admin.email]
    assert f"http://testserver{WELCOME}" in str([letter.body for letter in mail.outbox])
    sign_in(browser_of(None, came), acme_admin.email)
    assert run(owed.due_at + 30 * DAY) == []
    assert Effect.objects.filter(cause__startswith="buyer_unfinished").count() == 1


def again(came, number) -> Registration:
    """Another click at AWS on the same purchase."""
    return Registration.objects.create(
        digest=f"{number:a>64}",
        agreement=came.agreement,
        expires_at=NOON + 365 * DAY,
        created_at=timezone.now(),
    )


def test_each_who_came_with_the_purchase_is_reminded_once(came, acme_admin, outsider):
    remembered(again(came, 9), outsider)
    owed = remembered(came, acme_admin)

    assert sorted(run(owed.due_at)) == sorted([acme_admin.email, outsider.email])
    assert run(owed.due_at + 30 * DAY) == []


@pytest.mark.parametrize("is_same_click", [False, True])
def test_not_mine_of_one_leaves_the_other_reminded(came, acme_admin, outsider, is_same_click):
    owed = remembered(came, outsider)
    browser_of(outsider).post(DISMISS, {"registration": references(browser_of(outsider).get(WELCOME))[0]})
    assert run(owed.due_at) == []

    owed = remembered(came if is_same_click else again(came, 9), acme_admin)

    assert run(owed.due_at) == [acme_admin.email]


def test_who_arrives_signed_in_is_remembered_like_who_signs_in(came, acme_admin):
    page = browser_of(acme_admin, came).get(WELCOME)

    assert references(page)
    came.refresh_from_db()
    assert came.user == acme_admin
    assert came.agreement.organization is None
    assert references(browser_of(acme_admin).get(WELCOME)), "another browser of theirs finds it"
    owed = Effect.objects.get(cause=f"buyer_unfinished:{acme_admin.pk}")
    browser_of(acme_admin, came).get(WELCOME)
    assert run(owed.due_at) == [acme_admin.email]


def test_who_looks_on_is_not_remembered_for_somebody_else_s(came, acme_admin, outsider):
    Registration.objects.filter(pk=came.pk).update(user=acme_admin)

    browser_of(outsider, came).get(WELCOME)

    came.refresh_from_db()
    assert came.user == acme_admin
    assert not Effect.objects.filter(cause__startswith="buyer_unfinished").exists()


def test_a_purchase_dismissed_in_this_browser_stays_forgotten(came, acme_admin):
    client = browser_of(acme_admin, came)
    client.post(DISMISS, {"registration": references(client.get(WELCOME))[0]})

    assert references(client.get(WELCOME)) == []
    came.refresh_from_db()
    assert came.user is None


def test_an_unverified_person_is_not_remembered(came, make_user):
    browser_of(make_user("new@acme.example", verified=False), came).get(WELCOME)

    came.refresh_from_db()
    assert came.user is None


def test_many_clicks_on_one_purchase_hide_no_other(came, catalog, outsider):
    Registration.objects.filter(pk=came.pk).update(user=outsider)
    much_clicked = make_agreement(catalog, None, "reports-payg")
    for number in range(25):
        Registration.objects.create(
            digest=f"{number:a>64}", agreement=much_clicked, expires_at=NOON, user=outsider
        )

    assert len(references(browser_of(outsider).get(WELCOME))) == 2


def test_what_is_over_makes_room_for_what_waits(came, catalog, outsider):
    Registration.objects.filter(pk=came.pk).update(user=outsider)
    for number in range(20):
        over = make_agreement(catalog, None, "reports-payg", status="failed")
        Registration.objects.create(digest=f"{number:a>64}", agreement=over, expires_at=NOON, user=outsider)

    page = browser_of(outsider).get(WELCOME)

    assert [arrival.over for arrival in page.context["arrivals"]] == [False, *[True] * 19]


def test_a_form_that_is_wrong_keeps_its_words_after_another_click(came, outsider):
    client = browser_of(outsider, came)
    reference = references(client.get(WELCOME))[0]
    newer = again(came, 9)
    Registration.objects.filter(pk=newer.pk).update(user=outsider)

    page = client.post(CLAIM, {"registration": reference, "organization": "new", "name": ""})

    assert page.status_code == 422
    [arrival] = page.context["arrivals"]
    assert arrival.form.errors


def test_who_signs_in_with_the_older_of_two_clicks_is_led_to_it(came, acme_admin):
    Registration.objects.filter(pk=again(came, 9).pk).update(user=acme_admin)
    client = browser_of(None, came)
    sign_in(client, acme_admin.email)
    assert client.get("/home/").url == WELCOME


@pytest.mark.parametrize("then", ["claimed", "dismissed", "failed", "ended", "asked"])
def test_who_has_gone_on_is_not_reminded(came, catalog, acme, acme_admin, then, make_user):
    user = make_user("new@acme.example")
    owed = remembered(came, user)
    if then == "claimed":
        registration.claim(came, by=user, new_name="Mine", now=NOON)
    elif then == "dismissed":
        browser_of(user).post(DISMISS, {"registration": references(browser_of(user).get(WELCOME))[0]})
    elif then == "asked":
        make_agreement(catalog, acme, account=came.agreement.customer.aws_account_id)
        joining.ask(came, user=user, now=NOON)
    else:
        Agreement.objects.filter(pk=came.agreement_id).update(status=then)

    assert run(owed.due_at) == []
    owed.refresh_from_db()
    assert owed.state == "skipped"


def test_an_unverified_address_is_not_written_to(came, make_user):
    user = make_user("new@acme.example", verified=False)
    Registration.objects.update(user=user)
    Effect.objects.create(
        agreement=came.agreement, kind="mail", cause=f"buyer_unfinished:{user.pk}", caused_at=NOON
    )

    assert run(timezone.now() + DAY) == []


def test_a_sign_in_without_a_purchase_owes_nothing(db, client, acme_admin):
    sign_in(client, acme_admin.email)

    assert not Effect.objects.exists()
