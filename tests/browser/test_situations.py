"""Whoever comes from AWS's storefront, with whatever purchase: real Chromium, from a cross-site POST on."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from accounts import organizations
from accounts.models import Membership
from billing import effects
from billing.models import Agreement
from tests.browser_story import Buyer

pytestmark = pytest.mark.browser

ACCOUNT = "210987654321"


def activate(aws) -> None:
    """AWS confirms what was bought, and the worker's turn comes."""
    aws.control.advance(timedelta(seconds=60))
    aws.deliver()
    effects.run_due(aws.marketplace, now=timezone.now() + timedelta(minutes=1))


def heading(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def set_up_again(page: Page, aws, agreement: Agreement) -> None:
    """As in the AWS console, under Manage subscriptions."""
    page.goto(f"{aws.simulator.url}/subscriptions/{agreement.agreement_id}")
    page.get_by_role("link", name="Set up your account").click()
    page.get_by_role("button", name="Set up your account").click()


def main(page: Page):
    return page.get_by_role("main")


@pytest.fixture
def in_use(purchase) -> Agreement:
    """Acme holds a purchase of ACCOUNT."""
    return purchase("reports-payg", aws_account_id=ACCOUNT)


def test_without_javascript_a_new_buyer_gets_from_the_storefront_to_the_product(buyer, scriptless, aws):
    buyer = dataclasses.replace(buyer, page=scriptless)
    buyer.subscribe("reports-payg", account=ACCOUNT)
    buyer.sign_up("ada@northwind.example")
    buyer.set_up_workspace("Northwind")

    heading(scriptless, "Northwind is getting ready")
    scriptless.get_by_role("link", name="Stop refreshing").or_(
        scriptless.get_by_role("button", name="Stop refreshing")
    ).click()
    activate(aws)
    scriptless.get_by_role("button", name="Check again").click()
    heading(scriptless, "Reports")


def test_a_known_user_who_is_signed_out_signs_in_on_the_way(buyer, page, acme, acme_admin):
    buyer.subscribe("reports-payg", account=ACCOUNT)
    main(page).get_by_role("button", name="Sign in").click()
    buyer.type_credentials(acme_admin.email)

    expect(page).to_have_url(f"{buyer.site}/marketplace/welcome/")
    expect(page.get_by_label("Acme")).to_be_checked()
    page.get_by_role("button", name="Set up this workspace").click()
    heading(page, "Acme is getting ready")


def test_a_signed_in_person_without_a_workspace_names_one(buyer, page, make_user):
    buyer.sign_in(make_user("new@nowhere.example").email)
    buyer.subscribe("reports-payg", account=ACCOUNT)
    expect(page.get_by_role("radio")).to_have_count(0)
    buyer.set_up_workspace("<b>Northwind</b> 🚀")
    heading(page, "<b>Northwind</b> 🚀 is getting ready")


def test_a_person_with_several_workspaces_chooses(buyer, page, acme, acme_admin):
    organizations.create(name="Acme Research", owner=acme_admin)
    buyer.sign_in(acme_admin.email)
    heading(page, "Your workspaces")
    buyer.subscribe("reports-payg", account=ACCOUNT)
    page.get_by_label("Acme Research").check()
    page.get_by_role("button", name="Set up this workspace").click()
    heading(page, "Acme Research is getting ready")


def test_an_owner_is_offered_the_workspace_that_has_the_aws_account(buyer, page, acme_admin, in_use):
    organizations.create(name="AAA comes first", owner=acme_admin)
    buyer.sign_in(acme_admin.email)
    buyer.subscribe("reports-team", account=ACCOUNT)

    expect(page.get_by_label("Acme", exact=True)).to_be_checked()


def test_a_member_asks_the_owners_to_attach_it(buyer, page, acme_member, in_use):
    buyer.sign_in(acme_member.email)
    buyer.subscribe("reports-team", account=ACCOUNT)
    expect(main(page)).to_contain_text("Only an owner or admin can attach this one")
    page.get_by_role("button", name="Ask the owners to attach it").click()
    expect(main(page)).to_contain_text("You have asked.")


def test_a_colleague_asks_to_join_and_the_owner_lets_them_in(
    buyer, page, chromium, aws, acme, acme_admin, make_user, in_use, mailoutbox
):
    colleague = make_user("carl@acme.example", name="Carl")
    buyer.sign_in(colleague.email)
    buyer.subscribe("reports-team", account=ACCOUNT)
    expect(main(page).get_by_text("Acme", exact=True)).to_have_count(0)  # its name is nothing for strangers
    page.get_by_role("button", name="Ask to join the workspace").click()
    activate(aws)
    assert [acme_admin.email] in [mail.to for mail in mailoutbox]

    desk = chromium.new_context().new_page()
    owner = Buyer(desk, aws, buyer.site)
    owner.sign_in(acme_admin.email)
    desk.get_by_role("link", name="See who asks").click()
    desk.get_by_role("button", name="Approve").click()
    expect(main(desk)).to_contain_text("Carl")
    desk.context.close()

    assert Membership.objects.filter(organization=acme, user=colleague).exists()
    assert acme.agreements.count() == 2
    page.goto(f"{buyer.site}/home/")
    expect(page.get_by_role("banner")).to_contain_text("Acme")


def test_a_purchase_that_others_have_set_up_leads_to_them(buyer, page, aws, make_user, in_use):
    buyer.sign_in(make_user("carl@acme.example").email)
    set_up_again(page, aws, in_use)
    expect(main(page)).to_contain_text("This purchase is already in use.")
    page.get_by_role("button", name="Ask to join the workspace").click()
    expect(main(page)).to_contain_text("You have asked.")


def test_my_own_purchase_brought_again_opens_my_workspace(buyer, page, aws, acme_admin, in_use):
    buyer.sign_in(acme_admin.email)
    set_up_again(page, aws, in_use)
    heading(page, "Your purchase is set up")
    page.get_by_role("button", name="Open Acme").click()
    heading(page, "Acme")


def test_several_purchases_wait_side_by_side(buyer, page, make_user):
    buyer.sign_in(make_user("new@nowhere.example").email)
    buyer.subscribe("reports-payg", account=ACCOUNT)
    buyer.subscribe("reports-team", account="109876543210")
    heading(page, "Your purchases from AWS Marketplace")
    expect(page.get_by_role("button", name="Set up this workspace")).to_have_count(2)


def test_an_expired_link_says_how_to_get_a_fresh_one(buyer, page, aws):
    page.goto(f"{aws.simulator.url}/products/reports-payg")
    page.get_by_role("button", name="Subscribe").click()
    aws.control.advance(timedelta(hours=5))
    page.get_by_role("button", name="Set up your account").click()
    heading(page, "This link from AWS has expired")
    expect(main(page)).to_contain_text("Manage subscriptions")
    expect(main(page)).not_to_contain_text("Exception")

    page.goto(f"{aws.simulator.url}/subscriptions")
    page.get_by_role("link", name="Set up your account").click()
    page.get_by_role("button", name="Set up your account").click()
    heading(page, re.compile("Thank you for choosing"))


def test_while_aws_is_down_one_button_tries_again(buyer, page, aws):
    page.goto(f"{aws.simulator.url}/products/reports-payg")
    page.get_by_role("button", name="Subscribe").click()
    aws.control.fault("ResolveCustomer", "internal_error", count=None)
    page.get_by_role("button", name="Set up your account").click()
    heading(page, "AWS is not answering right now")
    assert page.context.cookies() == []
    aws.control.clear_faults()
    page.get_by_role("button", name="Try again").click()
    heading(page, re.compile("Thank you for choosing"))


def test_another_device_goes_on_where_the_first_one_stopped(buyer, page, chromium, aws):
    buyer.subscribe("reports-payg", account=ACCOUNT)
    buyer.sign_up("ada@northwind.example")

    telephone = chromium.new_context(viewport={"width": 390, "height": 844}).new_page()
    Buyer(telephone, aws, buyer.site).sign_in("ada@northwind.example")
    expect(telephone).to_have_url(f"{buyer.site}/marketplace/welcome/")
    expect(main(telephone)).to_contain_text("Acme Reports Pay As You Go")
    telephone.context.close()


def test_a_payment_that_fails_is_told_with_the_way_to_mend_it(buyer, page, aws, acme_admin, acme):
    aws.control.time(license_updated=3600)
    buyer.sign_in(acme_admin.email)
    buyer.subscribe("reports-classic", account=ACCOUNT)
    page.get_by_role("button", name="Set up this workspace").click()
    heading(page, "Acme is getting ready")
    (bought,) = aws.control.state()["agreements"]
    aws.control.set_offset(0)  # it fails after the buyer came
    aws.control.fail_payment(bought["agreement_id"])
    aws.deliver()
    page.get_by_role("button", name="Check again").click()
    heading(page, "AWS could not complete your purchase")
