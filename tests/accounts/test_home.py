"""Where sign-in leads."""

from django.utils import timezone

from accounts import organizations
from accounts.adapter import AccountsAdapter, NavItem, get_adapter


class SomethingWaits(AccountsAdapter):
    def after_sign_in(self, request, user):
        return "/something/waits/"

    def nav_items(self, membership):
        return [NavItem("Invoices & more", f"/o/{membership.organization.slug}/invoices/")]


def test_what_is_waiting_comes_first(client, settings, acme, acme_admin):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_home.SomethingWaits"
    client.force_login(acme_admin)

    assert client.get("/home/")["Location"] == "/something/waits/"


def test_the_only_organization_is_opened(client, acme, acme_member):
    client.force_login(acme_member)

    assert client.get("/home/")["Location"] == "/o/acme/"


def test_one_of_several_organizations_is_chosen(client, acme, acme_admin):
    organizations.create(name="Globex", owner=acme_admin)
    client.force_login(acme_admin)

    page = client.get("/home/", follow=True).content.decode()

    assert 'href="/o/acme/"' in page
    assert 'href="/o/globex/"' in page


def test_without_an_organization_the_way_to_one_is_explained(client, settings, make_user):
    client.force_login(make_user("new@nowhere.example"))

    page = client.get("/home/", follow=True).content.decode()

    assert settings.MARKETPLACE_LISTING_URL in page
    assert "https://console.aws.amazon.com/marketplace/home#/subscriptions" in page


def test_home_is_for_people_who_signed_in(client, db):
    assert client.get("/home/")["Location"] == "/accounts/login/?next=/home/"


def test_other_apps_add_pages_to_an_organization(client, settings, acme, acme_admin):
    settings.ACCOUNTS_ADAPTER = "tests.accounts.test_home.SomethingWaits"
    client.force_login(acme_admin)

    page = client.get("/o/acme/").content.decode()

    assert 'href="/o/acme/invoices/"' in page
    assert "Invoices &amp; more" in page


def test_nobody_else_has_an_opinion_by_default(rf, settings, acme, acme_admin):
    adapter = get_adapter()

    membership = acme.memberships.get()
    assert adapter.after_sign_in(rf.get("/"), acme_admin) is None
    assert adapter.nav_items(membership) == []
    assert adapter.notices(membership) == []
    assert adapter.may_add_member(acme, now=timezone.now()) is None
    settings.SIGNUP_WITHOUT_PURCHASE = True
    assert adapter.may_sign_up(rf.get("/"))
    settings.SIGNUP_WITHOUT_PURCHASE = False
    assert not adapter.may_sign_up(rf.get("/"))
