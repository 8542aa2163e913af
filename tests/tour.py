"""Every page that buyers see, in a world where something of everything is there.

The accessibility tests and `make screenshots` walk the same tour.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page

from accounts import invitations, organizations
from accounts.models import Membership, Organization, User
from billing import effects, metering, registration, submission, usage
from billing.models import Agreement, MeteringRecord, Registration
from billing.onboarding import joining
from tests.billing.arriving import land
from tests.billing.ledger import make_record
from tests.plugin import PASSWORD, Aws

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ACCOUNT = "210987654321"
TOKEN = "x-amzn-marketplace-token"


@dataclass(frozen=True, slots=True)
class Stop:
    """A page. ``post`` is what was sent to get it; ``visitor`` names whose browser it is."""

    name: str
    visitor: str
    url: str
    post: dict[str, str] = field(default_factory=dict)


@dataclass
class Tour:
    site: str
    visitors: dict[str, Client] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)

    def cookies_of(self, visitor: str) -> list[dict[str, str]]:
        jar = self.visitors[visitor].cookies
        return [{"name": name, "value": morsel.value, "url": self.site} for name, morsel in jar.items()]


def go(page: Page, tour: Tour, stop: Stop) -> None:
    """Open a stop as its visitor. A page that answers a POST is made by posting from a page of the site."""
    page.context.clear_cookies()
    page.context.add_cookies(tour.cookies_of(stop.visitor))  # type: ignore[arg-type]
    if not stop.post:
        page.goto(tour.site + stop.url)
        return
    page.goto(f"{tour.site}/marketplace/register/")
    with page.expect_navigation():
        page.evaluate(_POST, [stop.url, stop.post])


_POST = """([url, fields]) => {
  const form = Object.assign(document.createElement('form'), {method: 'post', action: url});
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement('input'), {type: 'hidden', name, value}));
  document.body.append(form);
  form.submit();
}"""


def build(
    aws: Aws,
    site: str,
    *,
    acme: Organization,
    owner: User,
    member: User,
    make_user: Callable[..., User],
    now: datetime,
) -> Tour:
    tour = Tour(site, {"nobody": Client()})
    _purchases(aws, acme, owner, now=now)
    _people(acme, owner, make_user, now=now)
    for name, user in {"owner": owner, "member": member}.items():
        tour.visitors[name] = _signed_in(user)
    _arrivals(tour, aws, make_user, now=now)
    _, token = invitations.invite(acme, email="guest@acme.example", role="member", by=owner, now=now)
    tour.stops += _entrance(reverse("accounts:invitation", args=[token]))
    tour.stops += _inside(acme)
    return tour


def _signed_in(user: User) -> Client:
    """Signed in a moment ago: what asks for the password once more does not."""
    client = Client()
    client.force_login(user)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def _people(acme: Organization, owner: User, make_user: Callable[..., User], *, now: datetime) -> None:
    for name, role in (("Grace Hopper", "admin"), ("Katherine Johnson", "member"), ("이순신", "member")):
        user = make_user(f"{name.partition(' ')[0].lower()}.{len(name)}@acme.example", name=name)
        Membership.objects.create(organization=acme, user=user, role=role)
    for local, role in (("linus", "member"), ("margaret", "admin")):
        invitations.invite(acme, email=f"{local}@acme.example", role=role, by=owner, now=now)
    organizations.create(name="Acme Research", owner=owner)


def _purchases(aws: Aws, acme: Organization, owner: User, *, now: datetime) -> None:
    """A contract in use, with overage; a subscription; one that has ended; one that AWS is confirming."""
    contract = _buy(
        aws, acme, owner, "reports-flex", ago=40 * DAY, now=now, quantities={"included_pages": 2000}
    )
    _history(contract, now=now)
    _buy(aws, acme, owner, "reports-payg", ago=20 * DAY, now=now, free_trial=30)
    over = _buy(aws, acme, owner, "reports-team", ago=12 * DAY, now=now)
    _today(acme, contract, aws, now=now)
    aws.control.set_now(now - DAY)
    assert over.agreement_id is not None
    aws.control.cancel(over.agreement_id)
    aws.control.set_now(now)
    aws.deliver(now=now)
    effects.run_due(aws.marketplace, now=now)


def _buy(
    aws: Aws,
    acme: Organization,
    owner: User,
    product_code: str,
    *,
    ago: timedelta,
    now: datetime,
    **options: Any,
) -> Agreement:
    aws.control.set_now(now - ago)
    bought = aws.buy(product_code, aws_account_id=ACCOUNT, **options)
    arrival = registration.arrive(aws.marketplace, token=bought.token, free_trial_hint=False, now=now - ago)
    registration.claim(arrival, by=owner, organization=acme, now=now - ago)
    aws.control.set_now(now)
    aws.deliver(now=now)
    effects.run_due(aws.marketplace, now=now)
    return Agreement.objects.get(pk=arrival.agreement_id)


def _history(contract: Agreement, *, now: datetime) -> None:
    """Three weeks of closed hours: included at first, then billed."""
    chance = random.Random(7)
    left = Decimal(1900)
    for hours_ago in range(21 * 24, 24, -3):
        used = Decimal(chance.randint(0, 60))
        included = min(used, left)
        left -= included
        make_record(
            contract,
            now - hours_ago * HOUR,
            used - included,
            used=used,
            included=included,
            state=MeteringRecord.State.ACCEPTED,
            aws_record_id=f"record-{hours_ago}",
            settled_at=now - hours_ago * HOUR + HOUR,
        )


def _today(acme: Organization, contract: Agreement, aws: Aws, *, now: datetime) -> None:
    """The last hours through the ledger: some accepted, the newest still open."""
    for hours_ago in range(20, -1, -1):
        usage.record(
            acme,
            "pages",
            5 + hours_ago % 7,
            key=f"today-{hours_ago}",
            tags={"team": ("blue", "red")[hours_ago % 2]},
            occurred_at=now - hours_ago * HOUR,
            agreement=contract,
            now=now,
        )
    metering.close_hours(region="us-east-1", now=now)
    submission.submit_due(aws.marketplace, now=now)


def _arrivals(tour: Tour, aws: Aws, make_user: Callable[..., User], *, now: datetime) -> None:
    """Who came from AWS just now, and how far they are."""

    def arrive(visitor: str, client: Client, **options: Any) -> Registration:
        land(client, aws.buy(**options).token)
        tour.visitors[visitor] = client
        return Registration.objects.latest("pk")

    unlucky = _signed_in(make_user("una@una.example"))
    arrive("unlucky", unlucky, product_code="reports-payg", payment_fails=True)
    aws.control.set_now(now + HOUR)
    aws.deliver(now=now + HOUR)
    aws.control.set_now(now)
    arrive("newcomer", Client(), product_code="reports-flex", free_trial=14)
    nora = make_user("nora@northwind.example", name="Nora")
    arrive("nora", _signed_in(nora), product_code="reports-payg")
    several = _signed_in(make_user("sam@several.example", name="Sam"))
    for product_code in ("reports-flex", "reports-team"):
        arrive("several", several, product_code=product_code)
    colleague = make_user("carl@acme.example", name="Carl Sagan")
    asked = arrive("colleague", _signed_in(colleague), product_code="reports-payg", aws_account_id=ACCOUNT)
    joining.ask(asked, user=colleague, now=now)
    arrive(
        "stranger",
        _signed_in(make_user("steve@acme.example")),
        product_code="reports-team",
        aws_account_id=ACCOUNT,
    )
    lucky = make_user("luca@luca.example", name="Luca")
    waiting = arrive("waiting", _signed_in(lucky), product_code="reports-payg")
    home = organizations.create(name="Luca's", owner=lucky)
    registration.claim(waiting, by=lucky, organization=home, now=now)


def _entrance(invitation: str) -> list[Stop]:
    """Before and beside an organization: what visitors, buyers and guests see."""
    return [
        Stop("home", "nobody", "/"),
        Stop("sign-in", "nobody", "/accounts/login/"),
        Stop("sign-up", "nobody", "/accounts/signup/"),
        Stop("password-reset", "nobody", "/accounts/password/reset/"),
        Stop("not-found", "nobody", "/no/such/page/"),
        Stop("arrival-help", "nobody", "/marketplace/register/"),
        Stop("arrival-without-token", "nobody", "/marketplace/register/", {"x": "y"}),
        Stop("arrival-garbled", "nobody", "/marketplace/register/", {TOKEN: "garbled"}),
        Stop("arrival-none", "nobody", "/marketplace/welcome/"),
        Stop("welcome-new-buyer", "newcomer", "/marketplace/welcome/"),
        Stop("welcome-first-workspace", "nora", "/marketplace/welcome/"),
        Stop("welcome-several", "several", "/marketplace/welcome/"),
        Stop("welcome-asked-to-join", "colleague", "/marketplace/welcome/"),
        Stop("welcome-stranger", "stranger", "/marketplace/welcome/"),
        Stop("welcome-failed", "unlucky", "/marketplace/welcome/"),
        Stop("no-workspace", "nora", "/o/"),
        Stop("waiting", "waiting", "/o/lucas/getting-ready/"),
        Stop("paywall-pending", "waiting", "/o/lucas/reports/"),
        Stop("invitation-signed-out", "nobody", invitation),
        Stop("invitation-wrong-person", "nora", invitation),
        Stop("invitation-unknown", "nobody", "/invitations/unknown/"),
    ]


def _inside(acme: Organization) -> list[Stop]:
    workspace, account = acme.get_absolute_url(), "/accounts/"
    owner = {
        "overview": workspace,
        "reports": f"{workspace}reports/",
        "members": f"{workspace}members/",
        "invite": f"{workspace}invite/",
        "member": f"{workspace}members/{acme.memberships.latest('pk').pk}/",
        "settings": f"{workspace}settings/",
        "closing": f"{workspace}close/",
        "requests": f"{workspace}requests/",
        "subscription": f"{workspace}subscription/",
        "usage-days": f"{workspace}usage/?by=day",
        "usage-hours": f"{workspace}usage/?by=hour",
        "usage-months": f"{workspace}usage/?by=month",
        "workspaces": "/o/",
        "new-workspace": "/o/new/",
        "profile": f"{account}profile/",
        "email": f"{account}email/",
        "password": f"{account}password/change/",
        "two-factor": f"{account}2fa/",
        "authenticator-app": f"{account}2fa/totp/activate/",
        "passkeys": f"{account}2fa/webauthn/",
        "sessions": f"{account}sessions/",
        "data-and-closing": f"{account}data/",
        "sign-out": f"{account}logout/",
    }
    member = {
        "member-overview": workspace,
        "member-members": f"{workspace}members/",
        "refused": f"{workspace}subscription/",
    }
    return [
        *(Stop(name, "owner", url) for name, url in owner.items()),
        *(Stop(name, "member", url) for name, url in member.items()),
    ]
