"""Words for the browser tests: what a buyer does in Chromium, from AWS's storefront on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.core import mail
from playwright.sync_api import Page, expect

from tests.plugin import PASSWORD, Aws


@dataclass(frozen=True, slots=True)
class Buyer:
    """One person at a browser. ``site`` is ours, on another site than AWS's for the browser, as in life."""

    page: Page
    aws: Aws
    site: str

    def subscribe(self, product_code: str, *, account: str, **quantities: int) -> None:
        """Press Subscribe in the storefront, then "Set up your account": a cross-site form POST to us."""
        self.page.goto(f"{self.aws.simulator.url}/products/{product_code}")
        self.page.locator("[name=aws_account_id]").fill(account)
        for key, quantity in quantities.items():
            self.page.locator(f"[name=quantity-{key}]").fill(str(quantity))
        self.page.get_by_role("button", name="Subscribe").click()
        with self.page.expect_response(re.compile("/marketplace/register/")) as arrival:
            self.page.get_by_role("button", name="Set up your account").click()
        assert arrival.value.status == 303, arrival.value.text()
        expect(self.page).to_have_url(f"{self.site}/marketplace/welcome/")
        expect(self.page.get_by_role("main")).to_contain_text(account[-4:])

    def sign_up(self, email: str) -> None:
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Create account").click()
        self.page.get_by_label("Code").fill(mailed_code(email))
        self.page.get_by_role("main").get_by_role("button").first.click()
        expect(self.page).to_have_url(f"{self.site}/marketplace/welcome/")

    def sign_in(self, email: str) -> None:
        self.page.goto(f"{self.site}/accounts/login/")
        self.type_credentials(email)

    def type_credentials(self, email: str) -> None:
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()

    def set_up_workspace(self, name: str) -> None:
        self.page.get_by_label("Name of the new workspace").fill(name)
        self.page.get_by_role("button", name="Set up this workspace").click()
        expect(self.page.get_by_role("heading", level=1)).to_contain_text(name)


def mailed_code(email: str) -> str:
    """The code on a line of its own in the last mail to ``email``."""
    (last,) = [message for message in mail.outbox if message.to == [email]][-1:]
    found = re.search(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", str(last.body), re.MULTILINE)
    assert found, last.body
    return found[1]
